//! What a server cannot do again as it was done ends its start with one line that names the place; with
//! `wbl.on-replay-error skip` it is counted.

use crate::harness::ports::free_ports;
use crate::harness::resp::encode;
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, each_version, paths, wait_until};
use std::fs;
use std::path::Path;
use valkey_wbl::log::{Batch, Begin, FolderStorage, Options, open};

/// What stands in the log for a start that a command has ended.
const REFUSED: &str = "the log can't be brought back";
const SKIPPED: &str = "skipped number";
const SUM: &str = "failed and were skipped";

/// A server that is about to be started otherwise than the log was written.
struct Case {
    server: Server,
    /// The command that fails, as it is shown, and a part of what the server says to it.
    command: &'static str,
    why: &'static str,
    /// How many commands fail.
    failed: usize,
}

impl Case {
    /// Writes a log, kills the server and changes how it starts.
    fn new(
        builder: ServerBuilder,
        commands: &[&str],
        change: impl FnOnce(ServerBuilder) -> ServerBuilder,
        expected: (&'static str, &'static str, usize),
    ) -> Case {
        let mut server = builder.in_memory().allow_warning(REFUSED).allow_warning(SKIPPED).allow_warning(SUM).start();
        let mut client = server.raw();
        client.run("SET before 1");
        for command in commands {
            client.run(command);
        }
        client.run("SET after 2");
        server.kill9();
        server.reconfigure(change);
        let (command, why, failed) = expected;
        Case { server, command, why, failed }
    }

    /// By default the server refuses to start, and says all that one needs to know in one line.
    fn must_refuse(&mut self) {
        self.server.launch();
        let status = self.server.wait_exit();
        let log = self.server.log();
        assert_eq!(status.code(), Some(1), "{log}");
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(REFUSED)).collect();
        let [line] = lines.as_slice() else { panic!("not one line: {log}") };
        for part in ["appendonly.aof.", ".incr.aof, position ", self.command, self.why, "wbl.on-replay-error"] {
            assert!(line.contains(part), "no '{part}' in: {line}");
        }
        assert!(!log.contains("a new base is in place"), "{log}");
    }

    /// With `skip` it starts without what failed, and reports it in its log, in INFO and in WBL.STATUS.
    fn must_skip(&mut self) {
        self.server.reconfigure(|builder| builder.set("wbl.on-replay-error", "skip"));
        self.server.start();
        let mut client = self.server.raw();
        assert_eq!(client.run("GET before").text(), "1");
        assert_eq!(client.run("GET after").text(), "2");
        assert_eq!(self.server.wbl_info("wbl_recovery_errors"), self.failed.to_string());
        let status = client.run("WBL.STATUS");
        let at = status.items().iter().position(|item| item.text() == "recovery_errors").expect("in WBL.STATUS");
        assert_eq!(status.items()[at + 1].integer(), self.failed as i64);
        let log = self.server.log();
        assert!(log.contains(&format!("{} of ", self.failed)) && log.contains(SUM), "{log}");
        assert!(log.lines().any(|line| line.contains(SKIPPED) && line.contains(self.command)), "{log}");
        // What was left out stays out: the log has begun anew with what is there.
        client.run("SET after 3");
        let before = client.run("DEBUG DIGEST");
        self.server.kill9();
        self.server.reconfigure(|builder| builder.set("wbl.on-replay-error", "refuse"));
        self.server.start();
        assert_eq!(self.server.raw().run("DEBUG DIGEST"), before);
    }

    fn must_refuse_and_skip(mut self) {
        self.must_refuse();
        self.must_skip();
    }
}

#[test]
fn an_older_server_does_not_start_on_what_it_cannot_do() {
    for (command, shown, why) in [
        ("HSETEX hash EX 1000 FIELDS 1 f v", "HSETEX hash PXAT ...", "unknown command"),
        ("DELIFEQ before 1", "DELIFEQ before 1", "unknown command"),
        // An image: the payload is a newer server's.
        ("SORT list ALPHA STORE sorted", "RESTORE sorted", "DUMP payload version or checksum are wrong"),
    ] {
        let builder = ServerBuilder::with_module(Version::V9_1);
        let commands = ["RPUSH list b a", command, "SET before 1"];
        let older = |builder: ServerBuilder| builder.version(Version::V8_1);
        Case::new(builder, &commands, older, (shown, why, 1)).must_refuse_and_skip();
    }
}

