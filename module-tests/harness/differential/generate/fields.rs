//! Commands of hashes with fields that have expired, whether the server has removed them or not.

use super::{Generator, Place};
use crate::harness::differential::Step;
use crate::harness::differential::words::{Word, Words, words};

/// Fields expire after so many milliseconds; steps wait for longer.
const EXPIRY_MS: u64 = 5;
const WAIT_MS: u64 = 12;
/// The server removes what has expired within this time.
const REMOVAL_MS: u64 = 120;

/// A hash that keeps a field, to be copied: the copy of a hash whose fields have all expired has none, and a child of
/// the server that saves one dies.
const COPIED: &str = "copied";
/// Names of such hashes, and of what is made of them.
const KEYS: u64 = 2;
const FIELDS: u64 = 3;

impl Generator {
    /// Fields expire, then commands meet them.
    pub(super) fn expired_fields(&mut self) -> Step {
        let removes = self.rng.one_in(3);
        let mut first = vec![words!["DEBUG", "SET-ACTIVE-EXPIRE", if removes { "1" } else { "0" }]];
        for key in 0..KEYS {
            let key = format!("e{key}");
            if self.rng.one_in(3) {
                first.push(words!["DEL", key.as_str()]);
            }
            let mut set = words!["HSETEX", key.as_str(), "PX", EXPIRY_MS];
            set.extend(self.expiring_fields(true));
            first.push(set);
            if self.rng.one_in(2) {
                first.push(words!["HSET", key, self.expiring_field(), self.value()]);
            }
        }
        let mut copied = words!["HSETEX", COPIED, "PX", EXPIRY_MS];
        copied.extend(self.expiring_fields(true));
        first.extend([copied, words!["HSET", COPIED, "stays", "v"]]);
        self.planned.push_back(Step::Wait(if removes { REMOVAL_MS } else { WAIT_MS }));
        for _ in 0..3 + self.rng.below(3) {
            let count = 1 + self.rng.below(4);
            let mut commands: Vec<Words> = (0..count).map(|_| self.command_of_expired_fields()).collect();
            match self.rng.below(3) {
                0 => commands = vec![self.run_script(&commands)],
                1 => {
                    commands.insert(0, words!["MULTI"]);
                    commands.push(words!["EXEC"]);
                }
                _ => {}
            }
            self.planned.push_back(Step::Send(commands));
        }
        self.planned.push_back(Step::Send(vec![words!["DEBUG", "SET-ACTIVE-EXPIRE", "1"]]));
        Step::Send(first)
    }

    fn expiring_key(&mut self) -> String {
        format!("e{}", self.rng.below(KEYS + 1))
    }

    fn expiring_field(&mut self) -> String {
        format!("f{}", self.rng.below(FIELDS))
    }

    fn expiring_fields(&mut self, with_values: bool) -> Words {
        let count = 1 + self.rng.below(3);
        let mut words = words!["FIELDS", count];
        for _ in 0..count {
            words.push(self.expiring_field().word());
            if with_values {
                words.push(self.value());
            }
        }
        words
    }

    fn command_of_expired_fields(&mut self) -> Words {
        let key = self.expiring_key();
        let with_fields = |mut words: Words, fields: Words| {
            words.extend(fields);
            words
        };
        match self.rng.below(26) {
            0..4 => words!["HDEL", key, self.expiring_field(), self.expiring_field(), self.expiring_field()],
            4 | 5 => with_fields(words!["HGETDEL", key], self.expiring_fields(false)),
            6 | 7 => words!["HINCRBY", key, self.expiring_field(), self.rng.below(9)],
            8 => words!["HINCRBYFLOAT", key, self.expiring_field(), "0.5"],
            9 | 10 => words!["HSETNX", key, self.expiring_field(), self.value()],
            11 => with_fields(words!["HSETEX", key, "KEEPTTL"], self.expiring_fields(true)),
            12 => {
                let condition = self.pick(&["FNX", "FXX"]);
                let option = self.expiry_option(&["KEEPTTL"]);
                with_fields(with_fields(words!["HSETEX", key, condition], option), self.expiring_fields(true))
            }
            13 => with_fields(words!["HSETEX", key, "PXAT", "1"], self.expiring_fields(true)),
            14 => with_fields(words!["HPEXPIRE", key, self.pick(&["0", "100000"])], self.expiring_fields(false)),
            15 => with_fields(words!["HGETEX", key, self.pick(&["PERSIST"])], self.expiring_fields(false)),
            16 => words!["HSET", key, self.expiring_field(), self.value()],
            17..20 => words!["COPY", COPIED, key, "REPLACE"],
            20..23 => words!["RENAME", key, self.expiring_key()],
            23 => words!["RENAMENX", key, self.expiring_key()],
            24 => words!["SETNX", key, "string"],
            _ => self.command(Place::Transaction),
        }
    }
}
