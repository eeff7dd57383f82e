//! The log engine and the files of a folder: first start, manifest, generations, leftovers, files of others.

use crate::bases::{base_file, checkpoint};
use crate::scenes::beside_a_file;
use crate::support::*;
use valkey_wbl::log::sim::{Effect, SimDisk};
use valkey_wbl::log::{
    Batch, Begin, FolderStorage, Left, LogError, Lsn, MANIFEST_NAME, NewBase, Options, SeenLog, Standing, Storage,
    Verdict, base_name, open, segment_name,
};

pub fn damage(disk: &SimDisk) -> String {
    match reopen(disk) {
        Err(error @ LogError::Damaged { .. }) => error.to_string(),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_fresh_folder_begins_at_zero() {
    let disk = SimDisk::new();
    let opened = reopen(&disk).unwrap();
    assert!(opened.is_empty());
    assert_eq!((opened.verdict(), opened.next_lsn()), (&Verdict::Fresh, Lsn::ZERO));
    drop(opened);
    writer_of(&disk).close().unwrap();
    assert_eq!(disk.names(), [segment_name(1), MANIFEST_NAME.to_string()]);
    let opened = reopen(&disk).unwrap();
    assert_eq!(*opened.verdict(), Verdict::Clean);
    assert!(!opened.is_empty() && opened.base().is_none());
}

#[test]
fn a_mark_beside_a_log_that_failed_is_made_by_the_next_try() {
    let left = Standing::Left(beside_a_file());
    for effect in [Effect::None, Effect::Part, Effect::Full] {
        for fails_at in 0.. {
            let disk = SimDisk::new();
            writer_of(&disk).close().unwrap();
            let mut seen = SeenLog::look(&disk).unwrap().unwrap();
            disk.fail_at(disk.operations() + fails_at, libc::EIO, effect);
            if seen.mark(&disk, left.clone()).is_ok() {
                assert!(fails_at > 3, "each operation has failed once");
                break;
            }
            // What is wanted may be another by then.
            for standing in [Standing::Current, left.clone()] {
                assert!(seen.mark(&disk, standing.clone()).unwrap(), "operation {fails_at}, {effect:?}");
                let durable = SeenLog::look(&disk.crash_image(fails_at)).unwrap().unwrap();
                assert_eq!(*durable.standing(), standing, "operation {fails_at}, {effect:?}");
            }
            writer_of(&disk).close().unwrap();
            assert!(!seen.mark(&disk, Standing::Superseded(None)).unwrap(), "somebody has gone on with the log");
        }
    }
}

#[test]
fn restarts_replace_a_segment_without_frames() {
    let disk = SimDisk::new();
    for _ in 0..5 {
        writer_of(&disk).close().unwrap();
        drop(writer_of(&disk));
    }
    assert_eq!(disk.names().len(), 2);
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..2);
    writer.close().unwrap();
    for _ in 0..5 {
        writer_of(&disk).close().unwrap();
    }
    assert_eq!(disk.names().len(), 3);
    assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..2));
}

#[test]
fn a_missing_segment_is_damage() {
    for seq in [1, 2] {
        let disk = two_segments();
        disk.remove(&segment_name(seq)).unwrap();
        assert!(damage(&disk).contains(&segment_name(seq)));
    }
}

#[test]
fn a_manifest_that_lost_a_line_is_refused() {
    let whole = two_segments();
    let text = String::from_utf8(whole.contents(MANIFEST_NAME).unwrap()).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for line in 0..lines.len() {
        for remark in [true, false] {
            let mut other = lines.clone();
            let commented = format!("#{}", lines[line]);
            other[line] = if remark { &commented } else { "" };
            let disk = whole.crash_image(0);
            disk.put(MANIFEST_NAME, other.concat().as_bytes());
            let names = disk.names();
            assert!(reopen(&disk).is_err(), "line {line}");
            assert_eq!(disk.names(), names);
        }
    }
    // All lines that only this module reads, as the server leaves it that has rewritten the manifest.
    let disk = whole.crash_image(0);
    disk.put(MANIFEST_NAME, lines.iter().filter(|line| !line.starts_with('#')).copied().collect::<String>().as_bytes());
    assert!(damage(&disk).contains("changed"));
}

