//! MODULE UNLOAD: nothing in the server points to the module afterwards.

use crate::harness::process::resident_kib;
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, each_version, paths, wait_until};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

each_version! {
    fn clients_of_the_modules_commands_are_closed_at_unload(version: Version) {
        let server = loaded(version);
        let mut control = server.raw();
        let mut reader = dirty_reader(&server, &mut control);
        let mut queued = server.raw();
        queued.run("MULTI");
        queued.run("WBL.WAIT");
        let mut other = server.raw();
        other.run("GET key");
        unload(&mut control);
        for (client, what) in [(&mut reader, "a reader"), (&mut queued, "a transaction")] {
            assert!(client.try_send(&["PING"]).and_then(|()| client.try_reply()).is_err(), "{what} is still there");
        }
        assert_eq!(other.run("GET key"), Value::Bulk(b"value".to_vec()));
        assert!(!control.run("CLIENT LIST").text().contains("wbl."));
        load(&server, &mut control);
        unload(&mut control);
    }

    fn an_unload_inside_of_a_transaction_is_refused(version: Version) {
        let server = loaded(version);
        let mut control = server.raw();
        control.run("MULTI");
        control.run("WBL.WAIT");
        control.run("MODULE UNLOAD wbl");
        control.run("WBL.WAIT");
        assert!(control.run("EXEC").items()[1].is_error());
        control.run("SET key other");
        assert_eq!(control.run("GET key"), Value::Bulk(b"other".to_vec()));
        unload(&mut control);
    }

    fn a_monitor_that_waits_with_a_command_of_the_module_behind_it_is_closed_too(version: Version) {
        let server = loaded(version);
        let (mut control, mut monitor) = (server.raw(), server.raw());
        let commands = [&["MONITOR"][..], &["WAIT", "9", "0"], &["WBL.WAIT"]];
        monitor.send_at_once(&commands);
        let waits = |control: &mut RawConnection| control.run("CLIENT LIST").text().contains(" cmd=wait ");
        wait_until("it waits", PATIENCE, || waits(&mut control));
        unload(&mut control);
        // It looks up a command when it runs.
        assert_eq!(waits(&mut control), version == Version::V8_1);
    }

    fn a_log_that_takes_no_mark_refuses_the_unload(version: Version) {
        let builder = ServerBuilder::with_module(version).set("enable-module-command", "yes");
        let builder = ["could not be marked", "can't be noted", "OnUnload failed", "Error unloading", "the log can't begin"]
            .into_iter()
            .fold(builder, ServerBuilder::allow_warning);
        let mut server = builder.start();
        let mut control = server.raw();
        control.run("SET key value");
        let obstacle = server.log_folder().join("temp-manifest");
        std::fs::create_dir(&obstacle).unwrap();
        assert!(control.call(&["MODULE", "UNLOAD", "wbl"]).is_error());
        assert_eq!(server.wbl_info("wbl_state"), "failing");
        assert!(control.call(&["SET", "key", "other"]).is_error());
        std::fs::remove_dir(&obstacle).unwrap();
        wait_until("another log begins", PATIENCE, || server.wbl_info("wbl_state") == "active");
        control.run("SET key other");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET key").text(), "other");
    }

    fn acl_rules_for_the_modules_commands_refuse_the_unload(version: Version) {
        let server = loaded(version);
        let mut control = server.raw();
        for rules in [&["+set", "+wbl.call"][..], &["+@all", "-WBL.READ"], &["(~a", "+set", "+wbl.eval)"]] {
            control.call(&[&["ACL", "SETUSER", "user", "reset"], rules].concat());
            assert!(control.call(&["MODULE", "UNLOAD", "wbl"]).is_error(), "{rules:?}");
            control.run("SET key value");
        }
        assert!(server.log().contains("ACL"), "{}", server.log());
        control.run("ACL DELUSER user");
        unload(&mut control);
    }

    fn a_loadex_that_comes_to_nothing_leaves_all_as_it_was(version: Version) {
        for (is_empty, is_clean, settings) in [
            (true, true, &[][..]),
            (true, false, &[]),
            (false, true, &["CONFIG", "wbl.on-existing-log", "replace"]),
            (false, false, &["CONFIG", "wbl.on-existing-log", "replace"]),
        ] {
            let builder = ServerBuilder::with_module(version).set("enable-module-command", "yes").allow_warning("Loadex configurations were not applied");
            let mut server = builder.allow_warning("takes the place of the data").start();
            server.raw().run("SET logged v");
            server.raw().call(&["FUNCTION", "LOAD", "#!lua name=l\nserver.register_function('f', function() end)"]);
            if is_clean { server.stop() } else { server.kill9() }
            server.reconfigure(|builder| {
                builder.without_module()
            });
            server.start();
            let mut client = server.raw();
            if !is_empty {
                ["SET own v", "SAVE"].iter().for_each(|command| drop(client.run(command)));
            }
            let seen = |client: &mut RawConnection| {
                let modules = client.run("MODULE LIST").items().len();
                let manifest = std::fs::read_to_string(server.log_folder().join("appendonly.aof.manifest")).unwrap();
                let standing = manifest.lines().next().map(String::from);
                (client.run("KEYS *"), client.run("FUNCTION LIST"), modules, standing)
            };
            let before = seen(&mut client);
            let path = paths::module().to_str().unwrap();
            let load = [&["MODULE", "LOADEX", path][..], settings].concat();
            for wrong in [&["CONFIG", "foo.bar", "1"], &["CONFIG", "wbl.nonsense", "1"]] {
                let mut transaction = server.raw();
                ["MULTI", "PING"].iter().for_each(|command| drop(transaction.run(command)));
                assert!(client.call(&[&load[..], &wrong[..]].concat()).is_error());
                assert_eq!(seen(&mut client), before, "{is_empty} {is_clean} {wrong:?}");
                if !is_empty {
                    assert_eq!(transaction.run("EXEC").items().len(), 1, "nobody was served meanwhile");
                }
            }
            assert_eq!(client.call(&load), Value::Simple("OK".into()));
            wait_until("the module is active", PATIENCE, || server.wbl_info("wbl_state") == "active");
            assert_eq!(client.run("EXISTS logged own").integer(), 1);
            assert_eq!(client.run("EXISTS logged").integer(), i64::from(is_empty));
        }
    }

    fn what_comes_with_a_load_in_one_packet_is_logged(version: Version) {
        let mut server = ServerBuilder::with_module(version).set("enable-module-command", "yes").start();
        ["XADD s 1-1 f v", "XGROUP CREATE s g 0"].iter().for_each(|command| drop(server.raw().run(command)));
        server.kill9();
        server.reconfigure(ServerBuilder::without_module);
        server.start();
        let mut client = server.raw();
        let library = "#!lua name=l\nserver.register_function('f', function() end)";
        let commands = [
            &["MODULE", "LOADEX", paths::module().to_str().unwrap()][..],
            &["FUNCTION", "LOAD", library],
            &["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"],
            &["XACK", "s", "g", "1-1"],
            &["ACL", "SETUSER", "u", "on"],
            &["MULTI"],
            &["SET", "k", "v"],
            &["EXEC"],
        ];
        client.send_at_once(&commands);
        for command in commands {
            let reply = client.reply();
            assert!(!reply.is_error(), "{command:?}: {reply:?}");
        }
        client.run("WBL.WAIT");
        server.kill9();
        let mut client = restart_with_log(&mut server);
        assert_eq!(client.run("FUNCTION LIST").items().len(), 1);
        assert_eq!(client.run("XPENDING s g").items()[0].integer(), 0);
        assert_eq!(client.run("GET k").text(), "v");
    }

    fn no_rule_of_a_user_outlives_a_load_that_fails(version: Version) {
        let server = with_an_unloaded_log(version);
        // The server refuses to name a command that is not there, and closes who was refused while it was.
        let (result, answers) = ask_during_load(&server, &["CONFIG", "foo.bar", "1"], &["ACL", "SETUSER", "u", "+wbl.wait"]);
        assert!(result.is_error());
        assert!(answers.iter().all(Value::is_error), "{answers:?}");
        let mut client = server.raw();
        assert_eq!(client.run("ACL LIST").items().len(), 1);
        assert!(!client.run("CLIENT LIST").text().contains("wbl."));
        assert_eq!(client.run("DBSIZE").integer(), 0);
    }

    fn nothing_replaces_the_dataset_that_a_load_brings_back(version: Version) {
        let server = with_an_unloaded_log(version);
        let (result, answers) = ask_during_load(&server, &[], &["DEBUG", "RELOAD"]);
        assert_eq!(result, Value::Simple("OK".into()));
        assert!(answers.iter().any(is_loading), "{answers:?}");
        assert_eq!(server.raw().run("DBSIZE").integer(), KEYS);
    }

    fn no_configuration_is_written_without_the_module_that_comes(version: Version) {
        let server = with_an_unloaded_log(version);
        let (result, answers) = ask_during_load(&server, &["CONFIG", "wbl.debug-commands", "yes"], &["CONFIG", "REWRITE"]);
        assert_eq!(result, Value::Simple("OK".into()));
        assert!(answers.iter().any(is_loading), "{answers:?}");
        let text = std::fs::read_to_string(server.config_path()).unwrap();
        assert_eq!(text.contains("wbl.debug-commands"), text.contains("loadmodule"), "{text}");
    }

    fn a_client_that_waits_with_a_command_of_the_module_behind_it_may_go_on(version: Version) {
        for waits in [&["BLPOP", "list", "0"][..], &["SET", "paused", "v"]] {
            let server = loaded(version);
            let mut control = server.raw();
            if waits[0] == "SET" {
                control.run("CLIENT PAUSE 1000000 WRITE");
            }
            let mut clients: Vec<RawConnection> = (0..8).map(|_| server.raw()).collect();
            for client in &mut clients {
                let commands = [waits, &["WBL.WAIT"], &["WBL.CALL", "GET", "key"], &["PING"]];
                client.send_at_once(&commands);
            }
            wait_until("all wait", PATIENCE, || control.run("INFO clients").text().contains("blocked_clients:8\r\n"));
            unload(&mut control);
            // Others use the memory of what is gone.
            for number in 0..20 {
                control.run(&format!("ACL SETUSER user{number} on +get"));
            }
            control.run("CLIENT UNPAUSE");
            for _ in &clients {
                control.run("RPUSH list v");
            }
            for client in &mut clients {
                match version {
                    // It looks up a command when it runs.
                    Version::V8_1 => {
                        client.reply();
                        assert!([client.reply(), client.reply()].iter().all(Value::is_error));
                        assert_eq!(client.reply(), Value::Simple("PONG".into()));
                    }
                    Version::V9_1 => assert!(client.try_reply().is_err(), "it is still there"),
                }
            }
            assert_eq!(control.run("PING"), Value::Simple("PONG".into()));
        }
    }

    fn fifty_loads_and_unloads_under_load_lose_nothing_and_leak_nothing(version: Version) {
        let mut server = loaded(version);
        let mut control = server.raw();
        unload(&mut control);
        let (stop, done): (_, [AtomicU64; 3]) = (AtomicBool::new(false), Default::default());
        let counted = |done: &[AtomicU64; 3]| done.iter().map(|done| done.load(Ordering::Relaxed)).sum::<u64>();
        let socket = server.socket();
        std::thread::scope(|scope| {
            for (worker, done) in done.iter().enumerate() {
                let (socket, stop) = (&socket, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // An unload closes the connection now and then, and so does a kill.
                        let _ = work(socket, worker, stop, done);
                    }
                });
            }
            let _stops = StopsAtEnd(&stop);
            let mut first = None;
            for cycle in 0..LOADS {
                load(&server, &mut control);
                let before = counted(&done);
                wait_until("the clients go on", PATIENCE, || counted(&done) >= before + 50);
                if cycle + KILLS >= LOADS {
                    let told = done.each_ref().map(|done| done.load(Ordering::Relaxed));
                    server.kill9();
                    control = restart_with_log(&mut server);
                    for (worker, told) in told.into_iter().enumerate() {
                        let found = control.run(&format!("GET of:{worker}")).text().parse::<u64>().unwrap();
                        assert!(found >= told, "cycle {cycle}, worker {worker}: {found} instead of {told}");
                    }
                }
                unload(&mut control);
                let list = control.run("CLIENT LIST").text();
                assert!(!list.contains("wbl."), "cycle {cycle}: {list}");
                let now = usage(&server);
                if cycle + KILLS < LOADS && cycle >= 5 {
                    let (bytes, descriptors) = *first.get_or_insert(now);
                    assert!(now.0 <= bytes + (16 << 20), "cycle {cycle}: {} bytes, then {}", bytes, now.0);
                    assert!(now.1 <= descriptors + 4, "cycle {cycle}: {descriptors} descriptors, then {}", now.1);
                }
            }
        });
        println!("{}: {LOADS} loads and unloads, {KILLS} kills, {} commands", version.text(), counted(&done));
    }
}

