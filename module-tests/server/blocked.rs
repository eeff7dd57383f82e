//! Clients that wait in BLPOP, XREAD BLOCK and their kin: they are served what is durable, and time-outs, CLIENT
//! UNBLOCK and disconnects mean what they always do.

use crate::harness::{Lever, RawConnection, Scene, ServerBuilder, Value, Version, each_lever};

const GROUP_READ: &str = "XREADGROUP GROUP g c BLOCK 0 STREAMS s >";

/// What waits, what serves it, and the reply in the third version of the protocol's words.
const SERVED: &[(&str, &str, &str)] = &[
    ("XREAD BLOCK 0 STREAMS s $", "XADD s 9-9 f v", r#"{"s": [["9-9", ["f", "v"]]]}"#),
    ("XREAD BLOCK 0 STREAMS other s $ $", "XADD s 9-9 f v", r#"{"s": [["9-9", ["f", "v"]]]}"#),
    ("XREAD COUNT 1 BLOCK 0 STREAMS s 5-5", "XADD s 9-9 f v", r#"{"s": [["9-9", ["f", "v"]]]}"#),
    (GROUP_READ, "XADD s 9-9 f v", r#"{"s": [["9-9", ["f", "v"]]]}"#),
    ("XREADGROUP GROUP g new BLOCK 0 NOACK STREAMS s >", "XADD s 9-9 f v", r#"{"s": [["9-9", ["f", "v"]]]}"#),
    ("BLPOP none k 0", "RPUSH k a b", r#"["k", "a"]"#),
    ("BRPOP k 0", "EVAL \"return redis.call('RPUSH', 'k', 'a', 'b')\" 0", r#"["k", "b"]"#),
    ("BLPOP k 0", "RENAME full k", r#"["k", "x"]"#),
    ("BLPOP k 0", "COPY full k", r#"["k", "x"]"#),
    ("BLPOP k 0", "SORT full ALPHA STORE k", r#"["k", "x"]"#),
    ("BLPOP k 0", "LMOVE full k LEFT LEFT", r#"["k", "x"]"#),
    ("BLMOVE k l LEFT RIGHT 0", "RPUSH k a", r#""a""#),
    ("BRPOPLPUSH k l 0", "RPUSH k a", r#""a""#),
    ("BLMPOP 0 2 none k LEFT COUNT 2", "RPUSH k a b", r#"["k", ["a", "b"]]"#),
    ("BZPOPMIN k 0", "ZADD k 1 a 2 b", r#"["k", "a", ,1]"#),
    ("BZPOPMAX k 0", "ZUNIONSTORE k 1 scores", r#"["k", "m", ,5]"#),
    ("BZMPOP 0 1 k MAX", "ZADD k 1 a 2 b", r#"["k", [["b", ,2]]]"#),
    // What they wait for ceases to be.
    (GROUP_READ, "DEL s", "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option"),
    (
        GROUP_READ,
        "XGROUP DESTROY s g",
        "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option",
    ),
    (GROUP_READ, "SET s v", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
    (GROUP_READ, "FLUSHALL", "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option"),
];

each_lever! {
    fn who_waits_is_served_when_what_it_gets_is_durable_and_its_connection_goes_on(version: Version, lever: Lever) {
        for threads in ["1", "4"] {
            let builder = ServerBuilder::with_module(version).set("io-threads", threads);
            let mut scene = Scene::of(builder).with_lever(lever);
            let mut findings = Vec::new();
            for (wait, serve, expected) in SERVED {
                let mut waiter = waits_at_a_frozen_disk(&mut scene, wait);
                let mut server = scene.held(serve);
                let silent = scene.silence(&mut waiter);
                scene.thaw();
                let reply = waiter.try_reply().map(|reply| format!("{reply:?}"));
                if silent.is_err() || reply.as_ref().ok().map(String::as_str) != Some(expected) {
                    findings.push(format!("{wait} and {serve}: {silent:?}, {reply:?}"));
                    continue;
                }
                assert!(!server.reply().is_error(), "{serve}");
                assert_eq!(waiter.run("PING"), Value::Simple("PONG".into()));
                scene.assert_idle();
            }
            assert!(findings.is_empty(), "{threads} threads:\n{}", findings.join("\n"));
            scene.end();
        }
    }

    fn what_was_served_while_the_offset_stood_still_survives_a_crash_as_it_was_told(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        for (wait, serve, expected) in SERVED.iter().filter(|(.., expected)| !expected.starts_with('-')) {
            let mut waiter = waits_at_a_frozen_disk(&mut scene, wait);
            let mut server = scene.held(serve);
            scene.thaw();
            assert_eq!(&format!("{:?}", waiter.reply()), expected, "{wait} and {serve}");
            server.reply();
            let before = crate::harness::dataset::read(&mut scene.control);
            scene.server.kill9_and_restart();
            scene.control = scene.server.raw();
            let after = crate::harness::dataset::read(&mut scene.control);
            crate::harness::dataset::assert_same(&after, &before, &format!("{wait} and {serve}"));
        }
    }

    fn several_readers_of_one_entry_and_several_consumers_of_a_list_are_served_in_order(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        prepare(&mut scene);
        let waits = ["XREAD BLOCK 0 STREAMS s $", "XREAD BLOCK 0 STREAMS s $", "BLPOP k 0", "BLPOP k 0", "BLMOVE k l LEFT LEFT 0"];
        let mut waiters: Vec<RawConnection> = Vec::new();
        for (index, wait) in waits.iter().enumerate() {
            let mut waiter = scene.server.raw();
            waiter.send(&crate::harness::scene::split(wait));
            scene.wait_blocked(index + 1);
            waiters.push(waiter);
        }
        scene.freeze();
        let mut first = scene.held("XADD s 9-9 f v");
        let mut second = scene.held("RPUSH k a b c");
        for waiter in &mut waiters {
            scene.assert_withheld(waiter, "a waiter");
        }
        assert_eq!(scene.answer("EXISTS never").integer(), 0);
        scene.thaw();
        assert_eq!((first.reply().text(), second.reply().integer()), ("9-9".into(), 3));
        let replies: Vec<String> = waiters.iter_mut().map(|waiter| format!("{:?}", waiter.reply())).collect();
        let entry = r#"[["s", [["9-9", ["f", "v"]]]]]"#;
        assert_eq!(replies, [entry, entry, r#"["k", "a"]"#, r#"["k", "b"]"#, r#""c""#]);
        scene.end();
    }

    fn what_a_waiting_client_has_sent_behind_its_wait_is_answered_in_order(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        prepare(&mut scene);
        for (wait, serve) in [("XREAD BLOCK 0 STREAMS s $", "XADD s 9-9 f v"), ("BLPOP k 0", "RPUSH k a")] {
            let mut waiter = scene.server.raw();
            for command in [wait, "SET behind v", "GET behind", "ECHO end"] {
                waiter.send_text(command);
            }
            scene.wait_blocked(1);
            scene.freeze();
            let mut server = scene.held(serve);
            scene.assert_withheld(&mut waiter, wait);
            scene.thaw();
            waiter.reply();
            let replies: Vec<String> = (0..3).map(|_| waiter.reply().text()).collect();
            assert_eq!(replies, ["OK", "v", "end"], "{wait}");
            server.reply();
            scene.assert_idle();
        }
        scene.end();
    }

    fn time_outs_are_told_while_others_wait_for_the_disk(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        prepare(&mut scene);
        scene.freeze();
        let mut writer = scene.held("SET dirty v");
        for wait in [
            "XREAD BLOCK 20 STREAMS s $",
            "XREADGROUP GROUP g c BLOCK 20 STREAMS s >",
            "BLPOP k 0.02",
            "BLMOVE k l LEFT LEFT 0.02",
            "BLMPOP 0.02 1 k LEFT",
            "BZPOPMIN k 0.02",
        ] {
            assert_eq!(scene.answer(wait), Value::Null, "{wait}");
        }
        scene.thaw();
        writer.reply();
        scene.end();
    }

    fn a_time_out_does_not_end_the_wait_of_who_was_served(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        for (wait, serve, expected) in [
            ("BLPOP k 0.1", "RPUSH k a", r#"["k", "a"]"#),
            ("BZPOPMIN k 0.1", "ZADD k 1 a", r#"["k", "a", "1"]"#),
            ("XREAD BLOCK 100 STREAMS s $", "XADD s 9-9 f v", r#"[["s", [["9-9", ["f", "v"]]]]]"#),
            ("XREADGROUP GROUP g c BLOCK 100 STREAMS s >", "XADD s 9-9 f v", r#"[["s", [["9-9", ["f", "v"]]]]]"#),
        ] {
            prepare(&mut scene);
            scene.freeze();
            let mut waiter = scene.server.raw();
            // In this order on one connection's heels, so that the time-out is still far.
            waiter.send(&crate::harness::scene::split(wait));
            let mut server = scene.held(serve);
            // Another client's time-out tells that the time has passed.
            assert_eq!(scene.answer("BLPOP none 0.2"), Value::Null);
            scene.assert_withheld(&mut waiter, wait);
            scene.thaw();
            assert_eq!(format!("{:?}", waiter.reply()), expected, "{wait}");
            server.reply();
            assert_eq!(waiter.run("PING"), Value::Simple("PONG".into()));
        }
        scene.end();
    }

    fn client_unblock_ends_a_wait_for_data_and_not_a_wait_for_the_disk(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        for wait in ["XREAD BLOCK 0 STREAMS s $", GROUP_READ, "BLPOP k 0"] {
            prepare(&mut scene);
            let (mut timed_out, mut failed) = (scene.server.raw(), scene.server.raw());
            let [first, second] = [&mut timed_out, &mut failed].map(|client| client.run("CLIENT ID").integer());
            timed_out.send_text(wait);
            failed.send_text(wait);
            scene.wait_blocked(2);
            scene.freeze();
            let mut writer = scene.held("SET dirty v");
            assert_eq!(scene.answer(&format!("CLIENT UNBLOCK {first} TIMEOUT")).integer(), 1);
            assert_eq!(timed_out.reply(), Value::Null, "{wait}");
            assert_eq!(scene.answer(&format!("CLIENT UNBLOCK {second} ERROR")).integer(), 1);
            let error = format!("{:?}", failed.reply());
            assert_eq!(error, "-UNBLOCKED client unblocked via CLIENT UNBLOCK", "{wait}");
            scene.thaw();
            writer.reply();
        }
        // Who was served something that is gone for all others gets it.
        prepare(&mut scene);
        for (wait, serve, expected) in [
            ("BLPOP k 0", "RPUSH k a", r#"["k", "a"]"#),
            ("BLMOVE k l LEFT LEFT 0", "RPUSH k a", r#""a""#),
            ("BZPOPMIN z 0", "ZADD z 1 a", r#"["z", "a", "1"]"#),
            (GROUP_READ, "XADD s 9-9 f v", r#"[["s", [["9-9", ["f", "v"]]]]]"#),
        ] {
            let mut waiter = scene.server.raw();
            let id = waiter.run("CLIENT ID").integer();
            waiter.send(&crate::harness::scene::split(wait));
            scene.wait_blocked(1);
            scene.freeze();
            let mut server = scene.held(serve);
            for way in ["TIMEOUT", "ERROR"] {
                scene.answer(&format!("CLIENT UNBLOCK {id} {way}"));
                scene.assert_withheld(&mut waiter, &format!("{wait}, served, after CLIENT UNBLOCK {way}"));
            }
            scene.thaw();
            assert_eq!(format!("{:?}", waiter.reply()), expected);
            server.reply();
        }
        scene.end();
    }

    fn waiting_clients_that_leave_do_no_harm_before_or_after_they_are_served(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        for (wait, serve) in [("BLPOP k 0", "RPUSH k a"), ("XREAD BLOCK 0 STREAMS s $", "XADD s * f v"), (GROUP_READ, "XADD s * f v")] {
            prepare(&mut scene);
            let (early, late, mut killed) = (scene.server.raw(), scene.server.raw(), scene.server.raw());
            let mut waiters = [early, late];
            let id = killed.run("CLIENT ID").integer();
            waiters.iter_mut().for_each(|waiter| waiter.send_text(wait));
            killed.send_text(wait);
            scene.wait_blocked(3);
            scene.freeze();
            let [early, mut late] = waiters;
            drop(early);
            let mut servers = [scene.held(serve), scene.held(serve)];
            scene.assert_withheld(&mut late, wait);
            drop(late);
            assert_eq!(scene.answer(&format!("CLIENT KILL ID {id}")).integer(), 1);
            assert!(killed.try_reply().is_err(), "{wait}: a killed client was answered");
            scene.thaw();
            servers.iter_mut().for_each(|server| assert!(!server.reply().is_error()));
            scene.assert_idle();
        }
        let mut server = scene.end();
        let before = crate::harness::dataset::read(&mut server.raw());
        server.kill9_and_restart();
        crate::harness::dataset::assert_same(&crate::harness::dataset::read(&mut server.raw()), &before, "after kill -9");
    }
}

fn prepare(scene: &mut Scene) {
    scene.prepare(&[
        "FLUSHALL",
        "RPUSH full x",
        "ZADD scores 5 m",
        "XADD s 1-1 f v",
        "XGROUP CREATE s g $",
        "XGROUP CREATECONSUMER s g c",
    ]);
}

/// A client that has begun to wait before the disk stood still.
fn waits_at_a_frozen_disk(scene: &mut Scene, wait: &str) -> RawConnection {
    prepare(scene);
    let mut waiter = scene.server.raw();
    waiter.run("HELLO 3");
    waiter.send(&crate::harness::scene::split(wait));
    scene.wait_blocked(1);
    scene.freeze();
    waiter
}
