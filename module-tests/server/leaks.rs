//! Whatever the server lets happen between a command and the end of its iteration, no reply leaves before what it shows
//! is durable.

use crate::harness::process::resident_kib;
use crate::harness::resp::encode;
use crate::harness::scene::split;
use crate::harness::server::info_field;
use crate::harness::{
    Lever, PATIENCE, RawConnection, Scene, Server, ServerBuilder, Version, each_lever, each_version, wait_until,
};

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

/// How long a connection is watched while the disk stands still.
pub const WHILE: std::time::Duration = std::time::Duration::from_millis(50);

/// Fails if the client gets anything in some time; it may be disconnected.
pub fn assert_gets_nothing(client: &mut RawConnection, what: &str) {
    let until = std::time::Instant::now() + 4 * WHILE;
    while std::time::Instant::now() < until {
        match client.received_nothing() {
            Err(finding) if !finding.contains("the connection is gone") => panic!("{what}: {finding}"),
            _ => std::thread::sleep(WHILE / 10),
        }
    }
}

/// A client that tracks, for which the loop waits.
pub fn tracker(server: &Server) -> RawConnection {
    let mut client = server.raw();
    client.run("HELLO 3");
    client.run("CLIENT TRACKING ON");
    client
}

pub fn pipeline(client: &mut RawConnection, commands: &str) {
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
            scene.freeze_by(lever);
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

    fn refused_commands_change_nothing_and_hold_nobody_up(version: Version) {
        let server = ServerBuilder::with_module(version).in_memory().start();
        let mut control = server.raw();
        for command in ["SETRANGE big 100000 x", "XGROUP CREATE s g $ MKSTREAM", "PFADD log a", "SET k v", "ACL SETUSER poor on nopass ~none +@all", "ACL SETUSER bare on nopass ~none +@all -wbl.call -wbl.read"] {
            control.run(command);
        }
        control.run("CONFIG SET requirepass secret");
        control.run("WBL.WAIT");
        let refused = [
            "BITFIELD big OVERFLOW FAIL GET u8 0",
            "BITFIELD big OVERFLOW FAIL INCRBY u8 1600000 1",
            "XACK big",
            "XACK s g 1-1",
            "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
            "XREADGROUP GROUP g c STREAMS s >",
            "XREAD BLOCK 0 STREAMS s $",
            "PFCOUNT log",
            "SPOP big",
            "BLPOP big 0",
            "WATCH k",
            "EVAL return(1) 1 k",
            "NOSUCH k",
            "GET k",
            "SET k x",
            "SETNX k x",
        ];
        let state = |control: &mut RawConnection| {
            ["appended_offset", "state_images", "inline_waits", "write_blocked_count", "transaction_keys"]
                .map(|name| info_field(control, "wbl", &format!("wbl_{name}")).unwrap())
        };
        let mut findings = Vec::new();
        for user in ["nobody", "poor", "bare"] {
            for command in refused {
                let mut client = server.raw();
                if user != "nobody" {
                    client.run(&format!("AUTH {user} any"));
                }
                let before = state(&mut control);
                let reply = client.call(&split(command));
                assert!(reply.is_error(), "{user}: {command}: {reply:?}");
                let after = state(&mut control);
                // What others do then is logged and held as ever.
                let mut writer = authenticated(&server);
                (0..3).for_each(|_| drop(writer.run("XADD s MAXLEN 1 * f v")));
                let images = state(&mut control)[1] != after[1];
                if before != after || images {
                    findings.push(format!("{user}: {command}: {before:?}, {after:?}, images later: {images}"));
                }
            }
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    fn a_refused_pause_holds_nobody_up(version: Version) {
        let mut scene = Scene::of(ServerBuilder::with_module(version).set("wbl.commit-mode", "async"));
        let mut reader = scene.server.raw();
        reader.send_text("BLPOP list 0");
        scene.wait_blocked(1);
        scene.answer("CONFIG SET requirepass secret");
        let before = scene.gauge("wbl_waits_client_pause");
        let (mut nobody, mut writer) = (scene.server.raw(), authenticated(&scene.server));
        for command in ["CLIENT PAUSE 1000 WRITE", "FAILOVER"] {
            for _ in 0..10 {
                assert!(nobody.call(&split(command)).is_error(), "{command}");
                writer.run("SET k v");
            }
            assert_eq!(scene.gauge("wbl_waits_client_pause"), before, "{command}");
        }
        drop(reader);
        scene.end();
    }

    fn nothing_hides_behind_a_refused_command(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["ACL SETUSER bare on nopass ~* +@all -wbl.call -wbl.read"]);
        for lever in Lever::ALL {
            for refused in ["NOSUCH", "GET", "effects.none x", "DEBUG", "EVAL", "EVALSHA none 0"] {
                // A reader that waits.
                scene.prepare(&["FLUSHALL", "XADD s 0-1 f v", "SET k old"]);
                let (mut reader, mut transaction) = (scene.server.raw(), scene.server.raw());
                pipeline(&mut reader, &format!("{refused}; XREAD BLOCK 0 STREAMS s $"));
                assert!(reader.reply().is_error(), "{refused}");
                scene.wait_blocked(1);
                scene.freeze_by(lever);
                let mut writer = scene.server.raw();
                writer.send_text("XADD s 1-1 f v");
                scene.assert_withheld(&mut reader, &format!("XREAD behind {refused}, {lever:?}"));
                // A transaction that reads.
                writer.send_text("SET k new");
                pipeline(&mut transaction, &format!("{refused}; MULTI; GET k; EXEC"));
                let early = transaction.drain(std::time::Duration::from_millis(50));
                scene.thaw();
                assert!(!early.escape_ascii().to_string().contains("new"), "EXEC behind {refused}, {lever:?}");
                assert_eq!(reader.reply().items().len(), 1);
            }
        }
        scene.end();
    }

    fn watching_again_and_again_takes_no_memory(version: Version) {
        let scene = Scene::start(version);
        let mut client = scene.server.raw();
        let watches: Vec<u8> = (0..10_000).flat_map(|_| encode(&["WATCH", "key"])).collect();
        let round = |client: &mut RawConnection| {
            client.send_bytes(&watches).expect("the server takes the commands");
            (0..10_000).for_each(|_| drop(client.reply()));
        };
        round(&mut client);
        let before = resident_kib(&scene.server);
        (0..10).for_each(|_| round(&mut client));
        let grown = resident_kib(&scene.server) - before;
        assert!(grown < 2048, "100,000 WATCHes of one key took {grown} KiB");
    }

    fn what_is_kept_of_clients_is_counted(version: Version) {
        let mut scene = Scene::start(version);
        let kept = |scene: &mut Scene| (scene.gauge("wbl_clients"), scene.gauge("wbl_transaction_keys"));
        let before = kept(&mut scene).0;
        let (mut queueing, mut watching) = (scene.server.raw(), scene.server.raw());
        watching.run("WATCH a b c");
        ["MULTI", "GET a", "MGET b d"].iter().for_each(|command| drop(queueing.run(command)));
        assert_eq!(kept(&mut scene), (before + 2, 6));
        queueing.run("EXEC");
        assert_eq!(kept(&mut scene), (before + 2, 3));
        // Of a client that watches too much, nothing need be kept.
        let keys: String = (0..1100).map(|number| format!(" key{number}")).collect();
        watching.run(&format!("WATCH{keys}"));
        assert_eq!(kept(&mut scene), (before + 2, 0));
        drop((queueing, watching));
        wait_until("the clients have gone", PATIENCE, || kept(&mut scene) == (before, 0));
    }

    fn what_clients_were_doing_before_the_log_began_is_held_and_logged(version: Version) {
        let enabled = ["CONFIG SET wbl.enabled no", "CONFIG SET wbl.enabled yes"];
        let promoted = ["REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"];
        for (lever, [ends, begins]) in Lever::ALL.into_iter().flat_map(|lever| [(lever, enabled), (lever, promoted)]) {
            let builder = ServerBuilder::with_module(version).allow_warning("Error condition on socket for SYNC");
            let mut scene = Scene::of(builder);
            scene.prepare(&["SET k old", "XADD s 0-1 f v", "XGROUP CREATE s g $"]);
            scene.control.run(ends);
            let mut clients: Vec<RawConnection> = (0..6).map(|_| scene.server.raw()).collect();
            let [reader, group, watcher, unwatched, queued, opened] = clients.as_mut_slice() else { unreachable!() };
            reader.send_text("XREAD BLOCK 0 STREAMS s $");
            let grouped = lever == Lever::Sync && begins == enabled[1];
            if grouped {
                group.send_text("XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
            }
            scene.wait_blocked(1 + usize::from(grouped));
            watcher.run("WATCH k");
            ["WATCH k", "UNWATCH"].iter().for_each(|command| drop(unwatched.run(command)));
            // A replica refuses the second one.
            ["MULTI", "XACK s g 0-1"].iter().for_each(|command| drop(queued.call(&split(command))));
            opened.run("MULTI");
            scene.control.run(begins);
            scene.prepare(&[]);

            scene.freeze_by(lever);
            let mut writer = scene.server.raw();
            pipeline(&mut writer, "SET k new");
            writer.assert_nothing(std::time::Duration::from_millis(20), "SET");
            // Whose queue is known from its first command on reads as anybody.
            pipeline(opened, "GET k; EXEC");
            pipeline(watcher, "MULTI; PING; EXEC");
            let shown = [opened.drain(WHILE), watcher.drain(WHILE)].map(|bytes| bytes.escape_ascii().to_string());
            assert!(!shown[0].contains("new") && !shown[1].contains("*-1"), "{lever:?}: {shown:?}");
            scene.thaw();
            writer.reply();
            scene.prepare(&[]);

            scene.freeze_by(lever);
            writer.send_text("XADD s 1-1 f entry");
            scene.assert_withheld(reader, "XREAD");
            if grouped {
                scene.assert_withheld(group, "XREADGROUP");
            }
            scene.thaw();
            assert_eq!(reader.reply().items().len(), 1);
            writer.reply();
            if grouped {
                assert_eq!(group.reply().items().len(), 1);
            }
            queued.send_text("EXEC");
            let aborted = format!("{:?}", queued.reply());
            assert!(aborted.contains("EXECABORT"), "what it queued is not known: {aborted}");
            assert_eq!(queued.run("GET k").text(), "new");
            let before = format!("{:?}", scene.answer("XINFO GROUPS s"));
            scene.server.kill9_and_restart();
            scene.control = scene.server.raw();
            assert_eq!(format!("{:?}", scene.answer("XINFO GROUPS s")), before, "{lever:?}");
        }
    }

    fn misses_do_not_fill_the_memory_while_the_disk_hangs(version: Version) {
        let mut scene = Scene::of(ServerBuilder::with_module(version).set("wbl.notify-keyspace-events", "KEm"));
        scene.freeze_by(Lever::Sync);
        let mut writer = scene.server.raw();
        writer.send_text("SET k v");
        let mut client = scene.server.raw();
        let misses: Vec<u8> = (0..10_000).flat_map(|number| encode(&["GET".to_string(), format!("none{number}")])).collect();
        for _ in 0..3 {
            client.send_bytes(&misses).expect("the server takes the commands");
            (0..10_000).for_each(|_| drop(client.reply()));
        }
        assert!(scene.gauge("wbl_notices_lost") >= 19_000, "all but some are dropped");
        assert!((9000..11_000).contains(&scene.gauge("wbl_notices_waiting")));
        scene.thaw();
        writer.reply();
        wait_until("the messages are sent", PATIENCE, || scene.gauge("wbl_notices_waiting") == 0);
        scene.end();
    }

    fn a_failing_bitfield_is_logged_as_itself(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["SETRANGE big 100000 x", "SETRANGE small 1 x"]);
        let before = scene.gauge("wbl_appended_offset");
        for offset in 0..20 {
            scene.control.run(&format!("BITFIELD big OVERFLOW FAIL INCRBY u8 {} 1", offset * 8));
        }
        // It grows, though all of its increments fail.
        scene.control.run("BITFIELD small OVERFLOW FAIL INCRBY u8 800 300");
        scene.prepare(&[]);
        let written = scene.gauge("wbl_appended_offset") - before;
        assert!(written < 4000 && scene.gauge("wbl_state_images") == 0, "{written} bytes");
        let digest = |scene: &Scene| format!("{:?}", scene.answer("DEBUG DIGEST-VALUE big small"));
        let expected = digest(&scene);
        scene.server.kill9_and_restart();
        assert_eq!(digest(&scene), expected);
    }
}

each_lever! {
    // Who waits in BLPOP may be refused what comes where rights have changed, but not where they have not.
    fn a_change_of_rights_that_is_refused_makes_no_push_wait(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let users = ["ACL SETUSER poor on nopass ~* +@all -acl", "ACL SETUSER most on nopass ~* +@all -strlen"];
        scene.prepare(&users);
        let (mut waiting, mut poor, mut other) = (scene.server.raw(), scene.server.raw(), scene.server.raw());
        poor.run("AUTH poor any");
        waiting.send_text("BLPOP list 0");
        scene.wait_blocked(1);
        let loops = |scene: &mut Scene| scene.gauge("wbl_inline_waits");
        scene.control.run("CONFIG SET requirepass secret");
        for client in [&mut poor, &mut scene.server.raw()] {
            let reply = client.call(&split("ACL SETUSER poor on"));
            assert!(reply.is_error(), "{reply:?}");
        }
        scene.control.run("CONFIG SET requirepass ");
        ["AUTH most any", "MULTI", "ACL SETUSER poor on"].iter().for_each(|command| drop(poor.run(command)));
        for command in ["STRLEN list", "EXEC"] {
            let reply = poor.call(&split(command));
            assert!(reply.is_error(), "{command}: {reply:?}");
        }
        let before = loops(&mut scene);
        scene.freeze();
        other.send_text("LPUSH list a");
        scene.assert_withheld(&mut other, "LPUSH");
        scene.assert_withheld(&mut waiting, "BLPOP");
        scene.thaw();
        assert_eq!(other.reply().integer(), 1);
        assert_eq!(waiting.reply().items().len(), 2);
        assert_eq!(loops(&mut scene), before, "LPUSH made the loop wait");
        scene.end();
    }
}

fn authenticated(server: &Server) -> RawConnection {
    let mut client = server.raw();
    client.run("AUTH secret");
    client
}
