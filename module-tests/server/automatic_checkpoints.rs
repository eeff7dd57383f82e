//! Checkpoints that begin by themselves as the log has outgrown its base.

use crate::harness::process::{children, send_signal};
use crate::harness::server::info_field;
use crate::harness::{
    Injection, PATIENCE, RawConnection, Server, ServerBuilder, Strace, Value, Version, dataset, each_version,
    wait_until,
};
use std::fs;
use std::time::{Duration, Instant};

const MIN_BYTES: u64 = 100 << 10;

/// No checkpoint begins by itself before [`allow`].
fn builder(version: Version) -> ServerBuilder {
    ServerBuilder::with_module(version)
        .set("rdbcompression", "no")
        .set("wbl.checkpoint-min-bytes", &MIN_BYTES.to_string())
        .set("wbl.checkpoint-percentage", "0")
}

fn allow(client: &mut RawConnection) {
    client.run("CONFIG SET wbl.checkpoint-percentage 100");
}

fn number(client: &mut RawConnection, field: &str) -> u64 {
    let text = info_field(client, "wbl", field).unwrap_or_else(|| panic!("INFO wbl has no {field}"));
    text.parse().unwrap_or_else(|_| panic!("{field}:{text}"))
}

/// Overwrites one key until so much has been logged since the base.
fn log_up_to(client: &mut RawConnection, bytes: u64) {
    let value = "v".repeat(1000);
    while number(client, "wbl_log_bytes_since_base") < bytes {
        client.call(&["SET", "key", &value]);
    }
}

/// The same, and a little more: a checkpoint that begins meanwhile is the only one.
fn log_beyond(client: &mut RawConnection, bytes: u64) {
    log_up_to(client, bytes - 4000);
    for _ in 0..5 {
        client.call(&["SET", "key", &"v".repeat(1000)]);
    }
}

/// Nothing of a checkpoint is seen in some iterations of the event loop, one of the server's timer among them.
fn assert_none_begins(client: &mut RawConnection, done: u64) {
    let ticks = |client: &mut RawConnection| info_field(client, "server", "server_time_usec").expect("a time");
    let began: u64 = ticks(client).parse().expect("a number");
    wait_until("the server's timer has run", PATIENCE, || {
        assert_eq!(number(client, "wbl_checkpoint_in_progress"), 0);
        ticks(client).parse::<u64>().expect("a number") > began + 250_000
    });
    assert_eq!(number(client, "wbl_checkpoints"), done);
}

fn wait_checkpoints(client: &mut RawConnection, done: u64) {
    wait_until("a checkpoint is done", PATIENCE, || {
        number(client, "wbl_checkpoints") == done && number(client, "wbl_checkpoint_in_progress") == 0
    });
}

