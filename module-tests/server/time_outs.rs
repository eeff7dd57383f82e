//! Clients that wait in BLPOP etc. in vain or are served with an error, and what their answers show.

use crate::harness::{Lever, RawConnection, Scene, ServerBuilder, Value, Version, each_version};
use crate::leaks::{WHILE, pipeline};

each_version! {
    // The server hands their answers to its threads before the module sees that they have ended.
    fn who_waits_in_vain_shows_nothing_early_with_io_threads(version: Version) {
        let builder = ServerBuilder::with_module(version).set("io-threads", "4").set("wbl.commit-mode", "async");
        let mut scene = Scene::of(builder).with_lever(Lever::Sync);
        let cases = [
            ("SET k v", "DEL k", "BLPOP k 0.02"),
            ("SET k v", "RENAME k other", "BLPOP k 0.4"),
            ("RPUSH k v", "LPOP k", "BLMOVE k l LEFT LEFT 0.02"),
            ("RPUSH k v", "LPOP k", "BLPOP k 0"),
            ("ZADD k 1 v", "ZPOPMIN k", "BZPOPMIN k 0.4"),
            ("SET k v", "FLUSHDB", "BLMPOP 0.02 1 k LEFT"),
        ];
        for (number, (made, changed, wait)) in cases.iter().cycle().take(4 * cases.len()).enumerate() {
            scene.prepare(&["FLUSHALL", made]);
            let mut waiter = scene.server.raw();
            let id = waiter.run("CLIENT ID").integer();
            scene.freeze();
            let mut writer = scene.held(changed);
            waiter.send_text(wait);
            let way = format!("{number}: {changed}, {wait}");
            waiter.assert_nothing(WHILE, &way);
            let mut administrator = scene.server.raw();
            if wait.ends_with(" 0") {
                administrator.send_text(&format!("CLIENT UNBLOCK {id}"));
            }
            waiter.assert_nothing(if wait.ends_with("0.4") { 12 * WHILE } else { WHILE }, &way);
            scene.thaw();
            assert_eq!(waiter.reply(), Value::Null, "{way}");
            assert!(!writer.reply().is_error(), "{way}");
            if wait.ends_with(" 0") {
                assert_eq!(administrator.reply().integer(), 1, "{way}");
            }
        }
        scene.end();
    }

    // The time is over before the module has seen the end of the iteration in which the command began to wait.
    fn who_waits_for_less_than_an_iteration_shows_nothing_early(version: Version) {
        let builder = ServerBuilder::with_module(version).set("io-threads", "4").set("wbl.commit-mode", "async");
        let mut scene = Scene::of(builder).with_lever(Lever::Sync);
        for number in 0..8 {
            scene.prepare(&["FLUSHALL", "SET k v"]);
            let [mut first, mut waiter, mut second] = std::array::from_fn(|_| scene.server.raw());
            [&mut first, &mut waiter, &mut second].into_iter().for_each(|client| drop(client.run("PING")));
            scene.freeze();
            let mut writer = scene.held("DEL k");
            // What comes during the first sleep is taken up together.
            first.send_text("DEBUG SLEEP 0.05");
            waiter.send_text("BLPOP k 0.01");
            second.send_text("DEBUG SLEEP 0.05");
            waiter.assert_nothing(4 * WHILE, &format!("round {number}"));
            scene.thaw();
            assert_eq!(waiter.reply(), Value::Null, "round {number}");
            [&mut first, &mut second, &mut writer].into_iter().for_each(|client| assert!(!client.reply().is_error()));
        }
        scene.end();
    }

    // No event tells of the error, and with I/O threads it leaves before the end of the iteration.
    fn who_is_served_with_an_error_shows_nothing_early(version: Version) {
        ["1", "4"].into_iter().for_each(|io_threads| errors_show_nothing_early(version, io_threads));
    }

    fn who_waits_in_vain_after_a_refused_command_shows_nothing_early(version: Version) {
        let mut scene = Scene::start(version).with_lever(Lever::Sync);
        for refused in ["NOSUCH", "GET", "DEBUG", "EVAL"] {
            scene.prepare(&["FLUSHALL", "RPUSH list a"]);
            scene.freeze();
            let mut writer = scene.held("LPOP list");
            let mut waiter = scene.server.raw();
            pipeline(&mut waiter, &format!("{refused}; BLPOP list 0.05"));
            // The error may come at once.
            let early = waiter.drain(4 * WHILE);
            assert!(!early.windows(3).any(|bytes| bytes == b"*-1"), "{refused}: {}", early.escape_ascii());
            scene.thaw();
            if early.is_empty() {
                assert!(waiter.reply().is_error(), "{refused}");
            }
            assert_eq!(waiter.reply(), Value::Null, "{refused}");
            assert_eq!(writer.reply().text(), "a");
        }
        scene.end();
    }

    // The filter does not see a CLIENT UNBLOCK that an EXEC runs.
    fn who_is_unblocked_in_a_transaction_shows_nothing_early(version: Version) {
        let mut scene = Scene::start(version).with_lever(Lever::Sync);
        for (kind, answer) in [("TIMEOUT", "null"), ("ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK")] {
            scene.prepare(&["FLUSHALL", "RPUSH list a"]);
            let (mut waiter, mut administrator) = (scene.server.raw(), scene.server.raw());
            let id = waiter.run("CLIENT ID").integer();
            scene.freeze();
            let mut writer = scene.held("LPOP list");
            waiter.send_text("BLPOP list 0");
            scene.wait_blocked(2);
            pipeline(&mut administrator, &format!("MULTI; CLIENT UNBLOCK {id} {kind}; EXEC"));
            waiter.assert_nothing(4 * WHILE, kind);
            scene.thaw();
            assert_eq!(format!("{:?}", waiter.reply()), answer);
            assert_eq!(writer.reply().text(), "a");
            let replies: [String; 3] = std::array::from_fn(|_| format!("{:?}", administrator.reply()));
            assert_eq!(replies, ["+OK", "+QUEUED", "[:1]"], "{kind}");
        }
        scene.end();
    }

    // What serves a queue's workers waits for no flush but its own client's.
    fn who_is_served_with_success_has_nobody_else_wait(version: Version) {
        let builder = ServerBuilder::with_module(version).set("io-threads", "4").set("wbl.commit-mode", "async");
        let mut scene = Scene::of(builder).with_lever(Lever::Sync);
        scene.prepare(&["SET k v"]);
        let mut workers: Vec<_> = (0..8).map(|_| scene.server.raw()).collect();
        workers.iter_mut().for_each(|worker| worker.send_text("BLPOP queue other 0"));
        scene.wait_blocked(8);
        let before = scene.gauge("wbl_waits_io_threads");
        scene.freeze();
        let mut writers: Vec<_> = (0..8).map(|_| scene.held("RPUSH queue v")).collect();
        assert_eq!(scene.answer("GET k"), Value::Bulk(b"v".to_vec()), "the loop does not wait");
        scene.thaw();
        workers.iter_mut().chain(&mut writers).for_each(|client| assert!(!client.reply().is_error()));
        assert_eq!(scene.gauge("wbl_waits_io_threads"), before);
        scene.end();
    }
}

