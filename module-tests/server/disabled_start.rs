//! A start with `wbl.enabled no` beside a log that is newer than what the server loads: it is told, and refused where
//! the server's own append-only file is known to lack what the log holds.

use super::own_aof::{aof_is_written, start_without_child, with_module_and_aof};
use crate::harness::{PATIENCE, Server, ServerBuilder, Version, each_version, wait_until};
use std::fs;

/// What a start says that leaves a newer log where it is.
const TOLD: &str = "is not brought back, as wbl.enabled is no";

/// What a start says that is refused.
const REFUSED: &str = "wbl.enabled is no, and the server's own append-only file";

/// How the server's own file comes to lack what the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// No child can be forked after a recovery.
    NoChild,
    /// A crash ends its rewrite after a recovery.
    AfterRecovery,
    /// A crash ends its first rewrite, as it has been turned on.
    TurnedOn,
    /// It has been turned off.
    TurnedOff,
    /// It was off all the time, and there is one from before.
    Off,
}

const ALL: [Behind; 5] = [Behind::NoChild, Behind::AfterRecovery, Behind::TurnedOn, Behind::TurnedOff, Behind::Off];

each_version! {
    fn a_disabled_start_with_an_own_file_that_is_behind_is_refused(version: Version) {
        for behind in ALL {
            for is_clean in [false, true] {
                let mut server = with_file_behind(version, behind);
                if is_clean && behind == Behind::NoChild {
                    server.stop();
                } else {
                    server.kill9();
                }
                assert_refused(&mut server, &format!("{behind:?}"));
                // What the line advises.
                server.reconfigure(|builder| builder.set("wbl.enabled", "yes"));
                server.start();
                let mut client = server.raw();
                assert_eq!(client.run("EXISTS before after").integer(), 2, "{behind:?}");
                wait_until("the file is written", PATIENCE, || aof_is_written(&mut client));
                wait_until("the mark is gone", PATIENCE, || !mark_of(&server).exists());
                client.run("CONFIG SET wbl.enabled no");
                client.run("SET later v");
                drop(client);
                server.kill9();
                server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
                server.start();
                assert_eq!(server.raw().run("EXISTS before after later").integer(), 3, "{behind:?}");
            }
        }
    }

    fn a_disabled_start_may_give_a_newer_log_up_when_asked_to(version: Version) {
        let mut server = with_file_behind(version, Behind::TurnedOff);
        server.kill9();
        assert_refused(&mut server, "as the file is behind");
        server.reconfigure(|builder| builder.set("wbl.on-existing-log", "replace"));
        server.start();
        assert_eq!(server.raw().run("EXISTS before after").integer(), 1);
        assert!(server.log().contains(TOLD), "{}", server.log());
    }

    fn a_disabled_start_with_a_whole_file_of_its_own_has_all(version: Version) {
        for is_clean in [false, true] {
            let mut server = with_module_and_aof(version).start();
            server.raw().run("SET key value");
            if is_clean {
                server.stop();
            } else {
                server.kill9();
            }
            server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
            for _ in 0..2 {
                server.start();
                assert_eq!(server.raw().run("EXISTS key").integer(), 1);
                assert!(server.log().contains(TOLD), "{}", server.log());
                server.kill9();
            }
        }
    }

    fn a_disabled_start_beside_an_older_log_says_nothing(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        server.raw().run("SET key old");
        let mut client = server.raw();
        client.run("CONFIG SET wbl.enabled no");
        client.run("SET key new");
        client.run("SAVE");
        drop(client);
        server.kill9();
        server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
        server.start();
        assert_eq!(server.raw().run("GET key").text(), "new");
        assert!(!server.log().contains(TOLD), "{}", server.log());
    }

    fn a_replica_starts_disabled_whatever_its_own_file_lacks(version: Version) {
        let mut server = with_file_behind(version, Behind::TurnedOff);
        server.kill9();
        server.reconfigure(|builder| {
            let builder = builder.set("wbl.enabled", "no").set("appendonly", "yes");
            builder.set_words("replicaof", &["127.0.0.1", "1"])
        });
        server.start();
        assert!(server.log().contains(TOLD) && !server.log().contains(REFUSED), "{}", server.log());
    }

    fn a_mark_that_has_outlived_its_log_is_no_log(version: Version) {
        let mut server = with_module_and_aof(version).prepare();
        fs::create_dir(server.log_folder()).unwrap();
        fs::write(mark_of(&server), "").unwrap();
        server.start();
        assert!(!mark_of(&server).exists(), "the server's own file is whole");
        server.raw().run("SET key value");
    }
}

/// A running server with `before` in its own append-only file and its log, and `after` in the log only.
fn with_file_behind(version: Version, behind: Behind) -> Server {
    let slowly = |builder: ServerBuilder| builder.set("rdb-key-save-delay", "3000000");
    let mut server = with_module_and_aof(version).start();
    let mut client = server.raw();
    client.run("SET before v");
    match behind {
        Behind::NoChild => {
            server.kill9();
            drop(start_without_child(&mut server));
            server.raw().run("SET after v");
            return server;
        }
        Behind::AfterRecovery => {
            server.reconfigure(slowly);
            server.kill9_and_restart();
        }
        Behind::TurnedOn => {
            client.run("CONFIG SET appendonly no");
            client.run("CONFIG SET rdb-key-save-delay 3000000");
            client.run("CONFIG SET appendonly yes");
        }
        Behind::TurnedOff => drop(client.run("CONFIG SET appendonly no")),
        Behind::Off => {
            server.stop();
            server.reconfigure(|builder| builder.set("appendonly", "no"));
            server.start();
        }
    }
    server.raw().run("SET after v");
    server
}

/// Starts the server disabled, with its own file: it does not start, and touches nothing.
fn assert_refused(server: &mut Server, why: &str) {
    server.reconfigure(|builder| {
        let builder = builder.set("wbl.enabled", "no").set("appendonly", "yes").unset("rdb-key-save-delay");
        builder.no_variables()
    });
    let manifest = fs::read(server.log_folder().join("appendonly.aof.manifest")).unwrap();
    server.launch();
    assert!(!server.wait_exit().success(), "{why}");
    assert!(server.log().contains(REFUSED), "{why}: {}", server.log());
    assert_eq!(fs::read(server.log_folder().join("appendonly.aof.manifest")).unwrap(), manifest);
}

fn mark_of(server: &Server) -> std::path::PathBuf {
    server.log_folder().join("own-aof-behind")
}
