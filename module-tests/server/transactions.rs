//! Transactions: that they are logged whole and exactly, whatever happens in and around them, and what they cost.

use crate::harness::resp::encode;
use crate::harness::server::info_field;
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Version, dataset, each_version, wait_until};
use std::time::Duration;

/// What a client library waits for a reply.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

const MEGABYTE: usize = 1024 * 1024;

/// Sends all commands at once, and takes the replies.
fn pipeline(client: &mut RawConnection, commands: &[Vec<String>]) -> Vec<crate::harness::Value> {
    let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
    client.send_bytes(&bytes).unwrap();
    commands.iter().map(|_| client.reply()).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_string).collect()
}

/// Runs commands between MULTI and EXEC; returns EXEC's reply.
fn transaction(client: &mut RawConnection, commands: &[&str]) -> crate::harness::Value {
    client.run("MULTI");
    commands.iter().for_each(|command| drop(client.run(command)));
    client.call(&["EXEC"])
}

/// A stream with a pending entry, which XACK takes away without an event.
fn pending_entry(client: &mut RawConnection) {
    for command in ["XADD x 1-1 f v", "XGROUP CREATE x g 0", "XREADGROUP GROUP g c STREAMS x >"] {
        client.run(command);
    }
}

/// Fills the server to its limit, so that each command makes room for what the one before has used, by small keys that
/// may go.
fn fill(server: &Server) {
    let mut client = server.raw();
    client.run("CONFIG SET maxmemory-policy volatile-ttl");
    let used: usize = info_field(&mut client, "memory", "used_memory").unwrap().parse().unwrap();
    client.run(&format!("CONFIG SET maxmemory {}", used + MEGABYTE));
    for index in (0..).take_while(|_| evicted(server) == 0) {
        client.call(&["SET", &format!("filler-{index}"), &"v".repeat(500), "EX", "10000"]);
    }
}

fn evicted(server: &Server) -> u64 {
    info_field(&mut server.raw(), "stats", "evicted_keys").unwrap().parse().unwrap()
}

/// Resident memory of the server.
fn resident_bytes(server: &Server) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", server.process_id())).unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn slots_flushed_in_a_transaction_are_empty_in_each_database() {
    let builder = ServerBuilder::with_module(Version::V9_1).set("cluster-enabled", "yes").set("cluster-databases", "4");
    let mut server = builder.in_memory().allow_warning("luster state changed").start();
    let mut client = server.raw();
    client.run("CLUSTER ADDSLOTSRANGE 0 16383");
    wait_until("the node serves", PATIENCE, || !client.call(&["SET", "{a}0", "v"]).is_error());
    for db in 0..4 {
        client.run(&format!("SELECT {db}"));
        client.run("MSET {a}1 v {a}2 v");
    }
    let slot = client.run("CLUSTER KEYSLOT {a}").integer();
    transaction(&mut client, &[&format!("CLUSTER FLUSHSLOT {slot} SYNC"), "SET {a}3 v"]);
    let before = dataset::read(&mut client);
    server.kill9_and_restart();
    let mut client = server.raw();
    wait_until("the node serves", PATIENCE, || !client.call(&["GET", "{a}3"]).is_error());
    dataset::assert_same(&dataset::read(&mut client), &before, "after CLUSTER FLUSHSLOT");
}

/// XACK of that entry in a transaction, and a write whose reply is held.
fn acknowledge_and_write() -> Vec<Vec<String>> {
    ["MULTI", "XACK x g 1-1", "EXEC", "SET a 1"].map(words).into()
}

