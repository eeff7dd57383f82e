//! Readers that wait for streams and get their entries, or nothing, while the disk stands still.

use crate::harness::temp::TempDir;
use crate::harness::{Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Version, each_version, wait_until};
use crate::leaks::{WHILE, pipeline, tracker};

/// Readers of the stream `s`, with the group `g`, that wait for its next entry.
const READS: [&str; 2] = ["XREAD BLOCK 0 STREAMS s $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"];

each_version! {
    fn unblocking_a_client_in_a_transaction_shows_nothing_early(version: Version) {
        let mut scene = Scene::start(version);
        let mut administrator = scene.server.raw();
        let unblock = |administrator: &mut RawConnection, id: i64| {
            pipeline(administrator, &format!("MULTI; CLIENT UNBLOCK {id}; EXEC"));
        };
        for lever in Lever::ALL {
            // A script has run, and waits for nothing but the disk.
            let mut script = scene.server.raw();
            let id = script.run("CLIENT ID").integer();
            scene.freeze_by(lever);
            script.send_text("EVAL return(redis.call('SET','k','v')) 0");
            scene.assert_withheld(&mut script, "EVAL");
            unblock(&mut administrator, id);
            ["OK", "QUEUED"].iter().for_each(|expected| assert_eq!(administrator.reply().text(), *expected));
            assert_eq!(format!("{:?}", administrator.reply()), "[:0]", "{lever:?}");
            scene.assert_withheld(&mut script, "EVAL after CLIENT UNBLOCK");
            scene.thaw();
            assert_eq!(script.reply().text(), "OK");
        }
        // So has a reader whose entries wait.
        scene.prepare(&["XADD s 0-1 f v", "XGROUP CREATE s g $"]);
        for read in READS {
            scene.prepare(&["XGROUP SETID s g $"]);
            let (mut reader, mut writer) = (scene.server.raw(), scene.server.raw());
            let id = reader.run("CLIENT ID").integer();
            reader.send_text(read);
            scene.wait_blocked(1);
            scene.freeze_by(Lever::Sync);
            writer.send_text("XADD s * f entry");
            scene.assert_withheld(&mut reader, read);
            unblock(&mut administrator, id);
            scene.assert_withheld(&mut reader, read);
            scene.thaw();
            assert_eq!(reader.reply().items().len(), 1, "{read}: its entries");
            writer.reply();
            (0..3).for_each(|_| drop(administrator.reply()));
            assert_eq!(reader.run("PING").text(), "PONG");
        }
        scene.end();
    }

    fn a_stream_reader_that_waits_in_vain_shows_nothing_early(version: Version) {
        let mut scene = Scene::start(version);
        scene.control.run("ACL SETUSER plain on nopass ~* +@all -wbl.read -wbl.call");
        for (waits_in, unblock, followed) in all_ways() {
            scene.prepare(&["FLUSHALL", "XADD s 1-1 f v"]);
            let mut reader = if waits_in == WaitsIn::ServerTracking { tracker(&scene.server) } else { scene.server.raw() };
            if waits_in == WaitsIn::Server {
                reader.run("AUTH plain x");
            }
            let id = reader.run("CLIENT ID").integer();
            scene.freeze_by(Lever::Sync);
            let mut writer = scene.held("DEL s");
            let read = format!("XREAD BLOCK {} STREAMS s 0", if unblock { 0 } else { 50 });
            // The next command may run before the end of the iteration.
            pipeline(&mut reader, &if followed { format!("{read}; PING") } else { read });
            if unblock {
                scene.wait_blocked(2);
                scene.server.raw().send_text(&format!("CLIENT UNBLOCK {id}"));
            }
            let way = format!("{waits_in:?}, unblock: {unblock}, followed: {followed}");
            reader.assert_nothing(4 * WHILE, &way);
            scene.thaw();
            let reply = format!("{:?}", reader.reply());
            assert!(reply.contains("null") || reply.contains("invalidate"), "{way}: {reply}");
            assert_eq!(writer.reply().integer(), 1);
        }
        scene.end();
    }

    // The server frees the users that it had before, and asks for the rights of a reader again when it serves it.
    fn readers_outlive_their_users_and_lose_their_rights(version: Version) {
        let app = "ACL SETUSER app on nopass ~* &* +@all";
        let folder = TempDir::new();
        let users = folder.path().join("users.acl");
        std::fs::write(&users, "").expect("a file of users");
        let mut scene = Scene::of(ServerBuilder::with_module(version).set("aclfile", &users.display().to_string()));
        let readers = |scene: &mut Scene| {
            scene.prepare(&["DEL s", "XADD s 0-1 f v", "XGROUP CREATE s g $"]);
            let readers = READS.map(|read| {
                let mut reader = scene.server.raw();
                reader.run("AUTH app x");
                reader.send_text(read);
                reader
            });
            scene.wait_blocked(2);
            readers
        };
        for change in ["ACL LOAD", "CONFIG SET requirepass secret", "ACL SETUSER app -@stream", "ACL DELUSER app"] {
            scene.prepare(&[app, "ACL SAVE"]);
            let readers = readers(&mut scene);
            pipeline(&mut scene.control, &format!("{change}; XADD s * f entry"));
            (0..2).for_each(|_| assert!(!scene.control.reply().is_error(), "{change}"));
            for mut reader in readers {
                let reply = reader.try_reply().map(|reply| format!("{reply:?}"));
                match (change, reply) {
                    ("ACL LOAD" | "CONFIG SET requirepass secret", Ok(reply)) if reply.contains("entry") => {}
                    ("ACL SETUSER app -@stream", Ok(reply)) if reply.contains("NOPERM") => {}
                    ("ACL DELUSER app", Err(_)) => {}
                    (_, reply) => panic!("{change}: {reply:?}"),
                }
            }
            // Memory that has been freed is used again.
            (0..50).for_each(|number| drop(scene.control.run(&format!("ACL SETUSER user{number} on >word{number} ~k +get"))));
            scene.prepare(&["CONFIG SET requirepass \"\"", "XADD s * f v"]);
            scene.prepare(&["ACL LOAD"]);
        }
        scene.end();
    }

    // An 8.1 server asks a call of a module's for the password when it serves it.
    fn readers_are_served_where_the_default_user_has_a_password(version: Version) {
        let mut scene = Scene::of(ServerBuilder::with_module(version).set("wbl.commit-mode", "async"));
        scene.prepare(&["ACL SETUSER app on >secret ~* &* +@all", "CONFIG SET requirepass secret"]);
        for (read, login) in READS.iter().flat_map(|read| ["AUTH secret", "AUTH app secret"].map(|login| (read, login))) {
            scene.prepare(&["DEL s", "XADD s 0-1 f v", "XGROUP CREATE s g $", "XADD s 0-2 f v", "XDEL s 0-2"]);
            let [mut reader, mut writer] = std::array::from_fn(|_| scene.server.raw());
            [&mut reader, &mut writer].into_iter().for_each(|client| drop(client.run(login)));
            reader.run("HELLO 3");
            reader.send_text(read);
            scene.wait_blocked(1);
            scene.freeze_by(Lever::Sync);
            writer.send_text("XADD s * f entry");
            scene.assert_withheld(&mut reader, read);
            let waits = scene.gauge("wbl_inline_waits");
            scene.thaw();
            let reply = format!("{:?}", reader.reply());
            assert!(reply.contains("entry") && !reply.contains("0-2"), "{read} after {login}: {reply}");
            assert!(!writer.reply().is_error());
            assert_eq!(scene.gauge("wbl_inline_waits"), waits, "nobody else waits");
        }
        scene.end();
    }

    fn readers_that_find_nothing_when_they_are_served_wait_on(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["CONFIG SET requirepass secret", "XADD s 0-1 f v", "XGROUP CREATE s g $"]);
        let mut readers: [RawConnection; 3] = std::array::from_fn(|_| scene.server.raw());
        for (index, (reader, timeout_ms)) in readers.iter_mut().zip([0, 60_000, 500]).enumerate() {
            reader.run("AUTH secret");
            reader.send_text(&format!("XREADGROUP GROUP g c{index} BLOCK {timeout_ms} STREAMS s >"));
            scene.wait_blocked(index + 1);
        }
        for (number, reader) in readers.iter_mut().take(2).enumerate() {
            scene.control.run(&format!("XADD s {}-1 f entry{number}", number + 1));
            assert!(format!("{:?}", reader.reply()).contains(&format!("entry{number}")), "each gets the next entry");
        }
        assert_eq!(format!("{:?}", readers[2].reply()), "null", "its time is over");
        scene.end();
    }

    // The module runs scripts at the end of an iteration, and the server serves these readers in the next one.
    fn what_a_reader_gets_from_a_script_is_pending_after_a_crash(version: Version) {
        const ADDS: [&str; 4] = [
            "EVAL \"redis.call('XADD','s','*','f','v')\" 0",
            "EVAL \"redis.call('XADD','s','*','f','v')\" 0; EVAL \"redis.call('SET','a','b')\" 0",
            "EVAL \"redis.call('XADD','s','*','f','v')\" 0; PING; GET a; SET a c",
            "FCALL add 1 s; XLEN s",
        ];
        let library = "#!lua name=lib\nredis.register_function('add', function(keys) return redis.call('XADD', keys[1], '*', 'f', 'v') end)";
        for mode in ["async", "inline"] {
            let builder = ServerBuilder::with_module(version).set("wbl.commit-mode", mode);
            let mut scene = Scene::of(builder);
            scene.control.call(&["FUNCTION", "LOAD", library]);
            for (adds, subscriber) in ADDS.iter().flat_map(|adds| [false, true].map(|subscriber| (adds, subscriber))) {
                scene.prepare(&["ACL SETUSER limited on nopass ~* &* +@all -wbl.call", "DEL s", "XGROUP CREATE s g $ MKSTREAM"]);
                let [mut reader, mut first, mut second] = std::array::from_fn(|_| scene.server.raw());
                if subscriber {
                    ["HELLO 3", "SUBSCRIBE channel"].iter().for_each(|command| drop(reader.run(command)));
                } else {
                    reader.run("AUTH limited x");
                }
                // Another one has been served, and is at work.
                let mut working = scene.server.raw();
                working.run("AUTH limited x");
                working.send_text("XREADGROUP GROUP g b COUNT 1 BLOCK 0 STREAMS s >");
                scene.wait_blocked(1);
                scene.prepare(&["XADD s 0-1 f v"]);
                working.reply();
                reader.send_text("XREADGROUP GROUP g c COUNT 1 BLOCK 0 STREAMS s >");
                scene.wait_blocked(1);
                [&mut first, &mut second].into_iter().for_each(|client| drop(client.run("PING")));
                // What the second sends is there when the loop has waited for the first, before the reader is served.
                scene.freeze_by(Lever::Sync);
                pipeline(&mut first, adds);
                scene.settle();
                pipeline(&mut second, "SET other v");
                scene.thaw();
                let way = format!("{mode}, {adds}, subscriber: {subscriber}");
                let reply = format!("{:?}", reader.reply());
                assert!(reply.contains("\"f\""), "{way}: {reply}");
                (0..adds.split("; ").count()).for_each(|_| assert!(!first.reply().is_error(), "{way}"));
                second.reply();
                scene.control.run("WBL.WAIT");
                let before = format!("{:?}", scene.control.run("XINFO STREAM s FULL"));
                scene.server.kill9_and_restart();
                scene.control = scene.server.raw();
                let pending = format!("{:?}", scene.control.run("XPENDING s g"));
                assert!(pending.starts_with("[:2"), "{way}: {pending}, before: {before}");
            }
            scene.end();
        }
    }

    // A pause makes a reader wait that the server is about to serve.
    fn what_a_reader_gets_after_a_pause_is_pending_after_a_crash(version: Version) {
        for (pause, subscriber) in ["WRITE", "ALL"].iter().flat_map(|pause| [false, true].map(|subscriber| (pause, subscriber))) {
            let mut scene = Scene::start(version);
            scene.prepare(&["ACL SETUSER limited on nopass ~* &* +@all -wbl.call", "XGROUP CREATE s g $ MKSTREAM"]);
            let [mut reader, mut producer] = std::array::from_fn(|_| scene.server.raw());
            if subscriber {
                ["HELLO 3", "SUBSCRIBE channel"].iter().for_each(|command| drop(reader.run(command)));
            } else {
                reader.run("AUTH limited x");
            }
            reader.send_text("XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
            scene.wait_blocked(1);
            pipeline(&mut producer, &format!("MULTI; XADD s * f entry; CLIENT PAUSE 200 {pause}; EXEC"));
            assert!(format!("{:?}", reader.reply()).contains("entry"), "{pause}, subscriber: {subscriber}");
            (0..4).for_each(|_| assert!(!producer.reply().is_error()));
            scene.control.run("WBL.WAIT");
            scene.server.kill9_and_restart();
            let pending = format!("{:?}", scene.server.raw().run("XPENDING s g"));
            assert!(pending.starts_with("[:1"), "{pause}, subscriber: {subscriber}: {pending}");
        }
    }

    fn a_reader_with_output_left_gets_no_entry_early(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["XADD s 0-1 f v"]);
        scene.control.call(&["SET", "value", &"x".repeat(16_000)]);
        scene.prepare(&[]);
        // The loop waits for a reader that tracks, as nothing shows when the server serves it.
        let mut reader = tracker(&scene.server);
        let id = reader.run("CLIENT ID").integer();
        let (mut sleeper, mut writer) = (scene.server.raw(), scene.server.raw());
        writer.run("PING");
        wait_until("output is left", PATIENCE, || {
            reader.send_text("GET value");
            let line = scene.control.run(&format!("CLIENT LIST ID {id}")).text();
            line.contains(" events=rw")
        });
        reader.send_text("XREAD BLOCK 0 STREAMS s $");
        scene.wait_blocked(1);
        scene.freeze_by(Lever::Sync);
        // Both the write and the room for more output are there when the sleep ends.
        sleeper.send_text("DEBUG SLEEP 0.2");
        writer.send_text("XADD s 1-1 f entry");
        let shown = reader.drain(std::time::Duration::from_millis(500));
        scene.thaw();
        assert!(!shown.windows(5).any(|bytes| bytes == b"entry"), "the entry was shown before it was durable");
        writer.reply();
        let rest = reader.drain(std::time::Duration::from_millis(200));
        assert!(rest.windows(5).any(|bytes| bytes == b"entry"), "the reader got its entry");
    }
}

/// Who makes a reader wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitsIn {
    Module,
    /// Its user may not run the module's command.
    Server,
    /// It tracks keys.
    ServerTracking,
}

/// Who makes it wait, whether CLIENT UNBLOCK ends that, and whether the next command is there by then.
fn all_ways() -> Vec<(WaitsIn, bool, bool)> {
    let kinds = [WaitsIn::Module, WaitsIn::Server, WaitsIn::ServerTracking];
    let ways = [(false, false), (false, true), (true, false), (true, true)];
    kinds.into_iter().flat_map(|kind| ways.map(|(unblock, followed)| (kind, unblock, followed))).collect()
}
