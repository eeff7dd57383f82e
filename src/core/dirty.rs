//! What has changed and is not durable yet.

use crate::core::hash::{self, Map, Set};
use crate::log::Lsn;
use foldhash::fast::RandomState;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

/// A key with its database.
pub type DbKey = (u32, Arc<[u8]>);

/// A database's dirty keys.
#[derive(Debug, Default)]
struct Database {
    /// The position after each key's last change.
    keys: Map<Arc<[u8]>, Lsn>,
    /// The position after the last change of all keys at once (FLUSHDB, SWAPDB).
    all: Option<Lsn>,
    /// The position after the last change of any kind. Without one nothing here is dirty.
    last: Option<Lsn>,
    /// Its place in [`DirtyKeys::dirty_databases`], while it is dirty.
    place: usize,
}

/// What a position in [`DirtyKeys::order`] belongs to.
#[derive(Debug)]
enum Change {
    Key(DbKey),
    /// Of all keys of a database.
    Database(u32),
    Other,
}

/// The dirty keys and databases, and the function library.
///
/// Invariant: `order` is sorted by position, and holds for each key of a database, and for the last change of each
/// database, an entry with exactly its position. Older entries of what changed again are skipped when they pass.
///
/// A server may have a hundred thousand databases: no work is for those in which nothing is dirty.
#[derive(Debug, Default)]
pub struct DirtyKeys {
    /// By their numbers, those that have never changed and those that are clean among them.
    databases: Vec<Database>,
    /// The numbers of those that are dirty.
    dirty_databases: Vec<u32>,
    /// The position after the last change of a key or a database.
    last: Option<Lsn>,
    /// The position after the last change of all databases at once (FLUSHALL).
    everything: Option<Lsn>,
    functions: Option<Lsn>,
    order: VecDeque<(Lsn, Change)>,
    keys: usize,
    /// Keys that are not dirty for long, by their hashes: taking another key for one of them does no harm. All stay
    /// until `brief_until` is durable.
    brief: Set<u64>,
    brief_until: Option<Lsn>,
    hashing: RandomState,
}

impl DirtyKeys {
    /// Notes that the key changed last at `lsn`, which is not below any noted before.
    pub fn mark(&mut self, key: DbKey, lsn: Lsn) {
        match self.changed(key.0, lsn).keys.insert(key.1.clone(), lsn) {
            Some(before) if before == lsn => return,
            Some(_) => {}
            None => self.keys += 1,
        }
        self.note(lsn, Change::Key(key));
    }

    /// The same for a key that is clean again at the end of the iteration: it takes no memory of its own, but until
    /// then another key may be taken for it.
    pub fn mark_briefly(&mut self, key: &[u8], lsn: Lsn) {
        self.brief.insert(self.hashing.hash_one(key));
        self.brief_until = Some(lsn);
    }

    fn brief(&self, key: &[u8]) -> Option<Lsn> {
        self.brief_until.filter(|_| self.brief.contains(&self.hashing.hash_one(key)))
    }

    /// Notes that all keys of a database (or of all) changed at `lsn`.
    pub fn mark_all(&mut self, db: Option<u32>, lsn: Lsn) {
        let change = match db {
            Some(db) => {
                let database = self.changed(db, lsn);
                database.all = Some(lsn);
                let keys = std::mem::take(&mut database.keys);
                self.keys -= keys.len();
                Change::Database(db)
            }
            None => {
                self.clean_all();
                (self.everything, self.last) = (Some(lsn), Some(lsn));
                Change::Other
            }
        };
        self.note(lsn, change);
    }

    /// Notes that the function library changed at `lsn`.
    pub fn mark_functions(&mut self, lsn: Lsn) {
        self.functions = Some(lsn);
        self.note(lsn, Change::Other);
    }

    fn note(&mut self, lsn: Lsn, change: Change) {
        assert!(self.order.back().is_none_or(|(last, _)| *last <= lsn), "changes arrive in log order");
        self.order.push_back((lsn, change));
    }

    /// The database, which changed last at `lsn`.
    fn changed(&mut self, db: u32, lsn: Lsn) -> &mut Database {
        let index = db as usize;
        if self.databases.len() <= index {
            self.databases.resize_with(index + 1, Database::default);
        }
        self.last = Some(lsn);
        let database = &mut self.databases[index];
        if database.last.replace(lsn).is_none() {
            database.place = self.dirty_databases.len();
            self.dirty_databases.push(db);
        }
        database
    }

