//! Pipelines, and disks that are slow instead of paused: replies leave in order, each as soon as it may, and no sooner.

use crate::harness::resp::encode;
use crate::harness::scene::split;
use crate::harness::{
    Injection, Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Strace, Value, Version, each_lever, each_version,
    wait_until,
};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A flush of the slow disk takes this long.
const SLOW: Duration = Duration::from_millis(150);

each_lever! {
    // What docs/limits.md says about the end of input: the server frees a client that is held.
    fn a_client_whose_input_ends_while_it_is_held_gets_nothing_and_leaves_its_first_write(version: Version, lever: Lever) {
        for commands in [vec!["INCR n"], vec!["INCR n"; 50]] {
            let mut scene = Scene::start(version).with_lever(lever);
            scene.prepare(&["SET n 0"]);
            scene.freeze();
            let mut stream = UnixStream::connect(scene.server.socket()).expect("a connection");
            let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(&split(command))).collect();
            scene.server.in_one_iteration(|| {
                stream.write_all(&bytes).expect("the server takes the commands");
                stream.shutdown(Shutdown::Write).expect("an end of input");
            });
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("the end of the connection");
            assert_eq!(answer.escape_ascii().to_string(), "");
            let mut server = scene.end();
            server.kill9_and_restart();
            assert_eq!(server.raw().run("GET n").text(), "1");
        }
    }

    fn a_deep_pipeline_is_held_from_its_first_dirty_reply_on_and_then_sends_the_stock_servers_bytes(version: Version, lever: Lever) {
        let setup = ["SET clean c", "SET n 1", "RPUSH l a b c", "SET old o"];
        let mut commands: Vec<String> = (0..20).map(|_| "GET clean".into()).collect();
        for number in 0..150 {
            commands.extend([
                format!("SET k{} v{number}", number % 7),
                "INCR n".into(),
                "GET clean".into(),
                format!("GET k{}", number % 5),
                "LPOP l".into(),
                "SETNX old x".into(),
                "DBSIZE".into(),
                "NOSUCH command".into(),
            ]);
            if number % 10 == 0 {
                commands.extend(["MULTI", "INCR n", "GET n", "EXEC", "ECHO end"].map(String::from));
                commands.push("EVAL \"return {redis.call('INCR','n'),redis.call('GET','clean')}\" 0".into());
                commands.extend([format!("RPUSH l {number}"), "XACK none g 1-1".into(), "SPOP none".into()]);
            }
        }
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(&split(command))).collect();
        let replies = |client: &mut RawConnection, count: usize| -> Vec<u8> {
            let reply = |_| {
                client.reply();
                client.last_bytes().to_vec()
            };
            (0..count).flat_map(reply).collect()
        };

        let stock = ServerBuilder::stock(version).start();
        let mut client = stock.raw();
        setup.iter().for_each(|command| drop(client.run(command)));
        client.send_bytes(&bytes).unwrap();
        let expected = replies(&mut client, commands.len());

        for threads in ["1", "4"] {
            let mut scene = Scene::of(ServerBuilder::with_module(version).set("io-threads", threads)).with_lever(lever);
            scene.prepare(&setup);
            scene.freeze();
            let mut client = scene.server.raw();
            client.send_bytes(&bytes).unwrap();
            let mut found = replies(&mut client, 20);
            scene.assert_withheld(&mut client, "the pipeline behind its first write");
            scene.thaw();
            found.extend(replies(&mut client, commands.len() - 20));
            let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
            let end = differs.map_or(0, |at| (at + 40).min(found.len()));
            let start = differs.unwrap_or(0).saturating_sub(40);
            assert!(found == expected, "{threads} threads: {} at {differs:?}", found[start..end].escape_ascii());
            scene.end();
        }
    }

    fn the_replies_of_a_pipeline_leave_step_by_step(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET clean c", "SET k old"]);
        let mut client = scene.server.raw();
        for step in 0..5 {
            scene.freeze();
            let commands = ["GET clean".to_string(), format!("SET k {step}"), "GET clean".into(), "GET k".into()];
            commands.iter().for_each(|command| client.send_text(command));
            assert_eq!(client.reply().text(), "c");
            scene.assert_withheld(&mut client, "what follows the write");
            client.send_text("ECHO more");
            scene.assert_withheld(&mut client, "what is sent later");
            scene.thaw();
            let replies: Vec<String> = (0..4).map(|_| client.reply().text()).collect();
            assert_eq!(replies, ["OK", "c", &step.to_string(), "more"]);
        }
        scene.end();
    }

    fn a_pipeline_of_writes_needs_few_flushes(version: Version, lever: Lever) {
        let scene = Scene::of(ServerBuilder::with_module(version)).with_lever(lever);
        let mut client = scene.server.raw();
        let strace = Strace::attach(scene.server.process_id(), Injection::Delay(Duration::from_millis(20)));
        let before = strace.flush_count();
        let bytes: Vec<u8> = (0..100).flat_map(|number| encode(&["SET", "k", &number.to_string()])).collect();
        for _ in 0..2 {
            client.send_bytes(&bytes).unwrap();
            (0..100).for_each(|_| assert_eq!(client.reply(), Value::Simple("OK".into())));
        }
        let flushes = strace.flush_count() - before;
        assert!(flushes < 40, "{flushes} flushes for 2 pipelines of 100 writes");
    }

    fn a_reader_waits_for_the_change_that_it_saw_and_not_for_later_ones(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET clean c"]);
        let clients: Vec<RawConnection> = (0..4).map(|_| scene.server.raw()).collect();
        let [mut first, mut second, mut reader, mut clean] = <[RawConnection; 4]>::try_from(clients).ok().unwrap();
        let strace = Strace::attach(scene.server.process_id(), Injection::Delay(SLOW));
        let before = strace.flush_count();
        first.send_text("SET a 1");
        scene.assert_withheld(&mut first, "the first write");
        // Its flush is under way by now, so that this one waits for the next.
        second.send_text("SET b 1");
        scene.assert_withheld(&mut second, "the second write");
        reader.send_text("GET a");
        scene.assert_withheld(&mut reader, "the read");
        assert_eq!(clean.run("GET clean").text(), "c");
        assert_eq!(reader.reply().text(), "1");
        assert!(second.ready_reply().is_none(), "the reader waited for the other key's change");
        assert_eq!(first.reply(), Value::Simple("OK".into()));
        assert_eq!(second.reply(), Value::Simple("OK".into()));
        assert!(strace.flush_count() - before >= 2);
    }

    // However often the key is written meanwhile.
    fn many_readers_of_a_hot_key_wait_for_few_flushes_and_others_for_none(version: Version, lever: Lever) {
        // Flushes that overlap would be many for one wait.
        let builder = ServerBuilder::with_module(version).set("wbl.max-inflight-flushes", "1");
        let mut scene = Scene::of(builder).with_lever(lever);
        let mut control = scene.server.raw();
        control.run("SET clean c");
        let mut writers: Vec<RawConnection> = (0..8).map(|_| scene.server.raw()).collect();
        let mut readers: Vec<RawConnection> = (0..50).map(|_| scene.server.raw()).collect();
        let _strace = Strace::attach(scene.server.process_id(), Injection::Delay(SLOW));
        let before = scene.gauge("wbl_log_syncs");
        writers.iter_mut().for_each(|writer| writer.send_text("INCR hot"));
        readers.iter_mut().for_each(|reader| reader.send_text("GET hot"));
        let mut served = 0;
        wait_until("the readers are served", PATIENCE, || {
            assert_eq!(control.run("GET clean").text(), "c");
            served += 1;
            for writer in &mut writers {
                if writer.ready_reply().is_some() {
                    writer.send_text("INCR hot");
                }
            }
            readers.retain_mut(|reader| reader.ready_reply().is_none());
            readers.is_empty()
        });
        let flushes = scene.gauge("wbl_log_syncs") - before;
        // The first may have begun before, with none of it.
        assert!(flushes <= 4, "readers of the hot key waited for {flushes} flushes");
        assert!(served > flushes, "{served} clean reads while there were {flushes} flushes");
    }
}

