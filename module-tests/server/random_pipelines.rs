//! Random pipelines, which the module runs for their clients and which come in random pieces, have the replies and the
//! dataset of a stock server.

use crate::collecting::bytes;
use crate::harness::resp::encode;
use crate::harness::scene::split;
use crate::harness::server::info_field;
use crate::harness::{PATIENCE, Random, RawConnection, Scene, ServerBuilder, Version, each_version, wait_until};

/// Commands that the module does not run for their clients.
const ODD: &[&str] = &[
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH K",
    "UNWATCH",
    "EVAL \"return redis.call('INCR',KEYS[1])\" 1 K",
    "NOSUCH K",
    "BLPOP K 0.01",
    "XREAD COUNT 1 STREAMS K 0",
    "CLIENT GETNAME",
    "SUBSCRIBE c",
    "UNSUBSCRIBE c",
    "PUBLISH c m",
    "CLIENT NO-TOUCH ON",
    "CLIENT NO-TOUCH OFF",
    "RESET",
    "GET",
    "COPY K L",
    "MOVE K 1",
    "SELECT 7",
    "SELECT x",
];

/// Those that it does.
const PLAIN: &[&str] = &[
    "SET K V",
    "GET K",
    "INCR K",
    "APPEND K V",
    "DEL K L",
    "LPUSH K V V",
    "RPOP K",
    "LRANGE K 0 -1",
    "SADD K V",
    "SCARD K",
    "HSET K f V",
    "HINCRBY K f 2",
    "ZADD K 1 V",
    "ZRANGE K 0 -1 WITHSCORES",
    "EXPIRE K 100",
    "PERSIST K",
    "TYPE K",
    "EXISTS K L",
    "RENAME K L",
    "SETNX K V",
    "SET K V GET",
    "GETSET K V",
    "GETDEL K",
    "MSET K 1 L 2",
    "MGET K L",
    "STRLEN K",
    "SETRANGE K 2 zz",
    "SINTERSTORE K L L",
    "PFADD K V",
    "PFCOUNT K",
    "BITFIELD K OVERFLOW FAIL INCRBY u2 0 1",
    "SORT K ALPHA",
    "LMOVE K L LEFT RIGHT",
    "SELECT 1",
    "SELECT 0",
    "DBSIZE",
    "PING",
    "ECHO V",
    "GETEX K PERSIST",
    "OBJECT ENCODING K",
    "INCRBYFLOAT K 0.5",
    "XADD K 5-V f v",
    "XLEN K",
    "XTRIM K MAXLEN 1",
    "SETEX K 100 v",
    "LINSERT K BEFORE 1 V",
    "ZRANGESTORE K L 0 -1",
    "LTRIM K 0 1",
    "SETEX K 0 v",
    "TOUCH K",
    "XGROUP CREATE K g 0 MKSTREAM",
    "XACK K g 1-1",
    "FLUSHDB",
    "SUBSTR K 0 2",
];

each_version! {
    fn random_pipelines_cut_anywhere_are_answered_as_by_a_stock_server(version: Version) {
        let mut random = Random::of_test("random pipelines");
        let mut scene = Scene::of(ServerBuilder::with_module(version).set("databases", "3"));
        let stock = ServerBuilder::stock(version).set("databases", "3").in_memory().start();
        scene.control.run("WBL.DEBUG COLLECT ALL");
        // How much the server finds of a pipeline when it looks depends on the machine.
        for round in 0.. {
            let transactions = scene.gauge("wbl_collected_transactions");
            if round >= 250 && transactions > 20 && scene.gauge("wbl_collected_commands") > 500 {
                break;
            }
            assert!(round < 5000, "{transactions} transactions are collected");
            let mut clients = [scene.server.raw(), stock.raw()];
            if random.chance(40) {
                clients.iter_mut().for_each(|client| drop(client.run("HELLO 3")));
            }
            for _ in 0..random.below(10) {
                let odd = [0, 0, 5, 20][random.below(4) as usize];
                let transactions = random.chance(50);
                let mut commands = Vec::new();
                for _ in 0..=random.below(20) {
                    let length = if transactions && random.chance(30) { random.below(5) } else { 0 };
                    let inside: Vec<String> = (0..length).map(|_| any_command(&mut random, odd / 2)).collect();
                    match inside.is_empty() {
                        true => commands.push(any_command(&mut random, odd)),
                        false => {
                            let end = if random.chance(80) { "EXEC" } else { "DISCARD" };
                            commands.extend(["MULTI".into()].into_iter().chain(inside).chain([end.into()]));
                        }
                    }
                }
                let end = format!("end-{}", random.next_u64());
                let mut all: Vec<u8> = commands.iter().flat_map(|command| encode(&split(command))).collect();
                all.extend(bytes(&["DISCARD", &format!("PING {end}")]));
                let mut rest = all.as_slice();
                let most = if random.chance(50) { rest.len() } else { 200 };
                while !rest.is_empty() {
                    let (head, tail) = rest.split_at(rest.len().min(1 + random.below(most as u64) as usize));
                    clients.iter_mut().for_each(|client| client.send_bytes(head).unwrap());
                    rest = tail;
                }
                let [found, expected] = clients.each_mut().map(|client| until(client, &end));
                assert_eq!(found, expected, "round {round}: {commands:?}");
            }
        }
        let digests = [scene.server.raw().run("DEBUG DIGEST"), stock.raw().run("DEBUG DIGEST")];
        assert_eq!(digests[0], digests[1]);
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("DEBUG DIGEST"), digests[0], "after a crash");
        assert_eq!(info_field(&mut server.raw(), "wbl", "wbl_recovery_errors").as_deref(), Some("0"));
    }
}

