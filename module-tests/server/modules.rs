//! Other modules: what they write, however they do it, is logged, waited for and recovered; and they may block clients,
//! too.

use crate::harness::{
    Cluster, FrozenDisk, Lever, PATIENCE, RawConnection, Scene, Server, ServerBuilder, Value, Version, dataset,
    each_lever, each_version, paths, resp::encode, wait_until,
};

/// Changes through the key API: the command, and the key that it changes.
const OWN_WRITES: &[&str] = &[
    "effects.value T:value 5 text",
    "effects.value T:other -1 \0\r\n",
    "effects.add T:value 37",
    "effects.string T:string written",
    "effects.fields T:hash field value",
    "effects.push T:list a",
    "effects.push T:list b",
    "effects.score T:sorted 1.5 member",
    "SET T:doomed value",
    "effects.remove T:doomed",
];

/// Commands that the module runs.
const CALLS: &[&str] = &[
    "effects.call SET T:called value PX 10000000",
    "effects.call SPOP T:members 2",
    "effects.call XADD T:stream * field value",
    "effects.call EVAL redis.call('INCR',KEYS[1])redis.call('RPUSH',KEYS[2],'x') 2 T:counter T:pushed",
    "effects.call XGROUP CREATE T:stream group 0",
    "effects.call XREADGROUP GROUP group reader STREAMS T:stream >",
    "effects.thread SET T:of-thread value",
    "effects.thread SPOP T:members",
    "effects.thread XADD T:stream * field other",
];

/// Whose event callback the module writes from.
const ECHOES: &[&str] = &[
    "SET echo:T value",
    "SET later:T value",
    "effects.string echo:T:own v",
    "INCR later:T:number",
    "SADD echo:T:set a b c d",
    "SPOP echo:T:set 2",
];

/// Commands with keys at whose prefix (@) the module does more.
const AT_A_PREFIX: &[&str] = &[
    "SET @a 1",
    "INCR @n",
    "INCRBY @n 3",
    "APPEND @s text",
    "MULTI",
    "SET @b 81",
    "SET other:@b 2",
    "EXEC",
    "MULTI",
    "SET @c 1 EX 1000",
    "INCR @d",
    "GETSET @e 3",
    "EXEC",
    "EVAL redis.call('SET',KEYS[1],'v')redis.call('INCR',KEYS[2]) 2 @f @g",
    "effects.call SET @h v",
    "effects.thread SET @i v",
    "effects.timer SET @timer v",
    "EXPIRE @a 1000",
];

/// What the module calls inside of a write that no event reports, and whose write that is.
const INSIDE: &[(&str, &str)] = &[
    ("limited", "CONFIG GET port"),
    ("limited", "SET k# v"),
    ("limited", "XACK y# g 1-1"),
    ("default", "SET k# v"),
    ("default", "XACK y# g 1-1"),
    ("default", "EVAL redis.call('XACK','y#','g','1-1') 0"),
];

