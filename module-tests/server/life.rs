//! How a log begins, is replaced and ends, with the process stopped or killed at named points of the module's code.

use crate::harness::cluster::free_ports;
use crate::harness::points::VARIABLE;
use crate::harness::process::{children, send_signal};
use crate::harness::server::info_field;
use crate::harness::temp::TempDir;
use crate::harness::{
    Injection, PATIENCE, RawConnection, Scene, Server, ServerBuilder, Strace, Value, Version, dataset, each_version,
    paths, wait_for, wait_until,
};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Nothing listens there.
const NOWHERE: &str = "REPLICAOF 127.0.0.1 1";

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

    fn a_stop_before_the_first_base_leaves_the_servers_own_data(version: Version) {
        for stop in Stop::ALL {
            let mut server = with_dump(version);
            let expected = dataset::read(&mut server.raw());
            server.stop();
            server.reconfigure(|_| module(version).variable(VARIABLE, "base-child:stop"));
            server.launch();
            server.wait_child_stopped();
            let mut client = server.raw();
            assert_eq!(info_field(&mut client, "wbl", "wbl_state").as_deref(), Some("baselining"));
            client.run("INCR counter");
            stop.apply(&mut server);
            server.reconfigure(ServerBuilder::no_variables);
            server.start();
            dataset::assert_same(&dataset::read(&mut server.raw()), &expected, &format!("{stop:?}"));
            server.raw().run("SET more v");
            server.kill9_and_restart();
            assert_eq!(server.raw().run("DBSIZE").integer(), expected.len() as i64 + 1, "{stop:?}");
        }
    }

    fn a_crash_before_the_base_over_an_older_log_brings_that_back(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        ["SET x 1", "SET y 1"].iter().for_each(|command| drop(client.run(command)));
        let old = dataset::read(&mut client);
        client.run("CONFIG SET wbl.enabled no");
        ["SET x 100", "DEL y", "SET while disabled"].iter().for_each(|command| drop(client.run(command)));
        server.point("base-child", "STOP");
        client.run("CONFIG SET wbl.enabled yes");
        server.wait_child_stopped();
        ["INCR x", "APPEND y 7"].iter().for_each(|command| drop(client.run(command)));
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &old, "the whole state from before");
        let mut client = server.raw();
        ["CONFIG SET wbl.enabled no", "SET x 100", "DEL y", "CONFIG SET wbl.enabled yes", "INCR x"]
            .iter()
            .for_each(|command| drop(client.run(command)));
        client.run("WBL.WAIT");
        let new = dataset::read(&mut client);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &new, "the whole state after the base");
    }

    fn a_file_being_saved_when_the_log_is_left_is_not_newer(version: Version) {
        let mut server = module(version).start();
        let mut client = server.raw();
        client.run("SET before v");
        client.run("CONFIG SET rdb-key-save-delay 1000");
        client.run("BGSAVE");
        let child = wait_for("the snapshot's child runs", PATIENCE, || children(server.process_id()).first().copied());
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
        let mut server = ServerBuilder::with_module(version).start();
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

    fn a_promotion_without_a_usable_folder_serves_reads_and_refuses_writes(version: Version) {
        let builder = module(version).allow_warning("the log can't begin");
        let mut server = builder.start();
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
        let expected = dataset::read(&mut client);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after kill -9");
    }

    fn a_transaction_from_before_writes_cannot_be_kept_is_refused(version: Version) {
        let server = module(version).allow_warning("the log can't begin").start();
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

    fn a_child_that_has_stopped_holds_nobody_up(version: Version) {
        let warning = "the log failed before its first base";
        let start = || {
            let builder = ServerBuilder::stock(version).set("enable-module-command", "yes");
            let server = builder.variable(VARIABLE, "base-child:stop").allow_warning(warning).start();
            server.raw().run("SET k v");
            server.raw().run(&format!("MODULE LOADEX {} CONFIG wbl.debug-commands yes", paths::module().display()));
            server
        };
        // Nor a log that is given up, nor the server's own saves.
        let mut server = start();
        server.wait_child_stopped();
        {
            let _strace = Strace::attach(server.process_id(), Injection::Fail { error: "EIO", from: 1 });
            server.raw().run("SET while failing");
            wait_until("the failure is seen", PATIENCE, || server.wbl_info("wbl_state") == "disabled");
        }
        wait_until("the server can save", PATIENCE, || !server.raw().call(&["BGSAVE"]).is_error());
        // Nor an unload.
        let mut server = start();
        server.wait_child_stopped();
        server.raw().run("MODULE UNLOAD wbl");
        wait_until("the server can save", PATIENCE, || !server.raw().call(&["BGSAVE"]).is_error());
        assert_eq!(server.raw().run("GET k").text(), "v");
    }

    fn children_of_a_killed_server_do_not_keep_the_folder(version: Version) {
        let mut server = module(version).start();
        let mut client = server.raw();
        client.run("DEBUG POPULATE 1000");
        client.run("SET k v");
        client.run("CONFIG SET rdb-key-save-delay 1000000");
        client.run("BGSAVE");
        let child = wait_for("the snapshot's child runs", PATIENCE, || children(server.process_id()).first().copied());
        // Nor does a change of roles meanwhile.
        client.run(NOWHERE);
        client.run("REPLICAOF NO ONE");
        send_signal(child, "STOP");
        server.kill9();
        let start = Instant::now();
        server.start();
        assert!(start.elapsed() < Duration::from_secs(2), "the start waited: {:?}", start.elapsed());
        assert_eq!(server.raw().run("GET k").text(), "v");
        send_signal(child, "KILL");
        // The module's own child ends with the server.
        server.point("base-child", "STOP");
        server.raw().send_text("WBL.CHECKPOINT");
        let child = server.wait_child_stopped();
        server.kill9();
        wait_until("the child is gone", PATIENCE, || !crate::harness::process::runs(child));
        server.start();
        assert_eq!(server.raw().run("GET k").text(), "v");
    }

    fn a_checkpoint_on_a_disk_that_does_not_answer_stalls_nobody(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["SET k v"]);
        scene.control.run("WBL.DEBUG SYNC HOLD");
        let mut asker = scene.held("WBL.CHECKPOINT");
        wait_until("the child has written the base", PATIENCE, || {
            scene.server.log().contains("Module fork exited") || children(scene.server.process_id()).is_empty()
        });
        for _ in 0..20 {
            assert_eq!(scene.answer("GET k").text(), "v");
        }
        scene.assert_withheld(&mut asker, "WBL.CHECKPOINT");
        scene.control.run("WBL.DEBUG SYNC RELEASE");
        assert_eq!(asker.reply(), Value::Simple("OK".into()));
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET k").text(), "v");
    }

    fn a_checkpoint_that_fails_says_so_and_leaves_the_log_as_it_was(version: Version) {
        let mut server = ServerBuilder::with_module(version).allow_warning("no new base").allow_warning("Can't fork").start();
        let mut client = server.raw();
        client.run("SET k v");
        let expect_failure = |client: &mut RawConnection, what: &str| {
            let start = Instant::now();
            let reply = format!("{:?}", client.call(&["WBL.CHECKPOINT"]));
            assert!(reply.starts_with("-ERR no checkpoint: "), "{what}: {reply}");
            assert!(start.elapsed() < PATIENCE / 2, "{what}: {:?}", start.elapsed());
            client.run("INCR counter");
            client.run("WBL.WAIT");
        };
        let names = |kind: &str| {
            let folder = server.log_folder();
            let names = (1..30).map(|number| folder.join(kind.replace('N', &number.to_string())));
            names.filter(|path| !path.exists()).collect::<Vec<_>>()
        };
        // No segment can begin where the base ends; then no file of a base can be made.
        let temporary = temporary_base_names(&server, &mut client);
        for taken in [names("appendonly.aof.N.incr.aof"), temporary] {
            taken.iter().for_each(|path| fs::write(path, "").unwrap());
            client.run("INCR counter");
            expect_failure(&mut client, &taken[0].display().to_string());
            taken.iter().for_each(|path| fs::remove_file(path).unwrap());
        }
        // The child dies.
        server.point("base-child", "KILL");
        expect_failure(&mut client, "a child that dies");
        server.point("base-child", "CLEAR");
        // No child can be forked, and no segment is left behind by the tries.
        let segments = segment_count(&server);
        {
            let _strace = Strace::attach(server.process_id(), Injection::NoFork);
            for _ in 0..5 {
                expect_failure(&mut client, "a fork that is refused");
            }
        }
        assert_eq!(segment_count(&server), segments);
        let expected = dataset::read(&mut client);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after kill -9");
        assert_eq!(server.raw().run("WBL.CHECKPOINT"), Value::Simple("OK".into()));
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after a checkpoint");
    }

    fn a_first_base_that_fails_is_tried_again(version: Version) {
        let mut server = with_dump(version);
        server.stop();
        server.reconfigure(|_| module(version).allow_warning("no new base").variable(VARIABLE, "base-child:kill"));
        server.launch();
        wait_until("the first base has failed", PATIENCE, || server.log().contains("no new base"));
        let mut client = server.raw();
        assert_eq!(info_field(&mut client, "wbl", "wbl_state").as_deref(), Some("baselining"));
        server.point("base-child", "CLEAR");
        client.run("SET during v");
        client.run("WBL.WAIT");
        let expected = dataset::read(&mut client);
        server.reconfigure(ServerBuilder::no_variables);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after kill -9");
    }

    fn what_changed_before_the_log_was_active_is_shown_when_it_is_durable(version: Version) {
        // Where the main thread learns of the base before it reads the commands there is nothing to see.
        let seen = (0..20).any(|_| reads_wait_for_what_changed_before(version));
        assert!(seen, "no write ran between the base and the state active");
    }

    fn a_disk_that_fails_before_the_first_base_ends_no_server(version: Version) {
        let warning = "the log failed before its first base";
        let builder = ServerBuilder::stock(version).set("enable-module-command", "yes").set("enable-debug-command", "yes");
        let mut server = builder.allow_warning(warning).start();
        let mut client = server.raw();
        client.run("SET k v");
        let folder = server.log_folder();
        let load = format!("MODULE LOADEX {} CONFIG wbl.dir {} CONFIG wbl.debug-commands yes", paths::module().display(), folder.display());
        client.run(SLOW_SAVE);
        client.run(&load);
        let mut waiting = fail_before_the_first_base(&mut server);
        let told = format!("{:?}", waiting.reply());
        assert!(told.contains("not enabled: the log failed"), "{told}");
        assert_eq!(server.wbl_info("wbl_state"), "disabled");
        assert!(server.wbl_info("wbl_failure").contains(warning), "{}", server.wbl_info("wbl_failure"));
        assert_eq!(client.run("GET k").text(), "v");
        client.run("SET k w");
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
        // Mended.
        client.run("CONFIG SET rdb-key-save-delay 0");
        client.run("CONFIG SET wbl.enabled no");
        client.run("CONFIG SET wbl.enabled yes");
        client.run("WBL.WAIT");
        assert_eq!(server.wbl_info("wbl_failure"), "");
        let expected = dataset::read(&mut client);
        server.kill9();
        server.reconfigure(|_| module(version).allow_warning(warning));
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after it was mended");
    }

    fn a_disk_that_fails_after_a_promotion_leaves_reads_and_refuses_writes(version: Version) {
        let mut server = module(version).allow_warning("the log can't begin").start();
        let mut client = server.raw();
        client.run("SET k v");
        client.run(NOWHERE);
        client.run(SLOW_SAVE);
        client.run("REPLICAOF NO ONE");
        let mut waiting = fail_before_the_first_base(&mut server);
        assert!(waiting.reply().is_error());
        assert_eq!(server.wbl_info("wbl_state"), "failing");
        assert_eq!(client.run("GET k").text(), "v");
        assert!(format!("{:?}", client.call(&["SET", "k", "w"])).starts_with("-MISCONF"));
        client.run("CONFIG SET wbl.enabled no");
        client.run("CONFIG SET rdb-key-save-delay 0");
        client.run("CONFIG SET wbl.enabled yes");
        client.run("WBL.WAIT");
        let expected = dataset::read(&mut client);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after it was mended");
    }

    fn a_log_that_waits_for_its_base_keeps_no_more_than_that_needs(version: Version) {
        let mut server = with_dump(version);
        server.stop();
        server.reconfigure(|_| module(version).allow_warning("no new base").variable(VARIABLE, "base-child:kill"));
        server.launch();
        let mut client = server.wait_answers();
        let failures = |server: &Server| server.log().matches("no new base").count();
        for round in 1..4 {
            wait_until("a base has failed", PATIENCE, || failures(&server) >= round);
            client.run(&format!("SETRANGE filler {} x", 1 << 20));
            client.run("SET more v");
        }
        wait_until("the segments before the last try are removed", PATIENCE, || segment_count(&server) <= 2);
        server.point("base-child", "CLEAR");
        client.run("WBL.WAIT");
        let expected = dataset::read(&mut client);
        server.reconfigure(ServerBuilder::no_variables);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after kill -9");
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
            assert!(client.call(&["MODULE", "LOAD", &module]).is_error(), "late: {late}");
            assert_eq!(client.run("DBSIZE").integer(), 0, "late: {late}");
            client.run("SET of-the-server v");
            assert!(client.call(&["WBL.STATUS"]).is_error(), "late: {late}");
            assert_eq!(client.run("MODULE LIST").items().len(), stock_modules(version));
            if !late {
                fs::remove_dir(&taken).unwrap();
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

    fn a_former_primary_that_starts_as_a_replica_of_nobody_has_its_data(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        crate::harness::samples::fill(&mut server.raw(), version);
        let expected = dataset::read(&mut server.raw());
        server.kill9();
        server.reconfigure(|builder| {
            let builder = builder.set_words("replicaof", &["127.0.0.1", "1"]).set("wbl.enabled", "true-later");
            builder.unset("wbl.enabled").allow_warning("Error condition on socket for SYNC")
        });
        for _ in 0..2 {
            server.start();
            let mut client = server.raw();
            assert_eq!(info_field(&mut client, "replication", "master_port").as_deref(), Some("1"));
            assert_eq!(info_field(&mut client, "replication", "role").as_deref(), Some("slave"));
            assert_eq!(server.wbl_info("wbl_state"), "replica");
            dataset::assert_same(&dataset::read(&mut client), &expected, "as a replica of nobody");
            server.kill9();
        }
        server.start();
        let mut client = server.raw();
        client.run("REPLICAOF NO ONE");
        client.run("SET after promotion");
        client.run("WBL.WAIT");
        let expected = dataset::read(&mut client);
        server.kill9();
        server.reconfigure(|builder| builder.unset("replicaof"));
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after the promotion");
    }

    fn a_former_primary_that_follows_another_syncs_whole_after_a_recovery(version: Version) {
        // Its own dump has the replication id and offset of the time before; what the log brought back is newer.
        let [port, own_port] = free_ports::<2>();
        let mut primary = ServerBuilder::stock(version).set("port", &port.to_string()).start();
        let builder = module(version).set("port", &own_port.to_string());
        let mut server = builder.allow_warning("takes the place of the data").allow_warning("SYNC").start();
        let mut client = server.raw();
        client.run("SET of-the-log v");
        client.run("WBL.WAIT");
        primary.raw().run("SET of-the-primary v");
        server.kill9();
        server.reconfigure(|builder| builder.set_words("replicaof", &["127.0.0.1", &port.to_string()]).unset("wbl.enabled"));
        server.start();
        let mut client = server.raw();
        wait_until("the replica is in sync", PATIENCE, || {
            info_field(&mut client, "replication", "master_link_status").as_deref() == Some("up")
        });
        let expected = dataset::read(&mut primary.raw());
        dataset::assert_same(&dataset::read(&mut client), &expected, "in sync");
        assert!(!server.log().contains("Successful partial resynchronization"), "a partial sync on top of other data");
        primary.stop();
    }

    fn a_former_primary_does_not_fall_back_to_the_log_before_it_was_a_replica(version: Version) {
        let [port] = free_ports::<1>();
        let primary = ServerBuilder::stock(version).set("port", &port.to_string()).start();
        primary.raw().run("SET of-the-primary v");
        let builder = module(version).allow_warning("superseded").allow_warning("SYNC");
        let mut server = builder.allow_warning("the log can't be brought back").start();
        let mut client = server.raw();
        client.run("SET before v");
        client.run(&format!("REPLICAOF 127.0.0.1 {port}"));
        wait_until("the log is superseded", PATIENCE, || {
            info_field(&mut client, "wbl", "wbl_log_superseded").as_deref() == Some("1")
                && server.log().contains("the folder's log is superseded")
        });
        let expected = dataset::read(&mut primary.raw());
        dataset::assert_same(&dataset::read(&mut client), &expected, "in sync");
        // The dump that the primary sent is there.
        assert!(server.folder().join("dump.rdb").exists());
        server.kill9();
        let dump = fs::read(server.folder().join("dump.rdb")).unwrap();
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "the server's own data stand");
        server.raw().run("SET more v");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("EXISTS more of-the-primary before").integer(), 2);
        // And without it.
        let mut client = server.raw();
        client.run(&format!("REPLICAOF 127.0.0.1 {port}"));
        wait_until("the log is superseded again", PATIENCE, || {
            server.log().matches("the folder's log is superseded").count() == 2
        });
        server.kill9();
        fs::remove_file(server.folder().join("dump.rdb")).unwrap();
        server.launch();
        assert_eq!(server.wait_exit().code(), Some(1));
        let log = server.log();
        let line = log.lines().rfind(|line| line.contains("the log can't be brought back")).unwrap();
        assert!(line.contains("start it as a replica") && line.contains("wbl.on-existing-log"), "{line}");
        // As a replica it has nothing to say.
        server.reconfigure(|builder| {
            builder.set_words("replicaof", &["127.0.0.1", &port.to_string()]).unset("wbl.enabled")
        });
        server.start();
        let mut client = server.raw();
        wait_until("the replica is in sync", PATIENCE, || client.run("EXISTS of-the-primary").integer() == 1);
        drop(dump);
    }

    fn a_partial_sync_supersedes_the_log_too(version: Version) {
        let [port, other_port] = free_ports::<2>();
        let builder = module(version).allow_warning("superseded").allow_warning("Failed to read response");
        // On a busy machine the handshake may take longer than the servers wait for.
        let builder = builder.allow_warning("Primary did not respond to command during SYNC handshake");
        let server = builder.set("port", &port.to_string()).start();
        let mut client = server.raw();
        let other = ServerBuilder::stock(version).set("port", &other_port.to_string());
        let other = other.set_words("replicaof", &["127.0.0.1", &port.to_string()]).start();
        client.run("SET before v");
        wait_until("the other follows", PATIENCE, || other.raw().run("EXISTS before").integer() == 1);
        other.raw().run("REPLICAOF NO ONE");
        other.raw().run("SET after v");
        client.run(&format!("REPLICAOF 127.0.0.1 {other_port}"));
        wait_until("this one follows", PATIENCE, || client.run("EXISTS after").integer() == 1);
        assert!(server.log().contains("Successful partial resynchronization"), "the sync was a whole one");
        wait_until("the log is superseded", PATIENCE, || server.log().contains("the folder's log is superseded"));
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

/// A write that runs when the base is in place and the main thread does not know: `false` when it ran later.
fn reads_wait_for_what_changed_before(version: Version) -> bool {
    let builder = ServerBuilder::stock(version).set("enable-module-command", "yes");
    let mut server = builder.variable(VARIABLE, "base-installed:stop").start();
    let (mut writer, mut reader, mut control) = (server.raw(), server.raw(), server.raw());
    [&mut writer, &mut reader, &mut control].into_iter().for_each(|client| drop(client.run("SET k old")));
    control.run(&format!("MODULE LOADEX {} CONFIG wbl.debug-commands yes", paths::module().display()));
    server.wait_stopped();
    writer.send_bytes(b"WBL.DEBUG SYNC HOLD\r\nSET k new\r\n").unwrap();
    server.go_on();
    assert_eq!(writer.reply(), Value::Simple("OK".into()));
    wait_until("the log is active", PATIENCE, || {
        info_field(&mut control, "wbl", "wbl_state").as_deref() == Some("active")
    });
    if writer.silent(&mut control).is_ok() {
        control.run("WBL.DEBUG SYNC RELEASE");
        return false;
    }
    assert_eq!(writer.reply(), Value::Simple("OK".into()));
    reader.send_text("GET k");
    reader.assert_silent(&mut control, "a value that is not durable");
    control.run("WBL.DEBUG SYNC RELEASE");
    assert_eq!(reader.reply().text(), "new");
    true
}

/// How a server ends.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Kill9,
    Sigterm,
    Shutdown,
    ShutdownNosave,
}

impl Stop {
    const ALL: [Stop; 4] = [Stop::Kill9, Stop::Sigterm, Stop::Shutdown, Stop::ShutdownNosave];

    fn apply(self, server: &mut Server) {
        match self {
            Stop::Kill9 => return server.kill9(),
            Stop::Sigterm => send_signal(server.process_id(), "TERM"),
            Stop::Shutdown => server.raw().send_text("SHUTDOWN"),
            Stop::ShutdownNosave => server.raw().send_text("SHUTDOWN NOSAVE"),
        }
        let status = server.wait_exit();
        assert!(status.success(), "{self:?} ended with {status}: {}", server.log());
    }
}

/// A server with the module that may meet what its first start on data brings about.
/// A child takes a minute for each key that it saves.
const SLOW_SAVE: &str = "CONFIG SET rdb-key-save-delay 60000000";

/// While the child that writes the first base takes its time, the disk fails; somebody waits for the log.
fn fail_before_the_first_base(server: &mut Server) -> RawConnection {
    wait_until("the child runs", PATIENCE, || !children(server.process_id()).is_empty());
    let mut waiting = server.raw();
    assert_eq!(server.wbl_info("wbl_state"), "baselining");
    waiting.send_text("WBL.WAIT");
    let _strace = Strace::attach(server.process_id(), Injection::Fail { error: "EIO", from: 1 });
    server.raw().run("SET while failing");
    wait_until("the failure is seen", PATIENCE, || server.wbl_info("wbl_state") != "baselining");
    waiting
}

fn module(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).allow_warning("takes the place of the data");
    builder.allow_warning("There is a module fork child").allow_warning("Error condition on socket for SYNC")
}

