//! An execution unit in the making, and the batch of units that one frame will hold.

use crate::core::args::Args;
use crate::core::dirty::DbKey;
use crate::core::hash::{Map, Set};
use crate::log::{Lsn, resp};
use std::sync::Arc;

/// The memory of larger units is not kept.
const SPARE_BYTES_MAX: usize = 64 * 1024;
const SPARE_KEYS_MAX: usize = 1024;

/// A place among the commands of a unit.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    bytes: usize,
    count: usize,
    last_db: u32,
}

/// The effects of one execution unit, as log commands.
#[derive(Debug)]
pub struct Unit {
    /// RESP commands, with SELECT between those of different databases.
    commands: Vec<u8>,
    count: usize,
    first_db: u32,
    last_db: u32,
    /// The unit's time, milliseconds since the Unix epoch: what the server counts relative expiry from. `None` where
    /// unknown.
    pub now_ms: Option<i64>,
    /// Keys whose resulting state is to be logged. Every later command of the unit becomes an image too, because it may
    /// build on them.
    images: Set<DbKey>,
    /// Keys whose state is to be logged in every database that has them, because it is unknown which one a command ran
    /// in.
    images_everywhere: Set<Arc<[u8]>>,
    /// The function library is to be logged.
    pub functions: bool,
    /// The function library changed.
    pub functions_changed: bool,
    /// The numbers under which databases that have changed places are noted in `images` and `touched`, by the numbers
    /// that they have now.
    noted: Map<u32, u32>,
    /// Every key that changed.
    touched: Vec<DbKey>,
    /// Databases all of whose keys changed; `None` for all databases.
    pub emptied: Vec<Option<u32>>,
    /// Events so far.
    pub events: usize,
    /// How many of them are evictions.
    pub evictions: usize,
}

/// See [`Unit::without_effect`].
const NOBODYS_KEY: &[u8] = b"wbl:nobody:8c1f6a4e27d95b03";

impl Unit {
    /// An empty unit at this time.
    pub fn new(now_ms: i64) -> Unit {
        Unit::at(Some(now_ms))
    }

    /// One that takes a position and changes nothing: the deletion of a key that nobody has.
    pub fn without_effect() -> Unit {
        let mut unit = Unit::at(None);
        unit.command(0, &[b"DEL", NOBODYS_KEY]);
        unit
    }

    /// The same where the time may not be known.
    pub fn at(now_ms: Option<i64>) -> Unit {
        Unit {
            commands: Vec::new(),
            count: 0,
            first_db: 0,
            last_db: 0,
            now_ms,
            images: Set::default(),
            images_everywhere: Set::default(),
            functions: false,
            functions_changed: false,
            noted: Map::default(),
            touched: Vec::new(),
            emptied: Vec::new(),
            events: 0,
            evictions: 0,
        }
    }

    /// The same without what it holds, to be used again; `None` where it is not the common case of a few commands.
    pub fn cleared(mut self) -> Option<Unit> {
        let is_small = self.commands.capacity() <= SPARE_BYTES_MAX && self.touched.capacity() <= SPARE_KEYS_MAX;
        let is_common = !self.has_images()
            && !self.functions
            && !self.functions_changed
            && self.noted.is_empty()
            && self.emptied.is_empty();
        self.commands.clear();
        self.touched.clear();
        (self.count, self.first_db, self.last_db, self.events, self.evictions) = (0, 0, 0, 0, 0);
        (is_small && is_common).then_some(self)
    }

    /// Begins a unit in the memory of an emptied one.
    pub fn begin(self, now_ms: Option<i64>) -> Unit {
        Unit { now_ms, ..self }
    }

    /// Adds a command in a database.
    pub fn command(&mut self, db: u32, args: &[&[u8]]) {
        self.begin_command(db);
        resp::push_command(&mut self.commands, args);
    }

    /// Adds a command as it was sent.
    pub fn command_as_sent(&mut self, db: u32, args: &Args) {
        self.begin_command(db);
        resp::push_args(&mut self.commands, args.len(), args.total_bytes(), args.iter());
    }

    fn begin_command(&mut self, db: u32) {
        if self.count == 0 {
            self.first_db = db;
        } else if self.last_db != db {
            push_select(&mut self.commands, db);
        }
        self.last_db = db;
        self.count += 1;
    }

