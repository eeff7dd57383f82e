//! What the server saves after a log was left beside a child that was saving, too, is not taken for that child's file.

use crate::harness::labels::{fill, label};
use crate::harness::scene::split;
use crate::harness::{PATIENCE, Server, Version, each_version, wait_until};
use crate::newest::{assert_goes_on_with, builder, manifest, unix_ms};

/// RDB files have times in whole seconds: all of it is to happen within one.
const EARLY_MS: u64 = 200;

each_version! {
    fn a_save_after_that_of_a_child_is_newer(version: Version) {
        for waits_for_mark in [false, true] {
            let mut server = left_beside_child(version, "CONFIG SET wbl.enabled no");
            let mut client = server.raw();
            fill(&mut client, "new");
            // The child has to be waited for first.
            wait_until("the server saves", PATIENCE, || !client.call(&["SAVE"]).is_error());
            if waits_for_mark {
                wait_until("the mark is renewed", PATIENCE, || !manifest(&server).contains("saving"));
            }
            server.kill9();
            assert_goes_on_with(&mut server, "new", &format!("waits: {waits_for_mark}"));
        }
    }

    fn a_shutdown_saves_what_is_newer_than_a_childs(version: Version) {
        let mut server = left_beside_child(version, "CONFIG SET wbl.enabled no");
        fill(&mut server.raw(), "new");
        server.raw().send_text("SHUTDOWN SAVE");
        assert!(server.wait_exit().success());
        assert_goes_on_with(&mut server, "new", "SHUTDOWN SAVE");
    }

    // Nobody renews the mark then.
    fn without_the_watch_for_a_child_a_save_in_the_same_second_is_not_guessed_at(version: Version) {
        let (disable, enable, unload) = ("CONFIG SET wbl.enabled no", "CONFIG SET wbl.enabled yes", "MODULE UNLOAD wbl");
        for leave in [&[unload][..], &[disable, unload], &[disable, enable]] {
            for _ in 0..ROUNDS {
                let mut server = left_beside_child(version, &leave.join("\n"));
                fill(&mut server.raw(), "new");
                server.raw().send_text("SHUTDOWN SAVE");
                assert!(server.wait_exit().success());
                let starts = |server: &Server| server.log().matches("the log is active").count();
                let before = starts(&server);
                server.launch();
                wait_until("the start is over", PATIENCE, || server.has_ended() || starts(&server) > before);
                if starts(&server) > before {
                    assert_eq!(label(&mut server.wait_answers()), "new", "{leave:?}");
                } else {
                    assert!(server.log().contains("nobody knows which of the two is newer"), "{leave:?}");
                }
            }
        }
    }
}

/// A child may have been waited for before the log is left.
const ROUNDS: usize = 4;

/// A server that has left its log by these commands, one a line, when its child's file had its name: as a rule the
/// child was not waited for yet, nor between them.
fn left_beside_child(version: Version, leave: &str) -> Server {
    let server = builder(version, false).allow_warning("nobody knows which of the two is newer").start();
    let mut client = server.raw();
    fill(&mut client, "old");
    let dump = server.folder().join("dump.rdb");
    wait_until("a second begins", PATIENCE, || unix_ms(&mut client) % 1000 < EARLY_MS);
    client.run("BGSAVE");
    wait_until("the file has its name", PATIENCE, || dump.exists());
    let commands: Vec<&str> = leave.lines().collect();
    let bytes: Vec<u8> = commands.iter().flat_map(|command| client.encoded(&split(command))).collect();
    client.send_bytes(&bytes).expect("an open connection");
    commands.iter().for_each(|command| assert!(!client.reply().is_error(), "{command}"));
    server
}
