//! The server makes room (`maxmemory`) after a command has passed the filter and before it runs: a reply that shows the
//! removed keys, or anything else that is not durable, waits.

use crate::harness::scene::split;
use crate::harness::server::info_field;
use crate::harness::{
    Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Value, Version, dataset, each_lever, each_version, wait_until,
};

/// What shows that the key `k` has gone.
const SHOWING: &[&str] = &[
    "GET k",
    "EXISTS k",
    "MGET other k",
    "TTL k",
    "DBSIZE",
    "KEYS *",
    "RANDOMKEY",
    "SCAN 0",
    "SORT_RO missing BY nosort GET k",
    "DEL k",
    "EXPIRE k 10",
    "XREAD STREAMS k 0",
    r#"EVAL "return redis.call('GET', 'k')" 0"#,
    r#"EVAL_RO "return redis.call('DBSIZE')" 0"#,
];

/// What shows nothing of it.
const NOT_SHOWING: &[&str] = &["GET other", "STRLEN other", "PING", "LRANGE missing 0 -1", "MGET other"];

/// Fills the server, whose only key that may go is `k`. It does not go before [`RELEASE`] lets it, at the next command.
fn fill(scene: &mut Scene) {
    scene.prepare(&["CONFIG SET maxmemory 0", "CONFIG SET maxmemory-policy noeviction", "FLUSHALL"]);
    scene.prepare(&["SET other v", "SET k v EX 10000", "CONFIG SET maxmemory 1"]);
}

/// From the next command on the server makes room.
const RELEASE: &str = "CONFIG SET maxmemory-policy volatile-ttl";

fn scene(version: Version) -> Scene {
    Scene::of(ServerBuilder::with_module(version).allow_warning("the new maxmemory value"))
}

/// A reader whose socket takes no more output.
pub fn reader_with_output_left(scene: &mut Scene) -> RawConnection {
    let mut reader = scene.server.raw();
    let id = reader.run("CLIENT ID").integer();
    wait_until("output is left", PATIENCE, || {
        reader.send_text("GET value");
        scene.control.run(&format!("CLIENT LIST ID {id}")).text().contains(" events=rw")
    });
    reader
}

each_lever! {
    fn what_shows_an_evicted_key_waits_for_that(version: Version, lever: Lever) {
        let mut scene = scene(version).with_lever(lever);
        for command in SHOWING {
            fill(&mut scene);
            scene.freeze();
            scene.control.run(RELEASE);
            let mut reader = scene.held(command);
            scene.thaw();
            let reply = reader.reply();
            assert!(!reply.is_error(), "{command}: {reply:?}");
        }
        scene.end();
    }

    fn what_shows_no_evicted_key_does_not_wait(version: Version, lever: Lever) {
        let mut scene = scene(version).with_lever(lever);
        for command in NOT_SHOWING {
            fill(&mut scene);
            scene.freeze();
            scene.control.run(RELEASE);
            let mut reader = scene.server.raw();
            assert!(!reader.call(&split(command)).is_error(), "{command}");
            assert_eq!(scene.gauge("wbl_uncommitted_keys"), 1, "{command}: nothing was evicted");
            scene.thaw();
        }
        scene.end();
    }

    fn a_transaction_that_shows_an_evicted_key_waits_for_that(version: Version, lever: Lever) {
        let mut scene = scene(version).with_lever(lever);
        for (watched, queued, reply) in [
            ("other", "GET k", Value::Array(vec![Value::Null])),
            ("other", "DBSIZE", Value::Array(vec![Value::Integer(1)])),
            ("k", "GET other", Value::Null),
        ] {
            fill(&mut scene);
            let mut client = scene.server.raw();
            for command in [&format!("WATCH {watched}"), "MULTI", queued] {
                client.run(command);
            }
            scene.freeze();
            scene.control.run(RELEASE);
            scene.hold(&mut client, "EXEC");
            scene.thaw();
            assert_eq!(client.reply(), reply, "WATCH {watched}, {queued}");
        }
        scene.end();
    }

    // Its client may not have the module run it.
    fn what_a_script_that_runs_as_sent_shows_after_an_eviction_waits(version: Version, lever: Lever) {
        let mut scene = scene(version).with_lever(lever);
        for name in ["EVAL", "EVAL_RO"] {
            scene.prepare(&["CONFIG SET maxmemory 0", "CONFIG SET maxmemory-policy noeviction", "FLUSHALL"]);
            scene.prepare(&["SET k v EX 10000", "SET other old"]);
            scene.prepare(&["ACL SETUSER bare on nopass ~* +@all -wbl.eval -wbl.eval_ro"]);
            let mut reader = scene.server.raw();
            reader.run("AUTH bare any");
            scene.freeze();
            let mut writer = scene.held("SET other new");
            scene.control.run("CONFIG SET maxmemory 1");
            scene.control.run(RELEASE);
            scene.hold(&mut reader, &format!("{name} \"return redis.call('GET', 'other')\" 0"));
            scene.thaw();
            assert_eq!(writer.reply(), Value::Simple("OK".into()));
            assert_eq!(reader.reply().text(), "new", "{name}");
            assert_eq!(scene.answer("EXISTS k").integer(), 0, "nothing was evicted");
        }
        scene.end();
    }
}

