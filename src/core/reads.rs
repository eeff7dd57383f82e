//! What a command's reply can show, and the newest change among that: the position that must be durable before the
//! reply may leave.

use crate::core::dirty::DirtyKeys;
use crate::log::Lsn;
use std::collections::HashSet;
use std::sync::Arc;

/// Where the keys of a command stand, or what else of the dataset its reply shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Nothing of the dataset.
    Nothing,
    /// Keys at `first`, `first + step`... up to `last`, which counts from the end when negative.
    Range {
        /// Index of the first key; 0 is the command's name.
        first: usize,
        /// Index of the last key.
        last: i64,
        /// Distance between keys.
        step: usize,
    },
    /// Keys in places that only the server knows.
    Movable,
    /// MSETEX: the number of keys, then that many pairs of key and value. The server's API does not tell these (9.1).
    Pairs,
    /// SORT: one key, and any others by patterns.
    Sort,
    /// COPY and MOVE: keys of its own and of another database.
    TwoDatabases,
    /// Any key of its database.
    Keyspace,
    /// The function library.
    Functions,
    /// Whatever the commands that it runs read, and the function library.
    Script,
}

/// Commands whose reply depends on more than the keys among their arguments.
const KEYSPACE: &[&str] = &[
    "clusterscan",
    "cluster|countkeysinslot",
    "cluster|getkeysinslot",
    "cluster|slot-stats",
    "dbsize",
    "debug",
    "keys",
    "randomkey",
    "scan",
];

const FUNCTIONS: &[&str] = &[
    "function|delete",
    "function|dump",
    "function|flush",
    "function|list",
    "function|load",
    "function|restore",
    "function|stats",
];

const SCRIPTS: &[&str] = &["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"];

/// Writes that raise an event whenever they are not refused with an error: they need no look at whether they changed
/// anything.
const EFFECTIVE: &[&str] = &[
    "append",
    "decr",
    "decrby",
    "hincrby",
    "hincrbyfloat",
    "hmset",
    "hset",
    "incr",
    "incrby",
    "incrbyfloat",
    "lpush",
    "lset",
    "ltrim",
    "migrate",
    "mset",
    "psetex",
    "rpush",
    "setbit",
    "setex",
    "setrange",
    "xadd",
    "zincrby",
];

impl Reads {
    /// What the command of this lower-case name reads. `first`, `last` and `step` are those of the server's COMMAND
    /// reply.
    pub fn of(name: &str, first: i64, last: i64, step: i64, movable: bool) -> Reads {
        match name {
            name if KEYSPACE.contains(&name) => Reads::Keyspace,
            name if FUNCTIONS.contains(&name) => Reads::Functions,
            name if SCRIPTS.contains(&name) => Reads::Script,
            // It answers OK whatever the keys are; its EXEC is what tells.
            "watch" => Reads::Nothing,
            // What stands in the place of keys names channels.
            "spublish" | "ssubscribe" | "sunsubscribe" => Reads::Nothing,
            "sort" | "sort_ro" => Reads::Sort,
            "copy" | "move" => Reads::TwoDatabases,
            "msetex" => Reads::Pairs,
            _ if movable => Reads::Movable,
            _ => match (usize::try_from(first), usize::try_from(step)) {
                (Ok(first), Ok(step)) if first > 0 && step > 0 => Reads::Range { first, last, step },
                _ => Reads::Nothing,
            },
        }
    }
}

/// Whether a write command of this lower-case name can send the head of its reply before the event that tells of its
/// change: they answer with the value before, and that there is none raises an event of its own (`keymiss`, `new`), at
/// which the server ends its deferral.
pub fn replies_early<'a>(name: &str, args: impl Iterator<Item = &'a [u8]>) -> bool {
    match name {
        "getset" => true,
        "set" => args.skip(3).any(|arg| arg.eq_ignore_ascii_case(b"GET")),
        _ => false,
    }
}

/// Whether DEBUG with this subcommand shows data.
pub fn debug_shows(subcommand: &[u8]) -> bool {
    const SHOWING: [&[u8]; 7] =
        [b"digest", b"digest-value", b"htstats", b"htstats-key", b"listpack", b"object", b"quicklist"];
    SHOWING.iter().any(|name| subcommand.eq_ignore_ascii_case(name))
}

/// Whether a write command of this lower-case name changes something whenever it does not fail. `args` are its
/// arguments, with the name.
pub fn is_effective<'a>(name: &str, args: impl Iterator<Item = &'a [u8]>) -> bool {
    if name == "set" {
        let conditions: [&[u8]; 5] = [b"NX", b"XX", b"GET", b"IFEQ", b"IFNE"];
        return !args.skip(3).any(|arg| conditions.iter().any(|condition| arg.eq_ignore_ascii_case(condition)));
    }
    EFFECTIVE.binary_search(&name).is_ok()
}

/// The indices of the keys of a command with `len` arguments, its name among them.
pub fn range(first: usize, last: i64, step: usize, len: usize) -> impl Iterator<Item = usize> {
    let end = usize::try_from(last)
        .unwrap_or_else(|_| len.saturating_sub(usize::try_from(last.unsigned_abs()).unwrap_or(len)));
    (first..=end).take_while(move |index| *index < len).step_by(step.max(1))
}

