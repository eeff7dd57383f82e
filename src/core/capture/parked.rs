//! Blocking commands, which may run later, when their client is served.

use super::{Capture, ClientId, DbKey};
use crate::core::leaf::{Args, Leaf};
use crate::core::unit::Unit;

impl Capture {
    /// The arguments of a client's command that the server may have made wait, and that has not been served since.
    pub fn waiting_command(&self, client: ClientId) -> Option<&Args> {
        self.parked.get(&client).map(|leaf| &leaf.args)
    }

    /// Whether there is any such command.
    pub fn has_waiting_commands(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Whether such keys wait to be logged, and no unit is open.
    pub fn has_suspects(&self) -> bool {
        self.unit.is_none() && !self.suspects.is_empty()
    }

    /// The blocked readers of such keys: who may have been served.
    pub fn suspect_readers(&self) -> Vec<ClientId> {
        let reads_one = |leaf: &Leaf| {
            leaf.db.is_some_and(|db| leaf.argument_keys().into_iter().any(|key| self.suspects.contains(&(db, key))))
        };
        self.parked.values().filter(|leaf| reads_one(leaf)).map(|leaf| leaf.client).collect()
    }

    /// A blocked silent command that was not seen may have changed this key.
    pub fn suspect(&mut self, key: DbKey) {
        self.suspects.insert(key);
    }

    /// Keys that a blocked silent command may have changed since it was parked, as a unit of images; call when no unit
    /// is open.
    pub fn suspect_unit(&mut self, now_ms: i64) -> Option<Unit> {
        if self.suspects.is_empty() {
            return None;
        }
        let mut unit = Unit::new(now_ms);
        for key in self.suspects.drain() {
            unit.touch(key.clone());
            unit.image(key);
        }
        Some(unit)
    }

    /// Makes the command that a served blocked client had sent the current one.
    pub(super) fn find_leaf(&mut self, client: ClientId) {
        if self.current.as_ref().is_some_and(|leaf| leaf.client == client || leaf.wrapped) {
            return;
        }
        if let Some(leaf) = self.parked.remove(&client) {
            self.put_current_away();
            self.forget_parked_keys(&leaf);
            self.current = Some(leaf);
        }
    }

    /// The client's command, announced last, waits.
    pub fn park_current(&mut self, client: ClientId) {
        if let Some(leaf) = self.current.take_if(|leaf| leaf.client == client && leaf.events.is_empty()) {
            self.park(leaf);
        }
    }

    /// The client's command, announced last, does not wait: it was answered, or refused.
    pub fn not_blocked(&mut self, client: ClientId) {
        if let Some(leaf) = self.current.take_if(|leaf| leaf.client == client && leaf.events.is_empty()) {
            self.recycle(leaf);
        }
        self.unpark(client);
    }

    pub(super) fn park(&mut self, leaf: Leaf) {
        if let (Some(spec), Some(db)) = (leaf.spec, leaf.db)
            && spec.is_silent()
        {
            for key in leaf.argument_keys() {
                *self.parked_keys.entry((db, key)).or_default() += 1;
            }
        }
        self.parked.insert(leaf.client, leaf);
    }

    pub(super) fn unpark(&mut self, client: ClientId) {
        if let Some(leaf) = self.parked.remove(&client) {
            self.forget_parked_keys(&leaf);
            self.recycle(leaf);
        }
    }

    fn forget_parked_keys(&mut self, leaf: &Leaf) {
        let (Some(spec), Some(db)) = (leaf.spec, leaf.db) else { return };
        if !spec.is_silent() {
            return;
        }
        for key in leaf.argument_keys() {
            let db_key = (db, key);
            if let Some(readers) = self.parked_keys.get_mut(&db_key) {
                *readers -= 1;
                if *readers == 0 {
                    self.parked_keys.remove(&db_key);
                }
            }
        }
    }
}
