//! Pipelines that the module runs for their clients: they stall nobody, and their bytes are those of a stock server.

use crate::harness::resp::encode;
use crate::harness::scene::split;
use crate::harness::{
    Lever, PATIENCE, RawConnection, Scene, Server, ServerBuilder, Value, Version, each_lever, each_version, wait_until,
};

/// The bytes of these commands.
pub(super) fn bytes(commands: &[&str]) -> Vec<u8> {
    commands.iter().flat_map(|command| encode(&split(command))).collect()
}

/// The bytes of so many replies.
fn replies(client: &mut RawConnection, count: usize) -> Vec<u8> {
    let reply = |_| {
        client.reply();
        client.last_bytes().to_vec()
    };
    (0..count).flat_map(reply).collect()
}

/// A client whose pipelines the module runs.
fn collected(scene: &mut Scene) -> RawConnection {
    let mut client = scene.server.raw();
    wait_until("the module runs the client's pipelines", PATIENCE, || {
        let before = scene.gauge("wbl_collected_commands");
        client.send_bytes(&bytes(&["SET warm 1"; 10])).unwrap();
        replies(&mut client, 10);
        scene.gauge("wbl_collected_commands") > before
    });
    scene.prepare(&[]);
    client
}

/// Sends these commands so that the server reads them at once.
fn send_at_once(server: &mut Server, client: &mut RawConnection, commands: &[&str]) {
    server.in_one_iteration(|| client.send_bytes(&bytes(commands)).unwrap());
}

/// What a stock server answers.
fn stock(version: Version, setup: &[&str], commands: &[&str]) -> Vec<u8> {
    let server = ServerBuilder::stock(version).allow_warning("maxmemory").in_memory().start();
    let mut client = server.raw();
    setup.iter().for_each(|command| drop(client.call(&split(command))));
    client.send_bytes(&bytes(commands)).unwrap();
    replies(&mut client, commands.len())
}

const MIXED: &[&str] = &[
    "SET a 1",
    "GET a",
    "INCR a",
    "LPUSH l x y",
    "GET l",
    "SELECT 1",
    "GET a",
    "SET a one",
    "SELECT 0",
    "GET a",
    "PING",
    "ECHO hi",
    "DBSIZE",
    "XADD s 1-1 f v",
    "XADD s 1-1 f v",
    "XGROUP CREATE s g 0",
    "XACK s g 1-1",
    "SPOP none",
    "MSET b 1 c 2",
    "MGET a b c",
    "SETNX b x",
    "GETSET b new",
    "GETDEL l",
    "HSET h f v",
    "HGETALL h",
    "BITFIELD f OVERFLOW FAIL INCRBY u2 0 1",
    "PFADD p x",
    "PFCOUNT p",
    "SORT l",
    "EXPIRE a 100",
    "PERSIST a",
];

