//! What a client has queued since MULTI, and what its EXEC did.
//!
//! The events of an EXEC do not show which queued command raised them. A 9.1 server reports each command that has run,
//! in order: the events since the command before are its own. On other servers, and wherever the events alone show what
//! each did, the transaction is taken as a whole (`whole.rs`), because those reports cost more than small commands.

mod proof;
mod whole;

use crate::core::event::{EventKind, Keeps, MayExpire, Query};
use crate::core::hash::Map;
use crate::core::leaf::{Leaf, LeafEvent};
use crate::core::table::Rule;
use crate::core::unit::Unit;
use foldhash::fast::RandomState;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use whole::Whole;

/// The server is asked how much of the queue it keeps when the queue has reached this size, and whenever it has
/// doubled.
const FIRST_LOOK_BYTES: usize = 64 * 1024;

/// How far a transaction has come.
#[derive(Debug, Default)]
enum Phase {
    /// Its MULTI was announced, or a command that may end it.
    #[default]
    Announced,
    /// The server says that its client queues commands, which are to run in this database.
    Queueing(u32),
    /// The server has refused one of its commands, and with that the EXEC: nothing is kept.
    Refused,
    /// Its EXEC was announced, and the server reports each command that has run.
    Stepwise(Running),
    /// Its EXEC was announced, and nothing but events shows what it does.
    Whole(Whole),
}

/// The command of an EXEC that runs, on a server that reports when it has run.
#[derive(Debug, Default)]
struct Running {
    /// Its events so far.
    events: Vec<LeafEvent>,
    /// The place of the queued command whose arguments said what to ask about one of them.
    asked: Option<usize>,
    /// Places of the commands that have not run, by a hash of their arguments; made when a command ran that was not the
    /// next in the queue.
    places: Option<Map<u64, VecDeque<usize>>>,
}

/// A command of a transaction that has run.
#[derive(Debug)]
pub struct Step {
    /// What was queued; `None` for what is not a write, and where events were taken for another command's.
    pub leaf: Option<Box<Leaf>>,
    /// What it raised.
    pub events: Vec<LeafEvent>,
}

/// The queue of one client.
#[derive(Debug)]
pub struct Queue {
    phase: Phase,
    /// Writes, in order, that have not run.
    leaves: VecDeque<Box<Leaf>>,
    /// How many writes were taken out at the front.
    taken: usize,
    /// A command is queued whose arguments and events do not show its effect (scripts, SELECT...).
    opaque: bool,
    /// Keys of commands that no event shows.
    silent_keys: Vec<Arc<[u8]>>,
    /// The client's database when its EXEC was announced.
    db: Option<u32>,
    /// It changes the function library.
    pub functions: bool,
    /// Bytes of the arguments of all commands, writes or not.
    bytes: usize,
    /// When to ask the server next how much it keeps.
    look_at_bytes: usize,
    /// Commands that the client has sent, writes or not.
    sent: usize,
    hasher: RandomState,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            phase: Phase::Announced,
            leaves: VecDeque::new(),
            taken: 0,
            opaque: false,
            silent_keys: Vec::new(),
            db: None,
            functions: false,
            bytes: 0,
            look_at_bytes: FIRST_LOOK_BYTES,
            sent: 0,
            hasher: RandomState::default(),
        }
    }
}

impl Queue {
    /// The client's database, where the server says that it queues what the client sends.
    pub fn proved(&self) -> Option<u32> {
        match self.phase {
            Phase::Queueing(db) => Some(db),
            _ => None,
        }
    }

    /// The same, or that it may not do so any more.
    pub fn prove(&mut self, db: Option<u32>) {
        if matches!(self.phase, Phase::Announced | Phase::Queueing(_)) {
            self.phase = db.map_or(Phase::Announced, Phase::Queueing);
        }
    }

    /// The database that all of its commands run in, where that is known.
    pub fn only_db(&self) -> Option<u32> {
        self.db.filter(|_| !self.opaque)
    }

