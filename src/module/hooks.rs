//! What the server reports: changed keys, ends of units, what has become of clients and of the dataset.

use crate::core::ack::{Author, Hold, Moment, Reason, decide};
use crate::core::event::{Done, Event, EventKind, Keeps, Outcome};
use crate::core::execution::UnitEnd;
use crate::ffi::{CommandResult, ContextFlags, Ctx, KeyKind, LoadingPhase, filter_last, server_version};
use crate::module::facts::Asked;
use crate::module::known::Commands;
use crate::module::questions::{ask, keeps_expired};
use crate::module::server::FIELD_EXPIRY_SINCE;
use crate::module::settle::settle_unseen;
use crate::module::units::{ask_for_unit_end, finish_evictions, finish_plain, finish_unit};
use crate::module::{Module, broken, homes, life, listed, listening, notify, recovery, server, waiting, with};

/// No client's id.
const NO_CLIENT: u64 = u64::MAX;

impl Module {
    /// The client of an event.
    ///
    /// The server's own clients for modules' calls keep the id of a connected client after a module has used one in a
    /// thread. The flags distinguish them from the client itself.
    fn client_of_event(&mut self, ctx: Ctx<'_>, flags: ContextFlags) -> u64 {
        let client = ctx.client_id();
        let in_call = flags.denies_blocking() && !flags.in_exec() && !flags.in_script();
        if in_call && self.clients.contains(client) && !self.capture.is_wrapping() {
            self.capture.forget_current();
            return NO_CLIENT;
        }
        // Inside an EXEC that id may be that of a client whose own EXEC waits, or was refused.
        let of_other =
            flags.in_exec() && self.capture.is_exec_out_of_sight(client) && !Module::may_run_exec(ctx, client);
        if of_other { NO_CLIENT } else { client }
    }

    /// Whether the EXEC that runs may be the client's: its transaction neither waits nor is over.
    fn may_run_exec(ctx: Ctx<'_>, client: u64) -> bool {
        listed::client_info(ctx, client).is_some_and(|info| info.in_multi && !info.blocked)
    }

    /// Captures an event, and has those wait who must for what it reports.
    fn record(&mut self, ctx: Ctx<'_>, flags: ContextFlags, event: Event<'_>) {
        let Event { client, db, key, .. } = event;
        // A key that the server removes of its own accord is nobody's write, unless a command made it expire (EXPIRE
        // with a past time).
        let may_expire = event.in_exec || flags.in_script() || self.capture.may_expire(client);
        let is_write = !event.removed_by_server || may_expire;
        let expired = event.name == b"expired" && !is_write;
        self.capture.event(Event { expired, ..event });
        if is_write {
            self.hold(ctx, flags, client);
        } else if expired {
            // If the clock is set back, nobody may be shown it again.
            self.versions.forget(db, key);
        }
        if self.capture.blocked.has_unknown_readers() && ctx.key_kind(key) == KeyKind::Stream {
            self.capture.blocked.suspect((db, key.into()));
        }
        if self.life.withholds() {
            self.wait_for_waiting(ctx, db, key);
        }
    }

    /// Who has made the change that an event reports. A connected client's command, if the event names such a client;
    /// otherwise a running command must be a script's or a module's call. If no command runs, it is the server's own
    /// work, which deletes the keys of a slot that it has lost or not received, say, one in each unit; or that of
    /// another module, which may answer a client for it.
    fn author_of_event(&self, ctx: Ctx<'_>, is_connected: bool) -> Author {
        let by_server = !is_connected && !self.server.other_modules && !ctx.executes_command();
        if by_server { Author::Server } else { Author::Command }
    }

    /// Has the executing client's reply wait for the running unit, or the loop where that is not possible.
    fn hold(&mut self, ctx: Ctx<'_>, flags: ContextFlags, client: u64) {
        if let Some(wrapped) = self.running.wrapped() {
            // The code that runs the command holds its reply.
            wrapped.changed = true;
            return;
        }
        // What runs inside a command shows in that command's reply.
        let is_connected = self.clients.contains(client);
        let is_top = !flags.in_script() && !flags.denies_blocking() && is_connected;
        let whose = if is_top { client } else { self.running.client };
        self.running.is_seen(client);
        if !self.life.withholds() || self.replies.wait_for_unit(whose) {
            return;
        }
        let author = self.author_of_event(ctx, is_connected);
        let mut facts = Asked::new(self, ctx, client).with_flags(flags).made_by(author);
        let reason = match decide(Moment::Changed, &mut facts) {
            Hold::Nothing => return,
            Hold::AtIterationEnd(reason) => reason,
            _ => match ctx.hold_reply() {
                Some(held) => {
                    self.counters.held_in_event += 1;
                    return self.replies.hold(client, held);
                }
                None => Reason::Unblockable,
            },
        };
        self.wait_in_loop(whose, reason);
    }
}

