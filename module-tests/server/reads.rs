//! Nobody is shown what is not durable: while the durable offset stands still, reads of changed keys keep their reply.

use crate::harness::server::info_field;
use crate::harness::{Lever, PATIENCE, RawConnection, Scene, Version, each_lever, each_version, wait_until};

each_lever! {
    fn reads_of_changed_keys_are_answered_when_the_change_is_durable(version: Version, lever: Lever) {
        let (mut scene, writers) = with_changed_keys(version, lever);

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
            let mut reader = scene.server.raw();
            reader.send_text(read);
            match scene.silence(&mut reader) {
                Ok(()) => held.push((read, expected, reader)),
                Err(bytes) => findings.push(format!("{read} shows what is not durable: {bytes}")),
            }
        }
        let mut transaction = scene.server.raw();
        transaction.run("MULTI");
        transaction.run("GET fresh");
        transaction.send_text("EXEC");
        if let Err(bytes) = scene.silence(&mut transaction) {
            findings.push(format!("EXEC of GET shows what is not durable: {bytes}"));
        }
        scene.thaw();
        for mut writer in writers {
            assert!(!writer.reply().is_error());
        }
        for (read, expected, mut reader) in held {
            assert_eq!(format!("{:?}", reader.reply()), expected, "{read}");
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    fn whatever_debug_may_show_is_durable(version: Version, lever: Lever) {
        for read in [
            "DIGEST",
            "DIGEST-VALUE changed",
            "OBJECT changed",
            "SDSLEN changed",
            "HTSTATS 0",
            "HTSTATS-KEY changed",
            "LISTPACK changed",
            "QUICKLIST changed",
            "LEAK changed",
            "WHAT-A-LATER-SERVER-KNOWS changed",
        ] {
            let (mut scene, mut writers) = with_changed_keys(version, lever);
            let mut reader = scene.server.raw();
            reader.send_text(&format!("DEBUG {read}"));
            scene.assert_withheld(&mut reader, read);
            scene.thaw();
            let reply = format!("{:?}", reader.reply());
            assert!(!reply.contains("BUSY"), "{read}: {reply}");
            assert!(writers.iter_mut().all(|writer| !writer.reply().is_error()), "{read}");
        }
        let (mut scene, _writers) = with_changed_keys(version, lever);
        assert!(!scene.answer("DEBUG STRUCTSIZE").is_error());
        scene.thaw();
    }

    fn reads_of_clean_keys_are_answered_while_writes_wait(version: Version, lever: Lever) {
        let (mut scene, writers) = with_changed_keys(version, lever);

        let mut findings = Vec::new();
        for (read, expected) in [
            ("GET clean", "\"c\""),
            ("STRLEN clean", ":1"),
            ("MGET clean none", "[\"c\", null]"),
            ("EXISTS none", ":0"),
            ("TTL clean", ":-1"),
            ("ECHO hello", "\"hello\""),
            ("EVAL return(redis.call('GET','clean')) 1 clean", "\"c\""),
        ] {
            let mut reader = scene.server.raw();
            reader.send_text(read);
            if scene.silence(&mut reader).is_ok() {
                findings.push(format!("{read} of a clean key waits"));
            } else {
                assert_eq!(format!("{:?}", reader.reply()), expected, "{read}");
            }
        }
        scene.thaw();
        for mut writer in writers {
            assert!(!writer.reply().is_error());
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    fn a_reader_that_waits_for_a_stream_entry_gets_it_when_it_is_durable(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let (mut reader, mut writer) = (scene.server.raw(), scene.server.raw());
        reader.send_text("XREAD BLOCK 0 STREAMS stream $");
        wait_until("the reader is blocked", PATIENCE, || {
            info_field(&mut scene.control, "clients", "blocked_clients").as_deref() == Some("1")
        });
        scene.freeze();
        writer.send_text("XADD stream 1-1 f v");
        scene.assert_withheld(&mut writer, "XADD");
        scene.assert_withheld(&mut reader, "XREAD");
        scene.thaw();
        assert_eq!(format!("{:?}", reader.reply()), r#"[["stream", [["1-1", ["f", "v"]]]]]"#);
        assert_eq!(writer.reply().text(), "1-1");
    }

    fn info_counts_readers_that_wait(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let (mut reader, mut writer) = (scene.server.raw(), scene.server.raw());
        scene.freeze();
        writer.send_text("SET dirty value");
        scene.assert_withheld(&mut writer, "SET");
        reader.send_text("GET dirty");
        scene.assert_withheld(&mut reader, "GET");
        assert_eq!(scene.server.wbl_info("wbl_clients_waiting_ack"), "2");
        assert_eq!(scene.gauge("wbl_held_bytes"), "$5\r\nvalue\r\n".len() as i64, "that of the SET is the server's");
        assert!(scene.server.wbl_info("wbl_read_blocked_count").parse::<u64>().unwrap() >= 1);
        scene.thaw();
        assert_eq!(reader.reply().text(), "value");
        writer.reply();
    }

    // What docs/limits.md says about PUBLISH in a script: its message leaves early, and nothing else does.
    fn who_hears_of_a_change_from_a_script_reads_it_when_it_is_durable(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        for (publish, kind) in [("PUBLISH", "message"), ("SPUBLISH", "smessage")] {
            scene.prepare(&["SET k old"]);
            let mut subscriber = scene.server.raw();
            ["SUBSCRIBE c", "SSUBSCRIBE c"].iter().for_each(|command| drop(subscriber.run(command)));
            scene.freeze();
            let script = format!("redis.call('SET',KEYS[1],'new') return redis.call('{publish}','c','changed')");
            let mut writer = scene.held(&format!("EVAL \"{script}\" 1 k"));
            let message = format!("[\"{kind}\", \"c\", \"changed\"]");
            assert_eq!(format!("{:?}", subscriber.reply()), message);
            let reads = ["GET k", "GETRANGE k 0 -1", "EVAL_RO \"return redis.call('GET',KEYS[1])\" 1 k"];
            let mut readers = reads.map(|read| scene.held(read));
            scene.thaw();
            assert_eq!(writer.reply().integer(), 1, "{publish}");
            readers.iter_mut().for_each(|reader| assert_eq!(reader.reply().text(), "new", "{publish}"));
            subscriber.assert_silent(&mut scene.control, "the same message again");
        }
        scene.end();
    }

    // The server's table has a shard channel in the place of a key; a subscription that the module ran was refused.
    fn a_shard_channel_with_the_name_of_a_changed_key_is_no_key(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let (mut writer, mut subscriber) = (scene.server.raw(), scene.server.raw());
        scene.freeze();
        writer.send_text("SET name value");
        scene.assert_withheld(&mut writer, "SET");
        assert_eq!(format!("{:?}", subscriber.run("SSUBSCRIBE name")), "[\"ssubscribe\", \"name\", :1]");
        assert_eq!(scene.control.run("SPUBLISH name message").integer(), 1);
        scene.thaw();
        writer.reply();
    }
}

each_version! {
    // Its answer is written before the module can look, and the loop cannot wait for a RESUME with it.
    // The loop waits for a disk that does not answer (`time_outs.rs`), and never for a pause.
    fn a_pop_that_waits_in_vain_for_what_is_not_durable_is_disconnected_while_the_position_is_frozen(version: Version) {
        let mut scene = Scene::start(version);
        let mut remover = scene.server.raw();
        for (command, unblock) in [("BLPOP list 0.05", None), ("BLPOP list 0", Some("TIMEOUT")), ("BLPOP list 0", Some("ERROR"))] {
            scene.control.run("RPUSH list a");
            scene.freeze();
            remover.send_text("DEL list");
            scene.assert_withheld(&mut remover, "DEL");
            let mut reader = scene.server.raw();
            let id = reader.run("CLIENT ID").integer().to_string();
            reader.send_text(command);
            if let Some(kind) = unblock {
                scene.wait_blocked(2);
                assert_eq!(scene.control.call(&["CLIENT", "UNBLOCK", &id, kind]).integer(), 1);
            }
            let end = reader.try_reply().expect_err("no reply");
            assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof, "{command}");
            scene.thaw();
            assert_eq!(remover.reply().integer(), 1);
            let mut reader = scene.server.raw();
            reader.send_text("BLPOP list 0.05");
            assert_eq!(format!("{:?}", reader.reply()), "null");
        }
    }
}

/// A server whose disk stands still while some keys are changed and one is clean, and who waits for the changes.
fn with_changed_keys(version: Version, lever: Lever) -> (Scene, Vec<RawConnection>) {
    let mut scene = Scene::start(version).with_lever(lever);
    for command in ["SET clean c", "SET changed old", "SET doomed d", "RPUSH list a b", "WBL.WAIT"] {
        scene.control.run(command);
    }
    scene.freeze();
    let mut writers = Vec::new();
    for command in ["SET changed new", "DEL doomed", "SET fresh f", "LPUSH list z"] {
        let mut writer = scene.server.raw();
        writer.send_text(command);
        scene.assert_withheld(&mut writer, command);
        writers.push(writer);
    }
    (scene, writers)
}
