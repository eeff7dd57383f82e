//! Random commands of all types over few keys.

mod fields;

use super::words::{NOW_MS, NOW_S, Word, Words, words};
use super::{LIBRARY, SCRIPT, Step};
use crate::harness::{Random, Version};
use std::collections::VecDeque;

/// Names of each type, and of those that all types share.
const KEYS_PER_TYPE: u64 = 8;
const SHARED_KEYS: u64 = 4;
/// Ids of the clock are far above those that are given: most streams only see one kind.
const STREAMS: [&str; 5] = ["x0", "x1", "x2", "x6", "x7"];
const CLOCK_STREAMS: [&str; 2] = ["x6", "x7"];
const ODD_NAMES: [&[u8]; 4] = [b"", b"\r\n", b"\0nul", b"odd\xff\r\n$3\r\n"];

const LONGEST_SHORT_MS: u64 = 200;

/// Where a command will run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Transaction,
    Script,
}

pub struct Generator {
    rng: Random,
    version: Version,
    /// Leave out what the server's own AOF does not log exactly.
    only_exact_in_aof: bool,
    /// The ids of stream entries rise with this.
    next_id: u64,
    /// Ids that XADD was given lately.
    ids: Vec<String>,
    /// Steps that come next.
    planned: VecDeque<Step>,
}

/// Steps of about so many commands.
pub fn steps(seed: u64, version: Version, only_exact_in_aof: bool, commands: usize) -> Vec<Step> {
    let rng = Random::new(seed);
    let (ids, planned) = (vec!["1-1".into()], VecDeque::new());
    let mut generator = Generator { rng, version, only_exact_in_aof, next_id: 1, ids, planned };
    let (mut steps, mut count) = (Vec::new(), 0);
    while count < commands {
        let step = generator.planned.pop_front().unwrap_or_else(|| generator.step());
        count += step.commands();
        steps.push(step);
    }
    steps
}

impl Generator {
    fn step(&mut self) -> Step {
        match self.rng.below(1000) {
            0..70 => {
                let place = Place::Transaction;
                let mut commands = self.some(1, 6, place);
                commands.insert(0, words!["MULTI"]);
                commands.push(if self.rng.one_in(12) { words!["DISCARD"] } else { words!["EXEC"] });
                Step::Send(commands)
            }
            70..75 => {
                let (key, change) = (self.any_key(), self.command(Place::Top));
                Step::Watched { key, change, commands: self.some(1, 4, Place::Transaction) }
            }
            75..130 => Step::Send(vec![self.script()]),
            130..150 => self.restore(),
            150..168 => self.blocked(),
            168..178 => Step::Wait(self.rng.below(60)),
            178..183 => Step::Send(vec![words!["SELECT", self.rng.below(2)]]),
            // The server's own AOF does not log these exactly.
            183..195 if self.version == Version::V9_1 && !self.only_exact_in_aof => self.expired_fields(),
            _ => Step::Send(vec![self.command(Place::Top)]),
        }
    }

    fn some(&mut self, least: u64, most: u64, place: Place) -> Vec<Words> {
        (0..least + self.rng.below(most + 1 - least)).map(|_| self.command(place)).collect()
    }

    fn restore(&mut self) -> Step {
        let source = if self.rng.one_in(2) { self.key("h") } else { self.any_key() };
        let target = if self.rng.one_in(2) { source.clone() } else { self.any_key() };
        let (ttl, absolute) = match self.rng.below(4) {
            0 => (self.short_ms().word(), false),
            1 => (self.long_ms().word(), false),
            2 => (self.at_ms(), true),
            _ => ("0".word(), self.rng.one_in(2)),
        };
        let mut options = Vec::new();
        if absolute {
            options.push("ABSTTL".word());
        }
        if !self.rng.one_in(4) {
            options.push("REPLACE".word());
        }
        Step::Restore { source, target, ttl, options }
    }

