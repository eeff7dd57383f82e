//! Changes of the server's role while clients wait for the disk, sending threads, and what SLOWLOG, MONITOR and the
//! statistics of commands say about the module.

use crate::harness::server::info_field;
use crate::harness::{
    FrozenDisk, Lever, PATIENCE, RawConnection, Scene, Server, ServerBuilder, Value, Version, each_lever, each_version,
    wait_until,
};

/// No server listens there.
const NOWHERE: &str = "REPLICAOF 127.0.0.1 1";

const EVAL: &str = r#"EVAL "return redis.call('SET', KEYS[1], 'v')" 1 script"#;
const EVAL_RO: &str = r#"EVAL_RO "return redis.call('GET', KEYS[1])" 1 dirty"#;

each_version! {
    fn a_replica_that_becomes_a_primary_keeps_what_it_got_and_what_it_is_told(version: Version) {
        let [port] = crate::harness::ports::free_ports::<1>();
        let primary = ServerBuilder::stock(version).set("port", &port.to_string()).in_memory().start();
        primary.raw().run("SET of-primary v");
        // The server loads the file of the primary's dataset at its next start, before the log.
        let builder = ServerBuilder::with_module(version).allow_warning("takes the place of the data");
        let mut server = builder.in_memory().start();
        let mut client = server.raw();
        client.run("SET before v");
        client.run(&format!("REPLICAOF 127.0.0.1 {port}"));
        wait_until("the replica is in sync", PATIENCE, || {
            client.call(&["GET", "of-primary"]) == Value::Bulk("v".into())
        });
        primary.raw().run("SET later v");
        wait_until("the replica follows", PATIENCE, || client.call(&["GET", "later"]) == Value::Bulk("v".into()));
        drop(client);
        promote(&mut server);
        assert_eq!(server.raw().run("EXISTS of-primary later").integer(), 2);
        assert_eq!(server.raw().run("EXISTS before").integer(), 0);
    }
}

