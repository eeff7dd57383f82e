//! Promotions of nodes that hold less than their logs: nobody takes less from them.

use crate::harness::cluster;
use crate::harness::group::wait_durable;
use crate::harness::server::info_field;
use crate::harness::{PATIENCE, Server, ServerBuilder, Shards, Value, Version, each_version, wait_until};

each_version! {
    fn a_replica_of_a_cluster_that_takes_over_alone_has_its_log_after_a_restart(version: Version) {
        let mut shards = lacking_shard(version);
        let [primary, replica] = shards.nodes.as_mut_slice() else { unreachable!() };
        assert_eq!((keys(primary), keys(replica)), (KEYS, 0));
        replica.kill9_and_restart();
        assert_eq!(keys(replica), KEYS);
        wait_until("it follows", PATIENCE, || primary.wbl_info("wbl_replica_log") == "written");
        assert_eq!(keys(primary), KEYS);
    }

    fn a_former_primary_takes_over_again_from_a_node_that_lacks_its_data(version: Version) {
        let shards = lacking_shard(version);
        let primary = &shards.nodes[0];
        primary.raw().run("CLUSTER FAILOVER TAKEOVER");
        wait_until("it is a primary", PATIENCE, || primary.wbl_info("wbl_state") == "active");
        shards.wait_replica_in_sync(1);
        assert_eq!(shards.nodes.iter().map(keys).collect::<Vec<_>>(), [KEYS, KEYS]);
    }

    fn a_node_claims_no_slots_for_keys_of_a_file_that_its_log_replaces(version: Version) {
        let builder = cluster::alone(ServerBuilder::with_module(version).only_own_warnings());
        let mut node = builder.allow_warning("takes the place of the data").start();
        cluster::take_all_slots(&node, "CLUSTER");
        let mut client = node.raw();
        client.run("SET stays v");
        client.run("SET goes v");
        client.run("SAVE");
        client.run("DEL goes");
        let slot = client.run("CLUSTER KEYSLOT goes").integer();
        client.run(&format!("CLUSTER DELSLOTS {slot}"));
        client.run("WBL.WAIT");
        node.kill9();
        // The server claims slots that nobody owns for the keys that it loads.
        node.start();
        assert!(node.log().contains("I have keys for unassigned slot"), "{}", node.log());
        let nodes = node.raw().run("CLUSTER NODES").text();
        assert!(nodes.contains(&format!(" 0-{} {}-16383", slot - 1, slot + 1)), "{slot}: {nodes}");
        assert_eq!(keys(&node), 1);
    }
}

/// Keys of a shard.
const KEYS: i64 = 100;

fn keys(node: &Server) -> i64 {
    match node.raw().call(&["DBSIZE"]) {
        Value::Integer(count) => count,
        loading => {
            assert!(loading.is_error(), "{loading:?}");
            -1
        }
    }
}

/// A shard of a primary and a replica, with all keys in the logs of both, which were killed together.
fn killed_shard(version: Version) -> Shards {
    let own = ServerBuilder::with_module(version).in_memory().only_own_warnings();
    let own = ["the log can't begin", "takes the place of the data", "the replica's log can't begin"]
        .into_iter()
        .fold(own, ServerBuilder::allow_warning);
    let mut shards = Shards::start(&own, 1);
    shards.attach_replicas();
    let mut client = shards.nodes[0].raw();
    (1..KEYS).for_each(|number| drop(client.run(&format!("SET k{number} value{number}"))));
    shards.wait_replica_in_sync(1);
    wait_until("its log is there", PATIENCE, || shards.nodes[1].wbl_info("wbl_replica_log") == "written");
    client.run("SET k0 v");
    assert_eq!(client.run("WAIT 1 0").integer(), 1);
    wait_durable(&shards.nodes[1]);
    shards.nodes.iter_mut().for_each(Server::kill9);
    shards
}

/// Such a shard whose replica has come back first and become a primary, and which the former primary wants to follow.
fn lacking_shard(version: Version) -> Shards {
    let mut shards = killed_shard(version);
    let [primary, replica] = shards.nodes.as_mut_slice() else { unreachable!() };
    replica.launch();
    let mut client = replica.wait_answers();
    client.run("CLUSTER FAILOVER TAKEOVER");
    wait_until("the node is a primary", PATIENCE, || {
        info_field(&mut client, "replication", "role").as_deref() == Some("master")
    });
    // It has nothing, and takes no writes that would pass for the log's.
    wait_until("writes are refused", PATIENCE, || replica.wbl_info("wbl_state") == "failing");
    primary.launch();
    primary.wait_answers();
    // That gives its own data up for no less.
    wait_until("the former primary wants to follow", PATIENCE, || primary.log().contains("NOMASTERLINK"));
    shards
}
