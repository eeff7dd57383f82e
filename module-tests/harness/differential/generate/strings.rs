//! Strings, bits and counts of distinct values.

use super::*;

impl Generator {
    pub(super) fn string(&mut self) -> Words {
        let key = self.key("s");
        match self.rng.below(31) {
            0..7 => {
                let mut words = words!["SET", key, self.value()];
                match self.rng.below(8) {
                    0 => words.push("NX".word()),
                    1 => words.push("XX".word()),
                    2 => words.extend(words!["IFEQ", self.value()]),
                    _ => {}
                }
                words.extend(self.expiry_option(&["KEEPTTL"]));
                if self.rng.one_in(4) {
                    words.push("GET".word());
                }
                words
            }
            7 | 8 => {
                let mut words = words!["GETEX", key];
                words.extend(self.expiry_option(&["PERSIST"]));
                words
            }
            9 => words!["SETEX", key, self.seconds(), self.value()],
            10 => words!["PSETEX", key, self.ms(), self.value()],
            11 => words!["INCRBYFLOAT", key, self.score()],
            12 => words!["INCRBY", key, self.index()],
            13 => words![self.pick(&["INCR", "DECR"]), key],
            14 => words!["APPEND", key, self.value()],
            15 => words!["SETRANGE", key, self.rng.below(20), self.value()],
            16 => words!["SETBIT", key, self.rng.below(100), self.rng.below(2)],
            17 => self.bits(key),
            18 => words!["BITOP", self.pick(&["AND", "OR", "XOR"]), key, self.key("s"), self.key("s")],
            19 => words!["BITOP", "NOT", key, self.key("s")],
            20 => words!["GETDEL", key],
            21 => words!["GETSET", key, self.value()],
            22 => words!["SETNX", key, self.value()],
            23 | 24 => words!["MSET", key, self.value(), self.key("s"), self.value()],
            25 => words!["MSETNX", key, self.value(), self.key("s"), self.value()],
            26 | 27 if self.version == Version::V9_1 => {
                let mut words = words!["MSETEX", "2", key, self.value(), self.key("s"), self.value()];
                if self.rng.one_in(3) {
                    words.push(self.pick(&["NX", "XX"]).word());
                }
                words.extend(self.expiry_option(&["KEEPTTL"]));
                words
            }
            28 if self.version == Version::V9_1 => words!["DELIFEQ", key, self.value()],
            _ => words!["SET", key, self.value()],
        }
    }

    /// BITFIELD.
    fn bits(&mut self, key: Vec<u8>) -> Words {
        let kind = self.pick(&["u8", "i5", "u17"]);
        let mut words = words!["BITFIELD", key];
        if self.rng.one_in(2) {
            // FAIL may leave the string longer (or create it) without changing a bit, and the AOF is not told.
            let kinds: &[&str] = if self.only_exact_in_aof { &["WRAP", "SAT"] } else { &["WRAP", "SAT", "FAIL"] };
            words.extend(words!["OVERFLOW", self.pick(kinds)]);
        }
        words.extend(words!["SET", kind, self.rng.below(30), self.rng.below(100)]);
        words.extend(words!["INCRBY", kind, format!("#{}", self.rng.below(4)), self.index()]);
        words
    }

    pub(super) fn cardinality(&mut self) -> Words {
        let key = self.key("p");
        match self.rng.below(8) {
            0..3 => words!["PFADD", key, self.value(), self.value()],
            3 => words!["PFMERGE", key, self.key("p"), self.key("p")],
            4 => words!["PFCOUNT", key, self.key("p")],
            _ => words!["PFCOUNT", key],
        }
    }
}
