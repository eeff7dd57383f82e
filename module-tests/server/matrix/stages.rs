//! The transitions of the matrix, each ready to begin.

use crate::harness::labels::{self, label};
use crate::harness::ports::free_ports;
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Version, paths, wait_until};
use crate::life::NOWHERE;
use crate::newest::wait_some_seconds;
use std::fs;

/// Points at which the whole process stops.
const OF_THE_SERVER: [&str; 6] = ["log-begun", "base-fork", "base-written", "rename", "renamed", "base-installed"];

/// Those of a log that is left while the server goes on.
const OF_A_CLOSE: [&str; 4] = ["log-closes", "rename", "renamed", "log-closed"];

/// A transition, ready to begin.
pub(super) struct Stage {
    pub(super) server: Server,
    /// What begins it.
    pub(super) command: String,
    /// What a start may bring back while it is under way.
    pub(super) before: Vec<&'static str>,
    /// What it leads to.
    pub(super) after: &'static str,
    /// The points that it passes.
    pub(super) points: Vec<&'static str>,
    /// Whether the log is as the transition leaves it.
    has_settled: fn(&Server) -> bool,
    /// What the server is started with afterwards.
    pub(super) again: ServerBuilder,
}

fn builder(version: Version) -> ServerBuilder {
    let mut builder = ServerBuilder::with_module(version).set_words("save", &["3600", "100000"]).in_memory();
    for text in [
        "takes the place of the data",
        "Error condition on socket for SYNC",
        "superseded",
        "the log is not brought back",
        "SYNC",
        "no new base",
        "Failed to read response",
    ] {
        builder = builder.allow_warning(text);
    }
    builder
}

/// Without the module, which is to be loaded at run time.
fn without_module(builder: ServerBuilder) -> ServerBuilder {
    let builder = builder.without_module();
    builder.set("enable-module-command", "yes")
}

/// Replaces the dataset by one of this label.
fn fill(client: &mut RawConnection, label: &str) {
    client.run("FLUSHALL");
    labels::fill(client, label);
}

/// A server with a dataset of this label.
fn started(builder: ServerBuilder, label: &str) -> Server {
    let server = builder.start();
    fill(&mut server.raw(), label);
    server
}

/// A server that was stopped, and whose log has this label.
fn stopped(version: Version, label: &str) -> Server {
    let mut server = started(builder(version), label);
    server.stop();
    server
}

pub(super) fn first_start(version: Version) -> Stage {
    let mut server = started(without_module(builder(version)), "own");
    server.raw().run("SAVE");
    server.stop();
    server.reconfigure(|_| builder(version));
    stage(server, "", &["own"], "own", &OF_THE_SERVER)
}

pub(super) fn first_start_on_aof(version: Version) -> Stage {
    let with_aof = builder(version).set("appendonly", "yes");
    let mut server = started(without_module(with_aof.clone()), "own");
    server.stop();
    server.reconfigure(|_| with_aof.clone());
    Stage { again: with_aof, ..stage(server, "", &["own"], "own", &OF_THE_SERVER) }
}

/// A file of the server's own that is older than any log which is left from here on.
pub(super) fn older_file(version: Version) -> Vec<u8> {
    let server = started(without_module(builder(version)), "own");
    let mut client = server.raw();
    client.run("SAVE");
    wait_some_seconds(&mut client);
    fs::read(server.folder().join("dump.rdb")).unwrap()
}

/// Of the log and a file that was put beside it nobody knows which is newer: the setting decides.
pub(super) fn first_start_replacing(version: Version, file: &[u8]) -> Stage {
    let mut server = stopped(version, "foreign");
    fs::write(server.folder().join("dump.rdb"), file).unwrap();
    let replacing = builder(version).set("wbl.on-existing-log", "replace");
    server.reconfigure(|_| replacing.clone());
    Stage { again: replacing, ..stage(server, "", &["own"], "own", &OF_THE_SERVER) }
}

pub(super) fn module_load(version: Version, replaces_log: bool) -> Stage {
    let mut server = stopped(version, "foreign");
    if !replaces_log {
        fs::remove_dir_all(server.log_folder()).unwrap();
    }
    server.reconfigure(|_| without_module(builder(version)));
    server.start();
    fill(&mut server.raw(), "own");
    server.raw().run("SAVE");
    let (replace, points) = if replaces_log {
        // The first manifest marks the other log as given up; until then that one counts.
        let points = ["renamed", "log-begun", "base-fork", "base-written", "base-installed"];
        (" CONFIG wbl.on-existing-log replace", points.to_vec())
    } else {
        ("", OF_THE_SERVER.to_vec())
    };
    let module = paths::module().display();
    stage(server, &format!("MODULE LOADEX {module}{replace} CONFIG wbl.debug-commands yes"), &["own"], "own", &points)
}

pub(super) fn enable(version: Version) -> Stage {
    let server = started(builder(version), "old");
    let mut client = server.raw();
    client.run("CONFIG SET wbl.enabled no");
    fill(&mut client, "new");
    stage(server, "CONFIG SET wbl.enabled yes", &["old"], "new", &OF_THE_SERVER)
}

