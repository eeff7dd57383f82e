//! A disk that fails while the log is written, and works again: `wbl.on-error retry`.

use crate::harness::server::info_field;
use crate::harness::strace::{Injection, Strace};
use crate::harness::writers::write_until_refused;
use crate::harness::{
    FrozenDisk, Lever, PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, dataset, each_version,
    wait_until,
};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

const FAILS: Injection = Injection::Fail { error: "EIO", from: 1 };

/// What the server says while its disk fails.
fn builder(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).set("wbl.commit-mode", "async");
    builder.allow_warning("the log can't be written").allow_warning("are disconnected")
}

/// The text of an error.
fn error(answer: &Value) -> &str {
    match answer {
        Value::Error(text) => text,
        other => panic!("no error: {other:?}"),
    }
}

fn ok() -> Value {
    Value::Simple("OK".into())
}

/// A client that has sent a SET which is not answered, and a disk that is known to fail.
fn held_writer(server: &Server, key: &str) -> RawConnection {
    let mut writer = server.raw();
    writer.send(&["SET", key, "held"]);
    wait_until("the log fails", PATIENCE, || !server.wbl_info("wbl_disk_error").is_empty());
    writer
}

fn wait_mended(server: &Server) {
    wait_until("the log is written again", PATIENCE, || server.wbl_info("wbl_disk_error").is_empty());
}

/// Has the command refused, as it would have to wait for the disk.
fn assert_refused(client: &mut RawConnection, words: &[&str]) {
    let answer = client.call(words);
    assert!(error(&answer).starts_with("MISCONF Errors writing to the write-behind log"), "{answer:?}");
}