each_version! {
    fn what_another_module_writes_is_recovered(version: Version) {
        for first in [true, false] {
            let mut server = builder(version, first).start();
            let mut client = server.raw();
            client.run("SADD T:members a b c d e f");
            for command in OWN_WRITES.iter().chain(CALLS).chain(ECHOES) {
                client.run(command);
            }
            client.run("effects.timer SET T:of-timer value");
            client.run("effects.timer XACK T:stream group 0-1");
            client.run("effects.timer RPUSH T:list of-timer");
            wait_until("the timers have run", PATIENCE, || client.run("LLEN T:list").integer() == 3);
            for unit in ["MULTI", "effects.add T:value 1", "effects.call INCR T:counter", "SET later:T:multi v", "EXEC"] {
                client.run(unit);
            }
            client.run("COPY T:value T:copied");
            client.run("COPY T:value T:copied DB 3");
            client.run("RENAME T:other T:renamed");
            let payload = client.run("DUMP T:value");
            let Value::Bulk(payload) = payload else { panic!("{payload:?}") };
            client.call(&[b"RESTORE", &b"T:restored"[..], b"0", &payload]);
            client.run("WBL.WAIT");
            let before = dataset::read(&mut server.raw());
            assert!(before.len() >= 18, "{before:?}");
            assert_eq!(client.run("SCARD echoes").integer(), 6);
            server.kill9_and_restart();
            dataset::assert_same(&dataset::read(&mut server.raw()), &before, "after kill -9");
            let value = server.raw().run("effects.get T:value");
            assert_eq!(value.items(), [Value::Integer(43), Value::Bulk(b"text".to_vec())]);

            // Values of the module's type in the base.
            server.raw().run("WBL.CHECKPOINT");
            server.raw().run("effects.add T:copied 1");
            dataset::assert_survives(&mut server, "after a checkpoint and kill -9");
        }
    }

    // The server's own clients for modules' calls keep the id of a client for which such a module has run a thread.
    fn calls_in_an_exec_under_the_id_of_one_that_was_refused_are_logged(version: Version) {
        for (first, last) in [(true, "PING"), (true, "SET T:own value"), (false, "PING"), (false, "SET T:own value")] {
            let builder = builder(version, first).allow_warning("the new maxmemory value set via CONFIG SET");
            let mut server = builder.start();
            let (mut control, mut refused, mut client) = (server.raw(), server.raw(), server.raw());
            refused.run("effects.thread SET T:of-thread value");
            ["MULTI", "RPUSH T:list refused"].iter().for_each(|command| drop(refused.run(command)));
            control.run("CONFIG SET maxmemory 1");
            refused.send_text("EXEC");
            let reply = refused.reply();
            assert!(reply.is_error(), "{reply:?}");
            control.run("CONFIG SET maxmemory 0");
            for command in ["MULTI", "effects.call RPUSH T:list called", last, "EXEC"] {
                client.run(command);
            }
            dataset::assert_survives(&mut server, "after kill -9");
            assert_eq!(server.raw().run("LRANGE T:list 0 -1").items(), [Value::Bulk(b"called".to_vec())]);
        }
    }

    // While a script runs long the server takes MULTI, refuses EXEC, and gives the id of such a client to others.
    fn a_transaction_that_a_busy_server_refused_is_not_part_of_the_next(version: Version) {
        for first in [true, false] {
            let builder = builder(version, first).set("busy-reply-threshold", "1").allow_warning("Slow script detected");
            let mut server = builder.allow_warning("Lua script").start();
            let (mut control, mut busy, mut client) = (server.raw(), server.raw(), server.raw());
            client.run("effects.thread SET T:of-thread value");
            ["MULTI", "SET T:refused value"].iter().for_each(|command| drop(client.run(command)));
            busy.send(&["EVAL", "while true do end", "0"]);
            wait_until("the server is busy", PATIENCE, || {
                control.send_text("GET T:none");
                control.reply().is_error()
            });
            client.send_text("EXEC");
            let reply = client.reply();
            assert!(reply.is_error(), "{reply:?}");
            client.run("MULTI");
            control.run("SCRIPT KILL");
            assert!(busy.reply().is_error());
            ["SET T:next value", "EXEC"].iter().for_each(|command| drop(client.run(command)));
            dataset::assert_survives(&mut server, "after kill -9");
        }
    }

    fn nothing_is_committed_inline_beside_other_modules(version: Version) {
        let mut server = ServerBuilder::with_module(version).set("wbl.commit-mode", "inline").in_memory().start();
        let mut client = server.raw();
        for (loads, mode) in [(false, "inline"), (true, "async")] {
            if loads {
                server.reconfigure(|builder| builder.load(&paths::test_module(version), false));
                server.kill9_and_restart();
                client = server.raw();
            }
            (0..100).for_each(|_| drop(client.run("INCR written")));
            assert_eq!(server.wbl_info("wbl_commit_mode"), mode, "their timers may let replies out");
        }
    }

    fn what_another_module_writes_at_the_end_of_a_unit_belongs_to_it(version: Version) {
        for first in [true, false] {
            let server = builder(version, first).start();
            let mut client = server.raw();
            client.run("SET other value");
            let units = |server: &Server| server.wbl_info("wbl_units").parse::<u64>().unwrap();
            let before = units(&server);
            client.run("SET later:T value");
            assert_eq!(client.run("SCARD echoes").integer(), 1);
            assert_eq!(units(&server), before + 1, "test module loaded first: {first}");
        }
    }

    fn a_silent_write_outlasts_what_is_called_inside_of_it(version: Version) {
        for first in [true, false] {
            let mut scene = Scene::of(builder(version, first)).with_lever(Lever::Sync);
            scene.prepare(&["ACL SETUSER limited on nopass ~* &* +@all -wbl.call"]);
            for (index, (user, call)) in INSIDE.iter().enumerate() {
                for stream in ["x", "y"] {
                    scene.prepare(&[
                        &format!("XADD {stream}{index} 1-1 f v"),
                        &format!("XGROUP CREATE {stream}{index} g 0"),
                        &format!("XREADGROUP GROUP g c STREAMS {stream}{index} >"),
                    ]);
                }
                let mut client = scene.server.raw();
                client.run(&format!("AUTH {user} any"));
                scene.prepare(&[&format!("effects.inside {}", call.replace('#', &index.to_string()))]);
                scene.freeze();
                scene.hold(&mut client, &format!("XACK x{index} g 1-1"));
                scene.thaw();
                assert_eq!(client.reply().integer(), 1, "{call} inside of {user}'s XACK");
            }
            let mut server = scene.end();
            dataset::assert_survives(&mut server, &format!("loaded first: {first}"));
        }
    }

    fn what_another_module_makes_of_a_command_or_adds_to_it_is_recovered(version: Version) {
        for first in [true, false] {
            let mut server = builder(version, first).start();
            let mut client = server.raw();
            for prefix in ["mapped:", "beside:", "again:", "undone:"] {
                for command in AT_A_PREFIX {
                    client.run(&command.replace('@', prefix));
                }
            }
            assert_eq!(client.run("GET to:n"), bulk("4"), "the filter has not changed it");
            wait_until("the timers have run", PATIENCE, || {
                client.run("EXISTS beside:timer again:timer mapped:timer").integer() == 3
            });
            dataset::assert_survives(&mut server, &format!("loaded first: {first}"));
        }
    }

    fn what_another_module_makes_of_a_command_is_dirty(version: Version) {
        for first in [true, false] {
            let mut scene = Scene::of(builder(version, first)).with_lever(Lever::Sync);
            scene.prepare(&["SET mapped:key old"]);
            scene.freeze();
            let mut writer = scene.held("SET mapped:key new");
            let (mut reader, mut other) = (scene.held("GET mapped:key"), scene.held("GET to:key"));
            scene.thaw();
            assert_eq!(writer.reply(), Value::Simple("OK".into()));
            [&mut reader, &mut other].into_iter().for_each(|client| assert_eq!(client.reply(), bulk("new")));
        }
    }

    fn what_another_module_reads_unseen_for_an_answer_waits(version: Version) {
        for first in [true, false] {
            let mut scene = Scene::of(builder(version, first)).with_lever(Lever::Sync);
            scene.prepare(&["SET T:key old", "SET T:other value"]);
            let mut readers = [scene.server.raw(), scene.server.raw()];
            // One has a command behind it that blocks it again.
            readers[0].send_text("effects.later T:key");
            readers[1].send_bytes(&[encode(&["effects.later", "T:key"]), encode(&["BLPOP", "T:none", "0"])].concat()).unwrap();
            scene.wait_blocked(2);
            scene.freeze();
            let mut writer = scene.held("SET T:key new");
            let mut other = scene.server.raw();
            other.send_text("effects.free T:other");
            for reader in &mut readers {
                scene.assert_withheld(reader, "an answer made when the change was not durable");
            }
            scene.thaw();
            writer.reply();
            assert_eq!(other.reply().integer(), 2);
            readers.iter_mut().for_each(|reader| assert_eq!(reader.reply(), bulk("new")));

            scene.freeze();
            let mut writer = scene.held("SET T:key newer");
            let mut reader = scene.held("effects.peek T:key");
            scene.thaw();
            writer.reply();
            assert_eq!(reader.reply(), bulk("newer"), "a key that the server is not told of");
        }
    }

    fn a_node_of_a_cluster_recovers_values_of_another_module(version: Version) {
        let builder = builder(version, false).allow_warning("Changing databases number").allow_warning("luster state");
        let mut cluster = Cluster::start(&builder);
        let mut first = cluster.connections().into_iter().next().unwrap();
        first.run("effects.value a 5 text");
        first.run("effects.call SET a2 v");
        let before = dataset::read(&mut first);
        cluster.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut cluster.nodes[0].raw()), &before, "after kill -9");
    }
}

