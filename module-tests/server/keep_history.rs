//! `wbl.keep-history-seconds`: what checkpoints have replaced, and what comes back of it.

use crate::harness::tool::wbl;
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Version, dataset, each_version, wait_until};
use crate::tool_writes::{export, loaded_by_module, loaded_by_stock, unit_of, unix_s};
use std::fs;

fn builder(version: Version) -> ServerBuilder {
    ServerBuilder::with_module(version).set("wbl.segment-bytes", "4kb").set("wbl.keep-history-seconds", "3600")
}

fn write(client: &mut RawConnection, round: usize) {
    for number in 0..40 {
        client.call(&["SET", &format!("key:{number}"), &format!("{round}:{}", "v".repeat(100))]);
    }
    client.run(&format!("SELECT {round}"));
    client.run("RPUSH list a b");
    client.run("SELECT 0");
}

/// Three checkpoints have each replaced what was written before, and one more write has come.
fn with_three_kept(version: Version) -> (Server, RawConnection) {
    let server = builder(version).start();
    let mut client = server.raw();
    for round in 1..4 {
        write(&mut client, round);
        client.run("WBL.CHECKPOINT");
    }
    client.run("SET key:1 now");
    (server, client)
}

fn bytes(server: &Server) -> u64 {
    server.wbl_info("wbl_history_bytes").parse().unwrap()
}

/// The folders that are kept, the oldest first.
fn kept(server: &Server) -> Vec<String> {
    let entries = fs::read_dir(server.log_folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.to_str().unwrap().to_string());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("history-")).collect();
    names.sort_by_key(|name| name.rsplit('-').next().unwrap().parse::<u64>().unwrap());
    names
}

