//! `wbl.notify-keyspace-events`: messages leave when what they report is durable, in order, none lost or doubled.

use crate::harness::scene::split;
use crate::harness::{
    FrozenDisk, Lever, PATIENCE, RawConnection, Server, ServerBuilder, Shards, Version, each_lever, each_version,
    wait_until,
};

/// Commands of which the module asks what they have done or will do. The last one misses `end`.
const LOOKS: &[&str] = &[
    "XADD s MAXLEN 1 1-1 f v",
    "XADD s 2-1 f v",
    "XADD none NOMKSTREAM 1-1 f v",
    "XTRIM none MAXLEN 1",
    "LTRIM none 0 1",
    "RPUSH l a b c",
    "LTRIM l 0 1",
    "LTRIM l 5 9",
    "RPUSH l a b c",
    "INCRBYFLOAT f 1.5",
    "INCRBYFLOAT f 1.5",
    "HINCRBYFLOAT h f 1.5",
    "HINCRBYFLOAT h f 1.5",
    "HEXPIRE h 100 FIELDS 1 f",
    "HGETDEL h FIELDS 1 f",
    "PFADD p a",
    "PFCOUNT p",
    "PFCOUNT p none",
    "PFMERGE q p none",
    "SADD set a b",
    "SPOP set",
    "SPOP set 5",
    "SPOP set",
    "SORT l ALPHA STORE sorted",
    "SORT none STORE sorted",
    "BITFIELD b OVERFLOW FAIL INCRBY u8 0 1",
    "BITFIELD none OVERFLOW FAIL GET u8 0",
    "GETDEL none",
    "GETEX none PERSIST",
    "COPY none other",
    "COPY l copied",
    "RENAME copied renamed",
    "RENAME none renamed",
    "MOVE renamed 1",
    "XGROUP CREATE s g 0",
    "XREADGROUP GROUP g c COUNT 1 STREAMS s >",
    "XREADGROUP GROUP g c BLOCK 1 STREAMS s >",
    "XACK s g 2-1",
    "XACK none g 1-1",
    "XCLAIM s g d 0 2-1",
    "XAUTOCLAIM s g d 0 0",
    "XDEL s 2-1",
    "EXPIRE none 5",
    "LMPOP 2 none l LEFT",
    "BLPOP none 0.01",
    "BLMOVE none l LEFT LEFT 0.01",
    "SINTERSTORE i set none",
    "ZADD z 1 a",
    "ZPOPMIN z",
    "ZPOPMIN z",
    "ZRANGESTORE zz z 0 -1",
    "SETNX n v",
    "SETNX n v",
    "SET n v GET",
    "SET none1 v XX",
    "GETSET none2 v",
    "EVAL \"redis.call('SPOP','none3') redis.call('INCRBYFLOAT','f','1') return redis.call('XACK','s','g','1-1')\" 0",
    "WATCH none",
    "MULTI",
    "SPOP none",
    "LTRIM l 0 0",
    "INCRBYFLOAT f 1",
    "XACK s g 1-1",
    "SELECT 1",
    "SPOP none",
    "GET none",
    "EXEC",
    "SELECT 3",
    "SPOP none",
    "XADD s MAXLEN 1 1-1 f v",
    "SWAPDB 2 4",
    "FLUSHDB",
    "GET end",
];

/// A client that is subscribed to all keyspace notifications.
fn subscriber(server: &Server) -> RawConnection {
    let mut client = server.raw();
    client.run("PSUBSCRIBE __key*");
    client
}

/// The next messages, as `channel message`.
fn messages(client: &mut RawConnection, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| {
            let message = client.reply();
            format!("{} {}", message.items()[2].text(), message.items()[3].text())
        })
        .collect()
}

fn with_events(version: Version, classes: &str) -> Server {
    ServerBuilder::with_module(version).set("wbl.notify-keyspace-events", classes).start()
}

/// What the commands of [`LOOKS`] report as missed, by the setting of this name.
fn misses(server: &Server, setting: &str) -> Vec<String> {
    let (mut client, mut listener) = (server.raw(), subscriber(server));
    client.run(&format!("CONFIG SET {setting} Em"));
    for command in LOOKS {
        client.call(&split(command));
    }
    let last = "__keyevent@3__:keymiss end";
    let mut found = Vec::new();
    while found.last().is_none_or(|message| message != last) {
        found.extend(messages(&mut listener, 1));
    }
    found
}

