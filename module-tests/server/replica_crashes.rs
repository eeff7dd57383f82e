//! Replicas that are killed, promoted, or cannot write their log: whatever happens, memory is one dataset, and what a
//! start brings back is one that memory had.

use crate::harness::dataset;
use crate::harness::group::{Group, builder, replica_of, wait_durable, wait_in_sync};
use crate::harness::ports::free_ports;
use crate::harness::server::info_field;
use crate::harness::strace::{Injection, Strace};
use crate::harness::{PATIENCE, Random, Sentinels, Server, ServerBuilder, Value, Version, each_version, wait_until};
use std::fs;
use std::path::PathBuf;

/// How a dataset may come from a primary.
const SYNCS: [&[(&str, &str)]; 4] = [
    &[("repl-diskless-load", "disabled"), ("repl-diskless-sync", "no")],
    &[("repl-diskless-load", "flush-before-load"), ("repl-diskless-sync", "yes")],
    &[("repl-diskless-load", "swapdb"), ("repl-diskless-sync", "yes")],
    &[("dual-channel-replication-enabled", "yes"), ("repl-diskless-sync", "yes")],
];

/// What a replica passes on its way from one dataset to another.
const POINTS: [&str; 9] = [
    "log-closes",
    "log-closed",
    "log-begun",
    "base-fork",
    "base-written",
    "base-installed",
    "rename",
    "renamed",
    "remove",
];

