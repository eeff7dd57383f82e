//! A replica's log whose disk takes neither the log nor the mark that says so, while the server's own files go on.

use crate::harness::dataset::{self, Dataset};
use crate::harness::group::{Group, wait_in_sync};
use crate::harness::{PATIENCE, Server, ServerBuilder, Version, each_version, wait_until};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// How the server saves what its log lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Aof,
    Rdb,
}

each_version! {
    fn what_a_replica_has_saved_since_its_log_was_left_on_a_full_disk_is_there(version: Version) {
        for own in [Own::Aof, Own::Rdb] {
            let (mut group, expected) = with_log_on_full_disk(version, own);
            assert_comes_back(&mut group, &expected, &format!("{own:?}"));
            assert!(!mark_of(&group.nodes[1]).exists(), "the log's folder has the mark now");
            group.nodes[1].kill9();
            assert_comes_back(&mut group, &expected, &format!("{own:?}, again"));
        }
    }

    fn a_server_that_is_started_disabled_after_that_goes_on_with_its_own_file(version: Version) {
        let (mut group, _) = with_log_on_full_disk(version, Own::Aof);
        let server = &mut group.nodes[1];
        server.reconfigure(|builder| builder.unset("replicaof").set("wbl.enabled", "no"));
        server.launch();
        let mut client = server.wait_answers();
        client.run("SET since v");
        let expected = dataset::read(&mut client);
        server.kill9();
        server.reconfigure(|builder| builder.set("wbl.enabled", "yes").allow_warning("was superseded"));
        server.start();
        dataset::assert_same(&dataset::read(&mut server.raw()), &expected, "started disabled");
    }

    fn what_a_replica_has_saved_while_its_log_was_behind_is_there(version: Version) {
        for own in [Own::Aof, Own::Rdb] {
            let mut group = group(version, own);
            let mut client = group.primary().raw();
            client.run("SET before v");
            group.wait_all(1);
            group.nodes[1].raw().run("WBL.DEBUG SYNC HOLD");
            let expected = fall_behind(&group, own);
            group.nodes.iter_mut().for_each(Server::kill9);
            assert_comes_back(&mut group, &expected, &format!("{own:?}"));
        }
    }

    fn a_log_that_has_caught_up_is_the_newest_again(version: Version) {
        let mut group = group(version, Own::Aof);
        group.nodes[1].raw().run("WBL.DEBUG SYNC HOLD");
        fall_behind(&group, Own::Aof);
        group.nodes[1].raw().run("WBL.DEBUG SYNC RELEASE");
        wait_until("the mark is gone", PATIENCE, || !mark_of(&group.nodes[1]).exists());
        group.primary().raw().run("SET later v");
        let expected = group.wait_equal(1);
        // The append-only file has lost its end, as in a loss of power.
        group.nodes.iter_mut().for_each(Server::kill9);
        fs::remove_dir_all(group.nodes[1].folder().join("appendonlydir")).unwrap();
        assert_comes_back(&mut group, &expected, "the log");
    }
}

fn group(version: Version, own: Own) -> Group {
    let appends = if own == Own::Aof { "yes" } else { "no" };
    // What is held or written ahead would be room on the full disk.
    let settings = [
        ("appendonly", appends),
        ("wbl.reserve", "no"),
        ("wbl.segment-bytes", "1mb"),
        ("wbl.max-pending-bytes", "1mb"),
    ];
    Group::start(version, 1, &settings)
}

/// A group whose replica has left its log, which is on a full disk, and has saved all that it has got since. Also
/// returns that.
fn with_log_on_full_disk(version: Version, own: Own) -> (Group, Dataset) {
    let mut group = group(version, own);
    let mut client = group.primary().raw();
    client.run("SET before v");
    group.wait_all(1);
    let (mut others, mut replica) = (group.nodes.drain(..1).collect::<Vec<_>>(), group.nodes.remove(0));
    replica.kill9();
    let folder = on_small_disk(&mut replica);
    replica.launch();
    drop(replica.wait_answers());
    others.push(replica);
    group.nodes = others;
    wait_in_sync(&group.nodes[1]);
    group.wait_logged();
    let inside = PathBuf::from(format!("/proc/{}/root/{}", group.nodes[1].process_id(), folder.display()));
    let mut filler = fs::File::create(inside.join("filler")).unwrap();
    let mut fill = || while filler.write(&[0; 512]).is_ok_and(|bytes| bytes > 0) {};
    // No base of it fits on the disk either: it can't be compressed.
    let digits = (1u32..8 << 10).map(|number| format!("{:08x}", number.wrapping_mul(0x9e37_79b9)));
    let value = digits.collect::<String>();
    for number in 0..100 {
        fill();
        client.run(&format!("SET k{number} {value}"));
    }
    // What is given up of the log may make room for a mark in its own folder for a moment.
    wait_until("the log is left", PATIENCE, || {
        fill();
        let own_mark = fs::read_to_string(inside.join("appendonly.aof.manifest")).unwrap().contains(" left ");
        group.nodes[1].wbl_info("wbl_replica_log") != "written" && (own_mark || mark_of(&group.nodes[1]).exists())
    });
    let expected = save_more(&group, own);
    // The disk stays as it is.
    let kept = folder.with_extension("kept");
    fs::create_dir(&kept).unwrap();
    for entry in fs::read_dir(inside).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "filler" {
            fs::copy(entry.path(), kept.join(entry.file_name())).unwrap();
        }
    }
    group.nodes.iter_mut().for_each(Server::kill9);
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(kept, folder).unwrap();
    group.nodes[1].reconfigure(|builder| builder.run_by(&[]));
    (group, expected)
}

/// Waits until the server's own folder has the mark, and has the server save what comes later.
fn fall_behind(group: &Group, own: Own) -> Dataset {
    group.primary().raw().run("SET behind v");
    wait_until("the mark is there", PATIENCE, || mark_of(&group.nodes[1]).exists());
    save_more(group, own)
}

fn save_more(group: &Group, own: Own) -> Dataset {
    let (mut client, replica) = (group.primary().raw(), &group.nodes[1]);
    (0..100).for_each(|number| drop(client.run(&format!("SET later{number} v"))));
    let mut own_client = replica.raw();
    let expected = dataset::read(&mut client);
    wait_until("the replica has all", PATIENCE, || dataset::read(&mut own_client) == expected);
    if own == Own::Rdb {
        own_client.run("SAVE");
    }
    expected
}

fn mark_of(server: &Server) -> PathBuf {
    server.folder().join("wbl.mark")
}

/// The replica, which was killed with its primary, starts alone.
fn assert_comes_back(group: &mut Group, expected: &Dataset, case: &str) {
    let replica = &mut group.nodes[1];
    replica.launch();
    dataset::assert_same(&dataset::read(&mut replica.wait_answers()), expected, case);
}

/// From its next start on the server has its log on a disk of 3 MB.
fn on_small_disk(server: &mut Server) -> PathBuf {
    let folder = server.log_folder();
    let mount = "mount -t tmpfs -o size=3m none /mnt && cp -a \"$WBL\"/. /mnt && mount --bind /mnt \"$WBL\" && exec \"$0\" \"$@\"";
    server.reconfigure(|builder| {
        let builder = builder.variable("WBL", folder.to_str().expect("a plain path"));
        let builder = [
            "can't go on",
            "can't be noted",
            "the log can't begin",
            "no new base",
            "can't begin",
            "could not be closed",
        ]
        .into_iter()
        .fold(builder, ServerBuilder::allow_warning);
        builder.run_by(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount])
    });
    folder
}
