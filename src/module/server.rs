//! Questions to the server.

use crate::core::capture::Class;
use crate::core::table;
use crate::ffi::{CallMode, Ctx, Reply, ReplyKind, ServerInfo};
use std::collections::{HashMap, HashSet};

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

/// How CLIENT LIST shows a client with a write handler.
const PENDING_OUTPUT: &[u8] = b" events=rw";

/// The server's own replication offset (`primary_repl_offset`; INFO still calls it `master_repl_offset`).
pub(super) fn replication_offset(ctx: Ctx<'_>) -> u64 {
    ServerInfo::read(ctx, "replication").and_then(|info| info.unsigned("master_repl_offset")).unwrap_or(0)
}

/// What each of the server's commands is for capture: the module's table where it knows the command, the server's flags elsewhere.
pub(super) fn command_classes(ctx: Ctx<'_>) -> HashMap<Vec<u8>, Class> {
    let mut classes = HashMap::new();
    let none: [&[u8]; 0] = [];
    if let Some(commands) = ctx.own().call(CallMode::Internal, "COMMAND", none) {
        (0..commands.len())
            .filter_map(|index| commands.element(index))
            .for_each(|entry| add_class(&mut classes, &entry));
    }
    for spec in table::COMMANDS {
        if let Some((container, _)) = spec.name.split_once('|') {
            classes.insert(container.as_bytes().to_vec(), Class::Container);
        }
        classes.insert(spec.name.as_bytes().to_vec(), Class::Write(spec));
    }
    for (name, class) in [
        ("multi", Class::Multi),
        ("exec", Class::Exec),
        ("discard", Class::EndMulti),
        ("reset", Class::EndMulti),
        ("select", Class::Opaque),
        ("debug", Class::Opaque),
    ] {
        classes.insert(name.as_bytes().to_vec(), class);
    }
    classes
}

/// Adds an entry of COMMAND's reply (name, arity, flags, ..., subcommands last) and its subcommands.
fn add_class(classes: &mut HashMap<Vec<u8>, Class>, entry: &Reply<'_>) {
    let (Some(name), Some(flags)) = (entry.element(0), entry.element(2)) else { return };
    let has_flag =
        |wanted: &[u8]| (0..flags.len()).filter_map(|index| flags.element(index)).any(|flag| flag.bytes() == wanted);
    // Commands with neither flag change no data by themselves (PUBLISH, CLIENT...), but for scripts, functions and what modules bring.
    let opaque = has_flag(b"module") || has_flag(b"movablekeys") && !has_flag(b"readonly") || has_flag(b"write");
    let lower = name.bytes().to_ascii_lowercase();
    classes.insert(lower, if opaque { Class::Opaque } else { Class::ReadOnly });
    if let Some(subcommands) = entry.element(9).filter(|list| list.kind() == ReplyKind::Array) {
        (0..subcommands.len())
            .filter_map(|index| subcommands.element(index))
            .for_each(|entry| add_class(classes, &entry));
    }
}
