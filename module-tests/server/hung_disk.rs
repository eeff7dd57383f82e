//! Nobody waits for a base whose disk does not answer, nor for a process that can't end before that does, nor for a log
//! with too much to write.

use crate::harness::group::{Group, wait_in_sync};
use crate::harness::points::VARIABLE;
use crate::harness::process::{children, send_signal};
use crate::harness::writers::write_until_refused;
use crate::harness::{
    FrozenDisk, Injection, Lever, PATIENCE, Server, ServerBuilder, Strace, Value, Version, dataset, each_version,
    wait_until,
};
use std::time::Duration;

/// How long the disk does not answer.
const HANGS: Duration = Duration::from_secs(5);

/// A server that answers no read for so long waits for the disk.
const SERVES: Duration = Duration::from_secs(3);

each_version! {
    fn beyond_the_bound_writes_are_refused_and_everybody_else_is_served(version: Version) {
        let builder = builder(version).allow_warning("the log can't be written");
        let mut server = builder.set("wbl.max-pending-bytes", "64kb").start();
        let mut control = server.raw();
        control.run("SET clean v");
        let frozen = FrozenDisk::freeze(Lever::Sync, &server, &mut control);
        let mut held = Vec::new();
        let mut client = write_until_refused(&server, &mut control, &mut held, 20);
        assert!(held.len() > 5, "{} writes are held", held.len());
        let refusal = "MISCONF Errors writing to the write-behind log: the disk does not answer";
        let is_refused = |answer: Value| matches!(&answer, Value::Error(text) if text.starts_with(refusal));
        assert!(is_refused(client.reply()));
        let script = "return redis.call('DEL', KEYS[1])";
        for command in [&["DEL", "clean"][..], &["EVAL", script, "1", "clean"], &["GETDEL", "clean"]] {
            assert!(is_refused(client.call(command)), "{command:?}");
        }
        client.run("MULTI");
        client.run("INCR count");
        assert!(client.call(&["EXEC"]).is_error());
        serve(&server);
        assert_eq!(client.run("PING").text(), "PONG");
        assert!(server.wbl_info("wbl_disk_error").contains("does not answer"));
        frozen.thaw(&mut control);
        held.iter_mut().for_each(|client| assert_eq!(client.reply(), Value::Simple("OK".into())));
        wait_until("the disk counts as mended", PATIENCE, || server.wbl_info("wbl_disk_error").is_empty());
        assert_eq!(client.run("INCR count"), Value::Integer(1));
        dataset::assert_survives(&mut server, "after kill -9");
    }

    fn a_log_whose_disk_does_not_answer_does_not_end(version: Version) {
        let mut server = builder(version).set("wbl.commit-mode", "async").start();
        let mut control = server.raw();
        control.run("SET clean v");
        let frozen = FrozenDisk::freeze(Lever::Sync, &server, &mut control);
        let mut client = server.raw();
        client.send_text("SET k v");
        client.assert_silent(&mut control, "SET");
        let refused = format!("{:?}", control.call(&["CONFIG", "SET", "wbl.enabled", "no"]));
        assert!(refused.contains("does not answer"), "{refused}");
        serve(&server);
        frozen.thaw(&mut control);
        assert_eq!(client.reply(), Value::Simple("OK".into()));
        control.run("CONFIG SET wbl.enabled no");
        assert_eq!(server.wbl_info("wbl_state"), "disabled");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET k").text(), "v");
    }

    fn the_file_of_a_base_that_cannot_be_created_keeps_nobody(version: Version) {
        for (method, reserve) in [("fork", "no"), ("process", "yes")] {
            let builder = builder(version).set("wbl.checkpoint-method", method).set("wbl.reserve", reserve);
            let mut server = builder.set("wbl.checkpoint-min-bytes", "100kb").set("wbl.checkpoint-percentage", "0").start();
            let mut client = server.raw();
            client.run("SET clean v");
            let value = "v".repeat(1000);
            for automatic in [false, true] {
                (0..200).for_each(|number| drop(client.call(&["SET", &format!("key:{number}"), &value])));
                let hung = Strace::attach(server.process_id(), Injection::HangBase(HANGS));
                let done = number(&server, "wbl_checkpoints");
                let mut asker = server.raw();
                asker.send_text(if automatic { "CONFIG SET wbl.checkpoint-percentage 10" } else { "WBL.CHECKPOINT" });
                wait_until("the base is asked for", PATIENCE, || {
                    serve(&server);
                    number(&server, "wbl_checkpoint_in_progress") == 1
                });
                // What is changed meanwhile is in the log or in the base.
                client.run(&format!("SET during {automatic}"));
                wait_until("the disk is asked", PATIENCE, || {
                    serve(&server);
                    hung.calls().contains("temp-base-")
                });
                assert_eq!(number(&server, "wbl_checkpoints"), done, "the disk has answered too soon");
                wait_until("the base is in place", PATIENCE, || number(&server, "wbl_checkpoints") > done);
                assert_eq!(asker.reply(), Value::Simple("OK".into()));
                client.run("CONFIG SET wbl.checkpoint-percentage 0");
                drop(hung);
                client.run("SET after v");
            }
            dataset::assert_survives(&mut server, "after kill -9");
        }
    }

    fn a_second_server_that_cannot_end_keeps_nobody(version: Version) {
        for end in ["CONFIG SET wbl.enabled no", "DEBUG RELOAD"] {
            let mut server = builder(version).set("wbl.checkpoint-method", "process").variable(VARIABLE, STOPS).start();
            let mut client = server.raw();
            client.run("SET clean v");
            server.raw().send_text("WBL.CHECKPOINT");
            let second = server.wait_child_stopped();
            let held = Strace::keep_unwaited(second);
            assert_eq!(server.raw().with_patience(SERVES).run(end), Value::Simple("OK".into()), "{end}");
            assert!(children(server.process_id()).contains(&second), "{end}: it has ended too soon");
            if end == "DEBUG RELOAD" {
                // The next one does not wait for it either.
                let mut asker = server.raw();
                asker.send_text("WBL.CHECKPOINT");
                send_signal(server.wait_child_stopped(), "CONT");
                assert_eq!(asker.reply(), Value::Simple("OK".into()));
            }
            serve(&server);
            drop(held);
            wait_until("it is waited for", PATIENCE, || !children(server.process_id()).contains(&second));
        }
    }

    fn nor_does_it_keep_a_replica_in_a_full_sync(version: Version) {
        let mut group = Group::start(version, 1, &[("wbl.checkpoint-method", "process")]);
        group.primary().raw().run("SET clean v");
        group.wait_equal(1);
        let replica = &mut group.nodes[1];
        replica.reconfigure(|builder| builder.variable(VARIABLE, STOPS));
        replica.kill9_and_restart();
        // A child is forked for the base of its next log, and stops, too.
        send_signal(replica.wait_child_stopped(), "CONT");
        wait_in_sync(replica);
        wait_until("its log is there", PATIENCE, || replica.wbl_info("wbl_replica_log") == "written");
        replica.raw().send_text("WBL.CHECKPOINT");
        let second = replica.wait_child_stopped();
        let held = Strace::keep_unwaited(second);
        let generation = replica.wbl_info("wbl_log_generation");
        let mut primary = group.primary().raw();
        primary.run("DEBUG CHANGE-REPL-ID");
        primary.run("CLIENT KILL TYPE replica");
        let replica = &group.nodes[1];
        wait_until("another log is there", PATIENCE, || {
            let mut client = replica.raw().with_patience(SERVES);
            client.send_text("GET clean");
            client.try_reply().expect("the replica serves nobody");
            replica.wbl_info("wbl_log_generation") != generation && replica.wbl_info("wbl_replica_log") == "written"
        });
        assert!(children(replica.process_id()).contains(&second), "it has ended too soon");
        drop(held);
        group.wait_equal(1);
    }
}

/// Second servers stop before they write.
const STOPS: &str = "base-child:stop";

fn builder(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).in_memory().only_own_warnings();
    builder.set("wbl.commit-mode", "async").allow_warning("takes the place of the data")
}

fn number(server: &Server, field: &str) -> u64 {
    server.wbl_info(field).parse().expect("a number")
}

/// The server serves whoever reads what is durable.
fn serve(server: &Server) {
    assert_eq!(server.raw().with_patience(SERVES).run("GET clean"), Value::Bulk(b"v".to_vec()));
}
