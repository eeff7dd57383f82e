//! What is really so: which unit changed which key last, what of it is durable on the disk, and what each client must
//! get. None of it is asked from the module.

use crate::commands::{self, Env};
use crate::data::{Bytes, DATABASES, Data, Entry, Place};
use crate::resp::Resp;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use valkey_wbl::log::sim::SimDisk;

/// Units are numbered from 1; 0 is what was there before.
pub type UnitNumber = u64;

/// Bytes that a client must get.
#[derive(Debug)]
pub enum Expected {
    /// Just these, when the unit is durable.
    Bytes(VecDeque<u8>, UnitNumber),
    /// Any of these, when its unit is durable.
    OneOf(Vec<(Vec<u8>, UnitNumber)>),
    /// Any one reply.
    Any(UnitNumber),
}

#[derive(Default)]
pub struct Truth {
    /// The dataset's digest at the start, and after each unit.
    digests: Vec<u64>,
    /// Which units are of keys that the server removed by itself: the module may log them with what follows.
    by_server: Vec<bool>,
    versions: HashMap<Place, UnitNumber>,
    /// What each key held after the units that changed it.
    past: HashMap<Place, Vec<(UnitNumber, Option<Entry>)>>,
    database_versions: [UnitNumber; DATABASES],
    /// Keys that went as their time was over, in the open unit.
    expired: BTreeSet<Place>,
    /// The units up to which what is durable may have led: the dataset may have been the same after several.
    led_to: BTreeSet<UnitNumber>,
    /// The newest unit that somebody was shown.
    pub shown: UnitNumber,
    /// The newest unit that may be durable as the module knows it, while WBL.DEBUG PAUSE is on.
    frozen: Option<UnitNumber>,
    follower: Follower,
    /// For messages: what each unit changed.
    pub history: VecDeque<(UnitNumber, String)>,
}

impl Truth {
    /// This is the dataset now, and what the disk holds of the log has led to it.
    pub fn begin(&mut self, data: &mut Data, disk: &SimDisk) {
        data.take_changed();
        *self = Truth { digests: vec![data.digest()], by_server: vec![false], led_to: [0].into(), ..Truth::default() };
        for db in 0..DATABASES {
            let entries = data.keys(db).map(|(key, entry)| ((db, key.clone()), vec![(0, Some(entry.clone()))]));
            self.past.extend(entries);
        }
        self.follower.data = data.clone();
        for name in disk.names() {
            let Some(bytes) = disk.contents(&name) else { continue };
            // Only one without frames gets any more.
            self.follower.read.insert(name, (bytes.len(), first_of(&bytes).unwrap_or(0)));
        }
    }

    /// The number that the open unit will have.
    pub fn open(&self) -> UnitNumber {
        self.digests.len() as u64
    }

    pub fn units(&self) -> UnitNumber {
        self.digests.len() as u64 - 1
    }

    /// The newest unit that may be durable.
    pub fn durable(&self) -> UnitNumber {
        let durable = self.led_to.last().copied().unwrap_or(0);
        self.frozen.map_or(durable, |frozen| durable.min(frozen))
    }

    /// WBL.DEBUG PAUSE: from here on nothing more counts as durable; or RESUME.
    pub fn freeze(&mut self, freezes: bool, disk: &SimDisk) -> Result<(), String> {
        if !freezes {
            self.frozen = None;
        } else if self.frozen.is_none() {
            self.follow(disk)?;
            self.frozen = Some(self.durable());
        }
        Ok(())
    }

    /// Whether WBL.DEBUG PAUSE is on.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// The newest unit that is durable for sure.
    pub fn surely_durable(&self) -> UnitNumber {
        self.led_to.first().copied().unwrap_or(0)
    }

    pub fn version(&self, db: usize, key: &[u8]) -> UnitNumber {
        self.versions.get(&(db, key.to_vec())).copied().unwrap_or(0)
    }

    /// What the key held after a unit, and the unit that had changed it last.
    pub fn past(&self, unit: UnitNumber, db: usize, key: &[u8]) -> (UnitNumber, Option<Entry>) {
        let all = self.past.get(&(db, key.to_vec()));
        let last = all.and_then(|all| all.iter().rev().find(|(number, _)| *number <= unit));
        last.cloned().unwrap_or((0, None))
    }

    pub fn database_version(&self, db: usize) -> UnitNumber {
        self.database_versions[db]
    }

    pub fn note_expired(&mut self, db: usize, key: &[u8]) {
        self.expired.insert((db, key.to_vec()));
    }

