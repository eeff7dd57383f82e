//! Settings, commands and INFO.

use crate::harness::{FrozenDisk, Lever, Server, ServerBuilder, Value, Version, each_lever, each_version, paths};
use crate::life::NOWHERE;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Values that are refused: two at once, one by the server when all are set, as somebody listens on the port, and one
/// by another module after that.
fn refused_settings(port: &str) -> [[&str; 2]; 4] {
    [["maxmemory-policy", "bogus"], ["wbl.commit-mode", "bogus"], ["port", port], ["effects.refused", "yes"]]
}

/// A port on which somebody listens.
fn taken_port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

/// What the server logs of such values.
fn with_refusals(builder: ServerBuilder) -> ServerBuilder {
    ["Restoring previous settings", "Address already in use", "Failed listening on port"]
        .into_iter()
        .fold(builder, ServerBuilder::allow_warning)
}

each_version! {
    fn wrong_arguments_of_the_modules_commands_are_refused(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut control = server.raw();
        for command in [
            "WBL.WAIT 1 2",
            "WBL.WAIT soon",
            "WBL.WAIT -1",
            "WBL.WAIT 99999999999999999999",
            "WBL.STATUS x",
            "WBL.CHECKPOINT x",
            "WBL.DEBUG",
            "WBL.DEBUG STOP",
            "WBL.DEBUG PAUSE x",
        ] {
            let words: Vec<&str> = command.split(' ').collect();
            let reply = control.call(&words);
            let Value::Error(text) = &reply else { panic!("{command}: {reply:?}") };
            assert!(text.starts_with("ERR "), "{command}: {text}");
        }
    }

    fn wbl_debug_is_refused_unless_it_was_allowed_at_the_start(version: Version) {
        let server = ServerBuilder::with_module(version).unset("wbl.debug-commands").start();
        let mut control = server.raw();
        assert!(control.call(&["WBL.DEBUG", "PAUSE"]).is_error());
        assert!(control.call(&["CONFIG", "SET", "wbl.debug-commands", "yes"]).is_error());
    }

    fn command_info_and_docs_know_the_modules_commands(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut control = server.raw();
        for name in ["wbl.wait", "wbl.status", "wbl.checkpoint", "wbl.debug"] {
            let info = control.run(&format!("COMMAND INFO {name}"));
            assert_eq!(info.items()[0].items()[0].text(), name);
            let docs = control.run(&format!("COMMAND DOCS {name}"));
            let text = format!("{docs:?}");
            assert!(text.contains("summary") && text.contains("since"), "{name}: {text}");
        }
    }

    fn the_defaults_of_the_settings_are_as_documented(version: Version) {
        let server = ServerBuilder::with_module(version).unset("wbl.enabled").unset("wbl.debug-commands").unset("wbl.commit-mode").start();
        let mut control = server.raw();
        for (name, expected) in [
            ("enabled", "yes"),
            ("dir", "wbl"),
            ("debug-commands", "no"),
            ("on-existing-log", "refuse"),
            ("max-inflight-flushes", "0"),
            ("commit-mode", "auto"),
            ("io-mode", "auto"),
            ("checkpoint-min-bytes", "67108864"),
            ("checkpoint-percentage", "100"),
            ("on-error", "retry"),
        ] {
            let reply = control.run(&format!("CONFIG GET wbl.{name}"));
            assert_eq!(reply.items()[1].text(), expected, "{name}");
        }
        for name in ["segment-bytes", "max-pending-bytes"] {
            let reply = control.run(&format!("CONFIG GET wbl.{name}"));
            assert!(reply.items()[1].text().parse::<u64>().unwrap() > 0, "{name}");
        }
    }

    fn config_rewrite_keeps_the_settings(version: Version) {
        let mut server = ServerBuilder::with_module(version)
            .unset("wbl.enabled")
            .unset("wbl.debug-commands")
            .config_file("wbl.enabled yes\nwbl.dir other\nwbl.max-pending-bytes 2mb\n")
            .start();
        let mut control = server.raw();
        control.run("CONFIG SET wbl.max-pending-bytes 3145728");
        control.run("CONFIG SET wbl.on-existing-log replace");
        control.run("CONFIG REWRITE");
        let text = fs::read_to_string(server.config_path()).unwrap();
        assert!(text.contains("wbl.dir") && text.contains("other"), "{text}");
        control.run("SET key value");
        // The file now has everything, the module too.
        server.kill9();
        server.builder = server.builder.clone().unset("loadmodule");
        server.start();
        let mut control = server.raw();
        for (name, expected) in [("max-pending-bytes", "3145728"), ("on-existing-log", "replace"), ("dir", "other")] {
            let reply = control.run(&format!("CONFIG GET wbl.{name}"));
            assert_eq!(reply.items()[1].text(), expected, "{name}");
        }
        assert_eq!(control.run("GET key").text(), "value");
    }

    fn config_rewrite_finds_the_same_folder_after_a_change_of_dir(version: Version) {
        for dir in ["wbl.dir other\n", ""] {
            let mut server = ServerBuilder::with_module(version)
                .unset("wbl.enabled")
                .unset("wbl.debug-commands")
                .set("enable-protected-configs", "yes")
                .config_file(&format!("wbl.enabled yes\n{dir}"))
                .start();
            let name = if dir.is_empty() { "wbl" } else { "other" };
            let elsewhere = server.folder().join("elsewhere");
            fs::create_dir(&elsewhere).unwrap();
            let mut control = server.raw();
            control.run("SET key value");
            assert_eq!(control.run("CONFIG GET wbl.dir").items()[1].text(), name);
            control.run(&format!("CONFIG SET dir {}", elsewhere.display()));
            let folder = server.folder().join(name).display().to_string();
            assert_eq!(control.run("CONFIG GET wbl.dir").items()[1].text(), folder);
            control.run("CONFIG REWRITE");
            server.kill9();
            // The harness names another in the command line, before this.
            server.builder = server.builder.clone().unset("loadmodule").set("dir", elsewhere.to_str().unwrap());
            server.start();
            let mut control = server.raw();
            assert_eq!(control.run("GET key").text(), "value");
            assert!(!elsewhere.join(name).exists());
            control.run(&format!("CONFIG SET dir {}", server.folder().display()));
            assert_eq!(control.run("CONFIG GET wbl.dir").items()[1].text(), folder, "an absolute path is one");
        }
    }

    fn settings_are_taken_as_arguments_of_loadmodule_in_both_forms(version: Version) {
        let module = crate::harness::paths::module().to_str().unwrap();
        let forms: [&[&str]; 2] = [
            &[module, "dir", "other", "debug-commands", "yes"],
            &[module, "--wbl.dir", "other", "--wbl.debug-commands", "yes"],
        ];
        for form in forms {
            // On the server's command line, words with two dashes would be directives of their own.
            let server = ServerBuilder::stock(version).config_file(&format!("loadmodule {}\n", form.join(" "))).start();
            let mut control = server.raw();
            assert_eq!(control.run("CONFIG GET wbl.dir").items()[1].text(), "other", "{form:?}");
            assert!(!control.call(&["WBL.DEBUG", "RESUME"]).is_error(), "{form:?}");
            control.run("SET key value");
            assert!(server.folder().join("other").is_dir(), "{form:?}");
        }
    }

    fn bad_settings_are_refused_with_a_reason(version: Version) {
        for (name, value) in [
            ("wbl.enabled", "perhaps"),
            ("wbl.segment-bytes", "1"),
            ("wbl.segment-bytes", "many"),
            ("wbl.max-inflight-flushes", "17"),
            ("wbl.checkpoint-percentage", "-1"),
            ("wbl.max-pending-bytes", "0"),
            ("wbl.on-existing-log", "merge"),
            ("wbl.dir", ""),
        ] {
            let log = fails_to_start(ServerBuilder::with_module(version).set(name, value));
            assert!(log.contains(name) || log.contains(name.trim_start_matches("wbl.")), "{name} {value}: {log}");
        }
        let server = ServerBuilder::with_module(version).start();
        let mut control = server.raw();
        for (name, value) in [("wbl.enabled", "perhaps"), ("wbl.max-pending-bytes", "0"), ("wbl.dir", "elsewhere")] {
            assert!(control.call(&["CONFIG", "SET", name, value]).is_error(), "{name} {value}");
        }
    }

    fn a_log_that_was_closed_is_no_failure(version: Version) {
        let builder = ServerBuilder::with_module(version).allow_warning("Error condition on socket for SYNC");
        let server = builder.start();
        let mut client = server.raw();
        ["SET k v", "WBL.CHECKPOINT", "CONFIG SET wbl.enabled no", "FLUSHALL", "CONFIG SET wbl.enabled yes", "SET k v"]
            .iter()
            .for_each(|command| drop(client.run(command)));
        assert_eq!((server.wbl_info("wbl_state"), server.wbl_info("wbl_failure")), ("active".into(), String::new()));
        client.run("CONFIG SET rdb-key-save-delay 20000000");
        for round in [["CONFIG SET wbl.enabled no", "CONFIG SET wbl.enabled yes"], [NOWHERE, "REPLICAOF NO ONE"]] {
            round.iter().for_each(|command| drop(client.run(command)));
            assert_eq!(server.wbl_info("wbl_state"), "baselining", "{round:?}");
            assert_eq!(server.wbl_info("wbl_failure"), "", "{round:?}");
        }
    }

    fn a_config_set_that_fails_neither_ends_nor_begins_a_log(version: Version) {
        let builder = ServerBuilder::with_module(version).load(&paths::test_module(version), false);
        let mut server = with_refusals(builder).start();
        let (_listener, port) = taken_port();
        let mut client = server.raw();
        client.run("SET k v");
        let generation = server.wbl_info("wbl_log_generation");
        for value in ["no", "yes"] {
            let (other, state) = if value == "no" { ("yes", "active") } else { ("no", "disabled") };
            for refused in refused_settings(&port) {
                for own_comes_first in [true, false] {
                    let own = ["wbl.on-existing-log", "replace", "wbl.enabled", value];
                    let words = if own_comes_first { [&own[..], &refused].concat() } else { [&refused[..], &own].concat() };
                    let reply = client.call(&[&["CONFIG", "SET"], &words[..]].concat());
                    assert!(reply.is_error(), "{words:?}: {reply:?}");
                    assert_eq!(client.run("CONFIG GET wbl.enabled").items()[1].text(), other, "{words:?}");
                    assert_eq!(server.wbl_info("wbl_state"), state, "{words:?}");
                    assert_eq!(server.wbl_info("wbl_failure"), "", "{words:?}");
                }
            }
            if value == "no" {
                assert_eq!(server.wbl_info("wbl_log_generation"), generation);
                client.send_text("CONFIG SET wbl.enabled no");
                client.send_text("INFO wbl");
                assert_eq!(client.reply(), Value::Simple("OK".into()));
                assert!(client.reply().text().contains("wbl_state:disabled"), "it is so when the answer is there");
            }
        }
        client.run("CONFIG SET wbl.enabled yes");
        client.run("SET later v");
        client.run("WBL.WAIT");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("EXISTS k later").integer(), 2);
    }

    fn a_config_set_that_fails_replaces_no_other_log(version: Version) {
        let mut server = with_refusals(ServerBuilder::with_module(version)).start();
        server.raw().run("SET k v");
        server.stop();
        server.reconfigure(|builder| builder.set("wbl.enabled", "no"));
        let (_listener, port) = taken_port();
        server.start();
        let mut client = server.raw();
        client.run("SET other v");
        client.run("SAVE");
        let wanted = ["CONFIG", "SET", "wbl.on-existing-log", "replace", "wbl.enabled", "yes"];
        for refused in &refused_settings(&port)[..3] {
            assert!(client.call(&[&wanted[..], refused].concat()).is_error(), "{refused:?}");
            assert_eq!(server.wbl_info("wbl_log_superseded"), "0", "{refused:?}");
        }
        // The value that is needed beside it may come after it, too.
        let wanted = ["CONFIG", "SET", "wbl.enabled", "yes", "wbl.on-existing-log", "replace"];
        assert_eq!(client.call(&wanted), Value::Simple("OK".into()));
        assert_ne!(server.wbl_info("wbl_state"), "disabled");
    }

    fn unknown_arguments_of_loadmodule_are_refused(version: Version) {
        let module = crate::harness::paths::module().to_str().unwrap();
        for arguments in ["nonsense 1", "dir", "--wbl.nonsense yes"] {
            let text = format!("loadmodule {module} {arguments}\n");
            let log = fails_to_start(ServerBuilder::stock(version).config_file(&text));
            let word = arguments.split(' ').next().unwrap();
            assert!(log.contains(word), "{arguments}: {log}");
        }
    }
}