    /// The end of the commands so far.
    pub fn place(&self) -> Place {
        Place { bytes: self.commands.len(), count: self.count, last_db: self.last_db }
    }

    /// Takes back the commands that were added since.
    pub fn return_to(&mut self, place: Place) {
        self.commands.truncate(place.bytes);
        (self.count, self.last_db) = (place.count, place.last_db);
    }

    /// Has the key's resulting state logged at the end of the unit.
    pub fn image(&mut self, (db, key): DbKey) {
        self.images.insert((self.noted_db(db), key));
    }

    /// Has the key's state logged in every database that has it.
    pub fn image_everywhere(&mut self, key: Arc<[u8]>) {
        self.images_everywhere.insert(key);
    }

    /// Whether images are pending.
    pub fn has_images(&self) -> bool {
        !self.images.is_empty() || !self.images_everywhere.is_empty()
    }

    /// Takes out the keys whose images are to be added for every database that has them.
    pub fn take_images_everywhere(&mut self) -> Vec<Arc<[u8]>> {
        self.images_everywhere.drain().collect()
    }

    /// Takes out the keys whose images are to be added with [`Unit::command`].
    pub fn take_images(&mut self) -> Set<DbKey> {
        let images = std::mem::take(&mut self.images);
        if self.noted.is_empty() { images } else { self.renumbered(images.iter()).collect() }
    }

    /// Two databases changed places: what was noted of one belongs to the other now. The notes stay as they are,
    /// because going through them at each swap would cost the square of what a script does.
    pub fn swap_databases(&mut self, first: u32, second: u32) {
        let (one, other) = (self.noted_db(first), self.noted_db(second));
        self.noted.extend([(first, other), (second, one)]);
    }

    /// The number under which the database is noted that has this one now.
    fn noted_db(&self, db: u32) -> u32 {
        self.noted.get(&db).copied().unwrap_or(db)
    }

    /// Notes with the numbers that their databases have now.
    fn renumbered<'a>(&self, notes: impl Iterator<Item = &'a DbKey>) -> impl Iterator<Item = DbKey> {
        let now: Map<u32, u32> = self.noted.iter().map(|(db, noted)| (*noted, *db)).collect();
        notes.map(move |(noted, key)| (now.get(noted).copied().unwrap_or(*noted), key.clone()))
    }

    /// Notes that the key changed.
    pub fn touch(&mut self, (db, key): DbKey) {
        self.touched.push((self.noted_db(db), key));
    }

    /// The names of the keys that changed, whatever their databases.
    pub fn touched_names(&self) -> impl Iterator<Item = &[u8]> {
        self.touched.iter().map(|(_, key)| &**key)
    }

    /// Every key that changed.
    pub fn touched(&self) -> impl Iterator<Item = DbKey> {
        self.renumbered(self.touched.iter())
    }

    /// Has the resulting state of every key that changed logged.
    pub fn image_touched(&mut self) {
        self.images.extend(self.touched.iter().cloned());
    }

    /// Whether all that has happened is that the server made room, as it does before it runs a command.
    pub fn has_only_evictions(&self) -> bool {
        // What a command did without keyspace events (FLUSHALL, XACK) is logged by now.
        self.events > 0 && self.events == self.evictions && self.count <= self.evictions
    }

    /// The commands, with their databases.
    pub fn commands(&self) -> Vec<(u32, Vec<Vec<u8>>)> {
        let mut db = self.first_db;
        let mut commands = Vec::new();
        for command in resp::Commands::new(&self.commands).map_while(Result::ok) {
            match command.args.as_slice() {
                [b"SELECT", selected] => {
                    db = str::from_utf8(selected).ok().and_then(|db| db.parse().ok()).unwrap_or(db)
                }
                args => commands.push((db, args.iter().map(|arg| arg.to_vec()).collect())),
            }
        }
        commands
    }

    /// Whether there is nothing to log.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

fn push_select(out: &mut Vec<u8>, db: u32) {
    resp::push_command(out, &[b"SELECT", db.to_string().as_bytes()]);
}

/// Whole units, in order, that the next frame will hold.
#[derive(Debug)]
pub struct Batch {
    payload: Vec<u8>,
    appended: Lsn,
    /// The database that a reader has selected after the last unit; `None` when unknown (a log continued after a
    /// restart).
    reader_db: Option<u32>,
    /// The first unit of a frame does not rely on the frame before it, unless both are in database 0, which every
    /// segment begins with.
    at_frame_start: bool,
}

