//! Scripts that clients pipeline share the flushes of their replies, and no reply leaves while a script runs long.

use crate::harness::resp::encode;
use crate::harness::scene::split;
use crate::harness::server::info_field;
use crate::harness::{Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Value, Version, each_version, wait_until};

const WRITES: &str = "return redis.call('SET', KEYS[1], '1')";
const LIBRARY: &str =
    "#!lua name=lib\nserver.register_function('set', function(keys) return redis.call('SET', keys[1], '1') end)";

/// How many times each of these is pipelined.
const TIMES: usize = 100;

/// What is pipelined; the sum of the script is put in.
const PIPELINED: &[&[&str]] = &[
    &["EVALSHA SUM 1 k"],
    &["FCALL set 1 k"],
    &["MULTI", "EVALSHA SUM 1 k", "EXEC"],
    &["SET k 1", r#"EVAL_RO "return redis.call('GET', KEYS[1])" 1 k"#],
    &["SET k 1", "DEBUG OBJECT k"],
    &["SET k 1", "NO-SUCH-COMMAND"],
];

each_version! {
    fn what_a_client_pipelines_shares_a_few_flushes(version: Version) {
        for mode in ["async", "inline"] {
            let mut scene = with_script(version, mode);
            for commands in PIPELINED {
                let waits = waits_of(&mut scene, mode, 1, commands);
                assert!(waits <= 3, "{mode}: {waits} flushes for {TIMES} times {commands:?}");
            }
            scene.end();
        }
    }

    fn what_many_clients_pipeline_costs_a_few_flushes_for_each(version: Version) {
        const CLIENTS: usize = 8;
        for mode in ["async", "inline"] {
            let mut scene = with_script(version, mode);
            for commands in PIPELINED {
                let waits = waits_of(&mut scene, mode, CLIENTS, commands);
                assert!(waits <= 3 * CLIENTS, "{mode}: {waits} flushes for {TIMES} times {commands:?}");
            }
            scene.end();
        }
    }

    // Such as a job queue's producers and its workers.
    fn a_few_clients_that_pipeline_scripts_are_all_served_in_an_iteration(version: Version) {
        for mode in ["async", "inline"] {
            let mut scene = with_script(version, mode);
            let sum = scene.control.call(&["SCRIPT", "LOAD", WRITES]).text();
            let command = format!("EVALSHA {sum} 1 k");
            let pipeline = [command.as_str()].repeat(TIMES);
            let mut clients: Vec<RawConnection> = (0..3).map(|_| scene.server.raw()).collect();
            let mut put_off = || {
                let before = scene.gauge("wbl_wrapped_scripts");
                scene.server.in_one_iteration(|| clients.iter_mut().for_each(|client| send(client, &pipeline)));
                for client in &mut clients {
                    pipeline.iter().for_each(|_| assert!(!client.reply().is_error()));
                }
                scene.gauge("wbl_wrapped_scripts") - before
            };
            // The module sees that they pipeline.
            put_off();
            assert_eq!(put_off(), 0, "{mode}");
            scene.end();
        }
    }

    fn whether_a_client_has_output_left_is_not_asked_for_each_script(version: Version) {
        let mut scene = with_script(version, "inline");
        scene.control.run("CONFIG RESETSTAT");
        waits_of(&mut scene, "inline", 1, &["EVALSHA SUM 1 k"]);
        let asked = info_field(&mut scene.control, "commandstats", "cmdstat_client|list").unwrap_or_default();
        let times = asked.strip_prefix("calls=").and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0);
        assert!(times < TIMES / 10, "{asked}");
        scene.end();
    }

    fn a_clients_replies_stay_while_its_own_script_runs_long(version: Version) {
        for script in [&["EVAL LONG 0"][..], &["MULTI", "EVAL LONG 0", "EXEC"]] {
            let (mut scene, [mut client, other]) = with_pipeliners(version);
            // Nobody is served when the script has ended, and the loop waits for the disk.
            let mut other = other.with_patience(PATIENCE / 60);
            let commands: Vec<&str> = ["SET k v"].iter().chain(script).copied().collect();
            scene.server.in_one_iteration(|| send(&mut client, &commands));
            wait_until("the script runs long", PATIENCE, || is_busy(&mut other));
            scene.assert_withheld(&mut client, "what was written before a long script");
            wait_until("the script has ended", PATIENCE, || !is_busy(&mut other));
            scene.assert_withheld(&mut client, "a long script");
            scene.thaw();
            commands.iter().for_each(|_| assert!(!client.reply().is_error()));
            scene.end();
        }
    }

    fn no_reply_leaves_while_the_script_of_another_runs_long(version: Version) {
        for script in [&["EVAL LONG 0"][..], &["MULTI", "EVAL LONG 0", "EXEC"]] {
            let (mut scene, [mut first, mut second]) = with_pipeliners(version);
            scene.server.in_one_iteration(|| {
                send(&mut first, &["SET k v"]);
                send(&mut second, script);
            });
            scene.assert_withheld(&mut first, "what was written before another client's script");
            scene.thaw();
            assert!(!first.reply().is_error());
            script.iter().for_each(|_| assert!(!second.reply().is_error()));
            scene.end();
        }
    }

    fn what_a_client_shows_others_stays_while_its_script_runs_long(version: Version) {
        let unblocks: [&[&str]; 2] =
            [&["MULTI", "UNBLOCK", "EXEC", "EVAL LONG 0"], &["MULTI", "UNBLOCK", "EVAL LONG 0", "EXEC"]];
        for commands in unblocks.into_iter().chain([&["SET k v", "PUBLISH c m", "EVAL LONG 0"][..]]) {
            let (mut scene, [mut client, mut other]) = with_pipeliners(version);
            scene.thaw();
            let (id, publishes) = (other.run("CLIENT ID").integer(), commands.contains(&"PUBLISH c m"));
            if publishes {
                other.run("SUBSCRIBE c");
            } else {
                scene.prepare(&["RPUSH list a"]);
            }
            scene.freeze();
            let deleted = (!publishes).then(|| scene.held("DEL list"));
            if !publishes {
                other.send_text("BLPOP list 0");
                wait_until("it waits", PATIENCE, || {
                    info_field(&mut scene.control, "clients", "total_blocking_keys").is_some_and(|keys| keys == "1")
                });
            }
            let unblock = format!("CLIENT UNBLOCK {id}");
            let commands: Vec<&str> =
                commands.iter().map(|word| if *word == "UNBLOCK" { unblock.as_str() } else { word }).collect();
            scene.server.in_one_iteration(|| send(&mut client, &commands));
            scene.assert_withheld(&mut other, &commands.join(", "));
            scene.thaw();
            assert_eq!(other.reply() == Value::Null, !publishes, "{commands:?}");
            commands.iter().for_each(|_| assert!(!client.reply().is_error()));
            deleted.into_iter().for_each(|mut client| assert_eq!(client.reply().integer(), 1));
            scene.end();
        }
    }

    // The debugger answers whenever it likes, and sends what is written.
    fn nothing_leaves_before_a_script_of_an_exec_is_debugged(version: Version) {
        let (mut scene, [mut client, _]) = with_pipeliners(version);
        scene.thaw();
        client.run("SCRIPT DEBUG YES");
        scene.freeze();
        scene.server.in_one_iteration(|| send(&mut client, &["SET k v", "MULTI", "EVAL SHORT 0", "EXEC"]));
        scene.assert_withheld(&mut client, "what was written before a script that is debugged");
        scene.thaw();
        let stops = client.reply();
        assert!(format!("{stops:?}").contains("Stopped at 1"), "{stops:?}");
        scene.end();
    }

    fn no_reply_leaves_while_a_script_that_waited_runs_long(version: Version) {
        let (mut scene, [mut first, mut second]) = with_pipeliners(version);
        scene.server.in_one_iteration(|| {
            send(&mut first, &["SET k v", "EVAL SHORT 0", "SET k v"]);
            send(&mut second, &["SET k v", "EVAL LONG 0", "SET k v"]);
        });
        for client in [&mut first, &mut second] {
            scene.assert_withheld(client, "what both have pipelined");
        }
        scene.thaw();
        for client in [&mut first, &mut second] {
            (0..3).for_each(|_| assert!(!client.reply().is_error()));
        }
        scene.end();
    }
}

