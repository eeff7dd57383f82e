//! How a log begins, is replaced and ends, with the process stopped or killed at named points of the module's code.

use crate::harness::points::VARIABLE;
use crate::harness::process::send_signal;
use crate::harness::server::info_field;
use crate::harness::temp::TempDir;
use crate::harness::{
    PATIENCE, Scene, Server, ServerBuilder, Value, Version, dataset, each_version, paths, samples, wait_until,
};
use std::fs;
use std::time::Duration;

/// Nothing listens there.
pub const NOWHERE: &str = "REPLICAOF 127.0.0.1 1";

each_version! {
    fn held_syncs_hold_writes_back_and_not_clean_reads(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["SET clean v"]);
        scene.control.run("WBL.DEBUG SYNC HOLD");
        let mut writer = scene.held("SET dirty v");
        assert_eq!(scene.answer("GET clean").text(), "v");
        scene.control.run("WBL.DEBUG SYNC RELEASE");
        assert_eq!(writer.reply(), Value::Simple("OK".into()));
        // What the main thread waits for ends with a file.
        let folder = TempDir::new();
        let file = folder.path().join("exists");
        fs::write(&file, "").unwrap();
        scene.control.run(&format!("WBL.DEBUG SYNC HOLD {}", file.display()));
        let mut transaction = scene.server.raw();
        ["MULTI", "INCR n"].iter().for_each(|command| drop(transaction.run(command)));
        transaction.send_text("EXEC");
        let mut transaction = transaction.with_patience(Duration::from_millis(300));
        assert!(transaction.try_reply().is_err(), "EXEC was answered while its sync was held");
        fs::remove_file(&file).unwrap();
        let mut transaction = transaction.with_patience(PATIENCE);
        assert_eq!(transaction.reply(), Value::Array(vec![Value::Integer(1)]));
        assert!(scene.control.call(&["WBL.DEBUG", "SYNC"]).is_error());
        scene.end();
    }

    fn a_named_point_stops_or_kills_the_process(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        server.raw().run("SET k v");
        assert!(server.raw().call(&["WBL.DEBUG", "POINT", "nowhere", "STOP"]).is_error());
        server.point("base-fork", "STOP");
        let mut client = server.raw();
        client.send_text("WBL.CHECKPOINT");
        server.wait_stopped();
        server.go_on();
        assert_eq!(client.reply(), Value::Simple("OK".into()));
        server.point("base-fork", "STOP");
        server.point("base-fork", "CLEAR");
        assert_eq!(client.run("WBL.CHECKPOINT"), Value::Simple("OK".into()));
        server.point("base-fork", "KILL");
        client.send_text("WBL.CHECKPOINT");
        server.wait_exit();
        server.reconfigure(|builder| builder.variable(VARIABLE, "recovered:kill"));
        server.launch();
        server.wait_exit();
        server.reconfigure(ServerBuilder::no_variables);
        server.start();
        assert_eq!(server.raw().run("GET k").text(), "v");
    }

    fn a_file_being_saved_when_the_log_is_left_is_not_newer(version: Version) {
        let mut server = module(version).start();
        let mut client = server.raw();
        client.run("SET before v");
        client.run("CONFIG SET rdb-key-save-delay 300000");
        client.run("BGSAVE");
        let child = server.wait_child();
        send_signal(child, "STOP");
        client.run("SET acknowledged v");
        client.run("CONFIG SET wbl.enabled no");
        send_signal(child, "CONT");
        wait_until("the snapshot is saved", PATIENCE, || {
            info_field(&mut client, "persistence", "rdb_bgsave_in_progress").as_deref() == Some("0")
        });
        server.point("base-child", "STOP");
        client.run("CONFIG SET wbl.enabled yes");
        server.wait_child_stopped();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET acknowledged").text(), "v");
    }

    fn enabling_does_not_replace_a_log_that_was_not_brought_back(version: Version) {
        let mut server = ServerBuilder::with_module(version).allow_warning("Restoring previous settings").start();
        let mut client = server.raw();
        for number in 0..100 {
            client.run(&format!("SET key:{number} v"));
        }
        let expected = dataset::read(&mut client);
        server.stop();
        server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
        server.start();
        let mut client = server.raw();
        for filled in [false, true] {
            if filled {
                client.run("SET other v");
            }
            let refused = format!("{:?}", client.call(&["CONFIG", "SET", "wbl.enabled", "yes"]));
            assert!(refused.contains("wbl.on-existing-log"), "{filled}: {refused}");
            assert_eq!(client.run("CONFIG GET wbl.enabled").items()[1].text(), "no");
            assert_eq!(server.wbl_info("wbl_state"), "disabled");
        }
        server.stop();
        server.reconfigure(|builder| builder.set("wbl.enabled", "yes"));
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "the log was left alone");
        // Who says so gets it.
        server.stop();
        server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
        server.start();
        let mut client = server.raw();
        ["CONFIG SET wbl.on-existing-log replace", "SET other v", "CONFIG SET wbl.enabled yes", "WBL.WAIT"]
            .iter()
            .for_each(|command| drop(client.run(command)));
        server.kill9();
        server.reconfigure(|builder| builder.set("wbl.enabled", "yes"));
        server.start();
        assert_eq!(server.raw().run("KEYS *"), Value::Array(vec![Value::Bulk("other".into())]));
    }

    fn enabling_is_refused_without_reading_the_log(version: Version) {
        let mut server = ServerBuilder::with_module(version).allow_warning("Restoring previous settings").start();
        let mut client = server.raw();
        for number in 0..100 {
            client.run(&format!("SET key:{number} v"));
        }
        server.stop();
        // Whoever reads it finds that out.
        let segment = server.log_folder().join("appendonly.aof.1.incr.aof");
        let mut bytes = fs::read(&segment).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&segment, bytes).unwrap();
        server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
        server.start();
        let refused = format!("{:?}", server.raw().call(&["CONFIG", "SET", "wbl.enabled", "yes"]));
        assert!(refused.contains("wbl.on-existing-log"), "{refused}");
    }

    fn a_transaction_that_ends_the_log_is_in_it(version: Version) {
        let writes = ["RPUSH l 4", "XADD x 2-1 f v", "XACK x g 1-1", "SPOP s", "SET e v EX 1000", "INCRBYFLOAT f 1.5"];
        let disable = "CONFIG SET wbl.enabled no";
        let script = "EVAL return(redis.call('APPEND',KEYS[1],'v')) 1 script";
        for ends in [&[NOWHERE][..], &[disable], &[NOWHERE, disable], &[script, NOWHERE], &[disable, disable]] {
            let mut server = module(version).start();
            let mut client = server.raw();
            samples::fill(&mut client, version);
            for command in ["RPUSH l 1 2 3", "SADD s 1 2 3", "XADD x 1-1 f v", "XGROUP CREATE x g 0"] {
                client.run(command);
            }
            client.run("XREADGROUP GROUP g c COUNT 1 STREAMS x >");
            client.run("MULTI");
            let commands = writes.iter().chain(ends).chain(&["SET after v", "RPUSH l 5"]);
            commands.for_each(|command| drop(client.run(command)));
            let replies = client.run("EXEC");
            assert!(replies.items().iter().all(|reply| !reply.is_error()), "{replies:?}");
            let state = server.wbl_info("wbl_state");
            assert_eq!(state, if ends.contains(&disable) { "disabled" } else { "replica" }, "{ends:?}");
            dataset::assert_survives(&mut server, &format!("{ends:?}"));
        }
    }

    fn a_transaction_may_take_the_end_of_the_log_back(version: Version) {
        let both = [[NOWHERE, "REPLICAOF NO ONE"], ["CONFIG SET wbl.enabled no", "CONFIG SET wbl.enabled yes"]];
        for [end, begin] in both {
            let mut server = module(version).start();
            let mut client = server.raw();
            for command in ["MULTI", "RPUSH l 1", end, "RPUSH l 2", begin, "RPUSH l 3", "SPOP l", "EXEC", "RPUSH l 4"] {
                client.call(&command.split(' ').collect::<Vec<_>>());
            }
            client.run("WBL.WAIT");
            assert_eq!(server.wbl_info("wbl_state"), "active");
            dataset::assert_survives(&mut server, end);
        }
    }

    fn a_promotion_without_a_usable_folder_serves_reads_and_refuses_writes(version: Version) {
        let builder = module(version).allow_warning("the log can't begin").allow_warning("Restoring previous settings");
        // A log that goes on needs no folder that can be used.
        let mut server = builder.set("wbl.replica-log", "no").start();
        let mut client = server.raw();
        client.run("SET k v");
        client.run(NOWHERE);
        // The names that the next log's files would get are taken.
        take_segment_names(&server);
        client.run("REPLICAOF NO ONE");
        let status = client.run("WBL.STATUS");
        assert!(format!("{status:?}").contains("\"failing\""), "{status:?}");
        assert!(server.wbl_info("wbl_failure").contains("incr.aof"), "{}", server.wbl_info("wbl_failure"));
        assert_eq!(client.run("GET k").text(), "v");
        for command in ["SET k w", "DEL k", "FLUSHALL", "RPUSH list a", "FUNCTION FLUSH", "WBL.WAIT", "WBL.CHECKPOINT"] {
            let refused = format!("{:?}", client.call(&crate::harness::scene::split(command)));
            assert!(refused.starts_with("-MISCONF"), "{command}: {refused}");
        }
        let script = r#"EVAL "return redis.call('SET', KEYS[1], 'w')" 1 k"#;
        let refused = format!("{:?}", client.call(&crate::harness::scene::split(script)));
        assert!(refused.contains("MISCONF"), "{refused}");
        client.run("MULTI");
        client.run("SET k w");
        client.run("GET k");
        let executed = format!("{:?}", client.run("EXEC"));
        assert!(executed.contains("MISCONF") && executed.contains("\"v\""), "{executed}");
        // A folder that is none is no better.
        let away = server.folder().join("away");
        fs::rename(server.log_folder(), &away).unwrap();
        fs::write(server.log_folder(), "").unwrap();
        client.run("CONFIG SET wbl.enabled no");
        assert!(client.call(&["CONFIG", "SET", "wbl.enabled", "yes"]).is_error(), "nothing was mended");
        assert_eq!(server.wbl_info("wbl_state"), "disabled");
        // Mended.
        fs::remove_file(server.log_folder()).unwrap();
        fs::rename(&away, server.log_folder()).unwrap();
        client.run("CONFIG SET wbl.enabled yes");
        client.run("SET k new");
        client.run("WBL.WAIT");
        dataset::assert_survives(&mut server, "after kill -9");
    }

    fn a_transaction_from_before_writes_cannot_be_kept_is_refused(version: Version) {
        let server = module(version).set("wbl.replica-log", "no").allow_warning("the log can't begin").start();
        let (mut client, mut writer) = (server.raw(), server.raw());
        client.run("SET k v");
        client.run("CONFIG SET replica-read-only no");
        client.run(NOWHERE);
        ["MULTI", "SET k w", "RPUSH list a"].iter().for_each(|command| drop(writer.run(command)));
        take_segment_names(&server);
        client.run("REPLICAOF NO ONE");
        assert_eq!(server.wbl_info("wbl_state"), "failing");
        let refused = format!("{:?}", writer.call(&["EXEC"]));
        assert!(refused.starts_with("-EXECABORT"), "{refused}");
        assert_eq!(client.run("GET k").text(), "v");
        assert_eq!(client.run("EXISTS list").integer(), 0);
        // What is queued now is refused by itself.
        ["MULTI", "SET k w", "GET k"].iter().for_each(|command| drop(writer.run(command)));
        let executed = format!("{:?}", writer.run("EXEC"));
        assert!(executed.contains("MISCONF") && executed.contains("\"v\""), "{executed}");
    }

    fn a_shutdown_that_is_refused_leaves_the_log_working_and_nobody_waiting(version: Version) {
        let builder = ServerBuilder::with_module(version).set_words("save", &["3600", "1"]);
        let builder = builder.allow_warning("no new base").allow_warning("rror").allow_warning("module fork child");
        let builder = builder.allow_warning("Failed opening").allow_warning("unmatched pid");
        let mut server = builder.start();
        let mut client = server.raw();
        client.run("SET k v");
        fs::create_dir(server.folder().join("dump.rdb")).unwrap();
        server.point("base-child", "STOP");
        let mut asker = server.raw();
        asker.send_text("WBL.CHECKPOINT");
        let child = server.wait_child_stopped();
        assert!(client.call(&["SHUTDOWN", "SAVE"]).is_error(), "the server cannot save");
        let reply = format!("{:?}", asker.reply());
        assert!(reply.starts_with("-ERR no checkpoint: "), "{reply}");
        client.run("SET after refusal");
        client.run("WBL.WAIT");
        assert_eq!(server.wbl_info("wbl_state"), "active");
        send_signal(child, "KILL");
        client.run("WBL.CHECKPOINT");
        let expected = dataset::read(&mut client);
        fs::remove_dir(server.folder().join("dump.rdb")).unwrap();
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after kill -9");
    }

    fn a_module_load_that_is_refused_leaves_the_server_as_it_was(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        for number in 0..50 {
            client.run(&format!("SET key:{number} v"));
        }
        client.run("INCRBYFLOAT float 1.5");
        client.run("GETDEL float");
        client.run("HSET hash f v");
        let expected = dataset::read(&mut client);
        server.stop();
        let stock = |version| {
            let builder = ServerBuilder::stock(version).set("enable-module-command", "yes");
            builder.allow_warning("the module is not loaded").allow_warning("initialization failed")
        };
        // The log cannot go on, as the name of its next manifest is taken; then a command of it is unknown.
        let taken = server.log_folder().join("temp-manifest");
        for late in [false, true] {
            if late {
                server.reconfigure(|_| stock(version).set_words("rename-command", &["HSET", ""]));
            } else {
                server.reconfigure(|_| stock(version));
                fs::create_dir(&taken).unwrap();
            }
            server.start();
            let mut client = server.raw();
            let module = paths::module().display().to_string();
            let mut transaction = server.raw();
            ["MULTI", "SET queued v", "DEL queued"].iter().for_each(|command| drop(transaction.run(command)));
            assert!(client.call(&["MODULE", "LOAD", &module, "wbl.max-pending-bytes", "x"]).is_error());
            assert_eq!(transaction.run("EXEC").items().len(), 2, "a transaction outlives it");
            assert!(client.call(&["MODULE", "LOAD", &module]).is_error(), "late: {late}");
            assert_eq!(client.run("DBSIZE").integer(), 0, "late: {late}");
            client.run("SET of-the-server v");
            assert!(client.call(&["WBL.STATUS"]).is_error(), "late: {late}");
            assert_eq!(client.run("MODULE LIST").items().len(), stock_modules(version));
            if !late {
                fs::remove_dir(&taken).unwrap();
                let digest = client.run("DEBUG DIGEST").text().to_string();
                assert!(client.call(&["MODULE", "LOAD", &module]).is_error(), "the folder holds another dataset");
                assert_eq!(client.run("DEBUG DIGEST").text(), digest, "a dataset of the server's own stays");
                client.run("DEL of-the-server");
                client.run(&format!("MODULE LOAD {module}"));
                dataset::assert_same(&dataset::read(&mut client), &expected, "loaded after all");
            }
            server.stop();
        }
        server.reconfigure(|_| ServerBuilder::with_module(version).allow_warning("ot loaded"));
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "the log was left alone");
    }

    fn a_replaced_dataset_is_in_the_log_before_any_reply_leaves(version: Version) {
        let mut scene = Scene::of(module(version));
        scene.prepare(&["SET k v"]);
        let generation = scene.gauge("wbl_log_generation");
        let mut client = scene.server.raw();
        client.send_bytes(b"SET a 1\r\nDEBUG RELOAD\r\nSET b 2\r\nEXISTS a b k\r\n").unwrap();
        for expected in ["+OK", "+OK", "+OK", ":3"] {
            assert_eq!(format!("{:?}", client.reply()), expected);
        }
        assert_eq!(scene.gauge("wbl_log_generation"), generation + 1);
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("EXISTS a b k").integer(), 3);
        // Killed before the base is in place: all that was acknowledged.
        for point in ["log-begun", "rename", "renamed", "base-installed"] {
            server.raw().run("SET c 3");
            server.point(point, "KILL");
            server.raw().send_text("DEBUG RELOAD");
            server.wait_exit();
            server.start();
            assert_eq!(server.raw().run("EXISTS a b c k").integer(), 4, "{point}");
            server.raw().run("DEL c");
        }
    }
}

/// A server with the module that may meet what its first start on data brings about.
pub fn module(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).allow_warning("takes the place of the data");
    builder.allow_warning("Error condition on socket for SYNC")
}

/// Modules that the server brings along.
fn stock_modules(version: Version) -> usize {
    let server = ServerBuilder::stock(version).in_memory().start();
    server.raw().run("MODULE LIST").items().len()
}

/// Takes the names that the next log's files would get.
pub fn take_segment_names(server: &Server) {
    let names = (1..40).map(|number| server.log_folder().join(format!("appendonly.aof.{number}.incr.aof")));
    names.filter(|path| !path.exists()).for_each(|path| fs::write(path, "").unwrap());
}

pub fn segment_count(server: &Server) -> usize {
    let entries = fs::read_dir(server.log_folder()).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".incr.aof")).count()
}

pub fn server_child_stopped(server: &Server) -> u32 {
    crate::harness::points::wait_child_stopped(server.process_id())
}
