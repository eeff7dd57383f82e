//! Logs that begin on data: what holds until their first base is in place.

use crate::harness::points::VARIABLE;
use crate::harness::process::{children, send_signal};
use crate::harness::server::info_field;
use crate::harness::{
    Injection, PATIENCE, RawConnection, Server, ServerBuilder, Strace, Value, Version, dataset, each_version, paths,
    wait_for, wait_until,
};
use crate::life::{NOWHERE, module, segment_count};
use std::fs;
use std::thread;

/// A child takes a minute for each key that it saves.
const SLOW_SAVE: &str = "CONFIG SET rdb-key-save-delay 60000000";

each_version! {
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

    fn whatever_info_is_called_a_log_begins_with_the_servers_own_data(version: Version) {
        for other in ["", "other-info"] {
            let mut server = with_dump(version);
            let expected = server.raw().run("DBSIZE").integer();
            server.stop();
            let is_active = |client: &mut RawConnection| client.run("WBL.STATUS").items()[1].text() == "active";
            let start = |server: &mut Server| {
                server.launch();
                let mut client = server.wait_answers();
                wait_until("the log is active", PATIENCE, || is_active(&mut client));
                client
            };
            server.reconfigure(|_| module(version).rename("INFO", other).allow_warning("takes the place"));
            start(&mut server).run("SET after v");
            server.kill9();
            assert_eq!(start(&mut server).run("DBSIZE").integer(), expected + 1, "INFO is {other:?}");
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
        server.reconfigure(ServerBuilder::no_variables);
        dataset::assert_survives(&mut server, "after kill -9");
    }

    fn no_log_begins_with_half_of_a_dataset(version: Version) {
        let builder = module(version).allow_warning("Failed applying new module configuration");
        let builder = builder.set("wbl.enabled", "no").set("loading-process-events-interval-bytes", "1024");
        let mut server = builder.start();
        let mut client = server.raw();
        client.run("DEBUG POPULATE 1000");
        ["SAVE", "CONFIG SET key-load-delay 1000"].iter().for_each(|command| drop(client.run(command)));
        let expected = dataset::read(&mut client);
        client.send_text("DEBUG RELOAD NOSAVE");
        assert_is_refused_while_it_loads(&server);
        assert_eq!(client.reply(), Value::Simple("OK".into()));
        server.kill9();
        server.reconfigure(|builder| builder.set("key-load-delay", "1000"));
        server.launch();
        assert_is_refused_while_it_loads(&server);
        let mut client = server.wait_answers();
        client.run("CONFIG SET wbl.enabled yes");
        client.run("WBL.WAIT");
        server.reconfigure(|builder| builder.unset("wbl.enabled").unset("key-load-delay"));
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "all that was loaded");
    }

    fn a_dataset_replaced_before_the_first_base_leaves_what_clients_are_at(version: Version) {
        let mut server = module(version).start();
        let (mut client, mut queueing, mut reader) = (server.raw(), server.raw(), server.raw());
        for command in [
            "ACL SETUSER limited on nopass ~* &* +@all -wbl.call -wbl.read -wbl.collect",
            "XGROUP CREATE s g 0 MKSTREAM",
            "XADD s 1-1 f v",
            "XREADGROUP GROUP g c STREAMS s >",
            "XGROUP CREATE t g $ MKSTREAM",
            "SAVE",
            "CONFIG SET wbl.enabled no",
            SLOW_SAVE,
            "CONFIG SET wbl.enabled yes",
        ] {
            client.run(command);
        }
        reader.run("AUTH limited x");
        reader.send_text("XREADGROUP GROUP g c BLOCK 0 STREAMS t >");
        ["MULTI", "XACK s g 1-1"].iter().for_each(|command| drop(queueing.run(command)));
        queueing.call(&["FUNCTION", "LOAD", "#!lua name=l\nserver.register_function('f', function() end)"]);
        wait_until("the reader waits", PATIENCE, || {
            info_field(&mut client, "clients", "blocked_clients").as_deref() == Some("1")
        });
        assert_eq!(server.wbl_info("wbl_state"), "baselining");
        ["DEBUG RELOAD NOSAVE", "CONFIG SET rdb-key-save-delay 0", "WBL.WAIT"]
            .iter()
            .for_each(|command| drop(client.run(command)));
        assert_eq!(queueing.run("EXEC").items().len(), 2);
        client.run("XADD t 5-1 f v");
        reader.reply();
        dataset::assert_survives(&mut server, "after a reload before the first base");
        assert_eq!(server.raw().run("XPENDING s g").items()[0], Value::Integer(0));
        assert_eq!(server.raw().run("XPENDING t g").items()[0], Value::Integer(1));
    }

    fn what_runs_between_the_base_and_the_state_active_waits(version: Version) {
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
        writer.assert_silent(&mut control, "a write that is not durable");
        reader.send_text("GET k");
        reader.assert_silent(&mut control, "a value that is not durable");
        control.run("WBL.DEBUG SYNC RELEASE");
        assert_eq!((writer.reply(), reader.reply().text()), (Value::Simple("OK".into()), "new".into()));
    }

    fn what_was_answered_before_the_base_had_its_name_survives_a_kill(version: Version) {
        for (point, mode) in [("renamed", "async"), ("base-installed", "async"), ("base-installed", "inline")] {
            let builder = module(version).set("wbl.enabled", "no").set("wbl.commit-mode", mode);
            let mut server = builder.set("appendonly", "yes").set("appendfsync", "always").start();
            let mut client = server.raw();
            client.run("DEBUG POPULATE 1000");
            let answered = thread::scope(|scope| {
                let writers: Vec<_> = (0..4).map(|name| scope.spawn({
                    let connection = server.raw();
                    move || count_until_closed(connection, name)
                })).collect();
                wait_until("all write", PATIENCE, || client.run("EXISTS n0 n1 n2 n3").integer() == 4);
                client.run(&format!("WBL.DEBUG POINT {point} KILL"));
                client.send_text("CONFIG SET wbl.enabled yes");
                writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
            });
            server.wait_exit();
            server.reconfigure(|builder| builder.set("wbl.enabled", "yes"));
            server.start();
            for (name, answered) in answered.into_iter().enumerate() {
                let found = server.raw().run(&format!("GET n{name}")).text().parse::<i64>().unwrap();
                assert!(found >= answered, "{point}, {mode}: {found} of {answered} that were answered");
            }
        }
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
        let (mut waiting, strace) = fail_before_the_first_base(&mut server);
        drop(strace);
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
        let mut server = module(version).set("wbl.replica-log", "no").allow_warning("the log can't begin").start();
        let mut client = server.raw();
        client.run("SET k v");
        client.run(NOWHERE);
        client.run(SLOW_SAVE);
        client.run("REPLICAOF NO ONE");
        let (mut waiting, strace) = fail_before_the_first_base(&mut server);
        assert!(waiting.reply().is_error());
        assert_eq!(server.wbl_info("wbl_state"), "failing");
        assert_eq!(client.run("GET k").text(), "v");
        assert!(format!("{:?}", client.call(&["SET", "k", "w"])).starts_with("-MISCONF"));
        assert_eq!(server.wbl_info("wbl_safe_advice"), "mend that; it is tried again by itself");
        // Mended: nobody need say so.
        client.run("CONFIG SET rdb-key-save-delay 0");
        drop(strace);
        wait_until("the log is active", PATIENCE, || server.wbl_info("wbl_state") == "active");
        client.run("SET k w");
        dataset::assert_survives(&mut server, "after it was mended");
    }

    fn a_log_that_a_full_disk_keeps_from_beginning_at_a_promotion_begins_when_there_is_room(version: Version) {
        let mut server = module(version).set("wbl.replica-log", "no").allow_warning("the log can't begin").start();
        let mut client = server.raw();
        client.run("SET k v");
        client.run(NOWHERE);
        let strace = Strace::attach(server.process_id(), Injection::Fail { error: "ENOSPC", from: 1 });
        client.run("REPLICAOF NO ONE");
        assert_eq!(server.wbl_info("wbl_state"), "failing");
        assert_eq!(server.wbl_info("wbl_safe_advice"), "mend that; it is tried again by itself");
        drop(strace);
        wait_until("the log is active", PATIENCE, || server.wbl_info("wbl_state") == "active");
        client.run("SET k w");
        dataset::assert_survives(&mut server, "after there was room");
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
        server.reconfigure(ServerBuilder::no_variables);
        dataset::assert_survives(&mut server, "after kill -9");
    }
}

