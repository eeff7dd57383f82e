//! What a write may have changed that no event reports. It belongs to what runs, not to the command announced last,
//! because other modules (on 9.1 the Lua engine is one) may call commands inside the write.

use crate::core::event::ClientId;
use crate::core::hash::Set;
use crate::core::stream_reads::StreamRead;
use crate::core::table::{CommandSpec, Keys, Rule};
use crate::core::unit::Unit;
use std::sync::Arc;

/// What a write may have changed that no event reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SilentChanges {
    pub(super) keys: Vec<Arc<[u8]>>,
    pub(super) functions: bool,
}

impl SilentChanges {
    /// What a command with these arguments, which include its name, may change. `told` are its keys where the server
    /// was asked for them.
    pub fn of<'a>(
        spec: &CommandSpec,
        len: usize,
        arg: impl Fn(usize) -> &'a [u8],
        told: &[Arc<[u8]>],
    ) -> SilentChanges {
        SilentChanges { keys: argument_keys(spec, len, arg, told), functions: spec.rule == Rule::Functions }
    }

    /// Has all of it logged, changed or not.
    pub(super) fn log(&self, unit: &mut Unit) {
        unit.functions |= self.functions;
        unit.functions_changed |= self.functions;
        self.keys.iter().for_each(|key| unit.image_everywhere(key.clone()));
    }
}

/// The server's count that shows whether such writes have changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// That of changes: each of these writes that changes anything counts there.
    Changes,
    /// How often commands of this name have run without an error: what they do may not count as a change (BITFIELD,
    /// which may lengthen its string).
    Runs(&'static str),
    /// There is none: the table does not know the command.
    None,
}

impl Proof {
    /// The one of a command.
    pub fn of(spec: &CommandSpec) -> Proof {
        match spec.rule {
            _ if spec.is_unknown() => Proof::None,
            Rule::Bits => Proof::Runs(spec.name),
            _ => Proof::Changes,
        }
    }
}

/// What a script's or a module's writes may have changed that no event reports, by the count that proves it.
#[derive(Debug)]
pub(super) struct Unproved {
    pub(super) proof: Proof,
    /// The count before the first of these, where the server reports it.
    pub(super) before: Option<[u64; 2]>,
    pub(super) keys: Set<Arc<[u8]>>,
    pub(super) functions: bool,
}

impl Unproved {
    /// Another of them may have changed this.
    pub(super) fn add(&mut self, changes: SilentChanges) {
        self.keys.extend(changes.keys);
        self.functions |= changes.functions;
    }
}

/// A command that the server makes wait, or that may run unseen for another reason, from when that is known until its
/// client waits no longer.
#[derive(Debug)]
pub(super) struct Postponed {
    pub(super) client: ClientId,
    pub(super) what: PostponedKind,
    pub(super) changes: SilentChanges,
    /// It was seen to wait no longer, but may not have run yet.
    pub(super) released: bool,
}

/// What the server makes wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostponedKind {
    /// A command.
    Command,
    /// An EXEC. It may have been refused instead: its client's transaction is over then.
    Exec,
}

/// Why a command has not run yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Its client waits in it, if it is one that blocks.
    Blocked,
    /// The same, or a pause has made it wait before it has begun: it runs with what its keys hold by then.
    MayBePostponed,
}

/// The keys of a command that no event reports.
pub(super) fn argument_keys<'a>(
    spec: &CommandSpec,
    len: usize,
    arg: impl Fn(usize) -> &'a [u8],
    told: &[Arc<[u8]>],
) -> Vec<Arc<[u8]>> {
    let only = |index| if index < len { vec![Arc::from(arg(index))] } else { Vec::new() };
    match spec.keys {
        Keys::FromEvents => Vec::new(),
        Keys::Told => told.to_vec(),
        Keys::First => only(1),
        Keys::Second => only(2),
        Keys::AfterStreams => match StreamRead::parse((0..len).map(&arg)) {
            Some(read) => read.keys.map(|index| Arc::from(arg(index))).collect(),
            None => told.to_vec(),
        },
    }
}