impl Batch {
    /// An empty batch at this position.
    pub fn new(appended: Lsn) -> Batch {
        Batch { payload: Vec::new(), appended, reader_db: None, at_frame_start: true }
    }

    /// Adds a unit; returns the position after it. A unit of several commands is put between MULTI and EXEC.
    pub fn push(&mut self, unit: &Unit) -> Lsn {
        if unit.is_empty() {
            return self.appended;
        }
        let before = self.payload.len();
        let transaction = unit.count > 1;
        self.begin_unit(unit.first_db, transaction);
        self.payload.extend_from_slice(&unit.commands);
        if transaction {
            resp::push_command(&mut self.payload, &[b"EXEC"]);
        }
        self.end_unit(unit.last_db, before)
    }

    fn begin_unit(&mut self, db: u32, transaction: bool) {
        let db_known = self.reader_db == Some(db) && (!self.at_frame_start || db == 0);
        if transaction {
            resp::push_command(&mut self.payload, &[b"MULTI"]);
        }
        if !db_known {
            push_select(&mut self.payload, db);
        }
    }

    /// Returns the position after the unit, which began after this many bytes.
    fn end_unit(&mut self, db: u32, began: usize) -> Lsn {
        self.reader_db = Some(db);
        self.at_frame_start = false;
        self.appended = self.appended.advance((self.payload.len() - began) as u64);
        self.appended
    }

    /// Adds a unit of a single command as it was sent; returns the position after it.
    pub fn push_command(&mut self, db: u32, args: &Args) -> Lsn {
        let before = self.payload.len();
        self.begin_unit(db, false);
        resp::push_args(&mut self.payload, args.len(), args.total_bytes(), args.iter());
        self.end_unit(db, before)
    }

    /// The position after the last unit.
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// Bytes that wait for their frame.
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Whether no unit waits.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// Takes the payload of the next frame out; `spare` is a buffer to go on with.
    pub fn take(&mut self, mut spare: Vec<u8>) -> Vec<u8> {
        spare.clear();
        self.at_frame_start = true;
        std::mem::replace(&mut self.payload, spare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(commands: &[(u32, &[&[u8]])]) -> Unit {
        let mut unit = Unit::new(0);
        for (db, args) in commands {
            unit.command(*db, args);
        }
        unit
    }

    fn text(batch: &mut Batch) -> String {
        let payload = batch.take(Vec::new());
        let mut words = Vec::new();
        let mut commands = resp::Commands::new(&payload);
        let mut args = Vec::new();
        while commands.next_into(&mut args).expect("valid") {
            words.push(args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect::<Vec<_>>().join(" "));
        }
        words.join("; ")
    }

    #[test]
    fn units_of_several_commands_are_transactions() {
        let mut batch = Batch::new(Lsn::new(7));
        batch.push(&unit(&[(0, &[b"SET", b"a", b"1"])]));
        let end = batch.push(&unit(&[(0, &[b"SET", b"a", b"2"]), (3, &[b"DEL", b"b"])]));
        assert_eq!(end, Lsn::new(7).advance(batch.len() as u64));
        assert_eq!(text(&mut batch), "SELECT 0; SET a 1; MULTI; SET a 2; SELECT 3; DEL b; EXEC");
    }

    #[test]
    fn a_frame_relies_on_the_one_before_it_only_in_database_0() {
        let mut batch = Batch::new(Lsn::ZERO);
        batch.push(&unit(&[(0, &[b"DEL", b"a"])]));
        assert_eq!(text(&mut batch), "SELECT 0; DEL a");
        batch.push(&unit(&[(0, &[b"DEL", b"b"])]));
        batch.push(&unit(&[(2, &[b"DEL", b"c"])]));
        assert_eq!(text(&mut batch), "DEL b; SELECT 2; DEL c");
        batch.push(&unit(&[(2, &[b"DEL", b"d"])]));
        assert_eq!(text(&mut batch), "SELECT 2; DEL d");
        batch.push(&unit(&[(0, &[b"DEL", b"e"])]));
        assert_eq!(text(&mut batch), "SELECT 0; DEL e");
    }

    #[test]
    fn an_empty_unit_takes_no_place() {
        let mut batch = Batch::new(Lsn::new(9));
        assert_eq!(batch.push(&Unit::new(0)), Lsn::new(9));
        assert!(batch.is_empty());
    }
}
