//! Readers of keys that are written all the time get the newest durable value and do not wait, where nobody can know of
//! a newer one.

use crate::harness::resp::encode;
use crate::harness::scene::split;
use crate::harness::{Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Value, Version, each_lever, wait_until};
use std::time::Instant;

/// Reads of `k`, which holds `old`, and what they show.
const READS: &[(&str, &str)] = &[
    ("GET k", "\"old\""),
    ("MGET clean k none k", "[\"c\", \"old\", null, \"old\"]"),
    ("STRLEN k", ":3"),
    ("GETRANGE k 1 -1", "\"ld\""),
    ("SUBSTR k -99 0", "\"o\""),
    ("EXISTS k clean none k", ":3"),
];

each_lever! {
    fn readers_of_a_hot_key_get_its_durable_value_at_once(version: Version, lever: Lever) {
        let mut findings = Vec::new();
        for change in [
            "SET k newer",
            "SET k newer GET",
            "SETEX k 100 newer",
            "GETSET k newer",
            "MSET k newer other o",
            "APPEND k er",
            "GETDEL k",
            "PEXPIRE k -1",
            "RENAME spare k",
            r#"EVAL "redis.call('SET','k','newer')" 1 k"#,
        ] {
            let mut scene = with_hot_keys(version, lever, &["SET k old"]);
            let mut writer = scene.held(change);
            let before = scene.gauge("wbl_reads_from_durable");
            for protocol in ["HELLO 2", "HELLO 3"] {
                let mut reader = impatient(&scene);
                reader.run(protocol);
                for (read, expected) in READS {
                    findings.extend(wrong(&mut reader, read, expected).map(|finding| format!("{change}: {finding}")));
                }
            }
            assert!(!findings.is_empty() || scene.gauge("wbl_reads_from_durable") - before == 2 * READS.len() as i64);
            scene.thaw();
            assert!(!writer.reply().is_error(), "{change}");
            scene.end();
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    // Whoever tracks or watches keys may know of what is pending, but not where the server refuses that.
    fn tracking_and_watching_that_are_refused_or_over_make_no_reader_wait(version: Version, lever: Lever) {
        for command in ["CLIENT TRACKING ON", "WATCH k"] {
            let mut scene = with_hot_keys(version, lever, &["SET k old"]);
            scene.control.run("ACL SETUSER poor on nopass -@all +auth");
            let (mut reader, mut poor, mut former) = (impatient(&scene), scene.server.raw(), scene.server.raw());
            poor.run("AUTH poor any");
            ["HELLO 3", "CLIENT TRACKING ON", "CLIENT TRACKING OFF"].iter().for_each(|command| drop(former.run(command)));
            let mut writer = scene.held("SET k newer");
            scene.control.run("CONFIG SET requirepass secret");
            for mut client in [poor, scene.server.raw()] {
                let reply = client.call(&split(command));
                assert!(reply.is_error(), "{command}: {reply:?}");
                assert_eq!(wrong(&mut reader, "GET k", "\"old\""), None, "after {command}: {reply:?}");
            }
            scene.control.run("CONFIG SET requirepass ");
            scene.thaw();
            assert_eq!(writer.reply(), Value::Simple("OK".into()));
            scene.end();
        }
    }

    fn a_key_that_is_not_there_may_be_hot(version: Version, lever: Lever) {
        let mut scene = with_hot_keys(version, lever, &["SET k v", "DEL k"]);
        let mut writer = scene.held("SET k new");
        let mut reader = impatient(&scene);
        for (read, expected) in [
            ("GET k", "null"),
            ("MGET k clean", "[null, \"c\"]"),
            ("STRLEN k", ":0"),
            ("GETRANGE k 0 -1", "\"\""),
            ("EXISTS k", ":0"),
        ] {
            assert_eq!(wrong(&mut reader, read, expected), None);
        }
        scene.thaw();
        assert_eq!(writer.reply(), Value::Simple("OK".into()));
        scene.end();
    }

    // The change has come in time, so that the key has never gone.
    fn a_key_that_a_pending_change_keeps_is_never_shown_as_gone(version: Version, lever: Lever) {
        const LIFE_MS: u64 = 2000;
        let mut scene = with_hot_keys(version, lever, &["SET k old", &format!("PEXPIRE k {LIFE_MS}")]);
        let begun = Instant::now();
        let mut writer = scene.held("PEXPIRE k 600000");
        assert_eq!(wrong(&mut impatient(&scene), "GET k", "\"old\""), None);
        wait_until("the durable value expires", PATIENCE, || begun.elapsed().as_millis() > u128::from(LIFE_MS));
        let mut readers = ["GET k", "STRLEN k", "EXISTS k", "MGET k clean"].map(|read| scene.held(read));
        scene.thaw();
        assert_eq!(writer.reply().integer(), 1);
        let shown: Vec<String> = readers.iter_mut().map(|reader| format!("{:?}", reader.reply())).collect();
        assert_eq!(shown, ["\"old\"", ":3", ":1", "[\"old\", \"c\"]"]);
        scene.end();
    }

    fn nobody_reads_an_older_value_than_a_watch_has_seen(version: Version, lever: Lever) {
        let mut scene = with_hot_keys(version, lever, &["SET k old"]);
        let mut writer = scene.held("SET k new");
        assert_eq!(wrong(&mut impatient(&scene), "GET k", "\"old\""), None);
        let mut watcher = scene.server.raw();
        watcher.run("WATCH k");
        // Another connection of the same program: what it reads is to be changed by the transaction.
        let mut reader = scene.held("GET k");
        scene.thaw();
        assert_eq!((writer.reply(), reader.reply().text()), (Value::Simple("OK".into()), "new".into()));
        ["MULTI", "APPEND k est", "EXEC"].iter().for_each(|command| drop(watcher.run(command)));
        assert_eq!(reader.run("GET k").text(), "newest");
        scene.end();
    }

    fn what_a_unit_changes_is_shown_all_or_nothing(version: Version, lever: Lever) {
        for change in ["MSET k 1 j 1", r#"EVAL "redis.call('SET','k',1) redis.call('SET','j',1)" 2 k j"#] {
            let mut scene = with_hot_keys(version, lever, &["MSET k 0 j 0"]);
            let mut reader = impatient(&scene);
            let mut writer = scene.held(change);
            for (read, expected) in [("MGET k j", "[\"0\", \"0\"]"), ("GET j", "\"0\""), ("GET k", "\"0\"")] {
                assert_eq!(wrong(&mut reader, read, expected), None);
            }
            scene.thaw();
            writer.reply();
            scene.prepare(&[]);
            scene.freeze();
            let mut writer = scene.held("SET k 2");
            for (read, expected) in [("MGET k j", "[\"1\", \"1\"]"), ("GET j", "\"1\""), ("GET k", "\"1\"")] {
                assert_eq!(wrong(&mut reader, read, expected), None);
            }
            let mut second = scene.held("SET j 2");
            assert_eq!(wrong(&mut reader, "MGET j k clean", "[\"1\", \"1\", \"c\"]"), None);
            scene.thaw();
            writer.reply();
            second.reply();
            scene.prepare(&[]);
            assert_eq!(wrong(&mut reader, "MGET j k", "[\"2\", \"2\"]"), None);
            scene.end();
        }
    }

    fn the_first_reader_and_readers_of_other_keys_and_types_wait(version: Version, lever: Lever) {
        let mut scene = with_hot_keys(version, lever, &["SET k old", "SET cold c", "HSET hash f v"]);
        let mut waiting = vec![scene.held("MSET k new cold new"), scene.held("HSET hash f new")];
        for read in ["GET cold", "MGET k cold", "HGET hash f", "TTL k", "TYPE k", "DUMP k", "DBSIZE", "SETNX k x"] {
            waiting.push(scene.held(read));
        }
        scene.thaw();
        waiting.iter_mut().for_each(|client| drop(client.reply()));
        scene.end();
    }

    fn what_is_changed_as_a_whole_or_into_another_type_is_waited_for(version: Version, lever: Lever) {
        for change in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "RPUSH k x"] {
            let mut scene = with_hot_keys(version, lever, &["SET k old"]);
            let mut waiting = Vec::new();
            if change.starts_with("RPUSH") {
                waiting.push(scene.held("DEL k"));
            }
            waiting.push(scene.held(change));
            waiting.push(scene.held("GET k"));
            scene.thaw();
            waiting.iter_mut().for_each(|client| drop(client.reply()));
            scene.end();
        }
    }

    fn a_client_reads_what_it_has_written(version: Version, lever: Lever) {
        let mut scene = with_hot_keys(version, lever, &["SET k old"]);
        let mut client = scene.server.raw();
        // One after the other, and as the loop waits for a client that pipelines, within an iteration.
        for _ in 0..3 {
            let both = [encode(&["SET", "k", "own"]), encode(&["GET", "k"])].concat();
            client.send_bytes(&both).expect("the server takes the commands");
            scene.assert_withheld(&mut client, "SET and GET");
            scene.thaw();
            assert_eq!((client.reply(), client.reply().text()), (Value::Simple("OK".into()), "own".into()));
            scene.prepare(&["SET k old"]);
            scene.freeze();
        }
        scene.end();
    }

    fn what_a_client_has_done_or_seen_in_an_iteration_stays_so(version: Version, lever: Lever) {
        // The loop waits for transactions, and their client may go on.
        for (inner, shown) in [("SET k new", "+OK"), ("TYPE k", "+string")] {
            let mut scene = with_hot_keys(version, lever, &["SET k old"]);
            let mut waiting = if shown == "+OK" { Vec::new() } else { vec![scene.held("SET k new")] };
            let mut client = scene.server.raw();
            let all = ["MULTI", inner, "EXEC", "GET k"].map(|command| encode(&split(command))).concat();
            client.send_bytes(&all).expect("the server takes the commands");
            scene.settle();
            scene.thaw();
            let replies: Vec<String> = (0..4).map(|_| format!("{:?}", client.reply())).collect();
            assert_eq!(replies[2..], [format!("[{shown}]"), "\"new\"".into()], "{inner}");
            waiting.iter_mut().for_each(|client| drop(client.reply()));
            scene.end();
        }
    }

    fn transactions_scripts_and_watchers_see_the_present(version: Version, lever: Lever) {
        let mut scene = with_hot_keys(version, lever, &["SET k 1"]);
        let (mut watcher, mut early) = (scene.server.raw(), scene.server.raw());
        early.run("WATCH other");
        let mut writer = scene.held("INCR k");
        scene.hold(&mut early, "GET k");
        // Else the transaction would be based on the value before a write that it does not see.
        let watch = [encode(&["WATCH", "k"]), encode(&["GET", "k"])].concat();
        watcher.send_bytes(&watch).expect("the server takes the commands");
        wait_until("the first reply", PATIENCE, || watcher.ready_reply().is_some_and(|reply| reply.text() == "OK"));
        scene.assert_withheld(&mut watcher, "GET of a watcher");
        let mut waiting = vec![scene.held(r#"EVAL "return redis.call('GET', KEYS[1])" 1 k"#)];
        waiting.push(scene.held(r#"EVAL_RO "return redis.call('GET', KEYS[1])" 1 k"#));
        scene.thaw();
        assert_eq!(watcher.reply().text(), "2");
        assert_eq!(writer.reply().integer(), 2);
        waiting.iter_mut().for_each(|client| assert_eq!(client.reply().text(), "2"));

        watcher.run("UNWATCH");
        scene.prepare(&[]);
        let mut transaction = scene.server.raw();
        for command in ["MULTI", "GET k"] {
            transaction.run(command);
        }
        scene.freeze();
        let mut writer = scene.held("INCR k");
        let mut reader = impatient(&scene);
        assert_eq!((wrong(&mut reader, "GET k", "\"2\""), wrong(&mut watcher, "GET k", "\"2\"")), (None, None));
        scene.hidden(&mut transaction, "EXEC");
        scene.thaw();
        writer.reply();
        scene.end();
    }

    fn nobody_reads_an_older_value_than_a_message_has_told_of(version: Version, lever: Lever) {
        for script in [
            "redis.call('SET','k','new') redis.call('PUBLISH','c','k')",
            "redis.call('SPUBLISH','c',redis.call('GET','k'))",
        ] {
            let mut scene = with_hot_keys(version, lever, &["SET k old"]);
            let mut subscriber = scene.server.raw();
            subscriber.run("SSUBSCRIBE c");
            subscriber.run("SUBSCRIBE c");
            let mut waiting = Vec::new();
            if script.contains("GET") {
                waiting.push(scene.held("SET k new"));
            }
            waiting.push(scene.held(&format!("EVAL \"{script}\" 1 k")));
            assert!(format!("{:?}", subscriber.reply()).contains("message"), "{script}");
            let mut reader = scene.held("GET k");
            scene.thaw();
            assert_eq!(reader.reply().text(), "new", "{script}");
            waiting.iter_mut().for_each(|client| drop(client.reply()));
            // It is known to nobody again.
            scene.prepare(&[]);
            scene.freeze();
            waiting.push(scene.held("SET k newer"));
            assert_eq!(wrong(&mut impatient(&scene), "GET k", "\"new\""), None, "{script}");
            scene.end();
        }
    }

    fn nobody_reads_an_older_value_than_a_notification_has_told_of(version: Version, lever: Lever) {
        let mut scene = with_hot_keys(version, lever, &["SET k old"]);
        scene.control.run("CONFIG SET notify-keyspace-events KEA");
        let mut waiting = vec![scene.held("SET k new"), scene.held("GET k")];
        scene.control.call(&["CONFIG", "SET", "notify-keyspace-events", ""]);
        waiting.push(scene.held("GET k"));
        scene.thaw();
        waiting.iter_mut().for_each(|client| drop(client.reply()));
        scene.end();

        let mut scene = with_hot_keys(version, lever, &["SET k old"]);
        let mut writer = scene.held("SET k new");
        scene.control.run("CONFIG SET notify-keyspace-events KEA");
        let mut reader = scene.held("GET k");
        scene.thaw();
        writer.reply();
        reader.reply();
        scene.end();
    }

    fn nobody_caches_a_value_that_was_invalidated_before(version: Version, lever: Lever) {
        // The reads of others, too: a client that tracks all keys serves those of a whole pool.
        for tracks_first in [true, false] {
            let mut scene = with_hot_keys(version, lever, &["SET k old"]);
            let mut tracker = scene.server.raw();
            tracker.run("HELLO 3");
            let mut waiting = Vec::new();
            if tracks_first {
                tracker.run("CLIENT TRACKING ON BCAST");
            }
            waiting.push(scene.held("SET k new"));
            if tracks_first {
                assert!(format!("{:?}", tracker.reply()).contains("invalidate"));
            } else {
                tracker.run("CLIENT TRACKING ON BCAST");
            }
            waiting.push(scene.held("GET k"));
            drop(tracker);
            if tracks_first {
                // It is gone, and what it was told is still known.
                waiting.push(scene.held("GET k"));
            }
            scene.thaw();
            waiting.iter_mut().for_each(|client| drop(client.reply()));
            scene.end();
        }
    }

    fn a_read_copies_no_value_for_each_time_that_it_names_the_key(version: Version, lever: Lever) {
        const NAMED: usize = 2000;
        let value = "x".repeat(65_000);
        let mut scene = with_hot_keys(version, lever, &[&format!("SET k {value}")]);
        let mut writer = scene.held("APPEND k y");
        let mut reader = impatient(&scene);
        assert_eq!(wrong(&mut reader, "STRLEN k", ":65000"), None);
        let before = scene.server.peak_memory();
        let read = format!("EXISTS{}", " k".repeat(NAMED));
        assert_eq!(wrong(&mut reader, &read, &format!(":{NAMED}")), None);
        let copied = scene.server.peak_memory() - before;
        assert!(copied < (value.len() * NAMED / 10) as u64, "{copied} bytes");
        scene.thaw();
        writer.reply();
        scene.end();
    }

    fn reads_count_as_if_the_server_had_answered_them(version: Version, lever: Lever) {
        let mut scene = with_hot_keys(version, lever, &["SET k old"]);
        let mut writer = scene.held("SET k new");
        let mut reader = impatient(&scene);
        assert_eq!(wrong(&mut reader, "GET k", "\"old\""), None);
        scene.control.run("CONFIG RESETSTAT");
        for _ in 0..10 {
            assert_eq!(wrong(&mut reader, "GET k", "\"old\""), None);
            assert_eq!(wrong(&mut reader, "MGET k none", "[\"old\", null]"), None);
        }
        let of = |scene: &mut Scene, section: &str, field: &str| {
            crate::harness::server::info_field(&mut scene.control, section, field).expect("the field")
        };
        let statistics = ["keyspace_hits", "keyspace_misses"].map(|field| of(&mut scene, "stats", field));
        assert_eq!(statistics, ["20", "10"]);
        assert!(of(&mut scene, "commandstats", "cmdstat_get").starts_with("calls=10,"));
        assert_eq!((scene.gauge("wbl_hot_keys"), scene.gauge("wbl_hot_keys_bytes") > 0), (1, true));
        scene.thaw();
        writer.reply();
        scene.end();
    }
}

/// A server in which these commands have been run, and everybody has read `k` and `j` while they were dirty. Its disk
/// stands still.
fn with_hot_keys(version: Version, lever: Lever, setup: &[&str]) -> Scene {
    let mut scene = Scene::of(ServerBuilder::with_module(version)).with_lever(lever);
    scene.prepare(&["SET clean c", "SET spare newer"]);
    let (last, before) = setup.split_last().expect("a command");
    scene.prepare(before);
    scene.freeze();
    let mut waiting = vec![scene.held(last)];
    let keys = ["k", "j"].into_iter().filter(|key| split(last).iter().any(|word| word == key.as_bytes()));
    keys.for_each(|key| waiting.push(scene.held(&format!("GET {key}"))));
    scene.thaw();
    waiting.iter_mut().for_each(|client| drop(client.reply()));
    scene.prepare(&[]);
    scene.freeze();
    scene
}

/// A client that need not wait long.
fn impatient(scene: &Scene) -> RawConnection {
    scene.server.raw().with_patience(PATIENCE / 10)
}

/// What is wrong with the answer to a read, which need not wait.
fn wrong(reader: &mut RawConnection, read: &str, expected: &str) -> Option<String> {
    reader.send(&split(read));
    match reader.try_reply() {
        Ok(reply) if format!("{reply:?}") == expected => None,
        Ok(reply) => Some(format!("{read} gives {reply:?} and not {expected}")),
        Err(error) => Some(format!("{read} waits: {error}")),
    }
}
