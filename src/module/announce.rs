//! Commands before they run: what they may change is announced to the capture, what their reply may show is noted, and
//! those that the module must run itself are turned into its own commands.

use crate::core::capture::Class;
use crate::core::client::Transaction;
use crate::core::leaf::ClientId;
use crate::core::reads::{self, Reads};
use crate::core::table::Rule;
use crate::ffi::{ClientInfo, Ctx, Filter, Rights, client_info, watch_results};
use crate::log::Lsn;
use crate::module::arguments::{
    NAME_BYTES_MAX, is_client_pause, is_failing_bitfield, key_positions, lower_case, read_blocks, selected_db,
    unblocked_client,
};
use crate::module::server::Known;
use crate::module::settle::{Announced, belongs_to_running, settle};
use crate::module::units::{ask_for_unit_end, finish_deferred, finish_late, finish_suspects, wait_before_yield};
use crate::module::{Module, server, with, wrap};
use std::ffi::CStr;

/// An id that no client has.
const NO_CLIENT: &[u8] = b"0";

/// What an EXEC gets for an argument whose commands were queued before they were seen: what they do could not be
/// logged. It takes none, so that the server refuses it, and says so.
const UNSEEN_QUEUE: &CStr = c"queued-before-the-log-began";

/// What the filter makes of a command.
#[derive(Default)]
pub(super) struct Verdict {
    /// The command may run long, and the server sends other clients' replies meanwhile.
    pub(super) may_yield: bool,
    /// Ask to be called at the end of the unit.
    pub(super) watch_unit: bool,
    /// Run it through this command of the module.
    pub(super) wrap: Option<&'static CStr>,
    /// Have the server refuse it.
    pub(super) refuse: bool,
}

impl Verdict {
    pub(super) const PASS: Verdict = Verdict { may_yield: false, watch_unit: false, wrap: None, refuse: false };
    pub(super) const WATCH: Verdict = Verdict { watch_unit: true, ..Verdict::PASS };

    pub(super) fn wrap(name: &'static CStr) -> Verdict {
        Verdict { wrap: Some(name), ..Verdict::PASS }
    }
}

/// A command is about to run or to be queued, at top level or from a script or module.
pub fn command_filter(ctx: Ctx<'_>, filter: Filter) {
    finish_deferred(ctx);
    let nested = is_nested(ctx, &filter);
    if !nested {
        settle(ctx);
        finish_late(ctx);
    }
    // A blocked reader that the command before served has run by now, unseen; what it did comes before what this
    // command does.
    if with(|module| module.capture.has_suspects()) == Some(true) {
        finish_suspects(ctx);
    }
    if with(|module| {
        unblocked_client(&filter)
            .is_some_and(|client| module.clients.get(client).is_some_and(|client| client.is_answered))
    }) == Some(true)
    {
        // That client has its answer and waits for the disk only; for the server's eyes it is not blocked.
        return filter.replace(2, NO_CLIENT);
    }
    let verdict = with(|module| match &module.life {
        life if life.logs() => module.announce(ctx, &filter, nested),
        life if life.refuses_writes() => module.announce_without_log(&filter),
        _ => Verdict::PASS,
    });
    let Some(verdict) = verdict else { return };
    if verdict.may_yield {
        wait_before_yield(ctx);
    }
    if verdict.watch_unit {
        ask_for_unit_end(ctx);
    }
    if let Some(name) = verdict.wrap {
        filter.insert(0, name);
    } else if verdict.refuse {
        filter.insert(1, UNSEEN_QUEUE);
    }
}

/// Whether the command is one of a script's or another module's, inside of a client's command or by itself.
fn is_nested(ctx: Ctx<'_>, filter: &Filter) -> bool {
    let inside = with(|module| module.frame.is_some() || !module.clients.contains(filter.client_id()));
    // The commands of an EXEC have passed the filter before.
    let flags = ctx.flags();
    inside != Some(false) || flags.in_script() || flags.in_exec() || belongs_to_running(ctx, filter.client_id())
}

