//! Disks without room: what is no part of the log never holds the room that the log needs.

use crate::support::*;
use std::sync::Arc;
use std::time::Duration;
use valkey_wbl::log::sim::{Effect, SimDisk};
use valkey_wbl::log::{Begin, Flusher, LogError, LogWriter, NewBase, StorageFile, Verdict, segment_name};

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
fn a_start_finds_the_room_of_a_segment_that_was_written_ahead() {
    for disk in [torn(), two_open_segments().crash_image(0)] {
        let kept = recovered(&reopen(&disk).unwrap());
        edit(&disk, &segment_name(2), |bytes| bytes.extend([0; 4096]));
        fill(&disk);
        let writer = go_on(reopen(&disk).unwrap(), UNIX_MS).unwrap();
        writer.close().unwrap();
        assert_eq!(recovered(&reopen(&disk).unwrap()), kept);
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
fn the_log_takes_the_room_of_a_base_that_is_written() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..3);
    let (name, mut file) = writer.new_base_file().unwrap();
    let lsn = writer.cut().unwrap();
    file.write_all_at(0, &[b'x'; 4096]).unwrap();
    fill(&disk);
    write(&mut writer, 3..6);
    // Whoever writes it does not know yet.
    file.write_all_at(4096, &[b'x'; 4096]).unwrap_err();
    write(&mut writer, 6..9);
    let refused = writer.install_base(&NewBase { name: name.clone(), lsn }).unwrap_err();
    assert!(refused.to_string().contains("find room beside the log"), "{refused}");
    assert!(disk.contents(&name).is_none());
    writer.close().unwrap();
    assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..9));
}

#[test]
fn the_log_takes_the_room_of_what_waits_to_be_removed() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..100);
    let (name, _) = writer.new_base_file().unwrap();
    let lsn = writer.cut().unwrap();
    let flusher = Arc::new(Flusher::start(writer, Box::new(|_| ()), Box::new(|_| ())).unwrap());
    let (sender, done) = std::sync::mpsc::channel();
    let (in_done, hold) = std::sync::mpsc::channel::<()>();
    // The thread that removes files is kept busy, with the segment of the old units still to be removed.
    flusher.install_base(
        NewBase { name, lsn },
        Box::new(move |outcome| {
            sender.send(outcome).unwrap();
            hold.recv().unwrap_err();
        }),
    );
    done.recv().unwrap().unwrap();
    disk.put("appendonly.aof.77.base.rdb", &[b'x'; 4096]);
    flusher.remove_base_file("appendonly.aof.77.base.rdb".into());
    fill(&disk);
    let end = flusher.append(unit(100), UNIX_MS);
    assert!(flusher.wait_durable(end, Some(Duration::from_secs(30))).unwrap());
    drop(in_done);
    flusher.close().unwrap();
}

/// A log of 30 units that has filled the disk, room for a base of so many bytes included, and has taken that.
fn filled(reserve_bytes: u64) -> (SimDisk, LogWriter<SimDisk>) {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..29);
    writer.keep_reserve(reserve_bytes).unwrap();
    fill(&disk);
    assert!(!writer.is_short_of_room());
    write(&mut writer, 29..30);
    assert!(writer.is_short_of_room());
    (disk, writer)
}

/// A checkpoint of a log of 30 units, most of which overwrite others; returns what stands for them.
fn checkpoint(writer: &mut LogWriter<SimDisk>) -> Result<Vec<u8>, LogError> {
    let data = units(20..30);
    let lsn = writer.cut()?;
    let name = base_of(writer, &data)?;
    writer.install_base(&NewBase { name, lsn })?;
    Ok(data)
}

#[test]
fn a_checkpoint_takes_the_place_of_a_log_that_has_filled_the_disk() {
    let (disk, mut writer) = filled(2000);
    let data = checkpoint(&mut writer).unwrap();
    writer.keep_reserve(1000).unwrap();
    assert!(!writer.is_short_of_room());
    write(&mut writer, 30..33);
    assert!(!writer.is_short_of_room(), "there was room");
    writer.close().unwrap();
    assert_eq!(dataset(&reopen(&disk).unwrap()).unwrap(), [data, units(30..33)].concat());
    assert!(!disk.names().iter().any(|name| name.starts_with("temp-")), "{:?}", disk.names());
}

