//! Commands that may run, or have run, unseen.

use super::{Capture, ClientId};
use crate::core::table::Rule;
use crate::core::unit::Unit;
use std::sync::Arc;

/// A command that the module cannot see run, from when it was sent until its client waits no longer.
#[derive(Debug)]
pub(super) struct Postponed {
    pub(super) client: ClientId,
    pub(super) keys: Vec<Arc<[u8]>>,
    pub(super) functions: bool,
    /// The server was seen to make it wait.
    pub(super) waited: bool,
    /// It was seen to wait no longer, and may yet have to run.
    pub(super) released: bool,
}

impl Postponed {
    /// Has what it may have changed logged.
    pub(super) fn log(&self, unit: &mut Unit) {
        unit.functions |= self.functions;
        unit.functions_changed |= self.functions;
        self.keys.iter().for_each(|key| unit.image_everywhere(key.clone()));
    }
}

impl Capture {
    /// The command announced last has run unseen: no event reports what it did, and the module does not run it. Its
    /// keys are logged whatever that was. Or it is `blocked`, and may run later.
    pub fn unseen(&mut self, blocked: bool, now_ms: i64) {
        let Some(leaf) = &self.current else { return };
        if leaf.is_failing_bitfield() && !leaf.events.is_empty() {
            // Its event is enough.
            return;
        }
        let client = leaf.client;
        if blocked && leaf.spec.is_some_and(|spec| spec.may_block()) {
            return self.park_current(client);
        }
        let functions = leaf.spec.is_some_and(|spec| spec.rule == Rule::Functions);
        let keys = leaf.argument_keys();
        let postponed = Postponed { client, keys, functions, waited: blocked, released: false };
        if blocked {
            self.postponed.push(postponed);
        } else {
            postponed.log(self.unit.get_or_insert_with(|| Unit::new(now_ms)));
        }
    }

    /// The command just announced, of a script or a module, may change data unseen. Its keys are logged whatever it
    /// does; those of a BITFIELD unless an event shows what it did.
    pub fn unseen_inside(&mut self, now_ms: i64) {
        match &mut self.current {
            Some(leaf) if leaf.is_failing_bitfield() => leaf.unseen_since = Some(now_ms),
            _ => self.unseen(false, now_ms),
        }
    }

    /// Looks after commands that no event reports and that the server made wait (CLIENT PAUSE): once their client
    /// waits no longer they have run, unseen, so that their keys are logged. `is_blocked` asks the server.
    pub fn resumed(&mut self, now_ms: i64, is_blocked: impl Fn(ClientId) -> bool) {
        for mut postponed in std::mem::take(&mut self.postponed) {
            if is_blocked(postponed.client) {
                (postponed.waited, postponed.released) = (true, false);
                self.postponed.push(postponed);
            } else if postponed.waited {
                postponed.log(self.unit.get_or_insert_with(|| Unit::new(now_ms)));
                // A client that was let go at the end of an iteration runs its command in the next.
                if !std::mem::replace(&mut postponed.released, true) {
                    self.postponed.push(postponed);
                }
            }
        }
    }
}
