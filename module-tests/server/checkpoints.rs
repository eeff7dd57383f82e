//! New bases of a log that is active, and the children that write them.

use crate::harness::points::VARIABLE;
use crate::harness::process::{children, runs, send_signal};
use crate::harness::{
    Injection, PATIENCE, RawConnection, Scene, Server, ServerBuilder, Strace, Value, Version, dataset, each_version,
    paths, wait_until,
};
use crate::life::{NOWHERE, module, segment_count, server_child_stopped};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many descriptors of this folder a process has.
fn descriptors_of(process: u32, folder: &Path) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("its descriptors");
    descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).filter(|path| path == folder).count()
}

each_version! {
    fn a_child_that_has_stopped_holds_nobody_up(version: Version) {
        let warning = "the log failed before its first base";
        let start = || {
            let builder = ServerBuilder::stock(version).set("enable-module-command", "yes");
            let builder = builder.variable(VARIABLE, "base-child:stop").allow_warning(warning);
            let server = builder.start();
            server.raw().run("SET k v");
            server.raw().run(&format!("MODULE LOADEX {} CONFIG wbl.debug-commands yes", paths::module().display()));
            server
        };
        // Nor a log that is given up, nor the server's own saves.
        let mut server = start();
        server.wait_child_stopped();
        {
            let _strace = Strace::attach(server.process_id(), Injection::Fail { error: "EIO", from: 1 });
            server.raw().run("SET while failing");
            wait_until("the failure is seen", PATIENCE, || server.wbl_info("wbl_state") == "disabled");
        }
        wait_until("the server can save", PATIENCE, || !server.raw().call(&["BGSAVE"]).is_error());
        // Nor an unload.
        let mut server = start();
        server.wait_child_stopped();
        server.raw().run("MODULE UNLOAD wbl");
        wait_until("the server can save", PATIENCE, || !server.raw().call(&["BGSAVE"]).is_error());
        assert_eq!(server.raw().run("GET k").text(), "v");
    }

    fn children_of_a_killed_server_do_not_keep_the_folder(version: Version) {
        let mut server = module(version).start();
        let mut client = server.raw();
        client.run("DEBUG POPULATE 1000");
        client.run("SET k v");
        client.run("CONFIG SET rdb-key-save-delay 1000000");
        client.run("BGSAVE");
        let child = server.wait_child();
        // Nor does a change of roles meanwhile.
        client.run(NOWHERE);
        client.run("REPLICAOF NO ONE");
        send_signal(child, "STOP");
        server.kill9();
        let start = Instant::now();
        server.start();
        assert!(start.elapsed() < Duration::from_secs(2), "the start waited: {:?}", start.elapsed());
        assert_eq!(server.raw().run("GET k").text(), "v");
        send_signal(child, "KILL");
        // The module's own child ends with the server.
        server.point("base-child", "STOP");
        server.raw().send_text("WBL.CHECKPOINT");
        let child = server.wait_child_stopped();
        server.kill9();
        wait_until("the child is gone", PATIENCE, || !runs(child));
        server.start();
        assert_eq!(server.raw().run("GET k").text(), "v");
    }

    fn children_of_syncs_and_rewrites_do_not_keep_the_folder_either(version: Version) {
        // A replica that can take a dataset as it is written is sent that by the child.
        for (asks, is_diskless) in [("PSYNC ? -1", "no"), ("PSYNC ? -1", "yes"), ("BGREWRITEAOF", "no")] {
            let builder = module(version).only_own_warnings().set("repl-diskless-sync", is_diskless);
            let mut server = builder.set("repl-diskless-sync-delay", "0").start();
            let mut client = server.raw();
            client.run("DEBUG POPULATE 1000");
            client.run("SET k v");
            client.run("CONFIG SET rdb-key-save-delay 1000000");
            let mut asker = server.raw();
            asker.run("REPLCONF capa eof");
            asker.send_text(asks);
            let child = server.wait_child();
            // It has the lock for a moment, when it begins.
            let descriptors = |process| descriptors_of(process, &server.log_folder());
            let of_server = descriptors(server.process_id());
            wait_until("the child has let go of the lock", PATIENCE, || descriptors(child) < of_server);
            send_signal(child, "STOP");
            server.kill9();
            server.start();
            assert_eq!(server.raw().run("GET k").text(), "v", "{asks}, diskless {is_diskless}");
            assert!(runs(child), "{asks}, diskless {is_diskless}: the child has ended");
            send_signal(child, "KILL");
        }
    }

    fn a_checkpoint_on_a_disk_that_does_not_answer_stalls_nobody(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["SET k v"]);
        scene.control.run("WBL.DEBUG SYNC HOLD");
        let mut asker = scene.held("WBL.CHECKPOINT");
        wait_until("the child has written the base", PATIENCE, || {
            scene.server.log().contains("Module fork exited") || children(scene.server.process_id()).is_empty()
        });
        for _ in 0..20 {
            assert_eq!(scene.answer("GET k").text(), "v");
        }
        scene.assert_withheld(&mut asker, "WBL.CHECKPOINT");
        scene.control.run("WBL.DEBUG SYNC RELEASE");
        assert_eq!(asker.reply(), Value::Simple("OK".into()));
        let mut server = scene.end();
        server.kill9_and_restart();
        assert_eq!(server.raw().run("GET k").text(), "v");
    }

    fn a_checkpoint_that_fails_says_so_and_leaves_the_log_as_it_was(version: Version) {
        let mut server = ServerBuilder::with_module(version).allow_warning("no new base").allow_warning("Can't fork").start();
        let mut client = server.raw();
        client.run("SET k v");
        let expect_failure = |client: &mut RawConnection, what: &str| {
            let start = Instant::now();
            let reply = format!("{:?}", client.call(&["WBL.CHECKPOINT"]));
            assert!(reply.starts_with("-ERR no checkpoint: "), "{what}: {reply}");
            assert!(start.elapsed() < PATIENCE / 2, "{what}: {:?}", start.elapsed());
            client.run("INCR counter");
            client.run("WBL.WAIT");
        };
        let names = |kind: &str| {
            let folder = server.log_folder();
            let names = (1..30).map(|number| folder.join(kind.replace('N', &number.to_string())));
            names.filter(|path| !path.exists()).collect::<Vec<_>>()
        };
        // No segment can begin where the base ends; then no file of a base can be made.
        let temporary = temporary_base_names(&server, &mut client);
        for taken in [names("appendonly.aof.N.incr.aof"), temporary] {
            taken.iter().for_each(|path| fs::write(path, "").unwrap());
            client.run("INCR counter");
            expect_failure(&mut client, &taken[0].display().to_string());
            taken.iter().for_each(|path| fs::remove_file(path).unwrap());
        }
        // The child dies.
        server.point("base-child", "KILL");
        expect_failure(&mut client, "a child that dies");
        server.point("base-child", "CLEAR");
        // No child can be forked, and no segment is left behind by the tries.
        let segments = segment_count(&server);
        {
            let _strace = Strace::attach(server.process_id(), Injection::NoFork);
            for _ in 0..5 {
                expect_failure(&mut client, "a fork that is refused");
            }
        }
        assert_eq!(segment_count(&server), segments);
        let expected = dataset::read(&mut client);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after kill -9");
        assert_eq!(server.raw().run("WBL.CHECKPOINT"), Value::Simple("OK".into()));
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after a checkpoint");
    }

    fn a_base_that_no_start_could_read_is_thrown_away(version: Version) {
        let builder = ServerBuilder::with_module(version).set("rdbcompression", "no").in_memory();
        let mut server = builder.allow_warning("no new base: no start could read the new base").start();
        let mut client = server.raw();
        client.run("SET value needle");
        client.run("WBL.CHECKPOINT");
        for (what, damage) in DAMAGES {
            client.run("INCR counter");
            server.point("base-written", "STOP");
            client.send_text("WBL.CHECKPOINT");
            damage_base(&mut server, damage);
            let reply = format!("{:?}", client.reply());
            assert!(reply.contains("no start could read the new base"), "{what}: {reply}");
            assert_eq!(server.wbl_info("wbl_checkpoint_failures"), "1", "{what}");
            assert_eq!(server.wbl_info("wbl_last_checkpoint_status"), "err", "{what}");
            assert!(server.wbl_info("wbl_failure").contains("no start could read"), "{what}");
            client.run("APPEND value more");
            let expected = dataset::read(&mut client);
            server.kill9_and_restart();
            client = server.raw();
            dataset::assert_same(&dataset::read(&mut client), &expected, what);
        }
        assert_eq!(client.run("WBL.CHECKPOINT"), Value::Simple("OK".into()));
        let expected = dataset::read(&mut client);
        server.kill9_and_restart();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "after a checkpoint");
    }

    fn a_first_base_that_no_start_could_read_is_tried_again(version: Version) {
        let mut server = ServerBuilder::stock(version).set("rdbcompression", "no").start();
        ["SET value needle", "SAVE"].iter().for_each(|command| drop(server.raw().run(command)));
        server.stop();
        let builder = module(version).set("rdbcompression", "no").allow_warning("no new base: no start could read");
        server.reconfigure(|_| builder.variable(VARIABLE, "base-written:stop"));
        server.launch();
        damage_base(&mut server, |bytes| flip(bytes, b"needle"));
        wait_until("the first base is refused", PATIENCE, || server.log().contains("no new base: no start could read"));
        let mut client = server.wait_answers();
        client.run("SET during v");
        client.run("WBL.WAIT");
        server.reconfigure(ServerBuilder::no_variables);
        dataset::assert_survives(&mut server, "after kill -9");
    }
}

