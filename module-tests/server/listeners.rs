//! What the module offers to other modules (`api/valkey_wbl.h`): positions, and events, when they are durable.

use crate::harness::{
    FrozenDisk, Lever, PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, each_lever, each_version, paths,
    wait_until,
};
use std::fs;

/// Changes of strings, and of keys of any type; `set` and `del` are of these.
const CLASSES: &str = "12";

fn builder(version: Version) -> ServerBuilder {
    ServerBuilder::with_module(version)
        .set("enable-module-command", "yes")
        .allow_warning("other modules")
        .allow_warning("Error condition on socket for SYNC")
        .load(&paths::c_module(version, "listener"), false)
}

/// What was noted so far.
fn told(server: &Server) -> Vec<String> {
    let notes = fs::read_to_string(server.folder().join("listener.notes")).expect("the module's notes");
    notes.lines().map(String::from).collect()
}

/// The same without the positions.
fn words(server: &Server) -> Vec<String> {
    let is_word = |word: &&str| word.parse::<u64>().is_err();
    told(server).iter().map(|line| line.trim().split(' ').filter(is_word).collect::<Vec<_>>().join(" ")).collect()
}

fn wait_for_words(server: &Server, expected: &[&str]) {
    wait_until("it is told", PATIENCE, || words(server).len() >= expected.len());
    assert_eq!(words(server), expected);
}

/// The position that will be the durable one after a command that takes as many bytes as one before it has.
fn after_one_more(client: &mut RawConnection, command: &str) -> i64 {
    let mut after = || {
        client.run(command);
        client.run("WBL.WAIT").integer()
    };
    // The first one may have a SELECT before it.
    after();
    let (first, second) = (after(), after());
    second + (second - first)
}

fn positions(client: &mut RawConnection) -> (i64, i64) {
    let found = client.run("listener.positions");
    (found.items()[0].integer(), found.items()[1].integer())
}

each_version! {
    fn a_call_may_run_commands_and_ask_again(version: Version) {
        let mut server = builder(version).start();
        let mut client = server.raw();
        client.run("listener.then n");
        wait_for_words(&server, &["durable", "durable"]);
        assert_eq!(client.run("GET n").text(), "2");
        let found = told(&server);
        assert!(found[0] != found[1], "{found:?}");
        server.kill9();
        server.start();
        assert_eq!(server.raw().run("GET n").text(), "2");
    }

    fn without_a_log_nothing_is_durable(version: Version) {
        let server = builder(version).start();
        let (mut control, mut client) = (server.raw(), server.raw());
        control.run(&format!("listener.subscribe {CLASSES}"));
        client.run("SET a 1");
        control.run("listener.when");
        wait_for_words(&server, &["db0 set a", "durable"]);
        // It is closed, which makes all durable.
        control.run("CONFIG SET wbl.enabled no");
        client.run("SET b 1");
        assert!(control.call(&["listener.when"]).is_error() && control.call(&["listener.positions"]).is_error());
        control.run("CONFIG SET wbl.enabled yes");
        control.run("WBL.WAIT");
        client.run("SET c 1");
        wait_for_words(&server, &["db0 set a", "durable", "db0 set c"]);
        // A replica acknowledges nothing.
        control.run("listener.when 1000000000");
        control.run("REPLICAOF 127.0.0.1 1");
        wait_for_words(&server, &["db0 set a", "durable", "db0 set c", "lost"]);
    }

    fn the_wrapper_for_rust_does_the_same(version: Version) {
        let server = ServerBuilder::with_module(version)
            .set("enable-module-command", "yes")
            .allow_warning("other modules")
            .load(&paths::rust_module("counter"), true)
            .start();
        let mut client = server.raw();
        client.run("counter.start");
        for key in ["k:1", "k:2"] {
            client.run(&format!("SET {key} v"));
            client.run(&format!("DEL {key}"));
        }
        client.run("counter.ask");
        wait_until("all is counted", PATIENCE, || server.raw().run("counter.read").integer() == 102);
        client.run("counter.stop");
        client.run("SET k:3 v");
        client.run("DEL k:3");
        client.run("WBL.WAIT");
        client.run("counter.ask");
        wait_until("it is told", PATIENCE, || server.raw().run("counter.read").integer() == 202);
    }
}

