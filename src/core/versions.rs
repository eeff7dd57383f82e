//! What hot keys held before the changes that are not durable yet: reads of them are answered from the newest durable
//! value and need not wait.
//!
//! They are kept only for keys that a reader has had to wait for, within bounds. At the end of each iteration of the
//! event loop the module reads what they hold ([`Versions::due`], [`Versions::keep`]): the state after all that is
//! logged by then. What is known of a key is thus a list of states, each true for the positions from one on up to the
//! key's next change ([`Versions::at`]). `docs/design.md` says why their answers are right ("Reads of hot keys").

use crate::core::dirty::{DbKey, DirtyKeys};
use crate::core::hash::Map;
use crate::log::Lsn;
use std::collections::VecDeque;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// About how much memory all that is kept may take; beyond that, the keys that were taken up first are given up.
pub const BYTES_MAX: usize = 1024 * 1024;

/// A longer value is not kept.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// What a key and each of its states take, besides their bytes.
const OVERHEAD_BYTES: usize = 128;

/// A key that changes in this many iterations while nobody reads its states is given up.
const UNREAD_MAX: u32 = 64;

/// At most this many keys are taken up in an iteration.
const WANTED_MAX: usize = 64;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no such key.
    Missing,
    /// A string.
    Value {
        /// Its bytes, shared with everyone to whom they are shown.
        bytes: Arc<[u8]>,
        /// When it expires, milliseconds since the Unix epoch.
        expires_ms: Option<i64>,
    },
}

impl State {
    /// The string, if there is one.
    pub fn value(&self) -> Option<&Arc<[u8]>> {
        match self {
            State::Missing => None,
            State::Value { bytes, .. } => Some(bytes),
        }
    }

    fn has_expired(&self, now_ms: i64) -> bool {
        matches!(self, State::Value { expires_ms: Some(at), .. } if *at <= now_ms)
    }

    fn len(&self) -> usize {
        match self {
            State::Missing => 0,
            State::Value { bytes, .. } => bytes.len(),
        }
    }
}

/// What a key held from a position on, up to its next change.
#[derive(Debug)]
struct Version {
    /// The position after the first change since the version before: from there on that one is no longer true.
    since: Lsn,
    /// From here on this one is true.
    at: Lsn,
    state: State,
}

/// A key whose states are kept.
#[derive(Debug)]
struct Kept {
    /// Oldest first.
    versions: VecDeque<Version>,
    /// The position after the first change since the newest of them.
    changed: Option<Lsn>,
    /// In how many iterations it has changed since somebody read one of its states.
    unread: u32,
    /// When it was taken up.
    turn: u64,
    bytes: usize,
}

/// The states of all keys that have any kept.
///
/// Invariant: `changed` has each key whose `Kept::changed` is set.
#[derive(Debug, Default)]
pub struct Versions {
    databases: Vec<Map<Arc<[u8]>, Kept>>,
    keys: usize,
    bytes: usize,
    turns: u64,
    /// Keys in the order in which they were taken up, some of them given up since.
    order: VecDeque<(u64, DbKey)>,
    wanted: Vec<DbKey>,
    changed: Vec<DbKey>,
    /// Somebody may know of changes up to here, whether they are durable or not.
    known_to_others: Lsn,
    /// Somebody may know of what this iteration does.
    tells: bool,
}

impl Versions {
    /// Whether no key is taken up.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// The number of keys that are taken up.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// About how much memory all of it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A reader waits for the key's last change: it is taken up.
    pub fn want(&mut self, db: u32, key: &[u8]) {
        if self.wanted.len() < WANTED_MAX
            && self.get(db, key).is_none()
            && !self.wanted.iter().any(|(other, wanted)| *other == db && **wanted == *key)
        {
            self.wanted.push((db, key.into()));
        }
    }

    /// The key has changed, up to this position.
    pub fn change(&mut self, (db, key): DbKey, lsn: Lsn) {
        let Some(kept) = self.databases.get_mut(db as usize).and_then(|keys| keys.get_mut(&key)) else { return };
        if kept.changed.is_none() {
            kept.changed = Some(lsn);
            self.changed.push((db, key));
        }
    }

    /// Something that is shown in this iteration does not wait until it is durable: an early message.
    pub fn tell(&mut self) {
        self.tells = !self.is_empty();
    }

    /// Whether the state at the durable position may be shown as the present one: nobody knows of anything newer.
    pub fn may_be_shown(&self, durable: Lsn) -> bool {
        !self.tells && self.known_to_others <= durable
    }

