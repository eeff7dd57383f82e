//! A primary with replicas that Sentinels watch.

use super::ports::free_ports_list;
use super::raw::RawConnection;
use super::resp::Value;
use super::temp::TempDir;
use super::{PATIENCE, Server, ServerBuilder, Version, wait_for, wait_until};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const SENTINELS: usize = 3;
const QUORUM: usize = 2;

/// How they call the group.
const NAME: &str = "group";

/// Short, so that a failure is noticed soon; long enough for a busy machine.
const DOWN_AFTER_MS: u64 = 2500;

pub struct Sentinels {
    /// The first begins as the primary.
    pub nodes: Vec<Server>,
    ports: Vec<u16>,
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    child: Child,
    folder: TempDir,
}

impl Sentinel {
    fn start(version: Version, port: u16, primary: u16) -> Sentinel {
        let folder = TempDir::new();
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\nunixsocket {}\ndir {}\nlogfile {}\n\
             sentinel monitor {NAME} 127.0.0.1 {primary} {QUORUM}\n\
             sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {NAME} {}\nsentinel parallel-syncs {NAME} 2\n",
            folder.path().join("socket").display(),
            folder.path().display(),
            folder.path().join("log").display(),
            4 * DOWN_AFTER_MS,
        );
        std::fs::write(&config, text).expect("a configuration file");
        let mut command = Command::new(version.program("valkey-sentinel"));
        let command = command.arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Sentinel { child: command.spawn().expect("a sentinel starts"), folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn connection(&self) -> RawConnection {
        wait_for("the sentinel takes connections", PATIENCE, || RawConnection::open(&self.socket()).ok())
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.child.kill().expect("the sentinel can be killed");
        self.child.wait().expect("the sentinel ends");
        if std::thread::panicking() {
            eprintln!(
                "a sentinel's log:\n{}",
                std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
        }
    }
}

impl Sentinels {
    /// Starts a primary, replicas that are in sync, and Sentinels that know all of them and each other.
    pub fn start(builder: &ServerBuilder, version: Version, replicas: usize) -> Sentinels {
        let ports = free_ports_list(1 + replicas + SENTINELS);
        let (ports, of_sentinels) = ports.split_at(1 + replicas);
        let node = |port: &u16| {
            let builder = builder.clone().set("bind", "127.0.0.1").set("port", &port.to_string());
            builder.set("repl-diskless-sync-delay", "0").config_file("").start()
        };
        let mut nodes: Vec<Server> = ports.iter().map(node).collect();
        for (index, node) in nodes.iter_mut().enumerate() {
            if index > 0 {
                node.raw().run(&format!("REPLICAOF 127.0.0.1 {}", ports[0]));
            }
            // From now on the file, which Sentinels have nodes rewrite, says whose replica the node is. It names the
            // module, too.
            node.raw().run("CONFIG REWRITE");
            node.reconfigure(|builder| builder.unset("loadmodule"));
        }
        let mut group = Sentinels { nodes, ports: ports.to_vec(), sentinels: Vec::new() };
        (1..=replicas).for_each(|replica| group.wait_linked(replica));
        let start = |port: &u16| Sentinel::start(version, *port, ports[0]);
        group.sentinels = of_sentinels.iter().map(start).collect();
        group.wait_watched();
        group
    }

    /// Has the Sentinels take a node for down that does not answer for so long.
    pub fn set_down_after_ms(&self, down_after_ms: u64) {
        let command = format!("SENTINEL SET {NAME} down-after-milliseconds {down_after_ms}");
        self.sentinels.iter().for_each(|sentinel| drop(sentinel.connection().run(&command)));
    }

    /// How often a Sentinel has taken a node for down since the start.
    pub fn downs(&self) -> usize {
        let log = |sentinel: &Sentinel| std::fs::read_to_string(sentinel.folder.path().join("log"));
        self.sentinels.iter().map(|sentinel| log(sentinel).expect("a log").matches("+sdown").count()).sum()
    }

    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Has the Sentinels take this replica at the next fail-over, as far as it is up to date.
    pub fn prefer(&self, preferred: usize) {
        let priority = |node: usize| if node == preferred { "1" } else { "100" };
        for (node, server) in self.nodes.iter().enumerate() {
            server.raw().run(&format!("CONFIG SET replica-priority {}", priority(node)));
        }
        for sentinel in &self.sentinels {
            let mut connection = sentinel.connection();
            // They look every ten seconds.
            wait_until("the sentinel knows the priorities", PATIENCE, || {
                let replicas = connection.run(&format!("SENTINEL REPLICAS {NAME}"));
                replicas.items().iter().map(fields).all(|replica| {
                    let node = self.ports.iter().position(|port| port.to_string() == field(&replica, "port"));
                    node.is_some_and(|node| field(&replica, "slave-priority") == priority(node))
                })
            });
        }
    }

    /// Waits until each Sentinel sees all replicas, linked, and all other Sentinels.
    pub fn wait_watched(&self) {
        for sentinel in &self.sentinels {
            let mut connection = sentinel.connection();
            wait_until("the sentinel sees the group", PATIENCE, || {
                let primary = fields(&connection.run(&format!("SENTINEL PRIMARY {NAME}")));
                let replicas = connection.run(&format!("SENTINEL REPLICAS {NAME}"));
                let linked = replicas.items().iter().map(fields).filter(|replica| {
                    field(replica, "flags") == "slave" && field(replica, "master-link-status") == "ok"
                });
                field(&primary, "flags") == "master"
                    && field(&primary, "num-other-sentinels") == (SENTINELS - 1).to_string()
                    && linked.count() == self.nodes.len() - 1
            });
        }
    }

    /// The node that the Sentinels, all of them, hold for the primary and that holds itself for it, too.
    pub fn wait_primary(&self) -> usize {
        wait_for("the sentinels agree on the primary", PATIENCE, || {
            let mut named = self.sentinels.iter().map(|sentinel| {
                let reply = sentinel.connection().run(&format!("SENTINEL GET-PRIMARY-ADDR-BY-NAME {NAME}"));
                reply.items()[1].text()
            });
            let first = named.next()?;
            let node = self.ports.iter().position(|port| port.to_string() == first)?;
            (named.all(|other| other == first) && self.is_primary(node)).then_some(node)
        })
    }

    /// The same, once it is another node than this one.
    pub fn wait_other_primary(&self, before: usize) -> usize {
        wait_for("another node is the primary", PATIENCE, || Some(self.wait_primary()).filter(|node| *node != before))
    }

    pub fn is_primary(&self, node: usize) -> bool {
        self.replication(node, "role").as_deref() == Some("master")
    }

    /// A field of INFO replication. Sentinels close a node's connections when they change its role, so that each
    /// question has one of its own.
    fn replication(&self, node: usize, field: &str) -> Option<String> {
        let mut connection = RawConnection::open(&self.nodes[node].socket()).ok()?;
        connection.send_bytes(&super::resp::encode(&["INFO", "replication"])).ok()?;
        let text = connection.try_reply().ok()?.text();
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(String::from)
    }

    /// Waits until the node follows its primary.
    pub fn wait_linked(&self, node: usize) {
        wait_until("the replica follows its primary", PATIENCE, || {
            self.replication(node, "master_link_status").as_deref() == Some("up")
        });
    }

    /// Waits until all nodes have all that the primary has written, and compares the digests. Nobody may write.
    pub fn assert_replicas_equal(&self, what: &str) {
        let primary = self.wait_primary();
        let offset = |node: usize, name| self.replication(node, name)?.parse::<u64>().ok();
        let digest = |node: usize| self.nodes[node].raw().run("DEBUG DIGEST").text();
        for replica in (0..self.nodes.len()).filter(|node| *node != primary) {
            self.wait_linked(replica);
            let written = offset(primary, "master_repl_offset");
            wait_until("the replica is in sync", PATIENCE, || offset(replica, "slave_repl_offset") >= written);
            assert_eq!(digest(replica), digest(primary), "{what}: node {replica} differs from the primary {primary}");
        }
    }
}

/// What a Sentinel says of a node.
fn fields(reply: &Value) -> Vec<(String, String)> {
    reply.items().chunks(2).map(|pair| (pair[0].text(), pair[1].text())).collect()
}

fn field(fields: &[(String, String)], name: &str) -> String {
    fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()).unwrap_or_default()
}
