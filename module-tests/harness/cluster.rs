//! Two servers that share the slots of a cluster.

use super::ports::free_ports;
use super::raw::RawConnection;
use super::{PATIENCE, Server, ServerBuilder, wait_until};

/// The slots of the first and of the second node.
const RANGES: [(u16, u16); 2] = [(8192, 16383), (0, 8191)];

/// A node that has a cluster for itself, as soon as it has taken the slots.
pub fn alone(builder: ServerBuilder) -> ServerBuilder {
    let [port, bus] = free_ports();
    let builder = builder.set("bind", "127.0.0.1").set("cluster-enabled", "yes");
    builder.set("port", &port.to_string()).set("cluster-port", &bus.to_string())
}

/// Has such a node, whose command CLUSTER has this name, serve all slots.
pub fn take_all_slots(node: &Server, cluster: &str) {
    node.raw().run(&format!("{cluster} ADDSLOTSRANGE 0 16383"));
    wait_up_alone(node, cluster);
}

/// Waits until such a node serves its slots.
pub fn wait_up_alone(node: &Server, cluster: &str) {
    let mut client = node.raw();
    let info = format!("{cluster} INFO");
    wait_until("the cluster is up", PATIENCE, || client.run(&info).text().contains("cluster_state:ok"));
}

/// A node that serves all slots.
pub fn lone_node(builder: ServerBuilder) -> Server {
    let node = alone(builder).start();
    take_all_slots(&node, "CLUSTER");
    node
}

pub struct Cluster {
    pub nodes: [Server; 2],
    ports: [u16; 2],
}

impl Cluster {
    /// Starts two nodes and waits until each knows the other.
    pub fn start(builder: &ServerBuilder) -> Cluster {
        let ports = free_ports::<4>();
        let node = |port: u16, bus: u16| {
            let builder = builder.clone().set("port", &port.to_string()).set("cluster-port", &bus.to_string());
            builder.set("bind", "127.0.0.1").set("cluster-enabled", "yes").set("cluster-node-timeout", "2000").start()
        };
        let cluster =
            Cluster { nodes: [node(ports[0], ports[1]), node(ports[2], ports[3])], ports: [ports[0], ports[2]] };
        let [first, second] = cluster.connections();
        for (mut node, (from, to), epoch) in [(first, RANGES[0], 1), (second, RANGES[1], 2)] {
            node.run(&format!("CLUSTER ADDSLOTSRANGE {from} {to}"));
            node.run(&format!("CLUSTER SET-CONFIG-EPOCH {epoch}"));
        }
        let mut first = cluster.nodes[0].raw();
        first.run(&format!("CLUSTER MEET 127.0.0.1 {} {}", ports[2], ports[3]));
        cluster.wait_up();
        cluster
    }

    pub fn connections(&self) -> [RawConnection; 2] {
        [self.nodes[0].raw(), self.nodes[1].raw()]
    }

    pub fn port(&self, node: usize) -> u16 {
        self.ports[node]
    }

    pub fn id(&self, node: usize) -> String {
        self.nodes[node].raw().run("CLUSTER MYID").text()
    }

    /// Waits until both nodes serve all slots.
    pub fn wait_up(&self) {
        for node in &self.nodes {
            let mut connection = node.raw();
            wait_until("the cluster is up", PATIENCE, || {
                let info = connection.run("CLUSTER INFO").text();
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")
            });
        }
    }

    /// Waits until both nodes hold this node for the slot's owner.
    pub fn wait_owner(&self, slot: u16, owner: usize) {
        let id = self.id(owner);
        for node in &self.nodes {
            let mut connection = node.raw();
            wait_until("the slot has its new owner", PATIENCE, || {
                let ranges = connection.run("CLUSTER SLOTS");
                ranges.items().iter().any(|range| {
                    let [first, last, node, ..] = range.items() else { panic!("{range:?}") };
                    (first.integer()..=last.integer()).contains(&i64::from(slot)) && node.items()[2].text() == id
                })
            });
        }
    }

    /// Kills both nodes and starts them again.
    pub fn kill9_and_restart(&mut self) {
        self.nodes.iter_mut().for_each(Server::kill9);
        self.nodes.iter_mut().for_each(Server::start);
        self.wait_up();
    }
}
