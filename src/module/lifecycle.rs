//! Load, start, bases, switching on and off, shutdown.

use crate::core::capture::Capture;
use crate::core::deadlines::Deadlines;
use crate::core::dirty::DirtyKeys;
use crate::core::notices::Notices;
use crate::core::pipeliners::Pipeliners;
use crate::core::reads::{BlockedReaders, Transactions};
use crate::core::unit::Batch;
use crate::ffi::{
    ChildResult, Ctx, Held, Level, LoadingPhase, declare_options, exit_now, fork_child, kill_child, log,
    register_hooks, save_rdb, server_version, unregister_hooks,
};
use crate::log::{FolderStorage, LogError, Lsn, Opened, Options, open};
use crate::module::config::{self, Setting, value};
use crate::module::release::{Release, Waiting};
use crate::module::units::{finish_unit, unix_ms};
use crate::module::{Module, State, cluster, commands, notify, recovery, replace, scripts, server, with};
use crossbeam::channel::{Receiver, TryRecvError};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The oldest server with what the module needs: holding replies from event callbacks.
const SERVER_VERSION_MIN: u32 = 0x0008_0100;

/// How long a start waits for the folder's lock, and how often it looks.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_POLL: Duration = Duration::from_millis(50);

/// After a base failed, the next try waits this long.
const BASE_RETRY: Duration = Duration::from_secs(1);

/// The base that is being written, and who waits for it.
#[derive(Default)]
pub(crate) struct Baseline {
    wanted: bool,
    not_before: Option<Instant>,
    child: Option<Child>,
    install: Option<Receiver<Result<(), LogError>>>,
    /// The dataset was replaced from outside; what was captured meanwhile is void.
    pub(super) dataset_replaced: bool,
    /// Its loading has ended: the next base is written at once.
    needs_base_now: bool,
    /// Bases written since the module was loaded.
    pub(super) done: u64,
    /// Whether the last one succeeded.
    pub(super) last_ok: bool,
    pub(super) waiting_for_checkpoint: Vec<Held>,
    pub(super) waiting_for_active: Vec<Waiting>,
}

struct Child {
    pid: i32,
    temporary: String,
    first_segment: u64,
}

impl Baseline {
    pub(super) fn is_running(&self) -> bool {
        self.wanted || self.child.is_some() || self.install.is_some()
    }
}

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
        opaque_runs: false,
        transactions: Transactions::default(),
        blocked_readers: BlockedReaders::default(),
        deadlines: Deadlines::default(),
        scripts: VecDeque::new(),
        blocked: HashMap::new(),
        answered: HashSet::new(),
        unit_waits: false,
        unit_end_asked: false,
        other_modules: server::has_other_modules(ctx),
        unit_end_repeated: false,
        iteration_waits_for: None,
        pipeliners: Pipeliners::default(),
        clients: server::connected_clients(ctx),
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
        commands: server::commands(ctx),
        unknown_names: HashSet::new(),
        script_db: None,
        script_select: None,
        baseline: Baseline::default(),
        counters: super::Counters::default(),
        recovered: None,
    };
    replace(Some(module));
    notify::setting_changed(ctx);
    if value(Setting::Enabled) == 0 {
        log(Level::Notice, "loaded, not enabled");
        return Ok(());
    }
    if ctx.flags().is_replica() {
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

fn open_folder() -> Result<Opened<FolderStorage>, String> {
    let folder = with(|module| module.folder.clone()).unwrap_or_default();
    let options = Options { segment_bytes: u64::try_from(value(Setting::SegmentBytes)).unwrap_or(u64::MAX) };
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let storage = FolderStorage::new(&folder).map_err(|error| error.to_string())?;
        match open(storage, &options) {
            // A child of a killed server (a snapshot, say) holds its lock until it notices that its parent has gone.
            Err(LogError::Locked { .. }) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            outcome => return outcome.map_err(|error| error.to_string()),
        }
    }
}

