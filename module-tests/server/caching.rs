//! Client-side caching: invalidations leave early, but no client reads, and so caches, what is not durable.

use crate::harness::{Lever, RawConnection, Scene, ServerBuilder, Value, Version, each_lever};

const INVALIDATES_K: &str = r#">["invalidate", ["k"]]"#;

/// What a dirty key is read by, the change before, its reply then, the change after.
const READS: &[(&[&str], &str, &str, &str, &str)] = &[
    (&["SET k old"], "GET k", "SET k new", r#""new""#, "SET k newer"),
    (&["SET k old"], "MGET other k", "APPEND k er", r#"[null, "older"]"#, "DEL k"),
    (&["HSET k f old"], "HGETALL k", "HSET k f new", r#"{"f": "new"}"#, "HDEL k f"),
    (&["SADD k a"], "SCARD k", "SADD k b", ":2", "SPOP k"),
    (&["RPUSH k a"], "SORT_RO k ALPHA", "RPUSH k b", r#"["a", "b"]"#, "RPUSH k c"),
    (&["SET k old"], r#"EVAL "return redis.call('GET', KEYS[1])" 1 k"#, "SET k new", r#""new""#, "SET k newer"),
    (&["SET k old"], r#"EVAL_RO "return redis.call('GET', KEYS[1])" 1 k"#, "SET k new", r#""new""#, "SET k newer"),
    (&["SET k old"], "TTL k", "PEXPIRE k 3600000", ":3600", "PERSIST k"),
    (&["SET k old"], "EXISTS k", "DEL k", ":0", "SET k newer"),
];

each_lever! {
    fn who_reads_an_invalidated_key_again_gets_what_is_durable_and_hears_of_later_changes(version: Version, lever: Lever) {
        // The loop waits for clients that track. With threads a 9.1 server may not read the RESUME meanwhile
        // (docs/limits.md).
        let threads: &[&str] = if version == Version::V8_1 { &["1", "4"] } else { &["1"] };
        for threads in threads {
            let mut scene = Scene::of(ServerBuilder::with_module(version).set("io-threads", threads)).with_lever(lever);
            let mut findings = Vec::new();
            for (setup, read, change, expected, later) in READS {
                scene.prepare(&["FLUSHALL"]);
                scene.prepare(setup);
                let mut client = tracker(&scene, "CLIENT TRACKING ON");
                let read = crate::harness::scene::split(read);
                client.call(&read);
                scene.freeze();
                let mut writer = scene.held(change);
                assert_eq!(format!("{:?}", client.reply()), INVALIDATES_K, "{change}");
                client.send(&read);
                let silent = scene.silence(&mut client);
                scene.thaw();
                let found = format!("{:?}", client.reply());
                assert!(!writer.reply().is_error(), "{change}");
                scene.assert_withheld(&mut client, "a second message of the first change");
                scene.prepare(&[later]);
                let again = scene.silence(&mut client);
                if silent.is_err() || found != *expected || again.is_ok() {
                    findings.push(format!("{threads} threads, {setup:?}: {silent:?}, {found}, then {again:?}"));
                    continue;
                }
                assert_eq!(format!("{:?}", client.reply()), INVALIDATES_K, "{later}");
            }
            assert!(findings.is_empty(), "{}", findings.join("\n"));
            scene.end();
        }
    }

    fn who_reads_in_a_transaction_or_waits_for_a_stream_is_told_of_later_changes(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k old"]);
        let mut client = tracker(&scene, "CLIENT TRACKING ON");
        client.run("GET k");
        scene.freeze();
        let mut writer = scene.held("SET k new");
        assert_eq!(format!("{:?}", client.reply()), INVALIDATES_K);
        client.run("MULTI");
        client.run("GET k");
        scene.hold(&mut client, "EXEC");
        scene.thaw();
        assert_eq!(format!("{:?}", client.reply()), r#"["new"]"#);
        writer.reply();
        scene.prepare(&["SET k newer"]);
        assert_eq!(format!("{:?}", client.reply()), INVALIDATES_K);

        scene.prepare(&["DEL k", "XADD k 1-1 f v"]);
        client.send_text("XREAD BLOCK 0 STREAMS k $");
        scene.wait_blocked(1);
        scene.freeze();
        let mut writer = scene.server.raw();
        // The loop waits for a client that tracks; so does the writer.
        scene.hidden(&mut writer, "XADD k 2-2 f v");
        if let Err(finding) = scene.silence(&mut client) {
            // An invalidation may come early; the entry may not.
            assert!(finding.contains("invalidate") && !finding.contains("2-2"), "{finding}");
        }
        scene.thaw();
        assert_eq!(writer.reply().text(), "2-2");
        let mut served = format!("{:?}", client.reply());
        if served == INVALIDATES_K {
            served = format!("{:?}", client.reply());
        }
        assert_eq!(served, r#"{"k": [["2-2", ["f", "v"]]]}"#);
        scene.end();
    }

    fn messages_to_another_connection_broadcasts_and_opting_in_leave_nothing_to_cache(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        for (tracking, before_read) in [
            ("CLIENT TRACKING ON REDIRECT", None),
            ("CLIENT TRACKING ON BCAST REDIRECT", None),
            ("CLIENT TRACKING ON BCAST PREFIX k REDIRECT", None),
            ("CLIENT TRACKING ON OPTIN REDIRECT", Some("CLIENT CACHING YES")),
            ("CLIENT TRACKING ON OPTOUT REDIRECT", None),
            ("CLIENT TRACKING ON BCAST", None),
            ("CLIENT TRACKING ON OPTIN", Some("CLIENT CACHING YES")),
            ("CLIENT TRACKING ON OPTOUT NOLOOP", None),
        ] {
            scene.prepare(&["FLUSHALL", "SET k old", "SET clean c"]);
            let mut pair = Pair::open(&scene, tracking);
            pair.prepare_read(before_read);
            assert_eq!(pair.reader.run("GET k").text(), "old");
            scene.freeze();
            let mut writer = scene.held("SET k new");
            pair.expect_message(tracking);
            // What is clean is answered at once.
            assert_eq!(pair.reader.run("GET clean").text(), "c", "{tracking}");
            pair.prepare_read(before_read);
            scene.hold(&mut pair.reader, "GET k");
            scene.thaw();
            assert_eq!(pair.reader.reply().text(), "new", "{tracking}");
            assert_eq!(writer.reply(), Value::Simple("OK".into()));
            scene.prepare(&["SET k newer"]);
            pair.expect_message(tracking);
            assert_eq!(pair.reader.run("GET k").text(), "newer");
        }
        scene.end();
    }

    // What docs/limits.md says about a connection that gets another one's messages and does not track itself.
    fn a_message_to_a_writers_own_connection_comes_before_its_reply_and_shows_nothing(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k old"]);
        let (mut reader, mut writer) = (scene.server.raw(), scene.server.raw());
        writer.run("HELLO 3");
        let id = writer.run("CLIENT ID").integer();
        reader.run(&format!("CLIENT TRACKING ON REDIRECT {id}"));
        reader.run("GET k");
        scene.freeze();
        writer.send_text("SET k new");
        assert_eq!(format!("{:?}", writer.reply()), INVALIDATES_K);
        scene.assert_withheld(&mut writer, "SET");
        scene.hold(&mut reader, "GET k");
        scene.thaw();
        assert_eq!(writer.reply(), Value::Simple("OK".into()));
        assert_eq!(reader.reply().text(), "new");
        scene.end();
    }

    fn who_does_not_opt_in_hears_nothing_and_waits_all_the_same(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k old"]);
        for (tracking, before_read) in
            [("CLIENT TRACKING ON OPTIN", None), ("CLIENT TRACKING ON OPTOUT", Some("CLIENT CACHING NO"))]
        {
            let mut client = tracker(&scene, tracking);
            scene.freeze();
            let mut writer = scene.held("SET k new");
            before_read.into_iter().for_each(|command| drop(client.run(command)));
            scene.hold(&mut client, "GET k");
            scene.thaw();
            assert_eq!(client.reply().text(), "new");
            writer.reply();
            scene.prepare(&["SET k newer"]);
            scene.assert_withheld(&mut client, tracking);
        }
        scene.end();
    }

    fn a_client_that_tracks_gets_the_bytes_of_a_stock_server_for_its_own_changes(version: Version, lever: Lever) {
        let commands = [
            "GET k",
            "SET k new",
            "GET k",
            "SADD s a b",
            "SMEMBERS s",
            "SREM s a",
            r#"EVAL "return {redis.call('GET', KEYS[1]), redis.call('SET', KEYS[1], 'script')}" 1 k"#,
            "GET k",
            "DEL k",
            "FLUSHALL",
        ];
        for tracking in ["CLIENT TRACKING ON", "CLIENT TRACKING ON NOLOOP", "CLIENT TRACKING ON BCAST"] {
            let stock = ServerBuilder::stock(version).in_memory().start();
            stock.raw().run("SET k old");
            let mut model = stock.raw();
            let mut scene = Scene::start(version).with_lever(lever);
            scene.prepare(&["SET k old"]);
            let mut client = tracker(&scene, tracking);
            model.run("HELLO 3");
            model.run(tracking);
            for command in commands {
                let words = crate::harness::scene::split(command);
                model.send(&words);
                let expected = replies(&mut model, &mut stock.raw());
                scene.freeze();
                client.send(&words);
                let silent = scene.silence(&mut client);
                scene.thaw();
                let found = replies(&mut client, &mut scene.control);
                assert_eq!(found, expected, "{tracking}: {command}");
                let is_read = command.starts_with("GET") || command.starts_with("SMEMBERS");
                assert_eq!(silent.is_ok(), !is_read, "{tracking}: {command}: {silent:?}");
                scene.assert_idle();
            }
            scene.end();
        }
    }
}

/// A client of the third protocol that is told of changes.
fn tracker(scene: &Scene, tracking: &str) -> RawConnection {
    let mut client = scene.server.raw();
    client.run("HELLO 3");
    client.run(tracking);
    client
}

/// All that the client is sent for one command: its reply, and messages before and after it.
fn replies(client: &mut RawConnection, witness: &mut RawConnection) -> Vec<String> {
    let mut found = vec![format!("{:?}", client.reply())];
    while client.silent(witness).is_err() {
        found.push(format!("{:?}", client.reply()));
    }
    found
}

/// A client that reads, and its second connection for the messages when it speaks the second protocol.
struct Pair {
    reader: RawConnection,
    listener: Option<RawConnection>,
}

impl Pair {
    fn open(scene: &Scene, tracking: &str) -> Pair {
        if !tracking.ends_with("REDIRECT") {
            return Pair { reader: tracker(scene, tracking), listener: None };
        }
        let (mut reader, mut listener) = (scene.server.raw(), scene.server.raw());
        let id = listener.run("CLIENT ID").integer();
        listener.run("SUBSCRIBE __redis__:invalidate");
        reader.run(&format!("{tracking} {id}"));
        Pair { reader, listener: Some(listener) }
    }

    fn prepare_read(&mut self, command: Option<&str>) {
        command.into_iter().for_each(|command| drop(self.reader.run(command)));
    }

    fn expect_message(&mut self, what: &str) {
        let (client, message) = match &mut self.listener {
            Some(listener) => (listener, r#"["message", "__redis__:invalidate", ["k"]]"#),
            None => (&mut self.reader, INVALIDATES_K),
        };
        assert_eq!(format!("{:?}", client.reply()), message, "{what}");
    }
}
