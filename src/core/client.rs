//! What is known of each connected client: one record, made when it connects and dropped when it goes.

use crate::core::dirty::{DbKey, DirtyKeys};
use crate::core::hash::Set;
use crate::core::input::Input;
use crate::core::leaf::ClientId;
use crate::core::output::{ReplySize, Room};
use crate::core::pipelining::{Loop, Pipelining};
use crate::core::reads::ReadSet;
use crate::core::row::Quirks;
use crate::log::Lsn;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// More keys of one client are not kept: its EXEC waits for every change then.
const WATCHED_KEYS_MAX: usize = 1024;

/// A client's record.
#[derive(Debug, Default)]
pub struct Client {
    /// Another module has blocked it once: the server gives its id to that module's own clients, too, in which its
    /// threads run commands, and never takes it back. What executes under such an id may have no connection.
    pub shares_id: bool,
    /// Its next command has an ASKING before it.
    pub asking: bool,
    /// It has sent SCRIPT DEBUG.
    pub debugs_scripts: bool,
    /// It tracks keys, or may: it has sent CLIENT TRACKING, or did before that was seen.
    pub may_track: bool,
    /// It is subscribed, or may be: it has sent a SUBSCRIBE, or did before that was seen.
    pub may_be_subscribed: bool,
    /// What the commands that it has queued do besides.
    pub queued_quirks: Quirks,
    /// It has sent CLIENT REPLY.
    pub mutes: bool,
    /// What it has sent, if it is looked at.
    pub input: Option<Box<Input>>,
    /// Up to this position the server runs what it has sent.
    pub left_until: Option<u64>,
    /// The database that it has selected, if that was asked for since it could last have changed.
    pub db: Option<u32>,
    /// How many times in a row it has sent a single command.
    pub singles: u32,
    /// It has queued commands since a MULTI, before they were seen.
    pub has_unseen_queue: bool,
    /// What it has queued and what it watches.
    pub transaction: Transaction,
    pipelining: Pipelining,
    /// The iteration in which it was counted last.
    counted: u64,
    /// What its socket surely takes.
    room: Room,
}

impl Client {
    /// It queues nothing, or begins to.
    pub fn drop_queue(&mut self) {
        self.transaction.queued = ReadSet::default();
        self.queued_quirks = Quirks::default();
        self.has_unseen_queue = false;
    }
}

/// What a client watches.
#[derive(Debug, Default)]
enum Watched {
    #[default]
    Nothing,
    Keys(Set<DbKey>),
    /// Not known, or too much to be kept.
    Anything,
}

/// What a client has queued since MULTI and what it watches.
#[derive(Debug, Default)]
pub struct Transaction {
    /// What the queued commands show.
    pub queued: ReadSet,
    watched: Watched,
}

impl Transaction {
    /// The client watches a key.
    pub fn watch(&mut self, key: DbKey) {
        match &mut self.watched {
            Watched::Nothing => self.watched = Watched::Keys(Set::from_iter([key])),
            Watched::Keys(keys) => {
                keys.insert(key);
                if keys.len() > WATCHED_KEYS_MAX {
                    self.watched = Watched::Anything;
                }
            }
            Watched::Anything => {}
        }
    }

    /// The client watches keys that are not known.
    pub fn watch_anything(&mut self) {
        self.watched = Watched::Anything;
    }

    /// Whether the client may watch anything.
    pub fn may_watch(&self) -> bool {
        !matches!(self.watched, Watched::Nothing)
    }

    /// The client watches nothing any more.
    pub fn unwatch(&mut self) {
        self.watched = Watched::Nothing;
    }

    /// How many keys are kept of what it has queued and watches.
    fn key_count(&self) -> usize {
        let watched = if let Watched::Keys(keys) = &self.watched { keys.len() } else { 0 };
        watched + self.queued.key_count()
    }

    /// What a single command shows.
    pub fn of_one(shows: ReadSet) -> Transaction {
        Transaction { queued: shows, watched: Watched::Nothing }
    }

    /// The newest change that its reply can show.
    pub fn newest_change(&self, db: u32, dirty: &DirtyKeys) -> Option<Lsn> {
        self.newest_watched(dirty).max(self.queued.newest_change(db, dirty))
    }

