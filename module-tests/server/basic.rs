//! What the module is for, one step at a time: data that survive, a folder that others can read, loading and unloading.

use crate::harness::raw::RawConnection;
use crate::harness::server::info_field;
use crate::harness::temp::copy_folder;
use crate::harness::{
    FrozenDisk, Injection, Lever, PATIENCE, Server, ServerBuilder, Strace, Value, Version, dataset, each_lever,
    each_version, paths, samples, wait_until,
};
use std::fs;
use std::process::Command;

each_version! {
    fn an_acknowledged_value_survives_kill_9(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        server.raw().run("SET key value");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET key").text(), "value");
        server.raw().run("SET key other");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET key").text(), "other");
    }

    fn databases_expiry_times_functions_and_consumer_groups_survive_kill_9_and_shutdown(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        samples::fill(&mut server.raw(), version);
        let before = dataset::read(&mut server.raw());
        assert!(before.len() > 25, "{before:?}");
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &before, "after kill -9");
        server.stop_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &before, "after SHUTDOWN");
        server.raw().run("FLUSHALL");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("DBSIZE").integer(), 0);
    }

    fn a_unit_larger_than_a_segment_survives_and_segments_follow_each_other(version: Version) {
        let mut server = ServerBuilder::with_module(version).set("wbl.segment-bytes", "4096").start();
        samples::fill(&mut server.raw(), version);
        let mut client = server.raw();
        for number in 0..200 {
            client.run(&format!("SET key:{number} {}", "v".repeat(100)));
        }
        let before = dataset::read(&mut server.raw());
        let segments = fs::read_dir(server.log_folder()).unwrap();
        assert!(segments.count() > 5, "one segment only");
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &before, "after kill -9");
    }

    fn runs_of_sets_come_back_with_their_order_encodings_and_expiry_times(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        for number in 0..40 {
            client.run(&format!("SADD set:{number} a member"));
            client.run(&format!("SET text:{number} expiring EX 1000"));
        }
        let long = "long ".repeat(40);
        for number in 0..300 {
            let value = ["12345", "a short text", &long, ""][number % 4];
            client.call(&["set", &format!("text:{}", number % 100), value]);
            client.call(&["SET", &format!("set:{}", number % 50), &number.to_string()]);
            client.call(&["SET", &format!("again:{}", number % 7), &number.to_string()]);
            match number {
                90 => drop(client.run("SET text:5 42 PX 1000000")),
                100 => drop(client.run("SELECT 3")),
                150 => drop(client.run("APPEND text:5 more")),
                200 => drop(client.run("SELECT 0")),
                299 => drop(client.call(&["SET", "big", &"b".repeat(3_000_000)])),
                _ => {}
            }
        }
        let before = (dataset::read(&mut server.raw()), encodings(&mut server.raw()));
        assert!(before.1.contains(&"int".to_string()) && before.1.contains(&"embstr".to_string()), "{:?}", before.1);
        // A server without MSET runs them one by one.
        for mset in ["MSET", ""] {
            server.reconfigure(|builder| builder.set_words("rename-command", &["MSET", mset]));
            server.kill9_and_restart();
            dataset::assert_same(&dataset::read(&mut server.raw()), &before.0, "after kill -9");
            assert_eq!(encodings(&mut server.raw()), before.1, "MSET is {mset:?}");
            assert_eq!(server.wbl_info("wbl_recovered_commands"), (2 * 40 + 3 * 300 + 3).to_string());
        }
        assert!(!server.log().contains("answered with an error"), "a replayed command failed");
    }

    fn a_checkpoint_removes_the_log_before_it_and_what_follows_survives(version: Version) {
        let mut server = ServerBuilder::with_module(version).set("wbl.segment-bytes", "4096").start();
        samples::fill(&mut server.raw(), version);
        let bytes_before = folder_bytes(&server);
        for _ in 0..20 {
            server.raw().call(&["SET", "big", &"z".repeat(100_000)]);
        }
        assert_eq!(server.raw().run("WBL.CHECKPOINT"), Value::Simple("OK".into()));
        assert!(folder_bytes(&server) < bytes_before + 1_000_000, "old segments are still there");
        server.raw().run("SET after checkpoint");
        dataset::assert_survives(&mut server, "after kill -9");
    }

    fn a_clean_folder_loads_in_a_stock_server_and_passes_valkey_check_aof(version: Version) {
        let mut server = ServerBuilder::with_module(version).set("wbl.segment-bytes", "65536").start();
        samples::fill(&mut server.raw(), version);
        for checkpoint in [false, true] {
            if checkpoint {
                server.raw().run("WBL.CHECKPOINT");
                server.raw().run("SET after checkpoint");
            }
            let expected = dataset::read(&mut server.raw());
            server.stop();

            let mut stock = ServerBuilder::stock(version)
                .set("appendonly", "yes")
                .set("appenddirname", "wbl")
                .set("appendfilename", "appendonly.aof")
                .prepare();
            copy_folder(&server.log_folder(), &stock.log_folder());
            stock.start();
            dataset::assert_same(&dataset::read(&mut stock.raw()), &expected, "in the stock server");

            check_files(&server);
            server.start();
        }
    }

    fn a_server_that_writes_while_the_module_makes_its_first_base_loses_nothing(version: Version) {
        let mut server = ServerBuilder::stock(version).set("enable-module-command", "yes").start();
        let mut control = server.raw();
        control.run("DEBUG POPULATE 200000");
        control.run(&format!("MODULE LOAD {}", paths::module().display()));
        for number in 0..500 {
            control.run(&format!("SET during:{number} v"));
        }
        wait_active(&server);
        control.run("WBL.WAIT");
        let digest = control.run("DEBUG DIGEST");
        server.kill9();
        server.builder = ServerBuilder::with_module(version);
        server.start();
        assert_eq!(server.raw().run("DEBUG DIGEST"), digest);
    }

    fn with_on_error_exit_a_failed_flush_ends_the_server(version: Version) {
        for error in ["EIO", "ENOSPC"] {
            // As with the server's own appendfsync always.
            let builder = ServerBuilder::with_module(version).set("wbl.on-error", "exit");
            let mut server = builder.allow_warning("").start();
            let mut client = server.raw();
            for number in 0..50 {
                client.run(&format!("SET key:{number} v"));
            }
            {
                let _strace = Strace::attach(server.process_id(), Injection::Fail { error, from: 1 });
                client.send_text("SET lost value");
                assert!(client.try_reply().is_err(), "{error}: a write was acknowledged that is not durable");
                assert_eq!(server.wait_exit().code(), Some(1), "{error}; {}", server.log());
            }
            server.start();
            let count = server.raw().run("DBSIZE").integer();
            assert!((50..=51).contains(&count), "{error}: {count} keys are left of 50");
        }
    }

    fn a_slow_flush_holds_writers_and_not_readers_of_clean_keys(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let (mut writer, mut reader) = (server.raw(), server.raw());
        writer.run("SET clean value");
        writer.run("WBL.WAIT");
        let delay = std::time::Duration::from_millis(300);
        let _strace = Strace::attach(server.process_id(), Injection::Delay(delay));
        let start = std::time::Instant::now();
        writer.send_text("SET other value");
        for _ in 0..20 {
            reader.run("GET clean");
        }
        assert!(start.elapsed() < delay, "20 reads took {:?}", start.elapsed());
        writer.reply();
        assert!(start.elapsed() >= delay, "the write took {:?}", start.elapsed());
    }
}

