//! The main thread makes the log durable itself (`wbl.commit-mode`): no reply leaves earlier than otherwise, and what
//! speaks against it is obeyed.

use crate::harness::resp::encode;
use crate::harness::scene::split;
use crate::harness::server::info_field;
use crate::harness::{Lever, PATIENCE, RawConnection, Scene, ServerBuilder, Value, Version, each_version, wait_until};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Long enough for the server to see that nobody writes.
const REST: &str = "DEBUG SLEEP 0.08";

/// What a client may send at once, and what it gets.
const PACKETS: &[(&str, &str)] = &[
    ("SET k 1; GET k; GET clean", "[+OK, \"1\", \"c\"]"),
    ("GET clean; SET j 2; SETNX k 2; STRLEN j", "[\"c\", +OK, :0, :1]"),
    ("MULTI; INCR n; GET k; EXEC; INCR n", "[+OK, +QUEUED, +QUEUED, [:1, \"1\"], :2]"),
    ("EVAL \"redis.call('INCR','n') return redis.call('GET','clean')\" 0", "[\"c\"]"),
    ("GETSET k 3; SADD set a; SPOP set; XACK none g 1-1", "[\"1\", :1, \"a\", :0]"),
    (
        "FLUSHALL; DBSIZE; RPUSH l a b; BLPOP l 0; NOSUCH",
        "[+OK, :0, :2, [\"l\", \"a\"], -ERR unknown command 'NOSUCH', with args beginning with: ]",
    ),
];

fn builder(version: Version) -> ServerBuilder {
    ServerBuilder::with_module(version).set("wbl.commit-mode", "inline")
}

fn send(client: &mut RawConnection, packet: &str) -> usize {
    let commands: Vec<&str> = packet.split("; ").collect();
    let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(&split(command))).collect();
    client.send_bytes(&bytes).expect("the server takes the commands");
    commands.len()
}

fn mode(client: &mut RawConnection) -> String {
    info_field(client, "wbl", "wbl_commit_mode").expect("a field of INFO")
}

/// Writes until the mode is this one.
fn write_until(client: &mut RawConnection, wanted: &str) {
    let began = Instant::now();
    while mode(client) != wanted {
        (0..50).for_each(|_| drop(client.run("INCR written")));
        assert!(began.elapsed() < PATIENCE, "the mode is not {wanted}");
    }
}

/// Fails when the reply `:7777` to the client's INCR leaves with the output that is left, before it is durable.
fn assert_reply_stays(scene: &mut Scene, client: &mut RawConnection) {
    let mut sleeper = scene.server.raw();
    scene.freeze_by(Lever::Sync);
    // Both the write and the room for more output are there when the sleep ends.
    sleeper.send_text("DEBUG SLEEP 0.2");
    client.send_text("INCR n");
    let shown = client.drain(Duration::from_millis(500));
    scene.thaw();
    let is_reply = |bytes: &[u8]| bytes.windows(5).any(|bytes| bytes == b":7777");
    assert!(!is_reply(&shown), "the reply left before it was durable");
    assert!(is_reply(&client.drain(Duration::from_millis(200))), "the client got its reply");
}

/// A client whose GETs the module looks at, because it writes as well.
fn reader_and_writer(scene: &Scene) -> RawConnection {
    let mut client = scene.server.raw();
    for _ in 0..3 {
        let count = send(&mut client, "GET value; SET mine v");
        (0..count).for_each(|_| drop(client.reply()));
    }
    client
}

/// The length of a value that a socket takes in two parts.
const LARGE: usize = 350_000;

/// Fails when a reply leaves with what is left of a large value. A client that reads and writes, and knows `value` as a
/// short one, is shown the large one and then increments `n`.
fn assert_stays_behind_large_value(version: Version, show: fn(&mut RawConnection, &mut RawConnection)) {
    let mut scene = Scene::of(builder(version));
    scene.control.call(&["SET", "large", &"x".repeat(LARGE)]);
    scene.prepare(&["SET n 7775", "SET value short"]);
    let mut client = reader_and_writer(&scene);
    let id = client.run("CLIENT ID").integer();
    show(&mut client, &mut scene.server.raw());
    wait_until("output is left", PATIENCE, || {
        scene.control.run(&format!("CLIENT LIST ID {id}")).text().contains(" events=rw")
    });
    assert_reply_stays(&mut scene, &mut client);
}