each_version! {
    fn a_transaction_that_has_run_is_not_taken_for_one_that_a_pause_delays(version: Version) {
        let server = ServerBuilder::with_module(version).in_memory().start();
        pending_entry(&mut server.raw());
        let packets = 10;
        let count = |field| server.wbl_info(field).parse::<u64>().unwrap();
        for reconnects in [false, true] {
            let images = count("wbl_state_images");
            let mut client = server.raw();
            for _ in 0..packets {
                if reconnects {
                    client = server.raw();
                }
                pipeline(&mut client, &acknowledge_and_write());
            }
            // A server that reports each command of an EXEC says that nothing has changed.
            let images = count("wbl_state_images") - images;
            assert!(images <= if version == Version::V9_1 { 1 } else { packets }, "{images} images");
            assert_eq!(count("wbl_waits_client_pause"), 0, "reconnects {reconnects}");
        }
    }

    fn a_transaction_that_a_pause_has_delayed_is_logged_before_a_held_write_that_follows(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut control = server.raw();
        pending_entry(&mut control);
        control.run("CLIENT PAUSE 600000 WRITE");
        let mut client = server.raw();
        let bytes: Vec<u8> = acknowledge_and_write().iter().flat_map(|command| encode(command)).collect();
        client.send_bytes(&bytes).unwrap();
        wait_until("it waits", PATIENCE, || {
            info_field(&mut control, "clients", "blocked_clients").as_deref() == Some("1")
        });
        control.run("CLIENT UNPAUSE");
        (0..4).for_each(|_| drop(client.reply()));
        assert_eq!(control.run("XPENDING x g").items()[0].integer(), 0);
        server.kill9_and_restart();
        let mut client = server.raw();
        assert_eq!(client.run("XPENDING x g").items()[0].integer(), 0);
        assert_eq!(client.run("GET a").text(), "1");
    }

    // Servers from 9.1 on take the transaction's database for that of each event.
    fn what_a_transaction_changes_in_another_database_is_logged_there(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        for commands in [
            &["MOVE k 5"][..],
            &["COPY k k DB 5"],
            &["COPY k k DB 5 REPLACE", "APPEND k x"],
            &["COPY k other DB 5"],
            &["SELECT 5", "GET k", "SELECT 0", "MOVE k 5"],
            // What follows the image that SPOP is logged as is an image, too.
            &["SPOP s", "COPY k k DB 5"],
        ] {
            let mut client = server.raw();
            // An expired key stands in the way of what arrives, and goes first.
            for command in [
                "FLUSHALL", "DEBUG SET-ACTIVE-EXPIRE 0", "SELECT 5", "SET k old PX 1", "SET other old PX 1", "DEBUG SLEEP 0.003",
                "SELECT 0", "SET k v", "SET other v",
            ] {
                client.run(command);
            }
            transaction(&mut client, commands);
            dataset::assert_survives(&mut server, &format!("{commands:?}"));
        }
    }

    // What django's set_many and redis-py's pipelines send.
    fn a_transaction_of_20_000_commands_is_answered_within_a_time_out(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw().with_patience(CLIENT_TIMEOUT);
        for kind in ["SET k@ v EX 1000", "EXPIRE k@ 2000", "RPUSH l a@", "HSET h@ f v", "XADD x * f @", "INCRBYFLOAT k 1.5"] {
            let command = |index: usize| words(&kind.replace('@', &index.to_string()));
            let commands: Vec<_> = [words("MULTI")].into_iter().chain((0..20_000).map(command)).chain([words("EXEC")]).collect();
            let replies = pipeline(&mut client, &commands);
            assert_eq!(replies.last().unwrap().items().len(), 20_000, "{kind}");
        }
        assert_eq!(server.wbl_info("wbl_state_images"), "0");
        dataset::assert_survives(&mut server, "after long transactions");
    }

    fn a_command_or_script_of_100_000_parts_is_answered_within_a_time_out(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw().with_patience(2 * CLIENT_TIMEOUT);
        let each = |body: &str| format!("for i = 1, 100000 do {body} end");
        let swaps = each("redis.call('SET', i % 100, i) redis.call('SPOP', 's') redis.call('SWAPDB', 1, 2)");
        let bitfields = each("redis.call('BITFIELD', i % 100, 'OVERFLOW', 'FAIL', 'INCRBY', 'u8', 8, 1)");
        client.run("SADD s a");
        for script in [swaps, bitfields] {
            assert!(!client.call(&["EVAL", &script, "0"]).is_error());
            client.run("FLUSHALL");
        }
        let streams: Vec<String> = (1..=50_000).map(|stream| stream.to_string()).collect();
        let fill = "for i = 1, 50000 do redis.call('XGROUP', 'CREATE', i, 'g', '$', 'MKSTREAM') end";
        assert!(!client.call(&["EVAL", fill, "0"]).is_error());
        let next = vec![">".to_string(); streams.len()];
        client.call(&[&words("XREADGROUP GROUP g c STREAMS")[..], &streams, &next].concat());
        client.run("FLUSHALL");
        if version == Version::V9_1 {
            let fill = each("redis.call('HSET', 'h', i, i) redis.call('HPEXPIRE', 'h', 10000000 + i * 1000, 'FIELDS', 1, i)");
            assert!(!client.call(&["EVAL", &fill, "0"]).is_error());
            // Each field keeps a time of its own.
            let fields: Vec<String> = (1..=100_000).map(|field| field.to_string()).collect();
            let command = [&words("HPEXPIRE h 10000001 GT FIELDS 100000")[..], &fields].concat();
            assert_eq!(client.call(&command).items().len(), 100_000);
        }
        dataset::assert_survives(&mut server, "after long commands and scripts");
    }

    fn commands_that_failed_in_a_transaction_are_not_logged(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        client.run("MSET s text counter 1");
        pending_entry(&mut client);
        for (commands, errors) in [
            (&["SET a 1", "LPUSH s x", "INCR s", "INCR counter", "RENAME missing m", "SETRANGE s -1 x"][..], 4),
            (&["SET a 2 EX 100", "SET t v EX 0", "LSET missing 0 x", "EXPIRE a 200", "RESTORE r 0 nonsense"], 3),
            (&["XADD x 1-1 f v", "XGROUP CREATE x g 0", "XACK x g 1-1", "XACK s g 1-1", "SET c 1"], 3),
            (&["HINCRBY counter f 1", "COPY s u DB 99999", "SADD set a a", "SADD set a", "INCRBYFLOAT s 1"], 3),
        ] {
            let replies = transaction(&mut client, commands);
            let failed = replies.items().iter().filter(|reply| reply.is_error()).count();
            assert_eq!(failed, errors, "{replies:?}");
        }
        dataset::assert_survives(&mut server, "after errors in transactions");
        // What did nothing but was not refused is no error when it is replayed.
        let mut client = server.raw();
        transaction(&mut client, &["SETNX a 2", "SADD set a", "SADD set b", "DEL missing", "PERSIST s", "INCR counter"]);
        dataset::assert_survives(&mut server, "after a transaction without errors");
    }

    fn commands_that_exec_refused_are_not_logged(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let (mut admin, mut client) = (server.raw(), server.raw());
        admin.run("MSET c 1 d 1");
        for commands in [&["SET a 1", "DEL c", "SET b 1"][..], &["SET a 1", "SET b 1 EX 100", "DEL c", "INCR b"]] {
            admin.run("ACL SETUSER writer on nopass ~* +@all");
            client.run("AUTH writer any");
            client.run("MULTI");
            commands.iter().for_each(|command| drop(client.run(command)));
            admin.run("ACL SETUSER writer resetkeys ~b");
            let replies = client.run("EXEC");
            let refused: Vec<bool> = replies.items().iter().map(crate::harness::Value::is_error).collect();
            let expected: Vec<bool> = commands.iter().map(|command| !command.contains(" b")).collect();
            assert_eq!(refused, expected, "{replies:?}");
        }
        dataset::assert_survives(&mut server, "after EXEC refused some commands");
        assert_eq!(server.raw().run("EXISTS a c").integer(), 1);
    }

    fn an_eviction_before_exec_loses_nothing_of_it(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        let entries = 1..=5;
        client.run("XGROUP CREATE x g 0 MKSTREAM");
        entries.clone().for_each(|entry| drop(client.run(&format!("XADD x {entry}-1 f v"))));
        client.run("XREADGROUP GROUP g c STREAMS x >");
        fill(&server);
        let mut other = server.raw();
        for entry in entries {
            client.run("MULTI");
            client.run(&format!("XACK x g {entry}-1"));
            // The next command has to make room for this.
            other.run(&format!("SETRANGE k{entry} 100000 v"));
            assert_eq!(client.run("EXEC").items()[0].integer(), 1);
        }
        client.run("CONFIG SET maxmemory 0");
        dataset::assert_survives(&mut server, "after evictions before EXEC");
        let mut client = server.raw();
        assert_eq!(client.run("XPENDING x g - + 10").items().len(), 0);
    }

    fn a_write_that_makes_room_first_is_logged_as_it_was_sent(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        client.call(&["HSET", "h", "field", &"v".repeat(MEGABYTE)]);
        fill(&server);
        let before = evicted(&server);
        for index in 0..20 {
            client.run(&format!("SETRANGE k{index} 10000 v"));
            client.run(&format!("HSET h {index} 1"));
        }
        assert!(evicted(&server) > before, "nothing was evicted");
        assert_eq!(server.wbl_info("wbl_state_images"), "0");
        client.run("CONFIG SET maxmemory 0");
        dataset::assert_survives(&mut server, "after evictions");
    }

    fn a_transaction_with_a_wait_inside_is_one_unit(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().set("wbl.debug-commands", "yes").start();
        let mut client = server.raw();
        pending_entry(&mut client);
        let units = || server.wbl_info("wbl_units").parse::<u64>().unwrap();
        for commands in [
            &["SET a 1", "WBL.WAIT", "SET b 1"][..],
            &["WBL.WAIT", "XACK x g 1-1"],
            &["SET a 2", "WBL.DEBUG PAUSE", "SET b 2", "WBL.DEBUG RESUME", "SET c 2"],
            &["SET a 3", "EVAL return(redis.pcall('WBL.WAIT')) 0", "SET b 3"],
        ] {
            let before = units();
            assert_eq!(transaction(&mut client, commands).items().len(), commands.len());
            client.run("WBL.WAIT");
            assert_eq!(units() - before, 1, "{commands:?}");
        }
        dataset::assert_survives(&mut server, "after transactions with WBL.WAIT");
        // One that ends the log comes back whole.
        let mut client = server.raw();
        transaction(&mut client, &["SET before 1", "CONFIG SET wbl.enabled no", "SET after 1"]);
        server.kill9_and_restart();
        assert_eq!(server.raw().run("EXISTS before after").integer(), 2);
    }

    fn a_refused_transaction_takes_no_more_memory(version: Version) {
        let server = ServerBuilder::with_module(version).in_memory().start();
        let (mut admin, mut client) = (server.raw(), server.raw());
        admin.run("ACL SETUSER reader on nopass ~* +@all -set");
        client.run("AUTH reader any");
        let large = "v".repeat(MEGABYTE);
        for (first, later) in [("NOSUCHCOMMAND k", "APPEND"), ("GET", "APPEND"), ("SET k v", "APPEND"), ("SET k v", "SET")] {
            client.run("MULTI");
            assert!(client.call(&words(first)).is_error());
            let before = resident_bytes(&server);
            for index in 0..64 {
                client.call(&[later, &format!("k{index}"), &large]);
            }
            let grown = resident_bytes(&server).saturating_sub(before);
            assert!(grown < 16 * MEGABYTE, "{first}, then {later}: {grown} bytes more");
            assert!(client.call(&["EXEC"]).is_error());
        }
    }

    fn watching_a_key_again_takes_no_more_memory(version: Version) {
        let server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        let watches = vec![vec!["WATCH".to_string(), "k".repeat(1024)]; 1000];
        pipeline(&mut client, &watches);
        let before = resident_bytes(&server);
        for _ in 0..30 {
            pipeline(&mut client, &watches);
        }
        let grown = resident_bytes(&server).saturating_sub(before);
        assert!(grown < 8 * MEGABYTE, "{grown} bytes more");
    }
}