each_lever! {
    fn the_module_can_be_loaded_into_a_running_server_and_unloaded(version: Version, lever: Lever) {
        let mut server = ServerBuilder::stock(version)
            .set("enable-module-command", "yes")
            .allow_warning("the module is not loaded")
            .allow_warning("initialization failed")
            .start();
        samples::fill(&mut server.raw(), version);
        let module = paths::module().to_str().unwrap();
        let mut control = server.raw();
        control.run(&format!("MODULE LOAD {module} --wbl.debug-commands yes"));
        wait_active(&server);
        control.run("SET while loaded");
        let disk = FrozenDisk::freeze(lever, &server, &mut control);
        let mut held = server.raw();
        held.send_text("SET held value");
        disk.assert_withheld(&server, &mut control, &mut held, "SET");

        // The server does not unload a module that holds replies back.
        let refused = control.call(&["MODULE", "UNLOAD", "wbl"]);
        assert!(format!("{refused:?}").contains("blocked clients"), "{refused:?}");
        disk.thaw(&mut control);
        assert_eq!(held.reply(), Value::Simple("OK".into()));
        control.run("WBL.WAIT");
        wait_until("the module can be unloaded", PATIENCE, || !control.call(&["MODULE", "UNLOAD", "wbl"]).is_error());
        assert!(control.call(&["WBL.WAIT"]).is_error(), "the module is still there");
        control.run("SET while unloaded");

        let refused = control.call(&["MODULE", "LOAD", module]);
        assert!(refused.is_error(), "the log of another state was taken over");
        assert!(server.log().contains("wbl.on-existing-log"), "the refusal does not say what to do");
        control.run(&format!("MODULE LOADEX {module} CONFIG wbl.on-existing-log replace"));
        wait_active(&server);
        control.run("SET again loaded");
        let before = dataset::read(&mut control);

        server.kill9();
        server.builder = ServerBuilder::with_module(version)
            .allow_warning("the module is not loaded")
            .allow_warning("initialization failed");
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &before, "after kill -9");
    }

    fn disabling_at_run_time_releases_everybody_and_enabling_makes_a_new_base(version: Version, lever: Lever) {
        let mut server = ServerBuilder::with_module(version).allow_warning("Restoring previous settings").start();
        let (mut control, mut held) = (server.raw(), server.raw());
        control.run("SET before disabling");
        let disk = FrozenDisk::freeze(lever, &server, &mut control);
        held.send_text("SET held value");
        disk.assert_withheld(&server, &mut control, &mut held, "SET");
        if lever == Lever::Sync {
            // A log whose disk does not answer does not end.
            assert!(control.call(&["CONFIG", "SET", "wbl.enabled", "no"]).is_error());
            disk.thaw(&mut control);
        }
        control.run("CONFIG SET wbl.enabled no");
        assert_eq!(held.reply(), Value::Simple("OK".into()));
        assert_eq!(server.wbl_info("wbl_enabled"), "0");
        assert!(control.call(&["WBL.WAIT"]).is_error(), "WBL.WAIT of a disabled module");
        control.run("SET while disabled");
        control.run("CONFIG SET wbl.enabled yes");
        wait_active(&server);
        assert_eq!(server.wbl_info("wbl_enabled"), "1");
        control.run("SET after enabling");
        dataset::assert_survives(&mut server, "after kill -9");
    }
}

