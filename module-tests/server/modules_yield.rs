//! Other modules that have the server serve clients outside of their own commands (Yield): no reply leaves early.

use crate::harness::resp::encode;
use crate::harness::scene::split;
use crate::harness::{Lever, RawConnection, Scene, ServerBuilder, Value, Version, each_version, paths};
use crate::leaks::{WHILE, pipeline};
use std::path::{Path, PathBuf};

/// Units whose replies nothing holds, each the last one of its client's commands.
const UNHELD: &[(&str, &[&str])] = &[
    ("MULTI;SET k v;EXEC", &[]),
    ("SET k v", &["CLIENT TRACKING ON"]),
    ("EVAL redis.call('SET','k','v') 0", &["AUTH limited any"]),
];

/// What the module answers, as it is shown.
const OK: &str = r"+OK\r\n";

each_version! {
    fn what_the_loop_waits_for_outlasts_another_modules_yield(version: Version) {
        for first in [true, false] {
            for way in ["timer", "sleep", "event"] {
                for (commands, before) in UNHELD {
                    let mut scene = scene(ServerBuilder::with_module(version).load(&yields(version), first));
                    let file = file(&scene);
                    let mut client = scene.server.raw();
                    before.iter().for_each(|command| drop(client.run(command)));
                    let mut other = scene.server.raw();
                    let yields = format!("yields.{way} {}", file.display());
                    // The module's command comes first, because it is preceded by a wait for all others.
                    if way == "event" {
                        other.run(&yields);
                        withheld_over(&mut scene, ("", &mut client, commands), (&mut other, "SET yield:k v"), &file);
                    } else {
                        withheld_over(&mut scene, (&yields, &mut client, commands), (&mut other, "TIME"), &file);
                    }
                    scene.end();
                }
            }
        }
    }

    fn another_modules_yield_lets_out_no_transaction_that_is_logged_late(version: Version) {
        let scene = scene(ServerBuilder::with_module(version).load(&yields(version), true));
        let mut client = scene.server.raw();
        ["MULTI", "INCR n", "CLIENT PAUSE 50 WRITE"].iter().for_each(|command| drop(client.run(command)));
        assert!(client.call(&["EXEC"]).is_error(), "its unit is taken up after it");
        assert_eq!(client.run("INCR n").integer(), 1);
        scene.end();
    }

    fn another_modules_yield_lets_out_no_answer_to_who_waits_in_vain(version: Version) {
        let mut scene = scene(ServerBuilder::with_module(version).load(&yields(version), true));
        let file = file(&scene);
        scene.prepare(&["SET k v"]);
        let (mut waiter, mut other) = (scene.server.raw(), scene.server.raw());
        scene.freeze();
        let mut writer = scene.held("DEL k");
        // The time is over when the other module yields.
        waiter.send_text("BLPOP k 0.05");
        pipeline(&mut other, &format!("DEBUG SLEEP 0.1; yields.sleep {}", file.display()));
        waiter.assert_nothing(4 * WHILE, "BLPOP");
        scene.thaw();
        std::fs::remove_file(file).expect("the file");
        assert_eq!(waiter.reply(), Value::Null);
        assert_eq!(writer.reply().integer(), 1);
        (0..2).for_each(|_| assert!(!other.reply().is_error()));
        scene.end();
    }

    fn what_the_loop_waits_for_outlasts_the_load_of_a_module(version: Version) {
        for mode in ["async", "inline"] {
            let builder = ServerBuilder::with_module(version).set("wbl.commit-mode", mode);
            let mut scene = scene(builder.set("enable-module-command", "yes"));
            let file = file(&scene);
            let (mut client, mut loader) = (scene.server.raw(), scene.server.raw());
            let load = format!("MODULE LOAD {} {}", yields(version).display(), file.display());
            withheld_over(&mut scene, ("", &mut client, UNHELD[0].0), (&mut loader, &load), &file);
            assert_eq!(scene.server.wbl_info("wbl_commit_mode"), "async");
            scene.end();
        }
    }
}

fn scene(builder: ServerBuilder) -> Scene {
    let builder = builder.set("busy-reply-threshold", "1").set("hz", "100");
    let mut scene = Scene::of(builder).with_lever(Lever::Sync);
    scene.prepare(&["ACL SETUSER limited on nopass ~* &* +@all -wbl.eval"]);
    scene
}

fn yields(version: Version) -> PathBuf {
    paths::c_module(version, "yields")
}

/// The file while which the module yields.
fn file(scene: &Scene) -> PathBuf {
    let file = scene.server.folder().join("yields");
    std::fs::write(&file, "").expect("a file in the data folder");
    file
}

/// While the disk stands still, one client sends commands that write, after another one if that is not empty, and a
/// second client one that may make the module yield: the first one gets no more than the reply to that other one before
/// the disk goes on.
fn withheld_over(
    scene: &mut Scene,
    (before, client, commands): (&str, &mut RawConnection, &str),
    (other, command): (&mut RawConnection, &str),
    file: &Path,
) {
    let texts = || before.split(';').filter(|text| !text.is_empty()).chain(commands.split(';'));
    let pipeline: Vec<u8> = texts().flat_map(|text| encode(&split(text))).collect();
    scene.freeze();
    scene.server.in_one_iteration(|| {
        client.send_bytes(&pipeline).expect("the server takes the commands");
        other.send(&split(command));
    });
    scene.settle();
    let early = client.arrived().escape_ascii().to_string();
    let may_come = if before.is_empty() { "" } else { OK };
    assert!(may_come.starts_with(&early), "{before} {commands}, {command}: {early}");
    scene.thaw();
    std::fs::remove_file(file).expect("the file");
    for text in texts() {
        let reply = client.reply();
        assert!(!reply.is_error(), "{text}: {reply:?}");
    }
    let reply = other.reply();
    assert!(!reply.is_error() || command == "TIME", "{command}: {reply:?}");
}
