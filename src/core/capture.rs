//! From hooks to units: which command is running, which events are its own, and when its effect is complete.
//!
//! The command filter announces a command ([`Capture::command`]), events follow while it runs ([`Capture::event`]), and
//! the next announcement or the end of the unit completes it. A command that changed nothing raises no event and leaves
//! nothing behind. Whatever cannot be matched is logged as the resulting state of the changed keys, which is always
//! right.

mod class;
mod databases;
mod error_replies;
mod exec;
mod parked;
mod postponed;
mod spare;
mod trim;
mod unproved;

pub use class::Class;
use error_replies::ErrorReplies;

use crate::core::blocked::Blocked;
use crate::core::dirty::DbKey;
use crate::core::event::{Event, EventKind, Keeps, MayExpire, Outcome, Query};
use crate::core::hash::Map;
use crate::core::leaf::{ClientId, Leaf, LeafEvent, Told};
use crate::core::rewrite::rewrite;
use crate::core::silent::{Postponed, Unproved};
use crate::core::table::{CommandSpec, Rule};
use crate::core::transaction::Queue;
use crate::core::unit::Unit;
use std::sync::Arc;

/// The state between hooks. Main thread only.
#[derive(Debug, Default)]
pub struct Capture {
    current: Option<Box<Leaf>>,
    unit: Option<Unit>,
    /// Commands that wait, and may run later.
    pub blocked: Blocked,
    queues: Map<ClientId, Queue>,
    /// The client whose EXEC was announced, or seen to run, last.
    executing: Option<ClientId>,
    errors: ErrorReplies,
    postponed: Vec<Postponed>,
    unproved: Vec<Unproved>,
    /// The list that LTRIM was applied to last, while nothing else has happened to it, and its length after that.
    trimmed: Option<(DbKey, Vec<u8>)>,
    /// Some hash has, or has had, a field that expires.
    fields_expire: bool,
    #[expect(clippy::vec_box, reason = "a leaf comes and goes with each command, and only its address is moved")]
    spare: Vec<Box<Leaf>>,
    spare_unit: Option<Unit>,
}

