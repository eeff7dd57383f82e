//! What a command's reply can show, and the newest change among that: the position that must be durable before the
//! reply may leave.

use crate::core::args::Args;
use crate::core::dirty::DirtyKeys;
use crate::core::options;
use crate::core::table::{CommandSpec, Rule, Shows};
use crate::log::Lsn;

/// Where a command's keys are, or what else of the dataset its reply shows.
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
    /// MSETEX: the number of keys, then that many pairs of key and value. The server's API does not report these (9.1).
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
    /// Anything: another module's command that names no key.
    Anything,
}

impl Reads {
    /// What a command reads. `first`, `last` and `step` are those of the server's COMMAND reply.
    pub fn of(row: &CommandSpec, first: i64, last: i64, step: i64, movable: bool) -> Reads {
        match row.shows {
            Shows::Nothing => Reads::Nothing,
            Shows::Keyspace | Shows::Debug => Reads::Keyspace,
            Shows::Functions => Reads::Functions,
            Shows::Script | Shows::FunctionCall => Reads::Script,
            Shows::Sort => Reads::Sort,
            Shows::TwoDatabases => Reads::TwoDatabases,
            Shows::Pairs => Reads::Pairs,
            Shows::Keys if movable => Reads::Movable,
            Shows::Keys => match (usize::try_from(first), usize::try_from(step)) {
                (Ok(first), Ok(step)) if first > 0 && step > 0 => Reads::Range { first, last, step },
                _ => Reads::Nothing,
            },
        }
    }
}

/// What DEBUG does of which the reply says nothing about the data, by subcommand (`debug.c`, Valkey 8.1 and 9.1). One
/// that is not listed, of a later server, may show anything.
const DEBUGS_SHOWING_NOTHING: [&[u8]; 45] = [
    b"aof-flush-sleep",
    b"assert",
    b"change-repl-id",
    b"client-enforce-reply-list",
    b"client-eviction",
    b"close-cluster-link-on-packet-drop",
    b"clusterlink",
    b"config-rewrite-force-all",
    b"crash-and-recover",
    b"delay-rdb-client-free-seconds",
    b"dict-resizing",
    b"disable-cluster-random-ping",
    b"disable-cluster-reconnection",
    b"drop-cluster-packet-filter",
    b"error",
    b"force-free-primary-async",
    b"force-tls-write-error",
    b"hashtable-can-abort-shrink",
    b"help",
    b"jmap",
    b"loadaof",
    b"log",
    b"mallctl",
    b"mallctl-str",
    b"oom",
    b"panic",
    b"pause-after-fork",
    b"pause-cron",
    b"populate",
    b"protect-client",
    b"protocol",
    b"quicklist-packed-threshold",
    b"reload",
    b"replicate",
    b"replybuffer",
    b"restart",
    b"segfault",
    b"set-active-expire",
    b"set-disable-deny-scripts",
    b"set-skip-checksum-validation",
    b"sleep",
    b"slotmigration",
    b"stringmatch-len",
    b"stringmatch-test",
    b"structsize",
];

/// Whether DEBUG with this subcommand may show data.
pub fn debug_shows(subcommand: &[u8]) -> bool {
    !DEBUGS_SHOWING_NOTHING.iter().any(|name| subcommand.eq_ignore_ascii_case(name))
}

/// Whether DEBUG with this subcommand makes keys.
pub fn debug_populates(subcommand: &[u8]) -> bool {
    subcommand.eq_ignore_ascii_case(b"populate")
}

/// The indices of the keys of a command with `len` arguments, its name included.
pub fn range(first: usize, last: i64, step: usize, len: usize) -> impl Iterator<Item = usize> {
    let end = usize::try_from(last)
        .unwrap_or_else(|_| len.saturating_sub(usize::try_from(last.unsigned_abs()).unwrap_or(len)));
    (first..=end).take_while(move |index| *index < len).step_by(step.max(1))
}