each_version! {
    fn checkpoints_end_beside_an_inline_writer(version: Version) {
        let server = builder(version).start();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut client = server.raw();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    client.run("INCR n");
                }
            });
            let mut control = server.raw();
            let outcomes: Vec<Value> = (0..10).map(|_| control.run("WBL.CHECKPOINT")).collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(outcomes.iter().all(|outcome| !outcome.is_error()), "{outcomes:?}");
        });
    }
}

each_version! {
    fn inline_replies_leave_when_their_flush_has_ended(version: Version) {
        let mut scene = Scene::of(builder(version)).with_lever(Lever::Sync);
        scene.prepare(&["SET clean c"]);
        for (packet, expected) in PACKETS {
            assert_eq!(mode(&mut scene.control), "inline");
            let mut client = scene.server.raw();
            client.run("PING");
            scene.freeze();
            let count = send(&mut client, packet);
            scene.assert_withheld(&mut client, packet);
            scene.thaw();
            let replies: Vec<Value> = (0..count).map(|_| client.reply()).collect();
            assert_eq!(format!("{replies:?}"), *expected, "{packet}");
        }
        assert!(scene.gauge("wbl_inline_commits") >= PACKETS.len() as i64);
        assert_eq!(scene.gauge("wbl_write_blocked_count"), 1, "only the script's reply is held");
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(format!("{:?}", server.raw().run("LRANGE l 0 -1")), "[\"b\"]");
    }

    fn output_left_from_before_takes_no_inline_reply_along(version: Version) {
        let mut scene = Scene::of(builder(version));
        scene.control.call(&["SET", "value", &"x".repeat(16_000)]);
        scene.prepare(&["SET n 7776"]);
        let mut client = scene.server.raw();
        let id = client.run("CLIENT ID").integer();
        wait_until("output is left", PATIENCE, || {
            client.send_text("GET value");
            scene.control.run(&format!("CLIENT LIST ID {id}")).text().contains(" events=rw")
        });
        assert_reply_stays(&mut scene, &mut client);
    }

    fn output_left_from_short_values_takes_no_inline_reply_along(version: Version) {
        let mut scene = Scene::of(builder(version));
        scene.control.call(&["SET", "value", &"x".repeat(400)]);
        scene.prepare(&["SET n 7776"]);
        let mut client = reader_and_writer(&scene);
        let id = client.run("CLIENT ID").integer();
        wait_until("output is left", PATIENCE, || {
            (0..100).for_each(|_| client.send_text("GET value"));
            scene.control.run(&format!("CLIENT LIST ID {id}")).text().contains(" events=rw")
        });
        assert_reply_stays(&mut scene, &mut client);
    }

    // Servers from 9.0 on do not count a large value among what waits to be sent.
    fn a_large_value_that_is_left_takes_no_inline_reply_along(version: Version) {
        assert_stays_behind_large_value(version, |client, _| {
            send(client, "GET large; INCR n");
        });
    }

    fn nor_does_one_of_another_database(version: Version) {
        assert_stays_behind_large_value(version, |client, control| {
            control.run("SELECT 1");
            control.call(&["SET", "value", &"x".repeat(LARGE)]);
            control.run("SET n 7775");
            for command in ["SELECT 1", "SET mine v", "SET mine v"] {
                client.run(command);
            }
            send(client, "GET value; INCR n");
        });
    }

    fn nor_does_one_that_is_short_when_its_get_is_queued(version: Version) {
        assert_stays_behind_large_value(version, |client, control| {
            client.run("MULTI");
            client.run("GET value");
            control.call(&["SET", "value", &"x".repeat(LARGE)]);
            send(client, "EXEC; INCR n");
        });
    }

    fn whether_a_client_that_reads_and_writes_has_output_left_is_seldom_asked(version: Version) {
        let mut scene = Scene::of(builder(version));
        let mut client = reader_and_writer(&scene);
        scene.control.run("CONFIG RESETSTAT");
        for _ in 0..300 {
            let count = send(&mut client, "GET value; GET none; GET value; SET mine v");
            (0..count).for_each(|_| drop(client.reply()));
        }
        let asked = info_field(&mut scene.control, "commandstats", "cmdstat_client|list");
        let asked = asked.unwrap_or_default();
        let times = asked.strip_prefix("calls=").and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0);
        assert!(times < 30, "{asked}");
        scene.end();
    }

    fn a_half_closed_client_gets_its_inline_reply(version: Version) {
        let mut server = builder(version).start();
        let mut stream = UnixStream::connect(server.socket()).expect("a connection");
        stream.write_all(b"SET a 1\r\nINCR a\r\n").expect("the server takes the commands");
        stream.shutdown(Shutdown::Write).expect("an end of input");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer");
        server.kill9_and_restart();
        assert_eq!((answer.as_str(), server.raw().run("GET a").text().as_str()), ("+OK\r\n:2\r\n", "2"));
    }

    fn auto_turns_inline_on_quick_disks_until_a_flush_is_slow(version: Version) {
        let mut scene = Scene::of(builder(version).set("wbl.commit-mode", "auto")).with_lever(Lever::Sync);
        assert_eq!(mode(&mut scene.control), "async");
        write_until(&mut scene.control, "inline");
        let mut client = scene.server.raw();
        scene.freeze();
        client.send_text("SET k 1");
        scene.assert_withheld(&mut client, "SET");
        scene.thaw();
        assert_eq!(client.reply(), Value::Simple("OK".into()));
        assert_eq!(mode(&mut scene.control), "async");
        // Nobody else waits for the disk from here on.
        scene.freeze();
        client.send_text("SET k 2");
        scene.assert_withheld(&mut client, "SET");
        assert_eq!(scene.answer("EXISTS written").integer(), 1);
        scene.thaw();
        assert_eq!(client.reply(), Value::Simple("OK".into()));
        write_until(&mut scene.control, "inline");
        scene.end();
    }

    fn a_server_that_has_rested_has_nobody_else_wait_for_the_disk(version: Version) {
        let mut scene = Scene::of(builder(version).set("wbl.commit-mode", "auto")).with_lever(Lever::Sync);
        write_until(&mut scene.control, "inline");
        let mut client = scene.server.raw();
        // Two flushes of a server at rest.
        for _ in 0..2 {
            scene.control.run(REST);
            scene.freeze();
            client.send_text("SET k 1");
            scene.assert_withheld(&mut client, "SET");
            assert_eq!(scene.answer("EXISTS written").integer(), 1);
            assert_eq!(mode(&mut scene.control), "async");
            scene.thaw();
            assert_eq!(client.reply(), Value::Simple("OK".into()));
            write_until(&mut scene.control, "inline");
        }
        scene.end();
    }

    fn what_speaks_against_inline_turns_async(version: Version) {
        let mut server = builder(version).in_memory().start();
        let mut control = server.raw();
        write_until(&mut control, "inline");
        for (begin, end) in [
            ("WBL.DEBUG PAUSE", "WBL.DEBUG RESUME"),
            ("WBL.DEBUG SYNC HOLD", "WBL.DEBUG SYNC RELEASE"),
            ("CONFIG SET wbl.commit-mode async", "CONFIG SET wbl.commit-mode inline"),
        ] {
            control.run(begin);
            let mut writer = server.raw();
            writer.send_text("SET k 1");
            assert_eq!((mode(&mut control).as_str(), control.run("PING").text().as_str()), ("async", "PONG"), "{begin}");
            control.run(end);
            assert_eq!(writer.reply(), Value::Simple("OK".into()));
            write_until(&mut control, "inline");
        }
        server.reconfigure(|builder| builder.set("io-threads", "4"));
        server.kill9_and_restart();
        let mut control = server.raw();
        (0..100).for_each(|_| drop(control.run("INCR written")));
        assert_eq!(mode(&mut control), "async", "replies are sent by other threads");
    }
}
