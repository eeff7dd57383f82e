//! Questions to the server.

use crate::core::capture::Class;
use crate::core::reads::Reads;
use crate::core::table;
use crate::ffi::{CallMode, ClientInfo, Ctx, Reply, ReplyKind, ServerInfo};
use std::collections::{HashMap, HashSet};

/// How the module's own commands begin.
const OWN_COMMANDS: &str = "wbl.";

/// Whether the server holds any key or function.
pub(super) fn has_data(ctx: Ctx<'_>) -> bool {
    let keys = ctx
        .own()
        .call(CallMode::Internal, "INFO", [&b"keyspace"[..]])
        .is_some_and(|info| info.bytes().windows(5).any(|w| w == b"keys="));
    keys || ctx.own().call(CallMode::Internal, "FUNCTION", [&b"LIST"[..]]).is_some_and(|list| !list.is_empty())
}

/// Whether the server sends replies from threads of its own.
pub(super) fn has_io_threads(ctx: Ctx<'_>) -> bool {
    let config = ctx.own().call(CallMode::Internal, "CONFIG", [&b"GET"[..], b"io-threads"]);
    // Where the setting can't be read, the safe answer is the costly one.
    config.is_none_or(|config| config.element(1).is_none_or(|value| value.bytes() != b"1"))
}

/// Whether the server publishes keyspace notifications by itself, when a change is made.
pub(super) fn notifies_early(ctx: Ctx<'_>) -> bool {
    let config = ctx.own().call(CallMode::Internal, "CONFIG", [&b"GET"[..], b"notify-keyspace-events"]);
    config.is_some_and(|config| config.element(1).is_some_and(|value| !value.bytes().is_empty()))
}

/// Whether modules are loaded besides this one and those that are part of the server.
pub(super) fn has_other_modules(ctx: Ctx<'_>) -> bool {
    let known: [&[u8]; 2] = [b"wbl", b"lua"];
    let Some(list) = ctx.own().call(CallMode::Internal, "MODULE", [&b"LIST"[..]]) else { return true };
    (0..list.len()).filter_map(|index| list.element(index)).any(|entry| {
        let at = (0..entry.len()).step_by(2).find(|at| entry.element(*at).is_some_and(|name| name.bytes() == b"name"));
        at.and_then(|at| entry.element(at + 1)).is_none_or(|name| !known.contains(&name.bytes()))
    })
}

/// The ids of all connected clients.
pub(super) fn connected_clients(ctx: Ctx<'_>) -> HashSet<u64> {
    let list = ctx.own().call(CallMode::Internal, "CLIENT", [&b"LIST"[..]]);
    let text = list.map(|list| String::from_utf8_lossy(list.bytes()).into_owned()).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse().ok()).collect()
}

/// Whether output of this client still waits for its socket (its write handler is installed): more may follow before the loop's end.
pub(super) fn has_pending_output(ctx: Ctx<'_>, client: u64) -> bool {
    let id = client.to_string();
    let list = ctx.own().call(CallMode::Internal, "CLIENT", [&b"LIST"[..], b"ID", id.as_bytes()]);
    list.is_some_and(|list| list.bytes().windows(PENDING_OUTPUT.len()).any(|window| window == PENDING_OUTPUT))
}

/// What CLIENT LIST tells of a client: slower than `client_info`, and safe whatever executes. It raises no events.
pub(super) fn listed_client_info(ctx: Ctx<'_>, client: u64) -> Option<ClientInfo> {
    let id = client.to_string();
    let list = ctx.own().call(CallMode::Internal, "CLIENT", [&b"LIST"[..], b"ID", id.as_bytes()])?;
    let line = String::from_utf8_lossy(list.bytes());
    let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let flags = field("flags")?;
    Some(ClientInfo {
        db: field("db")?.parse().ok()?,
        in_multi: flags.contains('x'),
        blocked: flags.contains('b'),
        tracking: flags.contains('t'),
        subscribed: flags.contains('P'),
    })
}

/// How many commands the server has queued for a client since its MULTI.
pub(super) fn queued_commands(ctx: Ctx<'_>, client: u64) -> Option<usize> {
    let id = client.to_string();
    let list = ctx.own().call(CallMode::Internal, "CLIENT", [&b"LIST"[..], b"ID", id.as_bytes()])?;
    let line = String::from_utf8_lossy(list.bytes());
    line.split(' ').find_map(|field| field.strip_prefix("multi="))?.parse().ok()
}

/// How CLIENT LIST shows a client with a write handler.
const PENDING_OUTPUT: &[u8] = b" events=rw";

/// The server's own replication offset (`primary_repl_offset`; INFO still calls it `master_repl_offset`).
pub(super) fn replication_offset(ctx: Ctx<'_>) -> u64 {
    ServerInfo::read(ctx, "replication").and_then(|info| info.unsigned("master_repl_offset")).unwrap_or(0)
}

/// How many commands the server has answered with an error.
pub(super) fn error_replies(ctx: Ctx<'_>) -> Option<u64> {
    ServerInfo::read(ctx, "stats")?.unsigned("total_error_replies")
}

/// How many scripts and functions have run, not counting one that runs now.
pub(super) fn scripts_run(ctx: Ctx<'_>) -> u64 {
    let stats = ctx.own().call(CallMode::Internal, "INFO", [&b"commandstats"[..]]);
    let text = stats.map(|stats| String::from_utf8_lossy(stats.bytes()).into_owned()).unwrap_or_default();
    let calls = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        SCRIPT_COMMANDS.contains(&name).then(|| rest.split(',').next()?.parse::<u64>().ok())?
    };
    text.lines().filter_map(calls).sum()
}

