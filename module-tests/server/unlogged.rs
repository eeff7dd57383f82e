//! Changes that can't be logged: a new log begins with its base when their unit ends. Nobody waits for a position that
//! only this base makes durable, and nobody is shown what neither log nor base has.

use crate::harness::group::{Group, replica_of, wait_durable, wait_in_sync};
use crate::harness::process::send_signal;
use crate::harness::server::info_field;
use crate::harness::{
    PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, dataset, each_version, wait_until,
};
use crate::io_threads;
use crate::life::module;
use crate::outside::limit_file_size;

each_version! {
    fn a_script_after_a_change_that_cannot_be_logged_does_not_wait_for_ever(version: Version) {
        for (mode, swaps_first) in [("async", true), ("async", false), ("inline", true), ("inline", false)] {
            let (mut server, _reader) = with_unknown_reader(ServerBuilder::with_module(version).set("wbl.commit-mode", mode));
            let mut clients = [server.raw(), server.raw()];
            clients.iter_mut().for_each(|client| drop(client.run("SET a 1")));
            let [first, second] = &mut clients;
            let (swapper, other) = if swaps_first { (first, second) } else { (second, first) };
            // Both come in one iteration.
            send_signal(server.process_id(), "STOP");
            swapper.send_text("SWAPDB 0 1");
            other.send(&["EVAL", "return redis.call('INCR', 'n')", "0"]);
            send_signal(server.process_id(), "CONT");
            assert_eq!(swapper.reply(), Value::Simple("OK".into()), "{mode}");
            assert_eq!(other.reply(), Value::Integer(1), "{mode}");
            dataset::assert_survives(&mut server, "after a swap that can't be logged, and a script");
        }
    }

    fn a_change_that_cannot_be_logged_is_answered_with_threads_that_send(version: Version) {
        let (mut server, _reader) = with_unknown_reader(io_threads::threads(version));
        let mut client = server.raw();
        client.run("SET a 1");
        for _ in 0..2 {
            client.run("SWAPDB 0 1");
        }
        client.run("SET b 2");
        dataset::assert_survives(&mut server, "after swaps that can't be logged");
    }

    fn a_transaction_over_a_kept_key_that_pauses_writes_is_answered_again_and_again(version: Version) {
        for mode in ["async", "inline"] {
            let builder = ServerBuilder::with_module(version).set("import-mode", "yes").set("wbl.commit-mode", mode);
            let mut server = builder.start();
            let (mut source, mut control) = (server.raw(), server.raw());
            ["CLIENT IMPORT-SOURCE ON", "RPUSH l q", "PEXPIREAT l 1"].iter().for_each(|command| drop(source.run(command)));
            for length in 2..5 {
                ["MULTI", "CLIENT PAUSE 50 WRITE", "RPUSH l x", "EXEC"].iter().for_each(|command| source.send_text(command));
                let replies: Vec<Value> = (0..4).map(|_| source.reply()).collect();
                assert_eq!(replies[3].items()[1], Value::Integer(length), "{mode}: {replies:?}");
                wait_until("nothing is paused", PATIENCE, || {
                    info_field(&mut control, "clients", "paused_actions").as_deref() == Some("none")
                });
            }
            control.run("SET later v");
            server.kill9_and_restart();
            let mut source = server.raw();
            source.run("CLIENT IMPORT-SOURCE ON");
            assert_eq!((source.run("LLEN l").integer(), source.run("EXISTS later").integer()), (4, 1), "{mode}");
        }
    }

    fn a_crash_before_the_new_log_brings_back_nothing_of_the_unit(version: Version) {
        for point in ["log-closed", "log-begun"] {
            let builder = ServerBuilder::with_module(version).set("import-mode", "yes").set("wbl.commit-mode", "async");
            let mut server = builder.start();
            let (mut source, mut control) = (server.raw(), server.raw());
            ["CLIENT IMPORT-SOURCE ON", "RPUSH l q", "PEXPIREAT l 1"].iter().for_each(|command| drop(source.run(command)));
            control.run("WBL.WAIT");
            control.run(&format!("WBL.DEBUG POINT {point} KILL"));
            let unit = ["MULTI", "SET a 1", "CLIENT PAUSE 50 WRITE", "RPUSH l x", "SET b 1", "EXEC"];
            unit.iter().for_each(|command| source.send_text(command));
            server.wait_exit();
            server.launch();
            server.wait_answers();
            let mut source = server.raw();
            source.run("CLIENT IMPORT-SOURCE ON");
            let found = ["EXISTS a", "LLEN l", "EXISTS b"].map(|command| source.run(command).integer());
            assert_eq!(found, [0, 1, 0], "{point}");
        }
    }

    fn a_change_for_which_there_is_neither_a_log_nor_room_is_shown_to_nobody(version: Version) {
        for is_mended in [true, false] {
            let (mut server, _reader) = with_large_dataset(version);
            let (mut control, mut swapper) = (server.raw(), server.raw());
            let before = dataset::read(&mut control);
            limit_file_size(&server, "300000");
            swapper.send_text("SWAPDB 0 1");
            assert!(swapper.try_reply().is_err(), "the change was acknowledged");
            assert_is_tried_again(&server, &mut control);
            if !is_mended {
                server.kill9_and_restart();
                // The swap may be there or not, as after any crash.
                assert_eq!(dataset::read(&mut server.raw()).len(), before.len(), "what was acknowledged is missing");
                continue;
            }
            assert_goes_on_with_room(&mut server, &mut control);
        }
    }

    // What its primary sends gets a log of its own, and nobody's start rests on the one that could not go on.
    fn a_transaction_that_cannot_be_logged_and_demotes_leaves_a_replica(version: Version) {
        let primary = Group::start(version, 0, &[]);
        primary.primary().raw().run("SET of-primary v");
        let port = primary.ports[0];
        let (mut server, _reader) = with_large_dataset(version);
        server.reconfigure(|own| replica_of(own, port).allow_warning("the log can't go on"));
        let mut client = server.raw();
        limit_file_size(&server, "300000");
        let unit = ["MULTI", "SWAPDB 0 1", "SET a 1", &format!("REPLICAOF 127.0.0.1 {port}"), "EXEC"];
        unit.iter().for_each(|command| client.send_text(command));
        assert!((0..5).any(|_| client.try_reply().is_err()), "a change that nothing keeps was acknowledged");
        limit_file_size(&server, "unlimited");
        wait_in_sync(&server);
        wait_until("the replica has its log", PATIENCE, || server.wbl_info("wbl_replica_log") == "written");
        wait_durable(&server);
        server.kill9_and_restart();
        wait_in_sync(&server);
        assert_eq!(server.raw().run("GET of-primary"), Value::Bulk(b"v".to_vec()));
    }

    // Before it loads, a server may have emptied all: of that nothing may be logged alone.
    fn a_log_that_ends_in_the_middle_of_a_reload_has_what_was_there(version: Version) {
        for ends in ["SHUTDOWN NOSAVE", "SIGTERM", "CONFIG SET wbl.enabled no"] {
            let builder = ServerBuilder::with_module(version).allow_warning("takes the place of the data");
            let builder = builder.set("loading-process-events-interval-bytes", "1024");
            let mut server = builder.start();
            let (mut client, mut reloader) = (server.raw(), server.raw());
            ["DEBUG POPULATE 100 filled 500", "WBL.CHECKPOINT", "SET acked v", "CONFIG SET key-load-delay 50000"]
                .iter()
                .for_each(|command| drop(client.run(command)));
            reloader.send_text("DEBUG RELOAD");
            wait_until("it is being loaded", PATIENCE, || {
                info_field(&mut client, "persistence", "loading").as_deref() == Some("1")
            });
            match ends {
                "SIGTERM" => send_signal(server.process_id(), "TERM"),
                _ => client.send_text(ends),
            }
            if ends.starts_with("CONFIG") {
                wait_until("the log is closed", PATIENCE, || server.wbl_info("wbl_state") == "disabled");
                server.kill9();
            } else {
                server.wait_exit();
            }
            server.start();
            assert_eq!(server.raw().run("DBSIZE").integer(), 101, "{ends}");
        }
    }

    fn a_reload_on_a_full_disk_is_shown_to_nobody_and_gets_a_log_when_there_is_room(version: Version) {
        let alone = &["DEBUG RELOAD NOSAVE"][..];
        let unit = &["MULTI", "SET a 1", "DEBUG RELOAD NOSAVE", "SET b 1", "EXEC"];
        for (commands, is_mended) in [(alone, true), (unit, true), (unit, false)] {
            let (mut server, _reader) = with_large_dataset(version);
            let (mut client, mut control) = (server.raw(), server.raw());
            control.run("SAVE");
            limit_file_size(&server, "300000");
            commands.iter().for_each(|command| client.send_text(command));
            let is_closed = commands.iter().any(|_| client.try_reply().is_err());
            assert!(is_closed, "a change that nothing keeps was acknowledged");
            assert_is_tried_again(&server, &mut control);
            if !is_mended {
                server.kill9_and_restart();
                assert_eq!(server.raw().run("DBSIZE").integer(), 1000, "what was acknowledged before the unit");
                continue;
            }
            assert_goes_on_with_room(&mut server, &mut control);
        }
    }

    fn a_transaction_that_replaces_the_dataset_is_kept_as_a_whole(version: Version) {
        for mode in ["async", "inline"] {
            let mut server = module(version).set("wbl.commit-mode", mode).start();
            let mut client = with_pending(&server);
            queue_unit(&mut client);
            assert_eq!(client.run("EXEC").items().len(), UNIT.len(), "{mode}");
            dataset::assert_survives(&mut server, mode);
            assert_eq!(found_of_unit(&server), [1, 1, 0, 1], "{mode}");
        }
    }

    fn a_crash_while_a_transactions_new_dataset_gets_its_log_leaves_all_of_it_or_nothing(version: Version) {
        for mode in ["async", "inline"] {
            for point in ["log-closed", "log-begun", "rename", "renamed", "base-installed"] {
                let mut server = module(version).set("wbl.commit-mode", mode).start();
                let mut client = with_pending(&server);
                queue_unit(&mut client);
                server.point(point, "STOP");
                client.send_text("EXEC");
                server.wait_stopped();
                assert_eq!(client.received_nothing(), Ok(()), "{mode}, {point}");
                server.kill9_and_restart();
                let found = found_of_unit(&server);
                assert!([[1, 1, 0, 1], [0, 0, 2, 0]].contains(&found), "{mode}, {point}: {found:?}");
            }
        }
    }
}

