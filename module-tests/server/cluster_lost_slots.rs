//! Keys of slots that a node has lost, or has not received: the server deletes them of its own accord, one by one, and
//! nobody waits for that; what the log still has of them is deleted at the next start, from the server's own file, too.

use crate::harness::resp::encode;
use crate::harness::temp::copy_folder;
use crate::harness::{
    Cluster, FrozenDisk, Lever, PATIENCE, RawConnection, Server, ServerBuilder, Version, each_version, wait_until,
};
use crate::own_aof::aof_is_written;
use std::fs;

/// The slot of this tag is the first node's, and the second takes it.
const TAG: &str = "{moving}";

/// So many of the slot's keys are there.
const KEYS: i64 = 200;

each_version! {
    fn nobody_waits_for_the_keys_of_a_lost_slot_to_be_deleted(version: Version) {
        let cluster = Cluster::start(&builder(version));
        let [mut control, _] = cluster.connections();
        let node = &cluster.nodes[0];
        let slot = fill(&mut control);
        let waits = node.wbl_info("wbl_inline_waits");
        let frozen = FrozenDisk::freeze(Lever::Sync, node, &mut control);
        take(&cluster, slot, 1);
        // It serves others meanwhile.
        assert_eq!(node.wbl_info("wbl_inline_waits"), waits);
        assert_eq!(node.wbl_info("wbl_waits_other_module"), "0");
        // Who is shown that the keys are gone waits.
        let mut reader = node.raw();
        reader.send_text("DBSIZE");
        frozen.assert_withheld(node, &mut control, &mut reader, "DBSIZE");
        frozen.thaw(&mut control);
        assert_eq!(reader.reply().integer(), 0);
    }

    fn what_a_start_deletes_of_lost_slots_is_not_in_the_servers_own_file(version: Version) {
        let mut cluster = Cluster::start(&builder(version).set("appendonly", "yes"));
        let [mut control, _] = cluster.connections();
        let slot = fill(&mut control);
        // The disk keeps what the node knows of the slot, and loses that its keys were deleted.
        let log = cluster.nodes[0].log_folder();
        let durable = log.with_extension("durable");
        copy_folder(&log, &durable);
        take(&cluster, slot, 1);
        cluster.nodes[0].kill9();
        fs::remove_dir_all(&log).unwrap();
        fs::rename(&durable, &log).unwrap();
        cluster.nodes[0].start();
        cluster.wait_up();
        assert!(cluster.nodes[0].log().contains("recovered keys of slots that belong to other nodes"));
        let mut client = cluster.nodes[0].raw();
        client.run("WBL.WAIT");
        assert_eq!(deletions(&cluster.nodes[0]), 1);
        wait_until("the file is written", PATIENCE, || aof_is_written(&mut client));
        take(&cluster, slot, 0);
        cluster.nodes[0].stop();
        cluster.nodes[0].reconfigure(ServerBuilder::without_module);
        cluster.nodes[0].start();
        assert_eq!(cluster.nodes[0].raw().run(&format!("CLUSTER COUNTKEYSINSLOT {slot}")).integer(), 0);
    }
}

#[test]
fn the_target_of_a_move_does_not_wait_for_each_key_when_its_source_is_lost() {
    let mut cluster = Cluster::start(&builder(Version::V9_1).set("repl-diskless-sync-delay", "0"));
    let [mut source, mut target] = cluster.connections();
    let slot = fill(&mut source);
    source.run("DEBUG SLOTMIGRATION PREVENT-PAUSE 1");
    source.run(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {}", cluster.id(1)));
    let count = format!("CLUSTER COUNTKEYSINSLOT {slot}");
    wait_until("all keys have arrived", PATIENCE, || target.run(&count).integer() == KEYS);
    target.run("WBL.WAIT");
    let waits = |target: &Server| target.wbl_info("wbl_inline_waits").parse::<i64>().unwrap();
    let before = waits(&cluster.nodes[1]);
    drop(target);
    cluster.nodes[0].kill9();
    wait_until("the move has failed", PATIENCE, || cluster.nodes[1].log().contains("finished. State: failed"));
    let after = waits(&cluster.nodes[1]);
    assert!(after - before < KEYS / 4, "{before}, {after}");
    assert_eq!(cluster.nodes[1].wbl_info("wbl_waits_other_module"), "0");
    assert_eq!(cluster.nodes[1].raw().run(&count).integer(), 0);
}

fn builder(version: Version) -> ServerBuilder {
    ["luster state changed", "Changing databases number", "slot", "Slot", "takes the place", "FAIL", "rimary"]
        .iter()
        .fold(ServerBuilder::with_module(version).in_memory(), |builder, text| builder.allow_warning(text))
}

/// Keys in the slot of the tag, which is returned.
fn fill(source: &mut RawConnection) -> i64 {
    for number in 0..KEYS {
        source.run(&format!("SET {TAG}{number} v"));
    }
    source.run("WBL.WAIT");
    source.run(&format!("CLUSTER KEYSLOT {TAG}")).integer()
}

/// How often the log says that a key of the slot was deleted.
fn deletions(node: &Server) -> usize {
    let deletion = encode(&["DEL".to_string(), format!("{TAG}7")]);
    let files = fs::read_dir(node.log_folder()).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.to_string_lossy().ends_with(".incr.aof"));
    let count = |bytes: Vec<u8>| bytes.windows(deletion.len()).filter(|window| *window == deletion).count();
    segments.map(|path| count(fs::read(path).unwrap())).sum()
}

/// Has this node take the slot from the other one, without its keys.
fn take(cluster: &Cluster, slot: i64, node: usize) {
    let mut taker = cluster.nodes[node].raw();
    taker.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", cluster.id(1 - node)));
    taker.run(&format!("CLUSTER SETSLOT {slot} NODE {}", cluster.id(node)));
    cluster.wait_owner(u16::try_from(slot).unwrap(), node);
}
