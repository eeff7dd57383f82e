//! The server's own append-only file beside the log: the log's folder is never that file's, nothing of the module gets
//! into it, and the log is not given up while it is not there. And what the module needs of the system is looked for
//! before it acknowledges anything.

use crate::harness::points::VARIABLE;
use crate::harness::server::info_field;
use crate::harness::strace::{Injection, Strace};
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, each_version, paths, wait_until};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

each_version! {
    fn a_log_in_the_servers_append_only_folder_is_refused(version: Version) {
        for (appends, is_link) in [("yes", false), ("no", false), ("yes", true), ("no", true)] {
            let builder = ServerBuilder::with_module(version).set("appenddirname", "own").allow_warning("not loaded");
            let mut server = builder.start();
            server.raw().run("SET key value");
            server.stop();
            if is_link {
                symlink("wbl", server.folder().join("own")).unwrap();
            }
            let same = if is_link { "own" } else { "wbl" };
            server.reconfigure(|builder| {
                builder.set("appenddirname", same).set("appendonly", appends).allow_warning("").only_own_warnings()
            });
            server.launch();
            assert!(!server.wait_exit().success(), "appendonly {appends}, {same}");
            assert!(server.log().contains("own append-only file (appenddirname)"), "appendonly {appends}, {same}");

            // With another folder all is there, and the module takes no folder later that is the server's.
            server.reconfigure(|builder| builder.set("appenddirname", "other").set("appendonly", "no"));
            server.start();
            assert_eq!(server.raw().run("GET key").text(), "value");
            server.stop();
            server.reconfigure(|builder| builder.set("appenddirname", same).set("wbl.enabled", "no"));
            server.start();
            let refused = format!("{:?}", server.raw().call(&["CONFIG", "SET", "wbl.enabled", "yes"]));
            assert!(refused.contains("appenddirname"), "{refused}");
        }
    }

    fn no_setting_brings_the_servers_append_only_file_into_the_log(version: Version) {
        let builder = ServerBuilder::with_module(version)
            .set("wbl.dir", "below/own")
            .set("appenddirname", "own")
            .set("enable-protected-configs", "yes")
            .rename("CONFIG", "SETTINGS")
            .only_own_warnings();
        let mut server = builder.start();
        let folder = server.folder();
        symlink("below", folder.join("link")).unwrap();
        let below = folder.join("below");
        let mut client = server.raw();
        client.run("SET key value");
        for dir in [below.to_str().unwrap(), "below", "link"] {
            assert_refused(&mut client, &["CONFIG", "SET", "dir", dir]);
            assert_refused(&mut client, &["CONFIG", "SET", "maxmemory", "1gb", "DIR", dir, "appendonly", "yes"]);
        }
        let script = r#"return redis.call("SETTINGS", "SET", "dir", ARGV[1])"#;
        assert!(client.call(&["EVAL", script, "0", "below"]).is_error());
        // What the folder's name stands for may change, too.
        symlink("below/own", folder.join("own")).unwrap();
        assert_refused(&mut client, &["CONFIG", "SET", "appendonly", "yes"]);
        std::fs::remove_file(folder.join("own")).unwrap();
        assert_eq!(Path::new(&client.run("CONFIG GET dir").items()[1].text()), folder);

        client.run("CONFIG SET appendonly yes");
        client.run("CONFIG SET appendonly no");
        client.run("CONFIG SET wbl.enabled no");
        assert_refused(&mut client, &["CONFIG", "SET", "dir", "below"]);
        client.run("CONFIG SET wbl.enabled yes");
        client.run("WBL.WAIT");
        client.run("SET later value");
        drop(client);
        server.kill9_and_restart();
        assert_eq!(server.raw().run("EXISTS key later").integer(), 2);
    }

    fn a_module_load_in_the_append_only_file_is_refused(version: Version) {
        for (holds_log, with_preamble) in [(false, true), (true, true), (true, false)] {
            let mut server = ServerBuilder::with_module(version).start();
            if holds_log {
                ["SET logged v", "INCR number", "DEL logged number"].iter().for_each(|command| drop(server.raw().run(command)));
            }
            server.stop();
            if !holds_log {
                fs::remove_dir_all(server.log_folder()).unwrap();
            }
            let preamble = if with_preamble { "yes" } else { "no" };
            server.builder = with_aof(version).set("aof-use-rdb-preamble", preamble).allow_warning("<wbl>");
            server.builder = server.builder.clone().allow_warning("initialization failed").allow_warning("sending an error");
            server.start();
            let mut client = server.raw();
            client.run("INCR number");
            client.run("BGREWRITEAOF");
            wait_until("the rewrite has ended", PATIENCE, || aof_is_written(&mut client));
            client.run("INCR number");
            let before = files_of(&server.log_folder());
            server.kill9();
            let module = paths::module().to_str().unwrap();
            let load = client.encoded(&["MODULE", "LOAD", module, "debug-commands", "yes"]);
            let last = last_aof(&server);
            let mut file = fs::OpenOptions::new().append(true).open(last).unwrap();
            file.write_all(&[load, client.encoded(&["INCR", "number"])].concat()).unwrap();
            for _ in 0..2 {
                server.start();
                let mut client = server.raw();
                assert_eq!(client.run("GET number").text(), "3");
                assert!(client.call(&["WBL.WAIT"]).is_error(), "the module is there");
                assert_eq!(files_of(&server.log_folder()), before, "the folder was touched");
                server.kill9();
            }
            assert!(server.log().contains("MODULE LOAD in its own append-only file"), "{}", server.log());
        }
    }

    fn a_recovery_by_module_load_leaves_no_trace_in_the_aof(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        ["SET logged v", "INCR number", "RPUSH list 1"].iter().for_each(|command| drop(server.raw().run(command)));
        server.stop();
        server.builder = with_aof(version).set("enable-module-command", "yes").allow_warning("the module is not loaded");
        server.builder = server.builder.clone().allow_warning("initialization failed").allow_warning("not applied");
        server.start();
        let mut client = server.raw();
        let module = paths::module().to_str().unwrap();
        for load in [&["MODULE", "LOAD", module][..], &["MODULE", "LOADEX", module, "CONFIG", "nobody.knows", "1"]] {
            assert!(client.call(load).is_error(), "{load:?}");
            assert_eq!(client.run("DBSIZE").integer(), 0);
            assert!(server.log().contains("appendonly no"), "{}", server.log());
        }
        assert!(!aof_has(&server, "MODULE") && !aof_has(&server, "wbl"));

        client.run("CONFIG SET appendonly no");
        client.run(&format!("MODULE LOAD {module}"));
        client.run("CONFIG SET appendonly yes");
        wait_until("the file is written", PATIENCE, || aof_is_written(&mut client));
        client.run("INCR number");
        assert!(!aof_has(&server, "MODULE") && !aof_has(&server, "wbl"));
        drop(client);
        for _ in 0..2 {
            server.kill9_and_restart();
            let mut client = server.raw();
            assert_eq!(client.run("GET number").text(), "2");
            assert_eq!(client.run("DBSIZE").integer(), 3, "{:?}", client.run("KEYS *"));
            assert!(client.call(&["WBL.WAIT"]).is_error(), "the module is there");
        }
    }

    fn the_log_ends_only_when_the_servers_own_file_is_there(version: Version) {
        for unloads in [false, true] {
            let mut server = with_module_and_aof(version).start();
            let mut client = server.raw();
            client.run("SET before v");
            drop(client);
            server.reconfigure(|builder| builder.set("rdb-key-save-delay", "3000000").set("enable-module-command", "yes"));
            server.kill9_and_restart();
            end_log_with_own_file(&mut server, unloads, "active");
        }
    }

    fn the_log_outlives_the_first_rewrite_of_the_servers_own_file(version: Version) {
        for unloads in [false, true] {
            let builder = with_module_and_aof(version).set("appendonly", "no").set("enable-module-command", "yes");
            let mut server = builder.start();
            let mut client = server.raw();
            client.run("SET before v");
            client.run("CONFIG SET rdb-key-save-delay 3000000");
            client.run("CONFIG SET appendonly yes");
            drop(client);
            end_log_with_own_file(&mut server, unloads, "active");
        }
    }

    fn a_promoted_replicas_log_outlives_the_rewrite_after_the_sync(version: Version) {
        let [port] = crate::harness::ports::free_ports::<1>();
        let primary = ServerBuilder::stock(version).set("port", &port.to_string()).start();
        primary.raw().run("SET before v");
        let builder = with_module_and_aof(version).set("rdb-key-save-delay", "3000000");
        // The server would take the file that it is sent for its own.
        let mut server = builder.set("repl-diskless-load", "swapdb").start();
        let mut client = server.raw();
        client.run(&format!("REPLICAOF 127.0.0.1 {port}"));
        let is_there = |client: &mut RawConnection| client.call(&["GET", "before"]) == Value::Bulk("v".into());
        wait_until("the primary's data are there", PATIENCE, || is_there(&mut client));
        client.run("REPLICAOF NO ONE");
        drop(client);
        // When the folder is free of the log that the server had as a replica.
        wait_until("a log begins", PATIENCE, || server.wbl_info("wbl_state") == "baselining");
        end_log_with_own_file(&mut server, false, "baselining");
    }

    fn a_shutdown_asks_for_no_file_of_the_servers_own(version: Version) {
        let mut server = with_module_and_aof(version).start();
        server.raw().run("SET key value");
        server.kill9();
        let strace = start_without_child(&mut server);
        server.stop();
        drop(strace);
        let log = server.log();
        assert!(!log.contains("OnUnload failed") && !log.contains("Failed to unload"), "{log}");
    }

    fn a_file_that_no_child_could_be_forked_for_is_begun_again(version: Version) {
        let mut server = with_module_and_aof(version).start();
        server.raw().run("SET before v");
        server.kill9();
        let strace = start_without_child(&mut server);
        let mut client = server.raw();
        let is_set = |client: &mut RawConnection| client.run("CONFIG GET appendonly").items()[1].text() == "yes";
        wait_until("it was tried again", PATIENCE, || {
            assert!(is_set(&mut client), "a CONFIG REWRITE would keep that");
            server.log().matches("Can't fork for module").count() >= 2
        });
        assert_eq!(info_field(&mut client, "persistence", "aof_enabled").as_deref(), Some("0"));
        let refused = format!("{:?}", client.call(&["CONFIG", "SET", "wbl.enabled", "no"]));
        assert!(refused.contains("append-only file"), "{refused}");
        drop(strace);
        wait_until("the file is written", PATIENCE, || aof_is_written(&mut client));
        wait_until("the log ends", PATIENCE, || !client.call(&["CONFIG", "SET", "wbl.enabled", "no"]).is_error());
        assert!(is_set(&mut client));
        client.run("SET after v");
        drop(client);
        server.builder = with_aof(version);
        server.kill9_and_restart();
        assert_eq!(server.raw().run("EXISTS before after").integer(), 2);
    }

    fn whoever_turns_the_servers_own_file_off_may_end_the_log(version: Version) {
        let mut server = with_module_and_aof(version).start();
        server.raw().run("SET before v");
        server.reconfigure(|builder| builder.set("rdb-key-save-delay", "60000000"));
        server.kill9_and_restart();
        let mut client = server.raw();
        assert!(client.call(&["CONFIG", "SET", "wbl.enabled", "no"]).is_error());
        client.run("CONFIG SET appendonly no");
        client.run("CONFIG SET wbl.enabled no");
    }

    fn the_module_is_not_loaded_where_no_start_could_bring_data_back(version: Version) {
        let without_proc = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
        let builder = ServerBuilder::with_module(version).allow_warning("");
        let mut server: Server =
            builder.run_by(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", without_proc]).prepare();
        server.launch();
        assert!(!server.wait_exit().success());
        let log = server.log();
        assert!(log.contains("the module is not loaded") && log.contains("/proc/self/fd"), "{log}");
        assert!(!server.log_folder().exists());
    }
}

fn with_aof(version: Version) -> ServerBuilder {
    ServerBuilder::stock_always(version)
        .allow_warning("takes the place")
        .allow_warning("writes none")
        .allow_warning("is not unloaded")
        .only_own_warnings()
}

pub(super) fn with_module_and_aof(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).set("appendonly", "yes").set("appendfsync", "always");
    builder
        .allow_warning("takes the place")
        .allow_warning("writes none")
        .allow_warning("is not loaded")
        .only_own_warnings()
}