fn wait_active(server: &Server) {
    let mut connection = server.raw();
    wait_until("the module is active", PATIENCE, || {
        info_field(&mut connection, "wbl", "wbl_state").as_deref() == Some("active")
    });
}

/// How the server keeps each string of database 0, in the order of their keys.
fn encodings(connection: &mut RawConnection) -> Vec<String> {
    let keys = connection.run("KEYS *");
    let mut keys: Vec<String> = keys.items().iter().map(Value::text).collect();
    keys.sort();
    keys.iter().map(|key| connection.call(&["OBJECT", "ENCODING", key]).text()).collect()
}

fn folder_bytes(server: &Server) -> u64 {
    let entries = fs::read_dir(server.log_folder()).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Runs the server's own checkers over the log's folder.
fn check_files(server: &Server) {
    let manifest = "appendonly.aof.manifest";
    let text = fs::read_to_string(server.log_folder().join(manifest)).unwrap();
    let files: Vec<&str> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert!(!files.is_empty(), "an empty manifest");
    let mut new_magic = false;
    for file in files {
        let bytes = fs::read(server.log_folder().join(file)).unwrap();
        new_magic |= bytes.starts_with(b"VALKEY");
        check(server, if file.ends_with(".rdb") { "valkey-check-rdb" } else { "valkey-check-aof" }, file);
    }
    // The checker of 9.1.2 does not know the beginning of the RDB files that 9.1.2 writes, those of its own server
    // neither.
    if !new_magic {
        check(server, "valkey-check-aof", manifest);
    }
}

fn check(server: &Server, program: &str, file: &str) {
    let path = server.log_folder().join(file);
    let output = Command::new(server.version().program(program)).arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let fine = ["is valid", "are valid", "looks OK"].iter().any(|text| said.contains(text));
    assert!(output.status.success() && fine, "{program} {file}: {said}");
}
