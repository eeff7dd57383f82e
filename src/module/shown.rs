//! What replies show of changes that are not durable yet.

use crate::core::leaf::{Args, ClientId};
use crate::core::reads::{self, Reads};
use crate::ffi::{Ctx, Filter};
use crate::log::Lsn;
use crate::module::Module;
use crate::module::known::Known;
use crate::module::waits::now_ms;

/// The server looks after the end of a pause now and then: all that waited for it has run when this has passed.
const PAUSE_REMAINS_MS: i64 = 1000;

impl Module {
    /// Clients whose blocked command has timed out in this iteration: the loop waits for what that shows.
    pub(super) fn wait_for_timed_out(&mut self, ctx: Ctx<'_>) {
        // The server looks at the clock, not at the time of the iteration, which may be earlier.
        let now_ms = now_ms();
        while let Some(client) = self.clients.take_due(now_ms) {
            if self.info_of(ctx, client).is_some_and(|info| info.blocked) {
                self.clients.set_deadline(client, now_ms + 1);
                continue;
            }
            let shown = self.shown_by_ended(ctx, client);
            if self.paused && shown.is_some() {
                // While the loop waits for a RESUME nothing could keep its answer, which is written already, from being
                // sent.
                ctx.close_client(client);
            } else {
                self.iteration.waits_for = self.iteration.waits_for.max(shown);
            }
        }
    }

    /// The client sends the next command. If it waited in a blocking one, and that has ended just now, with an error or
    /// without an answer, no event has told of it: the loop waits for what it shows.
    pub(super) fn wait_for_ended(&mut self, ctx: Ctx<'_>, client: ClientId) {
        if !self.paused && self.has_waiting_clients() {
            let shown = self.shown_by_ended(ctx, client);
            self.iteration.waits_for = self.iteration.waits_for.max(shown);
        }
    }

    /// Whether anybody may wait in a command that the server has blocked.
    pub(super) fn has_waiting_clients(&self) -> bool {
        self.capture.has_waiting_commands() || self.clients.has_readers()
    }

    /// What the answer of a blocking command shows that has ended without changing anything.
    fn shown_by_ended(&self, ctx: Ctx<'_>, client: ClientId) -> Option<Lsn> {
        let of_streams = self.clients.awaited_change(client, &self.dirty);
        self.undurable(of_streams).max(self.shown_by_pop(ctx, client))
    }

    fn shown_by_pop(&self, ctx: Ctx<'_>, client: ClientId) -> Option<Lsn> {
        let args = self.capture.waiting_command(client).map(Args::slices)?;
        let known = self.server.commands.known(args.first()?, b"");
        self.newest_change(ctx, args.len(), || args.iter().copied(), known, None)
    }

    /// Commands that a pause (CLIENT PAUSE, a failover) made wait have passed the filter before it; what they show is
    /// not known. The loop waits. `at_end`: of an iteration, within which others that waited may run yet.
    pub(super) fn wait_for_resumed(&mut self, ctx: Ctx<'_>, at_end: bool) {
        if self.pause.postponed {
            self.pause.postponed =
                !at_end || self.sees_pause(ctx) || now_ms() < self.pause.seen_ms.saturating_add(PAUSE_REMAINS_MS);
            let shown = self.undurable(self.dirty.any_change().max(self.dirty.functions_change()));
            self.iteration.waits_for = self.iteration.waits_for.max(shown);
        }
    }

    /// Whether a pause of writes is on: CLIENT PAUSE, a failover, a slot that moves.
    pub(super) fn sees_pause(&mut self, ctx: Ctx<'_>) -> bool {
        let paused = ctx.writes_are_paused();
        if paused {
            self.pause.seen_ms = now_ms();
        }
        paused
    }

    /// The newest change, not durable yet, that the reply to the command may show. Without a database: in any.
    pub(super) fn newest_read(&self, ctx: Ctx<'_>, filter: &Filter, known: Known, db: Option<u32>) -> Option<Lsn> {
        if self.dirty.is_empty() || known.reads == Reads::Nothing {
            return None;
        }
        let args = || (0..filter.len()).map(|index| filter.arg(index));
        self.newest_change(ctx, filter.len(), args, known, db)
    }

    /// The same for arguments that are not a filter's.
    pub(super) fn newest_change<'a, A: Iterator<Item = &'a [u8]>>(
        &self,
        ctx: Ctx<'_>,
        len: usize,
        args: impl Fn() -> A,
        known: Known,
        db: Option<u32>,
    ) -> Option<Lsn> {
        let key = |key: &[u8]| db.map_or_else(|| self.dirty.key_anywhere(key), |db| self.dirty.key(db, key));
        let keyspace = || db.map_or_else(|| self.dirty.any_change(), |db| self.dirty.database_change(db));
        let by_pattern = |arg: &[u8]| arg.eq_ignore_ascii_case(b"BY") || arg.eq_ignore_ascii_case(b"GET");
        let newest = match known.reads {
            Reads::Nothing => None,
            Reads::Range { first, last, step } => {
                let end = reads::range(first, last, step, len).last()?;
                let keys = args().take(end + 1).enumerate().skip(first);
                keys.filter(|(index, _)| (index - first) % step == 0).filter_map(|(_, arg)| key(arg)).max()
            }
            Reads::Sort if args().skip(2).any(by_pattern) => keyspace(),
            Reads::Pairs => {
                let count = reads::pairs(args().nth(1).unwrap_or_default(), len).count();
                args().skip(2).step_by(2).take(count).filter_map(key).max()
            }
            Reads::TwoDatabases => {
                let all: Vec<&[u8]> = args().collect();
                let (made, there) = reads::destination(known.row.rule, &all)?;
                let made = there.map_or_else(|| key(made), |there| self.dirty.key(there, made));
                key(all.get(1)?).max(made)
            }
            Reads::Movable | Reads::Sort => {
                let mut positions = ctx.command_keys(args());
                positions.sort_unstable();
                let keys = args().enumerate().filter(|(index, _)| positions.binary_search(index).is_ok());
                keys.filter_map(|(_, arg)| key(arg)).max()
            }
            Reads::Keyspace => keyspace(),
            Reads::Functions | Reads::Script => self.dirty.functions_change(),
        };
        self.undurable(newest)
    }
}
