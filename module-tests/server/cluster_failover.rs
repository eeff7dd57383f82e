//! Clusters whose nodes restart and change roles: no acknowledged write is lost, and replicas equal their primaries.

use crate::harness::cluster::{alone, take_all_slots};
use crate::harness::server::info_field;
use crate::harness::{
    PATIENCE, RawConnection, Server, ServerBuilder, Shards, Value, Version, Writers, each_version, paths, process,
    wait_for, wait_until,
};
use std::path::Path;
use std::time::{Duration, Instant};

each_version! {
    fn nothing_acknowledged_is_lost_by_rolling_restarts_and_failovers(version: Version) {
        let mut shards = Shards::start(&builder(version), 3);
        shards.attach_replicas();
        let writers = Writers::start(&shards.nodes, shards.ports(), 0);
        let more = || writers.wait_more(200);
        more();
        for replica in 3..6 {
            restart(&mut shards, replica);
            more();
        }
        // As replicas that were restarted take over, and are themselves replaced by restarted primaries.
        for node in [3, 4, 5, 0, 1, 2] {
            shards.failover(node);
            more();
            restart(&mut shards, node);
            more();
        }
        shards.nodes.iter_mut().for_each(Server::kill9);
        shards.nodes.iter_mut().for_each(Server::launch);
        shards.wait_serving();
        more();
        let count = writers.stop_and_check();
        assert!(count > 3000, "{count}");
        shards.assert_replicas_equal("at the end");
    }

    fn writes_that_a_replica_confirmed_outlive_the_kill_of_their_primary(version: Version) {
        let mut shards = Shards::start(&builder(version), 3);
        shards.attach_replicas();
        let writers = Writers::start(&shards.nodes, shards.ports(), 1);
        for (primary, replica) in [(0, 3), (1, 4), (2, 5)] {
            writers.wait_more(100);
            shards.nodes[primary].kill9();
            wait_until("the replica takes over", PATIENCE, || {
                info_field(&mut shards.nodes[replica].raw(), "replication", "role").as_deref() == Some("master")
            });
            shards.nodes[primary].launch();
            shards.wait_serving();
            shards.wait_replica_in_sync(primary);
        }
        writers.wait_more(100);
        // The old primaries have restarted as replicas, and must not have gone back to what they had.
        for replica in 0..3 {
            restart(&mut shards, replica);
            shards.failover(replica);
            writers.wait_more(100);
        }
        let count = writers.stop_and_check();
        assert!(count > 700, "{count}");
        shards.assert_replicas_equal("at the end");
    }

    fn a_cluster_replica_that_restarts_alone_equals_its_primary(version: Version) {
        let mut shards = Shards::start(&builder(version), 1);
        write(&shards.nodes[0], "before", 100);
        shards.attach_replicas();
        write(&shards.nodes[0], "after", 200);
        shards.wait_replica_in_sync(1);
        // The dump of the full resync has its offset, and the primary goes on from there.
        for (round, end) in [Server::kill9, Server::stop].into_iter().enumerate() {
            end(&mut shards.nodes[1]);
            write(&shards.nodes[0], &format!("meanwhile {round}"), 10);
            start_replica(&mut shards.nodes[1]);
            shards.wait_up();
            shards.assert_replicas_equal("after a restart");
        }
        shards.failover(1);
        assert_eq!(shards.nodes[1].raw().run("DBSIZE").integer(), 320);
        assert_rested(&shards.nodes[1]);
    }

    fn a_primary_that_was_demoted_leaves_its_old_log_alone(version: Version) {
        let mut shards = Shards::start(&builder(version), 1);
        write(&shards.nodes[0], "before", 100);
        shards.attach_replicas();
        shards.failover(1);
        write(&shards.nodes[1], "after", 100);
        shards.assert_replicas_equal("after the fail-over");
        for end in [Server::kill9, Server::stop] {
            end(&mut shards.nodes[0]);
            start_replica(&mut shards.nodes[0]);
            shards.wait_up();
            shards.assert_replicas_equal("after a restart");
        }
        assert_rested(&shards.nodes[0]);
        shards.failover(0);
        assert_eq!(shards.nodes[0].raw().run("DBSIZE").integer(), 200);
    }

    fn a_node_answers_and_obeys_while_the_second_server_recovers_it(version: Version) {
        let mut node = lone_node(version, KEYS);
        let second = start_and_stop_second_server(&mut node);
        let mut client = node.raw();
        for _ in 0..3 {
            for command in ["PING", "DBSIZE"] {
                let reply = format!("{:?}", client.call(&[command]));
                assert!(reply.starts_with("-LOADING"), "{command}: {reply}");
            }
        }
        assert_eq!(node.wbl_info("wbl_state"), "recovering");
        assert_eq!(info_field(&mut client, "persistence", "loading").as_deref(), Some("1"));
        node.signal("TERM");
        let started = Instant::now();
        assert!(node.wait_exit().success());
        assert!(started.elapsed() < Duration::from_secs(5), "SIGTERM took {:?}", started.elapsed());
        assert!(!process::runs(second), "the second server outlives the node");
        let sockets = std::fs::read_dir(node.log_folder()).unwrap().filter_map(Result::ok);
        let sockets: Vec<_> = sockets.filter(|entry| entry.file_name().to_string_lossy().ends_with(".socket")).collect();
        assert!(sockets.is_empty(), "{sockets:?}");

        let second = start_and_stop_second_server(&mut node);
        node.kill9();
        wait_until("the second server dies with the node", PATIENCE, || !process::runs(second));
        node.start();
        assert_eq!(node.raw().run("DBSIZE").integer(), KEYS);
    }

    fn the_second_servers_progress_is_the_nodes(version: Version) {
        let keys = 5 * KEYS;
        let mut node = lone_node(version, keys);
        node.kill9();
        node.launch();
        wait_until("the node tells how far the second server is", PATIENCE, || {
            node.assert_running();
            let Ok(mut client) = RawConnection::open(&node.socket()) else { return false };
            let state = info_field(&mut client, "wbl", "wbl_state");
            assert_ne!(state.as_deref(), Some("active"), "it was over before anything was told");
            info_field(&mut client, "wbl", "wbl_recovery_total_bytes").is_some_and(|bytes| bytes.len() > 6)
        });
        node.wait_ready();
        assert_eq!(node.raw().run("DBSIZE").integer(), keys);
    }

    fn a_node_whose_commands_are_renamed_recovers(version: Version) {
        let builder = builder(version).config_file("rename-command CLUSTER group\nrename-command CONFIG \"\"\n");
        let mut node = lone_node_of(builder, "group", 1000);
        node.kill9_and_restart();
        assert!(node.log().contains("a second server"), "the log was not replayed");
        assert_eq!(node.raw().run("DBSIZE").integer(), 1000);
    }

    fn a_node_whose_modules_have_relative_names_recovers(version: Version) {
        let builder = alone(builder(version)).set("loadmodule", "./wbl.so");
        let mut node = builder.load(Path::new("../data/./other.so"), true).prepare();
        for (name, module) in [("wbl.so", paths::module()), ("other.so", &paths::test_module(version))] {
            std::os::unix::fs::symlink(module, node.folder().join(name)).unwrap();
        }
        node.launch();
        node.wait_ready();
        fill_alone(&node, "CLUSTER", 1000);
        node.kill9_and_restart();
        assert!(node.log().contains("a second server"), "the log was not replayed");
        assert_eq!(node.raw().run("DBSIZE").integer(), 1000);
    }

    fn a_node_without_room_for_a_second_base_says_what_it_needs(version: Version) {
        // The small disk takes the folder without its reserve, and without a segment that is written ahead.
        let mut node = alone(builder(version).set("wbl.reserve", "no").set("wbl.segment-bytes", "2gb")).start();
        fill_alone(&node, "CLUSTER", 0);
        // Values that cannot be compressed.
        let script = "for i = 1, 600 do local bytes = {} for j = 1, 1000 do bytes[j] = string.char(math.random(0, 255)) end redis.call('SET', '{m}' .. i, table.concat(bytes)) end";
        assert!(!node.raw().call(&["EVAL", script, "1", "{m}"]).is_error());
        node.kill9();
        let on_small_disk = "mount -t tmpfs -o size=1m none /mnt && cp -a \"$WBL\"/. /mnt && mount --bind /mnt \"$WBL\" && exec \"$0\" \"$@\"";
        let folder = node.log_folder();
        node.reconfigure(|builder| {
            let builder = builder.variable("WBL", folder.to_str().unwrap()).allow_warning("can't be brought back");
            builder.run_by(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", on_small_disk])
        });
        node.launch();
        assert!(!node.wait_exit().success());
        let log = node.log();
        for text in ["the server could not save its dataset: ", " bytes are free on the disk", "room beside its log"] {
            assert!(log.contains(text), "{text}: {log}");
        }
        node.reconfigure(|builder| builder.run_by(&[]));
        node.start();
        assert_eq!(node.raw().run("DBSIZE").integer(), 600);
    }

    fn a_node_that_has_lost_its_configuration_takes_the_slots_of_its_keys(version: Version) {
        let mut node = lone_node(version, KEYS);
        let slot = node.raw().run("CLUSTER KEYSLOT {m}").integer();
        node.kill9();
        std::fs::remove_file(node.folder().join("nodes.conf")).unwrap();
        node.start();
        let mut client = node.raw();
        assert_eq!(client.run(&format!("CLUSTER COUNTKEYSINSLOT {slot}")).integer(), KEYS);
        let slots = client.run("CLUSTER SLOTS");
        let ranges: Vec<_> = slots.items().iter().map(|range| (range.items()[0].integer(), range.items()[1].integer())).collect();
        assert_eq!(ranges, [(slot, slot)]);
    }
}

#[test]
fn a_node_that_has_lost_its_configuration_takes_slots_with_keys_in_any_database() {
    let mut node = lone_node_of(builder(Version::V9_1).set("cluster-databases", "16"), "CLUSTER", 1);
    let mut client = node.raw();
    let slots = ["0", "3"].map(|db| {
        client.run(&format!("SELECT {db}"));
        client.run(&format!("SET of-{db} v"));
        client.run(&format!("CLUSTER KEYSLOT of-{db}")).integer()
    });
    node.kill9();
    std::fs::remove_file(node.folder().join("nodes.conf")).unwrap();
    node.start();
    let shown = node.raw().run("CLUSTER SLOTS");
    let taken: Vec<i64> = shown.items().iter().map(|range| range.items()[0].integer()).collect();
    assert!(slots.iter().all(|slot| taken.contains(slot)), "{slots:?} in {taken:?}");
}

each_version! {
    // While a script is busy the server reads the cluster's bus, and may be told there that its replica has taken over.
    fn a_takeover_in_a_busy_script_leaves_the_node_as_a_replica(version: Version) {
        let mut shards = Shards::start(&builder(version).set("busy-reply-threshold", "100"), 1);
        shards.attach_replicas();
        let [mut busy, mut waiting, mut control] = std::array::from_fn(|_| shards.nodes[0].raw());
        control.run("SET key before");
        shards.wait_replica_in_sync(1);
        // It runs until its slot has moved.
        let script = "redis.call('SET', KEYS[1], 'x') while not redis.pcall('GET', KEYS[1]).err do end return 'done'";
        for client in [&mut busy, &mut waiting] {
            client.run("PING");
        }
        shards.nodes[0].in_one_iteration(|| {
            busy.send(&["EVAL", script, "1", "key"]);
            waiting.send(&["EVAL", "return 'ran'", "0"]);
        });
        wait_until("the script is busy", PATIENCE, || format!("{:?}", control.call(&["PING"])).starts_with("-BUSY"));
        shards.nodes[1].raw().run("CLUSTER FAILOVER TAKEOVER");
        let reply = busy.try_reply();
        // An 8.1 server itself ends the wait of all blocked clients when it becomes a replica.
        let ended = |reply: &Value| version == Version::V8_1 && format!("{reply:?}").starts_with("-UNBLOCKED");
        assert!(reply.as_ref().map_or(true, ended), "a write that is lost was acknowledged: {reply:?}");
        let reply = waiting.reply();
        assert!(ended(&reply) || reply.text() == "ran", "{reply:?}");
        shards.wait_serving();
        shards.wait_linked(0);
        assert_eq!(shards.nodes[1].raw().run("GET key").text(), "before");
    }
}

each_version! {
    // While a script is busy the server reads the cluster's bus, and a fail-over may pause writes.
    fn a_script_that_waits_while_writes_are_paused_runs_after_the_pause(version: Version) {
        let mut shards = Shards::start(&builder(version).set("busy-reply-threshold", "100"), 1);
        shards.attach_replicas();
        let [mut busy, mut waiting, mut control] = std::array::from_fn(|_| shards.nodes[0].raw());
        control.run("SET key before");
        shards.wait_replica_in_sync(1);
        for client in [&mut busy, &mut waiting] {
            client.run("PING");
        }
        // It writes nothing, and is killed in the end.
        shards.nodes[0].in_one_iteration(|| {
            busy.send(&["EVAL", "while true do redis.call('GET', KEYS[1]) end", "1", "key"]);
            waiting.send(&["EVAL", "return redis.call('SET', KEYS[1], 'after')", "1", "key"]);
        });
        wait_until("the script is busy", PATIENCE, || format!("{:?}", control.call(&["PING"])).starts_with("-BUSY"));
        shards.nodes[1].raw().run("CLUSTER FAILOVER");
        wait_until("the pause begins", PATIENCE, || shards.nodes[0].log().contains("Manual failover requested"));
        // The pause lasts until the replica has caught up.
        shards.nodes[1].signal("STOP");
        control.run("SCRIPT KILL");
        assert!(busy.reply().is_error());
        control.run("PING");
        shards.nodes[1].signal("CONT");
        // The fail-over is over, or has been given up.
        waiting.try_reply().expect("an answer of a server that lives");
        shards.wait_serving();
        assert!(!control.call(&["PING"]).is_error());
    }
}

/// An 8.1 server itself ends the wait of all blocked clients when it becomes a replica.
#[test]
fn a_script_that_waits_while_its_slot_leaves_is_sent_after_it() {
    let shards = Shards::start(&builder(Version::V9_1), 1);
    shards.attach_replicas();
    let node = &shards.nodes[0];
    let (mut client, mut control) = (node.raw(), node.raw());
    let slot = control.run("CLUSTER KEYSLOT key").integer();
    for connection in [&mut client, &mut control] {
        connection.run("PING");
    }
    wait_until("the pause overtakes the script", PATIENCE, || {
        // Both arrive at once; if the script comes first, it waits for the end of the round, and then for that of the
        // pause.
        node.signal("STOP");
        client.send(&["EVAL", "return redis.call('SET', KEYS[1], 'v')", "1", "key"]);
        control.send(&["CLIENT", "PAUSE", "600000", "WRITE"]);
        node.signal("CONT");
        assert!(!control.reply().is_error());
        let waits = control.run("CLIENT LIST").text().contains("cmd=wbl.eval");
        if !waits {
            control.run("CLIENT UNPAUSE");
            assert!(!client.reply().is_error());
        }
        waits
    });
    let before = control.run("DBSIZE").integer();
    shards.failover(1);
    control.run("CLIENT UNPAUSE");
    let reply = format!("{:?}", client.reply());
    assert_eq!(reply, format!("-MOVED {slot} 127.0.0.1:{}", shards.ports()[1]));
    assert_eq!(shards.nodes[1].raw().run("DBSIZE").integer(), before);
}

/// Enough that the second server takes a while.
const KEYS: i64 = 200_000;

/// A cluster of one node, with keys.
fn lone_node(version: Version, keys: i64) -> Server {
    lone_node_of(builder(version), "CLUSTER", keys)
}

/// The same where the command CLUSTER has this name.
fn lone_node_of(builder: ServerBuilder, cluster: &str, keys: i64) -> Server {
    let node = alone(builder).start();
    fill_alone(&node, cluster, keys);
    node
}

fn fill_alone(node: &Server, cluster: &str, keys: i64) {
    take_all_slots(node, cluster);
    let mut client = node.raw();
    let script = "for i = 1, ARGV[1] do redis.call('SET', KEYS[1] .. i, 'value ' .. i) end";
    let reply = client.call(&["EVAL", script, "1", "{m}", &keys.to_string()]);
    assert!(!reply.is_error(), "{reply:?}");
}

/// Starts the node again, and stops (as SIGSTOP does) the second server that recovers it.
fn start_and_stop_second_server(node: &mut Server) -> u32 {
    if node.is_running() {
        node.kill9();
    }
    node.launch();
    let socket = node.log_folder().join("temp-fold.0.socket");
    let second = wait_for("a second server that has its module", PATIENCE, || {
        node.assert_running();
        // It listens after that.
        process::children(node.process_id()).first().copied().filter(|_| socket.exists())
    });
    process::send_signal(second, "STOP");
    second
}

/// Writes so many keys, each acknowledged.
fn write(node: &Server, name: &str, count: usize) {
    let mut connection = node.raw();
    for number in 0..count {
        connection.call(&["SET", &format!("{name} {number}"), "value"]);
    }
}

/// Ends a node in the one way or the other, starts it again, and waits until it has what its role wants.
fn restart(shards: &mut Shards, node: usize) {
    let end = if node.is_multiple_of(2) { Server::kill9 } else { Server::stop };
    end(&mut shards.nodes[node]);
    shards.nodes[node].launch();
    shards.wait_serving();
    if shards.primary_of(node).is_some() {
        shards.wait_linked(node);
    }
}

fn start_replica(node: &mut Server) {
    node.launch();
    node.wait_answers();
}

/// The node has neither recovered a log as a replica nor deleted anything.
fn assert_rested(node: &Server) {
    let log = node.log();
    for text in ["a second server", "recovered keys of slots"] {
        assert!(!log.contains(text), "a replica's log has '{text}'");
    }
}

fn builder(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).in_memory().only_own_warnings();
    builder.allow_warning("takes the place of the data")
}
