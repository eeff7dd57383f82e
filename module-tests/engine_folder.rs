//! The log engine and the files of a folder: first start, manifest, leftovers, bases, files of others.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use engine_support::*;
use valkey_wbl::log::sim::{Effect, SimDisk};
use valkey_wbl::log::{
    FolderStorage, LogError, Lsn, MANIFEST_NAME, Options, Storage, StorageFile, Verdict, open, segment_name,
};

#[test]
fn a_fresh_folder_begins_at_zero() {
    let disk = SimDisk::new();
    let opened = reopen(&disk).unwrap();
    assert!(opened.is_empty());
    assert_eq!((opened.verdict(), opened.next_lsn()), (&Verdict::Fresh, Lsn::ZERO));
    opened.into_writer(UNIX_MS).unwrap().close().unwrap();
    assert_eq!(disk.names(), [segment_name(1), MANIFEST_NAME.to_string()]);
    let opened = reopen(&disk).unwrap();
    assert_eq!(*opened.verdict(), Verdict::Clean);
    assert!(!opened.is_empty());
}

#[test]
fn a_missing_segment_is_damage() {
    for seq in [1, 2] {
        let disk = two_segments();
        disk.remove(&segment_name(seq)).unwrap();
        assert!(matches!(reopen(&disk), Err(LogError::Damaged { .. })));
    }
    let disk = two_segments();
    disk.put(MANIFEST_NAME, format!("file {} seq 2 type i\n", segment_name(2)).as_bytes());
    assert!(matches!(reopen(&disk), Err(LogError::NonMonotonic { .. })), "no base, so the log must begin at zero");
}

#[test]
fn a_manifest_older_than_the_segments_is_damage() {
    let disk = two_segments();
    disk.put(MANIFEST_NAME, format!("file {} seq 1 type i\n", segment_name(1)).as_bytes());
    assert!(matches!(reopen(&disk), Err(LogError::Damaged { .. })));
    assert!(disk.contents(&segment_name(2)).is_some(), "its frames are not removed");
}

#[test]
fn folders_of_others_are_left_alone() {
    let manifest = |name: &str| format!("file {name} seq 1 type i\n").into_bytes();
    let incr = segment_name(1);
    let folders: [&[(&str, &[u8])]; 6] = [
        &[("notes.txt", b"mine")],
        &[(&incr, b"*1\r\n$4\r\nPING\r\n")],
        &[(&incr, &frame(0, &unit(0)))],
        &[(MANIFEST_NAME, &manifest(&incr)), (&incr, b"*1\r\n$4\r\nPING\r\n")],
        &[(MANIFEST_NAME, &manifest("other.aof.1.incr.aof"))],
        &[(MANIFEST_NAME, b"")],
    ];
    for files in folders {
        let disk = SimDisk::new();
        files.iter().for_each(|(name, bytes)| disk.put(name, bytes));
        let names = disk.names();
        match reopen(&disk) {
            Err(LogError::ForeignFolder { .. }) => {}
            other => panic!("{names:?}: {:?}", other.err()),
        }
        assert_eq!(disk.names(), names);
    }
}

#[test]
fn leftovers_are_ours_only_and_go_when_writing_starts() {
    let disk = two_segments();
    let ours = ["appendonly.aof.1.base.rdb", "appendonly.aof.1.base.rdb.tmp", "appendonly.aof.manifest.tmp"];
    ours.iter().for_each(|name| disk.put(name, b"x"));
    disk.put("notes.tmp", b"mine");
    let opened = reopen(&disk).unwrap();
    assert_eq!(opened.leftovers(), ours);
    let writer = opened.into_writer(UNIX_MS).unwrap();
    assert_eq!(writer.removed(), ours);
    assert!(ours.iter().all(|name| disk.contents(name).is_none()));
    assert!(disk.contents("notes.tmp").is_some());
}

#[test]
fn a_base_replaces_the_segments_before_it() {
    let disk = two_segments();
    let mut writer = writer_of(&disk);
    let seq = writer.rotate().unwrap();
    let name = writer.temp_base_name();
    write(&mut writer, 6..8);
    assert!(matches!(writer.install_base("notes.txt", seq), Err(LogError::Refused { .. })));
    assert!(matches!(writer.install_base(&name, seq + 9), Err(LogError::Refused { .. })));
    assert!(matches!(writer.install_base(&name, seq), Err(LogError::Io { .. })), "nobody wrote it");
    assert!(!writer.is_failed(), "the log goes on without the base");
    disk.create(&name).unwrap().write_all_at(0, b"base").unwrap();
    writer.install_base(&name, seq).unwrap();
    writer.close().unwrap();
    let base = "appendonly.aof.1.base.rdb".to_string();
    assert_eq!(disk.names(), [base.clone(), segment_name(3), MANIFEST_NAME.to_string()]);
    let opened = reopen(&disk).unwrap();
    assert_eq!((opened.base(), recovered(&opened)), (Some(base), units(6..8)));
    assert_eq!(opened.segments()[0].first.get(), units(0..6).len() as u64);
}

#[test]
fn a_base_whose_sync_failed_cannot_be_tried_again() {
    let disk = two_segments();
    let mut writer = writer_of(&disk);
    let (seq, name) = (writer.rotate().unwrap(), writer.temp_base_name());
    disk.create(&name).unwrap().write_all_at(0, b"base").unwrap();
    disk.fail_at(disk.operations() + 1, libc::EIO, Effect::Part);
    assert_eq!(writer.install_base(&name, seq).unwrap_err().errno(), Some(libc::EIO));
    assert!(writer.install_base(&name, seq).is_err());
    assert!(!writer.is_failed() && disk.contents(&name).is_none());
}

#[test]
fn a_rotation_of_an_empty_segment_changes_nothing() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    assert_eq!((writer.rotate().unwrap(), writer.rotate().unwrap()), (1, 1));
    write(&mut writer, 0..1);
    assert_eq!((writer.rotate().unwrap(), writer.rotate().unwrap()), (2, 2));
}

#[test]
fn a_real_folder_is_locked_written_and_read() {
    let folder = std::env::temp_dir().join(format!("wbl-engine-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let storage = || FolderStorage::new(&folder).unwrap();
    let options = Options { segment_bytes: 300 };
    let mut writer = open(storage(), &options).unwrap().into_writer(UNIX_MS).unwrap();
    assert!(matches!(open(storage(), &options), Err(LogError::Locked { .. })));
    write(&mut writer, 0..50);
    writer.close().unwrap();
    let opened = open(storage(), &options).unwrap();
    assert!(opened.segments().len() > 5);
    assert_eq!(recovered(&opened), units(0..50));
    std::fs::remove_dir_all(&folder).unwrap();
}