each_version! {
    // Where the loop would have to wait for each write, the client that pipelines is held like any other.
    fn a_pipeline_whose_writes_cannot_share_a_flush_holds_up_nobody_else(version: Version) {
        for io_threads in [true, false] {
            let builder = ServerBuilder::with_module(version).set("wbl.commit-mode", "async");
            let mut scene = Scene::of(builder.set("io-threads", if io_threads { "4" } else { "1" }));
            scene.control.call(&["SET", "large", &"x".repeat(1_000_000)]);
            scene.prepare(&["SET clean c"]);
            let mut client = scene.server.raw();
            let writes: Vec<u8> = (0..20).flat_map(|number| encode(&["INCR", &format!("n{}", number % 2)])).collect();
            client.send_bytes(&writes).expect("a pipeline");
            (0..20).for_each(|_| drop(client.reply()));
            let reads = if io_threads { 0 } else { 40 };
            (0..reads).for_each(|_| client.send(&["GET", "large"]));
            wait_until("output is left", PATIENCE, || {
                io_threads || scene.control.run("CLIENT LIST").text().contains(" events=rw")
            });
            scene.freeze_by(Lever::Sync);
            client.send_bytes(&writes).expect("a pipeline");
            scene.settle();
            let mut other = scene.server.raw().with_patience(SLOW * 10);
            let answer = other.call(&["GET", "clean"]);
            scene.thaw();
            assert_eq!(answer.text(), "c", "while the disk stands still; I/O threads: {io_threads}");
            (0..reads).for_each(|_| assert_eq!(client.reply().text().len(), 1_000_000));
            let last: Vec<i64> = (0..20).map(|_| client.reply().integer()).collect();
            assert_eq!(last, (0..20).map(|number| 11 + number / 2).collect::<Vec<_>>());
            scene.end();
        }
    }

    fn a_pipeline_that_selects_databases_shares_its_flushes(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        client.run("SET warm up");
        let waits = || server.wbl_info("wbl_inline_waits").parse::<u64>().expect("a number");
        let before = waits();
        let commands: Vec<&str> = ["SELECT 1", "SET k v", "MULTI", "SELECT 2", "SET k v", "EXEC"].repeat(50);
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(&split(command))).collect();
        client.send_bytes(&bytes).expect("the server takes them");
        commands.iter().for_each(|_| assert!(!client.reply().is_error()));
        let count = waits() - before;
        assert!(count < 20, "{count} waits for 100 changes");
    }
}