    /// Ends the open unit, if it has changed anything; returns its number if that was more than keys that expired.
    pub fn close_unit(&mut self, data: &mut Data, by_server: bool) -> Option<UnitNumber> {
        let changed = data.take_changed();
        let expired = std::mem::take(&mut self.expired);
        if changed.is_empty() {
            return None;
        }
        let number = self.open();
        self.digests.push(data.digest());
        let shown: Vec<String> = changed.iter().map(|(db, key)| format!("{db}:{}", key.escape_ascii())).collect();
        self.history.push_back((number, shown.join(" ")));
        if self.history.len() > 60 {
            self.history.pop_front();
        }
        let mut real = false;
        for (db, key) in changed {
            self.past.entry((db, key.clone())).or_default().push((number, data.get(db, &key).cloned()));
            if expired.contains(&(db, key.clone())) && data.get(db, &key).is_none() {
                continue;
            }
            real = true;
            self.database_versions[db] = number;
            self.versions.insert((db, key), number);
        }
        // So it is with keys that expire as the module asks for them.
        self.by_server.push(by_server || !real);
        real.then_some(number)
    }

    /// Follows what is durable on the disk. Whatever the log says must be what has happened.
    pub fn follow(&mut self, disk: &SimDisk) -> Result<(), String> {
        for digest in self.follower.follow(disk)? {
            let next: BTreeSet<UnitNumber> = self.led_to.iter().flat_map(|from| self.next(*from, digest)).collect();
            if next.is_empty() {
                return Err(format!(
                    "the durable log holds what has never been: after unit {:?} of {}, last command {}\nlog:\n{}",
                    self.led_to,
                    self.units(),
                    self.follower.last,
                    self.follower.data.show()
                ));
            }
            self.led_to = next;
        }
        Ok(())
    }

    /// The units up to which a unit of the log may have led that left this digest, after the unit `from`: it has at
    /// most one command, with what the server removed before it, or when it was asked at the unit's end what a key
    /// holds.
    fn next(&self, from: UnitNumber, digest: u64) -> Vec<UnitNumber> {
        let later = from as usize + 1..self.digests.len();
        let after_second = later.filter(|unit| !self.by_server[*unit]).nth(1).unwrap_or(self.digests.len());
        (from as usize..after_second).filter(|unit| self.digests[*unit] == digest).map(|unit| unit as u64).collect()
    }

    /// The last unit, from `from` on, after which the dataset was this.
    pub fn find(&self, from: UnitNumber, digest: u64) -> Option<UnitNumber> {
        let mut later = self.digests.iter().skip(from as usize);
        later.rposition(|candidate| *candidate == digest).map(|at| at as u64 + from)
    }
}

/// Reads the durable bytes of the log's segments as they come, and does what they say.
#[derive(Default)]
struct Follower {
    data: Data,
    db: usize,
    /// How far each segment was read, and the position there.
    read: BTreeMap<String, (usize, u64)>,
    /// The position after the last command. After an error a segment begins before the end of the one before it.
    position: Option<u64>,
    last: String,
}

/// A digit of the numbers in frames.
fn digit(byte: u8) -> Option<usize> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    DIGITS.iter().position(|digit| *digit == byte)
}

/// The salt of a segment, where its header is there.
fn salt_of(segment: &[u8]) -> Option<u64> {
    field_of(segment, 4)
}

/// The position that a segment begins with.
fn first_of(segment: &[u8]) -> Option<u64> {
    field_of(segment, 3)
}

fn field_of(segment: &[u8], field: usize) -> Option<u64> {
    let header = segment.split(|byte| *byte == b'\n').next()?;
    u64::from_str_radix(std::str::from_utf8(header).ok()?.split(' ').nth(field)?, 16).ok()
}

impl Follower {
    /// The digests after the units that have become durable.
    fn follow(&mut self, disk: &SimDisk) -> Result<Vec<u64>, String> {
        let mut digests = Vec::new();
        let mut names: Vec<(u64, String)> = disk
            .names()
            .into_iter()
            .filter_map(|name| {
                let number = name.strip_suffix(".incr.aof")?.rsplit('.').next()?.parse().ok()?;
                Some((number, name))
            })
            .collect();
        names.sort();
        for (_, name) in names {
            let (read, at) = self.read.get(&name).copied().unwrap_or((0, 0));
            let Some(new) = disk.durable_from(&name, read) else { continue };
            if new.is_empty() {
                continue;
            }
            let whole = disk.durable_from(&name, 0).unwrap_or_default();
            let (Some(salt), Some(first)) = (salt_of(&whole), first_of(&whole)) else { continue };
            let mut at = if read == 0 { first } else { at };
            let used = self.read_bytes(&new, read, salt, &mut at, &mut digests)?;
            self.read.insert(name, (read + used, at));
        }
        Ok(digests)
    }

