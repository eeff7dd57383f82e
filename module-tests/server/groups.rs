//! Consumer groups: what their readers read is logged without looking at the other groups of the stream, and is there
//! after a crash.

use crate::harness::server::info_field;
use crate::harness::{Scene, Server, ServerBuilder, Value, Version, each_version};

/// Ways to a position of the group `g`, on the streams `S` and `T`. The state after each step must survive.
const WAYS: &[&str] = &[
    "ADD 5; NEW 0; READ 1; READ 2; XADD S 6-1 f v; READ 9; READ 1; XADD S 7-1 f v; READ 1",
    // Counted from what is not known, from a number that is wrong, and past entries that are gone.
    "ADD 5; NEW 2-1; READ 1; READ 1; READ 1; XADD S 6-1 f v; READ 1",
    "ADD 5; NEW 2-1 ENTRIESREAD 40; READ 1; READ 2; XTRIM S MAXLEN 1; XADD S 6-1 f v; READ 1",
    "ADD 5; NEW 0; XDEL S 3-1; READ 1; READ 1; READ 1; XDEL S 5-1; XADD S 6-1 f v; READ 1",
    "ADD 5; NEW 0; XTRIM S MAXLEN 3; READ 1; READ 1; XTRIM S MAXLEN 0; XADD S 6-1 f v; READ 1",
    "ADD 5; NEW 0; XDEL S 1-1 2-1 3-1 4-1 5-1; READ 1; XADD S 6-1 f v; READ 1",
    "ADD 5; NEW 1-1; XSETID S 9-1 ENTRIESADDED 20 MAXDELETEDID 3-1; READ 1; READ 1; READ 9",
    "NEW $ MKSTREAM; XSETID S 9-1 ENTRIESADDED 20; XADD S 10-1 f v; READ 1; XADD S MAXLEN 1 11-1 f v; READ 1",
    // What was delivered before.
    "ADD 5; NEW 0; READ 3; XGROUP SETID S g 1-1; BY other COUNT 1 STREAMS S >; READ 9",
    "ADD 5; NEW 0; READ 2; BY c STREAMS S 0; BY c COUNT 1 STREAMS S 1-1; READ 1",
    // All forms of the command.
    "ADD 5; NEW 0; BY c NOACK COUNT 2 STREAMS S >; BY d NOACK STREAMS S >",
    "ADD 5; NEW 0; BY c COUNT 2 STREAMS S 18446744073709551615-18446744073709551615; READ 1",
    "ADD 5; NEW 0; BY c COUNT 2 STREAMS S 018446744073709551615-18446744073709551615; READ 1",
    "ADD 5; NEW 0; BY c COUNT 2 BLOCK 0 STREAMS S >; BY c BLOCK 0 STREAMS S >",
    "XADD T 1-1 f v; XGROUP CREATE T g 0; ADD 5; NEW 0; BY c COUNT 2 STREAMS S T > >; READ 1",
    "XADD T 1-1 f v; XGROUP CREATE T g 0; ADD 5; NEW 0; READ 1; BY c STREAMS T S > 0; READ 1",
    "HELLO 3; ADD 5; NEW 0; READ 1; BY c STREAMS S 0; READ 1",
    // Claims that move the group, the last without an entry.
    "ADD 5; NEW 0; READ 1; XCLAIM S g d 0 1-1 LASTID 3-1; XCLAIM S g d 0 1-1 LASTID 2-1; READ 1",
    "ADD 5; NEW 0; XCLAIM S g d 0 1-1 FORCE JUSTID LASTID 3; XCLAIM S g d 0 9-1 LASTID 4-1; READ 1",
    "ADD 5; NEW 0; READ 1; XCLAIM S g d 0 LASTID 1-5 LASTID 4-1; READ 1",
    "ADD 5; NEW 0; READ 1; XCLAIM S g d 0 LASTID 4-1; READ 1",
    // An id without its sequence number.
    "XADD S 5-0 f v; XADD S 5-1 f v; XADD S 6-0 f v; NEW 0; READ 3; XACK S g 5-0; XCLAIM S g d 0 5; XCLAIM S g d 0 5 6",
];

/// The commands of a step.
fn commands(step: &str, stream: &str) -> Vec<String> {
    let (first, rest) = step.split_once(' ').expect("words");
    let command = match first {
        "ADD" => {
            let ids = 1..=rest.parse::<u8>().expect("a number");
            return ids.map(|id| format!("XADD {stream} {id}-1 f v")).collect();
        }
        "NEW" => format!("XGROUP CREATE S g {rest}"),
        "READ" => format!("XREADGROUP GROUP g c COUNT {rest} STREAMS S >"),
        "BY" => format!("XREADGROUP GROUP g {rest}"),
        _ => step.to_string(),
    };
    let words = command.split(' ').map(|word| match word {
        "S" => stream.to_string(),
        "T" => format!("{stream}:other"),
        word => word.to_string(),
    });
    vec![words.collect::<Vec<_>>().join(" ")]
}

each_version! {
    fn a_reader_asks_nothing_about_other_groups(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["XADD s 1-1 f v", "XADD s 2-1 f v", "XADD s 3-1 f v"]);
        (0..10).for_each(|group| drop(scene.control.run(&format!("XGROUP CREATE s g{group} 0"))));
        let mut reader = scene.server.raw();
        for command in [
            "XREADGROUP GROUP g1 c COUNT 1 STREAMS s >",
            "XREADGROUP GROUP g1 c COUNT 1 BLOCK 0 STREAMS s >",
            "XREADGROUP GROUP g1 c STREAMS s 0",
            "XREADGROUP GROUP g2 c NOACK STREAMS s >",
            "XCLAIM s g1 d 0 1-1 LASTID 3-1",
            "XAUTOCLAIM s g1 e 0 0",
        ] {
            let reply = reader.run(command);
            assert!(matches!(&reply, Value::Array(items) if !items.is_empty()), "{command}: {reply:?}");
        }
        reader.send_text("XREADGROUP GROUP g2 c BLOCK 0 STREAMS s >");
        scene.wait_blocked(1);
        scene.control.run("XADD s 4-1 f v");
        reader.reply();
        assert_eq!(info_field(&mut scene.control, "commandstats", "cmdstat_xinfo|groups"), None);
        assert_eq!(scene.server.wbl_info("wbl_state_images"), "0");
        scene.end();
    }

    fn what_a_group_has_read_survives_a_crash(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        let mut streams = Vec::new();
        for (way, steps) in WAYS.iter().enumerate() {
            let steps: Vec<&str> = steps.split("; ").collect();
            for length in 1..=steps.len() {
                let stream = format!("way{way}:{length}");
                for command in steps.iter().take(length).flat_map(|step| commands(step, &stream)) {
                    let reply = client.run(&command);
                    assert!(!reply.is_error(), "{command}: {reply:?}");
                }
                client.run("HELLO 2");
                streams.extend([format!("{stream}:other"), stream]);
            }
        }
        let states = |server: &Server| -> Vec<String> {
            let mut client = server.raw();
            let questions = ["XINFO GROUPS {}", "XINFO STREAM {}", "XPENDING {} g"];
            let asked = streams.iter().flat_map(|stream| questions.map(|question| question.replace("{}", stream)));
            asked.map(|question| format!("{question}: {:?}", client.call(&question.split(' ').collect::<Vec<_>>()))).collect()
        };
        let before = states(&server);
        server.kill9_and_restart();
        for (before, after) in before.iter().zip(states(&server)) {
            assert_eq!(*before, after);
        }
    }
}
