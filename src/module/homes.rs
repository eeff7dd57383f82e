//! Leaves clients in their own databases where the server does not: before 9.1.1, where any module listens, the
//! executing client stays in the database that an event names.
//!
//! This is done in every state of the log's life, because listening alone is the cause: for the primary's link, for
//! clients of a server whose log rests, and for what runs in scripts and transactions.

use crate::core::hash::Map;
use crate::core::homes::{Homes, Place};
use crate::core::leaf::ClientId;
use crate::core::table::{self, CommandSpec, Quirk, Role, Rule, Shows};
use crate::ffi::{Ctx, Filter, Level, client_info, log, server_version};
use crate::lock::lock;
use crate::module::arguments::selected_db;
use crate::module::{Module, listed, server, with};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

/// The first server that itself restores the client's database.
const RESTORES_SINCE: u32 = 0x0009_0101;

/// The first server whose clusters have more than one database.
const CLUSTER_DATABASES_SINCE: u32 = 0x0009_0000;

/// The client that an append-only file is loaded with.
const LOADER: u64 = u64::MAX;

/// What is kept of clients' databases, where the server leaves clients in others.
pub(super) fn of_server(ctx: Ctx<'_>) -> Option<Homes> {
    let version = server_version(ctx);
    let has_one_database = ctx.flags().in_cluster() && version < CLUSTER_DATABASES_SINCE;
    let is_needed = version < RESTORES_SINCE && !has_one_database;
    is_needed.then(Homes::default)
}

/// Whether the server starts, and will load commands from its own AOF: events would leave its loader in databases that
/// it has not selected.
pub(super) fn loads_commands(ctx: Ctx<'_>) -> bool {
    ctx.flags().is_starting() && server_version(ctx) < RESTORES_SINCE && server::writes_aof(ctx)
}

/// The commands that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Copy,
    Select,
    Multi,
    /// Runs scripts, or may.
    Calls,
    /// CLUSTER, whose FLUSHSLOT deletes keys of all databases.
    Cluster,
}

impl Sent {
    fn of(row: &CommandSpec) -> Option<Sent> {
        match row {
            CommandSpec { rule: Rule::Copy, .. } => Some(Sent::Copy),
            CommandSpec { quirk: Quirk::Selects, .. } => Some(Sent::Select),
            CommandSpec { role: Role::Multi, .. } => Some(Sent::Multi),
            CommandSpec { role: Role::Exec, .. } => Some(Sent::Calls),
            CommandSpec { shows: Shows::Script | Shows::FunctionCall, .. } => Some(Sent::Calls),
            _ => None,
        }
    }
}

/// Those commands, by their own names.
static COMMANDS: LazyLock<Vec<(&'static [u8], Sent)>> = LazyLock::new(|| {
    let of_table = table::COMMANDS.iter().filter_map(|row| Some((row.name.as_bytes(), Sent::of(row)?)));
    of_table.chain([(&b"cluster"[..], Sent::Cluster)]).collect()
});

fn sent(name: &[u8]) -> Option<Sent> {
    // Most commands differ from all of these in their length, or in a letter.
    let found = COMMANDS.iter().find(|(own, _)| own.len() == name.len() && own.eq_ignore_ascii_case(name));
    found.map(|(_, sent)| *sent)
}

impl Module {
    /// A command has come, and has not run.
    pub(super) fn note_home(&mut self, ctx: Ctx<'_>, filter: &Filter) {
        let Some(homes) = &mut self.homes else { return };
        if self.clients.contains(filter.client_id()) {
            homes.sends(filter.client_id());
        }
        if let Some(sent) = sent(filter.arg(0)) {
            self.note_sent(ctx, filter, sent);
        }
    }

    fn note_sent(&mut self, ctx: Ctx<'_>, filter: &Filter, sent: Sent) {
        let client = filter.client_id();
        let in_script = ctx.flags().in_script();
        // The primary's link is among the server's clients, but no event reported it.
        let may_be_connected = self.clients.contains(client) || !in_script;
        let Some(info) = may_be_connected.then(|| client_info(client)).flatten() else {
            return self.note_inside(ctx, filter, sent);
        };
        let copied = |db| names_db(filter).then(|| (place(filter.arg(2)), db));
        let Some(homes) = &mut self.homes else { return };
        match sent {
            Sent::Copy if info.in_multi => homes.queues_copy(client, copied(info.db)),
            Sent::Copy => homes.copies(client, copied(info.db)),
            Sent::Multi if info.in_multi => {}
            Sent::Multi => homes.forget(client),
            // While another client's script runs long, it is refused.
            Sent::Calls if in_script => {}
            Sent::Calls => homes.calls(client),
            Sent::Select if info.in_multi => {
                let known = self.server.commands.known(filter.arg(0), filter.arg(1));
                if let Some(db) = selected_db(ctx, filter, known) {
                    homes.selects(client, db);
                }
            }
            Sent::Select => {}
            Sent::Cluster => {
                if !info.in_multi && filter.arg(1).eq_ignore_ascii_case(b"flushslot") {
                    homes.flushes(client, info.db);
                }
            }
        }
    }

