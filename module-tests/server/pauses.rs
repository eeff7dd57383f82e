//! What a pause makes wait runs when that has ended, and nothing announces it again.

use crate::harness::group::Group;
use crate::harness::process::send_signal;
use crate::harness::server::info_field;
use crate::harness::{
    FrozenDisk, Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Value, Version, dataset, each_version, wait_until,
};
use crate::leaks::pipeline;
use std::time::Duration;

/// A server that serves nobody for so long runs something long, or waits for the disk.
const BUSY: Duration = Duration::from_millis(300);

each_version! {
    // A long command that runs as the server lets go of blocked clients: the pause ends in the same iteration, after
    // what it has delayed could have run in it.
    fn what_is_delayed_shows_nothing_early_however_the_pause_ends(version: Version) {
        let builder = ServerBuilder::with_module(version).in_memory().set("wbl.commit-mode", "async");
        let mut server = builder.start();
        let [mut control, mut long, mut first, mut second] = std::array::from_fn(|_| server.raw());
        [&mut long, &mut first, &mut second].into_iter().for_each(|client| drop(client.run("PING")));
        let is_busy = || {
            let mut witness = server.raw().with_patience(BUSY);
            witness.send(&["PING"]);
            witness.try_reply().is_err()
        };
        let disk = FrozenDisk::freeze(Lever::Sync, &server, &mut control);
        long.send_text("SET other v");
        disk.assert_withheld(&server, &mut control, &mut long, "SET");
        pipeline(&mut long, "DEBUG SLEEP 4.5; PING");
        control.run("CLIENT PAUSE 3000 WRITE");
        first.send_text("SET k 1");
        first.assert_silent(&mut control, "it is delayed");
        second.send_text("SETNX k 2");
        second.assert_silent(&mut control, "it is delayed");
        let gate = server.folder().join("another-gate");
        std::fs::write(&gate, "").expect("a file in the data folder");
        disk.thaw(&mut control);
        // The server reads this after the long command, and before it runs what was delayed.
        control.send_text(&format!("WBL.DEBUG SYNC HOLD {}", gate.display()));
        wait_until("the loop waits for what they show", PATIENCE, || {
            first.received_nothing().expect("SET is not durable");
            second.received_nothing().expect("SETNX shows a change that is not durable");
            is_busy()
        });
        std::fs::remove_file(gate).expect("the gate's file");
        (0..3).for_each(|_| assert!(!long.reply().is_error()));
        assert_eq!((first.reply(), second.reply()), (Value::Simple("OK".into()), Value::Integer(0)));
        dataset::assert_survives(&mut server, "after kill -9");
    }

    // The server lets the reader go when the pause ends, and serves it, with an error here, when the next commands have
    // run.
    fn a_reader_that_a_pause_delays_shows_nothing_early(version: Version) {
        let ways = ["CLIENT UNPAUSE; ", "CLIENT UNPAUSE; DEBUG SLEEP 0; "];
        for (ends, logs_before) in ways.iter().flat_map(|ends| [(ends, true), (ends, false)]) {
            let builder = ServerBuilder::with_module(version).in_memory().set("wbl.commit-mode", "async");
            let mut server = builder.set("wbl.enabled", if logs_before { "yes" } else { "no" }).start();
            let [mut control, mut reader, mut pauser, mut writer] = std::array::from_fn(|_| server.raw());
            reader.send_text("BLPOP l 0");
            reader.assert_silent(&mut control, "BLPOP");
            ["CONFIG SET wbl.enabled yes", "WBL.WAIT"].iter().for_each(|command| drop(control.run(command)));
            server.reconfigure(|builder| builder.unset("wbl.enabled"));
            pipeline(&mut pauser, "MULTI; CLIENT PAUSE 60000 WRITE; RPUSH l e; EXEC");
            (0..4).for_each(|_| assert!(!pauser.reply().is_error()));
            reader.assert_silent(&mut control, "BLPOP in the pause");
            control.run("WBL.WAIT");
            let disk = FrozenDisk::freeze(Lever::Sync, &server, &mut control);
            pipeline(&mut writer, &format!("{ends}SET l new"));
            disk.settle(&server, &mut control);
            disk.assert_withheld(&server, &mut control, &mut reader, ends);
            disk.thaw(&mut control);
            assert!(reader.reply().is_error(), "the list has gone");
            ends.split(';').for_each(|_| assert!(!writer.reply().is_error()));
            dataset::assert_survives(&mut server, "after kill -9");
        }
    }

    // A call at the end of the unit would end the pause before the server propagates what the transaction has done.
    fn a_transaction_with_a_fail_over_is_answered(version: Version) {
        let group = Group::start(version, 1, &[]);
        let (primary, replica) = (group.primary(), &group.nodes[1]);
        send_signal(replica.process_id(), "STOP");
        let mut client = primary.raw();
        pipeline(&mut client, "MULTI; FAILOVER TIMEOUT 500; INCR n; EXEC");
        let replies: Vec<Value> = (0..4).map(|_| client.reply()).collect();
        assert!(!replies.iter().any(Value::is_error), "{replies:?}");
        send_signal(replica.process_id(), "CONT");
        wait_until("the fail-over is over", PATIENCE, || {
            info_field(&mut primary.raw(), "replication", "master_failover_state").as_deref() == Some("no-failover")
        });
        let nodes = [primary.raw().run("GET n"), replica.raw().run("GET n")];
        assert!(nodes.contains(&Value::Bulk(b"1".to_vec())), "{nodes:?}");
    }

    fn a_transaction_that_promotes_and_pauses_is_answered(version: Version) {
        let group = Group::start(version, 1, &[]);
        let mut client = group.nodes[1].raw();
        pipeline(&mut client, "MULTI; REPLICAOF NO ONE; CLIENT PAUSE 50 WRITE; EVAL return(redis.call('INCR','n')) 0; EXEC");
        let replies: Vec<Value> = (0..5).map(|_| client.reply()).collect();
        assert!(!replies.iter().any(Value::is_error), "{replies:?}");
        assert_eq!(client.run("GET n"), Value::Bulk(b"1".to_vec()));
    }

    // Reads run in a pause of writes, and what is delayed shows nothing before its end.
    fn a_pause_while_the_disk_hangs_holds_up_only_what_it_delays(version: Version) {
        let mut scene = Scene::of(ServerBuilder::with_module(version).set("wbl.commit-mode", "async"));
        scene.prepare(&["SET clean v", "SET k old", "RPUSH l e"]);
        scene.freeze_by(Lever::Sync);
        let mut held = ["SET k new", "RPUSH l f"].map(|write| scene.held(write));
        scene.control.run("CLIENT PAUSE 60000 WRITE");
        let mut delayed = ["SETNX k newest", "INCR n", "LPOP l"].map(|write| {
            let mut client = scene.server.raw();
            client.send_text(write);
            client
        });
        for round in 0..3 {
            assert_eq!(scene.answer("GET clean"), Value::Bulk(b"v".to_vec()), "{round}");
            let mut client = scene.server.raw();
            pipeline(&mut client, "MULTI; GET clean; EXEC; GET clean; TYPE clean");
            (0..5).for_each(|_| assert!(!client.reply().is_error(), "{round}"));
            held.iter_mut().chain(&mut delayed).for_each(|client| client.silent(&mut scene.control).expect("held"));
        }
        let mut reader = scene.server.raw();
        reader.send_text("LRANGE l 0 -1");
        reader.silent(&mut scene.control).expect("the list is dirty");
        scene.control.send_text("CLIENT UNPAUSE");
        delayed.iter_mut().for_each(|client| scene.hidden(client, "PING"));
        scene.thaw();
        assert_eq!(scene.control.reply(), Value::Simple("OK".into()));
        let [setnx, incr, lpop] = delayed.each_mut().map(RawConnection::reply);
        assert_eq!((setnx, incr, lpop), (Value::Integer(0), Value::Integer(1), Value::Bulk(b"e".to_vec())));
        assert_eq!(reader.reply().items().len(), 2);
        dataset::assert_survives(&mut scene.server, "after kill -9");
    }

    // It has run between two pauses, and its client waits in the next one: in another command.
    fn what_is_delayed_shows_nothing_early_if_its_client_waits_in_another_command(version: Version) {
        for next in ["WAIT 1 100", "WBL.WAIT 100"] {
            let mut scene = Scene::of(ServerBuilder::with_module(version).set("wbl.commit-mode", "async"));
            let mut client = scene.server.raw();
            scene.freeze_by(Lever::Sync);
            let mut writer = scene.held("SET k string");
            scene.control.run("CLIENT PAUSE 60000 WRITE");
            pipeline(&mut client, &format!("LPUSH k e; CLIENT PAUSE 60000 WRITE; {next}"));
            client.silent(&mut scene.control).expect("it is delayed");
            scene.control.send_text("CLIENT UNPAUSE");
            scene.assert_withheld(&mut client, next);
            scene.thaw();
            assert!(client.reply().is_error(), "the key has a string");
            assert_eq!(client.reply(), Value::Simple("OK".into()));
            client.reply();
            assert_eq!(writer.reply(), Value::Simple("OK".into()));
            assert_eq!(scene.control.reply(), Value::Simple("OK".into()));
        }
    }

    // The primary would wait for its disk on account of what the fail-over delays, and never hand over.
    fn a_primary_whose_disk_hangs_hands_over(version: Version) {
        let group = Group::start(version, 1, &[("wbl.commit-mode", "async")]);
        let (primary, replica) = (group.primary(), &group.nodes[1]);
        let mut control = primary.raw();
        ["SET clean v", "WBL.WAIT"].iter().for_each(|command| drop(control.run(command)));
        group.wait_all(1);
        let disk = FrozenDisk::freeze(Lever::Sync, primary, &mut control);
        let [mut held, mut delayed] = std::array::from_fn(|_| primary.raw());
        held.send_text("INCR n");
        disk.assert_withheld(primary, &mut control, &mut held, "INCR");
        control.run("FAILOVER");
        delayed.send_text("INCR other");
        wait_until("the replica is the primary", PATIENCE, || {
            assert_eq!(control.run("GET clean"), Value::Bulk(b"v".to_vec()));
            info_field(&mut replica.raw(), "replication", "role").as_deref() == Some("master")
        });
        assert!(delayed.reply().is_error(), "it is a replica by now");
        disk.thaw(&mut control);
    }

    // A question to the server at the unit's end would end the pause before the transaction is propagated, against
    // which the server asserts.
    fn a_transaction_with_a_pause_and_what_no_event_reports_is_answered(version: Version) {
        let group = Group::start(version, 1, &[]);
        let (mut client, mut reader) = (group.primary().raw(), group.primary().raw());
        ["XADD x 1-1 f v", "XGROUP CREATE x g 0", "XREADGROUP GROUP g c STREAMS x >"]
            .iter()
            .for_each(|command| drop(client.run(command)));
        reader.send_text("BLPOP nothing 0");
        for unseen in ["XACK x g 1-1", "XACK x g 1-1", "XAUTOCLAIM x g d 0 0", "PFCOUNT p", "FUNCTION FLUSH"] {
            pipeline(&mut client, &format!("MULTI; CLIENT PAUSE 20 WRITE; SET a 1; {unseen}; EXEC"));
            let replies: Vec<Value> = (0..5).map(|_| client.reply()).collect();
            assert_eq!(replies[4].items().len(), 3, "{unseen}: {replies:?}");
        }
        client.run("WBL.WAIT");
        group.wait_all(1);
        let mut server = group.nodes.into_iter().next().expect("the primary");
        server.kill9_and_restart();
        assert_eq!(format!("{:?}", server.raw().run("XPENDING x g")), "[:0, null, null, null]");
    }
}
