//! What goes on around a test's commands, as its seed chooses: evictions, refusals, other names of commands, scripts
//! that run long, another module.

use super::{Random, ServerBuilder, Version, paths};

/// Commands that have another name where commands are renamed.
const RENAMED: &[&str] = &[
    "set",
    "get",
    "del",
    "incr",
    "setnx",
    "rpush",
    "lrange",
    "lmove",
    "blpop",
    "blmove",
    "sadd",
    "spop",
    "zadd",
    "hset",
    "hdel",
    "expire",
    "pexpire",
    "copy",
    "move",
    "rename",
    "xadd",
    "xreadgroup",
    "xack",
    "pfcount",
    "multi",
    "exec",
    "watch",
    "eval",
    "fcall",
    "select",
    "flushdb",
    "swapdb",
    "restore",
    "dump",
    "client",
    "function",
    "bitfield",
];

/// What a script runs first that is to run long: the server serves others after a millisecond.
pub const RUNS_LONG: &str = "for index = 1, 400000 do local value = index * 2 end ";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// There is too little memory now and then: keys are evicted.
    pub evicts: bool,
    /// Commands are refused, by themselves and in transactions: for want of a password, of rights, of memory, of
    /// arguments, or because there is no such command.
    pub refuses: bool,
    /// Commands have other names.
    pub renames: bool,
    /// Scripts run longer than the server keeps others waiting.
    pub runs_long: bool,
    /// There is another module that changes data in all of its ways.
    pub other_module: bool,
}

impl Conditions {
    /// Each of them in one of three cases.
    pub fn of(rng: &mut Random) -> Conditions {
        let mut is_so = || rng.one_in(3);
        Conditions { evicts: is_so(), refuses: is_so(), renames: is_so(), runs_long: is_so(), other_module: is_so() }
    }

    /// A server in which they are possible. Its log is kept from start to start, and so are the warnings in it.
    pub fn apply(self, builder: ServerBuilder, version: Version) -> ServerBuilder {
        let builder = builder.allow_warning("the new maxmemory value set via CONFIG SET");
        let mut builder = builder.allow_warning("Slow script detected");
        if self.renames {
            builder = RENAMED.iter().fold(builder, |builder, name| builder.rename(name, &format!("my-{name}")));
        }
        if self.runs_long {
            builder = builder.set("busy-reply-threshold", "1");
        }
        if self.other_module {
            builder = builder.load(&paths::test_module(version), false);
        }
        builder
    }
}
