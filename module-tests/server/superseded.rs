//! A log that was superseded by a primary's dataset may be all that there is: as after a planned failover whose nodes
//! both die before the new primary has a log, where replicas have none (`wbl.replica-log no`). Nothing but newer data
//! takes its place.

use crate::harness::ports::free_ports;
use crate::harness::server::info_field;
use crate::harness::{
    Injection, PATIENCE, Server, ServerBuilder, Shards, Strace, Version, each_version, paths, wait_until,
};
use crate::newest::manifest;

const KEYS: i64 = 1000;

/// No server listens there.
const NOWHERE: &[&str] = &["127.0.0.1", "1"];

/// What a server is told whose own file is no newer than the log.
const OLDER: &str = "the server's own data are older than the log";

each_version! {
    fn a_promoted_replica_without_data_leaves_the_log_alone(version: Version) {
        let mut server = superseded(version);
        server.reconfigure(|builder| builder.set_words("replicaof", NOWHERE));
        server.launch();
        let mut client = server.wait_answers();
        let before = manifest(&server);
        assert_eq!(client.run("DBSIZE").integer(), 0);
        client.run("REPLICAOF NO ONE");
        assert_eq!(server.wbl_info("wbl_state"), "failing");
        let refused = format!("{:?}", client.call(&["SET", "k", "v"]));
        assert!(refused.starts_with("-MISCONF") && refused.contains("set wbl.on-existing-log to keep"), "{refused}");
        assert_eq!(manifest(&server), before);
        server.kill9();
        assert_refused(&mut server, "the server has no data of its own");
        assert_comes_back(&mut server);
    }

    fn an_older_file_does_not_take_a_superseded_logs_place(version: Version) {
        let mut server = superseded_beside_dump(version);
        assert_refused(&mut server, OLDER);
        server.reconfigure(|builder| builder.set_words("replicaof", NOWHERE));
        server.launch();
        let mut client = server.wait_answers();
        assert_eq!(client.run("DBSIZE").integer(), 1);
        client.run("REPLICAOF NO ONE");
        assert_eq!(server.wbl_info("wbl_state"), "failing");
        let refused = format!("{:?}", client.call(&["SET", "k", "v"]));
        assert!(refused.starts_with("-MISCONF") && refused.contains(OLDER), "{refused}");
        // What it saves of that is no newer.
        client.send(&["SHUTDOWN", "SAVE"]);
        assert!(server.wait_exit().success(), "{}", server.log());
        assert_refused(&mut server, OLDER);
        assert_comes_back(&mut server);
    }

    fn a_module_that_comes_late_lets_no_older_file_take_the_place(version: Version) {
        let mut server = superseded_beside_dump(version);
        let with_module = server.builder.clone().set("enable-module-command", "yes");
        server.reconfigure(|_| with_module.clone().without_module().unset("wbl.replica-log").allow_warning("is not loaded"));
        server.start();
        assert_load_is_refused(&server);
        server.kill9();
        server.reconfigure(|_| with_module);
        assert_comes_back(&mut server);
    }

    fn a_module_that_comes_late_lets_no_older_aof_take_the_place(version: Version) {
        let [port, other_port] = free_ports::<2>();
        let mut server = builder(version).set("port", &port.to_string()).start();
        let mut client = server.raw();
        client.run("SET ancient v");
        client.run("CONFIG SET appendonly yes");
        wait_until("its AOF is written", PATIENCE, || {
            info_field(&mut client, "persistence", "aof_rewrite_in_progress").as_deref() == Some("0")
        });
        // Starts count what they load of that as changes.
        client.run("SET ancient v2");
        client.run("CONFIG SET appendonly no");
        (1..KEYS).for_each(|number| drop(client.run(&format!("SET k{number} v"))));
        drop(fail_over(&server, port, other_port));
        server.kill9();
        let with_module = server.builder.clone();
        server.reconfigure(|own| own.without_module().unset("wbl.replica-log").allow_warning("is not loaded"));
        server.reconfigure(|own| own.set("enable-module-command", "yes").set("appendonly", "yes"));
        server.start();
        assert_eq!(server.raw().run("DBSIZE").integer(), 1);
        assert_load_is_refused(&server);
        server.kill9();
        server.reconfigure(|_| with_module);
        assert_comes_back(&mut server);
    }

    fn a_log_that_is_to_be_replaced_comes_back_until_it_is(version: Version) {
        let builder = builder(version).set("enable-module-command", "yes").set("wbl.on-existing-log", "replace");
        let mut server = builder.start();
        fill(&server);
        let mut client = server.raw();
        // The base never gets ready.
        client.run("CONFIG SET rdb-key-save-delay 60000000");
        client.run("WBL.WAIT");
        wait_until("the module is unloaded", PATIENCE, || !client.call(&["MODULE", "UNLOAD", "wbl"]).is_error());
        let load = format!("MODULE LOADEX {} CONFIG wbl.on-existing-log replace", paths::module().display());
        client.run(&load);
        assert_eq!(server.wbl_info("wbl_state"), "baselining");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("DBSIZE").integer(), KEYS);
    }

    fn a_disabled_module_lets_no_older_file_take_the_place(version: Version) {
        let mut server = superseded_beside_dump(version);
        server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
        server.start();
        let mut client = server.raw();
        let refused = format!("{:?}", client.call(&["CONFIG", "SET", "wbl.enabled", "yes"]));
        assert!(refused.contains(OLDER), "{refused}");
        client.send(&["SHUTDOWN", "SAVE"]);
        assert!(server.wait_exit().success(), "{}", server.log());
        server.reconfigure(|builder| builder.set("wbl.enabled", "yes"));
        assert_refused(&mut server, OLDER);
        assert_comes_back(&mut server);
    }

    fn what_was_saved_since_takes_a_superseded_logs_place(version: Version) {
        let mut server = superseded_beside_dump(version);
        // Nobody has saved what the other server took: it follows nobody now, and takes a change itself.
        server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
        server.start();
        server.raw().run("SET since v");
        server.raw().run("SAVE");
        server.kill9();
        server.reconfigure(|builder| builder.set("wbl.enabled", "yes"));
        server.start();
        let kept = server.raw().run("EXISTS ancient since k1").integer();
        assert_eq!(kept, 2);
        server.kill9_and_restart();
        assert_eq!(server.raw().run("DBSIZE").integer(), 2);
    }

    fn a_new_log_without_its_base_leaves_a_superseded_log_alone(version: Version) {
        let [port, other_port] = free_ports::<2>();
        let mut server = builder(version).set("port", &port.to_string()).start();
        fill(&server);
        let other = fail_over(&server, port, other_port);
        // The base never gets ready.
        server.raw().run("CONFIG SET rdb-key-save-delay 60000000");
        wait_until("the failover is accepted", PATIENCE, || !other.raw().call(&["FAILOVER"]).is_error());
        wait_until("the new log has begun", PATIENCE, || server.wbl_info("wbl_state") == "baselining");
        server.kill9();
        drop(other);
        assert_refused(&mut server, OLDER);
        assert_comes_back(&mut server);
    }

    fn a_log_that_fails_before_its_base_does_not_bring_back_the_one_from_before_the_sync(version: Version) {
        for (is_promoted, end) in [(true, "TERM"), (true, "KILL"), (false, "TERM"), (false, "KILL")] {
            let mut server = failing_after_sync(version, is_promoted);
            if end == "KILL" {
                wait_until("the log is superseded", PATIENCE, || manifest(&server).contains(" superseded"));
            }
            server.signal(end);
            server.wait_exit();
            // What the primary sent is in the server's own file; nobody has said that it is newer.
            assert_refused(&mut server, OLDER);
            server.reconfigure(|builder| builder.set("wbl.on-existing-log", "replace"));
            server.start();
            let lengths = ["sent", "own"].map(|key| server.raw().run(&format!("LLEN {key}")).integer());
            assert_eq!(lengths, [60, 0], "promoted: {is_promoted}, {end}");
        }
    }

    fn a_cluster_has_a_superseded_log_back_from_a_restart(version: Version) {
        let builder = ServerBuilder::with_module(version).in_memory().only_own_warnings().set("wbl.replica-log", "no");
        let builder = ["superseded", "the log can't begin", "brings no log back", "takes the place of the data"]
            .into_iter()
            .fold(builder, ServerBuilder::allow_warning);
        let mut shards = Shards::start(&builder, 1);
        let mut client = shards.nodes[0].raw();
        (0..KEYS).for_each(|number| drop(client.run(&format!("SET k{number} v"))));
        shards.attach_replicas();
        shards.failover(1);
        shards.wait_replica_in_sync(0);
        wait_until("the log is superseded", PATIENCE, || manifest(&shards.nodes[0]).contains(" superseded"));
        shards.nodes.iter_mut().for_each(Server::kill9);

        let node = &mut shards.nodes[0];
        node.reconfigure(|builder| builder.set("wbl.on-existing-log", "keep"));
        node.launch();
        let mut client = node.wait_answers();
        assert!(node.log().contains("brings no log back"), "{}", node.log());
        client.run("CLUSTER FAILOVER TAKEOVER");
        wait_until("the node is a primary", PATIENCE, || {
            info_field(&mut client, "replication", "role").as_deref() == Some("master")
        });
        assert_eq!(node.wbl_info("wbl_state"), "failing");
        assert!(manifest(node).contains(" superseded"), "{}", manifest(node));
        node.kill9();
        node.start();
        assert_eq!(node.raw().run("DBSIZE").integer(), KEYS);
        assert!(node.log().contains("a second server"), "the log was not replayed");
        node.reconfigure(|builder| builder.set("wbl.on-existing-log", "refuse"));
        node.kill9_and_restart();
        assert_eq!(node.raw().run("DBSIZE").integer(), KEYS);
    }
}

