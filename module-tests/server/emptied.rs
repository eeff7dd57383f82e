//! Replicas that were emptied for a dataset which did not arrive whole. They have less than their logs, whatever is
//! written there, and whoever saves that.

use crate::harness::group::Group;
use crate::harness::server::info_field;
use crate::harness::{PATIENCE, Server, ServerBuilder, Shards, Value, Version, dataset, each_version, wait_until};
use crate::lacking::SAVES;
use crate::life::module;
use crate::own_aof::aof_is_written;
use crate::replica_images::accept_replica;
use std::fs;
use std::net::TcpListener;

/// The head of an RDB file, and nothing after it.
const HEAD: &[u8] = b"REDIS0011";

const LIBRARY: &[&str] =
    &["FUNCTION", "LOAD", "#!lua name=lib\nserver.register_function('f', function() return 1 end)"];

fn writable_replica(version: Version) -> ServerBuilder {
    let builder = module(version).set("replica-read-only", "no").set("repl-diskless-load", "flush-before-load");
    builder.only_own_warnings().allow_warning("the log can't begin")
}

/// Has the server begin to take a dataset that breaks off. It still follows, and finds nobody.
fn empty(server: &Server, listener: TcpListener) {
    drop(accept_replica(&listener, HEAD, 1000));
    drop(listener);
    let mut client = server.raw();
    wait_until("it is emptied", PATIENCE, || client.call(&["DBSIZE"]) == Value::Integer(0));
}

fn follow(server: &Server) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    server.raw().run(&format!("REPLICAOF 127.0.0.1 {}", listener.local_addr().unwrap().port()));
    listener
}

/// Has clients write to it.
fn write(server: &Server) {
    let mut client = server.raw();
    client.run("SET own 1");
    client.call(&["EVAL", "return server.call('SET', 'by-script', '1')", "0"]);
    client.call(LIBRARY);
}

fn promote(server: &mut Server) {
    let mut client = server.raw();
    client.run("REPLICAOF NO ONE");
    if client.run("CONFIG GET appendonly").items()[1].text() == "yes" {
        wait_until("the file is written", PATIENCE, || aof_is_written(&mut client));
    }
}

