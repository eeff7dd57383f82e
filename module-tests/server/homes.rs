//! Clients stay in their own databases, whatever the log does: most servers before 9.1.1 leave them in the database
//! that an event names, as soon as a module listens.

use crate::harness::dataset::{self, Dataset};
use crate::harness::ports::free_ports;
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, each_version, paths, wait_until};
use valkey_wbl::log::sim::Random;

/// What clients send, each list on a connection of its own.
const CLIENTS: [&[&str]; 6] = [
    &[
        "SET a 1",
        "MOVE a 2",
        "SET after-a 1",
        "MOVE missing 2",
        "SET after-missing 1",
        "SELECT 3",
        "SET b 1",
        "COPY b b DB 1",
        "SET after-b 1",
        "COPY b b DB 1",
        "SET after-failed 1",
        "SELECT 4",
        "SET c 1",
        "COPY c c2",
        "SET after-c 1",
        "COPY c c3 REPLACE DB 0",
        "SET after-c3 1",
    ],
    // The first of the two that make the same key fails.
    &[
        "SELECT 5",
        "SET x 0",
        "SELECT 1",
        "SET d 1",
        "SELECT 0",
        "SET d 1",
        "MULTI",
        "SELECT 1",
        "COPY d x DB 5",
        "SET after-x 1",
        "SELECT 0",
        "COPY d x DB 5 REPLACE",
        "SET after-x2 1",
        "COPY missing z DB 4",
        "SELECT 6",
        "COPY missing z DB 4",
        "SELECT 1",
        "COPY d z DB 4",
        "SET after-z 1",
        "MOVE d 6",
        "SET after-d 1",
        "EXEC",
        "SET after-exec 1",
    ],
    &[
        "MULTI",
        "SELECT 9",
        "COPY d2 d2 DB 3",
        "DISCARD",
        "SET d2 1",
        "MULTI",
        "COPY d2 d2 DB 3",
        "SET after-d2 1",
        "EXEC",
    ],
    &[
        "EVAL redis.call('SELECT',3)redis.call('SET','e',1)redis.call('COPY','e','e','DB',1)redis.call('SET','after-e',1)redis.call('MOVE','e',2)redis.call('SET','after-e2',1) 0",
        "SET after-script 1",
        "SELECT 2",
        "EVAL redis.call('SET','g',1)redis.call('COPY','g','g','DB',1)redis.call('SET','after-g',1) 0",
        "SET after-script 1",
    ],
    &[
        "MULTI",
        "SELECT 2",
        "EVAL redis.call('SELECT',3)redis.call('SET','h',1)redis.call('COPY','h','h','DB',1)redis.call('SET','after-h',1) 0",
        "EVAL redis.call('SET','i',1)redis.call('COPY','i','i','DB',1)redis.call('SET','after-i',1) 0",
        "SELECT 4",
        "EVAL redis.call('SET','j',1)redis.call('MOVE','j',1)redis.call('SET','after-j',1) 0",
        "SET after-scripts 1",
        "EXEC",
        "SET after-scripts 1",
    ],
    &["SELECT 7", "SET k 1 PXAT 9999999999999", "COPY k k DB 8", "APPEND k 1", "SELECT 8", "MOVE k 9", "APPEND k 1"],
];

/// A command on few keys in few databases, so that many fail.
fn command(random: &mut Random) -> Vec<String> {
    let key = |random: &mut Random| ["a", "b", "c", "d", ""][usize::try_from(random.below(5)).unwrap()].to_string();
    let db = |random: &mut Random| random.below(5).to_string();
    match random.below(10) {
        0..3 => vec!["SET".into(), key(random), random.below(1000).to_string()],
        3 => vec!["DEL".into(), key(random)],
        4 => vec!["SELECT".into(), db(random)],
        5 => vec!["MOVE".into(), key(random), db(random)],
        _ => {
            let mut words = vec!["COPY".into(), key(random), key(random)];
            if random.chance(75) {
                words.extend(["DB".into(), db(random)]);
            }
            if random.chance(50) {
                words.push("REPLACE".into());
            }
            words
        }
    }
}

fn script(random: &mut Random) -> Vec<String> {
    let calls = (0..=random.below(5)).map(|_| format!("redis.pcall('{}')", command(random).join("','")));
    vec!["EVAL".into(), calls.collect::<Vec<_>>().join(" "), "0".into()]
}

