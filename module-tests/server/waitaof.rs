//! WAITAOF on a server whose only log is the module's.

use crate::harness::ports::free_ports;
use crate::harness::{
    Lever, PATIENCE, RawConnection, Scene, Server, ServerBuilder, Value, Version, each_version, wait_until,
};

const WITHOUT_AOF: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";

/// What the client gets, byte by byte.
fn bytes(client: &mut RawConnection, command: &str) -> Vec<u8> {
    client.call(&command.split(' ').collect::<Vec<_>>());
    client.last_bytes().to_vec()
}

fn pair(local: i64, replicas: i64) -> String {
    format!("[:{local}, :{replicas}]")
}

fn shape(value: &Value) -> String {
    format!("{value:?}")
}

fn id(client: &mut RawConnection) -> i64 {
    client.run("CLIENT ID").integer()
}

/// A stock server with an append-only file that follows the one on this port, in sync.
fn replica(version: Version, port: u16, appends: bool) -> Server {
    let builder = ServerBuilder::stock(version).set("appendonly", if appends { "yes" } else { "no" });
    let builder = builder.set("appendfsync", "always").set("repl-diskless-sync-delay", "0");
    let replica = builder.set("replicaof", &format!("127.0.0.1 {port}")).in_memory().prepare();
    let mut replica = replica;
    replica.launch();
    let mut client = replica.wait_answers();
    wait_until("the replica is in sync", PATIENCE, || {
        crate::harness::server::info_field(&mut client, "replication", "master_link_status").as_deref() == Some("up")
    });
    replica
}