each_lever! {
    fn a_pipeline_is_answered_after_its_flush_and_stalls_nobody(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET clean c"]);
        let mut client = collected(&mut scene);
        let mut other = scene.server.raw();
        let waits = scene.gauge("wbl_inline_waits");
        scene.freeze();
        client.send_bytes(&bytes(&["SET a 1", "SET b 2", "GET clean", "SET a 3", "GET b"])).unwrap();
        scene.assert_withheld(&mut client, "the pipeline");
        assert_eq!(other.run("GET clean").text(), "c");
        scene.hold(&mut other, "STRLEN a");
        scene.thaw();
        assert_eq!(replies(&mut client, 5), b"+OK\r\n+OK\r\n$1\r\nc\r\n+OK\r\n$1\r\n2\r\n");
        assert_eq!(other.reply(), Value::Integer(1));
        assert_eq!(scene.gauge("wbl_inline_waits"), waits, "the loop waited");
        scene.end();
    }

    fn a_transaction_is_one_unit_and_stalls_nobody(version: Version, lever: Lever) {
        let setup = ["SET clean c", "SET warm 1"];
        let commands = [
            "MULTI", "SET a 1", "INCR a", "LPUSH a x", "SELECT 1", "XADD s 1-1 f v", "SPOP none", "DBSIZE", "EXEC", "GET a",
            "SELECT 0", "MULTI", "EXEC", "MULTI", "DEL a", "DISCARD", "MULTI", "GET clean", "GET a", "EXEC",
        ];
        let expected = stock(version, &setup, &commands);
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&setup);
        let mut client = collected(&mut scene);
        let mut other = scene.server.raw();
        let (waits, units) = (scene.gauge("wbl_inline_waits"), scene.gauge("wbl_units"));
        scene.freeze();
        send_at_once(&mut scene.server, &mut client, &commands);
        scene.assert_withheld(&mut client, "the transactions");
        assert_eq!(other.run("GET clean").text(), "c");
        scene.hold(&mut other, "STRLEN a");
        scene.thaw();
        let found = replies(&mut client, commands.len());
        assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!(scene.gauge("wbl_units") - units, 1);
        assert_eq!(scene.gauge("wbl_collected_transactions"), 3);
        assert_eq!(scene.gauge("wbl_inline_waits"), waits, "the loop waited");
        let mut server = scene.end();
        server.kill9_and_restart();
        let mut client = server.raw();
        assert_eq!(client.run("GET a").text(), "2");
        client.run("SELECT 1");
        assert_eq!(client.run("XLEN s"), Value::Integer(1));
    }

    fn what_a_pipeline_shows_of_others_is_waited_for(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET clean c", "SET k old"]);
        let mut client = collected(&mut scene);
        scene.freeze();
        let mut writer = scene.held("SET k new");
        client.send_bytes(&bytes(&["GET clean", "GET k", "GET clean"])).unwrap();
        scene.assert_withheld(&mut client, "the pipeline");
        scene.thaw();
        assert_eq!(replies(&mut client, 3), b"$1\r\nc\r\n$3\r\nnew\r\n$1\r\nc\r\n");
        assert_eq!(writer.reply().text(), "OK");
        client.send_bytes(&bytes(&["GET clean", "GET k", "GET clean"])).unwrap();
        assert_eq!(replies(&mut client, 3), b"$1\r\nc\r\n$3\r\nnew\r\n$1\r\nc\r\n");
        scene.end();
    }

    fn all_kinds_of_commands_are_answered_in_order(version: Version, lever: Lever) {
        let expected = stock(version, &["SET warm 1"], MIXED);
        let mut scene = Scene::start(version).with_lever(lever);
        let mut client = collected(&mut scene);
        let before = scene.gauge("wbl_collected_commands");
        scene.freeze();
        send_at_once(&mut scene.server, &mut client, MIXED);
        scene.assert_withheld(&mut client, "the pipeline");
        scene.thaw();
        let found = replies(&mut client, MIXED.len());
        assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!(scene.gauge("wbl_collected_commands") - before, MIXED.len() as i64);
        scene.end();
    }

    fn a_part_of_a_command_is_waited_for_by_nobody(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let mut client = collected(&mut scene);
        let all = bytes(&["SET a 1", "SET b 2", "SET c 3"]);
        for cut in [all.len() - 1, all.len() - 12, all.len() / 3 * 2 + 3] {
            scene.freeze();
            let server = &mut scene.server;
            server.in_one_iteration(|| client.send_bytes(&all[..cut]).unwrap());
            scene.assert_withheld(&mut client, "the pipeline");
            scene.thaw();
            assert_eq!(replies(&mut client, 2), b"+OK\r\n+OK\r\n");
            client.send_bytes(&all[cut..]).unwrap();
            assert_eq!(replies(&mut client, 1), b"+OK\r\n");
        }
        scene.end();
    }

    fn a_client_that_is_killed_or_closes_leaves_its_writes_behind(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let mut killed = collected(&mut scene);
        let id = killed.run("CLIENT ID").integer();
        let mut closes = collected(&mut scene);
        scene.freeze();
        killed.send_bytes(&bytes(&["SET a 1", "SET b 2"])).unwrap();
        scene.assert_withheld(&mut killed, "the pipeline");
        closes.send_bytes(&bytes(&["SET c 3", "SET d 4"])).unwrap();
        scene.assert_withheld(&mut closes, "the other pipeline");
        drop(closes);
        scene.control.run(&format!("CLIENT KILL ID {id}"));
        scene.settle();
        scene.thaw();
        assert!(killed.try_reply().is_err());
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("MGET a b c d").items().len(), 4);
        assert!(server.raw().run("MGET a b c d").items().iter().all(|value| *value != Value::Null));
    }
}