each_version! {
    fn what_is_saved_after_it_is_no_newer_than_the_log(version: Version) {
        let promotions = [("REPLICAOF NO ONE", promote as fn(&mut Server))];
        for (own_log, aof) in [("yes", "no"), ("no", "no"), ("yes", "yes")] {
            for (what, save) in SAVES.into_iter().chain(promotions) {
                let builder = writable_replica(version).set("wbl.replica-log", own_log).set("appendonly", aof);
                let mut server = builder.start();
                let mut client = server.raw();
                (1..=50).for_each(|length| assert_eq!(client.run("RPUSH l e").integer(), length));
                drop(client);
                let listener = follow(&server);
                empty(&server, listener);
                write(&server);
                save(&mut server);
                if server.is_running() {
                    server.kill9();
                }
                server.start();
                let length = server.raw().run("LLEN l").integer();
                assert_eq!(length, 50, "{what}, wbl.replica-log {own_log}, appendonly {aof}: {}", server.log());
            }
        }
    }

    fn functions_go_with_a_dataset_that_no_flushall_has_emptied(version: Version) {
        let count = |server: &Server| server.raw().run("FUNCTION LIST").items().len();
        // There is no such file.
        let empties = [("DEBUG LOADAOF", true), ("FLUSHALL", false)];
        for ((empties, takes_functions), again) in empties.into_iter().flat_map(|how| [(how, false), (how, true)]) {
            let mut server = module(version).set("enable-debug-command", "yes").only_own_warnings().start();
            let mut client = server.raw();
            client.call(LIBRARY);
            client.run("SET k v");
            client.call(&empties.split(" ").collect::<Vec<_>>());
            assert_eq!(count(&server), usize::from(!takes_functions), "{empties}");
            if again {
                assert_eq!(client.call(LIBRARY).is_error(), !takes_functions, "{empties}");
            }
            client.run("SET after v");
            server.kill9();
            server.start();
            assert_eq!(count(&server), usize::from(again || !takes_functions), "{empties}, loaded again: {again}");
            assert_eq!(server.raw().run("DBSIZE").integer(), 1, "{empties}");
        }
    }

    fn a_cluster_replica_that_is_reset_has_no_functions_after_a_crash(version: Version) {
        let mut shards = Shards::start(&module(version).only_own_warnings(), 1);
        shards.attach_replicas();
        assert!(!shards.nodes[0].raw().call(LIBRARY).is_error());
        shards.assert_replicas_equal("with a library");
        let replica = &mut shards.nodes[1];
        let mut client = replica.raw();
        wait_until("its log is there", PATIENCE, || {
            info_field(&mut client, "wbl", "wbl_replica_log").as_deref() == Some("written")
        });
        assert!(!client.run("CLUSTER RESET").is_error());
        wait_until("its log goes on", PATIENCE, || {
            info_field(&mut client, "wbl", "wbl_state").as_deref() == Some("active")
        });
        assert_eq!(client.run("FUNCTION LIST").items().len(), 0);
        assert!(!client.call(LIBRARY).is_error());
        replica.kill9();
        replica.start();
        assert_eq!(replica.raw().run("FUNCTION LIST").items().len(), 1);
    }

    fn one_database_that_is_emptied_during_a_sync_is_not_the_dataset(version: Version) {
        let group = Group::start(version, 1, &[("replica-read-only", "no"), ("repl-diskless-sync", "yes")]);
        let mut primary = group.primary().raw();
        (0..20).for_each(|number| drop(primary.run(&format!("SET k{number} v"))));
        group.wait_all(1);
        // A child takes a minute for each key.
        ["CONFIG SET rdb-key-save-delay 60000000", "DEBUG CHANGE-REPL-ID"]
            .iter()
            .for_each(|command| drop(primary.run(command)));
        let Group { mut nodes, .. } = group;
        let (mut replica, _primary) = (nodes.remove(1), nodes);
        replica.reconfigure(|own| own.only_own_warnings().unset("replicaof"));
        let mut client = replica.raw();
        client.run("CLIENT KILL TYPE primary");
        wait_until("the sync has begun", PATIENCE, || {
            info_field(&mut client, "replication", "master_sync_in_progress").as_deref() == Some("1")
        });
        ["SELECT 5", "FLUSHDB", "SELECT 0", "REPLICAOF NO ONE"].iter().for_each(|command| drop(client.run(command)));
        wait_until("the log is active", PATIENCE, || replica.wbl_info("wbl_state") == "active");
        assert_eq!(client.run("DBSIZE").integer(), 20);
        client.run("SET later v");
        dataset::assert_survives(&mut replica, "after the promotion");
    }

    fn functions_are_a_dataset_too(version: Version) {
        let mut server = writable_replica(version).start();
        let source = "#!lua name=acknowledged\nserver.register_function('g', function() return 1 end)";
        assert!(!server.raw().call(&["FUNCTION", "LOAD", source]).is_error());
        let listener = follow(&server);
        empty(&server, listener);
        wait_until("they have gone", PATIENCE, || server.raw().run("FUNCTION LIST").items().is_empty());
        write(&server);
        server.raw().run("SAVE");
        server.kill9_and_restart();
        assert!(!server.raw().call(&["FCALL", "g", "0"]).is_error(), "{}", server.log());
    }

    fn the_log_from_before_an_earlier_sync_does_not_give_way_either(version: Version) {
        let mut source = ServerBuilder::stock(version).start();
        source.raw().run("SET of-the-primary v");
        source.raw().run("SAVE");
        let rdb = fs::read(source.folder().join("dump.rdb")).unwrap();
        source.kill9();
        let builder = writable_replica(version).allow_warning("can't be brought back");
        // The base of what has arrived never gets ready.
        let mut server = builder.set("rdb-key-save-delay", "60000000").start();
        server.raw().run("SET before v");
        let listener = follow(&server);
        let primary = accept_replica(&listener, &rdb, rdb.len());
        wait_until("the base is being written", PATIENCE, || server.wbl_info("wbl_replica_log") == "baselining");
        drop(primary);
        empty(&server, listener);
        write(&server);
        server.raw().run("CONFIG SET rdb-key-save-delay 0");
        server.raw().run("SAVE");
        server.kill9();
        server.launch();
        assert!(!server.wait_exit().success());
        assert!(server.log().contains("nobody knows which of the two is newer"), "{}", server.log());
        server.reconfigure(|builder| builder.set("wbl.on-existing-log", "keep"));
        server.start();
        assert_eq!(server.raw().run("EXISTS before").integer(), 1);
    }
}
