//! Nobody is shown what is not durable: while the durable offset stands still, reads of changed keys keep their reply.

use crate::harness::server::info_field;
use crate::harness::{PATIENCE, ServerBuilder, Version, each_version, wait_until};

each_version! {
    fn reads_of_changed_keys_are_answered_when_the_change_is_durable(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut control = server.raw();
        for command in ["SET clean c", "SET changed old", "SET doomed d", "RPUSH list a b", "WBL.WAIT"] {
            control.run(command);
        }
        control.run("WBL.DEBUG PAUSE");
        let mut writers = Vec::new();
        for command in ["SET changed new", "DEL doomed", "SET fresh f", "LPUSH list z"] {
            let mut writer = server.raw();
            writer.send_text(command);
            writer.assert_silent(&mut control, command);
            writers.push(writer);
        }

        let mut findings = Vec::new();
        let mut held = Vec::new();
        for (read, expected) in [
            ("GET changed", "\"new\""),
            ("GET doomed", "null"),
            ("EXISTS doomed", ":0"),
            ("EXISTS clean fresh", ":2"),
            ("STRLEN fresh", ":1"),
            ("MGET clean changed", "[\"c\", \"new\"]"),
            ("TYPE fresh", "+string"),
            ("PTTL fresh", ":-1"),
            ("LRANGE list 0 -1", "[\"z\", \"a\", \"b\"]"),
            ("LLEN list", ":3"),
            ("DBSIZE", ":4"),
            ("OBJECT ENCODING fresh", "\"embstr\""),
            ("EVAL return(redis.call('GET','fresh')) 1 fresh", "\"f\""),
            ("EVAL_RO return(redis.call('GET','fresh')) 1 fresh", "\"f\""),
            ("EVAL return(redis.call('GET','fresh')) 0", "\"f\""),
            ("SETNX fresh other", ":0"),
            ("DEL doomed", ":0"),
            ("SORT_RO list ALPHA", "[\"a\", \"b\", \"z\"]"),
            ("KEYS f*", "[\"fresh\"]"),
            ("SCAN 0 MATCH f* COUNT 1000", "[\"0\", [\"fresh\"]]"),
        ] {
            let mut reader = server.raw();
            reader.send_text(read);
            match reader.silent(&mut control) {
                Ok(()) => held.push((read, expected, reader)),
                Err(bytes) => findings.push(format!("{read} shows what is not durable: {bytes}")),
            }
        }
        let mut transaction = server.raw();
        transaction.run("MULTI");
        transaction.run("GET fresh");
        transaction.send_text("EXEC");
        if let Err(bytes) = transaction.silent(&mut control) {
            findings.push(format!("EXEC of GET shows what is not durable: {bytes}"));
        }
        control.run("WBL.DEBUG RESUME");
        for mut writer in writers {
            assert!(!writer.reply().is_error());
        }
        for (read, expected, mut reader) in held {
            assert_eq!(format!("{:?}", reader.reply()), expected, "{read}");
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    fn a_reader_that_waits_for_a_stream_entry_gets_it_when_it_is_durable(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let (mut control, mut reader, mut writer) = (server.raw(), server.raw(), server.raw());
        reader.send_text("XREAD BLOCK 0 STREAMS stream $");
        wait_until("the reader is blocked", PATIENCE, || {
            info_field(&mut control, "clients", "blocked_clients").as_deref() == Some("1")
        });
        control.run("WBL.DEBUG PAUSE");
        writer.send_text("XADD stream 1-1 f v");
        writer.assert_silent(&mut control, "XADD");
        reader.assert_silent(&mut control, "XREAD");
        control.run("WBL.DEBUG RESUME");
        assert_eq!(format!("{:?}", reader.reply()), r#"[["stream", [["1-1", ["f", "v"]]]]]"#);
        assert_eq!(writer.reply().text(), "1-1");
    }

    // Its answer is written before the module can look, and the loop cannot wait for a RESUME with it.
    fn a_pop_that_waits_in_vain_for_what_is_not_durable_is_disconnected_while_the_position_is_frozen(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let (mut control, mut remover) = (server.raw(), server.raw());
        let blocked = || info_field(&mut server.raw(), "clients", "blocked_clients");
        for (command, unblock) in [("BLPOP list 0.05", None), ("BLPOP list 0", Some("TIMEOUT")), ("BLPOP list 0", Some("ERROR"))] {
            control.run("RPUSH list a");
            control.run("WBL.DEBUG PAUSE");
            remover.send_text("DEL list");
            remover.assert_silent(&mut control, "DEL");
            let mut reader = server.raw();
            let id = reader.run("CLIENT ID").integer().to_string();
            reader.send_text(command);
            if let Some(kind) = unblock {
                wait_until("both wait", PATIENCE, || blocked().as_deref() == Some("2"));
                assert_eq!(control.call(&["CLIENT", "UNBLOCK", &id, kind]).integer(), 1);
            }
            let end = reader.try_reply().expect_err("no reply");
            assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof, "{command}");
            control.run("WBL.DEBUG RESUME");
            assert_eq!(remover.reply().integer(), 1);
            let mut reader = server.raw();
            reader.send_text("BLPOP list 0.05");
            assert_eq!(format!("{:?}", reader.reply()), "null");
        }
    }

    fn info_counts_readers_that_wait(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let (mut control, mut reader, mut writer) = (server.raw(), server.raw(), server.raw());
        control.run("WBL.DEBUG PAUSE");
        writer.send_text("SET dirty value");
        writer.assert_silent(&mut control, "SET");
        reader.send_text("GET dirty");
        reader.assert_silent(&mut control, "GET");
        assert_eq!(server.wbl_info("wbl_clients_waiting_ack"), "2");
        assert!(server.wbl_info("wbl_read_blocked_count").parse::<u64>().unwrap() >= 1);
        control.run("WBL.DEBUG RESUME");
        assert_eq!(reader.reply().text(), "value");
        writer.reply();
    }

    // The server's table has a shard channel in the place of a key; a subscription that the module ran was refused.
    fn a_shard_channel_with_the_name_of_a_changed_key_is_no_key(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let (mut control, mut writer, mut subscriber) = (server.raw(), server.raw(), server.raw());
        control.run("WBL.DEBUG PAUSE");
        writer.send_text("SET name value");
        writer.assert_silent(&mut control, "SET");
        assert_eq!(format!("{:?}", subscriber.run("SSUBSCRIBE name")), "[\"ssubscribe\", \"name\", :1]");
        assert_eq!(control.run("SPUBLISH name message").integer(), 1);
        control.run("WBL.DEBUG RESUME");
        writer.reply();
    }
}