each_version! {
    // A node's messages reach the subscribers of all.
    fn a_change_in_a_cluster_is_reported_once_and_when_it_is_durable(version: Version) {
        let builder = ServerBuilder::with_module(version).in_memory().only_own_warnings();
        let builder = builder.allow_warning("takes the place of the data");
        let shards = Shards::start(&builder.set("wbl.notify-keyspace-events", "E$"), 1);
        shards.attach_replicas();
        let primary = &shards.nodes[0];
        let (mut control, mut client) = (primary.raw(), primary.raw());
        let mut listeners = [subscriber(primary), subscriber(&shards.nodes[1])];
        let disk = FrozenDisk::freeze(Lever::Sync, primary, &mut control);
        client.send_text("SET k v");
        disk.settle(primary, &mut control);
        wait_until("the replica has it", PATIENCE, || shards.nodes[1].raw().run("DBSIZE").integer() == 1);
        listeners.iter_mut().for_each(|listener| listener.received_nothing().expect("it is not durable"));
        disk.thaw(&mut control);
        assert!(!client.reply().is_error());
        control.run("SET last v");
        for listener in &mut listeners {
            assert_eq!(messages(listener, 2), ["__keyevent@0__:set k", "__keyevent@0__:set last"]);
        }
    }

    fn messages_of_transactions_scripts_and_other_databases_arrive(version: Version) {
        let server = with_events(version, "Eg$xn");
        let (mut client, mut listener) = (server.raw(), subscriber(&server));
        for command in ["SELECT 3", "MULTI", "SET a 1", "EXPIRE a 100", "EXEC"] {
            client.run(command);
        }
        client.call(&["EVAL", "redis.call('SET', 'b', '1') return redis.call('DEL', 'b')", "0"]);
        assert_eq!(
            messages(&mut listener, 6),
            [
                "__keyevent@3__:new a",
                "__keyevent@3__:set a",
                "__keyevent@3__:expire a",
                "__keyevent@3__:new b",
                "__keyevent@3__:set b",
                "__keyevent@3__:del b",
            ]
        );
        client.run("PEXPIRE a 1");
        assert_eq!(messages(&mut listener, 2), ["__keyevent@3__:expire a", "__keyevent@3__:expired a"]);
    }

    fn the_setting_takes_the_servers_letters(version: Version) {
        let server = ServerBuilder::with_module(version)
            .allow_warning("are both set")
            .start();
        let mut client = server.raw();
        let get = |client: &mut RawConnection| client.run("CONFIG GET wbl.notify-keyspace-events").items()[1].text();
        assert_eq!(get(&mut client), "");
        client.run("CONFIG SET wbl.notify-keyspace-events KEg$lshzxetd");
        assert_eq!(get(&mut client), "AKE");
        let refused = client.call(&["CONFIG", "SET", "wbl.notify-keyspace-events", "KEq"]);
        let refused = format!("{refused:?}");
        assert!(refused.contains("Invalid event class character. Use 'Ag$lshzxeKEtmdn'."), "{refused}");
        assert_eq!(get(&mut client), "AKE");
        assert!(!server.log().contains("are both set"));
        client.run("CONFIG SET notify-keyspace-events KEA");
        wait_until("the warning", PATIENCE, || server.log().contains("are both set"));
    }

    fn a_miss_is_told_of_when_it_is_asked_for(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let (mut client, mut listener) = (server.raw(), subscriber(&server));
        client.run("CONFIG SET wbl.notify-keyspace-events Em");
        client.run("GET nothing");
        assert_eq!(messages(&mut listener, 1), ["__keyevent@0__:keymiss nothing"]);
        client.run("CONFIG SET wbl.notify-keyspace-events E");
        client.run("GET nothing");
        client.run("CONFIG SET wbl.notify-keyspace-events Em");
        client.run("GET again");
        assert_eq!(messages(&mut listener, 1), ["__keyevent@0__:keymiss again"]);
    }

    // The module looks at keys, too, to know what a command has done.
    fn only_what_clients_miss_is_reported(version: Version) {
        let stock = ServerBuilder::stock(version).in_memory().start();
        let expected = misses(&stock, "notify-keyspace-events");
        assert!(expected.len() > 10, "{expected:?}");
        for setting in ["notify-keyspace-events", "wbl.notify-keyspace-events"] {
            let server = ServerBuilder::with_module(version).in_memory().start();
            assert_eq!(misses(&server, setting), expected, "{setting}");
        }
    }

    fn messages_of_a_transaction_name_the_database_of_their_key(version: Version) {
        let server = with_events(version, "Eg");
        let (mut client, mut listener) = (server.raw(), subscriber(&server));
        for command in ["SET k v", "SET c v", "MULTI", "MOVE k 5", "COPY c d DB 5", "SELECT 5", "DEL k", "EXEC"] {
            client.run(command);
        }
        let expected = ["0__:move_from k", "5__:move_to k", "5__:copy_to d", "5__:del k"];
        assert_eq!(messages(&mut listener, 4), expected.map(|message| format!("__keyevent@{message}")));
    }

    fn messages_are_published_while_the_log_is_switched_off(version: Version) {
        let server = with_events(version, "E$");
        let (mut client, mut listener) = (server.raw(), subscriber(&server));
        client.run("CONFIG SET wbl.enabled no");
        client.run("SET a 1");
        assert_eq!(messages(&mut listener, 1), ["__keyevent@0__:set a"]);
    }
}

each_lever! {
    fn messages_wait_for_their_change_and_keep_their_order(version: Version, lever: Lever) {
        let server = with_events(version, "KEA");
        let (mut control, mut listener) = (server.raw(), subscriber(&server));
        let disk = FrozenDisk::freeze(lever, &server, &mut control);
        let mut writers = Vec::new();
        for command in ["SET a 1", "LPUSH list x", "DEL a"] {
            let mut writer = server.raw();
            writer.send_text(command);
            disk.assert_withheld(&server, &mut control, &mut writer, command);
            writers.push(writer);
        }
        disk.assert_withheld(&server, &mut control, &mut listener, "a message of what is not durable");
        disk.thaw(&mut control);
        assert_eq!(
            messages(&mut listener, 6),
            [
                "__keyspace@0__:a set",
                "__keyevent@0__:set a",
                "__keyspace@0__:list lpush",
                "__keyevent@0__:lpush list",
                "__keyspace@0__:a del",
                "__keyevent@0__:del a",
            ]
        );
        writers.iter_mut().for_each(|writer| assert!(!writer.reply().is_error()));
        listener.assert_silent(&mut control, "a doubled message");
    }
}
