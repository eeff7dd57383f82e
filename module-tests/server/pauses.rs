//! What a pause makes wait runs when that has ended, and nothing announces it again.

use crate::harness::group::Group;
use crate::harness::process::send_signal;
use crate::harness::server::info_field;
use crate::harness::{FrozenDisk, Lever, PATIENCE, ServerBuilder, Value, Version, dataset, each_version, wait_until};
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
        wait_until("the loop waits, as something is delayed", PATIENCE, is_busy);
        second.send_text("SETNX k 2");
        let gate = server.folder().join("another-gate");
        std::fs::write(&gate, "").expect("a file in the data folder");
        disk.thaw(&mut control);
        // The loop goes on when all is durable, and reads this before, or after, the long command.
        control.send_text(&format!("WBL.DEBUG SYNC HOLD {}", gate.display()));
        (0..3).for_each(|_| assert!(!long.reply().is_error()));
        wait_until("the loop waits for what they show", PATIENCE, || {
            second.received_nothing().expect("SETNX shows a change that is not durable");
            is_busy()
        });
        std::fs::remove_file(gate).expect("the gate's file");
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
}
