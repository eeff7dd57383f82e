//! Disks without room: what is no part of the log never holds the room that the log needs.

use crate::support::*;
use valkey_wbl::log::sim::{Effect, SimDisk};
use valkey_wbl::log::{Begin, segment_name};

/// Files that no log names.
const VOID: [&str; 3] = ["temp-base-7.rdb", "appendonly.aof.9.base.rdb", "temp-manifest"];

/// A log whose last segment ends in an unfinished frame.
fn torn() -> SimDisk {
    let disk = two_open_segments().crash_image(0);
    edit(&disk, &segment_name(2), |bytes| bytes.truncate(bytes.len() - 5));
    disk
}

/// Leaves no byte on the disk.
fn fill(disk: &SimDisk) {
    disk.set_room(Some(disk.used_bytes()));
}

#[test]
fn a_start_finds_the_room_that_leftovers_hold() {
    for name in VOID {
        let disk = torn();
        disk.put(name, &[b'x'; 4096]);
        fill(&disk);
        let mut writer = go_on(reopen(&disk).unwrap(), UNIX_MS).unwrap_or_else(|error| panic!("{name}: {error}"));
        write(&mut writer, 5..8);
        writer.close().unwrap();
        assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..8), "{name}");
    }
}

#[test]
fn a_new_log_finds_the_room_that_leftovers_hold() {
    for begin in [Begin::Empty, Begin::WaitsForBase] {
        let disk = SimDisk::new();
        disk.put(VOID[0], &[b'x'; 4096]);
        fill(&disk);
        let writer = reopen(&disk).unwrap().into_folder().begin(begin, UNIX_MS);
        assert!(writer.is_ok(), "{begin:?}: {writer:?}");
    }
}

#[test]
fn what_is_cut_is_in_the_copy_whatever_fails() {
    let end = {
        let disk = torn();
        let bytes = disk.contents(&segment_name(2)).unwrap();
        bytes[bytes.len() - 20..].to_vec()
    };
    let mut failed = 0;
    for effect in [Effect::None, Effect::Part, Effect::Full] {
        for step in 0.. {
            let disk = torn();
            let prepared = reopen(&disk).unwrap().prepare(UNIX_MS).unwrap();
            disk.fail_at(disk.operations() + step, libc::EIO, effect);
            let started = prepared.start().map(drop);
            let files = disk.names().into_iter().filter_map(|name| disk.contents(&name));
            let kept = files.filter(|bytes| bytes.ends_with(&end)).count();
            assert!(kept > 0, "step {step}, {effect:?}: {started:?}");
            if started.is_ok() {
                break;
            }
            failed += 1;
        }
    }
    assert!(failed >= 3 * 4, "{failed}");
}
