//! The second server, which turns a node's log into a base, replays it as the node itself would: with its settings.

use crate::harness::cluster::{lone_node, wait_up_alone};
use crate::harness::{Server, ServerBuilder, Value, Version, dataset, each_version, paths};

each_version! {
    fn a_node_recovers_counters_of_a_size_of_its_own(version: Version) {
        let mut node = lone_node(builder(version).set("hll-sparse-max-bytes", "15000"));
        let mut client = node.raw();
        for number in 0..4000 {
            client.run(&format!("PFADD counter {number}"));
        }
        assert!(client.run("STRLEN counter").integer() < 12_000, "it is sparse still");
        assert_recovers(&mut node);
    }

    fn a_node_recovers_what_a_setting_of_another_module_allows(version: Version) {
        let builder = builder(version).load(&paths::test_module(version), false);
        let mut node = lone_node(builder.set("effects.text-bytes-max", "100000"));
        node.raw().run(&format!("effects.value key 5 {}", "t".repeat(50_000)));
        assert_recovers(&mut node);
    }

    fn a_node_recovers_whatever_its_settings_are(version: Version) {
        let mut builder = builder(version);
        for (name, value) in [
            ("save", "3600 1"),
            ("maxmemory", "64mb"),
            ("maxmemory-policy", "allkeys-lfu"),
            ("maxclients", "50"),
            ("timeout", "100"),
            ("io-threads", "2"),
            ("latency-tracking-info-percentiles", "10 20.5"),
            ("proc-title-template", r"--{title} \x22\x5c\n\xff {config-file}"),
            ("notify-keyspace-events", "KEA"),
            ("client-output-buffer-limit", "normal 1mb 1mb 60"),
            ("rdbchecksum", "no"),
            ("rdbcompression", "no"),
            ("set-max-intset-entries", "3"),
            ("list-max-listpack-size", "-1"),
            ("replica-announce-ip", "192.0.2.1"),
            ("primaryauth", "secret"),
            ("aclfile", ""),
        ] {
            builder = builder.set(name, value);
        }
        if version == Version::V9_1 {
            builder = builder.set("hash-seed", "a seed");
        }
        let mut node = lone_node(builder);
        let mut client = node.raw();
        ["SET k v", "SADD set 1 2 3 4", "RPUSH list a b c"].iter().for_each(|command| drop(client.run(command)));
        drop(client);
        assert_recovers(&mut node);
    }
}

#[test]
fn a_node_recovers_values_that_it_took_of_a_newer_server() {
    let newer = ServerBuilder::stock(Version::V9_1).start();
    let mut client = newer.raw();
    let payloads = ["SET string v", "RPUSH list a b"].map(|write| {
        client.run(write);
        let key = write.split(' ').nth(1).unwrap();
        let Value::Bulk(payload) = client.run(&format!("DUMP {key}")) else { panic!("{key} is there") };
        (key, payload)
    });
    let mut node = lone_node(builder(Version::V8_1).set("rdb-version-check", "relaxed"));
    let mut client = node.raw();
    for (key, payload) in &payloads {
        assert_eq!(client.call(&[b"RESTORE", key.as_bytes(), b"0", payload]), Value::Simple("OK".into()));
    }
    assert_recovers(&mut node);
    // What was taken is taken again, whatever is taken from now on.
    node.raw().call(&[b"RESTORE".as_slice(), b"more", b"0", &payloads[0].1]);
    node.reconfigure(|builder| builder.unset("rdb-version-check"));
    assert_recovers(&mut node);
}

fn builder(version: Version) -> ServerBuilder {
    ServerBuilder::with_module(version).allow_warning("Changing databases number").allow_warning("luster state")
}

fn assert_recovers(node: &mut Server) {
    let folded = |node: &Server| node.log().matches("a second server").count();
    let before = (dataset::read(&mut node.raw()), folded(node));
    node.kill9_and_restart();
    wait_up_alone(node, "CLUSTER");
    assert!(folded(node) > before.1, "the log was not replayed");
    dataset::assert_same(&dataset::read(&mut node.raw()), &before.0, "after kill -9");
}
