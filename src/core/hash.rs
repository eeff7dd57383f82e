//! Maps and sets with a fast hash, which is seeded anew for each process.

use foldhash::fast::RandomState;
use std::collections::{HashMap, HashSet};

/// A map.
pub type Map<K, V> = HashMap<K, V, RandomState>;

/// A set.
pub type Set<T> = HashSet<T, RandomState>;

/// Larger sets are given back when they are emptied.
const SPARE_ENTRIES_MAX: usize = 1024;

/// Empties a set that is filled again and again. That takes time in proportion to its memory, not its content, so the
/// memory of a set that was once large is not kept.
pub fn empty<T>(set: &mut Set<T>) {
    if set.capacity() > 2 * SPARE_ENTRIES_MAX {
        *set = Set::default();
    } else {
        set.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_large_set_is_not_kept() {
        let mut set: Set<usize> = (0..SPARE_ENTRIES_MAX).collect();
        let capacity = set.capacity();
        empty(&mut set);
        assert_eq!((set.len(), set.capacity()), (0, capacity));
        set.extend(0..100 * SPARE_ENTRIES_MAX);
        empty(&mut set);
        assert_eq!((set.len(), set.capacity()), (0, 0));
    }
}
