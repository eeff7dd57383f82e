//! EXEC: which of its commands an event belongs to, and what its effect is.

use super::error_replies::ErrorReplies;
use super::{Capture, ClientId, DbKey, Event, LeafEvent, Queue, Unit};
use crate::core::event::{Done, Keeps};
use crate::core::silent::{Postponed, PostponedKind, SilentChanges};
use crate::core::table::{self, Role};

impl Capture {
    /// The server's count of error replies may be set back.
    pub fn forget_error_replies(&mut self) {
        self.errors = ErrorReplies::default();
    }

    /// The client has sent a command of this many bytes to be queued. Returns how many it has sent before, when the
    /// server must be asked whether it keeps all of them: the first that it refuses ends the transaction
    /// ([`Capture::refuse_queue`]).
    pub fn queued_one(&mut self, client: ClientId, bytes: usize) -> Option<usize> {
        self.queues.get_mut(&client)?.sent_one(bytes)
    }

    /// The server has refused one of the client's commands since its MULTI, and will refuse its EXEC.
    pub fn refuse_queue(&mut self, client: ClientId) {
        self.current = self.current.take().filter(|leaf| leaf.client != client);
        if let Some(queue) = self.queues.get_mut(&client) {
            queue.refuse();
        }
    }

    /// Whether the client has queued commands that no event reports.
    pub fn has_silent(&self, client: ClientId) -> bool {
        self.queues.get(&client).is_some_and(Queue::has_silent)
    }

    /// How many commands the client has sent to be queued.
    pub fn sent(&self, client: ClientId) -> usize {
        self.queues.get(&client).map_or(0, Queue::sent)
    }

    /// The database that all commands of the client's EXEC run in, where that is known.
    pub fn exec_db(&self, client: ClientId) -> Option<u32> {
        self.queues.get(&client)?.only_db()
    }

    /// Whether the client has writes queued, so that the server should report when each has run
    /// ([`Capture::command_done`]).
    pub fn has_queued_writes(&self, client: ClientId) -> bool {
        self.queues.get(&client).is_some_and(|queue| !queue.is_empty())
    }

    /// Whether events alone show what the client's EXEC does: each queued command raises its only one, or fails.
    pub fn shows_all(&self, client: ClientId) -> bool {
        self.queues.get(&client).is_some_and(Queue::shows_all)
    }

    /// The client's EXEC is about to run, on a server that reports when each of its commands has run.
    pub fn exec_stepwise(&mut self, client: ClientId) {
        if let Some(queue) = self.queues.get_mut(&client) {
            queue.step();
        }
    }

    /// Whether the client's EXEC runs on such a server.
    pub fn is_stepping(&self, client: ClientId) -> bool {
        self.executing == Some(client) && self.queues.get(&client).is_some_and(Queue::is_stepwise)
    }

    /// Whether the client's EXEC was announced, and is not the one that was announced, or seen to run, last.
    pub fn is_exec_out_of_sight(&self, client: ClientId) -> bool {
        self.executing != Some(client) && self.queues.get(&client).is_some_and(Queue::is_executing)
    }

    /// The client's EXEC is about to run, and the server does not report its commands; `read` says how many error
    /// replies it has sent so far, and `keeps` which keys it keeps that have expired. Returns whether it has commands
    /// that no event reports, so that the unit's end must be asked for.
    pub fn exec(&mut self, client: ClientId, read: impl FnOnce() -> Option<u64>, keeps: Keeps, now_ms: i64) -> bool {
        if let Some(queue) = self.queues.get_mut(&client) {
            queue.take_as_a_whole(self.errors.before(read), keeps, now_ms);
        }
        self.has_silent(client)
    }

    /// The server makes the client's EXEC wait, which was announced last.
    pub fn exec_waits(&mut self, client: ClientId) {
        self.executing = self.executing.filter(|executing| *executing != client);
        self.postpone_silent_part(client);
    }

    /// No EXEC runs: a connected client has sent a command.
    pub fn stop_stepping(&mut self) {
        let Some(client) = self.executing.take() else { return };
        // It was not seen to run: the server makes it wait, or has refused it.
        self.lose_sight(client);
    }

    /// The client's EXEC, if the server was to report its commands, has not been seen to run, and will not be.
    fn lose_sight(&mut self, client: ClientId) {
        if let Some(queue) = self.queues.get_mut(&client).filter(|queue| queue.is_stepwise()) {
            queue.lose_sight();
            self.postpone_silent_part(client);
        }
    }

    /// The client has sent another command. If the server was to report its EXEC, and has not, it has refused it.
    pub(super) fn end_unseen_exec(&mut self, client: ClientId) {
        if self.is_stepping(client) {
            self.end_queue(client);
        }
    }