#[test]
fn a_manifest_older_than_the_segments_is_damage() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..3);
    let older = disk.contents(MANIFEST_NAME).unwrap();
    writer.cut().unwrap();
    write(&mut writer, 3..6);
    drop(writer);
    disk.put(MANIFEST_NAME, &older);
    assert!(damage(&disk).contains("does not name it"));
    assert!(disk.contents(&segment_name(2)).is_some(), "its frames are not removed");
}

#[test]
fn a_manifest_from_before_another_log_is_damage() {
    for begin in [Begin::Empty, Begin::WaitsForBase] {
        let disk = two_segments();
        let older = disk.contents(MANIFEST_NAME).unwrap();
        let kept = disk.restart_image();
        let mut writer = reopen(&disk).unwrap().into_folder().begin(begin, UNIX_MS).unwrap();
        if writer.waits_for_base() {
            checkpoint(&mut writer, b"base");
        }
        write(&mut writer, 6..7);
        drop(writer);
        // With the files that it names, so that nothing else is wrong.
        for name in [segment_name(1), segment_name(2)] {
            disk.put(&name, &kept.contents(&name).unwrap());
        }
        disk.put(MANIFEST_NAME, &older);
        assert!(damage(&disk).contains("does not name it"), "{begin:?}");
    }
}

#[test]
fn a_segment_of_another_folder_is_refused() {
    let (disk, other) = (two_segments(), SimDisk::new().crash_image(7));
    let mut writer = writer_of(&other);
    write(&mut writer, 0..3);
    writer.cut().unwrap();
    write(&mut writer, 3..6);
    writer.close().unwrap();
    disk.put(&segment_name(1), &other.contents(&segment_name(1)).unwrap());
    assert!(damage(&disk).contains("another log"));
}