    /// Clients that block, and what may serve them.
    fn blocked(&mut self) -> Step {
        let database = self.rng.below(2) as u32;
        let mut blocked = Vec::new();
        let mut serving = vec![words!["SELECT", u64::from(database)]];
        for _ in 0..1 + self.rng.below(2) {
            let (command, key, serve) = match self.rng.below(3) {
                0 => {
                    let key = self.key("l");
                    let to = if self.rng.one_in(6) { key.clone() } else { self.key("l") };
                    let command = self.blocking_list(&key, &to, "0.05");
                    (command, key.clone(), words!["RPUSH", key, self.value(), self.value(), self.value()])
                }
                1 => {
                    let key = self.key("z");
                    let command = self.blocking_sorted_set(&key, "0.05");
                    (command, key.clone(), words!["ZADD", key, self.score(), self.member(), "7", self.member()])
                }
                _ => {
                    let key = self.pick(&CLOCK_STREAMS).word();
                    let (group, consumer) = (self.group(), self.consumer());
                    serving.push(words!["XADD", key.clone(), "*", "f", "v"]);
                    let mut command = words!["XREADGROUP", "GROUP", group.clone(), consumer, "BLOCK", "50"];
                    if self.rng.one_in(4) {
                        command.push("NOACK".word());
                    }
                    command.extend(words!["STREAMS", key.clone(), ">"]);
                    let create = words!["XGROUP", "CREATE", key.clone(), group, "$", "MKSTREAM"];
                    blocked.push((database, create));
                    (command, key.clone(), words!["XADD", key, "*", "g", self.value()])
                }
            };
            blocked.push((database, command));
            // The key may get its content in many ways.
            match self.rng.below(10) {
                0 => serving.push(self.run_script(&[serve])),
                1 => serving.extend([words!["MULTI"], serve, words!["EXEC"]]),
                2 => {
                    let mut elsewhere = serve;
                    elsewhere[1] = "elsewhere".word();
                    serving.extend([words!["DEL", "elsewhere"], elsewhere, words!["RENAME", "elsewhere", key.clone()]]);
                }
                3 => {
                    let mut elsewhere = serve;
                    elsewhere[1] = "elsewhere".word();
                    let copy = words!["COPY", "elsewhere", key.clone(), "REPLACE"];
                    serving.extend([words!["DEL", "elsewhere"], elsewhere, copy, words!["DEL", "elsewhere"]]);
                }
                4 => {
                    let other = u64::from(1 - database);
                    serving.extend([words!["SELECT", other], serve, words!["SWAPDB", "0", "1"]]);
                }
                5 => {
                    let other = u64::from(1 - database);
                    let back = u64::from(database);
                    serving.extend([words!["SELECT", other], serve, words!["MOVE", key.clone(), back]]);
                }
                _ => serving.push(serve),
            }
            if self.rng.one_in(3) {
                serving.push(self.command(Place::Top));
            }
        }
        Step::Blocked { blocked, serving }
    }

    fn script(&mut self) -> Words {
        let commands = self.some(1, 5, Place::Script);
        if self.rng.one_in(4) {
            let mut words = words!["FCALL", format!("run{}", self.rng.below(2)), "0"];
            words.extend(self.script_args(&commands));
            return words;
        }
        self.run_script(&commands)
    }

    fn run_script(&mut self, commands: &[Words]) -> Words {
        let mut words = words!["EVAL", SCRIPT, "0"];
        words.extend(self.script_args(commands));
        words
    }

    fn script_args(&mut self, commands: &[Words]) -> Words {
        let mut args = Vec::new();
        for command in commands {
            args.extend(words![if self.rng.one_in(3) { "call" } else { "pcall" }, command.len()]);
            args.extend(command.iter().cloned());
        }
        args
    }

