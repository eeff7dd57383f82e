//! The fake server's commands on data: one meaning for the server that runs, with its events, and for the dataset that
//! follows the durable log.

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
    fn look(&self, key: &[u8]);
    /// The reply depends on all keys of the database.
    fn look_all(&self);
    fn event(&self, class: i32, name: &str, key: &[u8]);
    /// A database, or all, were emptied.
    fn flushed(&self, db: Option<usize>);
    /// Keys whose time is over stay, as while the server loads.
    fn takes_past_times(&self) -> bool {
        true
    }
    /// Something changed that no event shows.
    fn dirty(&self) {}
    fn reply(&self, bytes: &[u8]);
    fn random(&self, below: usize) -> usize;
    /// Clients that wait for the key are to be served.
    fn ready(&self, key: &[u8]);
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
    let key: &[u8] = argv.get(1).map_or(b"", |key| key.as_slice());
    match name.as_str() {
        "get" => {
            env.look(key);
            miss(env, key);
            if let Ok(found) = string(env, key) {
                env.reply(&found.map_or(NULL.to_vec(), |bytes| resp::bulk(&bytes)));
            }
        }
        "set" => set(env, argv),
        "getset" => {
            env.defer();
            env.look(key);
            miss(env, key);
            // The server leaves the deferral as it is after this error.
            if let Ok(found) = string(env, key) {
                env.reply(&found.map_or(NULL.to_vec(), |bytes| resp::bulk(&bytes)));
                make(env, key, Value::String(argv[2].clone()), None);
                env.event(STRING, "set", key);
                env.end_defer();
            }
        }
        "mset" => {
            for pair in argv[1..].chunks(2) {
                env.look(&pair[0]);
                make(env, &pair[0], Value::String(pair[1].clone()), None);
                env.event(STRING, "set", &pair[0]);
            }
            env.reply(OK);
        }
        "append" => {
            env.look(key);
            if let Ok(found) = string(env, key) {
                let mut bytes = found.clone().unwrap_or_default();
                bytes.extend(&argv[2]);
                let len = bytes.len() as i64;
                let expires_ms = env.with(|data| data.get(env.db(), key).and_then(|entry| entry.expires_ms));
                make(env, key, Value::String(bytes), expires_ms);
                env.event(STRING, "append", key);
                env.reply(&resp::int(len));
            }
        }
        "incr" => {
            env.look(key);
            let Ok(found) = string(env, key) else { return true };
            let Some(value) = found.map_or(Some(0), |bytes| number(&bytes)) else {
                wrong_number(env);
                return true;
            };
            let expires_ms = env.with(|data| data.get(env.db(), key).and_then(|entry| entry.expires_ms));
            make(env, key, Value::String((value + 1).to_string().into_bytes()), expires_ms);
            env.event(STRING, "incrby", key);
            env.reply(&resp::int(value + 1));
        }
        "strlen" => {
            env.look(key);
            miss(env, key);
            if let Ok(found) = string(env, key) {
                env.reply(&resp::int(found.map_or(0, |bytes| bytes.len() as i64)));
            }
        }
        "del" | "unlink" => {
            let mut count = 0;
            for key in &argv[1..] {
                env.look(key);
                if env.with(|data| data.get(env.db(), key).is_some() && data.remove(env.db(), key)) {
                    env.event(GENERIC, "del", key);
                    count += 1;
                }
            }
            env.reply(&resp::int(count));
        }
        "exists" => {
            argv[1..].iter().for_each(|key| env.look(key));
            let count = argv[1..].iter().filter(|key| kind(env, key) != b'-').count();
            env.reply(&resp::int(count as i64));
        }
        "type" => {
            env.look(key);
            let name = match kind(env, key) {
                b's' => "string",
                b'l' => "list",
                b'e' => "set",
                b'x' => "stream",
                _ => "none",
            };
            env.reply(format!("+{name}\r\n").as_bytes());
        }
        "expire" | "pexpire" | "pexpireat" => expire(env, &name, argv),
        "persist" => {
            env.look(key);
            let done = env.with(|data| {
                let has = data.get(env.db(), key).is_some_and(|entry| entry.expires_ms.is_some());
                if has && let Some(entry) = data.get_mut(env.db(), key) {
                    entry.expires_ms = None;
                }
                has
            });
            if done {
                env.event(GENERIC, "persist", key);
            }
            env.reply(&resp::int(i64::from(done)));
        }
        "pttl" => {
            env.look(key);
            let ttl = env.with(|data| match data.get(env.db(), key) {
                None => -2,
                Some(Entry { expires_ms: None, .. }) => -1,
                Some(Entry { expires_ms: Some(at), .. }) => at - env.now_ms(),
            });
            env.reply(&resp::int(ttl));
        }
        "keys" => {
            env.look_all();
            let now = env.now_ms();
            let keys: Vec<Bytes> = env.with(|data| {
                let alive = data.keys(env.db()).filter(|(_, entry)| entry.expires_ms.is_none_or(|at| at > now));
                alive.map(|(key, _)| key.clone()).collect()
            });
            env.reply(&resp::array(&keys));
        }
        "dbsize" => {
            env.look_all();
            env.reply(&resp::int(env.with(|data| data.len(env.db())) as i64));
        }
        "rpush" | "lpush" => {
            env.look(key);
            if !is_kind(env, key, b'l') {
                return true;
            }
            if kind(env, key) == b'-' {
                make(env, key, Value::List(VecDeque::new()), None);
            }
            let len = with_list(env, key, |list| {
                for item in &argv[2..] {
                    if name == "rpush" { list.push_back(item.clone()) } else { list.push_front(item.clone()) }
                }
                list.len()
            });
            env.event(LIST, &name, key);
            env.reply(&resp::int(len as i64));
            env.ready(key);
        }
        "lpop" | "rpop" => {
            env.look(key);
            if is_kind(env, key, b'l') {
                match pop(env, key, name == "lpop", &name) {
                    Some(item) => env.reply(&resp::bulk(&item)),
                    None => env.reply(NULL),
                }
            }
        }
        "blpop" => blpop(env, argv),
        "llen" => {
            env.look(key);
            if is_kind(env, key, b'l') {
                let len = if kind(env, key) == b'-' { 0 } else { with_list(env, key, |list| list.len()) };
                env.reply(&resp::int(len as i64));
            }
        }
        "lrange" => {
            env.look(key);
            if is_kind(env, key, b'l') {
                let items: Vec<Bytes> = if kind(env, key) == b'-' {
                    Vec::new()
                } else {
                    with_list(env, key, |list| list.iter().cloned().collect())
                };
                env.reply(&resp::array(&items));
            }
        }
        "sadd" | "srem" => sets(env, &name, argv),
        "spop" => {
            env.look(key);
            if is_kind(env, key, b'e') {
                let members = members(env, key);
                if members.is_empty() {
                    env.reply(NULL);
                } else {
                    let member = members[env.random(members.len())].clone();
                    with_set(env, key, |set| set.remove(&member));
                    env.event(SET, "spop", key);
                    remove_if_empty(env, key);
                    env.reply(&resp::bulk(&member));
                }
            }
        }
        "smembers" => {
            env.look(key);
            if is_kind(env, key, b'e') {
                env.reply(&resp::array(&members(env, key)));
            }
        }
        "flushall" | "flushdb" => {
            let one = (name == "flushdb").then_some(env.db());
            env.with(|data| {
                (0..crate::data::DATABASES).for_each(|db| {
                    if one.is_none_or(|one| one == db) {
                        data.clear(db);
                    }
                })
            });
            env.flushed(one);
            env.reply(OK);
        }
        "dump" => {
            env.look(key);
            let dumped = env.with(|data| data.get(env.db(), key).map(|entry| dump(&entry.value)));
            env.reply(&dumped.map_or(NULL.to_vec(), |bytes| resp::bulk(&bytes)));
        }
        "restore" => {
            let (Some(at), Some(value)) = (number(&argv[2]), undump(&argv[3])) else {
                error(env, "ERR Bad data format");
                return true;
            };
            let replace = argv[4..].iter().any(|arg| is(arg, "replace"));
            let absolute = argv[4..].iter().any(|arg| is(arg, "absttl"));
            env.look(key);
            if !replace && kind(env, key) != b'-' {
                error(env, "BUSYKEY Target key name already exists.");
                return true;
            }
            let expires_ms = (at > 0).then(|| if absolute { at } else { at + env.now_ms() });
            make(env, key, value, expires_ms);
            env.event(GENERIC, "restore", key);
            env.reply(OK);
        }
        "select" => match number(key).and_then(|db| usize::try_from(db).ok()) {
            Some(db) if db < crate::data::DATABASES => {
                env.set_db(db);
                env.reply(OK);
            }
            _ => error(env, "ERR DB index is out of range"),
        },
        "ping" => env.reply(b"+PONG\r\n"),
        "xadd" | "xlen" | "xread" | "xrange" | "xgroup" | "xreadgroup" | "xack" | "xtrim" | "xclaim" | "xpending" => {
            streams(env, &name, argv);
        }
        _ => return false,
    }
    true
}

