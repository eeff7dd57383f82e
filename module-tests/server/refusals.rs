//! What a server refuses for lack of memory, replicas or a password, and what it leaves out for CLIENT REPLY: the same
//! bytes as a stock server's.

use crate::harness::twins::Change;
use crate::harness::{Lever, Scene, ServerBuilder, Twins, Version, each_lever};

const KEYS: &[&str] = &[
    "FLUSHALL",
    "SET k one",
    "SET n 5",
    "RPUSH l b a",
    "SADD s m",
    "HSET h f v",
    "XADD x 1-1 f v",
    "XGROUP CREATE x g 0",
    "XREADGROUP GROUP g c STREAMS x >",
    "XADD x 2-1 f v",
    "PFADD p a",
    LIBRARY,
];

const LIBRARY: &str = r##"FUNCTION LOAD REPLACE "#!lua name=lib
local function get(keys) return redis.call('GET', keys[1]) end
local function set(keys) return redis.call('SET', keys[1], 'f') end
redis.register_function{function_name='get', callback=get, flags={'no-writes'}}
redis.register_function{function_name='always', callback=set, flags={'allow-oom'}}
redis.register_function('set', set)""##;

const COMMANDS: &[&str] = &[
    "GET k",
    "MGET k n none",
    "SET k v",
    "SET k v NX",
    "SET none v XX",
    "SET k v GET",
    "SETNX k v",
    "SETNX new v",
    "INCR n",
    "INCR k",
    "APPEND k v",
    "DEL k",
    "DEL none",
    "EXPIRE k 100",
    "EXPIRE k 100 XX",
    "GETEX k PERSIST",
    "GETDEL k",
    "RENAME k l",
    "COPY k k2",
    "COPY k n",
    "SORT l ALPHA",
    "SORT l ALPHA STORE d",
    "SPOP s",
    "SPOP none",
    "SADD s m",
    "SREM s m",
    "LPOP l",
    "BLPOP l 0",
    "BLPOP none 0.01",
    "LMOVE l d LEFT LEFT",
    "HSETNX h f v",
    "HSETNX h g v",
    "PFCOUNT p",
    "PFCOUNT p none",
    "PFADD p a",
    "XADD x 3-1 f v",
    "XACK x g 1-1",
    "XACK x g 9-9",
    "XREADGROUP GROUP g c STREAMS x >",
    "XREADGROUP GROUP g c COUNT 1 BLOCK 0 STREAMS x >",
    "XREAD COUNT 1 BLOCK 0 STREAMS x 1",
    "XREAD BLOCK 10 STREAMS x $",
    "XCLAIM x g d 0 1-1 JUSTID",
    "XGROUP CREATE x g $",
    "KEYS k",
    "DBSIZE",
    "FLUSHDB",
    "SWAPDB 0 1",
    "FUNCTION DELETE lib",
    "FUNCTION DELETE none",
    LIBRARY,
    "EVAL \"return redis.call('GET', KEYS[1])\" 1 k",
    "EVAL \"return redis.call('SET', KEYS[1], 'v')\" 1 k",
    "EVAL \"return redis.pcall('SET', KEYS[1], 'v')\" 1 k",
    "EVAL \"return redis.call('DEL', KEYS[1])\" 1 k",
    "EVAL \"redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], 'v')\" 1 k",
    "EVAL \"#!lua\nreturn redis.call('GET', KEYS[1])\" 1 k",
    "EVAL \"#!lua\nreturn redis.call('SET', KEYS[1], 'v')\" 1 k",
    "EVAL \"#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], 'v')\" 1 k",
    "EVAL \"#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])\" 1 k",
    "EVAL_RO \"return redis.call('GET', KEYS[1])\" 1 k",
    "FCALL get 1 k",
    "FCALL set 1 k",
    "FCALL always 1 k",
    "FCALL_RO get 1 k",
    "MULTI / GET k / EXEC",
    "MULTI / SET k v / EXEC",
    "MULTI / SPOP s / XACK x g 1-1 / EXEC",
    "MULTI / EVAL \"return redis.call('SET', KEYS[1], 'v')\" 1 k / EXEC",
];

/// What reads keys that nobody made dirty.
const CLEAN: &[&str] = &["SET none v XX", "DEL none", "SPOP none", "FUNCTION DELETE none"];

each_lever! {
    fn without_memory_the_replies_are_the_stock_servers(version: Version, lever: Lever) {
        let allow = |builder: crate::harness::ServerBuilder| builder.allow_warning("the new maxmemory value set via CONFIG SET");
        let change = Change { begin: &["CONFIG SET maxmemory 1"], end: &["CONFIG SET maxmemory 0"], late: false };
        try_all(Twins::of(version, lever, allow), change, &["HELLO 2"]);
    }

    fn without_replicas_the_replies_are_the_stock_servers(version: Version, lever: Lever) {
        let (begin, end) = (&["CONFIG SET min-replicas-to-write 1"], &["CONFIG SET min-replicas-to-write 0"]);
        try_all(Twins::start(version, lever), Change { begin, end, late: false }, &["HELLO 3"]);
    }

    fn without_a_password_the_replies_are_the_stock_servers(version: Version, lever: Lever) {
        let (begin, end) = (&["CONFIG SET requirepass secret"], &["CONFIG SET requirepass \"\""]);
        try_all(Twins::start(version, lever), Change { begin, end, late: true }, &["AUTH wrong"]);
    }

    fn a_subscriber_is_told_what_it_may_run(version: Version, lever: Lever) {
        try_all(Twins::start(version, lever), Change::default(), &["SUBSCRIBE channel"]);
    }

    fn so_is_one_that_has_subscribed_in_any_way_or_before_the_log_began(version: Version, lever: Lever) {
        let ways = ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"];
        for (subscribes, first) in ways.iter().flat_map(|way| [(way, true), (way, false)]) {
            let builder = ServerBuilder::with_module(version).set("wbl.enabled", if first { "no" } else { "yes" });
            let mut scene = Scene::of(builder).with_lever(lever);
            let (mut subscriber, mut writer) = (scene.server.raw(), scene.server.raw());
            subscriber.run(&format!("{subscribes} channel"));
            scene.prepare(&["CONFIG SET wbl.enabled yes", "SET k old"]);
            scene.freeze();
            scene.hold(&mut writer, "SET k new");
            subscriber.send_text("GET k");
            scene.settle();
            scene.thaw();
            let reply = format!("{:?}", subscriber.reply());
            assert!(reply.contains("Can't execute 'get'"), "{subscribes}, first: {first}: {reply}");
        }
    }
}

/// Runs all commands as a client that has run `first`.
fn try_all(mut twins: Twins, change: Change, first: &[&str]) {
    let mut findings = Vec::new();
    for dirty in [true, false] {
        for command in COMMANDS {
            twins.prepare(KEYS);
            let steps: Vec<&str> = first.iter().copied().chain(command.split(" / ")).collect();
            let (last, before) = steps.split_last().expect("a command");
            let shown = twins.compare_while(change, before, last, dirty);
            let leak = if dirty && !CLEAN.contains(command) { shown.leak() } else { None };
            findings.extend(shown.difference().or(leak).map(|finding| format!("dirty {dirty}: {command}: {finding}")));
        }
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}