    /// A write was queued. Gives back what is not kept.
    pub fn push(&mut self, leaf: Box<Leaf>) -> Option<Box<Leaf>> {
        let Some(spec) = leaf.spec.filter(|_| !matches!(self.phase, Phase::Refused)) else { return Some(leaf) };
        if spec.is_silent() {
            self.functions |= spec.rule == Rule::Functions;
            self.silent_keys.extend(leaf.argument_keys());
        } else if leaf.is_failing_bitfield() {
            self.silent_keys.extend(leaf.argument_keys());
        }
        self.leaves.push_back(leaf);
        None
    }

    /// What it holds, for its memory.
    pub fn into_leaves(self) -> impl Iterator<Item = Box<Leaf>> {
        self.leaves.into_iter()
    }

    /// Something was queued whose effect is unknown.
    pub fn push_opaque(&mut self) {
        self.opaque = true;
    }

    /// The client has sent one more command to be queued. Returns how many it has sent before, when it is time to ask
    /// the server whether it keeps all of them.
    pub fn sent_one(&mut self, bytes: usize) -> Option<usize> {
        self.sent += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes < self.look_at_bytes {
            return None;
        }
        self.look_at_bytes = self.bytes.saturating_mul(2);
        Some(self.sent - 1)
    }

    /// How many commands the client has sent.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// The server has refused a command, so it keeps nothing more and will refuse the EXEC.
    pub fn refuse(&mut self) {
        *self = Queue { phase: Phase::Refused, ..Queue::default() };
    }

    /// The EXEC is about to run; `db` is its client's database. `false` when the server refuses it.
    pub fn execute(&mut self, db: Option<u32>) -> bool {
        if matches!(self.phase, Phase::Refused) {
            return false;
        }
        self.db = db;
        self.phase = Phase::Whole(Whole::unknown());
        true
    }

    /// The server will report each command that has run.
    pub fn step(&mut self) {
        if self.is_executing() {
            self.phase = Phase::Stepwise(Running::default());
        }
    }

    /// The server will not: `errors` is how many error replies it has sent so far, `keeps` which keys it keeps that
    /// have expired.
    pub fn take_as_a_whole(&mut self, errors: Option<u64>, keeps: Keeps, now_ms: i64) {
        if self.is_executing() {
            self.phase = Phase::Whole(Whole::new(&self.leaves, errors.filter(|_| !self.opaque), keeps, now_ms));
        }
    }

    /// Which expired keys the server keeps by now.
    pub fn keeps(&mut self, keeps: Keeps) {
        if let Phase::Whole(whole) = &mut self.phase {
            whole.keeps(keeps);
        }
    }

    /// The EXEC had not run when another command came: nothing is known of how it runs.
    pub fn lose_sight(&mut self) {
        self.phase = Phase::Whole(Whole::unknown());
    }

    /// Whether no write is queued.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Whether each queued write raises its only event, unless it fails.
    pub fn shows_all(&self) -> bool {
        let mut specs = self.leaves.iter().map(|leaf| (leaf.spec, &leaf.args));
        !self.opaque
            && specs.all(|(spec, args)| spec.is_some_and(|spec| spec.ends_with_event && spec.is_effective(args.iter())))
    }

    /// Whether the server reports the commands of its EXEC.
    pub fn is_stepwise(&self) -> bool {
        matches!(self.phase, Phase::Stepwise(_))
    }

    /// Whether what a command did may depend on which fields of a hash had expired.
    pub fn depends_on_expired_fields(&self) -> bool {
        self.leaves.iter().any(|leaf| leaf.depends_on_expired_fields())
    }

    /// Whether the EXEC was announced; the client's next command ends the queue.
    pub fn is_executing(&self) -> bool {
        matches!(self.phase, Phase::Stepwise(_) | Phase::Whole(_))
    }

    /// Whether commands are queued that no event shows.
    pub fn has_silent(&self) -> bool {
        self.functions || !self.silent_keys.is_empty()
    }

    /// The keys of those commands.
    pub fn silent_keys(&self) -> &[Arc<[u8]>] {
        &self.silent_keys
    }

    /// Whether the EXEC was seen to run, on a server that does not report its commands.
    pub fn has_begun(&self) -> bool {
        matches!(&self.phase, Phase::Whole(whole) if whole.has_begun())
    }