    /// The newest change of what the client watches.
    pub fn newest_watched(&self, dirty: &DirtyKeys) -> Option<Lsn> {
        match &self.watched {
            Watched::Nothing => None,
            Watched::Keys(keys) => keys.iter().filter_map(|(db, key)| dirty.key(*db, key)).max(),
            Watched::Anything => dirty.any_change(),
        }
    }
}

/// Hashes ids, which the server counts.
#[derive(Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, id: u64) {
        // Fibonacci hashing: the map looks at the highest bits, too.
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The connected clients. Main thread only.
#[derive(Debug, Default)]
pub struct Clients {
    records: HashMap<ClientId, Client, BuildHasherDefault<IdHasher>>,
    /// How many may track keys.
    trackers: usize,
    event_loop: Loop,
    /// How often the server has sent replies.
    sendings: u64,
    /// Clients that another module has blocked, and may have answered since.
    blocked_by_modules: Vec<ClientId>,
}

impl Clients {
    /// A client has connected, or is found to be.
    pub fn insert(&mut self, client: ClientId) -> &mut Client {
        self.records.entry(client).or_default()
    }

    /// A client has gone.
    pub fn remove(&mut self, client: ClientId) {
        let record = self.records.remove(&client);
        self.trackers -= usize::from(record.is_some_and(|record| record.may_track));
    }

    /// How many clients there are, and how many keys are kept of what they have queued and watch.
    pub fn extent(&self) -> (usize, usize) {
        (self.records.len(), self.records.values().map(|client| client.transaction.key_count()).sum())
    }

    /// What the clients may have queued was not seen.
    pub fn all_have_unseen_queues(&mut self) {
        self.records.values_mut().for_each(|client| client.has_unseen_queue = true);
    }

    /// Logging begins: only what the server is asked about then counts of what it did before.
    pub fn forget(&mut self) {
        self.records.values_mut().for_each(|client| {
            *client = Client { shares_id: client.shares_id, room: Room::unknown(), ..Client::default() };
        });
        *self = Clients { records: std::mem::take(&mut self.records), ..Clients::default() };
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = ClientId> {
        self.records.keys().copied()
    }

    /// Whether it is a connected client; others are scripts' and modules' own.
    pub fn contains(&self, client: ClientId) -> bool {
        self.records.contains_key(&client)
    }

    /// Whether it is a connected client whose id the server gives to others, too.
    pub fn shares_id(&self, client: ClientId) -> bool {
        self.records.get(&client).is_some_and(|client| client.shares_id)
    }

    /// Another module has blocked the client.
    pub fn blocked_by_module(&mut self, client: ClientId) {
        if !self.is_blocked_by_module(client) {
            self.blocked_by_modules.push(client);
        }
    }

    /// Whether another module has, and was not seen to have answered.
    pub fn is_blocked_by_module(&self, client: ClientId) -> bool {
        self.blocked_by_modules.contains(&client)
    }

    /// One of those.
    pub fn any_blocked_by_module(&self) -> Option<ClientId> {
        self.blocked_by_modules.first().copied()
    }

    /// Takes out all of those.
    pub fn take_blocked_by_modules(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.blocked_by_modules)
    }

    /// A client's record.
    pub fn get(&self, client: ClientId) -> Option<&Client> {
        self.records.get(&client)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, client: ClientId) -> Option<&mut Client> {
        self.records.get_mut(&client)
    }

    /// What a client has sent, which is looked at.
    pub fn input(&mut self, client: ClientId) -> Option<&mut Input> {
        self.records.get_mut(&client).map(|record| &mut **record.input.get_or_insert_default())
    }

    /// Whether a client may track keys from now on.
    pub fn may_track(&mut self, client: ClientId, may: bool) {
        if let Some(record) = self.records.get_mut(&client) {
            self.trackers -= usize::from(std::mem::replace(&mut record.may_track, may));
            self.trackers += usize::from(may);
        }
    }

    /// Whether any client may track keys.
    pub fn any_may_track(&self) -> bool {
        self.trackers > 0
    }

    /// A client writes: whether it sends commands without waiting for replies.
    pub fn is_pipelining(&mut self, client: ClientId) -> bool {
        self.records.get_mut(&client).is_some_and(|record| record.pipelining.writes(&self.event_loop))
    }

    /// A client's write waits: whether that is its first one in this iteration.
    pub fn counts(&mut self, client: ClientId) -> bool {
        let now = self.event_loop.number();
        self.records.get_mut(&client).is_some_and(|record| std::mem::replace(&mut record.counted, now) != now)
    }