fn set<E: Env>(env: &E, argv: &[Bytes]) {
    let key = argv[1].as_slice();
    let options = &argv[3..];
    let has = |word: &str| options.iter().any(|option| is(option, word));
    let after =
        |word: &str| options.iter().position(|option| is(option, word)).and_then(|at| number(options.get(at + 1)?));
    let (get, keep) = (has("get"), has("keepttl"));
    let at = after("pxat").or_else(|| after("px").map(|ms| ms + env.now_ms()));
    let at = at.or_else(|| after("ex").map(|seconds| seconds * 1000 + env.now_ms()));
    if get {
        env.defer();
    }
    env.look(key);
    if get {
        miss(env, key);
        match string(env, key) {
            Ok(found) => env.reply(&found.map_or(NULL.to_vec(), |bytes| resp::bulk(&bytes))),
            Err(()) => return env.end_defer(),
        }
    }
    let found = kind(env, key) != b'-';
    if has("nx") && found || has("xx") && !found {
        if !get {
            env.reply(NULL);
        }
        return if get {
            env.end_defer()
        };
    }
    if at.is_some_and(|at| at <= env.now_ms()) && !env.takes_past_times() {
        if found {
            env.with(|data| data.remove(env.db(), key));
            env.event(GENERIC, "del", key);
        }
        if !get {
            env.reply(OK);
        }
        return if get {
            env.end_defer()
        };
    }
    let kept = env.with(|data| data.get(env.db(), key).and_then(|entry| entry.expires_ms)).filter(|_| keep);
    make(env, key, Value::String(argv[2].clone()), at.or(kept));
    env.event(STRING, "set", key);
    if at.is_some() {
        env.event(GENERIC, "expire", key);
    }
    if !get {
        env.reply(OK);
    }
    if get {
        env.end_defer();
    }
}

