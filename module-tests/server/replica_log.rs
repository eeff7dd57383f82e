//! Replicas log what their primary sends: a group that loses power and comes back in any order loses nothing, and a
//! replica that is promoted protects from the first write.

use crate::harness::group::{Group, builder, replica_of, wait_durable, wait_in_sync};
use crate::harness::ports::free_ports;
use crate::harness::{
    FrozenDisk, Injection, Lever, PATIENCE, Server, ServerBuilder, Strace, Value, Version, dataset, each_lever,
    each_version, wait_until,
};
use crate::newest::manifest;
use std::time::Duration;

each_version! {
    fn replicas_that_start_first_after_a_power_loss_have_all_that_they_confirmed(version: Version) {
        let mut group = Group::start(version, 2, &[]);
        let mut client = group.primary().raw();
        (0..300).for_each(|number| drop(client.run(&format!("SET k{number} v"))));
        assert_eq!(client.run("WAIT 2 0").integer(), 2);
        group.wait_logged();
        let expected = dataset::read(&mut client);
        group.nodes.iter_mut().for_each(Server::kill9);
        for replica in [1, 2] {
            group.nodes[replica].start();
            dataset::assert_same(&dataset::read(&mut group.nodes[replica].raw()), &expected, "before its primary");
        }
        // Whoever watches the group promotes one of them, and the old primary comes back as its replica.
        let [_, one, other] = &mut group.nodes[..] else { unreachable!() };
        one.raw().run("REPLICAOF NO ONE");
        other.raw().run(&format!("REPLICAOF 127.0.0.1 {}", group.ports[1]));
        wait_in_sync(other);
        dataset::assert_same(&dataset::read(&mut other.raw()), &expected, "the other replica");
        let old = &mut group.nodes[0];
        old.reconfigure(|builder| replica_of(builder, group.ports[1]));
        old.start();
        wait_in_sync(old);
        dataset::assert_same(&dataset::read(&mut old.raw()), &expected, "the old primary");
    }

    fn what_a_replica_has_applied_comes_back_exactly(version: Version) {
        let mut group = Group::start(version, 1, &[]);
        let mut client = group.primary().raw();
        crate::harness::samples::fill(&mut client, version);
        for command in [
            "SET a 1", "INCR a", "INCRBYFLOAT a 0.5", "SADD set a b c d e f", "SPOP set 2", "SET timed v EX 1000",
            "SET past v PX 1", "XADD s * f v", "XADD s MINID ~ 5 LIMIT 10 * f v",
            "XADD s MAXLEN ~ 100 * f v", "XTRIM s MAXLEN ~ 100", "XTRIM s MINID = 5", "XADD s 99999999999999-1 f v", "XGROUP CREATE s g 0",
            "XREADGROUP GROUP g c COUNT 1 STREAMS s >", "XREADGROUP GROUP g c COUNT 1 STREAMS s >", "XACK s g 99999999999999-1",
            "XCLAIM s g d 0 99999999999999-1", "PFADD p a b", "PFCOUNT p", "GETEX timed PX 500000", "RPUSH l c a b",
            "SORT l ALPHA STORE sorted", "LMOVE l m LEFT LEFT", "MOVE m 3", "COPY a b", "COPY a c DB 5", "SET after-copy v",
            "SELECT 3", "SET in-three v", "SWAPDB 3 4", "SELECT 0", "GETDEL b", "EXPIRE a -1", "SET a 2",
            "MULTI", "SET t 1", "SELECT 2", "SET t 2", "EXEC", "SET t 3", "SELECT 0",
            "BITFIELD bits SET u8 0 255", "MSET q 1 r 2", "DEL q",
        ] {
            client.run(command);
        }
        let script = "for i = 1, 5 do redis.call('RPUSH', KEYS[1], i) end redis.call('SELECT', 7) redis.call('SET', 'x', 1)";
        client.call(&["EVAL", script, "1", "script"]);
        client.call(&["FUNCTION", "LOAD", "#!lua name=lib\nserver.register_function('f', function() return 1 end)"]);
        group.wait_all(1);
        // Of consumers a primary does not send all.
        let expected = dataset::read(&mut group.nodes[1].raw());
        assert_eq!(group.nodes[1].wbl_info("wbl_state"), "replica");
        group.nodes.iter_mut().for_each(Server::kill9);
        group.nodes[1].start();
        dataset::assert_same(&dataset::read(&mut group.nodes[1].raw()), &expected, "the replica's own log");
        assert_eq!(group.nodes[1].wbl_info("wbl_recovery_errors"), "0");
    }

    fn a_demoted_servers_log_goes_on_with_what_the_new_primary_sends(version: Version) {
        let mut group = Group::start(version, 1, &[]);
        group.primary().raw().run("SET before v");
        group.wait_equal(1);
        let generation = group.nodes[0].wbl_info("wbl_log_generation");
        group.nodes[1].raw().run("REPLICAOF NO ONE");
        group.nodes[0].raw().run(&format!("REPLICAOF 127.0.0.1 {}", group.ports[1]));
        wait_in_sync(&group.nodes[0]);
        assert!(group.nodes[0].log().contains("Successful partial resynchronization"), "the sync was a whole one");
        let mut client = group.nodes[1].raw();
        client.run("SET after v");
        client.run("MULTI");
        client.run("INCR n");
        client.run("INCR n");
        client.run("EXEC");
        wait_until("it follows", PATIENCE, || group.nodes[0].raw().run("EXISTS n").integer() == 1);
        let expected = dataset::read(&mut client);
        wait_durable(&group.nodes[0]);
        assert_eq!(group.nodes[0].wbl_info("wbl_log_generation"), generation);
        group.nodes.iter_mut().for_each(Server::kill9);
        group.nodes[0].start();
        dataset::assert_same(&dataset::read(&mut group.nodes[0].raw()), &expected, "the former primary");
    }

    fn a_full_sync_leaves_the_log_before_until_there_is_a_base(version: Version) {
        for how in ["disabled", "swapdb", "on-empty-db"] {
            let [port, own_port] = free_ports::<2>();
            let primary = builder(version, port, None).set("repl-diskless-sync", "yes").start();
            primary.raw().run("SET of-the-primary v");
            let mut server = builder(version, own_port, None).set("repl-diskless-load", how).start();
            server.raw().run("SET before v");
            let replicate = format!("REPLICAOF 127.0.0.1 {port}");
            // The base never gets ready.
            server.raw().run("CONFIG SET rdb-key-save-delay 60000000");
            server.raw().run(&replicate);
            wait_in_sync(&server);
            wait_until("the base is being written", PATIENCE, || server.wbl_info("wbl_replica_log") == "baselining");
            server.kill9();
            server.start();
            assert_eq!(server.raw().run("EXISTS before").integer(), 1, "{how}");
            server.raw().run(&replicate);
            wait_in_sync(&server);
            wait_until("it is in place", PATIENCE, || server.wbl_info("wbl_replica_log") == "written");
            primary.raw().run("SET later v");
            wait_until("it follows", PATIENCE, || server.raw().run("EXISTS later").integer() == 1);
            wait_durable(&server);
            server.kill9_and_restart();
            let mut client = server.raw();
            assert_eq!(client.run("EXISTS before").integer(), 0, "{how}");
            assert_eq!(client.run("EXISTS of-the-primary later").integer(), 2, "{how}");
        }
    }

    fn a_replica_of_a_replica_logs_too(version: Version) {
        let [port] = free_ports::<1>();
        let mut group = Group::start(version, 1, &[]);
        let mut last = builder(version, port, Some(group.ports[1])).start();
        wait_in_sync(&last);
        wait_until("its log is there", PATIENCE, || last.wbl_info("wbl_replica_log") == "written");
        let mut client = group.primary().raw();
        (0..50).for_each(|number| drop(client.run(&format!("RPUSH list {number}"))));
        wait_until("it follows", PATIENCE, || last.raw().run("LLEN list").integer() == 50);
        wait_durable(&last);
        let expected = dataset::read(&mut client);
        group.nodes.iter_mut().for_each(Server::kill9);
        last.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut last.raw()), &expected, "the last of the chain");
    }

    fn a_command_that_fails_on_the_replica_is_not_in_its_log(version: Version) {
        let mut group = Group::start(version, 1, &[("replica-read-only", "no")]);
        let mut client = group.primary().raw();
        let mut own = group.nodes[1].raw();
        client.run("SET k v");
        group.wait_equal(1);
        // The replica has gone its own way.
        own.run("DEL k");
        own.run("RPUSH k list");
        client.run("INCR fine");
        client.run("APPEND k more");
        client.run("INCR fine");
        wait_until("it says so", PATIENCE, || group.nodes[1].log().contains("can't follow the primary"));
        wait_until("its log begins anew", PATIENCE, || group.nodes[1].wbl_info("wbl_replica_log") == "written");
        client.run("INCR fine");
        wait_until("it follows", PATIENCE, || own.run("GET fine").text() == "3");
        wait_durable(&group.nodes[1]);
        let expected = dataset::read(&mut own);
        group.nodes.iter_mut().for_each(Server::kill9);
        group.nodes[1].start();
        dataset::assert_same(&dataset::read(&mut group.nodes[1].raw()), &expected, "what the replica had");
    }

    fn what_clients_write_on_a_replica_comes_back(version: Version) {
        let mut group = Group::start(version, 1, &[("replica-read-only", "no")]);
        let mut client = group.primary().raw();
        let mut own = group.nodes[1].raw();
        client.run("XADD s 1-1 f v");
        client.run("XGROUP CREATE s g 0");
        client.run("XREADGROUP GROUP g c STREAMS s >");
        group.wait_equal(1);
        for number in 0..20 {
            client.run(&format!("RPUSH l {number}"));
            own.run(&format!("LPUSH own {number}"));
            own.run("SET timed v EX 1000");
        }
        own.run("MULTI");
        own.run("XACK s g 1-1");
        own.call(&["FUNCTION", "LOAD", "#!lua name=l\nserver.register_function('f', function() end)"]);
        // Logged, before any of that has run.
        group.nodes[1].raw().run("SET other v");
        wait_durable(&group.nodes[1]);
        own.run("EXEC");
        own.call(&["EVAL", "redis.call('SET', 'by-script', 1) redis.call('INCR', 'by-script')", "0"]);
        wait_until("it follows", PATIENCE, || own.run("LLEN l").integer() == 20);
        wait_durable(&group.nodes[1]);
        let expected = dataset::read(&mut own);
        group.nodes.iter_mut().for_each(Server::kill9);
        group.nodes[1].start();
        dataset::assert_same(&dataset::read(&mut group.nodes[1].raw()), &expected, "what the replica had");
    }

    // What no event shows is noted when it is queued, and logged as the key was before it ran.
    fn what_clients_have_done_on_a_replica_is_kept_when_it_is_a_primary(version: Version) {
        let mut group = Group::start(version, 1, &[("replica-read-only", "no")]);
        let mut client = group.primary().raw();
        ["XADD s 1-1 f v", "XGROUP CREATE s g 0", "XREADGROUP GROUP g c STREAMS s >"]
            .iter()
            .for_each(|command| drop(client.run(command)));
        group.wait_equal(1);
        let replica = &mut group.nodes[1];
        let mut own = replica.raw();
        own.run("MULTI");
        assert_eq!(own.run("XACK s g 1-1"), Value::Simple("QUEUED".into()));
        wait_durable(replica);
        assert_eq!(own.run("EXEC").items(), [Value::Integer(1)]);
        wait_durable(replica);
        own.run("REPLICAOF NO ONE");
        wait_until("its log is active", PATIENCE, || replica.wbl_info("wbl_state") == "active");
        replica.reconfigure(|own| own.unset("replicaof"));
        dataset::assert_survives(replica, "as a primary");
    }

    fn a_replica_whose_disk_fails_serves_on_and_begins_anew(version: Version) {
        let mut group = Group::start(version, 1, &[("wbl.max-pending-bytes", "1048576")]);
        let mut client = group.primary().raw();
        group.nodes[1].raw().run("WBL.DEBUG SYNC HOLD");
        let value = "v".repeat(64 << 10);
        (0..40).for_each(|number| drop(client.run(&format!("SET k{number} {value}"))));
        let mut own = group.nodes[1].raw();
        wait_until("it follows", PATIENCE, || own.run("DBSIZE").integer() == 40);
        assert_eq!(client.run("WAIT 1 0").integer(), 1);
        wait_until("the log is left", PATIENCE, || group.nodes[1].wbl_info("wbl_replica_log") == "none");
        assert!(group.nodes[1].wbl_info("wbl_failure").contains("wbl.max-pending-bytes"));
        assert_eq!(group.nodes[1].wbl_info("wbl_safe"), "no");
        own.run("WBL.DEBUG SYNC RELEASE");
        wait_until("it begins anew", PATIENCE, || group.nodes[1].wbl_info("wbl_replica_log") == "written");
        let expected = group.wait_equal(1);
        group.nodes.iter_mut().for_each(Server::kill9);
        group.nodes[1].start();
        dataset::assert_same(&dataset::read(&mut group.nodes[1].raw()), &expected, "the replica's own log");
    }

    fn a_log_that_could_not_be_closed_is_marked_when_the_disk_is_back(version: Version) {
        let mut group = Group::start(version, 1, &[("wbl.max-pending-bytes", "100000")]);
        group.nodes[1].reconfigure(|own| {
            ["could not be closed", "the replica's log can't", "can't be noted"].into_iter().fold(own, ServerBuilder::allow_warning)
        });
        let replica = &group.nodes[1];
        let mut own = replica.raw();
        let failing = Strace::attach(replica.process_id(), Injection::FailChanges { error: "EIO" });
        let mut client = group.primary().raw();
        let value = "v".repeat(64 << 10);
        (0..4).for_each(|number| drop(client.run(&format!("SET k{number} {value}"))));
        wait_until("its close fails", PATIENCE, || replica.log().contains("could not be closed"));
        own.run("CONFIG SET wbl.enabled no");
        assert!(!manifest(replica).contains(" left ") && !manifest(replica).contains(" superseded"));
        drop(failing);
        wait_until("it is marked", PATIENCE, || {
            manifest(replica).contains(" left ") || manifest(replica).contains(" superseded")
        });
    }

    // The log that it had is being closed then.
    fn a_promotion_right_after_a_reload_refuses_nothing(version: Version) {
        let builder = ServerBuilder::with_module(version).allow_warning("Error condition on socket for SYNC");
        let mut server = builder.allow_warning("takes the place of the data").start();
        let mut client = server.raw();
        client.run("SET before v");
        client.run("REPLICAOF 127.0.0.1 1");
        wait_until("it is a replica", PATIENCE, || server.wbl_info("wbl_state") == "replica");
        let strace = Strace::attach(server.process_id(), Injection::Delay(Duration::from_millis(20)));
        let commands = [&["DEBUG", "RELOAD"][..], &["REPLICAOF", "NO", "ONE"], &["SET", "after", "v"]];
        client.send_at_once(&commands);
        for command in commands {
            assert_eq!(client.reply(), Value::Simple("OK".into()), "{command:?}");
        }
        drop(strace);
        // Nothing is promised before the new log has its base.
        client.run("WBL.WAIT");
        dataset::assert_survives(&mut server, "after kill -9");
    }

    fn without_the_setting_a_replica_has_no_log(version: Version) {
        let mut group = Group::start(version, 0, &[]);
        let [port] = free_ports::<1>();
        let mut replica = builder(version, port, Some(group.ports[0])).set("wbl.replica-log", "no").start();
        wait_in_sync(&replica);
        assert_eq!(replica.wbl_info("wbl_replica_log"), "none");
        let mut client = group.primary().raw();
        client.run("SET k v");
        replica.raw().run("CONFIG SET wbl.replica-log yes");
        wait_until("its log is there", PATIENCE, || replica.wbl_info("wbl_replica_log") == "written");
        replica.raw().run("CONFIG SET wbl.replica-log no");
        wait_until("it rests", PATIENCE, || replica.wbl_info("wbl_replica_log") == "none");
        replica.raw().run("CONFIG SET wbl.replica-log yes");
        wait_until("its log is there again", PATIENCE, || replica.wbl_info("wbl_replica_log") == "written");
        wait_until("it follows", PATIENCE, || replica.raw().run("EXISTS k").integer() == 1);
        group.nodes[0].kill9();
        replica.kill9_and_restart();
        assert_eq!(replica.raw().run("EXISTS k").integer(), 1);
    }
}

