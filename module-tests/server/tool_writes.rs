//! What the `wbl` tool makes of logs: exports, compacted logs, repaired ones.

use crate::harness::tool::{Ran, wbl};
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Version, dataset, each_version, wait_until};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

fn builder(version: Version) -> ServerBuilder {
    ServerBuilder::with_module(version).set("wbl.segment-bytes", "4kb")
}

fn write(client: &mut RawConnection, round: usize) {
    for number in 0..40 {
        client.call(&["SET", &format!("key:{number}"), &format!("{round}:{}", "v".repeat(100))]);
        client.run(&format!("RPUSH list {round}:{number}"));
    }
    for command in ["SELECT 5", "MULTI", "INCR n", "HSET h a 1 b 2", "EXEC", "SET t x EX 100000", "SELECT 0"] {
        client.run(command);
    }
}

/// Exports, to a folder beside the log's.
pub fn export(server: &Server, name: &str, options: &[&str]) -> (PathBuf, Ran) {
    let out = server.folder().join(name);
    let mut all = vec![out.to_str().unwrap()];
    all.extend(options);
    (out.clone(), wbl("export", &server.log_folder(), &all))
}

/// What a stock server makes of a folder, on a copy of it.
pub fn loaded_by_stock(version: Version, folder: &Path) -> dataset::Dataset {
    let builder = ServerBuilder::stock(version).set("appendonly", "yes").set("appenddirname", "log");
    let mut server = builder.prepare();
    crate::harness::temp::copy_folder(folder, &server.folder().join("log"));
    server.start();
    dataset::read(&mut server.raw())
}

/// The same of a server with the module.
pub fn loaded_by_module(version: Version, folder: &Path) -> dataset::Dataset {
    let mut server = builder(version).set("wbl.dir", folder.to_str().unwrap()).start();
    let found = dataset::read(&mut server.raw());
    server.stop();
    found
}

/// Damages the log where a key's name begins, `damaged`.
fn damage(server: &Server) {
    let entries = fs::read_dir(server.log_folder()).unwrap().map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.to_str().unwrap().ends_with(".incr.aof");
    let found = entries.filter(is_segment).find_map(|path| {
        let at = fs::read(&path).unwrap().windows(7).position(|part| part == b"damaged")?;
        Some((path, at))
    });
    let (segment, at) = found.unwrap();
    fs::OpenOptions::new().write(true).open(&segment).unwrap().write_all_at(b"D", at as u64).unwrap();
}

/// The positions of the only unit with a command of this name.
pub fn unit_of(server: &Server, command: &str) -> String {
    let lines = wbl("dump", &server.log_folder(), &["--command", command]).good();
    let [line] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines}") };
    line.split(' ').next().unwrap().into()
}

pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