    /// The iteration is at its end, with this position appended: takes out the keys whose state is to be read now and
    /// kept.
    pub fn due(&mut self, appended: Lsn) -> Vec<DbKey> {
        if std::mem::take(&mut self.tells) {
            self.known_to_others = appended;
        }
        let mut due = std::mem::take(&mut self.wanted);
        due.append(&mut self.changed);
        due
    }

    /// What the key holds after all that is logged; `None` for what is not kept.
    pub fn keep(&mut self, key: DbKey, state: Option<State>, dirty: &DirtyKeys, appended: Lsn, durable: Lsn) {
        let (db, name) = (key.0, &key.1);
        let Some(state) = state.filter(|state| state.len() <= VALUE_BYTES_MAX) else { return self.forget(db, name) };
        let at = dirty.key(db, name);
        let bytes = state.len() + OVERHEAD_BYTES;
        match self.databases.get_mut(db as usize).and_then(|keys| keys.get_mut(name)) {
            Some(kept) => {
                // Without a change there is nothing new.
                let Some(since) = kept.changed.take() else { return };
                kept.unread += 1;
                if kept.unread > UNREAD_MAX {
                    return self.forget(db, name);
                }
                kept.versions.push_back(Version { since, at: at.unwrap_or(appended).max(since), state });
                kept.bytes += bytes;
                self.bytes += bytes;
                self.bytes -= kept.drop_older(durable);
            }
            None => {
                // A key that is clean by now may become dirty, and its reader wait, once more.
                let Some(at) = at.filter(|at| *at > durable) else { return };
                self.take_up(key, Version { since: at, at, state }, bytes);
            }
        }
        while self.bytes > BYTES_MAX {
            let Some((turn, (db, name))) = self.order.pop_front() else { return };
            if self.get(db, &name).is_some_and(|kept| kept.turn == turn) {
                self.forget(db, &name);
            }
        }
    }

    fn take_up(&mut self, (db, name): DbKey, version: Version, bytes: usize) {
        self.turns += 1;
        let bytes = bytes + name.len() + OVERHEAD_BYTES;
        let kept = Kept { versions: [version].into(), changed: None, unread: 0, turn: self.turns, bytes };
        let index = db as usize;
        if self.databases.len() <= index {
            self.databases.resize_with(index + 1, Map::default);
        }
        self.databases[index].insert(name.clone(), kept);
        (self.keys, self.bytes) = (self.keys + 1, self.bytes + bytes);
        if self.order.len() >= 2 * self.keys + WANTED_MAX {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(turn, (db, name))| self.get(*db, name).is_some_and(|kept| kept.turn == *turn));
            self.order = order;
        }
        self.order.push_back((self.turns, (db, name)));
    }

    /// What the key held after all changes up to the durable position, where that is known, and where time has not
    /// changed it since: a change that came in time may have put off or removed its expiry, so nobody may be shown that
    /// it is gone.
    pub fn at(&mut self, db: u32, key: &[u8], durable: Lsn, now_ms: i64) -> Option<&State> {
        let kept = self.databases.get_mut(db as usize)?.get_mut(key)?;
        self.bytes -= kept.drop_older(durable);
        let first = kept.versions.front()?;
        let next_change = kept.versions.get(1).map(|next| next.since).or(kept.changed);
        if first.at > durable || next_change.is_some_and(|change| change <= durable) {
            return None;
        }
        if first.state.has_expired(now_ms) {
            return None;
        }
        kept.unread = 0;
        Some(&first.state)
    }

    /// Gives the key up.
    pub fn forget(&mut self, db: u32, key: &[u8]) {
        if let Some(kept) = self.databases.get_mut(db as usize).and_then(|keys| keys.remove(key)) {
            (self.keys, self.bytes) = (self.keys - 1, self.bytes - kept.bytes);
            self.changed.retain(|(other, changed)| *other != db || **changed != *key);
        }
        if self.keys == 0 {
            self.order.clear();
        }
    }

    /// Gives the key up in all databases.
    pub fn forget_anywhere(&mut self, key: &[u8]) {
        (0..self.databases.len()).for_each(|db| self.forget(u32::try_from(db).unwrap_or(u32::MAX), key));
    }

    /// Gives up all keys, of all databases.
    pub fn clear(&mut self) {
        *self = Versions::default();
    }

    fn get(&self, db: u32, key: &[u8]) -> Option<&Kept> {
        self.databases.get(db as usize)?.get(key)
    }
}

impl Kept {
    /// Drops what a later version, which is durable, replaces. Returns how much memory that took.
    fn drop_older(&mut self, durable: Lsn) -> usize {
        let mut bytes = 0;
        while self.versions.get(1).is_some_and(|next| next.at <= durable) {
            bytes += self.versions.pop_front().map_or(0, |version| version.state.len() + OVERHEAD_BYTES);
        }
        self.bytes -= bytes;
        bytes
    }
}
