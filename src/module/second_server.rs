//! A second server that turns a log into a base.
//!
//! It is the same program with the same modules, outside of a cluster. It recovers a folder, writes a base of what it
//! has then, and exits. It ends with this server, however that ends.
//!
//! - A node of a cluster has one at its start, which puts the base into the log's own folder. The node waits for it as
//!   a server that loads (`waiting`), and shows its progress.
//! - A checkpoint has one in place of a forked child (`wbl.checkpoint-method process`). It reads a copy of the log that
//!   was cut for it, and writes the base where the child would. The server goes on meanwhile.

use crate::ffi::{
    CallMode, Ctx, Level, be_nice, end_with_parent, library_file, log, this_library, this_program, wake_event_loop,
};
use crate::log::Lsn;
use crate::module::cluster::{database_count, text};
use crate::module::release::Release;
use crate::module::replay::Report;
use crate::module::server::{STRING_BYTES, STRING_BYTES_MAX};
use crate::module::waiting::while_loading;
use crate::module::{config, room, second_settings, with};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};

/// Set for the second server: the process id of the first.
const FOLD: &str = "WBL_FOLD";

/// Set for one that writes the base of a checkpoint: the path of its file.
const BASE: &str = "WBL_FOLD_BASE";

/// The second server listens there, as a server must listen somewhere; `temp-` marks it as a leftover if it stays. It
/// is named by the folder's descriptor, as the folder's own path may be too long for a socket's.
const SOCKET: &str = "temp-fold.socket";

/// The second server leaves there how many commands of the log it has skipped.
const SKIPPED: &str = "temp-fold.skipped";

/// How often it is looked whether the second server has ended, and how often it is asked for its progress.
const POLL: Duration = Duration::from_millis(10);
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How long an answer to that is waited for.
const ASK_PATIENCE: Duration = Duration::from_secs(1);

/// Settings of the module that the second server has values of its own for.
const OWN_SETTINGS: [&str; 5] = ["enabled", "dir", "on-existing-log", "on-replay-error", "notify-keyspace-events"];

static SECOND: Mutex<Second> = Mutex::new(Second { turn: 0, running: None });

/// The second server.
struct Second {
    /// Counts those that were given up: none is started any more that is of an earlier turn.
    turn: u64,
    /// Whoever takes it out ends it, or has seen its end.
    running: Option<Running>,
}

struct Running {
    child: Child,
    socket: PathBuf,
}

/// A second server that is to be started.
struct Launch {
    turn: u64,
    command: Command,
    socket: PathBuf,
    settings: String,
    /// The folder that the socket's path leads through.
    _folder: File,
}

/// Its progress, bytes of the log.
static DONE_BYTES: AtomicU64 = AtomicU64::new(0);
static TOTAL_BYTES: AtomicU64 = AtomicU64::new(0);

/// Whether this is the second server.
pub(super) fn is_folding() -> bool {
    std::env::var_os(FOLD).is_some()
}

/// Of the second server: the file of the base that it is to write, if that is for a checkpoint.
pub(super) fn checkpoint_base() -> Option<PathBuf> {
    std::env::var_os(BASE).map(PathBuf::from)
}

/// Of the second server, when its module is loaded: it is to end with the first, and leaves the processor to others
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

/// Of the second server: tells the first how many commands of the log were skipped.
///
/// # Errors
/// It could not be told.
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
    // What stays is a leftover, which is removed when writing starts.
    let _ = std::fs::remove_file(path);
    count.unwrap_or(0)
}

