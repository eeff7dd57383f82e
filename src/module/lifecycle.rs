//! Load, start, switching on and off, shutdown.

use crate::core::capture::Capture;
use crate::core::deadlines::Deadlines;
use crate::core::dirty::DirtyKeys;
use crate::core::notices::Notices;
use crate::core::pipeliners::Pipeliners;
use crate::core::reads::{BlockedReaders, Transactions};
use crate::core::unit::Batch;
use crate::ffi::{
    Ctx, Held, Level, declare_options, exit_now, kill_child, log, register_hooks, server_version, unregister_hooks,
};
use crate::log::{Begin, LogError, Lsn, Opened, Options, open};
use crate::module::base::{Baseline, became_active, poll_install, replace_base, start_base};
use crate::module::config::{self, Setting, value};
use crate::module::gate::{self, GatedStorage};
use crate::module::points::{self, Point};
use crate::module::release::Release;
use crate::module::role::{Role, role_at_start};
use crate::module::settle::Announced;
use crate::module::units::{finish_unit, unix_ms};
use crate::module::{
    Module, State, cluster, commands, names, notify, recovery, replace, scripts, second_server, server, with,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The oldest server with what the module needs: holding replies from event callbacks.
const SERVER_VERSION_MIN: u32 = 0x0008_0100;

/// How long a start waits for the folder's lock, and how often it looks.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_POLL: Duration = Duration::from_millis(50);

/// `loadmodule` or MODULE LOAD. `false` refuses; the reason is in the server's log.
pub fn load(ctx: Ctx<'_>, args: &[&[u8]]) -> bool {
    match try_load(ctx, args) {
        Ok(()) => true,
        Err(reason) => {
            log(Level::Warning, &format!("the module is not loaded: {reason}"));
            // Joins the writer thread, if it was started.
            drop(replace(None));
            unregister_hooks(ctx);
            ctx.free_detached();
            false
        }
    }
}

fn try_load(ctx: Ctx<'_>, args: &[&[u8]]) -> Result<(), String> {
    check_version(server_version(ctx))?;
    ctx.create_detached();
    names::find(ctx)?;
    declare_options(ctx);
    config::register(ctx, args)?;
    if !commands::register(ctx) || !register_hooks(ctx) {
        return Err("the server refused its commands or hooks".into());
    }
    let mut folder = PathBuf::from(config::text(Setting::Dir as usize));
    if folder.is_relative() {
        folder = std::env::current_dir().map_err(|error| format!("no current folder: {error}"))?.join(folder);
    }
    let module = Module {
        state: State::Disabled,
        folder,
        capture: Capture::default(),
        batch: Batch::new(Lsn::ZERO),
        dirty: DirtyKeys::default(),
        notices: Notices::default(),
        log: None,
        opened: None,
        unit_holds: Vec::new(),
        frame: None,
        unit_reads: None,
        announced: Announced::default(),
        transactions: Transactions::default(),
        blocked_readers: BlockedReaders::default(),
        deadlines: Deadlines::default(),
        scripts: VecDeque::new(),
        blocked: HashMap::new(),
        answered: HashSet::new(),
        unit_waits: false,
        unit_waiters: Vec::new(),
        unit_end_asked: false,
        other_modules: server::has_other_modules(ctx),
        unit_end_repeated: false,
        iteration_waits_for: None,
        pipeliners: Pipeliners::default(),
        clients: server::connected_clients(ctx)?,
        tracking_seen: true,
        pause_queued: HashSet::new(),
        pause_seen_ms: 0,
        postponed: false,
        asking: HashSet::new(),
        tells_results: true,
        results_watched: false,
        waits_for_resume: false,
        debugging: HashSet::new(),
        doubles: HashSet::new(),
        unit_end_deferred: false,
        top_client: 0,
        without_output: HashSet::new(),
        io_threads: server::has_io_threads(ctx),
        paused: false,
        commands: server::commands(ctx)?,
        unknown_names: HashSet::new(),
        script_db: None,
        script_select: None,
        baseline: Baseline::default(),
        counters: super::Counters::default(),
        recovered: None,
    };
    replace(Some(module));
    points::set_from_environment();
    notify::setting_changed(ctx);
    if value(Setting::Enabled) == 0 {
        log(Level::Notice, "loaded, not enabled");
        return Ok(());
    }
    cluster::check(ctx)?;
    if role_at_start(ctx)? == Role::Replica {
        with(|module| module.state = State::Replica);
        return Ok(());
    }
    let starting = ctx.flags().is_starting();
    let opened = open_folder()?;
    if !starting && !opened.is_empty() && server::has_data(ctx) {
        if !config::replaces_existing_log() {
            return Err(format!(
                "the server holds data and the folder {} holds the log of another state; empty one of them, or set wbl.on-existing-log to replace",
                opened.storage().path("").display()
            ));
        }
        return start_log(ctx, opened, true);
    }
    if starting {
        // The server loads its own files first; the folder's state takes their place before the first client is served.
        with(|module| {
            module.state = State::Starting;
            module.opened = Some(opened);
        });
        return Ok(());
    }
    begin(ctx, opened)
}

/// Whether the module can work on a server of this version, 0x00MMmmpp.
fn check_version(version: u32) -> Result<(), String> {
    if version >= SERVER_VERSION_MIN {
        return Ok(());
    }
    let [_, major, minor, patch] = version.to_be_bytes();
    Err(format!("it needs Valkey 8.1 or later, and this is {major}.{minor}.{patch}"))
}

fn open_folder() -> Result<Opened<GatedStorage>, String> {
    let folder = with(|module| module.folder.clone()).unwrap_or_default();
    let options = Options { segment_bytes: u64::try_from(value(Setting::SegmentBytes)).unwrap_or(u64::MAX) };
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let storage = GatedStorage::new(&folder).map_err(|error| error.to_string())?;
        match open(storage, &options) {
            // A child of a killed server (a snapshot, say) holds its lock until it notices that its parent has gone.
            Err(LogError::Locked { .. }) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            outcome => return outcome.map_err(|error| error.to_string()),
        }
    }
}

