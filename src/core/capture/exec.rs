//! EXEC: which of its commands an event belongs to, and what it comes to.

use super::{Capture, ClientId, DbKey, EventKind, Postponed, Unit};

/// What the server tells of a command that has run.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The server counted changes.
    pub changed: bool,
    /// It was answered with an error.
    pub failed: bool,
    /// The client's database.
    pub db: Option<u32>,
}

impl Capture {
    /// The client has queued a SELECT of this database.
    pub fn queued_select(&mut self, client: ClientId, db: u32) {
        if let Some(queue) = self.queues.get_mut(&client) {
            queue.push_select(db);
        }
    }

    /// The database of the client whose EXEC made this key arrive, where that is another one.
    pub fn exec_home(&mut self, client: ClientId, key: &DbKey) -> Option<u32> {
        self.queues.get_mut(&client)?.home_of(key)
    }

    /// Whether the client has writes queued, so that it matters to be told when each has run ([`Capture::command_done`]).
    pub fn has_queued_writes(&self, client: ClientId) -> bool {
        self.queues.get(&client).is_some_and(|queue| !queue.is_empty())
    }

    /// The client's EXEC is about to run, on a server that tells when each of its commands has run.
    pub fn exec_stepwise(&mut self, client: ClientId) {
        if let Some(queue) = self.queues.get_mut(&client) {
            queue.step();
            self.stepping = Some(client);
        }
        // The server may make the EXEC wait, and then nobody asks it to tell.
        if let Some(postponed) = self.silent_part(client) {
            self.postponed.push(postponed);
        }
    }

    /// Whether the client's EXEC runs on such a server.
    pub fn is_stepping(&self, client: ClientId) -> bool {
        self.stepping == Some(client)
    }

    /// No EXEC runs: a connected client has sent a command.
    pub fn stop_stepping(&mut self) {
        let Some(client) = self.stepping.take() else { return };
        if self.queues.contains_key(&client) {
            // Its EXEC was not seen to run: the server makes it wait, or has refused it.
            self.postponed.iter_mut().filter(|postponed| postponed.client == client).for_each(|one| one.waited = true);
        }
    }

    /// A command of that EXEC has run, or the EXEC itself. Returns whether it has an effect that no event told, so that the unit's end must be
    /// asked for.
    pub fn command_done(&mut self, client: ClientId, args: &[&[u8]], done: Done, now_ms: i64) -> bool {
        // The last command of a script.
        self.put_current_away();
        let Some(queue) = self.queues.get_mut(&client) else {
            self.stepping = None;
            return false;
        };
        let step = queue.command_done(args);
        if args.first().is_some_and(|name| name.eq_ignore_ascii_case(b"exec")) {
            self.queues.remove(&client);
            self.stepping = None;
        }
        let Some(mut leaf) = step.leaf else {
            if let Some(unit) = self.unit.as_mut() {
                step.events.into_iter().for_each(|event| unit.image((event.db, event.key)));
            }
            return false;
        };
        (leaf.events, leaf.db) = (step.events, done.db);
        // A 9.1 server does not tell the database that a key arrives in, inside EXEC.
        if let (Some(unit), Some(other)) = (self.unit.as_mut(), leaf.other_db()) {
            for event in leaf.events.iter_mut().filter(|event| event.kind == EventKind::Arrived) {
                event.db = other;
                unit.touched.push((other, event.key.clone()));
            }
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

    /// An EXEC is about to run: commands among its queue that no event tells of have their keys logged whatever happens. Returns whether
    /// there are any, so that the unit's end must be asked for.
    pub fn exec(&mut self, client: ClientId, now_ms: i64) -> bool {
        let Some(postponed) = self.silent_part(client) else { return false };
        postponed.log(self.unit.get_or_insert_with(|| Unit::new(now_ms)));
        self.postponed.push(postponed);
        true
    }

    /// The commands of the client's queue that no event tells of.
    fn silent_part(&self, client: ClientId) -> Option<Postponed> {
        let queue = self.queues.get(&client).filter(|queue| queue.has_silent())?;
        let (keys, functions) = (queue.silent_keys().to_vec(), queue.functions);
        Some(Postponed { client, keys, functions, waited: false, released: false })
    }

    /// The EXEC is complete: its commands in their order, or images of all keys that changed where something could not be matched.
    pub(super) fn seal_exec(&mut self, client: ClientId, unit: &mut Unit) {
        let Some(queue) = self.queues.remove(&client) else { return };
        if unit.has_images() || !queue.seal(unit) {
            unit.touched.clone().into_iter().for_each(|key| unit.image(key));
        }
    }
}