fn run_all(server: &Server) {
    for commands in CLIENTS {
        let mut client = server.raw();
        commands.iter().for_each(|command| drop(client.run(command)));
    }
}

/// What a stock server comes to by the same.
fn expected(version: Version) -> Dataset {
    let stock = ServerBuilder::stock(version).in_memory().start();
    run_all(&stock);
    dataset::read(&mut stock.raw())
}

fn assert_holds(server: &Server, expected: &Dataset, what: &str) {
    dataset::assert_same(&dataset::read(&mut server.raw()), expected, what);
}

/// What the client writes goes to this database.
fn assert_is_in(server: &Server, client: &mut RawConnection, db: u32, what: &str) {
    client.run("SET written v");
    let mut other = server.raw();
    other.run(&format!("SELECT {db}"));
    assert_eq!(other.run("DEL written").integer(), 1, "database {db}, {what}");
}

/// Waits until the replica has its primary's dataset, and has written its own file of that.
fn wait_in_sync(client: &mut RawConnection) {
    wait_until("the replica is in sync", PATIENCE, || {
        let info = client.run("INFO").text();
        ["master_link_status:up", "aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"]
            .iter()
            .all(|field| info.contains(field))
    });
}

each_version! {
    fn replicas_follow_keys_into_other_databases(version: Version) {
        let expected = expected(version);
        for (logs, enabled) in [(false, "yes"), (false, "no"), (true, "yes")] {
            let [port] = free_ports::<1>();
            let primary =
                if logs { ServerBuilder::with_module(version) } else { ServerBuilder::stock(version) };
            let primary = primary.set("port", &port.to_string()).set("repl-diskless-sync-delay", "0").in_memory().start();
            let builder = ServerBuilder::with_module(version).set("wbl.enabled", enabled).set("appendonly", "yes");
            let mut replica = builder.in_memory().start();
            let mut client = replica.raw();
            client.run(&format!("REPLICAOF 127.0.0.1 {port}"));
            wait_in_sync(&mut client);
            run_all(&primary);
            assert_holds(&primary, &expected, "the primary");
            let mut last = primary.raw();
            // A client waits for what it has written itself.
            last.run("SELECT 7");
            last.run("APPEND k 1");
            assert_eq!(last.run("WAIT 1 20000"), Value::Integer(1));
            let expected = dataset::read(&mut last);
            let what = format!("module {enabled}, its primary logs: {logs}");
            assert_holds(&replica, &expected, &format!("a replica with the {what}"));
            drop(client);
            replica.stop();
            let own = ServerBuilder::stock(version).set("appendonly", "yes");
            replica.reconfigure(|_| own);
            replica.start();
            assert_holds(&replica, &expected, &format!("the own file of one with the {what}"));
        }
    }

    fn a_disabled_server_writes_where_its_clients_are(version: Version) {
        let expected = expected(version);
        let disabled = ServerBuilder::with_module(version).set("wbl.enabled", "no").set("appendonly", "yes");
        let mut server = disabled.clone().in_memory().start();
        run_all(&server);
        assert_holds(&server, &expected, "disabled");
        for builder in [disabled, ServerBuilder::stock(version).set("appendonly", "yes")] {
            server.stop();
            server.reconfigure(|_| builder);
            server.start();
            assert_holds(&server, &expected, "started from its own file");
        }
    }

    fn a_writable_replica_writes_where_its_clients_are(version: Version) {
        let expected = expected(version);
        let builder = ServerBuilder::with_module(version).allow_warning("Error condition on socket for SYNC");
        let server = builder.in_memory().start();
        let mut client = server.raw();
        client.run("REPLICAOF 127.0.0.1 1");
        client.run("CONFIG SET replica-read-only no");
        wait_until("the log rests", PATIENCE, || server.wbl_info("wbl_state") == "replica");
        run_all(&server);
        assert_holds(&server, &expected, "a writable replica");
    }

    fn a_server_that_logs_writes_where_its_clients_are(version: Version) {
        let expected = expected(version);
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        run_all(&server);
        assert_holds(&server, &expected, "active");
        server.kill9_and_restart();
        assert_holds(&server, &expected, "after kill -9");
    }

    fn the_first_start_on_an_own_file_has_all_in_its_place(version: Version) {
        let expected = expected(version);
        for enabled in ["no", "yes"] {
            let mut server = ServerBuilder::stock(version).set("appendonly", "yes").in_memory().start();
            run_all(&server);
            server.stop();
            server.reconfigure(|_| {
                ServerBuilder::with_module(version)
                    .set("appendonly", "yes")
                    .set("wbl.enabled", enabled)
                    // `new` and `keymiss` are listened to, too.
                    .set("wbl.notify-keyspace-events", "KEAnm")
                    .allow_warning("takes the place of the data")
            });
            server.start();
            assert_holds(&server, &expected, enabled);
            server.raw().run("MOVE after-a 5");
            server.raw().run("MSET k0 1 k1 1");
            let now = dataset::read(&mut server.raw());
            server.stop_and_restart();
            assert_holds(&server, &now, enabled);
        }
    }

    fn random_copies_and_moves_end_where_a_stock_server_has_them(version: Version) {
        let mut random = Random::of_test("random_copies_and_moves");
        for enabled in ["no", "yes"] {
            let server = ServerBuilder::with_module(version).set("wbl.enabled", enabled).in_memory().start();
            let stock = ServerBuilder::stock(version).in_memory().start();
            let mut clients: Vec<_> = (0..4).map(|_| (server.raw(), stock.raw())).collect();
            for step in 0..8000 {
                let words = match random.below(10) {
                    0 => vec!["MULTI".into()],
                    1 => vec![if random.chance(75) { "EXEC" } else { "DISCARD" }.into()],
                    2 | 3 => script(&mut random),
                    _ => command(&mut random),
                };
                let (client, model) = &mut clients[usize::try_from(random.below(4)).unwrap()];
                let (found, expected) = (client.call(&words), model.call(&words));
                assert_eq!(format!("{found:?}"), format!("{expected:?}"), "enabled {enabled}, step {step}: {words:?}");
            }
            assert_holds(&server, &dataset::read(&mut stock.raw()), enabled);
        }
    }

    fn a_client_that_has_the_dataset_loaded_stays_in_its_database(version: Version) {
        let prepare = |client: &mut RawConnection| {
            for db in [0, 1, 4] {
                client.run(&format!("SELECT {db}"));
                (0..3).for_each(|number| drop(client.run(&format!("SET k{number} v"))));
            }
        };
        for home in [0, 3] {
            for enabled in ["no", "yes"] {
                let server = ServerBuilder::with_module(version).set("wbl.enabled", enabled).in_memory().start();
                let mut client = server.raw();
                prepare(&mut client);
                client.run(&format!("SELECT {home}"));
                client.run("DEBUG RELOAD");
                assert_is_in(&server, &mut client, home, &format!("enabled: {enabled}"));
                ["MULTI", "SELECT 2", "DEBUG RELOAD", "SET within v", "EXEC"].iter().for_each(|command| drop(client.run(command)));
                assert_is_in(&server, &mut client, 2, "EXEC");
                assert_eq!(client.run("EXISTS within").integer(), 1);
            }
            // The log has a base and commands.
            for checkpoints in [false, true] {
                let mut server = ServerBuilder::with_module(version).set("enable-module-command", "yes").in_memory().start();
                let mut client = server.raw();
                prepare(&mut client);
                if checkpoints {
                    client.run("WBL.CHECKPOINT");
                    client.run("SET last v");
                }
                server.kill9();
                server.reconfigure(ServerBuilder::without_module);
                server.start();
                let mut client = server.raw();
                client.run(&format!("SELECT {home}"));
                client.run(&format!("MODULE LOAD {} wbl.enabled yes", paths::module().display()));
                assert_is_in(&server, &mut client, home, &format!("MODULE LOAD, checkpoint: {checkpoints}"));
            }
        }
    }

    fn a_file_that_is_loaded_later_is_warned_of(version: Version) {
        let builder = ServerBuilder::with_module(version).set("wbl.enabled", "no").set("appendonly", "yes");
        let server = builder.allow_warning("with a COPY to another database").in_memory().start();
        let mut client = server.raw();
        for command in ["SET a 1", "MOVE a 2", "SET after-a 1", "SELECT 3", "SET a 1", "MOVE a 4", "SET after-a 1"] {
            client.run(command);
        }
        let moved = dataset::read(&mut server.raw());
        client.run("DEBUG LOADAOF");
        assert_holds(&server, &moved, "loaded again");
        assert!(!server.log().contains("with a COPY to another database"));
        client.run("COPY after-a b DB 5");
        client.run("DEBUG LOADAOF");
        let is_restored = version == Version::V9_1;
        assert_eq!(server.log().matches("with a COPY to another database").count(), usize::from(!is_restored));
    }
}
