//! What the server tells: commands before they run, changed keys, ends of units, the event loop.

use crate::core::capture::Class;
use crate::core::leaf::{Event, EventKind, Outcome, Query};
use crate::core::table::{CommandSpec, Rule};
use crate::ffi::{CallMode, ClientInfo, Ctx, Filter, LoadingPhase, client_info, may_run};
use crate::log::Lsn;
use crate::module::units::{finish_suspects, finish_unit, wait_now};
use crate::module::{Module, State, UnitHold, lifecycle, recovery, with, wrap};

/// Longest command name that the table knows, with room for subcommands.
const NAME_BYTES_MAX: usize = 64;

/// What the filter makes of a command.
enum Verdict {
    Pass,
    /// It may run long and let other clients' replies out meanwhile: what waits in the loop must be durable first.
    WaitFirst(Lsn),
    /// Ask to be called at the end of the unit.
    WatchUnit,
    /// Run it through the module's own command.
    Wrap,
}

/// A command is about to run or to be queued, at top level or from a script or module.
pub fn command_filter(ctx: Ctx<'_>, filter: Filter) {
    finish_deferred(ctx);
    // A blocked reader that the command before served has run by now, unseen; what it did comes before what this command does.
    if with(|module| module.capture.has_suspects()) == Some(true) {
        finish_suspects(ctx);
    }
    let verdict = with(|module| if module.state.logs() { module.announce(ctx, &filter) } else { Verdict::Pass });
    match verdict {
        Some(Verdict::Wrap) => filter.insert_first(wrap::COMMAND),
        Some(Verdict::WatchUnit) => {
            ctx.ask_for_unit_end();
        }
        Some(Verdict::WaitFirst(lsn)) => wait_now(ctx, lsn),
        Some(Verdict::Pass) | None => {}
    }
}

impl Module {
    /// What is known of a connected client; `None` for those of scripts and modules.
    fn info_of(&self, client: u64) -> Option<ClientInfo> {
        self.clients.contains(&client).then(|| client_info(client)).flatten()
    }

    /// A subcommand of CLIENT is about to run or to be queued.
    fn announce_client_command(&mut self, filter: &Filter, client: u64) {
        if filter.arg(1).eq_ignore_ascii_case(b"tracking") {
            self.tracking_seen = true;
        } else if filter.arg(1).eq_ignore_ascii_case(b"pause") && self.capture.is_queueing(client) {
            self.pause_queued.insert(client);
        }
    }

    fn class_of(&self, filter: &Filter) -> Class {
        let mut name = [0; NAME_BYTES_MAX];
        let Some(len) = lower_case(filter.arg(0), &mut name, 0) else { return Class::Opaque };
        let class = self.classes.get(&name[..len]).copied().unwrap_or(Class::Opaque);
        if class != Class::Container {
            return class;
        }
        name[len] = b'|';
        let Some(len) = lower_case(filter.arg(1), &mut name, len + 1) else { return Class::ReadOnly };
        self.classes.get(&name[..len]).copied().unwrap_or(Class::ReadOnly)
    }

    fn announce(&mut self, ctx: Ctx<'_>, filter: &Filter) -> Verdict {
        let client = filter.client_id();
        let class = self.class_of(filter);
        match class {
            Class::Write(spec) if spec.is_wrapped() => self.announce_wrapped(ctx, filter, client, spec),
            Class::Exec => {
                self.top_client = client;
                // Calls at the end of such a unit would end the pause before it begins, which the server asserts against.
                self.unit_end_deferred = self.pause_queued.remove(&client);
                self.capture.command(client, class, None, std::iter::empty());
                let db = self.info_of(client).map_or(0, |info| info.db);
                self.script_db = Some(db);
                if self.capture.exec(client, ctx.unit_time_us() / 1000) {
                    self.unit_waits = true;
                    return Verdict::WatchUnit;
                }
                Verdict::Pass
            }
            Class::Opaque => {
                self.announce_opaque(client);
                self.iteration_waits_for.map_or(Verdict::Pass, Verdict::WaitFirst)
            }
            Class::Write(spec) => {
                // COPY and MOVE name another database, so that their events do not tell their own.
                let names_db = spec.rule == Rule::Copy || spec.name == "move";
                let db = if names_db { self.info_of(client).map(|info| info.db) } else { None };
                self.capture.command(client, class, db, (0..filter.len()).map(|index| filter.arg(index)));
                if spec.rule == Rule::Bits && has_arg(filter, b"FAIL") && !self.capture.is_queueing(client) {
                    return self.announce_unseen(ctx, client, self.info_of(client).is_some());
                }
                Verdict::Pass
            }
            _ => {
                if filter.arg(0).eq_ignore_ascii_case(b"client") {
                    self.announce_client_command(filter, client);
                }
                self.capture.command(client, class, None, std::iter::empty());
                Verdict::Pass
            }
        }
    }

    /// A script, SELECT or another module's command.
    fn announce_opaque(&mut self, client: u64) {
        self.capture.command(client, Class::Opaque, None, std::iter::empty());
        if let Some(info) = self.info_of(client) {
            self.script_db = Some(info.db);
            self.top_client = client;
        }
    }

