//! A start brings back the newest data that there are: the log's, or those that the server saved by itself after it
//! went on without the log. Each dataset has one label in all of its keys, so that a mixture of two shows.

use crate::harness::labels::{fill, label};
use crate::harness::process::{children, send_signal, stop_save};
use crate::harness::server::info_field;
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Version, each_version, wait_until};
use std::fs;
use std::path::{Path, PathBuf};

/// How a server goes on without its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Unload,
    Disable,
    Demote,
    /// A clean shutdown; then the server is started without the module.
    StartWithout,
    /// A clean shutdown; then the server is started with `wbl.enabled no`.
    StartDisabled,
    /// kill -9; then the server is started with `wbl.enabled no`.
    CrashDisabled,
}

const LEAVES: [Leave; 6] =
    [Leave::Unload, Leave::Disable, Leave::Demote, Leave::StartWithout, Leave::StartDisabled, Leave::CrashDisabled];

/// How the server saves what it has then, and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Save {
    /// SAVE, and kill -9 at once.
    AtOnce,
    /// BGSAVE, and kill -9 when it is done.
    Child,
    /// SHUTDOWN SAVE.
    Shutdown,
    /// Its append-only file, which is written all the time.
    Aof,
    /// It does not save.
    Nothing,
}

const SAVES: [Save; 5] = [Save::AtOnce, Save::Child, Save::Shutdown, Save::Aof, Save::Nothing];