each_version! {
    fn large_replies_are_not_kept_for_long(version: Version) {
        let mut scene = Scene::start(version);
        let large = "v".repeat(300_000);
        scene.prepare(&[&format!("SET large {large}")]);
        let mut client = collected(&mut scene);
        let commands = ["SET a 1", "GET large", "GET large", "GET large", "GET large", "INCR n", "GET large", "INCR n"];
        for round in 0..3 {
            client.send_bytes(&bytes(&commands)).unwrap();
            let found: Vec<Value> = commands.iter().map(|_| client.reply()).collect();
            let of = |index: usize| found[index].clone();
            assert!([1, 2, 3, 4, 6].iter().all(|index| of(*index).text() == large));
            assert_eq!((of(5), of(7)), (Value::Integer(2 * round + 1), Value::Integer(2 * round + 2)));
        }
        scene.end();
    }

    fn what_the_server_refuses_is_answered_in_its_place(version: Version) {
        let setups: [&[&str]; 4] = [
            &["CONFIG SET min-replicas-to-write 1"],
            &["CONFIG SET maxmemory 1"],
            &["ACL SETUSER u on nopass +@all -incr ~k* ~warm", "AUTH u x"],
            &["CLIENT NO-TOUCH ON"],
        ];
        let alone = ["SET k 1", "GET k", "PING", "DEL k", "INCR k", "SET other 1", "GET other", "ECHO x", "SELECT 1"];
        let queued = [
            "MULTI", "SET k 1", "GET k", "EXEC", "MULTI", "GET k", "EXEC", "MULTI", "DEL k", "EXEC", "MULTI", "SET k 2",
            "DISCARD", "GET k", "MULTI", "INCR k", "EXEC", "MULTI", "SET other 2", "EXEC",
        ];
        let commands = [&alone[..], &queued].concat();
        for setup in setups {
            let expected = stock(version, setup, &commands);
            let mut scene = Scene::of(ServerBuilder::with_module(version).allow_warning("maxmemory"));
            let mut client = collected(&mut scene);
            setup.iter().for_each(|command| drop(client.run(command)));
            client.send_bytes(&bytes(&commands)).unwrap();
            let found = replies(&mut client, commands.len());
            assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{setup:?}");
            scene.control.run("CONFIG SET maxmemory 0");
            scene.control.run("CONFIG SET min-replicas-to-write 0");
            scene.end();
        }
    }

    fn the_setting_has_the_loop_wait(version: Version) {
        let mut scene = Scene::start(version);
        let mut client = collected(&mut scene);
        scene.control.run("CONFIG SET wbl.pipelines wait");
        client.send_bytes(&bytes(&["MULTI", "SET k 1", "EXEC"])).unwrap();
        replies(&mut client, 3);
        assert_eq!(scene.gauge("wbl_collected_transactions"), 1);
        scene.control.run("CONFIG SET wbl.transactions wait");
        let collected = scene.gauge("wbl_collected_commands");
        for _ in 0..3 {
            client.send_bytes(&bytes(&["INCR n"; 10])).unwrap();
            replies(&mut client, 10);
            client.send_bytes(&bytes(&["MULTI", "SET k 1", "EXEC"])).unwrap();
            replies(&mut client, 3);
        }
        assert_eq!(scene.gauge("wbl_collected_commands"), collected);
        scene.control.run("CONFIG SET wbl.pipelines auto");
        client.send_bytes(&bytes(&["INCR n"; 10])).unwrap();
        assert!(replies(&mut client, 10).ends_with(b":40\r\n"));
        scene.end();
    }

    fn a_client_that_wants_no_replies_gets_none(version: Version) {
        let mut scene = Scene::start(version);
        let mut client = collected(&mut scene);
        client.send_bytes(&bytes(&["CLIENT REPLY SKIP", "INCR n", "INCR n", "INCR n"])).unwrap();
        assert_eq!(replies(&mut client, 2), b":2\r\n:3\r\n");
        let mut client = collected(&mut scene);
        client.send_bytes(&bytes(&["CLIENT REPLY OFF", "INCR n", "INCR n"])).unwrap();
        client.send_bytes(&bytes(&["INCR n", "INCR n", "CLIENT REPLY ON", "INCR n"])).unwrap();
        assert_eq!(replies(&mut client, 2), b"+OK\r\n:8\r\n");
        scene.end();
    }
}

each_lever! {
    fn a_pause_comes_between(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let mut client = collected(&mut scene);
        scene.freeze();
        send_at_once(&mut scene.server, &mut client, &["SET a 2", "INCR n"]);
        scene.assert_withheld(&mut client, "the pipeline");
        scene.control.run("CLIENT PAUSE 100000 WRITE");
        client.send_bytes(&bytes(&["GET a", "INCR n"])).unwrap();
        scene.thaw();
        assert_eq!(replies(&mut client, 3), b"+OK\r\n:1\r\n$1\r\n2\r\n");
        scene.control.run("CLIENT UNPAUSE");
        assert_eq!(replies(&mut client, 1), b":2\r\n");
        scene.control.run("CLIENT PAUSE 100000 WRITE");
        client.send_bytes(&bytes(&["GET warm", "SET a 3", "GET a", "INCR n"])).unwrap();
        assert_eq!(client.reply().text(), "1");
        scene.wait_blocked(1);
        scene.control.run("CLIENT UNPAUSE");
        assert_eq!(replies(&mut client, 3), b"+OK\r\n$1\r\n3\r\n:3\r\n");
        scene.end();
    }
}
