//! What a replica logs as the resulting state of keys, because the command itself can't be logged, or because something
//! else has changed a key meanwhile: it stands for everything that was changed, and for no more than it has to.

use crate::harness::group::{Group, builder, replica_of, wait_durable, wait_in_sync};
use crate::harness::ports::free_ports;
use crate::harness::resp::encode;
use crate::harness::server::info_field;
use crate::harness::{
    PATIENCE, Random, RawConnection, Server, ServerBuilder, Version, dataset, each_version, wait_until,
};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// The source of a library.
fn library(answer: u32) -> String {
    format!("#!lua name=lib\nserver.register_function('f', function() return {answer} end)")
}

/// Has the replica make room from now on: it has as much memory as it uses.
fn limit_memory(own: &mut RawConnection) {
    let used = info_field(own, "memory", "used_memory").expect("in INFO");
    own.run(&format!("CONFIG SET maxmemory {used}"));
}

fn evicted(own: &mut RawConnection) -> u64 {
    info_field(own, "stats", "evicted_keys").expect("in INFO").parse().unwrap()
}

/// The log of the only replica has not begun anew, and has what memory has.
fn assert_followed(group: &mut Group, generation: &str) {
    let expected = dataset::read(&mut group.nodes[1].raw());
    assert_eq!(group.nodes[1].wbl_info("wbl_log_generation"), generation);
    group.nodes.iter_mut().for_each(Server::kill9);
    group.nodes[1].start();
    dataset::assert_same(&dataset::read(&mut group.nodes[1].raw()), &expected, "the replica's own log");
}

/// A primary that is no server: answers a replica that it has this dataset, of so many bytes. Returns the connection.
pub fn accept_replica(listener: &TcpListener, rdb: &[u8], bytes: usize) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the replica has gone");
        match line.trim_end().to_ascii_uppercase().as_str() {
            "PING" => stream.write_all(b"+PONG\r\n").unwrap(),
            "REPLCONF" => stream.write_all(b"+OK\r\n").unwrap(),
            "PSYNC" => {
                write!(stream, "+FULLRESYNC {} 0\r\n${}\r\n", "a".repeat(40), bytes).unwrap();
                stream.write_all(rdb).unwrap();
                return stream;
            }
            _ => {}
        }
    }
}

each_version! {
    fn functions_that_change_beside_what_is_logged_as_images_come_back(version: Version) {
        for change in [&["FUNCTION", "LOAD", "REPLACE", &library(2)][..], &["FUNCTION", "DELETE", "lib"], &["FUNCTION", "FLUSH"]] {
            let mut group = Group::start(version, 1, &[]);
            let mut client = group.primary().raw();
            client.call(&["FUNCTION", "LOAD", &library(1)]);
            client.run("SET a v");
            group.wait_equal(1);
            let generation = group.nodes[1].wbl_info("wbl_log_generation");
            for command in [&["MULTI"][..], &["COPY", "a", "b", "DB", "5"], change, &["EXEC"]] {
                assert!(!client.call(command).is_error(), "{command:?}");
            }
            group.wait_equal(1);
            assert_followed(&mut group, &generation);
        }
    }

    fn databases_that_are_emptied_beside_what_is_logged_as_images_begin_a_log_anew(version: Version) {
        for change in ["FLUSHDB", "FLUSHALL", "SWAPDB 0 5"] {
            let mut group = Group::start(version, 1, &[]);
            let mut client = group.primary().raw();
            ["SET a v", "SET other v"].iter().for_each(|command| drop(client.run(command)));
            group.wait_equal(1);
            for command in ["MULTI", "COPY a b DB 5", change, "SET new v", "EXEC"] {
                assert!(!client.run(command).is_error(), "{command}");
            }
            wait_until("it says so", PATIENCE, || group.nodes[1].log().contains("can't follow the primary"));
            wait_until("its log begins anew", PATIENCE, || group.nodes[1].wbl_info("wbl_replica_log") == "written");
            group.wait_equal(1);
            let generation = group.nodes[1].wbl_info("wbl_log_generation");
            assert_followed(&mut group, &generation);
        }
    }

    fn a_key_that_is_evicted_has_no_other_logged_whole(version: Version) {
        let settings = [("replica-ignore-maxmemory", "no"), ("maxmemory-policy", "volatile-random"), ("wbl.checkpoint-percentage", "0")];
        let mut group = Group::start(version, 1, &settings);
        let mut client = group.primary().raw();
        let (value, element) = ("v".repeat(1000), "e".repeat(5000));
        (0..500).for_each(|number| drop(client.call(&["SET", &format!("v{number}"), &value, "EX", "100000"])));
        // Its image has a megabyte.
        let mut random = Random::new(1);
        for _ in 0..200 {
            let element: String = element.chars().map(|_| char::from(b'!' + random.below(90) as u8)).collect();
            client.call(&["RPUSH", "big", &element]);
        }
        group.wait_equal(1);
        let generation = group.nodes[1].wbl_info("wbl_log_generation");
        let logged = |node: &Server| node.wbl_info("wbl_log_bytes").parse::<u64>().unwrap();
        let mut own = group.nodes[1].raw();
        limit_memory(&mut own);
        let before = logged(&group.nodes[1]);
        for number in 0..200 {
            client.call(&["SET", &format!("w{number}"), &value]);
            client.run("LSET big 0 small");
        }
        group.wait_all(1);
        let (evicted, grown) = (evicted(&mut own), logged(&group.nodes[1]) - before);
        assert!(evicted > 50, "{evicted}");
        assert!(grown < 1_000_000, "{grown} bytes for {evicted} evictions");
        own.run("CONFIG SET maxmemory 0");
        assert_followed(&mut group, &generation);
    }

    // Servers before version 7 may send them.
    fn what_a_primarys_scripts_do_without_events_is_logged(version: Version) {
        let mut source = ServerBuilder::stock(version).start();
        let mut client = source.raw();
        for command in ["XADD s 1-1 f v", "XGROUP CREATE s g 0", "XREADGROUP GROUP g c STREAMS s >", "SAVE"] {
            client.run(command);
        }
        let rdb = fs::read(source.folder().join("dump.rdb")).unwrap();
        source.kill9();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let [port] = free_ports();
        let base = builder(version, port, None);
        let mut replica = replica_of(base, listener.local_addr().unwrap().port()).start();
        let mut primary = accept_replica(&listener, &rdb, rdb.len());
        wait_in_sync(&replica);
        wait_until("its log is there", PATIENCE, || replica.wbl_info("wbl_replica_log") == "written");
        let generation = replica.wbl_info("wbl_log_generation");
        // It names no key.
        let script = "redis.call('XACK', 's', 'g', '1-1') redis.call('SET', 'done', 1)";
        for command in [&["SELECT", "0"][..], &["EVAL", script, "0"]] {
            primary.write_all(&encode(command)).unwrap();
        }
        let mut own = replica.raw();
        wait_until("it has run", PATIENCE, || own.run("EXISTS done").integer() == 1);
        assert_eq!(own.run("XPENDING s g").items()[0].integer(), 0);
        wait_durable(&replica);
        let expected = dataset::read(&mut own);
        assert_eq!(replica.wbl_info("wbl_log_generation"), generation);
        replica.kill9();
        replica.start();
        dataset::assert_same(&dataset::read(&mut replica.raw()), &expected, "the replica's own log");
    }
}