fn expire<E: Env>(env: &E, name: &str, argv: &[Bytes]) {
    let key = argv[1].as_slice();
    let Some(time) = number(&argv[2]) else { return wrong_number(env) };
    let at = match name {
        "expire" => env.now_ms() + time * 1000,
        "pexpire" => env.now_ms() + time,
        _ => time,
    };
    env.look(key);
    if kind(env, key) == b'-' {
        return env.reply(&resp::int(0));
    }
    if !env.takes_past_times() && at <= env.now_ms() {
        env.with(|data| data.remove(env.db(), key));
        env.event(GENERIC, "del", key);
    } else {
        env.with(|data| {
            if let Some(entry) = data.get_mut(env.db(), key) {
                entry.expires_ms = Some(at);
            }
        });
        env.event(GENERIC, "expire", key);
    }
    env.reply(&resp::int(1));
}

fn with_list<E: Env, T>(env: &E, key: &[u8], work: impl FnOnce(&mut VecDeque<Bytes>) -> T) -> T {
    env.with(|data| match data.get_mut(env.db(), key).map(|entry| &mut entry.value) {
        Some(Value::List(list)) => work(list),
        _ => work(&mut VecDeque::new()),
    })
}

fn with_set<E: Env, T>(env: &E, key: &[u8], work: impl FnOnce(&mut BTreeSet<Bytes>) -> T) -> T {
    env.with(|data| match data.get_mut(env.db(), key).map(|entry| &mut entry.value) {
        Some(Value::Set(set)) => work(set),
        _ => work(&mut BTreeSet::new()),
    })
}

fn with_stream<E: Env, T>(env: &E, key: &[u8], work: impl FnOnce(&mut Stream) -> T) -> T {
    env.with(|data| match data.get_mut(env.db(), key).map(|entry| &mut entry.value) {
        Some(Value::Stream(stream)) => work(stream),
        _ => work(&mut Stream::default()),
    })
}

fn members<E: Env>(env: &E, key: &[u8]) -> Vec<Bytes> {
    env.with(|data| match data.get(env.db(), key).map(|entry| &entry.value) {
        Some(Value::Set(set)) => set.iter().cloned().collect(),
        _ => Vec::new(),
    })
}

