//! A second server, outside of the cluster, that turns a node's log into a base.
//!
//! It is the same program with the same modules. It recovers the folder, writes a base of what it has then, and exits.
//! The node waits for it as a server that loads (`waiting`), and shows its progress; it ends with the node, however
//! that ends.

use crate::ffi::{CallMode, Ctx, Level, library_file, log, this_library, this_program};
use crate::module::cluster::{database_count, text};
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
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Set for the second server: recover, write a base, and exit.
const FOLD: &str = "WBL_FOLD";

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
const OWN_SETTINGS: [&str; 4] = ["enabled", "dir", "on-existing-log", "notify-keyspace-events"];

/// The running second server. Whoever takes it out ends it, or has seen its end.
static SECOND: Mutex<Option<Second>> = Mutex::new(None);

struct Second {
    child: Child,
    socket: PathBuf,
}

/// Its progress, bytes of the log.
static DONE_BYTES: AtomicU64 = AtomicU64::new(0);
static TOTAL_BYTES: AtomicU64 = AtomicU64::new(0);

/// Whether this is the second server.
pub(super) fn is_folding() -> bool {
    std::env::var_os(FOLD).is_some()
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
    let opened = File::open(folder).map_err(|error| format!("{} can't be opened: {error}", folder.display()))?;
    let (mut command, by_descriptor) = this_program(opened);
    let socket = by_descriptor.join(SOCKET);
    let settings = set_up(ctx, &mut command, folder, &socket)?;
    take_skipped(folder);
    let status = while_loading(ctx, "wbl-second", show_progress, move || run(command, socket, &settings))??;
    if status.success() {
        Ok(take_skipped(folder))
    } else {
        Err(format!("the second server failed: {status}; its log says why"))
    }
}

/// Ends the second server, if one runs: this server ends.
pub(super) fn end() {
    let mut place = second();
    if let Some(second) = place.as_mut() {
        // It may have ended by itself.
        let _ = second.child.kill();
        let _ = second.child.wait();
        second.remove_socket();
    }
    *place = None;
}

impl Second {
    /// A server that ends by `exit`, or is killed, leaves it.
    fn remove_socket(&self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn second() -> MutexGuard<'static, Option<Second>> {
    SECOND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the second server is started; returns the settings that it reads from its input, where no list of processes
/// shows them. It works in the same folder as the first: what settings of modules name relative to that is found there,
/// and nowhere else.
fn set_up(ctx: Ctx<'_>, command: &mut Command, folder: &Path, socket: &Path) -> Result<String, String> {
    command.env(FOLD, "1").stdin(Stdio::piped()).arg("-");
    let here = std::env::current_dir().map_err(|error| format!("no current folder: {error}"))?;
    let mut set = |name: &str, value: &str| {
        command.arg(format!("--{name}")).arg(value);
    };
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
    let text = |path: &Path| path.to_str().map(String::from).ok_or("the folder's name is not UTF-8");
    set("dir", &text(&here)?);
    set("wbl.dir", &text(folder)?);
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
    Ok(second_settings::shared(ctx, |name| modules.iter().any(|module| module.name == name)))
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

/// Runs the second server to its end. On a thread of its own.
fn run(mut command: Command, socket: PathBuf, settings: &str) -> Result<ExitStatus, String> {
    let mut child = command.spawn().map_err(|error| format!("a second server can't be started: {error}"))?;
    let input = child.stdin.take();
    *second() = Some(Second { child, socket: socket.clone() });
    let written = input.map_or(Ok(()), |mut input| input.write_all(settings.as_bytes()));
    let mut asked = Instant::now();
    loop {
        {
            let mut place = second();
            let Some(running) = place.as_mut() else { return Err("the server is being shut down".into()) };
            match running.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    running.remove_socket();
                    *place = None;
                    // One that has failed says itself why.
                    if let (true, Err(error)) = (status.success(), written) {
                        return Err(format!("the second server has not got its settings: {error}"));
                    }
                    return Ok(status);
                }
                Err(error) => return Err(format!("the second server can't be waited for: {error}")),
            }
        }
        if asked.elapsed() >= ASK_EVERY {
            ask_progress(&socket);
            asked = Instant::now();
        }
        std::thread::sleep(POLL);
    }
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
