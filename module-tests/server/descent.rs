//! What a server knows of where its dataset comes from outlives whatever becomes of the log's folder: it gives no log
//! up that somebody else has acknowledged, and goes on with its own.

use crate::harness::ports::free_ports;
use crate::harness::server::info_field;
use crate::harness::strace::{Injection, Strace};
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Version, each_version, paths, wait_until};
use crate::newest::manifest;
use std::fs;

/// No server listens there.
const NOWHERE: &str = "REPLICAOF 127.0.0.1 1";

fn module(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).allow_warning("Error condition on socket for SYNC");
    // What is asked here is asked of a log that rests while the server is a replica.
    let builder = builder.set("wbl.replica-log", "no");
    let builder = builder.allow_warning("the log can't begin").allow_warning("takes the place of the data");
    builder.allow_warning("Restoring previous settings")
}

each_version! {
    fn a_log_whose_threads_could_not_start_begins_when_that_is_mended(version: Version) {
        for mends in [&["CONFIG SET wbl.enabled no", "CONFIG SET wbl.enabled yes"], &[NOWHERE, "REPLICAOF NO ONE"]] {
            let mut server = module(version).start();
            let mut client = server.raw();
            client.run("SET before v");
            client.run(NOWHERE);
            {
                let _strace = Strace::attach(server.process_id(), Injection::NoFork);
                client.run("REPLICAOF NO ONE");
            }
            assert_eq!(server.wbl_info("wbl_state"), "failing");
            assert!(client.call(&["SET", "refused", "v"]).is_error());
            mends.iter().for_each(|command| drop(client.run(command)));
            client.run("WBL.WAIT");
            assert_eq!(server.wbl_info("wbl_state"), "active", "{mends:?}");
            client.run("SET after v");
            drop(client);
            server.kill9_and_restart();
            assert_eq!(server.raw().run("EXISTS before after").integer(), 2, "{mends:?}");
        }
    }

    fn a_log_that_gives_way_to_one_whose_threads_could_not_start_counts_as_before(version: Version) {
        let mut server = module(version).start();
        server.raw().run("SET others v");
        server.stop();
        server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
        server.start();
        let mut client = server.raw();
        client.run("SET own v");
        client.run("SAVE");
        let before = manifest(&server);
        let replace = &["CONFIG", "SET", "wbl.enabled", "yes", "wbl.on-existing-log", "replace"];
        {
            let _strace = Strace::attach(server.process_id(), Injection::NoFork);
            assert!(client.call(replace).is_error());
        }
        assert_eq!(manifest(&server).lines().next(), before.lines().next());
        assert!(!client.call(replace).is_error());
        client.run("WBL.WAIT");
        drop(client);
        server.kill9();
        server.reconfigure(|builder| builder.set("wbl.enabled", "yes"));
        server.start();
        assert_eq!(server.raw().run("EXISTS own others").integer(), 1);
    }

    fn a_replica_that_was_emptied_for_a_sync_that_failed_begins_no_log(version: Version) {
        let [port] = free_ports::<1>();
        let primary = ServerBuilder::stock(version).set("port", &port.to_string()).set("repl-diskless-sync-delay", "0");
        let mut primary = primary.in_memory().start();
        primary.raw().run("DEBUG POPULATE 20000");
        let builder = module(version).set("repl-diskless-load", "flush-before-load").set("key-load-delay", "1000");
        let builder = builder.set("loading-process-events-interval-bytes", "1024");
        let mut server = builder.only_own_warnings().in_memory().start();
        let mut client = server.raw();
        client.run("SET acknowledged v");
        client.run(&format!("REPLICAOF 127.0.0.1 {port}"));
        let loading = |is: &str| info_field(&mut server.raw(), "persistence", "loading").as_deref() == Some(is);
        wait_until("the replica loads", PATIENCE, || loading("1"));
        primary.kill9();
        wait_until("the loading has failed", PATIENCE, || loading("0"));
        assert_eq!(client.run("DBSIZE").integer(), 0);
        client.run("REPLICAOF NO ONE");
        assert_eq!(server.wbl_info("wbl_state"), "failing");
        assert!(client.call(&["SET", "refused", "v"]).is_error());
        drop(client);
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET acknowledged").text(), "v");
    }

    fn a_log_that_another_server_went_on_with_is_not_replaced(version: Version) {
        let server = failing_without_folder(version);
        let mut client = server.raw();
        let away = server.folder().join("away");
        let mut other = ServerBuilder::with_module(version).set("wbl.dir", away.to_str().unwrap()).start();
        assert_eq!(other.raw().run("GET mine").text(), "v");
        other.raw().run("SET others v");
        other.stop();
        fs::remove_file(server.log_folder()).unwrap();
        fs::rename(&away, server.log_folder()).unwrap();
        let refused = format!("{:?}", client.call(&["CONFIG", "SET", "wbl.enabled", "yes"]));
        assert!(refused.contains("the log of another dataset"), "{refused}");
        // A promotion asks the same.
        client.run(NOWHERE);
        client.run("REPLICAOF NO ONE");
        assert_ne!(server.wbl_info("wbl_state"), "active");
        let folder = server.log_folder();
        drop(client);
        let mut server = server;
        server.stop();
        other.reconfigure(|builder| builder.set("wbl.dir", folder.to_str().unwrap()));
        other.start();
        assert_eq!(other.raw().run("EXISTS mine others").integer(), 2);
    }

    fn a_folder_that_has_gone_is_made_anew(version: Version) {
        for is_moved in [false, true] {
            let mut server = module(version).start();
            let mut client = server.raw();
            client.run("SET k v");
            client.run("CONFIG SET wbl.enabled no");
            if is_moved {
                fs::rename(server.log_folder(), server.folder().join("away")).unwrap();
            } else {
                fs::remove_dir_all(server.log_folder()).unwrap();
            }
            client.run("CONFIG SET wbl.enabled yes");
            client.run("WBL.WAIT");
            client.run("SET later v");
            drop(client);
            server.kill9_and_restart();
            assert_eq!(server.raw().run("EXISTS k later").integer(), 2, "moved: {is_moved}");
        }
    }

    fn a_replica_in_sync_before_the_module_came_supersedes_an_old_log(version: Version) {
        let [port] = crate::harness::ports::free_ports::<1>();
        let primary = ServerBuilder::stock(version).set("port", &port.to_string()).set("repl-diskless-sync-delay", "0").in_memory().start();
        for by_load in [true, false] {
            let mut server = module(version).set("enable-module-command", "yes").allow_warning("is not loaded").allow_warning("Module not loaded").start();
            server.raw().run("SET old v");
            server.stop();
            let path = paths::module().to_str().unwrap();
            server.reconfigure(|builder| {
                let builder = builder.set_words("replicaof", &["127.0.0.1", &port.to_string()]);
                let off = |builder: ServerBuilder| {
                    builder.without_module().unset("wbl.replica-log")
                };
                if by_load { off(builder) } else { builder.set("wbl.enabled", "no") }
            });
            server.launch();
            let mut client = server.wait_answers();
            wait_until("the replica is in sync", PATIENCE, || is_in_sync(&mut client));
            if by_load {
                // The primary has no data, which is a dataset, too: the old log is not of it.
                assert!(client.call(&["MODULE", "LOAD", path]).is_error());
                client.run(&format!("MODULE LOADEX {path} CONFIG wbl.on-existing-log replace CONFIG wbl.replica-log no"));
            }
            wait_until("the old log is superseded", PATIENCE, || server.wbl_info("wbl_log_superseded") == "1");
            wait_until("that is noted", PATIENCE, || {
                let manifest = fs::read_to_string(server.log_folder().join("appendonly.aof.manifest")).unwrap();
                manifest.contains(" superseded")
            });
        }
        drop(primary);
    }

    fn a_superseded_log_is_brought_back_when_that_is_asked_for(version: Version) {
        let [port] = crate::harness::ports::free_ports::<1>();
        let primary = ServerBuilder::stock(version).set("port", &port.to_string()).set("repl-diskless-sync-delay", "0").in_memory().start();
        let mut server = module(version).allow_warning("superseded").start();
        let mut client = server.raw();
        client.run("SET acknowledged v");
        client.run(&format!("REPLICAOF 127.0.0.1 {port}"));
        // INFO says so while it is still being noted on the disk.
        wait_until("the log is superseded", PATIENCE, || server.log().contains("the folder's log is superseded"));
        server.kill9();
        drop(primary);
        // What the primary sent is not there any more.
        let _ = fs::remove_file(server.folder().join("dump.rdb"));
        server.launch();
        assert!(!server.wait_exit().success());
        assert!(server.log().contains("set wbl.on-existing-log to keep to bring the log back"), "{}", server.log());
        for keeps in ["keep", "refuse"] {
            server.reconfigure(|builder| builder.set("wbl.on-existing-log", keeps));
            server.start();
            assert_eq!(server.raw().run("GET acknowledged").text(), "v", "{keeps}");
            assert_eq!(server.wbl_info("wbl_log_superseded"), "0", "{keeps}");
            server.kill9();
        }
    }

    fn a_backup_saved_elsewhere_is_not_newer_than_the_log(version: Version) {
        for setting in ["dir", "dbfilename"] {
            let mut server = module(version).set("enable-protected-configs", "yes").start();
            let mut client = server.raw();
            client.run("SET acknowledged v");
            client.run("CONFIG SET wbl.enabled no");
            let own = client.run(&format!("CONFIG GET {setting}")).items()[1].text();
            let elsewhere = server.folder().join("backup");
            fs::create_dir(&elsewhere).unwrap();
            let other = if setting == "dir" { elsewhere.to_str().unwrap() } else { "backup.rdb" };
            client.run(&format!("CONFIG SET {setting} {other}"));
            client.run("SAVE");
            client.run(&format!("CONFIG SET {setting} {own}"));
            drop(client);
            server.stop_and_restart();
            assert_eq!(server.raw().run("GET acknowledged").text(), "v", "{setting}");
        }
    }

    fn an_append_only_file_without_its_first_base_is_not_newer(version: Version) {
        for at_start in [true, false] {
            let mut server = module(version).only_own_warnings().start();
            let mut client = server.raw();
            client.run("DEBUG POPULATE 1000");
            client.run("CONFIG SET wbl.enabled no");
            client.run("CONFIG SET wbl.enabled yes");
            client.run("WBL.WAIT");
            server.reconfigure(|builder| builder.set("rdb-key-save-delay", "60000000"));
            if at_start {
                server.reconfigure(|builder| builder.set("appendonly", "yes"));
                drop(client);
                server.stop_and_restart();
                client = server.raw();
            } else {
                client.run("CONFIG SET rdb-key-save-delay 60000000");
                client.run("CONFIG SET appendonly yes");
            }
            let rewrites = |client: &mut RawConnection| {
                let in_progress = info_field(client, "persistence", "aof_rewrite_in_progress");
                let is_scheduled = info_field(client, "persistence", "aof_rewrite_scheduled");
                in_progress.as_deref() == Some("1") || is_scheduled.as_deref() == Some("1")
            };
            wait_until("the rewrite runs", PATIENCE, || rewrites(&mut client));
            assert!(client.call(&["CONFIG", "SET", "wbl.enabled", "no"]).is_error(), "given up before the rewrite ended");
            client.send(&["SHUTDOWN", "NOSAVE", "NOW", "FORCE"]);
            drop(client);
            server.wait_exit();
            server.reconfigure(|builder| builder.set("appendonly", "yes").unset("rdb-key-save-delay"));
            server.start();
            assert_eq!(server.raw().run("DBSIZE").integer(), 1000, "at the start: {at_start}");
        }
    }
}

fn is_in_sync(client: &mut RawConnection) -> bool {
    info_field(client, "replication", "master_link_status").as_deref() == Some("up")
}

/// A server with a key whose promotion failed, and whose folder is not open: it stands aside, and a file has its name.
fn failing_without_folder(version: Version) -> Server {
    let server = module(version).start();
    let mut client = server.raw();
    client.run("SET mine v");
    client.run(NOWHERE);
    // The names that the next log's files would get are taken.
    let names = (1..40).map(|number| server.log_folder().join(format!("appendonly.aof.{number}.incr.aof")));
    names.filter(|path| !path.exists()).for_each(|path| fs::write(path, "").unwrap());
    client.run("REPLICAOF NO ONE");
    assert_eq!(server.wbl_info("wbl_state"), "failing");
    fs::rename(server.log_folder(), server.folder().join("away")).unwrap();
    fs::write(server.log_folder(), "").unwrap();
    client.run("CONFIG SET wbl.enabled no");
    assert!(client.call(&["CONFIG", "SET", "wbl.enabled", "yes"]).is_error(), "there is no folder");
    server
}
