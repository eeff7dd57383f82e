//! Keys and values of all sizes and bytes, eviction, restored functions, and what other clients are told while a server
//! recovers.

use crate::harness::{PATIENCE, RawConnection, ServerBuilder, Value, Version, dataset, each_version, wait_until};

const ODD_BYTES: &[&[u8]] = &[
    b"",
    b"\r\n",
    b"\0",
    b"*1\r\n$4\r\nPING\r\n",
    b"#WBL1 0 0 u 0 00000000\r\n",
    b"#WBL2 1 0000000000000000 0 0000000000000000 0 - 00000000\n",
    b"#AAAAAAAAAAB\n",
    b"\xff\xfe\x80",
    b"'\" \\ {}",
    b"\n$5\r\nMULTI",
];

const MANY: usize = 100_000;

/// The server's default limit of one argument.
const LARGE: usize = 512 * 1024 * 1024;

each_version! {
    fn keys_and_values_of_all_bytes_are_recovered(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        for odd in ODD_BYTES {
            let key = |kind: &[u8]| [kind, odd].concat();
            let many = key(b"many");
            for words in [
                vec![&b"SET"[..], odd, odd],
                vec![b"APPEND", &key(b"a"), odd],
                vec![b"SET", &key(b"px"), odd, b"PX", b"100000000"],
                vec![b"RPUSH", &key(b"l"), odd, b"x", odd],
                vec![b"SADD", &key(b"s"), odd, b"x"],
                vec![b"SADD", &many, odd, b"1", b"2", b"3"],
                vec![b"SPOP", &many, b"2"],
                vec![b"HSET", &key(b"h"), odd, odd],
                vec![b"HINCRBYFLOAT", &key(b"h"), &key(b"n"), b"1.5"],
                vec![b"ZADD", &key(b"z"), b"1", odd],
                vec![b"XADD", &key(b"x"), b"*", odd, odd],
                vec![b"XGROUP", b"CREATE", &key(b"x"), odd, b"0"],
                vec![b"XREADGROUP", b"GROUP", odd, odd, b"STREAMS", &key(b"x"), b">"],
                vec![b"PFADD", &key(b"p"), odd],
                vec![b"EVAL", b"redis.call('SET', KEYS[1], ARGV[1])", b"1", &key(b"script"), odd],
                vec![b"EVAL", b"redis.call('SPOP', KEYS[1]) redis.call('SET', KEYS[2], ARGV[1])", b"2", &many, &key(b"image"), odd],
                vec![b"COPY", odd, &key(b"copy"), b"DB", b"1"],
                vec![b"RENAME", &key(b"a"), &key(b"renamed")],
            ] {
                let reply = client.call(&words);
                // RENAME of what an APPEND of nothing has not made.
                assert!(!reply.is_error() || odd.is_empty(), "{}: {reply:?}", words.concat().escape_ascii());
            }
        }
        let before = dataset::read(&mut client);
        assert!(before.len() >= 13 * ODD_BYTES.len(), "{} keys", before.len());
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &before, "after kill -9");
    }

    fn commands_of_a_hundred_thousand_arguments_are_recovered(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        let words = |head: &[&str], word: &dyn Fn(usize) -> String, count: usize| {
            head.iter().map(ToString::to_string).chain((0..count).map(word)).collect::<Vec<_>>()
        };
        let score = |index: usize| if index.is_multiple_of(2) { index.to_string() } else { format!("m{index}") };
        for (command, expected) in [
            (words(&["MSET"], &|index| format!("k{index}"), MANY), None),
            (words(&["RPUSH", "list"], &|index| index.to_string(), MANY), Some(MANY)),
            (words(&["SADD", "set"], &|index| format!("m{index}"), MANY), Some(MANY)),
            (words(&["SADD", "popped"], &|index| format!("m{index}"), MANY), Some(MANY)),
            (words(&["ZADD", "sorted"], &score, MANY), Some(MANY / 2)),
            (words(&["HSET", "hash"], &|index| format!("f{index}"), MANY), Some(MANY / 2)),
            (words(&["XADD", "stream", "*"], &|index| format!("f{index}"), MANY), None),
            (words(&["PFADD", "visitors"], &|index| format!("v{index}"), MANY), Some(1)),
            (words(&["DEL"], &|index| format!("k{}", 4 * index), MANY), Some(MANY / 4)),
            (words(&["UNLINK"], &|index| format!("k{}", 4 * index + 2), 1000), Some(1000)),
            (words(&["SREM", "set"], &|index| format!("m{}", 3 * index), MANY), Some(MANY.div_ceil(3))),
        ] {
            let reply = client.call(&command);
            let wrong = reply.is_error() || expected.is_some_and(|count| reply != Value::Integer(count as i64));
            assert!(!wrong, "{}: {reply:?}", command[0]);
        }
        assert_eq!(client.run("SPOP popped 99000").items().len(), 99_000);
        client.run("MULTI");
        client.call(&words(&["RPUSH", "of-multi"], &|index| index.to_string(), MANY));
        client.call(&words(&["MSET"], &|index| format!("t{index}"), 2000));
        client.run("EXEC");
        let before = client.run("DEBUG DIGEST");
        assert_eq!(server.wbl_info("wbl_state_images"), "0");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("DEBUG DIGEST"), before);
    }

    fn evicted_keys_stay_away(version: Version) {
        for policy in [
            "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
        ] {
            let mut server = ServerBuilder::with_module(version).in_memory().set("maxmemory-policy", policy).start();
            let mut client = server.raw();
            for number in 0..500 {
                client.run(&format!("SET kept:{number} v"));
            }
            let used: u64 = crate::harness::server::info_field(&mut client, "memory", "used_memory").unwrap().parse().unwrap();
            client.run(&format!("CONFIG SET maxmemory {}", used + 1_000_000));
            let value = "x".repeat(1000);
            let count = 3000;
            for number in 0..count {
                let key = format!("key:{number}");
                let reply = match number % 3 {
                    0 => client.call(&["SET", &key, &value, "PX", "100000000"]),
                    1 => client.call(&["EVAL", "redis.call('SET', KEYS[1], ARGV[1], 'EX', '100000')", "1", &key, &value]),
                    _ => {
                        client.run("MULTI");
                        client.call(&["SET", &key, &value, "EX", "100000"]);
                        client.run("EXEC")
                    }
                };
                assert!(!reply.is_error(), "{policy}: {reply:?}");
            }
            // Long replies take memory, too.
            client.run("CONFIG SET maxmemory 0");
            let before = dataset_keys(&mut client);
            assert!(before.len() < 500 + count, "{policy}: nothing was evicted");
            client.run("WBL.WAIT");
            let digest = client.run("DEBUG DIGEST");
            server.kill9_and_restart();
            let mut client = server.raw();
            assert_eq!(dataset_keys(&mut client), before, "{policy}");
            assert_eq!(client.run("DEBUG DIGEST"), digest, "{policy}");
        }
    }

    // FUNCTION LOAD refuses what takes half a second to load; FUNCTION RESTORE, and a start, do not.
    fn a_library_that_takes_long_to_load_is_recovered(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        let code_of = |count: usize| {
            let busy = format!("local n = 0 for i = 1, {count} do n = n + i end");
            format!("#!lua name=slow\n{busy}\nserver.register_function('slow', function() return 1 end)")
        };
        let mut count = 10_000_000;
        while !client.call(&["FUNCTION", "LOAD", "REPLACE", &code_of(count)]).is_error() {
            count *= 2;
        }
        let code = code_of(count);
        let mut payload = vec![245, 0x40 | (code.len() >> 8) as u8, (code.len() & 0xff) as u8];
        payload.extend_from_slice(code.as_bytes());
        payload.extend_from_slice(&11_u16.to_le_bytes());
        payload.extend_from_slice(&crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&payload).to_le_bytes());
        let restored = client.call(&[&b"FUNCTION"[..], b"RESTORE", &payload, b"FLUSH"]);
        assert_eq!(restored, Value::Simple("OK".into()));
        client.run("WBL.CHECKPOINT");
        for _ in 0..2 {
            server.kill9_and_restart();
            assert_eq!(server.raw().run("FCALL slow 0"), Value::Integer(1));
        }
    }

    fn functions_that_are_restored_with_each_policy_are_recovered(version: Version) {
        let library = |name: &str, result: usize| {
            format!("#!lua name={name}\nserver.register_function('{name}', function() return {result} end)")
        };
        for in_exec in [false, true] {
            let mut server = ServerBuilder::with_module(version).in_memory().start();
            let mut client = server.raw();
            let mut load = |name, result| client.call(&["FUNCTION", "LOAD", "REPLACE", &library(name, result)]);
            load("one", 1);
            load("two", 1);
            let Value::Bulk(payload) = client.run("FUNCTION DUMP") else { panic!("no payload") };
            for (policy, name, expected) in [("FLUSH", "gone", 2), ("APPEND", "kept", 3), ("REPLACE", "two", 3)] {
                if policy == "APPEND" {
                    client.run("FUNCTION FLUSH");
                }
                client.call(&["FUNCTION", "LOAD", "REPLACE", &library(name, 2)]);
                if in_exec {
                    client.run("MULTI");
                }
                client.call(&[&b"FUNCTION"[..], b"RESTORE", &payload, policy.as_bytes()]);
                if in_exec {
                    client.run("EXEC");
                }
                let before = dataset::read(&mut client);
                assert_eq!(before.len(), expected, "{policy}: {before:?}");
                server.kill9_and_restart();
                client = server.raw();
                dataset::assert_same(&dataset::read(&mut client), &before, policy);
                // Refused: the libraries are there already.
                assert!(client.call(&[&b"FUNCTION"[..], b"RESTORE", &payload, b"APPEND"]).is_error());
                server.kill9_and_restart();
                client = server.raw();
                dataset::assert_same(&dataset::read(&mut client), &before, "after a refusal");
            }
        }
    }

    fn clients_are_told_that_the_server_recovers(version: Version) {
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        // Slow to replay, and few bytes in the log.
        let script = "for i = 1, 1000 do redis.call('ZADD', 'source', i, i) end \
                      for i = 1, 2500 do redis.call('ZUNIONSTORE', 'target', 1, 'source') end";
        assert_eq!(client.call(&["EVAL", script, "0"]), Value::Null);
        client.run("WBL.WAIT");
        server.kill9();
        server.launch();
        let mut told = false;
        wait_until("the server recovers", PATIENCE, || {
            server.assert_running();
            let Ok(mut other) = RawConnection::open(&server.socket()) else { return false };
            other.send(&["GET", "key"]);
            let reply = other.reply();
            if !reply.is_error() {
                return true;
            }
            let (write, info) = (other.call(&["SET", "key", "value"]), other.call(&["INFO", "wbl"]));
            for reply in [&reply, &write] {
                let Value::Error(text) = reply else { continue };
                assert!(text.starts_with("LOADING"), "{text}");
            }
            // The recovery may end between two questions.
            told |= write.is_error() && info.text().contains("wbl_state:recovering");
            false
        });
        assert!(told, "nobody was told");
        server.wait_ready();
        assert_eq!(server.raw().run("ZCARD target").integer(), 1000);
    }

    fn values_of_512_mb_are_recovered_in_bounded_memory(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        let value = vec![b'v'; LARGE];
        assert_eq!(client.call(&[b"SET", &b"large"[..], &value]), Value::Simple("OK".into()));
        let peak = server.peak_memory();
        // The value itself, the command as it arrived, and what waits for the disk.
        assert!(peak < 4 * LARGE as u64, "{} MB for a value of {} MB", peak >> 20, LARGE >> 20);
        client.run(&format!("SETRANGE large {} end", LARGE - 3));
        assert!(client.call(&["APPEND", "large", "too long"]).is_error());
        client.run("SET large-half v");
        client.call(&[b"APPEND", &b"large-half"[..], &value[..LARGE / 2]]);
        let digest = client.run("DEBUG DIGEST");
        server.kill9_and_restart();
        let mut client = server.raw();
        assert_eq!(client.run("DEBUG DIGEST"), digest);
        assert_eq!(client.run(&format!("GETRANGE large {} -1", LARGE - 5)).text(), "vvend");
        let peak = server.peak_memory();
        assert!(peak < 6 * LARGE as u64, "{} MB to recover", peak >> 20);
    }
}

fn dataset_keys(connection: &mut RawConnection) -> Vec<String> {
    let mut keys: Vec<String> = connection.run("KEYS *").items().iter().map(Value::text).collect();
    keys.sort();
    keys
}