/// Starts a server that was killed, with no child that could be forked, and waits until it has no file of its own.
pub(super) fn start_without_child(server: &mut Server) -> Strace {
    // The start comes by the point before it loads anything.
    fs::write(server.log_folder().join("appendonly.aof.77.base.rdb"), "left over").unwrap();
    server.reconfigure(|builder| builder.variable(VARIABLE, "remove:stop"));
    server.launch();
    server.wait_stopped();
    let strace = Strace::attach(server.process_id(), Injection::NoChild);
    server.go_on();
    server.wait_ready();
    wait_until("it is seen that there is no file", PATIENCE, || server.log().contains("writes none"));
    strace
}

/// Ends the log of a server whose own file is being written: not before that is there, so that nothing is lost.
fn end_log_with_own_file(server: &mut Server, unloads: bool, state: &str) {
    let mut client = server.raw();
    let end = if unloads { &["MODULE", "UNLOAD", "wbl"][..] } else { &["CONFIG", "SET", "wbl.enabled", "no"] };
    assert!(!aof_is_written(&mut client), "the rewrite is too quick");
    assert!(client.call(end).is_error(), "the log was given up");
    assert_eq!(server.wbl_info("wbl_state"), state);
    assert!(!aof_is_written(&mut client), "the rewrite is too quick");
    wait_until("the file is written", PATIENCE, || aof_is_written(&mut client));
    wait_until("the log ends", PATIENCE, || !client.call(end).is_error());
    client.run("SET after v");
    drop(client);
    server.builder = with_aof(server.version());
    server.kill9_and_restart();
    assert_eq!(server.raw().run("EXISTS before after").integer(), 2, "{end:?}");
}

pub(super) fn aof_is_written(client: &mut RawConnection) -> bool {
    let is =
        |client: &mut RawConnection, field, value| info_field(client, "persistence", field).as_deref() == Some(value);
    is(client, "aof_enabled", "1")
        && is(client, "aof_rewrite_in_progress", "0")
        && is(client, "aof_rewrite_scheduled", "0")
}

/// Paths and contents of the files.
fn files_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

/// The file that the server appends to.
fn last_aof(server: &Server) -> std::path::PathBuf {
    let files = fs::read_dir(server.folder().join("appendonlydir")).unwrap().map(|entry| entry.unwrap().path());
    let number = |path: &Path| path.to_str()?.strip_suffix(".incr.aof")?.rsplit('.').next()?.parse::<u32>().ok();
    files.max_by_key(|path| number(path)).unwrap()
}

fn aof_has(server: &Server, word: &str) -> bool {
    files_of(&server.folder().join("appendonlydir"))
        .iter()
        .any(|(_, bytes)| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
}

fn assert_refused(client: &mut RawConnection, command: &[&str]) {
    let reply = format!("{:?}", client.call(command));
    assert!(reply.starts_with("-ERR the server's own append-only file"), "{command:?}: {reply}");
}
