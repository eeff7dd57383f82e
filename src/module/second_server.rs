//! A second server that turns a log into a base.
//!
//! It is the same program with the same modules, outside a cluster. It recovers a folder, writes a base of the result,
//! and exits. It ends with this server, however that ends.
//!
//! - A node of a cluster starts one at its own start, which puts the base into the log's folder. The node waits for it
//!   as a server that loads (`waiting`), and shows its progress.
//! - A checkpoint starts one instead of forking a child (`wbl.checkpoint-method process`). It reads a copy of the log
//!   that was cut for it, and writes the base where the child would. The server goes on meanwhile.

mod launch;
mod progress;

use crate::ffi::{Ctx, Level, be_nice, end_with_parent, log, wake_event_loop};
use crate::lock::lock;
use crate::log::Lsn;
use crate::module::release::Release;
use crate::module::waiting::while_loading;
use crate::module::{config, room};
use launch::{FOLD, Launch, prepare, utf8};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};

/// Set for one that writes the base of a checkpoint: the path of its file.
const BASE: &str = "WBL_FOLD_BASE";

/// The second server leaves there how many commands of the log it has skipped.
const SKIPPED: &str = "temp-fold.skipped";

/// How often to check whether the second server has ended, and how often to ask for its progress.
const POLL: Duration = Duration::from_millis(10);
const ASK_EVERY: Duration = Duration::from_millis(100);

static SECOND: Mutex<Second> = Mutex::new(Second { turn: 0, running: None, threads: Vec::new() });

/// The second server. As long as the server runs, whoever locks this, or its process, waits neither for a disk nor for
/// that process meanwhile.
struct Second {
    /// Counts those that were given up: none of an earlier turn is started any more.
    turn: u64,
    /// That of this turn. As long as the server runs, only the thread that has started it waits for its end.
    running: Option<Running>,
    /// Those threads, where nobody else waits for them.
    threads: Vec<JoinHandle<()>>,
}

/// Its process, and where it listens.
#[derive(Clone)]
struct Running {
    child: Arc<Mutex<Child>>,
    socket: PathBuf,
}

/// Whether this is the second server.
pub(super) fn is_folding() -> bool {
    std::env::var_os(FOLD).is_some()
}

/// In the second server: the file of the base to write, if that is for a checkpoint.
pub(super) fn checkpoint_base() -> Option<PathBuf> {
    std::env::var_os(BASE).map(PathBuf::from)
}

/// In the second server, when its module is loaded: it is to end with the first, and yields the processor to others
/// where nobody waits for it.
///
/// # Errors
/// The first has ended already.
pub(super) fn join_first() -> Result<(), String> {
    let Some(first) = std::env::var_os(FOLD) else { return Ok(()) };
    let first = first.to_str().and_then(|id| id.parse().ok()).ok_or_else(|| format!("{FOLD} is no process id"))?;
    end_with_parent(first).map_err(|error| format!("the server that this one was to work for has gone: {error}"))?;
    if checkpoint_base().is_some() {
        be_nice();
    }
    Ok(())
}

/// In the second server: reports to the first how many commands of the log were skipped.
///
/// # Errors
/// It could not be reported.
pub(super) fn leave_skipped(folder: &Path, count: u64) -> Result<(), String> {
    if count == 0 {
        return Ok(());
    }
    std::fs::write(folder.join(SKIPPED), count.to_string())
        .map_err(|error| format!("{SKIPPED} can't be written: {error}"))
}

/// How many commands of the log the second server has skipped.
fn take_skipped(folder: &Path) -> u64 {
    let path = folder.join(SKIPPED);
    let count = std::fs::read_to_string(&path).ok().and_then(|count| count.parse().ok());
    // If it stays, it is a leftover, which is removed when writing starts.
    let _ = std::fs::remove_file(path);
    count.unwrap_or(0)
}

/// Makes a second server turn the folder's log into a base; returns how many commands it has skipped
/// (`wbl.on-replay-error skip`). Nobody may have the folder open.
///
/// # Errors
/// Why it could not do so, for the server's log.
pub(super) fn fold(ctx: Ctx<'_>, folder: &Path) -> Result<u64, String> {
    let free = room::free_bytes(folder).map_or(String::new(), |bytes| format!(" ({bytes} bytes are free)"));
    log(
        Level::Notice,
        &format!(
            "a node of a cluster can't replay a log: a second server, outside of the cluster, makes a base of it, for which there must be room beside the log{free}"
        ),
    );
    let mut launch = prepare(ctx, folder, second().turn)?;
    launch.set("wbl.dir", &utf8(folder)?);
    launch.set("wbl.on-replay-error", if config::skips_replay_errors() { "skip" } else { "refuse" });
    take_skipped(folder);
    while_loading(ctx, "wbl-second", progress::show, move || {
        let socket = launch.socket.clone();
        run(launch, || progress::ask(&socket))
    })??;
    Ok(take_skipped(folder))
}

