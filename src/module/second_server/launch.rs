//! How a second server is started: its arguments, settings and modules.

use crate::ffi::{CallMode, Ctx, library_file, this_library, this_program};
use crate::module::cluster::text;
use crate::module::server::database_count;
use crate::module::server::{STRING_BYTES, STRING_BYTES_MAX};
use crate::module::{config, second_settings};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set for the second server: the process id of the first.
pub(super) const FOLD: &str = "WBL_FOLD";

/// The second server listens there, because a server must listen somewhere; `temp-` marks it as a leftover if it stays.
/// It is named through the folder's descriptor, because the folder's own path may be too long for a socket's. Each turn
/// has its own: the one that was given up may not have ended when the next one begins.
fn socket_name(turn: u64) -> String {
    format!("temp-fold.{turn}.socket")
}

/// Settings of the module for which the second server has values of its own.
const OWN_SETTINGS: [&str; 5] = ["enabled", "dir", "on-existing-log", "on-replay-error", "notify-keyspace-events"];

/// A second server that is to be started.
pub(super) struct Launch {
    pub(super) turn: u64,
    pub(super) command: Command,
    pub(super) socket: PathBuf,
    pub(super) settings: String,
    /// The folder that the socket's path leads through.
    _folder: File,
}

impl Launch {
    /// A setting.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        set(&mut self.command, name, value);
    }
}

fn set(command: &mut Command, name: &str, value: &str) {
    command.arg(format!("--{name}")).arg(value);
}

pub(super) fn utf8(path: &Path) -> Result<String, String> {
    path.to_str().map(String::from).ok_or_else(|| "the folder's name is not UTF-8".into())
}

/// How the second server for this folder of a log is started. It works in the same folder as the first, because paths
/// in modules' settings may be relative to that. It reads most settings from its input, where no list of processes
/// shows them.
pub(super) fn prepare(ctx: Ctx<'_>, folder: &Path, turn: u64) -> Result<Launch, String> {
    let opened = File::open(folder).map_err(|error| format!("{} can't be opened: {error}", folder.display()))?;
    let (mut command, by_descriptor) =
        this_program(&opened).map_err(|error| format!("a second server can't be started: {error}"))?;
    let socket = by_descriptor.join(socket_name(turn));
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
        // No command of the log is too long for the second server: the first has accepted it.
        (STRING_BYTES, STRING_BYTES_MAX),
        // Whatever payload is in the log, the node has accepted it.
        ("rdb-version-check", "relaxed"),
        ("wbl.enabled", "yes"),
        // The first has decided that the log counts, even if it is superseded.
        ("wbl.on-existing-log", "keep"),
    ] {
        set(name, value);
    }
    set("dir", &utf8(&here)?);
    for (name, value) in config::values().filter(|(name, _)| !OWN_SETTINGS.contains(&name.as_str())) {
        set(&format!("wbl.{name}"), &value);
    }
    set("databases", &database_count(ctx).to_string());
    // Where the server does not say what its log file is, the second server writes to where the first would without
    // one.
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
/// does not list them, it is only this one; a log that needs others then fails in the second server.
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
