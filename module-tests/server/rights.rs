//! Users with few rights: the replies are those of a stock server, byte for byte, with dirty and with durable keys.

use crate::harness::{Lever, Scene, Server, Twins, Value, Version, each_lever};

/// Names and rules of the users.
const USERS: &[(&str, &str)] = &[
    ("one-command", "+get ~k*"),
    ("reader", "+@read ~*"),
    ("writer", "+@write ~k* ~w"),
    ("scripter", "+@scripting +get +set ~k*"),
    ("safe", "+@all -@dangerous ~* &*"),
    ("bare", "+@all -wbl.read -wbl.call -wbl.eval -wbl.eval_ro ~k*"),
    ("patterns", "+@all %R~r* %W~w* ~k*"),
    ("selectors", "+get ~k* (+set +setnx ~w) (+@all %R~kl* %W~w) (+eval +fcall ~r)"),
    ("subcommands", "+object|encoding +xgroup|create +config|get +function|list +wbl.read ~*"),
    ("nothing", ""),
    ("no-keys", "+@all"),
];

/// Those with rules for databases, which servers have from 9.1 on.
const DATABASE_USERS: &[(&str, &str)] = &[
    ("database", "+@all ~* &* db=0"),
    ("bare-database", "+@all -wbl.read -wbl.call -wbl.eval -wbl.eval_ro ~k* db=0,2"),
    ("other-database", "+@all ~* &* db=1"),
    ("database-selectors", "+get ~k* db=1 (+@all ~k* ~w db=0)"),
];

/// The first letters of the keys report what the users may do to them.
const KEYS: &[&str] = &[
    "SET k one",
    "SET kn 5",
    "SET r read",
    "SET w write",
    "RPUSH kl b a",
    "RPUSH r:l b a",
    "SADD ks m",
    "SADD r:s m",
    "HSET kh f v",
    "ZADD kz 1 m",
    "XADD kx 1-1 f v",
    "XGROUP CREATE kx g 0",
    "XREADGROUP GROUP g c STREAMS kx >",
    "XADD kx 2-1 f v",
    "PFADD kp a",
    "SET w_a 1",
    "SET w_b 2",
];

const LIBRARY: &str = r##"FUNCTION LOAD REPLACE "#!lua name=lib
local function get(keys) return redis.call('GET', keys[1]) end
local function set(keys) return redis.call('SET', keys[1], 'f') end
redis.register_function{function_name='get', callback=get, flags={'no-writes'}}
redis.register_function('set', set)""##;

const ACL_CHECK: &str =
    "EVAL \"return {redis.acl_check_cmd('GET', 'r') and 1 or 0, redis.acl_check_cmd('SET', 'r', 'v') and 1 or 0}\" 0";

/// What they try.
const COMMANDS: &[&str] = &[
    "GET k",
    "GET r",
    "GET w",
    "MGET k kn",
    "MGET k r",
    "GETSET k v",
    "GETEX k PERSIST",
    "SET k v",
    "SET r v",
    "SET w v",
    "SET w v GET",
    "SET k v NX",
    "SETNX k v",
    "SETNX r v",
    "SETNX w v",
    "INCR kn",
    "INCR k",
    "INCR r",
    "STRLEN r",
    "OBJECT ENCODING k",
    "OBJECT FREQ k",
    "TYPE w",
    "DEL k r",
    "EXISTS k none",
    "COPY k k2",
    "COPY r w REPLACE",
    "COPY w r",
    "RENAME k w",
    "SORT kl ALPHA",
    "SORT kl BY w_* ALPHA",
    "SORT kl BY nosort GET w_*",
    "SORT_RO r:l ALPHA",
    "SORT kl ALPHA STORE w",
    "SORT kl ALPHA STORE r",
    "SPOP ks",
    "SPOP r:s 1",
    "LMOVE kl w LEFT LEFT",
    "BLPOP r:l kl 0",
    "HGET kh f",
    "HSETNX kh f v",
    "ZADD kz NX 2 m",
    "ZADD kz XX 2 m",
    "PFCOUNT kp",
    "PFCOUNT kp none",
    "PFCOUNT r",
    "XACK kx g 1-1",
    "XACK kx g 9-9",
    "XREADGROUP GROUP g c STREAMS kx >",
    "XREADGROUP GROUP g c STREAMS r >",
    "XREADGROUP GROUP g c COUNT 1 BLOCK 0 STREAMS kx >",
    "XREAD COUNT 1 STREAMS kx 1",
    "XREAD COUNT 1 BLOCK 0 STREAMS kx 1",
    "XREAD BLOCK 0 STREAMS kx r 1 1",
    "XGROUP CREATE kx g $",
    "XGROUP DESTROY kx g",
    "XCLAIM kx g d 0 1-1 JUSTID",
    "KEYS kn",
    "SCAN 0 MATCH kn COUNT 1000",
    "DBSIZE",
    "FLUSHDB",
    "SWAPDB 0 1",
    "SELECT 3",
    "FUNCTION LIST LIBRARYNAME none",
    "FUNCTION DELETE lib",
    "SCRIPT EXISTS 0",
    "CONFIG GET maxmemory",
    "ACL WHOAMI",
    "NOSUCH k",
    "GET",
    "SET k",
    "SPOP",
    "XREADGROUP GROUP g c STREAMS kx",
    "EVAL",
    "EVAL 1 2",
    "EVAL \"return 1\" 0",
    "EVAL \"return redis.call('GET', KEYS[1])\" 1 k",
    "EVAL \"return redis.call('GET', KEYS[1])\" 1 r",
    "EVAL \"return redis.call('GET', 'r')\" 0",
    "EVAL \"return redis.pcall('GET', 'r')\" 0",
    "EVAL \"return redis.call('SET', KEYS[1], 'v')\" 1 k",
    "EVAL \"return redis.call('SET', KEYS[1], 'v')\" 1 r",
    "EVAL \"redis.call('SET', 'k', 'v') return redis.call('SET', 'r', 'v')\" 0",
    ACL_CHECK,
    "EVALSHA 0000000000000000000000000000000000000000 1 k",
    "EVAL_RO \"return redis.call('GET', KEYS[1])\" 1 k",
    "EVAL_RO \"return redis.call('GET', KEYS[1])\" 1 r",
    "EVAL_RO \"return redis.call('SET', KEYS[1], 'v')\" 1 k",
    "FCALL get 1 k",
    "FCALL get 1 r",
    "FCALL set 1 k",
    "FCALL set 1 r",
    "FCALL_RO get 1 k",
    "FCALL_RO set 1 k",
    "FCALL none 1 k",
];

