//! Commands that wait, and may run later: one record for each client that waits in one.
//!
//! ```text
//!   announced --- blocked by the server ---> Event: an event of its own shows that it is served (BLPOP, BLMOVE...)
//!       |                            '-----> Unseen: nothing does (XREAD, XREADGROUP); any change of its keys may have
//!       |                                     |  served it
//!       |                                     '- time-out, CLIENT UNBLOCK, error, slot moved: ended; what it answers
//!       |                                        depends on its keys
//!       '--- blocked by the module ---> Module: the module runs it, and gets its answer ---> Answered: that waits for
//!                                                                                            the disk
//! ```
//!
//! Each ends with its client's next command, or with the client. A time-out and a CLIENT UNBLOCK are announcements,
//! too: the command has ended when its client is seen to wait no longer ([`Blocked::take_due`]).
//!
//! Commands that a pause makes wait (`capture/postponed.rs`) do not belong here: they have not begun, may be any
//! command (even EXEC), and end in one way only.

use crate::core::dirty::{DbKey, DirtyKeys};
use crate::core::hash::{Map, Set};
use crate::core::leaf::{ClientId, Leaf};
use crate::core::pops::{Pops, Wanted};
use crate::log::Lsn;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Who ends the wait, and what shows that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The server, with an event of the client's.
    Event,
    /// The server, without one.
    Unseen,
    /// The module, which runs the command.
    Module,
    /// Nobody: it has run, and its answer waits for the disk.
    Answered,
}

/// What it waits for, and what its answer depends on if nothing comes.
#[derive(Debug, PartialEq, Eq)]
enum WaitsFor {
    /// These keys.
    Keys(Vec<DbKey>),
    /// It waited before that was seen.
    Anything,
}

/// A command that its client waits in.
#[derive(Debug)]
struct Record {
    stage: Stage,
    waits_for: WaitsFor,
    /// What was sent, where its effect is logged from that.
    leaf: Option<Box<Leaf>>,
    /// When it times out, in milliseconds since the Unix epoch.
    deadline_ms: Option<i64>,
}

impl Record {
    fn new(stage: Stage) -> Record {
        Record { stage, waits_for: WaitsFor::Keys(Vec::new()), leaf: None, deadline_ms: None }
    }

    /// The keys whose changes may have served it, without an event.
    fn watched(&self) -> &[DbKey] {
        match (&self.waits_for, self.stage) {
            (WaitsFor::Keys(keys), Stage::Unseen) => keys,
            _ => &[],
        }
    }
}

/// How it is known which readers may have changed keys unseen.
pub enum Look<IsBlocked> {
    /// Those for whom this is true still wait: they have not been served.
    Blocked(IsBlocked),
    /// The server has served whom it can, at the end of an iteration.
    All {
        /// Some may still be served later: a pause has made them wait.
        keeps: bool,
    },
}

/// All commands that clients wait in. Main thread only.
#[derive(Debug, Default)]
pub struct Blocked {
    records: Map<ClientId, Record>,
    /// Those that time out, in that order.
    due: BTreeSet<(i64, ClientId)>,
    /// Those that a CLIENT UNBLOCK was announced for.
    unblocked: Set<ClientId>,
    /// Those in [`Stage::Unseen`] that wait for each key.
    readers: Map<DbKey, Set<ClientId>>,
    /// Those among them that wait for anything.
    unknown_readers: Set<ClientId>,
    /// Changed keys that a reader of [`Stage::Unseen`] may have changed once more (XREADGROUP), since the last look.
    suspects: Set<DbKey>,
    /// Those whose readers the server may serve yet, with the readers that waited at the last look: it serves them when
    /// a command at top level has run, and before the end of an iteration.
    unserved: Map<DbKey, Vec<ClientId>>,
    /// Those in `Stage::Event` whose keys are known.
    pub pops: Pops,
}

impl Blocked {
    /// The server has made the client wait in this command, or may have.
    pub fn park(&mut self, leaf: Box<Leaf>) {
        let client = leaf.client;
        let is_silent = leaf.spec.is_some_and(|spec| spec.is_silent());
        let record = self.records.entry(client).or_insert_with(|| Record::new(Stage::Event));
        if let (true, Some(db)) = (is_silent, leaf.db) {
            let keys = leaf.argument_keys().into_iter().map(|key| (db, key)).collect();
            record.leaf = Some(leaf);
            return self.wait_unseen(client, keys);
        }
        record.leaf = Some(leaf);
    }

