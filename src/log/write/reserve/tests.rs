//! Room that is held for the next base, on a simulated disk.

use super::super::expendable::Expendable;
use super::*;
use crate::log::sim::SimDisk;
use std::io::ErrorKind;
use std::sync::Arc;

fn full() -> LogError {
    LogError::io("write", "x", io::Error::from(ErrorKind::StorageFull))
}

fn reserve() -> (SimDisk, Expendable<SimDisk>) {
    let disk = SimDisk::new();
    disk.set_room(Some(1000));
    (disk.clone(), Expendable::new(Arc::new(disk)))
}

fn exactly(bytes: u64) -> WantedReserve {
    WantedReserve::exactly(bytes)
}

#[test]
fn so_much_room_is_held_as_there_is() {
    let (disk, room) = reserve();
    room.keep_reserve(exactly(600)).unwrap();
    assert_eq!((disk.used_bytes(), room.reserve.bytes()), (600, 600));
    room.keep_reserve(WantedReserve { least: 800, most: 1100 }).unwrap();
    assert_eq!((disk.used_bytes(), room.reserve.bytes(), room.reserve.is_short()), (975, 975, false));
    room.keep_reserve(exactly(200)).unwrap();
    assert_eq!((disk.used_bytes(), room.reserve.bytes()), (200, 200));
    room.keep_reserve(WantedReserve::NONE).unwrap();
    assert!(disk.names().is_empty());
}

#[test]
fn too_little_room_is_a_shortage_from_the_beginning() {
    let (disk, room) = reserve();
    room.keep_reserve(exactly(1100)).unwrap();
    assert!(room.reserve.is_short());
    assert!(room.reserve.shortage().is_some_and(|why| why.contains("938 of 1100 bytes")));
    disk.set_room(Some(1200));
    room.keep_reserve(exactly(1100)).unwrap();
    assert_eq!((room.reserve.bytes(), room.reserve.is_short()), (1100, false));
    room.keep_reserve(exactly(5000)).unwrap();
    assert!(room.reserve.is_short());
    room.keep_reserve(WantedReserve::NONE).unwrap();
    assert!(!room.reserve.is_short());
}

#[test]
fn a_quota_that_the_file_system_does_not_show_leaves_room_for_a_base() {
    let (disk, room) = reserve();
    // What has the name is removed first, and the file created.
    disk.fail_at(disk.operations() + 2, libc::EDQUOT, crate::log::sim::Effect::None);
    room.keep_reserve(WantedReserve { least: 600, most: 700 }).unwrap();
    assert_eq!((room.reserve.bytes(), room.reserve.is_short()), (600, false));
}

#[test]
fn where_no_room_can_be_held_there_is_no_shortage_of_it() {
    let (disk, room) = reserve();
    disk.set_room(Some(0));
    room.keep_reserve(exactly(600)).unwrap();
    assert!(room.reserve.is_short(), "nothing is free, whatever the file system can do");
    disk.set_room(Some(1000));
    // What has the name is removed first, and the file created.
    disk.fail_at(disk.operations() + 2, libc::EOPNOTSUPP, crate::log::sim::Effect::None);
    assert!(room.keep_reserve(exactly(600)).is_err() && !room.reserve.is_short());
}

#[test]
fn a_failure_leaves_what_was_held() {
    let (disk, room) = reserve();
    room.keep_reserve(exactly(200)).unwrap();
    disk.fail_at(disk.operations(), libc::EIO, crate::log::sim::Effect::Part);
    assert!(room.keep_reserve(exactly(600)).is_err());
    assert_eq!((disk.used_bytes(), room.reserve.bytes()), (200, 200));
}

#[test]
fn a_shortage_ends_when_as_much_is_held_again() {
    let (disk, room) = reserve();
    room.keep_reserve(exactly(600)).unwrap();
    let mut removed = room.removed();
    assert!(room.make_room(&mut removed, &full()) && room.reserve.is_short());
    assert!(!room.make_room(&mut removed, &full()), "there was nothing more");
    assert!(room.reserve.shortage().is_some_and(|why| why.contains("cannot write x")));
    disk.set_room(Some(500));
    room.keep_reserve(exactly(700)).unwrap();
    assert!(room.reserve.is_short());
    room.keep_reserve(exactly(400)).unwrap();
    assert!(!room.reserve.is_short(), "no more is wanted");
    assert!(room.make_room(&mut removed, &full()) && room.reserve.is_short());
    room.keep_reserve(exactly(450)).unwrap();
    assert!(!room.reserve.is_short() && room.reserve.shortage().is_none());
}

#[test]
fn a_base_that_was_lent_the_room_gives_it_to_the_log() {
    let (_, room) = reserve();
    room.keep_reserve(exactly(600)).unwrap();
    room.reserve.lend();
    assert!(room.reserve.bytes() == 0 && !room.reserve.is_short());
    let mut base = room.storage.create("temp-base-1.rdb").unwrap();
    assert_eq!(room.owed_to_base(), 600);
    room.add_base("temp-base-1.rdb");
    base.write_all_at(0, &[1; 500]).unwrap();
    assert_eq!(room.owed_to_base(), 100);
    let mut removed = room.removed();
    assert!(room.make_room(&mut removed, &full()) && room.reserve.is_short());
    assert!(!room.keep("temp-base-1.rdb"));
    room.keep_reserve(exactly(600)).unwrap();
    assert!(!room.reserve.is_short());
}

#[test]
fn segments_written_ahead_give_their_room_first() {
    let (disk, room) = reserve();
    room.keep_reserve(exactly(600)).unwrap();
    room.storage.create("ahead").unwrap().write_all_at(0, &[0; 100]).unwrap();
    room.add_ahead("ahead");
    let mut removed = room.removed();
    assert!(room.make_room(&mut removed, &full()) && !room.reserve.is_short());
    assert_eq!(disk.used_bytes(), 600);
    assert!(room.make_room(&mut removed, &full()) && room.reserve.is_short());
}
