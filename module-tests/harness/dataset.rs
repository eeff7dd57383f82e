//! All that a server holds, in a form that can be compared between servers and versions.

use super::Server;
use super::raw::RawConnection;
use super::resp::Value;
use std::collections::BTreeMap;

const DATABASE_COUNT: usize = 16;

/// One entry for each key and each function library: type, value digest, expiry times, consumer groups.
pub type Dataset = BTreeMap<String, String>;

pub fn read(connection: &mut RawConnection) -> Dataset {
    let mut dataset = Dataset::new();
    let in_cluster = !connection.call(&["CLUSTER", "INFO"]).is_error();
    for database in 0..DATABASE_COUNT {
        let selected = connection.call(&["SELECT".to_string(), database.to_string()]);
        // Nodes of a cluster have fewer databases.
        assert!(in_cluster || !selected.is_error(), "{selected:?}");
        if selected.is_error() {
            break;
        }
        for key in connection.run("KEYS *").items() {
            let Value::Bulk(key) = key else { panic!("a key: {key:?}") };
            let state = key_state(connection, key, in_cluster);
            dataset.insert(format!("{database} {}", key.escape_ascii()), state);
        }
    }
    connection.run("SELECT 0");
    for library in connection.run("FUNCTION LIST WITHCODE").items() {
        dataset.insert(format!("library {:?}", library.items()[1]), format!("{library:?}"));
    }
    dataset
}

/// Fails with the differences only.
pub fn assert_same(found: &Dataset, expected: &Dataset, what: &str) {
    let mut differences = Vec::new();
    for key in found.keys().chain(expected.keys().filter(|key| !found.contains_key(*key))) {
        let (found, expected) = (found.get(key), expected.get(key));
        if found != expected {
            differences.push(format!("{key}\n  found    {found:?}\n  expected {expected:?}"));
        }
    }
    assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
}

/// Kills the server: what comes back is what was there. A replayed command that fails would end the start.
pub fn assert_survives(server: &mut Server, what: &str) {
    let before = read(&mut server.raw());
    server.kill9_and_restart();
    assert_same(&read(&mut server.raw()), &before, what);
}

fn key_state(connection: &mut RawConnection, key: &[u8], in_cluster: bool) -> String {
    let mut ask = |words: &[&[u8]]| {
        if in_cluster {
            // Another node may own the slot.
            connection.run("ASKING");
        }
        connection.call(words)
    };
    let kind = ask(&[b"TYPE", key]).text();
    let digest = ask(&[b"DEBUG", b"DIGEST-VALUE", key]);
    let expiry = ask(&[b"PEXPIRETIME", key]);
    let more = match kind.as_str() {
        "stream" => stream_state(&ask(&[b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"])),
        "hash" => field_expiries(&mut ask, key),
        _ => String::new(),
    };
    format!("{kind} {digest:?} expires {expiry:?} {more}")
}

/// The groups and the counters of a stream. When a consumer was last seen is not part of the durable state.
fn stream_state(value: &Value) -> String {
    let Value::Array(items) = value else {
        return format!("{value:?}");
    };
    let mut text = String::from("{");
    for pair in items.chunks(2) {
        // An array of name-value pairs, or of groups and consumers, each such an array.
        let Value::Bulk(name) = &pair[0] else {
            return items.iter().map(stream_state).collect::<Vec<_>>().join(" ");
        };
        let name = String::from_utf8_lossy(name);
        match name.as_ref() {
            "seen-time" | "active-time" | "radix-tree-keys" | "radix-tree-nodes" => {}
            "groups" | "consumers" => {
                text += &format!("{name} {} ", stream_state(&pair[1]));
            }
            _ => text += &format!("{name} {:?} ", &pair[1..]),
        }
    }
    text + "}"
}

/// The expiry times of a hash's fields, which servers before 9.0 do not have.
fn field_expiries(ask: &mut impl FnMut(&[&[u8]]) -> Value, key: &[u8]) -> String {
    let fields: Vec<Vec<u8>> = ask(&[b"HKEYS", key]).items().iter().map(|field| field.text().into_bytes()).collect();
    let count = fields.len().to_string();
    let mut words: Vec<&[u8]> = vec![b"HPEXPIRETIME", key, b"FIELDS", count.as_bytes()];
    words.extend(fields.iter().map(Vec::as_slice));
    match ask(&words) {
        Value::Error(text) if text.contains("unknown command") => String::new(),
        times => {
            let times: BTreeMap<_, _> = fields.iter().zip(times.items()).collect();
            let some = times.iter().filter(|(_, time)| time.integer() >= 0);
            some.map(|(field, time)| format!("{}={time:?} ", field.escape_ascii())).collect()
        }
    }
}
