//! Scripts, functions and pauses: what the module runs for a client behaves as if the server ran it.

use crate::harness::server::info_field;
use crate::harness::{
    Lever, PATIENCE, Scene, Server, ServerBuilder, Value, Version, dataset, each_lever, each_version, wait_until,
};

/// Writes that no event reports, and who would see what they have changed.
const SILENT: &[(&str, &[&str])] = &[
    ("'XACK','x','g','1-1'", &["XPENDING x g", "XACK x g 1-1", "XINFO GROUPS x", "DUMP x"]),
    ("'XREADGROUP','GROUP','g','c','STREAMS','x','>'", &["XREADGROUP GROUP g c2 STREAMS x >", "XPENDING x g"]),
    ("'XCLAIM','x','g','d','0','1-1'", &["XINFO CONSUMERS x g", "EVAL_RO \"return redis.call('XPENDING','x','g')\" 0"]),
    ("'XAUTOCLAIM','x','g','d','0','0'", &["XPENDING x g 0 9 9 d"]),
    ("'PFCOUNT','p'", &["GET p", "STRLEN p", "PFCOUNT p"]),
];

fn blocked_clients(server: &Server) -> String {
    info_field(&mut server.raw(), "clients", "blocked_clients").expect("a field of INFO")
}

each_lever! {
    fn a_silent_write_of_a_script_holds_its_client_and_its_readers_alone(version: Version, lever: Lever) {
        let builder = ServerBuilder::with_module(version).set("wbl.commit-mode", "async");
        let mut scene = Scene::of(builder).with_lever(lever);
        let library = "#!lua name=lib\nredis.register_function('call', function(keys, args) return redis.call(unpack(args)) end)";
        scene.control.call(&["FUNCTION", "LOAD", library]);
        for (call, readers) in SILENT {
            for function in [false, true] {
                scene.prepare(&[
                    "FLUSHALL", "XADD x 1-1 f v", "XGROUP CREATE x g 0", "XREADGROUP GROUP g c STREAMS x >",
                    "XADD x 2-1 f v", "PFADD p a", "SET clean c",
                ]);
                let (mut client, waits) = (scene.server.raw(), scene.gauge("wbl_inline_waits"));
                scene.freeze();
                if function {
                    let words: Vec<_> = call.split(',').map(|word| word.trim_matches('\'')).collect();
                    client.send(&[&["FCALL", "call", "0"][..], &words].concat());
                } else {
                    client.send(&["EVAL", &format!("return redis.call({call})"), "0"]);
                }
                scene.assert_withheld(&mut client, call);
                assert_eq!(scene.answer("GET clean").text(), "c", "beside {call}");
                let held: Vec<_> = readers.iter().map(|reader| scene.held(reader)).collect();
                scene.thaw();
                assert!(!client.reply().is_error(), "{call}");
                held.into_iter().for_each(|mut reader| assert!(!reader.reply().is_error(), "after {call}"));
                assert_eq!(scene.gauge("wbl_inline_waits"), waits, "{call}");
            }
        }
        scene.end();
    }
}