/// The key that a COPY or MOVE makes, and the database that it names for it.
pub fn destination<'a>(args: &[&'a [u8]]) -> Option<(&'a [u8], Option<u32>)> {
    let number = |arg: &[u8]| std::str::from_utf8(arg).ok()?.parse().ok();
    match args {
        [_, key, db] if args.first()?.eq_ignore_ascii_case(b"move") => Some((*key, number(db))),
        [_, _, key, options @ ..] => {
            let db = options.iter().position(|option| option.eq_ignore_ascii_case(b"DB"));
            Some((*key, db.and_then(|at| number(options.get(at + 1)?))))
        }
        _ => None,
    }
}

/// The indices of the keys of a command with [`Reads::Pairs`].
pub fn pairs(count: &[u8], len: usize) -> impl Iterator<Item = usize> {
    let count = std::str::from_utf8(count).ok().and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
    (2..len).step_by(2).take(count)
}

/// What a transaction can show: the keys of its commands, in a database that is known when it runs.
#[derive(Debug, Default)]
pub struct ReadSet {
    keys: HashSet<Arc<[u8]>>,
    keyspace: bool,
    functions: bool,
    /// Its database is not that of its client all the time.
    anything: bool,
    /// It runs commands of its own, which are seen when it does.
    runs_others: bool,
    /// The server refuses it.
    refused: bool,
}

impl ReadSet {
    /// It reads this key.
    pub fn key(&mut self, key: &[u8]) {
        if !self.refused {
            self.keys.insert(Arc::from(key));
        }
    }

    /// It reads the keyspace.
    pub fn keyspace(&mut self) {
        self.keyspace = true;
    }

    /// It reads the function library.
    pub fn functions(&mut self) {
        self.functions = true;
    }

    /// It may read anything.
    pub fn anything(&mut self) {
        self.anything = true;
    }

    /// It runs commands of its own.
    pub fn runs_others(&mut self) {
        self.runs_others = true;
    }

    /// The server refuses it, as it has refused one of its commands: it shows nothing.
    pub fn refuse(&mut self) {
        *self = ReadSet { refused: true, ..ReadSet::default() };
    }

    /// Whether the server refuses it.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether it runs commands of its own.
    pub fn runs_commands(&self) -> bool {
        self.runs_others
    }

    /// The newest change among what it can show.
    pub fn newest_change(&self, db: u32, dirty: &DirtyKeys) -> Option<Lsn> {
        if self.refused {
            return None;
        }
        let keys = self.keys.iter().filter_map(|key| dirty.key(db, key)).max();
        let keyspace = if self.keyspace { dirty.database_change(db) } else { None };
        let functions = if self.functions { dirty.functions_change() } else { None };
        let anything = if self.anything { dirty.any_change() } else { None };
        keys.max(keyspace).max(functions).max(anything)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted() {
        for list in [KEYSPACE, FUNCTIONS, SCRIPTS, EFFECTIVE] {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn ranges_count_from_the_end_when_negative() {
        assert_eq!(range(1, 1, 1, 3).collect::<Vec<_>>(), [1]);
        assert_eq!(range(1, -1, 1, 4).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(range(1, -1, 2, 5).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(range(1, -2, 1, 4).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(range(2, 2, 1, 2).count(), 0);
        assert_eq!(range(1, -9, 1, 2).count(), 0);
    }

    #[test]
    fn copy_and_move_name_their_destination() {
        let of = |text: &'static str| destination(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        assert_eq!(of("MOVE k 3"), Some((&b"k"[..], Some(3))));
        assert_eq!(of("COPY k l"), Some((&b"l"[..], None)));
        assert_eq!(of("copy k l REPLACE db 2"), Some((&b"l"[..], Some(2))));
        assert_eq!(of("COPY k DB 2"), Some((&b"DB"[..], None)));
        assert_eq!(of("MOVE k"), None);
    }

    #[test]
    fn pairs_are_as_many_as_their_number_says() {
        assert_eq!(pairs(b"2", 7).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(pairs(b"9", 6).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(pairs(b"x", 6).count(), 0);
    }

    #[test]
    fn commands_are_known_by_name_or_by_their_keys() {
        assert_eq!(Reads::of("get", 1, 1, 1, false), Reads::Range { first: 1, last: 1, step: 1 });
        assert_eq!(Reads::of("dbsize", 0, 0, 0, false), Reads::Keyspace);
        assert_eq!(Reads::of("ping", 0, 0, 0, false), Reads::Nothing);
        assert_eq!(Reads::of("ssubscribe", 1, -1, 1, false), Reads::Nothing);
        assert_eq!(Reads::of("xread", 0, 0, 0, true), Reads::Movable);
        assert_eq!(Reads::of("eval", 0, 0, 0, true), Reads::Script);
    }

    #[test]
    fn a_set_with_conditions_may_change_nothing() {
        let effective = |text: &str| is_effective("set", text.split(' ').map(str::as_bytes));
        assert!(effective("SET nx xx EX 5"));
        assert!(!effective("SET k v NX"));
        assert!(!effective("SET k v EX 5 get"));
    }
}
