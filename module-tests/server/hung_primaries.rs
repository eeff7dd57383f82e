//! A primary whose disk hangs answers whoever asks whether it is alive, so that nobody takes it for failed.

use crate::harness::server::info_field;
use crate::harness::{
    FrozenDisk, Lever, PATIENCE, RawConnection, Sentinels, Server, ServerBuilder, Shards, Value, Version, each_version,
    wait_until,
};

/// The disk hangs for several times as long as others wait for an answer.
const HANGS_MS: u64 = 7_000;

each_version! {
    fn sentinels_do_not_take_a_primary_whose_disk_hangs_for_down(version: Version) {
        let group = Sentinels::start(&builder(version), version, 1);
        group.set_down_after_ms(1_000);
        group.wait_watched();
        let before = group.downs();
        let primary = &group.nodes[0];
        hang(primary, &["{a}key", "{a}other"], || assert_eq!(group.downs(), before, "a sentinel takes it for down"));
        assert!(group.is_primary(0));
        group.assert_replicas_equal("after the hang");
    }

    fn a_cluster_does_not_take_a_node_whose_disk_hangs_for_failed(version: Version) {
        let shards = Shards::start(&builder(version), 3);
        shards.attach_replicas();
        shards.nodes.iter().for_each(|node| drop(node.raw().run("CONFIG SET cluster-node-timeout 2000")));
        let [key, other] = keys_of(&shards.nodes[0]);
        let others = [1, 3].map(|node| shards.nodes[node].raw());
        let others = std::cell::RefCell::new(others);
        let has_failed = |node: &mut RawConnection| {
            node.run("CLUSTER NODES").text().lines().any(|line| line.contains("fail"))
        };
        hang(&shards.nodes[0], &[&key, &other], || {
            assert!(!others.borrow_mut().iter_mut().any(has_failed), "a node takes another one for failed");
        });
        assert_eq!(info_field(&mut shards.nodes[0].raw(), "replication", "role").as_deref(), Some("master"));
        shards.assert_replicas_equal("after the hang");
    }
}

fn builder(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).in_memory().only_own_warnings();
    let builder = builder.allow_warning("takes the place of the data").allow_warning("does not answer");
    // With `auto` a server that is busy writing to a fast disk waits for a flush that hangs.
    builder.set("wbl.commit-mode", "async")
}

/// Two names of keys in one slot of this node's.
fn keys_of(node: &Server) -> [String; 2] {
    let mut client = node.raw();
    let tag = (0..1000).find(|tag| !client.call(&["GET", &format!("{{{tag}}}")]).is_error());
    let tag = tag.expect("a slot of the node's");
    [format!("{{{tag}}}key"), format!("{{{tag}}}other")]
}

/// Lets the primary's disk hang under clients of all kinds, asks `others` all the while, and lets it go on.
fn hang(primary: &Server, keys: &[&str; 2], others: impl Fn()) {
    let mut control = primary.raw();
    let [key, other] = keys;
    control.run(&format!("SET {other} clean"));
    let frozen = FrozenDisk::freeze(Lever::Sync, primary, &mut control);
    let script = "return server.call('SET', KEYS[1], ARGV[1])";
    let commands: [&[&str]; 4] =
        [&["SET", key, "set"], &["GET", key], &["EVAL", script, "1", key, "eval"], &["KEYS", "*"]];
    let mut held: Vec<RawConnection> = commands.iter().map(|_| primary.raw()).collect();
    held.iter_mut().zip(commands).for_each(|(client, command)| client.send(command));
    wait_until("the disk has hung for long", PATIENCE, || {
        others();
        assert_eq!(control.run(&format!("GET {other}")), Value::Bulk(b"clean".to_vec()));
        primary.wbl_info("wbl_lag_ms").parse::<u64>().expect("milliseconds") > HANGS_MS
    });
    for (client, command) in held.iter_mut().zip(commands) {
        frozen.assert_withheld(primary, &mut control, client, command[0]);
    }
    frozen.thaw(&mut control);
    let replies: Vec<Value> = held.iter_mut().map(RawConnection::reply).collect();
    assert!(!replies.iter().any(Value::is_error), "{replies:?}");
}