#[test]
fn a_log_that_outgrows_the_disk_leaves_a_base_the_room_that_it_was_lent() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..29);
    writer.keep_reserve(2000).unwrap();
    disk.set_room(Some(disk.used_bytes() + 500));
    let (_, mut file) = writer.new_base_file().unwrap();
    file.write_all_at(0, &[b'x'; 1000]).unwrap();
    write(&mut writer, 29..31);
    assert!(!writer.is_short_of_room(), "there was room");
    for number in 31.. {
        if writer.is_short_of_room() {
            break;
        }
        write(&mut writer, number..number + 1);
    }
    // It would be held in vain if the base had to be as small as it is.
    file.write_all_at(1000, &[b'x'; 900]).unwrap();
    assert!(writer.is_short_of_room());
    writer.close().unwrap();
}

#[test]
fn a_full_disk_loses_nothing_whatever_fails() {
    let before = units(0..30);
    let mut failed = 0;
    for effect in [Effect::None, Effect::Part, Effect::Full] {
        for step in 0.. {
            let (disk, mut writer) = filled(2000);
            disk.fail_from(disk.operations() + step, libc::EIO, effect);
            let outcome = checkpoint(&mut writer).and_then(|data| writer.keep_reserve(1000).map(|()| data));
            for seed in 0..4 {
                let image = disk.crash_image(seed);
                // What the reserve holds is free for the start.
                image.set_room(Some(image.used_bytes()));
                let found = dataset(&reopen(&image).unwrap()).unwrap();
                let is_replaced = found == units(20..30);
                assert!(found == before || is_replaced, "{effect:?} {step} {seed}");
                assert!(outcome.is_err() || is_replaced, "{effect:?} {step} {seed}: the log is back");
                image.set_room(None);
                drop(go_on(reopen(&image).unwrap(), UNIX_MS).unwrap());
                assert!(image.contents("temp-reserve").is_none(), "{effect:?} {step} {seed}");
                assert_eq!(dataset(&reopen(&image).unwrap()).unwrap(), found);
            }
            if outcome.is_ok() {
                break;
            }
            failed += 1;
        }
    }
    println!("{failed} failures");
    assert!(failed > 40, "{failed} steps");
}

#[test]
fn a_start_finds_the_room_of_the_reserve() {
    let disk = torn();
    disk.put("temp-reserve", &[0; 4096]);
    fill(&disk);
    drop(go_on(reopen(&disk).unwrap(), UNIX_MS).unwrap());
    assert!(disk.contents("temp-reserve").is_none());
}

#[test]
fn a_disk_that_has_no_room_to_give_ends_the_log() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..3);
    let (_, _) = writer.new_base_file().unwrap();
    let used = disk.used_bytes();
    disk.set_room(Some(used + 30));
    let (start, payload) = (writer.appended(), unit(3));
    let batch = valkey_wbl::log::Batch { start, payload: &payload, unix_ms: UNIX_MS };
    assert!(matches!(writer.append(batch), Err(LogError::Failed(_))));
    assert_eq!(disk.used_bytes(), used, "it left a piece of a frame behind");
    drop(writer);
    let opened = reopen(&disk).unwrap();
    assert_eq!((opened.verdict(), recovered(&opened)), (&Verdict::Clean, units(0..3)));
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

/// A log whose last segment ends in 40,000 bytes that are no frame, and no room for a copy of them; returns the bytes,
/// too.
fn torn_far(older_cuts: &[&str]) -> (SimDisk, Vec<u8>) {
    torn_by(40_000, older_cuts)
}

/// The same with so many bytes.
fn torn_by(count: u32, older_cuts: &[&str]) -> (SimDisk, Vec<u8>) {
    let disk = two_open_segments().crash_image(0);
    let torn: Vec<u8> = (0..count).map(|number| b'a' + (number % 23) as u8).collect();
    edit(&disk, &segment_name(2), |bytes| bytes.extend_from_slice(&torn));
    older_cuts.iter().for_each(|name| disk.put(name, &[b'x'; 10_000]));
    disk.set_room(Some(disk.used_bytes() + 9000 - 10_000 * older_cuts.len() as u64));
    (disk, torn)
}