fn errors_show_nothing_early(version: Version, io_threads: &str) {
    let builder = ServerBuilder::with_module(version).set("io-threads", io_threads).set("wbl.commit-mode", "async");
    let mut scene = Scene::of(builder).with_lever(Lever::Sync);
    let wrong_type = [
        ("", "BRPOPLPUSH src dst 0", &["SET dst s", "RPUSH src v"][..]),
        ("", "BLPOP first second 0", &["INCR first", "RPUSH second v"]),
        ("", "BLMPOP 0 2 first second LEFT", &["ZADD first 1 v", "LPUSH second v"]),
        ("", "BZPOPMIN first second 0", &["RPUSH first v", "ZADD second 1 v"]),
        ("", "BLMOVE src dst LEFT LEFT 0", &["EVAL redis.call('RPUSH','src','v');redis.call('SET','dst','s') 0"]),
        ("SET dst s", "BLMOVE src dst LEFT LEFT 0", &["RPUSH src v"]),
        ("SET other s", "BLMOVE src dst LEFT LEFT 0", &["RENAME other dst", "RPUSH src v"]),
    ];
    for (number, (made, wait, changes)) in wrong_type.iter().cycle().take(4 * wrong_type.len()).enumerate() {
        scene.prepare(&["FLUSHALL", "SET unread v"]);
        if !made.is_empty() {
            scene.prepare(&[made]);
        }
        let mut waiter = scene.server.raw();
        serve_with_an_error(&mut scene, &mut waiter, wait, changes, number, "WRONGTYPE");
    }
    let rights = ["ACL SETUSER worker -blpop", "MULTI;ACL SETUSER worker -blpop;EXEC"];
    for (number, change) in rights.iter().cycle().take(4 * rights.len()).enumerate() {
        scene.prepare(&["FLUSHALL", "ACL SETUSER worker on nopass ~* &* +@all"]);
        let mut waiter = scene.server.raw();
        waiter.run("AUTH worker any");
        let mut administrator = scene.server.raw();
        let changes: Vec<&str> = change.split(';').collect();
        let (last, first) = changes.split_last().expect("a command");
        first.iter().for_each(|command| drop(administrator.run(command)));
        waiter.send_text("BLPOP k 0");
        scene.wait_blocked(1);
        assert!(!administrator.run(last).is_error());
        serve_with_an_error(&mut scene, &mut waiter, "", &["RPUSH k v"], number, "NOPERM");
    }
    scene.end();
}

/// The client waits in this command (or does already), and is served with an error by the last of these changes.
fn serve_with_an_error(
    scene: &mut Scene,
    waiter: &mut RawConnection,
    wait: &str,
    changes: &[&str],
    number: usize,
    error: &str,
) {
    let way = format!("{number}: {wait}, {changes:?}");
    if !wait.is_empty() {
        waiter.send_text(wait);
        scene.wait_blocked(1);
    }
    scene.freeze();
    let mut writers: Vec<RawConnection> = changes.iter().map(|change| scene.held(change)).collect();
    waiter.assert_nothing(WHILE, &way);
    scene.thaw();
    let reply = waiter.reply();
    assert!(format!("{reply:?}").contains(error), "{way}: {reply:?}");
    writers.iter_mut().for_each(|writer| assert!(!writer.reply().is_error(), "{way}"));
}