each_version! {
    fn a_replica_that_is_killed_in_a_full_sync_has_one_dataset_or_the_other(version: Version) {
        for how in SYNCS {
            let [port, own_port] = free_ports::<2>();
            let set = |builder| how.iter().fold(builder, |builder: ServerBuilder, (name, value)| builder.set(name, value));
            let primary = set(builder(version, port, None)).set("rdbcompression", "no").start();
            fill(&primary, "sent", 200);
            let mut server = set(builder(version, own_port, None)).set("loading-process-events-interval-bytes", "1024").start();
            // What it has before its primary comes.
            server.reconfigure(|builder| replica_of(builder, 1));
            fill(&server, "before", 100);
            let (before, sent) = (dataset::read(&mut server.raw()), dataset::read(&mut primary.raw()));
            // The points are the same however it comes.
            let points = if how[0].1 == "swapdb" { &POINTS[..] } else { &[] };
            for end in ["transfer", "load"].iter().chain(points) {
                kill_in_sync(&mut server, &primary, port, end);
                server.start();
                let found = dataset::read(&mut server.raw());
                assert!(found == before || found == sent, "{how:?}, {end}: {} keys", found.len());
                sync(&server, port);
                dataset::assert_same(&dataset::read(&mut server.raw()), &sent, "after the sync");
                server.kill9_and_restart();
                let mut client = server.raw();
                dataset::assert_same(&dataset::read(&mut client), &sent, "after a kill");
                client.run("REPLICAOF NO ONE");
                client.run("FLUSHALL");
                fill(&server, "before", 100);
            }
        }
    }

    fn what_a_replica_had_at_its_promotion_and_what_it_acknowledged_since_is_there(version: Version) {
        let mut group = Group::start(version, 1, &[]);
        let port = group.ports[0];
        let replica = group.nodes.pop().expect("a replica");
        let mut random = Random::of_test("replica_crashes");
        let mut nodes = [group.nodes.pop().expect("a primary"), replica];
        for round in 0..3 {
            let key = format!("list:{round}");
            let mut sender = nodes[0].raw();
            let writes = 200 + random.below(300) as usize;
            (0..writes).for_each(|number| sender.send(&["RPUSH", &key, &number.to_string()]));
            wait_until("it follows", PATIENCE, || nodes[1].raw().call(&["LLEN", &key]).integer() > 0);
            let mut client = nodes[1].raw();
            client.run("REPLICAOF NO ONE");
            let had = client.call(&["LLEN", &key]).integer();
            let mut acknowledged = had;
            for _ in 0..random.below(100) {
                acknowledged = client.call(&["RPUSH", &key, "own"]).integer();
            }
            nodes[1].kill9();
            nodes[1].reconfigure(|builder| builder.unset("replicaof"));
            nodes[1].launch();
            let mut client = nodes[1].wait_answers();
            assert_eq!(client.call(&["LLEN", &key]).integer(), acknowledged, "round {round}: {had} at the promotion");
            let numbers = client.call(&["LRANGE", &key, "0", &(had - 1).to_string()]);
            let numbers: Vec<String> = numbers.items().iter().map(Value::text).collect();
            assert_eq!(numbers, (0..had).map(|number| number.to_string()).collect::<Vec<_>>());
            client.run(&format!("REPLICAOF 127.0.0.1 {port}"));
            wait_in_sync(&nodes[1]);
            wait_until("its log is there", PATIENCE, || nodes[1].wbl_info("wbl_replica_log") == "written");
        }
    }

    fn a_sentinel_group_that_loses_power_and_whose_replicas_start_first_loses_nothing(version: Version) {
        let own = ServerBuilder::with_module(version).in_memory().only_own_warnings();
        let mut group = Sentinels::start(&own.allow_warning("takes the place of the data"), version, 2);
        let mut client = group.nodes[0].raw();
        (0..300).for_each(|number| drop(client.run(&format!("SET k{number} v"))));
        assert_eq!(client.run("WAIT 2 0").integer(), 2);
        for replica in &group.nodes[1..] {
            wait_until("its log is there", PATIENCE, || replica.wbl_info("wbl_replica_log") == "written");
            wait_durable(replica);
        }
        let expected = dataset::read(&mut client);
        group.nodes.iter_mut().for_each(Server::kill9);
        for replica in [1, 2] {
            group.nodes[replica].launch();
            group.nodes[replica].wait_answers();
        }
        // All Sentinels know of it before the old one is back.
        let primary = group.wait_primary();
        group.nodes[0].launch();
        group.nodes[0].wait_answers();
        group.wait_watched();
        group.assert_replicas_equal("after the power loss");
        dataset::assert_same(&dataset::read(&mut group.nodes[primary].raw()), &expected, "the new primary");
    }

    fn a_replica_whose_folder_cannot_be_written_serves_and_says_so(version: Version) {
        // What is held or written ahead would leave room on the full disk.
        let mut group = Group::start(version, 1, &[("wbl.reserve", "no"), ("wbl.segment-bytes", "2gb")]);
        group.primary().raw().run("SET k v");
        group.wait_equal(1);
        let expected = dataset::read(&mut group.nodes[1].raw());
        let ports = group.ports.clone();
        group.nodes.iter_mut().for_each(Server::kill9);
        let folder = on_full_disk(&mut group.nodes[1]);
        let replica = &mut group.nodes[1];
        replica.launch();
        let mut client = replica.wait_answers();
        dataset::assert_same(&dataset::read(&mut client), &expected, "what the log has");
        assert!(replica.log().contains("the replica's log can't go on"), "{}", replica.log());
        let word = |replica: &Server, field: &str| replica.wbl_info(field);
        assert_eq!((word(replica, "wbl_replica_log").as_str(), word(replica, "wbl_safe").as_str()), ("none", "no"));
        assert!(!word(replica, "wbl_failure").is_empty());
        // The promotion takes no writes, and does not end the server.
        client.run("REPLICAOF NO ONE");
        assert_eq!(replica.wbl_info("wbl_state"), "failing");
        let refused = format!("{:?}", client.call(&["SET", "k", "w"]));
        assert!(refused.starts_with("-MISCONF"), "{refused}");
        dataset::assert_same(&dataset::read(&mut client), &expected, "after the promotion");
        // It is a replica again, and the disk has room: its log begins by itself.
        let inside = PathBuf::from(format!("/proc/{}/root/{}", replica.process_id(), folder.display()));
        fs::remove_file(inside.join("filler")).expect("what fills the disk");
        group.nodes[0].start();
        let replica = &mut group.nodes[1];
        client.run(&format!("REPLICAOF 127.0.0.1 {}", ports[0]));
        wait_in_sync(replica);
        wait_until("its log begins", PATIENCE, || replica.wbl_info("wbl_replica_log") == "written");
        assert_eq!(replica.wbl_info("wbl_safe"), "yes");
        group.primary().raw().run("SET later v");
        group.wait_equal(1);
    }

    fn a_promotion_while_the_disk_does_not_answer_holds_nobody_up(version: Version) {
        let mut group = Group::start(version, 1, &[("wbl.max-pending-bytes", "1048576")]);
        let mut client = group.primary().raw();
        let replica = &mut group.nodes[1];
        let strace = Strace::attach(replica.process_id(), Injection::Delay(4 * PATIENCE));
        let value = "v".repeat(64 << 10);
        (0..40).for_each(|number| drop(client.run(&format!("SET k{number} {value}"))));
        let mut own = replica.raw();
        wait_until("the log is left", PATIENCE, || replica.wbl_info("wbl_replica_log") == "none");
        wait_until("it follows", PATIENCE, || own.run("DBSIZE").integer() == 40);
        own.run("REPLICAOF NO ONE");
        assert_eq!(replica.wbl_info("wbl_state"), "failing");
        let refused = format!("{:?}", own.call(&["SET", "after", "v"]));
        assert!(refused.starts_with("-MISCONF") && refused.contains("is being closed"), "{refused}");
        assert_eq!(own.run("STRLEN k0").integer(), 64 << 10);
        drop(strace);
        wait_until("its log begins", PATIENCE, || replica.wbl_info("wbl_state") == "active");
        assert_eq!(own.run("SET after v"), Value::Simple("OK".into()));
        let expected = dataset::read(&mut own);
        replica.kill9();
        replica.reconfigure(|builder| builder.unset("replicaof"));
        replica.start();
        dataset::assert_same(&dataset::read(&mut replica.raw()), &expected, "after the promotion");
    }

    fn a_replica_that_restarts_never_goes_on_from_an_offset_of_other_data(version: Version) {
        // The dump of a sync by disk has an offset of the primary's stream, and the log has more.
        let mut group = Group::start(version, 1, &[("repl-diskless-sync", "no"), ("repl-diskless-load", "disabled")]);
        for (round, end) in [Server::kill9, Server::stop].into_iter().enumerate() {
            let write = |group: &Group, tag: &str| {
                let mut client = group.primary().raw();
                (0..50).for_each(|number| drop(client.run(&format!("RPUSH {tag}:{round} {number}"))));
                (0..50).for_each(|_| drop(client.run("INCR n")));
            };
            write(&group, "before");
            group.wait_equal(1);
            end(&mut group.nodes[1]);
            write(&group, "meanwhile");
            group.nodes[1].start();
            wait_in_sync(&group.nodes[1]);
            write(&group, "after");
            wait_until("its log is there", PATIENCE, || group.nodes[1].wbl_info("wbl_replica_log") == "written");
            group.wait_equal(1);
            assert!(!group.nodes[1].log().contains("Successful partial resynchronization"), "round {round}");
        }
        // A link that breaks while the server lives is another matter.
        let generation = group.nodes[1].wbl_info("wbl_log_generation");
        let mut client = group.primary().raw();
        client.run("CLIENT KILL TYPE replica");
        (0..50).for_each(|_| drop(client.run("INCR n")));
        wait_in_sync(&group.nodes[1]);
        let expected = group.wait_equal(1);
        assert!(group.nodes[1].log().contains("Successful partial resynchronization"));
        assert_eq!(group.nodes[1].wbl_info("wbl_log_generation"), generation);
        group.nodes.iter_mut().for_each(Server::kill9);
        group.nodes[1].start();
        dataset::assert_same(&dataset::read(&mut group.nodes[1].raw()), &expected, "the log of both links");
    }

    fn what_a_replica_evicts_and_what_a_pause_makes_wait_is_in_its_log_as_it_happened(version: Version) {
        let mut group = Group::start(version, 1, &[("replica-ignore-maxmemory", "no"), ("maxmemory-policy", "allkeys-random")]);
        let mut client = group.primary().raw();
        let value = "v".repeat(10_000);
        (0..300).for_each(|number| drop(client.call(&["SET", &format!("k{number}"), &value])));
        group.wait_all(1);
        let mut own = group.nodes[1].raw();
        own.run("CONFIG SET maxmemory 2000000");
        (0..100).for_each(|number| drop(client.call(&["APPEND", &format!("k{number}"), "w"])));
        group.wait_all(1);
        assert!(own.run("DBSIZE").integer() < 300);
        own.run("CONFIG SET maxmemory 0");
        // What waits at the end of the pause has run once; what the link took with it comes again.
        for breaks in [false, true] {
            wait_until("its log is there", PATIENCE, || group.nodes[1].wbl_info("wbl_replica_log") == "written");
            own.run("CLIENT PAUSE 600000 WRITE");
            client.run("MULTI");
            client.run("INCR paused");
            client.run("INCR paused");
            client.run("EXEC");
            client.run("RPUSH in-order 1");
            wait_until("the primary's client waits", PATIENCE, || {
                let list = own.run("CLIENT LIST TYPE primary").text();
                list.split(' ').any(|word| word.starts_with("flags=") && word.contains('b'))
            });
            if breaks {
                own.run("CLIENT KILL TYPE primary");
            }
            own.run("CLIENT UNPAUSE");
            wait_in_sync(&group.nodes[1]);
            wait_until("its log is there", PATIENCE, || group.nodes[1].wbl_info("wbl_replica_log") == "written");
            group.wait_all(1);
        }
        assert_eq!(own.run("GET paused").text(), "4");
        let expected = dataset::read(&mut own);
        group.nodes.iter_mut().for_each(Server::kill9);
        group.nodes[1].start();
        dataset::assert_same(&dataset::read(&mut group.nodes[1].raw()), &expected, "the replica's own log");
    }
}