/// Recovers the folder's state if it has one, and starts the log.
fn begin(ctx: Ctx<'_>, opened: Opened<FolderStorage>) -> Result<(), String> {
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
        cluster::fold(ctx, &folder)?;
        open_folder()?
    } else {
        opened
    };
    let (opened, report) = recovery::recover(ctx, opened)?;
    with(|module| module.recovered = Some(report));
    start_log(ctx, opened, false)?;
    cluster::delete_foreign_keys(ctx);
    if cluster::is_folding() {
        // Ends the process when it fails.
        replace_base(ctx);
        stop(ctx, State::Closed);
        exit_now(0);
    }
    Ok(())
}

/// Starts the writer thread. `needs_base`: the dataset is not what the folder holds.
fn start_log(ctx: Ctx<'_>, opened: Opened<FolderStorage>, needs_base: bool) -> Result<(), String> {
    let leftovers = opened.leftovers().join(", ");
    if !leftovers.is_empty() {
        log(Level::Notice, &format!("removing what a crash left unfinished: {leftovers}"));
    }
    let writer = opened.into_writer(unix_ms()).map_err(|error| error.to_string())?;
    let appended = writer.appended();
    let release = Release::start(writer).map_err(|error| error.to_string())?;
    let commands = server::commands(ctx);
    with(|module| {
        module.capture.clear();
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
    if !needs_base {
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
    }
    if let Some(log_open) = log_open {
        log_open.log().resume();
        // Closing syncs and publishes everything, which releases every waiter; a failing disk ends the process.
        if let Err(error) = log_open.log().close() {
            log(
                Level::Warning,
                &format!("the log could not be closed: {error}. Exiting, as nothing can be acknowledged any more."),
            );
            exit_now(1);
        }
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

/// The whole dataset is being replaced from outside.
pub fn dataset_loading(_ctx: Ctx<'_>, phase: LoadingPhase) {
    with(|module| {
        if !module.state.logs() {
            return;
        }
        match phase {
            LoadingPhase::Started => module.baseline.dataset_replaced = true,
            LoadingPhase::Ended | LoadingPhase::Failed => {
                // What the log holds is not what is in memory now; `before_sleep` mends that before any reply leaves.
                module.capture.clear();
                module.baseline.needs_base_now = true;
            }
        }
    });
}

impl Module {
    /// What changed can't be logged: has a new base written before any reply leaves.
    pub(super) fn request_base_now(&mut self) {
        self.baseline.needs_base_now = true;
    }
}

/// Asks for a new base; `false` when one is being written.
pub fn request_checkpoint() -> bool {
    with(|module| !module.baseline.is_running() && !std::mem::replace(&mut module.baseline.wanted, true)) == Some(true)
}

/// Work of the event loop's end that is not tied to units: the first recovery, bases.
pub fn before_sleep(ctx: Ctx<'_>) {
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

/// The dataset was replaced from outside (DEBUG RELOAD and kin): no unit tells how, so a new base is written on the main thread, before any
/// reply on the new dataset leaves. It takes as long as the loading that went before.
fn replace_base(ctx: Ctx<'_>) {
    let Some((log_open, folder, child)) = with(|module| {
        module.baseline.needs_base_now = false;
        module.baseline.dataset_replaced = false;
        module.hand_over();
        (module.log.clone(), module.folder.clone(), module.baseline.child.take())
    }) else {
        return;
    };
    if let Some(child) = child {
        // What it saves is the dataset before.
        kill_child(child.pid);
    }
    let Some(log_open) = log_open else { return };
    let written = log_open
        .log()
        .temp_base_name()
        .and_then(|name| Ok((log_open.log().rotate()?, name)))
        .map_err(|error| error.to_string());
    let installed = written.and_then(|(first_segment, name)| {
        if !save_rdb(ctx, &folder.join(&name)) {
            return Err("the server could not save its dataset".into());
        }
        match log_open.log().install_base(&name, first_segment).recv() {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err("the log was closed".into()),
        }
    });
    if let Err(reason) = installed {
        log(
            Level::Warning,
            &format!("the replaced dataset can't be logged: {reason}. Exiting, as nothing could be acknowledged."),
        );
        exit_now(1);
    }
    with(|module| {
        module.baseline.install = None;
        module.baseline.wanted = false;
    });
    base_ended(Ok(()));
}

/// Forks the child that writes the base, at a point between units.
fn start_base(ctx: Ctx<'_>) {
    let due = with(|module| {
        let baseline = &module.baseline;
        baseline.wanted
            && baseline.child.is_none()
            && baseline.install.is_none()
            && !baseline.dataset_replaced
            && baseline.not_before.is_none_or(|at| Instant::now() >= at)
            && module.log.is_some()
    });
    if due != Some(true) || ctx.flags().has_active_child() {
        return;
    }
    finish_unit(ctx);
    let Some(Some((log_open, folder))) = with(|module| {
        module.hand_over();
        Some((module.log.clone()?, module.folder.clone()))
    }) else {
        return;
    };
    let prepared = log_open.log().temp_base_name().and_then(|name| Ok((name, log_open.log().rotate()?)));
    let (temporary, first_segment) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            log(Level::Warning, &format!("the base can't be begun: {error}"));
            return;
        }
    };
    let path = folder.join(&temporary);
    let pid = fork_child(|| i32::from(!save_rdb(ctx, &path)));
    with(|module| match pid {
        Some(pid) => {
            module.baseline.wanted = false;
            module.baseline.child = Some(Child { pid, temporary, first_segment });
        }
        None => module.baseline.not_before = Some(Instant::now() + BASE_RETRY),
    });
}

/// The child that writes the base has ended.
pub fn child_done(_ctx: Ctx<'_>, result: ChildResult) {
    let failed = with(|module| {
        let child = module.baseline.child.take()?;
        let log_open = module.log.clone()?;
        if result == ChildResult::Exited(0) {
            module.baseline.install = Some(log_open.log().install_base(&child.temporary, child.first_segment));
            return None;
        }
        let _ = std::fs::remove_file(module.folder.join(&child.temporary));
        Some(())
    });
    if let Some(Some(())) = failed {
        base_ended(Err(format!("the child that writes the base failed: {result:?}")));
    }
}

/// Looks whether the writer thread has put the base in place.
fn poll_install() {
    let outcome = with(|module| match module.baseline.install.as_ref().map(Receiver::try_recv) {
        None | Some(Err(TryRecvError::Empty)) => None,
        Some(Ok(outcome)) => Some(outcome.map_err(|error| error.to_string())),
        Some(Err(TryRecvError::Disconnected)) => Some(Err("the log was closed".into())),
    });
    if let Some(Some(outcome)) = outcome {
        with(|module| module.baseline.install = None);
        base_ended(outcome);
    }
}

fn base_ended(outcome: Result<(), String>) {
    let ok = outcome.is_ok();
    let Some((becomes_active, waiting)) = with(|module| {
        let baseline = &mut module.baseline;
        baseline.last_ok = ok;
        baseline.done += u64::from(ok);
        let first = module.state == State::Baselining;
        if !ok && first {
            baseline.wanted = true;
            baseline.not_before = Some(Instant::now() + BASE_RETRY);
        }
        if ok && first {
            module.state = State::Active;
        }
        (ok && first, std::mem::take(&mut module.baseline.waiting_for_checkpoint))
    }) else {
        return;
    };
    match outcome {
        Ok(()) => log(Level::Notice, "a new base is in place; the log before it is removed"),
        Err(reason) => log(Level::Warning, &format!("no new base: {reason}")),
    }
    if becomes_active {
        log(Level::Notice, "the log is active: replies wait for the disk");
        became_active();
    }
    waiting.into_iter().for_each(Held::release);
}

/// Those who waited for the log to become active now wait for their position.
fn became_active() {
    with(|module| {
        module.hand_over();
        let Some(log_open) = module.log.clone() else { return };
        let appended = module.appended();
        for waiting in std::mem::take(&mut module.baseline.waiting_for_active) {
            log_open.wait(appended, waiting);
        }
    });
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
