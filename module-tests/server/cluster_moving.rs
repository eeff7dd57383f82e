//! Slots that move key by key: a node that sends clients elsewhere for a key that has gone shows that it has gone.

use crate::harness::commands::words;
use crate::harness::server::info_field;
use crate::harness::{
    Cluster, FrozenDisk, Lever, PATIENCE, RawConnection, ServerBuilder, Value, Version, each_lever, each_version,
    wait_until,
};
use std::collections::BTreeMap;

/// The slot of this tag is the first node's, and moves to the second.
const TAG: &str = "{moving}";

/// A cluster with that slot on its way.
struct Move {
    cluster: Cluster,
    slot: i64,
    lever: Lever,
}

each_lever! {
    fn an_ask_waits_for_the_deletion_that_it_shows(version: Version, lever: Lever) {
        let mut moving = Move::begin(version, lever);
        let migrate = format!("MIGRATE 127.0.0.1 {} T:k 0 10000 REPLACE", moving.cluster.port(1));
        for deletion in ["DEL T:k", "GETDEL T:k", "PEXPIREAT T:k 1", &migrate, "EVAL return(redis.call('DEL',KEYS[1])) 1 T:k"] {
            moving.asks(deletion, &[], "GET T:k", "ASK ");
        }
        for refused in ["SET T:k new", "EXISTS T:k", "EVAL return(1) 1 T:k", "BLPOP T:k 0", "WATCH T:k", "SORT T:k"] {
            moving.asks("DEL T:k", &[], refused, "ASK ");
        }
        moving.asks("DEL T:k", &[], "MGET T:k T:o", "TRYAGAIN ");
        moving.asks("DEL T:k", &["MULTI", "GET T:k"], "EXEC", "ASK ");
        moving.asks("DEL T:k", &["MULTI", "EVAL return(1) 1 T:k"], "EXEC", "ASK ");
        assert_ne!(moving.cluster.nodes[0].wbl_info("wbl_waits_slot_moves"), "0");
        // What moves is in the node's own configuration.
        moving.cluster.kill9_and_restart();
        moving.asks("DEL T:k", &[], "GET T:k", "ASK ");
    }

    fn a_slot_goes_when_what_has_left_it_is_durable(version: Version, lever: Lever) {
        let moving = Move::begin(version, lever);
        let mut control = moving.cluster.nodes[0].raw();
        for command in ["SET T:k v", "DEL T:o", "WBL.WAIT"] {
            control.call(&tagged(command));
        }
        let frozen = FrozenDisk::freeze(lever, &moving.cluster.nodes[0], &mut control);
        let mut writer = moving.held(&frozen, &mut control, "DEL T:k");
        let setslot = format!("CLUSTER SETSLOT {} NODE {}", moving.slot, moving.cluster.id(1));
        let mut mover = moving.held(&frozen, &mut control, &setslot);
        frozen.thaw(&mut control);
        assert_eq!((writer.reply(), mover.reply()), (Value::Integer(1), Value::Simple("OK".into())));
    }

    // The module's own commands are refused in a slot that arrives.
    fn a_key_arrives_in_the_place_of_one_that_is_not_durable(version: Version, lever: Lever) {
        let moving = Move::begin(version, lever);
        let node = &moving.cluster.nodes[1];
        let [mut source, mut control] = moving.cluster.connections();
        let Value::Bulk(dump) = source.call(&tagged("DUMP T:k")) else { panic!("the source has the key") };
        let (mut writer, mut arrival) = (node.raw(), node.raw());
        writer.run("ASKING");
        let frozen = FrozenDisk::freeze(lever, node, &mut control);
        writer.send(&tagged("SET T:k old"));
        frozen.assert_withheld(node, &mut control, &mut writer, "SET");
        arrival.send(&[&tagged("RESTORE-ASKING T:k 0")[..], &[dump, b"REPLACE".to_vec()]].concat());
        frozen.assert_withheld(node, &mut control, &mut arrival, "RESTORE-ASKING");
        frozen.thaw(&mut control);
        for (client, command) in [(&mut writer, "SET"), (&mut arrival, "RESTORE-ASKING")] {
            assert_eq!(client.reply(), Value::Simple("OK".into()), "{command}");
        }
        control.run("ASKING");
        assert_eq!(control.call(&tagged("GET T:k")).text(), "v");
    }
}

