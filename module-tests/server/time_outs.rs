//! Clients that wait in vain in BLPOP etc., and what their answers show.

use crate::harness::{Lever, Scene, ServerBuilder, Value, Version, each_version};
use crate::leaks::WHILE;

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
}
