//! A dataset with every type in its small and its big form, and a way to compare two of them.

use std::collections::BTreeMap;

use redis::Value;

use crate::servers::{Failure, Server};

/// Long before it, everything of a test run is over.
const FAR_MS: i64 = 4_000_000_000_000;

/// All that can be seen of one key.
#[derive(Debug, PartialEq)]
pub struct Entry {
    pub kind: String,
    pub encoding: String,
    digest: String,
    pub expiry: i64,
    pub field_expiries: BTreeMap<Vec<u8>, i64>,
    /// The DUMP, of types whose order does not depend on the server's hash seed.
    payload: Option<Vec<u8>>,
}

/// All that can be seen of a dataset.
#[derive(Debug, PartialEq)]
pub struct Snapshot {
    pub keys: BTreeMap<(u32, Vec<u8>), Entry>,
    pub functions: Vec<String>,
}

pub fn field_expiries_exist(server: &mut Server) -> Result<bool, Failure> {
    let found: Vec<Value> = server.run("COMMAND INFO HPEXPIREAT").map(|value| match value {
        Value::Array(found) => found,
        _ => Vec::new(),
    })?;
    Ok(!matches!(found.as_slice(), [] | [Value::Nil]))
}

/// Looks at everything. `exact`: both servers are of one version, so encodings and DUMPs are comparable.
pub fn snapshot(server: &mut Server, exact: bool) -> Result<Snapshot, Failure> {
    let with_fields = field_expiries_exist(server)?;
    let mut keys = BTreeMap::new();
    for db in 0..16 {
        server.run(&format!("SELECT {db}"))?;
        let names: Vec<Vec<u8>> = server.run("KEYS *").and_then(|value| Ok(redis::from_redis_value(value)?))?;
        for key in names {
            let kind: String = server.call(&[b"TYPE", &key])?;
            let digest: Vec<String> = server.call(&[b"DEBUG", b"DIGEST-VALUE", &key])?;
            let mut entry = Entry {
                encoding: String::new(),
                digest: digest.concat(),
                expiry: server.call(&[b"PEXPIRETIME", &key])?,
                field_expiries: BTreeMap::new(),
                payload: None,
                kind,
            };
            if exact {
                entry.encoding = server.call(&[b"OBJECT", b"ENCODING", &key])?;
                // Any load makes short strings embedded ones.
                if entry.encoding == "raw" {
                    entry.encoding = "embstr".to_owned();
                }
                let ordered = !matches!(entry.encoding.as_str(), "hashtable" | "skiplist");
                entry.payload = if ordered { Some(server.call(&[b"DUMP", &key])?) } else { None };
            }
            if with_fields && entry.kind == "hash" {
                let fields: Vec<Vec<u8>> = server.call(&[b"HKEYS", &key])?;
                for field in fields {
                    let expiry: Vec<i64> = server.call(&[b"HPEXPIRETIME", &key, b"FIELDS", b"1", &field])?;
                    if expiry != [-1] {
                        entry.field_expiries.insert(field, expiry.first().copied().unwrap_or(-2));
                    }
                }
            }
            keys.insert((db, key), entry);
        }
    }
    let listed: Vec<Value> =
        server.run("FUNCTION LIST WITHCODE").and_then(|value| Ok(redis::from_redis_value(value)?))?;
    let mut functions: Vec<String> = listed.iter().map(|library| format!("{library:?}")).collect();
    functions.sort();
    Ok(Snapshot { keys, functions })
}

/// Fills three databases with every type, and gives an expiry to every second key.
pub fn fill(server: &mut Server) -> Result<(), Failure> {
    for name in ["one", "two"] {
        let code = format!(
            "#!lua name=lib_{name}\nserver.register_function('f_{name}', function() return '{}' end)",
            name.repeat(100)
        );
        server.call::<()>(&[b"FUNCTION", b"LOAD", code.as_bytes()])?;
    }
    for db in [0, 3, 15] {
        server.run(&format!("SELECT {db}"))?;
        fill_strings(server)?;
        fill_collections(server)?;
        fill_streams(server)?;
        if field_expiries_exist(server)? {
            fill_field_expiries(server)?;
        }
        let names: Vec<Vec<u8>> = server.run("KEYS *").and_then(|value| Ok(redis::from_redis_value(value)?))?;
        assert!(names.len() > 30);
        for (number, key) in names.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
            let at_ms = FAR_MS + i64::try_from(number)?;
            server.call::<()>(&[b"PEXPIREAT", key, at_ms.to_string().as_bytes()])?;
        }
    }
    Ok(())
}