impl Capture {
    /// A command is about to run (or to be queued). `db` is the client's, where known.
    pub fn command<'a>(
        &mut self,
        client: ClientId,
        class: Class,
        db: Option<u32>,
        args: impl Iterator<Item = &'a [u8]>,
    ) {
        self.put_current_away();
        self.unpark(client);
        if self.queues.get(&client).is_some_and(Queue::is_executing) {
            self.end_queue(client);
        }
        if self.is_wrapping() {
            return;
        }
        match class {
            Class::Write(spec) => {
                let leaf = self.new_leaf(client, Some(spec), db, args);
                self.current = Some(leaf);
            }
            Class::Multi => {
                self.queues.entry(client).or_default();
            }
            Class::Opaque => {
                if let Some(queue) = self.queues.get_mut(&client) {
                    queue.push_opaque();
                }
            }
            Class::Exec => {
                // An EXEC ends the transaction whatever becomes of it, so that the next MULTI begins a new one.
                match self.queues.get_mut(&client).map(|queue| queue.execute(db)) {
                    Some(true) => self.executing = Some(client),
                    Some(false) => self.end_queue(client),
                    None => {}
                }
            }
            // The server says what these have ended, when they have run.
            Class::EndMulti | Class::Watch | Class::Unwatch | Class::ReadOnly | Class::Container => {}
        }
    }

    /// The keys of the command just announced, for one that the table does not know.
    pub fn told_keys(&mut self, keys: Vec<Arc<[u8]>>) {
        if let Some(leaf) = &mut self.current {
            leaf.keys = keys;
        }
    }

    /// The client is in no transaction any more, or its MULTI was refused.
    pub fn not_queueing(&mut self, client: ClientId) {
        self.end_queue(client);
    }

    /// Whether the client's commands are being queued, as far as the filter has seen.
    pub fn is_queueing(&self, client: ClientId) -> bool {
        self.queues.contains_key(&client)
    }

    /// The client's database, if the server has said that it queues this client's commands, and nothing has come since
    /// that could end it. Nothing else changes the database of such a client.
    pub fn proved_queueing(&self, client: ClientId) -> Option<u32> {
        self.queues.get(&client)?.proved()
    }

    /// The server says so, or a command has come that may end it.
    pub fn prove_queueing(&mut self, client: ClientId, db: Option<u32>) {
        self.queues.get_mut(&client).into_iter().for_each(|queue| queue.prove(db));
    }

    /// The command just announced is queued, so that nothing runs.
    pub fn queued(&mut self) {
        self.put_current_away();
    }

    /// The module's own command is about to run this one: all events are its, and its keys are known to be in `db`.
    pub fn wrapped<'a>(
        &mut self,
        client: ClientId,
        spec: &'static CommandSpec,
        db: u32,
        args: impl Iterator<Item = &'a [u8]>,
    ) {
        self.put_current_away();
        let mut leaf = self.new_leaf(client, Some(spec), Some(db), args);
        leaf.wrapped = true;
        self.current = Some(leaf);
    }

    /// The wrapped command has run; `changed` says that it may have changed data. `told` is what its reply showed,
    /// where its rule needs that. Returns whether it may have changed data.
    pub fn wrapped_done(&mut self, changed: bool, told: Option<Told>, now_ms: i64) -> bool {
        let Some(mut leaf) = self.current.take() else { return false };
        leaf.told = told;
        let changed = changed || !leaf.events.is_empty();
        if changed {
            self.unit.get_or_insert_with(|| Unit::new(now_ms));
            self.seal(leaf);
        } else {
            self.recycle(leaf);
        }
        changed
    }

    /// An event of the running command (or of the server itself). Opens the unit; returns whether it did.
    pub fn event(&mut self, mut event: Event<'_>) -> bool {
        let opens = self.unit.is_none();
        let key: Arc<[u8]> = Arc::from(event.key);
        let db_key = (event.db, key.clone());
        self.note_trim(&mut event, &db_key);
        if !self.fields_expire && event.kind.is_of_fields() && event.outcome.is_none() {
            event.outcome = Some(Outcome::NoneExpired);
        }
        self.blocked.changed(&db_key);
        if !event.removed_by_server && !event.in_exec {
            self.find_leaf(event.client);
        }
        let exec_has_begun = self.exec_has_begun();
        let unit = match &mut self.unit {
            Some(unit) => unit,
            none => none
                .insert(self.spare_unit.take().map_or_else(|| Unit::at(event.now_ms), |unit| unit.begin(event.now_ms))),
        };
        unit.events += 1;
        unit.evictions += usize::from(event.kind == EventKind::Evicted);
        if !event.expired {
            unit.touch(db_key.clone());
        }
        if event.removed_by_server {
            unit.command(event.db, &[b"DEL", event.key]);
        } else if !event.in_exec && exec_has_begun {
            // Another module's event, after an EXEC whose commands are logged at the end of the unit.
            unit.image(db_key);
        } else if event.in_exec {
            self.exec_event(event, db_key);
        } else {
            self.running_event(event, db_key);
        }
        opens
    }

    /// Takes out the client's command, announced last, if it has raised this event, its only one, while nothing else is
    /// under way and nobody waits whom it may serve. It is complete then, and logged as it was sent.
    pub fn take_complete(&mut self, client: ClientId, event: &[u8], db: u32, key: &[u8]) -> Option<Box<Leaf>> {
        if !self.has_nothing_open() || !self.blocked.is_empty() {
            return None;
        }
        let leaf = self.current.take_if(|leaf| {
            let ends = leaf.spec.is_some_and(|spec| spec.is_complete_with(event, leaf.args.len()));
            ends && leaf.client == client && leaf.args.get(1) == Some(key) && leaf.events.is_empty() && !leaf.wrapped
        });
        if leaf.is_some() {
            self.forget_trim(db, key);
        }
        leaf
    }

    /// An event of a command that runs outside a transaction, or in a script.
    fn running_event(&mut self, event: Event<'_>, db_key: DbKey) {
        if let Some(leaf) = self.current.as_mut().filter(|leaf| leaf.has_raised(&event)) {
            leaf.keeps = leaf.keeps.max(event.keeps);
            leaf.events.push(LeafEvent { kind: event.kind, db: event.db, key: db_key.1, outcome: event.outcome });
        } else if let Some(unit) = self.unit.as_mut() {
            unit.image(db_key);
        }
    }

    /// The command announced last is not the one that its client runs: another module's call uses the client's id. Only
    /// its events show what it does.
    pub fn forget_current(&mut self) {
        if let Some(leaf) = self.current.take() {
            leaf.events.iter().for_each(|event| {
                if let Some(unit) = self.unit.as_mut() {
                    unit.image((event.db, event.key.clone()));
                }
            });
            self.recycle(leaf);
        }
    }

    /// What must be asked about the key of an event of this client.
    pub fn query(&mut self, client: ClientId, in_exec: bool, kind: EventKind, key: &[u8]) -> Option<Query> {
        let may_expire = MayExpire(self.fields_expire);
        if in_exec && let Some(queue) = self.queues.get_mut(&client) {
            return queue.query(kind, key, may_expire);
        }
        self.leaf_of(client)?.query(kind, may_expire)
    }

    /// A hash has a field that expires, or may have one.
    pub fn fields_expire(&mut self) {
        self.fields_expire = true;
    }

    /// Whether a wrapped command is running.
    pub fn is_wrapping(&self) -> bool {
        self.current.as_ref().is_some_and(|leaf| leaf.wrapped)
    }

    /// Whether the running wrapped command has made a consumer, as an event showed.
    pub fn wrapped_has_events(&self) -> bool {
        self.current.as_ref().is_some_and(|leaf| leaf.wrapped && !leaf.events.is_empty())
    }

    /// Whether a command of this client runs that may make a key expire. One that may still block does not count: it
    /// only found the key expired.
    pub fn may_expire(&self, client: ClientId) -> bool {
        self.leaf_of(client).and_then(|leaf| leaf.spec).is_some_and(|spec| !spec.may_block())
    }

    /// Whether the head of the reply of this client's command may have been sent before its event.
    pub fn may_have_replied(&self, client: ClientId) -> bool {
        self.leaf_of(client).is_some_and(|leaf| {
            leaf.spec.is_some_and(|spec| {
                let args = (0..leaf.args.len()).map(|index| leaf.args.get(index).unwrap_or_default());
                // On 8.1 an XREADGROUP that makes its consumer has.
                matches!(spec.rule, Rule::Pending(_)) || spec.may_reply_early(args)
            })
        })
    }

    fn leaf_of(&self, client: ClientId) -> Option<&Leaf> {
        let current = self.current.as_deref().filter(|leaf| leaf.client == client || leaf.wrapped);
        current.or_else(|| self.blocked.leaf(client))
    }

    /// Whether nothing is left of what ran before: no command, no unit, nothing that may have run unseen.
    pub fn is_at_rest(&self) -> bool {
        self.current.is_none() && self.has_nothing_open()
    }

    /// The same, except the command announced last.
    fn has_nothing_open(&self) -> bool {
        self.unit.is_none()
            && self.executing.is_none()
            && !self.blocked.has_suspects()
            && self.postponed.is_empty()
            && self.unproved.is_empty()
    }

    /// Whether a unit is open.
    pub fn has_unit(&self) -> bool {
        self.unit.is_some()
    }

    /// Whether the unit that is open is one of a command, and not of what the server removed to make room for it.
    pub fn ends_plainly(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| !unit.has_only_evictions())
    }

    /// A unit is logged: its memory is used again.
    pub fn reuse(&mut self, unit: Unit) {
        self.spare_unit = unit.cleared();
    }

    /// The server reported the end of a unit. Takes it out if it holds evictions only: the server makes room before it
    /// runs a command, and ends a unit for each key that goes. What was announced has not begun then, and goes on.
    pub fn take_evictions(&mut self) -> Option<Unit> {
        self.unit.take_if(|unit| unit.has_only_evictions())
    }

    /// The unit has ended: takes it out, complete except for the images that it asks for. `read` reports how many error
    /// replies the server has sent, `keeps` which keys it keeps by now that have expired.
    pub fn end_unit(&mut self, read: impl FnOnce() -> Option<u64>, keeps: impl FnOnce() -> Keeps) -> Option<Unit> {
        self.put_current_away();
        self.end_exec(read, keeps);
        self.unit.take()
    }

    /// A client has gone.
    pub fn client_gone(&mut self, client: ClientId) {
        self.awake(client);
        self.end_queue(client);
    }

    /// Forgets everything (a new log begins, or the role changes), except what the module runs, and that fields expire:
    /// the log may go on, and have them.
    pub fn clear(&mut self) {
        self.blocked.forget();
        let blocked = std::mem::take(&mut self.blocked);
        *self = Capture { blocked, fields_expire: self.fields_expire, ..Capture::default() };
    }

    fn put_current_away(&mut self) {
        if self.is_wrapping() {
            // What is done inside a wrapped command belongs to it.
            return;
        }
        let Some(leaf) = self.current.take() else { return };
        if !leaf.events.is_empty() {
            if leaf.spec.is_some_and(|spec| spec.may_block() && spec.is_silent()) {
                // It made its consumer, and may yet block.
                self.park(Box::new(leaf.without_events()));
            }
            self.seal(leaf);
        } else if let Some(queue) = self.queues.get_mut(&leaf.client) {
            if let Some(leaf) = queue.push(leaf) {
                self.recycle(leaf);
            }
        } else if leaf.spec.is_some_and(|spec| spec.may_block()) {
            self.park(leaf);
        } else {
            self.keep_unproved(&leaf);
            self.recycle(leaf);
        }
    }

    /// The leaf is complete: its effect becomes part of the unit.
    fn seal(&mut self, leaf: Box<Leaf>) {
        let unseen = self.may_have_changed_unseen();
        let Some(unit) = self.unit.as_mut() else {
            debug_assert!(false, "an event opens the unit before its leaf is sealed");
            return;
        };
        let exact = !unseen && !unit.has_images() && !leaf.is_told_twice() && rewrite(&leaf, unit);
        if !exact {
            leaf.events.iter().for_each(|event| unit.image((event.db, event.key.clone())));
            // It has changed something, be it without an event.
            if let Some(db) = leaf.db
                && (leaf.events.is_empty() || leaf.spec.is_some_and(|spec| spec.is_silent()))
            {
                leaf.argument_keys().into_iter().for_each(|key| unit.image((db, key)));
            }
        }
        if let Some(db) = leaf.db
            && leaf.events.is_empty()
        {
            leaf.argument_keys().into_iter().for_each(|key| unit.touch((db, key)));
        }
        let functions = leaf.spec.is_some_and(|spec| spec.rule == Rule::Functions);
        unit.functions |= functions && !leaf.wrapped;
        unit.functions_changed |= functions;
        self.recycle(leaf);
    }
}