/// Recovers the folder's state if it has one, and starts the log.
fn begin(ctx: Ctx<'_>, opened: Opened<GatedStorage>) -> Result<(), String> {
    // It may have changed since the module was loaded.
    if role_at_start(ctx)? == Role::Replica {
        with(|module| module.state = State::Replica);
        return Ok(());
    }
    if opened.is_empty() {
        let has_data = server::has_data(ctx);
        return start_log(ctx, opened, has_data);
    }
    with(|module| module.state = State::Recovering);
    if server::has_data(ctx) {
        log(
            Level::Warning,
            "the log's folder holds a state: it takes the place of the data that the server loaded by itself",
        );
    }
    let opened = if ctx.flags().in_cluster() && cluster::has_commands(&opened).map_err(|error| error.to_string())? {
        // The second server locks the folder.
        drop(opened);
        let folder = with(|module| module.folder.clone()).unwrap_or_default();
        second_server::fold(ctx, &folder)?;
        open_folder()?
    } else {
        opened
    };
    let (opened, report) = recovery::recover(ctx, opened)?;
    points::reach(Point::Recovered);
    with(|module| module.recovered = Some(report));
    start_log(ctx, opened, false)?;
    cluster::fit_slots(ctx)?;
    if second_server::is_folding() {
        // Ends the process when it fails.
        replace_base(ctx);
        stop(ctx, State::Closed);
        exit_now(0);
    }
    Ok(())
}

