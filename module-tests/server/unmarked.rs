//! Servers that have less than a log that was left, and whose folder takes no mark: none of them serves, because what
//! it saves would count as newer.

use crate::harness::lacking::{KEYS, keys, promote_alone, stopped_replica};
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Version, each_version, paths, wait_until};
use crate::newest::manifest;
use crate::unusable_folders::refused_start;
use std::fs;
use std::path::{Path, PathBuf};

const REFUSED: &str = "the server has less than the log in";

/// What becomes of the folder, whose path is in `$WBL`, and of none but the server that is started then.
const READ_ONLY: &str = "mount --bind \"$WBL\" \"$WBL\" && mount -o remount,bind,ro \"$WBL\"";

/// The same on a disk without room, but for what a file of this name in the folder has.
fn full(name: &str) -> String {
    format!(
        "mount -t tmpfs -o size=1m none /mnt && cp -a \"$WBL\"/. /mnt && {{ dd if=/dev/zero of=/mnt/{name} bs=4096 2>/dev/null; mount --bind /mnt \"$WBL\"; }}"
    )
}

each_version! {
    fn a_node_that_has_less_than_its_log_does_not_start_where_that_is_not_noted(version: Version) {
        for place in [READ_ONLY, &full("filler")] {
            let mut node = stopped_node(version);
            put_log(&mut node, place);
            let said = refused_start(&mut node);
            let folder = node.log_folder();
            let line = said.lines().find(|line| line.contains(REFUSED)).unwrap_or_else(|| panic!("{place}: {said}"));
            assert!(line.contains(folder.to_str().unwrap()) && line.contains("Make the folder writable"), "{line}");
            has_all_after_a_save(node);
        }
    }

    fn a_mark_takes_the_room_of_what_the_log_does_not_need(version: Version) {
        for name in ["temp-cut", "cut-7-70.bin"] {
            let mut node = stopped_node(version);
            put_log(&mut node, &full(name));
            node.launch();
            node.wait_answers();
            // As the server sees its folder.
            let root = PathBuf::from(format!("/proc/{}/root", node.process_id()));
            let folder = root.join(node.log_folder().strip_prefix("/").unwrap());
            let marked = fs::read_to_string(folder.join("appendonly.aof.manifest")).unwrap();
            assert!(marked.contains(":lacking"), "{name}: {marked}");
            node.kill9();
        }
    }

    fn a_node_that_answers_has_noted_that_it_has_less(version: Version) {
        let mut node = stopped_node(version);
        node.launch();
        let mut client = node.wait_answers();
        assert!(manifest(&node).contains(":lacking"), "{}", manifest(&node));
        // What is saved then can no longer be noted.
        node.reconfigure(|own| own.allow_warning("its mark still says that the log has more"));
        take_no_mark(&node.log_folder());
        client.run("SAVE");
        drop(client);
        node.kill9();
        promote_alone(&mut node);
        node.kill9();
        take_marks(&node.log_folder());
        node.reconfigure(|own| own.allow_warning("can't be brought back"));
        let said = refused_start(&mut node);
        assert!(said.contains("nobody knows which of the two is newer"), "{said}");
        node.reconfigure(|own| own.set("wbl.on-existing-log", "keep"));
        node.start();
        assert_eq!(keys(&node), KEYS);
    }

    fn a_replica_without_data_gets_no_log_that_takes_no_mark(version: Version) {
        for by_load in [false, true] {
            let mut server = replica_beside_a_log(version, by_load);
            let mut client = server.raw();
            take_no_mark(&server.log_folder());
            let before = manifest(&server);
            let refused = format!("{:?}", begin(&mut client, by_load));
            if by_load {
                assert!(refused.starts_with('-'), "{refused}");
                assert!(server.log().contains(REFUSED), "{}", server.log());
            } else {
                assert!(refused.contains(REFUSED), "{refused}");
                assert_eq!(server.wbl_info("wbl_state"), "disabled");
            }
            assert_eq!(manifest(&server), before, "by MODULE LOAD: {by_load}");
            take_marks(&server.log_folder());
            let begun = begin(&mut client, by_load);
            assert!(!begun.is_error(), "{begun:?}");
            assert!(manifest(&server).contains(":lacking"), "{}", manifest(&server));
            // Clients may write to such a replica, but its log has more.
            client.run("CONFIG SET replica-read-only no");
            client.run("SET less v");
            client.run("SAVE");
            client.run("REPLICAOF NO ONE");
            drop(client);
            server.kill9();
            let module = paths::module().to_str().unwrap();
            server.reconfigure(|own| own.unset("replicaof").set("loadmodule", module).set("wbl.enabled", "yes"));
            server.start();
            assert_eq!(server.raw().run("GET k").text(), "v");
        }
    }
}

/// A node of a cluster that is a replica, with a log that was left, and an older file of its own.
fn stopped_node(version: Version) -> Server {
    let node = stopped_replica(version, |own| own.allow_warning(REFUSED).allow_warning("the log is not brought back"));
    assert!(manifest(&node).contains(" left "), "{}", manifest(&node));
    node
}

/// The next start has its log there.
fn put_log(node: &mut Server, place: &str) {
    let folder = node.log_folder();
    let script = format!("{place} && exec \"$0\" \"$@\"");
    node.reconfigure(|own| {
        let own = own.variable("WBL", folder.to_str().expect("a plain path"));
        own.run_by(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script])
    });
}

/// Starts the node on its usable folder; it saves what it has, takes over alone, and has all after its next start.
fn has_all_after_a_save(mut node: Server) {
    node.reconfigure(|own| own.run_by(&[]));
    promote_alone(&mut node);
    node.raw().run("SAVE");
    wait_until("the save is noted", PATIENCE, || manifest(&node).matches("rdb:").count() == 1);
    node.kill9();
    node.start();
    assert_eq!(keys(&node), KEYS);
}

/// The next manifest cannot be written.
fn take_no_mark(folder: &Path) {
    fs::create_dir(folder.join("temp-manifest")).unwrap();
}

fn take_marks(folder: &Path) {
    fs::remove_dir(folder.join("temp-manifest")).unwrap();
}

/// A running replica that has nothing, beside a log with data that was left; without the module, or with it disabled.
fn replica_beside_a_log(version: Version, by_load: bool) -> Server {
    let own = ServerBuilder::with_module(version).set("enable-module-command", "yes").in_memory().only_own_warnings();
    let own = [
        REFUSED,
        "the log is not brought back",
        "is not brought back, as",
        "is not loaded",
        "the log can't begin",
        "takes the place of",
    ]
    .into_iter()
    .fold(own, ServerBuilder::allow_warning);
    let mut server = own.start();
    server.raw().run("SET k v");
    server.stop();
    server.reconfigure(|own| {
        let own = own.set_words("replicaof", &["127.0.0.1", "1"]);
        if by_load {
            own.unset("loadmodule").unset("wbl.enabled").unset("wbl.debug-commands").unset("wbl.commit-mode")
        } else {
            own.set("wbl.enabled", "no")
        }
    });
    server.launch();
    server.wait_answers();
    server
}

fn begin(client: &mut RawConnection, by_load: bool) -> crate::harness::Value {
    if by_load {
        let module = paths::module().to_str().unwrap();
        client.call(&["MODULE", "LOADEX", module, "CONFIG", "wbl.enabled", "yes"])
    } else {
        client.call(&["CONFIG", "SET", "wbl.enabled", "yes"])
    }
}
