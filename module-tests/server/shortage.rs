//! Too little room for the log: a disk that it has filled, and `wbl.max-log-bytes`.

use crate::harness::{
    PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, dataset, each_version, process, wait_until,
};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// No checkpoint begins by itself but for lack of room.
fn builder(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).set("rdbcompression", "no").set("wbl.segment-bytes", "64kb");
    let builder = builder.set("wbl.checkpoint-percentage", "0");
    builder.allow_warning("writes are refused").allow_warning("no new base").allow_warning("the log can't be written")
}

fn number(server: &Server, field: &str) -> u64 {
    let text = server.wbl_info(field);
    text.parse().unwrap_or_else(|_| panic!("{field}:{text}"))
}

fn taken(server: &Server) -> u64 {
    number(server, "wbl_base_bytes") + number(server, "wbl_log_bytes_since_base")
}

/// Makes what base and log may take just what they do, after a checkpoint, and a little more.
fn fill_bound(server: &Server, client: &mut RawConnection) {
    client.run("WBL.CHECKPOINT");
    client.run(&format!("CONFIG SET wbl.max-log-bytes {}", taken(server) + 5000));
}

fn assert_refused(answer: &Value, why: &str) {
    let Value::Error(text) = answer else { panic!("it was not refused: {answer:?}") };
    assert!(text.starts_with("MISCONF Errors writing to the write-behind log: ") && text.contains(why), "{text}");
}

/// Overwrites the same keys until a write is refused, which must be within so many; returns the answer.
fn write_until_refused(client: &mut RawConnection, writes: usize) -> Value {
    let value = "v".repeat(8000);
    (0..writes)
        .map(|number| client.call(&["SET", &format!("key:{}", number % 10), &value]))
        .find(Value::is_error)
        .expect("no write is refused")
}

/// A server whose log is on a file system of so many bytes; returns the folder there, too.
fn on_small_disk(version: Version, size: &str) -> (Server, PathBuf) {
    let server = builder(version).start();
    server.raw().run("SET kept v");
    moved_to_small_disk(server, size)
}

/// The same with what a server has.
fn moved_to_small_disk(mut server: Server, size: &str) -> (Server, PathBuf) {
    server.stop();
    let mount = format!(
        "mount -t tmpfs -o size={size} none /mnt && cp -a \"$WBL\"/. /mnt && mount --bind /mnt \"$WBL\" && exec \"$0\" \"$@\""
    );
    let folder = server.log_folder();
    server.reconfigure(|builder| {
        let builder = builder.variable("WBL", folder.to_str().unwrap());
        builder.run_by(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &mount])
    });
    server.start();
    let inside = PathBuf::from(format!("/proc/{}/root/{}", server.process_id(), folder.display()));
    (server, inside)
}

