//! WBL.BACKUP: backups of a running server.

use crate::harness::{
    PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, dataset, each_version, wait_until,
};
use std::path::{Path, PathBuf};

fn builder(version: Version) -> ServerBuilder {
    ServerBuilder::with_module(version).set("wbl.segment-bytes", "4kb").set("wbl.debug-commands", "yes")
}

/// Makes a backup; returns its folder.
fn back_up(client: &mut RawConnection) -> PathBuf {
    PathBuf::from(client.run("WBL.BACKUP START").text())
}

/// The states of the backups.
fn states(client: &mut RawConnection) -> Vec<String> {
    let answer = client.run("WBL.BACKUP STATUS");
    answer.items().chunks(2).map(|pair| pair[1].items()[5].text().to_string()).collect()
}

fn write(client: &mut RawConnection, round: usize) {
    for number in 0..50 {
        client.call(&["SET", &format!("key:{}", number % 30), &format!("{round}:{}", "v".repeat(200))]);
        client.run(&format!("RPUSH list {round}:{number}"));
    }
    client.run("MULTI");
    client.run("INCR n");
    client.run("HSET h a 1 b 2");
    client.run("EXEC");
}

/// The folders within that of the log.
fn folders(server: &Server) -> Vec<String> {
    let entries = std::fs::read_dir(server.log_folder()).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A server on the backup.
fn restored(version: Version, backup: &Path) -> Server {
    builder(version).set("wbl.dir", backup.to_str().unwrap()).start()
}

fn is_error_with(answer: &Value, text: &str) -> bool {
    matches!(answer, Value::Error(error) if error.contains(text))
}

/// One backup is made or removed at a time.
fn is_answer_to_two(answer: &Value) -> bool {
    is_error_with(answer, "another WBL.BACKUP is in progress")
}

each_version! {
    fn a_backup_is_what_there_was_and_starts(version: Version) {
        let mut server = builder(version).start();
        let mut client = server.raw();
        assert_eq!(client.run("WBL.BACKUP STATUS").items().len(), 0);
        write(&mut client, 0);
        client.run("WBL.CHECKPOINT");
        write(&mut client, 1);
        let expected = dataset::read(&mut client);
        let backup = back_up(&mut client);
        assert_eq!(states(&mut client), ["whole"]);
        // What comes later is not in it, and neither checkpoints nor the backup's own server change anything.
        write(&mut client, 2);
        client.run("WBL.CHECKPOINT");
        let mut other = restored(version, &backup);
        let mut of_other = other.raw();
        dataset::assert_same(&dataset::read(&mut of_other), &expected, "in the backup");
        write(&mut of_other, 7);
        of_other.run("WBL.CHECKPOINT");
        let expected = dataset::read(&mut of_other);
        other.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut other.raw()), &expected, "after the backup's server was killed");
        drop(other);
        let expected = dataset::read(&mut client);
        server.kill9_and_restart();
        let mut client = server.raw();
        dataset::assert_same(&dataset::read(&mut client), &expected, "after kill -9");
        let name = backup.file_name().unwrap().to_str().unwrap().to_string();
        assert_eq!(client.call(&["WBL.BACKUP", "END", &name]), Value::Simple("OK".into()));
        assert!(!backup.exists() && states(&mut client).is_empty());
    }

    fn a_backup_on_which_a_server_runs_is_not_removed(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        write(&mut client, 0);
        let backup = back_up(&mut client);
        let name = backup.file_name().unwrap().to_str().unwrap().to_string();
        let mut other = restored(version, &backup);
        let refused = client.call(&["WBL.BACKUP", "END", &name]);
        assert!(is_error_with(&refused, "another server uses the folder"), "{refused:?}");
        assert_eq!(other.raw().run("SET own v").text(), "OK");
        other.kill9_and_restart();
        assert_eq!(other.raw().run("GET own").text(), "v");
        other.stop();
        assert_eq!(client.call(&["WBL.BACKUP", "END", &name]), Value::Simple("OK".into()));
        assert!(!backup.exists());
    }

    fn what_somebody_has_put_into_an_unfinished_backup_stays_and_is_named(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        write(&mut client, 0);
        let backup = back_up(&mut client);
        let name = backup.file_name().unwrap().to_str().unwrap().to_string();
        let unfinished = server.log_folder().join("temp-backup");
        std::fs::create_dir_all(unfinished.join("mine")).unwrap();
        for command in [&["WBL.BACKUP", "START"][..], &["WBL.BACKUP", "END", &name]] {
            let refused = client.call(command);
            assert!(is_error_with(&refused, unfinished.to_str().unwrap()), "{command:?}: {refused:?}");
        }
        assert!(unfinished.join("mine").is_dir() && backup.is_dir());
        std::fs::remove_dir_all(unfinished).unwrap();
        assert_eq!(client.run(&format!("WBL.BACKUP END {name}")).text(), "OK");
    }

    fn a_crash_while_a_backup_is_made_harms_nothing(version: Version) {
        let mut server = builder(version).start();
        for point in ["backup-begins", "backup-link", "rename", "backup-rename"] {
            let mut client = server.raw();
            write(&mut client, 0);
            client.run("WBL.CHECKPOINT");
            write(&mut client, 1);
            let expected = dataset::read(&mut client);
            server.point(point, "KILL");
            client.send_text("WBL.BACKUP START");
            server.wait_exit();
            server.start();
            let mut client = server.raw();
            dataset::assert_same(&dataset::read(&mut client), &expected, point);
            // Nothing is left that a server could be started on.
            assert_eq!(folders(&server), [""; 0], "{point}");
            assert_eq!(client.run("WBL.BACKUP STATUS").items().len(), 0);
        }
    }

    fn a_crash_while_a_backup_is_removed_leaves_it_whole_or_not_at_all(version: Version) {
        let mut server = builder(version).start();
        for point in ["backup-rename", "remove"] {
            let mut client = server.raw();
            write(&mut client, 0);
            let backup = back_up(&mut client);
            let name = backup.file_name().unwrap().to_str().unwrap().to_string();
            let expected = dataset::read(&mut client);
            server.point(point, "KILL");
            client.send(&["WBL.BACKUP", "END", &name]);
            server.wait_exit();
            server.start();
            let mut client = server.raw();
            if point == "backup-rename" {
                assert_eq!(states(&mut client), ["whole"]);
                let other = restored(version, &backup);
                dataset::assert_same(&dataset::read(&mut other.raw()), &expected, "in the backup");
                drop(other);
                assert_eq!(client.call(&["WBL.BACKUP", "END", &name]), Value::Simple("OK".into()));
            }
            assert_eq!(folders(&server), [""; 0], "{point}");
        }
    }

    fn backups_of_little_data_do_not_pile_up_segments(version: Version) {
        let mut server = builder(version).set("wbl.checkpoint-percentage", "0").start();
        let mut client = server.raw();
        for round in 1..=110 {
            assert_eq!(client.run("INCR n").integer(), round);
            let backup = back_up(&mut client);
            let name = backup.file_name().unwrap().to_str().unwrap();
            assert_eq!(client.call(&["WBL.BACKUP", "END", name]), Value::Simple("OK".into()));
        }
        let segments = || server.wbl_info("wbl_segments").parse::<u64>().unwrap();
        wait_until("a checkpoint takes their place", PATIENCE, || segments() < 20);
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET n").text(), "110");
    }

    fn everybody_gets_the_answer_to_what_he_has_asked(version: Version) {
        const ROUNDS: usize = 300;
        let server = builder(version).start();
        let mut client = server.raw();
        client.run("SET k v");
        let ask = |words: &'static [&'static str], is_own: fn(&Value) -> bool| {
            let mut client = server.raw();
            std::thread::spawn(move || {
                let answers = (0..ROUNDS).map(|_| client.call(words)).filter(|answer| !is_answer_to_two(answer));
                answers.filter(|answer| !is_own(answer)).collect::<Vec<_>>()
            })
        };
        let threads = [
            ask(&["WBL.BACKUP", "STATUS"], |answer| matches!(answer, Value::Array(_) | Value::Map(_))),
            ask(&["WBL.BACKUP", "END", "backup-1-1"], |answer| is_error_with(answer, "backup-1-1")),
            ask(&["WBL.BACKUP", "END", "backup-x"], |answer| is_error_with(answer, "not the name of a backup")),
        ];
        for thread in threads {
            assert_eq!(thread.join().unwrap(), []);
        }
    }

    fn what_is_no_backup_command_is_refused(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        for words in [&["WBL.BACKUP", "END"][..], &["WBL.BACKUP", "MORE"], &["WBL.BACKUP", "START", "x"]] {
            assert!(client.call(words).is_error(), "{words:?}");
        }
        let Value::Error(text) = client.call(&["WBL.BACKUP", "END", "../x"]) else { panic!("it was removed") };
        assert!(text.contains("ERR no backup: that is not the name of a backup"), "{text}");
        client.run("MULTI");
        client.run("WBL.BACKUP START");
        assert!(client.run("EXEC").items()[0].is_error());
        assert_eq!(client.run("WBL.BACKUP STATUS").items().len(), 0);
        client.run("CONFIG SET wbl.enabled no");
        assert!(client.call(&["WBL.BACKUP", "START"]).is_error());
    }
}
