//! `wbl.notify-keyspace-events`: messages leave when what they report is durable, in order, none lost or doubled.

use crate::harness::{
    FrozenDisk, Lever, PATIENCE, RawConnection, Server, ServerBuilder, Shards, Version, each_lever, each_version,
    wait_until,
};

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