each_version! {
    fn a_promotion_waits_for_what_the_primary_has_acknowledged(version: Version) {
        let mut group = Group::start(version, 1, &[]);
        let mut client = group.primary().raw();
        let replica = &mut group.nodes[1];
        let _slow = Strace::attach(replica.process_id(), Injection::Delay(Duration::from_millis(20)));
        let mut own = replica.raw();
        for number in 1..=20 {
            client.run(&format!("SET k{number} v"));
            wait_until("it follows", PATIENCE, || own.run("DBSIZE").integer() == number);
        }
        own.run("REPLICAOF NO ONE");
        assert_eq!(replica.wbl_info("wbl_safe"), "yes");
    }

    fn a_promoted_replica_whose_disk_hangs_is_not_safe(version: Version) {
        let mut group = Group::start(version, 1, &[]);
        let mut client = group.primary().raw();
        let replica = &mut group.nodes[1];
        replica.reconfigure(|builder| builder.allow_warning("its disk has not answered"));
        let mut own = replica.raw();
        let disk = FrozenDisk::freeze(Lever::Sync, replica, &mut own);
        client.run("SET k v");
        wait_until("it follows", PATIENCE, || own.run("EXISTS k").integer() == 1);
        own.run("REPLICAOF NO ONE");
        assert_eq!((replica.wbl_info("wbl_state").as_str(), replica.wbl_info("wbl_safe").as_str()), ("active", "no"));
        assert!(replica.wbl_info("wbl_safe_why").contains("former primary"));
        disk.thaw(&mut own);
        wait_until("it is safe", PATIENCE, || replica.wbl_info("wbl_safe") == "yes");
    }
}