    /// A command that the module runs itself where it can, as no event tells (enough) of it.
    fn announce_wrapped(&mut self, ctx: Ctx<'_>, filter: &Filter, client: u64, spec: &'static CommandSpec) -> Verdict {
        let args = || (0..filter.len()).map(|index| filter.arg(index));
        if spec.rule == Rule::CardinalityCache && filter.len() != 2 {
            // Only the count of a single key is cached.
            self.capture.command(client, Class::ReadOnly, None, std::iter::empty());
            return Verdict::Pass;
        }
        let info = self.info_of(client);
        if info.is_some_and(|info| info.in_multi) && self.capture.is_queueing(client) {
            self.capture.command(client, Class::Write(spec), None, args());
            return Verdict::Pass;
        }
        if info.is_some() {
            self.capture.not_queueing(client);
        }
        let may_block = spec.blocks && has_arg(filter, b"BLOCK");
        if info.is_some() && !may_block && may_run(ctx, client, wrap::COMMAND) {
            self.capture.command(client, Class::ReadOnly, None, std::iter::empty());
            return Verdict::Wrap;
        }
        self.capture.command(client, Class::Write(spec), info.map(|info| info.db), args());
        if !spec.is_silent() {
            return Verdict::Pass;
        }
        self.announce_unseen(ctx, client, info.is_some())
    }

    /// The command just announced may change data though no event tells of it.
    fn announce_unseen(&mut self, ctx: Ctx<'_>, client: u64, is_top: bool) -> Verdict {
        if is_top {
            self.top_client = client;
        }
        self.capture.unseen(is_top.then_some(client), ctx.unit_time_us() / 1000);
        self.unit_waits = true;
        Verdict::WatchUnit
    }

    /// The database that the client of a COPY or MOVE has selected. Its event comes with the destination's, and an 8.1 server leaves the client there.
    fn home_db(&self, client: u64) -> Option<u32> {
        self.capture.db_of(client).or(self.script_db)
    }

    /// Has the executing client's reply wait for the running unit, or the loop where that is not possible.
    fn hold(&mut self, ctx: Ctx<'_>, client: u64) {
        if self.state != State::Active || self.unit_waits || !self.unit_holds.is_empty() {
            return;
        }
        let flags = ctx.flags();
        // The head of an XREADGROUP's reply may have been sent by now; it waits in the loop.
        let head_may_be_out = self.capture.rule_of(client) == Some(Rule::Pending);
        let cannot_hold = flags.in_exec()
            || flags.in_script()
            || flags.denies_blocking()
            || head_may_be_out
            // Invalidations of a held client leave before its reply.
            || (self.tracking_seen && self.info_of(client).is_some_and(|info| info.tracking));
        let held = if cannot_hold || self.pipeliners.is_pipelining(client) { None } else { ctx.hold_reply() };
        match held {
            Some(held) => self.unit_holds.push(UnitHold { client, held }),
            None => {
                self.unit_waits = true;
                self.top_client = if flags.in_script() || flags.denies_blocking() { self.top_client } else { client };
            }
        }
    }
}

fn has_arg(filter: &Filter, wanted: &[u8]) -> bool {
    (1..filter.len()).any(|index| filter.arg(index).eq_ignore_ascii_case(wanted))
}

/// Writes the lower-case name behind `start`; `None` when it is too long to be one.
fn lower_case(name: &[u8], out: &mut [u8; NAME_BYTES_MAX], start: usize) -> Option<usize> {
    let end = start + name.len();
    // One byte stays free for the `|` of a subcommand.
    if end >= NAME_BYTES_MAX {
        return None;
    }
    out.get_mut(start..end)?.copy_from_slice(name);
    out.get_mut(start..end)?.make_ascii_lowercase();
    Some(end)
}

/// A key changed. `by_server`: the server did it by itself, as it does with expired keys and fields and with evicted keys.
pub fn key_changed(ctx: Ctx<'_>, event: &[u8], key: &[u8], by_server: bool) {
    let client = ctx.client_id();
    let kind = EventKind::of(event);
    let flags = ctx.flags();
    let in_exec = flags.in_exec();
    let query = with(|module| module.state.logs().then(|| module.capture.query(client, in_exec, kind, key)));
    let Some(Some(query)) = query else { return };
    let outcome = query.and_then(|query| ask(ctx, &query, key));
    let ask_for_end = with(|module| {
        module.capture.event(Event {
            client,
            db: ctx.selected_db(),
            key,
            kind,
            removed_by_server: by_server && kind != EventKind::FieldsExpired,
            in_exec,
            now_ms: ctx.unit_time_us() / 1000,
            outcome,
        });
        // A key that the server removes by itself is nobody's write, unless a command made it expire (EXPIRE with a past time).
        if !by_server || in_exec || module.capture.may_expire(client) || flags.in_script() {
            module.hold(ctx, client);
        }
        !std::mem::replace(&mut module.unit_end_asked, true)
    });
    if ask_for_end == Some(true) && !ctx.ask_for_unit_end() {
        with(|module| module.unit_end_asked = false);
    }
    if kind == EventKind::Arrived
        && let Some(Some(db)) = with(|module| module.home_db(client))
    {
        ctx.select_db(db);
    }
}

