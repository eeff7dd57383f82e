//! A primary and its replicas, which log, too.

use super::ports::free_ports_list;
use super::raw::RawConnection;
use super::server::info_field;
use super::{PATIENCE, Server, ServerBuilder, Version, dataset, wait_until};

/// The first node begins as the primary of the others.
pub struct Group {
    pub nodes: Vec<Server>,
    pub ports: Vec<u16>,
}

impl Group {
    /// All in sync, with logs.
    pub fn start(version: Version, replicas: usize, settings: &[(&str, &str)]) -> Group {
        let ports = free_ports_list(1 + replicas);
        let node = |port: &u16| {
            let primary = Some(ports[0]).filter(|primary| primary != port);
            let builder = builder(version, *port, primary);
            settings.iter().fold(builder, |builder, (name, value)| builder.set(name, value)).start()
        };
        let group = Group { nodes: ports.iter().map(node).collect(), ports: ports.clone() };
        group.nodes.iter().skip(1).for_each(wait_in_sync);
        group.wait_logged();
        group
    }

    /// The first node.
    pub fn primary(&self) -> &Server {
        &self.nodes[0]
    }

    /// Waits until the replicas have their logs, and all of that is durable.
    pub fn wait_logged(&self) {
        for replica in &self.nodes[1..] {
            wait_until("its log is there", PATIENCE, || replica.wbl_info("wbl_replica_log") == "written");
            wait_durable(replica);
        }
    }

    /// Waits until a replica has all that its primary has sent, durably.
    pub fn wait_all(&self, replica: usize) {
        let offset = |node: &Server, field: &str| info_field(&mut node.raw(), "replication", field);
        wait_until("the replica has all", PATIENCE, || {
            offset(&self.nodes[0], "master_repl_offset") == offset(&self.nodes[replica], "slave_repl_offset")
        });
        wait_durable(&self.nodes[replica]);
    }

    /// The same; returns what both have.
    pub fn wait_equal(&self, replica: usize) -> dataset::Dataset {
        self.wait_all(replica);
        let (mut one, mut other) = (self.nodes[0].raw(), self.nodes[replica].raw());
        let expected = dataset::read(&mut one);
        dataset::assert_same(&dataset::read(&mut other), &expected, "the replica");
        expected
    }
}

/// Waits until a replica follows its primary.
pub fn wait_in_sync(server: &Server) {
    let link = |client: &mut RawConnection| info_field(client, "replication", "master_link_status");
    wait_until("the replica is in sync", PATIENCE, || link(&mut server.raw()).as_deref() == Some("up"));
}

/// Waits until all that a server has logged is durable.
pub fn wait_durable(server: &Server) {
    wait_until("all is durable", PATIENCE, || {
        server.wbl_info("wbl_pending_bytes") == "0"
            && server.wbl_info("wbl_appended_offset") == server.wbl_info("wbl_previous_acked_offset")
    });
}

/// A node of such a group.
pub fn builder(version: Version, port: u16, primary: Option<u16>) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).in_memory().only_own_warnings();
    let builder = builder.set("repl-diskless-sync-delay", "0").set("port", &port.to_string());
    let builder = ["takes the place of the data", "can't follow the primary", "can't be written"]
        .into_iter()
        .fold(builder, ServerBuilder::allow_warning);
    match primary {
        Some(primary) => replica_of(builder, primary),
        None => builder,
    }
}

/// A start as a replica does not wait for the log to be active.
pub fn replica_of(builder: ServerBuilder, primary: u16) -> ServerBuilder {
    builder.unset("wbl.enabled").set_words("replicaof", &["127.0.0.1", &primary.to_string()])
}
