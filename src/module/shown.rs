//! What replies show of changes that are not durable yet.

use crate::core::ack::{Hold, Moment, Reason, decide};
use crate::core::capture::Class;
use crate::core::dirty::DbKey;
use crate::core::execution::{IfRun, What};
use crate::core::leaf::ClientId;
use crate::core::pops::Wanted;
use crate::core::reads::{self, Reads};
use crate::core::table::Rule;
use crate::ffi::{ClientInfo, Ctx, Filter, KeyKind};
use crate::log::Lsn;
use crate::machine::now_ms;
use crate::module::Module;
use crate::module::facts::Asked;
use crate::module::known::Known;
use crate::module::listed::{goes_on, info_in, is_blocked_in};
use crate::module::waited::count_wait;

/// An iteration of the event loop, without its sleep, takes no longer unless a single command does.
const ITERATION_MS: i64 = 100;

/// Whether the key of the selected database is missing, or has the type that is wanted.
fn suits(ctx: Ctx<'_>, key: &[u8], wanted: Wanted) -> bool {
    match ctx.key_kind(key) {
        KeyKind::None => true,
        KeyKind::List => wanted == Wanted::List,
        KeyKind::SortedSet => wanted == Wanted::SortedSet,
        KeyKind::String | KeyKind::Stream | KeyKind::Hash | KeyKind::Other => false,
    }
}

impl Module {
    /// Clients whose wait has ended in this iteration, by time-out or by a CLIENT UNBLOCK, with an answer that no event
    /// reported.
    pub(super) fn wait_for_timed_out(&mut self, ctx: Ctx<'_>) {
        let Module { capture, clients, delayed, .. } = self;
        let is_blocked = |client| is_blocked_in(clients, delayed, ctx, client);
        // The server goes by the clock, not by the time of the iteration, which may be earlier.
        let ended = capture.blocked.take_due(now_ms(), is_blocked);
        ended.into_iter().for_each(|client| self.wait_for_answer(ctx, client));
        for client in self.iteration.disconnects.drain(..) {
            ctx.close_client(client);
        }
    }

    /// Commands that wait have found these changes. Where the server would send their answers before their end is seen,
    /// the changes are made durable before they time out; those that are shown soon, at once.
    pub(super) fn wait_for_found(&mut self, ctx: Ctx<'_>, found: Vec<(ClientId, Lsn)>) {
        for (client, change) in found {
            let Hold::AtUnitEnd(_) = self.decide_on_written(ctx, client, Moment::Waits) else { continue };
            // If it waits without a limit, a CLIENT UNBLOCK ends it, which is announced.
            let Some(deadline_ms) = self.times_out_at(client) else { continue };
            if deadline_ms <= self.soon_ms() {
                self.replies.wait_for(client, change, Reason::Blocking);
            } else {
                self.time_outs.add(deadline_ms, client, change);
            }
        }
    }

    /// The same for what was not shown soon, at the end of an iteration.
    pub(super) fn wait_for_soon_shown(&mut self) {
        if self.time_outs.is_empty() {
            return;
        }
        let Some(durable) = self.log().map(|log| log.log().durable()) else { return };
        let soon_ms = self.soon_ms();
        for (client, change) in self.time_outs.take_until(soon_ms, durable) {
            let shown = self.undurable(Some(change));
            self.wait_for_shown(Some(client), shown, Reason::Blocking);
        }
    }

    /// What times out before the end of the next iteration does so by this time, unless that takes long.
    fn soon_ms(&self) -> i64 {
        now_ms().saturating_add(self.server.sleeps_max_ms).saturating_add(ITERATION_MS)
    }

    /// When the client's command times out, which has just begun to wait or did so before.
    fn times_out_at(&self, client: ClientId) -> Option<i64> {
        match &self.running.what {
            What::Command(IfRun::Blocking { deadline_ms, .. } | IfRun::Unseen { deadline_ms, .. })
                if self.running.client == client =>
            {
                *deadline_ms
            }
            _ => self.capture.blocked.deadline_ms(client),
        }
    }

    /// A CLIENT UNBLOCK of this client is announced. Returns whether what its answer shows is to be durable at the end
    /// of the unit.
    pub(super) fn wait_for_unblocked(&mut self, ctx: Ctx<'_>, client: ClientId) -> bool {
        let Hold::AtUnitEnd(_) = self.decide_on_written(ctx, client, Moment::Waits) else { return false };
        let shown = self.capture.blocked.shown(client, &self.dirty);
        self.note_read(shown, Reason::Blocking)
    }

    /// The client sends the next command. If it waited in a blocking one, and that has just ended with an error or
    /// without an answer, no event has reported it.
    pub(super) fn wait_for_ended(&mut self, ctx: Ctx<'_>, client: ClientId) {
        if !self.capture.blocked.is_empty() {
            self.wait_for_answer(ctx, client);
        }
    }

