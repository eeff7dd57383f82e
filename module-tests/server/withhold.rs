//! While the durable offset stands still, no reply to a write leaves, and reads of other keys are answered.

use crate::harness::commands;
use crate::harness::{
    Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Value, Version, dataset, each_lever, each_version, wait_until,
};

each_version! {
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
}

each_lever! {
    fn migrate_keeps_its_reply_until_it_is_durable(version: Version, lever: Lever) {
        // Every process has a loopback address of its own, so the port is free.
        let [a, b, c, d] = std::process::id().to_be_bytes();
        let address = format!("127.{}.{c}.{d}", (a ^ b) | 1);
        let target = ServerBuilder::stock(version).set("bind", &address).set("port", "7379").start();
        let mut scene = Scene::start(version).with_lever(lever);
        let mut client = scene.server.raw();
        client.run("SET key value");
        scene.freeze();
        client.send(&["MIGRATE", &address, "7379", "key", "0", "10000"]);
        scene.assert_withheld(&mut client, "MIGRATE");
        scene.thaw();
        assert_eq!(client.reply(), Value::Simple("OK".into()));
        assert_eq!(target.raw().run("GET key").text(), "value");
        assert_eq!(client.run("GET key"), Value::Null);
    }

    fn a_blocked_group_reader_is_answered_only_when_its_delivery_is_durable(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.control.run("XGROUP CREATE s g $ MKSTREAM");
        scene.control.run("WBL.WAIT");
        let (mut waiter, mut pusher) = (scene.server.raw(), scene.server.raw());
        waiter.send_text("XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
        let blocked = || crate::harness::server::info_field(&mut scene.server.raw(), "clients", "blocked_clients");
        wait_until("the client is blocked", PATIENCE, || blocked().as_deref() == Some("1"));
        scene.freeze();
        pusher.send_text("XADD s 1-1 f v");
        scene.assert_withheld(&mut pusher, "XADD");
        scene.assert_withheld(&mut waiter, "XREADGROUP");
        scene.thaw();
        assert_eq!(format!("{:?}", waiter.reply()), r#"[["s", [["1-1", ["f", "v"]]]]]"#);
        assert_eq!(pusher.reply().text(), "1-1");
        assert_eq!(scene.control.run("XPENDING s g - + 10").items().len(), 1);
        assert_eq!(scene.server.wbl_info("wbl_state_images"), "0");
    }

    fn clients_that_wait_for_an_element_are_answered_only_when_its_removal_is_durable(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
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
            clean(&mut scene.control);
            scene.control.run("XGROUP CREATE s g $ MKSTREAM");
            scene.control.run("XGROUP CREATECONSUMER s g known");
            scene.control.run("WBL.WAIT");
            let (mut waiter, mut pusher) = (scene.server.raw(), scene.server.raw());
            let blocked = || crate::harness::server::info_field(&mut scene.server.raw(), "clients", "blocked_clients");
            waiter.send_text(wait);
            wait_until("the client is blocked", PATIENCE, || blocked().as_deref() == Some("1"));
            scene.freeze();
            pusher.send_text(push);
            let held = [scene.silence(&mut waiter), scene.silence(&mut pusher)];
            scene.thaw();
            let replies = [waiter.reply(), pusher.reply()];
            if held.iter().any(Result::is_err) || replies.iter().any(Value::is_error) {
                findings.push(format!("{wait} and {push}: {held:?}, {replies:?}"));
            }
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    fn the_replies_of_a_pipeline_leave_in_order_and_none_before_its_write_is_durable(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let mut client = scene.server.raw();
        client.run("SET clean c");
        scene.freeze();
        for command in ["SET a 1", "GET clean", "INCR a", "GET a", "MULTI", "INCR a", "EXEC", "ECHO end"] {
            client.send_text(command);
        }
        scene.assert_withheld(&mut client, "a pipeline behind a write");
        scene.thaw();
        let replies: Vec<String> = (0..8).map(|_| format!("{:?}", client.reply())).collect();
        assert_eq!(replies, ["+OK", "\"c\"", ":2", "\"2\"", "+OK", "+QUEUED", "[:3]", "\"end\""]);
    }

    fn clients_that_leave_while_their_reply_is_held_do_no_harm(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.freeze();
        let mut leaver = scene.server.raw();
        leaver.send_text("SET left 1");
        scene.assert_withheld(&mut leaver, "SET");
        drop(leaver);
        let mut killed = scene.server.raw();
        let id = killed.run("CLIENT ID").integer();
        killed.send_text("SET killed 1");
        scene.assert_withheld(&mut killed, "SET");
        assert_eq!(scene.control.run(&format!("CLIENT KILL ID {id}")).integer(), 1);
        let mut stays = scene.server.raw();
        stays.send_text("SET stays 1");
        scene.assert_withheld(&mut stays, "SET");
        scene.thaw();
        assert_eq!(stays.reply(), Value::Simple("OK".into()));
        assert!(killed.try_reply().is_err(), "a killed client got a reply");
        scene.control.run("WBL.WAIT");
        scene.server.kill9_and_restart();
        assert_eq!(scene.server.raw().run("EXISTS left killed stays").integer(), 3);
    }
}

fn clean(connection: &mut RawConnection) {
    for command in ["FLUSHALL", "FUNCTION FLUSH", "SCRIPT FLUSH"] {
        connection.run(command);
    }
}
