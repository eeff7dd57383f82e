//! Whatever the server lets happen between a command and the end of its iteration, no reply leaves before what it shows is durable.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod harness;

use harness::resp::encode;
use harness::scene::split;
use harness::{Lever, RawConnection, Scene, Server, ServerBuilder, Version, each_version};

/// Group readers whose group, consumer or stream is named as an option is.
const GROUP_READS: &[&str] = &[
    "XREADGROUP GROUP streams c STREAMS s >",
    "XREADGROUP GROUP g streams STREAMS s >",
    "XREADGROUP GROUP STREAMS Streams streams streams >",
    "XREADGROUP COUNT 1 GROUP streams block NOACK STREAMS s >",
    "XREADGROUP COUNT 1 GROUP streams group STREAMS s >",
    "XREADGROUP BLOCK 0 GROUP streams count STREAMS s >",
];

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

    fn group_readers_wait_and_are_logged_however_groups_are_named(version: Version) {
        let mut scene = Scene::start(version);
        let mut findings = Vec::new();
        for (lever, read) in Lever::ALL.into_iter().flat_map(|lever| GROUP_READS.iter().map(move |read| (lever, read))) {
            scene.prepare(&["FLUSHALL"]);
            for stream in ["s", "streams"] {
                for group in ["g", "streams", "STREAMS"] {
                    scene.prepare(&[&format!("XGROUP CREATE {stream} {group} 0 MKSTREAM")]);
                }
                scene.prepare(&[&format!("XADD {stream} 1-1 f v")]);
            }
            scene.freeze(lever);
            let mut client = scene.server.raw();
            client.send_text(read);
            scene.assert_withheld(&mut client, read);
            scene.thaw();
            client.reply();
            let state = |scene: &Scene| format!("{:?} {:?}", scene.answer("XINFO GROUPS s"), scene.answer("XINFO GROUPS streams"));
            let before = state(&scene);
            scene.server.kill9_and_restart();
            scene.control = scene.server.raw();
            let after = state(&scene);
            if before != after {
                findings.push(format!("{read}:\n  before {before}\n  after  {after}"));
            }
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    fn the_modules_commands_run_only_what_the_filter_gives_them(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        for command in ["SYNC", "PSYNC ? -1", "MONITOR", "SUBSCRIBE c", "MULTI", "DEBUG SLEEP 0", "SHUTDOWN NOSAVE", "CLIENT REPLY OFF", "AUTH x", "RESET", "HELLO 3", "QUIT"] {
            for own in ["WBL.READ", "WBL.CALL", "WBL.EVAL", "WBL.EVAL_RO"] {
                let mut client = server.raw();
                let reply = client.call(&format!("{own} {command}").split(' ').collect::<Vec<_>>());
                assert!(reply.is_error(), "{own} {command}: {reply:?}");
                client.run("PING");
            }
        }
    }
}