each_version! {
    // No event reports what it does, and its client may not have the module run it.
    fn an_eviction_before_a_silent_write_loses_nothing_of_it(version: Version) {
        let mut scene = scene(version);
        let mut client = scene.server.raw();
        let entries = 1..=3;
        for entry in entries.clone() {
            scene.prepare(&["CONFIG SET maxmemory 0", "CONFIG SET maxmemory-policy noeviction", "FLUSHALL"]);
            scene.prepare(&["XGROUP CREATE s g 0 MKSTREAM", "ACL SETUSER bare on nopass ~* +@all -wbl.call"]);
            entries.clone().for_each(|entry| drop(scene.control.run(&format!("XADD s {entry}-1 f v"))));
            scene.prepare(&["XREADGROUP GROUP g c COUNT 2 STREAMS s >", "SET k v EX 10000", "CONFIG SET maxmemory 1"]);
            client.run("AUTH bare any");
            scene.control.run(RELEASE);
            match entry {
                3 => assert_eq!(client.run("XREADGROUP GROUP g c STREAMS s >").items().len(), 1),
                _ => assert_eq!(client.run(&format!("XACK s g {entry}-1")).integer(), 1),
            }
            scene.prepare(&["CONFIG SET maxmemory 0"]);
            assert_eq!(scene.answer("EXISTS k").integer(), 0, "nothing was evicted");
            let before = scene.answer("XPENDING s g");
            scene.server.kill9_and_restart();
            (scene.control, client) = (scene.server.raw(), scene.server.raw());
            assert_eq!(scene.answer("XPENDING s g"), before);
        }
    }

    fn what_is_read_with_output_left_when_room_is_made_waits(version: Version) {
        let mut scene = scene(version);
        for (command, leak) in [("GET k", &b"$-1"[..]), ("GET other", b"dirty"), ("EXISTS k", b":0")] {
            scene.prepare(&["CONFIG SET maxmemory 0", "CONFIG SET maxmemory-policy noeviction", "FLUSHALL"]);
            scene.control.call(&["SET", "value", &"x".repeat(16_000)]);
            scene.prepare(&["SET other v", "SET k v EX 10000"]);
            let mut reader = reader_with_output_left(&mut scene);
            scene.freeze_by(Lever::Sync);
            let mut writer = scene.server.raw();
            writer.send_text("SET other dirty");
            scene.wait_blocked(1);
            scene.control.run("CONFIG SET maxmemory 1");
            let mut sleeper = scene.server.raw();
            for command in ["MULTI", RELEASE, "DEBUG SLEEP 0.3"] {
                sleeper.run(command);
            }
            // The command, and the room for more output, are there when the sleep ends; nothing else runs before it.
            sleeper.send_text("EXEC");
            reader.send_text(command);
            let early = reader.drain(std::time::Duration::from_millis(700));
            scene.thaw();
            let has = |bytes: &[u8]| bytes.windows(leak.len()).any(|window| window == leak);
            assert!(!has(&early), "{command}: shown before it was durable");
            assert!(has(&reader.drain(std::time::Duration::from_millis(200))), "{command}: answered");
        }
        scene.end();
    }
}

// Servers from 9.0 on make a database when it is selected for the first time. It takes about 1 KB.
#[test]
fn a_write_that_no_event_reports_makes_no_databases() {
    let builder = ServerBuilder::with_module(Version::V9_1).set("databases", "100000").set("maxmemory", "64mb");
    let mut scene = Scene::of(builder.set("maxmemory-policy", "allkeys-lru"));
    scene.prepare(&["SET k v", "XADD s 1-1 f v", "XGROUP CREATE s g 0", "XREADGROUP GROUP g c STREAMS s >"]);
    let images = scene.gauge("wbl_state_images");
    scene.prepare(&[r#"EVAL "return redis.call('XACK', 's', 'g', '1-1')" 0"#]);
    assert_eq!(scene.gauge("wbl_state_images"), images + 1, "in each database that has the key");
    assert_eq!(info_field(&mut scene.control, "stats", "evicted_keys").as_deref(), Some("0"));
    let mut server = scene.end();
    dataset::assert_survives(&mut server, "after kill -9");
}
