//! `io-threads` above 1: the server hands a reply to a thread as soon as its command has run.

use crate::harness::server::info_field;
use crate::harness::{Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Version, each_version, wait_until};
use crate::leaks::{WHILE, pipeline};

/// A server whose threads send even if there are few clients.
fn threads(version: Version) -> ServerBuilder {
    let (always, value) = match version {
        Version::V8_1 => ("events-per-io-thread", "0"),
        Version::V9_1 => ("io-threads-always-active", "yes"),
    };
    let builder = ServerBuilder::with_module(version).set("io-threads", "2").set(always, value);
    builder.set("wbl.commit-mode", "async")
}

/// Makes a group `g` of the stream `s`, with a consumer that has one entry.
fn group(scene: &mut Scene) {
    scene.prepare(&[
        "ACL SETUSER bare on nopass ~* &* +@all -wbl.call",
        "XGROUP CREATE s g $ MKSTREAM",
        "XADD s 1-1 f v",
        "XREADGROUP GROUP g c STREAMS s >",
    ]);
}

fn assert_closed(client: &mut RawConnection, what: &str) {
    assert!(client.try_reply().is_err(), "{what}: its connection is closed");
}

fn pending(scene: &mut Scene) -> i64 {
    scene.control.run("XPENDING s g").items()[0].integer()
}

/// Fails if the client gets anything in some time; it may be disconnected.
fn assert_gets_nothing(client: &mut RawConnection, what: &str) {
    let until = std::time::Instant::now() + 4 * WHILE;
    while std::time::Instant::now() < until {
        match client.received_nothing() {
            Err(finding) if !finding.contains("the connection is gone") => panic!("{what}: {finding}"),
            _ => std::thread::sleep(WHILE / 10),
        }
    }
}

each_version! {
    // The end of the unit that was asked for is that of the eviction.
    fn a_write_that_nothing_shows_is_not_answered_after_an_eviction(version: Version) {
        let mut scene = Scene::of(threads(version).allow_warning("the new maxmemory value"));
        for _ in 0..4 {
            scene.prepare(&["CONFIG SET maxmemory 0", "CONFIG SET maxmemory-policy noeviction", "FLUSHALL"]);
            group(&mut scene);
            scene.prepare(&["SET k v EX 10000", "CONFIG SET maxmemory 1"]);
            let (mut client, mut other) = (scene.server.raw(), scene.server.raw());
            client.run("AUTH bare x");
            other.run("PING");
            scene.freeze_by(Lever::Sync);
            scene.control.run("CONFIG SET maxmemory-policy volatile-ttl");
            client.send_text("XACK s g 1-1");
            assert_gets_nothing(&mut client, "XACK");
            scene.thaw();
            assert_closed(&mut client, "XACK");
            assert_eq!(pending(&mut scene), 0, "it has run");
        }
        scene.end();
    }
}

// Only a 9.1 server runs what its threads have read after BEFORE_SLEEP, and sends the replies at once.
#[test]
fn what_the_threads_have_read_waits_though_they_are_turned_off() {
    let mut scene = Scene::of(threads(Version::V9_1));
    for round in 0..40 {
        scene.prepare(&["CONFIG SET io-threads 2", "SET k v"]);
        let mut client = scene.server.raw();
        client.run("PING");
        scene.freeze_by(Lever::Sync);
        pipeline(&mut client, "CONFIG SET io-threads 1; MULTI; INCR n; EXEC");
        std::thread::sleep(WHILE);
        let early = String::from_utf8_lossy(client.arrived()).into_owned();
        scene.thaw();
        assert!(!early.contains("*1\r\n"), "round {round}: {early:?}");
        (0..3).for_each(|_| assert!(!client.reply().is_error()));
        assert_eq!(client.reply().items().len(), 1);
    }
    scene.end();
    let mut scene = Scene::of(threads(Version::V9_1).set("wbl.commit-mode", "inline"));
    scene.prepare(&["CONFIG SET io-threads 1"]);
    wait_until("commits are inline again", PATIENCE, || {
        scene.prepare(&["SET k v"]);
        info_field(&mut scene.control, "wbl", "wbl_commit_mode").as_deref() == Some("inline")
    });
}
