//! Keys of any type, and functions.

use super::*;

impl Generator {
    pub(super) fn key_command(&mut self) -> Words {
        let key = if self.rng.one_in(4) { self.key("h") } else { self.any_key() };
        match self.rng.below(30) {
            0..3 => words![self.pick(&["DEL", "UNLINK"]), key, self.any_key()],
            3..6 => {
                let mut words = words!["COPY", key, self.any_key()];
                if self.rng.one_in(3) {
                    words.extend(words!["DB", self.rng.below(2)]);
                }
                self.maybe(&mut words, &["REPLACE"]);
                words
            }
            6 | 7 => words!["RENAME", key, self.any_key()],
            8 => words!["RENAMENX", key, self.any_key()],
            9 | 10 => words!["MOVE", key, self.rng.below(2)],
            11..14 => words!["PERSIST", key],
            // Reading, which removes what has expired.
            14 => words!["TYPE", key],
            15 => words!["HGETALL", key],
            _ => self.expire(),
        }
    }

    pub(super) fn expire(&mut self) -> Words {
        let key = self.any_key();
        let mut words = match self.rng.below(9) {
            0 => words!["EXPIRE", key, self.seconds()],
            1 => words!["EXPIRE", key, self.index()],
            2..5 => words!["PEXPIRE", key, self.ms()],
            5 => words!["EXPIREAT", key, self.at_seconds()],
            6 => words!["PEXPIREAT", key, self.at_ms()],
            _ => return words!["PERSIST", key],
        };
        if self.rng.one_in(3) {
            words.push(self.pick(&["NX", "XX", "GT", "LT"]).word());
        }
        words
    }

    pub(super) fn function(&mut self) -> Words {
        let number = self.rng.below(3);
        match self.rng.below(8) {
            0..6 => {
                let mut words = words!["FUNCTION", "LOAD"];
                self.maybe(&mut words, &["REPLACE"]);
                let code = LIBRARY.replace("NUMBER", &number.to_string());
                words.push(format!("{code}-- {}", self.rng.below(100)).word());
                words
            }
            6 => words!["FUNCTION", "DELETE", format!("library{number}")],
            _ => words!["FUNCTION", "FLUSH"],
        }
    }
}