/// Has a second server turn the folder's log into a base; returns how many commands it has skipped
/// (`wbl.on-replay-error skip`). Nobody may have the folder open.
///
/// # Errors
/// Why it could not, for the server's log.
pub(super) fn fold(ctx: Ctx<'_>, folder: &Path) -> Result<u64, String> {
    let free = room::free_bytes(folder).map_or(String::new(), |bytes| format!(" ({bytes} bytes are free)"));
    log(
        Level::Notice,
        &format!(
            "a node of a cluster can't replay a log: a second server, outside of the cluster, makes a base of it, for which there must be room beside the log{free}"
        ),
    );
    let mut launch = prepare(ctx, folder)?;
    launch.set("wbl.dir", &utf8(folder)?);
    launch.set("wbl.on-replay-error", if config::skips_replay_errors() { "skip" } else { "refuse" });
    take_skipped(folder);
    while_loading(ctx, "wbl-second", show_progress, move || {
        let socket = launch.socket.clone();
        run(launch, || ask_progress(&socket))
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
    let mut launch = prepare(ctx, folder)?;
    // Whatever has succeeded here succeeds there, or it is no base of this dataset.
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
        // Whoever has given up does not listen.
        let _ = sender.send(written);
        wake_event_loop();
    };
    let thread = std::thread::Builder::new().name("wbl-second".into()).spawn(work);
    thread.map_err(|error| format!("no thread for a second server: {error}"))?;
    // Whoever has given up does not listen.
    let lsn = release.log().share(name, Box::new(move |outcome| drop(shared_sender.send(outcome))));
    Ok((lsn, outcome))
}

/// Ends the second server, if one runs or is about to.
pub(super) fn end() {
    let mut second = second();
    second.turn += 1;
    if let Some(mut running) = second.running.take() {
        // It may have ended by itself.
        let _ = running.child.kill();
        let _ = running.child.wait();
        running.remove_socket();
    }
}

impl Running {
    /// A server that ends by `exit`, or is killed, leaves it.
    fn remove_socket(&self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Launch {
    /// A setting.
    fn set(&mut self, name: &str, value: &str) {
        set(&mut self.command, name, value);
    }
}

fn set(command: &mut Command, name: &str, value: &str) {
    command.arg(format!("--{name}")).arg(value);
}

fn utf8(path: &Path) -> Result<String, String> {
    path.to_str().map(String::from).ok_or_else(|| "the folder's name is not UTF-8".into())
}

fn second() -> MutexGuard<'static, Second> {
    SECOND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the second server is started, of which the log's folder knows that it is there. It works in the same folder as
/// the first: what settings of modules name relative to that is found there, and nowhere else. It reads most settings
/// from its input, where no list of processes shows them.
fn prepare(ctx: Ctx<'_>, folder: &Path) -> Result<Launch, String> {
    let turn = second().turn;
    let opened = File::open(folder).map_err(|error| format!("{} can't be opened: {error}", folder.display()))?;
    let (mut command, by_descriptor) =
        this_program(&opened).map_err(|error| format!("a second server can't be started: {error}"))?;
    let socket = by_descriptor.join(SOCKET);
    command.env(FOLD, std::process::id().to_string()).stdin(Stdio::piped()).arg("-");
    let here = std::env::current_dir().map_err(|error| format!("no current folder: {error}"))?;
    let mut set = |name: &str, value: &str| set(&mut command, name, value);
    for (name, value) in [
        ("port", "0"),
        ("unixsocket", &socket.to_string_lossy()),
        ("unixsocketperm", "700"),
        ("save", ""),
        // There is no such file.
        ("dbfilename", &format!("wbl-none-{}.rdb", std::process::id())),
        // No command of the log is too long for the second server: the first has taken it.
        (STRING_BYTES, STRING_BYTES_MAX),
        // Whatever payload is in the log, the node has taken it.
        ("rdb-version-check", "relaxed"),
        ("wbl.enabled", "yes"),
        // The first has decided that the log is what counts, also where it is superseded.
        ("wbl.on-existing-log", "keep"),
    ] {
        set(name, value);
    }
    set("dir", &utf8(&here)?);
    for (name, value) in config::values().filter(|(name, _)| !OWN_SETTINGS.contains(&name.as_str())) {
        set(&format!("wbl.{name}"), &value);
    }
    set("databases", &database_count(ctx).to_string());
    // Where the server does not tell its log file, the second server writes to where the first would without one.
    if let Some(log_file) = log_file(ctx).filter(|name| !name.is_empty()) {
        set("logfile", &here.join(log_file).to_string_lossy());
    }
    let modules = modules(ctx)?;
    for module in modules.iter().filter(|module| !module.words.is_empty()) {
        command.arg("--loadmodule").args(&module.words);
    }
    let settings = second_settings::shared(ctx, |name| modules.iter().any(|module| module.name == name));
    Ok(Launch { turn, command, socket, settings, _folder: opened })
}

fn log_file(ctx: Ctx<'_>) -> Option<String> {
    let reply = ctx.own().call(CallMode::Internal, "CONFIG", [&b"GET"[..], b"logfile"])?;
    Some(text(&reply.element(1)?))
}

/// A module that the second server has.
struct Module {
    name: Vec<u8>,
    /// Its path and arguments; none where it is a part of the server.
    words: Vec<String>,
}

/// The loaded modules: the path of each with its arguments. Values of their types may be in the log. Where the server
/// does not tell them it is this one only; a log that needs others fails in the second server then.
fn modules(ctx: Ctx<'_>) -> Result<Vec<Module>, String> {
    let own = this_library().and_then(|path| path.to_str().map(String::from));
    let own = own.ok_or("the module's own file is not known")?;
    let mut modules = vec![Module { name: b"wbl".to_vec(), words: vec![own] }];
    let Some(list) = ctx.own().call(CallMode::Internal, "MODULE", [&b"LIST"[..]]) else { return Ok(modules) };
    let module = |index| {
        let fields = list.element(index)?;
        let value = |name: &str| {
            let is_name = |at: &usize| fields.element(*at).is_some_and(|field| field.bytes() == name.as_bytes());
            fields.element((0..fields.len()).step_by(2).find(is_name)? + 1)
        };
        let name = value("name")?.bytes().to_vec();
        if name == b"wbl" {
            return None;
        }
        // Modules that are part of the server have none.
        let Some(path) = value("path").filter(|path| !path.bytes().is_empty()) else {
            return Some(Module { name, words: Vec::new() });
        };
        let given = || Some(PathBuf::from(text(&path))).filter(|path| path.is_file());
        let file = library_file(path.bytes()).or_else(given)?;
        let mut words = vec![file.to_string_lossy().into_owned()];
        if let Some(args) = value("args") {
            words.extend((0..args.len()).filter_map(|at| args.element(at)).map(|arg| text(&arg)));
        }
        Some(Module { name, words })
    };
    modules.extend((0..list.len()).filter_map(module));
    Ok(modules)
}

/// Runs the second server to its end, and does something now and then meanwhile. On a thread of its own, with which it
/// ends.
fn run(mut launch: Launch, mut meanwhile: impl FnMut()) -> Result<(), String> {
    let gone = || "the second server was given up".to_string();
    let input = {
        let mut second = second();
        if second.turn != launch.turn {
            return Err(gone());
        }
        let child = launch.command.spawn();
        let mut child = child.map_err(|error| format!("a second server can't be started: {error}"))?;
        let input = child.stdin.take();
        second.running = Some(Running { child, socket: launch.socket.clone() });
        input
    };
    let written = input.map_or(Ok(()), |mut input| input.write_all(launch.settings.as_bytes()));
    let mut asked = Instant::now();
    loop {
        match ended(launch.turn).ok_or_else(gone)? {
            None => {}
            // One that has failed says itself why.
            Some(status) if !status.success() => {
                return Err(format!("the second server failed: {status}; its log says why"));
            }
            Some(_) => return written.map_err(|error| format!("the second server has not got its settings: {error}")),
        }
        if asked.elapsed() >= ASK_EVERY {
            meanwhile();
            asked = Instant::now();
        }
        std::thread::sleep(POLL);
    }
}

/// How the second server of this turn has ended, where it has; `None` when it was given up.
fn ended(turn: u64) -> Option<Option<ExitStatus>> {
    let mut second = second();
    if second.turn != turn {
        return None;
    }
    let status = second.running.as_mut()?.child.try_wait().ok()?;
    if status.is_some() {
        second.running.take()?.remove_socket();
    }
    Some(status)
}

/// Asks the second server how far it is. A missing answer only leaves the progress as it was.
fn ask_progress(path: &Path) {
    let Ok(mut socket) = UnixStream::connect(path) else { return };
    let prepared = socket.set_read_timeout(Some(ASK_PATIENCE)).and_then(|()| socket.write_all(b"INFO wbl\r\n"));
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while prepared.is_ok()
        && let Ok(count @ 1..) = socket.read(&mut piece)
    {
        text.extend_from_slice(piece.get(..count).unwrap_or_default());
        if let Some((done, total)) = progress(&String::from_utf8_lossy(&text)) {
            DONE_BYTES.store(done, Ordering::Relaxed);
            TOTAL_BYTES.store(total, Ordering::Relaxed);
            return;
        }
    }
}

/// What INFO says about bytes replayed and to be replayed, where it is there to its last byte.
fn progress(info: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let line = info.split_inclusive("\r\n").find_map(|line| line.strip_prefix(name))?;
        line.strip_suffix("\r\n")?.parse().ok()
    };
    Some((field("wbl_recovery_done_bytes:")?, field("wbl_recovery_total_bytes:")?))
}

/// Puts the second server's progress into this one's INFO.
fn show_progress() {
    let bytes = |place: &AtomicU64| place.load(Ordering::Relaxed);
    let report = Report { done_bytes: bytes(&DONE_BYTES), total_bytes: bytes(&TOTAL_BYTES), ..Report::default() };
    with(|module| module.recovered = Some(report));
}

#[cfg(test)]
mod tests {
    use super::progress;

    #[test]
    fn progress_is_taken_from_whole_lines_only() {
        let info =
            "$99\r\n# wbl\r\nwbl_state:recovering\r\nwbl_recovery_total_bytes:1234\r\nwbl_recovery_done_bytes:56\r\n";
        assert_eq!(progress(info), Some((56, 1234)));
        assert_eq!(progress(info.trim_end()), None);
        assert_eq!(progress(""), None);
    }
}
