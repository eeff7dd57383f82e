//! What goes on around a test's commands, as its seed chooses: evictions, refusals, other names of commands, scripts
//! that run long, another module.

use super::{Random, ServerBuilder, Version, paths};
use std::ops::Range;

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

/// The other name of a command.
fn other_name(name: &str) -> String {
    match name {
        // The server tells it from XREAD by the name's length.
        "xreadgroup" => "my-xreadgr".into(),
        _ => format!("my-{name}"),
    }
}

/// A user who may change few keys, and may run neither all commands nor all of the module's.
pub const FEW_RIGHTS: &str = "ACL SETUSER few on nopass +@all -@dangerous";

/// What a script runs first that is to run long: the server serves others after a millisecond.
pub const RUNS_LONG: &str = "for index = 1, 400000 do local value = index * 2 end ";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// There is too little memory now and then: keys are evicted.
    pub evicts: bool,
    /// Commands are refused, by themselves and in transactions: for lack of a password, of rights, of memory, of
    /// arguments, or because there is no such command.
    pub refuses: bool,
    /// Commands have other names.
    pub renames: bool,
    /// Scripts run longer than the server keeps others waiting.
    pub runs_long: bool,
    /// There is another module that changes data in all of its ways.
    pub other_module: bool,
    /// It is loaded before this one, and is told of events earlier.
    pub other_comes_first: bool,
}

impl Conditions {
    pub const ALL: Conditions = Conditions {
        evicts: true,
        refuses: true,
        renames: true,
        runs_long: true,
        other_module: true,
        other_comes_first: true,
    };

    /// Those of a test with this seed.
    pub fn of_seed(seed: u64) -> Conditions {
        Conditions::of(&mut Random::new(!seed))
    }

    /// Fails unless each condition is that of some of the seeds, and some have none.
    pub fn assert_all(seeds: Range<u64>) {
        let of_seeds: Vec<Conditions> = seeds.clone().map(Conditions::of_seed).collect();
        let all = of_seeds.iter().fold(Conditions::default(), |all, one| Conditions {
            evicts: all.evicts || one.evicts,
            refuses: all.refuses || one.refuses,
            renames: all.renames || one.renames,
            runs_long: all.runs_long || one.runs_long,
            other_module: all.other_module || one.other_module,
            other_comes_first: all.other_comes_first || one.other_comes_first,
        });
        assert_eq!(all, Conditions::ALL, "the seeds {seeds:?}");
        assert!(of_seeds.contains(&Conditions::default()), "each of the seeds {seeds:?} has conditions");
    }

    /// Each of them in one of three cases.
    fn of(rng: &mut Random) -> Conditions {
        let mut is_so = || rng.one_in(3);
        Conditions {
            evicts: is_so(),
            refuses: is_so(),
            renames: is_so(),
            runs_long: is_so(),
            other_module: is_so(),
            other_comes_first: is_so(),
        }
    }

    /// Whether right commands may be refused.
    pub fn refuse(self) -> bool {
        self.explain("EXECABORT")
    }

    /// Whether commands are refused with this error because of them: such a command has no effect.
    pub fn explain(self, error: &str) -> bool {
        match error.split(' ').next().unwrap_or_default() {
            "BUSY" => self.runs_long,
            "OOM" => self.evicts || self.refuses,
            "NOAUTH" | "NOPERM" => self.refuses,
            "EXECABORT" => self.runs_long || self.evicts || self.refuses,
            _ => false,
        }
    }

    /// A server in which they are possible. Its log is kept from start to start, and so are the warnings in it.
    pub fn apply(self, builder: ServerBuilder, version: Version) -> ServerBuilder {
        let builder = builder.allow_warning("the new maxmemory value set via CONFIG SET");
        let mut builder = builder.allow_warning("Slow script detected");
        if self.renames {
            builder = RENAMED.iter().fold(builder, |builder, name| builder.rename(name, &other_name(name)));
        }
        if self.runs_long {
            builder = builder.set("busy-reply-threshold", "1");
        }
        if self.other_module {
            builder = builder.load(&paths::test_module(version), self.other_comes_first);
        }
        builder
    }
}