each_version! {
    // A held client is freed when its connection is closed, and what it has sent after that is not executed.
    fn random_pipelines_of_connections_that_are_closed_are_executed_up_to_a_command(version: Version) {
        let mut random = Random::of_test("closed pipelines");
        let mut scene = Scene::of(ServerBuilder::with_module(version).set("databases", "3"));
        let stock = ServerBuilder::stock(version).set("databases", "3").in_memory().start();
        scene.control.run("WBL.DEBUG COLLECT ALL");
        let mut stock_control = stock.raw();
        for round in 0..80 {
            scene.control.run("FLUSHALL");
            stock_control.run("FLUSHALL");
            let commands: Vec<String> =
                (0..=random.below(30)).map(|_| any_command(&mut random, if round % 2 == 0 { 0 } else { 10 })).collect();
            let pipeline: Vec<u8> = commands.iter().flat_map(|command| encode(&split(command))).collect();
            let mut client = scene.server.raw();
            let mut rest = pipeline.as_slice();
            let most = if random.chance(50) { rest.len() } else { 200 };
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(rest.len().min(1 + random.below(most as u64) as usize));
                client.send_bytes(head).unwrap();
                rest = tail;
            }
            let mut replies = Vec::new();
            if random.chance(50) {
                client.half_close();
                while client.try_reply().is_ok() {
                    replies.push(client.last_bytes().escape_ascii().to_string());
                }
            }
            drop(client);
            wait_until("the client has gone", PATIENCE, || {
                info_field(&mut scene.control, "clients", "connected_clients").as_deref() == Some("1")
            });
            let found = scene.control.run("DEBUG DIGEST");
            // What each prefix of the commands leaves, and what it answers.
            let mut client = stock.raw();
            let mut digests = vec![stock_control.run("DEBUG DIGEST")];
            let mut expected = Vec::new();
            for command in &commands {
                client.call(&split(command));
                expected.push(client.last_bytes().escape_ascii().to_string());
                digests.push(stock_control.run("DEBUG DIGEST"));
            }
            let what = format!("round {round}: {commands:?}");
            assert_eq!(replies[..], expected[..replies.len()], "{what}");
            assert!(digests[replies.len()..].contains(&found), "{what}: {} replies", replies.len());
            scene.control.run("WBL.WAIT");
            if round % 20 == 19 {
                scene.assert_idle();
                scene.server.kill9_and_restart();
                scene.control = scene.server.raw();
                scene.control.run("WBL.DEBUG COLLECT ALL");
                assert_eq!(scene.control.run("DEBUG DIGEST"), found, "{what}: after a crash");
            }
        }
        scene.end();
    }
}

/// All replies up to the one that holds this text.
fn until(client: &mut RawConnection, end: &str) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        client.reply();
        found.push(client.last_bytes().escape_ascii().to_string());
        if found.last().is_some_and(|reply| reply.contains(end)) {
            return found;
        }
    }
}

/// A command; in so many of one hundred cases one that the module does not run for its client.
fn any_command(random: &mut Random, odd: u64) -> String {
    let from = if random.chance(odd) { ODD } else { PLAIN };
    let command = from[random.below(from.len() as u64) as usize];
    let keys = [random.below(6), random.below(6)];
    let value = ["1", "2", "10", "a", "xyz"][random.below(5) as usize];
    let words = command.split(' ').map(|text| match text {
        "K" => format!("k{}", keys[0]),
        "L" => format!("k{}", keys[1]),
        "V" => value.into(),
        "5-V" => format!("5-{}", random.below(9)),
        text => text.into(),
    });
    words.collect::<Vec<String>>().join(" ")
}