    fn command(&mut self, place: Place) -> Words {
        match self.rng.below(1000) {
            0..150 => self.string(),
            150..270 => self.list(),
            270..370 => self.set(),
            370..480 => self.sorted_set(),
            480..650 => self.hash(),
            650..820 => self.stream(),
            820..845 => self.geo(),
            845..885 => self.cardinality(),
            885..985 => self.key_command(),
            985..990 if place != Place::Script => self.function(),
            990..995 if place == Place::Transaction => self.script(),
            995..997 if place != Place::Top => words!["SELECT", self.rng.below(2)],
            997 if self.rng.one_in(3) => words!["FLUSHDB"],
            998 => words!["SWAPDB", self.rng.below(2), self.rng.below(2)],
            999 if self.rng.one_in(6) => words!["FLUSHALL"],
            _ => self.expire(),
        }
    }

    // Names and values.

    fn key(&mut self, kind: &str) -> Vec<u8> {
        match self.rng.below(60) {
            0..4 => format!("any{}", self.rng.below(SHARED_KEYS)).into(),
            4 => ODD_NAMES[self.rng.below(ODD_NAMES.len() as u64) as usize].to_vec(),
            5 => self.any_key(),
            _ => format!("{kind}{}", self.rng.below(KEYS_PER_TYPE)).into(),
        }
    }

    fn any_key(&mut self) -> Vec<u8> {
        const KINDS: [&str; 9] = ["s", "l", "t", "z", "h", "x", "g", "p", "any"];
        let kind = KINDS[self.rng.below(KINDS.len() as u64) as usize];
        format!("{kind}{}", self.rng.below(if kind == "any" { SHARED_KEYS } else { KEYS_PER_TYPE })).into()
    }

    fn value(&mut self) -> Vec<u8> {
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

    fn member(&mut self) -> Vec<u8> {
        match self.rng.below(10) {
            0..5 => format!("m{}", self.rng.below(12)).word(),
            5..9 => self.rng.below(12).word(),
            _ => self.value(),
        }
    }

    fn score(&mut self) -> String {
        match self.rng.below(12) {
            0 => "inf".into(),
            1 => "-inf".into(),
            2..5 => format!("{}.{}", self.rng.below(50), self.rng.below(100_000)),
            _ => format!("{}", self.rng.below(20) as i64 - 4),
        }
    }

    fn index(&mut self) -> i64 {
        self.rng.below(9) as i64 - 4
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.rng.below(choices.len() as u64) as usize]
    }

    fn maybe(&mut self, words: &mut Words, choices: &[&str]) {
        if self.rng.one_in(2) {
            words.push(self.pick(choices).word());
        }
    }

    // Times.

    fn short_ms(&mut self) -> u64 {
        5 + self.rng.below(LONGEST_SHORT_MS - 5)
    }

    fn long_ms(&mut self) -> u64 {
        match self.rng.below(3) {
            0 => 500 + self.rng.below(4000),
            1 => 100_000 + self.rng.below(100_000),
            _ => 1 << (20 + self.rng.below(20)),
        }
    }

    /// A relative time in milliseconds, short or long.
    fn ms(&mut self) -> u64 {
        if self.rng.one_in(2) { self.short_ms() } else { self.long_ms() }
    }

    fn seconds(&mut self) -> u64 {
        1 + self.rng.below(2000)
    }

    /// An absolute time in milliseconds: soon, far away or past.
    fn at_ms(&mut self) -> Vec<u8> {
        match self.rng.below(8) {
            0 => format!("{NOW_MS}-{}", self.rng.below(10_000)).word(),
            1 => "1".word(),
            _ => format!("{NOW_MS}{}", self.ms()).word(),
        }
    }

    fn at_seconds(&mut self) -> Vec<u8> {
        match self.rng.below(8) {
            0 => "1".word(),
            1 => format!("{NOW_S}{}", self.rng.below(2)).word(),
            _ => format!("{NOW_S}{}", self.seconds()).word(),
        }
    }

    /// EX, PX, EXAT or PXAT with its time, or nothing.
    fn expiry_option(&mut self, others: &[&str]) -> Words {
        match self.rng.below(7) {
            0 => words!["EX", self.seconds()],
            1 | 2 => words!["PX", self.ms()],
            3 => words!["EXAT", self.at_seconds()],
            4 => words!["pxat", self.at_ms()],
            5 if !others.is_empty() => words![self.pick(others)],
            _ => Vec::new(),
        }
    }

