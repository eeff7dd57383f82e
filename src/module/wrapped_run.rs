//! A command that the module runs for a client.

use crate::core::execution::{Running, What, Wrapped};
use crate::core::leaf::ClientId;
use crate::core::script_db::ScriptDb;
use crate::ffi::Ctx;
use crate::log::Lsn;
use crate::module::{Module, with};

/// The module runs a command for a client: until this is left, whatever comes belongs to that command. It is left at
/// the latest when it is dropped.
#[must_use]
pub(super) struct WrappedRun {
    /// What ran before, and goes on afterwards.
    outer: Option<Running>,
}

/// The outcome of a command that the module has run for a client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// It has changed data: its reply waits for the running unit.
    pub(super) changed: bool,
    /// The newest change that it shows besides.
    pub(super) shown: Option<Lsn>,
    /// The size of its reply in bytes, where the code that holds it knows.
    pub(super) reply_bytes: usize,
}

impl WrappedRun {
    /// The module is about to run a command for this client, in this database. `None` where nothing is logged, and
    /// within another such command.
    pub(super) fn enter(module: &mut Module, client: ClientId, db: u32) -> Option<WrappedRun> {
        if !module.life.logs() || module.running.is_wrapped() {
            return None;
        }
        let (what, db) = (What::Wrapped(Wrapped::default()), ScriptDb::Proved(db));
        let running = Running { client, what, db, ..Running::default() };
        Some(WrappedRun { outer: Some(std::mem::replace(&mut module.running, running)) })
    }

    /// The command has run. Not from within the module's state.
    pub(super) fn leave(mut self, ctx: Ctx<'_>) -> Outcome {
        let Some(outer) = self.outer.take() else { return Outcome::default() };
        let outcome = with(|module| {
            module.settle_inside(ctx);
            module.leave_wrapped_run(outer)
        });
        outcome.unwrap_or_default()
    }
}

impl Drop for WrappedRun {
    fn drop(&mut self) {
        if let Some(outer) = self.outer.take() {
            with(|module| module.leave_wrapped_run(outer));
        }
    }
}

impl Module {
    fn leave_wrapped_run(&mut self, outer: Running) -> Outcome {
        let wrapped = match std::mem::replace(&mut self.running, outer).what {
            What::Wrapped(wrapped) => wrapped,
            // The log has ended within.
            _ => Wrapped::default(),
        };
        // A run and its command end together, however the command went: what comes next is not its own.
        if self.capture.is_wrapping() {
            self.capture.wrapped_done(false, None, 0);
        }
        Outcome {
            changed: wrapped.changed && self.life.withholds(),
            shown: self.undurable(wrapped.read),
            reply_bytes: 0,
        }
    }
}
