//! The harness itself: what it must notice, on servers without the module.

use crate::harness::server::info_field;
use crate::harness::{
    Injection, PATIENCE, ServerBuilder, Strace, Value, Version, commands, dataset, each_version, log_watch, samples,
};
use redis::Commands;
use std::time::{Duration, Instant};

each_version! {
    fn an_acknowledged_write_of_a_stock_server_with_appendfsync_always_survives_kill_9(version: Version) {
        let mut server = ServerBuilder::stock_always(version).start();
        let _: () = server.connect().set("key", "value").unwrap();
        server.kill9_and_restart();
        assert_eq!(server.connect().get::<_, String>("key").unwrap(), "value");
        server.stop_and_restart();
        assert_eq!(server.connect().get::<_, String>("key").unwrap(), "value");
    }

    fn a_held_reply_is_told_from_one_that_arrives(version: Version) {
        let server = ServerBuilder::stock(version).start();
        let (mut held, mut witness) = (server.raw(), server.raw());
        held.send(&["BLPOP", "list", "0"]);
        held.assert_silent(&mut witness, "BLPOP of an empty list");
        assert_eq!(witness.run("RPUSH list element"), Value::Integer(1));
        assert_eq!(format!("{:?}", held.reply()), r#"["list", "element"]"#);

        held.send(&["PING"]);
        let noticed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            held.assert_silent(&mut witness, "PING");
        }));
        assert!(noticed.is_err(), "the reply to PING went unnoticed");
    }

    fn injected_delays_and_errors_reach_the_flushes_of_the_server(version: Version) {
        let mut server = ServerBuilder::stock_always(version).allow_warning("Can't persist AOF for fsync error").start();
        let mut client = server.raw();
        let delay = Duration::from_millis(200);
        {
            let strace = Strace::attach(server.process_id(), Injection::Delay(delay));
            let start = Instant::now();
            client.run("SET key 1");
            assert!(start.elapsed() >= delay, "the write took {:?}", start.elapsed());
            assert!(strace.flush_count() > 0);
        }
        client.run("SET key 2");
        let _strace = Strace::attach(server.process_id(), Injection::Fail { error: "EIO", from: 1 });
        client.send(&["SET", "key", "3"]);
        assert!(client.try_reply().is_err(), "a write was acknowledged that is not on disk");
        assert_eq!(server.wait_exit().code(), Some(1));
    }

    fn every_case_of_the_command_table_changes_data(version: Version) {
        let server = ServerBuilder::stock(version).start();
        let changes = || info_field(&mut server.raw(), "persistence", "rdb_changes_since_last_save");
        for case in commands::cases(&mut server.raw()) {
            if case.excluded.is_some() {
                continue;
            }
            let mut client = server.raw();
            client.run("FLUSHALL");
            client.run("FUNCTION FLUSH");
            let words = case.prepare(&mut client);
            let before = changes();
            client.call(&words);
            assert_ne!(changes(), before, "{case:?}");
        }
    }

    fn the_sample_dataset_survives_in_a_stock_server(version: Version) {
        let mut server = ServerBuilder::stock_always(version).start();
        samples::fill(&mut server.raw(), version);
        let before = dataset::read(&mut server.raw());
        assert!(before.len() > 25, "{before:?}");
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &before, "after kill -9");
    }

    fn a_dataset_comparison_sees_values_expiry_times_groups_and_functions(version: Version) {
        let server = ServerBuilder::stock(version).start();
        let mut client = server.raw();
        let mut last = dataset::read(&mut client);
        assert!(last.is_empty());
        let changes = [
            "SET key value PXAT 9000000000000",
            "PEXPIREAT key 9000000000001",
            "SELECT 9",
            "SET key value",
            "SELECT 0",
            "XADD stream 1-1 f v",
            "XGROUP CREATE stream group 0",
            "XREADGROUP GROUP group consumer STREAMS stream >",
            "XACK stream group 1-1",
            "FUNCTION LOAD #!lua\u{a0}name=l\nserver.register_function('f',function()end)",
        ];
        for change in changes {
            let words: Vec<String> = change.split(' ').map(|word| word.replace('\u{a0}', " ")).collect();
            assert!(!client.call(&words).is_error(), "{change}");
            if change.starts_with("SELECT") {
                continue;
            }
            let now = dataset::read(&mut server.raw());
            assert_ne!(now, last, "{change}");
            last = now;
        }
    }
}

#[test]
fn warnings_and_crash_reports_in_a_log_are_noticed() {
    let log = "1:M 22 Nov 2026 16:33:57.432 * Ready\n\
               1:M 22 Nov 2026 16:33:57.432 # WARNING Memory overcommit must be enabled! More\n\
               1:M 22 Nov 2026 16:33:57.432 # Something is wrong\n\
               1:C 22 Nov 2026 16:33:57.432 # Known\n\
               thread '<unnamed>' panicked at src/lib.rs:1:1\n\
               1:M 22 Nov 2026 16:33:57.432 * a # in the text";
    let found = log_watch::complaints(log, &["Known".into()]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with("Something is wrong") && found[1].contains("panicked at"), "{found:?}");
}

#[test]
fn waiting_in_vain_ends_with_a_failure() {
    let waited = std::panic::catch_unwind(|| {
        crate::harness::wait_until("nothing", Duration::from_millis(20), || false);
    });
    assert!(waited.is_err());
    assert!(PATIENCE > Duration::from_secs(1));
}