fn remove_if_empty<E: Env>(env: &E, key: &[u8]) {
    let is_empty = env.with(|data| {
        let is_empty = match data.get(env.db(), key).map(|entry| &entry.value) {
            Some(Value::List(list)) => list.is_empty(),
            Some(Value::Set(set)) => set.is_empty(),
            _ => false,
        };
        if is_empty {
            data.remove(env.db(), key);
        }
        is_empty
    });
    if is_empty {
        env.event(GENERIC, "del", key);
    }
}

fn pop<E: Env>(env: &E, key: &[u8], left: bool, event: &str) -> Option<Bytes> {
    if kind(env, key) == b'-' {
        return None;
    }
    let item = with_list(env, key, |list| if left { list.pop_front() } else { list.pop_back() });
    env.event(LIST, event, key);
    remove_if_empty(env, key);
    item
}

fn blpop<E: Env>(env: &E, argv: &[Bytes]) {
    let keys = &argv[1..argv.len() - 1];
    let Some(timeout) = number(&argv[argv.len() - 1]).filter(|timeout| *timeout >= 0) else {
        return error(env, "ERR timeout is not a float or out of range");
    };
    for key in keys {
        env.look(key);
        if kind(env, key) == b'-' {
            continue;
        }
        if !is_kind(env, key, b'l') {
            return;
        }
        let item = pop(env, key, true, "lpop").unwrap_or_default();
        return env.reply(&resp::array(&[key.clone(), item]));
    }
    if !env.block(keys.to_vec(), timeout * 1000) {
        env.reply(NULL_ARRAY);
    }
}

fn sets<E: Env>(env: &E, name: &str, argv: &[Bytes]) {
    let key = argv[1].as_slice();
    env.look(key);
    if !is_kind(env, key, b'e') {
        return;
    }
    let adds = name == "sadd";
    if kind(env, key) == b'-' {
        if !adds {
            return env.reply(&resp::int(0));
        }
        make(env, key, Value::Set(BTreeSet::new()), None);
    }
    let count = with_set(env, key, |set| {
        argv[2..].iter().filter(|item| if adds { set.insert((*item).clone()) } else { set.remove(*item) }).count()
    });
    if count > 0 {
        env.event(SET, name, key);
        remove_if_empty(env, key);
    }
    env.reply(&resp::int(count as i64));
}

fn stream_id(bytes: &[u8]) -> Option<StreamId> {
    let text = std::str::from_utf8(bytes).ok()?;
    match text.split_once('-') {
        Some((ms, seq)) => Some((ms.parse().ok()?, seq.parse().ok()?)),
        None => Some((text.parse().ok()?, 0)),
    }
}

fn show_id(id: StreamId) -> Bytes {
    format!("{}-{}", id.0, id.1).into_bytes()
}

fn entry_reply(id: StreamId, fields: &[Bytes]) -> Bytes {
    let mut out = resp::header(2);
    out.extend(resp::bulk(&show_id(id)));
    out.extend(resp::array(fields));
    out
}

