//! Commands that may run, or have run, unseen.

use super::{Capture, ClientId};
use crate::core::silent::{Postponed, PostponedKind, SilentChanges, Waits};
use crate::core::unit::Unit;

impl Capture {
    /// The client's command has run unseen: no event reports what it did, and the module does not run it. Whatever it
    /// may have changed is logged. Or it `waits`, and may run later.
    pub fn unseen(&mut self, client: ClientId, changes: SilentChanges, waits: Option<Waits>, now_ms: i64) {
        let leaf = self.current.as_ref().filter(|leaf| leaf.client == client);
        if leaf.is_some_and(|leaf| leaf.is_failing_bitfield() && !leaf.events.is_empty()) {
            // Its event shows enough.
            return;
        }
        let may_block = leaf.is_some_and(|leaf| leaf.spec.is_some_and(|spec| spec.may_block()));
        match waits {
            Some(waits) => {
                // Another module's command inside it may have parked it.
                let is_parked = may_block || self.blocked.leaf(client).is_some();
                if may_block {
                    self.park_current(client);
                }
                if !is_parked || waits == Waits::MayBePostponed {
                    self.postponed.push(Postponed { client, what: PostponedKind::Command, changes, released: false });
                }
            }
            None => {
                if may_block {
                    self.put_current_away();
                }
                // It did not wait.
                self.awake(client);
                self.log_silent(&changes, now_ms);
            }
        }
    }

    fn log_silent(&mut self, changes: &SilentChanges, now_ms: i64) {
        changes.log(self.unit.get_or_insert_with(|| Unit::new(now_ms)));
    }

    /// Checks commands that no event reports and that the server made wait (CLIENT PAUSE): once their client waits no
    /// longer they have run, unseen, so their keys are logged. `is_blocked` asks the server; the module itself holds no
    /// client in such a command.
    pub fn resumed(&mut self, now_ms: i64, is_blocked: impl Fn(ClientId) -> bool) {
        for mut postponed in std::mem::take(&mut self.postponed) {
            if is_blocked(postponed.client) {
                postponed.released = false;
                self.postponed.push(postponed);
            } else {
                self.log_silent(&postponed.changes, now_ms);
                // A client that was let go at the end of an iteration runs its command in the next.
                if !std::mem::replace(&mut postponed.released, true) {
                    self.postponed.push(postponed);
                }
            }
        }
    }

    /// What is postponed, and not known to have been let go, with its client.
    pub fn delayed(&self) -> Vec<(ClientId, PostponedKind)> {
        let waiting = self.postponed.iter().filter(|postponed| !postponed.released);
        waiting.map(|postponed| (postponed.client, postponed.what)).collect()
    }

    /// The client has sent another command: what it had sent before has run by now, or was refused, even if the client
    /// waits again, in this one. Returns whether anything is logged for that.
    pub fn has_sent_another(&mut self, client: ClientId, now_ms: i64) -> bool {
        self.end_unseen_exec(client);
        let is_its = |postponed: &mut Postponed| postponed.client == client;
        let run: Vec<Postponed> = self.postponed.extract_if(.., is_its).collect();
        run.iter().for_each(|postponed| self.log_silent(&postponed.changes, now_ms));
        !run.is_empty()
    }
}
