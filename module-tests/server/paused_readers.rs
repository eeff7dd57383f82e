//! Readers that wait for streams while the server pauses clients: those of the module's, which the server makes wait as
//! it is about to serve them, and lets go of at the end of the pause.

use crate::harness::{Lever, RawConnection, Scene, Version, each_version};
use crate::leaks::pipeline;

const GROUP_READ: &str = "XREADGROUP GROUP g c COUNT 1 BLOCK 0 STREAMS s >";

/// A client that waits for an entry, after so many others.
fn waiting(scene: &mut Scene, read: &str, others: usize) -> RawConnection {
    let mut reader = scene.server.raw();
    reader.send_text(read);
    scene.wait_blocked(others + 1);
    reader
}

/// Adds entries and pauses clients, before any reader is served.
fn add_and_pause(producer: &mut RawConnection, adds: &str, pause: &str) {
    pipeline(producer, &format!("MULTI; {adds}; CLIENT PAUSE {pause}; EXEC"));
    let replies = adds.split("; ").count() + 3;
    (0..replies).for_each(|_| assert!(!producer.reply().is_error(), "{adds}, {pause}"));
}

each_version! {
    fn readers_are_served_when_a_pause_ends(version: Version) {
        let reads = ["XREAD BLOCK 0 STREAMS s $", GROUP_READ, "XREADGROUP GROUP h c BLOCK 60000 STREAMS s >"];
        for (pause, password) in ["WRITE", "ALL"].iter().flat_map(|pause| ["", "secret"].map(|password| (pause, password))) {
            let way = format!("{pause}, password: {password:?}");
            let mut scene = Scene::start(version);
            scene.prepare(&["XADD s 0-1 f v", "XGROUP CREATE s g $", "XGROUP CREATE s h $"]);
            let mut readers: Vec<_> = (0..).zip(reads).map(|(others, read)| waiting(&mut scene, read, others)).collect();
            // An 8.1 server asks a call of a module's for the password when it is about to serve that.
            scene.control.call(&["CONFIG", "SET", "requirepass", password]);
            add_and_pause(&mut scene.control, "XADD s * f entry", &format!("200 {pause}"));
            for (reader, read) in readers.iter_mut().zip(reads) {
                let reply = format!("{:?}", reader.reply());
                assert!(reply.contains("entry"), "{read}, {way}: {reply}");
            }
            scene.control.run("WBL.WAIT");
            scene.server.kill9_and_restart();
            for group in ["g", "h"] {
                let pending = format!("{:?}", scene.server.raw().run(&format!("XPENDING s {group}")));
                assert!(pending.starts_with("[:1"), "{way}: {pending}");
            }
        }
    }

    fn readers_that_find_nothing_after_a_pause_wait_on(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["XGROUP CREATE s g $ MKSTREAM", "XGROUP CREATE s h $"]);
        let reads = ["XREAD BLOCK 1000 STREAMS s $", "XREADGROUP GROUP h c BLOCK 1000 STREAMS s >"];
        let mut patient = waiting(&mut scene, GROUP_READ, 0);
        let mut readers: Vec<_> = (1..).zip(reads).map(|(others, read)| waiting(&mut scene, read, others)).collect();
        add_and_pause(&mut scene.control, "XADD s 1-1 f v; XDEL s 1-1", "200 ALL");
        for (reader, read) in readers.iter_mut().zip(reads) {
            assert_eq!(format!("{:?}", reader.reply()), "null", "{read}: its time is over");
        }
        assert_eq!(scene.gauge("wbl_blocked_stream_readers"), 1);
        scene.prepare(&["XADD s 2-1 f entry"]);
        assert!(format!("{:?}", patient.reply()).contains("entry"), "it has waited on");
        scene.end();
    }

    fn what_a_reader_gets_after_a_pause_is_durable(version: Version) {
        let mut scene = Scene::start(version);
        for lever in Lever::ALL {
            scene.prepare(&["DEL s", "XGROUP CREATE s g $ MKSTREAM"]);
            let mut reader = waiting(&mut scene, GROUP_READ, 0);
            add_and_pause(&mut scene.control, "XADD s * f entry", "600000 WRITE");
            scene.control.run("WBL.WAIT");
            scene.freeze_by(lever);
            scene.control.run("CLIENT UNPAUSE");
            scene.assert_withheld(&mut reader, "what it was delivered");
            scene.thaw();
            assert!(format!("{:?}", reader.reply()).contains("entry"), "{lever:?}");
        }
        scene.end();
    }
}
