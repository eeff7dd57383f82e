//! What commands are, for capture.

use crate::core::table::CommandSpec;

/// What a command is, for capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Changes data; how it is logged stands in the table.
    Write(&'static CommandSpec),
    /// Cannot change data.
    ReadOnly,
    /// MULTI.
    Multi,
    /// EXEC.
    Exec,
    /// DISCARD, RESET.
    EndMulti,
    /// WATCH.
    Watch,
    /// UNWATCH.
    Unwatch,
    /// A container: what it is stands under `name|subcommand`.
    Container,
    /// Scripts, functions, other modules' commands, SELECT: what follows from them is not known from their arguments.
    Opaque,
}

impl Class {
    /// A write that the table does not know.
    pub fn is_unknown_write(self) -> bool {
        matches!(self, Class::Write(spec) if spec.is_unknown())
    }
}