impl Module {
    /// A command that the server refused, after it was announced, has changed and shown nothing: the end of a unit
    /// comes before the next command.
    pub(super) fn drop_leftovers(&mut self) {
        if self.frame.is_none() && !self.unit_end_deferred && self.unit_holds.is_empty() && !self.capture.has_unit() {
            self.unit_reads = None;
            self.unit_waits = false;
            self.unit_waiters.clear();
        }
    }

    /// What is known of a connected client; `None` for those of scripts and modules.
    pub(super) fn info_of(&self, ctx: Ctx<'_>, client: ClientId) -> Option<ClientInfo> {
        match self.clients.get(client)? {
            record if record.shares_id => server::listed_client_info(ctx, client),
            _ => client_info(client),
        }
    }

    /// What the command is, by its name (and its subcommand's).
    pub(super) fn known(&self, name: &[u8], subcommand: &[u8]) -> Known {
        let mut lower = [0; NAME_BYTES_MAX];
        let Some(len) = lower_case(name, &mut lower, 0) else { return Known::UNKNOWN };
        let known = self.commands.get(&lower[..len]).copied().unwrap_or(Known::UNKNOWN);
        if known.class != Class::Container {
            let shows = known.reads != Reads::Keyspace || &lower[..len] != b"debug" || reads::debug_shows(subcommand);
            return if shows { known } else { Known { reads: Reads::Nothing, ..known } };
        }
        lower[len] = b'|';
        let Some(len) = lower_case(subcommand, &mut lower, len + 1) else { return Known::HARMLESS };
        self.commands.get(&lower[..len]).copied().unwrap_or(Known::HARMLESS)
    }

    fn announce(&mut self, ctx: Ctx<'_>, filter: &Filter, is_nested: bool) -> Verdict {
        let client = filter.client_id();
        let known = self.known(filter.arg(0), filter.arg(1));
        if filter.arg(0).eq_ignore_ascii_case(b"config") {
            // RESETSTAT.
            self.capture.forget_error_replies();
        }
        if !is_nested {
            self.drop_leftovers();
            self.top_client = client;
        }
        match known.class {
            // Neither scripts nor modules can run these.
            Class::Multi | Class::EndMulti => return self.announce_bounds(client, known.class),
            // While another client's script runs long the server refuses it, and discards the transaction.
            Class::Exec if is_nested => return self.announce_bounds(client, Class::EndMulti),
            Class::Exec => return self.announce_exec(ctx, client),
            Class::Watch | Class::Unwatch => return self.announce_watch(ctx, filter, client, known.class),
            _ => {}
        }
        if is_nested {
            // Scripts of one EXEC may begin in different databases.
            let flags = ctx.flags();
            let db = if flags.in_script() && !flags.in_exec() { self.script_db } else { None };
            let reads = self.note_read(self.newest_read(ctx, filter, known.reads, db));
            // It may go by the id of an EXEC's client, and is none of what that has queued.
            let client = if self.capture.is_queueing(client) { 0 } else { client };
            if filter.arg(0).eq_ignore_ascii_case(b"client") {
                self.announce_client_command(ctx, filter);
            }
            let verdict = self.announce_running(ctx, filter, client, known, None);
            // The end asked for before may have come already, when the server made room.
            return Verdict { watch_unit: verdict.watch_unit || reads, ..verdict };
        }
        self.stop_stepping(ctx);
        self.clients.is_awake(client);
        if self.is_queueing(ctx, client) {
            return self.announce_queued(ctx, filter, client, known);
        }
        self.announce_top(ctx, filter, client, known)
    }

    /// Whether what this client sends is queued.
    fn is_queueing(&mut self, ctx: Ctx<'_>, client: ClientId) -> bool {
        if !self.capture.is_queueing(client) {
            return false;
        }
        let queueing = self.info_of(ctx, client).is_some_and(|info| info.in_multi);
        if !queueing {
            self.capture.not_queueing(client);
        }
        queueing
    }