each_version! {
    fn what_the_server_saved_after_the_log_was_left_stands(version: Version) {
        for leave in LEAVES {
            for save in SAVES {
                let mut server = left(version, leave, save == Save::Aof);
                fill(&mut server.raw(), "new");
                end(&mut server, save);
                let expected = if save == Save::Nothing { "old" } else { "new" };
                server.reconfigure(|_| builder(version, save == Save::Aof));
                assert_goes_on_with(&mut server, expected, &format!("{leave:?}, {save:?}"));
            }
        }
    }

    fn what_was_saved_beside_an_active_log_is_older(version: Version) {
        for save in SAVES {
            let mut server = builder(version, save == Save::Aof).start();
            let mut client = server.raw();
            fill(&mut client, "old");
            for command in ["SAVE", "BGSAVE"] {
                client.run(command);
                wait_saved(&server);
            }
            fill(&mut client, "new");
            end(&mut server, save);
            assert_goes_on_with(&mut server, "new", &format!("{save:?}"));
            // A server that rewrites its AOF as it has loaded another dataset does not shut down.
            wait_rewritten(&mut server.raw());
            server.stop();
            assert_goes_on_with(&mut server, "new", &format!("{save:?}, then SHUTDOWN NOSAVE"));
        }
    }

    fn a_file_saved_while_a_new_log_waits_for_its_base_stands(version: Version) {
        for disabled in [true, false] {
            let mut server = if disabled {
                builder(version, false).start()
            } else {
                // A log of which no start knows that it was left, as it ended in a crash.
                let mut server = builder(version, false).start();
                fill(&mut server.raw(), "old");
                server.kill9();
                server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
                server.launch();
                drop(server.wait_answers());
                server
            };
            let mut client = server.raw();
            if disabled {
                fill(&mut client, "old");
                client.run("CONFIG SET wbl.enabled no");
            }
            client.run("CONFIG SET wbl.on-existing-log replace");
            fill(&mut client, "new");
            client.run("CONFIG SET rdb-key-save-delay 60000000");
            client.run("CONFIG SET wbl.enabled yes");
            wait_until("the base's child runs", PATIENCE, || !children(server.process_id()).is_empty());
            assert_eq!(server.wbl_info("wbl_state"), "baselining");
            // A child that writes the base keeps BGSAVE from running, but not SAVE.
            client.run("CONFIG SET rdb-key-save-delay 0");
            client.run("SAVE");
            server.kill9();
            server.reconfigure(|_| builder(version, false));
            assert_goes_on_with(&mut server, "new", &format!("disabled: {disabled}"));
        }
    }

    fn a_save_that_ran_when_the_log_was_left_is_older(version: Version) {
        for leave in [Leave::Unload, Leave::Disable] {
            for waits_for_mark in [false, true] {
                let mut server = builder(version, false).start();
                let mut client = server.raw();
                let child = stop_save(&server);
                fill(&mut client, "acknowledged");
                take_leave(&mut client, leave);
                send_signal(child, "CONT");
                wait_saved(&server);
                if waits_for_mark && leave == Leave::Disable {
                    wait_until("the mark names the file", PATIENCE, || !manifest(&server).contains("saving"));
                }
                server.kill9();
                assert_goes_on_with(&mut server, "acknowledged", &format!("{leave:?}, {waits_for_mark}"));
            }
        }
    }

    fn a_copy_of_the_folder_starts_as_the_folder_does(version: Version) {
        let mut server = builder(version, false).start();
        let mut client = server.raw();
        fill(&mut client, "old");
        client.run("SAVE");
        fill(&mut client, "new");
        client.run("CONFIG SET wbl.enabled no");
        server.kill9();
        copy_anew(&server.folder().join("dump.rdb"));
        assert_goes_on_with(&mut server, "new", "a copied file");
    }

    fn a_copy_of_a_save_that_ran_when_the_log_was_left_is_older(version: Version) {
        let mut server = builder(version, false).start();
        let mut client = server.raw();
        let child = stop_save(&server);
        // Times are in whole seconds.
        let begun_s = unix_s(&mut client);
        wait_until("a later second", PATIENCE, || unix_s(&mut client) > begun_s + 1);
        fill(&mut client, "acknowledged");
        take_leave(&mut client, Leave::Unload);
        send_signal(child, "CONT");
        wait_saved(&server);
        server.kill9();
        copy_anew(&server.folder().join("dump.rdb"));
        assert_goes_on_with(&mut server, "acknowledged", "a copy");
    }

    fn a_file_of_a_process_that_has_gone_is_not_being_saved(version: Version) {
        let mut server = builder(version, false).start();
        let mut client = server.raw();
        fill(&mut client, "old");
        // As in a container, where each server has the number of the one before it.
        fs::write(server.folder().join(format!("temp-{}.rdb", server.process_id())), "REDIS0011").unwrap();
        take_leave(&mut client, Leave::Disable);
        assert!(!manifest(&server).contains("temp:"), "{}", manifest(&server));
        fill(&mut client, "new");
        end(&mut server, Save::AtOnce);
        assert_goes_on_with(&mut server, "new", "the same number");
    }

    fn a_shutdown_notes_no_child_that_it_has_killed(version: Version) {
        let mut server = builder(version, false).start();
        let mut client = server.raw();
        fill(&mut client, "old");
        client.run("CONFIG SET rdb-key-save-delay 1000000");
        client.run("BGSAVE");
        drop(client);
        server.stop();
        let noted = manifest(&server);
        assert!(noted.contains(" left ") && !noted.contains("saving") && !noted.contains("temp"), "{noted}");
    }

    fn a_file_that_other_settings_have_loaded_is_not_newer(version: Version) {
        for with_aof in [true, false] {
            // What is saved first is there when the log is left, but not what a start would load then.
            let mut server = builder(version, !with_aof).start();
            fill(&mut server.raw(), "old");
            server.raw().run("SAVE");
            server.raw().run(&format!("CONFIG SET appendonly {}", if with_aof { "yes" } else { "no" }));
            let mut client = server.raw();
            wait_rewritten(&mut client);
            fill(&mut client, "acknowledged");
            drop(client);
            server.stop();
            assert_goes_on_with(&mut server, "acknowledged", &format!("AOF when it was left: {with_aof}"));
        }
    }

    fn nobody_guesses_where_the_newest_data_are(version: Version) {
        let allowed = |version| builder(version, false).allow_warning("nobody knows which of the two is newer");
        let mut server = allowed(version).start();
        let (dump, backup) = save_backup_and_go_on(&server);
        server.stop();
        fs::write(&dump, &backup).unwrap();
        server.launch();
        assert_eq!(server.wait_exit().code(), Some(1));
        let log = server.log();
        let line = log.lines().rfind(|line| line.contains("nobody knows which")).unwrap();
        assert!(line.contains("move that file away") && line.contains("wbl.on-existing-log"), "{line}");
        // Either is possible.
        fs::remove_file(&dump).unwrap();
        assert_goes_on_with(&mut server, "acknowledged", "the file was moved away");
        for (choice, expected) in [("keep", "acknowledged"), ("replace", "backup")] {
            server.stop();
            fs::write(&dump, &backup).unwrap();
            server.reconfigure(|builder| builder.set("wbl.on-existing-log", choice));
            assert_goes_on_with(&mut server, expected, choice);
            fs::remove_file(&dump).unwrap();
        }
    }
}

pub(super) fn builder(version: Version, with_aof: bool) -> ServerBuilder {
    let mut builder = ServerBuilder::with_module(version).set_words("save", &["3600", "100000"]).in_memory();
    builder = builder.set("enable-module-command", "yes").set("appendonly", if with_aof { "yes" } else { "no" });
    // Otherwise what was answered may not be written yet.
    builder = builder.set("appendfsync", "always");
    for text in [
        "takes the place of the data",
        "superseded",
        "has saved its own data",
        "Error condition on socket for SYNC",
        "Background saving terminated by signal",
    ] {
        builder = builder.allow_warning(text);
    }
    builder
}

