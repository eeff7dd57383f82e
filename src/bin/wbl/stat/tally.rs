//! Counting by name and by time in bounded memory.

use std::collections::{BTreeMap, HashMap};

/// How many names are kept; up to twice as many until those with the fewest bytes are counted together.
const NAMES_KEPT: usize = 50_000;
/// How many intervals are kept.
const INTERVALS_MAX: usize = 48;

/// What was counted of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub number: u64,
    pub bytes: u64,
}

impl Counted {
    fn add(&mut self, number: u64, bytes: u64) {
        self.number += number;
        self.bytes += bytes;
    }
}

/// Numbers and bytes by name.
#[derive(Debug, Default)]
pub struct Tally {
    names: HashMap<Box<[u8]>, Counted>,
    others: Counted,
}

impl Tally {
    pub fn add(&mut self, name: &[u8], bytes: u64) {
        if let Some(counted) = self.names.get_mut(name) {
            counted.add(1, bytes);
            return;
        }
        self.names.insert(name.into(), Counted { number: 1, bytes });
        if self.names.len() > 2 * NAMES_KEPT {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        let mut sizes: Vec<u64> = self.names.values().map(|counted| counted.bytes).collect();
        let (_, least, _) = sizes.select_nth_unstable_by(NAMES_KEPT, |one, other| other.cmp(one));
        let (least, others) = (*least, &mut self.others);
        self.names.retain(|_, counted| {
            let is_kept = counted.bytes > least;
            if !is_kept {
                others.add(counted.number, counted.bytes);
            }
            is_kept
        });
    }

    /// Those with the most bytes, the largest first.
    pub fn largest(&self, count: usize) -> Vec<(&[u8], &Counted)> {
        let mut all: Vec<_> = self.names.iter().map(|(name, counted)| (&**name, counted)).collect();
        all.sort_by(|one, other| other.1.bytes.cmp(&one.1.bytes).then(one.0.cmp(other.0)));
        all.truncate(count);
        all
    }

    /// What was counted together.
    pub fn others(&self) -> Counted {
        self.others
    }
}

/// Numbers and bytes by time, in intervals of seconds that double when there are too many.
#[derive(Debug)]
pub struct Rate {
    width_ms: u64,
    intervals: BTreeMap<u64, Counted>,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate { width_ms: 1000, intervals: BTreeMap::new() }
    }
}

impl Rate {
    pub fn add(&mut self, unix_ms: u64, bytes: u64) {
        self.intervals.entry(unix_ms / self.width_ms).or_default().add(1, bytes);
        while self.intervals.len() > INTERVALS_MAX {
            self.width_ms *= 2;
            for (number, counted) in std::mem::take(&mut self.intervals) {
                self.intervals.entry(number / 2).or_default().add(counted.number, counted.bytes);
            }
        }
    }

    pub fn width_ms(&self) -> u64 {
        self.width_ms
    }

    /// The intervals in which something was logged, each with its beginning.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, Counted)> {
        self.intervals.iter().map(|(number, counted)| (number * self.width_ms, *counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_lose_the_small_ones() {
        let mut tally = Tally::default();
        for number in 0..300_000_u64 {
            tally.add(format!("key:{number}").as_bytes(), 10);
            tally.add(b"large", 100);
        }
        assert!(tally.names.len() <= 2 * NAMES_KEPT);
        assert_eq!(tally.largest(1), [(&b"large"[..], &Counted { number: 300_000, bytes: 30_000_000 })]);
        let kept: u64 = tally.names.values().map(|counted| counted.number).sum();
        assert_eq!(kept + tally.others().number, 600_000);
    }

    #[test]
    fn intervals_become_longer() {
        let mut rate = Rate::default();
        (0..10_000).for_each(|second| rate.add(second * 1000, 7));
        assert!(rate.intervals.len() <= INTERVALS_MAX && rate.width_ms() == 256_000);
        assert_eq!(rate.buckets().map(|(_, counted)| counted.bytes).sum::<u64>(), 70_000);
        assert!(rate.buckets().all(|(unix_ms, counted)| unix_ms % 256_000 == 0 && counted.number <= 256));
    }
}
