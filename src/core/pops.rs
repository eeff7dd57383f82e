//! Commands that the server makes wait and serves with an event (BLPOP, BLMOVE...), and which of them it may serve with
//! an error instead, which no event shows.

use crate::core::dirty::DbKey;
use crate::core::hash::{Map, Set};
use crate::core::leaf::ClientId;
use crate::core::table::CommandSpec;

/// The type that such a command wants its keys to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A list.
    List,
    /// A sorted set.
    SortedSet,
}

impl Wanted {
    /// What this command wants.
    pub fn by(spec: &CommandSpec) -> Wanted {
        let is_of_sorted_sets = spec.logged_as.iter().any(|command| command.starts_with("zpop"));
        if is_of_sorted_sets { Wanted::SortedSet } else { Wanted::List }
    }
}

/// The clients that wait for a key, or would move an element there, by the type that they want.
#[derive(Debug, Default)]
struct Waiting {
    lists: Set<ClientId>,
    sorted_sets: Set<ClientId>,
}

impl Waiting {
    fn of(&mut self, wanted: Wanted) -> &mut Set<ClientId> {
        match wanted {
            Wanted::List => &mut self.lists,
            Wanted::SortedSet => &mut self.sorted_sets,
        }
    }

    fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.lists.iter().chain(&self.sorted_sets).copied()
    }
}

/// All of them.
///
/// Most are served with success, and their replies are held in their event. So a changed key and its type are looked up
/// here; the clients are gone through only if any of them may fail.
#[derive(Debug, Default)]
pub struct Pops {
    /// The keys that each names, and the type that it wants them to have.
    keys: Map<ClientId, (Vec<DbKey>, Wanted)>,
    waiting: Map<DbKey, Waiting>,
    /// Those that may be served with an error: a key of theirs had another type once, or rights have changed since they
    /// began to wait.
    may_fail: Set<ClientId>,
}

impl Pops {
    /// The client waits in a command that names these keys.
    pub fn add(&mut self, client: ClientId, keys: Vec<DbKey>, wanted: Wanted) {
        self.remove(client);
        for key in &keys {
            self.waiting.entry(key.clone()).or_default().of(wanted).insert(client);
        }
        self.keys.insert(client, (keys, wanted));
    }

    /// It waits no longer.
    pub fn remove(&mut self, client: ClientId) {
        self.may_fail.remove(&client);
        let Some((keys, wanted)) = self.keys.remove(&client) else { return };
        for key in keys {
            let Some(waiting) = self.waiting.get_mut(&key) else { continue };
            waiting.of(wanted).remove(&client);
            if waiting.lists.is_empty() && waiting.sorted_sets.is_empty() {
                self.waiting.remove(&key);
            }
        }
    }

    /// It may be served with an error.
    pub fn may_fail(&mut self, client: ClientId) {
        self.may_fail.insert(client);
    }

    /// All that wait now may be: rights have changed, or keys in a way that is not followed.
    pub fn all_may_fail(&mut self) {
        self.may_fail.extend(self.keys.keys());
    }

    /// A key has changed. `suits` says whether its type suits those who want this one (or it has gone). Returns who
    /// waits for it and may be served with an error.
    pub fn changed(&mut self, db: u32, key: &[u8], suits: impl Fn(Wanted) -> bool) -> Vec<ClientId> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let Some(waiting) = self.waiting.get(&(db, key.into())) else { return Vec::new() };
        for (clients, wanted) in [(&waiting.lists, Wanted::List), (&waiting.sorted_sets, Wanted::SortedSet)] {
            if !clients.is_empty() && !suits(wanted) {
                self.may_fail.extend(clients);
            }
        }
        if self.may_fail.is_empty() {
            return Vec::new();
        }
        waiting.clients().filter(|client| self.may_fail.contains(client)).collect()
    }

    /// All that may be served with an error.
    pub fn failing(&self) -> Vec<ClientId> {
        self.may_fail.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> DbKey {
        (0, name.as_bytes().into())
    }

    #[test]
    fn whose_key_has_another_type_may_fail_at_the_next_change() {
        let mut pops = Pops::default();
        pops.add(1, vec![key("a"), key("b")], Wanted::List);
        pops.add(2, vec![key("b")], Wanted::List);
        pops.add(3, vec![key("b")], Wanted::SortedSet);
        let is_list = |wanted| wanted == Wanted::List;
        assert!(pops.changed(0, b"c", |_| false).is_empty() && pops.changed(1, b"b", |_| false).is_empty());
        assert!(pops.changed(0, b"a", is_list).is_empty());
        assert_eq!(pops.changed(0, b"a", |_| false), [1]);
        pops.remove(3);
        assert_eq!(pops.changed(0, b"b", is_list), [1], "its other key is what it was");
        pops.add(1, vec![key("a"), key("b")], Wanted::List);
        assert!(pops.changed(0, b"b", is_list).is_empty(), "it waits anew");
        pops.add(3, vec![key("b")], Wanted::SortedSet);
        assert_eq!(pops.changed(0, b"b", is_list), [3]);
    }

    #[test]
    fn who_waits_as_rights_change_may_fail() {
        let mut pops = Pops::default();
        pops.add(1, vec![key("a"), key("a")], Wanted::List);
        pops.all_may_fail();
        pops.add(2, vec![key("a")], Wanted::List);
        assert_eq!((pops.changed(0, b"a", |_| true), pops.failing()), (vec![1], vec![1]));
        pops.may_fail(2);
        pops.remove(1);
        assert_eq!(pops.changed(0, b"a", |_| true), [2]);
        pops.remove(2);
        assert!(pops.waiting.is_empty() && pops.keys.is_empty() && pops.failing().is_empty());
    }
}