type Damage = fn(&mut Vec<u8>);

/// What may become of a base before the log relies on it.
const DAMAGES: [(&str, Damage); 5] = [
    ("a byte of a value", |bytes| flip(bytes, b"needle")),
    ("a byte of the checksum", |bytes| *bytes.last_mut().unwrap() ^= 1),
    ("the end is missing", |bytes| bytes.truncate(bytes.len() - 20)),
    ("nothing is left", Vec::clear),
    ("something follows", |bytes| bytes.push(0)),
];

fn flip(bytes: &mut [u8], at: &[u8]) {
    let at = bytes.windows(at.len()).position(|window| window == at).expect("the value is not compressed");
    bytes[at] ^= 1;
}

/// Damages the base that a child has written, as the server has stopped before it looks at it, and goes on.
fn damage_base(server: &mut Server, damage: fn(&mut Vec<u8>)) {
    server.wait_stopped();
    let entries = fs::read_dir(server.log_folder()).unwrap().map(|entry| entry.unwrap().path());
    let base = entries.filter(|path| path.to_string_lossy().contains("temp-base")).max();
    let base = base.expect("a temporary base");
    let mut bytes = fs::read(&base).unwrap();
    damage(&mut bytes);
    fs::write(&base, bytes).unwrap();
    server.go_on();
}

/// The names that files of the next bases will have, as that of the present one shows.
fn temporary_base_names(server: &Server, client: &mut RawConnection) -> Vec<PathBuf> {
    server.point("base-child", "STOP");
    client.send_text("WBL.CHECKPOINT");
    let child = server_child_stopped(server);
    let names =
        || fs::read_dir(server.log_folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let name = names().find(|name| name.starts_with("temp-")).expect("a temporary base");
    let number: u64 = name.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
    send_signal(child, "CONT");
    client.reply();
    (number + 1..number + 20)
        .map(|next| server.log_folder().join(name.replace(&number.to_string(), &next.to_string())))
        .collect()
}