    fn announce_bounds(&mut self, client: ClientId, class: Class) -> Verdict {
        if class == Class::EndMulti {
            self.clients.get_mut(client).into_iter().for_each(|client| {
                client.transaction = Transaction::default();
                client.has_unseen_queue = false;
            });
        }
        self.capture.command(client, class, None, std::iter::empty());
        Verdict::PASS
    }

    fn announce_exec(&mut self, ctx: Ctx<'_>, client: ClientId) -> Verdict {
        self.stop_stepping(ctx);
        self.postponed |= self.may_be_postponed(ctx, Known::UNKNOWN);
        // Calls at the end of such a unit would end the pause before it begins, which the server asserts against.
        let Some(record) = self.clients.get_mut(client) else { return Verdict::PASS };
        if std::mem::take(&mut record.has_unseen_queue) {
            record.transaction = Transaction::default();
            return Verdict { refuse: true, ..Verdict::PASS };
        }
        self.unit_end_deferred = std::mem::take(&mut record.queued_pause);
        let db = self.info_of(ctx, client).map_or(0, |info| info.db);
        self.capture.command(client, Class::Exec, Some(db), std::iter::empty());
        (self.script_db, self.script_select) = (Some(db), None);
        let Some(record) = self.clients.get_mut(client) else { return Verdict::PASS };
        let unblocks = std::mem::take(&mut record.queued_unblock);
        let (mut shown, runs_others) = record.transaction.finish(db, &self.dirty);
        if unblocks && self.capture.has_waiting_commands() {
            // Whose wait it ends gets an answer that depends on keys which that waited for.
            shown = shown.max(self.dirty.any_change());
        }
        // Only its queueing passes the filter, so that whatever it runs is waited for here.
        let may_yield = runs_others;
        let reads = self.note_read(shown) || runs_others && !self.dirty.is_empty();
        // Where it has no writes, what its scripts do is seen as that of any script.
        if !self.capture.has_queued_writes(client) || self.watch_results(ctx) {
            self.capture.exec_stepwise(client);
        } else if self.capture.exec(client, || server::error_replies(ctx), ctx.unit_time_us() / 1000) {
            self.announced = Announced::UnseenExec { runs_before: server::runs_of(ctx, "exec") };
            return Verdict { may_yield, ..Verdict::WATCH };
        }
        Verdict { may_yield, watch_unit: reads, ..Verdict::PASS }
    }

    /// Has the server tell when each command of the EXEC that is about to run has run, where it can.
    fn watch_results(&mut self, ctx: Ctx<'_>) -> bool {
        self.results_watched = self.tells_results && watch_results(ctx, true);
        self.tells_results = self.results_watched;
        self.results_watched
    }

    /// A connected client has sent a command, so that no EXEC runs. Each command would cost if the server went on to
    /// tell.
    fn stop_stepping(&mut self, ctx: Ctx<'_>) {
        self.capture.stop_stepping();
        // Within a wait that lets other clients in, the server may be going through its listeners.
        if self.waits_for_resume {
            return;
        }
        if std::mem::take(&mut self.results_watched) {
            watch_results(ctx, false);
        }
    }

    fn announce_watch(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId, class: Class) -> Verdict {
        self.capture.command(client, Class::ReadOnly, None, std::iter::empty());
        match self.info_of(ctx, client) {
            Some(info) if class == Class::Watch && !info.in_multi => {
                let keys = (1..filter.len()).map(|index| (info.db, filter.arg(index).into()));
                self.announced = Announced::Watch(keys.collect());
            }
            Some(info) if class == Class::Unwatch && !info.in_multi => {
                self.clients.get_mut(client).into_iter().for_each(|client| client.transaction.unwatch());
            }
            _ => {}
        }
        Verdict::PASS
    }

    /// Whether the server has refused to queue a command that the client has sent before this one. It keeps none of
    /// those behind it; now and then it is asked how many it has.
    fn was_refused(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId) -> bool {
        let bytes = (0..filter.len()).map(|index| filter.arg(index).len()).sum();
        let sent = self.capture.queued_one(client, bytes);
        sent.is_some_and(|sent| server::queued_commands(ctx, client).is_some_and(|kept| kept < sent))
    }

