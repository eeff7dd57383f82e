//! The fake server's commands: arity, flags and keys, as COMMAND says them.

use crate::server::server;
use std::collections::HashMap;

pub struct Command {
    pub name: &'static str,
    pub arity: i64,
    pub flags: &'static str,
    pub keys: (i64, i64, i64),
}

impl Command {
    pub fn has(&self, flag: &str) -> bool {
        self.flags.split(' ').any(|word| word == flag)
    }

    pub fn may_replicate(&self) -> bool {
        self.has("write") || self.has("may_replicate")
    }

    pub fn refuses(&self, len: usize) -> bool {
        let len = len as i64;
        self.arity > 0 && len != self.arity || len < -self.arity
    }
}

const fn command(name: &'static str, arity: i64, flags: &'static str, keys: (i64, i64, i64)) -> Command {
    Command { name, arity, flags, keys }
}

const ONE: (i64, i64, i64) = (1, 1, 1);
const ALL: (i64, i64, i64) = (1, -1, 1);
const NONE: (i64, i64, i64) = (0, 0, 0);

pub const COMMANDS: &[Command] = &[
    command("append", 3, "write denyoom fast", ONE),
    command("blpop", -3, "write blocking", (1, -2, 1)),
    command("client", -2, "", NONE),
    command("command", -1, "", NONE),
    command("config", -2, "admin noscript", NONE),
    command("dbsize", 1, "readonly fast", NONE),
    command("del", -2, "write", ALL),
    command("discard", 1, "noscript fast", NONE),
    command("dump", 2, "readonly", ONE),
    command("eval", -3, "noscript skip_monitor may_replicate movablekeys", NONE),
    command("eval_ro", -3, "noscript skip_monitor readonly movablekeys", NONE),
    command("exec", 1, "noscript skip_slowlog", NONE),
    command("exists", -2, "readonly fast", ALL),
    command("expire", -3, "write fast", ONE),
    command("flushall", -1, "write", NONE),
    command("flushdb", -1, "write", NONE),
    command("function", -2, "", NONE),
    command("get", 2, "readonly fast", ONE),
    command("getset", 3, "write denyoom fast", ONE),
    command("hello", -1, "noscript fast", NONE),
    command("incr", 2, "write denyoom fast", ONE),
    command("keys", 2, "readonly", NONE),
    command("llen", 2, "readonly fast", ONE),
    command("lpop", -2, "write fast", ONE),
    command("lpush", -3, "write denyoom fast", ONE),
    command("lrange", 4, "readonly", ONE),
    command("module", -2, "admin noscript", NONE),
    command("mset", -3, "write denyoom", (1, -1, 2)),
    command("multi", 1, "noscript fast", NONE),
    command("other.call", -2, "module write", NONE),
    command("other.yield", -2, "module write", NONE),
    command("persist", 2, "write fast", ONE),
    command("pexpire", -3, "write fast", ONE),
    command("pexpireat", -3, "write fast", ONE),
    command("ping", -1, "fast", NONE),
    command("pttl", 2, "readonly fast", ONE),
    command("restore", -4, "write denyoom", ONE),
    command("rpop", -2, "write fast", ONE),
    command("rpush", -3, "write denyoom fast", ONE),
    command("sadd", -3, "write denyoom fast", ONE),
    command("select", 2, "fast", NONE),
    command("set", -3, "write denyoom", ONE),
    command("smembers", 2, "readonly", ONE),
    command("spop", -2, "write fast", ONE),
    command("srem", -3, "write fast", ONE),
    command("subscribe", -2, "pubsub noscript", NONE),
    command("mget", -2, "readonly fast", ALL),
    command("strlen", 2, "readonly fast", ONE),
    command("type", 2, "readonly fast", ONE),
    command("unlink", -2, "write fast", ALL),
    command("unsubscribe", -1, "pubsub noscript", NONE),
    command("unwatch", 1, "noscript fast", NONE),
    command("watch", -2, "noscript fast", ALL),
    command("xack", -4, "write fast", ONE),
    command("xadd", -5, "write denyoom fast", ONE),
    command("xgroup", -2, "", NONE),
    command("xlen", 2, "readonly fast", ONE),
    command("xpending", -3, "readonly", ONE),
    command("xrange", -4, "readonly", ONE),
    command("xreadgroup", -7, "write blocking movablekeys", NONE),
    command("xtrim", -4, "write", ONE),
    command("xread", -4, "readonly blocking movablekeys", NONE),
];

/// Those with subcommands.
const CONTAINERS: [&str; 4] = ["client", "config", "function", "xgroup"];

/// Their subcommands.
pub const SUBCOMMANDS: &[Command] = &[
    command("client|list", -2, "admin noscript", NONE),
    command("client|pause", -3, "admin noscript", NONE),
    command("client|tracking", -3, "noscript", NONE),
    command("client|unblock", -3, "admin noscript", NONE),
    command("client|unpause", 2, "admin noscript", NONE),
    command("config|get", -3, "admin noscript", NONE),
    command("config|set", -4, "admin noscript", NONE),
    command("function|dump", 2, "noscript", NONE),
    command("function|restore", -3, "write denyoom noscript", NONE),
    command("xgroup|create", -5, "write denyoom", (2, 2, 1)),
];

thread_local! {
    static BY_NAME: HashMap<&'static [u8], &'static Command> =
        COMMANDS.iter().chain(SUBCOMMANDS).map(|command| (command.name.as_bytes(), command)).collect();
}

/// Those that the server has: another module's only if it is loaded.
pub fn present() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| is_present(command))
}

fn is_present(command: &Command) -> bool {
    !command.name.starts_with("other.") || server().has_other_module
}

pub fn find(name: &[u8], subcommand: &[u8]) -> Option<&'static Command> {
    let mut full = name.to_ascii_lowercase();
    BY_NAME.with(|by_name| {
        let command = by_name.get(full.as_slice()).copied().filter(|command| is_present(command))?;
        if !CONTAINERS.contains(&command.name) {
            return Some(command);
        }
        full.push(b'|');
        full.extend(subcommand.to_ascii_lowercase());
        Some(by_name.get(full.as_slice()).copied().unwrap_or(command))
    })
}