/// What is in files that were kept aside, and in the segment, of its torn end; `None` where a byte is missing.
fn kept_of(disk: &SimDisk, end: usize, count: usize) -> Option<Vec<u8>> {
    let mut kept = vec![None; count];
    let mut take = |from: usize, bytes: &[u8]| {
        bytes.iter().enumerate().for_each(|(index, byte)| {
            kept.get_mut(from + index).into_iter().for_each(|place| *place = Some(*byte));
        });
    };
    for name in disk.names() {
        let bytes = disk.contents(&name).unwrap();
        if name == segment_name(2) {
            take(0, bytes.get(end..).unwrap_or_default());
        } else if let Some(offset) = name.strip_prefix("cut-2-").and_then(|name| name.strip_suffix(".bin")) {
            take(offset.parse::<usize>().unwrap() - end, &bytes);
        }
    }
    kept.into_iter().collect()
}

#[test]
fn a_torn_end_without_room_for_a_copy_is_moved_in_parts() {
    for older_cuts in [&[][..], &["cut-1-20.bin", "cut-1-30.bin"]] {
        let (disk, torn) = torn_far(older_cuts);
        let end = disk.contents(&segment_name(2)).unwrap().len() - torn.len();
        let mut writer = go_on(reopen(&disk).unwrap(), UNIX_MS).unwrap();
        write(&mut writer, 6..8);
        writer.close().unwrap();
        assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..8));
        assert_eq!(disk.contents(&segment_name(2)).unwrap().len(), end);
        assert!(kept_of(&disk, end, torn.len()) == Some(torn));
    }
}

#[test]
fn what_is_moved_aside_is_somewhere_whatever_fails() {
    let mut failed = 0;
    for effect in [Effect::None, Effect::Part, Effect::Full] {
        for step in 0.. {
            let (disk, torn) = torn_far(&[]);
            let end = disk.contents(&segment_name(2)).unwrap().len() - torn.len();
            disk.fail_from(disk.operations() + step, libc::EIO, effect);
            let started = reopen(&disk).and_then(|opened| opened.prepare(UNIX_MS)?.start()).map(drop);
            for seed in 0..8 {
                let image = disk.crash_image(seed);
                assert!(kept_of(&image, end, torn.len()).as_ref() == Some(&torn), "{effect:?} {step} {seed}");
                drop(go_on(reopen(&image).unwrap(), UNIX_MS).unwrap());
                assert_eq!(recovered(&reopen(&image).unwrap()), units(0..6), "{effect:?} {step} {seed}");
                assert!(kept_of(&image, end, torn.len()).as_ref() == Some(&torn), "{effect:?} {step} {seed}, started");
            }
            if started.is_ok() {
                break;
            }
            failed += 1;
        }
    }
    assert!(failed > 50, "{failed} steps");
}

#[test]
fn a_start_finds_the_room_that_a_torn_end_holds() {
    for (count, room) in [(40_000, 0), (40_000, 100), (1_000_000, 0), (1_000_000, 500), (1_000_000, 12_000)] {
        let (disk, torn) = torn_by(count, &[]);
        disk.set_room(Some(disk.used_bytes() + room));
        let end = disk.contents(&segment_name(2)).unwrap().len() - torn.len();
        let prepared = reopen(&disk).unwrap().prepare(UNIX_MS).unwrap_or_else(|error| panic!("{room} free: {error}"));
        let given_up = prepared.given_up_bytes() as usize;
        let mut writer = prepared.start().unwrap();
        // What was there stays together, and is not in pieces without number.
        let kept = torn.len() - given_up;
        assert!(given_up <= 2 * torn.len() / 64 + 2 * 4096, "{room} free: {given_up} of {} bytes given up", torn.len());
        assert!(kept_of(&disk, end, kept).as_deref() == torn.get(..kept), "{room} free");
        let files = disk.names().iter().filter(|name| name.starts_with("cut-")).count();
        assert!(files <= 65, "{files} files");
        disk.set_room(None);
        write(&mut writer, 6..8);
        writer.close().unwrap();
        assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..8));
    }
}

#[test]
fn an_end_that_is_copied_leaves_room_for_the_next_segment() {
    let (disk, torn) = torn_far(&[]);
    disk.set_room(Some(disk.used_bytes() + torn.len() as u64 + 10));
    let end = disk.contents(&segment_name(2)).unwrap().len() - torn.len();
    let prepared = reopen(&disk).unwrap().prepare(UNIX_MS).unwrap();
    assert_eq!(prepared.given_up_bytes(), 0);
    drop(prepared.start().unwrap());
    assert!(kept_of(&disk, end, torn.len()) == Some(torn));
}
