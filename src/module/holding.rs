//! How replies begin to wait: held by the server, or with the event loop.

use crate::core::ack::{Hold, Moment, Reason, Why, decide};
use crate::core::client::Clients;
use crate::core::leaf::ClientId;
use crate::ffi::{Ctx, Held, Level, log};
use crate::log::Lsn;
use crate::module::Module;
use crate::module::config::{Setting, value};
use crate::module::facts::Asked;
use crate::module::release::{Release, Waiting, release};
use crate::module::wrapped_run::Outcome;

/// Has a held reply wait for the position, unless its client has gone, as it may while its script runs long.
pub(super) fn begin_to_wait(clients: &Clients, log: &Release, lsn: Lsn, waiting: Waiting) {
    if clients.contains(waiting.client) {
        log.wait(lsn, waiting);
    } else {
        release(waiting.held, Why::Left);
    }
}

impl Module {
    /// Has a held reply wait for what it shows; it leaves at once where that is durable.
    pub(super) fn hold_for(&mut self, client: ClientId, mut held: Held, outcome: Outcome) {
        held.note_reply(outcome.reply_bytes);
        if outcome.changed {
            self.counters.held_by_module += 1;
            return self.replies.hold(client, held);
        }
        match (self.log().cloned(), self.undurable(outcome.shown)) {
            (Some(log), Some(lsn)) => {
                self.counters.reads_blocked += 1;
                self.counters.held_by_module += 1;
                self.clients.held(client, lsn);
                begin_to_wait(&self.clients, &log, lsn, Waiting { client, held });
            }
            (Some(_), None) => release(held, Why::NothingShown),
            (None, _) => release(held, Why::NotActive),
        }
    }

    /// The client has gone, and nobody gets its reply. What the server keeps for a held client is freed by the release;
    /// nothing bounds how many clients come, wait and go while the disk hangs or fails.
    pub(super) fn remove_client(&mut self, client: ClientId) {
        self.clients.remove(client);
        self.delayed.remove(client);
        // A writer thread that is letting it go may have taken it out.
        let waiting = self.log().and_then(|log| log.withdraw(client)).map(|(_, waiting)| waiting.held);
        // Its script does not run any more.
        let index = self.scripts.iter().position(|script| script.client == client);
        let script = index.and_then(|index| self.scripts.remove(index)).map(|script| script.held);
        let in_waitaof = self.aof_waits.remove(client);
        waiting.into_iter().chain(script).chain(in_waitaof).for_each(|held| release(held, Why::Left));
    }

    /// Has the reply of the context's client, which is to come, wait for what it shows. Returns whether the end of the
    /// unit must be asked for.
    pub(super) fn hold_reply_for(&mut self, ctx: Ctx<'_>, outcome: Outcome) -> bool {
        if !outcome.changed && outcome.shown.is_none() || !self.life.withholds() {
            return false;
        }
        let client = ctx.client_id();
        let moment = if outcome.changed { Moment::Changed } else { Moment::Shown };
        let reason = match decide(moment, &mut Asked::new(self, ctx, client)) {
            Hold::AtIterationEnd(reason) => reason,
            _ => match ctx.hold_own_reply() {
                Some(held) => {
                    self.hold_for(client, held, outcome);
                    return false;
                }
                None => Reason::Unblockable,
            },
        };
        if outcome.changed {
            self.wait_in_loop(client, reason);
            false
        } else {
            self.note_read(outcome.shown, reason)
        }
    }

    /// The running unit's reply may show this change. Returns whether there is one to wait for.
    pub(super) fn note_read(&mut self, change: Option<Lsn>, reason: Reason) -> bool {
        let Some(lsn) = self.undurable(change) else { return false };
        let client = self.running.client;
        match self.running.wrapped() {
            // The code that runs the command holds its reply.
            Some(wrapped) => wrapped.read = wrapped.read.max(Some(lsn)),
            None => self.replies.wait_for(client, lsn, reason),
        }
        true
    }

    /// Whose replies show a change by what runs, which is logged only when that has ended.
    pub(super) fn shown_unlogged(&mut self) -> Vec<ClientId> {
        let wrapped = self.running.wrapped().is_some_and(|wrapped| wrapped.changed).then_some(self.running.client);
        self.replies.waiting_for_unit().chain(wrapped).collect()
    }

    /// Has the loop wait for the running unit, which this client's reply shows.
    pub(super) fn wait_in_loop(&mut self, client: ClientId, reason: Reason) {
        if value(Setting::DebugCommands) != 0 {
            log(Level::Debug, &format!("the loop waits with the reply to client {client}: {}", reason.name()));
        }
        self.replies.wait(client, reason);
    }

    /// The reply to what runs waits for the running unit, whose change no event showed.
    pub(super) fn wait_for_running(&mut self, ctx: Ctx<'_>) {
        match self.running.wrapped() {
            // The code that runs the command holds its reply.
            Some(wrapped) => wrapped.changed = true,
            None => self.wait_unheld(ctx),
        }
    }

    /// Has the loop wait before sending the reply to what runs: no event showed its change in which it could be held.
    pub(super) fn wait_unheld(&mut self, ctx: Ctx<'_>) {
        let client = self.running.client;
        let reason = match decide(Moment::Changed, &mut Asked::new(self, ctx, client)) {
            Hold::AtIterationEnd(reason) => reason,
            _ => self.running.as_sent.unwrap_or(Reason::Unblockable),
        };
        self.wait_in_loop(client, reason);
    }

    /// Clients other than the running command's are shown what this change has done.
    pub(super) fn shows_others(&mut self, change: Option<Lsn>) {
        if let Some(lsn) = self.undurable(change) {
            self.iteration.waits.add(None, lsn);
        }
    }

    /// The position, unless it is durable.
    pub(super) fn undurable(&self, lsn: Option<Lsn>) -> Option<Lsn> {
        let log = self.log()?;
        lsn.filter(|lsn| self.life.withholds() && log.log().durable() < *lsn)
    }
}
