//! Hashes.

use super::*;

impl Generator {
    pub(super) fn field(&mut self) -> Vec<u8> {
        if self.rng.one_in(30) { self.value() } else { format!("f{}", self.rng.below(6)).word() }
    }

    /// FIELDS with one to three of them.
    pub(super) fn field_list(&mut self, with_values: bool) -> Words {
        let count = 1 + self.rng.below(3);
        let mut words = words!["FIELDS", count];
        for _ in 0..count {
            words.push(self.field());
            if with_values {
                words.push(self.value());
            }
        }
        words
    }

    pub(super) fn hash(&mut self) -> Words {
        let key = self.key("h");
        if self.version == Version::V9_1 && self.rng.one_in(2) {
            return self.hash_expiry(key);
        }
        match self.rng.below(13) {
            0..5 => words!["HSET", key, self.field(), self.value(), self.field(), self.value()],
            5 => words!["HMSET", key, self.field(), self.value()],
            6 | 7 => words!["HSETNX", key, self.field(), self.value()],
            8 => words!["HINCRBY", key, self.field(), self.index()],
            9 | 10 => words!["HINCRBYFLOAT", key, self.field(), self.score()],
            _ => words!["HDEL", key, self.field(), self.field()],
        }
    }

    pub(super) fn hash_expiry(&mut self, key: Vec<u8>) -> Words {
        let conditions = &["NX", "XX", "GT", "LT"];
        let mut words = match self.rng.below(14) {
            0 => words!["HEXPIRE", key, self.rng.below(1000) as i64 - 20],
            1..4 => words!["HPEXPIRE", key, self.ms()],
            4 => words!["HEXPIREAT", key, self.at_seconds()],
            5 | 6 => words!["HPEXPIREAT", key, self.at_ms()],
            7 | 8 => {
                let mut words = words!["HPERSIST", key];
                words.extend(self.field_list(false));
                return words;
            }
            9..12 => {
                let mut words = words!["HSETEX", key];
                if self.rng.one_in(5) {
                    words.push(self.pick(&["NX", "XX"]).word());
                }
                if self.rng.one_in(3) {
                    words.push(self.pick(&["FNX", "FXX"]).word());
                }
                words.extend(self.expiry_option(&["KEEPTTL"]));
                words.extend(self.field_list(true));
                return words;
            }
            12 => {
                let mut words = words!["HGETEX", key];
                words.extend(self.expiry_option(&["PERSIST"]));
                words.extend(self.field_list(false));
                return words;
            }
            _ => {
                let mut words = words!["HGETDEL", key];
                words.extend(self.field_list(false));
                return words;
            }
        };
        if self.rng.one_in(3) {
            words.push(self.pick(conditions).word());
        }
        words.extend(self.field_list(false));
        words
    }
}
