//! All that a server holds, value by value, in a form that can be compared across time.

use super::words::{Words, words};
use crate::harness::{RawConnection, Value};
use std::collections::BTreeMap;

/// Databases that the commands use, and one that they must not touch.
const DATABASES: u32 = 3;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    All,
    /// What the server's own AOF can tell. It leaves out (`t_stream.c`):
    /// - an XREADGROUP that reads a consumer's history, though it counts as a delivery: so delivery time and delivery
    ///   count of pending entries are not compared;
    /// - the consumer that an XCLAIM or XAUTOCLAIM creates when it claims nothing: so consumers without pending entries
    ///   are not compared.
    OfAof,
}

/// The database and the name; function libraries have no database.
pub type KeyName = (Option<u32>, Vec<u8>);

#[derive(Clone, Debug, PartialEq)]
pub struct KeyState {
    kind: String,
    /// Milliseconds since the epoch, or -1.
    expires: i64,
    /// All but a hash's fields.
    content: String,
    /// Value and expiry of each field.
    fields: BTreeMap<Vec<u8>, (Vec<u8>, i64)>,
}

pub type State = BTreeMap<KeyName, KeyState>;

/// Reads the state. Keys and fields that expire meanwhile may be in it or not.
pub fn read(connection: &mut RawConnection, exactness: Exactness) -> State {
    let mut state = State::new();
    for database in 0..DATABASES {
        connection.run(&format!("SELECT {database}"));
        let keys: Vec<Vec<u8>> = connection.run("KEYS *").items().iter().map(bytes).collect();
        // The expiry first: a content that is missing some of its parts later on belongs to an expiry in the past.
        let ask = |key: &Vec<u8>| [words!["PEXPIRETIME", key.as_slice()], words!["TYPE", key.as_slice()]];
        let heads = pipeline(connection, keys.iter().flat_map(ask).collect());
        let kinds: Vec<String> = heads.chunks(2).map(|head| head[1].text()).collect();
        let questions: Vec<Vec<Words>> = keys.iter().zip(&kinds).map(|(key, kind)| content_of(key, kind)).collect();
        let mut answers = pipeline(connection, questions.iter().flatten().cloned().collect()).into_iter();
        for (index, key) in keys.iter().enumerate() {
            let answers: Vec<Value> = answers.by_ref().take(questions[index].len()).collect();
            let mut key_state = KeyState {
                kind: kinds[index].clone(),
                expires: heads[2 * index].integer(),
                content: String::new(),
                fields: BTreeMap::new(),
            };
            match kinds[index].as_str() {
                "hash" => key_state.fields = fields(connection, key, &answers[0]),
                "set" => {
                    let mut members: Vec<_> = answers[0].items().iter().map(|item| format!("{item:?}")).collect();
                    members.sort();
                    key_state.content = members.join(" ");
                }
                "stream" => key_state.content = stream(&answers[0], exactness),
                _ => key_state.content = format!("{answers:?}"),
            }
            state.insert((Some(database), key.clone()), key_state);
        }
    }
    for library in connection.run("FUNCTION LIST WITHCODE").items() {
        let name = bytes(&library.items()[1]);
        let content = format!("{library:?}");
        state.insert((None, name), KeyState { kind: "library".into(), expires: -1, content, fields: BTreeMap::new() });
    }
    state
}

/// The keys that differ, each with both states. What has expired by `now_ms` does not count, on either side.
pub fn differences(before: &State, after: &State, now_ms: i64) -> Vec<(KeyName, String)> {
    let (before, after) = (alive(before, now_ms), alive(after, now_ms));
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let differing = names.filter(|name| before.get(*name) != after.get(*name));
    differing.map(|name| (name.clone(), describe(name, before.get(name), after.get(name)))).collect()
}

fn alive(state: &State, now_ms: i64) -> State {
    let lives = |expires: i64| expires < 0 || expires > now_ms;
    let living = |(name, key): (&KeyName, &KeyState)| {
        let mut key = key.clone();
        key.fields.retain(|_, (_, expires)| lives(*expires));
        let empty = key.kind == "hash" && key.fields.is_empty();
        (lives(key.expires) && key.kind != "none" && !empty).then(|| (name.clone(), key))
    };
    state.iter().filter_map(living).collect()
}