/// A server with a log of so many keys, which a planned failover has superseded, and no data of its own. It has been
/// killed, and so has the one that took over.
fn superseded(version: Version) -> Server {
    let [port, other_port] = free_ports::<2>();
    let mut server = builder(version).set("port", &port.to_string()).start();
    let mut client = server.raw();
    (0..KEYS).for_each(|number| drop(client.run(&format!("SET k{number} v"))));
    drop(fail_over(&server, port, other_port));
    server.kill9();
    server
}

/// A server with a log of its own that has taken a primary's whole dataset: the disk has failed before the log of that
/// had its base. The primary has been killed.
fn failing_after_sync(version: Version, is_promoted: bool) -> Server {
    let [port] = free_ports::<1>();
    let primary = ServerBuilder::stock(version).set("port", &port.to_string()).set("repl-diskless-sync", "no");
    let mut primary = primary.in_memory().only_own_warnings().start();
    (0..60).for_each(|number| drop(primary.raw().run(&format!("RPUSH sent {number}"))));
    let builder = builder(version).set("wbl.replica-log", "yes").allow_warning("the replica's log can't");
    let server = builder.allow_warning("can't be noted").start();
    let mut client = server.raw();
    (0..30).for_each(|number| drop(client.run(&format!("RPUSH own {number}"))));
    // The base never gets ready.
    client.run("CONFIG SET rdb-key-save-delay 60000000");
    client.run(&format!("REPLICAOF 127.0.0.1 {port}"));
    wait_until("its base is being written", PATIENCE, || server.wbl_info("wbl_replica_log") == "baselining");
    if is_promoted {
        client.run("REPLICAOF NO ONE");
        assert_eq!(server.wbl_info("wbl_state"), "baselining");
    }
    let _strace = Strace::attach(server.process_id(), Injection::Fail { error: "EIO", from: 1 });
    let writer = if is_promoted { &server } else { &primary };
    writer.raw().run("SET while failing");
    wait_until("the failure is seen", PATIENCE, || match is_promoted {
        true => server.wbl_info("wbl_state") == "failing",
        false => server.wbl_info("wbl_replica_log") == "none",
    });
    assert_eq!(client.run("LLEN sent").integer(), 60);
    primary.kill9();
    server
}