    /// Does what the frames say that are whole; `offset` is where the bytes begin in their segment, `position` which
    /// one they have.
    fn read_bytes(
        &mut self,
        bytes: &[u8],
        offset: usize,
        salt: u64,
        position: &mut u64,
        digests: &mut Vec<u64>,
    ) -> Result<usize, String> {
        let mut at = 0;
        if offset == 0 {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(0) };
            at = end + 1;
            self.db = 0;
        }
        loop {
            let rest = &bytes[at..];
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(at) };
            if rest.starts_with(b"#TS:") {
                at += end + 1;
                continue;
            }
            if rest[0] != b'#' {
                // Unused space.
                return Ok(at);
            }
            let number =
                |digits: &[u8]| digits.iter().map_while(|byte| digit(*byte)).fold(0, |sum, digit| sum * 64 + digit);
            let (Some(crc), Some(length)) = (rest.get(5..11).map(number), rest.get(11..end).map(number)) else {
                return Ok(at);
            };
            let payload_end = offset + at + end + 1 + length;
            let padding = rest[..end].iter().position(|byte| *byte == b'+').map_or(0, |plus| {
                let block = 1 << number(&rest[plus + 1..end]);
                let padding = payload_end.next_multiple_of(block) - payload_end;
                if padding == 1 { 1 + block } else { padding }
            });
            let padded = end + 1..end + 1 + length + padding;
            let (Some(payload), used) = (rest.get(padded.clone()), padded.end) else { return Ok(at) };
            let place = [salt.to_le_bytes(), ((offset + at) as u64).to_le_bytes()].concat();
            if crc32c::crc32c_append(crc32c::crc32c(&place), payload) as usize != crc {
                // A part of it is durable; the rest is what was there before.
                return Ok(at);
            }
            self.apply(&payload[..length], *position, digests)?;
            *position += length as u64;
            at += used;
        }
    }

    fn apply(&mut self, payload: &[u8], start: u64, digests: &mut Vec<u64>) -> Result<(), String> {
        let (mut rest, mut in_unit) = (payload, false);
        let mut done = *self.position.get_or_insert(start);
        while !rest.is_empty() {
            let (value, used) = Resp::parse(rest).ok_or("a frame holds no command")?;
            rest = &rest[used..];
            let end = start + (payload.len() - rest.len()) as u64;
            let is_done = end <= done;
            done = done.max(end);
            self.position = Some(done);
            let Resp::Array(items) = value else { return Err("a frame holds no command".into()) };
            let argv: Vec<Bytes> =
                items.into_iter().map(|item| if let Resp::Bulk(bytes) = item { bytes } else { Vec::new() }).collect();
            self.last = argv.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
            if is_done && !argv[0].eq_ignore_ascii_case(b"select") {
                continue;
            }
            match argv[0].to_ascii_lowercase().as_slice() {
                b"multi" => in_unit = true,
                b"exec" => in_unit = false,
                _ => {
                    let env = Follow { data: RefCell::new(std::mem::take(&mut self.data)), db: Cell::new(self.db) };
                    let known = commands::run(&env, &argv);
                    self.db = env.db.get();
                    self.data = env.data.into_inner();
                    if !known {
                        return Err(format!("the log holds an unknown command: {}", self.last));
                    }
                }
            }
            crate::server::server().note(|| format!("    durable: {}", self.last));
            if !in_unit && !argv[0].eq_ignore_ascii_case(b"select") {
                self.data.take_changed();
                digests.push(self.data.digest());
            }
        }
        Ok(())
    }
}

/// Runs the log's commands: nothing expires, nobody listens.
struct Follow {
    data: RefCell<Data>,
    db: Cell<usize>,
}

impl Env for Follow {
    fn db(&self) -> usize {
        self.db.get()
    }
    fn set_db(&self, db: usize) {
        self.db.set(db);
    }
    fn now_ms(&self) -> i64 {
        0
    }
    fn with<T>(&self, work: impl FnOnce(&mut Data) -> T) -> T {
        work(&mut self.data.borrow_mut())
    }
    fn reply(&self, _: &[u8]) {}
    fn random(&self, _: usize) -> usize {
        0
    }
    fn block(&self, _: Vec<Bytes>, _: i64) -> bool {
        false
    }
}