fn describe((database, key): &KeyName, before: Option<&KeyState>, after: Option<&KeyState>) -> String {
    let side = |state: Option<&KeyState>| match state {
        None => "nothing".to_string(),
        Some(KeyState { kind, expires, content, fields }) => {
            let field = |(name, (value, expires)): (&Vec<u8>, &(Vec<u8>, i64))| {
                format!(" {}={} expires {expires};", name.escape_ascii(), value.escape_ascii())
            };
            format!("{kind}, expires {expires}: {content}{}", fields.iter().map(field).collect::<String>())
        }
    };
    let place = database.map_or("function library".into(), |database| format!("database {database}, key"));
    format!("{place} \"{}\"\n  before {}\n  after  {}", key.escape_ascii(), side(before), side(after))
}

fn content_of(key: &[u8], kind: &str) -> Vec<Words> {
    match kind {
        "string" => vec![words!["GET", key]],
        "list" => vec![words!["LRANGE", key, "0", "-1"]],
        "set" => vec![words!["SMEMBERS", key]],
        "zset" => vec![words!["ZRANGE", key, "0", "-1", "WITHSCORES"]],
        "hash" => vec![words!["HGETALL", key]],
        "stream" => vec![words!["XINFO", "STREAM", key, "FULL", "COUNT", "0"]],
        "none" => vec![],
        other => panic!("a key of type {other}"),
    }
}

fn fields(connection: &mut RawConnection, key: &[u8], all: &Value) -> BTreeMap<Vec<u8>, (Vec<u8>, i64)> {
    // It has expired meanwhile.
    let pairs = if let Value::Array(items) = all { items.as_slice() } else { &[] };
    if pairs.is_empty() {
        return BTreeMap::new();
    }
    let mut question = words!["HPEXPIRETIME", key, "FIELDS", pairs.len() / 2];
    question.extend(pairs.iter().step_by(2).map(bytes));
    let expiries = match connection.call(&question) {
        Value::Array(items) => items.iter().map(Value::integer).collect(),
        Value::Error(text) if text.contains("unknown command") => vec![-1; pairs.len() / 2],
        Value::Null => Vec::new(),
        other => panic!("HPEXPIRETIME: {other:?}"),
    };
    let gone = -2;
    let all = pairs.chunks(2).zip(expiries).filter(|(_, expires)| *expires != gone);
    all.map(|(pair, expires)| (bytes(&pair[0]), (bytes(&pair[1]), expires))).collect()
}

/// Entries, counters, groups with their consumers and pending entries. When a consumer was last seen or active is no
/// part of the durable state, nor is the layout of the tree.
fn stream(value: &Value, exactness: Exactness) -> String {
    let Value::Array(items) = value else {
        // It has expired meanwhile.
        return String::new();
    };
    let mut text = String::new();
    for pair in items.chunks(2) {
        let [name, value] = pair else { panic!("pairs: {items:?}") };
        let name = name.text();
        match name.as_str() {
            "seen-time" | "active-time" | "radix-tree-keys" | "radix-tree-nodes" => {}
            "groups" | "consumers" => {
                // Groups and consumers are in the order of their names.
                let counts = |item: &&Value| exactness == Exactness::All || name == "groups" || has_pending(item);
                let inner = value.items().iter().filter(counts).map(|item| stream(item, exactness));
                text += &format!("\n    {name}: {}", inner.collect::<Vec<_>>().join("\n      "));
            }
            "pel" | "pending" if exactness == Exactness::OfAof => {
                // [id, consumer, time, count] of a group, [id, time, count] of a consumer.
                let inner = value.items().iter().map(|entry| &entry.items()[..entry.items().len() - 2]);
                text += &format!("{name} {:?} ", inner.collect::<Vec<_>>());
            }
            _ => text += &format!("{name} {value:?} "),
        }
    }
    text
}

fn has_pending(consumer: &Value) -> bool {
    consumer.items().chunks(2).any(|pair| pair[0].text() == "pel-count" && pair[1].integer() > 0)
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Bulk(bytes) => bytes.clone(),
        other => panic!("not a string: {other:?}"),
    }
}

fn pipeline(connection: &mut RawConnection, commands: Vec<Words>) -> Vec<Value> {
    const AT_ONCE: usize = 64;
    let mut replies = Vec::new();
    for commands in commands.chunks(AT_ONCE) {
        commands.iter().for_each(|words| connection.send(words));
        replies.extend(commands.iter().map(|_| connection.reply()));
    }
    replies
}