fn folder_bytes(server: &Server) -> u64 {
    let entries = fs::read_dir(server.log_folder()).expect("the log's folder");
    // A file may be removed as it is looked at.
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

each_version! {
    fn a_checkpoint_begins_when_a_recovery_would_take_too_long(version: Version) {
        let mut server = builder(version).set("wbl.max-recovery-seconds", "1").start();
        let mut client = server.raw();
        let value = "v".repeat(1 << 20);
        // A log counts with 50 MB a second before one has been replayed.
        for _ in 0..44 {
            client.call(&["SET", "key", &value]);
        }
        assert_none_begins(&mut client, 0);
        assert!((900..1000).contains(&number(&mut client, "wbl_recovery_estimate_ms")));
        for _ in 0..6 {
            client.call(&["SET", "key", &value]);
        }
        wait_checkpoints(&mut client, 1);
        assert!(number(&mut client, "wbl_recovery_estimate_ms") < 200);
        // What was measured counts from then on.
        client.run("CONFIG SET wbl.max-recovery-seconds 0");
        for _ in 0..20 {
            client.call(&["SET", "key", &value]);
        }
        let assumed_ms = number(&mut client, "wbl_recovery_estimate_ms");
        server.kill9_and_restart();
        let mut client = server.raw();
        assert_ne!(number(&mut client, "wbl_recovery_estimate_ms"), assumed_ms);
    }

    fn the_size_of_the_log_begins_a_checkpoint(version: Version) {
        let mut server = builder(version).in_memory().start();
        let mut client = server.raw();
        allow(&mut client);
        // Without a base the least size counts alone.
        log_up_to(&mut client, MIN_BYTES - 4000);
        assert_none_begins(&mut client, 0);
        log_beyond(&mut client, MIN_BYTES);
        wait_checkpoints(&mut client, 1);
        assert!(number(&mut client, "wbl_log_bytes_since_base") < MIN_BYTES);
        // A base that is larger has the log grow as large.
        client.run("CONFIG SET wbl.checkpoint-percentage 0");
        for key in 0..30 {
            client.call(&["SET", &format!("key:{key}"), &"v".repeat(10_000)]);
        }
        assert_none_begins(&mut client, 1);
        allow(&mut client);
        wait_checkpoints(&mut client, 2);
        let base_bytes = number(&mut client, "wbl_base_bytes");
        assert!(base_bytes > 2 * MIN_BYTES, "{base_bytes}");
        log_up_to(&mut client, base_bytes - 4000);
        assert_none_begins(&mut client, 2);
        log_beyond(&mut client, base_bytes);
        wait_checkpoints(&mut client, 3);
        // What was logged before a restart counts.
        client.run("CONFIG SET wbl.checkpoint-percentage 0");
        log_up_to(&mut client, base_bytes + 1000);
        let expected = dataset::read(&mut client);
        server.kill9_and_restart();
        let mut client = server.raw();
        assert!(number(&mut client, "wbl_log_bytes_since_base") > base_bytes);
        allow(&mut client);
        wait_checkpoints(&mut client, 1);
        dataset::assert_same(&dataset::read(&mut client), &expected, "after the checkpoint");
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after another kill -9");
    }

    fn overwriting_for_long_does_not_fill_the_disk(version: Version) {
        const KEYS: usize = 200;
        const ROUNDS: usize = 20;
        const SEGMENT_BYTES: u64 = 256 << 10;
        let builder = builder(version).set("wbl.segment-bytes", &SEGMENT_BYTES.to_string()).in_memory();
        let mut server = builder.set("wbl.checkpoint-percentage", "100").start();
        let mut client = server.raw();
        let value = "v".repeat(10_000);
        // A base, and a log that has outgrown one, with headers and annotations.
        let base_bytes = (KEYS * value.len()) as u64 * 21 / 20;
        // The segment that is written ahead, the unused end of the one before it, and the manifest.
        let bound = 2 * base_bytes + 2 * base_bytes + 3 * SEGMENT_BYTES;
        for write in 0..KEYS * ROUNDS {
            client.call(&["SET", &format!("key:{}", write % KEYS), &value]);
            if write % 10 != 0 {
                continue;
            }
            let found = folder_bytes(&server);
            assert!(found < bound, "{found} bytes for a base of {base_bytes}");
            // No load that overwrites the whole dataset within one checkpoint, or before the next one may begin.
            if number(&mut client, "wbl_log_bytes_since_base") > base_bytes * 3 / 2 {
                wait_until("a checkpoint ends", PATIENCE, || {
                    number(&mut client, "wbl_log_bytes_since_base") < base_bytes
                });
            }
        }
        let done = number(&mut client, "wbl_checkpoints");
        assert!(done >= 3, "{done} checkpoints");
        let expected = dataset::read(&mut client);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after kill -9");
    }

    fn a_crash_in_an_automatic_checkpoint_loses_nothing(version: Version) {
        let mut server = builder(version).in_memory().start();
        for point in ["base-fork", "base-child", "base-child-written", "base-written", "rename", "renamed", "base-installed"] {
            let mut client = server.raw();
            client.call(&["APPEND", "points", point]);
            log_up_to(&mut client, 3 * MIN_BYTES);
            let expected = dataset::read(&mut client);
            server.point(point, "STOP");
            client.send_text("CONFIG SET wbl.checkpoint-percentage 100");
            if point.starts_with("base-child") {
                server.wait_child_stopped();
            } else {
                server.wait_stopped();
            }
            server.kill9_and_restart();
            dataset::assert_same(&dataset::read(&mut server.raw()), &expected, point);
        }
    }

    fn a_checkpoint_that_fails_is_tried_again_ever_later(version: Version) {
        let builder = builder(version).allow_warning("no new base").allow_warning("Can't fork");
        let mut server = builder.start();
        let mut client = server.raw();
        log_up_to(&mut client, 2 * MIN_BYTES);
        let failed_at = {
            let _strace = Strace::attach(server.process_id(), Injection::NoFork);
            allow(&mut client);
            let wait_failures = |client: &mut RawConnection, count: u64| {
                wait_until("a checkpoint fails", PATIENCE, || number(client, "wbl_checkpoint_failures") == count);
                Instant::now()
            };
            let first = wait_failures(&mut client, 1);
            assert_eq!(server.wbl_info("wbl_last_checkpoint_status"), "err");
            assert_eq!(server.wbl_info("wbl_checkpoint_in_progress"), "0");
            assert!(server.wbl_info("wbl_failure").contains("fork"), "{}", server.wbl_info("wbl_failure"));
            let fourth = wait_failures(&mut client, 4);
            // One second, two, and four. The first failure may have been seen late.
            assert!(fourth - first > Duration::from_secs(5), "{:?}", fourth - first);
            fourth
        };
        assert_eq!(server.log().matches("no new base").count(), 4, "each failure is told once");
        // Whoever asks does not wait for the next try, which is eight seconds later.
        assert_eq!(client.run("WBL.CHECKPOINT"), Value::Simple("OK".into()));
        assert!(failed_at.elapsed() < Duration::from_secs(7), "{:?}", failed_at.elapsed());
        assert_eq!(number(&mut client, "wbl_checkpoint_failures"), 4);
        assert_eq!(number(&mut client, "wbl_checkpoints"), 1);
        assert_eq!(server.wbl_info("wbl_last_checkpoint_status"), "ok");
        assert_eq!(server.wbl_info("wbl_failure"), "");
        // The next one that is due begins at once.
        log_beyond(&mut client, MIN_BYTES);
        wait_checkpoints(&mut client, 2);
        dataset::assert_survives(&mut server, "after kill -9");
    }

    fn no_checkpoint_begins_beside_another_child(version: Version) {
        let server = builder(version).allow_warning("Background saving terminated").in_memory().start();
        let mut client = server.raw();
        log_up_to(&mut client, 2 * MIN_BYTES);
        client.run("CONFIG SET rdb-key-save-delay 60000000");
        client.run("BGSAVE");
        let child = server.wait_child();
        allow(&mut client);
        assert_none_begins(&mut client, 0);
        assert_eq!(children(server.process_id()), [child]);
        client.run("CONFIG SET rdb-key-save-delay 0");
        send_signal(child, "USR1");
        wait_checkpoints(&mut client, 1);
        assert_eq!(number(&mut client, "wbl_checkpoint_failures"), 0);
    }

    fn the_servers_own_children_get_their_turn(version: Version) {
        let server = builder(version).in_memory().start();
        let mut client = server.raw();
        client.run("CONFIG SET wbl.checkpoint-min-bytes 0");
        client.run("CONFIG SET wbl.checkpoint-percentage 1");
        let value = "v".repeat(10_000);
        client.call(&["CONFIG", "SET", "save", "1 1"]);
        let saved = || info_field(&mut server.raw(), "persistence", "rdb_saves").unwrap();
        let before = saved();
        wait_until("a save point has its save", PATIENCE, || {
            client.call(&["SET", "key", &value]);
            saved() != before
        });
        assert!(number(&mut client, "wbl_checkpoints") > 0);
        // A child that is left as the server ends warns of that.
        client.run("CONFIG SET wbl.checkpoint-percentage 0");
        client.call(&["CONFIG", "SET", "save", ""]);
        wait_until("no child is left", PATIENCE, || children(server.process_id()).is_empty());
    }

    fn only_an_active_log_gets_checkpoints_by_itself(version: Version) {
        let server = builder(version).in_memory().start();
        let mut client = server.raw();
        log_up_to(&mut client, 2 * MIN_BYTES);
        client.run("CONFIG SET wbl.enabled no");
        allow(&mut client);
        assert_none_begins(&mut client, 0);
        client.run("CONFIG SET wbl.enabled yes");
        client.run("WBL.WAIT");
        assert_eq!(number(&mut client, "wbl_checkpoints"), 1, "the first base of the new log");
        assert_none_begins(&mut client, 1);
    }
}