/// What a transaction does before and after the dataset is replaced.
const UNIT: [&[&str]; 6] = [
    &["SET", "a", "1"],
    &["XACK", "s", "g", "1-1"],
    &["DEBUG", "RELOAD"],
    &["XACK", "s", "g", "2-1"],
    &["FUNCTION", "LOAD", "#!lua name=l\nserver.register_function('f', function() end)"],
    &["SET", "b", "1"],
];

/// A client of a server that has what [`UNIT`] needs.
fn with_pending(server: &Server) -> RawConnection {
    let mut client = server.raw();
    [
        "XGROUP CREATE s g 0 MKSTREAM",
        "XADD s 1-1 f v",
        "XADD s 2-1 f v",
        "XREADGROUP GROUP g c STREAMS s >",
        "WBL.WAIT",
    ]
    .iter()
    .for_each(|command| drop(client.run(command)));
    client
}

/// Sends it, except EXEC.
fn queue_unit(client: &mut RawConnection) {
    client.run("MULTI");
    UNIT.iter().for_each(|command| assert_eq!(client.call(command), Value::Simple("QUEUED".into())));
}

/// What there is of it: its keys, what is pending, its functions.
fn found_of_unit(server: &Server) -> [i64; 4] {
    let mut client = server.raw();
    let keys = ["EXISTS a", "EXISTS b"].map(|command| client.run(command).integer());
    let Value::Integer(pending) = client.run("XPENDING s g").items()[0] else { panic!("no count") };
    [keys[0], keys[1], pending, client.run("FUNCTION LIST").items().len() as i64]
}

