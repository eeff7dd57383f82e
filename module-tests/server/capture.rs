//! How changes are logged: exactly, as an operation, and not as images of whole keys.

use crate::harness::{Server, ServerBuilder, Value, Version, dataset, each_version};
use valkey_wbl::core::table::{self, Role};

/// May make a script or a channel's message part of the replication stream, but change no data by themselves.
const CHANGE_NOTHING_THEMSELVES: [&str; 5] = ["eval", "evalsha", "fcall", "publish", "spublish"];

fn images(server: &Server) -> u64 {
    server.wbl_info("wbl_state_images").parse().unwrap()
}

/// Runs commands one after another; returns the number of images that were logged for them.
fn images_of(server: &Server, commands: &[&str]) -> u64 {
    let before = images(server);
    let mut client = server.raw();
    commands.iter().for_each(|command| drop(client.run(command)));
    images(server) - before
}

each_version! {
    fn transactions_are_logged_without_images(version: Version) {
        let server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        client.run("MSET e 1 n 1");
        client.run("HSET h f 1");
        for transaction in [
            &["SET s 1", "INCR s", "EXPIRE e 100", "INCRBYFLOAT number 1.5", "HINCRBYFLOAT h f 1.5"][..],
            &["LPUSH l a", "LTRIM l 0 9", "RPOP l", "XADD x * f v", "SADD t a b", "SREM t a"],
            &["EVAL redis.call('SET','s',2,'EX',100)redis.call('XADD','x','*','f','v') 0"],
        ] {
            let commands: Vec<&str> = ["MULTI"].iter().chain(transaction).chain(&["EXEC"]).copied().collect();
            assert_eq!(images_of(&server, &commands), 0, "{transaction:?}");
        }
        assert_eq!(client.run("GET s").text(), "2", "the script has run");
        // A server of 9.1 reports when each command has run.
        let several = [
            "MULTI", "SET k 1 EX 100", "INCRBYFLOAT k 1", "GETEX k PX 1000", "PEXPIRE k 5000 GT", "XADD x2 * f v",
            "XADD x2 MAXLEN 1 * f v", "XGROUP CREATE x2 g 0", "XACK x2 g 1-1", "EVAL redis.call('INCR','n') 0", "INCR n",
            "COPY n n2 DB 1", "SELECT 1", "MOVE n2 0", "PFADD p a", "PFCOUNT p", "EXEC",
        ];
        let count = images_of(&server, &several);
        assert_eq!(count == 0, version == Version::V9_1, "{count} images");
    }

    fn a_bitfield_that_may_fail_is_logged_as_it_was_sent(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        client.run("SETRANGE b 5000000 x");
        // The last makes the string longer, and changes nothing else.
        for command in [
            "BITFIELD b OVERFLOW FAIL INCRBY u8 80 1", "BITFIELD b OVERFLOW FAIL INCRBY u8 80 255",
            "BITFIELD b OVERFLOW FAIL INCRBY u1 80000000 2",
        ] {
            assert_eq!(images_of(&server, &[command]), 0, "{command}");
        }
        assert_eq!(images_of(&server, &["EVAL redis.call('BITFIELD','b','OVERFLOW','FAIL','INCRBY','u8','80','1') 0"]), 0);
        assert!(server.wbl_info("wbl_log_bytes").parse::<usize>().unwrap() < 2000);
        assert_eq!(images_of(&server, &["EVAL redis.call('BITFIELD','b','OVERFLOW','FAIL','INCRBY','u8','80','255') 0"]), 1);
        dataset::assert_survives(&mut server, "after kill -9");
        assert_eq!(server.raw().run("STRLEN b").integer(), 10_000_001);
    }

    fn a_transaction_that_the_server_made_wait_survives(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let (mut client, mut other) = (server.raw(), server.raw());
        for command in ["XADD x 1-1 f v", "XGROUP CREATE x g 0", "XREADGROUP GROUP g c STREAMS x >", "SET s 1"] {
            client.run(command);
        }
        for command in ["MULTI", "XACK x g 1-1", "INCRBYFLOAT s 1", "EXPIRE s 100", "COPY s t DB 1"] {
            client.run(command);
        }
        other.run("CLIENT PAUSE 50 WRITE");
        assert_eq!(client.run("EXEC").items().len(), 4);
        server.kill9_and_restart();
        let mut client = server.raw();
        assert_eq!(client.run("XPENDING x g - + 10").items().len(), 0);
        assert_eq!(client.run("GET s").text(), "2");
        assert!(client.run("TTL s").integer() > 0);
        client.run("SELECT 1");
        assert_eq!(client.run("GET t").text(), "2");
    }

    fn the_table_knows_every_command_that_writes(version: Version) {
        let server = ServerBuilder::stock(version).in_memory().start();
        let mut unknown = Vec::new();
        let mut seen = 0;
        for command in server.raw().run("COMMAND").items() {
            let subcommands = command.items()[9].items();
            for entry in [command].into_iter().chain(subcommands) {
                let (name, flags) = (entry.items()[0].text(), entry.items()[2].items());
                let has = |wanted: &str| flags.iter().any(|flag| flag.text() == wanted);
                if !has("write") && (!has("may_replicate") || CHANGE_NOTHING_THEMSELVES.contains(&name.as_str())) {
                    continue;
                }
                seen += 1;
                if table::find(&name).is_none_or(|row| row.role != Role::Write) {
                    unknown.push(name);
                }
            }
        }
        assert!(seen > 100, "{seen} commands that write");
        assert!(unknown.is_empty(), "not in the table: {unknown:?}");
    }

    // Without SET and XCLAIM the module does not know how to log SETEX and XREADGROUP.
    fn unknown_writes_are_logged_as_images_counted_and_reported_once(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().rename("SET", "").rename("XCLAIM", "").start();
        let mut client = server.raw();
        for command in ["XADD x 1-1 f v", "XADD x 2-1 f v", "XADD x 3-1 f v", "XGROUP CREATE x g 0", "LPUSH l a"] {
            client.run(command);
        }
        assert_eq!(images(&server), 0);
        client.run("SETEX k 100000 a");
        client.run("setex l2 100000 b");
        client.run("XREADGROUP GROUP g c COUNT 1 STREAMS x >");
        client.run("EVAL redis.call('xreadgroup','GROUP','g','c','COUNT','1','STREAMS','x','>')redis.call('setex','m',100000,'a') 0");
        for command in ["MULTI", "XREADGROUP GROUP g c STREAMS x >", "SETEX n 100000 a", "EXEC", "GET s"] {
            client.run(command);
        }
        assert!(client.call(&["nosuchcommand", "l"]).is_error());
        assert_eq!(server.wbl_info("wbl_unknown_commands"), "7");
        assert!(images(&server) >= 7);
        for name in ["setex", "xreadgroup"] {
            assert_eq!(server.log().matches(&format!("not known how to log {name}")).count(), 1, "{name}");
        }
        server.kill9_and_restart();
        let mut client = server.raw();
        assert_eq!(client.run("MGET k l2 m n").items().iter().filter(|value| **value != Value::Null).count(), 4);
        assert_eq!(client.run("XPENDING x g - + 10").items().len(), 3);
    }

    // An 8.1 server leaves the client in the database that a key has arrived in, as soon as a module listens.
    fn copies_and_moves_in_transactions_leave_their_client_in_its_database(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let stock = ServerBuilder::stock(version).in_memory().start();
        for (key, transaction) in [
            ("a", &["COPY a copy", "SET here-a 1"][..]),
            ("b", &["COPY b b DB 0", "SET here-b 1"]),
            ("c", &["MOVE c 3", "SELECT 3", "MOVE c 4", "SET here-c 1", "EVAL redis.call('SET','c2','1') 0"]),
            ("d", &["EVAL redis.call('COPY','d','d','DB','0')redis.call('SET','here-d','1') 0", "SET e 1"]),
            ("f", &[
                "EVAL redis.call('SELECT',2)redis.call('SET','f2',1)redis.call('MOVE','f2',5)redis.call('SET','f3',1) 0",
                "EVAL redis.call('COPY','f','f','DB',7)redis.call('SET','here-f',1) 0",
                "SET last-f 1",
            ]),
        ] {
            for mut client in [server.raw(), stock.raw()] {
                for command in ["SELECT 1", &format!("SET {key} 1"), "SELECT 0", "MULTI", "SELECT 1"] {
                    client.run(command);
                }
                transaction.iter().for_each(|command| drop(client.run(command)));
                assert!(!client.run("EXEC").items().iter().any(crate::harness::Value::is_error), "{transaction:?}");
            }
        }
        let expected = dataset::read(&mut stock.raw());
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "with the module");
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after kill -9");
    }
}
