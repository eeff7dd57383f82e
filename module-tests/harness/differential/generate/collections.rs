//! Lists, sets, sorted sets and places.

use super::*;

impl Generator {
    pub(super) fn list(&mut self) -> Words {
        let key = self.key("l");
        let (side, other) = (self.pick(&["LEFT", "RIGHT"]), self.pick(&["LEFT", "RIGHT"]));
        match self.rng.below(24) {
            0..6 => {
                let mut words = words![self.pick(&["LPUSH", "RPUSH"]), key];
                words.extend((0..1 + self.rng.below(3)).map(|_| self.value()));
                words
            }
            6 => words![self.pick(&["LPUSHX", "RPUSHX"]), key, self.value()],
            7 => words![self.pick(&["LPOP", "RPOP"]), key],
            8 => words![self.pick(&["LPOP", "RPOP"]), key, self.rng.below(5)],
            9 | 10 => words!["LMOVE", key, self.key("l"), side, other],
            11 => words!["RPOPLPUSH", key, self.key("l")],
            12 => words!["LINSERT", key, self.pick(&["BEFORE", "AFTER"]), self.rng.below(10), self.value()],
            13 => words!["LREM", key, self.index(), self.rng.below(10)],
            14 => words!["LTRIM", key, self.index(), self.index()],
            15 => words!["LSET", key, self.index(), self.value()],
            16 => words!["LMPOP", "2", key, self.key("l"), side, "COUNT", 1 + self.rng.below(3)],
            17 => words!["LMPOP", "1", key, side],
            18 => self.sort(key),
            _ => {
                let to = self.key("l");
                self.blocking_list(&key, &to, "0.002")
            }
        }
    }

    pub(super) fn blocking_list(&mut self, key: &[u8], to: &[u8], timeout: &str) -> Words {
        let (side, other) = (self.pick(&["LEFT", "RIGHT"]), self.pick(&["LEFT", "RIGHT"]));
        match self.rng.below(6) {
            0 => words!["BLPOP", key, to, timeout],
            1 => words!["BRPOP", key, timeout],
            2 => words!["BLMOVE", key, to, side, other, timeout],
            3 => words!["BRPOPLPUSH", key, to, timeout],
            4 => words!["BLMPOP", timeout, "2", key, to, side],
            _ => words!["BLMPOP", timeout, "1", key, side, "COUNT", 1 + self.rng.below(4)],
        }
    }

    pub(super) fn sort(&mut self, key: Vec<u8>) -> Words {
        let mut words = words!["SORT", key];
        match self.rng.below(4) {
            0 => words.extend(words!["BY", "s*"]),
            1 => words.extend(words!["BY", "nosort"]),
            _ => {}
        }
        if self.rng.one_in(3) {
            words.extend(words!["LIMIT", self.rng.below(2), 1 + self.rng.below(4)]);
        }
        if self.rng.one_in(3) {
            words.extend(words!["GET", "#", "GET", "s*", "GET", "h*->f1"]);
        }
        // Members of a set that have no weights, or the same, are in the order of the hash table, which has a random
        // seed.
        let random = words.iter().any(|word| word == b"BY") && self.only_exact_in_aof;
        if !self.rng.one_in(4) && !random {
            words.push("ALPHA".word());
        }
        words.extend(words!["STORE", self.key("l")]);
        words
    }