/// Commands that run scripts and functions.
const SCRIPT_COMMANDS: [&str; 6] = ["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"];

/// What is known of one of the server's commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// What it is for capture.
    pub(super) class: Class,
    /// What its reply shows.
    pub(super) reads: Reads,
    /// It may wait for a stream to change (XREAD).
    pub(super) stream_reader: bool,
    /// The number of arguments, with the name; at least so many when negative; 0 when not known.
    pub(super) arity: i64,
}

impl Known {
    /// A command that COMMAND did not tell of.
    pub(super) const UNKNOWN: Known =
        Known { class: Class::Opaque, reads: Reads::Nothing, stream_reader: false, arity: 0 };
    /// A command that neither shows nor changes data.
    pub(super) const HARMLESS: Known =
        Known { class: Class::ReadOnly, reads: Reads::Nothing, stream_reader: false, arity: 0 };

    /// Whether the server refuses it with so many arguments, its name among them.
    pub(super) fn refuses(self, len: usize) -> bool {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        self.arity > 0 && len != self.arity || len < -self.arity
    }

    /// Whether COMMAND did not tell of it.
    pub(super) fn is_unknown(self) -> bool {
        self.class == Class::Opaque && self.arity == 0
    }
}

/// What a command is that the server has under a name of the configuration's (`rename-command`), which COMMAND does not list; `None` where it
/// has none of that name.
pub(super) fn learn(ctx: Ctx<'_>, name: &[u8]) -> Option<Known> {
    let info = ctx.own().call(CallMode::Internal, "COMMAND", [&b"INFO"[..], name])?;
    let entry = info.element(0).filter(|entry| entry.kind() == ReplyKind::Array)?;
    let mut commands = HashMap::new();
    add_command(&mut commands, &entry);
    let known = *commands.get(&entry.element(0)?.bytes().to_ascii_lowercase())?;
    let class = if known.class.is_unknown_write() { known.class } else { Class::Opaque };
    Some(Known { class, arity: known.arity, ..Known::UNKNOWN })
}

/// What each of the server's commands is, by lower-case name: the module's table where it knows the command, the server's flags elsewhere.
pub(super) fn commands(ctx: Ctx<'_>) -> HashMap<Vec<u8>, Known> {
    let mut commands = HashMap::new();
    let none: [&[u8]; 0] = [];
    if let Some(list) = ctx.own().call(CallMode::Internal, "COMMAND", none) {
        (0..list.len()).filter_map(|index| list.element(index)).for_each(|entry| add_command(&mut commands, &entry));
    }
    for spec in table::COMMANDS {
        if let Some(known) = commands.get_mut(spec.name.as_bytes()) {
            known.class = Class::Write(spec);
        }
    }
    for (name, class) in [
        ("multi", Class::Multi),
        ("exec", Class::Exec),
        ("discard", Class::EndMulti),
        ("reset", Class::EndMulti),
        ("watch", Class::Watch),
        ("unwatch", Class::Unwatch),
        ("select", Class::Opaque),
        ("debug", Class::Opaque),
    ] {
        commands.entry(name.as_bytes().to_vec()).or_insert(Known::UNKNOWN).class = class;
    }
    commands
}

/// Adds an entry of COMMAND's reply (name, arity, flags, first key, last key, step, ..., subcommands last) and its subcommands.
fn add_command(commands: &mut HashMap<Vec<u8>, Known>, entry: &Reply<'_>) {
    let (Some(name), Some(flags)) = (entry.element(0), entry.element(2)) else { return };
    let has_flag =
        |wanted: &[u8]| (0..flags.len()).filter_map(|index| flags.element(index)).any(|flag| flag.bytes() == wanted);
    let number = |index| entry.element(index).map_or(0, |number| number.integer());
    let lower = String::from_utf8_lossy(name.bytes()).to_ascii_lowercase();
    let movable = has_flag(b"movablekeys");
    let own = lower.starts_with(OWN_COMMANDS);
    // Commands with neither flag change no data by themselves (PUBLISH, CLIENT...), but for scripts, functions and what modules bring.
    let opaque = !own && (has_flag(b"module") || movable && !has_flag(b"readonly") || has_flag(b"write"));
    let subcommands = entry.element(9).filter(|list| list.kind() == ReplyKind::Array && !list.is_empty());
    let class = match (&subcommands, opaque) {
        (Some(_), _) => Class::Container,
        (None, true) if has_flag(b"write") && !has_flag(b"module") => {
            let spec = if has_flag(b"blocking") { &table::UNKNOWN_BLOCKING } else { &table::UNKNOWN };
            Class::Write(spec)
        }
        (None, true) => Class::Opaque,
        (None, false) => Class::ReadOnly,
    };
    let reads = if own { Reads::Nothing } else { Reads::of(&lower, number(3), number(4), number(5), movable) };
    let stream_reader = lower == "xread";
    commands.insert(lower.into_bytes(), Known { class, reads, stream_reader, arity: number(1) });
    if let Some(subcommands) = subcommands {
        (0..subcommands.len())
            .filter_map(|index| subcommands.element(index))
            .for_each(|entry| add_command(commands, &entry));
    }
}