/// Asks the server what neither event nor arguments tell. In an event callback nothing expires, so this changes nothing.
fn ask(ctx: Ctx<'_>, query: &Query, key: &[u8]) -> Option<Outcome> {
    let value = |bytes: &[u8]| Some(Outcome::Value(bytes.to_vec()));
    match query {
        Query::LastStreamId => {
            let last = ctx.call(CallMode::Internal, "XREVRANGE", [key, b"+", b"-", b"COUNT", b"1"])?;
            value(last.element(0)?.element(0)?.bytes())
        }
        Query::StreamLength => value(ctx.call(CallMode::Internal, "XLEN", [key])?.integer().to_string().as_bytes()),
        Query::Value => value(ctx.call(CallMode::Internal, "GET", [key])?.bytes()),
        Query::FieldExpiries(fields) => {
            let count = fields.len().to_string();
            let args = [key, b"FIELDS", count.as_bytes()].into_iter().chain(fields.iter().map(Vec::as_slice));
            let reply = ctx.call(CallMode::Internal, "HPEXPIRETIME", args)?;
            let expiry = |index: usize| reply.element(index).map(|expiry| expiry.integer());
            let all: Option<Vec<_>> =
                fields.iter().enumerate().map(|(i, field)| Some((field.clone(), expiry(i)?))).collect();
            all.map(Outcome::FieldExpiries)
        }
    }
}

/// The module's own event, raised to hold the reply of its own command.
pub fn private_event(ctx: Ctx<'_>) {
    with(|module| module.hold(ctx, ctx.client_id()));
}

/// A key was loaded from an RDB file.
pub fn key_loaded(ctx: Ctx<'_>, key: &[u8]) {
    recovery::key_loaded(ctx, key);
}

/// A unit with changes has ended.
pub fn unit_end(ctx: Ctx<'_>) {
    if with(|module| module.unit_end_deferred) != Some(true) {
        finish_unit(ctx);
    }
}

/// Takes a deferred end of a unit up, once it has ended.
fn finish_deferred(ctx: Ctx<'_>) {
    if with(|module| module.unit_end_deferred) == Some(true) && !ctx.flags().in_exec() {
        with(|module| module.unit_end_deferred = false);
        finish_unit(ctx);
    }
}

/// The dataset or a database was emptied.
pub fn flushed(ctx: Ctx<'_>, db: Option<u32>) {
    watch_server_event(ctx, |module, now_ms| module.capture.flushed(db, now_ms));
}

/// Two databases changed places.
pub fn databases_swapped(ctx: Ctx<'_>, first: u32, second: u32) {
    watch_server_event(ctx, |module, now_ms| module.capture.databases_swapped(first, second, now_ms));
}

fn watch_server_event(ctx: Ctx<'_>, record: impl FnOnce(&mut Module, i64)) {
    let now_ms = ctx.unit_time_us() / 1000;
    let loading = ctx.flags().is_loading();
    let ask = with(|module| {
        if !module.state.logs() || loading || module.baseline.dataset_replaced {
            return false;
        }
        record(module, now_ms);
        module.unit_waits |= module.unit_holds.is_empty();
        !std::mem::replace(&mut module.unit_end_asked, true)
    });
    if ask == Some(true) && !ctx.ask_for_unit_end() {
        with(|module| module.unit_end_asked = false);
    }
}

/// The whole dataset is being replaced from outside (DEBUG RELOAD, replication): the log cannot follow, a new base must.
pub fn loading(ctx: Ctx<'_>, phase: LoadingPhase) {
    lifecycle::dataset_loading(ctx, phase);
}

/// A client has connected.
pub fn client_came(client: u64) {
    with(|module| module.clients.insert(client));
}

/// A client has gone.
pub fn client_gone(client: u64) {
    with(|module| {
        module.capture.client_gone(client);
        module.pipeliners.client_gone(client);
        module.clients.remove(&client);
        module.pause_queued.remove(&client);
    });
}

/// The event loop is about to send replies and to sleep.
pub fn before_sleep(ctx: Ctx<'_>) {
    lifecycle::before_sleep(ctx);
    finish_deferred(ctx);
    finish_unit(ctx);
    with(|module| {
        let now_ms = ctx.unit_time_us() / 1000;
        let clients = &module.clients;
        let is_blocked = |client| clients.contains(&client) && client_info(client).is_some_and(|info| info.blocked);
        module.capture.resumed(now_ms, is_blocked);
        module.unit_waits |= module.capture.has_unit();
    });
    finish_unit(ctx);
    finish_suspects(ctx);
    let wait = with(|module| {
        module.hand_over();
        if let Some(log) = &module.log {
            let durable = log.log().durable();
            module.dirty.clean_up_to(durable);
            module.pipeliners.iteration_ended(durable);
        }
        module.without_output.clear();
        module.iteration_waits_for.take()
    });
    if let Some(Some(lsn)) = wait {
        wait_now(ctx, lsn);
    }
}
