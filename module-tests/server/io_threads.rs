//! `io-threads` above 1: the server hands a reply to a thread as soon as its command has run. What is logged only when
//! the end of the iteration, or the next command, shows that it has run must not be answered before.

use crate::evictions::reader_with_output_left;
use crate::harness::server::info_field;
use crate::harness::{Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Version, each_version, wait_until};
use crate::leaks::{WHILE, assert_gets_nothing, pipeline};
use crate::modules;
use crate::modules_blocked::assert_answered_with_what_is_durable;

/// A server whose threads send even if there are few clients.
pub fn threads(version: Version) -> ServerBuilder {
    with_threads(ServerBuilder::with_module(version), version)
}

fn with_threads(builder: ServerBuilder, version: Version) -> ServerBuilder {
    let (always, value) = match version {
        Version::V8_1 => ("events-per-io-thread", "0"),
        Version::V9_1 => ("io-threads-always-active", "yes"),
    };
    builder.set("io-threads", "2").set(always, value).set("wbl.commit-mode", "async")
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

each_version! {
    // The server serves them itself, and what it delivers is a change that no event shows.
    fn group_readers_that_the_server_serves_are_disconnected(version: Version) {
        for subscriber in [false, true] {
            let mut scene = Scene::of(threads(version));
            group(&mut scene);
            let mut reader = scene.server.raw();
            if subscriber {
                ["HELLO 3", "SUBSCRIBE channel"].iter().for_each(|command| drop(reader.run(command)));
            } else {
                reader.run("AUTH bare x");
            }
            let mut reads = scene.server.raw();
            reader.send_text("XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
            scene.wait_blocked(1);
            reads.send_text("XREAD BLOCK 0 STREAMS s $");
            scene.wait_blocked(2);
            let mut other = scene.server.raw();
            other.run("SET other v");
            reader.assert_nothing(WHILE, "what has nothing to do with it");
            other.run("XADD s 2-1 f entry");
            assert_closed(&mut reader, "the reader of a group");
            assert!(format!("{:?}", reads.reply()).contains("entry"), "who changes nothing is served");
            assert!(pending(&mut scene) >= 1);
            let before = pending(&mut scene);
            scene.control.run("WBL.WAIT");
            scene.server.kill9_and_restart();
            scene.control = scene.server.raw();
            assert_eq!(pending(&mut scene), before, "what was delivered is in the log");
        }
    }

    fn what_a_pause_delays_unseen_is_never_answered(version: Version) {
        for (transaction, followed) in [(true, true), (false, true), (true, false)] {
            let mut scene = Scene::of(threads(version));
            group(&mut scene);
            let (mut client, mut pauser) = (scene.server.raw(), scene.server.raw());
            if transaction {
                ["MULTI", "XACK s g 1-1"].iter().for_each(|command| drop(client.run(command)));
            } else {
                client.run("AUTH bare x");
            }
            scene.freeze_by(Lever::Sync);
            pauser.run("CLIENT PAUSE 200 WRITE");
            client.send_text(if transaction { "EXEC" } else { "XACK s g 1-1" });
            let mut others: Vec<RawConnection> = (0..4).map(|_| scene.server.raw()).collect();
            if followed {
                others.iter_mut().for_each(|other| other.send_text("PING"));
            }
            let way = format!("transaction: {transaction}, followed: {followed}");
            assert_gets_nothing(&mut client, &way);
            scene.thaw();
            assert_closed(&mut client, &way);
            scene.control.run("CLIENT UNPAUSE");
            assert_eq!(pending(&mut scene), 1, "it has not run");
            scene.end();
        }
    }

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

    fn a_transaction_that_was_refused_in_a_pause_keeps_its_client(version: Version) {
        let mut scene = Scene::of(threads(version));
        group(&mut scene);
        let mut client = scene.server.raw();
        ["WATCH k", "MULTI", "XACK s g 1-1"].iter().for_each(|command| drop(client.run(command)));
        scene.prepare(&["SET k v"]);
        client.send_text("EXEC");
        assert_eq!(format!("{:?}", client.reply()), "null");
        assert_eq!(client.run("PING").text(), "PONG");
        assert_eq!(pending(&mut scene), 1);
        scene.end();
    }

    // It answers a client that it has blocked at any time, with what it finds then.
    fn what_another_module_answers_is_durable(version: Version) {
        let mut server = with_threads(modules::builder(version, false), version).start();
        let [mut control, mut client] = std::array::from_fn(|_| server.raw());
        ["SET T:key 1", "SET T:clean 1", "WBL.WAIT"].iter().for_each(|command| drop(control.run(command)));
        client.send_text("effects.block GET T:key");
        client.assert_silent(&mut control, "effects.block");
        assert_answered_with_what_is_durable(&mut server, &mut client);
    }

    // Its unit is taken up only after its reply could have left.
    fn a_transaction_that_begins_a_pause_is_refused(version: Version) {
        let scene = Scene::of(threads(version));
        let mut client = scene.server.raw();
        for pause in ["", "CLIENT PAUSE 50 WRITE; "] {
            pipeline(&mut client, &format!("MULTI; INCR n; {pause}EXEC"));
            let replies = 2 + usize::from(!pause.is_empty());
            (0..replies).for_each(|_| assert!(!client.reply().is_error()));
            assert_eq!(client.reply().is_error(), !pause.is_empty(), "{pause}");
        }
        pipeline(&mut client, "MULTI; INCR n; EXEC");
        (0..2).for_each(|_| assert!(!client.reply().is_error()));
        assert_eq!(format!("{:?}", client.reply()), "[:2]", "the one in between has not run, and the next one does");
        scene.end();
    }
}

each_version! {
    // With output left the socket may take its reply before its unit is taken up.
    fn a_transaction_that_begins_a_pause_with_output_left_is_refused(version: Version) {
        let mut scene = Scene::start(version);
        scene.control.call(&["SET", "value", &"x".repeat(16_000)]);
        let mut client = reader_with_output_left(&mut scene);
        pipeline(&mut client, "MULTI; INCR n; CLIENT PAUSE 50 WRITE; EXEC");
        let bytes = client.drain(4 * WHILE);
        assert!(bytes.windows(10).any(|bytes| bytes == b"-EXECABORT"), "it is refused");
        assert_eq!(format!("{:?}", scene.control.run("GET n")), "null");
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