    /// The server makes the client wait for these keys, until then if for so long, and serves it with an event.
    pub fn wait(&mut self, client: ClientId, keys: Vec<DbKey>, deadline_ms: Option<i64>) {
        let record = self.records.entry(client).or_insert_with(|| Record::new(Stage::Event));
        if record.stage == Stage::Event {
            if let Some(spec) = record.leaf.as_ref().and_then(|leaf| leaf.spec) {
                self.pops.add(client, keys.clone(), Wanted::by(spec));
            }
            record.waits_for = WaitsFor::Keys(keys);
        }
        self.set_deadline(client, deadline_ms);
    }

    /// The same without an event.
    pub fn wait_unseen(&mut self, client: ClientId, keys: Vec<DbKey>) {
        self.unwatch(client);
        for key in &keys {
            self.readers.entry(key.clone()).or_default().insert(client);
        }
        let record = self.records.entry(client).or_insert_with(|| Record::new(Stage::Unseen));
        (record.stage, record.waits_for) = (Stage::Unseen, WaitsFor::Keys(keys));
    }

    /// The same; what the client waits for is unknown.
    pub fn wait_for_anything(&mut self, client: ClientId) {
        self.unwatch(client);
        self.unknown_readers.insert(client);
        let record = self.records.entry(client).or_insert_with(|| Record::new(Stage::Unseen));
        (record.stage, record.waits_for) = (Stage::Unseen, WaitsFor::Anything);
    }

    /// The client waits, and did so before that was seen. An event will show that it is served, if that changes data.
    pub fn has_waited(&mut self, client: ClientId) {
        let unknown = || Record { waits_for: WaitsFor::Anything, ..Record::new(Stage::Event) };
        self.records.entry(client).or_insert_with(unknown);
    }

    /// The module has blocked the client, and runs its command, which waits for these keys.
    pub fn run_by_module(&mut self, client: ClientId, keys: Vec<DbKey>) {
        self.remove(client);
        self.records.insert(client, Record { waits_for: WaitsFor::Keys(keys), ..Record::new(Stage::Module) });
    }

    /// That command has its answer, which waits for the disk.
    pub fn answered(&mut self, client: ClientId) {
        if let Some(record) = self.records.get_mut(&client) {
            record.stage = Stage::Answered;
        }
    }

    /// Whether the module has run the client's command, and its answer waits for the disk: there is nothing left that a
    /// CLIENT UNBLOCK could end.
    pub fn is_answered(&self, client: ClientId) -> bool {
        self.records.get(&client).is_some_and(|record| record.stage == Stage::Answered)
    }

    /// It times out then.
    pub fn set_deadline(&mut self, client: ClientId, deadline_ms: Option<i64>) {
        let Some(record) = self.records.get_mut(&client) else { return };
        if let Some(before) = std::mem::replace(&mut record.deadline_ms, deadline_ms) {
            self.due.remove(&(before, client));
        }
        self.due.extend(deadline_ms.map(|at_ms| (at_ms, client)));
    }

    /// When it times out.
    pub fn deadline_ms(&self, client: ClientId) -> Option<i64> {
        self.records.get(&client)?.deadline_ms
    }

    /// A CLIENT UNBLOCK of this client is announced, which the server may refuse. Not noted for a client whose command
    /// the module runs: the server reports that.
    pub fn unblock(&mut self, client: ClientId) {
        if let Some(Stage::Event | Stage::Unseen) = self.records.get(&client).map(|record| record.stage) {
            self.unblocked.insert(client);
        }
    }

