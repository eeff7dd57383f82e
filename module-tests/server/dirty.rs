//! What is dirty, and until when: one story per test, with the counters and gauges that go with it.

use crate::harness::{Lever, PATIENCE, RawConnection, Scene, Value, Version, each_lever, each_version, wait_until};

const LIBRARY: &str = "FUNCTION LOAD \"#!lua name=lib\\nserver.register_function('f', function() return 1 end)\"";

each_lever! {
    fn counters_and_gauges_tell_who_waits_for_what(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET clean c", "SET k old"]);
        let (reads, writes) = (scene.gauge("wbl_read_blocked_count"), scene.gauge("wbl_write_blocked_count"));
        scene.freeze();
        let mut writers = vec![scene.held("SET k v"), scene.held("HSET h f v"), scene.held("INCR n")];
        assert_eq!(scene.gauge("wbl_clients_waiting_ack"), 3);
        assert_eq!(scene.gauge("wbl_uncommitted_keys"), 3);
        writers.push(scene.held("APPEND k w"));
        assert_eq!(scene.gauge("wbl_uncommitted_keys"), 3, "a key is counted once");
        let commands = ["GET k", "MGET clean h", "SETNX k x", "EXISTS n", "DBSIZE"];
        let mut readers: Vec<RawConnection> = commands.iter().map(|command| scene.held(command)).collect();
        assert_eq!(scene.gauge("wbl_clients_waiting_ack"), 9);
        assert_eq!(scene.gauge("wbl_read_blocked_count") - reads, 5);
        assert_eq!(scene.gauge("wbl_write_blocked_count") - writes, 4);
        assert_eq!(scene.answer("GET clean").text(), "c");
        assert_eq!(scene.gauge("wbl_read_blocked_count") - reads, 5, "a clean read is not held");
        scene.thaw();
        for client in writers.iter_mut().chain(&mut readers) {
            client.reply();
        }
        scene.end();
    }

    fn reads_within_get_mget_scripts_and_transactions_wait_for_the_newest_change_they_saw(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET clean c"]);
        let mut transaction = scene.server.raw();
        for command in ["MULTI", "GET clean", "GET k"] {
            transaction.run(command);
        }
        scene.freeze();
        let mut writer = scene.held("SET k v");
        let mut waiting = Vec::new();
        for command in [
            "GET k",
            "MGET clean k",
            r#"EVAL "return redis.call('GET', KEYS[1])" 1 k"#,
            r#"EVAL "return redis.call('GET', 'k')" 0"#,
            r#"EVAL_RO "return redis.call('GET', KEYS[1])" 1 k"#,
        ] {
            let mut client = scene.server.raw();
            scene.hidden(&mut client, command);
            waiting.push(client);
        }
        scene.hidden(&mut transaction, "EXEC");
        scene.thaw();
        assert_eq!(writer.reply(), ok());
        scene.end();
    }

    fn what_changes_nothing_as_of_a_dirty_key_waits_for_that_key(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.freeze();
        let mut first = scene.held("SETNX lock mine");
        let mut second = scene.held("SETNX lock yours");
        let mut third = scene.held("SET lock yours NX");
        assert_eq!(scene.answer("SETNX"), Value::Error("ERR wrong number of arguments for 'setnx' command".into()));
        scene.thaw();
        assert_eq!((first.reply(), second.reply(), third.reply()), (Value::Integer(1), Value::Integer(0), Value::Null));
        scene.end();
    }

    // Such a write raises no event, so that nothing would hold its reply but the loop.
    fn writes_that_change_nothing_hold_up_nobody_else(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET clean c", "SETBIT bits 7 1", "SET text abc", "ZADD scores 1 a", "XADD stream * f v"]);
        scene.freeze();
        let mut waiting: Vec<RawConnection> =
            ["SETBIT bits 8 1", "APPEND text d", "ZADD scores 2 b", "DEL stream"].map(|write| scene.held(write)).into();
        let before = scene.gauge("wbl_inline_waits");
        for write in [
            "SETBIT bits 7 1",
            "SETRANGE text 0 \"\"",
            "ZINCRBY scores 0 a",
            "XADD stream NOMKSTREAM * f v",
            "SETNX text other",
        ] {
            waiting.push(scene.held(write));
            assert_eq!(scene.answer("GET clean").text(), "c", "{write}");
        }
        assert_eq!(scene.gauge("wbl_inline_waits"), before);
        scene.thaw();
        waiting.iter_mut().for_each(|client| drop(client.reply()));
        scene.end();
    }

    fn databases_do_not_make_each_others_keys_dirty(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k zero", "SELECT 3", "SET k three", "SELECT 0"]);
        scene.freeze();
        let (mut writer, mut reader) = (scene.client_of(3), scene.client_of(3));
        scene.hold(&mut writer, "SET k new");
        scene.hold(&mut reader, "GET k");
        let mut counter = scene.client_of(3);
        scene.hold(&mut counter, "DBSIZE");
        assert_eq!(scene.answer("GET k").text(), "zero");
        assert_eq!(scene.answer("DBSIZE").integer(), 1);
        assert_eq!(scene.client_of(4).run("DBSIZE").integer(), 0);
        scene.thaw();
        assert_eq!((writer.reply(), reader.reply().text(), counter.reply().integer()), (ok(), "new".into(), 1));
        scene.end();
    }

    fn flushing_makes_all_keys_dirty_also_those_that_never_were(version: Version, lever: Lever) {
        for (flush, other_database_waits) in [("FLUSHDB", false), ("FLUSHALL", true), ("FLUSHALL ASYNC", true)] {
            let mut scene = Scene::start(version).with_lever(lever);
            scene.prepare(&["SET k v", "SELECT 5", "SET k five", "SELECT 0"]);
            scene.freeze();
            let mut dirty = scene.held("SET other v");
            let mut writer = scene.held(flush);
            let mut readers =
                ["GET k", "GET never", "EXISTS other", "DBSIZE", "SETNX k w"].map(|command| scene.held(command));
            let mut elsewhere = scene.client_of(5);
            if other_database_waits {
                scene.hold(&mut elsewhere, "GET k");
            } else {
                assert_eq!(elsewhere.run("GET k").text(), "five");
            }
            assert_eq!(scene.answer("ECHO hello").text(), "hello");
            scene.thaw();
            assert_eq!((dirty.reply(), writer.reply()), (ok(), ok()), "{flush}");
            let replies: Vec<String> = readers.iter_mut().map(|reader| format!("{:?}", reader.reply())).collect();
            assert_eq!(replies, ["null", "null", ":0", ":0", ":1"], "{flush}");
            if other_database_waits {
                assert_eq!(elsewhere.reply(), Value::Null);
            }
            scene.assert_idle();
            // The marks are gone with the position.
            scene.freeze();
            assert_eq!(scene.answer("EXISTS never").integer(), 0);
            scene.end();
        }
    }

    fn flushing_within_a_transaction_hides_all_of_it(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k v", "SET stale s"]);
        scene.freeze();
        let mut writer = scene.server.raw();
        for command in ["MULTI", "SET k w", "FLUSHALL", "SET fresh f"] {
            writer.run(command);
        }
        scene.hold(&mut writer, "EXEC");
        for command in ["GET k", "GET stale", "GET fresh", "DBSIZE"] {
            let mut reader = scene.server.raw();
            scene.hidden(&mut reader, command);
        }
        scene.thaw();
        assert_eq!(format!("{:?}", writer.reply()), "[+OK, +OK, +OK]");
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(format!("{:?}", server.raw().run("KEYS *")), r#"["fresh"]"#);
    }

    fn swapped_databases_are_dirty_as_a_whole_and_others_are_not(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k zero", "SELECT 1", "SET k one", "SELECT 2", "SET k two", "SELECT 0"]);
        scene.freeze();
        let mut writer = scene.held("SWAPDB 0 1");
        let (mut zero, mut one, mut two) = (scene.server.raw(), scene.client_of(1), scene.client_of(2));
        scene.hold(&mut zero, "GET k");
        scene.hold(&mut one, "GET k");
        assert_eq!(two.run("GET k").text(), "two");
        scene.thaw();
        assert_eq!((writer.reply(), zero.reply().text(), one.reply().text()), (ok(), "one".into(), "zero".into()));
        scene.end();
    }

    fn functions_that_are_not_durable_are_neither_listed_nor_called(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k v"]);
        scene.freeze();
        let mut loader = scene.held(LIBRARY);
        let commands = ["FCALL f 0", "FCALL_RO f 0", "FUNCTION LIST", "FUNCTION DUMP", "FUNCTION STATS", "FCALL none 0"];
        let mut callers: Vec<RawConnection> = commands.iter().map(|command| scene.held(command)).collect();
        assert_eq!(scene.answer(r#"EVAL "return 1" 0"#), Value::Integer(1));
        assert_eq!(scene.answer("GET k").text(), "v");
        scene.thaw();
        assert_eq!(loader.reply().text(), "lib");
        assert_eq!(callers[0].reply(), Value::Integer(1));
        let refused = "ERR Can not execute a script with write flag using *_ro command.";
        assert_eq!(callers[1].reply(), Value::Error(refused.into()));
        callers[2..].iter_mut().for_each(|caller| {
            caller.reply();
        });
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("FCALL f 0"), Value::Integer(1));
    }

    fn a_script_that_fails_after_a_write_is_held_and_its_write_hidden_and_kept(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.freeze();
        let mut writer = scene.held(r#"EVAL "redis.call('SET', KEYS[1], 'v') error('after the write')" 1 k"#);
        let mut reader = scene.server.raw();
        scene.hidden(&mut reader, "GET k");
        scene.thaw();
        let error = format!("{:?}", writer.reply());
        assert!(error.contains("after the write"), "{error}");
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET k").text(), "v");
    }

    fn copy_and_move_that_are_refused_wait_for_either_key_in_its_database(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k a", "SET l b", "SELECT 1", "SET k c", "SELECT 0"]);
        let cases = [
            (0, "SET l x", "COPY k l"),
            (0, "SET k x", "COPY k l"),
            (1, "SET k x", "COPY k k DB 1"),
            (1, "SET k x", "MOVE k 1"),
            (0, "SET k x", "MOVE k 1"),
            (0, "SET l x", "RENAMENX k l"),
        ];
        for (database, change, refused) in cases {
            scene.freeze();
            let mut writer = scene.client_of(database);
            scene.hold(&mut writer, change);
            let mut client = scene.held(refused);
            scene.thaw();
            assert_eq!((writer.reply(), client.reply()), (ok(), Value::Integer(0)), "{refused} after {change}");
        }
        for (database, change, refused) in [(1, "SET l x", "COPY k l"), (0, "SET l x", "MOVE k 1"), (2, "SET k x", "MOVE k 1")] {
            scene.freeze();
            let mut writer = scene.client_of(database);
            scene.hold(&mut writer, change);
            assert_eq!(scene.answer(refused), Value::Integer(0), "{refused} after {change} in {database}");
            scene.thaw();
            writer.reply();
        }
        scene.end();
    }

    fn a_key_that_expires_is_no_ones_write_and_its_reader_need_not_wait(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["DEBUG SET-ACTIVE-EXPIRE 0", "SET k v PX 30", "SET stays s"]);
        scene.freeze();
        // The first reader that comes too late removes the key, and the second finds nothing.
        wait_until("the key has expired", PATIENCE, || {
            let value = scene.answer("GET k");
            assert!(value == Value::Null || value.text() == "v", "{value:?}");
            value == Value::Null
        });
        scene.end();
    }

    // The event of the removal is not the command's own; the server ends the reply's deferral with the first event.
    fn a_write_that_meets_an_expired_key_is_held_all_the_same(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let mut findings = Vec::new();
        for command in [
            "SET k w",
            "SET k w GET",
            "SET k w NX GET",
            "GETSET k w",
            "SETNX k w",
            "INCR k",
            "BITFIELD k GET u8 0 SET u8 8 66",
            "RPUSH k w",
            "LMOVE source k LEFT LEFT",
            "HSET k f w",
            "XADD k 1-1 f v",
            "MSETNX other w k w",
            "RENAME source k",
            "COPY source k",
            "BITOP NOT k number",
        ] {
            scene.prepare(&["FLUSHALL", "DEBUG SET-ACTIVE-EXPIRE 0", "RPUSH source a b", "SET number 5", "SET k v PX 1"]);
            scene.prepare(&["DEBUG SLEEP 0.003"]);
            scene.freeze();
            let mut writer = scene.server.raw();
            writer.send_text(command);
            let held = scene.silence(&mut writer);
            scene.thaw();
            let reply = writer.reply();
            if held.is_err() || reply.is_error() {
                findings.push(format!("{command}: {held:?}, {reply:?}"));
            }
        }
        scene.end();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    fn disabling_releases_readers_and_writers_alike(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.server.reconfigure(|builder| builder.allow_warning("Restoring previous settings"));
        scene.prepare(&["SET k old"]);
        scene.freeze();
        let mut waiting =
            ["SET k v", "GET k", "SETNX k w", "DBSIZE", "FLUSHALL", "GET k"].map(|command| scene.held(command));
        if lever == Lever::Sync {
            // A log whose disk does not answer does not end.
            assert!(scene.control.call(&["CONFIG", "SET", "wbl.enabled", "no"]).is_error());
            scene.thaw();
        }
        scene.control.run("CONFIG SET wbl.enabled no");
        let replies: Vec<String> = waiting.iter_mut().map(|client| format!("{:?}", client.reply())).collect();
        assert_eq!(replies, ["+OK", "\"v\"", ":0", ":1", "+OK", "null"]);
        assert_eq!(scene.gauge("wbl_clients_waiting_ack"), 0);
        assert_eq!(scene.gauge("wbl_uncommitted_keys"), 0);
        assert_eq!(scene.answer("SET k x"), ok());
        assert_eq!(scene.answer("GET k").text(), "x");
        scene.control.run("CONFIG SET wbl.enabled yes");
        wait_until("the module is active", PATIENCE, || scene.server.wbl_info("wbl_state") == "active");
        scene.freeze();
        let mut writer = scene.held("SET k y");
        let mut reader = scene.held("GET k");
        scene.thaw();
        assert_eq!((writer.reply(), reader.reply().text()), (ok(), "y".into()));
        scene.end();
    }
}

each_version! {
    fn each_reply_that_the_loop_waits_with_counts_with_its_reason(version: Version) {
        let mut scene = Scene::start(version);
        let mut client = scene.server.raw();
        client.run("HELLO 3");
        client.run("CLIENT TRACKING ON");
        let counts = |scene: &mut Scene| {
            ["tracking", "transaction", "early_reply", "rights"].map(|reason| scene.gauge(&format!("wbl_waits_{reason}")))
        };
        assert_eq!(counts(&mut scene), [0; 4]);
        scene.until_loop_waits(|_| client.send_text("SET a 1"));
        client.reply();
        assert_eq!(counts(&mut scene), [1, 0, 0, 0]);
        client.run("CLIENT TRACKING OFF");
        client.run("SET a 2");
        for command in ["MULTI", "SET b 1", "SET c 1"] {
            client.run(command);
        }
        scene.until_loop_waits(|_| client.send_text("EXEC"));
        client.reply();
        assert_eq!(counts(&mut scene), [1, 1, 0, 0], "a transaction counts once, and a client that tracks no more not");
        client.run("ACL SETUSER few on nopass ~* +@all -wbl.call");
        client.run("AUTH few any");
        scene.until_loop_waits(|_| client.send_text("GETSET a 3"));
        client.reply();
        assert_eq!(counts(&mut scene), [1, 1, 1, 0]);
        client.run("XGROUP CREATE s g $ MKSTREAM");
        scene.until_loop_waits(|_| client.send_text("XACK s g 1-1"));
        client.reply();
        assert_eq!(counts(&mut scene), [1, 1, 1, 1]);
        scene.end();
    }

    fn pausing_and_resuming_twice_is_the_same_as_once(version: Version) {
        let mut scene = Scene::start(version);
        scene.freeze();
        scene.freeze();
        let mut writer = scene.held("SET k v");
        let mut reader = scene.held("GET k");
        scene.thaw();
        assert_eq!((writer.reply(), reader.reply().text()), (ok(), "v".into()));
        scene.control.run("WBL.DEBUG RESUME");
        assert_eq!(scene.answer("SET k w"), ok());
        scene.assert_idle();
        scene.freeze();
        let mut writer = scene.held("SET k x");
        scene.thaw();
        assert_eq!(writer.reply(), ok());
        scene.end();
    }
}

each_lever! {
    fn a_transaction_over_several_databases_makes_keys_of_each_dirty_and_no_others(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET b clean", "SELECT 3", "SET a clean", "SELECT 0"]);
        let mut readers = [(0, "a"), (3, "b")].map(|(database, key)| (scene.client_of(database), key));
        scene.freeze();
        let mut writer = scene.server.raw();
        for command in ["MULTI", "SET a 1", "SELECT 3", "SET b 1", "SELECT 0"] {
            writer.run(command);
        }
        scene.hold(&mut writer, "EXEC");
        for (reader, key) in &mut readers {
            scene.hidden(reader, &format!("GET {key}"));
        }
        scene.thaw();
        assert_eq!(format!("{:?}", writer.reply()), "[+OK, +OK, +OK, +OK]");
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("MGET a b").items().iter().map(Value::text).collect::<Vec<_>>(), ["1", "clean"]);
    }
}

fn ok() -> Value {
    Value::Simple("OK".into())
}
