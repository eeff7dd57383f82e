//! Servers that were a primary, and follow another one or nobody.

use crate::harness::ports::free_ports;
use crate::harness::server::info_field;
use crate::harness::{PATIENCE, ServerBuilder, Version, dataset, each_version, wait_until};
use crate::life::module;
use std::fs;

each_version! {
    fn a_former_primary_that_starts_as_a_replica_of_nobody_has_its_data(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        crate::harness::samples::fill(&mut server.raw(), version);
        let expected = dataset::read(&mut server.raw());
        server.kill9();
        server.reconfigure(|builder| {
            let builder = builder.set_words("replicaof", &["127.0.0.1", "1"]).set("wbl.enabled", "true-later");
            builder.unset("wbl.enabled").allow_warning("Error condition on socket for SYNC")
        });
        for _ in 0..2 {
            server.start();
            let mut client = server.raw();
            assert_eq!(info_field(&mut client, "replication", "master_port").as_deref(), Some("1"));
            assert_eq!(info_field(&mut client, "replication", "role").as_deref(), Some("slave"));
            assert_eq!(server.wbl_info("wbl_state"), "replica");
            dataset::assert_same(&dataset::read(&mut client), &expected, "as a replica of nobody");
            server.kill9();
        }
        server.start();
        let mut client = server.raw();
        client.run("REPLICAOF NO ONE");
        client.run("SET after promotion");
        client.run("WBL.WAIT");
        let expected = dataset::read(&mut client);
        server.kill9();
        server.reconfigure(|builder| builder.unset("replicaof"));
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after the promotion");
    }

    fn a_former_primary_that_follows_another_syncs_whole_after_a_recovery(version: Version) {
        // Its own dump has the replication id and offset of the time before; what the log brought back is newer.
        let [port, own_port] = free_ports::<2>();
        let mut primary = ServerBuilder::stock(version).set("port", &port.to_string()).start();
        let builder = module(version).set("port", &own_port.to_string());
        let mut server = builder.allow_warning("takes the place of the data").allow_warning("SYNC").start();
        let mut client = server.raw();
        client.run("SET of-the-log v");
        client.run("WBL.WAIT");
        primary.raw().run("SET of-the-primary v");
        server.kill9();
        server.reconfigure(|builder| builder.set_words("replicaof", &["127.0.0.1", &port.to_string()]).unset("wbl.enabled"));
        server.start();
        let mut client = server.raw();
        wait_until("the replica is in sync", PATIENCE, || {
            info_field(&mut client, "replication", "master_link_status").as_deref() == Some("up")
        });
        let expected = dataset::read(&mut primary.raw());
        dataset::assert_same(&dataset::read(&mut client), &expected, "in sync");
        assert!(!server.log().contains("Successful partial resynchronization"), "a partial sync on top of other data");
        primary.stop();
    }

    fn a_former_primary_does_not_fall_back_to_the_log_before_it_was_a_replica(version: Version) {
        let [port] = free_ports::<1>();
        let primary = ServerBuilder::stock(version).set("port", &port.to_string()).start();
        primary.raw().run("SET of-the-primary v");
        let builder = module(version).set("wbl.replica-log", "no").allow_warning("superseded").allow_warning("SYNC");
        let mut server = builder.allow_warning("the log can't be brought back").start();
        let mut client = server.raw();
        client.run("SET before v");
        client.run(&format!("REPLICAOF 127.0.0.1 {port}"));
        wait_until("the log is superseded", PATIENCE, || {
            info_field(&mut client, "wbl", "wbl_log_superseded").as_deref() == Some("1")
                && server.log().contains("the folder's log is superseded")
        });
        let expected = dataset::read(&mut primary.raw());
        dataset::assert_same(&dataset::read(&mut client), &expected, "in sync");
        // The dump that the primary sent is there.
        assert!(server.folder().join("dump.rdb").exists());
        server.kill9();
        let dump = fs::read(server.folder().join("dump.rdb")).unwrap();
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "the server's own data stand");
        server.raw().run("SET more v");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("EXISTS more of-the-primary before").integer(), 2);
        // And without it.
        let mut client = server.raw();
        client.run(&format!("REPLICAOF 127.0.0.1 {port}"));
        wait_until("the log is superseded again", PATIENCE, || {
            server.log().matches("the folder's log is superseded").count() == 2
        });
        server.kill9();
        fs::remove_file(server.folder().join("dump.rdb")).unwrap();
        server.launch();
        assert_eq!(server.wait_exit().code(), Some(1));
        let log = server.log();
        let line = log.lines().rfind(|line| line.contains("the log can't be brought back")).unwrap();
        assert!(line.contains("start it as a replica") && line.contains("wbl.on-existing-log"), "{line}");
        // As a replica it has nothing to say.
        server.reconfigure(|builder| {
            builder.set_words("replicaof", &["127.0.0.1", &port.to_string()]).unset("wbl.enabled")
        });
        server.start();
        let mut client = server.raw();
        wait_until("the replica is in sync", PATIENCE, || client.run("EXISTS of-the-primary").integer() == 1);
        drop(dump);
    }

    fn a_partial_sync_supersedes_the_log_too(version: Version) {
        let [port, other_port] = free_ports::<2>();
        let builder = module(version).set("wbl.replica-log", "no");
        let builder = builder.allow_warning("superseded").allow_warning("Failed to read response");
        // On a busy machine the handshake may take longer than the servers wait for.
        let builder = builder.allow_warning("Primary did not respond to command during SYNC handshake");
        let server = builder.set("port", &port.to_string()).start();
        let mut client = server.raw();
        let other = ServerBuilder::stock(version).set("port", &other_port.to_string());
        let other = other.set_words("replicaof", &["127.0.0.1", &port.to_string()]).start();
        client.run("SET before v");
        wait_until("the other follows", PATIENCE, || other.raw().run("EXISTS before").integer() == 1);
        other.raw().run("REPLICAOF NO ONE");
        other.raw().run("SET after v");
        client.run(&format!("REPLICAOF 127.0.0.1 {other_port}"));
        wait_until("this one follows", PATIENCE, || client.run("EXISTS after").integer() == 1);
        assert!(server.log().contains("Successful partial resynchronization"), "the sync was a whole one");
        wait_until("the log is superseded", PATIENCE, || server.log().contains("the folder's log is superseded"));
    }
}