fn streams<E: Env>(env: &E, name: &str, argv: &[Bytes]) {
    let key = argv[1].as_slice();
    match name {
        "xadd" => {
            env.look(key);
            if !is_kind(env, key, b'x') {
                return;
            }
            let now = env.now_ms().max(0) as u64;
            let last = if kind(env, key) == b'-' { (0, 0) } else { with_stream(env, key, |stream| stream.last) };
            let next = if now > last.0 { (now, 0) } else { (last.0, last.1 + 1) };
            let id = if argv[2] == b"*" { Some(next) } else { stream_id(&argv[2]) };
            let Some(id) = id.filter(|id| *id > last) else {
                return error(env, "ERR The ID specified in XADD is equal or smaller than the target stream top item");
            };
            if kind(env, key) == b'-' {
                make(env, key, Value::Stream(Stream::default()), None);
            }
            with_stream(env, key, |stream| {
                stream.last = id;
                stream.entries.insert(id, argv[3..].to_vec());
            });
            env.event(STREAM, "xadd", key);
            env.reply(&resp::bulk(&show_id(id)));
            env.ready(key);
        }
        "xlen" => {
            env.look(key);
            if is_kind(env, key, b'x') {
                let len = if kind(env, key) == b'-' { 0 } else { with_stream(env, key, |s| s.entries.len()) };
                env.reply(&resp::int(len as i64));
            }
        }
        "xrange" => {
            env.look(key);
            if is_kind(env, key, b'x') {
                let entries = if kind(env, key) == b'-' {
                    Vec::new()
                } else {
                    with_stream(env, key, |stream| stream.entries.iter().map(|(id, f)| entry_reply(*id, f)).collect())
                };
                env.reply(&resp::header(entries.len()));
                env.reply(&entries.concat());
            }
        }
        "xgroup" => {
            let (key, group) = (argv[2].as_slice(), argv[3].clone());
            env.look(key);
            if !is_kind(env, key, b'x') {
                return;
            }
            if kind(env, key) == b'-' {
                if !argv.iter().any(|arg| is(arg, "mkstream")) {
                    return error(env, "ERR The XGROUP subcommand requires the key to exist.");
                }
                make(env, key, Value::Stream(Stream::default()), None);
            }
            let made = with_stream(env, key, |stream| {
                let last = if argv[4] == b"$" { stream.last } else { stream_id(&argv[4]).unwrap_or_default() };
                let is_new = !stream.groups.contains_key(&group);
                if is_new {
                    stream.groups.insert(group, Group { last, ..Group::default() });
                }
                is_new
            });
            if made {
                env.event(STREAM, "xgroup-create", key);
                env.reply(OK);
            } else {
                error(env, "BUSYGROUP Consumer Group name already exists");
            }
        }
        "xack" => {
            env.look(key);
            if !is_kind(env, key, b'x') {
                return;
            }
            let ids: Vec<StreamId> = argv[3..].iter().filter_map(|id| stream_id(id)).collect();
            let count = if kind(env, key) == b'-' {
                0
            } else {
                with_stream(env, key, |stream| match stream.groups.get_mut(&argv[2]) {
                    Some(group) => ids.iter().filter(|id| group.pending.remove(id).is_some()).count(),
                    None => 0,
                })
            };
            if count > 0 {
                env.dirty();
            }
            env.reply(&resp::int(count as i64));
        }
        "xtrim" => {
            env.look(key);
            let max = argv.last().and_then(|max| number(max)).unwrap_or(0) as usize;
            let removed = with_stream(env, key, |stream| {
                let before = stream.entries.len();
                while stream.entries.len() > max {
                    stream.entries.pop_first();
                }
                before - stream.entries.len()
            });
            if removed > 0 {
                env.event(STREAM, "xtrim", key);
            }
            env.reply(&resp::int(removed as i64));
        }
        "xread" => xread(env, argv),
        _ => error(env, "ERR not simulated"),
    }
}

/// XREAD [BLOCK ms] STREAMS key... id...
fn xread<E: Env>(env: &E, argv: &[Bytes]) {
    let Some(at) = argv.iter().position(|arg| is(arg, "streams")) else { return error(env, "ERR syntax error") };
    let timeout = argv[..at].iter().position(|arg| is(arg, "block")).and_then(|at| number(argv.get(at + 1)?));
    let rest = &argv[at + 1..];
    if rest.is_empty() || !rest.len().is_multiple_of(2) {
        return error(env, "ERR Unbalanced 'xread' list of streams: for each stream key an ID must be specified.");
    }
    let (keys, ids) = rest.split_at(rest.len() / 2);
    let mut found = Vec::new();
    for (key, id) in keys.iter().zip(ids) {
        env.look(key);
        if kind(env, key) == b'-' {
            continue;
        }
        if !is_kind(env, key, b'x') {
            return;
        }
        let id = stream_id(id).unwrap_or_default();
        let entries: Vec<Bytes> = with_stream_ref(env, key, |stream| {
            let newer = stream.entries.range((std::ops::Bound::Excluded(id), std::ops::Bound::Unbounded));
            newer.map(|(id, fields)| entry_reply(*id, fields)).collect()
        });
        if !entries.is_empty() {
            let mut one = resp::header(2);
            one.extend(resp::bulk(key));
            one.extend(resp::header(entries.len()));
            one.extend(entries.concat());
            found.push(one);
        }
    }
    if !found.is_empty() {
        env.reply(&resp::header(found.len()));
        return env.reply(&found.concat());
    }
    if !timeout.is_some_and(|timeout| env.block(keys.to_vec(), timeout)) {
        env.reply(NULL_ARRAY);
    }
}

fn with_stream_ref<E: Env, T>(env: &E, key: &[u8], work: impl FnOnce(&Stream) -> T) -> T {
    env.with(|data| match data.get(env.db(), key).map(|entry| &entry.value) {
        Some(Value::Stream(stream)) => work(stream),
        _ => work(&Stream::default()),
    })
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