/// A server that was started without the log, and whose other data are to replace that.
pub(super) fn replacement(version: Version, is_saved: bool) -> Stage {
    let mut server = stopped(version, "foreign");
    server.reconfigure(|_| builder(version).set("wbl.enabled", "no"));
    server.start();
    let mut client = server.raw();
    labels::fill(&mut client, "own");
    if is_saved {
        client.run("SAVE");
    }
    client.run("CONFIG SET wbl.on-existing-log replace");
    let before = if is_saved { "own" } else { "foreign" };
    stage(server, "CONFIG SET wbl.enabled yes", &[before], "own", &OF_THE_SERVER)
}

pub(super) fn disable(version: Version) -> Stage {
    let has_settled = |server: &Server| server.wbl_info("wbl_state") == "disabled";
    let server = started(builder(version), "old");
    Stage { has_settled, ..stage(server, "CONFIG SET wbl.enabled no", &["old"], "old", &OF_A_CLOSE) }
}

/// A server whose log rests while it is a replica, and does not just continue.
fn with_resting_log(version: Version) -> ServerBuilder {
    builder(version).set("wbl.replica-log", "no")
}

pub(super) fn demotion(version: Version) -> Stage {
    let has_settled = |server: &Server| server.wbl_info("wbl_replica_log") == "none";
    let server = started(with_resting_log(version), "old");
    Stage { has_settled, ..stage(server, NOWHERE, &["old"], "old", &OF_A_CLOSE) }
}

pub(super) fn demotion_and_back(version: Version) -> Stage {
    let server = started(with_resting_log(version), "old");
    server.raw().run(NOWHERE);
    stage(server, "REPLICAOF NO ONE", &["old"], "old", &OF_THE_SERVER)
}

pub(super) fn reload(version: Version) -> Stage {
    let points = ["log-closes", "log-begun", "rename", "renamed", "base-installed"];
    stage(started(builder(version), "old"), "DEBUG RELOAD", &["old"], "old", &points)
}

pub(super) fn checkpoint(version: Version) -> Stage {
    stage(started(builder(version), "old"), "WBL.CHECKPOINT", &["old"], "old", &OF_THE_SERVER[1..])
}

/// A primary, and what makes others its replicas.
pub(super) fn primary(version: Version) -> (Server, String) {
    let [port] = free_ports::<1>();
    let builder = without_module(builder(version)).set("port", &port.to_string());
    let server = started(builder.set("repl-diskless-sync-delay", "0"), "primary");
    (server, format!("REPLICAOF 127.0.0.1 {port}"))
}

pub(super) fn full_sync(version: Version, command: &str) -> Stage {
    // What becomes of a log that rests.
    let has_settled = |server: &Server| server.log().contains("the folder's log is superseded");
    let points = ["log-closes", "supersedes", "superseded"];
    let server = started(with_resting_log(version), "old");
    Stage { has_settled, ..stage(server, command, &["old", "primary"], "primary", &points) }
}

pub(super) fn full_sync_with_log(version: Version, command: &str) -> Stage {
    let has_settled = |server: &Server| server.wbl_info("wbl_replica_log") == "written";
    let mut points = OF_THE_SERVER.to_vec();
    points.extend(["log-closes", "remove"]);
    let server = started(builder(version), "old");
    Stage { has_settled, ..stage(server, command, &["old", "primary"], "primary", &points) }
}

pub(super) fn promotion_with_log(version: Version, command: &str) -> Stage {
    // The log continues: nothing in the folder changes, so no point is passed.
    promotion_of(full_sync_with_log(version, command), &[])
}

pub(super) fn promotion(version: Version, command: &str) -> Stage {
    promotion_of(full_sync(version, command), &OF_THE_SERVER)
}

/// Of the server of a full sync, once that is over.
fn promotion_of(sync: Stage, points: &[&'static str]) -> Stage {
    sync.server.raw().run(&sync.command);
    sync.settle();
    stage(sync.server, "REPLICAOF NO ONE", &["primary"], "primary", points)
}

/// One that ends with an active log.
fn stage(
    server: Server,
    command: &str,
    before: &[&'static str],
    after: &'static str,
    points: &[&'static str],
) -> Stage {
    let (command, before, points) = (command.to_string(), before.to_vec(), points.to_vec());
    let again = builder(server.version());
    Stage { server, command, before, after, points, has_settled: is_active, again }
}

pub(super) fn is_active(server: &Server) -> bool {
    server.wbl_info("wbl_state") == "active"
}

impl Stage {
    /// Whether a child writes a base.
    pub(super) fn has_child(&self) -> bool {
        self.points.contains(&"base-fork")
    }

    /// Waits until the transition is over.
    pub(super) fn settle(&self) {
        let mut client = self.server.raw();
        let mut is_over = || label(&mut client) == self.after && (self.has_settled)(&self.server);
        wait_until("the transition is over", PATIENCE, &mut is_over);
        if is_active(&self.server) {
            client.run("WBL.WAIT");
        }
    }
}
