//! Writes that a script or another module calls, and that no event reports: the server's counts show, at the end of
//! what runs, whether it has run or refused them and whether they have changed anything.

use super::Capture;
use crate::core::hash::Set;
use crate::core::leaf::Leaf;
use crate::core::silent::{Proof, SilentChanges, Unproved};
use crate::core::unit::Unit;

impl Capture {
    /// The command just announced, of a script or a module, may change this unseen. A BITFIELD may unless it raises an
    /// event. `read` reads a count.
    pub fn unseen_inside(&mut self, changes: SilentChanges, proof: Proof, read: impl FnOnce() -> Option<[u64; 2]>) {
        let at = self.unproved.iter().position(|unproved| unproved.proof == proof).unwrap_or_else(|| {
            let (before, keys) = (read(), Set::default());
            self.unproved.push(Unproved { proof, before, keys, functions: false });
            self.unproved.len() - 1
        });
        match &mut self.current {
            // Inside what the module runs, that is the current command.
            Some(leaf) if !leaf.wrapped && leaf.is_failing_bitfield() => leaf.proof = Some(proof),
            _ => self.unproved[at].add(changes),
        }
    }

    /// A command that has raised no event is over.
    pub(super) fn keep_unproved(&mut self, leaf: &Leaf) {
        let unproved = self.unproved.iter_mut().find(|unproved| Some(unproved.proof) == leaf.proof);
        unproved.into_iter().for_each(|unproved| unproved.keys.extend(leaf.argument_keys()));
    }

    /// Whether anything may have changed unseen that is not logged yet: what follows may build on it.
    pub(super) fn may_have_changed_unseen(&self) -> bool {
        self.unproved.iter().any(|unproved| unproved.functions || !unproved.keys.is_empty())
    }

    /// What ran is over: has everything logged that may have changed unseen, as far as the counts have moved. Returns
    /// whether there is any.
    pub fn prove(&mut self, now_ms: i64, read: impl Fn(Proof) -> Option<[u64; 2]>) -> bool {
        if self.unproved.is_empty() {
            return false;
        }
        if !self.is_wrapping() {
            self.put_current_away();
        }
        let mut changed = false;
        for unproved in std::mem::take(&mut self.unproved) {
            let Unproved { proof, before, keys, functions } = unproved;
            if !functions && keys.is_empty() || before.is_some() && read(proof) == before {
                continue;
            }
            changed = true;
            let changes = SilentChanges { keys: keys.into_iter().collect(), functions };
            changes.log(self.unit.get_or_insert_with(|| Unit::new(now_ms)));
        }
        changed
    }
}
