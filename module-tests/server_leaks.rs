//! Whatever the server lets happen between a command and the end of its iteration, no reply leaves before what it shows is durable.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod harness;

use harness::resp::encode;
use harness::scene::split;
use harness::{RawConnection, Scene, Server, ServerBuilder, Version, each_version};

const LIBRARY: &str = "#!lua name=lib
server.register_function{function_name='endless', callback=function() while true do end end, flags={'no-writes'}}";

/// Commands that run until the server is killed, while it sends the replies of others.
const ENDLESS: &[&str] = &[
    r#"MULTI; EVAL "while true do end" 0; EXEC"#,
    r#"MULTI; EVAL_RO "while true do end" 0; EXEC"#,
    "MULTI; FCALL endless 0; EXEC",
    r#"EVAL "while true do end" 0"#,
    r#"EVAL_RO "while true do end" 0"#,
    "FCALL endless 0",
    "FCALL_RO endless 0",
];

/// A client that tracks, for which the loop waits.
fn tracker(server: &Server) -> RawConnection {
    let mut client = server.raw();
    client.run("HELLO 3");
    client.run("CLIENT TRACKING ON");
    client
}

fn pipeline(client: &mut RawConnection, commands: &str) {
    let bytes: Vec<u8> = commands.split("; ").flat_map(|command| encode(&split(command))).collect();
    client.send_bytes(&bytes).expect("the server takes the commands");
}

each_version! {
    fn what_is_answered_while_something_long_runs_is_durable(version: Version) {
        let builder = ServerBuilder::with_module(version).set("busy-reply-threshold", "1").in_memory();
        let mut scene = Scene::of(builder.allow_warning("Slow script detected"));
        let mut findings = Vec::new();
        for endless in ENDLESS {
            scene.prepare(&["FLUSHALL"]);
            scene.control.call(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]);
            let (mut waiter, mut pusher) = (tracker(&scene.server), tracker(&scene.server));
            waiter.send_text("BLMOVE queue done LEFT LEFT 0");
            scene.wait_blocked(1);
            pipeline(&mut pusher, &format!("RPUSH queue job; {endless}"));
            assert_eq!(waiter.reply().text(), "job", "{endless}");
            scene.server.kill9_and_restart();
            scene.control = scene.server.raw();
            let done = format!("{:?}", scene.answer("LRANGE done 0 -1"));
            if done != r#"["job"]"# {
                findings.push(format!("{endless}: {done}"));
            }
        }
        assert!(findings.is_empty(), "answered, and lost by a crash:\n{}", findings.join("\n"));
    }
}
