//! Announced is not executed: a command that begins or ends what a client queues, watches or has selected, and that the
//! server refuses, leaves the module as it was; so does one that a script calls.

use crate::harness::{
    Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Value, Version, dataset, each_lever, each_version, wait_until,
};

/// A user who may not select a database.
const FEW: &str = "ACL SETUSER few on nopass ~* &* +@all -select";

/// Commands that the server refuses after a WATCH, and that it goes on watching after, with the user that sends them.
const REFUSED: &[(&str, &str)] = &[
    ("DISCARD", "default"),
    ("DISCARD x", "default"),
    ("DISCARD", "few"),
    ("EXEC", "default"),
    ("UNWATCH x", "default"),
    ("UNWATCH", "few"),
    ("RESET x", "default"),
    ("MULTI x", "default"),
    ("MULTI", "few"),
    ("WATCH", "default"),
    ("WATCH other", "few"),
    ("SELECT 1 x", "default"),
    ("SELECT 1", "few"),
    ("EVAL \"return redis.call('UNWATCH')\" 0", "default"),
    ("EVAL \"return redis.call('DISCARD')\" 0", "default"),
    ("EVAL \"return redis.call('EXEC')\" 0", "default"),
    ("EVAL \"return redis.call('RESET')\" 0", "default"),
];

/// Those that a user may not send.
const ALL_RIGHTS: &str = "ACL SETUSER few +@all";
const FEW_RIGHTS: &str = "ACL SETUSER few -multi -exec -discard -watch -unwatch -reset -select -asking";

/// A function that may not write, and calls what it is given.
const CALLER: &str = "#!lua name=lib\nredis.register_function{function_name='call', flags={'no-writes'}, \
                      callback=function(keys, args) return redis.pcall(unpack(args)) end}";

/// Calls of scripts that change nothing, of commands that no event reports.
const WITHOUT_EFFECT: &[&str] = &[
    "'XACK','x','g','7-7'",
    "'XCLAIM','x','none','c','0','1-1'",
    "'XREADGROUP','GROUP','none','c','STREAMS','x','>'",
    "'PFCOUNT','x'",
    "'PFCOUNT','p'",
    "'BITFIELD','x','OVERFLOW','FAIL','SET','u8','0','1'",
    "'FUNCTION','FLUSH'",
    "'FUNCTION','DELETE','lib'",
];

/// The same, unless the script may write.
const REFUSED_IF_READ_ONLY: &[&str] = &[
    "'XREADGROUP','GROUP','g','c','STREAMS','x','>'",
    "'XAUTOCLAIM','x','g','c','0','0'",
    "'BITFIELD','bits','OVERFLOW','FAIL','SET','u8','0','1'",
];

/// Commands that change what the server keeps of a connection, and in what way they fail.
const OF_CONNECTIONS: &[&str] = &[
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH k",
    "UNWATCH",
    "RESET",
    "SELECT 1",
    "ASKING",
    "SCRIPT DEBUG YES",
    "CLIENT TRACKING ON",
    "CLIENT UNBLOCK 1",
    "CLIENT REPLY ON",
    "READONLY",
    "AUTH none wrong",
    "HELLO 3",
];

/// One that may watch, and then has these rights and sends this.
fn refused(scene: &mut Scene, (command, user): (&str, &str), first: &[&str]) -> RawConnection {
    scene.control.run(ALL_RIGHTS);
    let mut client = scene.server.raw();
    client.run(&format!("AUTH {user} any"));
    first.iter().for_each(|command| drop(client.run(command)));
    scene.control.run(FEW_RIGHTS);
    let reply = client.call(&crate::harness::scene::split(command));
    assert!(reply.is_error(), "{command} as {user}: {reply:?}");
    scene.control.run(ALL_RIGHTS);
    client
}

fn big_hash(scene: &mut Scene) {
    let value = "v".repeat(200_000);
    scene.control.call(&["HSET", "big", "f", &value]);
    scene.control.run("WBL.WAIT");
}

/// A scene with that hash, and a client whose user may touch other keys only.
fn beside_another_users_hash(version: Version) -> (Scene, RawConnection) {
    let mut scene = Scene::start(version);
    big_hash(&mut scene);
    scene.prepare(&["ACL SETUSER app on nopass ~app* &* +@all"]);
    let mut client = scene.server.raw();
    client.run("AUTH app any");
    (scene, client)
}

