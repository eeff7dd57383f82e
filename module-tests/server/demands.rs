//! Bases that a server cannot load: MODULE LOAD is refused, and the server lives on.

use crate::harness::{PATIENCE, Server, ServerBuilder, Value, Version, dataset, each_version, paths, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use valkey_wbl::log::{Begin, FolderStorage, NewBase, Options, StorageFile, open};

/// The id of a module's type: nine characters of six bits, and a version.
fn type_id(name: &str) -> [u8; 9] {
    const CHARACTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let id = name.chars().fold(0, |id, wanted| id << 6 | CHARACTERS.find(wanted).unwrap() as u64) << 10;
    let mut number = [0x81; 9];
    number[1..].copy_from_slice(&id.to_be_bytes());
    number
}

/// What a base has that the server lacks, and what must be said of it.
fn lacking() -> [(Vec<u8>, &'static str); 4] {
    let id = type_id("no-module");
    let library = b"#!nosuch name=library\ncode";
    [
        (b"\xfe\x14\x00\x01a\x01v".to_vec(), "database 20"),
        ([b"\xfe\x00\x07\x01a", &id[..], b"\x00"].concat(), "type no-module"),
        ([b"\xf7", &id[..], b"\x02\x01\x00"].concat(), "type no-module"),
        ([&[0xf5, library.len() as u8][..], library].concat(), "Engine 'nosuch' not found"),
    ]
}

/// A log whose base has these records.
fn write_base(folder: &Path, records: &[u8]) {
    let opened = open(FolderStorage::new(folder).unwrap(), &Options::default()).unwrap();
    let mut writer = opened.into_folder().begin(Begin::WaitsForBase, 0).unwrap();
    let (name, mut file) = writer.new_base_file().unwrap();
    // Without a checksum.
    file.write_all_at(0, &[b"REDIS0011", records, b"\xff", &[0; 8]].concat()).unwrap();
    let lsn = writer.cut().unwrap();
    writer.install_base(&NewBase { name, lsn }).unwrap();
    writer.close().unwrap();
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn running(version: Version) -> ServerBuilder {
    ServerBuilder::stock(version)
        .set("enable-module-command", "yes")
        .in_memory()
        .allow_warning("the module is not loaded")
        .allow_warning("initialization failed")
        .allow_warning("has no checksum")
}

fn load(server: &Server, folder: &Path) -> Value {
    let folder = folder.to_str().unwrap();
    server.raw().call(&["MODULE", "LOADEX", paths::module().to_str().unwrap(), "CONFIG", "wbl.dir", folder])
}

each_version! {
    fn a_base_that_cannot_be_loaded_refuses_the_load(version: Version) {
        let mut server = running(version).start();
        for (number, (records, expected)) in lacking().into_iter().enumerate() {
            let folder = server.folder().join(format!("log-{number}"));
            write_base(&folder, &records);
            let before = files(&folder);
            assert!(load(&server, &folder).is_error(), "{expected}");
            server.assert_running();
            assert!(server.log().contains(expected), "{expected}: {}", server.log());
            assert!(files(&folder) == before, "{expected}: the folder has changed");
            let mut client = server.raw();
            assert_eq!(client.run("DBSIZE").integer(), 0);
            assert!(client.run("FUNCTION LIST").items().is_empty());
        }
    }

    fn a_base_with_too_many_databases_ends_the_start_with_a_line(version: Version) {
        let builder = ServerBuilder::with_module(version).in_memory();
        let builder = builder.allow_warning("has no checksum").allow_warning("can't be brought back");
        let mut server = builder.prepare();
        let (records, expected) = lacking().into_iter().next().unwrap();
        write_base(&server.log_folder(), &records);
        let before = files(&server.log_folder());
        server.launch();
        assert_eq!(server.wait_exit().code(), Some(1));
        assert!(server.log().contains(expected), "{}", server.log());
        assert!(files(&server.log_folder()) == before, "the folder has changed");
    }

    fn a_base_with_all_that_is_there_is_loaded(version: Version) {
        let module = paths::test_module(version);
        let mut first = ServerBuilder::with_module(version).in_memory().load(&module, false).start();
        let mut client = first.raw();
        let code = "#!lua name=library\nserver.register_function('answer', function() return 42 end)";
        client.call(&["FUNCTION", "LOAD", code]);
        client.run("effects.value value 5 text");
        client.run("SELECT 3");
        client.run("SET key v");
        client.run("SELECT 0");
        client.run("WBL.CHECKPOINT");
        let expected = dataset::read(&mut client);
        first.kill9();
        let server = running(version).load(&module, false).start();
        let loaded = load(&server, &first.log_folder());
        assert!(!loaded.is_error(), "{loaded:?}: {}", server.log());
        wait_until("the module is active", PATIENCE, || server.wbl_info("wbl_state") == "active");
        let mut client = server.raw();
        dataset::assert_same(&dataset::read(&mut client), &expected, "loaded");
        assert_eq!(client.run("FCALL answer 0").integer(), 42);
    }
}
