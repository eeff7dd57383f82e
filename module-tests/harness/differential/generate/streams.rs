//! Streams and their groups.

use super::*;

impl Generator {
    pub(super) fn group(&mut self) -> Vec<u8> {
        format!("g{}", self.rng.below(2)).word()
    }

    pub(super) fn consumer(&mut self) -> Vec<u8> {
        format!("c{}", self.rng.below(3)).word()
    }

    /// An id that XADD was given lately.
    pub(super) fn old_id(&mut self) -> String {
        let recent = self.ids.len().min(60) as u64;
        self.ids[self.ids.len() - 1 - self.rng.below(recent) as usize].clone()
    }

    pub(super) fn new_id(&mut self) -> String {
        self.next_id += 1 + self.rng.below(3);
        let id = format!("{}-{}", self.next_id, self.rng.below(3));
        self.ids.push(id.clone());
        id
    }

    pub(super) fn trimming(&mut self) -> Words {
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

    pub(super) fn stream(&mut self) -> Words {
        let key = if self.rng.one_in(20) { self.key("x") } else { self.pick(&STREAMS).word() };
        let (group, consumer) = (self.group(), self.consumer());
        match self.rng.below(40) {
            0..12 => self.add_entry(key),
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
            23..29 => self.read_group(key, group, consumer),
            29..33 => words!["XACK", key, group, self.old_id(), self.old_id(), self.old_id()],
            33..37 => self.claim(key, group, consumer),
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

    /// XADD.
    fn add_entry(&mut self, key: Vec<u8>) -> Words {
        let by_clock = CLOCK_STREAMS.iter().any(|name| name.as_bytes() == key);
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

    /// XREADGROUP.
    fn read_group(&mut self, key: Vec<u8>, group: Vec<u8>, consumer: Vec<u8>) -> Words {
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

    /// XCLAIM.
    fn claim(&mut self, key: Vec<u8>, group: Vec<u8>, consumer: Vec<u8>) -> Words {
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
}
