//! What operators see: whether data are safe, how far the log is behind, how long flushes take, why replies wait.

use crate::harness::server::info_field;
use crate::harness::{Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Value, Version, each_version, wait_until};
use crate::leaks::tracker;

/// The value of a map's entry.
fn entry(map: &Value, name: &str) -> Value {
    let of = |key: &Value| *key == Value::Bulk(name.as_bytes().to_vec());
    match map {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| of(key)).map(|(_, value)| value.clone()),
        flat => flat.items().chunks(2).find(|pair| of(&pair[0])).map(|pair| pair[1].clone()),
    }
    .unwrap_or_else(|| panic!("no {name} in {map:?}"))
}

fn field(client: &mut RawConnection, name: &str) -> String {
    info_field(client, "wbl", name).unwrap_or_else(|| panic!("INFO wbl has no {name}"))
}

fn number(client: &mut RawConnection, name: &str) -> u64 {
    field(client, name).parse().unwrap_or_else(|_| panic!("{name} is no number"))
}

each_version! {
    fn lag_grows_while_the_disk_stands_still_and_ends_with_that(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["SET k v"]);
        scene.control.run("HELLO 3");
        let lag = scene.control.run("WBL.LAG");
        assert_eq!((entry(&lag, "lag_bytes").integer(), entry(&lag, "lag_ms").integer()), (0, 0));
        scene.freeze_by(Lever::Sync);
        let mut writer = scene.held("SET k other");
        wait_until("the lag grows", PATIENCE, || entry(&scene.control.run("WBL.LAG"), "lag_ms").integer() >= 20);
        let lag = scene.control.run("WBL.LAG");
        let of = |name: &str| entry(&lag, name).integer();
        assert_eq!(of("lag_bytes"), of("appended") - of("durable"));
        assert!(of("lag_bytes") > 20 && of("pending_bytes") == of("lag_bytes"), "{lag:?}");
        assert_eq!((of("held_replies"), of("dirty_keys")), (1, 1));
        assert!(number(&mut scene.control, "wbl_lag_ms") >= 20);
        scene.thaw();
        assert_eq!(writer.reply().text(), "OK");
        assert_eq!(entry(&scene.control.run("WBL.LAG"), "lag_ms").integer(), 0);
        scene.end();
    }

    fn the_latency_monitor_has_the_flushes_and_the_waits_of_the_loop(version: Version) {
        let mut scene = Scene::start(version);
        scene.control.run("CONFIG SET latency-monitor-threshold 20");
        let events = |client: &mut RawConnection| format!("{:?}", client.run("LATENCY LATEST"));
        assert!(!events(&mut scene.control).contains("wbl-"));
        scene.freeze_by(Lever::Sync);
        let mut writer = scene.held("SET k v");
        wait_until("the flush takes long", PATIENCE, || number(&mut scene.control, "wbl_lag_ms") >= 40);
        scene.thaw();
        writer.reply();
        wait_until("the flush is told", PATIENCE, || events(&mut scene.control).contains("wbl-fsync"));
        assert!(!events(&mut scene.control).contains("wbl-loop-wait"));
        let mut client = scene.server.raw();
        scene.until_loop_waits(|_| client.send_bytes(b"MULTI\r\nSET k w\r\nEXEC\r\n").expect("sent"));
        (0..3).for_each(|_| drop(client.reply()));
        wait_until("the wait is told", PATIENCE, || events(&mut scene.control).contains("wbl-loop-wait"));
        assert!(number(&mut scene.control, "wbl_wait_usec_transaction") >= 20_000);
        assert!(number(&mut scene.control, "wbl_loop_wait_usec") >= 20_000);
        assert!(number(&mut scene.control, "wbl_loop_wait_max_usec") >= 20_000);
        scene.end();
    }

    fn flushes_are_counted_by_how_long_they_take(version: Version) {
        let mut scene = Scene::start(version);
        for number in 0..50 {
            scene.control.run(&format!("SET k {number}"));
        }
        let control = &mut scene.control;
        let histogram = field(control, "wbl_flush_usec_histogram");
        let counts: Vec<(u64, u64)> = histogram
            .split(',')
            .map(|part| part.split_once('=').expect("LIMIT=COUNT"))
            .map(|(limit, count)| (limit.parse().expect("a limit"), count.parse().expect("a count")))
            .collect();
        assert!(counts.is_sorted() && counts.iter().all(|(limit, _)| limit.is_power_of_two()), "{histogram}");
        assert!(counts.last().is_some_and(|(_, count)| *count >= 50), "{histogram}");
        let [half, most, longest] = ["p50", "p99", "max"].map(|name| number(control, &format!("wbl_flush_{name}_usec")));
        assert!(half > 0 && half <= most && longest > 0 && longest < counts.last().expect("one").0, "{half} {most} {longest}");
        let per_flush: f64 = field(control, "wbl_writes_per_flush").parse().expect("a number");
        assert!((0.5..=1.0).contains(&per_flush), "{per_flush}");
        assert!(number(control, "wbl_replies_held_in_event") >= 50);
        scene.end();
    }

    fn status_says_in_words_whether_data_are_safe(version: Version) {
        let server = ServerBuilder::with_module(version).allow_warning("wbl.max-log-bytes").start();
        let mut client = server.raw();
        let mut words = || {
            let status = client.run("WBL.STATUS");
            ["safe", "safe_why", "safe_advice"].map(|name| entry(&status, name).text())
        };
        assert_eq!(words(), ["yes", "all that is acknowledged is on the disk", ""]);
        server.raw().run("CONFIG SET wbl.enabled no");
        assert_eq!(words(), ["no", "wbl.enabled is no: nothing is logged", "CONFIG SET wbl.enabled yes"]);
        server.raw().run("CONFIG SET wbl.enabled yes");
        server.raw().run("WBL.WAIT");
        server.raw().run("CONFIG SET wbl.max-log-bytes 1");
        let [safe, why, advice] = words();
        assert_eq!((safe.as_str(), advice.is_empty()), ("yes", false), "{why}; {advice}");
        server.raw().run("CONFIG SET wbl.max-log-bytes 0");
        server.raw().run("WBL.DEBUG PAUSE");
        assert_eq!(words()[2], "WBL.DEBUG RESUME");
        server.raw().run("WBL.DEBUG RESUME");
        assert_eq!(words()[0], "yes");
    }

    fn help_names_every_command_that_users_send(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        let lines: Vec<String> = client.run("WBL.HELP").items().iter().map(Value::text).collect();
        assert_eq!(lines[0], "WBL.<command> [<arg> [value] [opt] ...]. Commands are:");
        let internal = ["wbl.call", "wbl.read", "wbl.collect", "wbl.eval", "wbl.eval_ro", "wbl.refused", "wbl.waitaof"];
        let commands: Vec<String> = client.run("COMMAND LIST FILTERBY MODULE wbl").items().iter().map(Value::text).collect();
        assert!(commands.len() > 10, "{commands:?}");
        for command in commands {
            let is_named = lines.iter().any(|line| line.to_lowercase().split(' ').next() == Some(&command));
            assert!(is_named || internal.contains(&command.as_str()), "{command}");
            assert!(format!("{:?}", client.run(&format!("COMMAND DOCS {command}"))).contains("summary"), "{command}");
        }
    }

    fn explain_says_how_a_reply_would_be_kept(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["SET clean v"]);
        let mut client = scene.server.raw();
        let explain = |client: &mut RawConnection, command: &str| {
            let told = client.run(&format!("WBL.DEBUG EXPLAIN {command}"));
            assert!(!entry(&told, "text").text().is_empty());
            [entry(&told, "way").text(), entry(&told, "reason").text()]
        };
        let cases = [
            ("SET k v", ["held", ""]), ("GET clean", ["at-once", ""]), ("PING", ["at-once", ""]),
            ("EVAL return(1) 0", ["module", ""]), ("EXEC", ["loop", "transaction"]), ("XACK s g 1-1", ["module", ""]),
            ("no-such-command", ["refused", ""]), ("SET", ["refused", ""]),
        ];
        for (command, expected) in cases {
            assert_eq!(explain(&mut client, command), expected, "{command}");
        }
        let mut tracking = tracker(&scene.server);
        assert_eq!(explain(&mut tracking, "SET k v"), ["loop", "tracking"]);
        scene.freeze_by(Lever::Sync);
        let mut writer = scene.held("HSET dirty f v");
        assert_eq!(explain(&mut client, "HGETALL dirty"), ["module", ""]);
        assert_eq!(explain(&mut client, "HGETALL clean"), ["at-once", ""]);
        assert_eq!(explain(&mut tracking, "HGETALL dirty"), ["loop", "tracking"]);
        scene.thaw();
        writer.reply();
        // Nothing of it has run, and nothing of it is left.
        assert_eq!(client.run("EXISTS k").integer(), 0);
        assert!(client.call(&["WBL.DEBUG", "EXPLAIN"]).is_error());
        scene.end();
        let server = ServerBuilder::with_module(version).unset("wbl.debug-commands").start();
        assert_eq!(explain(&mut server.raw(), "PING"), ["at-once", ""]);
        let refusal = format!("{:?}", server.raw().call(&["WBL.DEBUG", "PAUSE"]));
        assert!(refusal.contains("not allowed"), "{refusal}");
    }
}