each_lever! {
    fn wbl_wait_returns_the_durable_position_or_an_error_in_time(version: Version, lever: Lever) {
        let server = ServerBuilder::with_module(version).start();
        let (mut control, mut client) = (server.raw(), server.raw());
        let first = control.run("WBL.WAIT").integer();
        client.run("SET key value");
        let second = control.run("WBL.WAIT").integer();
        assert!(second > first, "{second} after {first}");
        assert_eq!(control.run("WBL.WAIT 1000").integer(), second);

        let disk = FrozenDisk::freeze(lever, &server, &mut control);
        client.send_text("SET key other");
        disk.assert_withheld(&server, &mut control, &mut client, "SET");
        let start = Instant::now();
        let mut waiter = server.raw();
        let error = waiter.call(&["WBL.WAIT", "100"]);
        assert!(error.is_error() && start.elapsed() >= Duration::from_millis(100), "{error:?}");
        waiter.send_text("WBL.WAIT");
        disk.assert_withheld(&server, &mut control, &mut waiter, "WBL.WAIT");
        disk.thaw(&mut control);
        assert!(waiter.reply().integer() > second);
        assert_eq!(client.reply(), Value::Simple("OK".into()));
    }

    fn info_and_status_tell_the_state(version: Version, lever: Lever) {
        let server = ServerBuilder::with_module(version).start();
        let mut control = server.raw();
        control.run("SET clean value");
        assert_eq!(server.wbl_info("wbl_state"), "active");
        let durable: i64 = server.wbl_info("wbl_previous_acked_offset").parse().unwrap();
        assert_eq!(server.wbl_info("wbl_appended_offset"), durable.to_string());
        assert_eq!(server.wbl_info("wbl_uncommitted_keys"), "0");
        for field in ["wbl_enabled", "wbl_primary_repl_offset", "wbl_state_images", "wbl_inline_waits"] {
            let value = server.wbl_info(field);
            assert!(value.parse::<u64>().is_ok(), "{field} is {value}");
        }

        let disk = FrozenDisk::freeze(lever, &server, &mut control);
        let mut writer = server.raw();
        writer.send_text("SET dirty value");
        disk.assert_withheld(&server, &mut control, &mut writer, "SET");
        assert_eq!(server.wbl_info("wbl_uncommitted_keys"), "1");
        assert_eq!(server.wbl_info("wbl_clients_waiting_ack"), "1");
        assert!(server.wbl_info("wbl_write_blocked_count").parse::<u64>().unwrap() >= 1);
        assert!(server.wbl_info("wbl_read_blocked_count").parse::<u64>().is_ok());
        assert!(server.wbl_info("wbl_appended_offset").parse::<i64>().unwrap() > durable);
        assert_eq!(server.wbl_info("wbl_previous_acked_offset"), durable.to_string());

        let status = control.run("WBL.STATUS");
        assert!(status.items().iter().any(|item| matches!(item, Value::Bulk(text) if text == b"state")), "{status:?}");
        disk.thaw(&mut control);
        writer.reply();
        assert_eq!(server.wbl_info("wbl_uncommitted_keys"), "0");
        control.run("HELLO 3");
        assert!(matches!(control.run("WBL.STATUS"), Value::Map(_)));
    }
}

/// Starts a server that must end by itself with an error, and returns what it logged.
pub(super) fn fails_to_start(builder: ServerBuilder) -> String {
    let mut server: Server = builder.allow_warning("").prepare();
    server.launch();
    let status = server.wait_exit();
    let log = server.log();
    assert!(!status.success(), "the server did not mind: {log}");
    log
}
