//! Slots that move between nodes: keys that come and go are in the log of both ends.

use crate::harness::dataset::{self, Dataset};
use crate::harness::{Cluster, PATIENCE, RawConnection, ServerBuilder, Value, Version, each_version, wait_until};
use crate::leaks::pipeline;
use crate::own_aof::aof_is_written;

/// All keys of these tests are in the slot of `{moving}`, which the first node has.
const TAG: &str = "{moving}";

each_version! {
    fn a_node_recovers_before_the_cluster_is_up(version: Version) {
        let mut cluster = Cluster::start(&builder(version));
        let [mut first, mut second] = cluster.connections();
        fill(&mut first, version);
        second.run("SET b second");
        let before = datasets(&cluster);
        assert!(before[0].len() > 5, "{before:?}");
        cluster.kill9_and_restart();
        assert_same(&cluster, &before);
    }

    fn migrated_keys_are_in_the_log_of_both_nodes(version: Version) {
        let mut cluster = Cluster::start(&builder(version));
        let [mut source, mut target] = cluster.connections();
        fill(&mut source, version);
        let slot = slot_of_tag(&mut source);
        let ids = [cluster.id(0), cluster.id(1)];
        target.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", ids[0]));
        source.run(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", ids[1]));
        let keys = source.run(&format!("CLUSTER GETKEYSINSLOT {slot} 100"));
        let names: Vec<String> = keys.items().iter().map(Value::text).collect();
        let (some, rest) = names.split_at(names.len() / 2);
        migrate(&mut source, cluster.port(1), some);
        source.run(&format!("SET {} again", rest[0]));
        let halfway = datasets(&cluster);
        assert!(halfway.iter().all(|dataset| dataset.len() > 2), "{halfway:?}");
        cluster.kill9_and_restart();
        assert_same(&cluster, &halfway);

        let [mut source, mut target] = cluster.connections();
        migrate(&mut source, cluster.port(1), rest);
        if version == Version::V9_1 {
            // MIGRATE moves the keys of one database; a node that holds others does not give the slot up.
            for command in ["SELECT 1", "FLUSHDB", "SELECT 0"] {
                source.run(command);
            }
        }
        for node in [&mut target, &mut source] {
            node.run(&format!("CLUSTER SETSLOT {slot} NODE {}", ids[1]));
        }
        cluster.wait_owner(slot, 1);
        target.run(&format!("APPEND {} more", rest[0]));
        let before = datasets(&cluster);
        assert!(before[0].is_empty(), "{before:?}");
        cluster.kill9_and_restart();
        assert_same(&cluster, &before);
    }

    fn a_script_behind_asking_runs_in_a_slot_that_arrives(version: Version) {
        let cluster = Cluster::start(&builder(version));
        let [mut source, mut target] = cluster.connections();
        let slot = slot_of_tag(&mut source);
        target.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", cluster.id(0)));
        source.run(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", cluster.id(1)));
        target.run("ASKING");
        let key = format!("{TAG}new");
        let reply = target.call(&["EVAL", "return redis.call('SET', KEYS[1], 'v')", "1", &key]);
        assert_eq!(reply, Value::Simple("OK".into()));
        target.run("ASKING");
        assert_eq!(target.run(&format!("GET {key}")).text(), "v");
        // Also behind a command that the server has refused in the same iteration.
        let script = format!("EVAL \"return redis.call('GET', KEYS[1])\" 1 {key}");
        pipeline(&mut target, &format!("NOSUCH; ASKING; {script}"));
        assert!(target.reply().is_error());
        assert_eq!([target.reply().text(), target.reply().text()], ["OK", "v"]);
    }
}

#[test]
fn an_atomically_moved_slot_is_in_the_log_of_both_nodes() {
    let version = Version::V9_1;
    let mut cluster = Cluster::start(&builder(version));
    let [mut source, mut target] = cluster.connections();
    fill(&mut source, version);
    source.run("SET a stays");
    // A 9.1 server applies what is written while a slot moves to the last database that has keys of the slot.
    for command in ["SELECT 1", "FLUSHDB", "SELECT 0"] {
        source.run(command);
    }
    let slot = slot_of_tag(&mut source);
    let expected = dataset::read(&mut source);
    source.run(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {}", cluster.id(1)));
    // Writes while the slot moves go along.
    let moved = format!("{TAG}:counter");
    let mut count = 0;
    wait_until("the slot has moved", PATIENCE, || {
        count += i64::from(!source.call(&["INCR", &moved]).is_error());
        move_state(&mut source) == "success"
    });
    cluster.wait_owner(slot, 1);
    assert_eq!(target.run(&format!("INCR {moved}")).integer(), count + 1);
    wait_until("the source has deleted the slot's keys", PATIENCE, || source.run("DBSIZE").integer() == 1);
    let before = datasets(&cluster);
    let found = before[1].iter().filter(|(name, _)| !name.ends_with(&moved));
    let moving = expected.iter().filter(|(name, _)| name.contains(TAG));
    assert!(found.eq(moving), "found {:?}, expected {expected:?}", before[1]);
    for node in [&mut source, &mut target] {
        node.run("WBL.WAIT");
    }
    for node in &cluster.nodes {
        assert_eq!(node.wbl_info("wbl_checkpoints"), "0", "the log did not tell of the move");
    }
    // Nothing could hold the replies to the client that brings the keys.
    assert_ne!(cluster.nodes[1].wbl_info("wbl_waits_slot_import"), "0");
    cluster.kill9_and_restart();
    assert_same(&cluster, &before);
}

#[test]
fn a_target_that_crashes_while_a_slot_moves_begins_anew() {
    for appends in ["no", "yes"] {
        move_after_a_crash(appends);
    }
}

/// `appends`: whether the nodes have append-only files of their own.
fn move_after_a_crash(appends: &str) {
    let version = Version::V9_1;
    let builder = builder(version).set("repl-diskless-sync-delay", "0").set("appendonly", appends);
    let mut cluster = Cluster::start(&builder.allow_warning("takes the place"));
    let [mut source, mut target] = cluster.connections();
    fill(&mut source, version);
    let slot = slot_of_tag(&mut source);
    let expected = dataset::read(&mut source);
    // The slot is not given up while it is being moved.
    source.run("DEBUG SLOTMIGRATION PREVENT-PAUSE 1");
    source.run(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {}", cluster.id(1)));
    wait_until("all keys have arrived", PATIENCE, || {
        let count = target.run(&format!("CLUSTER COUNTKEYSINSLOT {slot}")).integer();
        count == source.run(&format!("CLUSTER COUNTKEYSINSLOT {slot}")).integer()
    });
    target.run("WBL.WAIT");
    cluster.nodes[1].kill9_and_restart();
    cluster.wait_up();
    let mut target = cluster.nodes[1].raw();
    assert_eq!(target.run(&format!("CLUSTER COUNTKEYSINSLOT {slot}")).integer(), 0);
    source.run("DEBUG SLOTMIGRATION PREVENT-PAUSE 0");
    wait_until("the move has failed", PATIENCE, || move_state(&mut source) == "failed");
    source.run(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {}", cluster.id(1)));
    wait_until("the slot has moved", PATIENCE, || move_state(&mut source) == "success");
    cluster.wait_owner(slot, 1);
    wait_until("the source has deleted the slot's keys", PATIENCE, || source.run("DBSIZE").integer() == 0);
    target.run("WBL.WAIT");
    if appends == "yes" {
        // The server loads its own file before it has what the log holds.
        wait_until("the file is written", PATIENCE, || aof_is_written(&mut target));
        cluster.nodes[1].stop_and_restart();
    }
    cluster.kill9_and_restart();
    dataset::assert_same(&dataset::read(&mut cluster.nodes[1].raw()), &expected, "the target");
}

/// What becomes of a slot's move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Success,
    Cancelled,
    CutByACrash,
}

#[test]
fn a_base_from_amid_a_slots_arrival_starts_the_node() {
    for end in [End::Success, End::Cancelled, End::CutByACrash] {
        let mut cluster = Cluster::start(&builder(Version::V9_1).set("repl-diskless-sync-delay", "0"));
        let [mut source, mut target] = cluster.connections();
        fill(&mut source, Version::V9_1);
        let slot = slot_of_tag(&mut source);
        let count = format!("CLUSTER COUNTKEYSINSLOT {slot}");
        let keys = source.run(&count).integer();
        target.run("SET b stays");
        source.run("DEBUG SLOTMIGRATION PREVENT-PAUSE 1");
        source.run(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {}", cluster.id(1)));
        wait_until("all keys have arrived", PATIENCE, || target.run(&count).integer() == keys);
        assert_eq!(target.run("WBL.CHECKPOINT").text(), "OK");
        match end {
            End::Success => {
                source.run("DEBUG SLOTMIGRATION PREVENT-PAUSE 0");
                wait_until("the slot has moved", PATIENCE, || move_state(&mut source) == "success");
                cluster.wait_owner(slot, 1);
                wait_until("the source has deleted the slot's keys", PATIENCE, || source.run(&count).integer() == 0);
            }
            End::Cancelled => {
                source.run("CLUSTER CANCELSLOTMIGRATIONS");
                wait_until("the target has deleted the slot's keys", PATIENCE, || target.run(&count).integer() == 0);
            }
            End::CutByACrash => {}
        }
        target.run("WBL.WAIT");
        let mut expected = dataset::read(&mut target);
        // The node loads the base itself, or after a later write what a second server makes of it.
        for start in if end == End::Success { 1..=2 } else { 1..=1 } {
            cluster.nodes[1].kill9_and_restart();
            cluster.wait_up();
            let mut target = cluster.nodes[1].raw();
            // KEYS shows none of a slot that is being imported.
            dataset::assert_same(&dataset::read(&mut target), &expected, &format!("{end:?}, start {start}"));
            let of_slot = if end == End::Success { keys } else { 0 };
            assert_eq!(target.run(&count).integer(), of_slot, "{end:?}, start {start}");
            target.run("APPEND b more");
            expected = dataset::read(&mut target);
        }
    }
}

fn builder(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).in_memory();
    let builder = if version == Version::V9_1 { builder.set("cluster-databases", "2") } else { builder };
    ["Failover", "failover", "luster state changed", "Changing databases number", "Slot migration", "slot"]
        .iter()
        .fold(builder, |builder, text| builder.allow_warning(text))
}

/// Keys of all types in the slot that moves.
fn fill(connection: &mut RawConnection, version: Version) {
    for command in [
        "SET T:string value PXAT 9000000000123",
        "SET T:number 42",
        "RPUSH T:list a b c",
        "SADD T:set a b c",
        "SADD T:numbers 1 2 3",
        "SPOP T:numbers",
        "HSET T:hash f v",
        "ZADD T:sorted 1 a 2.5 b",
        "XADD T:stream 1-1 f v",
        "XADD T:stream 2-1 f v",
        "XGROUP CREATE T:stream group 0",
        "XREADGROUP GROUP group reader COUNT 1 STREAMS T:stream >",
        "PFADD T:visitors a b c",
    ] {
        connection.run(&command.replace("T:", &format!("{TAG}:")));
    }
    if version == Version::V9_1 {
        connection.run(&format!("HPEXPIREAT {TAG}:hash 9000000000789 FIELDS 1 f"));
        connection.run("SELECT 1");
        connection.run(&format!("SET {TAG}:string of-database-1"));
        connection.run("SELECT 0");
    }
}

fn slot_of_tag(connection: &mut RawConnection) -> u16 {
    u16::try_from(connection.run(&format!("CLUSTER KEYSLOT {TAG}")).integer()).unwrap()
}

fn migrate(source: &mut RawConnection, port: u16, keys: &[String]) {
    let mut words = vec!["MIGRATE".to_string(), "127.0.0.1".into(), port.to_string(), String::new()];
    words.extend(["0", "60000", "KEYS"].map(String::from));
    words.extend(keys.iter().cloned());
    assert_eq!(source.call(&words), Value::Simple("OK".into()));
}

/// The state of the last atomic move that the node knows of.
fn move_state(source: &mut RawConnection) -> String {
    let moves = source.run("CLUSTER GETSLOTMIGRATIONS");
    let fields = moves.items()[0].items();
    fields.chunks(2).find(|pair| pair[0].text() == "state").expect("a state")[1].text()
}

fn datasets(cluster: &Cluster) -> [Dataset; 2] {
    cluster.connections().map(|mut connection| dataset::read(&mut connection))
}

fn assert_same(cluster: &Cluster, expected: &[Dataset; 2]) {
    for (node, expected) in expected.iter().enumerate() {
        dataset::assert_same(&datasets(cluster)[node], expected, &format!("node {node} after kill -9"));
    }
}