    /// A command of that EXEC has run, or the EXEC itself. Returns whether it has an effect that no event showed, so
    /// that the unit's end must be asked for.
    pub fn command_done(&mut self, client: ClientId, args: &[&[u8]], done: Done, now_ms: i64) -> bool {
        // The last command of a script.
        self.put_current_away();
        let Some(queue) = self.queues.get_mut(&client) else { return false };
        let step = queue.command_done(args);
        if args.first().is_some_and(|name| table::has_role(name, Role::Exec)) {
            self.end_queue(client);
        }
        let Some(mut leaf) = step.leaf else {
            if let Some(unit) = self.unit.as_mut() {
                step.events.into_iter().for_each(|event| unit.image((event.db, event.key)));
            }
            return false;
        };
        let (own, others) = step.events.into_iter().partition(|event| leaf.names(&event.key));
        (leaf.events, leaf.db, leaf.keeps) = (own, done.db, done.keeps);
        if let Some(unit) = self.unit.as_mut() {
            // Another module's events, within it.
            let others: Vec<LeafEvent> = others;
            others.into_iter().for_each(|event| unit.image((event.db, event.key)));
        }
        let silent = leaf.spec.is_some_and(|spec| spec.is_silent() && (done.changed || spec.is_unknown()));
        let unseen = leaf.events.is_empty() && (silent || leaf.is_failing_bitfield() && !done.failed);
        if unseen {
            self.unit.get_or_insert_with(|| Unit::new(now_ms));
        }
        if unseen || !leaf.events.is_empty() {
            self.seal(leaf);
        } else {
            self.recycle(leaf);
        }
        unseen
    }

    /// The commands of the client's queue that no event reports may run later.
    fn postpone_silent_part(&mut self, client: ClientId) {
        if let Some(queue) = self.queues.get(&client).filter(|queue| queue.has_silent()) {
            let changes = SilentChanges { keys: queue.silent_keys().to_vec(), functions: queue.functions };
            self.postponed.push(Postponed { client, what: PostponedKind::Exec, changes, released: false });
        }
    }

    /// An event inside EXEC.
    pub(super) fn exec_event(&mut self, event: Event<'_>, db_key: DbKey) {
        let client = event.client;
        if !self.queues.get(&client).is_some_and(Queue::is_executing) {
            // Of a script, or of another module's command.
            if self.executing.is_some_and(|executing| self.is_stepping(executing)) {
                self.running_event(event, db_key);
            } else if let Some(unit) = self.unit.as_mut() {
                unit.image(db_key);
            }
            return;
        }
        // It runs: an EXEC that the server made wait is seen again here.
        self.executing = Some(client);
        if let Some(queue) = self.queues.get_mut(&client) {
            let (name, keeps) = (event.name, event.keeps);
            let event = LeafEvent { kind: event.kind, db: event.db, key: db_key.1, outcome: event.outcome };
            queue.event(name, keeps, event);
        }
    }

    /// Whether an EXEC is seen to run, or has run, whose commands are logged at the end of the unit.
    pub(super) fn exec_has_begun(&self) -> bool {
        self.executing.and_then(|client| self.queues.get(&client)).is_some_and(Queue::has_begun)
    }

    /// The queue of a client whose EXEC has ended, or never comes.
    pub(super) fn end_queue(&mut self, client: ClientId) {
        self.drop_queue(client);
        self.executing = self.executing.filter(|executing| *executing != client);
    }

    fn drop_queue(&mut self, client: ClientId) {
        let Some(queue) = self.queues.remove(&client) else { return };
        queue.into_leaves().for_each(|leaf| self.recycle(leaf));
    }

    /// The EXEC that was announced, if there is one, has ended: its commands in their order, or images of all keys that
    /// changed where something can't be known exactly.
    pub(super) fn end_exec(&mut self, read: impl FnOnce() -> Option<u64>, keeps: impl FnOnce() -> Keeps) {
        let Some(client) = self.executing.take() else { return };
        let Some(queue) = self.queues.get_mut(&client) else { return };
        if queue.is_stepwise() {
            // Of a command that was not a write in its queue: another module's.
            for event in queue.take_events() {
                if let Some(unit) = self.unit.as_mut() {
                    unit.image((event.db, event.key));
                }
            }
            return self.lose_sight(client);
        }
        if !queue.has_begun() && !queue.has_silent() {
            return;
        }
        queue.keeps(keeps());
        let unit = self.unit.get_or_insert_with(|| Unit::new(queue.now_ms()));
        let errors =
            queue.errors_before().filter(|_| !unit.has_images()).and_then(|before| self.errors.after(before, read()));
        let inexact = unit.has_images() || self.fields_expire && queue.depends_on_expired_fields();
        if inexact || !queue.seal(errors, unit) {
            unit.image_touched();
            queue.image_unseen(unit);
        }
        if queue.has_begun() {
            self.drop_queue(client);
            self.postponed.retain(|postponed| postponed.client != client);
        }
    }
}
