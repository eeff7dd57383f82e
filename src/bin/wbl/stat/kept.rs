//! How much of a log a base would keep, from a sample of its keys.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use valkey_wbl::core::logged::{self, Databases};
use valkey_wbl::core::table::Kept;
use valkey_wbl::log::UnitCommand;

/// When there are more keys in the sample it is halved.
const SAMPLE_MAX: usize = 100_000;

/// Bytes that a base would have of what was logged.
#[derive(Default)]
pub struct KeptBytes {
    hasher: RandomState,
    /// Keys whose hash ends with this many zero bits are in the sample.
    bits: u32,
    sample: HashMap<(u32, Box<[u8]>), u64>,
}

impl KeptBytes {
    /// Takes into account a command whose keys are at these places.
    pub fn add(&mut self, command: &UnitCommand<'_, '_>, keys: &[usize]) {
        match logged::databases(command.args) {
            Databases::Untouched => {}
            Databases::AllEmptied => return self.sample.clear(),
            Databases::OneEmptied => return self.sample.retain(|(db, _), _| *db != command.db),
            Databases::Swapped(first, second) => return self.swap(first, second),
        }
        let kept = logged::kept(command.args);
        let Some(share) = command.bytes.checked_div(keys.len() as u64) else { return };
        for key in keys.iter().filter_map(|index| command.args.get(*index)) {
            if self.is_sampled(key) {
                self.change((command.db, Box::from(*key)), kept, share);
            }
        }
        while self.sample.len() > SAMPLE_MAX {
            self.bits += 1;
            let (hasher, bits) = (&self.hasher, self.bits);
            self.sample.retain(|(_, key), _| hasher.hash_one(&**key).trailing_zeros() >= bits);
        }
    }

    fn change(&mut self, key: (u32, Box<[u8]>), kept: Kept, share: u64) {
        match kept {
            Kept::Removed => drop(self.sample.remove(&key)),
            Kept::Instead => drop(self.sample.insert(key, share)),
            Kept::All => *self.sample.entry(key).or_default() += share,
            // A counter that was not there is no larger than the command.
            Kept::Nothing => drop(self.sample.entry(key).or_insert(share)),
        }
    }

    fn is_sampled(&self, key: &[u8]) -> bool {
        self.hasher.hash_one(key).trailing_zeros() >= self.bits
    }

    fn swap(&mut self, first: u32, second: u32) {
        let swapped = |db| match db {
            db if db == first => second,
            db if db == second => first,
            db => db,
        };
        self.sample = std::mem::take(&mut self.sample)
            .into_iter()
            .map(|((db, key), share)| ((swapped(db), key), share))
            .collect();
    }

    /// About how many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.sample.values().sum::<u64>() << self.bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use valkey_wbl::log::Lsn;

    fn add(kept: &mut KeptBytes, db: u32, text: &str) {
        let args: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
        let command = UnitCommand { at: Lsn::ZERO, bytes: 100, db, args: &args };
        kept.add(&command, &logged::keys(&args));
    }

    #[test]
    fn what_is_overwritten_or_removed_is_not_kept() {
        let mut kept = KeptBytes::default();
        for text in ["SET a 1", "SET a 2", "RPUSH l x", "RPUSH l y", "INCR a", "LPOP l", "SET b 1", "DEL b", "INCR n"] {
            add(&mut kept, 0, text);
        }
        assert_eq!(kept.bytes(), 400);
        add(&mut kept, 1, "MSET a 1 b 2");
        add(&mut kept, 0, "SWAPDB 0 1");
        add(&mut kept, 1, "FLUSHDB");
        assert_eq!(kept.bytes(), 100);
        add(&mut kept, 1, "FLUSHALL");
        assert_eq!(kept.bytes(), 0);
    }

    #[test]
    fn a_sample_tells_about_many_keys() {
        let mut kept = KeptBytes::default();
        (0..1_000_000).for_each(|number| add(&mut kept, 0, &format!("SET key:{} v", number % 500_000)));
        let expected = 50_000_000_f64;
        assert!(kept.sample.len() <= SAMPLE_MAX);
        assert!((kept.bytes() as f64 / expected - 1.0).abs() < 0.1, "{}", kept.bytes());
    }
}