    /// Nothing in the database is dirty any more, if `lsn` is the position of its last change.
    fn clean_database(&mut self, db: u32, lsn: Lsn) {
        let Some(database) = self.databases.get_mut(db as usize).filter(|database| database.last == Some(lsn)) else {
            return;
        };
        (database.all, database.last) = (None, None);
        let place = database.place;
        self.dirty_databases.swap_remove(place);
        if let Some(moved) = self.dirty_databases.get(place).and_then(|moved| self.databases.get_mut(*moved as usize)) {
            moved.place = place;
        }
    }

    /// Nothing in any database is dirty any more.
    fn clean_all(&mut self) {
        for db in self.dirty_databases.drain(..) {
            if let Some(database) = self.databases.get_mut(db as usize) {
                (database.all, database.last) = (None, None);
                if !database.keys.is_empty() {
                    database.keys = Map::default();
                }
            }
        }
        self.keys = 0;
    }

    /// Forgets what is durable up to `lsn`; the cost is that of what became durable, not of what is left.
    pub fn clean_up_to(&mut self, lsn: Lsn) {
        if self.brief_until.is_some_and(|until| until <= lsn) {
            hash::empty(&mut self.brief);
            self.brief_until = None;
        }
        while self.order.front().is_some_and(|(changed, _)| *changed <= lsn)
            && let Some((changed, change)) = self.order.pop_front()
        {
            match change {
                Change::Key((db, key)) => {
                    if let Some(database) = self.databases.get_mut(db as usize)
                        && database.keys.get(&key) == Some(&changed)
                    {
                        database.keys.remove(&key);
                        self.keys -= 1;
                    }
                    self.clean_database(db, changed);
                }
                Change::Database(db) => self.clean_database(db, changed),
                Change::Other => {}
            }
        }
        for last in [&mut self.last, &mut self.everything, &mut self.functions] {
            *last = last.filter(|last| *last > lsn);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        hash::empty(&mut self.brief);
        self.clean_all();
        self.order.clear();
        (self.brief_until, self.last, self.everything, self.functions) = (None, None, None, None);
    }

    /// The position after the key's last change, unless that is known to be durable.
    pub fn key(&self, db: u32, key: &[u8]) -> Option<Lsn> {
        let database = self.databases.get(db as usize);
        let own = database.and_then(|database| database.keys.get(key).copied().max(database.all));
        own.max(self.everything).max(self.brief(key))
    }

    /// The same for the key of that name in any database.
    pub fn key_anywhere(&self, key: &[u8]) -> Option<Lsn> {
        let dirty = self.dirty_databases.iter().filter_map(|db| self.databases.get(*db as usize));
        let newest = dirty.filter_map(|db| db.keys.get(key).copied().max(db.all)).max();
        newest.max(self.everything).max(self.brief(key))
    }

    /// The position after the last change in the database.
    pub fn database_change(&self, db: u32) -> Option<Lsn> {
        self.databases.get(db as usize).and_then(|database| database.last).max(self.everything).max(self.brief_until)
    }

    /// The position after the last change in any database.
    pub fn any_change(&self) -> Option<Lsn> {
        self.last.max(self.brief_until)
    }

    /// The position after the last change of the function library.
    pub fn functions_change(&self) -> Option<Lsn> {
        self.functions
    }

    /// The number of dirty keys.
    pub fn len(&self) -> usize {
        self.keys + self.brief.len()
    }

    /// Whether nothing is dirty: no key, no database, not the function library.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty() && self.brief_until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(db: u32, name: &str) -> DbKey {
        (db, Arc::from(name.as_bytes()))
    }

    fn lsn(value: u64) -> Lsn {
        Lsn::new(value)
    }

    #[test]
    fn a_key_stays_dirty_until_its_last_change_is_durable() {
        let mut dirty = DirtyKeys::default();
        dirty.mark(key(0, "a"), lsn(10));
        dirty.mark(key(1, "a"), lsn(20));
        dirty.mark(key(0, "a"), lsn(30));
        assert_eq!(dirty.len(), 2);
        assert_eq!(dirty.key(0, b"a"), Some(lsn(30)));
        assert_eq!(dirty.key(1, b"a"), Some(lsn(20)));
        assert_eq!(dirty.key(2, b"a"), None);
        assert_eq!(dirty.key_anywhere(b"a"), Some(lsn(30)));
        dirty.clean_up_to(lsn(20));
        assert_eq!(dirty.len(), 1);
        dirty.clean_up_to(lsn(29));
        assert_eq!(dirty.key(0, b"a"), Some(lsn(30)));
        dirty.clean_up_to(lsn(30));
        assert!(dirty.is_empty());
        assert_eq!((dirty.key(0, b"a"), dirty.database_change(0)), (None, None));
    }