/// The same with a dump of one of these keys, which is older than the others.
fn superseded_beside_dump(version: Version) -> Server {
    let [port, other_port] = free_ports::<2>();
    let mut server = builder(version).set("port", &port.to_string()).start();
    fill(&server);
    drop(fail_over(&server, port, other_port));
    server.kill9();
    server
}

/// Saves one key, and writes the others.
fn fill(server: &Server) {
    let mut client = server.raw();
    client.run("SET ancient v");
    client.run("SAVE");
    (1..KEYS).for_each(|number| drop(client.run(&format!("SET k{number} v"))));
}

/// Has a fresh replica take over from the server, which follows it then.
fn fail_over(server: &Server, port: u16, other_port: u16) -> Server {
    let other = ServerBuilder::stock(server.version()).set("port", &other_port.to_string()).in_memory();
    let other = other.only_own_warnings().set_words("replicaof", &["127.0.0.1", &port.to_string()]).start();
    let mut client = server.raw();
    wait_until("the replica is in sync", PATIENCE, || {
        info_field(&mut other.raw(), "replication", "master_link_status").as_deref() == Some("up")
    });
    wait_until("the failover is accepted", PATIENCE, || !client.call(&["FAILOVER"]).is_error());
    wait_until("the log is superseded", PATIENCE, || manifest(server).contains(" superseded"));
    assert!(server.log().contains("Successful partial resynchronization"), "the sync was a whole one");
    other
}

/// As a primary the server does not start, and the log stays as it is.
fn assert_refused(server: &mut Server, why: &str) {
    let (before, told) = (manifest(server), server.log().len());
    server.reconfigure(|builder| builder.unset("replicaof").unset("rdb-key-save-delay"));
    server.launch();
    assert!(!server.wait_exit().success());
    let log = server.log().split_off(told);
    assert!(!log.contains("the server's own data stand"), "{log}");
    let line = log.lines().rfind(|line| line.contains("the log can't be brought back")).unwrap();
    assert!(line.contains(why) && line.contains("set wbl.on-existing-log to keep"), "{line}");
    assert_eq!(manifest(server), before);
}

/// The running server does not get the module, and the log stays as it is.
fn assert_load_is_refused(server: &Server) {
    let before = manifest(server);
    assert!(server.raw().call(&["MODULE", "LOADEX", paths::module().to_str().unwrap()]).is_error());
    assert!(server.log().contains(OLDER), "{}", server.log());
    assert_eq!(manifest(server), before);
}

/// A primary has the log's keys with `keep`, and after that as with any log.
fn assert_comes_back(server: &mut Server) {
    for keeps in ["keep", "refuse"] {
        server.reconfigure(|builder| builder.unset("replicaof").set("wbl.on-existing-log", keeps));
        server.start();
        assert_eq!(server.raw().run("DBSIZE").integer(), KEYS, "{keeps}");
        server.kill9();
    }
}

fn builder(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).in_memory().only_own_warnings();
    let builder = builder.set("repl-diskless-sync-delay", "0").set("wbl.replica-log", "no");
    ["superseded", "the log can't begin", "takes the place of the data", "the log can't be brought back"]
        .into_iter()
        .fold(builder, ServerBuilder::allow_warning)
}