    // Types.

    fn string(&mut self) -> Words {
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
            17 => {
                let kind = self.pick(&["u8", "i5", "u17"]);
                let mut words = words!["BITFIELD", key];
                if self.rng.one_in(2) {
                    // FAIL may leave the string longer (or create it) without changing a bit, and the AOF is not told.
                    let kinds: &[&str] =
                        if self.only_exact_in_aof { &["WRAP", "SAT"] } else { &["WRAP", "SAT", "FAIL"] };
                    words.extend(words!["OVERFLOW", self.pick(kinds)]);
                }
                words.extend(words!["SET", kind, self.rng.below(30), self.rng.below(100)]);
                words.extend(words!["INCRBY", kind, format!("#{}", self.rng.below(4)), self.index()]);
                words
            }
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

    fn list(&mut self) -> Words {
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

    fn blocking_list(&mut self, key: &[u8], to: &[u8], timeout: &str) -> Words {
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

    fn sort(&mut self, key: Vec<u8>) -> Words {
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

    fn set(&mut self) -> Words {
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

    fn sorted_set(&mut self) -> Words {
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
    fn by_name(&mut self) -> Words {
        let key = format!("lex{}", self.rng.below(2));
        match self.rng.below(3) {
            0 => words!["ZREMRANGEBYLEX", key, "[m1", "(m4"],
            _ => words!["ZADD", key, "0", self.member(), "0", self.member()],
        }
    }

    fn blocking_sorted_set(&mut self, key: &[u8], timeout: &str) -> Words {
        let end = self.pick(&["MIN", "MAX"]);
        match self.rng.below(4) {
            0 => words!["BZPOPMIN", key, timeout],
            1 => words!["BZPOPMAX", key, self.key("z"), timeout],
            2 => words!["BZMPOP", timeout, "2", key, self.key("z"), end],
            _ => words!["BZMPOP", timeout, "1", key, end, "COUNT", 1 + self.rng.below(4)],
        }
    }

    fn field(&mut self) -> Vec<u8> {
        if self.rng.one_in(30) { self.value() } else { format!("f{}", self.rng.below(6)).word() }
    }

    /// FIELDS with one to three of them.
    fn field_list(&mut self, with_values: bool) -> Words {
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

    fn hash(&mut self) -> Words {
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

    fn hash_expiry(&mut self, key: Vec<u8>) -> Words {
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

    fn group(&mut self) -> Vec<u8> {
        format!("g{}", self.rng.below(2)).word()
    }

    fn consumer(&mut self) -> Vec<u8> {
        format!("c{}", self.rng.below(3)).word()
    }

    /// An id that XADD was given lately.
    fn old_id(&mut self) -> String {
        let recent = self.ids.len().min(60) as u64;
        self.ids[self.ids.len() - 1 - self.rng.below(recent) as usize].clone()
    }

    fn new_id(&mut self) -> String {
        self.next_id += 1 + self.rng.below(3);
        let id = format!("{}-{}", self.next_id, self.rng.below(3));
        self.ids.push(id.clone());
        id
    }

    fn trimming(&mut self) -> Words {
        let mut words = match self.rng.below(4) {
            0 => words!["MINID", self.old_id()],
            1 => words!["MINID", "~", self.old_id()],
            2 => words!["MAXLEN", "~", self.rng.below(4)],
            _ => words!["MAXLEN", self.rng.below(8)],
        };
        if words.len() == 3 && self.rng.one_in(3) {
            words.extend(words!["LIMIT", self.rng.below(10)]);
        }
        words
    }

    fn stream(&mut self) -> Words {
        let key = if self.rng.one_in(20) { self.key("x") } else { self.pick(&STREAMS).word() };
        let by_clock = CLOCK_STREAMS.iter().any(|name| name.as_bytes() == key);
        let (group, consumer) = (self.group(), self.consumer());
        match self.rng.below(40) {
            0..12 => {
                let mut words = words!["XADD", key];
                if self.rng.one_in(6) {
                    words.push("NOMKSTREAM".word());
                }
                if self.rng.one_in(5) {
                    words.extend(self.trimming());
                }
                let id = self.new_id();
                words.push(match self.rng.below(8) {
                    _ if by_clock => "*".word(),
                    0 => format!("{}-*", self.next_id).word(),
                    1 => self.old_id().word(),
                    _ => id.word(),
                });
                words.extend(words![self.field(), self.value()]);
                words
            }
            12 => {
                let mut words = words!["XTRIM", key];
                words.extend(self.trimming());
                words
            }
            13 | 14 => words!["XDEL", key, self.old_id(), self.old_id()],
            15 => {
                let mut words = words!["XSETID", key, self.new_id()];
                if self.rng.one_in(2) {
                    words.extend(words!["ENTRIESADDED", 100 + self.rng.below(100), "MAXDELETEDID", "3-3"]);
                }
                words
            }
            16..19 => {
                let from = self.pick(&["0", "$", "5-1"]);
                let mut words = words!["XGROUP", "CREATE", key, group, from];
                self.maybe(&mut words, &["MKSTREAM"]);
                if self.rng.one_in(4) {
                    words.extend(words!["ENTRIESREAD", self.rng.below(9)]);
                }
                words
            }
            19 => words!["XGROUP", "SETID", key, group, self.pick(&["0", "$"])],
            20 if self.rng.one_in(2) => words!["XGROUP", "DESTROY", key, group],
            20 | 21 => words!["XGROUP", "CREATECONSUMER", key, group, consumer],
            22 => words!["XGROUP", "DELCONSUMER", key, group, consumer],
            23..29 => {
                let mut words = words!["XREADGROUP", "GROUP", group, consumer];
                if self.rng.one_in(2) {
                    words.extend(words!["COUNT", 1 + self.rng.below(3)]);
                }
                if self.rng.one_in(8) {
                    words.extend(words!["BLOCK", "2"]);
                }
                self.maybe_rarely(&mut words, "NOACK");
                if self.rng.one_in(5) {
                    words.extend(words!["STREAMS", key, self.key("x"), ">", ">"]);
                } else {
                    words.extend(words!["STREAMS", key, self.pick(&[">", ">", ">", "0"])]);
                }
                words
            }
            29..33 => words!["XACK", key, group, self.old_id(), self.old_id(), self.old_id()],
            33..37 => {
                let mut words = words!["XCLAIM", key, group, consumer, "0", self.old_id(), self.old_id()];
                match self.rng.below(6) {
                    0 => words.extend(words!["IDLE", self.rng.below(1000)]),
                    1 => words.extend(words!["TIME", format!("{NOW_MS}-{}", self.rng.below(1000))]),
                    2 => words.extend(words!["RETRYCOUNT", self.rng.below(9)]),
                    3 => words.extend(words!["LASTID", self.old_id()]),
                    _ => {}
                }
                self.maybe(&mut words, &["FORCE"]);
                self.maybe_rarely(&mut words, "JUSTID");
                words
            }
            _ => {
                let mut words = words!["XAUTOCLAIM", key, group, consumer, "0", "0-0"];
                if self.rng.one_in(2) {
                    words.extend(words!["COUNT", 1 + self.rng.below(5)]);
                }
                self.maybe_rarely(&mut words, "JUSTID");
                words
            }
        }
    }

    fn maybe_rarely(&mut self, words: &mut Words, option: &str) {
        if self.rng.one_in(5) {
            words.push(option.word());
        }
    }

    fn geo(&mut self) -> Words {
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

    fn cardinality(&mut self) -> Words {
        let key = self.key("p");
        match self.rng.below(8) {
            0..3 => words!["PFADD", key, self.value(), self.value()],
            3 => words!["PFMERGE", key, self.key("p"), self.key("p")],
            4 => words!["PFCOUNT", key, self.key("p")],
            _ => words!["PFCOUNT", key],
        }
    }

    fn key_command(&mut self) -> Words {
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

    fn expire(&mut self) -> Words {
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

    fn function(&mut self) -> Words {
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
