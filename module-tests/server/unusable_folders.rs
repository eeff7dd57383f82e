//! Folders that cannot be used for a log are refused, and left as they are.

use crate::harness::temp::TempDir;
use crate::harness::{ServerBuilder, Version, each_version};
use crate::settings::fails_to_start;
use std::fs;

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
}

/// The names and contents of a folder's files, but for the lock.
fn listing(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap()).filter(|name| name != "LOCK");
    let mut files: Vec<_> =
        names.map(|name| (fs::read(folder.join(&name)).unwrap(), name)).map(|(a, b)| (b, a)).collect();
    files.sort();
    files
}