each_version! {
    fn a_tryagain_of_a_slot_that_arrives_waits_for_the_deletion(version: Version) {
        let moving = Move::begin(version, Lever::Sync);
        let node = &moving.cluster.nodes[1];
        let mut control = node.raw();
        for command in ["ASKING", "SET T:k v", "ASKING", "SET T:o v", "WBL.WAIT"] {
            assert!(!control.call(&tagged(command)).is_error(), "{command}");
        }
        let (mut writer, mut reader) = (node.raw(), node.raw());
        writer.run("ASKING");
        reader.run("ASKING");
        let frozen = FrozenDisk::freeze(Lever::Sync, node, &mut control);
        writer.send(&tagged("DEL T:k"));
        frozen.silence(node, &mut control, &mut writer).expect("the deletion is held");
        // A command of one key is run, and held as any other.
        let mut single = node.raw();
        single.run("ASKING");
        single.send(&tagged("GET T:k"));
        single.assert_silent(&mut control, "GET");
        reader.send(&tagged("MGET T:k T:o"));
        frozen.silence(node, &mut control, &mut reader).expect("TRYAGAIN shows the deletion");
        frozen.thaw(&mut control);
        assert_eq!(writer.reply().integer(), 1);
        let reply = reader.reply();
        assert!(matches!(&reply, Value::Error(text) if text.starts_with("TRYAGAIN ")), "{reply:?}");
        assert_eq!(single.reply(), Value::Null);
    }

    fn a_migrated_key_takes_the_place_of_one_that_is_not_durable(version: Version) {
        let mut moving = Move::begin(version, Lever::Sync);
        let node = &moving.cluster.nodes[1];
        let [mut source, mut control] = moving.cluster.connections();
        let mut writer = node.raw();
        writer.run("ASKING");
        let frozen = FrozenDisk::freeze(Lever::Sync, node, &mut control);
        writer.send(&tagged("SET T:k old"));
        frozen.assert_withheld(node, &mut control, &mut writer, "SET");
        source.send(&tagged(&format!("MIGRATE 127.0.0.1 {} T:k 0 10000 REPLACE", moving.cluster.port(1))));
        wait_until("the key has arrived", PATIENCE, || {
            info_field(&mut control, "wbl", "wbl_clients_waiting_ack").as_deref() == Some("2")
        });
        frozen.thaw(&mut control);
        assert_eq!(writer.reply(), Value::Simple("OK".into()));
        assert_eq!(source.reply(), Value::Simple("OK".into()), "the source has handed the key over");
        moving.cluster.kill9_and_restart();
        let [mut source, mut target] = moving.cluster.connections();
        target.run("ASKING");
        assert_eq!(target.call(&tagged("GET T:k")).text(), "v");
        let gone = format!("{:?}", source.call(&tagged("GET T:k")));
        assert!(gone.starts_with("-ASK "), "{gone}");
    }

    // No API shows the module that the server would send it elsewhere.
    fn a_reader_that_waits_for_a_stream_of_a_slot_that_goes_gets_nothing(version: Version) {
        let moving = Move::begin(version, Lever::Sync);
        let [mut source, mut target] = moving.cluster.connections();
        source.call(&tagged("DEL T:k T:o"));
        let mut readers = [moving.cluster.nodes[0].raw(), moving.cluster.nodes[0].raw()];
        source.run(&format!("CLUSTER SETSLOT {} STABLE", moving.slot));
        readers.iter_mut().zip(["1500", "0"]).for_each(|(reader, timeout)| {
            reader.send(&tagged(&format!("XREAD BLOCK {timeout} STREAMS T:s $")));
        });
        wait_until("the readers wait", PATIENCE, || {
            info_field(&mut source, "clients", "blocked_clients").as_deref() == Some("2")
        });
        let id = moving.cluster.id(1);
        [&mut target, &mut source].into_iter().for_each(|node| {
            node.run(&format!("CLUSTER SETSLOT {} NODE {id}", moving.slot));
        });
        assert!(!target.call(&tagged("XADD T:s * f v")).is_error());
        assert_eq!(readers[0].reply(), Value::Null, "its time is over");
        readers[1].assert_silent(&mut source, "the other one goes on waiting");
        for reader in &mut readers[..1] {
            let reply = reader.call(&tagged("XREAD STREAMS T:s 0"));
            assert!(format!("{reply:?}").starts_with("-MOVED"), "{reply:?}");
        }
    }

    fn the_loop_waits_for_no_key_of_a_slot_that_stays(version: Version) {
        let moving = Move::begin(version, Lever::Sync);
        let node = &moving.cluster.nodes[0];
        let mut control = node.raw();
        for command in ["SET a v", "SET T:k v", "WBL.WAIT"] {
            control.call(&tagged(command));
        }
        let frozen = FrozenDisk::freeze(Lever::Sync, node, &mut control);
        let held = ["DEL a", "GET a", "APPEND T:k more", "GET T:k"].map(|command| {
            let mut client = node.raw();
            client.send(&tagged(command));
            // The event loop goes on.
            client.assert_silent(&mut control, command);
            client
        });
        frozen.thaw(&mut control);
        let replies = held.map(|mut client| client.reply());
        assert_eq!(replies.map(|reply| format!("{reply:?}")), [":1", "null", ":5", "\"vmore\""]);
        assert_eq!(node.wbl_info("wbl_waits_slot_moves"), "0");
    }
}

