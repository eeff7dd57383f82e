//! Blocking commands, which may run later, when their client is served.

use super::{Capture, ClientId};
use crate::core::blocked::Look;
use crate::core::leaf::Leaf;
use crate::core::unit::Unit;

impl Capture {
    /// Whether blocked readers may have changed keys unseen, and no unit is open.
    pub fn has_suspects(&self) -> bool {
        self.unit.is_none() && self.blocked.has_suspects()
    }

    /// Keys that blocked readers may have changed unseen, as a unit of images, with those readers; call when no unit is
    /// open.
    pub fn suspect_unit(
        &mut self,
        now_ms: i64,
        look: Look<impl Fn(ClientId) -> bool>,
    ) -> Option<(Unit, Vec<ClientId>)> {
        let (keys, readers) = match look {
            Look::Blocked(is_blocked) => self.blocked.take_changed(is_blocked),
            Look::All { keeps } => self.blocked.take_all_changed(keeps),
        };
        if keys.is_empty() {
            return None;
        }
        let mut unit = Unit::new(now_ms);
        for key in keys {
            unit.touch(key.clone());
            unit.image(key);
        }
        Some((unit, readers))
    }

    /// Makes the command that a served blocked client had sent the current one.
    pub(super) fn find_leaf(&mut self, client: ClientId) {
        if self.current.as_ref().is_some_and(|leaf| leaf.client == client || leaf.wrapped) {
            return;
        }
        if let Some(leaf) = self.blocked.take_served(client) {
            self.put_current_away();
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
        self.awake(client);
    }

    /// The client waits in no command.
    pub fn awake(&mut self, client: ClientId) {
        if let Some(leaf) = self.blocked.remove(client) {
            self.recycle(leaf);
        }
    }

    pub(super) fn park(&mut self, leaf: Box<Leaf>) {
        self.blocked.park(leaf);
    }

    /// Another command uses the client's id than the one that it waits in.
    pub(super) fn unpark(&mut self, client: ClientId) {
        if let Some(leaf) = self.blocked.forget_leaf(client) {
            self.recycle(leaf);
        }
    }
}