each_lever! {
    fn who_waits_when_the_server_becomes_a_replica_is_disconnected_without_an_answer(version: Version, lever: Lever) {
        for threads in ["1", "4"] {
            let builder = ServerBuilder::with_module(version).set("io-threads", threads);
            let mut scene = Scene::of(builder.allow_warning("Error condition on socket for SYNC")).with_lever(lever);
            scene.prepare(&["SET kept k", "XADD s 0-1 f v", "XGROUP CREATE s g $", "SADD set m"]);
            let (mut popper, mut reader) = (scene.server.raw(), scene.server.raw());
            popper.send_text("BLPOP list 0");
            reader.send_text("XREAD BLOCK 0 STREAMS s $");
            scene.wait_blocked(2);
            scene.freeze();
            let mut clients = vec![popper, reader];
            for command in [
                "SET dirty v",
                "GET dirty",
                "SETNX dirty w",
                "SPOP set",
                "DBSIZE",
                "XADD s 1-1 f v",
                "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
                "RPUSH list a",
                EVAL,
                EVAL_RO,
                "WBL.WAIT",
            ] {
                clients.push(scene.held(command));
            }
            scene.control.run(NOWHERE);
            wait_until("the log rests", PATIENCE, || scene.answer("INFO wbl").text().contains("wbl_state:replica"));
            for (index, client) in clients.iter_mut().enumerate() {
                match client.try_reply() {
                    Err(_) => {}
                    Ok(reply) => assert!(reply.is_error(), "{threads} threads: client {index} was told {reply:?}"),
                }
            }
            for field in ["wbl_clients_waiting_ack", "wbl_uncommitted_keys", "wbl_pending_bytes", "wbl_blocked_stream_readers"] {
                wait_until(field, PATIENCE / 6, || scene.gauge(field) == 0);
            }
            scene.wait_blocked(0);
            // A replica answers readers at once.
            assert_eq!(scene.answer("GET kept").text(), "k");
            let refused = format!("{:?}", scene.answer("SET refused v"));
            assert!(refused.starts_with("-READONLY"), "{refused}");
            promote(&mut scene.server);
        }
    }

    fn sending_threads_send_nothing_before_it_is_durable(version: Version, lever: Lever) {
        // Without this the threads only serve many clients at once.
        let (always, value) = match version {
            Version::V8_1 => ("events-per-io-thread", "0"),
            Version::V9_1 => ("io-threads-always-active", "yes"),
        };
        let builder = ServerBuilder::with_module(version).set("io-threads", "4").set(always, value);
        let mut scene = Scene::of(builder).with_lever(lever);
        scene.prepare(&["SET k old"]);
        let mut noise: Vec<RawConnection> = (0..16).map(|_| scene.server.raw()).collect();
        for round in 0..3 {
            scene.freeze();
            noise.iter_mut().for_each(|client| client.send_text("GET clean"));
            let mut clients = [
                ("SET k new", "+OK"),
                // No reader that the newest durable value answers.
                ("GETBIT k 7", ":0"),
                ("INCR n", ":"),
                (EVAL, "+OK"),
                (r#"EVAL_RO "return redis.call('GET', KEYS[1])" 1 k"#, "\"new\""),
            ]
            .map(|(command, expected)| (scene.held(command), command, expected));
            noise.iter_mut().for_each(|client| assert_eq!(client.reply(), Value::Null));
            scene.thaw();
            for (client, command, expected) in &mut clients {
                let reply = format!("{:?}", client.reply());
                assert!(reply.starts_with(*expected), "{round}: {command}: {reply}");
            }
            scene.prepare(&["SET k old"]);
        }
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET n").text(), "3");
    }

    fn a_transaction_waits_at_its_own_end_when_there_are_sending_threads(version: Version, lever: Lever) {
        let mut scene = Scene::of(ServerBuilder::with_module(version).set("io-threads", "4")).with_lever(lever);
        for round in 1..4 {
            scene.freeze();
            let mut transaction = scene.server.raw();
            ["MULTI", "INCR n", "GET k"].iter().for_each(|command| drop(transaction.run(command)));
            scene.hold(&mut transaction, "EXEC");
            scene.thaw();
            assert_eq!(format!("{:?}", transaction.reply()), format!("[:{round}, null]"));
        }
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET n").text(), "3");
    }

    // What docs/limits.md says about them.
    fn the_servers_own_records_show_what_the_module_runs(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let mut monitor = scene.server.raw();
        scene.prepare(&["SADD set m", "CONFIG SET slowlog-log-slower-than 0", "SLOWLOG RESET", "CONFIG RESETSTAT"]);
        scene.freeze();
        monitor.run("MONITOR");
        let commands = ["SET dirty v", "GET dirty", "SETNX dirty w", "SPOP set", EVAL, EVAL_RO];
        let mut clients = commands.map(|command| scene.held(command));
        let list = scene.control.run("CLIENT LIST").text();
        for name in ["set", "wbl.read", "wbl.call", "wbl.eval", "wbl.eval_ro"] {
            assert!(list.contains(&format!(" cmd={name} ")), "{name}: {list}");
        }
        scene.thaw();
        clients.iter_mut().for_each(|client| assert!(!client.reply().is_error()));
        scene.control.run("ECHO end");
        let mut seen = Vec::new();
        while seen.last().is_none_or(|line: &String| !line.contains("\"ECHO\"")) {
            seen.push(monitor.reply().text());
        }
        let slow = slow_commands(&mut scene.control);
        for (name, by_client) in
            [("SET", true), ("GET", false), ("SETNX", false), ("SPOP", false), ("EVAL", false), ("EVAL_RO", false)]
        {
            let lines: Vec<&String> = seen.iter().filter(|line| line.contains(&format!("] \"{name}\" "))).collect();
            let of_clients = lines.iter().filter(|line| line.contains("unix:")).count();
            assert_eq!(of_clients, usize::from(by_client), "MONITOR, {name}: {lines:?}");
            assert!(!lines.is_empty(), "MONITOR does not show {name}: {seen:?}");
            let mut entries = slow.iter().filter(|(command, _)| command == name);
            assert!(entries.any(|(_, address)| address.is_empty() != by_client), "SLOWLOG, {name}: {slow:?}");
        }
        // The module's own commands are in neither record, and counted.
        for own in ["WBL.CALL", "WBL.READ", "WBL.EVAL", "WBL.EVAL_RO"] {
            assert!(seen.iter().all(|line| !line.to_uppercase().contains(own)), "{own}: {seen:?}");
            assert!(slow.iter().all(|(name, _)| !name.eq_ignore_ascii_case(own)), "{own}: {slow:?}");
        }
        let mut counted = |name: &str| {
            let field = info_field(&mut scene.control, "commandstats", &format!("cmdstat_{name}"));
            field.unwrap_or_else(|| panic!("no statistics of {name}")).split(',').next().map(String::from)
        };
        for (name, calls) in [
            // One is the module's: it keeps the values of a key that somebody has waited for.
            ("get", 3),
            ("set", 2),
            ("setnx", 1),
            ("spop", 1),
            ("eval", 1),
            ("eval_ro", 1),
            ("wbl.read", 1),
            ("wbl.call", 2),
            ("wbl.eval", 1),
            ("wbl.eval_ro", 1),
        ] {
            assert_eq!(counted(name), Some(format!("calls={calls}")), "{name}");
        }
        scene.end();
    }
}

/// Makes a primary of a replica, whose first write must be durable as any.
fn promote(server: &mut Server) {
    let mut client = server.raw();
    client.run("REPLICAOF NO ONE");
    assert_eq!(client.run("SET first v").text(), "OK");
    client.run("WBL.WAIT");
    assert_eq!(info_field(&mut client, "wbl", "wbl_state").as_deref(), Some("active"));
    let mut expected = crate::harness::dataset::read(&mut client);
    server.kill9_and_restart();
    crate::harness::dataset::assert_same(
        &crate::harness::dataset::read(&mut server.raw()),
        &expected,
        "after the promotion",
    );
    let mut client = server.raw();
    assert_eq!(client.run("GET first").text(), "v");
    // Withholding is back, too.
    for lever in Lever::ALL {
        let disk = FrozenDisk::freeze(lever, server, &mut client);
        let mut writer = server.raw();
        writer.send_text("SET second v");
        disk.assert_withheld(server, &mut client, &mut writer, "a write after the promotion");
        disk.thaw(&mut client);
        assert_eq!(writer.reply().text(), "OK");
    }
    expected = crate::harness::dataset::read(&mut client);
    server.kill9_and_restart();
    crate::harness::dataset::assert_same(
        &crate::harness::dataset::read(&mut server.raw()),
        &expected,
        "after the second crash",
    );
}

each_version! {
    fn a_transaction_that_demotes_the_server_is_answered(version: Version) {
        let builder = ServerBuilder::with_module(version).allow_warning("Error condition on socket for SYNC");
        let server = builder.start();
        let mut client = server.raw();
        ["MULTI", "SET before v", NOWHERE, "SET after v"].iter().for_each(|command| drop(client.run(command)));
        assert_eq!(format!("{:?}", client.run("EXEC")), "[+OK, +OK, +OK]");
        assert_eq!(server.wbl_info("wbl_state"), "replica");
        assert!(format!("{:?}", client.call(&["SET", "k", "v"])).starts_with("-READONLY"));
    }

    fn whose_reply_is_let_go_at_a_demotion_does_not_hang(version: Version) {
        let builder = ServerBuilder::with_module(version).allow_warning("Error condition on socket for SYNC");
        let mut scene = Scene::of(builder);
        let mut writer = scene.server.raw();
        scene.freeze_by(Lever::Sync);
        writer.send_text("SET k v");
        wait_until("the reply is held", PATIENCE, || scene.gauge("wbl_clients_waiting_ack") == 1);
        let mut admin = scene.server.raw();
        // The disk goes on while the server sleeps, so that the reply is let go before the demotion, and taken up after
        // it.
        admin.send_bytes(format!("DEBUG SLEEP 1\r\n{NOWHERE}\r\n").as_bytes()).unwrap();
        scene.thaw();
        match writer.try_reply() {
            Ok(reply) => assert_eq!(reply, Value::Simple("OK".into())),
            Err(error) => {
                let waits = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
                assert!(!waits.contains(&error.kind()), "the client hangs");
            }
        }
    }
}

/// The commands of SLOWLOG, with the addresses of their clients.
fn slow_commands(client: &mut RawConnection) -> Vec<(String, String)> {
    let entries = client.run("SLOWLOG GET 100");
    let of = |entry: &Value| (entry.items()[3].items()[0].text(), entry.items()[4].text());
    entries.items().iter().map(of).collect()
}
