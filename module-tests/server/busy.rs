//! A script that runs long, while the server serves others: what is not durable does not leave with it.

use crate::harness::{Lever, PATIENCE, Scene, ServerBuilder, Value, Version, each_version, wait_until};
use crate::leaks::{assert_gets_nothing, pipeline};

const LIBRARY: &str = "#!lua name=first
server.register_function('endless', function() while true do end end)";

fn scene(version: Version) -> Scene {
    let builder = ServerBuilder::with_module(version).set("busy-reply-threshold", "1").set("wbl.commit-mode", "async");
    Scene::of(builder.allow_warning("Slow script detected"))
}

each_version! {
    // Nothing shows that it has run before the script lets its reply out, which the same pause has delayed.
    fn a_script_after_a_pause_lets_nothing_out_that_is_not_logged(version: Version) {
        for script_first in [false, true] {
            let mut scene = scene(version);
            scene.prepare(&["XGROUP CREATE s g $ MKSTREAM", "XADD s 1-1 f v", "XREADGROUP GROUP g c STREAMS s >"]);
            let [mut client, mut script, mut pauser] = std::array::from_fn(|_| scene.server.raw());
            ["MULTI", "XACK s g 1-1"].iter().for_each(|command| drop(client.run(command)));
            script.run("PING");
            pauser.run("CLIENT PAUSE 200 WRITE");
            let mut commands = [(&mut client, vec!["EXEC"]), (&mut script, vec!["EVAL", "while true do end", "0"])];
            if script_first {
                commands.reverse();
            }
            for (connection, command) in &mut commands {
                connection.send(command);
                pauser.run("PING");
            }
            wait_until("the script runs long", PATIENCE, || {
                matches!(pauser.call(&["PING"]), Value::Error(text) if text.contains("BUSY"))
            });
            assert_gets_nothing(&mut client, &format!("script first: {script_first}"));
            pauser.run("SCRIPT KILL");
            assert!(client.try_reply().is_err(), "its connection is closed");
            script.reply();
            assert!(format!("{:?}", pauser.run("XPENDING s g")).starts_with("[:1"), "it has not run");
        }
    }

    // Its unit is taken up after that script, which nothing shows again before it runs.
    fn a_transaction_that_pauses_is_refused_until_a_delayed_script_has_run(version: Version) {
        for pause in ["CLIENT PAUSE 0", "CLIENT PAUSE 3000 WRITE; CLIENT UNPAUSE"] {
            let mut scene = scene(version);
            let [mut client, mut script, mut pauser] = std::array::from_fn(|_| scene.server.raw());
            pauser.run("CLIENT PAUSE 100000 WRITE");
            script.send(&["EVAL", "while true do end", "0"]);
            scene.wait_blocked(1);
            pipeline(&mut client, &format!("CLIENT UNPAUSE; MULTI; INCR n; {pause}; EXEC"));
            wait_until("the script runs long", PATIENCE, || {
                matches!(pauser.call(&["PING"]), Value::Error(text) if text.contains("BUSY"))
            });
            pauser.run("SCRIPT KILL");
            script.reply();
            let others = 3 + pause.split(';').count();
            (0..others).for_each(|_| assert!(!client.reply().is_error(), "{pause}"));
            assert!(client.reply().is_error(), "{pause}: it is refused");
            assert_eq!(format!("{:?}", client.run("GET n")), "null", "{pause}");
            pipeline(&mut client, &format!("MULTI; INCR n; {pause}; EXEC"));
            let replies: Vec<Value> = (0..others).map(|_| client.reply()).collect();
            assert!(!replies.iter().any(Value::is_error), "{pause}: the script has run: {replies:?}");
            scene.end();
        }
    }

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
