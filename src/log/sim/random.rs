//! A small seeded generator, so that every run can be repeated, and the seeds of randomised tests.
//!
//! Two variables of the environment steer all randomised tests: `WBL_SEED` (a number, or `random`) replaces their
//! seeds by one, and `WBL_TIMES` (a number) multiplies how much they try.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// Pseudo-random numbers from a seed (SplitMix64: a Weyl sequence after a mixing function).
#[derive(Clone, Debug, Default)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The sequence of one test: of `WBL_SEED`, else of the test's name. Prints the seed.
    pub fn of_test(name: &str) -> Random {
        // FNV-1a.
        let of_name = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let seed = given_seed().unwrap_or(of_name);
        println!("{name}: WBL_SEED={seed}");
        Random::new(seed)
    }

    /// A sequence of its own, whatever this one gives later.
    pub fn fork(&mut self) -> Random {
        Random::new(self.next_u64())
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below zero");
        self.next_u64() % bound
    }

    /// True in `percent` of one hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True once in `count` cases.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// The seeds of a test that tries many: that of `WBL_SEED` alone, else `WBL_TIMES` times `count` of them from `first`.
pub fn seeds(first: u64, count: u64) -> Range<u64> {
    match given_seed() {
        Some(seed) => seed..seed.saturating_add(1),
        None => first..first + count * times(),
    }
}

/// `WBL_TIMES`: how often a randomised test does what it does, or 1.
pub fn times() -> u64 {
    number("WBL_TIMES").unwrap_or(1)
}

fn given_seed() -> Option<u64> {
    if std::env::var("WBL_SEED").is_ok_and(|text| text == "random") {
        return SystemTime::now().duration_since(UNIX_EPOCH).map(|age| age.subsec_nanos().into()).ok();
    }
    number("WBL_SEED")
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    assert!(text.parse::<u64>().is_ok(), "{name} is no number: {text}");
    text.parse().ok()
}