const LOADS: usize = 50;
/// The last loads end with one each.
const KILLS: usize = 5;

/// Ends the workers, also where the test fails.
struct StopsAtEnd<'a>(&'a AtomicBool);

impl Drop for StopsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The log that was killed is recovered by a server that begins with the module.
fn restart_with_log(server: &mut Server) -> RawConnection {
    let module = paths::module().to_str().unwrap().to_string();
    let before = server.builder.clone();
    server.reconfigure(|builder| builder.set("loadmodule", &module).set("wbl.enabled", "yes"));
    server.launch();
    server.wait_ready();
    wait_until("the log is active", PATIENCE, || server.wbl_info("wbl_state") == "active");
    server.reconfigure(|_| before);
    server.raw()
}

/// Memory and descriptors in use.
fn usage(server: &Server) -> (u64, usize) {
    let folder = format!("/proc/{}/fd", server.process_id());
    (resident_kib(server) as u64 * 1024, std::fs::read_dir(folder).unwrap().count())
}

/// How many keys the log of [`with_an_unloaded_log`] has.
const KEYS: i64 = 200_000;

/// A server without the module, beside a log that was killed and takes a while to bring back.
fn with_an_unloaded_log(version: Version) -> Server {
    let builder = ServerBuilder::with_module(version).set("enable-module-command", "yes").config_file("");
    let mut server = builder.allow_warning("Loadex configurations were not applied").start();
    let fill = "for number = 1, ARGV[2] do redis.call('SET', ARGV[1] .. number, 'v') end";
    for number in 0..20 {
        let count = (KEYS / 20).to_string();
        assert_eq!(server.raw().call(&["EVAL", fill, "0", &format!("{number}:"), &count]), Value::Null);
    }
    server.kill9();
    // It serves others so many times a second.
    server.reconfigure(|builder| builder.without_module().set("hz", "500"));
    server.start();
    server
}

