//! What clients send.

use crate::data::Value;
use crate::server::{Argv, server};

fn words(text: &str) -> Argv {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

thread_local! {
    static VALUES: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A value that no other command has.
fn value() -> u64 {
    VALUES.set(VALUES.get() + 1);
    VALUES.get()
}

pub fn reset() {
    VALUES.set(0);
}

fn key(kind: char) -> String {
    let s = server();
    let kind = if s.chance(4) { ['s', 'l', 'e', 'x'][s.below(4)] } else { kind };
    format!("{kind}{}", s.below(3))
}

/// A command that may stand in a script or a transaction.
fn inner() -> String {
    let s = server();
    if s.has_hot_key && s.chance(70) {
        return match s.below(8) {
            0 => format!("SET s0 {}", value()),
            1 => format!("SET s0 {} PX 40", value()),
            2 => format!("MSET s0 {} s1 {}", value(), value()),
            3 => "MGET s0 s1".into(),
            _ => "GET s0".into(),
        };
    }
    match s.below(35) {
        0..=3 => format!("GET {}", key('s')),
        4..=6 => format!("SET {} {}", key('s'), value()),
        7 => format!("SET {} {} {}", key('s'), value(), ["NX", "XX", "GET", "KEEPTTL", "PX 40"][s.below(5)]),
        8 => format!("INCR {}", key('s')),
        9 => format!("APPEND {} {}", key('s'), value() % 10),
        10 => format!("DEL {}", key(['s', 'l', 'e', 'x'][s.below(4)])),
        11 => format!("GETSET {} {}", key('s'), value()),
        12 => format!("PEXPIRE {} {}", key('s'), [1, 20, 5000][s.below(3)]),
        13 | 14 => format!("RPUSH {} {}", key('l'), value()),
        15 => format!("LPOP {}", key('l')),
        16 => format!("LRANGE {} 0 -1", key('l')),
        17 => format!("SADD {} {} {}", key('e'), s.below(4), s.below(4)),
        18 => format!("SREM {} {}", key('e'), s.below(4)),
        19 => format!("SPOP {}", key('e')),
        20 => format!("SMEMBERS {}", key('e')),
        21 | 22 => format!("XADD {} * f {}", key('x'), value()),
        23 => format!("XRANGE {} - +", key('x')),
        24 => format!("XREAD STREAMS {} 0", key('x')),
        25 => "DBSIZE".into(),
        26 => "KEYS *".into(),
        27 => format!("EXISTS {} {}", key('s'), key('l')),
        28 => format!("MSET {} {} {} {}", key('s'), value(), key('s'), value()),
        30 => format!("MGET {} {}", key('s'), key('s')),
        31 => format!("GET {}", key('s')),
        29 => format!("PERSIST {}", key('s')),
        32 => format!("XPENDING {} g", key('x')),
        33 => acknowledge(),
        _ => format!("STRLEN {}", key('s')),
    }
}

/// The same, or another module's command that runs it.
fn inner_of_any() -> String {
    let s = server();
    match s.has_other_module && s.chance(15) {
        true => format!("OTHER.{} {}", ["CALL", "YIELD"][s.below(2)], inner()),
        false => inner(),
    }
}

/// A command that another module calls by itself.
pub fn called() -> Argv {
    words(&if server().chance(5) { acknowledge() } else { inner() })
}

/// The same in an event: it writes no key that the command may be changing.
pub fn called_in_event() -> Argv {
    words(&match server().below(3) {
        0 => format!("SET own {}", value()),
        1 => format!("RPUSH owned {}", value()),
        _ => format!("MGET {} {}", key('s'), key('s')),
    })
}

/// An XACK, mostly of an entry that is pending.
fn acknowledge() -> String {
    let s = server();
    let key = key('x');
    let id = match s.data.borrow().get(0, key.as_bytes()).map(|entry| &entry.value) {
        Some(Value::Stream(stream)) => {
            stream.groups.values().find_map(|group| group.pending.keys().next().copied()).unwrap_or((1, 1))
        }
        _ => (1, 1),
    };
    format!("XACK {key} g {}-{}", id.0, id.1)
}

/// What the server refuses outside of a transaction, and what would end or begin one, or a watch.
fn refused_bound() -> &'static str {
    ["DISCARD", "DISCARD x", "EXEC", "UNWATCH x", "MULTI x", "WATCH"][server().below(6)]
}

/// A script goes on after what is refused behind a `?`.
fn line_of_script() -> String {
    let s = server();
    let refused = ["?MULTI", "?DISCARD", "?EXEC", "?WATCH s0", "?UNWATCH", "?SELECT 1 x", "?SELECT 77", "SELECT 1"];
    match s.below(100) {
        0..12 => "YIELD".into(),
        12..22 => refused[s.below(refused.len())].into(),
        22..28 => format!("?XREADGROUP GROUP g c STREAMS {} >", key('x')),
        28..32 => acknowledge(),
        32..36 if s.has_other_module => format!("?OTHER.CALL {}", inner()),
        _ => inner(),
    }
}

/// What one client sends next: one command, or some that belong together.
pub fn next(clients: &[u64]) -> Vec<Argv> {
    let s = server();
    let one = |text: String| vec![words(&text)];
    match s.below(100) {
        0..=59 => one(inner_of_any()),
        60..=66 => {
            let mut sent = Vec::new();
            if s.chance(30) {
                sent.push(words(&format!("WATCH {} {}", key('s'), key('l'))));
            }
            if s.chance(10) {
                sent.push(words(refused_bound()));
            }
            sent.push(words("MULTI"));
            for _ in 0..s.below(4) {
                sent.push(words(&inner_of_any()));
            }
            if s.chance(8) {
                sent.push(words(["NOSUCH a", "GET", "SELECT 1"][s.below(3)]));
            }
            sent.push(words(if s.chance(90) { "EXEC" } else { "DISCARD" }));
            sent
        }
        67..=73 => {
            let lines: Vec<String> = (0..1 + s.below(4)).map(|_| line_of_script()).collect();
            let name = if s.chance(80) { "EVAL" } else { "EVAL_RO" };
            vec![vec![name.into(), lines.join(";").into_bytes(), b"0".to_vec()]]
        }
        74..=77 => one(format!("BLPOP {} {} {}", key('l'), key('l'), ["0", "0.02", "1"][s.below(3)])),
        78..=81 => one(format!("XREAD BLOCK {} STREAMS {} {}", [0, 30][s.below(2)], key('x'), s.now_ms.get() - 3)),
        82 | 83 => one(format!("SELECT {}", s.below(2))),
        84 if s.chance(50) => one(refused_bound().into()),
        84 => one(["NOSUCH", "GET", "SET a", "SELECT 77", "XACK"][s.below(5)].into()),
        85 => one(["FLUSHDB", "FLUSHALL"][s.below(2)].into()),
        // One that waits for the end of a pause may find a reader that has been served (docs/limits.md).
        86 | 87 if s.is_paused(false) => one("PING".into()),
        86 | 87 => {
            let how = ["", " TIMEOUT", " ERROR"][s.below(3)];
            one(format!("CLIENT UNBLOCK {}{how}", clients[s.below(clients.len())]))
        }
        88 => one(format!("CLIENT PAUSE {} {}", 1 + s.below(40), ["WRITE", "ALL"][s.below(2)])),
        89 => one("CLIENT UNPAUSE".into()),
        90..=92 => one("WBL.WAIT".into()),
        93 if s.chance(50) => one("PING".into()),
        93 => one(format!("WBL.DEBUG {}", ["PAUSE", "RESUME"][s.below(2)])),
        94 => one(format!("XGROUP CREATE {} g 0 MKSTREAM", key('x'))),
        95 => one(acknowledge()),
        96 => one("WBL.CHECKPOINT".into()),
        97 => vec![words("HELLO 3"), words("CLIENT TRACKING ON")],
        98 => one(["HELLO 3", "CLIENT TRACKING OFF", "SUBSCRIBE channel", "UNSUBSCRIBE channel"][s.below(4)].into()),
        _ => one(inner()),
    }
}
