//! Folders that cannot be used for a log are refused, and left as they are.

use crate::harness::group::Group;
use crate::harness::temp::{TempDir, copy_folder};
use crate::harness::{PATIENCE, Server, ServerBuilder, Version, dataset, each_version, wait_until};
use crate::settings::fails_to_start;
use std::fs;
use std::path::{Path, PathBuf};

each_version! {
    fn a_folder_whose_name_is_no_text_is_refused(version: Version) {
        let folder = TempDir::new();
        let path = folder.path().join("log");
        let path = path.to_str().unwrap();
        let module = crate::harness::paths::module().to_str().unwrap();
        for lines in [
            format!("loadmodule {module} dir \"{path}\\xff\"\n"),
            format!("loadmodule {module}\nwbl.dir \"{path}\\xff\"\n"),
        ] {
            let log = fails_to_start(ServerBuilder::stock(version).config_file(&lines));
            assert!(log.contains("UTF-8"), "{log}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no folder of another name is created");
    }

    fn a_log_whose_disk_is_not_mounted_is_not_begun_again(version: Version) {
        let mounted = TempDir::new();
        let path = |name: &str| mounted.path().join(name).to_str().unwrap().to_string();
        fs::create_dir(path("disk")).unwrap();
        let mut server = ServerBuilder::with_module(version).allow_warning("").set("wbl.dir", &path("disk/wbl")).start();
        server.raw().run("SET key value");
        server.kill9();
        fs::rename(path("disk"), path("elsewhere")).unwrap();
        let said = refused_start(&mut server);
        let why = format!("cannot create the folder {}: there is no folder {}", path("disk/wbl"), path("disk"));
        assert!(said.lines().any(|line| line.contains("the module is not loaded") && line.contains(&why)), "{said}");
        assert!(!Path::new(&path("disk")).exists());
        fs::rename(path("elsewhere"), path("disk")).unwrap();
        server.start();
        assert_eq!(server.raw().run("GET key").text(), "value");
    }

    fn a_second_server_on_the_same_folder_is_refused(version: Version) {
        let folder = TempDir::new();
        let path = folder.path().join("log");
        let path = path.to_str().unwrap();
        let mut first = ServerBuilder::with_module(version).set("wbl.dir", path).start();
        first.raw().run("SET key value");
        let log = fails_to_start(ServerBuilder::with_module(version).set("wbl.dir", path));
        assert!(log.contains("another server uses the folder"), "{log}");
        first.raw().run("SET key other");
        first.kill9_and_restart();
        assert_eq!(first.raw().run("GET key").text(), "other");
    }

    fn folders_that_cannot_be_used_are_refused_and_left_as_they_are(version: Version) {
        let folder = TempDir::new();
        let file = folder.path().join("file");
        fs::write(&file, "content").unwrap();
        let foreign = folder.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("appendonly.aof.manifest"), "file dump.rdb seq 1 type b\n").unwrap();
        fs::write(foreign.join("dump.rdb"), "no RDB").unwrap();
        let below_a_file = file.join("below");
        for path in [&file, &below_a_file, &foreign] {
            let path = path.to_str().unwrap();
            let log = fails_to_start(ServerBuilder::with_module(version).set("wbl.dir", path));
            assert!(log.contains("the module is not loaded") || log.contains("the log can't be brought back"), "{path}: {log}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "content");
        assert_eq!(fs::read_to_string(foreign.join("dump.rdb")).unwrap(), "no RDB");
    }

    fn a_folder_of_a_stock_append_only_file_is_not_taken_for_a_log(version: Version) {
        let mut stock = ServerBuilder::stock_always(version).start();
        stock.raw().run("SET key value");
        stock.stop();
        let folder = stock.folder().join("appendonlydir");
        let before = listing(&folder);
        let log = fails_to_start(ServerBuilder::with_module(version).set("wbl.dir", folder.to_str().unwrap()));
        assert!(log.contains("was touched") || log.contains("not loaded"), "{log}");
        assert_eq!(listing(&folder), before);
    }

    fn a_replica_does_not_start_on_a_folder_that_cannot_be_used(version: Version) {
        let mut server = ServerBuilder::with_module(version).allow_warning("").start();
        let mut client = server.raw();
        ["SET key value", "SAVE", "SET key newer"].iter().for_each(|command| drop(client.run(command)));
        server.stop();
        let own = server.log_folder();
        let mut other = ServerBuilder::with_module(version).start();
        other.raw().run("SET key other");
        let place = |name: &str| server.folder().join(name);
        let (damaged, foreign, file) = (place("damaged"), place("foreign"), place("file"));
        copy_folder(&own, &damaged);
        flip_a_value(&damaged, b"newer");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("appendonly.aof.manifest"), "file dump.rdb seq 1 type b\n").unwrap();
        fs::write(foreign.join("dump.rdb"), "no RDB").unwrap();
        fs::write(&file, "content").unwrap();
        // Its primary, which would send it all that it needs, is not there.
        server.reconfigure(|builder| builder.set_words("replicaof", &["127.0.0.1", "1"]).unset("wbl.enabled"));
        for (path, why) in [
            (&damaged, "the log is damaged"),
            (&other.log_folder(), "another server uses the folder"),
            (&foreign, "appendonly.aof.manifest"),
            (&file, "cannot create the folder"),
            (&file.join("below"), "cannot create the folder"),
        ] {
            let is_quiet = path.starts_with(server.folder()) && path.is_dir();
            let before = is_quiet.then(|| listing(path));
            let path_text = path.to_str().unwrap().to_string();
            server.reconfigure(|builder| builder.set("wbl.dir", &path_text));
            let said = refused_start(&mut server);
            let line = said.lines().find(|line| line.contains("the module is not loaded"));
            let place = if path.starts_with(&file) { &file } else { path }.to_str().unwrap();
            assert!(line.is_some_and(|line| line.contains(why) && line.contains(place)), "{path_text}: {said}");
            assert!(!said.contains("DB loaded"), "{said}");
            assert!(before.is_none_or(|before| listing(path) == before), "{path_text} has changed");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "content");
        other.kill9_and_restart();
        assert_eq!(other.raw().run("GET key").text(), "other");
        // With its own folder it has its data.
        server.reconfigure(|builder| builder.set("wbl.dir", own.to_str().unwrap()));
        server.start();
        assert_eq!((server.raw().run("GET key").text(), server.wbl_info("wbl_state")), ("newer".into(), "replica".into()));
    }

    fn a_promotion_of_a_replica_that_has_lost_its_folder_serves_and_refuses_writes(version: Version) {
        let mut group = Group::start(version, 1, &[]);
        group.primary().raw().run("SET k v");
        group.wait_equal(1);
        let folder = group.nodes[1].log_folder();
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "").unwrap();
        group.nodes[1].reconfigure(|builder| {
            let warnings = ["could not be closed", "the log can't begin", "can't go on", "can't be noted", "no new base"];
            warnings.into_iter().fold(builder, ServerBuilder::allow_warning)
        });
        group.primary().raw().run("SET later v");
        let replica = &mut group.nodes[1];
        wait_until("its log is missed", PATIENCE, || replica.wbl_info("wbl_replica_log") == "none");
        let mut client = replica.raw();
        assert_eq!(client.run("GET later").text(), "v");
        client.run("REPLICAOF NO ONE");
        assert_eq!(replica.wbl_info("wbl_state"), "failing");
        assert!(!replica.wbl_info("wbl_failure").is_empty());
        let expected = dataset::read(&mut client);
        for command in [&["SET", "k", "w"][..], &["DEL", "k"], &["FLUSHALL"], &["RPUSH", "list", "a"]] {
            let refused = format!("{:?}", client.call(command));
            assert!(refused.starts_with("-MISCONF"), "{command:?}: {refused}");
        }
        dataset::assert_same(&dataset::read(&mut client), &expected, "nothing was written");
        assert_eq!(fs::read(&folder).unwrap(), b"", "what has its name is left alone");
        // Mended.
        fs::remove_file(&folder).unwrap();
        client.run("CONFIG SET wbl.enabled no");
        client.run("CONFIG SET wbl.enabled yes");
        client.run("SET k new");
        client.run("WBL.WAIT");
        let expected = dataset::read(&mut client);
        replica.kill9();
        replica.reconfigure(|builder| builder.unset("replicaof"));
        replica.start();
        dataset::assert_same(&dataset::read(&mut replica.raw()), &expected, "after kill -9");
    }
}

/// A start that must end with an error; returns what it logged.
pub fn refused_start(server: &mut Server) -> String {
    let before = server.log().len();
    server.launch();
    let status = server.wait_exit();
    let said = server.log()[before..].to_string();
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

/// Changes a byte of the value in whichever segment has it.
fn flip_a_value(folder: &Path, value: &[u8]) {
    let at = |bytes: &[u8]| bytes.windows(value.len()).position(|found| found == value);
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found = paths.filter(|path| path.is_file()).map(|path| (fs::read(&path).unwrap(), path));
    let (mut bytes, path): (Vec<u8>, PathBuf) = { found }.find(|(bytes, _)| at(bytes).is_some()).expect("the value");
    let at = at(&bytes).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The names and contents of a folder's files, but for the lock.
pub fn listing(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap()).filter(|name| name != "LOCK");
    let mut files: Vec<_> =
        names.map(|name| (fs::read(folder.join(&name)).unwrap(), name)).map(|(a, b)| (b, a)).collect();
    files.sort();
    files
}