/// A running stock server with a dump of 1,001 keys.
fn with_dump(version: Version) -> Server {
    let server = ServerBuilder::stock(version).start();
    let mut client = server.raw();
    client.run("DEBUG POPULATE 1000");
    client.run("SET counter 100");
    client.run("SAVE");
    server
}

/// Modules that the server brings along.
fn stock_modules(version: Version) -> usize {
    let server = ServerBuilder::stock(version).in_memory().start();
    server.raw().run("MODULE LIST").items().len()
}

/// Takes the names that the next log's files would get.
fn take_segment_names(server: &Server) {
    let names = (1..40).map(|number| server.log_folder().join(format!("appendonly.aof.{number}.incr.aof")));
    names.filter(|path| !path.exists()).for_each(|path| fs::write(path, "").unwrap());
}

fn segment_count(server: &Server) -> usize {
    let entries = fs::read_dir(server.log_folder()).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".incr.aof")).count()
}

/// The names that files of the next bases will have, as that of the present one shows.
fn temporary_base_names(server: &Server, client: &mut RawConnection) -> Vec<PathBuf> {
    server.point("base-child", "STOP");
    client.send_text("WBL.CHECKPOINT");
    let child = server_child_stopped(server);
    let names =
        || fs::read_dir(server.log_folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let name = names().find(|name| name.starts_with("temp-")).expect("a temporary base");
    let number: u64 = name.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
    send_signal(child, "CONT");
    client.reply();
    (number + 1..number + 20)
        .map(|next| server.log_folder().join(name.replace(&number.to_string(), &next.to_string())))
        .collect()
}

fn server_child_stopped(server: &Server) -> u32 {
    crate::harness::points::wait_child_stopped(server.process_id())
}
