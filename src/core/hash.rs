//! Maps and sets with a fast hash, which is seeded anew for each process.

use foldhash::fast::RandomState;
use std::collections::{HashMap, HashSet};

/// A map.
pub type Map<K, V> = HashMap<K, V, RandomState>;

/// A set.
pub type Set<T> = HashSet<T, RandomState>;
