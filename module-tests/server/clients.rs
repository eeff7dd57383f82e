//! Clients that are killed, unblocked, limited or paused while their replies are held: nobody is told too early,
//! nothing is left behind, and no write is lost.

use crate::harness::server::info_field;
use crate::harness::{
    Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Value, Version, each_lever, each_version, wait_until,
};
use std::time::{Duration, Instant};

/// Commands whose replies are held while `dirty` is dirty, with the reply that comes in the end.
const HELD: &[(&str, &str)] = &[
    ("SET written 1", "+OK"),
    ("GET dirty", "\"v\""),
    ("SETNX dirty w", ":0"),
    ("SPOP set", "\"m\""),
    ("KEYS none", "[]"),
    (r#"EVAL "return redis.call('SET', KEYS[1], 'v')" 1 script"#, "+OK"),
    (r#"EVAL_RO "return redis.call('GET', KEYS[1])" 1 dirty"#, "\"v\""),
    ("XREAD COUNT 1 BLOCK 0 STREAMS s 0", r#"[["s", [["1-1", ["f", "v"]]]]]"#),
    ("XREADGROUP GROUP g c COUNT 1 BLOCK 0 STREAMS s >", r#"[["s", [["1-1", ["f", "v"]]]]]"#),
    ("BLPOP list 0", r#"["list", "a"]"#),
    ("FUNCTION LIST", "[]"),
];

each_lever! {
    fn held_clients_that_are_killed_or_leave_do_no_harm(version: Version, lever: Lever) {
        for threads in ["1", "4"] {
            let mut scene = Scene::of(ServerBuilder::with_module(version).set("io-threads", threads)).with_lever(lever);
            for leave in ["killed", "gone", "killed and gone", "all killed"] {
                let mut clients = hold_all(&mut scene);
                for (_, id) in clients.iter().filter(|_| leave.starts_with("killed")) {
                    assert_eq!(scene.answer(&format!("CLIENT KILL ID {id}")).integer(), 1, "{leave}");
                }
                if leave == "all killed" {
                    let killed = scene.control.run("CLIENT KILL TYPE normal").integer();
                    assert!(killed >= clients.len() as i64, "{killed} killed");
                }
                if leave.ends_with("gone") {
                    clients.clear();
                }
                // Without their clients, the changes are still hidden.
                let mut reader = scene.held("GET written");
                scene.thaw();
                assert_eq!(reader.reply().text(), "1");
                for (client, id) in &mut clients {
                    let reply = client.try_reply();
                    assert!(reply.is_err(), "{leave}: client {id} was answered {reply:?}");
                }
                scene.assert_idle();
                scene.wait_blocked(0);
            }
            assert_changes_survive(scene);
        }
    }

    fn client_unblock_does_not_end_a_wait_for_the_disk(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let mut clients = hold_all(&mut scene);
        for (index, (client, id)) in clients.iter_mut().enumerate() {
            for way in ["TIMEOUT", "ERROR"] {
                let unblocked = scene.answer(&format!("CLIENT UNBLOCK {id} {way}"));
                assert_eq!(unblocked, Value::Integer(0), "{way}: {}", HELD[index].0);
                scene.assert_withheld(client, HELD[index].0);
            }
        }
        scene.thaw();
        assert_answered(&mut clients);
        scene.assert_idle();
        scene.wait_blocked(0);
        assert_changes_survive(scene);
    }

    // While all are paused nobody can free the durable position; the end of the pause lets RESUME through.
    fn a_pause_of_all_clients_ends_before_held_replies_leave(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let mut clients = hold_all(&mut scene);
        scene.control.run("CLIENT PAUSE 50 ALL");
        scene.thaw();
        assert_answered(&mut clients);
        scene.assert_idle();
        scene.wait_blocked(0);
        assert_changes_survive(scene);
    }

    fn a_held_client_behind_its_output_limit_is_closed_and_its_write_kept(version: Version, lever: Lever) {
        for threads in ["1", "4"] {
            let limits = ["normal", "100000", "0", "0"];
            let builder = ServerBuilder::with_module(version).set("io-threads", threads);
            let builder = builder.allow_warning("overcoming of output buffer limits");
            let mut scene = Scene::of(builder.set_words("client-output-buffer-limit", &limits)).with_lever(lever);
            let large = "x".repeat(1 << 20);
            assert!(!scene.control.call(&["SET", "large", &large]).is_error());
            assert!(!scene.control.call(&["SET", "small", "s"]).is_error());
            scene.control.run("WBL.WAIT");
            scene.freeze();
            let mut toucher = scene.held("APPEND large y");
            let mut small = scene.held("SET small t GET");
            let mut clients = ["GET large", "MGET large small", "SET large z GET"].map(|command| {
                let mut client = scene.server.raw();
                client.send_text(command);
                scene.assert_withheld(&mut client, command);
                client
            });
            scene.thaw();
            for client in &mut clients {
                let reply = client.try_reply();
                assert!(reply.is_err(), "{} bytes were sent", client.last_bytes().len());
            }
            assert_eq!(toucher.reply().integer(), large.len() as i64 + 1);
            assert_eq!(small.reply().text(), "s");
            scene.assert_idle();
            scene.wait_blocked(0);
            let mut server = scene.end();
            server.kill9_and_restart();
            assert_eq!(server.raw().run("MGET large small").items(), [bulk("z"), bulk("t")]);
        }
    }

    // What docs/limits.md says about query buffers.
    fn what_held_clients_send_is_counted_and_limited(version: Version, lever: Lever) {
        let builder = ServerBuilder::with_module(version).set("client-query-buffer-limit", "1mb");
        let mut scene = Scene::of(builder.allow_warning("max query buffer length")).with_lever(lever);
        scene.prepare(&["SET clean c"]);
        let part = "x".repeat(64 << 10);
        let memory = |scene: &mut Scene| {
            let bytes = info_field(&mut scene.control, "memory", "mem_clients_normal").expect("a field of INFO");
            bytes.parse::<usize>().expect("a number")
        };
        scene.freeze();
        let (mut below, mut beyond) = (scene.held("SET below 1"), scene.held("SET beyond 1"));
        assert_eq!(scene.answer("GET clean").text(), "c", "the loop does not wait");
        let before = memory(&mut scene);
        (0..4).for_each(|_| below.send(&["APPEND", "parts", &part]));
        wait_until("what a held client sends is counted", PATIENCE, || memory(&mut scene) > before + 3 * part.len());
        // The server may close the connection before all has been sent.
        let _ = (0..64).try_for_each(|_| beyond.try_send(&["APPEND", "more", &part]));
        wait_until("the connection is closed", PATIENCE, || beyond.received_nothing().is_err());
        assert!(beyond.try_reply().is_err(), "{} bytes were sent", beyond.last_bytes().len());
        scene.assert_withheld(&mut below, "SET");
        scene.thaw();
        assert_eq!(below.reply(), Value::Simple("OK".into()));
        (1..=4).for_each(|count| assert_eq!(below.reply().integer(), count * part.len() as i64));
        scene.assert_idle();
        scene.wait_blocked(0);
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("MGET below beyond more").items(), [bulk("1"), bulk("1"), Value::Null]);
        assert_eq!(server.raw().run("STRLEN parts").integer(), 4 * part.len() as i64);
    }

    fn held_clients_count_as_clients_until_they_leave(version: Version, lever: Lever) {
        let mut scene = Scene::of(ServerBuilder::with_module(version).set("maxclients", "14")).with_lever(lever);
        let clients = hold_all(&mut scene);
        let refused = "-ERR max number of clients reached";
        let mut others = Vec::new();
        wait_until("the server has all its clients", PATIENCE, || {
            let mut other = scene.server.raw();
            // A client that is refused may find its connection closed before it has sent anything.
            let _ = other.send_bytes(&crate::harness::resp::encode(&["PING"]));
            let reply = format!("{:?}", other.try_reply().expect("an answer of either kind"));
            others.push(other);
            reply == refused
        });
        assert!(others.len() <= 3, "{} more clients", others.len());
        drop(others);
        drop(clients);
        wait_until("the held clients have left", PATIENCE, || {
            info_field(&mut scene.control, "clients", "connected_clients").as_deref() == Some("1")
        });
        let mut writer = scene.held("SET after 1");
        scene.thaw();
        assert_eq!(writer.reply(), Value::Simple("OK".into()));
        scene.assert_idle();
        scene.wait_blocked(0);
        assert_changes_survive(scene);
    }
}

each_version! {
    // The server frees all clients that have gone whenever it lets others in. Only a pause lets clients in while the
    // loop waits.
    fn a_pause_lets_nobody_in_while_a_client_is_freed(version: Version) {
        let builder = ServerBuilder::with_module(version).set("io-threads", "2");
        let mut server = builder.allow_warning("the new maxmemory value set via CONFIG SET").start();
        let (mut control, mut writer, mut limited, mut gone) = (server.raw(), server.raw(), server.raw(), server.raw());
        control.run("ACL SETUSER limited on >x +@all -wbl.call -wbl.read -wbl.eval -wbl.eval_ro ~*");
        limited.run("AUTH limited x");
        gone.run("PING");
        control.run("WBL.DEBUG PAUSE");
        writer.send_text("SET dirty value");
        wait_until("the key is dirty", PATIENCE, || server.wbl_info("wbl_uncommitted_keys") == "1");
        control.run("CONFIG SET maxmemory 1");
        // Both in one iteration: a command that is refused after it was announced, and the end of a client.
        server.in_one_iteration(|| {
            limited.send_text("SET dirty other GET");
            drop(gone);
        });
        control.run("WBL.DEBUG RESUME");
        let refused = limited.reply();
        assert!(refused.is_error(), "{refused:?}");
        assert_eq!(writer.reply(), Value::Simple("OK".into()));
        server.assert_running();
    }
}

each_lever! {
    fn a_pause_of_clients_does_not_lose_held_replies(version: Version, lever: Lever) {
        let mut scene = Scene::start(version).with_lever(lever);
        let mut clients = hold_all(&mut scene);
        // Only the durable position reports when they leave.
        scene.control.run("CLIENT PAUSE 600000 WRITE");
        let mut late = scene.server.raw();
        late.send_text("SET late 1");
        scene.assert_withheld(&mut late, "a writer behind the pause");
        scene.thaw();
        assert_answered(&mut clients);
        scene.wait_blocked(1);
        scene.assert_withheld(&mut late, "a writer behind the pause");
        let mut admin = scene.server.raw();
        scene.freeze();
        admin.send_text("CLIENT UNPAUSE");
        scene.settle();
        scene.assert_withheld(&mut late, "a writer of what is not durable");
        scene.thaw();
        assert_eq!(admin.reply(), Value::Simple("OK".into()));
        assert_eq!(late.reply(), Value::Simple("OK".into()));
        assert_changes_survive(scene);
    }
}

each_lever! {
    // Such a command passes the filter before the pause, and runs after it without passing it again.
    fn a_pause_that_makes_a_transactions_bounds_wait_hides_nothing(version: Version, lever: Lever) {
        for bound in ["MULTI", "DISCARD", "RESET"] {
            let mut scene = Scene::start(version).with_lever(lever);
            scene.prepare(&["SET k old"]);
            let mut client = scene.server.raw();
            if bound != "MULTI" {
                client.run("MULTI");
                client.run("SET other v");
            }
            scene.control.run("CLIENT PAUSE 200 ALL");
            client.send_text(bound);
            // Its PING is looked at while the other command waits.
            scene.server.raw().run("PING");
            assert!(!client.reply().is_error(), "{bound}");
            let unpaused = Instant::now();
            // Until then whatever anybody sends is waited for.
            wait_until("the pause is forgotten", PATIENCE, || {
                unpaused.elapsed() > Duration::from_millis(2500) && scene.control.run("PING") != Value::Null
            });
            if bound == "MULTI" {
                assert_eq!(client.run("GET k").text(), "QUEUED");
                let script = ["EVAL", "return redis.call('GET', KEYS[1])", "1", "k"];
                assert_eq!(client.call(&script).text(), "QUEUED");
            }
            scene.freeze();
            let mut writer = scene.held("SET k new");
            scene.hidden(&mut client, if bound == "MULTI" { "EXEC" } else { "GET k" });
            scene.thaw();
            let expected = if bound == "MULTI" { "[\"new\", \"new\"]" } else { "\"new\"" };
            assert_eq!(format!("{:?}", client.reply()), expected, "{bound}");
            assert_eq!(writer.reply(), Value::Simple("OK".into()));
            scene.end();
        }
    }
}

/// Clients with their ids that wait for the disk in every way there is.
fn hold_all(scene: &mut Scene) -> Vec<(RawConnection, i64)> {
    scene.prepare(&["FLUSHALL", "SADD set m", "XGROUP CREATE s g 0 MKSTREAM"]);
    let mut clients = Vec::new();
    scene.wait_blocked(0);
    for (command, _) in HELD {
        let mut client = scene.server.raw();
        let id = client.run("CLIENT ID").integer();
        if command.starts_with("BLPOP") {
            client.send_text(command);
            scene.wait_blocked(1);
        }
        clients.push((client, id));
    }
    scene.freeze();
    for change in ["SET dirty v", "XADD s 1-1 f v", "RPUSH list a", "FUNCTION FLUSH"] {
        scene.held(change);
    }
    for ((client, _), (command, _)) in clients.iter_mut().zip(HELD) {
        if command.starts_with("BLPOP") {
            scene.assert_withheld(client, command);
        } else {
            scene.hold(client, command);
        }
    }
    clients
}

fn assert_answered(clients: &mut [(RawConnection, i64)]) {
    for ((client, _), (command, expected)) in clients.iter_mut().zip(HELD) {
        assert_eq!(format!("{:?}", client.reply()), *expected, "{command}");
    }
}

fn assert_changes_survive(mut scene: Scene) {
    scene.assert_idle();
    let mut server = scene.end();
    let before = crate::harness::dataset::read(&mut server.raw());
    server.kill9_and_restart();
    crate::harness::dataset::assert_same(&crate::harness::dataset::read(&mut server.raw()), &before, "after kill -9");
    assert_eq!(server.raw().run("EXISTS dirty written script list set").integer(), 3);
}

fn bulk(text: &str) -> Value {
    Value::Bulk(text.into())
}