    /// The client's command has ended without an effect, and without an event: its answer is written, and depends on
    /// what it waited for.
    pub(super) fn wait_for_answer(&mut self, ctx: Ctx<'_>, client: ClientId) {
        let shown = self.undurable(self.capture.blocked.shown(client, &self.dirty));
        match self.decide_on_written(ctx, client, Moment::EndedUnseen) {
            _ if shown.is_none() => {}
            Hold::AtIterationEnd(reason) => self.wait_for_shown(Some(client), shown, reason),
            _ => self.iteration.disconnects.push(client),
        }
    }

    /// The running unit changes what these clients wait for: the server may serve them at its end, without an event.
    pub(super) fn wait_for_readers(&mut self, ctx: Ctx<'_>, readers: Vec<ClientId>) {
        for reader in readers {
            if let Hold::AtIterationEnd(reason) = self.decide_on_written(ctx, reader, Moment::MayBeServed) {
                self.wait_in_loop(reader, reason);
            }
        }
    }

    /// The running unit has changed this key: clients that the server may serve at its end without an event, even with
    /// an error, wait for it.
    pub(super) fn wait_for_waiting(&mut self, ctx: Ctx<'_>, db: u32, key: &[u8]) {
        let readers = self.capture.blocked.readers_of(db, key);
        self.wait_for_readers(ctx, readers);
        let failing = self.capture.blocked.pops.changed(db, key, |wanted| suits(ctx, key, wanted));
        self.wait_for_failing(ctx, failing);
    }

    /// The same for all keys.
    pub(super) fn wait_for_all_waiting(&mut self, ctx: Ctx<'_>) {
        let blocked = &self.capture.blocked;
        let (readers, failing) = (blocked.all_readers(), blocked.pops.failing());
        self.wait_for_readers(ctx, readers);
        self.wait_for_failing(ctx, failing);
    }

    /// These commands may be served with an error at the end of the running unit, which no event reports: the loop
    /// waits for the unit, and so for all that came before.
    fn wait_for_failing(&mut self, ctx: Ctx<'_>, clients: Vec<ClientId>) {
        for client in clients {
            if !self.is_blocked(ctx, client) {
                // Its wait has ended, and it has sent nothing since.
                self.capture.blocked.pops.remove(client);
            } else if let Hold::AtIterationEnd(reason) = self.decide_on_written(ctx, client, Moment::MayFail) {
                self.wait_in_loop(client, reason);
            }
        }
    }

    /// The client waits in a command that may move an element to a key, which the server has not looked at yet.
    pub(super) fn look_at_destination(&mut self, ctx: Ctx<'_>, client: ClientId, keys: &[DbKey], wanted: Wanted) {
        let own = ctx.own();
        let is_wrong = |(db, key): &DbKey| own.select_db(*db) && !suits(own, key, wanted);
        if keys.iter().any(is_wrong) {
            self.capture.blocked.pops.may_fail(client);
        }
    }

    /// These clients may have been served without an event, which is a unit of its own.
    pub(super) fn wait_for_served(&mut self, ctx: Ctx<'_>, readers: &[ClientId]) {
        let running = self.running.client;
        match self.decide_on_written(ctx, running, Moment::EndedUnseen) {
            Hold::AtIterationEnd(reason) => {
                readers.iter().chain([&running]).for_each(|reader| self.wait_in_loop(*reader, reason));
            }
            _ => readers.iter().filter(|reader| !self.is_blocked(ctx, **reader)).for_each(|reader| {
                ctx.close_client(*reader);
            }),
        }
    }

    /// Commands that a pause had made wait have changed what the running unit logs.
    pub(super) fn wait_for_run_after_pause(&mut self, ctx: Ctx<'_>) {
        let client = self.running.client;
        if let Hold::AtIterationEnd(reason) = self.decide_on_written(ctx, client, Moment::Resumed) {
            self.wait_in_loop(client, reason);
        }
    }

    fn decide_on_written(&mut self, ctx: Ctx<'_>, client: ClientId, moment: Moment) -> Hold {
        decide(moment, &mut Asked::new(self, ctx, client))
    }

    /// The loop waits for a change that an already written reply shows, this client's if that is known.
    fn wait_for_shown(&mut self, client: Option<ClientId>, shown: Option<Lsn>, reason: Reason) {
        if let Some(shown) = shown {
            count_wait(&mut self.counters, &mut self.iteration, reason);
            self.iteration.waits.add(client, shown);
        }
    }

