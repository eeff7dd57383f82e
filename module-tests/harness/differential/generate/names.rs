//! Names, values and times.

use super::*;

impl Generator {
    pub(super) fn key(&mut self, kind: &str) -> Vec<u8> {
        match self.rng.below(60) {
            0..4 => format!("any{}", self.rng.below(SHARED_KEYS)).into(),
            4 => ODD_NAMES[self.rng.below(ODD_NAMES.len() as u64) as usize].to_vec(),
            5 => self.any_key(),
            _ => format!("{kind}{}", self.rng.below(KEYS_PER_TYPE)).into(),
        }
    }

    pub(super) fn any_key(&mut self) -> Vec<u8> {
        const KINDS: [&str; 9] = ["s", "l", "t", "z", "h", "x", "g", "p", "any"];
        let kind = KINDS[self.rng.below(KINDS.len() as u64) as usize];
        format!("{kind}{}", self.rng.below(if kind == "any" { SHARED_KEYS } else { KEYS_PER_TYPE })).into()
    }

    pub(super) fn value(&mut self) -> Vec<u8> {
        match self.rng.below(16) {
            0..6 => self.rng.below(10).word(),
            6..9 => format!("v{}", self.rng.below(20)).word(),
            9 => format!("{}.{}", self.rng.below(100), self.rng.below(1000)).word(),
            10 => b"\r\n$5\r\nother\r\n".to_vec(),
            11 => vec![0, 1, 0xff, self.rng.below(256) as u8],
            12 => Vec::new(),
            13 => vec![b'a' + self.rng.below(26) as u8; 60 + self.rng.below(80) as usize],
            14 => (self.rng.next_u64() as i64).word(),
            _ => "*3".word(),
        }
    }

    pub(super) fn member(&mut self) -> Vec<u8> {
        match self.rng.below(10) {
            0..5 => format!("m{}", self.rng.below(12)).word(),
            5..9 => self.rng.below(12).word(),
            _ => self.value(),
        }
    }

    pub(super) fn score(&mut self) -> String {
        match self.rng.below(12) {
            0 => "inf".into(),
            1 => "-inf".into(),
            2..5 => format!("{}.{}", self.rng.below(50), self.rng.below(100_000)),
            _ => format!("{}", self.rng.below(20) as i64 - 4),
        }
    }

    pub(super) fn index(&mut self) -> i64 {
        self.rng.below(9) as i64 - 4
    }

    pub(super) fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.rng.below(choices.len() as u64) as usize]
    }

    pub(super) fn maybe(&mut self, words: &mut Words, choices: &[&str]) {
        if self.rng.one_in(2) {
            words.push(self.pick(choices).word());
        }
    }

    pub(super) fn maybe_rarely(&mut self, words: &mut Words, option: &str) {
        if self.rng.one_in(5) {
            words.push(option.word());
        }
    }

    pub(super) fn short_ms(&mut self) -> u64 {
        5 + self.rng.below(LONGEST_SHORT_MS - 5)
    }

    pub(super) fn long_ms(&mut self) -> u64 {
        match self.rng.below(3) {
            0 => 500 + self.rng.below(4000),
            1 => 100_000 + self.rng.below(100_000),
            _ => 1 << (20 + self.rng.below(20)),
        }
    }

    /// A relative time in milliseconds, short or long.
    pub(super) fn ms(&mut self) -> u64 {
        if self.rng.one_in(2) { self.short_ms() } else { self.long_ms() }
    }

    pub(super) fn seconds(&mut self) -> u64 {
        1 + self.rng.below(2000)
    }

    /// An absolute time in milliseconds: soon, far away or past.
    pub(super) fn at_ms(&mut self) -> Vec<u8> {
        match self.rng.below(8) {
            0 => format!("{NOW_MS}-{}", self.rng.below(10_000)).word(),
            1 => "1".word(),
            _ => format!("{NOW_MS}{}", self.ms()).word(),
        }
    }

    pub(super) fn at_seconds(&mut self) -> Vec<u8> {
        match self.rng.below(8) {
            0 => "1".word(),
            1 => format!("{NOW_S}{}", self.rng.below(2)).word(),
            _ => format!("{NOW_S}{}", self.seconds()).word(),
        }
    }

    /// EX, PX, EXAT or PXAT with its time, or nothing.
    pub(super) fn expiry_option(&mut self, others: &[&str]) -> Words {
        match self.rng.below(7) {
            0 => words!["EX", self.seconds()],
            1 | 2 => words!["PX", self.ms()],
            3 => words!["EXAT", self.at_seconds()],
            4 => words!["pxat", self.at_ms()],
            5 if !others.is_empty() => words![self.pick(others)],
            _ => Vec::new(),
        }
    }
}
