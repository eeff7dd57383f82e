//! While the durable offset stands still, no reply to a write leaves, and reads of other keys are answered.

use crate::harness::commands::{self, Case};
use crate::harness::raw::HUNG;
use crate::harness::{
    PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, dataset, each_version, wait_until,
};
use std::time::Duration;

/// A server that is silent for so long hangs.
const HANG: Duration = Duration::from_secs(5);

each_version! {
    fn every_write_command_keeps_its_reply_until_it_is_durable_and_then_sends_the_stock_servers_bytes(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let stock = ServerBuilder::stock(version).start();
        let mut findings = Vec::new();
        for protocol in ["HELLO 2", "HELLO 3"] {
            for case in commands::cases(&mut server.raw()) {
                if case.excluded.is_some() {
                    continue;
                }
                if let Err(finding) = withheld(&server, &stock, protocol, &case) {
                    if finding.starts_with(HUNG) {
                        server = ServerBuilder::with_module(version).start();
                    }
                    findings.push(format!("{protocol}: {} ({}): {finding}", case.call, case.setup.join("; ")));
                }
            }
        }
        assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    }

    fn every_write_command_is_recovered_after_kill_9(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let mut findings = Vec::new();
        for case in commands::cases(&mut server.raw()) {
            if case.excluded.is_some() {
                continue;
            }
            clean(&mut server.raw());
            let mut client = server.raw();
            let words = case.prepare(&mut client);
            client.call(&words);
            let before = dataset::read(&mut server.raw());
            server.kill9_and_restart();
            let after = dataset::read(&mut server.raw());
            if before != after {
                findings.push(format!("{} ({}):\n  before {before:?}\n  after  {after:?}", case.call, case.setup.join("; ")));
                // What came back must not be taken for the next case's doing.
                server = ServerBuilder::with_module(version).start();
            }
        }
        assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    }

    fn migrate_keeps_its_reply_until_it_is_durable(version: Version) {
        // Every process has a loopback address of its own, so the port is free.
        let [a, b, c, d] = std::process::id().to_be_bytes();
        let address = format!("127.{}.{c}.{d}", (a ^ b) | 1);
        let target = ServerBuilder::stock(version).set("bind", &address).set("port", "7379").start();
        let server = ServerBuilder::with_module(version).start();
        let (mut client, mut control) = (server.raw(), server.raw());
        client.run("SET key value");
        control.run("WBL.DEBUG PAUSE");
        client.send(&["MIGRATE", &address, "7379", "key", "0", "10000"]);
        client.assert_silent(&mut control, "MIGRATE");
        control.run("WBL.DEBUG RESUME");
        assert_eq!(client.reply(), Value::Simple("OK".into()));
        assert_eq!(target.raw().run("GET key").text(), "value");
        assert_eq!(client.run("GET key"), Value::Null);
    }

    fn a_blocked_group_reader_is_answered_only_when_its_delivery_is_durable(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut control = server.raw().with_patience(HANG);
        control.run("XGROUP CREATE s g $ MKSTREAM");
        control.run("WBL.WAIT");
        let (mut waiter, mut pusher) = (server.raw(), server.raw());
        waiter.send_text("XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
        let blocked = || crate::harness::server::info_field(&mut server.raw(), "clients", "blocked_clients");
        wait_until("the client is blocked", PATIENCE, || blocked().as_deref() == Some("1"));
        control.run("WBL.DEBUG PAUSE");
        pusher.send_text("XADD s 1-1 f v");
        pusher.assert_silent(&mut control, "XADD");
        waiter.assert_silent(&mut control, "XREADGROUP");
        control.run("WBL.DEBUG RESUME");
        assert_eq!(format!("{:?}", waiter.reply()), r#"[["s", [["1-1", ["f", "v"]]]]]"#);
        assert_eq!(pusher.reply().text(), "1-1");
        assert_eq!(control.run("XPENDING s g - + 10").items().len(), 1);
        assert_eq!(server.wbl_info("wbl_state_images"), "0");
    }

    fn clients_that_wait_for_an_element_are_answered_only_when_its_removal_is_durable(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut control = server.raw().with_patience(HANG);
        let cases = [
            ("BLPOP k 0", "RPUSH k a"),
            ("BRPOP k 0", "RPUSH k a"),
            ("BLMOVE k l LEFT RIGHT 0", "RPUSH k a"),
            ("BRPOPLPUSH k l 0", "RPUSH k a"),
            ("BLMPOP 0 1 k LEFT", "RPUSH k a"),
            ("BZPOPMIN k 0", "ZADD k 1 a"),
            ("BZPOPMAX k 0", "ZADD k 1 a"),
            ("BZMPOP 0 1 k MIN", "ZADD k 1 a"),
            ("BLPOP k 0", "EVAL return(redis.call('RPUSH','k','a')) 0"),
        ];
        let mut findings = Vec::new();
        for (wait, push) in cases {
            clean(&mut control);
            control.run("XGROUP CREATE s g $ MKSTREAM");
            control.run("XGROUP CREATECONSUMER s g known");
            control.run("WBL.WAIT");
            let (mut waiter, mut pusher) = (server.raw(), server.raw());
            let blocked = || crate::harness::server::info_field(&mut server.raw(), "clients", "blocked_clients");
            waiter.send_text(wait);
            wait_until("the client is blocked", PATIENCE, || blocked().as_deref() == Some("1"));
            control.run("WBL.DEBUG PAUSE");
            pusher.send_text(push);
            let held = [waiter.silent(&mut control), pusher.silent(&mut control)];
            control.run("WBL.DEBUG RESUME");
            let replies = [waiter.reply(), pusher.reply()];
            if held.iter().any(Result::is_err) || replies.iter().any(Value::is_error) {
                findings.push(format!("{wait} and {push}: {held:?}, {replies:?}"));
            }
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    fn the_replies_of_a_pipeline_leave_in_order_and_none_before_its_write_is_durable(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let (mut client, mut control) = (server.raw(), server.raw());
        client.run("SET clean c");
        control.run("WBL.DEBUG PAUSE");
        for command in ["SET a 1", "GET clean", "INCR a", "GET a", "MULTI", "INCR a", "EXEC", "ECHO end"] {
            client.send_text(command);
        }
        client.assert_silent(&mut control, "a pipeline behind a write");
        control.run("WBL.DEBUG RESUME");
        let replies: Vec<String> = (0..8).map(|_| format!("{:?}", client.reply())).collect();
        assert_eq!(replies, ["+OK", "\"c\"", ":2", "\"2\"", "+OK", "+QUEUED", "[:3]", "\"end\""]);
    }

    fn reads_of_clean_keys_are_answered_while_writes_wait(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut control = server.raw();
        for command in ["SET clean c", "SET changed old", "SET doomed d", "RPUSH list a b", "WBL.WAIT"] {
            control.run(command);
        }
        control.run("WBL.DEBUG PAUSE");
        let mut writers = Vec::new();
        for command in ["SET changed new", "DEL doomed", "SET fresh f", "LPUSH list z"] {
            let mut writer = server.raw();
            writer.send_text(command);
            writer.assert_silent(&mut control, command);
            writers.push(writer);
        }

        let mut findings = Vec::new();
        for (read, expected) in [
            ("GET clean", "\"c\""),
            ("STRLEN clean", ":1"),
            ("MGET clean none", "[\"c\", null]"),
            ("EXISTS none", ":0"),
            ("TTL clean", ":-1"),
            ("ECHO hello", "\"hello\""),
            ("EVAL return(redis.call('GET','clean')) 1 clean", "\"c\""),
        ] {
            let mut reader = server.raw();
            reader.send_text(read);
            if reader.silent(&mut control).is_ok() {
                findings.push(format!("{read} of a clean key waits"));
            } else {
                assert_eq!(format!("{:?}", reader.reply()), expected, "{read}");
            }
        }
        control.run("WBL.DEBUG RESUME");
        for mut writer in writers {
            assert!(!writer.reply().is_error());
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    fn clients_that_leave_while_their_reply_is_held_do_no_harm(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let mut control = server.raw();
        control.run("WBL.DEBUG PAUSE");
        let mut leaver = server.raw();
        leaver.send_text("SET left 1");
        leaver.assert_silent(&mut control, "SET");
        drop(leaver);
        let mut killed = server.raw();
        let id = killed.run("CLIENT ID").integer();
        killed.send_text("SET killed 1");
        killed.assert_silent(&mut control, "SET");
        assert_eq!(control.run(&format!("CLIENT KILL ID {id}")).integer(), 1);
        let mut stays = server.raw();
        stays.send_text("SET stays 1");
        stays.assert_silent(&mut control, "SET");
        control.run("WBL.DEBUG RESUME");
        assert_eq!(stays.reply(), Value::Simple("OK".into()));
        assert!(killed.try_reply().is_err(), "a killed client got a reply");
        control.run("WBL.WAIT");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("EXISTS left killed stays").integer(), 3);
    }
}

/// Runs the case on both servers.
fn withheld(server: &Server, stock: &Server, protocol: &str, case: &Case) -> Result<(), String> {
    let expected = {
        let mut client = fresh_client(stock, protocol);
        let words = case.prepare(&mut client);
        client.call(&words);
        client.last_bytes().to_vec()
    };
    let mut client = fresh_client(server, protocol);
    let mut control = server.raw().with_patience(HANG);
    let words = case.prepare(&mut client);
    control.run("WBL.WAIT");
    control.run("WBL.DEBUG PAUSE");
    client.send(&words);
    let silent = client.silent(&mut control);
    if silent.as_ref().is_err_and(|finding| finding.starts_with(HUNG)) {
        return silent;
    }
    control.run("WBL.DEBUG RESUME");
    let reply = client.try_reply().map_err(|error| format!("{HUNG} after the resume: {error}"))?;
    let found = client.last_bytes();
    silent?;

    let same = if case.random {
        reply.shape() == crate::harness::resp::decode(&expected).expect("a whole reply").0.shape()
    } else {
        found == expected
    };
    let differs = || format!("sent {}, a stock server {}", found.escape_ascii(), expected.escape_ascii());
    same.then_some(()).ok_or_else(differs)
}

/// A new client of an empty server.
fn fresh_client(server: &Server, protocol: &str) -> RawConnection {
    let mut client = server.raw().with_patience(HANG);
    clean(&mut client);
    client.run(protocol);
    client
}

fn clean(connection: &mut RawConnection) {
    for command in ["FLUSHALL", "FUNCTION FLUSH", "SCRIPT FLUSH"] {
        connection.run(command);
    }
}