    /// The same for a script or a module.
    fn note_inside(&mut self, ctx: Ctx<'_>, filter: &Filter, sent: Sent) {
        match sent {
            Sent::Copy => {
                let copied = if names_db(filter) { self.inner_db(ctx) } else { None };
                let copied = copied.map(|db| (place(filter.arg(2)), db));
                self.homes.iter_mut().for_each(|homes| homes.copies_inside(copied));
            }
            Sent::Select => {
                let flags = ctx.flags();
                let known = self.server.commands.known(filter.arg(0), filter.arg(1));
                let Some(homes) = &mut self.homes else { return };
                if flags.in_script()
                    && known.row.quirk == Quirk::Selects
                    && filter.select_may_be_run_by(ctx, homes.caller())
                    && let Some(db) = selected_db(ctx, filter, known)
                {
                    homes.script_selects(db, if flags.in_exec() { server::scripts_run(ctx) } else { None });
                }
            }
            Sent::Calls => self.homes.iter_mut().for_each(Homes::script_begins),
            Sent::Multi | Sent::Cluster => {}
        }
    }

    /// The database in which a script or a module sends its next command.
    fn inner_db(&self, ctx: Ctx<'_>) -> Option<u32> {
        let flags = ctx.flags();
        let logged = if self.life.logs() { self.script_db(ctx, flags).likely() } else { None };
        logged.or_else(|| {
            let homes = self.homes.as_ref()?;
            let db_of = |client| client_info(client).map(|info| info.db);
            if !flags.in_script() {
                return db_of(homes.sender());
            }
            let selected = homes.script_selected(flags.in_exec(), || server::scripts_run(ctx));
            selected.or_else(|| db_of(homes.caller()))
        })
    }
}

/// Where an argument is in memory; the same in the filter and in the command's events.
fn place(arg: &[u8]) -> Place {
    arg.as_ptr().addr()
}

/// Whether a COPY names a database.
fn names_db(filter: &Filter) -> bool {
    (3..filter.len()).any(|index| filter.arg(index).eq_ignore_ascii_case(b"DB"))
}

/// The database of the client whose command has raised an event that names another one.
pub(super) fn of_event(ctx: Ctx<'_>, event: &[u8], key: &[u8]) -> Option<u32> {
    if !matches!(event, b"move_from" | b"move_to" | b"copy_to" | b"del") {
        return None;
    }
    let (home, is_left) = with(|module| {
        let homes = module.homes.as_mut()?;
        Some(match event {
            b"move_from" => {
                homes.move_from(ctx.selected_db());
                (None, false)
            }
            b"move_to" => (homes.move_to(), false),
            b"del" => (homes.deletes(ctx.client_id()), false),
            _ => {
                let client = ctx.client_id();
                // No filter has seen what the loader runs.
                let is_left = client == LOADER;
                (if is_left { None } else { homes.copy_to(client, place(key)) }, is_left)
            }
        })
    })??;
    if is_left && !WARNED.swap(true, Ordering::Relaxed) {
        log(
            Level::Warning,
            "the server loads an append-only file with a COPY to another database, and stays in that with all that follows: load the file at a start instead",
        );
    }
    home
}

/// The warning that loading an append-only file goes wrong was given.
static WARNED: AtomicBool = AtomicBool::new(false);

/// Where the clients were when the dataset that is being loaded began to be. The module may be loaded, or taken back,
/// within that.
static AT_LOAD: Mutex<Option<Map<ClientId, u32>>> = Mutex::new(None);

/// The server begins to load a dataset: notes where its clients are.
pub(super) fn loading_began(ctx: Ctx<'_>) {
    WARNED.store(false, Ordering::Relaxed);
    if of_server(ctx).is_some() {
        *lock(&AT_LOAD) = Some(listed::databases(ctx).into_iter().collect());
    }
}

/// It no longer loads one.
pub(super) fn loading_ended() {
    *lock(&AT_LOAD) = None;
}

/// The database of the client whose command has loaded a key, which may be another one's.
pub(super) fn of_loaded(ctx: Ctx<'_>) -> Option<u32> {
    lock(&AT_LOAD).as_ref()?.get(&ctx.client_id()).copied()
}