#[test]
fn folders_of_others_are_left_alone() {
    let manifest = |name: &str| format!("file {name} seq 1 type i\n").into_bytes();
    let incr = segment_name(1);
    let ours = two_segments();
    let (segment, base) = (ours.contents(&incr).unwrap(), base_name(1));
    let folders: [&[(&str, &[u8])]; 8] = [
        &[("notes.txt", b"mine")],
        &[("\u{e9}t\u{e9}.txt", b"mine")],
        &[(&incr, b"*1\r\n$4\r\nPING\r\n")],
        &[(&incr, &segment)],
        &[(&base, b"REDIS0011")],
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
    let ours = [
        "appendonly.aof.1.base.rdb",
        "appendonly.aof.1.base.rdb.tmp",
        "appendonly.aof.manifest.tmp",
        "temp-base-77.rdb",
    ];
    ours.iter().for_each(|name| disk.put(name, b"x"));
    disk.put("notes.tmp", b"mine");
    disk.put("temp-77.rdb", b"the server's, which saves here");
    disk.put("cut-1-20.bin", b"kept aside");
    let opened = reopen(&disk).unwrap();
    assert_eq!(opened.leftovers(), ours);
    drop(go_on(opened, UNIX_MS).unwrap());
    assert!(ours.iter().all(|name| disk.contents(name).is_none()));
    for name in ["notes.tmp", "temp-77.rdb", "cut-1-20.bin"] {
        assert!(disk.contents(name).is_some(), "{name}");
    }
}

#[test]
fn a_superseded_log_says_so_until_another_takes_its_place() {
    let disk = two_segments();
    let mut opened = reopen(&disk).unwrap();
    assert!(!opened.is_superseded());
    opened.supersede().unwrap();
    drop(opened);
    let opened = reopen(&disk.restart_image()).unwrap();
    assert!(opened.is_superseded() && recovered(&opened) == units(0..6));
    let writer = opened.into_folder().begin(Begin::Empty, UNIX_MS).unwrap();
    let folder = writer.close().unwrap();
    assert!(!folder.is_superseded() && folder.seal_error().is_none());
    let empty = reopen(&SimDisk::new()).unwrap().into_folder().supersede();
    assert!(empty.is_ok(), "there is nothing to note");
}

#[test]
fn a_superseded_log_keeps_when_it_was_left() {
    let (left, later) = (beside_a_file(), Left::new(UNIX_MS + 1, "none").unwrap());
    let disk = SimDisk::new();
    writer_of(&disk).close_as(Standing::Left(left.clone())).unwrap();
    let standing = || SeenLog::look(&disk.crash_image(0)).unwrap().unwrap().standing().clone();
    let mut folder = reopen(&disk).unwrap().into_folder();
    folder.supersede().unwrap();
    assert_eq!(folder.left_before_superseded(), Some(&left));
    for (marked, expected) in [
        (Standing::Superseded(None), Some(&left)),
        (Standing::Superseded(Some(later.clone())), Some(&left)),
        (Standing::Current, Some(&left)),
        // Nothing newer than the log has come by then.
        (Standing::Left(later.clone()), Some(&later)),
    ] {
        folder.mark(marked.clone()).unwrap();
        assert_eq!(standing(), Standing::Superseded(expected.cloned()), "{marked:?}");
    }
    folder.mark_anew(Standing::Superseded(None)).unwrap();
    assert_eq!(standing(), Standing::Superseded(None));
    folder.mark(Standing::Left(later)).unwrap();
    assert_eq!(standing(), Standing::Superseded(None), "an earlier version's mark stays as it is");
}

#[test]
fn numbers_of_files_that_leave_no_room_for_another_are_refused() {
    let of_a_log = || two_segments().restart_image();
    for number in [u64::MAX, u64::MAX - 1, (1 << 62) + 1] {
        let disk = of_a_log();
        disk.put(&segment_name(number), b"");
        let opened = reopen(&disk).unwrap();
        assert!(opened.leftovers().is_empty(), "it is no file of ours");
        drop(opened.prepare(UNIX_MS).unwrap().start().unwrap());
        let disk = SimDisk::new();
        disk.put(&segment_name(number), b"");
        assert!(matches!(reopen(&disk), Err(LogError::ForeignFolder { .. })), "{number}");
    }
    let disk = of_a_log();
    disk.put(&segment_name(1 << 62), b"");
    let refused = reopen(&disk).unwrap().prepare(UNIX_MS).map(|_| ()).unwrap_err();
    assert!(matches!(refused, LogError::Refused { .. }), "{refused}");
    disk.put(&segment_name(1 << 62), b"");
    let begun = reopen(&disk).unwrap().into_folder().begin(Begin::WaitsForBase, UNIX_MS);
    assert!(matches!(begun.unwrap_err().error, LogError::Refused { .. }));
}

#[test]
fn a_folder_that_is_prepared_and_given_up_is_as_before() {
    let disk = two_open_segments().restart_image();
    edit(&disk, &segment_name(2), |bytes| bytes.extend_from_slice(b"torn"));
    let before: Vec<_> = disk.names().iter().map(|name| disk.contents(name)).collect();
    let prepared = reopen(&disk).unwrap().prepare(UNIX_MS).unwrap();
    assert!(recovered(&*prepared) == units(0..6), "what was recovered is still to be read");
    assert!(disk.names().len() > before.len());
    drop(prepared);
    let after: Vec<_> = disk.names().iter().map(|name| disk.contents(name)).collect();
    assert!(before == after);
}

/// The lock goes from state to state, and is never free between two.
#[test]
fn a_second_process_finds_the_folder_locked_in_every_state() {
    let disk = two_segments();
    let locked = || matches!(reopen(&disk), Err(LogError::Locked { .. }));
    let opened = reopen(&disk).unwrap();
    assert!(locked());
    let prepared = opened.prepare(UNIX_MS).unwrap();
    assert!(locked());
    let writer = prepared.start().unwrap();
    assert!(locked());
    let folder = writer.close().unwrap();
    assert!(locked());
    let writer = folder.begin(Begin::WaitsForBase, UNIX_MS).unwrap();
    assert!(locked());
    let folder = writer.close().unwrap();
    assert!(locked());
    disk.refuse_new_files(true);
    let not_begun = folder.begin(Begin::Empty, UNIX_MS).err().unwrap();
    assert!(locked(), "a log that cannot begin leaves the folder locked: {}", not_begun.error);
    drop(not_begun);
    assert!(!locked());
}

#[test]
fn a_full_disk_ends_neither_rotation_nor_checkpoint_nor_close() {
    let disk = SimDisk::new();
    let options = Options { segment_bytes: 300, ..Options::default() };
    let folder = open(disk.clone(), &options).unwrap().into_folder();
    let mut writer = folder.begin(Begin::Empty, UNIX_MS).unwrap();
    disk.refuse_new_files(true);
    write(&mut writer, 0..20);
    assert!(writer.statistics().failed_rotations() > 0 && disk.names().len() == 2);
    let lsn = writer.cut().unwrap();
    disk.refuse_new_files(false);
    let name = base_file(&mut writer, b"base");
    let missing = writer.install_base(&NewBase { name, lsn });
    assert!(matches!(&missing, Err(LogError::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOSPC)));
    write(&mut writer, 20..40);
    assert!(disk.names().len() > 3, "with room there are new segments");
    disk.refuse_new_files(true);
    let folder = writer.close().unwrap();
    assert!(folder.seal_error().is_some());
    drop(folder);
    disk.refuse_new_files(false);
    assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..40));
}

