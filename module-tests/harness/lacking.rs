//! Nodes of a cluster that have less in memory than their logs hold.

use super::group::wait_durable;
use super::server::info_field;
use super::{PATIENCE, Server, ServerBuilder, Shards, Value, Version, wait_until};

/// Keys of a shard.
pub const KEYS: i64 = 100;

/// How many the server says it has; -1 where it does not.
pub fn keys(node: &Server) -> i64 {
    match node.raw().call(&["DBSIZE"]) {
        Value::Integer(count) => count,
        refused => {
            assert!(refused.is_error(), "{refused:?}");
            -1
        }
    }
}

/// A shard of a primary and a replica, with all keys in the logs of both, which were killed together. `early` runs when
/// there was one key.
pub fn killed_shard(
    version: Version,
    configure: impl Fn(ServerBuilder) -> ServerBuilder,
    early: impl FnOnce(&Server),
) -> Shards {
    let mut shards = shard(version, configure, early);
    shards.nodes.iter_mut().for_each(Server::kill9);
    shards
}

/// The replica of such a shard, whose log was closed when it ended. Its own file has one key.
pub fn stopped_replica(version: Version, configure: impl Fn(ServerBuilder) -> ServerBuilder) -> Server {
    let mut shards = shard(version, configure, |replica| drop(replica.raw().run("SAVE")));
    shards.nodes[0].kill9();
    shards.nodes[1].stop();
    shards.nodes.remove(1)
}

fn shard(version: Version, configure: impl Fn(ServerBuilder) -> ServerBuilder, early: impl FnOnce(&Server)) -> Shards {
    let own = ServerBuilder::with_module(version).in_memory().only_own_warnings();
    let own = ["the log can't begin", "takes the place of the data", "the replica's log can't begin"]
        .into_iter()
        .fold(own, ServerBuilder::allow_warning);
    let shards = Shards::start(&configure(own), 1);
    shards.attach_replicas();
    let mut client = shards.nodes[0].raw();
    client.run("SET k1 early");
    shards.wait_replica_in_sync(1);
    early(&shards.nodes[1]);
    (1..KEYS).for_each(|number| drop(client.run(&format!("SET k{number} value{number}"))));
    shards.wait_replica_in_sync(1);
    wait_until("its log is there", PATIENCE, || shards.nodes[1].wbl_info("wbl_replica_log") == "written");
    client.run("SET k0 v");
    assert_eq!(client.run("WAIT 1 0").integer(), 1);
    wait_durable(&shards.nodes[1]);
    shards
}

/// Starts a killed replica, and makes it a primary before its own is back.
pub fn promote_alone(replica: &mut Server) {
    replica.launch();
    replica.wait_answers();
    promote(replica);
}

/// Makes such a node a primary.
pub fn promote(replica: &Server) {
    let mut client = replica.raw();
    client.run("CLUSTER FAILOVER TAKEOVER");
    wait_until("the node is a primary", PATIENCE, || {
        info_field(&mut client, "replication", "role").as_deref() == Some("master")
    });
    // It has less than its log, and takes no writes that would pass for the log's.
    wait_until("writes are refused", PATIENCE, || replica.wbl_info("wbl_state") == "failing");
}