each_version! {
    fn a_checkpoint_takes_the_place_of_a_log_that_has_filled_the_disk(version: Version) {
        let (server, folder) = on_small_disk(version, "8m");
        let mut client = server.raw();
        for round in 0..3 {
            // Nobody writes anything else there.
            let done = number(&server, "wbl_checkpoints");
            let answer = write_until_refused(&mut client, 2000);
            assert_refused(&answer, "No space left");
            assert_eq!(client.run("GET kept").text(), "v");
            assert_eq!(number(&server, "wbl_checkpoint_failures"), 0, "round {round}");
            wait_until("a checkpoint makes room", PATIENCE, || number(&server, "wbl_checkpoints") > done);
            wait_until("writes are taken again", PATIENCE, || server.wbl_info("wbl_write_refusal").is_empty());
            assert_eq!(client.run(&format!("SET round {round}")), Value::Simple("OK".into()));
            assert!(number(&server, "wbl_reserve_bytes") > 0 && folder.join("temp-reserve").exists());
            assert!(server.wbl_info("wbl_disk_error").is_empty());
        }
        assert!(server.log().contains("there is room again"), "{}", server.log());
        let expected = dataset::read(&mut client);
        // What is there is a log, also for a server elsewhere.
        let mut server = server;
        let copy = server.log_folder();
        let status = Command::new("cp").args(["-a", &format!("{}/.", folder.display())]).arg(&copy).status();
        assert!(status.unwrap().success(), "cp");
        server.kill9();
        server.reconfigure(|builder| builder.run_by(&[]));
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after kill -9");
    }

    fn a_log_that_grows_faster_than_a_base_leaves_it_its_room(version: Version) {
        let (server, _) = on_small_disk(version, "12m");
        let mut client = server.raw();
        let value = "v".repeat(100_000);
        for key in 0..30 {
            client.call(&["SET", &format!("key:{key}"), &value]);
        }
        client.run("WBL.CHECKPOINT");
        wait_until("room is held", PATIENCE, || number(&server, "wbl_reserve_bytes") > 3_000_000);
        // In microseconds, of each key.
        client.run("CONFIG SET rdb-key-save-delay 30000");
        let mut other = server.raw();
        other.send(&["WBL.CHECKPOINT"]);
        wait_until("a base is written", PATIENCE, || number(&server, "wbl_checkpoint_in_progress") == 1);
        let answer = (0..300).map(|key| client.call(&["SET", &format!("key:{}", key % 30), &value]));
        let refused = answer.into_iter().find(Value::is_error).expect("no write is refused");
        assert_refused(&refused, "No space left");
        assert_eq!(number(&server, "wbl_checkpoint_in_progress"), 1, "it has ended before");
        assert_eq!(other.reply(), Value::Simple("OK".into()));
        client.run("CONFIG SET rdb-key-save-delay 0");
        wait_until("writes are taken again", PATIENCE, || !client.call(&["SET", "after", "v"]).is_error());
        assert_eq!(number(&server, "wbl_checkpoint_failures"), 0);
    }

    fn a_start_with_too_little_room_for_a_base_takes_no_writes(version: Version) {
        let server = builder(version).allow_warning("Write error").start();
        let mut client = server.raw();
        let value = "v".repeat(100_000);
        for key in 0..30 {
            client.call(&["SET", &format!("key:{key}"), &value]);
        }
        client.run("WBL.CHECKPOINT");
        // As a server that is killed in a shortage leaves it: base and log, and less room than the next base takes.
        for key in 0..20 {
            client.call(&["SET", &format!("key:{key}"), &value]);
        }
        let expected = dataset::read(&mut client);
        let (server, folder) = moved_to_small_disk(server, "7m");
        wait_until("there is a shortage", PATIENCE, || server.wbl_info("wbl_write_refusal").contains("No space left"));
        let mut client = server.raw();
        assert_refused(&client.call(&["SET", "key:0", "v"]), "find room beside the log for a new base");
        dataset::assert_same(&dataset::read(&mut client), &expected, "on the small disk");
        wait_until("a checkpoint is tried", PATIENCE, || number(&server, "wbl_checkpoint_failures") > 0);
        assert!(server.wbl_info("wbl_write_refusal").contains("No space left"));
        // Only a base of less finds room.
        fs::remove_file(folder.join("temp-reserve")).unwrap();
        client.run("CONFIG SET wbl.reserve no");
        wait_until("writes are taken", PATIENCE, || !client.call(&["DEL", "key:0"]).is_error());
        for key in 1..20 {
            client.run(&format!("DEL key:{key}"));
        }
        client.run("CONFIG SET wbl.reserve yes");
        wait_until("room is held", PATIENCE, || number(&server, "wbl_reserve_bytes") > 1_000_000);
        wait_until("writes are taken again", PATIENCE, || !client.call(&["SET", "after", "v"]).is_error());
    }

    fn no_room_is_held_where_none_is_wanted(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        let reserve = server.log_folder().join("temp-reserve");
        client.call(&["SET", "key", &"v".repeat(200_000)]);
        wait_until("room is held", PATIENCE, || number(&server, "wbl_reserve_bytes") >= 200_000);
        assert_eq!(fs::metadata(&reserve).unwrap().len(), number(&server, "wbl_reserve_bytes"));
        client.run("CONFIG SET wbl.reserve no");
        wait_until("none is held", PATIENCE, || !reserve.exists());
        assert_eq!(number(&server, "wbl_reserve_bytes"), 0);
        client.run("CONFIG SET wbl.reserve yes");
        wait_until("room is held again", PATIENCE, || number(&server, "wbl_reserve_bytes") >= 200_000);
        // It is no part of a log that is closed.
        client.run("CONFIG SET wbl.enabled no");
        assert!(!reserve.exists());
    }

    fn base_and_log_never_take_more_than_they_may(version: Version) {
        const BOUND: u64 = 1 << 20;
        let mut server = builder(version).set("wbl.debug-commands", "yes").start();
        let mut client = server.raw();
        client.run(&format!("CONFIG SET wbl.max-log-bytes {BOUND}"));
        client.run("SET kept v");
        // A checkpoint begins at four fifths, and cannot end.
        client.run("WBL.DEBUG POINT base-child STOP");
        let answer = write_until_refused(&mut client, 200);
        assert_refused(&answer, "wbl.max-log-bytes");
        assert!((BOUND - 20_000..=BOUND).contains(&taken(&server)), "{}", taken(&server));
        wait_until("one has begun", PATIENCE, || number(&server, "wbl_checkpoint_in_progress") == 1);
        let refusal = server.wbl_info("wbl_write_refusal");
        assert!(refusal.contains("a write of 80"), "smaller ones are taken: {refusal}");
        while !client.call(&["SET", "small", "v"]).is_error() {}
        client.run(&format!("CONFIG SET wbl.max-log-bytes {}", taken(&server)));
        let refusal = server.wbl_info("wbl_write_refusal");
        assert!(refusal.contains("wbl.max-log-bytes"), "{refusal}");
        client.run("MULTI");
        client.run("SET kept other");
        assert!(client.call(&["EXEC"]).is_error(), "it passes the bound");
        assert_refused(&client.call(&["EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "kept"]), "wbl.max-log-bytes");
        assert!(client.run("STRLEN kept").integer() > 0);
        assert!(taken(&server) <= BOUND, "{}", taken(&server));
        client.run(&format!("CONFIG SET wbl.max-log-bytes {BOUND}"));
        // The checkpoint makes room.
        client.run("WBL.DEBUG POINT base-child CLEAR");
        for child in process::children(server.process_id()) {
            process::send_signal(child, "CONT");
        }
        wait_until("a checkpoint is done", PATIENCE, || number(&server, "wbl_checkpoints") == 1);
        client.run("SET after room");
        let expected = dataset::read(&mut client);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after kill -9");
    }

    fn a_bound_may_change_at_any_time(version: Version) {
        let mut server = builder(version).start();
        let mut client = server.raw();
        let value = "v".repeat(8000);
        for key in 0..30 {
            client.call(&["SET", &format!("key:{key}"), &value]);
        }
        // A base alone may be larger.
        client.run("WBL.CHECKPOINT");
        client.run("CONFIG SET wbl.max-log-bytes 100kb");
        assert_refused(&client.call(&["SET", "key:0", "v"]), "wbl.max-log-bytes is 102400");
        wait_until("INFO says so", PATIENCE, || server.wbl_info("wbl_write_refusal").contains("wbl.max-log-bytes"));
        let done = number(&server, "wbl_checkpoints");
        // A start brings back all the same.
        server.kill9_and_restart();
        let mut client = server.raw();
        assert_eq!(client.run("DBSIZE").integer(), 30);
        client.run("CONFIG SET wbl.max-log-bytes 100kb");
        assert_refused(&client.call(&["SET", "key:0", "v"]), "wbl.max-log-bytes");
        assert!(done <= 2 && number(&server, "wbl_checkpoints") <= 1, "bases are written again and again");
        for bound in ["1mb", "0"] {
            client.run(&format!("CONFIG SET wbl.max-log-bytes {bound}"));
            assert_eq!(client.run("SET key:0 v"), Value::Simple("OK".into()));
        }
    }

    fn info_says_that_only_large_writes_are_refused(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        client.call(&["SET", "k", &"v".repeat(100_000)]);
        client.run("WBL.CHECKPOINT");
        client.run(&format!("CONFIG SET wbl.max-log-bytes {}", taken(&server) + 50_000));
        let large = "v".repeat(80_000);
        let is_refused = |client: &mut RawConnection| client.call(&["SET", "large", &large]).is_error();
        assert!(is_refused(&mut client));
        // Nor does it with the checkpoint that has begun, or when that has made no room.
        wait_until("a checkpoint has ended", PATIENCE, || number(&server, "wbl_checkpoints") == 2);
        assert!(server.wbl_info("wbl_write_refusal").contains("a write of 80"), "{}", server.wbl_info("wbl_write_refusal"));
        assert!(server.wbl_info("wbl_safe_why").contains("writes are refused"), "{}", server.wbl_info("wbl_safe_why"));
        assert_eq!(client.run("SET small v"), Value::Simple("OK".into()));
        client.run("CONFIG SET wbl.max-log-bytes 1mb");
        assert!(!is_refused(&mut client));
        wait_until("INFO says so", PATIENCE, || server.wbl_info("wbl_write_refusal").is_empty());
    }

    fn a_dataset_that_has_filled_the_bound_and_gone_makes_room(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        for how in ["expiry", "DEL", "FLUSHALL"] {
            client.run("CONFIG SET wbl.max-log-bytes 0");
            let expiry: &[&str] = if how == "expiry" { &["PX", "1500"] } else { &[] };
            for key in 0..30 {
                client.call(&[&["SET", &format!("key:{key}"), &"v".repeat(8000)], expiry].concat());
            }
            // Next to nothing may be added.
            fill_bound(&server, &mut client);
            let refused = client.call(&["SET", "more", &"v".repeat(8000)]);
            assert_refused(&refused, "wbl.max-log-bytes");
            match how {
                "expiry" => {}
                "DEL" => (0..30).for_each(|key| assert_eq!(client.run(&format!("DEL key:{key}")).integer(), 1)),
                _ => assert_eq!(client.run("FLUSHALL"), Value::Simple("OK".into())),
            }
            wait_until("all keys have gone", PATIENCE, || client.run("DBSIZE").integer() == 0);
            wait_until("a large write is taken", PATIENCE, || {
                !client.call(&["SET", "large", &"v".repeat(100_000)]).is_error()
            });
            client.run("DEL large");
        }
    }

    fn checkpoints_that_make_no_room_do_not_follow_one_another(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        for key in 0..30 {
            client.call(&["SET", &format!("key:{key}"), &"v".repeat(8000)]);
        }
        fill_bound(&server, &mut client);
        let done = number(&server, "wbl_checkpoints");
        let began = Instant::now();
        let mut refused = 0;
        while began.elapsed() < Duration::from_millis(2500) {
            refused += usize::from(client.call(&["SET", "key:0", &"v".repeat(8000)]).is_error());
            // Something is always new in the log, and next to nothing.
            if number(&server, "wbl_log_bytes_since_base") == 0 {
                client.run("EXPIRE key:1 1000");
            }
        }
        let checkpoints = number(&server, "wbl_checkpoints") - done;
        assert!(refused > 0 && (1..=3).contains(&checkpoints), "{checkpoints} after {refused} refusals");
        client.run("CONFIG SET wbl.max-log-bytes 1mb");
        assert_eq!(client.run("SET key:0 v"), Value::Simple("OK".into()));
    }

    fn a_base_that_is_larger_than_the_bound_is_named_and_may_be_made_smaller(version: Version) {
        let server = builder(version).set("wbl.debug-commands", "yes").start();
        let mut client = server.raw();
        for key in 0..30 {
            client.call(&["SET", &format!("key:{key}"), &"v".repeat(8000)]);
        }
        client.run("WBL.CHECKPOINT");
        client.run("CONFIG SET wbl.max-log-bytes 100kb");
        assert_refused(&client.call(&["SET", "key:0", "v"]), "delete keys, or raise wbl.max-log-bytes");
        // Deletions are bounded, too.
        client.run("WBL.DEBUG POINT base-child STOP");
        let mut grown = 0;
        while !client.call(&["EXPIRE", "key:29", "1000"]).is_error() {
            grown = number(&server, "wbl_log_bytes_since_base");
            assert!(grown < 100_000, "{grown}");
        }
        assert!(grown > 50_000, "{grown}");
        client.run("WBL.DEBUG POINT base-child CLEAR");
        for child in process::children(server.process_id()) {
            process::send_signal(child, "CONT");
        }
        for key in 0..30 {
            wait_until("it is deleted", PATIENCE, || !client.call(&["DEL", &format!("key:{key}")]).is_error());
        }
        wait_until("writes are taken again", PATIENCE, || !client.call(&["SET", "key:0", "v"]).is_error());
        assert!(taken(&server) < 100 << 10);
    }
}
