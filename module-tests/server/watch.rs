//! WATCH: a transaction that a change aborted, or did not abort, reports that change.

use crate::harness::scene::split;
use crate::harness::{Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Value, Version, each_lever, wait_until};

each_lever! {
    fn a_transaction_that_a_change_aborts_tells_so_when_the_change_is_durable(version: Version, lever: Lever) {
        let changes = [
            "SET k new",
            "DEL k",
            "PEXPIREAT k 9000000000000",
            "RENAME k other",
            "RENAME clean k",
            "MOVE k 9",
            "COPY clean k REPLACE",
            "FLUSHDB",
            "FLUSHALL",
            "SWAPDB 0 1",
        ];
        for change in changes {
            let mut scene = Scene::start(version).with_lever(lever);
            scene.prepare(&["SET k old", "SET clean c"]);
            let mut client = watcher(&scene, "HELLO 2", &["WATCH k", "MULTI", "PING"]);
            scene.freeze();
            let mut writer = scene.held(change);
            scene.hold(&mut client, "EXEC");
            scene.thaw();
            assert!(!writer.reply().is_error(), "{change}");
            client.reply();
            assert_eq!(client.last_bytes(), b"*-1\r\n", "{change}");
            scene.end();
        }
    }

    fn a_change_in_a_transaction_or_a_script_aborts_when_it_is_durable(version: Version, lever: Lever) {
        for script in [false, true] {
            let mut scene = Scene::start(version).with_lever(lever);
            scene.prepare(&["SET k old"]);
            let mut client = watcher(&scene, "HELLO 3", &["WATCH k", "MULTI", "GET k"]);
            let mut writer = scene.server.raw();
            scene.freeze();
            if script {
                scene.hold(&mut writer, "EVAL \"return redis.call('SET', KEYS[1], 'new')\" 1 k");
            } else {
                writer.run("MULTI");
                writer.run("SET k new");
                scene.hold(&mut writer, "EXEC");
            }
            let before = scene.silence(&mut client);
            client.send_text("EXEC");
            let after = scene.silence(&mut client);
            scene.thaw();
            let reply = client.reply();
            assert!(before.is_ok(), "{before:?}");
            // A server that is busy with the script refuses what it cannot run.
            let busy = |reply: &Value| matches!(reply, Value::Error(text) if text.contains("BUSY"));
            assert!(busy(&reply) || (after.is_ok() && reply == Value::Null), "{after:?}, {reply:?}");
            assert!(!writer.reply().is_error());
            scene.end();
        }
    }

    fn a_change_of_a_watched_key_of_another_database_counts(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k zero", "SELECT 3", "SET k three", "SELECT 0"]);
        let steps = ["SELECT 3", "WATCH k", "SELECT 0", "MULTI", "GET k"];
        let mut client = watcher(&scene, "HELLO 3", &steps);
        scene.freeze();
        let mut writer = scene.client_of(3);
        scene.hold(&mut writer, "SET k new");
        scene.hold(&mut client, "EXEC");
        scene.thaw();
        assert_eq!((writer.reply(), client.reply()), (Value::Simple("OK".into()), Value::Null));
        scene.end();
    }

    fn a_transaction_that_succeeds_over_a_dirty_watched_key_waits_for_it(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET clean c"]);
        scene.freeze();
        let mut writer = scene.held("SET k new");
        let mut reader = watcher(&scene, "HELLO 2", &["WATCH k", "MULTI", "GET clean"]);
        let mut empty = watcher(&scene, "HELLO 2", &["WATCH clean k", "MULTI"]);
        scene.hold(&mut reader, "EXEC");
        scene.hidden(&mut empty, "EXEC");
        scene.thaw();
        assert_eq!(writer.reply(), Value::Simple("OK".into()));
        assert_eq!(format!("{:?}", reader.reply()), r#"["c"]"#);
        scene.end();
    }

    fn transactions_over_clean_watched_keys_are_answered_at_once(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k old", "SET clean c"]);
        let mut succeeds = watcher(&scene, "HELLO 2", &["WATCH k clean", "MULTI", "GET k"]);
        let mut unwatched = watcher(&scene, "HELLO 2", &["WATCH other", "UNWATCH", "MULTI", "GET k"]);
        let mut discarded = watcher(&scene, "HELLO 2", &["WATCH other", "MULTI", "DISCARD", "MULTI", "GET k"]);
        let mut second = watcher(&scene, "HELLO 2", &["WATCH other", "MULTI", "GET k", "EXEC", "MULTI", "GET k"]);
        let mut aborted = watcher(&scene, "HELLO 2", &["WATCH changed", "MULTI", "GET k"]);
        scene.prepare(&["SET changed long-ago"]);
        scene.freeze();
        let mut writer = scene.held("SET other new");
        for client in [&mut succeeds, &mut unwatched, &mut discarded, &mut second] {
            assert_eq!(format!("{:?}", client.run("EXEC")), r#"["old"]"#);
        }
        assert_eq!(aborted.run("EXEC"), Value::Null);
        scene.thaw();
        assert_eq!(writer.reply(), Value::Simple("OK".into()));
        scene.end();
    }

    fn a_watch_that_a_pause_made_wait_is_known(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k old"]);
        let mut client = scene.server.raw();
        scene.control.run("CLIENT PAUSE 100 ALL");
        for command in ["WATCH k", "MULTI", "PING"] {
            client.run(command);
        }
        scene.freeze();
        let mut writer = scene.held("SET k new");
        scene.hold(&mut client, "EXEC");
        scene.thaw();
        assert_eq!((writer.reply(), client.reply()), (Value::Simple("OK".into()), Value::Null));
        scene.end();
    }

    fn what_is_watched_stays_known_when_the_end_of_it_is_refused(version: Version, lever: Lever) {
        for end in ["UNWATCH", "DISCARD"] {
            let mut scene = Scene::start(version).with_lever(lever);
            scene.prepare(&["SET k old", "ACL SETUSER few on nopass ~* +@all -unwatch -discard"]);
            let mut client = watcher(&scene, "HELLO 3 AUTH few any", &["WATCH k"]);
            assert!(client.call(&[end]).is_error(), "{end}");
            ["MULTI", "PING"].iter().for_each(|command| drop(client.run(command)));
            scene.freeze();
            let mut writer = scene.held("SET k new");
            scene.hold(&mut client, "EXEC");
            scene.thaw();
            assert_eq!((writer.reply(), client.reply()), (Value::Simple("OK".into()), Value::Null), "{end}");
            scene.end();
        }
    }

    fn who_watches_while_a_script_runs_long_does_not_let_its_reply_go(version: Version, lever: Lever) {
        let builder = ServerBuilder::with_module(version).set("busy-reply-threshold", "1");
        let mut scene = Scene::of(builder.allow_warning("Slow script detected")).with_lever(lever);
        let mut client = scene.server.raw();
        let (mut other, mut watcher) = (scene.server.raw(), scene.server.raw());
        for connection in [&mut client, &mut other, &mut watcher] {
            connection.run("PING");
        }
        scene.freeze();
        let long = "redis.call('SET', 'k', 'v') \
                    local function ms() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end \
                    local since = ms() while ms() < since + 300 do end return 'done'";
        client.send(&["EVAL", long, "0"]);
        wait_until("the script runs long", PATIENCE, || {
            matches!(other.call(&["GET", "other"]), Value::Error(text) if text.contains("BUSY"))
        });
        assert_eq!(watcher.run("WATCH other"), Value::Simple("OK".into()));
        wait_until("the script has ended", PATIENCE, || {
            !matches!(other.call(&["GET", "other"]), Value::Error(text) if text.contains("BUSY"))
        });
        scene.assert_withheld(&mut client, "a long script");
        scene.thaw();
        assert_eq!(client.reply().text(), "done");
        scene.end();
    }

    fn a_transaction_that_was_refused_tells_nothing_and_waits_for_nothing(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET clean c", "ACL SETUSER most on nopass ~* +@all -strlen"]);
        scene.freeze();
        let mut writer = scene.held("SET k v");
        let mut client = scene.server.raw();
        client.run("AUTH most any");
        for (queued, rejected) in [("GET k", "NOSUCH"), ("EVAL return(1) 0", "NOSUCH"), ("EVAL return(1) 0", "STRLEN k")] {
            client.run("MULTI");
            client.run(queued);
            assert!(client.call(&split(rejected)).is_error());
            let refused = "EXECABORT Transaction discarded because of previous errors.";
            assert_eq!(client.call(&["EXEC"]), Value::Error(refused.into()));
            assert_eq!(client.call(&["EXEC"]), Value::Error("ERR EXEC without MULTI".into()));
        }
        assert_eq!(client.run("GET clean").text(), "c");
        scene.thaw();
        assert_eq!(writer.reply(), Value::Simple("OK".into()));
        scene.end();
    }
}

/// A new client that has run these commands.
fn watcher(scene: &Scene, protocol: &str, commands: &[&str]) -> RawConnection {
    let mut client = scene.server.raw();
    client.run(protocol);
    commands.iter().for_each(|command| drop(client.run(command)));
    client
}
