//! `rename-command`: whatever the server calls its commands, what they do is logged, waited for and recovered, or the
//! module is not loaded and says which command it lacks.

use crate::harness::commands::words;
use crate::harness::server::info_field;
use crate::harness::{
    FrozenDisk, Lever, Names, PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, each_lever, each_version,
    paths, wait_for, wait_until,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Changes by commands of all rules, each with keys of its own. Some fail where a command is missing.
const WORK: &[&str] = &[
    "SET string value",
    "SETEX setex 100000 v",
    "PSETEX psetex 100000000 v",
    "APPEND string more",
    "SET expiring v PX 100000000",
    "EXPIRE string 200000",
    "GETEX expiring PERSIST",
    "SET getex v",
    "GETEX getex EX 100000",
    "SET persisted v EX 100000",
    "PERSIST persisted",
    "SET number 5",
    "INCR number",
    "INCRBYFLOAT number 1.5",
    "GETSET getset a",
    "GETSET getset b",
    "SET gone v",
    "GETDEL gone",
    "SET deleted v",
    "DEL deleted",
    "SET unlinked v",
    "UNLINK unlinked",
    "SET short v PX 1",
    "SET old v",
    "PEXPIRE old 1",
    "MSET m1 a m2 b",
    "RENAME m1 m3",
    "COPY m2 m4",
    "COPY m2 m5 DB 2",
    "MOVE m4 3",
    "RPUSH list a b c d e f g h",
    "LPOP list",
    "BLPOP list 0.01",
    "BRPOP list 0.01",
    "BLMPOP 0.01 1 list LEFT COUNT 2",
    "BLMOVE list moved LEFT RIGHT 0.01",
    "BRPOPLPUSH list moved 0.01",
    "LTRIM moved 0 5",
    "SADD set a b c d e f",
    "SPOP set 2",
    "SREM set a",
    "SORT set ALPHA STORE sorted",
    "HSET hash f 1 g 2",
    "HINCRBYFLOAT hash f 1.5",
    "HEXPIRE hash 100000 FIELDS 1 g",
    "HINCRBYFLOAT hash g 1.5",
    "HSETEX hash EX 100000 FIELDS 1 h v",
    "HPERSIST hash FIELDS 1 g",
    "HSET fields f 1 g 2 h 3",
    "HEXPIRE fields 100000 FIELDS 1 g",
    "HDEL fields f",
    "HEXPIRE fields 0 FIELDS 1 h",
    "ZADD sorted:set 1 a 2 b 3 c 4 d 5 e",
    "ZPOPMIN sorted:set",
    "BZPOPMAX sorted:set 0.01",
    "BZPOPMIN sorted:set 0.01",
    "BZMPOP 0.01 1 sorted:set MIN",
    "PFADD pf a b c",
    "PFCOUNT pf",
    "SETBIT bits 7 1",
    "BITFIELD bits SET u8 8 66",
    "BITFIELD bits OVERFLOW FAIL INCRBY u8 800 300",
    "GEOADD geo 13.361389 38.115556 a",
    "XADD stream 1-1 f v",
    "XADD stream 2-1 f v",
    "XADD stream MAXLEN 2 3-1 f v",
    "XTRIM stream MAXLEN 2",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group reader COUNT 1 STREAMS stream >",
    "XCLAIM stream group other 0 2-1 JUSTID",
    "XACK stream group 2-1",
    "XREADGROUP GROUP group reader STREAMS stream >",
    "XAUTOCLAIM stream group third 0 0",
    "FUNCTION LOAD REPLACE \"#!lua name=lib\\nserver.register_function('f', function(keys) return server.call('PING') end)\"",
    "SELECT 5",
    "SET five v",
    "FLUSHDB",
    "SET five w",
    "SELECT 6",
    "SET six v",
    "SWAPDB 6 7",
    "SELECT 0",
    "MULTI",
    "SET of:multi a",
    "SPOP set",
    "INCRBYFLOAT number 1",
    "RPUSH list x y",
    "LMOVE list moved LEFT LEFT",
    "EXEC",
    "SET last v",
];

/// Warnings that a server has for a missing command: those of a module that is not loaded, and one of its own engine
/// for scripts.
const WARNINGS: &[&str] =
    &["the module is not loaded", "initialization failed", "Can't load module", "Unable to determine 'lua-enable"];

/// What shows the state that the work leaves.
const STATE: &[&str] = &[
    "DBSIZE",
    "DEBUG DIGEST",
    "PEXPIRETIME setex",
    "PEXPIRETIME psetex",
    "PEXPIRETIME string",
    "PEXPIRETIME getex",
    "PEXPIRETIME persisted",
    "PEXPIRETIME expiring",
    "GET string",
    "GET number",
    "GET short",
    "GET old",
    "GET last",
    "LRANGE list 0 -1",
    "LRANGE moved 0 -1",
    "HGETALL hash",
    "HPEXPIRETIME hash FIELDS 3 f g h",
    "HGETALL fields",
    "HPEXPIRETIME fields FIELDS 1 g",
    "ZRANGE sorted:set 0 -1 WITHSCORES",
    "GETRANGE pf 0 15",
    "XRANGE stream - +",
    "XINFO GROUPS stream",
    "XPENDING stream group",
    "FUNCTION LIST WITHCODE",
];

each_version! {
    fn each_command_disabled_in_turn_is_done_without_or_named(version: Version) {
        let refused = in_turn(version, |_| String::new());
        let mut expected = BTreeSet::from(["client", "command", "dump", "restore"]);
        expected.extend((version == Version::V9_1).then_some("hpexpireat"));
        assert_eq!(refused, expected.into_iter().map(String::from).collect());
    }

    fn each_command_renamed_in_turn_is_known(version: Version) {
        let refused = in_turn(version, |name| format!("{name}-2"));
        assert_eq!(refused, BTreeSet::new());
    }

    fn all_commands_renamed_at_once_are_known(version: Version) {
        let mut builder = ServerBuilder::with_module(version).in_memory().allow_warning(WARNINGS[3]);
        for name in names(version) {
            builder = builder.rename(&name, &format!("x:{name}"));
        }
        let mut server = builder.start();
        assert_eq!(server.wbl_info("wbl_unknown_commands"), "0");
        let before = worked(&server);
        assert_eq!(server.wbl_info("wbl_unknown_commands"), "0", "a write was not known");
        server.kill9_and_restart();
        assert_eq!(state(&mut server.raw()), before);

        // The log has the commands by their own names.
        server.kill9();
        let mut plain = server;
        plain.reconfigure(|builder| builder.unset("rename-command"));
        plain.start();
        assert_eq!(state(&mut plain.raw()), before);
    }

    fn a_name_may_be_taken_by_another_command(version: Version) {
        let builder = ServerBuilder::with_module(version).in_memory();
        // GET sets, SET gets, DEL has gone, APPEND deletes.
        let builder = builder.rename("GET", "swapped").rename("SET", "get").rename("swapped", "set");
        let mut server = builder.rename("DEL", "deletes").rename("APPEND", "").rename("deletes", "append").start();
        let mut client = server.raw().with_names(Names::default());
        assert_eq!(client.run("GET key value"), Value::Simple("OK".into()));
        client.run("GET doomed value");
        assert_eq!(client.run("APPEND doomed").integer(), 1);
        assert!(client.call(&["DEL", "key"]).is_error());
        server.kill9_and_restart();
        let mut client = server.raw().with_names(Names::default());
        assert_eq!(client.run("SET key").text(), "value");
        assert_eq!(client.run("SET doomed"), Value::Null);
    }

    fn names_are_found_in_files_and_the_files_that_they_include(version: Version) {
        let module = paths::module().display();
        let mut server = ServerBuilder::stock(version).config_file("").prepare();
        let folder = server.config_path().parent().unwrap().to_path_buf();
        let here = folder.display();
        let text = format!(
            "save \"\"\nrename-command SET \"\\x73et 2\"\ninclude '{here}/conf.d/*.conf'\ninclude {here}/other.conf\nloadmodule {module}\nwbl.enabled yes\n"
        );
        fs::write(server.config_path(), text).unwrap();
        fs::create_dir(folder.join("conf.d")).unwrap();
        fs::write(folder.join("conf.d/a.conf"), "rename-command COMMAND 'comm and'\n").unwrap();
        fs::write(folder.join("other.conf"), "  rename-command DEL remove\n# rename-command GET got\n").unwrap();
        server.start();
        let mut client = server.raw();
        client.call(&["set 2", "a", "1"]);
        client.call(&["set 2", "b", "2"]);
        client.run("remove a");
        client.run("WBL.WAIT");
        server.kill9_and_restart();
        let mut client = server.raw();
        assert_eq!(client.run("GET a"), Value::Null);
        assert_eq!(client.run("GET b").text(), "2");
    }

    fn a_name_that_cannot_be_found_is_told(version: Version) {
        let text = "save \"\"\nenable-module-command yes\nrename-command DEL remove\n";
        let server = ServerBuilder::stock(version)
            .config_file(text)
            .allow_warning("the module is not loaded")
            .allow_warning("initialization failed")
            .start();
        fs::write(server.config_path(), "save \"\"\nrename-command DEL other\n").unwrap();
        let mut client = server.raw();
        assert!(client.call(&["MODULE", "LOAD", paths::module().to_str().unwrap()]).is_error());
        let log = server.log();
        assert!(log.contains("the server's command DEL is renamed"), "{log}");
        fs::write(server.config_path(), text).unwrap();
        client.run(&format!("MODULE LOAD {}", paths::module().display()));
    }
}

each_version! {
    fn a_start_as_a_replica_without_replicaof_leaves_the_log_alone(version: Version) {
        const NEITHER: &str = "the server has neither REPLICAOF nor SLAVEOF";
        let mut server = ServerBuilder::with_module(version).in_memory().allow_warning(NEITHER).start();
        let before = worked(&server);
        server.kill9();
        server.reconfigure(|builder| {
            let builder = builder.set_words("replicaof", &["127.0.0.1", "1"]).unset("wbl.enabled");
            builder.allow_warning("Error condition on socket for SYNC")
        });
        // Twice: the first of them must not change what the second finds.
        for _ in 0..2 {
            server.reconfigure(|builder| builder.rename("REPLICAOF", "").rename("SLAVEOF", ""));
            server.start();
            assert!(server.log().contains(NEITHER), "{}", server.log());
            assert_eq!(server.wbl_info("wbl_state"), "replica");
            assert_eq!(server.raw().run("DBSIZE").integer(), 0);
            server.kill9();
            server.reconfigure(|builder| builder.unset("rename-command"));
        }
        // By either of the two, whatever its name, the log is brought back.
        for names in [["follow", ""], ["", "follow"], ["follow", "serve"]] {
            let [replicaof, slaveof] = names;
            server.reconfigure(|builder| builder.rename("REPLICAOF", replicaof).rename("SLAVEOF", slaveof));
            server.start();
            assert_eq!(state(&mut server.raw()), before, "{names:?}");
            assert_eq!(server.wbl_info("wbl_state"), "replica", "{names:?}");
            let port = info_field(&mut server.raw(), "replication", "master_port");
            assert_eq!(port.as_deref(), Some("1"), "{names:?}");
            server.kill9();
            server.reconfigure(|builder| builder.unset("rename-command"));
        }
        server.reconfigure(|builder| builder.unset("replicaof").set("wbl.enabled", "yes"));
        server.start();
        assert_eq!(state(&mut server.raw()), before);
        assert_eq!(server.wbl_info("wbl_state"), "active");
    }
}

each_lever! {
    fn renamed_commands_are_held_as_others_are(version: Version, lever: Lever) {
        let mut builder = ServerBuilder::with_module(version).in_memory();
        for name in ["get", "keys", "xread", "multi", "exec", "watch", "spop", "eval", "setnx", "dbsize"] {
            builder = builder.rename(name, &format!("{name}-it"));
        }
        let server = builder.start();
        let mut control = server.raw();
        control.run("SADD set a b c");
        control.run("XADD stream 1-1 f v");
        let disk = FrozenDisk::freeze(lever, &server, &mut control);
        let mut held = Vec::new();
        for command in [
            "SET key value",
            "GET key",
            "KEYS *",
            "DBSIZE",
            "SETNX key other",
            "SPOP set",
            "XADD stream 2-1 f v",
            "XREAD STREAMS stream 0",
            "EVAL return{server.call('get-it',KEYS[1])} 1 key",
        ] {
            let mut client = server.raw();
            client.send_text(command);
            disk.assert_withheld(&server, &mut control, &mut client, command);
            held.push(client);
        }
        let mut client = server.raw();
        client.run("MULTI");
        client.run("GET key");
        client.send_text("EXEC");
        disk.thaw(&mut control);
        assert_eq!(client.reply().items()[0].text(), "value");
        // By its own name the server has no such command, and neither has the module.
        let mut plain = server.raw().with_names(Names::default());
        control.run("SET key again");
        for words in [&["GET", "key"][..], &["WBL.READ", "GET", "key"], &["WBL.CALL", "SPOP", "set"]] {
            assert!(plain.call(words).is_error(), "{words:?}");
        }
        assert_eq!(control.run("SCARD set").integer(), 2);
    }
}

/// Gives each command in turn another name and does the work; returns those with which the module does not load, each
/// of which it must name.
fn in_turn(version: Version, other: impl Fn(&str) -> String) -> BTreeSet<String> {
    let mut refused = BTreeSet::new();
    for name in names(version) {
        let builder = ServerBuilder::with_module(version).in_memory().rename(&name, &other(&name));
        let builder = WARNINGS.iter().fold(builder, |builder, text| builder.allow_warning(text));
        let mut server = builder.prepare();
        server.launch();
        if !serves(&mut server) {
            let status = server.wait_exit();
            let log = server.log();
            let named = log.lines().any(|line| {
                line.contains("the module is not loaded")
                    && line.contains(&name.to_ascii_uppercase())
                    && line.contains("rename-command")
            });
            assert!(!status.success() && named, "{name}: {log}");
            refused.insert(name);
            continue;
        }
        let before = worked(&server);
        server.kill9();
        server.launch();
        assert!(serves(&mut server), "{name}: it does not start again: {}", server.log());
        assert_eq!(state(&mut server.raw()), before, "{name}");
    }
    refused
}

/// All commands of the server, by their own names: no list of those that the module needs or asks can be incomplete.
fn names(version: Version) -> BTreeSet<String> {
    let server = ServerBuilder::stock(version).in_memory().start();
    let list = server.raw().run("COMMAND");
    list.items().iter().map(|entry| entry.items()[0].text()).collect()
}

/// Waits until the server serves or ends, and returns whether it serves. It may have no PING and no INFO.
fn serves(server: &mut Server) -> bool {
    wait_for("the server serves or ends", PATIENCE, || {
        if server.has_ended() {
            return Some(false);
        }
        let mut connection = RawConnection::open(&server.socket()).ok()?;
        connection.send(&["WBL.STATUS"]);
        let reply = connection.try_reply().ok().filter(|reply| !reply.is_error())?;
        (reply.items()[1].text() == "active").then_some(true)
    })
}

/// Does the work; returns the state that it leaves.
fn worked(server: &Server) -> Vec<String> {
    let mut client = server.raw();
    for command in WORK {
        client.call(&words(command, &BTreeMap::new()));
    }
    // Without EXEC the first one is still queueing.
    let mut client = server.raw();
    for key in ["short", "old"] {
        // One of the questions may be disabled; and the key may have no expiry, for lack of the command.
        wait_until("the key has expired", PATIENCE, || {
            let mut answers = ["PTTL", "PEXPIRETIME"].map(|question| client.call(&[question, key])).into_iter();
            answers.any(|answer| matches!(answer, Value::Integer(at) if at < 0))
        });
    }
    client.run("WBL.WAIT");
    state(&mut client)
}

fn state(client: &mut RawConnection) -> Vec<String> {
    STATE.iter().map(|command| format!("{command}: {:?}", client.call(&words(command, &BTreeMap::new())))).collect()
}
