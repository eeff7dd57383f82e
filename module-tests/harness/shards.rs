//! A cluster of primaries with a replica each.

use super::ports::free_ports_list;
use super::raw::RawConnection;
use super::server::info_field;
use super::{PATIENCE, Server, ServerBuilder, wait_until};
use std::fs;
use std::time::{Duration, Instant};

const SLOT_COUNT: usize = 16384;

/// Short, so that a failure is noticed soon; long enough for a busy machine.
const NODE_TIMEOUT_MS: &str = "4000";

/// A node gives an agreed fail-over up after five seconds.
const FAILOVER_LIMIT: Duration = Duration::from_secs(6);

pub struct Shards {
    /// The first half begin as primaries; the second half as their replicas, in the same order.
    pub nodes: Vec<Server>,
    ports: Vec<u16>,
}

impl Shards {
    /// Starts that many primaries, and as many replicas that are not in sync yet.
    pub fn start(builder: &ServerBuilder, shards: usize) -> Shards {
        let count = 2 * shards;
        let ports = free_ports_list(2 * count);
        let (ports, buses) = ports.split_at(count);
        let node = |index: usize| {
            let builder = builder.clone().set("bind", "127.0.0.1").set("cluster-enabled", "yes");
            let builder = builder.set("cluster-node-timeout", NODE_TIMEOUT_MS).set("repl-diskless-sync-delay", "0");
            let builder = builder.set("port", &ports[index].to_string());
            builder.set("cluster-port", &buses[index].to_string()).start()
        };
        let shards_of = Shards { nodes: (0..count).map(node).collect(), ports: ports.to_vec() };
        for (index, node) in shards_of.nodes.iter().enumerate() {
            let mut node = node.raw();
            if index < shards {
                let (first, end) = (index * SLOT_COUNT / shards, (index + 1) * SLOT_COUNT / shards);
                node.run(&format!("CLUSTER ADDSLOTSRANGE {first} {}", end - 1));
            }
            node.run(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1));
        }
        let mut first = shards_of.nodes[0].raw();
        for index in 1..count {
            first.run(&format!("CLUSTER MEET 127.0.0.1 {} {}", ports[index], buses[index]));
        }
        shards_of.wait_up();
        shards_of
    }

    /// Makes the second half replicas of the first, and waits until they are in sync.
    pub fn attach_replicas(&self) {
        let shards = self.nodes.len() / 2;
        for index in 0..shards {
            let id = self.id(index);
            let mut replica = self.nodes[shards + index].raw();
            // The node may not have heard of its primary's slots yet.
            wait_until("the node becomes a replica", PATIENCE, || {
                !replica.call(&["CLUSTER", "REPLICATE", &id]).is_error()
            });
        }
        (shards..2 * shards).for_each(|index| self.wait_replica_in_sync(index));
        self.nodes.iter().for_each(|node| wait_shards_known(node, shards));
    }

    pub fn id(&self, node: usize) -> String {
        self.nodes[node].raw().run("CLUSTER MYID").text()
    }

    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Waits until all nodes serve commands, and the logs of the primaries are active.
    pub fn wait_serving(&mut self) {
        self.nodes.iter_mut().for_each(|node| {
            node.wait_answers();
        });
        self.wait_up();
        for node in 0..self.nodes.len() {
            wait_until("the node has settled", PATIENCE, || {
                let state = self.nodes[node].wbl_info("wbl_state");
                state == if self.primary_of(node).is_some() { "replica" } else { "active" }
            });
        }
    }

    /// Waits until the node follows its primary.
    pub fn wait_linked(&self, node: usize) {
        let mut connection = self.nodes[node].raw();
        wait_until("the replica follows its primary", PATIENCE, || {
            info_field(&mut connection, "replication", "master_link_status").as_deref() == Some("up")
        });
    }

    /// Waits until all nodes know all others and the cluster serves all slots.
    pub fn wait_up(&self) {
        let known = format!("cluster_known_nodes:{}\r\n", self.nodes.len());
        for node in &self.nodes {
            let mut connection = node.raw();
            wait_until("the cluster is up", PATIENCE, || {
                let info = connection.run("CLUSTER INFO").text();
                info.contains("cluster_state:ok") && info.contains(&known)
            });
        }
    }

    /// Waits until the node is a replica that has all that its primary has written.
    pub fn wait_replica_in_sync(&self, node: usize) {
        let mut connection = self.nodes[node].raw();
        self.wait_linked(node);
        let offset = |connection: &mut RawConnection, name| {
            let text = info_field(connection, "replication", name)?;
            text.parse::<u64>().ok()
        };
        let primary = self.primary_of(node).expect("a replica");
        let written = offset(&mut self.nodes[primary].raw(), "master_repl_offset");
        wait_until("the replica is in sync", PATIENCE, || offset(&mut connection, "slave_repl_offset") >= written);
    }

    /// The node's primary, where it is a replica by its own account.
    pub fn primary_of(&self, node: usize) -> Option<usize> {
        let mut connection = self.nodes[node].raw();
        let port = info_field(&mut connection, "replication", "master_port")?;
        self.ports.iter().position(|own| own.to_string() == port)
    }

    /// Has a replica take over, with the agreement of its primary.
    pub fn failover(&self, replica: usize) {
        let mut connection = self.nodes[replica].raw();
        let mut asked: Option<Instant> = None;
        wait_until("the replica takes over", PATIENCE, || {
            if asked.is_none_or(|asked| asked.elapsed() > FAILOVER_LIMIT) {
                // An error says that it cannot be done yet.
                asked = (!connection.call(&["CLUSTER", "FAILOVER"]).is_error()).then(Instant::now);
            }
            self.primary_of(replica).is_none()
        });
        wait_until("the log of the new primary is active", PATIENCE, || {
            self.nodes[replica].wbl_info("wbl_state") == "active"
        });
        self.wait_up();
    }

    /// Waits until each replica is in sync, and compares its dataset's digest with its primary's. Nobody may write.
    pub fn assert_replicas_equal(&self, what: &str) {
        let mut compared = 0;
        for node in 0..self.nodes.len() {
            let Some(primary) = self.primary_of(node) else { continue };
            self.wait_replica_in_sync(node);
            let digest = |index: usize| self.nodes[index].raw().run("DEBUG DIGEST").text();
            assert_eq!(digest(node), digest(primary), "{what}: replica {node} differs from its primary {primary}");
            compared += 1;
        }
        assert_eq!(compared, self.nodes.len() / 2, "{what}: not every shard has a replica");
    }
}

/// Waits until the node's file has so many replicas, all in their primaries' shards: an 8.1 server that is stopped
/// before that does not start with its file.
fn wait_shards_known(node: &Server, replicas: usize) {
    let file = node.folder().join("nodes.conf");
    wait_until("the node's file has the shards", PATIENCE, || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let nodes: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        let shard = |node: &[&str]| node[1].split(',').find(|word| word.starts_with("shard-id=")).map(String::from);
        let shard_of = |id: &str| nodes.iter().find(|node| node[0] == id).and_then(|node| shard(node));
        let is_replica = |node: &&Vec<&str>| node.len() > 3 && node[0] != "vars" && node[3] != "-";
        let is_known = |node: &&Vec<&str>| shard(node).is_some_and(|own| Some(own) == shard_of(node[3]));
        nodes.iter().filter(is_replica).filter(is_known).count() == replicas
    });
}