/// The key that a COPY or MOVE makes, and the database that it names for it. `None` where no known server takes its
/// arguments.
pub fn destination<'a>(rule: Rule, args: &[&'a [u8]]) -> Option<(&'a [u8], Option<u32>)> {
    let number = |arg: &[u8]| std::str::from_utf8(arg).ok()?.parse().ok();
    match args {
        [_, _, key, options @ ..] if rule == Rule::Copy => {
            let options = options::parse(options, options::COPY)?;
            Some((*key, options::last(&options, "DB").and_then(number)))
        }
        [_, key, db] => Some((*key, number(db))),
        _ => None,
    }
}

/// The indices of the keys of a command with [`Reads::Pairs`].
pub fn pairs(count: &[u8], len: usize) -> impl Iterator<Item = usize> {
    let count = std::str::from_utf8(count).ok().and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
    (2..len).step_by(2).take(count)
}

/// What there is memory for with the first key: the keys of most transactions.
const FIRST_KEY_BYTES: usize = 256;
const FIRST_KEYS: usize = 8;

/// What a transaction can show: the keys of its commands, in a database that is known when it runs.
#[derive(Debug, Default)]
pub struct ReadSet {
    /// As often as commands name them, like the server's own queue.
    keys: Args,
    keyspace: bool,
    functions: bool,
    /// Its database is not always that of its client.
    anything: bool,
    /// It runs commands of its own, which are seen when it does.
    runs_others: bool,
    /// The server refuses it.
    refused: bool,
}

impl ReadSet {
    /// It reads this key.
    pub fn key(&mut self, key: &[u8]) {
        if self.refused {
            return;
        }
        if self.keys.is_empty() {
            self.keys = Args::with_capacity(FIRST_KEY_BYTES, FIRST_KEYS);
        }
        self.keys.push(key);
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

    /// The server refuses it, because it has refused one of its commands: it shows nothing.
    pub fn refuse(&mut self) {
        *self = ReadSet { refused: true, ..ReadSet::default() };
    }

    /// Whether the keys that are known are all that its commands name.
    pub fn names_all_keys(&self) -> bool {
        !self.keyspace && !self.anything && !self.runs_others
    }

    /// How many keys are known.
    pub fn key_count(&self) -> usize {
        self.keys.len()
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
    use crate::core::table;

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
        let of = |rule, text: &'static str| destination(rule, &text.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        assert_eq!(of(Rule::Verbatim, "MOVE k 3"), Some((&b"k"[..], Some(3))));
        assert_eq!(of(Rule::Copy, "COPY k l"), Some((&b"l"[..], None)));
        assert_eq!(of(Rule::Copy, "copy k l REPLACE db 2"), Some((&b"l"[..], Some(2))));
        assert_eq!(of(Rule::Copy, "COPY k l DB 1 DB 2"), Some((&b"l"[..], Some(2))));
        assert_eq!(of(Rule::Copy, "COPY k DB"), Some((&b"DB"[..], None)));
        assert_eq!(of(Rule::Copy, "COPY k DB 2"), None);
        assert_eq!(of(Rule::Verbatim, "MOVE k"), None);
    }

    #[test]
    fn pairs_are_as_many_as_their_number_says() {
        assert_eq!(pairs(b"2", 7).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(pairs(b"9", 6).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(pairs(b"x", 6).count(), 0);
    }

    #[test]
    fn commands_show_what_their_rows_say_or_their_keys() {
        let of = |name: &str, first, last, step, movable| {
            Reads::of(table::find(name).unwrap_or(&table::NONE), first, last, step, movable)
        };
        assert_eq!(of("get", 1, 1, 1, false), Reads::Range { first: 1, last: 1, step: 1 });
        assert_eq!(of("dbsize", 0, 0, 0, false), Reads::Keyspace);
        assert_eq!(of("ping", 0, 0, 0, false), Reads::Nothing);
        assert_eq!(of("ssubscribe", 1, -1, 1, false), Reads::Nothing);
        assert_eq!(of("xread", 0, 0, 0, true), Reads::Movable);
        assert_eq!(of("eval", 0, 0, 0, true), Reads::Script);
    }
}
