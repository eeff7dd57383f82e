//! The `wbl` tool on the folders of real servers.

use crate::harness::tool::{Ran, wbl};
use crate::harness::{RawConnection, Server, ServerBuilder, Version, each_version};
use crate::outside::last_segment;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn builder(version: Version) -> ServerBuilder {
    ServerBuilder::with_module(version).set("wbl.segment-bytes", "4kb")
}

fn check(server: &Server) -> Ran {
    wbl("check", &server.log_folder(), &["--json"])
}

fn dump(server: &Server, options: &[&str]) -> Vec<String> {
    wbl("dump", &server.log_folder(), options).commands()
}

/// Something of everything that a log holds.
fn write(client: &mut RawConnection) {
    for command in [
        "SET user:1 a",
        "APPEND user:1 \"",
        "RPUSH list a b",
        "SELECT 3",
        "SET user:2 c",
        "MULTI",
        "INCR n",
        "DEL user:2",
        "EXEC",
        "SELECT 0",
        "XADD stream 1-1 f v",
        "XGROUP CREATE stream g 0",
        "FLUSHDB",
        "SET user:3 d",
    ] {
        client.run(command);
    }
}

each_version! {
    fn dump_shows_each_command_with_its_database(version: Version) {
        let mut server = builder(version).start();
        write(&mut server.raw());
        let all = [
            "db0 SET user:1 a",
            "db0 APPEND user:1 \"\\\"\"",
            "db0 RPUSH list a b",
            "db3 SET user:2 c",
            "db3 INCR n",
            "db3 DEL user:2",
            "db0 XADD stream 1-1 f v",
            "db0 XGROUP CREATE stream g 0",
            "db0 FLUSHDB",
            "db0 SET user:3 d",
        ];
        // Beside the server, after a crash, and after a clean end.
        assert_eq!(dump(&server, &[]), all);
        server.kill9();
        assert_eq!(dump(&server, &[]), all);
        server.start();
        server.stop();
        assert_eq!(dump(&server, &[]), all);
        assert_eq!(dump(&server, &["--key", "user:*", "--db", "3"]), ["db3 SET user:2 c", "db3 DEL user:2"]);
        assert_eq!(dump(&server, &["--command", "flushdb", "--command", "incr"]), ["db3 INCR n", "db0 FLUSHDB"]);
        assert_eq!(dump(&server, &["--redact", "values", "--db", "3"])[0], "db3 SET user:2 <1 bytes>");
        // Positions are those of units, and can be given back.
        let lines = wbl("dump", &server.log_folder(), &[]).good();
        let flush = lines.lines().find(|line| line.ends_with("FLUSHDB")).unwrap();
        let (start, end) = flush.split(' ').next().unwrap().split_once("..").unwrap();
        assert_eq!(dump(&server, &["--from", start, "--until", end]), ["db0 FLUSHDB"]);
        let time = flush.split(' ').nth(1).unwrap();
        assert!(dump(&server, &["--from", time, "--until", time]).contains(&"db0 FLUSHDB".to_string()));
        assert_eq!(dump(&server, &["--until", "2001-01-01T00:00Z"]), [""; 0]);
        let json = wbl("dump", &server.log_folder(), &["--json", "--command", "INCR"]).good();
        assert!(json.contains(r#""command":["INCR","n"]"#) && json.contains(r#""is_transaction":true"#), "{json}");
    }

    fn check_tells_good_from_torn_and_damaged(version: Version) {
        // The segments are large, so that none is written ahead.
        let mut server = ServerBuilder::with_module(version).start();
        write(&mut server.raw());
        let found = check(&server).good();
        let is_locked = format!(r#""locked_by_process":{}"#, server.process_id());
        assert!(found.contains(r#""verdict":"good""#) && found.contains(&is_locked), "{found}");
        server.raw().run("WBL.CHECKPOINT");
        write(&mut server.raw());
        let found = check(&server).good();
        assert!(found.contains(r#""keys":2"#), "{found}");
        server.stop();
        let found = check(&server).good();
        assert!(found.contains(r#""verdict":"good""#) && found.contains(r#""locked_by_process":null"#), "{found}");
        // A crash leaves an unfinished end, which nobody was told of.
        server.start();
        write(&mut server.raw());
        server.kill9();
        let segment = last_segment(&server);
        let bytes = fs::read(&segment).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        fs::write(&segment, &bytes[..used - 2]).unwrap();
        let found = check(&server).good();
        assert!(found.contains(r#""verdict":"torn-tail""#), "{found}");
        // A start cuts it.
        server.start();
        server.stop();
        assert!(check(&server).good().contains(r#""verdict":"good""#));
        let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
        file.write_all_at(b"x", 150).unwrap();
        let ran = check(&server);
        assert_eq!(ran.status, 1);
        assert!(ran.out.contains(r#""verdict":"damaged""#) && ran.out.contains(r#""offset":"#), "{}", ran.out);
        let ran = wbl("dump", &server.log_folder(), &[]);
        assert!(ran.status == 1 && ran.errors.contains("is damaged"), "{}", ran.errors);
        assert_eq!(wbl("check", &server.folder().join("nowhere"), &[]).status, 2);
        assert_eq!(wbl("check", &server.folder(), &[]).status, 2);
    }

    fn check_is_right_beside_a_server_that_writes_and_makes_bases(version: Version) {
        let server = builder(version).start();
        let stop = Arc::new(AtomicBool::new(false));
        let writers = [0, 1].map(|number| {
            let (mut client, stop) = (server.raw(), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    client.call(&["SET", &format!("key:{number}"), &"v".repeat(300)]);
                    client.run("RPUSH list a");
                }
            })
        });
        let mut client = server.raw();
        for round in 0..12 {
            if round % 3 == 0 {
                client.send(&["WBL.CHECKPOINT"]);
            }
            let ran = check(&server);
            assert!(ran.status == 0 && !ran.out.contains("damaged"), "{}{}", ran.out, ran.errors);
            if round % 3 == 0 {
                client.reply();
            }
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    }

    fn the_exit_status_says_whether_a_log_is_damaged_or_there_is_none_to_judge(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        write(&mut server.raw());
        server.stop();
        let (log, segment) = (server.log_folder(), last_segment(&server));
        let manifest = log.join("appendonly.aof.manifest");
        let whole = [&manifest, &segment].map(|file| (file.clone(), fs::read(file).unwrap()));
        let status = |damage: &dyn Fn()| {
            damage();
            let json = check(&server);
            assert_eq!(json.status == 1, json.out.contains(r#""verdict":"damaged""#), "{}{}", json.out, json.errors);
            let text = wbl("check", &log, &[]);
            assert_eq!(text.status, json.status);
            whole.iter().for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
            (json.status, wbl("check", &log, &[]).status)
        };
        let write_over = |file: &PathBuf, text: &str| {
            let file = fs::OpenOptions::new().write(true).open(file).unwrap();
            file.write_all_at(text.as_bytes(), 0).unwrap();
        };
        // The manifest is the module's: whatever has become of what it names, the log is damaged.
        assert_eq!(status(&|| write_over(&segment, "nothing known")), (1, 0));
        assert_eq!(status(&|| write_over(&segment, "#WBL2 ?")), (1, 0));
        assert_eq!(status(&|| write_over(&segment, &"\0".repeat(4096))), (1, 0));
        assert_eq!(status(&|| fs::write(&segment, "").unwrap()), (1, 0));
        assert_eq!(status(&|| fs::remove_file(&segment).unwrap()), (1, 0));
        assert_eq!(status(&|| fs::write(&manifest, &whole[0].1[..20]).unwrap()), (1, 0));
        // There is none to judge.
        assert_eq!(status(&|| write_over(&segment, "#WBL9 ")), (2, 0));
        assert_eq!(status(&|| write_over(&manifest, "#WBL9 ")), (2, 0));
        assert_eq!(status(&|| write_over(&manifest, "nothing known")), (2, 0));
        assert_eq!(status(&|| fs::write(&manifest, "").unwrap()), (2, 0));
        assert_eq!(status(&|| fs::remove_file(&manifest).unwrap()), (2, 0));
    }
}
