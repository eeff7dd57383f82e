//! `io-threads` above 1: the server hands a reply to a thread as soon as its command has run.

use crate::harness::server::info_field;
use crate::harness::{Lever, PATIENCE, Scene, ServerBuilder, Version, wait_until};
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