each_lever! {
    // The engine of Lua is a module on 9.1, which calls a command inside of that.
    fn a_function_flush_by_a_user_without_rights_is_logged(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&[LIBRARY, "ACL SETUSER deploy on nopass ~* &* +@scripting +@connection"]);
        let mut client = scene.server.raw();
        client.run("AUTH deploy any");
        for mode in ["", "ASYNC", "SYNC"] {
            scene.prepare(&[LIBRARY]);
            scene.freeze();
            scene.hold(&mut client, &format!("FUNCTION FLUSH {mode}"));
            scene.thaw();
            assert_eq!(client.reply(), Value::Simple("OK".into()));
            scene.server.kill9_and_restart();
            (scene.control, client) = (scene.server.raw(), scene.server.raw());
            scene.prepare(&["ACL SETUSER deploy on nopass ~* &* +@scripting +@connection"]);
            client.run("AUTH deploy any");
            assert_eq!(scene.control.run("FUNCTION LIST").items().len(), 0, "after FUNCTION FLUSH {mode} and kill -9");
        }
        scene.end();
    }

    fn replies_to_users_with_few_rights_are_the_stock_servers_with_dirty_keys(version: Version, lever: Lever) {
        try_all(version, lever, true);
    }

    fn replies_to_users_with_few_rights_are_the_stock_servers_with_durable_keys(version: Version, lever: Lever) {
        try_all(version, lever, false);
    }
}

fn try_all(version: Version, lever: Lever, dirty: bool) {
    let mut twins = Twins::start(version, lever);
    let of_databases = if version == Version::V9_1 { DATABASE_USERS } else { &[] };
    let users = || USERS.iter().chain(of_databases);
    for (user, rules) in users() {
        let of_stock: Vec<&str> = rules.split(' ').filter(|rule| !rule.contains("wbl.")).collect();
        twins.server.raw().run(format!("ACL SETUSER {user} on nopass {rules}").trim_end());
        twins.stock.raw().run(format!("ACL SETUSER {user} on nopass {}", of_stock.join(" ")).trim_end());
    }
    let mut findings = Vec::new();
    for (user, rules) in users() {
        twins.prepare(&["ACL LOG RESET"]);
        for command in COMMANDS {
            twins.prepare(&["FLUSHALL", LIBRARY]);
            twins.prepare(KEYS);
            let shown = twins.compare(&[&format!("AUTH {user} x")], command, dirty);
            let leak = if dirty { shown.leak().filter(|_| !HARMLESS.contains(command)) } else { None };
            findings
                .extend(shown.difference().or(leak).map(|finding| format!("{user} ({rules}): {command}: {finding}")));
        }
        let [found, expected] = twins.both().map(refusals);
        if found != expected {
            findings.push(format!("{user} ({rules}): ACL LOG has {found:?}, that of a stock server {expected:?}"));
        }
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// What tells nothing of the keys.
const HARMLESS: &[&str] = &[
    "SELECT 3",
    "FUNCTION LIST LIBRARYNAME none",
    "SCRIPT EXISTS 0",
    "CONFIG GET maxmemory",
    "ACL WHOAMI",
    "EVAL \"return 1\" 0",
    ACL_CHECK,
];

/// What ACL LOG says about who was refused what.
fn refusals(server: &Server) -> Vec<String> {
    let log = server.raw().run("ACL LOG 1000");
    let entry = |entry: &Value| {
        let words: Vec<String> = entry.items().iter().map(|item| format!("{item:?}")).collect();
        let field = |name: &str| {
            let at = words.iter().position(|word| word == &format!("\"{name}\"")).expect(name);
            words[at + 1].clone()
        };
        ["count", "reason", "context", "object", "username"].map(field).join(" ")
    };
    log.items().iter().map(entry).collect()
}