    /// A command that its client queues.
    fn announce_queued(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId, known: Known) -> Verdict {
        let positions = key_positions(ctx, filter, known.reads);
        let refused = known.refuses(filter.len()) || known.is_unknown();
        if refused || self.was_refused(ctx, filter, client) {
            self.clients.get_mut(client).into_iter().for_each(|client| client.transaction.queued.refuse());
            self.capture.refuse_queue(client);
            return Verdict::PASS;
        }
        let Some(record) = self.clients.get_mut(client) else { return Verdict::PASS };
        let set = &mut record.transaction.queued;
        if known.class == Class::Opaque {
            set.runs_others();
        }
        match known.reads {
            Reads::Keyspace | Reads::Sort => set.keyspace(),
            Reads::Functions => set.functions(),
            Reads::Script => {
                set.functions();
                set.runs_others();
            }
            _ if filter.arg(0).eq_ignore_ascii_case(b"select") => set.anything(),
            Reads::TwoDatabases => set.anything(),
            _ => positions.into_iter().for_each(|index| set.key(filter.arg(index))),
        }
        record.queued_pause |= is_client_pause(filter);
        record.queued_unblock |= unblocked_client(filter).is_some();
        // CONFIG RESETSTAT sets the count of error replies back, which shows whether one of the commands has failed.
        let class = if filter.arg(0).eq_ignore_ascii_case(b"config") { Class::Opaque } else { known.class };
        let args = (0..filter.len()).map(|index| filter.arg(index));
        self.capture.command(client, class, None, args);
        self.note_unknown(ctx, filter, known.class);
        if let Some(db) = selected_db(ctx, filter) {
            self.capture.queued_select(client, db);
        }
        Verdict::PASS
    }

    /// A command that a connected client wants to have run now.
    fn announce_top(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId, known: Known) -> Verdict {
        // The client's database is asked for only if a key of that name is dirty in any.
        let info = match self.newest_read(ctx, filter, known.reads, None) {
            None => None,
            Some(_) => self.info_of(ctx, client),
        };
        let shown = info.and_then(|info| self.newest_read(ctx, filter, known.reads, Some(info.db)));
        self.postponed |= self.may_be_postponed(ctx, known);
        let asked = self.clients.get_mut(client).is_some_and(|client| std::mem::take(&mut client.asking));
        // What the server refuses by itself shows nothing.
        if known.refuses(filter.len()) {
            return self.announce_nothing(client);
        }
        if let Some(wrapper) = self.wrapper(filter, known, shown) {
            let as_sent = self.must_run_as_sent(ctx, client, known, asked);
            if !as_sent && self.may_be_held(ctx, filter, known, info) {
                match filter.rights(ctx, wrapper) {
                    Rights::None => return self.announce_nothing(client),
                    Rights::Own => {}
                    Rights::Both => {
                        self.announce_nothing(client);
                        return Verdict::wrap(wrapper);
                    }
                }
            }
        }
        if filter.arg(0).eq_ignore_ascii_case(b"client") {
            self.announce_client_command(ctx, filter);
        } else if filter.arg(0).eq_ignore_ascii_case(b"asking") {
            self.clients.get_mut(client).into_iter().for_each(|client| client.asking = true);
        } else if filter.arg(0).eq_ignore_ascii_case(b"script") && filter.arg(1).eq_ignore_ascii_case(b"debug") {
            self.clients.get_mut(client).into_iter().for_each(|client| client.debugs_scripts = true);
        }
        let reads = self.note_read(shown);
        let verdict = self.announce_running(ctx, filter, client, known, Some(client));
        Verdict { watch_unit: verdict.watch_unit || reads, ..verdict }
    }

    /// The server refuses the command, or has the module run it.
    fn announce_nothing(&mut self, client: ClientId) -> Verdict {
        self.capture.command(client, Class::ReadOnly, None, std::iter::empty());
        Verdict::PASS
    }