    /// A client sends a command, which has a reply.
    pub fn replies(&mut self, client: ClientId, size: ReplySize) {
        if let Some(record) = self.records.get_mut(&client) {
            record.room.reply(size, self.sendings);
        }
    }

    /// Whether the client's socket has surely taken all that was sent to it, which is of use to know.
    pub fn has_room(&mut self, client: ClientId) -> bool {
        self.records.get_mut(&client).is_some_and(|record| {
            let has_room = record.room.is_sure();
            if has_room {
                record.room.is_of_use();
            }
            has_room
        })
    }

    /// A client sends a GET: whether it is worth a look at the value that it will show.
    pub fn looks_at_get(&mut self, client: ClientId) -> bool {
        self.records.get_mut(&client).is_some_and(|record| record.room.looks_at_get())
    }

    /// It would be of use to know how much the client's socket takes: whether that could be noted now.
    pub fn can_note_room(&mut self, client: ClientId) -> bool {
        self.records.get_mut(&client).is_some_and(|record| {
            record.room.is_of_use();
            record.room.can_be_noted(self.sendings)
        })
    }

    /// The client's socket is empty and takes so much, and replies of so many bytes wait for it.
    pub fn note_room(&mut self, client: ClientId, socket_bytes: usize, reply_bytes: usize) {
        if let Some(record) = self.records.get_mut(&client) {
            record.room = Room::of(socket_bytes, reply_bytes, self.sendings).after(record.room, self.sendings);
        }
    }

    /// The server sends replies, at the end of an iteration or as it yields.
    pub fn are_sent(&mut self) {
        self.sendings += 1;
    }

    /// A client's reply is held for this position.
    pub fn held(&mut self, client: ClientId, lsn: Lsn) {
        if let Some(record) = self.records.get_mut(&client) {
            record.pipelining.held(lsn);
        }
    }

    /// At the end of the iteration a script of the client's has run, which waits for its answer.
    pub fn answered(&mut self, client: ClientId) {
        if let Some(record) = self.records.get_mut(&client) {
            record.pipelining.answered(&self.event_loop);
        }
    }

    /// An iteration of the event loop ends, with this position durable; what was released by now is sent.
    pub fn iteration_ended(&mut self, durable: Lsn) {
        self.event_loop.ended(durable);
        self.are_sent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn clients() -> Clients {
        let mut clients = Clients::default();
        for client in 1..=5 {
            clients.insert(client);
        }
        clients
    }

    fn key(db: u32, name: &str) -> DbKey {
        (db, Arc::from(name.as_bytes()))
    }

    #[test]
    fn a_transaction_shows_what_it_reads_and_what_it_watched() {
        let mut dirty = DirtyKeys::default();
        dirty.mark(key(0, "a"), Lsn::new(3));
        dirty.mark(key(1, "b"), Lsn::new(7));
        let mut transaction = Transaction::default();
        transaction.queued.key(b"a");
        assert_eq!(transaction.newest_change(0, &dirty), Some(Lsn::new(3)));
        assert_eq!(transaction.newest_change(1, &dirty), None);
        transaction.watch(key(1, "b"));
        assert_eq!(transaction.newest_change(1, &dirty), Some(Lsn::new(7)));
        transaction = Transaction::default();
        (0..=WATCHED_KEYS_MAX).for_each(|number| transaction.watch(key(5, &number.to_string())));
        assert_eq!(transaction.newest_change(0, &dirty), Some(Lsn::new(7)));
        transaction = Transaction::default();
        transaction.queued.anything();
        assert_eq!(transaction.newest_change(0, &dirty), Some(Lsn::new(7)));
        transaction.queued.refuse();
        assert_eq!(transaction.newest_change(0, &dirty), None);
        // A change of what it watches may be why.
        transaction.watch_anything();
        assert_eq!(transaction.newest_change(0, &dirty), Some(Lsn::new(7)));
    }

    #[test]
    fn what_was_known_before_logging_began_is_forgotten() {
        let mut clients = clients();
        clients.insert(3).debugs_scripts = true;
        clients.insert(3).shares_id = true;
        clients.forget();
        assert!(clients.contains(3));
        assert!(clients.get(3).is_some_and(|client| client.shares_id && !client.debugs_scripts));
    }
}