each_version! {
    fn an_error_that_passes_at_once_is_shown_to_nobody(version: Version) {
        // Each thread's first flush fails, and its second one doesn't.
        let mut server = builder(version).set("wbl.max-inflight-flushes", "1").start();
        let (mut client, mut other) = (server.raw(), server.raw());
        let strace = Strace::attach(server.process_id(), Injection::FailOnce { error: "EIO" });
        assert_eq!(client.run("SET a 1"), ok());
        other.send_text("MULTI");
        other.send_text("INCR b");
        other.send_text("EXEC");
        (0..2).for_each(|_| drop(other.reply()));
        assert!(!other.reply().is_error());
        assert!(strace.calls().contains("INJECTED"), "no flush has failed: {}", strace.calls());
        assert_ne!(server.wbl_info("wbl_disk_errors"), "0");
        assert_eq!(server.wbl_info("wbl_disk_error"), "");
        drop(strace);
        let before = dataset::read(&mut client);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &before, "after kill -9");
    }

    fn a_disk_that_fails_holds_writes_and_serves_clean_reads(version: Version) {
        let mut server = builder(version).start();
        let (mut control, mut reader) = (server.raw(), server.raw());
        control.run("SET clean value");
        control.run("SET dirty before");
        let process = server.process_id();
        let strace = Strace::attach(process, FAILS);
        let mut writer = held_writer(&server, "dirty");
        // Two commands at once are held, too.
        let mut pipelining = server.raw();
        pipelining.send_bytes(&[pipelining.encoded(&["SET", "p", "1"]), pipelining.encoded(&["INCR", "p"])].concat()).unwrap();
        let mut dirty_reader = server.raw();
        dirty_reader.send_text("STRLEN dirty");
        let mut waiter = server.raw();
        waiter.send_text("WBL.WAIT");
        let mut script = server.raw();
        script.send(&["EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "scripted"]);
        // So are those that write what is not durable, and those that fail over it.
        let (mut second, mut failing) = (server.raw(), server.raw());
        second.send_text("SET dirty again");
        failing.send_text("LPUSH dirty element");
        for client in [&mut writer, &mut pipelining, &mut dirty_reader, &mut waiter, &mut script, &mut second, &mut failing] {
            client.assert_silent(&mut control, "while the disk fails");
        }
        assert_eq!(reader.run("GET clean").text(), "value");
        assert!(server.wbl_info("wbl_disk_error").contains("Input/output error"), "{}", server.wbl_info("wbl_disk_error"));
        assert_ne!(server.wbl_info("wbl_disk_error_since_unix_ms"), "0");
        assert_eq!(server.wbl_info("wbl_state"), "active");
        let tries = || server.wbl_info("wbl_disk_errors").parse::<u64>().unwrap();
        let before = tries();
        wait_until("it is tried again", PATIENCE, || tries() > before);

        drop(strace);
        assert_eq!(writer.reply(), ok());
        assert_eq!(dirty_reader.reply(), Value::Integer(4));
        assert_eq!((pipelining.reply(), pipelining.reply()), (ok(), Value::Integer(2)));
        assert_eq!((script.reply(), second.reply()), (ok(), ok()));
        assert!(error(&failing.reply()).starts_with("WRONGTYPE"));
        assert!(!waiter.reply().is_error());
        wait_mended(&server);
        assert_eq!(server.wbl_info("wbl_disk_error_since_unix_ms"), "0");
        assert!(server.log().contains("the log is written again"), "{}", server.log());
        control.run("SET after mended");
        assert_eq!(server.process_id(), process);
        let before = dataset::read(&mut control);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &before, "after kill -9");
    }

    fn what_cannot_be_held_is_refused_while_the_disk_fails(version: Version) {
        let mut server = builder(version).start();
        let (mut control, mut client) = (server.raw(), server.raw());
        control.run("SET clean value");
        control.run("SADD set one two");
        let mut queued = server.raw();
        queued.run("MULTI");
        queued.run("SET queued 1");
        let strace = Strace::attach(server.process_id(), FAILS);
        let mut writer = held_writer(&server, "dirty");
        let mut tracking = server.raw();
        tracking.run("HELLO 3");
        tracking.run("CLIENT TRACKING ON");
        assert_refused(&mut tracking, &["SET", "tracked", "1"]);
        assert_refused(&mut tracking, &["GET", "dirty"]);
        // What the module runs waits in the loop, too.
        assert_refused(&mut tracking, &["SPOP", "set"]);
        assert_eq!(tracking.run("GET clean").text(), "value");
        // A transaction is refused as a whole if it writes, or shows what is not durable.
        let answer = queued.call(&["EXEC"]);
        assert!(error(&answer).starts_with("EXECABORT"), "{answer:?}");
        for (command, runs) in [("GET dirty", false), ("GET clean", true)] {
            client.run("MULTI");
            client.run(command);
            let answer = client.call(&["EXEC"]);
            assert_eq!(!answer.is_error(), runs, "{command}: {answer:?}");
        }
        drop(strace);
        assert_eq!(writer.reply(), ok());
        wait_mended(&server);
        for words in [&["SET", "tracked", "2"][..], &["GET", "dirty"]] {
            assert!(!tracking.call(words).is_error());
        }
        client.run("MULTI");
        client.run("SET after mended");
        assert!(!client.call(&["EXEC"]).is_error());
        dataset::assert_survives(&mut server, "after kill -9");
    }

    fn beyond_the_bound_writes_are_refused_while_the_disk_fails(version: Version) {
        let server = builder(version).set("wbl.max-pending-bytes", "64kb").start();
        let mut control = server.raw();
        control.run("SET clean value");
        let strace = Strace::attach(server.process_id(), FAILS);
        let mut held = vec![held_writer(&server, "first")];
        let mut client = write_until_refused(&server, &mut control, &mut held, 12);
        assert!(error(&client.reply()).starts_with("MISCONF"));
        assert!(held.len() > 5, "{} writes are held", held.len());
        assert_refused(&mut client, &["DEL", "clean"]);
        assert_refused(&mut client, &["EVAL", "return redis.call('DEL', KEYS[1])", "1", "clean"]);
        assert_eq!(client.run("GET clean").text(), "value");
        drop(strace);
        held.iter_mut().for_each(|client| assert_eq!(client.reply(), ok()));
        assert_eq!(client.run("DEL clean"), Value::Integer(1));
    }

    fn a_reply_that_is_written_as_the_disk_fails_never_leaves(version: Version) {
        for mode in ["async", "inline"] {
            let mut server = builder(version).set("wbl.commit-mode", mode).start();
            let (mut control, mut client) = (server.raw(), server.raw());
            for number in 0..40 {
                control.run(&format!("SET key:{number} v"));
            }
            let commands: Vec<u8> = [&["MULTI"][..], &["SET", "lost", "1"], &["EXEC"]].iter().flat_map(|words| client.encoded(words)).collect();
            let strace = Strace::attach(server.process_id(), FAILS);
            client.send_bytes(&commands).unwrap();
            while let Ok(answer) = client.try_reply() {
                assert!(matches!(answer, Value::Simple(_)), "{mode}: EXEC was acknowledged: {answer:?}");
            }
            // Nobody else is concerned.
            assert_eq!(control.run("GET key:0").text(), "v");
            assert!(server.log().contains("1 clients are disconnected"), "{mode}: {}", server.log());
            drop(strace);
            wait_mended(&server);
            control.run("SET after mended");
            dataset::assert_survives(&mut server, mode);
        }
    }

    fn a_server_that_is_killed_while_its_disk_fails_has_all_that_was_shown(version: Version) {
        let mut server = builder(version).start();
        let mut client = server.raw();
        (0..50).for_each(|number| drop(client.run(&format!("SET key:{number} v"))));
        {
            let _strace = Strace::attach(server.process_id(), FAILS);
            let _writer = held_writer(&server, "lost");
            server.kill9();
        }
        server.start();
        let mut client = server.raw();
        let count = client.run("DBSIZE").integer();
        assert!((50..=51).contains(&count), "{count} keys");
        // And once more after it has gone on.
        let strace = Strace::attach(server.process_id(), FAILS);
        let mut writer = held_writer(&server, "kept");
        drop(strace);
        assert_eq!(writer.reply(), ok());
        {
            let _strace = Strace::attach(server.process_id(), FAILS);
            let _writer = held_writer(&server, "lost again");
            server.kill9();
        }
        server.start();
        assert_eq!(server.raw().run("GET kept").text(), "held");
    }

    fn clients_that_have_gone_do_not_pile_up_while_the_disk_fails(version: Version) {
        let server = builder(version).start();
        let mut control = server.raw();
        control.run("SET clean value");
        let strace = Strace::attach(server.process_id(), FAILS);
        let mut writer = held_writer(&server, "k");
        let waiting = || server.wbl_info("wbl_clients_waiting_ack").parse::<usize>().unwrap();
        let used_memory = |control: &mut RawConnection| {
            info_field(control, "memory", "used_memory").unwrap().parse::<u64>().unwrap()
        };
        wait_until("the writer waits", PATIENCE, || waiting() == 1);
        let mut before = None;
        for round in 0..5 {
            let mut clients: Vec<RawConnection> = (0..80).map(|_| server.raw()).collect();
            for (number, client) in clients.iter_mut().enumerate() {
                let key = format!("{round}:{number}");
                match number % 4 {
                    0 => client.send_text("STRLEN k"),
                    1 => client.send(&["SET", &key, "v"]),
                    2 => client.send(&["EVAL", "return redis.call('SET', KEYS[1], '1')", "1", &key]),
                    _ => client.send_text("WBL.WAIT"),
                }
            }
            wait_until("all of them wait", PATIENCE, || waiting() == 81);
            drop(clients);
            wait_until("nobody waits who has gone", PATIENCE, || waiting() == 1);
            wait_until("the server has freed them", PATIENCE, || {
                info_field(&mut control, "clients", "connected_clients").as_deref() == Some("2")
            });
            // The server keeps some clients of its own for later.
            before.get_or_insert(used_memory(&mut control));
        }
        // For each of the 320 since it would keep 33 kB.
        let grown = used_memory(&mut control).saturating_sub(before.unwrap_or_default());
        assert!(grown < 2_000_000, "{grown} bytes are kept for clients that have gone");
        writer.assert_silent(&mut control, "while the disk fails");

        drop(strace);
        assert_eq!(writer.reply(), ok());
        wait_mended(&server);
        assert_eq!(waiting(), 0);
        assert_eq!(info_field(&mut control, "clients", "blocked_clients").as_deref(), Some("0"));
        // What they wrote stands.
        assert_eq!(control.run("DBSIZE"), Value::Integer(2 + 5 * 40));
    }

    fn a_time_out_on_a_failing_disk_disconnects_nobody_else(version: Version) {
        let server = builder(version).set("io-threads", "4").start();
        let (mut control, mut reader) = (server.raw(), server.raw());
        control.run("SET clean value");
        control.run("RPUSH queue job");
        let disk = FrozenDisk::freeze(Lever::Sync, &server, &mut control);
        let (mut writer, mut waiter) = (server.raw(), server.raw());
        writer.send_text("DEL queue");
        wait_until("the writer waits", PATIENCE, || server.wbl_info("wbl_clients_waiting_ack") == "1");
        let strace = Strace::attach(server.process_id(), FAILS);
        // It finds what is not durable before the disk is known to fail, and shows it when its time is over.
        waiter.send_text("BLPOP queue 2");
        wait_until("it waits", PATIENCE, || {
            info_field(&mut control, "clients", "blocked_clients").as_deref() == Some("2")
        });
        disk.thaw(&mut control);
        assert!(waiter.try_reply().is_err(), "it was shown a change that is not durable");
        assert!(server.log().contains("1 clients are disconnected"), "{}", server.log());
        for client in [&mut control, &mut reader] {
            assert_eq!(client.run("GET clean").text(), "value");
        }
        drop(strace);
        assert_eq!(writer.reply(), Value::Integer(1));
    }

    fn a_full_disk_holds_writes_until_it_has_room_again(version: Version) {
        let mut server = builder(version).set("wbl.segment-bytes", "64kb").allow_warning("writes are refused until there is room").start();
        server.raw().run("SET kept v");
        server.stop();
        let on_small_disk = "mount -t tmpfs -o size=1m none /mnt && cp -a \"$WBL\"/. /mnt && mount --bind /mnt \"$WBL\" && exec \"$0\" \"$@\"";
        let folder = server.log_folder();
        server.reconfigure(|builder| {
            let builder = builder.variable("WBL", folder.to_str().unwrap());
            builder.run_by(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", on_small_disk])
        });
        server.start();
        let mut client = server.raw();
        let filler = PathBuf::from(format!("/proc/{}/root/{}/filler", server.process_id(), folder.display()));
        for round in 0..3 {
            client.run(&format!("SET round {round}"));
            let mut file = File::create(&filler).unwrap();
            while file.write_all(&[b'x'; 4096]).is_ok() {}
            drop(file);
            let value = "v".repeat(8000);
            let mut number = 0;
            while server.wbl_info("wbl_disk_error").is_empty() {
                client.send(&["SET", &format!("key:{round}:{number}"), &value]);
                wait_until("it is answered, or the disk is full", PATIENCE, || {
                    client.ready_reply().is_some() || !server.wbl_info("wbl_disk_error").is_empty()
                });
                number += 1;
            }
            assert!(server.wbl_info("wbl_disk_error").contains("No space left"), "{}", server.wbl_info("wbl_disk_error"));
            assert_eq!(server.raw().run("GET kept").text(), "v");
            fs::remove_file(&filler).unwrap();
            wait_mended(&server);
            client = server.raw();
        }
        client.run("WBL.CHECKPOINT");
        let before = dataset::read(&mut client);
        let copied = Command::new("cp").args(["-a", &format!("{}/.", filler.parent().unwrap().display())]).arg(&folder).status();
        assert!(copied.unwrap().success());
        server.kill9();
        server.reconfigure(|builder| builder.run_by(&[]));
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &before, "after a full disk");
    }

    fn a_shutdown_while_the_disk_fails_acknowledges_nothing(version: Version) {
        let mut server = builder(version).allow_warning("the log could not be closed").allow_warning("Restoring previous settings").start();
        let mut control = server.raw();
        control.run("SET kept v");
        let strace = Strace::attach(server.process_id(), FAILS);
        let mut writer = held_writer(&server, "lost");
        assert!(control.call(&["CONFIG", "SET", "wbl.enabled", "no"]).is_error());
        control.send_text("SHUTDOWN NOSAVE");
        assert!(writer.try_reply().is_err(), "it was acknowledged");
        assert_eq!(server.wait_exit().code(), Some(1), "{}", server.log());
        drop(strace);
        server.start();
        assert_eq!(server.raw().run("GET kept").text(), "v");
    }
}