/// A key changed. `class` is the event's, as the server's bit. `by_server`: the server did it of its own accord, as
/// with expired keys and fields and with evicted keys.
pub fn key_changed(ctx: Ctx<'_>, class: u32, event: &[u8], key: &[u8], by_server: bool) {
    let home = homes::of_event(ctx, event, key);
    take_in(ctx, class, event, key, by_server);
    if let Some(db) = home {
        ctx.select_db(db);
    }
}

/// Does all that the event requires; the context has the database that it names.
fn take_in(ctx: Ctx<'_>, class: u32, event: &[u8], key: &[u8], by_server: bool) {
    let kind = EventKind::of(event);
    if by_server && kind == EventKind::FieldsExpired {
        // Nobody's change: that fields have expired follows from the time, also after a crash. If none is left, `del`
        // comes next.
        return notify::fields_expired(ctx, class, event, key);
    }
    notify::event(ctx, class, event, key);
    if recovery::is_replaying() || !by_server && with(|module| module.log_complete(ctx, event, key)) == Some(true) {
        return;
    }
    let flags = ctx.flags();
    let (in_exec, db) = (flags.in_exec(), ctx.event_db(event, key));
    if with(|module| module.follow_event(ctx.client_id(), by_server, db, key)) == Some(true) {
        return;
    }
    note_expiring_fields(ctx, kind, key);
    let before = with(|module| {
        if !module.life.logs() {
            return Err(!by_server && module.life.is_unchanged());
        }
        let client = module.client_of_event(ctx, flags);
        Ok((client, module.capture.query(client, in_exec, kind, key), module.server.imports))
    });
    let (client, query, imports) = match before {
        Some(Ok(before)) => before,
        Some(Err(true)) => return life::dataset_changed(ctx),
        Some(Err(false)) | None => return,
    };
    let outcome = match query {
        // For the client that brings a slot's keys no field has expired.
        _ if kind.is_of_fields() && flags.is_slot_import() => Some(Outcome::NoneExpired),
        // A client that brings data in also sees fields that have expired.
        Some(query) => ask(ctx, &query, key).filter(|outcome| !imports || !outcome.may_miss_fields()),
        None => None,
    };
    // Nor any key.
    let keeps = if flags.is_slot_import() { Keeps::None } else { keeps_expired(ctx, imports) };
    with(|module| {
        let event = Event {
            client,
            db,
            key,
            name: event,
            kind,
            removed_by_server: by_server,
            expired: false,
            in_exec,
            now_ms: module.unit_time_ms(ctx),
            outcome,
            keeps,
        };
        module.record(ctx, flags, event);
    });
    ask_for_unit_end(ctx);
}

/// A hash may have a field that expires from now on.
fn note_expiring_fields(ctx: Ctx<'_>, kind: EventKind, key: &[u8]) {
    let may_have = match kind {
        EventKind::FieldExpiry => true,
        EventKind::Restore => server_version(ctx) >= FIELD_EXPIRY_SINCE && ctx.key_kind(key) == KeyKind::Hash,
        _ => false,
    };
    if may_have {
        with(|module| module.capture.fields_expire());
    }
}

/// An event that reports no change of its own: a key was looked for and is not there, or the key of the next event is
/// new.
pub fn key_noted(ctx: Ctx<'_>, class: u32, event: &[u8], key: &[u8]) {
    notify::event_without_change(ctx, class, event, key);
}

/// A command has run; of interest for those of an EXEC. Servers report this from 9.1 on.
pub fn command_done(ctx: Ctx<'_>, result: &CommandResult<'_>) {
    let client = result.client;
    let unseen = with(|module| {
        if !module.life.logs() || !module.capture.is_stepping(client) {
            return false;
        }
        let CommandResult { changed, failed, .. } = *result;
        let db = module.capture.exec_db(client).or_else(|| module.info_of(ctx, client).map(|info| info.db));
        let done = Done { changed, failed, db, keeps: keeps_expired(ctx, module.server.imports) };
        let unseen = module.capture.command_done(client, &result.args(), done, ctx.unit_time_us() / 1000);
        if unseen {
            module.wait_in_loop(client, Reason::Transaction);
        }
        unseen
    });
    if unseen == Some(true) {
        ask_for_unit_end(ctx);
    }
}

/// A key was loaded from an RDB file.
pub fn key_loaded(ctx: Ctx<'_>, key: &[u8]) {
    if !waiting::key_loaded(ctx, key) {
        recovery::key_loaded(ctx, key);
    }
    if let Some(db) = homes::of_loaded(ctx) {
        ctx.select_db(db);
    }
}

