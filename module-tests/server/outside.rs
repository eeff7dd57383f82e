//! What is done to a running server from outside: limits of the process, and its log's files.

use crate::harness::temp::copy_folder;
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Version, each_version, wait_until};
use crate::unusable_folders::refused_start;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use valkey_wbl::log::resp::push_command;
use valkey_wbl::log::{Batch, Begin, FolderStorage, Options, open};

/// The files that the process writes may have so many bytes.
pub fn limit_file_size(server: &Server, bytes: &str) {
    let process = server.process_id().to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    assert!(Command::new("prlimit").args(["--pid", &process, &limit]).status().unwrap().success());
}

/// The segment that is written.
pub fn last_segment(server: &Server) -> PathBuf {
    let manifest = fs::read_to_string(server.log_folder().join("appendonly.aof.manifest")).unwrap();
    let mut names = manifest.lines().filter_map(|line| line.strip_prefix("file ")?.split(' ').next());
    server.log_folder().join(names.next_back().unwrap())
}

/// SETs until the server ends; returns how many were acknowledged.
fn set_until_the_end(client: &mut RawConnection) -> i64 {
    let value = "v".repeat(10_000);
    let key = |number: i64| format!("key:{number}");
    let acknowledged = (0..)
        .find(|number| client.try_send(&["SET", &key(*number), &value]).and_then(|()| client.try_reply()).is_err());
    acknowledged.expect("the server has ended")
}

