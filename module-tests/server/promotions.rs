//! Promotions of nodes that hold less than their logs: nobody takes less from them.

use crate::harness::cluster;
use crate::harness::group::{builder, replica_of, wait_durable, wait_in_sync};
use crate::harness::lacking::{KEYS, keys, killed_shard, promote_alone};
use crate::harness::ports::free_ports;
use crate::harness::{PATIENCE, ServerBuilder, Shards, Version, each_version, wait_until};

each_version! {
    fn a_replica_of_a_cluster_that_takes_over_alone_has_its_log_after_a_restart(version: Version) {
        let mut shards = lacking_shard(version);
        let [primary, replica] = shards.nodes.as_mut_slice() else { unreachable!() };
        // What it lacks it does not show.
        assert_eq!((keys(primary), keys(replica)), (KEYS, -1));
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

    fn nobody_copies_a_promoted_server_that_has_nothing(version: Version) {
        for what in [Nothing::BesideItsLog, Nothing::AndNoLog] {
            let ports = free_ports::<2>();
            let node = |port: u16| {
                let own = match what {
                    Nothing::BesideItsLog => builder(version, port, None),
                    Nothing::AndNoLog => builder(version, port, None).set("wbl.replica-log", "no"),
                };
                ["the log", "superseded"].into_iter().fold(own, ServerBuilder::allow_warning).start()
            };
            let (mut primary, mut replica) = (node(ports[0]), node(ports[1]));
            replica.raw().run("SET own v");
            replica.raw().run(&format!("REPLICAOF 127.0.0.1 {}", ports[0]));
            wait_in_sync(&replica);
            let mut client = primary.raw();
            (0..KEYS).for_each(|number| drop(client.run(&format!("SET k{number} v"))));
            assert_eq!(client.run("WAIT 1 20000").integer(), 1);
            if what == Nothing::BesideItsLog {
                wait_until("its log is there", PATIENCE, || replica.wbl_info("wbl_replica_log") == "written");
                wait_durable(&replica);
            }
            replica.kill9();
            client.run("SET more v");
            drop(client);
            primary.kill9();

            replica.reconfigure(|own| match what {
                Nothing::BesideItsLog => replica_of(own, ports[0]).set("wbl.enabled", "no"),
                Nothing::AndNoLog => replica_of(own, ports[0]),
            });
            replica.launch();
            let mut client = replica.wait_answers();
            client.run("CONFIG SET wbl.enabled yes");
            client.run("REPLICAOF NO ONE");
            wait_until("writes are refused", PATIENCE, || replica.wbl_info("wbl_state") == "failing");
            assert_eq!(keys(&replica), -1, "{what:?}");
            assert!(client.call(&["CONFIG", "SET", "wbl.enabled", "no"]).is_error(), "{what:?}");

            primary.reconfigure(|own| replica_of(own, ports[1]));
            primary.launch();
            primary.wait_answers();
            wait_until("the former primary wants to follow", PATIENCE, || primary.log().contains("NOMASTERLINK"));
            assert_eq!(keys(&primary), KEYS + 1, "{what:?}");
            primary.kill9();
            primary.reconfigure(|own| own.unset("replicaof"));
            primary.start();
            assert_eq!(keys(&primary), KEYS + 1, "{what:?}");
        }
    }
}

/// What a promoted server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nothing {
    /// Its log has more.
    BesideItsLog,
    /// Its log does not count any more, but whoever follows it has more.
    AndNoLog,
}

/// A shard whose replica has come back first and become a primary, and which the former primary wants to follow.
fn lacking_shard(version: Version) -> Shards {
    let mut shards = killed_shard(version, |own| own, |_| {});
    let [primary, replica] = shards.nodes.as_mut_slice() else { unreachable!() };
    promote_alone(replica);
    primary.launch();
    primary.wait_answers();
    // That gives its own data up for no less.
    wait_until("the former primary wants to follow", PATIENCE, || primary.log().contains("NOMASTERLINK"));
    shards
}
