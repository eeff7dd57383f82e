//! The fake server's commands on data: one meaning for the server that runs, with its events, and for the dataset that
//! follows the durable log.

mod collections;
mod keys;
mod streams;
mod strings;

use crate::data::{Bytes, Data, Entry, Group, Stream, StreamId, Value, dump, undump};
use crate::resp::{self, NULL, NULL_ARRAY, OK};
use std::collections::{BTreeSet, VecDeque};

/// Classes of keyspace events.
pub const GENERIC: i32 = 1 << 2;
pub const STRING: i32 = 1 << 3;
pub const LIST: i32 = 1 << 4;
pub const SET: i32 = 1 << 5;
pub const EXPIRED: i32 = 1 << 8;
pub const EVICTED: i32 = 1 << 9;
pub const STREAM: i32 = 1 << 10;
pub const MISS: i32 = 1 << 11;
pub const LOADED: i32 = 1 << 12;
pub const NEW: i32 = 1 << 14;

pub const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// What a command runs in.
pub trait Env {
    fn db(&self) -> usize;
    fn set_db(&self, db: usize);
    fn now_ms(&self) -> i64;
    fn with<T>(&self, work: impl FnOnce(&mut Data) -> T) -> T;
    /// The command looks the key up: it may expire, and the reply depends on it.
    fn look(&self, _key: &[u8]) {}
    /// The reply depends on all keys of the database.
    fn look_all(&self) {}
    fn event(&self, _class: i32, _name: &str, _key: &[u8]) {}
    /// A database, or all, were emptied.
    fn flushed(&self, _db: Option<usize>) {}
    /// Keys whose time is over stay, as while the server loads.
    fn takes_past_times(&self) -> bool {
        true
    }
    /// Something changed that no event shows.
    fn dirty(&self) {}
    fn reply(&self, bytes: &[u8]);
    /// The client speaks RESP3.
    fn is_resp3(&self) -> bool {
        false
    }
    fn random(&self, below: usize) -> usize;
    /// Clients that wait for the key are to be served.
    fn ready(&self, _key: &[u8]) {}
    /// Blocks the client until one of the keys is there; `false` when it may not wait.
    fn block(&self, keys: Vec<Bytes>, timeout_ms: i64) -> bool;
    /// The reply is written to the deferred buffer until the command ends.
    fn defer(&self) {}
    /// The command that deferred its reply has ended.
    fn end_defer(&self) {}
}

fn number(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

fn error<E: Env>(env: &E, text: &str) {
    env.reply(&resp::error(text));
}

fn wrong_number<E: Env>(env: &E) {
    error(env, "ERR value is not an integer or out of range");
}

/// The string of a key; an error was answered where it is of another type.
fn string<E: Env>(env: &E, key: &[u8]) -> Result<Option<Bytes>, ()> {
    let found = env.with(|data| match data.get(env.db(), key).map(|entry| &entry.value) {
        None => Ok(None),
        Some(Value::String(bytes)) => Ok(Some(bytes.clone())),
        Some(_) => Err(()),
    });
    if found.is_err() {
        error(env, WRONG_TYPE);
    }
    found
}

/// The kind of a key's value as a letter; `-` for none.
fn kind<E: Env>(env: &E, key: &[u8]) -> u8 {
    env.with(|data| match data.get(env.db(), key).map(|entry| &entry.value) {
        None => b'-',
        Some(Value::String(_)) => b's',
        Some(Value::List(_)) => b'l',
        Some(Value::Set(_)) => b'e',
        Some(Value::Stream(_)) => b'x',
    })
}

fn is_kind<E: Env>(env: &E, key: &[u8], wanted: u8) -> bool {
    let kind = kind(env, key);
    if kind != wanted && kind != b'-' {
        error(env, WRONG_TYPE);
    }
    kind == wanted || kind == b'-'
}

/// Makes a key, with the event of that where it is new.
fn make<E: Env>(env: &E, key: &[u8], value: Value, expires_ms: Option<i64>) {
    let is_new = env.with(|data| {
        let is_new = data.get(env.db(), key).is_none();
        data.put(env.db(), key, Entry { value, expires_ms });
        is_new
    });
    if is_new {
        env.event(NEW, "new", key);
    }
}

fn miss<E: Env>(env: &E, key: &[u8]) {
    if kind(env, key) == b'-' {
        env.event(MISS, "keymiss", key);
    }
}

/// Runs a command on data; `false` when it is none.
pub fn run<E: Env>(env: &E, argv: &[Bytes]) -> bool {
    let name = String::from_utf8_lossy(&argv[0]).to_ascii_lowercase();
    strings::run(env, &name, argv)
        || keys::run(env, &name, argv)
        || collections::run(env, &name, argv)
        || streams::run(env, &name, argv)
}

/// The keys of a command that the server finds for it: indices of arguments.
pub fn key_positions(argv: &[Bytes], keys: (i64, i64, i64)) -> Vec<usize> {
    let name = String::from_utf8_lossy(&argv[0]).to_ascii_lowercase();
    match name.as_str() {
        "xread" | "xreadgroup" => {
            let Some(at) = argv.iter().position(|arg| is(arg, "streams")) else { return Vec::new() };
            let count = (argv.len() - at - 1) / 2;
            (at + 1..at + 1 + count).collect()
        }
        "eval" | "eval_ro" => {
            let count = argv.get(2).and_then(|count| number(count)).and_then(|count| usize::try_from(count).ok());
            (3..(3 + count.unwrap_or(0)).min(argv.len())).collect()
        }
        _ => {
            let (first, last, step) = keys;
            if first <= 0 {
                return Vec::new();
            }
            let last = if last < 0 { argv.len() as i64 + last } else { last };
            (first..=last).step_by(step.max(1) as usize).map(|at| at as usize).filter(|at| *at < argv.len()).collect()
        }
    }
}
