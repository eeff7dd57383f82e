//! Keys whose last change is not durable yet.

use crate::log::Lsn;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A key with its database.
pub type DbKey = (u32, Arc<[u8]>);

/// The dirty keys, each with the position behind its last change.
///
/// Invariant: `order` is sorted by position, and holds for each key of `last` an entry with exactly its position. Older entries of a key
/// that changed again are skipped when they pass.
#[derive(Debug, Default)]
pub struct DirtyKeys {
    last: HashMap<DbKey, Lsn>,
    order: VecDeque<(Lsn, DbKey)>,
}

impl DirtyKeys {
    /// Notes that the key changed last at `lsn`, which is not below any noted before.
    pub fn mark(&mut self, key: DbKey, lsn: Lsn) {
        assert!(self.order.back().is_none_or(|(last, _)| *last <= lsn), "changes arrive in log order");
        if self.last.insert(key.clone(), lsn) != Some(lsn) {
            self.order.push_back((lsn, key));
        }
    }

    /// Forgets what is durable up to `lsn`; costs what became durable, not what is left.
    pub fn clean_up_to(&mut self, lsn: Lsn) {
        while let Some((changed, _)) = self.order.front() {
            if *changed > lsn {
                break;
            }
            if let Some((changed, key)) = self.order.pop_front()
                && self.last.get(&key) == Some(&changed)
            {
                self.last.remove(&key);
            }
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.last.clear();
        self.order.clear();
    }

    /// The number of dirty keys.
    pub fn len(&self) -> usize {
        self.last.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(db: u32, name: &str) -> DbKey {
        (db, Arc::from(name.as_bytes()))
    }

    #[test]
    fn a_key_stays_dirty_until_its_last_change_is_durable() {
        let mut dirty = DirtyKeys::default();
        dirty.mark(key(0, "a"), Lsn::new(10));
        dirty.mark(key(1, "a"), Lsn::new(20));
        dirty.mark(key(0, "a"), Lsn::new(30));
        assert_eq!(dirty.len(), 2);
        dirty.clean_up_to(Lsn::new(20));
        assert_eq!(dirty.len(), 1);
        dirty.clean_up_to(Lsn::new(29));
        assert_eq!(dirty.len(), 1);
        dirty.clean_up_to(Lsn::new(30));
        assert!(dirty.is_empty());
    }
}