each_lever! {
    fn what_a_client_watches_outlives_an_end_that_is_refused(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&[FEW]);
        for cell in REFUSED {
            scene.prepare(&["SET k old"]);
            let mut client = refused(&mut scene, *cell, &["WATCH k"]);
            scene.freeze();
            let mut writer = scene.held("SET k new");
            client.run("MULTI");
            client.run("PING");
            client.send(&["EXEC"]);
            scene.assert_withheld(&mut client, &format!("{cell:?}"));
            scene.thaw();
            assert_eq!((writer.reply(), client.reply()), (Value::Simple("OK".into()), Value::Null), "{cell:?}");
        }
        scene.end();
    }

    // The server watches no key any more then, but knows that one has changed.
    fn a_change_that_was_seen_outlives_an_end_that_is_refused(version: Version, lever: Lever) {
        for end in ["DISCARD", "UNWATCH x", "EXEC", "RESET x", "WATCH"] {
            let mut scene = Scene::start(version).with_lever(lever);
            scene.prepare(&["SET k old"]);
            let mut client = scene.server.raw();
            client.run("WATCH k");
            scene.freeze();
            let mut writer = scene.held("SET k new");
            assert!(client.call(&crate::harness::scene::split(end)).is_error(), "{end}");
            client.run("MULTI");
            client.run("PING");
            scene.hold(&mut client, "EXEC");
            scene.thaw();
            assert_eq!((writer.reply(), client.reply()), (Value::Simple("OK".into()), Value::Null), "{end}");
            scene.end();
        }
    }

    // The server queues nothing more then, which is no error.
    fn a_long_queue_over_a_changed_key_waits_for_the_change(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&["SET k old"]);
        let mut client = scene.server.raw();
        client.run("WATCH k");
        client.run("MULTI");
        scene.freeze();
        let mut writer = scene.held("SET k new");
        let long = "v".repeat(100_000);
        for _ in 0..3 {
            client.call(&["ECHO", &long]);
        }
        scene.hold(&mut client, "EXEC");
        scene.thaw();
        assert_eq!((writer.reply(), client.reply()), (Value::Simple("OK".into()), Value::Null));
        scene.end();
    }

    fn a_refused_command_of_a_connection_leaves_it_as_it_was(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&[FEW, "SET clean c", "SET k old"]);
        for command in OF_CONNECTIONS {
            let name = command.split(' ').next().expect("a name").to_lowercase();
            let arguments = format!("{command} x x x x x x x");
            let called = format!("EVAL \"return redis.call('{}')\" 0", command.replace(' ', "','"));
            for (refused, rights) in [(&arguments, "+@all"), (&command.to_string(), "-@all +auth"), (&called, "+@all")] {
                let mut client = scene.server.raw();
                client.run("AUTH few any");
                scene.control.run(&format!("ACL SETUSER few {rights}"));
                let reply = client.call(&crate::harness::scene::split(refused));
                scene.control.run("ACL SETUSER few +@all");
                // Some of them take the arguments, or may be sent by all.
                if !reply.is_error() {
                    continue;
                }
                scene.freeze();
                let mut writer = scene.held("SET k new");
                assert_eq!(client.run("GET clean").text(), "c", "{name}: {refused}");
                client.run("MULTI");
                client.run("GET clean");
                assert_eq!(format!("{:?}", client.run("EXEC")), r#"["c"]"#, "{name}: {refused}");
                client.run("MULTI");
                client.run("GET k");
                client.send(&["EXEC"]);
                scene.assert_withheld(&mut client, refused);
                scene.thaw();
                assert_eq!(writer.reply(), Value::Simple("OK".into()));
                assert_eq!(format!("{:?}", client.reply()), r#"["new"]"#);
                assert_eq!(client.run("SET other v"), Value::Simple("OK".into()), "{name}: {refused}");
            }
        }
        scene.end();
    }

    fn a_script_reads_where_it_is_after_a_select_that_failed(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        scene.prepare(&[FEW, "SET k old"]);
        let mut cells = vec![("default", "'1','x'"), ("default", "'77777'"), ("default", "'+1'"), ("few", "'1'")];
        if version == Version::V9_1 {
            scene.prepare(&["ACL SETUSER one on nopass ~* +@all db=0"]);
            cells.push(("one", "'1'"));
        }
        for (user, select) in cells {
            for eval in ["EVAL", "EVAL_RO"] {
                let mut client = scene.server.raw();
                client.run(&format!("AUTH {user} any"));
                scene.freeze();
                let mut writer = scene.held("SET k new");
                let script = format!("redis.pcall('SELECT',{select}) return redis.call('GET','k')");
                client.send(&[eval, &script, "0"]);
                scene.assert_withheld(&mut client, &format!("{eval} {script} of {user}"));
                scene.thaw();
                assert_eq!((writer.reply(), client.reply().text()), (Value::Simple("OK".into()), "new".into()));
                scene.prepare(&["SET k old"]);
            }
        }
        scene.end();
    }

    fn what_comes_while_a_script_runs_long_is_none_of_it(version: Version, lever: Lever) {
        let builder = ServerBuilder::with_module(version).set("busy-reply-threshold", "1");
        let mut scene = Scene::of(builder.allow_warning("Slow script detected")).with_lever(lever);
        big_hash(&mut scene);
        let (mut client, mut other) = (scene.server.raw(), scene.server.raw());
        for connection in [&mut client, &mut other] {
            connection.run("PING");
        }
        let images = scene.gauge("wbl_state_images");
        scene.freeze();
        let mut writer = scene.held("SET k new");
        let long = "local function ms() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end \
                    local since = ms() while ms() < since + 1500 do end return redis.call('GET', 'k')";
        client.send(&["EVAL", long, "0"]);
        wait_until("the script runs long", PATIENCE, || {
            matches!(other.call(&["GET", "other"]), Value::Error(text) if text.contains("BUSY"))
        });
        for command in ["SELECT 1", "PFCOUNT big", "XACK big g 1-1", "SELECT 1"] {
            other.send_text(command);
        }
        scene.assert_withheld(&mut client, "a long script");
        scene.thaw();
        assert_eq!((writer.reply(), client.reply().text()), (Value::Simple("OK".into()), "new".into()));
        (0..4).for_each(|_| drop(other.reply()));
        assert_eq!(scene.gauge("wbl_state_images"), images);
        scene.end();
    }
}

