//! Cluster mode. The server refuses a module's calls for keys of slots that other nodes own, and for all keys while the cluster is down, as it is
//! at every start; so a log cannot be replayed by a node of a cluster.
//!
//! A second server, outside of the cluster, does that instead, and leaves a base that holds it all ([`fold`]). The base goes through the
//! server's loader, which asks nobody.

use crate::ffi::{CallMode, Ctx, Level, Reply, ReplyKind, log, this_program};
use crate::log::{LogError, Opened};
use crate::module::config::{Setting, value};
use crate::module::gate::GatedStorage;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Set for the second server: recover, write a base, and exit.
const FOLD: &str = "WBL_FOLD";

/// The second server listens there, as a server must listen somewhere; `temp-` marks it as a leftover if it stays.
const SOCKET: &str = "temp-fold.socket";

/// Keys that are asked for at once.
const KEYS_AT_ONCE: &[u8] = b"1000";

/// Whether this is the second server.
pub(super) fn is_folding() -> bool {
    std::env::var_os(FOLD).is_some()
}

/// Whether the log holds any command.
///
/// # Errors
/// Of reading it.
pub(super) fn has_commands(opened: &Opened<GatedStorage>) -> Result<bool, LogError> {
    let mut frames = opened.frames();
    let mut payload = Vec::new();
    while frames.next_frame(&mut payload)?.is_some() {
        if !payload.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has a second server turn the folder's log into a base. Nobody may have the folder open.
///
/// # Errors
/// Why it could not, for the server's log.
pub(super) fn fold(ctx: Ctx<'_>, folder: &Path) -> Result<(), String> {
    log(
        Level::Notice,
        "a node of a cluster can't replay a log: a second server, outside of the cluster, makes a base of it",
    );
    let mut command = this_program();
    command.env(FOLD, "1").stdin(Stdio::null()).current_dir(folder);
    let mut set = |name: &str, value: &str| {
        command.arg(format!("--{name}")).arg(value);
    };
    for (name, value) in [
        ("port", "0"),
        ("unixsocket", SOCKET),
        ("unixsocketperm", "700"),
        ("save", ""),
        // There is no such file.
        ("dbfilename", "temp-none.rdb"),
        ("wbl.enabled", "yes"),
    ] {
        set(name, value);
    }
    let text = folder.to_str().ok_or("the folder's name is not UTF-8")?;
    set("dir", text);
    set("wbl.dir", text);
    set("wbl.segment-bytes", &value(Setting::SegmentBytes).to_string());
    set("databases", &database_count(ctx).to_string());
    set("proto-max-bulk-len", &server_setting(ctx, "proto-max-bulk-len")?);
    let log_file = server_setting(ctx, "logfile")?;
    if !log_file.is_empty() {
        let path = std::env::current_dir().map_err(|error| format!("no current folder: {error}"))?.join(log_file);
        set("logfile", &path.to_string_lossy());
    }
    for module in modules(ctx) {
        command.arg("--loadmodule").args(module);
    }
    let status = command.status().map_err(|error| format!("a second server can't be started: {error}"))?;
    // A server that ends by `exit` leaves it.
    let _ = std::fs::remove_file(folder.join(SOCKET));
    if status.success() { Ok(()) } else { Err(format!("the second server failed: {status}; its log says why")) }
}

fn database_count(ctx: Ctx<'_>) -> u32 {
    (1..).find(|db| !ctx.own().select_db(*db)).unwrap_or(1)
}

fn server_setting(ctx: Ctx<'_>, name: &str) -> Result<String, String> {
    let reply = ctx.own().call(CallMode::Internal, "CONFIG", [&b"GET"[..], name.as_bytes()]);
    let text = reply.as_ref().and_then(|reply| Some(text(&reply.element(1)?)));
    text.ok_or_else(|| format!("the server does not tell its {name}"))
}

/// The loaded modules: the path of each with its arguments. Values of their types may be in the log.
fn modules(ctx: Ctx<'_>) -> Vec<Vec<String>> {
    let none: [&[u8]; 0] = [];
    let Some(list) = ctx.own().call(CallMode::Internal, "MODULE", [&b"LIST"[..]].into_iter().chain(none)) else {
        return Vec::new();
    };
    let module = |index| {
        let fields = list.element(index)?;
        let value = |name: &str| {
            let is_name = |at: &usize| fields.element(*at).is_some_and(|field| field.bytes() == name.as_bytes());
            fields.element((0..fields.len()).step_by(2).find(is_name)? + 1)
        };
        let path = text(&value("path")?);
        // Modules that are part of the server have none.
        let is_file = PathBuf::from(&path).is_file();
        let mut words = vec![path];
        if let (Some(args), false) = (value("args"), value("name")?.bytes() == b"wbl") {
            words.extend((0..args.len()).filter_map(|at| args.element(at)).map(|arg| text(&arg)));
        }
        is_file.then_some(words)
    };
    (0..list.len()).filter_map(module).collect()
}

fn text(reply: &Reply<'_>) -> String {
    String::from_utf8_lossy(reply.bytes()).into_owned()
}

/// What the cluster's configuration says of slots.
#[derive(Debug, Default, PartialEq, Eq)]
struct Slots {
    /// Owned by other nodes.
    foreign: Vec<RangeInclusive<u16>>,
    /// Being imported key by key (`CLUSTER SETSLOT ... IMPORTING`): keys are here though another node owns the slot.
    importing: Vec<u16>,
}

/// Reads the reply of CLUSTER NODES: a line per node, with the node's slots from the ninth word on.
fn parse(nodes: &str) -> Slots {
    const SLOTS_AT: usize = 8;
    let mut slots = Slots::default();
    for line in nodes.lines() {
        let is_myself = line.split(' ').nth(2).is_some_and(|flags| flags.split(',').any(|flag| flag == "myself"));
        for word in line.split(' ').skip(SLOTS_AT) {
            match word.strip_prefix('[') {
                Some(moving) if is_myself => {
                    slots.importing.extend(moving.split_once("-<-").and_then(|(slot, _)| slot.parse::<u16>().ok()));
                }
                None if !is_myself => {
                    let (first, last) = word.split_once('-').unwrap_or((word, word));
                    if let (Ok(first), Ok(last)) = (first.parse(), last.parse()) {
                        slots.foreign.push(first..=last);
                    }
                }
                _ => {}
            }
        }
    }
    slots
}

/// Deletes the keys of slots that other nodes own, as the server does with data that it has loaded at its start: remains of a slot that was
/// moving when this node crashed. The deletions are logged like others.
pub(super) fn delete_foreign_keys(ctx: Ctx<'_>) {
    if !ctx.flags().in_cluster() {
        return;
    }
    let own = ctx.own();
    let nodes = own.call(CallMode::Internal, "CLUSTER", [&b"NODES"[..]]);
    let slots = nodes.map(|nodes| parse(&text(&nodes))).unwrap_or_default();
    let foreign = || slots.foreign.iter().cloned().flatten().filter(|slot| !slots.importing.contains(slot));
    let mut deleted = 0_usize;
    for db in 0..database_count(ctx) {
        let none: [&[u8]; 0] = [];
        let selected = own.select_db(db);
        if selected && own.call(CallMode::Internal, "DBSIZE", none).is_some_and(|size| size.integer() > 0) {
            deleted += foreign().map(|slot| delete_slot(own, slot)).sum::<usize>();
        }
    }
    if deleted > 0 {
        log(Level::Notice, &format!("deleted {deleted} recovered keys of slots that belong to other nodes"));
    }
}

/// Deletes the slot's keys in the selected database; returns their number.
fn delete_slot(own: Ctx<'_>, slot: u16) -> usize {
    let slot = slot.to_string();
    let mut deleted = 0;
    loop {
        let keys = own.call(CallMode::Internal, "CLUSTER", [&b"GETKEYSINSLOT"[..], slot.as_bytes(), KEYS_AT_ONCE]);
        let Some(keys) = keys.filter(|keys| keys.kind() == ReplyKind::Array) else { return deleted };
        let before = deleted;
        for key in (0..keys.len()).filter_map(|index| keys.element(index)) {
            if own.delete_key(key.bytes()) {
                own.tell_deleted(key.bytes());
                deleted += 1;
            }
        }
        if deleted == before {
            return deleted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_other_nodes_and_imported_slots_are_told_apart() {
        let nodes = "aa 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-99 200 [201-<-bb] [5->-bb]\n\
                     bb 127.0.0.1:7001@17001,name master - 0 1 2 connected 100-199 201-300 400\n\
                     cc 127.0.0.1:7002@17002 slave bb 0 1 2 connected\n";
        assert_eq!(parse(nodes), Slots { foreign: vec![100..=199, 201..=300, 400..=400], importing: vec![201] });
        assert_eq!(parse(""), Slots::default());
    }
}