each_version! {
    fn one_mistake_is_left_out_of_an_export(version: Version) {
        let mut server = builder(version).start();
        let mut client = server.raw();
        write(&mut client, 0);
        client.run("WBL.CHECKPOINT");
        write(&mut client, 1);
        let expected = dataset::read(&mut client);
        client.run("FLUSHALL");
        let mistake = unit_of(&server, "FLUSHALL");
        // What it would do is shown, and nothing written.
        let (out, ran) = export(&server, "out", &["--skip", &mistake, "--dry-run"]);
        let text = ran.good();
        assert!(text.contains("would be written") && text.contains("FLUSHALL") && !out.exists(), "{text}");
        // Beside the server, and of what a crash has left.
        export(&server, "beside", &["--skip", &mistake]).1.good();
        server.kill9();
        let (out, ran) = export(&server, "out", &["--skip", &mistake]);
        ran.good();
        for folder in [&out, &server.folder().join("beside")] {
            dataset::assert_same(&loaded_by_stock(version, folder), &expected, "loaded by a stock server");
            assert!(wbl("check", folder, &["--json"]).good().contains(r#""verdict":"good""#));
            dataset::assert_same(&loaded_by_module(version, folder), &expected, "loaded by the module");
        }
        // Neither half units, nor nothing, nor a folder that is there.
        let (start, _) = mistake.split_once("..").unwrap();
        let part = format!("{}..{}", start.parse::<u64>().unwrap() + 1, start.parse::<u64>().unwrap() + 2);
        let (half, ran) = export(&server, "half", &["--skip", &part]);
        assert!(ran.status == 2 && ran.errors.contains(&mistake) && !half.exists(), "{}", ran.errors);
        let (none, ran) = export(&server, "none", &["--skip", "0..1"]);
        assert!(ran.status == 2 && !none.exists(), "{}", ran.errors);
        assert_eq!(export(&server, "out", &[]).1.status, 2);
        let names: Vec<_> = fs::read_dir(server.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!names.iter().any(|name| name.to_str().unwrap().contains("unfinished")), "{names:?}");
    }

    fn an_export_ends_at_a_moment(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        write(&mut client, 0);
        let expected = dataset::read(&mut client);
        // A frame states its time when it is a second away from the last stated one.
        let moment = unix_s() + 1;
        wait_until("a second has passed, and one more", PATIENCE, || unix_s() > moment + 1);
        client.run("SET late 1");
        write(&mut client, 1);
        let dump = wbl("dump", &server.log_folder(), &["--key", "late"]).good();
        let late = dump.split("..").next().unwrap();
        for until in [format!("@{moment}"), late.to_string()] {
            let (out, ran) = export(&server, &format!("until-{until}"), &["--until", &until]);
            ran.good();
            dataset::assert_same(&loaded_by_stock(version, &out), &expected, &until);
        }
        // What was before the base is in no log.
        client.run("WBL.CHECKPOINT");
        let (out, ran) = export(&server, "before", &["--until", &format!("@{moment}")]);
        assert!(ran.status == 2 && ran.errors.contains("backup") && !out.exists(), "{}", ran.errors);
    }

    fn the_history_of_a_key_has_all_that_changed_it(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        for command in [
            "SET other 1",
            "SET k 1",
            "RENAME k l",
            "COPY l k",
            "SELECT 2",
            "SET k 5",
            "SELECT 0",
            "SWAPDB 0 2",
            "DEL k",
            "RPUSH k a",
            "FLUSHALL",
        ] {
            client.run(command);
        }
        let lines = wbl("history", &server.log_folder(), &["k"]).commands();
        let expected =
            ["SET k 1", "RENAME k l", "COPY l k", "SWAPDB 0 2", "DEL k", "RPUSH k a", "FLUSHALL"];
        assert_eq!(lines, expected);
        let lines = wbl("history", &server.log_folder(), &["k", "--db", "2", "--redact", "values"]).commands();
        assert_eq!(lines, ["SET k <1 bytes>", "SWAPDB 0 2", "FLUSHALL"]);
    }

    fn stat_says_what_takes_room(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        for number in 0..100 {
            client.call(&["SET", "user:1", &"v".repeat(1000)]);
            client.run(&format!("RPUSH queue {number}"));
        }
        let text = wbl("stat", &server.log_folder(), &["--json"]).good();
        for part in [r#""name":"SET""#, r#""name":"user:""#, r#""name":"queue""#, r#""commands":100"#] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // One value of a hundred is kept, and the list.
        let number = |name: &str| {
            let rest = text.split(&format!("\"{name}\":")).nth(1).unwrap();
            rest.split([',', '}']).next().unwrap().parse::<u64>().unwrap()
        };
        let saved = number("estimated_bytes_saved_by_checkpoint");
        assert!((95_000..number("log_bytes")).contains(&saved), "{saved}");
        assert!(wbl("stat", &server.log_folder(), &[]).good().contains("a checkpoint would"));
    }

    fn a_damaged_log_is_cut_and_starts(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        write(&mut client, 0);
        client.run("WBL.CHECKPOINT");
        let expected = dataset::read(&mut client);
        client.run("SET damaged-from-here 1");
        write(&mut client, 1);
        // Not beside the server.
        let ran = wbl("repair", &server.log_folder(), &["--yes"]);
        assert!(ran.status == 2 && ran.errors.contains("a server uses"), "{}", ran.errors);
        server.stop();
        assert!(wbl("repair", &server.log_folder(), &[]).good().contains("nothing to cut"));
        damage(&server);
        let ran = wbl("repair", &server.log_folder(), &[]);
        assert!(ran.status == 1 && ran.out.contains("nothing was changed"), "{}{}", ran.out, ran.errors);
        let text = wbl("repair", &server.log_folder(), &["--yes"]).good();
        assert!(text.contains("cut-by-repair-"), "{text}");
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after the cut");
        dataset::assert_survives(&mut server, "after the cut, and a crash");
    }

    fn a_server_with_data_of_its_own_is_asked_before_it_gets_a_cut_log(version: Version) {
        type End = fn(&mut Server);
        let ends: [End; 2] = [
            |server| {
                server.raw().send_text("SHUTDOWN SAVE");
                server.wait_exit();
            },
            |server| {
                server.raw().run("SAVE");
                server.kill9();
            },
        ];
        for end in ends {
            for (setting, later) in [("keep", 0), ("replace", 1)] {
                let builder = ServerBuilder::with_module(version).in_memory().set_words("save", &["3600", "1000000"]);
                let mut server = builder.allow_warning("").start();
                let mut client = server.raw();
                ["SET k v", "SET damaged 1", "SET later 1"].iter().for_each(|command| drop(client.run(command)));
                end(&mut server);
                damage(&server);
                let text = wbl("repair", &server.log_folder(), &["--yes"]).good();
                assert!(text.contains("wbl.on-existing-log"), "{text}");
                server.launch();
                assert!(!server.wait_exit().success());
                assert!(server.log().contains("a part of the log was cut (wbl repair)"), "{}", server.log());
                server.reconfigure(|builder| builder.set("wbl.on-existing-log", setting));
                server.start();
                assert_eq!(server.raw().run("EXISTS k later").integer(), 1 + later, "{setting}");
                server.reconfigure(|builder| builder.set("wbl.on-existing-log", "refuse"));
                server.kill9_and_restart();
                assert_eq!(server.raw().run("EXISTS k later").integer(), 1 + later, "{setting}");
            }
        }
    }

    fn a_log_becomes_one_base(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        write(&mut client, 0);
        client.run("WBL.CHECKPOINT");
        write(&mut client, 1);
        let library = "#!lua name=lib\nserver.register_function('f', function() return 1 end)";
        client.call(&["FUNCTION", "LOAD", library]);
        let expected = dataset::read(&mut client);
        let out = server.folder().join("compacted");
        let program = version.server().to_str().unwrap();
        let options = [out.to_str().unwrap(), "--server", program, "--", "--enable-debug-command", "yes"];
        wbl("compact", &server.log_folder(), &options).good();
        let found = wbl("check", &out, &["--json"]).good();
        assert!(found.contains(r#""units":0"#) && found.contains(r#""verdict":"good""#), "{found}");
        dataset::assert_same(&loaded_by_module(version, &out), &expected, "of one base");
        assert!(!server.folder().join("compacted.compacting").exists());
        let ran = wbl("compact", &server.log_folder(), &[out.with_file_name("x").to_str().unwrap(), "--server", "/bin/false"]);
        assert!(ran.status == 2 && ran.errors.contains("ended with"), "{}", ran.errors);
    }
}

#[test]
fn bench_disk_measures_and_leaves_nothing() {
    let folder = crate::harness::temp::TempDir::new();
    let text = wbl("bench-disk", folder.path(), &["--seconds", "0.02", "--json"]).good();
    assert!(text.contains(r#""way":"buffered""#) && text.contains("commit-mode"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        let text = wbl("bench-disk", memory, &["--seconds", "0.02"]).good();
        assert!(text.contains("WARNING"), "{text}");
    }
}
