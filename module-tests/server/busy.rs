//! A script that runs long, while the server serves others: what is not durable does not leave with it.

use crate::harness::{Lever, PATIENCE, Scene, ServerBuilder, Value, Version, each_version, wait_until};

const LIBRARY: &str = "#!lua name=first
server.register_function('endless', function() while true do end end)";

fn scene(version: Version) -> Scene {
    let builder = ServerBuilder::with_module(version).set("busy-reply-threshold", "1").set("wbl.commit-mode", "async");
    Scene::of(builder.allow_warning("Slow script detected"))
}

each_version! {
    fn what_runs_while_a_script_is_busy_shows_no_library_early(version: Version) {
        let mut scene = scene(version);
        scene.control.call(&["FUNCTION", "LOAD", LIBRARY]);
        scene.prepare(&[]);
        let [mut caller, mut reader, mut loader] = std::array::from_fn(|_| scene.server.raw());
        reader.run("PING");
        let second = "#!lua name=second\nserver.register_function('f', function() return 1 end)";
        scene.freeze_by(Lever::Sync);
        loader.send(&["FUNCTION", "LOAD", second]);
        scene.wait_blocked(1);
        caller.send_text("FCALL endless 0");
        wait_until("the function runs long", PATIENCE, || {
            matches!(reader.call(&["PING"]), Value::Error(text) if text.contains("BUSY"))
        });
        let shown = reader.call(&["FUNCTION", "STATS"]);
        assert!(matches!(&shown, Value::Error(text) if text.contains("BUSY")), "{shown:?}");
        scene.thaw();
        // What is durable is shown, once the durable position has been looked at.
        reader.run("FUNCTION KILL");
        caller.reply();
        assert!(!loader.reply().is_error());
        assert!(!reader.run("FUNCTION STATS").items().is_empty());
        scene.end();
    }
}
