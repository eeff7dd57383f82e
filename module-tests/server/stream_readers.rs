//! Readers that wait for streams and get their entries, or nothing, while the disk stands still.

use crate::harness::{Lever, PATIENCE, RawConnection, Scene, Version, each_version, wait_until};
use crate::leaks::{WHILE, pipeline, tracker};

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
        for read in ["XREAD BLOCK 0 STREAMS s $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"] {
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