/// Starts the writer thread. `needs_base`: the dataset is not what the folder holds.
fn start_log(ctx: Ctx<'_>, opened: Opened<GatedStorage>, needs_base: bool) -> Result<(), String> {
    let leftovers = opened.leftovers().join(", ");
    if !leftovers.is_empty() {
        log(Level::Notice, &format!("removing what a crash left unfinished: {leftovers}"));
    }
    let begin_anew = |opened: Opened<GatedStorage>, begin| {
        opened.into_folder().begin(begin, unix_ms()).map_err(|not_begun| not_begun.error.to_string())
    };
    let writer = if needs_base {
        begin_anew(opened, Begin::WaitsForBase)?
    } else if opened.is_empty() {
        begin_anew(opened, Begin::Empty)?
    } else {
        let prepared = opened.prepare(unix_ms()).map_err(|error| error.to_string())?;
        prepared.start().map_err(|error| error.to_string())?
    };
    let appended = writer.appended();
    let release = Release::start(writer).map_err(|error| error.to_string())?;
    let commands = server::commands(ctx)?;
    with(|module| {
        module.capture.clear();
        module.announced = Announced::default();
        module.batch = Batch::new(appended);
        module.dirty.clear();
        module.pipeliners = Pipeliners::default();
        module.log = Some(Arc::new(release));
        module.commands = commands;
        module.baseline.wanted = needs_base;
        module.baseline.not_before = None;
        module.state = if needs_base { State::Baselining } else { State::Active };
    });
    log(
        Level::Notice,
        if needs_base { "the log is open; writing its base" } else { "the log is active: replies wait for the disk" },
    );
    if needs_base {
        points::reach(Point::LogBegun);
    } else {
        became_active();
    }
    Ok(())
}

/// MODULE UNLOAD. `false` refuses.
pub fn unload(ctx: Ctx<'_>) -> bool {
    finish_unit(ctx);
    stop(ctx, State::Closed);
    unregister_hooks(ctx);
    drop(replace(None));
    ctx.free_detached();
    true
}

/// The server shuts down.
pub fn shut_down(ctx: Ctx<'_>) {
    second_server::end();
    finish_unit(ctx);
    if with(|module| module.log.is_some()) == Some(true) {
        stop(ctx, State::Closed);
        log(Level::Notice, "the log is closed; all of it is durable");
    }
}

/// Makes everything durable, releases everyone, and closes the log.
fn stop(ctx: Ctx<'_>, next: State) {
    scripts::run_waiting(ctx);
    let Some((log_open, child, for_active)) = with(|module| {
        module.hand_over();
        module.state = next;
        module.capture.clear();
        module.announced = Announced::default();
        module.dirty.clear();
        module.iteration_waits_for = None;
        module.paused = false;
        module.opened = None;
        module.baseline.wanted = false;
        (module.log.take(), module.baseline.child.take(), std::mem::take(&mut module.baseline.waiting_for_active))
    }) else {
        return;
    };
    if let Some(child) = child {
        kill_child(child.pid);
        log_open.iter().for_each(|log_open| log_open.log().remove_base_file(child.base.name.clone()));
    }
    if let Some(log_open) = log_open {
        log_open.log().resume();
        gate::open();
        points::reach(Point::LogCloses);
        // Closing syncs and publishes everything, which releases every waiter; a failing disk ends the process.
        if let Err(error) = log_open.log().close() {
            log(
                Level::Warning,
                &format!("the log could not be closed: {error}. Exiting, as nothing can be acknowledged any more."),
            );
            exit_now(1);
        }
        points::reach(Point::LogClosed);
        for waiting in log_open.take_waiting() {
            waiting.held.release();
        }
        notify::publish_all(ctx);
    }
    let checkpoints = with(|module| {
        module.drop_holds();
        module.baseline.install = None;
        module.baseline.last_ok = false;
        std::mem::take(&mut module.baseline.waiting_for_checkpoint)
    });
    checkpoints.into_iter().flatten().for_each(Held::release);
    for_active.into_iter().for_each(|waiting| waiting.held.release());
}

