//! A server that is started with `wbl.enabled no` beside a log: whatever it saves is no newer than the log until it has
//! changed something, and newer from then on, whoever goes on with its data.

use super::newest::{Save, assert_goes_on_with, builder, end, manifest, save_backup_and_go_on, wait_some_seconds};
use crate::harness::labels::{fill, label};
use crate::harness::server::info_field;
use crate::harness::{PATIENCE, Server, ServerBuilder, Version, each_version, paths, wait_until};
use std::fs::{self, File};
use std::path::PathBuf;

/// What a server says that cannot mark a log.
const TOLD: &str = "it can't be noted that the server goes on without the folder's log";

each_version! {
    fn a_folder_without_a_log_that_a_start_would_bring_back_refuses_no_unload(version: Version) {
        let mut server = ended_of(builder(version, false), Ended::Cleanly);
        fs::write(server.log_folder().join("appendonly.aof.manifest"), "no manifest").unwrap();
        disable(&mut server);
        server.reconfigure(|own| own.set("enable-module-command", "yes").allow_warning(TOLD).allow_warning("manifest"));
        server.launch();
        let mut client = server.wait_answers();
        client.run("SET other v");
        client.run("MODULE UNLOAD wbl");
        assert_eq!(client.run("GET other").text(), "v");
    }

    fn a_disabled_server_that_changes_nothing_saves_nothing_newer(version: Version) {
        for how in [Ended::ByCrash, Ended::Cleanly] {
            let mut server = ended_of(builder(version, false), how);
            disable(&mut server);
            server.launch();
            let mut client = server.wait_answers();
            assert_eq!(label(&mut client), "old");
            wait_some_seconds(&mut client);
            end(&mut server, Save::Shutdown);
            server.reconfigure(|_| builder(version, false));
            assert_goes_on_with(&mut server, "acknowledged", &format!("{how:?}"));
        }
    }

    fn what_an_unchanged_disabled_server_saved_before_a_crash_is_no_newer(version: Version) {
        for is_refused in [false, true] {
            let mut server = ended_of(builder(version, false), Ended::Cleanly);
            disable(&mut server);
            server.launch();
            let mut client = server.wait_answers();
            wait_some_seconds(&mut client);
            if is_refused {
                client.send_text("CONFIG SET wbl.enabled yes");
                assert!(client.reply().is_error());
            }
            client.run("SAVE");
            drop(client);
            if is_refused {
                server.stop();
            } else {
                server.kill9();
            }
            server.reconfigure(|_| builder(version, false).allow_warning("Restoring previous settings"));
            assert_goes_on_with(&mut server, "acknowledged", &format!("refused: {is_refused}"));
        }
    }

    fn a_disabled_server_starts_beside_a_folder_that_it_cannot_mark(version: Version) {
        let mut owner = builder(version, false).start();
        fill(&mut owner.raw(), "owner's");
        let folder = owner.log_folder();
        let disabled = |version| {
            let builder = builder(version, false).set("wbl.enabled", "no").allow_warning(TOLD);
            builder.set("wbl.dir", folder.to_str().unwrap())
        };
        {
            let server = disabled(version).start();
            fill(&mut server.raw(), "other");
            wait_until("it is said that the folder is another server's", PATIENCE, || server.log().contains(TOLD));
            assert_eq!(label(&mut owner.raw()), "owner's");
        }
        owner.kill9();
        let manifest = folder.join("appendonly.aof.manifest");
        let whole = fs::read(&manifest).unwrap();
        let mut damaged = whole.clone();
        damaged[40] ^= 1;
        fs::write(&manifest, &damaged).unwrap();
        {
            let server = disabled(version).start();
            assert!(server.log().contains(TOLD), "{}", server.log());
            fill(&mut server.raw(), "other");
        }
        assert_eq!(fs::read(&manifest).unwrap(), damaged);
        fs::write(&manifest, whole).unwrap();
        assert_goes_on_with(&mut owner, "owner's", "what another server saw of it");
    }

    // As one does that is mounted after the server has started.
    fn a_folder_that_comes_late_is_found(version: Version) {
        for comes_before_save in [true, false] {
            let mut server = ended(version, Ended::Cleanly);
            disable(&mut server);
            let (folder, elsewhere) = (server.log_folder(), server.folder().join("elsewhere"));
            fs::rename(&folder, &elsewhere).unwrap();
            server.launch();
            let mut client = server.wait_answers();
            wait_some_seconds(&mut client);
            let comes = || fs::rename(&elsewhere, &folder).unwrap();
            if comes_before_save {
                comes();
                client.run("SAVE");
                server.kill9();
            } else {
                client.run("SAVE");
                comes();
                drop(client);
                server.stop();
            }
            server.reconfigure(|_| builder(version, false));
            assert_goes_on_with(&mut server, "acknowledged", &format!("before the save: {comes_before_save}"));
        }
    }

    fn a_mark_that_cannot_be_written_is_tried_again(version: Version) {
        for blocks in [Block::no_room as fn(&Server) -> Block, Block::lock] {
            for then in [Then::Save, Then::Wait, Then::Change, Then::ChangeBefore, Then::End] {
                let mut server = ended(version, Ended::Cleanly);
                disable(&mut server);
                let blocked = blocks(&server);
                server.launch();
                let mut client = server.wait_answers();
                wait_until("it is told that the mark failed", PATIENCE, || server.log().contains(TOLD));
                if then == Then::ChangeBefore {
                    fill(&mut client, "new");
                }
                drop(blocked);
                match then {
                    Then::Wait => wait_until("the mark is made", PATIENCE, || !manifest(&server).contains(" left ")),
                    Then::Change => fill(&mut client, "new"),
                    Then::Save | Then::ChangeBefore | Then::End => {}
                }
                drop(client);
                end(&mut server, if then == Then::End { Save::Shutdown } else { Save::AtOnce });
                server.reconfigure(|_| builder(version, false).allow_warning(TOLD));
                let expected = if then.changes() { "new" } else { "acknowledged" };
                assert_goes_on_with(&mut server, expected, &format!("{then:?}"));
            }
        }
    }

    fn a_log_that_takes_no_mark_for_a_moment_refuses_the_unload(version: Version) {
        for blocks in [Block::no_room as fn(&Server) -> Block, Block::lock] {
            let mut server = ended(version, Ended::Cleanly);
            disable(&mut server);
            let refused = ["OnUnload failed", "Error unloading", "is not unloaded", TOLD];
            let allowing = |own: ServerBuilder| refused.into_iter().fold(own, ServerBuilder::allow_warning);
            server.reconfigure(|own| allowing(own.set("enable-module-command", "yes")));
            server.launch();
            let mut client = server.wait_answers();
            let blocked = blocks(&server);
            fill(&mut client, "new");
            assert!(client.call(&["MODULE", "UNLOAD", "wbl"]).is_error());
            drop(blocked);
            client.run("MODULE UNLOAD wbl");
            client.run("SAVE");
            drop(client);
            server.kill9();
            server.reconfigure(|_| allowing(builder(version, false)));
            assert_goes_on_with(&mut server, "new", "after the unload");
        }
    }

    fn a_server_that_never_serves_marks_nothing(version: Version) {
        let [port] = crate::harness::ports::free_ports::<1>();
        for ended_so in [Ended::Cleanly, Ended::ByCrash] {
            let mut server = ended(version, ended_so);
            disable(&mut server);
            server.reconfigure(|builder| builder.set("port", &port.to_string()));
            server.launch();
            let mut client = server.wait_answers();
            fill(&mut client, "new");
            let left = manifest(&server);
            assert!(left.contains(" left "), "{left}");
            let mut second = builder(version, false)
                .set("wbl.enabled", "no")
                .set("port", &port.to_string())
                .set("dir", server.folder().to_str().unwrap())
                .set("wbl.dir", server.log_folder().to_str().unwrap())
                .allow_warning("Could not create server TCP listening socket")
                .allow_warning("Failed listening on port")
                .prepare();
            second.launch();
            assert_eq!(second.wait_exit().code(), Some(1));
            assert_eq!(manifest(&server), left);
            drop(client);
            end(&mut server, Save::Shutdown);
            server.reconfigure(|_| builder(version, false));
            assert_goes_on_with(&mut server, "new", &format!("{ended_so:?}"));
        }
    }

    fn a_start_beside_other_own_files_takes_no_mark_away(version: Version) {
        let others = [("appendonly", "yes"), ("dbfilename", "other.rdb")].map(|other| (other, Save::Nothing));
        // With an AOF a shutdown would save in the place of the file from before.
        for ((setting, value), save) in others.into_iter().chain([(others[1].0, Save::Shutdown)]) {
            let mut server = builder(version, false).start();
            let mut client = server.raw();
            fill(&mut client, "old");
            client.run("CONFIG SET wbl.enabled no");
            fill(&mut client, "new");
            drop(client);
            end(&mut server, Save::Shutdown);
            let left = manifest(&server);
            disable(&mut server);
            server.reconfigure(|builder| builder.set(setting, value));
            server.launch();
            assert_eq!(label(&mut server.wait_answers()), "");
            end(&mut server, save);
            assert_eq!(manifest(&server), left);
            server.reconfigure(|_| builder(version, false));
            assert_goes_on_with(&mut server, "new", &format!("{setting}, {save:?}"));
        }
    }

    fn a_backup_that_nobody_can_date_does_not_become_older(version: Version) {
        let mut server = builder(version, false).allow_warning("nobody knows which of the two is newer").start();
        let (dump, backup) = save_backup_and_go_on(&server);
        server.stop();
        fs::write(&dump, &backup).unwrap();
        server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
        server.launch();
        assert_eq!(label(&mut server.wait_answers()), "backup");
        server.kill9();
        server.reconfigure(|builder| builder.set("wbl.enabled", "yes"));
        server.launch();
        assert_eq!(server.wait_exit().code(), Some(1));
        assert!(server.log().contains("nobody knows which of the two is newer"), "{}", server.log());
    }

    fn what_is_saved_after_an_unchanged_server_is_newer(version: Version) {
        for ended_so in [Ended::Cleanly, Ended::ByCrash] {
            for unloads in [true, false] {
                let mut server = ended(version, ended_so);
                disable(&mut server);
                server.launch();
                let mut client = server.wait_answers();
                if unloads {
                    client.run("MODULE UNLOAD wbl");
                } else {
                    drop(client);
                    server.stop();
                    server.reconfigure(ServerBuilder::without_module);
                    server.launch();
                    client = server.wait_answers();
                }
                fill(&mut client, "new");
                drop(client);
                end(&mut server, Save::AtOnce);
                server.reconfigure(|_| builder(version, false));
                assert_goes_on_with(&mut server, "new", &format!("{ended_so:?}, unload: {unloads}"));
            }
        }
    }

    fn a_disabled_module_on_a_replica_in_sync_supersedes(version: Version) {
        let [port] = crate::harness::ports::free_ports::<1>();
        let primary = ServerBuilder::stock(version)
            .set("port", &port.to_string())
            .set("repl-diskless-sync-delay", "0")
            .in_memory()
            .start();
        fill(&mut primary.raw(), "new");
        let mut server = ended(version, Ended::ByCrash);
        server.reconfigure(|builder| builder.without_module().set_words("replicaof", &["127.0.0.1", &port.to_string()]));
        server.launch();
        let mut client = server.wait_answers();
        wait_until("the replica is in sync", PATIENCE, || {
            info_field(&mut client, "replication", "master_link_status").as_deref() == Some("up")
        });
        client.run(&load_disabled());
        assert!(manifest(&server).contains(" superseded"), "{}", manifest(&server));
        drop(client);
        end(&mut server, Save::AtOnce);
        drop(primary);
        server.reconfigure(|_| builder(version, false));
        assert_goes_on_with(&mut server, "new", "a replica");
    }

    fn a_change_right_after_the_module_came_is_the_first_one(version: Version) {
        let mut server = ended(version, Ended::Cleanly);
        server.reconfigure(ServerBuilder::without_module);
        server.launch();
        let mut client = server.wait_answers();
        let commands = (0..40).map(|number| format!("SET key:{number} new"));
        let commands: Vec<String> = std::iter::once(load_disabled()).chain(commands).collect();
        let encoded = |command: &String| client.encoded(&command.split(' ').collect::<Vec<_>>());
        let bytes: Vec<u8> = commands.iter().flat_map(encoded).collect();
        // One iteration of the event loop runs all of them.
        client.send_bytes(&bytes).unwrap();
        commands.iter().for_each(|command| assert!(!client.reply().is_error(), "{command}"));
        drop(client);
        end(&mut server, Save::AtOnce);
        server.reconfigure(|_| builder(version, false));
        assert_goes_on_with(&mut server, "new", "in one iteration");
    }
}