impl Move {
    fn begin(version: Version, lever: Lever) -> Move {
        let builder = ServerBuilder::with_module(version).in_memory().allow_warning("Changing databases number");
        let cluster = Cluster::start(&builder.allow_warning("luster state changed").allow_warning("slot"));
        let [mut source, mut target] = cluster.connections();
        let slot = source.run(&format!("CLUSTER KEYSLOT {TAG}")).integer();
        target.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", cluster.id(0)));
        // What is there before can be written until the slot is on its way.
        source.call(&tagged("MSET T:k v T:o v"));
        source.run(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", cluster.id(1)));
        Move { cluster, slot, lever }
    }

    /// Runs the deletion on the source, and the command after it, on a connection that was prepared by others; fails if
    /// that is answered before the deletion is durable, or not like this.
    fn asks(&mut self, deletion: &str, prepared: &[&str], refused: &str, answer: &str) {
        let [mut control, _] = self.cluster.connections();
        self.put_back(&mut control);
        let mut client = self.cluster.nodes[0].raw();
        for command in prepared {
            assert!(!client.call(&tagged(command)).is_error(), "{command}");
        }
        let frozen = FrozenDisk::freeze(self.lever, &self.cluster.nodes[0], &mut control);
        let mut writer = self.held(&frozen, &mut control, deletion);
        client.send(&tagged(refused));
        let finding = frozen.silence(&self.cluster.nodes[0], &mut control, &mut client);
        frozen.thaw(&mut control);
        let (deleted, reply) = (writer.reply(), client.reply());
        let Value::Error(reply) = reply else { panic!("{refused}: {reply:?}") };
        assert!(!deleted.is_error(), "{deletion}: {deleted:?}");
        assert!(reply.starts_with(answer), "{refused}: {reply}");
        finding.unwrap_or_else(|finding| panic!("{deletion}, {refused}: {finding}"));
    }

    /// Has `T:k` and `T:o` in the source: a key is made there while the slot stays.
    fn put_back(&self, control: &mut RawConnection) {
        let target = self.cluster.id(1);
        for command in [
            format!("CLUSTER SETSLOT {} STABLE", self.slot),
            "MSET T:k v T:o v".into(),
            format!("CLUSTER SETSLOT {} MIGRATING {target}", self.slot),
            "WBL.WAIT".into(),
        ] {
            wait_until(&command, PATIENCE, || !control.call(&tagged(&command)).is_error());
        }
    }

    /// A client of the source whose command gets no answer.
    fn held(&self, frozen: &FrozenDisk, control: &mut RawConnection, command: &str) -> RawConnection {
        let mut client = self.cluster.nodes[0].raw();
        client.send(&tagged(command));
        let finding = frozen.silence(&self.cluster.nodes[0], control, &mut client);
        finding.unwrap_or_else(|finding| panic!("{command}: {finding}"));
        client
    }
}

/// The words of a command, with the tag in the place of `T`.
fn tagged(command: &str) -> Vec<Vec<u8>> {
    words(&command.replace("T:", &format!("{TAG}:")), &BTreeMap::new())
}