/// Has a second server write the base of a checkpoint to this file of the log's folder. Returns the position of the
/// base, and what becomes of it; the event loop is woken then.
///
/// # Errors
/// It could not be begun.
pub(super) fn write_base(
    ctx: Ctx<'_>,
    folder: &Path,
    release: &Arc<Release>,
    name: &str,
) -> Result<(Lsn, Receiver<Result<(), String>>), String> {
    let mut launch = prepare(ctx, folder, second().turn)?;
    // Whatever has succeeded here must succeed there, or it is not a base of this dataset.
    launch.set("wbl.on-replay-error", "refuse");
    let file = launch.socket.with_file_name(name);
    launch.command.env(BASE, file);
    let (shared_sender, shared) = bounded(1);
    let (sender, outcome) = bounded(1);
    let (folder, of_log, base) = (folder.to_path_buf(), Arc::clone(release), name.to_string());
    let work = move || {
        let source = match shared.recv() {
            Ok(Ok(shared)) => Ok(shared),
            Ok(Err(error)) => Err(crate::log::LogError::to_string(&error)),
            Err(_) => Err("the log was closed".into()),
        };
        let written = source.and_then(|shared| {
            launch.set("wbl.dir", &utf8(&folder.join(shared))?);
            run(launch, || {})
        });
        of_log.log().remove_shared(base);
        // A caller that has given up does not listen.
        let _ = sender.send(written);
        wake_event_loop();
    };
    let thread = std::thread::Builder::new().name("wbl-second".into()).spawn(work);
    second().add_thread(thread.map_err(|error| format!("no thread for a second server: {error}"))?);
    // A caller that has given up does not listen.
    let lsn = release.log().share(name, Box::new(move |outcome| drop(shared_sender.send(outcome))));
    Ok((lsn, outcome))
}

/// Ends the second server, if one runs or is about to. Waits for nothing: a process that writes to a disk which does
/// not answer dies when that does, and the thread that has started it waits for that.
pub(super) fn end() {
    drop(kill_running());
}

/// The same, and waits for its end: the server ends, too.
pub(super) fn end_and_wait() {
    if let Some(running) = kill_running() {
        // The thread that has started it is told the same. It has ended even if its status is lost.
        let _ = lock(&running.child).wait();
        running.remove_socket();
    }
}

/// The same, and waits for those who have started it: the module is unloaded, and its log is closed.
pub(super) fn end_with_threads() {
    end_and_wait();
    let threads = std::mem::take(&mut second().threads);
    // One that has panicked has ended, too.
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

fn kill_running() -> Option<Running> {
    let running = second().give_up();
    running.inspect(Running::kill)
}

impl Running {
    fn kill(&self) {
        // It may have ended already.
        let _ = lock(&self.child).kill();
    }

    /// A server that ends by `exit`, or is killed, leaves it.
    fn remove_socket(&self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Second {
    fn give_up(&mut self) -> Option<Running> {
        self.turn += 1;
        self.running.take()
    }

    /// One of this turn was started; `false` where that was given up meanwhile.
    fn started(&mut self, turn: u64, running: &Running) -> bool {
        let is_wanted = self.turn == turn;
        if is_wanted {
            self.running = Some(running.clone());
        }
        is_wanted
    }

    /// One of this turn has ended; `false` where it was given up before.
    fn ended(&mut self, turn: u64) -> bool {
        let is_wanted = self.turn == turn;
        if is_wanted {
            self.running = None;
        }
        is_wanted
    }

    fn add_thread(&mut self, thread: JoinHandle<()>) {
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread);
    }
}

fn second() -> MutexGuard<'static, Second> {
    lock(&SECOND)
}

/// Runs the second server to its end, also when it is given up, and calls `meanwhile` now and then. On a thread of its
/// own, with which the server ends.
fn run(mut launch: Launch, mut meanwhile: impl FnMut()) -> Result<(), String> {
    let gone = || "the second server was given up".to_string();
    if second().turn != launch.turn {
        return Err(gone());
    }
    let mut child = launch.command.spawn().map_err(|error| format!("a second server can't be started: {error}"))?;
    let input = child.stdin.take();
    let running = Running { child: Arc::new(Mutex::new(child)), socket: launch.socket };
    if !second().started(launch.turn, &running) {
        running.kill();
    }
    let written = input.map_or(Ok(()), |mut input| input.write_all(launch.settings.as_bytes()));
    let mut asked = Instant::now();
    let status = loop {
        let status = lock(&running.child).try_wait();
        if let Some(status) = status.transpose() {
            break status;
        }
        if asked.elapsed() >= ASK_EVERY {
            meanwhile();
            asked = Instant::now();
        }
        std::thread::sleep(POLL);
    };
    running.remove_socket();
    if !second().ended(launch.turn) {
        return Err(gone());
    }
    match status.map_err(|error| format!("it is not known how the second server has ended: {error}"))? {
        status if status.success() => {
            written.map_err(|error| format!("the second server has not got its settings: {error}"))
        }
        // A server that has failed has said why.
        status => Err(format!("the second server failed: {status}; its log says why")),
    }
}