each_version! {
    fn a_replacement_that_is_refused_leaves_the_log_as_it_was(version: Version) {
        let mut server = ["Failed applying", "no new base", "takes the place of the data"]
            .into_iter()
            .fold(ServerBuilder::with_module(version), ServerBuilder::allow_warning)
            .start();
        server.raw().run("SET of-the-log v");
        server.stop();
        server.reconfigure(|own| own.set("wbl.enabled", "no"));
        server.start();
        let mut client = server.raw();
        client.run("FLUSHALL");
        client.run("SET own v");
        client.run("SAVE");
        let manifest = || fs::read_to_string(server.log_folder().join("appendonly.aof.manifest")).unwrap();
        let process = server.process_id().to_string();
        let limit_files = |files: u64| {
            let limit = format!("--nofile={files}:4096");
            assert!(Command::new("prlimit").args(["--pid", &process, &limit]).status().unwrap().success());
        };
        let used = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count() as u64;
        let before = manifest();
        let mut refused = 0;
        for more in 0..20 {
            limit_files(used + more);
            let reply = client.call(&["CONFIG", "SET", "wbl.on-existing-log", "replace", "wbl.enabled", "yes"]);
            limit_files(4096);
            if !reply.is_error() {
                break;
            }
            refused += 1;
            assert_eq!(manifest(), before, "{reply:?}");
        }
        assert!(refused > 1);
        wait_until("the log is replaced", PATIENCE, || server.wbl_info("wbl_state") == "active");
        server.kill9();
        server.reconfigure(|own| own.unset("wbl.enabled"));
        server.start();
        assert_eq!(server.raw().run("EXISTS own").integer(), 1);
        assert_eq!(server.raw().run("EXISTS of-the-log").integer(), 0);
    }

    fn a_torn_end_does_not_hold_the_room_of_a_start(version: Version) {
        // Too large to be written ahead, which would leave room.
        let mut server = ServerBuilder::with_module(version).set("wbl.segment-bytes", "2gb").start();
        server.raw().run("SET kept v");
        server.kill9();
        let path = last_segment(&server);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count());
        bytes.extend((0..2_000_000_u32).map(|number| b'a' + (number % 23) as u8));
        fs::write(&path, &bytes).unwrap();

        let pages = |entry: fs::DirEntry| entry.metadata().unwrap().len().div_ceil(4096);
        let used: u64 = fs::read_dir(server.log_folder()).unwrap().map(|entry| pages(entry.unwrap())).sum();
        let on_small_disk = "mount -t tmpfs -o size=${ROOM}k none /mnt && cp -a \"$WBL\"/. /mnt && mount --bind /mnt \"$WBL\" && exec \"$0\" \"$@\"";
        let folder = server.log_folder();
        server.reconfigure(|builder| {
            let builder = builder.variable("WBL", folder.to_str().unwrap()).allow_warning("has no room for them");
            let builder = builder.variable("ROOM", &(4 * used + 12).to_string());
            builder.run_by(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", on_small_disk])
        });
        server.start();
        let mut client = server.raw();
        assert_eq!(client.run("GET kept").text(), "v");
        let kept = format!("/proc/{}/root/{}", server.process_id(), folder.display());
        let names = fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let count = names.filter(|name| name.starts_with("cut-")).count();
        assert!((1..=65).contains(&count), "{count} files");
        assert!(server.log().contains("bytes of the unfinished write are not kept"), "{}", server.log());
    }

    fn a_limit_of_file_sizes_is_an_error_as_a_full_disk_is(version: Version) {
        let builder = ServerBuilder::with_module(version).set("wbl.segment-bytes", "64kb").set("wbl.on-error", "exit");
        let mut server = builder.only_own_warnings().allow_warning("no new base").allow_warning("can't be written").start();
        let mut client = server.raw();
        client.run("DEBUG POPULATE 1000 filled 500");
        client.run("CONFIG SET rdbcompression no");
        client.run("WBL.CHECKPOINT");
        // The dataset is larger than a file may be, a segment is not.
        limit_file_size(&server, "300000");
        let refused = format!("{:?}", client.call(&["WBL.CHECKPOINT"]));
        assert!(refused.contains("no checkpoint"), "{refused}");
        assert!(client.call(&["SAVE"]).is_error());
        client.run("SET k v");
        assert_eq!(server.wbl_info("wbl_state"), "active");
        let keys = client.run("DBSIZE").integer();
        // A segment is, too.
        limit_file_size(&server, "40000");
        let acknowledged = set_until_the_end(&mut client);
        assert_eq!(server.wait_exit().code(), Some(1), "{}", server.log());
        assert!(server.log().contains("File too large"), "{}", server.log());
        server.start();
        assert!(server.raw().run("DBSIZE").integer() >= keys + acknowledged);
    }

    fn a_segment_that_is_moved_or_replaced_ends_the_server(version: Version) {
        for how in ["moved", "linked and removed", "replaced"] {
            let builder = ServerBuilder::with_module(version).allow_warning("can't be written");
            let mut server = builder.start();
            let mut client = server.raw();
            client.run("SET k v");
            let segment = last_segment(&server);
            let away = server.folder().join("away");
            if how == "linked and removed" {
                fs::hard_link(&segment, &away).unwrap();
                fs::remove_file(&segment).unwrap();
            } else {
                fs::rename(&segment, &away).unwrap();
            }
            if how == "replaced" {
                fs::copy(&away, &segment).unwrap();
            }
            client.send(&["SET", "lost", "v"]);
            assert!(client.try_reply().is_err(), "{how}: it was acknowledged");
            assert_eq!(server.wait_exit().code(), Some(1), "{how}");
            // A link elsewhere is nobody's business.
            fs::rename(&away, &segment).unwrap();
            server.start();
            let mut client = server.raw();
            assert_eq!(client.run("GET k").text(), "v", "{how}");
            fs::hard_link(last_segment(&server), &away).unwrap();
            client.run("SET kept v");
            drop(client);
            server.stop();
        }
    }

    fn a_segment_that_is_cut_ends_the_server_at_the_next_write(version: Version) {
        for (mode, io_mode, is_ahead) in [
            ("async", "direct", true),
            ("async", "buffered", true),
            ("async", "buffered", false),
            ("inline", "direct", true),
            ("inline", "buffered", true),
            ("inline", "buffered", false),
        ] {
            let how = format!("{mode}, {io_mode}, written ahead: {is_ahead}");
            let builder = ServerBuilder::with_module(version).set("wbl.commit-mode", mode).set("wbl.io-mode", io_mode);
            // Segments that are as large are not written ahead.
            let builder = if is_ahead { builder } else { builder.set("wbl.segment-bytes", "2gb") };
            let mut server = builder.allow_warning("").start();
            let mut client = server.raw();
            wait_until("the log goes on in the segment that it shall be in", PATIENCE, || {
                client.run("SET k v");
                !is_ahead || fs::metadata(last_segment(&server)).unwrap().len() >= 65536
            });
            (0..20).for_each(|number| drop(client.run(&format!("SET key:{number} v"))));
            assert_eq!(server.wbl_info("wbl_io_mode"), io_mode, "{how}");
            let segment = last_segment(&server);
            fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(300).unwrap();
            client.send(&["SET", "lost", "v"]);
            assert!(client.try_reply().is_err(), "{how}: it was acknowledged");
            assert_eq!(server.wait_exit().code(), Some(1), "{how}");
            assert!(server.log().contains("the file was cut"), "{how}: {}", server.log());
            // What was acknowledged before the cut is gone, and no start takes the rest for all.
            let said = refused_start(&mut server);
            let line = said.lines().find(|line| line.contains("the log is damaged"));
            assert!(line.is_some_and(|line| line.contains(segment.to_str().unwrap())), "{how}: {said}");
        }
    }

    fn a_segment_that_is_cut_ends_the_server_at_a_write_to_its_last_block(version: Version) {
        for mode in ["async", "inline"] {
            let builder = ServerBuilder::with_module(version).set("wbl.commit-mode", mode).set("wbl.io-mode", "direct");
            let mut server = builder.set("wbl.segment-bytes", "64kb").allow_warning("").start();
            let mut client = server.raw();
            let at_end = (0..10_000).find(|number| {
                client.run(&format!("SET key:{number} v"));
                let bytes = fs::read(last_segment(&server)).unwrap();
                let unused = bytes.iter().rev().take_while(|byte| **byte == 0).count();
                (100..500).contains(&unused) && server.wbl_info("wbl_io_mode") == "direct"
            });
            assert!(at_end.is_some(), "{mode}: {}", server.wbl_info("wbl_io_mode"));
            fs::OpenOptions::new().write(true).open(last_segment(&server)).unwrap().set_len(0).unwrap();
            client.send(&["SET", "lost", "v"]);
            assert!(client.try_reply().is_err(), "{mode}: it was acknowledged");
            assert_eq!(server.wait_exit().code(), Some(1), "{mode}");
            assert!(server.log().contains("the file was cut"), "{mode}: {}", server.log());
            refused_start(&mut server);
        }
    }

    fn the_log_does_not_go_on_in_a_segment_that_somebody_has_changed(version: Version) {
        let cases = [("removed", "direct"), ("replaced", "buffered"), ("cut", "direct"), ("cut", "buffered")];
        for (how, io_mode) in cases {
            let builder = ServerBuilder::with_module(version).set("wbl.segment-bytes", "64kb");
            let mut server = builder.set("wbl.io-mode", io_mode).start();
            let mut client = server.raw();
            // It has no name in the manifest before the log needs it.
            let next = server.log_folder().join("appendonly.aof.2.incr.aof");
            client.run("SET key:0 v");
            wait_until("a segment is written ahead", PATIENCE, || {
                fs::metadata(&next).is_ok_and(|next| next.len() == 65536)
            });
            assert_ne!(last_segment(&server), next);
            match how {
                "removed" => fs::remove_file(&next).unwrap(),
                "cut" => fs::OpenOptions::new().write(true).open(&next).unwrap().set_len(0).unwrap(),
                _ => {
                    let copy = server.folder().join("copy");
                    fs::copy(&next, &copy).unwrap();
                    fs::rename(copy, &next).unwrap();
                }
            }
            let value = "v".repeat(1000);
            for number in 1..400 {
                assert_eq!(client.run(&format!("SET key:{number} {value}")).text(), "OK", "{how}");
            }
            server.kill9_and_restart();
            assert_eq!(server.raw().run("DBSIZE").integer(), 400, "{how}");
        }
    }
}