    /// Commands that a pause (CLIENT PAUSE, a failover) made wait passed the filter before it; what they show is
    /// unknown. The loop waits, unless the pause is on and they still wait: nothing else is known to end it, and a
    /// failover is to end while the disk hangs.
    pub(super) fn wait_for_resumed(&mut self, ctx: Ctx<'_>, is_paused: bool) {
        let shown = if self.delayed.is_empty() { None } else { self.undurable(self.newest_of_all()) };
        if shown.is_none() || is_paused && self.delays_all(ctx) {
            return;
        }
        if let Hold::AtIterationEnd(reason) = self.decide_on_written(ctx, self.running.client, Moment::Resumed) {
            self.wait_for_shown(None, shown, reason);
        }
    }

    /// In a pause: whether no delayed command has run, and the end of the iteration in which they do comes before their
    /// replies leave.
    fn delays_all(&mut self, ctx: Ctx<'_>) -> bool {
        let appended = self.appended();
        let Module { clients, delayed, .. } = self;
        let waits = |client| info_in(clients, ctx, client).is_some_and(|info| info.blocked) || goes_on(ctx, client);
        if delayed.ended_in_pause(appended, waits) {
            return false;
        }
        delayed.is_empty() || self.decide_on_written(ctx, self.running.client, Moment::Postponed) == Hold::Nothing
    }

    /// What the reply to a command at top level may show, not durable yet, and its client where that was asked about.
    pub(super) fn shown_at_top(
        &self,
        ctx: Ctx<'_>,
        filter: &Filter,
        known: Known,
    ) -> (Option<ClientInfo>, Option<Lsn>) {
        let anywhere = self.newest_read(ctx, filter, known, None);
        if known.is_other_modules() && self.server.io_threads.may_send() {
            // It may block its client, and answer with anything as soon as it has run.
            return (None, self.newest_of_all());
        }
        // The client's database is asked for only if a key of that name is dirty in any, and not where only names are
        // noted.
        if anywhere.is_none() || self.commits_inline() {
            return (None, anywhere);
        }
        let info = self.info_of(ctx, filter.client_id());
        (info, info.and_then(|info| self.newest_read(ctx, filter, known, Some(info.db))))
    }

    /// Whether the reply to a command of this client's waits for the end of the iteration whatever it shows: it is a
    /// write that raises an event if it changes anything, and the main thread commits before the reply can leave.
    pub(super) fn waits_anyway(&mut self, ctx: Ctx<'_>, client: ClientId, known: Known) -> bool {
        let Class::Write(spec) = known.class else { return false };
        let shows_if_silent = !spec.may_block() && !spec.is_wrapped() && spec.rule != Rule::Bits;
        if !shows_if_silent || self.dirty.is_empty() || !self.commits_inline() || self.disk_fails() {
            return false;
        }
        let moment = Moment::UnitEnded(Reason::Inline);
        let mut facts = Asked::new(self, ctx, client).without_commands();
        decide(moment, &mut facts) == Hold::AtIterationEnd(Reason::Inline)
    }

    /// The client's reply is written, and may show anything that is not durable yet: the loop waits for all of that.
    pub(super) fn wait_for_all(&mut self, client: ClientId, reason: Reason) {
        let shown = self.undurable(self.newest_of_all());
        self.wait_for_shown(Some(client), shown, reason);
    }

    /// Other modules answer clients that they have blocked at any time, with what they read then, and nothing reports
    /// that. If such a client waits no longer, its answer is written, and the loop waits for all that it may show.
    pub(super) fn wait_for_modules_answers(&mut self, ctx: Ctx<'_>) {
        let (waiting, answered): (Vec<_>, Vec<_>) =
            self.clients.take_blocked_by_modules().into_iter().partition(|client| self.is_blocked(ctx, *client));
        waiting.into_iter().for_each(|client| self.note_blocked_by_module(ctx, client));
        answered.into_iter().for_each(|client| self.wait_for_all(client, Reason::OtherModule));
    }

    fn newest_of_all(&self) -> Option<Lsn> {
        self.dirty.any_change().max(self.dirty.functions_change())
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
                match reads::destination(known.row.rule, &all) {
                    Some((made, there)) => {
                        let made = there.map_or_else(|| key(made), |there| self.dirty.key(there, made));
                        key(all.get(1)?).max(made)
                    }
                    None => self.dirty.any_change(),
                }
            }
            Reads::Movable | Reads::Sort => {
                let mut positions = ctx.command_keys(args());
                positions.sort_unstable();
                let keys = args().enumerate().filter(|(index, _)| positions.binary_search(index).is_ok());
                keys.filter_map(|(_, arg)| key(arg)).max()
            }
            Reads::Keyspace => keyspace(),
            Reads::Functions | Reads::Script => self.dirty.functions_change(),
            Reads::Anything => self.newest_of_all(),
        };
        self.undurable(newest)
    }
}