/// A unit with changes has ended.
pub fn unit_end(ctx: Ctx<'_>) {
    if finish_plain(ctx) {
        return;
    }
    // Another module may have asked for work of its own at the unit's end after this was asked for; that work belongs
    // to the unit. Asked for again, this comes after it.
    let early = with(|module| {
        let early = module.server.other_modules && module.unit_end != UnitEnd::AskedAgain;
        module.unit_end = if early { UnitEnd::AskedAgain } else { UnitEnd::NotAsked };
        early
    });
    if early == Some(true) && ctx.ask_for_unit_end() {
        return;
    }
    if finish_evictions(ctx) {
        return;
    }
    // Where it is taken up late, the server is asked nothing before.
    let ends_late = with(|module| {
        module.unit_end = UnitEnd::NotAsked;
        module.running.ends_late()
    });
    if ends_late == Some(true) {
        return;
    }
    let has_run = settle_unseen(ctx);
    with(|module| {
        module.unit_end = UnitEnd::NotAsked;
        if module.server.other_modules && !has_run {
            // A call that another module has made in its filter has ended a unit.
            module.close_unseen(ctx);
        }
    });
    finish_unit(ctx);
}

/// The dataset or a database was emptied.
pub fn flushed(ctx: Ctx<'_>, db: Option<u32>) {
    life::emptied(ctx, db);
    listening::flushed(db);
    watch_server_event(ctx, |module, now_ms| module.capture.flushed(db, now_ms));
}

/// Two databases changed places.
pub fn databases_swapped(ctx: Ctx<'_>, first: u32, second: u32) {
    listening::swapped(first, second);
    watch_server_event(ctx, |module, now_ms| {
        module.capture.databases_swapped(first, second, now_ms);
        module.capture.blocked.pops.all_may_fail();
        if module.capture.blocked.has_unknown_readers() {
            // Which streams they read is unknown.
            module.request_base_now();
        }
    });
}

fn watch_server_event(ctx: Ctx<'_>, record: impl FnOnce(&mut Module, Option<i64>)) {
    let loading = ctx.flags().is_loading();
    if !loading && with(|module| module.life.is_unchanged()) == Some(true) {
        life::dataset_changed(ctx);
    }
    let recorded = with(|module| {
        if !module.life.logs() || loading || module.is_dataset_replaced() || module.follow_server_event() {
            return false;
        }
        let now_ms = module.unit_time_ms(ctx);
        record(module, now_ms);
        match module.running.wrapped() {
            Some(wrapped) => wrapped.changed = true,
            None if module.replies.any_held() => {}
            None => module.wait_unheld(ctx),
        }
        module.wait_for_all_waiting(ctx);
        true
    });
    if recorded == Some(true) {
        ask_for_unit_end(ctx);
    }
}

/// The whole dataset is being replaced from outside (DEBUG RELOAD, replication), which no unit shows.
pub fn loading(ctx: Ctx<'_>, phase: LoadingPhase) {
    match phase {
        LoadingPhase::Started => homes::loading_began(ctx),
        LoadingPhase::Ended | LoadingPhase::Failed => homes::loading_ended(),
    }
    if life::dataset_loading(ctx, phase) {
        let has_expiring_fields = server::has_expiring_fields(ctx);
        with(Module::request_base_now);
        watch_server_event(ctx, |module, now_ms| module.capture.replaced(has_expiring_fields, now_ms));
    }
}

/// A module was loaded or unloaded.
pub fn modules_changed(ctx: Ctx<'_>) {
    // What runs is what other modules make of a command.
    if !filter_last(ctx) {
        broken("the server refuses to filter commands");
    }
    let (other_modules, commands) = (server::has_other_modules(ctx), Commands::ask(ctx));
    with(|module| {
        module.server.other_modules = other_modules;
        // That these can be asked for was checked at load.
        if let Ok(commands) = commands {
            module.server.commands = commands;
        }
    });
}

/// A client has connected.
pub fn client_came(client: u64) {
    with(|module| {
        module.clients.insert(client);
    });
}

/// A client has gone.
pub fn client_gone(client: u64) {
    with(|module| {
        module.running.client_gone(client);
        module.capture.client_gone(client);
        module.life.following_mut().into_iter().for_each(|following| following.followed.drops_queued(client));
        module.homes.iter_mut().for_each(|homes| homes.forget(client));
        module.looks.forget(client);
        module.collecting.take_if(|collecting| collecting.is_of(client));
        module.remove_client(client);
        module.iteration.gone = Some(client);
    });
}