/// A server with a reader that has blocked before the log began: what it reads is unknown, and a SWAPDB may serve it.
fn with_unknown_reader(builder: ServerBuilder) -> (Server, RawConnection) {
    let mut server = builder.set("wbl.enabled", "no").start();
    let (mut reader, mut control) = (server.raw(), server.raw());
    reader.send_text("XREAD BLOCK 0 STREAMS st $");
    wait_until("the reader waits", PATIENCE, || {
        info_field(&mut control, "clients", "blocked_clients").as_deref() == Some("1")
    });
    control.run("CONFIG SET wbl.enabled yes");
    control.run("WBL.WAIT");
    server.reconfigure(|builder| builder.unset("wbl.enabled"));
    (server, reader)
}

/// The same with a base that is larger than a segment.
fn with_large_dataset(version: Version) -> (Server, RawConnection) {
    let builder = ServerBuilder::with_module(version).set("rdbcompression", "no").set("wbl.segment-bytes", "64kb");
    let builder = builder
        .only_own_warnings()
        .allow_warning("takes the place of the data")
        .allow_warning("are disconnected")
        .allow_warning("the log can't begin");
    let (server, reader) = with_unknown_reader(builder.allow_warning("no new base"));
    let mut control = server.raw();
    control.run("DEBUG POPULATE 1000 filled 500");
    control.run("WBL.CHECKPOINT");
    (server, reader)
}

fn assert_goes_on_with_room(server: &mut Server, control: &mut RawConnection) {
    limit_file_size(server, "unlimited");
    wait_until("another log is active", PATIENCE, || server.wbl_info("wbl_state") == "active");
    control.run("SET more v");
    dataset::assert_survives(server, "after there was room again");
}

fn assert_is_tried_again(server: &Server, control: &mut RawConnection) {
    assert_eq!(server.wbl_info("wbl_state"), "failing");
    assert_eq!(server.wbl_info("wbl_safe_advice"), "mend that; it is tried again by itself");
    assert!(format!("{:?}", control.call(&["SET", "x", "v"])).starts_with("-MISCONF"));
}