each_version! {
    fn waitaof_answers_when_the_log_is_durable(version: Version) {
        for lever in Lever::ALL {
            let mut scene = Scene::start(version);
            scene.prepare(&["SET clean v"]);
            let mut waiter = scene.server.raw();
            assert_eq!(shape(&waiter.run("WAITAOF 1 0 0")), pair(1, 0), "nothing waits");
            scene.freeze_by(lever);
            let mut writer = scene.held("SET k v");
            scene.hold(&mut waiter, "WAITAOF 1 0 0");
            let mut in_vain = scene.server.raw();
            assert_eq!(shape(&in_vain.run("WAITAOF 1 0 30")), pair(0, 0), "its time is over");
            assert_eq!(shape(&in_vain.run("WAITAOF 0 0 0")), pair(0, 0), "the server's own");
            scene.thaw();
            assert_eq!(shape(&waiter.reply()), pair(1, 0), "{lever:?}");
            assert_eq!(writer.reply().text(), "OK");
            scene.end();
        }
    }

    fn client_unblock_ends_a_waitaof_as_on_a_stock_server(version: Version) {
        let mut scene = Scene::of(ServerBuilder::with_module(version).set("enable-module-command", "yes"));
        scene.freeze_by(Lever::Sync);
        let mut writer = scene.held("SET k v");
        let mut waiter = scene.server.raw();
        let waits = id(&mut waiter);
        for (how, reply) in [("", pair(0, 0)), (" TIMEOUT", pair(0, 0)), (" ERROR", "-UNBLOCKED".into())] {
            waiter.send_text("WAITAOF 1 0 0");
            scene.wait_blocked(2);
            assert_eq!(scene.answer(&format!("CLIENT UNBLOCK {waits}{how}")).integer(), 1);
            let got = shape(&waiter.reply());
            assert!(got.starts_with(&reply), "{how}: {got}");
        }
        waiter.send_text("WAITAOF 1 0 0");
        scene.wait_blocked(2);
        drop(waiter);
        scene.wait_blocked(1);
        scene.thaw();
        assert_eq!(writer.reply().text(), "OK");
        scene.control.run("MODULE UNLOAD wbl");
    }

    fn waitaof_sends_the_bytes_of_a_server_with_an_append_only_file(version: Version) {
        let stock = ServerBuilder::stock_always(version).start();
        let server = ServerBuilder::with_module(version).start();
        let commands = [
            "WAITAOF 1 0 0", "WAITAOF 1 0 100", "waitaof 1 0 0", "WAITAOF x 0 0", "WAITAOF 2 0 0", "WAITAOF -1 0 0",
            "WAITAOF 01 0 0", "WAITAOF 1 x 0", "WAITAOF 1 -1 0", "WAITAOF 1 0 x", "WAITAOF 1 0 -1", "WAITAOF 1 0 1.5",
            "WAITAOF 1 9223372036854775808 0", "WAITAOF 1 0 9223372036854775807", "WAITAOF 1 5 20", "WAITAOF",
            "WAITAOF 1", "WAITAOF 1 0", "WAITAOF 1 0 0 0", "MULTI", "WAITAOF 1 0 0", "WAITAOF 1 3 0", "EXEC", "MULTI",
            "WAITAOF 1 0", "EXEC", "EVAL return(redis.call('WAITAOF','1','0','0')) 0",
            "EVAL return(redis.call('WAITAOF','1','4','0')) 0", "EVAL return(redis.pcall('WAITAOF','1','0')) 0",
            "SUBSCRIBE c", "WAITAOF 1 0 0", "UNSUBSCRIBE c",
        ];
        for hello in ["HELLO 2", "HELLO 3"] {
            let (mut expected, mut got) = (stock.raw(), server.raw());
            [&mut expected, &mut got].into_iter().for_each(|client| {
                client.run(hello);
                client.run("SET k v");
            });
            for command in commands {
                let (expected, got) = (bytes(&mut expected, command), bytes(&mut got, command));
                let (expected, got) = (expected.escape_ascii().to_string(), got.escape_ascii().to_string());
                assert_eq!(got, expected, "{hello}: {command}");
            }
        }
    }

    fn waitaof_in_a_transaction_or_script_does_not_wait(version: Version) {
        let mut scene = Scene::start(version);
        scene.freeze_by(Lever::Sync);
        let mut writer = scene.held("SET k v");
        let mut client = scene.server.raw();
        client.run("MULTI");
        client.run("WAITAOF 1 0 0");
        assert_eq!(shape(&client.run("EXEC")), format!("[{}]", pair(0, 0)));
        assert_eq!(shape(&client.run("EVAL return(redis.call('waitaof','1','0','0')) 0")), pair(0, 0));
        scene.thaw();
        writer.reply();
        scene.end();
    }

    fn waitaof_counts_the_replicas_that_have_it_in_their_append_only_files(version: Version) {
        let [port] = free_ports::<1>();
        let builder = ServerBuilder::with_module(version).set("port", &port.to_string());
        let server = builder.set("repl-diskless-sync-delay", "0").in_memory().start();
        let mut client = server.raw();
        client.run("SET k v");
        let without = replica(version, port, false);
        assert_eq!(shape(&client.run("WAITAOF 1 1 300")), pair(1, 0), "it has no file");
        // Not a replica.
        let mut other = server.raw();
        other.send_text("REPLCONF ACK 1000000 FACK 1000000");
        assert_eq!(shape(&client.run("WAITAOF 1 1 300")), pair(1, 0), "it is no replica");
        let with = replica(version, port, true);
        for round in 0..20 {
            client.run(&format!("SET k {round}"));
            assert_eq!(shape(&client.run("WAITAOF 1 1 0")), pair(1, 1));
        }
        with.signal("STOP");
        client.run("SET k last");
        assert_eq!(shape(&client.run("WAITAOF 1 1 300")), pair(1, 0), "it does not have the last");
        let mut waiter = server.raw();
        waiter.send_text("WAITAOF 1 1 0");
        waiter.assert_silent(&mut client, "WAITAOF");
        with.signal("CONT");
        assert_eq!(shape(&waiter.reply()), pair(1, 1));
        drop((with, without));
    }

    fn waitaof_is_the_servers_own_where_it_has_an_append_only_file_or_there_is_no_log(version: Version) {
        let server = ServerBuilder::with_module(version).allow_warning("AOF").start();
        let mut client = server.raw();
        let own_runs = |client: &mut RawConnection| {
            let statistics = client.run("INFO commandstats").text();
            statistics.contains("cmdstat_waitaof:")
        };
        assert_eq!(shape(&client.run("WAITAOF 1 0 0")), pair(1, 0));
        assert!(!own_runs(&mut client));
        client.run("CONFIG SET appendonly yes");
        wait_until("the server's own file is there", PATIENCE, || shape(&client.run("WAITAOF 1 0 100")) == pair(1, 0));
        assert!(own_runs(&mut client));
        client.run("CONFIG SET appendonly no");
        assert_eq!(shape(&client.run("WAITAOF 1 0 0")), pair(1, 0));
        client.run("CONFIG SET wbl.enabled no");
        assert_eq!(shape(&client.call(&["WAITAOF", "1", "0", "0"])), format!("-{WITHOUT_AOF}"));
        client.run("CONFIG SET wbl.enabled yes");
        assert_eq!(shape(&client.run("WAITAOF 1 0 0")), pair(1, 0), "it waits for the first base");
    }

    fn who_waits_as_the_log_ends_gets_the_servers_error(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["SET k v"]);
        let mut waiter = scene.server.raw();
        waiter.send_text("WAITAOF 1 1 0");
        scene.wait_blocked(1);
        scene.control.run("CONFIG SET wbl.enabled no");
        assert_eq!(shape(&waiter.reply()), format!("-{WITHOUT_AOF}"));
    }

    fn who_may_not_run_the_modules_command_gets_the_servers_answer(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        server.raw().run("ACL SETUSER plain on nopass ~* +@all -wbl.waitaof");
        server.raw().run("ACL SETUSER neither on nopass ~* +@all -waitaof");
        server.raw().run("ACL SETUSER few on nopass ~* -@all +@connection +@scripting");
        let of = |user: &str, command: &[&str]| {
            let mut client = server.raw();
            client.run(&format!("AUTH {user} any"));
            shape(&client.call(command))
        };
        let script = ["EVAL", "return redis.call('WAITAOF', '1', '0', '0')", "0"];
        assert_eq!(of("plain", &["WAITAOF", "1", "0", "0"]), format!("-{WITHOUT_AOF}"));
        assert!(of("plain", &script).contains("appendonly is disabled"), "{}", of("plain", &script));
        for command in [&["WAITAOF", "1", "0", "0"][..], &["WBL.WAITAOF", "WAITAOF", "1", "0", "0"]] {
            let refusal = of("neither", command);
            assert!(refusal.starts_with("-NOPERM") && refusal.contains("'waitaof'"), "{refusal}");
        }
        for command in [&["WAITAOF", "1", "0", "0"][..], &script] {
            assert_eq!(of("few", command), pair(1, 0));
        }
    }
}
