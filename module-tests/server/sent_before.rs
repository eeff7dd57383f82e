//! Commands that were sent before a log begins, and would run after that without being announced: those that a pause
//! delays, and the rest of a transaction.

use crate::harness::group::{builder, wait_in_sync};
use crate::harness::ports::free_ports;
use crate::harness::scene::split;
use crate::harness::server::info_field;
use crate::harness::{
    PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, dataset, each_version, paths, wait_until,
};

/// No server listens there.
const NOWHERE: &str = "REPLICAOF 127.0.0.1 1";

/// How a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Load,
    Enabled,
    /// A demotion and a promotion; the log goes on.
    Promotion,
    /// The same without a log on replicas.
    FirstLog,
}

use Door::{Enabled, FirstLog, Load, Promotion};

each_version! {
    fn what_a_pause_delays_never_runs_when_a_log_has_begun(version: Version) {
        for door in [Load, Enabled, Promotion, FirstLog] {
            let mut server = before(version, door).start();
            let mut control = server.raw();
            fill(&mut control);
            let commands = ["XACK x g 1-1", "SPOP set", "FUNCTION FLUSH", "SET k new", "FLUSHALL"];
            let mut clients: Vec<RawConnection> = commands.iter().map(|_| server.raw()).collect();
            let mut transaction = server.raw();
            ["MULTI", "XACK x g 1-1", "GET k"].iter().for_each(|command| drop(transaction.run(command)));
            let mut idle = server.raw();
            idle.run("PING");
            let expected = dataset::read(&mut control);
            control.run("CLIENT PAUSE 600000 WRITE");
            clients.iter_mut().zip(commands).for_each(|(client, command)| client.send_text(command));
            transaction.send_text("EXEC");
            clients.push(transaction);
            wait_until("all of them wait", PATIENCE, || blocked(&mut control) == clients.len().to_string());
            begin(door, &server, &mut control);
            control.run("CLIENT UNPAUSE");
            for (index, client) in clients.iter_mut().enumerate() {
                let reply = client.try_reply();
                assert!(reply.is_err(), "{door:?}: client {index} was answered {reply:?}");
            }
            assert_eq!(idle.run("PING").text(), "PONG", "{door:?}");
            assert!(server.log().contains("disconnected 6 clients"), "{door:?}");
            dataset::assert_same(&dataset::read(&mut control), &expected, &format!("{door:?}"));
            control.run("XACK x g 2-1");
            control.run("WBL.WAIT");
            server.reconfigure(|_| allowing(ServerBuilder::with_module(version)));
            dataset::assert_survives(&mut server, &format!("{door:?}"));
        }
    }

    fn what_a_pause_delays_while_the_dataset_is_replaced_is_kept(version: Version) {
        let mut server = allowing(ServerBuilder::with_module(version)).start();
        let mut control = server.raw();
        fill(&mut control);
        let commands = ["XACK x g 1-1", "SPOP set", "FUNCTION FLUSH", "SET k new"];
        let mut clients: Vec<RawConnection> = commands.iter().map(|_| server.raw()).collect();
        let mut transaction = server.raw();
        ["MULTI", "XACK x g 2-1", "GET k"].iter().for_each(|command| drop(transaction.run(command)));
        control.run("CLIENT PAUSE 600000 WRITE");
        clients.iter_mut().zip(commands).for_each(|(client, command)| client.send_text(command));
        transaction.send_text("EXEC");
        clients.push(transaction);
        wait_until("all of them wait", PATIENCE, || blocked(&mut control) == clients.len().to_string());
        ["DEBUG RELOAD", "CLIENT UNPAUSE"].iter().for_each(|command| drop(control.run(command)));
        assert!(clients.iter_mut().all(|client| !client.reply().is_error()));
        dataset::assert_survives(&mut server, "what ran after the pause");
        assert_eq!(server.raw().run("XPENDING x g").items()[0], Value::Integer(0));
    }

    fn what_waits_without_a_pause_stays_when_a_log_begins(version: Version) {
        for door in [Load, Enabled] {
            let server = before(version, door).start();
            let mut control = server.raw();
            fill(&mut control);
            let mut waiting = server.raw();
            waiting.send_text("BLPOP list 0");
            wait_until("it waits", PATIENCE, || blocked(&mut control) == "1");
            begin(door, &server, &mut control);
            control.run("RPUSH list a");
            assert_eq!(format!("{:?}", waiting.reply()), r#"["list", "a"]"#, "{door:?}");
        }
    }

    fn a_reply_that_a_client_skips_is_skipped_after_a_log_has_begun(version: Version) {
        for door in [Load, Enabled, Promotion, FirstLog] {
            let server = before(version, door).start();
            let mut control = server.raw();
            fill(&mut control);
            let mut client = server.raw();
            client.run("PING");
            client.send_text("CLIENT REPLY SKIP");
            begin(door, &server, &mut control);
            control.run("CONFIG SET wbl.commit-mode async");
            control.run("WBL.DEBUG COLLECT ALL");
            client.send_at_once(&[&["INCR", "n"], &["PING"]]);
            assert_eq!(client.reply().text(), "PONG", "{door:?}");
        }
    }

    fn a_log_does_not_begin_inside_a_transaction(version: Version) {
        for door in [Load, Enabled] {
            let mut server = before(version, door).start();
            let mut control = server.raw();
            fill(&mut control);
            control.run("MULTI");
            match door {
                Load => control.call(&["MODULE", "LOAD", path()]),
                _ => control.run("CONFIG SET wbl.enabled yes"),
            };
            control.run("SET k new");
            let replies = control.run("EXEC");
            assert!(replies.items()[0].is_error(), "{door:?}: {replies:?}");
            assert_eq!(replies.items()[1], Value::Simple("OK".into()), "{door:?}");
            match door {
                Load => assert!(!format!("{:?}", control.run("MODULE LIST")).contains("wbl"), "it is loaded"),
                _ => assert_eq!(control.run("CONFIG GET wbl.enabled").items()[1].text(), "no"),
            }
            begin(door, &server, &mut control);
            // It has begun.
            ["MULTI", "CONFIG SET wbl.enabled yes", "XACK x g 1-1"].iter().for_each(|command| drop(control.run(command)));
            assert!(control.run("EXEC").items().iter().all(|reply| !reply.is_error()), "{door:?}");
            server.reconfigure(|_| allowing(ServerBuilder::with_module(version)));
            dataset::assert_survives(&mut server, &format!("{door:?}"));
        }
    }

    fn a_transaction_that_promotes_the_server_is_in_its_log(version: Version) {
        for (is_empty, replica_log) in [(false, "yes"), (true, "yes"), (true, "no")] {
            let ports = free_ports::<2>();
            let primary = builder(version, ports[0], None).start();
            let replica = builder(version, ports[1], Some(ports[0])).set("replica-read-only", "no");
            let mut replica = replica.set("wbl.replica-log", replica_log).start();
            if !is_empty {
                fill(&mut primary.raw());
            }
            wait_in_sync(&replica);
            if replica_log == "yes" {
                wait_until("its log is there", PATIENCE, || replica.wbl_info("wbl_replica_log") == "written");
            }
            let mut client = replica.raw();
            if !is_empty {
                wait_until("the replica has all", PATIENCE, || client.run("EXISTS last").integer() == 1);
            }
            ["MULTI", "REPLICAOF NO ONE"].iter().for_each(|command| drop(client.run(command)));
            let library = "#!lua name=later\nserver.register_function('later', function() return 1 end)";
            client.call(&["FUNCTION", "LOAD", library]);
            let writes = ["XADD y 1-1 f v", "XGROUP CREATE y g 0", "XREADGROUP GROUP g c STREAMS y >", "XACK y g 1-1"];
            writes.iter().chain(&["SADD u 1 2 3", "SPOP u", "XADD x 9-1 f v"]).for_each(|command| drop(client.run(command)));
            if !is_empty {
                client.run("XACK x g 1-1");
            }
            let replies = client.run("EXEC");
            assert!(replies.items().iter().all(|reply| !reply.is_error()), "{replies:?}");
            wait_until("the log is active", PATIENCE, || replica.wbl_info("wbl_state") == "active");
            replica.reconfigure(|builder| builder.unset("replicaof").set("wbl.enabled", "yes"));
            dataset::assert_survives(&mut replica, &format!("empty: {is_empty}, replica log: {replica_log}"));
        }
    }
}

fn path() -> &'static str {
    paths::module().to_str().expect("a path in UTF-8")
}