    pub(super) fn set(&mut self) -> Words {
        let key = self.key("t");
        match self.rng.below(18) {
            0..6 => {
                let mut words = words!["SADD", key];
                words.extend((0..1 + self.rng.below(4)).map(|_| self.member()));
                words
            }
            6 | 7 => words!["SREM", key, self.member(), self.member()],
            8 | 9 => words!["SPOP", key],
            10..12 => words!["SPOP", key, self.rng.below(6)],
            12 | 13 => words!["SMOVE", key, self.key("t"), self.member()],
            14 => self.sort(key),
            _ => {
                let name = self.pick(&["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]);
                words![name, key, self.key("t"), self.key("t")]
            }
        }
    }

    pub(super) fn sorted_set(&mut self) -> Words {
        let key = self.key("z");
        let (low, high) = (self.rng.below(10) as i64 - 4, self.rng.below(20));
        match self.rng.below(24) {
            0..7 => {
                let mut words = words!["ZADD", key];
                match self.rng.below(6) {
                    0 => words.push("NX".word()),
                    1 => words.push("XX".word()),
                    2 => words.extend(words!["XX", self.pick(&["GT", "LT"])]),
                    3 => words.push(self.pick(&["GT", "LT", "CH"]).word()),
                    _ => {}
                }
                if self.rng.one_in(6) {
                    words.extend(words!["INCR", self.score(), self.member()]);
                } else {
                    words.extend(words![self.score(), self.member(), self.score(), self.member()]);
                }
                words
            }
            7 => words!["ZINCRBY", key, self.score(), self.member()],
            8 => words!["ZREM", key, self.member(), self.member()],
            9 => words![self.pick(&["ZPOPMIN", "ZPOPMAX"]), key],
            10 => words![self.pick(&["ZPOPMIN", "ZPOPMAX"]), key, self.rng.below(4)],
            11 => words!["ZMPOP", "2", key, self.key("z"), self.pick(&["MIN", "MAX"]), "COUNT", 1 + self.rng.below(3)],
            12 => words!["ZMPOP", "1", key, self.pick(&["MIN", "MAX"])],
            13 => words!["ZRANGESTORE", self.key("z"), key, self.index(), self.index()],
            14 => words!["ZRANGESTORE", self.key("z"), key, low, high, "BYSCORE", "LIMIT", "0", self.rng.below(5)],
            15 => words!["ZREMRANGEBYSCORE", key, low, high],
            16 => words!["ZREMRANGEBYRANK", key, self.index(), self.index()],
            17 => self.by_name(),
            18 | 19 => {
                let other = if self.rng.one_in(3) { self.key("t") } else { self.key("z") };
                let name = self.pick(&["ZUNIONSTORE", "ZINTERSTORE"]);
                let mut words = words![name, self.key("z"), "2", key, other];
                if self.rng.one_in(2) {
                    words.extend(words!["WEIGHTS", self.score(), "0.5"]);
                }
                if self.rng.one_in(2) {
                    words.extend(words!["AGGREGATE", self.pick(&["SUM", "MIN", "MAX"])]);
                }
                words
            }
            20 => words!["ZDIFFSTORE", self.key("z"), "2", key, self.key("z")],
            _ => self.blocking_sorted_set(&key, "0.002"),
        }
    }

    /// Commands of a sorted set whose members have one score: of others the server removes what chance has it find.
    pub(super) fn by_name(&mut self) -> Words {
        let key = format!("lex{}", self.rng.below(2));
        match self.rng.below(3) {
            0 => words!["ZREMRANGEBYLEX", key, "[m1", "(m4"],
            _ => words!["ZADD", key, "0", self.member(), "0", self.member()],
        }
    }

    pub(super) fn blocking_sorted_set(&mut self, key: &[u8], timeout: &str) -> Words {
        let end = self.pick(&["MIN", "MAX"]);
        match self.rng.below(4) {
            0 => words!["BZPOPMIN", key, timeout],
            1 => words!["BZPOPMAX", key, self.key("z"), timeout],
            2 => words!["BZMPOP", timeout, "2", key, self.key("z"), end],
            _ => words!["BZMPOP", timeout, "1", key, end, "COUNT", 1 + self.rng.below(4)],
        }
    }

    pub(super) fn geo(&mut self) -> Words {
        let key = self.key("g");
        let (longitude, latitude) = (self.rng.below(100).to_string(), format!("{}.5", self.rng.below(60)));
        match self.rng.below(5) {
            0..3 => {
                let mut words = words!["GEOADD", key];
                self.maybe(&mut words, &["NX", "XX", "CH"]);
                words.extend(words![longitude, latitude, self.member()]);
                words
            }
            3 => {
                let mut words = words!["GEOSEARCHSTORE", self.key("g"), key, "FROMLONLAT", longitude, latitude];
                words.extend(words!["BYRADIUS", "5000", "km"]);
                self.maybe(&mut words, &["STOREDIST", "ASC"]);
                words
            }
            _ => words!["GEORADIUS", key, longitude, latitude, "4000", "km", "STORE", self.key("g")],
        }
    }
}