each_version! {
    fn a_transaction_after_an_aborted_one_is_logged_whole(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        pending_entry(&mut client);
        for refused in ["NOSUCH", "SET k", "BITFIELD"] {
            client.run("MULTI");
            assert!(client.call(&words(refused)).is_error(), "{refused}");
            assert!(client.call(&["EXEC"]).is_error(), "{refused}");
            let done = transaction(&mut client, &["SET a 1", "XACK x g 1-1", "INCR a"]);
            assert!(!done.is_error(), "{done:?}");
            client.run("WBL.WAIT");
            dataset::assert_survives(&mut server, refused);
            client = server.raw();
            client.run("XGROUP SETID x g 0");
            client.run("XREADGROUP GROUP g c STREAMS x >");
        }
    }

    fn what_follows_a_command_that_failed_in_the_module_is_logged(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        for failing in ["GETSET l x", "GETDEL l"] {
            client.run("DEL l");
            client.run("RPUSH l a");
            assert!(client.call(&words(failing)).is_error(), "{failing}");
            let mut other = server.raw();
            ["RPUSH l b", "SET x 1", "INCR x"].iter().for_each(|command| drop(other.run(command)));
            other.call(&["EVAL", "return redis.call('RPUSH', KEYS[1], 'c')", "1", "l"]);
            other.run("WBL.WAIT");
            dataset::assert_survives(&mut server, failing);
            client = server.raw();
        }
    }
}