each_lever! {
    fn replies_of_another_module_wait_for_the_disk(version: Version, lever: Lever) {
        for first in [true, false] {
            let server = builder(version, first).start();
            let mut control = server.raw();
            control.run("SADD T:members a b c d e f");
            for command in OWN_WRITES.iter().chain(CALLS).chain(ECHOES) {
                withheld(lever, &server, &mut control, command);
            }
        }
    }

    fn keys_that_another_module_writes_are_dirty(version: Version, lever: Lever) {
        let server = builder(version, true).start();
        let (mut control, mut client) = (server.raw(), server.raw());
        let disk = FrozenDisk::freeze(lever, &server, &mut control);
        client.send_text("effects.string key value");
        wait_until("the key is dirty", PATIENCE, || server.wbl_info("wbl_uncommitted_keys") == "1");
        disk.thaw(&mut control);
        assert_eq!(client.reply(), Value::Simple("OK".into()));
        wait_until("the key is clean", PATIENCE, || server.wbl_info("wbl_uncommitted_keys") == "0");
    }
}

fn bulk(text: &str) -> Value {
    Value::Bulk(text.into())
}

pub fn builder(version: Version, first: bool) -> ServerBuilder {
    ServerBuilder::with_module(version).in_memory().load(&paths::test_module(version), first)
}

/// The command's reply comes when the disk goes on and not before.
fn withheld(lever: Lever, server: &Server, control: &mut RawConnection, command: &str) {
    let mut client = server.raw();
    control.run("WBL.WAIT");
    let disk = FrozenDisk::freeze(lever, server, control);
    client.send_text(command);
    disk.assert_withheld(server, control, &mut client, command);
    disk.thaw(control);
    let reply = client.reply();
    assert!(!reply.is_error(), "{command}: {reply:?}");
}