#[test]
fn a_file_that_is_taken_away_ends_the_log() {
    for how in ["cut", "removed", "moved", "replaced"] {
        let disk = SimDisk::new();
        let mut writer = writer_of(&disk);
        write(&mut writer, 0..1);
        let durable = writer.durable();
        let name = segment_name(1);
        match how {
            "cut" => disk.truncate(&name, 10),
            "removed" => disk.remove(&name).unwrap(),
            "moved" => disk.rename(&name, "elsewhere").unwrap(),
            _ => {
                disk.rename(&name, "elsewhere").unwrap();
                drop(disk.create(&name).unwrap());
            }
        }
        let (start, payload) = (writer.appended(), unit(1));
        let _ = writer.append(valkey_wbl::log::Batch { start, payload: &payload, unix_ms: UNIX_MS });
        let outcome = writer.sync();
        assert!(
            matches!(&outcome, Err(LogError::Failed(first)) if matches!(**first, LogError::TakenAway { .. })),
            "{how}: {outcome:?}"
        );
        assert_eq!(writer.durable(), durable);
    }
}

#[test]
fn a_real_folder_is_locked_written_and_read() {
    let folder = std::env::temp_dir().join(format!("wbl-engine-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let storage = || FolderStorage::new(&folder).unwrap();
    let options = Options { segment_bytes: 300, ..Options::default() };
    let mut writer = go_on(open(storage(), &options).unwrap(), UNIX_MS).unwrap();
    assert!(matches!(open(storage(), &options), Err(LogError::Locked { .. })));
    write(&mut writer, 0..50);
    let closed = writer.close().unwrap();
    assert!(matches!(open(storage(), &options), Err(LogError::Locked { .. })), "until the folder is given up");
    drop(closed);
    let opened = open(storage(), &options).unwrap();
    assert!(opened.segments().len() > 5);
    assert_eq!(recovered(&opened), units(0..50));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_is_shown_of_a_killed_servers_log_can_be_made_durable() {
    let disk = two_open_segments();
    let mut writer = writer_of(&disk);
    let (start, payload) = (writer.appended(), unit(6));
    writer.append(Batch { start, payload: &payload, unix_ms: UNIX_MS }).unwrap();
    // The process dies before the sync.
    drop(writer);
    let opened = reopen(&disk).unwrap();
    assert_eq!(recovered(&opened), units(0..7));
    let after_power_loss = |seed| recovered(&reopen(&disk.crash_image(seed)).unwrap());
    assert!((0..100).any(|seed| after_power_loss(seed) == units(0..6)), "the last frame may be lost");
    opened.make_durable().unwrap();
    (0..100).for_each(|seed| assert_eq!(after_power_loss(seed), units(0..7), "seed {seed}"));
}
