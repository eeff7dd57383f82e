//! What has expired while a node was down is gone for whatever follows, and stays so at the next start: a second server
//! replays what was logged since over a base that still has it.

use crate::harness::cluster::{lone_node, wait_up_alone};
use crate::harness::dataset::{self, Dataset};
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, each_version, wait_until};
use crate::own_aof::aof_is_written;

/// What is there before the node goes down, what is done to it after the start, and the reply to that. `T` is a key of
/// the case's own.
struct Case(&'static [&'static str], &'static str, &'static str);

/// Keys that have expired.
const KEYS: &[Case] = &[
    Case(&["SET T 5", "PEXPIRE T 1"], "INCR T", "1"),
    Case(&["SET T old", "PEXPIRE T 1"], "APPEND T new", "3"),
    Case(&["SET T old", "PEXPIRE T 1"], "SETNX T new", "1"),
    Case(&["SET T old", "PEXPIRE T 1"], "SADD T member", "1"),
    Case(&["SET T old", "PEXPIRE T 1"], "EXISTS T", "0"),
    Case(&["RPUSH T old", "PEXPIRE T 1"], "RPUSH T new", "1"),
    Case(&["RPUSH T old", "PEXPIRE T 1"], "LPUSHX T new", "0"),
    Case(&["XADD T 9-9 f v", "PEXPIRE T 1"], "XADD T 5-1 f v", "5-1"),
    Case(&["ZADD T 5 m", "PEXPIRE T 1"], "ZADD T NX 1 m", "1"),
    Case(&["HSET T f 5 g 2", "PEXPIRE T 1"], "HSETNX T f 1", "1"),
];

/// Fields that have expired.
const FIELDS: &[Case] = &[
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 1 f"], "HINCRBY T f 1", "1"),
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 1 f"], "HINCRBYFLOAT T f 1.5", "1.5"),
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 1 f"], "HSETNX T f new", "1"),
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 1 f"], "HSETEX T KEEPTTL FIELDS 1 f new", "1"),
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 1 f"], "HDEL T g", "1"),
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 1 f"], "HLEN T", "1"),
    Case(
        &["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 1 f", "HPEXPIREAT T 9000000000000 FIELDS 1 g"],
        "HPEXPIRETIME T FIELDS 1 g",
        "9000000000000",
    ),
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 1 f", "PEXPIRE T 1"], "INCR T", "1"),
    // Without a field there is no key.
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 2 f g"], "RPUSH T new", "1"),
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 2 f g"], "HINCRBY T f 1", "1"),
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 2 f g"], "EXISTS T", "0"),
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 2 f g", "PEXPIRE T 5000"], "SETNX T new", "1"),
    Case(&["HSET T f 5 g 2", "HPEXPIRE T 1 FIELDS 2 f g", "PEXPIREAT T 9000000000000"], "SETNX T new", "1"),
];

each_version! {
    fn what_expired_while_a_node_was_down_does_not_come_back(version: Version) {
        for (how, base) in [(kill as End, "log"), (kill, "base"), (terminate, "log"), (terminate, "base")] {
            let mut node = lone_node(builder(version));
            let mut client = node.raw();
            // What has expired stays in the log.
            client.run("DEBUG SET-ACTIVE-EXPIRE 0");
            each_case(&mut client, version, |client, Case(before, ..), key| {
                before.iter().for_each(|command| drop(run(client, command, key)));
            });
            if base == "base" {
                client.run("WBL.CHECKPOINT");
            }
            restart(&mut node, how);
            let mut client = node.raw();
            each_case(&mut client, version, |client, Case(_, command, reply), key| {
                assert_eq!(first(&run(client, command, key)).text(), *reply, "{command} on {key}, {base}");
            });
            let expected = dataset::read(&mut client);
            let digest = client.run("DEBUG DIGEST");
            for start in ["the second start", "the third start"] {
                restart(&mut node, how);
                assert_holds(&node, &expected, start);
                assert_eq!(node.raw().run("DEBUG DIGEST"), digest, "{start}, {base}");
            }
        }
    }

    fn what_expired_while_a_node_was_down_is_not_in_the_servers_own_file(version: Version) {
        let mut node = lone_node(builder(version).set("appendonly", "yes"));
        let mut client = node.raw();
        ["DEBUG SET-ACTIVE-EXPIRE 0", "RPUSH k old", "PEXPIRE k 1"].iter().for_each(|command| drop(client.run(command)));
        restart(&mut node, kill);
        let mut client = node.raw();
        assert_eq!(client.run("RPUSH k new").integer(), 1);
        wait_until("the file is written", PATIENCE, || aof_is_written(&mut client));
        node.stop();
        node.reconfigure(ServerBuilder::without_module);
        node.start();
        wait_up_alone(&node, "CLUSTER");
        assert_eq!(node.raw().run("LRANGE k 0 -1").items(), [Value::Bulk(b"new".to_vec())]);
    }
}

type End = fn(&mut Server);

fn kill(node: &mut Server) {
    node.kill9();
}

fn terminate(node: &mut Server) {
    node.signal("TERM");
    assert!(node.wait_exit().success());
}

fn restart(node: &mut Server, end: End) {
    end(node);
    node.start();
    wait_up_alone(node, "CLUSTER");
}

fn builder(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).in_memory();
    let builder = if version == Version::V9_1 { builder.set("cluster-databases", "2") } else { builder };
    ["luster state changed", "Changing databases number", "takes the place", "SIGTERM"]
        .iter()
        .fold(builder, |builder, text| builder.allow_warning(text))
}

/// Runs this for each case with the name of its key, in each database.
fn each_case(client: &mut RawConnection, version: Version, work: impl Fn(&mut RawConnection, &Case, &str)) {
    let (fields, databases) = if version == Version::V9_1 { (FIELDS, 2) } else { (&[][..], 1) };
    for database in 0..databases {
        client.run(&format!("SELECT {database}"));
        for (number, case) in KEYS.iter().chain(fields).enumerate() {
            work(client, case, &format!("key-{number}"));
        }
    }
    client.run("SELECT 0");
}

fn run(client: &mut RawConnection, command: &str, key: &str) -> Value {
    client.run(&command.replace(" T", &format!(" {key}")))
}

/// The reply, or the first element of an array.
fn first(reply: &Value) -> &Value {
    if let Value::Array(items) = reply { &items[0] } else { reply }
}

fn assert_holds(node: &Server, expected: &Dataset, what: &str) {
    dataset::assert_same(&dataset::read(&mut node.raw()), expected, what);
}
