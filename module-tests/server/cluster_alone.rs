//! What a node of a cluster answers with the module as without it: scripts that have begun run once, and what depends
//! on whether the node has keys waits for the disk before it takes effect.

use crate::harness::cluster::{lone_node, wait_up_alone};
use crate::harness::{Cluster, FrozenDisk, Lever, ServerBuilder, Value, Version, each_version};

/// How the server refuses a module's call in a cluster.
const REFUSALS: &[&str] = &[
    "ERR Attempted to access a non local key in a cluster node",
    "ERR Can not execute a write command 'SET' while the cluster is down and readonly",
    "ERR Can not execute a command 'SET' while the cluster is down",
];

/// A script that changes its key, and answers with this error.
const ERROR: &str = "redis.call('INCR', KEYS[1]) return redis.error_reply(ARGV[1])";

/// A script that changes its key, and answers with what it gets for another one, which it does not name.
const OTHER_KEY: &str = "redis.call('INCR', KEYS[1]) return redis.pcall('GET', ARGV[1])";

each_version! {
    fn a_script_that_has_begun_is_never_sent_elsewhere(version: Version) {
        let node = lone_node(builder(version));
        let mut client = node.raw();
        let library = format!("#!lua name=l\nserver.register_function('f', function(KEYS, ARGV) {ERROR} end)");
        client.call(&["FUNCTION", "LOAD", &library]);
        for refusal in REFUSALS {
            for (key, begins) in [("script", ["EVAL", ERROR]), ("function", ["FCALL", "f"])] {
                client.run(&format!("DEL {key}"));
                let reply = client.call(&[begins[0], begins[1], "1", key, refusal]);
                assert_eq!(format!("{reply:?}"), format!("-{refusal}"), "{key}");
                assert_eq!(client.run(&format!("GET {key}")).text(), "1", "{key}: {refusal}");
            }
        }
    }

    fn a_script_that_reaches_for_another_nodes_key_is_not_sent_there(version: Version) {
        let cluster = Cluster::start(&builder(version));
        let [mut first, mut second] = cluster.connections();
        assert!(!first.run("SET a 0").is_error() && !second.run("SET b 0").is_error());
        let reply = format!("{:?}", first.call(&["EVAL", OTHER_KEY, "1", "a", "b"]));
        assert!(reply.contains("non local key"), "{reply}");
        assert_eq!(first.run("GET a").text(), "1");
    }

    fn what_shows_that_there_are_no_keys_waits_before_it_takes_effect(version: Version) {
        let mut node = lone_node(builder(version));
        let mut control = node.raw();
        let id = control.run("CLUSTER MYID").text();
        let replicate = format!("CLUSTER REPLICATE {id}");
        for command in ["CLUSTER RESET", "CLUSTER FLUSHSLOTS", &replicate, "EXEC"] {
            control.run("SET k v");
            control.run("WBL.WAIT");
            let (mut writer, mut client) = (node.raw(), node.raw());
            if command == "EXEC" {
                ["MULTI", "CLUSTER FLUSHSLOTS"].iter().for_each(|queued| drop(client.run(queued)));
            }
            let disk = FrozenDisk::freeze(Lever::Sync, &node, &mut control);
            writer.send_text("SET k w");
            disk.assert_withheld(&node, &mut control, &mut writer, "a write");
            client.send_text(command);
            disk.assert_withheld(&node, &mut control, &mut client, command);
            disk.thaw(&mut control);
            assert_eq!(writer.reply(), Value::Simple("OK".into()));
            let reply = format!("{:?}", client.reply());
            assert!(reply.contains("-ERR"), "{command}: {reply}");
        }
        let disk = FrozenDisk::freeze(Lever::Sync, &node, &mut control);
        let (mut writer, mut client) = (node.raw(), node.raw());
        writer.send_text("FLUSHALL");
        disk.assert_withheld(&node, &mut control, &mut writer, "FLUSHALL");
        client.send_text("CLUSTER RESET HARD");
        disk.assert_withheld(&node, &mut control, &mut client, "CLUSTER RESET");
        node.kill9();
        disk.thaw(&mut control);
        node.start();
        wait_up_alone(&node, "CLUSTER");
        assert_eq!(node.raw().run("CLUSTER MYID").text(), id, "it was not reset");
    }
}

#[test]
fn a_scan_of_the_cluster_is_sent_to_the_node_of_its_cursor() {
    let cluster = Cluster::start(&builder(Version::V9_1));
    let [mut first, mut second] = cluster.connections();
    // The second node has the first slots, and the first one that of the key `0`.
    for (node, client, key) in [(1, &mut second, "b"), (0, &mut first, "a")] {
        client.run(&format!("SET {key} old"));
        let commands = ["CLUSTERSCAN 0", "CLUSTERSCAN 0 SLOT 1", "CLUSTERSCAN x", "CLUSTERSCAN 0-{06S}-0 COUNT 5"];
        let clean: Vec<Value> = commands.iter().map(|command| client.call(&split(command))).collect();
        assert!(clean.iter().any(Value::is_error), "{clean:?}");
        let (server, mut writer) = (&cluster.nodes[node], cluster.nodes[node].raw());
        let disk = FrozenDisk::freeze(Lever::Sync, server, client);
        writer.send_text(&format!("SET {key} new"));
        disk.assert_withheld(server, client, &mut writer, "a write");
        let mut readers: Vec<_> = commands.iter().map(|_| server.raw()).collect();
        for (command, reader) in commands.iter().zip(&mut readers) {
            reader.send(&split(command));
        }
        disk.settle(server, client);
        disk.thaw(client);
        let dirty: Vec<Value> = readers.iter_mut().map(|reader| reader.reply()).collect();
        assert_eq!(dirty, clean, "node {node}");
        writer.reply();
    }
}

fn split(command: &str) -> Vec<&str> {
    command.split(' ').collect()
}

fn builder(version: Version) -> ServerBuilder {
    ["luster state changed", "Changing databases number", "reset", "Moving"]
        .iter()
        .fold(ServerBuilder::with_module(version).in_memory(), |builder, text| builder.allow_warning(text))
}