/// Loads the module, while another client asks this again and again, until it is closed. Returns what the load and the
/// questions got. One of these came during the load, or its client was closed for that.
fn ask_during_load(server: &Server, settings: &[&str], question: &[&str]) -> (Value, Vec<Value>) {
    let (mut client, mut other, stop) = (server.raw(), server.raw(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _stops = StopsAtEnd(&stop);
        let asking = scope.spawn(|| {
            let mut ask = || other.try_send(question).and_then(|()| other.try_reply());
            let answers = std::iter::from_fn(|| if stop.load(Ordering::Relaxed) { None } else { ask().ok() });
            let answers: Vec<Value> = answers.collect();
            // Who was refused was closed, perhaps before it had its answer.
            let is_closed = other.try_send(&["PING"]).and_then(|()| other.try_reply()).is_err();
            assert!(is_closed || answers.iter().any(is_loading), "{answers:?}");
            answers
        });
        let load = [&["MODULE", "LOADEX", paths::module().to_str().unwrap()][..], settings].concat();
        let result = client.call(&load);
        stop.store(true, Ordering::Relaxed);
        (result, asking.join().expect("no panic"))
    })
}

fn is_loading(answer: &Value) -> bool {
    matches!(answer, Value::Error(error) if error.starts_with("LOADING"))
}