    /// How many error replies the server had sent before, if it matters whether there are more by now.
    pub fn errors_before(&self) -> Option<u64> {
        match &self.phase {
            Phase::Whole(whole) => whole.errors_before(),
            _ => None,
        }
    }

    /// The unit's time when the EXEC was announced.
    pub fn now_ms(&self) -> i64 {
        match &self.phase {
            Phase::Whole(whole) => whole.now_ms(),
            _ => 0,
        }
    }

    /// Adds the effects of the whole EXEC to the unit; none of them (`false`) when one can't be known exactly.
    pub fn seal(&self, errors: Option<u64>, unit: &mut Unit) -> bool {
        match &self.phase {
            Phase::Whole(whole) if whole.seal(&self.leaves, self.db, errors, unit) => {
                let db = self.db.unwrap_or_default();
                self.silent_keys.iter().for_each(|key| unit.touch((db, key.clone())));
                true
            }
            _ => false,
        }
    }

    /// Has everything logged that the EXEC may have changed without an event that showed where.
    pub fn image_unseen(&self, unit: &mut Unit) {
        unit.functions |= self.functions;
        unit.functions_changed |= self.functions;
        self.silent_keys.iter().for_each(|key| unit.image_everywhere(key.clone()));
    }

    /// What to ask about an event of the EXEC.
    pub fn query(&mut self, kind: EventKind, key: &[u8], may_expire: MayExpire) -> Option<Query> {
        match &mut self.phase {
            // If any are left before the one that runs, they were refused: then nothing is asked, or the answer is of
            // no use.
            Phase::Stepwise(running) => {
                let leaf = self.leaves.front().filter(|leaf| leaf.args.get(1) == Some(key))?;
                let query = leaf.query(kind, may_expire)?;
                running.asked = Some(self.taken);
                Some(query)
            }
            Phase::Whole(whole) => whole.query(&self.leaves, kind, key, may_expire),
            Phase::Announced | Phase::Queueing(_) | Phase::Refused => None,
        }
    }

    /// Takes an event of the EXEC, which has this name.
    pub fn event(&mut self, name: &[u8], keeps: Keeps, event: LeafEvent) {
        self.keeps(keeps);
        match &mut self.phase {
            Phase::Stepwise(running) => running.events.push(event),
            Phase::Whole(whole) => whole.event(&mut self.leaves, name, event),
            Phase::Announced | Phase::Queueing(_) | Phase::Refused => {}
        }
    }

    /// Takes out the events since the last command that has run.
    pub fn take_events(&mut self) -> Vec<LeafEvent> {
        match &mut self.phase {
            Phase::Stepwise(running) => std::mem::take(&mut running.events),
            _ => Vec::new(),
        }
    }

    /// A command has run.
    pub fn command_done(&mut self, args: &[&[u8]]) -> Step {
        let events = self.take_events();
        let place = self.place_of(args);
        let asked = match &mut self.phase {
            Phase::Stepwise(running) => running.asked.take(),
            _ => None,
        };
        let mistaken = asked.is_some() && asked != place;
        let leaf = place.and_then(|place| {
            // Those before it were refused, because rights can change until the EXEC.
            let leaf = self.leaves.drain(..=place - self.taken).next_back();
            self.taken = place + 1;
            leaf
        });
        Step { leaf: leaf.filter(|_| !mistaken), events }
    }

    /// The place of the next queued write that has these arguments.
    fn place_of(&mut self, args: &[&[u8]]) -> Option<usize> {
        if self.leaves.front()?.args.are(args) {
            return Some(self.taken);
        }
        let Phase::Stepwise(running) = &mut self.phase else { return None };
        let places = running.places.get_or_insert_with(|| {
            let mut places: Map<u64, VecDeque<usize>> = Map::default();
            for (index, leaf) in self.leaves.iter().enumerate() {
                places.entry(self.hasher.hash_one(leaf.args.slices())).or_default().push_back(self.taken + index);
            }
            places
        });
        let same = places.get_mut(&self.hasher.hash_one(args))?;
        while same.front().is_some_and(|place| *place < self.taken) {
            same.pop_front();
        }
        let place = *same.front()?;
        self.leaves.get(place - self.taken).filter(|leaf| leaf.args.are(args)).map(|_| place)
    }
}