    #[test]
    fn only_databases_with_something_dirty_are_looked_at() {
        let mut dirty = DirtyKeys::default();
        for db in 0..1000 {
            dirty.mark(key(db, "a"), lsn(10 + u64::from(db)));
        }
        dirty.mark(key(5, "a"), lsn(2000));
        dirty.mark_all(Some(7), lsn(2001));
        dirty.mark(key(7, "b"), lsn(2002));
        assert_eq!(dirty.dirty_databases.len(), 1000);
        // Under load there is always something that is not durable yet.
        dirty.clean_up_to(lsn(1999));
        assert_eq!((dirty.dirty_databases.as_slice(), dirty.len()), (&[7, 5][..], 2));
        assert_eq!((dirty.key_anywhere(b"a"), dirty.any_change()), (Some(lsn(2001)), Some(lsn(2002))));
        assert_eq!((dirty.database_change(4), dirty.database_change(5)), (None, Some(lsn(2000))));
        dirty.clean_up_to(lsn(2001));
        assert_eq!(
            (dirty.dirty_databases.as_slice(), dirty.key(5, b"a"), dirty.key(7, b"a")),
            (&[7][..], None, Some(lsn(2001)))
        );
        dirty.clean_up_to(lsn(2002));
        assert!(dirty.is_empty() && dirty.dirty_databases.is_empty());
        assert_eq!((dirty.key_anywhere(b"b"), dirty.any_change(), dirty.key(7, b"b")), (None, None, None));
        // A database is dirty anew with its next change, also one that was emptied with all others.
        dirty.mark(key(9, "a"), lsn(3000));
        dirty.mark_all(None, lsn(3001));
        assert!(dirty.dirty_databases.is_empty());
        dirty.mark(key(9, "b"), lsn(3002));
        assert_eq!((dirty.dirty_databases.as_slice(), dirty.len()), (&[9][..], 1));
        dirty.clear();
        assert_eq!((dirty.dirty_databases.len(), dirty.key(9, b"b"), dirty.any_change()), (0, None, None));
    }

    #[test]
    fn a_brief_mark_stays_until_the_last_one_is_durable() {
        let mut dirty = DirtyKeys::default();
        dirty.mark_briefly(b"a", lsn(10));
        dirty.mark(key(0, "c"), lsn(15));
        dirty.mark_briefly(b"b", lsn(20));
        dirty.clean_up_to(lsn(19));
        assert_eq!((dirty.key(3, b"a"), dirty.key_anywhere(b"b"), dirty.len()), (Some(lsn(20)), Some(lsn(20)), 2));
        assert_eq!((dirty.key(0, b"c"), dirty.any_change(), dirty.is_empty()), (None, Some(lsn(20)), false));
        dirty.clean_up_to(lsn(20));
        assert_eq!((dirty.key(3, b"a"), dirty.database_change(0), dirty.len()), (None, None, 0));
        assert!(dirty.is_empty());
    }

    #[test]
    fn a_flushed_database_is_dirty_as_a_whole() {
        let mut dirty = DirtyKeys::default();
        dirty.mark(key(0, "a"), lsn(10));
        dirty.mark(key(1, "b"), lsn(11));
        dirty.mark_all(Some(0), lsn(20));
        assert_eq!(dirty.len(), 1);
        assert_eq!(dirty.key(0, b"never seen"), Some(lsn(20)));
        assert_eq!(dirty.key(1, b"b"), Some(lsn(11)));
        assert_eq!(dirty.key(1, b"never seen"), None);
        dirty.mark(key(0, "a"), lsn(30));
        assert_eq!((dirty.key(0, b"a"), dirty.database_change(0)), (Some(lsn(30)), Some(lsn(30))));
        dirty.mark_all(None, lsn(40));
        assert_eq!(dirty.len(), 0);
        assert_eq!((dirty.key(7, b"x"), dirty.any_change()), (Some(lsn(40)), Some(lsn(40))));
        dirty.clean_up_to(lsn(40));
        assert!(dirty.is_empty());
        assert_eq!((dirty.key(7, b"x"), dirty.any_change()), (None, None));
    }

    #[test]
    fn what_is_durable_leaves_while_other_changes_stay() {
        let mut dirty = DirtyKeys::default();
        dirty.mark_functions(lsn(5));
        dirty.mark(key(3, "a"), lsn(6));
        dirty.mark(key(3, "b"), lsn(7));
        dirty.clean_up_to(lsn(6));
        assert_eq!(dirty.len(), 1);
        assert_eq!((dirty.key(3, b"a"), dirty.key(3, b"b")), (None, Some(lsn(7))));
        dirty.clean_up_to(lsn(7));
        assert_eq!((dirty.functions_change(), dirty.len()), (None, 0));
    }
}