/// `CONFIG SET wbl.enabled`.
///
/// # Errors
/// Why it was refused, for the client.
pub fn set_enabled(ctx: Ctx<'_>, enabled: bool) -> Result<(), String> {
    match with(|module| module.state) {
        None | Some(State::Replica) => Ok(()),
        Some(State::Disabled) if enabled => {
            let opened = open_folder()?;
            start_log(ctx, opened, true)
        }
        Some(State::Starting | State::Recovering) => Err("the log is being recovered".into()),
        Some(_) if !enabled => {
            finish_unit(ctx);
            stop(ctx, State::Disabled);
            log(Level::Notice, "disabled: everything logged so far is durable, replies don't wait any more");
            Ok(())
        }
        Some(_) => Ok(()),
    }
}

/// Settings of the server changed.
pub fn config_changed(ctx: Ctx<'_>, names: &[&[u8]]) {
    if names.contains(&&b"io-threads"[..]) {
        let io_threads = server::has_io_threads(ctx);
        with(|module| module.io_threads = io_threads);
    }
    if names.iter().any(|name| name.ends_with(b"notify-keyspace-events")) {
        notify::setting_changed(ctx);
    }
}

/// The server became a replica or a primary.
pub fn role_changed(ctx: Ctx<'_>, is_replica: bool) {
    let state = with(|module| module.state);
    if is_replica && state.is_some_and(|state| state != State::Disabled && state != State::Closed) {
        let log_open = with(|module| module.log.clone()).flatten();
        // Their writes are not acknowledged: the new primary's dataset is what counts.
        with(|module| module.notices.take_all());
        for waiting in log_open.iter().flat_map(|log| log.take_waiting()) {
            ctx.close_client(waiting.client);
            waiting.held.release();
        }
        stop(ctx, State::Replica);
        log(Level::Notice, "the server is a replica now: the log rests until it is a primary again");
    } else if !is_replica && state == Some(State::Replica) {
        with(|module| module.state = State::Disabled);
        if let Err(reason) = set_enabled(ctx, true) {
            log(
                Level::Warning,
                &format!("the log can't be started: {reason}. Exiting, as nothing could be acknowledged."),
            );
            exit_now(1);
        }
    }
}

/// A node of a cluster that is promoted before it has followed its primary raises no event of it.
fn notice_promotion(ctx: Ctx<'_>) {
    let rests = with(|module| module.state == State::Replica) == Some(true);
    if rests && ctx.flags().in_cluster() && role_at_start(ctx) == Ok(Role::Primary) {
        role_changed(ctx, false);
    }
}

/// Work of the event loop's end that is not tied to units: the first recovery, bases.
pub fn before_sleep(ctx: Ctx<'_>) {
    notice_promotion(ctx);
    let (opened, busy) = with(|module| (module.opened.take(), module.baseline.is_running())).unwrap_or((None, false));
    if let Some(opened) = opened
        && let Err(reason) = begin(ctx, opened)
    {
        log(
            Level::Warning,
            &format!("the log can't be brought back: {reason}. Exiting; nothing was changed in the folder."),
        );
        exit_now(1);
    }
    if busy {
        poll_install();
        start_base(ctx);
    }
    if with(|module| module.baseline.needs_base_now) == Some(true) {
        replace_base(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::check_version;

    #[test]
    fn servers_before_8_1_are_refused() {
        for old in [0, 0x0007_0204, 0x0008_0000, 0x0008_00ff] {
            assert!(check_version(old).is_err(), "{old:#x}");
        }
        for supported in [0x0008_0100, 0x0008_0101, 0x0009_0000, 0x0009_0102, 0x000a_0000] {
            assert_eq!(check_version(supported), Ok(()), "{supported:#x}");
        }
        let refusal = check_version(0x0008_0002).expect_err("8.0 is too old");
        assert_eq!(refusal, "it needs Valkey 8.1 or later, and this is 8.0.2");
    }
}