/// A server that goes on without its log, which has the label "old".
pub(super) fn left(version: Version, leave: Leave, with_aof: bool) -> Server {
    let mut server = builder(version, with_aof).start();
    let mut client = server.raw();
    fill(&mut client, "old");
    if !matches!(leave, Leave::StartWithout | Leave::StartDisabled | Leave::CrashDisabled) {
        take_leave(&mut client, leave);
        return server;
    }
    drop(client);
    if leave == Leave::CrashDisabled {
        server.kill9();
    } else {
        server.raw().send_text("SHUTDOWN");
        assert!(server.wait_exit().success());
    }
    if leave == Leave::StartWithout {
        server.reconfigure(ServerBuilder::without_module);
    } else {
        server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
    }
    server.launch();
    drop(server.wait_answers());
    server
}

pub(super) fn manifest(server: &Server) -> String {
    fs::read_to_string(server.log_folder().join("appendonly.aof.manifest")).unwrap()
}

pub(super) fn take_leave(client: &mut RawConnection, leave: Leave) {
    match leave {
        Leave::Unload => drop(client.run("MODULE UNLOAD wbl")),
        Leave::Disable => drop(client.run("CONFIG SET wbl.enabled no")),
        Leave::Demote => {
            client.run("CONFIG SET wbl.replica-log no");
            client.run("CONFIG SET replica-read-only no");
            client.run("REPLICAOF 127.0.0.1 1");
        }
        Leave::StartWithout | Leave::StartDisabled | Leave::CrashDisabled => panic!("the server ends for that"),
    }
}

/// Saves, and ends the server.
pub(super) fn end(server: &mut Server, save: Save) {
    match save {
        Save::AtOnce => drop(server.raw().run("SAVE")),
        Save::Child => {
            server.raw().run("BGSAVE");
            wait_saved(server);
        }
        Save::Shutdown => {
            server.raw().send_text("SHUTDOWN SAVE");
            assert!(server.wait_exit().success(), "{}", server.log());
            return;
        }
        // What was answered was written before, by the server's own order.
        Save::Aof | Save::Nothing => {}
    }
    server.kill9();
}

fn wait_saved(server: &Server) {
    let mut client = server.raw();
    wait_until("the snapshot is saved", PATIENCE, || {
        info_field(&mut client, "persistence", "rdb_bgsave_in_progress").as_deref() == Some("0")
    });
}

/// Waits until no AOF is rewritten.
pub(super) fn wait_rewritten(client: &mut RawConnection) {
    wait_until("no AOF is rewritten", PATIENCE, || {
        let mut field = |name| info_field(client, "persistence", name);
        ["aof_rewrite_in_progress", "aof_rewrite_scheduled"].iter().all(|name| field(name).as_deref() == Some("0"))
    });
}

/// Puts a copy in the place of a file, whose times and inode are not its own any more.
fn copy_anew(path: &Path) {
    let bytes = fs::read(path).unwrap();
    // The inode stays taken, so that the copy gets another.
    let _held = fs::File::open(path).unwrap();
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn unix_s(client: &mut RawConnection) -> u64 {
    unix_ms(client) / 1000
}

/// The server's clock.
pub(super) fn unix_ms(client: &mut RawConnection) -> u64 {
    let time = client.run("TIME");
    let number = |at: usize| time.items()[at].text().parse::<u64>().unwrap();
    number(0) * 1000 + number(1) / 1000
}

/// The times of files, in whole seconds, are clearly later ones from here on.
pub(super) fn wait_some_seconds(client: &mut RawConnection) {
    let begun_s = unix_s(client);
    wait_until("some seconds later", PATIENCE, || unix_s(client) > begun_s + 2);
}

/// Saves "backup" and, some seconds later, "acknowledged". Returns the server's own file and what it was first.
pub(super) fn save_backup_and_go_on(server: &Server) -> (PathBuf, Vec<u8>) {
    let mut client = server.raw();
    fill(&mut client, "backup");
    client.run("SAVE");
    let dump = server.folder().join("dump.rdb");
    let backup = fs::read(&dump).unwrap();
    wait_some_seconds(&mut client);
    fill(&mut client, "acknowledged");
    client.run("SAVE");
    (dump, backup)
}

/// Starts the server, and looks what it has, also after another crash.
pub(super) fn assert_goes_on_with(server: &mut Server, expected: &str, what: &str) {
    for round in ["", ", after another crash"] {
        server.start();
        let mut client = server.raw();
        assert_eq!(label(&mut client), expected, "{what}{round}");
        client.run("SET more v");
        client.run("WBL.WAIT");
        if round.is_empty() {
            server.kill9();
        }
    }
}
