//! `wbl.io-mode`: segments that are written past the page cache.

use crate::harness::{Injection, PATIENCE, Server, ServerBuilder, Strace, Version, each_version, wait_until};
use std::fs;
use std::process::Command;
use std::time::Duration;

const CONNECTIONS: usize = 4;

fn direct(version: Version) -> ServerBuilder {
    ServerBuilder::with_module(version)
        .set("wbl.io-mode", "direct")
        .set("wbl.segment-bytes", "64kb")
        .set("wbl.max-inflight-flushes", "4")
}

/// All that the segments hold.
fn segments(server: &Server) -> Vec<u8> {
    let entries = fs::read_dir(server.log_folder()).unwrap().map(|entry| entry.unwrap().path());
    let segments = entries.filter(|path| path.to_str().unwrap().ends_with(".incr.aof"));
    // One may be gone by now.
    segments.flat_map(|path| fs::read(path).unwrap_or_default()).collect()
}

/// Whether frames have been written that end with a block, as only frames past the page cache do.
fn has_padded_frames(server: &Server) -> bool {
    segments(server).windows(4).any(|bytes| bytes == b"+J\n*" || bytes == b"+M\n*")
}

/// Writes from several connections at a time until frames are padded; returns how many keys each has set.
fn fill(server: &Server) -> usize {
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| server.raw()).collect();
    let mut count = 0;
    wait_until("frames are written past the page cache", PATIENCE, || {
        for number in count..count + 100 {
            for (name, client) in clients.iter_mut().enumerate() {
                client.send(&["SET", &format!("key:{name}:{number}"), &"v".repeat(100)]);
            }
            for client in &mut clients {
                assert_eq!(client.reply().text(), "OK");
            }
        }
        count += 100;
        has_padded_frames(server)
    });
    count
}

each_version! {
    fn what_was_written_directly_is_recovered_and_stock_tools_read_it(version: Version) {
        let mut server = direct(version).start();
        assert_eq!(server.wbl_info("wbl_io_mode"), "buffered", "the first segment is never written ahead");
        let first = fill(&server) * CONNECTIONS;
        assert_eq!(server.wbl_info("wbl_io_mode"), "direct", "the folder for tests is on a file system that can do that");
        server.kill9_and_restart();
        assert_eq!(server.raw().run("DBSIZE").integer() as usize, first);
        // FLUSHALL would log the functions, whose dump has a zero.
        server.raw().run("FLUSHDB");
        let count = fill(&server) * CONNECTIONS;
        server.stop();
        assert!(has_padded_frames(&server) && !segments(&server).contains(&0));
        let manifest = server.log_folder().join("appendonly.aof.manifest");
        let checker = server.version().program("valkey-check-aof");
        let checked = Command::new(checker).arg(&manifest).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        let stock = ServerBuilder::stock(version).set("appendonly", "yes").set("appenddirname", "wbl");
        let mut stock = stock.set("appendfilename", "appendonly.aof").prepare();
        fs::create_dir(stock.log_folder()).unwrap();
        for entry in fs::read_dir(server.log_folder()).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), stock.log_folder().join(entry.file_name())).unwrap();
        }
        stock.start();
        assert_eq!(stock.raw().run("DBSIZE").integer() as usize, count);
    }

    fn a_direct_write_is_durable_when_it_returns(version: Version) {
        let server = direct(version).start();
        fill(&server);
        let strace = Strace::attach(server.process_id(), Injection::Delay(Duration::from_micros(1)));
        wait_until("a flush writes past the page cache", PATIENCE, || {
            fill(&server);
            strace.calls().contains("pwritev2")
        });
        let calls = strace.calls();
        let written = calls.lines().filter(|line| line.contains("pwritev2(") && line.contains("iov_base"));
        written.for_each(|line| assert!(line.contains("RWF_DSYNC"), "{line}"));
    }

    fn a_file_system_that_refuses_direct_writes_is_named_and_written_to(version: Version) {
        let mut server = direct(version).prepare();
        let folder = server.log_folder();
        fs::create_dir(&folder).unwrap();
        let in_memory = format!("mount -t ramfs none '{}' && exec \"$0\" \"$@\"", folder.display());
        let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &in_memory];
        server.reconfigure(|builder| builder.run_by(&words));
        server.start();
        assert_eq!(server.wbl_info("wbl_io_mode"), "buffered");
        assert!(server.log().contains("wbl.io-mode is direct, and the log's file system cannot do that"));
        assert_eq!(server.raw().run("SET key value").text(), "OK");
    }

    fn a_disk_that_stands_still_holds_replies_of_direct_writes(version: Version) {
        let server = direct(version).start();
        fill(&server);
        let (mut control, mut client) = (server.raw(), server.raw());
        control.run("WBL.DEBUG SYNC HOLD");
        client.send(&["SET", "held", "v"]);
        client.assert_silent(&mut control, "a SET whose write has not ended");
        control.run("WBL.DEBUG SYNC RELEASE");
        assert_eq!(client.reply().text(), "OK");
    }

    fn segments_that_are_not_written_ahead_are_shown_as_buffered(version: Version) {
        let server = direct(version).set("wbl.segment-bytes", "2gb").start();
        let mut client = server.raw();
        let value = "v".repeat(1 << 20);
        for number in 0..64 {
            client.run(&format!("SET key:{number} {value}"));
        }
        assert_eq!(server.wbl_info("wbl_io_mode"), "buffered");
    }

    fn a_buffered_log_is_never_written_directly(version: Version) {
        let server = direct(version).set("wbl.io-mode", "buffered").start();
        assert_eq!(server.wbl_info("wbl_io_mode"), "buffered");
        let mut client = server.raw();
        let value = "v".repeat(100);
        for number in 0..2000 {
            client.send(&["SET", &format!("key:{number}"), &value]);
        }
        (0..2000).for_each(|_| assert_eq!(client.reply().text(), "OK"));
        assert!(!has_padded_frames(&server));
    }
}