fn with_script(version: Version, mode: &str) -> Scene {
    let builder = ServerBuilder::with_module(version).set("wbl.commit-mode", mode);
    let mut scene = Scene::of(builder).with_lever(Lever::Sync);
    scene.prepare(&["SET k 1"]);
    scene.control.call(&["FUNCTION", "LOAD", LIBRARY]);
    scene.control.call(&["SCRIPT", "LOAD", WRITES]);
    scene.prepare(&[]);
    scene
}

/// How often the loop waits for what so many clients pipeline at a time.
fn waits_of(scene: &mut Scene, mode: &str, clients: usize, commands: &[&str]) -> usize {
    let sum = scene.control.call(&["SCRIPT", "LOAD", WRITES]).text();
    let commands: Vec<String> = commands.iter().map(|command| command.replace("SUM", &sum)).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let mut clients: Vec<RawConnection> = (0..clients).map(|_| scene.server.raw()).collect();
    clients.iter_mut().for_each(|client| drop(client.run("PING")));
    if mode == "async" {
        clients.iter_mut().for_each(|client| scene.make_pipeline(client));
    }
    let before = scene.gauge("wbl_inline_waits");
    let pipeline: Vec<&str> = commands.repeat(TIMES);
    scene.server.in_one_iteration(|| clients.iter_mut().for_each(|client| send(client, &pipeline)));
    for client in &mut clients {
        for command in &pipeline {
            let reply = client.reply();
            assert_eq!(reply.is_error(), command.starts_with("NO-SUCH"), "{command}: {reply:?}");
        }
    }
    usize::try_from(scene.gauge("wbl_inline_waits") - before).expect("a count")
}

/// Two clients that are known to pipeline, and a disk that stands still.
fn with_pipeliners(version: Version) -> (Scene, [RawConnection; 2]) {
    let builder = ServerBuilder::with_module(version).set("busy-reply-threshold", "1").set("wbl.commit-mode", "async");
    let mut scene = Scene::of(builder.allow_warning("Slow script detected")).with_lever(Lever::Sync);
    let mut clients = [scene.server.raw(), scene.server.raw()];
    clients.iter_mut().for_each(|client| scene.make_pipeline(client));
    scene.prepare(&[]);
    scene.freeze();
    (scene, clients)
}

/// Sends all of it in one piece.
fn send(client: &mut RawConnection, commands: &[&str]) {
    const LONG: &str = "local function ms() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end \
                        local since = ms() while ms() < since + 700 do end return redis.call('SET', 'k', 'long')";
    let bytes = commands.iter().flat_map(|command| {
        let words = split(command).into_iter().map(|word| match word.as_slice() {
            b"LONG" => LONG.into(),
            b"SHORT" => b"return redis.call('SET', 'k', 'short')".to_vec(),
            _ => word,
        });
        encode(&words.collect::<Vec<_>>())
    });
    client.send_bytes(&bytes.collect::<Vec<u8>>()).expect("the server takes the commands");
}

/// Whether another client's script runs long.
fn is_busy(client: &mut RawConnection) -> bool {
    client.send(&["GET", "other"]);
    matches!(client.try_reply(), Ok(Value::Error(text)) if text.contains("BUSY"))
}