fn fill_strings(server: &mut Server) -> Result<(), Failure> {
    let long = b"compressible ".repeat(2000);
    let incompressible: Vec<u8> =
        (0..40_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let long_key = [&b"a long key "[..]; 40].concat();
    let longer_key: Vec<u8> = (0..3000u32).map(|number| b'a' + (number * number % 7) as u8).collect();
    let values: [&[u8]; 6] = [b"", b"12345", b"-7", b"text", &long, &incompressible];
    for (number, value) in values.into_iter().enumerate() {
        server.call::<()>(&[b"SET", format!("string {number}").as_bytes(), value])?;
    }
    let keys: [&[u8]; 10] =
        [b"", b"7", b"-128", b"1000", b"-30000", b"2000000000", b"007", b"\0\xff\r\n", &long_key, &longer_key];
    for key in keys {
        server.call::<()>(&[b"SET", key, b"value"])?;
    }
    server.run("PFADD hyperloglog a b c d e f")?;
    server.run("SETBIT bitmap 70000 1")?;
    Ok(())
}

/// A command with `count` times the words that `item` gives.
fn many(server: &mut Server, command: &str, count: u32, item: impl Fn(u32) -> String) -> Result<(), Failure> {
    let line = (0..count).fold(command.to_owned(), |line, number| line + " " + &item(number));
    server.run(&line).map(drop)
}

fn fill_collections(server: &mut Server) -> Result<(), Failure> {
    let wide = "x".repeat(120);
    for (size, count) in [("one", 1), ("small", 10), ("big", 700)] {
        many(server, &format!("RPUSH list-{size}"), count, |n| format!("item-{n}-{wide}"))?;
        many(server, &format!("SADD intset-{size}"), count, |n| (n * 1_000_003).to_string())?;
        many(server, &format!("SADD set-{size}"), count, |n| format!("member-{n}"))?;
        many(server, &format!("ZADD zset-{size}"), count, |n| format!("{}.25 member-{n}", n * 3))?;
        many(server, &format!("HSET hash-{size}"), count, |n| format!("field-{n} {}", n * n))?;
    }
    server.run(&format!("SADD set-wide {wide} 5"))?;
    server.run("ZADD zset-infinite inf high -inf low 1e300 middle")?;
    server.run(&format!("HSET hash-wide field {wide}"))?;
    server.run("GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania")?;
    // Longer than a node: gets one of its own, not packed.
    server.run(&format!("RPUSH list-plain a {} b", "huge".repeat(5000)))?;
    Ok(())
}

fn fill_streams(server: &mut Server) -> Result<(), Failure> {
    server.run("XADD stream-small 5-1 field value")?;
    for number in 1..=350 {
        server.run(&format!("XADD stream-big 1700000000000-{number} name value-{number} other {number}"))?;
    }
    server.run("XDEL stream-big 1700000000000-7")?;
    server.run("XTRIM stream-big MINID 1700000000000-3")?;
    for (group, from) in [("early", "0"), ("late", "$"), ("unread", "0")] {
        server.run(&format!("XGROUP CREATE stream-big {group} {from}"))?;
    }
    server.run("XREADGROUP GROUP early busy COUNT 100 STREAMS stream-big >")?;
    server.run("XREADGROUP GROUP early other COUNT 20 STREAMS stream-big >")?;
    server.run("XREADGROUP GROUP late none COUNT 20 STREAMS stream-big >")?;
    server.run("XCLAIM stream-big early other 0 1700000000000-10 RETRYCOUNT 70000")?;
    server.run("XACK stream-big early 1700000000000-4 1700000000000-5")?;
    server.run("XGROUP CREATECONSUMER stream-big early idle")?;
    server.run("XGROUP SETID stream-big late 1700000000000-100 ENTRIESREAD 99")?;
    server.run("XGROUP CREATE stream-empty group $ MKSTREAM")?;
    Ok(())
}

fn fill_field_expiries(server: &mut Server) -> Result<(), Failure> {
    for (size, count) in [("small", 5), ("big", 700)] {
        many(server, &format!("HSET volatile-{size}"), count, |n| format!("field-{n} value-{n}"))?;
        for number in (0..count).step_by(3) {
            let at_ms = FAR_MS + i64::from(number);
            server.run(&format!("HPEXPIREAT volatile-{size} {at_ms} FIELDS 1 field-{number}"))?;
        }
    }
    server.run(&format!("HSET volatile-wide field {}", "compressible".repeat(1000)))?;
    server.run("HEXPIRE volatile-wide 1000000 FIELDS 1 field")?;
    Ok(())
}