each_version! {
    fn a_script_writes_where_it_is_after_a_select_that_failed(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        let mut control = server.raw();
        control.call(&crate::harness::scene::split(FEW));
        control.run("SET k v");
        for (user, select, db) in [("default", "'1','x'", 0), ("few", "'1'", 0), ("default", "'1'", 1)] {
            for in_exec in [false, true] {
                let mut client = server.raw();
                client.run("AUTH few any");
                client.run(&format!("AUTH {user} any"));
                let tag = format!("{user}{}{in_exec}", select.len());
                let made = format!("server_{tag}");
                let script = format!(
                    "redis.pcall('SELECT',{select}) redis.call('SET','{made}','0') redis.call('COPY','{made}','same_{tag}') \
                     redis.call('COPY','{made}','other_{tag}','DB',2) redis.call('SET','after_{tag}','1') \
                     redis.call('MOVE','{made}',3) redis.call('SET','last_{tag}','2') return 'done'"
                );
                if in_exec {
                    run_in_exec(&mut client, &script);
                } else {
                    assert_eq!(client.call(&["EVAL", &script, "0"]).text(), "done");
                }
                let mut reader = server.raw();
                reader.run(&format!("SELECT {db}"));
                for (key, value) in [("same", "0"), ("after", "1"), ("last", "2")] {
                    assert_eq!(reader.call(&["GET", &format!("{key}_{tag}")]).text(), value, "{key}_{tag}");
                }
                for (db, key) in [(2, format!("other_{tag}")), (3, made)] {
                    reader.run(&format!("SELECT {db}"));
                    assert_eq!(reader.call(&["GET", &key]).text(), "0", "{key}");
                }
            }
        }
        server.raw().run("WBL.WAIT");
        let before = dataset::read(&mut server.raw());
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &before, "after kill -9");
    }

    fn a_script_that_calls_multi_changes_nothing_for_later_ones(version: Version) {
        for command in ["'MULTI'", "'EXEC'", "'DISCARD'", "'WATCH','big'", "'UNWATCH'", "'RESET'"] {
            let mut scene = Scene::start(version);
            big_hash(&mut scene);
            for eval in ["EVAL", "EVAL_RO"] {
                scene.control.call(&[eval, &format!("return redis.pcall({command})"), "0"]);
            }
            let before = scene.gauge("wbl_appended_offset");
            scene.control.call(&["EVAL", "return redis.call('HSET', 'big', 'g', '1')", "0"]);
            let written = scene.gauge("wbl_appended_offset") - before;
            assert!(written < 1000, "{command}: {written} bytes");
            scene.end();
        }
    }

    fn a_write_that_is_refused_in_a_script_logs_nothing(version: Version) {
        let (mut scene, mut client) = beside_another_users_hash(version);
        let before = scene.gauge("wbl_appended_offset");
        for call in [
            "'XACK','big','g','1-1'",
            "'XACK','big'",
            "'PFCOUNT','big'",
            "'XREADGROUP','GROUP','g','c','STREAMS','big','>'",
            "'BITFIELD','big','OVERFLOW','FAIL','SET','u8','0','1'",
        ] {
            for eval in ["EVAL", "EVAL_RO"] {
                client.call(&[eval, &format!("return redis.pcall({call})"), "0"]);
                assert_eq!(scene.gauge("wbl_appended_offset"), before, "{eval} {call}");
            }
        }
        scene.end();
    }

    fn a_silent_write_of_a_script_without_effect_logs_nothing(version: Version) {
        let mut scene = Scene::start(version);
        scene.control.call(&["FUNCTION", "LOAD", CALLER]);
        scene.control.call(&["XADD", "x", "1-1", "f", &"v".repeat(200_000)]);
        scene.control.call(&["SETRANGE", "bits", "200000", "v"]);
        scene.prepare(&["XGROUP CREATE x g 0", "PFADD p a b c", "PFCOUNT p", "XGROUP CREATECONSUMER x g c"]);
        scene.prepare(&["ACL SETUSER reader on nopass ~* +@read +@scripting +@transaction +@connection"]);
        let before = scene.gauge("wbl_appended_offset");
        for user in ["default", "reader"] {
            let mut client = scene.server.raw();
            client.run(&format!("AUTH {user} any"));
            for call in WITHOUT_EFFECT.iter().chain(REFUSED_IF_READ_ONLY) {
                let words: Vec<_> = call.split(',').map(|word| word.trim_matches('\'')).collect();
                let plain = format!("return redis.pcall({call})");
                let flagged = format!("#!lua flags=no-writes\n{plain}");
                let function = |name| [&[name, "call", "0"][..], &words].concat();
                let mut calls = vec![
                    vec!["EVAL_RO", &plain, "0"], vec!["EVAL", &flagged, "0"], function("FCALL_RO"), function("FCALL"),
                ];
                if WITHOUT_EFFECT.contains(call) {
                    calls.push(vec!["EVAL", &plain, "0"]);
                }
                for call in calls {
                    client.call(&call);
                    client.run("MULTI");
                    client.call(&call);
                    client.run("EXEC");
                    assert_eq!(scene.gauge("wbl_appended_offset"), before, "{call:?} of {user}");
                }
            }
        }
        scene.end();
    }

    fn an_exec_that_is_refused_logs_nothing_of_what_no_event_shows(version: Version) {
        let (mut scene, mut client) = beside_another_users_hash(version);
        let before = scene.gauge("wbl_appended_offset");
        client.run("MULTI");
        assert!(client.call(&["XACK", "big", "g", "1-1"]).is_error());
        assert!(client.call(&["EXEC"]).is_error());
        assert_eq!(scene.gauge("wbl_appended_offset"), before);
        scene.end();
    }
}

/// Runs the script in a transaction of the client's.
fn run_in_exec(client: &mut RawConnection, script: &str) {
    client.run("MULTI");
    client.call(&["EVAL", script, "0"]);
    assert_eq!(format!("{:?}", client.run("EXEC")), r#"["done"]"#);
}