/// How a server with the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Cleanly,
    ByCrash,
}

/// What comes after a mark that failed, when nothing is in its way any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Save,
    /// It is tried again by itself.
    Wait,
    Change,
    /// There was a change already.
    ChangeBefore,
    End,
}

impl Then {
    fn changes(self) -> bool {
        matches!(self, Then::Change | Then::ChangeBefore)
    }
}

/// What keeps the log from being marked, until it is dropped.
enum Block {
    /// The name of the next manifest is taken by a folder.
    NoRoom(PathBuf),
    Lock {
        _folder: File,
    },
}

impl Block {
    fn no_room(server: &Server) -> Block {
        let path = server.log_folder().join("temp-manifest");
        fs::create_dir(&path).unwrap();
        Block::NoRoom(path)
    }

    fn lock(server: &Server) -> Block {
        let folder = File::open(server.log_folder()).unwrap();
        folder.try_lock().unwrap();
        Block::Lock { _folder: folder }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Block::NoRoom(path) = self {
            fs::remove_dir(path).unwrap();
        }
    }
}

/// A server that has ended whose own file has the label "old", and its log "acknowledged".
fn ended(version: Version, ended: Ended) -> Server {
    ended_of(builder(version, false).set("save", "").allow_warning(TOLD), ended)
}

/// A server that has saved "old", and acknowledged what its log has since.
fn ended_of(builder: ServerBuilder, ended: Ended) -> Server {
    let mut server = builder.start();
    let mut client = server.raw();
    fill(&mut client, "old");
    client.run("SAVE");
    fill(&mut client, "acknowledged");
    drop(client);
    match ended {
        Ended::Cleanly => server.stop(),
        Ended::ByCrash => server.kill9(),
    }
    server
}

fn disable(server: &mut Server) {
    server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
}

fn load_disabled() -> String {
    format!("MODULE LOADEX {} CONFIG wbl.enabled no", paths::module().display())
}