each_lever! {
    fn a_promoted_replica_protects_at_once_with_the_log_that_it_has(version: Version, lever: Lever) {
        let mut group = Group::start(version, 1, &[]);
        group.primary().raw().run("SET before v");
        group.wait_equal(1);
        let replica = &mut group.nodes[1];
        let (generation, bases) = (replica.wbl_info("wbl_log_generation"), replica.wbl_info("wbl_checkpoints"));
        let mut client = replica.raw();
        client.run("REPLICAOF NO ONE");
        assert_eq!(replica.wbl_info("wbl_state"), "active");
        let disk = FrozenDisk::freeze(lever, replica, &mut client);
        let mut writer = replica.raw();
        writer.send_text("SET after v");
        disk.assert_withheld(replica, &mut client, &mut writer, "the first write after the promotion");
        disk.thaw(&mut client);
        assert_eq!(writer.reply().text(), "OK");
        assert_eq!(replica.wbl_info("wbl_log_generation"), generation);
        assert_eq!(replica.wbl_info("wbl_checkpoints"), bases);
        let expected = dataset::read(&mut client);
        replica.kill9();
        replica.reconfigure(|builder| builder.unset("replicaof"));
        replica.start();
        dataset::assert_same(&dataset::read(&mut replica.raw()), &expected, "after the promotion");
    }
}