    /// Whether only the server itself can run the command as it should.
    fn must_run_as_sent(&self, ctx: Ctx<'_>, client: ClientId, known: Known, asked: bool) -> bool {
        let is_script = known.reads == Reads::Script;
        let is_count = matches!(known.class, Class::Write(spec) if spec.rule == Rule::CardinalityCache);
        // A script of the module's own does not know of an ASKING, and cannot be debugged.
        is_script && (asked || self.clients.get(client).is_some_and(|client| client.debugs_scripts))
            // A pause of writes stops some of these, and nothing may be replicated.
            || (is_script || is_count) && ctx.writes_are_paused()
    }

    /// Whether a CLIENT PAUSE may make the command wait, which has passed the filter then.
    fn may_be_postponed(&mut self, ctx: Ctx<'_>, known: Known) -> bool {
        let harmless = known.class == Class::ReadOnly && known.reads == Reads::Nothing;
        !harmless && self.sees_pause(ctx)
    }

    /// A subcommand of CLIENT that matters here.
    fn announce_client_command(&mut self, ctx: Ctx<'_>, filter: &Filter) {
        if filter.arg(1).eq_ignore_ascii_case(b"tracking") {
        } else if let Some(client) = unblocked_client(filter)
            && self.capture.waiting_command(client).is_some()
        {
            self.clients.set_deadline(client, ctx.unit_time_us() / 1000);
        }
    }

    /// The module's command that is to run this one: because no event tells (enough) of what it does, because its reply
    /// shows `shown`, or because it may block for what is not durable.
    fn wrapper(&self, filter: &Filter, known: Known, shown: Option<Lsn>) -> Option<&'static CStr> {
        let active = self.life.is_active();
        let blocks = || read_blocks(filter);
        match known.class {
            Class::Write(spec) if spec.rule == Rule::CardinalityCache => {
                // Only the count of a single key is cached.
                (filter.len() == 2 || shown.is_some()).then_some(wrap::READ)
            }
            Class::Write(spec) if spec.is_wrapped() => (active || !spec.blocks || !blocks()).then_some(wrap::CALL),
            Class::Write(spec) if is_failing_bitfield(filter, spec) => Some(wrap::CALL),
            // The server lets RESTORE-ASKING into a slot that arrives, and not the module's command.
            Class::Write(spec) if spec.blocks || spec.is_unknown() || spec.name == "restore-asking" => None,
            Class::Write(spec) => {
                let args = || (0..filter.len()).map(|index| filter.arg(index));
                let may_show = || shown.is_some() && !reads::is_effective(spec.name, args());
                (active && reads::replies_early(spec.name, args()) || may_show()).then_some(wrap::CALL)
            }
            Class::Opaque if known.reads == Reads::Script => active.then_some(wrap::EVAL),
            Class::ReadOnly if known.reads == Reads::Script => {
                (active && !self.dirty.is_empty()).then_some(wrap::EVAL_RO)
            }
            Class::ReadOnly if known.stream_reader && active && blocks() => Some(wrap::READ),
            Class::ReadOnly if shown.is_some() => Some(wrap::READ),
            _ => None,
        }
    }

    /// Whether the client's reply to a command that the module runs can be held: else the loop waits for it. What must
    /// be run by the module to be seen is, whoever waits then.
    fn may_be_held(&mut self, ctx: Ctx<'_>, filter: &Filter, known: Known, info: Option<ClientInfo>) -> bool {
        let client = filter.client_id();
        // A subscriber may run certain commands only, and is told their names.
        let Some(info) = info.or_else(|| self.info_of(ctx, client)).filter(|info| !info.subscribed) else {
            return false;
        };
        if matches!(known.class, Class::Write(spec) if spec.is_wrapped() || is_failing_bitfield(filter, spec)) {
            return true;
        }
        // Invalidations of a held client leave before its reply.
        !info.tracking && (self.paused || !self.clients.is_pipelining(client))
    }
}