each_version! {
    fn a_command_that_the_server_has_no_more_ends_the_start(version: Version) {
        let builder = ServerBuilder::with_module(version);
        let change = |builder: ServerBuilder| builder.set_words("rename-command", &["APPEND", ""]);
        let expected = ("APPEND key value", "unknown command", 2);
        let commands = ["APPEND key value", "APPEND key other"];
        Case::new(builder, &commands, change, expected).must_refuse_and_skip();
    }

    fn a_transaction_that_the_server_cannot_do_ends_the_start(version: Version) {
        let builder = ServerBuilder::with_module(version);
        let change = |builder: ServerBuilder| builder.set_words("rename-command", &["APPEND", ""]);
        let expected = ("APPEND key value", "unknown command", 1);
        let commands = ["MULTI", "SET key v", "APPEND key value", "INCR before", "SET before 1", "EXEC"];
        Case::new(builder, &commands, change, expected).must_refuse_and_skip();
    }

    fn values_of_a_module_that_is_not_loaded_end_the_start(version: Version) {
        let module = paths::test_module(version);
        let builder = ServerBuilder::with_module(version).load(&module, false);
        let without = |builder: ServerBuilder| {
            let path = paths::test_module(version).to_str().unwrap().to_string();
            builder.without(&["loadmodule", &path])
        };
        let expected = ("RESTORE value", "Bad data format", 1);
        let builder = builder.allow_warning("no matching module type");
        Case::new(builder, &["effects.value value 5 text"], without, expected).must_refuse_and_skip();
    }

    // An AOF is loaded whatever the limit is.
    fn strings_longer_than_the_servers_limit_are_brought_back(version: Version) {
        let mut server = ServerBuilder::with_module(version).set("proto-max-bulk-len", "1mb").start();
        let mut client = server.raw();
        client.run("CONFIG SET proto-max-bulk-len 10mb");
        for command in ["SETRANGE s 1500000 v", "SETBIT b 16000000 1", "BITFIELD f SET u8 16000000 1", "SET a 1"] {
            client.run(command);
        }
        (0..3).for_each(|_| drop(client.call(&["APPEND", "a", &"x".repeat(500_000)])));
        server.kill9_and_restart();
        let mut client = server.raw();
        let lengths = ["s", "b", "f", "a"].map(|key| client.run(&format!("STRLEN {key}")).integer());
        assert_eq!(lengths, [1_500_001, 2_000_001, 2_000_001, 1_500_001]);
        assert_eq!(client.run("CONFIG GET proto-max-bulk-len").items()[1].text(), "1048576", "as it was configured");
    }

    fn a_database_that_the_server_has_no_more_ends_the_start(version: Version) {
        let builder = ServerBuilder::with_module(version);
        let lower = |builder: ServerBuilder| builder.set("databases", "4");
        let commands = ["SELECT 4", "SET a 1", "SET b 2", "INCR a", "SELECT 0"];
        let case = Case::new(builder, &commands, lower, ("SET a 1", "no database 4", 3));
        case.must_refuse_and_skip();
    }

    fn many_failures_are_all_counted_and_some_reported(version: Version) {
        let builder = ServerBuilder::with_module(version);
        let commands: Vec<String> = (0..1000).map(|number| format!("APPEND key:{number} value")).collect();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let change = |builder: ServerBuilder| builder.set_words("rename-command", &["APPEND", ""]);
        let mut case = Case::new(builder, &commands, change, ("APPEND key:0 value", "unknown command", 1000));
        case.must_skip();
        let log = case.server.log();
        let reported = log.lines().filter(|line| line.contains(SKIPPED)).count();
        assert!((10..=100).contains(&reported), "{reported} lines");
    }

    fn a_module_load_that_fails_in_the_replay_is_refused(version: Version) {
        let module = paths::module().to_str().unwrap();
        let mut first = ServerBuilder::with_module(version).start();
        let mut client = first.raw();
        ["SELECT 4", "SET key v"].iter().for_each(|command| drop(client.run(command)));
        first.kill9();
        let mut server = ServerBuilder::stock(version)
            .set("enable-module-command", "yes")
            .set("databases", "4")
            .allow_warning("the module is not loaded")
            .allow_warning("initialization failed")
            .start();
        let mut control = server.raw();
        let folder = first.log_folder();
        let load = ["MODULE", "LOADEX", module, "CONFIG", "wbl.dir", folder.to_str().unwrap()];
        assert!(control.call(&load).is_error(), "it was loaded");
        let log = server.log();
        assert!(log.contains("no database 4") && log.contains("wbl.on-replay-error"), "{log}");
        let skipping = ["CONFIG", "wbl.on-replay-error", "skip"];
        server.builder = server.builder.clone().allow_warning(SKIPPED).allow_warning(SUM);
        control.run("FLUSHALL");
        assert!(!control.call(&[&load[..], &skipping].concat()).is_error(), "it was not loaded");
        wait_until("the module is active", PATIENCE, || server.wbl_info("wbl_state") == "active");
        assert_eq!(server.wbl_info("wbl_recovery_errors"), "1");
    }

    fn a_base_without_a_checksum_of_its_own_is_protected(version: Version) {
        let mut server = ServerBuilder::with_module(version).set("rdbchecksum", "no").allow_warning(REFUSED).start();
        let mut client = server.raw();
        client.run("SET key value-of-the-base");
        client.run("WBL.CHECKPOINT");
        client.run("SET other v");
        server.kill9();
        let mut entries = fs::read_dir(server.log_folder()).unwrap().map(|entry| entry.unwrap().path());
        let base = entries.find(|path| path.to_str().unwrap().ends_with(".rdb")).expect("a base");
        let mut bytes = fs::read(&base).unwrap();
        let at = bytes.windows(17).position(|bytes| bytes == b"value-of-the-base").expect("the value");
        bytes[at] ^= 1;
        fs::write(&base, &bytes).unwrap();
        server.launch();
        assert_eq!(server.wait_exit().code(), Some(1));
        let log = server.log();
        assert!(log.lines().any(|line| line.contains(REFUSED) && line.contains("checksum")), "{log}");
        bytes[at] ^= 1;
        fs::write(&base, &bytes).unwrap();
        server.start();
        assert_eq!(server.raw().run("MGET key other").items().len(), 2);
    }

    fn expired_keys_and_fields_of_the_base_are_there_for_the_log(version: Version) {
        const LIFE_MS: u64 = 3000;
        let mut server = ServerBuilder::with_module(version).in_memory().start();
        let mut client = server.raw();
        let fields = version == Version::V9_1;
        for number in 0..2000 {
            client.send(&["SET", &format!("key:{number}"), "5", "PX", &LIFE_MS.to_string()]);
            client.send(&["HSET", "hash", &format!("f{number}"), "5"]);
        }
        (0..2000).for_each(|_| assert_eq!((client.reply().text(), client.reply().integer()), ("OK".into(), 1)));
        client.run("SET kept 1 PX 100000000");
        if fields {
            let names: Vec<String> = (0..1000).map(|number| format!("f{number}")).collect();
            client.run(&format!("HPEXPIRE hash {LIFE_MS} FIELDS 1000 {}", names.join(" ")));
        }
        client.run("WBL.CHECKPOINT");
        // Changes that need what has expired when it is replayed.
        assert_eq!(client.run("INCR key:7").integer(), 6, "it has expired before it was used");
        client.run("PERSIST key:7");
        client.run("HINCRBY hash f7 1");
        if fields {
            client.run("HPERSIST hash FIELDS 1 f7");
        }
        client.run("WBL.WAIT");
        let begun = std::time::Instant::now();
        server.kill9();
        wait_until("all have expired", PATIENCE, || begun.elapsed().as_millis() > u128::from(LIFE_MS) + 1);
        server.start();
        let mut client = server.raw();
        assert_eq!(client.run("GET key:7").text(), "6");
        assert_eq!(client.run("HGET hash f7").text(), "6");
        assert_eq!(client.run("GET kept").text(), "1");
        assert_eq!(client.run("EXISTS key:8").integer(), 0);
        assert_eq!(client.run("HGET hash f8") == Value::Null, fields);
        assert_eq!(client.run("HGET hash f1500").text(), "5");
    }

    fn a_unit_takes_no_memory_of_its_size_when_it_is_recovered(version: Version) {
        const MEGABYTES: u64 = 200;
        let mut server = ServerBuilder::with_module(version).start();
        let script = format!("for i = 1, {MEGABYTES} do server.call('SET', KEYS[1], string.rep(tostring(i % 10), 1048576)) end");
        server.raw().call(&["EVAL", &script, "1", "key"]);
        server.raw().run("WBL.WAIT");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("STRLEN key").integer(), 1_048_576);
        assert_eq!(server.wbl_info("wbl_recovered_commands"), MEGABYTES.to_string());
        let peak_kb = server.peak_memory() / 1024;
        assert!(peak_kb < 60 * 1024, "{peak_kb} KB");
    }

    fn what_expires_takes_no_memory_besides_the_dataset_when_it_is_recovered(version: Version) {
        const COUNT: u64 = 200_000;
        let keys = "for i = 1, ARGV[1] do server.call('SET', KEYS[1] .. i, i, 'EX', 100000 + i) end";
        let hash = "for i = 1, ARGV[1] do server.call('HSET', KEYS[1], 'field:' .. i, i) end \
                    server.call('HPEXPIRE', KEYS[1], 1, 'FIELDS', 1, 'field:8') \
                    server.call('HEXPIRE', KEYS[1], 100000, 'FIELDS', 1, 'field:7')";
        let mut cases = vec![(keys, "DBSIZE", COUNT)];
        cases.extend((version == Version::V9_1).then_some((hash, "HLEN key", COUNT - 1)));
        for (script, question, left) in cases {
            // The server warns of scripts that run longer than this.
            let builder = ServerBuilder::with_module(version).set("busy-reply-threshold", "60000");
            let mut server = builder.in_memory().start();
            let mut client = server.raw();
            client.call(&["EVAL", script, "1", "key", &COUNT.to_string()]);
            let is_done = |client: &mut RawConnection| client.run(question).integer() == left.cast_signed();
            wait_until("what expires has gone", PATIENCE, || is_done(&mut client));
            client.run("WBL.WAIT");
            for source in ["log", "base"] {
                server.kill9_and_restart();
                let mut client = server.raw();
                // Fields expire without an entry in the log, and the server removes them now and then.
                wait_until(&format!("{source}: what expires has gone again"), PATIENCE, || is_done(&mut client));
                assert_eq!(server.wbl_info("wbl_recovered_commands") != "0", source == "log", "{source}: {question}");
                let (peak, resident) = (server.peak_memory(), server.resident_memory());
                let text = format!("{source}, {question}: {} KB of {} KB", resident / 1024, peak / 1024);
                println!("{text}");
                assert!(peak * 10 < resident * 13, "{text}");
                client.run("WBL.CHECKPOINT");
            }
        }
    }

    fn what_a_second_server_skips_is_counted_by_its_node(version: Version) {
        let module = paths::test_module(version);
        let path = module.to_str().unwrap();
        let allowed = [REFUSED, "the second server failed", SKIPPED, SUM, "no matching module type", "Changing databases number", "luster state"];
        let builder = allowed.iter().fold(ServerBuilder::with_module(version), |builder, text| builder.allow_warning(text));
        let [port, bus] = free_ports();
        let builder = builder.set("bind", "127.0.0.1").set("port", &port.to_string()).set("cluster-port", &bus.to_string());
        let mut server = builder.set("cluster-enabled", "yes").load(&module, false).start();
        let mut client = server.raw();
        client.run("CLUSTER ADDSLOTSRANGE 0 16383");
        wait_until("the cluster is up", PATIENCE, || client.run("CLUSTER INFO").text().contains("cluster_state:ok"));
        client.run("effects.value value 5 text");
        client.run("SET after 2");
        server.kill9();
        server.reconfigure(|builder| builder.without(&["loadmodule", path]));
        server.launch();
        assert_eq!(server.wait_exit().code(), Some(1));
        server.reconfigure(|builder| builder.set("wbl.on-replay-error", "skip"));
        server.start();
        assert_eq!(server.wbl_info("wbl_recovery_errors"), "1");
    }

    fn what_no_log_can_hold_is_not_run(version: Version) {
        let foreign = [
            "SYNC", "PSYNC ? -1", "SHUTDOWN NOSAVE NOW", "MODULE UNLOAD wbl", "REPLICAOF 127.0.0.1 1", "DEBUG SEGFAULT",
            "CLIENT PAUSE 600000 ALL", "ACL SETUSER default off", "CONFIG SET maxmemory 1", "EVAL error() 0",
            "FCALL f 0", "MIGRATE 127.0.0.1 1 before 0 600000", "WBL.CALL SET z 1", "wbl.collect SET z 1", "GET before",
            "DISCARD", "select 5", "FUNCTION KILL", "SAVE",
        ];
        let good = encode(&["SET", "before", "1"]);
        let payload = |command: &str| encode(&command.split(' ').collect::<Vec<_>>());
        for command in foreign {
            let mut server = ServerBuilder::with_module(version).in_memory().allow_warning(REFUSED).prepare();
            write_log(&server.log_folder(), &[&good, &payload(command)]);
            server.launch();
            let status = server.wait_exit();
            let log = server.log();
            assert_eq!(status.code(), Some(1), "{command}: {log}");
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(REFUSED)).collect();
            let [line] = lines.as_slice() else { panic!("not one line: {log}") };
            let place = format!("appendonly.aof.1.incr.aof, position {}", good.len());
            let name = command.split(' ').next().unwrap();
            for part in [place.as_str(), name, "it is not run", "wbl.on-replay-error"] {
                assert!(line.contains(part), "no '{part}' in: {line}");
            }
        }
        let builder = ServerBuilder::with_module(version).in_memory().set("wbl.on-replay-error", "skip");
        let mut server = builder.allow_warning(SKIPPED).allow_warning(SUM).prepare();
        let payloads: Vec<Vec<u8>> = foreign.iter().map(|command| payload(command)).collect();
        let mut frames: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let library = encode(&["FUNCTION", "LOAD", "#!lua name=lib\nserver.register_function('f', function() end)"]);
        frames.insert(0, &good);
        frames.push(&library);
        write_log(&server.log_folder(), &frames);
        server.start();
        let mut client = server.raw();
        assert_eq!(client.run("KEYS *").items().len(), 1);
        assert_eq!(client.run("FUNCTION LIST").items().len(), 1);
        assert_eq!(server.wbl_info("wbl_recovery_errors"), foreign.len().to_string());
    }

    fn frames_that_hold_no_commands_end_the_start(version: Version) {
        let good = encode(&["SET", "before", "1"]);
        let select = encode(&["SELECT", "2147483648"]);
        for (payload, behind, why) in [
            (b"PING\r\n".to_vec(), 0, "holds no command"),
            (encode(&["SELECT", "one"]), 0, "holds no command"),
            (encode(&["SELECT", "-1"]), 0, "holds no command"),
            (encode(&["SELECT", "4294967296"]), 0, "holds no command"),
            ([select.clone(), encode(&["SET", "k", "v"])].concat(), select.len(), "no database 2147483648"),
            (encode(&["SET"]), 0, "wrong number of arguments"),
            (encode(&[&b"\xff"[..]]), 0, "no such command"),
        ] {
            let mut server = ServerBuilder::with_module(version).in_memory().allow_warning(REFUSED).prepare();
            write_log(&server.log_folder(), &[&good, &payload]);
            server.launch();
            let status = server.wait_exit();
            let log = server.log();
            assert_eq!(status.code(), Some(1), "{}: {log}", payload.escape_ascii());
            let place = format!("appendonly.aof.1.incr.aof, position {}", good.len() + behind);
            let found = log.lines().any(|line| line.contains(REFUSED) && line.contains(&place) && line.contains(why));
            assert!(found, "{}: {log}", payload.escape_ascii());
        }
    }
}

/// A log of these payloads.
fn write_log(folder: &Path, payloads: &[&[u8]]) {
    let storage = FolderStorage::new(folder).unwrap();
    let folder = open(storage, &Options::default()).unwrap().into_folder();
    let mut writer = folder.begin(Begin::Empty, 0).unwrap();
    for payload in payloads {
        let start = writer.appended();
        writer.append(Batch { start, payload, unix_ms: 0 }).unwrap();
    }
    writer.close().unwrap();
}