each_lever! {
    fn a_position_is_told_when_it_is_durable_and_not_before(version: Version, lever: Lever) {
        let server = builder(version).start();
        let (mut control, mut client) = (server.raw(), server.raw());
        let next = after_one_more(&mut client, "SET k v");
        let (appended, durable) = positions(&mut control);
        assert_eq!(appended, durable);
        // What is durable is told at once.
        control.run(&format!("listener.when {durable}"));
        wait_until("it is told", PATIENCE, || told(&server) == [format!("durable {durable}")]);
        control.run(&format!("listener.when {next}"));
        let token = control.run(&format!("listener.when {next}")).integer();
        assert_eq!(control.run(&format!("listener.cancel {token}")).integer(), 1);
        assert_eq!(control.run(&format!("listener.cancel {token}")).integer(), 0);

        let disk = FrozenDisk::freeze(lever, &server, &mut control);
        client.send_text("SET k w");
        disk.assert_withheld(&server, &mut control, &mut client, "SET");
        assert_eq!(server.wbl_info("wbl_appended_offset"), next.to_string());
        assert_eq!(told(&server).len(), 1, "it is not durable");
        disk.thaw(&mut control);
        client.reply();
        wait_for_words(&server, &["durable"; 2]);
        assert_eq!(told(&server)[1], format!("durable {next}"));
        // All that has been executed, the running command included.
        client.run("listener.incr n");
        wait_for_words(&server, &["durable"; 3]);
        assert_eq!(told(&server)[2], format!("durable {}", server.wbl_info("wbl_previous_acked_offset")));
    }

    fn events_are_told_in_order_when_their_changes_are_durable(version: Version, lever: Lever) {
        let server = builder(version).start();
        let (mut control, mut client) = (server.raw(), server.raw());
        let token = control.run(&format!("listener.subscribe {CLASSES}")).integer();
        let disk = FrozenDisk::freeze(lever, &server, &mut control);
        client.send_text("SET a 1");
        disk.assert_withheld(&server, &mut control, &mut client, "SET");
        assert_eq!(told(&server).len(), 0, "nothing is durable");
        disk.thaw(&mut control);
        client.reply();
        client.run("EVAL redis.call('SELECT',3)redis.call('SET','b',1)redis.call('LPUSH','l',1)redis.call('DEL','b') 0");
        client.run("FLUSHALL");
        client.run("SWAPDB 0 3");
        client.run("WBL.WAIT");
        let expected = ["db0 set a", "db3 set b", "db3 del b", "db-1 flushall", "db0 swapdb"];
        wait_for_words(&server, &expected);
        let at: Vec<i64> =
            told(&server).iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        assert!(at.is_sorted() && at[1] == at[2] && at[0] < at[1] && at[2] < at[3], "{at:?}");
        assert_eq!(positions(&mut control).1, at[4]);
        // One that ends in the middle of what is told.
        control.run(&format!("listener.cancel-in-call {token}"));
        for command in ["MULTI", "SET x 1", "SET y 1", "EXEC", "SET z 1"] {
            client.run(command);
        }
        client.run("WBL.WAIT");
        wait_for_words(&server, &[&expected[..], &["db0 set x"]].concat());
    }

    fn a_module_that_goes_is_told_nothing_and_goes_first(version: Version, lever: Lever) {
        let server = builder(version).start();
        let (mut control, mut client) = (server.raw(), server.raw());
        control.run(&format!("listener.subscribe {CLASSES}"));
        let next = after_one_more(&mut client, "SET a 0");
        control.run(&format!("listener.when {next}"));
        let before = told(&server).len();
        let disk = FrozenDisk::freeze(lever, &server, &mut control);
        client.send_text("SET a 1");
        disk.assert_withheld(&server, &mut control, &mut client, "SET");
        let refused = control.call(&["MODULE", "UNLOAD", "wbl"]);
        assert!(matches!(&refused, Value::Error(text) if text.contains("APIs used by other modules")), "{refused:?}");
        assert_eq!(control.run("MODULE UNLOAD listener").text(), "OK");
        disk.thaw(&mut control);
        client.reply();
        client.run("SET b 1");
        assert!(client.run("WBL.WAIT").integer() > next);
        assert_eq!(told(&server).len(), before);
        assert_eq!(control.run("MODULE UNLOAD wbl").text(), "OK");
        // It comes again, and finds nobody, or somebody.
        let path = paths::c_module(version, "listener");
        control.call(&["MODULE", "LOAD", path.to_str().unwrap()]);
        let missing = control.call(&["listener.when"]);
        assert!(matches!(&missing, Value::Error(text) if text.contains("not loaded")), "{missing:?}");
    }
}