/// The checker of 9.1 cannot read its own server's bases (`docs/compatibility.md`).
#[test]
fn the_servers_checker_cuts_a_log_at_a_time_for_stock_servers() {
    let version = Version::V8_1;
    let mut stock = ServerBuilder::stock(version)
        .set("appendonly", "yes")
        .set("appenddirname", "wbl")
        .set("appendfilename", "appendonly.aof")
        .prepare();
    let storage = FolderStorage::new(stock.log_folder()).unwrap();
    let mut writer = open(storage, &Options::default()).unwrap().into_folder().begin(Begin::Empty, 0).unwrap();
    for (second, key) in [(1000, b"before"), (2000, b"beyond")] {
        let mut payload = Vec::new();
        push_command(&mut payload, &[b"SET", key, b"v"]);
        let start = writer.appended();
        writer.append(Batch { start, payload: &payload, unix_ms: 1000 * second }).unwrap();
    }
    writer.close().unwrap();

    let checker = Command::new(version.program("valkey-check-aof"))
        .args(["--truncate-to-timestamp", "1500"])
        .arg(stock.log_folder().join("appendonly.aof.manifest"))
        .output()
        .unwrap();
    assert!(checker.status.success(), "{checker:?}");
    let mut server = ServerBuilder::with_module(version).allow_warning("").prepare();
    copy_folder(&stock.log_folder(), &server.log_folder());
    assert!(refused_start(&mut server).contains("the log is damaged"));
    stock.start();
    assert_eq!(stock.raw().run("EXISTS before").integer(), 1);
    assert_eq!(stock.raw().run("EXISTS beyond").integer(), 0);
}
