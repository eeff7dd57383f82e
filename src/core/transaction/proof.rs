//! Whether events show that every command of an EXEC has run without an error.

use crate::core::leaf::Leaf;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// How many more times each event must be raised for that.
///
/// A command raises its event for its key once, or does nothing, or fails; of commands of which this holds nothing else
/// raises that event. So if each event was raised as often as there are commands that raise it, none has failed.
#[derive(Debug, Default)]
pub struct Proof {
    /// By a hash of event and key. Negative where an event was raised more often.
    missing: HashMap<u64, i64>,
    /// How many of those are not 0.
    open: usize,
    hasher: RandomState,
    /// Each command is known to raise its own event.
    possible: bool,
}

/// Options of SET that give the key an expiry, so that it raises `expire`, too.
const EXPIRY_OPTIONS: [&[u8]; 4] = [b"EX", b"PX", b"EXAT", b"PXAT"];

/// The event that a command raises for its first key when it changes something; for commands that raise no other but
/// `del`.
fn event_of(name: &str) -> Option<&'static [u8]> {
    Some(match name {
        "append" => b"append",
        "decr" | "decrby" | "incr" | "incrby" => b"incrby",
        "expire" | "expireat" | "pexpire" | "pexpireat" => b"expire",
        "hdel" => b"hdel",
        "hincrby" => b"hincrby",
        "hincrbyfloat" => b"hincrbyfloat",
        "hmset" | "hset" | "hsetnx" => b"hset",
        "incrbyfloat" => b"incrbyfloat",
        "linsert" => b"linsert",
        "lpop" => b"lpop",
        "lpush" | "lpushx" => b"lpush",
        "lrem" => b"lrem",
        "lset" => b"lset",
        "ltrim" => b"ltrim",
        "persist" => b"persist",
        "pfadd" => b"pfadd",
        "psetex" | "set" | "setex" | "setnx" => b"set",
        "rpop" => b"rpop",
        "rpush" | "rpushx" => b"rpush",
        "sadd" => b"sadd",
        "setbit" => b"setbit",
        "setrange" => b"setrange",
        "srem" => b"srem",
        "xadd" => b"xadd",
        "xdel" => b"xdel",
        "zadd" => b"zadd",
        "zincrby" => b"zincr",
        "zrem" => b"zrem",
        _ => return None,
    })
}

impl Proof {
    /// What would prove it for these commands.
    pub fn of(leaves: &VecDeque<Leaf>) -> Proof {
        let mut proof = Proof { possible: true, ..Proof::default() };
        proof.possible = leaves.iter().all(|leaf| proof.expect(leaf));
        proof
    }

    fn expect(&mut self, leaf: &Leaf) -> bool {
        let Some((event, key)) = leaf.spec.and_then(|spec| Some((event_of(spec.name)?, leaf.args.get(1)?))) else {
            return false;
        };
        self.count(event, key, 1);
        let options = || (3..leaf.args.len()).filter_map(|index| leaf.args.get(index));
        let expires = match leaf.spec.map(|spec| spec.name) {
            Some("setex" | "psetex") => true,
            Some("set") => options().any(|word| EXPIRY_OPTIONS.iter().any(|option| word.eq_ignore_ascii_case(option))),
            _ => false,
        };
        if expires {
            self.count(b"expire", key, 1);
        }
        true
    }

    /// An event was raised. `del` shows nothing: a list that becomes empty raises it, too.
    pub fn event(&mut self, event: &[u8], key: &[u8]) {
        if self.possible && event != b"del" {
            self.count(event, key, -1);
        }
    }

    fn count(&mut self, event: &[u8], key: &[u8], more: i64) {
        let missing = self.missing.entry(self.hasher.hash_one((event, key))).or_default();
        let was_open = *missing != 0;
        *missing += more;
        self.open = self.open + usize::from(*missing != 0) - usize::from(was_open);
    }

    /// Whether it is proved.
    pub fn is_complete(&self) -> bool {
        self.possible && self.open == 0
    }
}