each_version! {
    fn a_moment_before_a_checkpoint_comes_back(version: Version) {
        let mut server = builder(version).start();
        let mut client = server.raw();
        write(&mut client, 1);
        client.run("WBL.CHECKPOINT");
        write(&mut client, 2);
        let expected = dataset::read(&mut client);
        let moment = unix_s() + 1;
        wait_until("a second has passed, and one more", PATIENCE, || unix_s() > moment + 1);
        client.run("FLUSHALL");
        write(&mut client, 3);
        // A base that a child writes, and one that a second server makes of the log.
        client.run("CONFIG SET wbl.checkpoint-method process");
        client.run("WBL.CHECKPOINT");
        client.run("SET last 1");
        client.run("CONFIG SET wbl.checkpoint-method fork");
        client.run("WBL.CHECKPOINT");
        assert_eq!(kept(&server).len(), 3);
        wait_until("it is told of", PATIENCE, || bytes(&server) > 0);
        let since = server.wbl_info("wbl_history_since_unix_ms").parse::<u64>().unwrap() / 1000;
        assert!((1..=moment).contains(&since), "{since}");

        // Beside the server, and of what a crash has left.
        let beside = export(&server, "beside", &["--until", &format!("@{moment}")]);
        beside.1.good();
        let mistake = unit_of(&server, "FLUSHALL");
        server.kill9();
        server.start();
        wait_until("it is there again", PATIENCE, || bytes(&server) > 0);
        assert_eq!(kept(&server).len(), 3);
        for out in [beside.0, export(&server, "until", &["--until", &mistake[..mistake.find("..").unwrap()]]).0] {
            dataset::assert_same(&loaded_by_stock(version, &out), &expected, "a stock server");
            dataset::assert_same(&loaded_by_module(version, &out), &expected, "the module");
        }
        // All but the mistake, over three bases.
        let (out, ran) = export(&server, "skipped", &["--skip", &mistake]);
        assert!(ran.good().contains("FLUSHALL"));
        let mut other = ServerBuilder::with_module(version).start();
        let mut client = other.raw();
        for round in 1..4 {
            write(&mut client, round);
        }
        client.run("SET last 1");
        let expected = dataset::read(&mut client);
        dataset::assert_same(&loaded_by_stock(version, &out), &expected, "all but FLUSHALL");
        other.stop();
        // What was before all that is kept is nowhere.
        let (out, ran) = export(&server, "before", &["--until", "@1000"]);
        assert!(ran.status != 2 && out.exists(), "a log that begins with nothing: {}", ran.errors);
    }

    fn what_is_kept_is_seen_and_hinders_nobody(version: Version) {
        let (mut server, mut client) = with_three_kept(version);
        let lines = wbl("history", &server.log_folder(), &["key:1"]).commands();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(wbl("stat", &server.log_folder(), &[]).good().contains("history "));
        let backup = client.run("WBL.BACKUP START").text().to_string();
        let expected = dataset::read(&mut client);
        dataset::assert_survives(&mut server, "after a crash");
        for folder in kept(&server).iter().map(|name| server.log_folder().join(name)).chain([server.log_folder()]) {
            assert!(wbl("check", &folder, &["--json"]).good().contains(r#""verdict":"good""#), "{folder:?}");
        }
        server.stop();
        dataset::assert_same(&loaded_by_stock(version, &server.log_folder()), &expected, "a stock server");
        dataset::assert_same(&loaded_by_stock(version, backup.as_ref()), &expected, "a backup");
        // A part of it is a log, too.
        let oldest = server.log_folder().join(&kept(&server)[0]);
        assert_eq!(wbl("dump", &oldest, &["--command", "RPUSH"]).commands().len(), 1);
    }

    fn damage_in_what_is_kept_hides_nothing_of_the_log(version: Version) {
        let (mut server, _client) = with_three_kept(version);
        server.stop();
        let damaged = kept(&server)[1].clone();
        let files = fs::read_dir(server.log_folder().join(&damaged)).unwrap().map(|entry| entry.unwrap().path());
        let segments = files.filter(|path| path.extension().is_some_and(|extension| extension == "aof"));
        let segment = segments.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        let mut bytes = fs::read(&segment).unwrap();
        bytes[1000] ^= 1;
        fs::write(&segment, bytes).unwrap();
        for (command, options) in [("dump", &["--key", "key:1"][..]), ("history", &["key:1"])] {
            let ran = wbl(command, &server.log_folder(), options);
            assert_eq!(ran.status, 1, "{command}: {}", ran.errors);
            assert!(ran.errors.contains(&format!("{damaged} is left out")), "{command}: {}", ran.errors);
            let rounds = ["1:v", "3:v", "now"].map(|text| ran.out.contains(text));
            assert_eq!(rounds, [true; 3], "{command}: {}", ran.out);
        }
        let dumped = wbl("dump", &server.log_folder(), &[]).out;
        let first = dumped.split(' ').next().unwrap();
        assert_ne!(export(&server, "all", &["--skip", first]).1.status, 0, "no export leaves anything else out");
    }

    fn a_moment_between_the_last_write_and_a_base_is_reached(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        write(&mut client, 1);
        let expected = dataset::read(&mut client);
        let time_s = |client: &mut RawConnection| client.run("TIME").items()[0].text().parse::<u64>().unwrap();
        let wait_past = |client: &mut RawConnection, second| {
            wait_until("the second is over", PATIENCE, || time_s(client) > second);
        };
        let written_s = time_s(&mut client);
        wait_past(&mut client, written_s);
        let moment_s = written_s + 1;
        wait_past(&mut client, moment_s);
        client.run("WBL.CHECKPOINT");
        client.run("FLUSHALL");
        let (out, ran) = export(&server, "between", &["--until", &format!("@{moment_s}")]);
        ran.good();
        dataset::assert_same(&loaded_by_stock(version, &out), &expected, "between the two");
    }

    fn what_a_server_runs_on_goes_when_that_has_ended(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        for round in 1..4 {
            write(&mut client, round);
            client.run("WBL.CHECKPOINT");
        }
        let names = kept(&server);
        let folder = server.log_folder().join(&names[0]);
        let other = ServerBuilder::with_module(version).set("wbl.dir", folder.to_str().unwrap()).start();
        client.run("CONFIG SET wbl.keep-history-seconds 0");
        wait_until("all others have gone", PATIENCE, || kept(&server).len() < 3 && kept(&server) == names[..1]);
        assert_eq!(other.raw().run("SET own v").text(), "OK");
        drop(other);
        wait_until("it has gone, too", PATIENCE, || kept(&server).is_empty() && bytes(&server) == 0);
    }

    fn what_is_kept_goes_when_it_is_not_wanted(version: Version) {
        let server = builder(version).start();
        let mut client = server.raw();
        let mut fill = || {
            for round in 1..4 {
                write(&mut client, round);
                client.run("WBL.CHECKPOINT");
            }
            wait_until("three are kept", PATIENCE, || bytes(&server) > 3 * 4096 && kept(&server).len() == 3);
        };
        fill();
        // A bound is one for all.
        let base = server.wbl_info("wbl_base_bytes").parse::<u64>().unwrap();
        let least = base + bytes(&server) / 2 + 4096;
        let mut control = server.raw();
        control.call(&["CONFIG", "SET", "wbl.max-log-bytes", &least.to_string()]);
        wait_until("the oldest has gone", PATIENCE, || (1..3).contains(&kept(&server).len()));
        control.run("CONFIG SET wbl.max-log-bytes 0");
        control.run("CONFIG SET wbl.keep-history-seconds 0");
        wait_until("all has gone", PATIENCE, || bytes(&server) == 0 && kept(&server).is_empty());
        assert_eq!(server.wbl_info("wbl_history_since_unix_ms"), "0");
        control.run("SET k v");
        control.run("WBL.CHECKPOINT");
        assert!(kept(&server).is_empty());
        // What is older than that goes by itself.
        control.run("CONFIG SET wbl.keep-history-seconds 1000");
        fill();
        control.run("CONFIG SET wbl.keep-history-seconds 1");
        wait_until("it is too old", PATIENCE, || kept(&server).is_empty());
    }
}