fn before(version: Version, door: Door) -> ServerBuilder {
    allowing(match door {
        Load => ServerBuilder::stock(version).set("enable-module-command", "yes").in_memory(),
        Enabled => ServerBuilder::with_module(version).set("wbl.enabled", "no"),
        Promotion => ServerBuilder::with_module(version),
        FirstLog => ServerBuilder::with_module(version).set("wbl.replica-log", "no"),
    })
}

/// With the warnings that come with refusals and changes of the role.
fn allowing(builder: ServerBuilder) -> ServerBuilder {
    [
        "is not loaded",
        "initialization failed",
        "Error condition on socket",
        "Restoring previous settings",
        "takes the place",
    ]
    .into_iter()
    .fold(builder, ServerBuilder::allow_warning)
}

fn begin(door: Door, server: &Server, control: &mut RawConnection) {
    match door {
        Load => drop(control.run(&format!("MODULE LOAD {} wbl.enabled yes wbl.debug-commands yes", path()))),
        Enabled => drop(control.run("CONFIG SET wbl.enabled yes")),
        Promotion | FirstLog => {
            control.run(NOWHERE);
            wait_until("the server is a replica", PATIENCE, || server.wbl_info("wbl_state") == "replica");
            control.run("REPLICAOF NO ONE");
        }
    }
    wait_until("the log is active", PATIENCE, || server.wbl_info("wbl_state") == "active");
}

fn fill(client: &mut RawConnection) {
    for command in [
        "SET k old",
        "SADD set a b c",
        "XADD x 1-1 f v",
        "XADD x 2-1 f v",
        "XGROUP CREATE x g 0",
        "XREADGROUP GROUP g c COUNT 2 STREAMS x >",
    ] {
        client.call(&split(command));
    }
    client.call(&["FUNCTION", "LOAD", "#!lua name=l\nserver.register_function('f', function() return 1 end)"]);
    client.run("SET last v");
}

/// How many clients wait.
fn blocked(client: &mut RawConnection) -> String {
    info_field(client, "clients", "blocked_clients").unwrap_or_default()
}
