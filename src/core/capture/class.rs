//! What commands are, for capture.

use crate::core::table::CommandSpec;

/// What a command is, for capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Changes data; the table says how it is logged.
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
    /// A container: `name|subcommand` says what it is.
    Container,
    /// Scripts, functions, other modules' commands, SELECT: their arguments do not show what follows from them.
    Opaque,
}

impl Class {
    /// What it is where a script or another module calls it: nothing that is called begins or ends a transaction.
    pub fn called(self) -> Class {
        if self.bounds_transactions() { Class::ReadOnly } else { self }
    }

    /// Whether it begins or ends what its client queues or watches.
    pub fn bounds_transactions(self) -> bool {
        matches!(self, Class::Multi | Class::Exec | Class::EndMulti | Class::Watch | Class::Unwatch)
    }
}