fn fill(server: &Server, name: &str, keys: usize) {
    let mut client = server.raw();
    let value = "v".repeat(100);
    (0..keys).for_each(|number| drop(client.run(&format!("SET {name}:{number} {value}"))));
}

/// Kills the server on its way to the primary's dataset.
fn kill_in_sync(server: &mut Server, primary: &Server, port: u16, end: &str) {
    let (section, fields): (&str, &[&str]) = match end {
        "transfer" => {
            // In microseconds, of each key.
            primary.raw().run("CONFIG SET rdb-key-save-delay 20000");
            ("replication", &["master_sync_in_progress"])
        }
        "load" => {
            server.raw().run("CONFIG SET key-load-delay 20000");
            ("persistence", &["loading", "async_loading"])
        }
        point => {
            server.point(point, "KILL");
            server.raw().send_text(&format!("REPLICAOF 127.0.0.1 {port}"));
            server.wait_exit();
            return;
        }
    };
    server.raw().run(&format!("REPLICAOF 127.0.0.1 {port}"));
    wait_until("the sync is under way", PATIENCE, || {
        let is_on = |field: &&str| info_field(&mut server.raw(), section, field).as_deref() == Some("1");
        fields.iter().any(is_on)
    });
    server.kill9();
    primary.raw().run("CONFIG SET rdb-key-save-delay 0");
}

/// Waits until it has the primary's dataset, and a log of it.
fn sync(server: &Server, port: u16) {
    server.raw().run(&format!("REPLICAOF 127.0.0.1 {port}"));
    wait_in_sync(server);
    wait_until("its log is there", PATIENCE, || server.wbl_info("wbl_replica_log") == "written");
}

/// The next start has its log on a disk without any room; returns the log's folder.
fn on_full_disk(server: &mut Server) -> PathBuf {
    let folder = server.log_folder();
    let mount = "mount -t tmpfs -o size=1m none /mnt && cp -a \"$WBL\"/. /mnt && { dd if=/dev/zero of=/mnt/filler bs=4096 2>/dev/null; mount --bind /mnt \"$WBL\"; } && exec \"$0\" \"$@\"";
    server.reconfigure(|builder| {
        let builder = builder.variable("WBL", folder.to_str().expect("a plain path"));
        let builder = ["can't go on", "can't be noted", "the log can't begin", "no new base", "can't begin"]
            .into_iter()
            .fold(builder, ServerBuilder::allow_warning);
        builder.run_by(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount])
    });
    folder
}
