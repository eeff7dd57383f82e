//! The settings that a second server gets from the node that starts it.
//!
//! What a command of the log does when it is replayed depends on settings: what RESTORE takes, how large the values of
//! a module may be, when a value changes its encoding. So the second server gets all of the node's, except those named
//! here.

use crate::ffi::{CallMode, Ctx};
use std::fmt::Write;

/// Settings that the second server does not get from the node, by name or, with `*`, by the beginning of the name; none
/// of them changes what a command does.
const NOT_SHARED: &[&str] = &[
    // It has values of its own for these.
    "port",
    "unixsocket*",
    "dir",
    "dbfilename",
    "logfile",
    "databases",
    "proto-max-bulk-len",
    "rdb-version-check",
    "wbl.*",
    // It is neither node nor replica, and only the node talks to it, which needs no password for that.
    "cluster-*",
    "repl-*",
    "replica*",
    "slave*",
    "min-replicas-*",
    "min-slaves-*",
    "dual-channel-*",
    "slot-migration-*",
    "primaryauth",
    "primaryuser",
    "masterauth",
    "masteruser",
    "requirepass",
    "aclfile",
    "bind",
    "bind-*",
    "mptcp",
    "protected-mode",
    "rdma-*",
    "socket-mark-id",
    "tcp-*",
    "tls-*",
    // It loads and keeps no files of the server's own.
    "save",
    "append*",
    "aof-*",
    "auto-aof-*",
    "no-appendfsync-*",
    "rdb-del-sync-files",
    // The log has been accepted, and nothing of it is evicted or refused: what was evicted is in it. The node must not
    // be turned away as a client.
    "maxmemory",
    "maxmemory-clients",
    "maxclients",
    "client-*",
    "timeout",
    "max-new-*",
    // It is a child that the node waits for, and what watches the node should know of the node only.
    "daemonize",
    "supervised",
    "pidfile",
    "oom-score-adj*",
];

/// The settings of this server for a second one, as a configuration file has them. `has_module`: whether the second one
/// has the module of that name, because a server does not start with other modules' settings. Where this server has no
/// CONFIG GET there are none.
pub(super) fn shared(ctx: Ctx<'_>, has_module: impl Fn(&[u8]) -> bool) -> String {
    let mut lines = String::new();
    let Some(told) = ctx.own().call(CallMode::Internal, "CONFIG", [&b"GET"[..], b"*"]) else { return lines };
    for at in (0..told.len()).step_by(2) {
        let (Some(name), Some(value)) = (told.element(at), told.element(at + 1)) else { continue };
        let name = name.bytes();
        let module = name.iter().position(|byte| *byte == b'.').and_then(|dot| name.get(..dot));
        if is_shared(name) && module.is_none_or(&has_module) {
            lines.push_str(&line(name, value.bytes()));
        }
    }
    lines
}

fn is_shared(name: &[u8]) -> bool {
    !NOT_SHARED.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning.as_bytes()),
        None => name == pattern.as_bytes(),
    })
}

/// A line of a configuration file. Special characters are written as escapes, which the server reads for any byte.
fn line(name: &[u8], value: &[u8]) -> String {
    let mut line = format!("{} \"", String::from_utf8_lossy(name));
    for byte in value {
        match byte {
            b' '..=b'~' if !b"\"\\".contains(byte) => line.push(char::from(*byte)),
            // Writing to a string does not fail.
            _ => drop(write!(line, "\\x{byte:02x}")),
        }
    }
    line.push_str("\"\n");
    line
}

#[cfg(test)]
mod tests {
    use super::{is_shared, line};

    #[test]
    fn settings_that_commands_depend_on_are_shared() {
        for name in
            ["hll-sparse-max-bytes", "maxmemory-policy", "locale-collate", "bf.bloom-capacity", "list-max-ziplist-size"]
        {
            assert!(is_shared(name.as_bytes()), "{name}");
        }
        for name in ["port", "tls-port", "maxmemory", "slaveof", "appendonly", "wbl.enabled", "aof_rewrite_cpulist"] {
            assert_eq!(is_shared(name.as_bytes()), name == "aof_rewrite_cpulist", "{name}");
        }
    }

    #[test]
    fn any_value_is_one_word_of_a_line() {
        assert_eq!(line(b"name", b"two words"), "name \"two words\"\n");
        assert_eq!(line(b"name", b""), "name \"\"\n");
        assert_eq!(line(b"name", b"\"\\\n\xff"), "name \"\\x22\\x5c\\x0a\\xff\"\n");
    }
}