    /// Takes out the clients whose time has come, or whose wait a CLIENT UNBLOCK may have ended. Those that still wait
    /// according to `is_blocked` stay; those that are returned have ended.
    pub fn take_due(&mut self, now_ms: i64, is_blocked: impl Fn(ClientId) -> bool) -> Vec<ClientId> {
        let mut due: Vec<ClientId> = self.unblocked.drain().collect();
        while let Some((at_ms, client)) = self.due.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) {
            self.due.remove(&(at_ms, client));
            due.push(client);
        }
        let (waiting, ended): (Vec<_>, Vec<_>) = due.into_iter().partition(|client| is_blocked(*client));
        // The server checks time-outs only now and then.
        for client in waiting {
            let Some(record) = self.records.get(&client) else { continue };
            let deadline_ms = record.deadline_ms.map(|at_ms| at_ms.max(now_ms + 1));
            self.set_deadline(client, deadline_ms);
        }
        for client in &ended {
            if let Some(record) = self.records.get_mut(client) {
                record.deadline_ms = None;
            }
        }
        ended
    }

    /// The newest change that the client's answer depends on if its command has ended without an effect.
    pub fn shown(&self, client: ClientId, dirty: &DirtyKeys) -> Option<Lsn> {
        let record = self.records.get(&client).filter(|record| record.stage != Stage::Answered)?;
        match &record.waits_for {
            WaitsFor::Keys(keys) => keys.iter().filter_map(|(db, key)| dirty.key(*db, key)).max(),
            WaitsFor::Anything => dirty.any_change(),
        }
    }

    /// The client has sent its next command, or has gone: it waits no longer. Gives back what it had sent.
    pub fn remove(&mut self, client: ClientId) -> Option<Box<Leaf>> {
        if self.records.is_empty() {
            return None;
        }
        self.set_deadline(client, None);
        self.unwatch(client);
        self.unblocked.remove(&client);
        self.records.remove(&client)?.leaf
    }

    /// An event of the client's shows that its command runs now. Takes that out.
    pub fn take_served(&mut self, client: ClientId) -> Option<Box<Leaf>> {
        self.records.get(&client)?.leaf.as_deref()?;
        self.remove(client)
    }

    /// What runs under the client's id now is not what it had sent.
    pub fn forget_leaf(&mut self, client: ClientId) -> Option<Box<Leaf>> {
        self.records.get_mut(&client)?.leaf.take()
    }

    /// What the client has sent, if it may run yet.
    pub fn leaf(&self, client: ClientId) -> Option<&Leaf> {
        self.records.get(&client)?.leaf.as_deref()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// A key has changed, which may have served readers unseen.
    pub fn changed(&mut self, key: &DbKey) {
        if self.readers.get(key).is_some_and(|readers| self.any_writes(readers)) {
            self.suspects.insert(key.clone());
        }
    }

    /// The same for all keys of the databases of which `is_changed` says so.
    pub fn databases_changed(&mut self, is_changed: impl Fn(u32) -> bool) {
        let changed = |(key, readers): &(&DbKey, &Set<ClientId>)| is_changed(key.0) && self.any_writes(readers);
        let keys: Vec<DbKey> = self.readers.iter().filter(changed).map(|(key, _)| key.clone()).collect();
        self.suspects.extend(keys);
    }

    /// Whether one of these clients changes data when it is served.
    fn any_writes(&self, readers: &Set<ClientId>) -> bool {
        readers.iter().any(|reader| self.leaf(*reader).is_some())
    }

    /// A stream has changed while somebody waits for unknown keys.
    pub fn suspect(&mut self, key: DbKey) {
        self.suspects.insert(key);
    }

    /// Whether readers may have changed keys unseen, or will before the end of an iteration.
    pub fn has_suspects(&self) -> bool {
        !self.suspects.is_empty() || !self.unserved.is_empty()
    }

    /// Whether the server may serve this client without an event, for a key that has changed, and whether that changes
    /// data.
    pub fn may_change(&self, client: ClientId) -> bool {
        let keys = self.suspects.iter().chain(self.unserved.keys());
        keys.into_iter().any(|key| self.writers_of(key).any(|writer| writer == client))
    }

    /// Takes out the keys that readers may have changed since the last look (one of their readers waits no longer, says
    /// `is_blocked`), with the readers that may have been served.
    pub fn take_changed(&mut self, is_blocked: impl Fn(ClientId) -> bool) -> (Vec<DbKey>, Vec<ClientId>) {
        let mut served = Vec::new();
        let mut looked_at: Vec<(DbKey, Vec<ClientId>)> = self.unserved.drain().collect();
        let fresh: Vec<DbKey> = self.suspects.drain().collect();
        looked_at.extend(fresh.into_iter().map(|key| {
            let readers = self.writers_of(&key).collect();
            (key, readers)
        }));
        for (key, readers) in looked_at {
            let waiting: Vec<ClientId> = readers.iter().copied().filter(|reader| is_blocked(*reader)).collect();
            if waiting.len() < readers.len() || readers.is_empty() {
                served.push(key.clone());
            }
            if !waiting.is_empty() {
                self.unserved.insert(key, waiting);
            }
        }
        self.with_readers(served)
    }

    /// The same for all keys, when the server has served whom it can: at the end of an iteration. `keeps`: readers that
    /// a pause has made wait may still run, and are not seen to wait.
    pub fn take_all_changed(&mut self, keeps: bool) -> (Vec<DbKey>, Vec<ClientId>) {
        let keys: Set<DbKey> = self.suspects.drain().chain(self.unserved.drain().map(|(key, _)| key)).collect();
        if keeps {
            let waiting = keys.iter().map(|key| (key.clone(), self.writers_of(key).collect::<Vec<_>>()));
            let waiting: Vec<_> = waiting.filter(|(_, readers)| !readers.is_empty()).collect();
            self.unserved.extend(waiting);
        }
        self.with_readers(keys.into_iter().collect())
    }

    fn with_readers(&self, mut keys: Vec<DbKey>) -> (Vec<DbKey>, Vec<ClientId>) {
        keys.sort();
        keys.dedup();
        let readers: Set<ClientId> = keys.iter().flat_map(|key| self.writers_of(key)).collect();
        (keys, readers.into_iter().collect())
    }

    /// The clients that may change this key when they are served unseen.
    fn writers_of<'a>(&'a self, key: &DbKey) -> impl Iterator<Item = ClientId> + 'a {
        let known = self.readers.get(key).into_iter().flatten().filter(|reader| self.leaf(**reader).is_some());
        known.chain(&self.unknown_readers).copied()
    }

    /// Whether anybody waits for unknown keys.
    pub fn has_unknown_readers(&self) -> bool {
        !self.unknown_readers.is_empty()
    }

    /// The clients that may be served unseen when this key changes.
    pub fn readers_of(&self, db: u32, key: &[u8]) -> Vec<ClientId> {
        let mut found: Vec<ClientId> = self.unknown_readers.iter().copied().collect();
        if !self.readers.is_empty() {
            found.extend(self.readers.get(&(db, Arc::from(key))).into_iter().flatten());
        }
        found
    }

    /// All clients that may be served so.
    pub fn all_readers(&self) -> Vec<ClientId> {
        self.unknown_readers.iter().chain(self.readers.values().flatten()).copied().collect()
    }

    /// The clients whose commands the server runs.
    pub fn clients_of_server(&self) -> impl Iterator<Item = ClientId> {
        self.clients_in(|stage| matches!(stage, Stage::Event | Stage::Unseen))
    }

    /// Those whose commands the module runs.
    pub fn clients_of_module(&self) -> impl Iterator<Item = ClientId> {
        self.clients_in(|stage| stage == Stage::Module)
    }

    fn clients_in(&self, is_wanted: impl Fn(Stage) -> bool) -> impl Iterator<Item = ClientId> {
        self.records.iter().filter(move |(_, record)| is_wanted(record.stage)).map(|(client, _)| *client)
    }

    /// Logging ends or begins: what the server made wait is unknown. What the module runs goes on.
    pub fn forget(&mut self) {
        let mut records = std::mem::take(&mut self.records);
        records.retain(|_, record| matches!(record.stage, Stage::Module | Stage::Answered));
        *self = Blocked { records, ..Blocked::default() };
    }

    fn unwatch(&mut self, client: ClientId) {
        self.pops.remove(client);
        self.unknown_readers.remove(&client);
        let Some(record) = self.records.get(&client) else { return };
        for key in record.watched() {
            if let Some(readers) = self.readers.get_mut(key) {
                readers.remove(&client);
                if readers.is_empty() {
                    self.readers.remove(key);
                }
            }
        }
    }
}