/// Increments a key of its own until the server ends; returns the last number that it was told.
fn count_until_closed(mut connection: RawConnection, name: usize) -> i64 {
    let key = format!("n{name}");
    let mut answered = 0;
    while connection.try_send(&["INCR", &key]).is_ok()
        && let Ok(reply) = connection.try_reply()
    {
        answered = reply.integer();
    }
    answered
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

/// While the child that writes the first base takes its time, the disk fails; somebody waits for the log.
fn fail_before_the_first_base(server: &mut Server) -> (RawConnection, Strace) {
    wait_until("the child runs", PATIENCE, || !children(server.process_id()).is_empty());
    let mut waiting = server.raw();
    assert_eq!(server.wbl_info("wbl_state"), "baselining");
    waiting.send_text("WBL.WAIT");
    let strace = Strace::attach(server.process_id(), Injection::Fail { error: "EIO", from: 1 });
    server.raw().run("SET while failing");
    wait_until("the failure is seen", PATIENCE, || server.wbl_info("wbl_state") != "baselining");
    (waiting, strace)
}

/// `wbl.enabled yes` comes while the server loads.
fn assert_is_refused_while_it_loads(server: &Server) {
    let mut client = wait_for("the server loads", PATIENCE, || {
        let mut client = RawConnection::open(&server.socket()).ok()?;
        (info_field(&mut client, "persistence", "loading")? == "1").then_some(client)
    });
    let refused = format!("{:?}", client.call(&["CONFIG", "SET", "wbl.enabled", "yes"]));
    assert!(refused.contains("is loading its dataset"), "{refused}");
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