fn loaded(version: Version) -> Server {
    let server = ServerBuilder::stock(version)
        .set("enable-module-command", "yes")
        .in_memory()
        .allow_warning("the module is not unloaded")
        .allow_warning("OnUnload failed")
        .allow_warning("unload blocked")
        .allow_warning("Error unloading module")
        .start();
    let mut control = server.raw();
    load(&server, &mut control);
    control.run("SET key value");
    server
}

fn load(server: &Server, control: &mut RawConnection) {
    let settings = "CONFIG wbl.debug-commands yes CONFIG wbl.on-existing-log replace";
    control.run(&format!("MODULE LOADEX {} {settings}", paths::module().display()));
    wait_until("the module is active", PATIENCE, || server.wbl_info("wbl_state") == "active");
}

/// Unloads the module, which the server refuses while replies are held.
fn unload(control: &mut RawConnection) {
    wait_until("the module can be unloaded", PATIENCE, || !control.call(&["MODULE", "UNLOAD", "wbl"]).is_error());
}

/// A client whose last command the server knows as one of the module's.
fn dirty_reader(server: &Server, control: &mut RawConnection) -> RawConnection {
    let (mut writer, mut reader) = (server.raw(), server.raw());
    control.run("WBL.DEBUG PAUSE");
    writer.send_text("SET key value");
    writer.assert_silent(control, "SET");
    reader.send_text("GET key");
    reader.assert_silent(control, "GET");
    control.run("WBL.DEBUG RESUME");
    assert_eq!(writer.reply(), Value::Simple("OK".into()));
    assert_eq!(reader.reply(), Value::Bulk(b"value".to_vec()));
    assert!(control.run("CLIENT LIST").text().contains("cmd=wbl.read"));
    reader
}

/// Writes and reads until it is told to stop, or its connection is closed. `done` is what its counter was last.
fn work(socket: &Path, worker: usize, stop: &AtomicBool, done: &AtomicU64) -> std::io::Result<()> {
    let mut client = RawConnection::open(socket)?;
    while !stop.load(Ordering::Relaxed) {
        for words in [&["SET", "shared", "value"][..], &["GET", "shared"], &["INCR", &format!("of:{worker}")]] {
            client.try_send(words)?;
            let reply = client.try_reply()?;
            if matches!(&reply, Value::Error(error) if error.starts_with("LOADING")) {
                continue;
            }
            assert!(!reply.is_error(), "{reply:?}");
            if let Value::Integer(count) = reply {
                done.store(count as u64, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}