each_version! {
    // The server counts these times from when the script began, and gives whom it lets in meanwhile a later one.
    fn expiry_times_that_a_long_script_sets_are_recovered(version: Version) {
        const LONG: &str = "local function us() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end
            local until_us = us() + 50000 repeat until us() > until_us ";
        const SETS: &[&str] = &[
            "'SET', 'k', 'v', 'PX', '1000000'", "'SETEX', 'k', '1000', 'v'", "'PEXPIRE', 'old', '1000000'",
            "'GETEX', 'old', 'EX', '1000'",
        ];
        let builder = ServerBuilder::with_module(version).set("busy-reply-threshold", "1").in_memory();
        let mut server = builder.allow_warning("Slow script detected").start();
        let firsts = ["", "redis.call('FLUSHALL') redis.call('SET', 'old', 'v') "];
        for (first, set) in firsts.iter().flat_map(|first| SETS.iter().map(move |set| (first, set))) {
            let script = format!("{LONG} {first} return redis.call({set})");
            for in_exec in [false, true] {
                let mut client = server.raw();
                client.run("SET old v");
                let bounds: [&[&str]; 2] = if in_exec { [&["MULTI"], &["EXEC"]] } else { [&[], &[]] };
                bounds[0].iter().for_each(|word| drop(client.run(word)));
                client.call(&["EVAL", &script, "0"]);
                bounds[1].iter().for_each(|word| drop(client.run(word)));
                let expiry = |server: &Server| ["k", "old"].map(|key| server.raw().call(&["PEXPIRETIME", key]).integer());
                let before = expiry(&server);
                server.kill9_and_restart();
                assert_eq!(expiry(&server), before, "{set} after {first:?}, in EXEC: {in_exec}");
            }
        }
    }

    fn a_pause_of_writes_stops_only_scripts_that_may_write(version: Version) {
        let server = ServerBuilder::with_module(version).set("wbl.commit-mode", "async").start();
        let mut client = server.raw();
        let library = "#!lua name=lib\nserver.register_function{function_name='f', callback=function() return 'f' end, flags={'no-writes'}}";
        client.call(&["FUNCTION", "LOAD", library]);
        let digest = client.call(&["SCRIPT", "LOAD", "#!lua flags=no-writes\nreturn 'sha'"]).text();
        client.run("CLIENT PAUSE 600000 WRITE");
        assert_eq!(client.call(&["EVAL", "#!lua flags=no-writes\nreturn 'eval'", "0"]).text(), "eval");
        assert_eq!(client.call(&["EVALSHA", &digest, "0"]).text(), "sha");
        assert_eq!(client.call(&["EVAL_RO", "return 'ro'", "0"]).text(), "ro");
        assert_eq!(client.run("FCALL f 0").text(), "f");
        let mut writer = server.raw();
        writer.send_text("EVAL return('written') 0");
        wait_until("the script waits", PATIENCE, || blocked_clients(&server) == "1");
        client.run("CLIENT UNPAUSE");
        assert_eq!(writer.reply().text(), "written");
        // No module has blocked the client: its writes are held one by one again when the pause is over.
        wait_until("its write is held", PATIENCE, || {
            writer.run("SET k v");
            assert_eq!(server.wbl_info("wbl_waits_shared_id"), "0");
            server.wbl_info("wbl_write_blocked_count") != "0"
        });
    }

    // Scripts run at the end of the iteration, after a CLIENT PAUSE of the same iteration: a server that replicated
    // anything then stopped at an assertion.
    fn a_script_that_a_pause_of_the_same_iteration_overtakes_waits_for_its_end(version: Version) {
        let server = ServerBuilder::with_module(version).set("appendonly", "yes").start();
        let (mut sleeper, mut writer, mut pauser) = (server.raw(), server.raw(), server.raw());
        let mut overtaken = 0;
        for round in 0..20 {
            // Both commands are there when the sleep ends.
            sleeper.send_text("DEBUG SLEEP 0.02");
            writer.send_text("EVAL return(redis.call('INCR','counter')) 1 counter");
            pauser.send_text("CLIENT PAUSE 600000 WRITE");
            sleeper.reply();
            pauser.reply();
            let waits = blocked_clients(&server) == "1";
            overtaken += i32::from(waits);
            pauser.run("CLIENT UNPAUSE");
            assert_eq!(writer.reply().integer(), round + 1);
        }
        assert!(overtaken > 0, "no pause overtook a script");
    }

    // Its client is not the one whose command came last, and whose rights say nothing of it.
    fn what_a_paused_script_changes_unseen_is_logged_whoever_sends_next(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let [mut control, mut script, mut other] = [server.raw(), server.raw(), server.raw()];
        for command in ["XADD s 1-1 f v", "XGROUP CREATE s g 0", "XGROUP CREATECONSUMER s g c", "ACL SETUSER pauser on nopass +client"] {
            control.run(command);
        }
        other.run("AUTH pauser any");
        control.run("CLIENT PAUSE 600000 WRITE");
        script.send(&["EVAL", "return #redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>')", "0"]);
        wait_until("the script waits", PATIENCE, || blocked_clients(&server) == "1");
        other.run("CLIENT UNPAUSE");
        assert_eq!(script.reply().integer(), 1);
        dataset::assert_survives(&mut server, "the entry is pending");
    }

    // The pause makes it wait before it has looked at the stream, which does not change any more.
    fn what_a_paused_reader_is_served_with_is_logged(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let [mut control, mut reader] = [server.raw(), server.raw()];
        for command in [
            "XADD s 1-1 f v",
            "XGROUP CREATE s g 0",
            "XGROUP CREATECONSUMER s g c",
            "ACL SETUSER bare on nopass ~* +@all -wbl.call",
        ] {
            control.run(command);
        }
        reader.run("AUTH bare any");
        control.run("CLIENT PAUSE 600000 WRITE");
        reader.send_text("XREADGROUP GROUP g c BLOCK 60000 STREAMS s >");
        wait_until("the reader waits", PATIENCE, || blocked_clients(&server) == "1");
        control.run("CLIENT UNPAUSE");
        assert!(!reader.reply().is_error());
        dataset::assert_survives(&mut server, "the entry is pending");
    }

    // The server serves such a shutdown while the script runs, which no other can overtake then.
    fn a_shutdown_in_a_busy_script_drops_the_scripts_that_wait(version: Version) {
        let server = ServerBuilder::with_module(version).set("busy-reply-threshold", "100");
        let mut server = server.allow_warning("Slow script detected").start();
        let [mut busy, mut waiting, mut control] = [server.raw(), server.raw(), server.raw()];
        control.run("SET before kept");
        for client in [&mut busy, &mut waiting] {
            client.run("PING");
        }
        server.in_one_iteration(|| {
            busy.send(&["EVAL", "redis.call('SET', 'busy', '1') while true do end", "0"]);
            waiting.send(&["EVAL", "return redis.call('SET', 'waiting', '1')", "0"]);
        });
        wait_until("the script is busy", PATIENCE, || format!("{:?}", control.call(&["PING"])).starts_with("-BUSY"));
        control.send_text("SHUTDOWN NOSAVE");
        assert!(server.wait_exit().success());
        assert!(busy.try_reply().is_err() && waiting.try_reply().is_err(), "a script was answered that is not logged");
        server.start();
        let mut client = server.raw();
        assert_eq!(client.run("KEYS *").items().iter().map(Value::text).collect::<Vec<_>>(), ["before"]);
    }

    fn a_shutdown_is_not_held_up_by_a_script_of_its_iteration(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let [mut waiting, mut control] = [server.raw(), server.raw()];
        control.run("SET before kept");
        waiting.run("PING");
        server.in_one_iteration(|| {
            waiting.send(&["EVAL", "redis.call('SET', 'waiting', '1') while true do end", "0"]);
            control.send(&["SHUTDOWN", "NOSAVE"]);
        });
        assert!(server.wait_exit().success());
        assert!(waiting.try_reply().is_err());
        server.start();
        assert_eq!(server.raw().run("DBSIZE").integer(), 1);
    }

    fn a_pause_of_writes_stops_counts_that_would_be_cached(version: Version) {
        let server = ServerBuilder::with_module(version).set("appendonly", "yes").start();
        let (mut client, mut reader) = (server.raw(), server.raw());
        client.run("PFADD log a b c");
        client.run("CLIENT PAUSE 600000 WRITE");
        reader.send_text("PFCOUNT log");
        wait_until("the count waits", PATIENCE, || blocked_clients(&server) == "1");
        client.run("CLIENT UNPAUSE");
        assert_eq!(reader.reply().integer(), 3);
    }

    fn scripts_can_be_debugged(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        client.run("SCRIPT DEBUG SYNC");
        client.call(&["EVAL", "local value = redis.call('SET', 'k', 'v')\nreturn value", "0"]);
        let stepped = format!("{:?}", client.run("next"));
        assert!(stepped.contains("Stopped at 2"), "{stepped}");
        client.run("continue");
        let mut other = server.raw();
        assert_eq!(other.run("GET k").text(), "v");
    }

    // The server counts at most 128 kinds of errors that scripts make up; those of scripts that the module ran had no
    // limit.
    fn errors_that_scripts_make_up_do_not_fill_the_statistics(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        for index in 0..300 {
            let error = client.call(&["EVAL", "return server.error_reply(ARGV[1] .. ' is made up')", "0", &index.to_string()]);
            assert_eq!(format!("{error:?}"), format!("-{index} is made up"));
        }
        let count = client.run("INFO errorstats").text().lines().filter(|line| line.starts_with("errorstat_")).count();
        // An 8.1 server has no way for modules to say that an error is made up.
        assert!(count <= 130 || version == Version::V8_1, "{count} kinds");
    }

    fn the_error_of_a_reader_that_waited_is_counted(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let (mut client, mut reader) = (server.raw(), server.raw());
        client.run("XGROUP CREATE stream group $ MKSTREAM");
        reader.send_text("XREADGROUP GROUP group consumer BLOCK 0 STREAMS stream >");
        wait_until("the reader waits", PATIENCE, || blocked_clients(&server) == "1");
        client.run("XGROUP DESTROY stream group");
        let error = format!("{:?}", reader.reply());
        assert!(error.starts_with("-NOGROUP"), "{error}");
        assert_eq!(info_field(&mut client, "errorstats", "errorstat_NOGROUP").as_deref(), Some("count=1"));
    }

    // What docs/limits.md says about the flags of clients: a script that the module runs has a client of its own.
    fn the_flags_of_a_client_count_in_its_scripts_that_run_as_sent(version: Version) {
        let builder = ServerBuilder::with_module(version).in_memory().set("import-mode", "yes");
        // Each read counts.
        let builder = builder.set("maxmemory-policy", "allkeys-lfu").set("lfu-log-factor", "0");
        let builder = builder.set("lfu-decay-time", "0");
        let mut server = builder.start();
        server.raw().run("ACL SETUSER bare on nopass ~* +@all -wbl.eval");
        for (user, seen, touches) in [("bare", ["\"5\"", ":6"], 0), ("default", ["null", ":1"], 1)] {
            let mut client = server.raw();
            let flags = ["AUTH @ any", "CLIENT IMPORT-SOURCE ON", "CLIENT NO-TOUCH ON"];
            for command in flags.iter().chain(&["SET @:kept 5 PXAT 1", "SET @:read v"]) {
                client.run(&command.replace('@', user));
            }
            let mut script = |name: &str, key: &str| {
                let body = format!("return redis.call('{name}', KEYS[1])");
                format!("{:?}", client.call(&["EVAL", &body, "1", &format!("{user}:{key}")]))
            };
            let uses = || server.raw().run(&format!("OBJECT FREQ {user}:read")).integer();
            let before = uses();
            assert_eq!(script("GET", "read"), "\"v\"");
            assert_eq!(uses() - before, touches, "{user}");
            assert_eq!([script("GET", "kept"), script("INCR", "kept")], seen, "{user}");
        }
        server.kill9_and_restart();
        let mut source = server.raw();
        source.run("CLIENT IMPORT-SOURCE ON");
        assert_eq!(format!("{:?}", source.run("MGET bare:kept default:kept")), r#"["6", "1"]"#);
    }

    fn a_script_with_too_few_arguments_is_refused_by_the_server(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        let error = format!("{:?}", client.call(&["EVAL", "return 1"]));
        assert_eq!(error, "-ERR wrong number of arguments for 'eval' command");
        let eval = info_field(&mut client, "commandstats", "cmdstat_eval").expect("statistics of EVAL");
        assert!(eval.contains("rejected_calls=1,"), "{eval}");
    }
}
