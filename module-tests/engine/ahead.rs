//! Segments that are filled with zeros before they are needed.

use crate::support::*;
use std::time::{Duration, Instant};
use valkey_wbl::log::sim::{Effect, SimDisk};
use valkey_wbl::log::{
    Batch, Flusher, LogWriter, MANIFEST_NAME, NewBase, Options, Storage, Verdict, base_name, open, segment_name,
};

const LONG: Option<Duration> = Some(Duration::from_secs(20));

fn options() -> Options {
    Options { segment_bytes: 4000, ..Options::default() }
}

fn writer(disk: &SimDisk) -> LogWriter<SimDisk> {
    go_on(open(disk.clone(), &options()).unwrap(), UNIX_MS).unwrap()
}

/// A log with two units in a segment that was written ahead.
fn ahead() -> SimDisk {
    let disk = SimDisk::new();
    let mut writer = writer(&disk);
    write(&mut writer, 0..1);
    writer.write_ahead().unwrap();
    assert_eq!(disk.contents(&segment_name(2)).unwrap(), vec![0; 4000]);
    write(&mut writer, 1..3);
    drop(writer);
    disk
}

#[test]
fn frames_overwrite_the_zeros_of_a_segment_written_ahead() {
    let disk = ahead();
    let bytes = disk.contents(&segment_name(2)).unwrap();
    assert!(bytes.len() == 4000 && bytes.starts_with(b"#WBL2 ") && bytes.ends_with(&[0; 3000]));
    let opened = reopen(&disk.crash_image(1)).unwrap();
    assert_eq!((opened.verdict(), recovered(&opened)), (&Verdict::Clean, units(0..3)));
}

/// No flush looks for it any more.
#[test]
fn a_segment_that_was_moved_is_missed_before_the_log_goes_on_in_the_next() {
    let disk = SimDisk::new();
    let mut writer = writer(&disk);
    write(&mut writer, 0..1);
    writer.write_ahead().unwrap();
    disk.rename(&segment_name(1), "away").unwrap();
    let outcome = writer.append(Batch { start: writer.appended(), payload: b"x", unix_ms: UNIX_MS });
    assert!(outcome.unwrap_err().to_string().contains("moved away"));
    assert!(!String::from_utf8(disk.contents(MANIFEST_NAME).unwrap()).unwrap().contains(&segment_name(2)));
}

/// What is written after the cut makes the file no longer than it was, or fills what is missing with zeros.
#[test]
fn a_segment_that_was_cut_is_missed_by_the_next_flush_and_at_the_start() {
    for (before, is_ahead, units_more) in [(20, false, 1), (20, true, 1), (60, true, 1), (20, true, 60)] {
        let disk = SimDisk::new();
        let mut writer = writer(&disk);
        write(&mut writer, 0..1);
        if is_ahead {
            writer.write_ahead().unwrap();
        }
        write(&mut writer, 1..before);
        let name = disk.names().into_iter().rfind(|name| name.ends_with(".incr.aof")).unwrap();
        let durable = writer.durable();
        disk.truncate(&name, 200);
        // Far beyond what was written ahead, too.
        let payload = units(before..before + units_more);
        writer.append(Batch { start: durable, payload: &payload, unix_ms: UNIX_MS }).unwrap();
        let failed = writer.sync().unwrap_err().to_string();
        assert!(failed.contains("the file was cut") && failed.contains(&name), "{failed}");
        assert_eq!(writer.durable(), durable);
        assert!(!writer.can_go_on());
        drop(writer);
        let found = crate::folder::damage(&disk);
        assert!(found.contains(&name), "{before}, {is_ahead}, {units_more}: {found}");
    }
}

/// The manifest never names a file that no start would find.
#[test]
fn a_segment_written_ahead_that_somebody_has_changed_is_not_used() {
    for how in ["removed", "replaced", "cut", "cut a little"] {
        for direct_block_bytes in [None, Some(512)] {
            let disk = SimDisk::new();
            let options = Options { direct_block_bytes, ..options() };
            let mut writer = go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap();
            write(&mut writer, 0..1);
            writer.write_ahead().unwrap();
            let name = segment_name(2);
            match how {
                "removed" => disk.remove(&name).unwrap(),
                "replaced" => disk.put(&name, &disk.contents(&name).unwrap()),
                "cut" => disk.truncate(&name, 0),
                _ => disk.truncate(&name, 3999),
            }
            write(&mut writer, 1..4);
            writer.write_ahead().unwrap();
            write(&mut writer, 4..200);
            let manifest = String::from_utf8(disk.contents(MANIFEST_NAME).unwrap()).unwrap();
            assert!(!manifest.contains(&name) && manifest.contains(&segment_name(4)), "{how}: {manifest}");
            let opened = reopen(&disk.crash_image(1)).unwrap();
            assert_eq!((opened.verdict(), recovered(&opened)), (&Verdict::Clean, units(0..200)), "{how}");
            drop(go_on(opened, UNIX_MS).unwrap());
        }
    }
}

#[test]
fn a_close_leaves_frames_and_nothing_more() {
    let disk = SimDisk::new();
    let mut writer = writer(&disk);
    write(&mut writer, 0..1);
    writer.write_ahead().unwrap();
    write(&mut writer, 1..3);
    writer.write_ahead().unwrap();
    assert_eq!(disk.names().len(), 4);
    writer.close().unwrap();
    assert_eq!(disk.names(), [segment_name(1), segment_name(2), MANIFEST_NAME.to_string()]);
    assert!(!disk.contents(&segment_name(2)).unwrap().ends_with(&[0]));
    let opened = reopen(&disk).unwrap();
    assert_eq!((opened.verdict(), recovered(&opened)), (&Verdict::Clean, units(0..3)));
}

#[test]
fn a_torn_tail_is_kept_aside_without_the_unused_space() {
    let disk = ahead();
    let end = 4000 - disk.contents(&segment_name(2)).unwrap().iter().rev().take_while(|byte| **byte == 0).count();
    edit(&disk, &segment_name(2), |bytes| bytes[end + 100..end + 110].copy_from_slice(b"# a hole, "));
    let opened = reopen(&disk).unwrap();
    assert!(matches!(opened.verdict(), Verdict::TornTail { bytes: 110, .. }), "{:?}", opened.verdict());
    drop(go_on(opened, UNIX_MS).unwrap());
    assert_eq!(disk.contents(&format!("cut-2-{end}.bin")).unwrap(), [&[0; 100][..], b"# a hole, "].concat());
    assert_eq!(disk.contents(&segment_name(2)).unwrap().len(), end);
    assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..3));
}

#[test]
fn a_segment_written_ahead_and_never_used_is_a_leftover() {
    let disk = SimDisk::new();
    let mut writer = writer(&disk);
    write(&mut writer, 0..1);
    writer.write_ahead().unwrap();
    drop(writer);
    let opened = reopen(&disk).unwrap();
    assert_eq!((opened.leftovers(), recovered(&opened)), (&[segment_name(2)][..], units(0..1)));
    drop(go_on(opened, UNIX_MS).unwrap());
    assert!(disk.contents(&segment_name(2)).is_none());
}

/// A file system may leave anything in what was not synced.
#[test]
fn what_is_left_of_a_segment_written_ahead_is_kept_aside_whatever_it_holds() {
    for (at, bytes) in [(0, &b"*1\r\n$4\r\nPING\r\n"[..]), (5, b"x"), (3000, b"#WBL2"), (4095, b"\0x")] {
        let disk = SimDisk::new();
        let mut writer = writer(&disk);
        write(&mut writer, 0..1);
        writer.write_ahead().unwrap();
        drop(writer);
        edit(&disk, &segment_name(2), |zeros| {
            zeros.resize(zeros.len().max(at + bytes.len()), 0);
            zeros[at..at + bytes.len()].copy_from_slice(bytes);
        });
        let kept = disk.contents(&segment_name(2)).unwrap();
        let mut writer = go_on(reopen(&disk).unwrap(), UNIX_MS).unwrap();
        write(&mut writer, 1..3);
        writer.close().unwrap();
        assert_eq!((disk.contents("cut-2-0.bin"), recovered(&reopen(&disk).unwrap())), (Some(kept), units(0..3)));
    }
}

/// What holds up the thread that writes it holds up no frame, and neither does its failure.
#[test]
fn the_log_goes_on_without_a_segment_that_cannot_be_written_ahead() {
    let disk = SimDisk::new();
    let mut writer = writer(&disk);
    write(&mut writer, 0..1);
    for operation in 0..4 {
        disk.fail_at(disk.operations() + operation, libc::ENOSPC, Effect::Part);
        assert!(writer.write_ahead().is_err(), "operation {operation}");
        assert_eq!(disk.names().len(), 2, "operation {operation}");
    }
    write(&mut writer, 1..3);
    writer.write_ahead().unwrap();
    write(&mut writer, 3..100);
    writer.close().unwrap();
    assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..100));
}

#[test]
fn a_segments_worth_of_the_disk_stays_free() {
    for (free_bytes, is_written) in [(8000, true), (7999, false), (10, false)] {
        let disk = SimDisk::new();
        let mut writer = writer(&disk);
        write(&mut writer, 0..1);
        disk.set_room(Some(disk.used_bytes() + free_bytes));
        assert_eq!(writer.write_ahead().is_ok(), is_written, "{free_bytes} bytes free");
        assert_eq!(disk.contents(&segment_name(2)).is_some(), is_written);
    }
}

/// Somebody waits for a base, and nobody for the zeros.
#[test]
fn in_a_shortage_no_segment_takes_the_room_of_the_next_base() {
    let disk = SimDisk::new();
    let mut writer = writer(&disk);
    write(&mut writer, 0..1);
    disk.set_room(Some(disk.used_bytes() + 20_000));
    writer.keep_reserve(1_000_000).unwrap();
    assert!(writer.is_short_of_room());
    disk.set_room(Some(disk.used_bytes() + 20_000));
    assert!(writer.write_ahead().is_err());
    assert!(disk.contents(&segment_name(2)).is_none());
    writer.keep_reserve(0).unwrap();
    writer.write_ahead().unwrap();
}

#[test]
fn a_base_goes_before_the_next_piece_of_a_segment_written_ahead() {
    const SEGMENT_BYTES: u64 = 1 << 20;
    let disk = SimDisk::new();
    let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::default() };
    let mut writer = go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap();
    let (name, _) = writer.new_base_file().unwrap();
    let lsn = writer.cut().unwrap();
    let flusher = Flusher::start_stepped(writer, Box::new(|_| {}), Box::new(|_| {})).unwrap();
    let steps = flusher.steps().unwrap();
    let end = flusher.append(vec![b'x'; (SEGMENT_BYTES / 8) as usize], UNIX_MS);
    assert!(flusher.wait_durable(end, LONG).unwrap());
    let written = || disk.contents(&segment_name(2)).map_or(0, |zeros| zeros.len());
    while written() == 0 {
        assert!(steps.tidy(), "no segment is written ahead");
    }
    let (sender, answer) = std::sync::mpsc::channel();
    flusher.install_base(NewBase { name, lsn }, Box::new(move |outcome| sender.send(outcome).unwrap()));
    let before = written();
    assert!(steps.tidy() && steps.write(), "the base is prepared and named");
    assert_eq!(written(), before);
    assert!(steps.tidy());
    answer.try_recv().expect("the base waits for the segment").unwrap();
    assert!(written() < SEGMENT_BYTES as usize);
    while steps.tidy() {}
    assert_eq!(written(), SEGMENT_BYTES as usize);
    drop(flusher.close().unwrap());
    assert!(disk.contents(&segment_name(2)).is_none());
}

#[test]
fn segments_grow_with_the_log_up_to_their_size() {
    let disk = SimDisk::new();
    let options = Options { segment_bytes: 3 << 20, ..Options::default() };
    let mut writer = go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap();
    let mut sizes = Vec::new();
    for segment in 2..6 {
        writer.write_ahead().unwrap();
        sizes.push(disk.contents(&segment_name(segment)).unwrap().len());
        // The last unit that begins in the present file, and one more.
        while !disk.contents(&segment_name(segment)).unwrap().starts_with(b"#WBL2") {
            let unit = vec![b'x'; 10_000];
            writer.append(Batch { start: writer.appended(), payload: &unit, unix_ms: UNIX_MS }).unwrap();
            writer.sync().unwrap();
        }
    }
    assert_eq!(sizes, [64 << 10, 512 << 10, 3 << 20, 3 << 20]);
}

/// With the log's own threads: segments come from the other one, and every crash finds what was published.
#[test]
fn segments_are_written_ahead_while_frames_are_written() {
    let disk = SimDisk::new();
    let flusher = Flusher::start(writer(&disk), Box::new(|_| {}), Box::new(|_| {})).unwrap();
    let is_used = |bytes: &[u8]| bytes.starts_with(b"#WBL2") && bytes.ends_with(&[0]);
    let (mut number, mut were_used, deadline) = (0, false, Instant::now() + LONG.unwrap());
    while number < 600 || !were_used {
        assert!(Instant::now() < deadline, "no segment was written ahead");
        let end = flusher.append(unit(number), UNIX_MS);
        assert!(flusher.wait_durable(end, LONG).unwrap());
        if number % 5 == 0 {
            let image = disk.crash_image(number as u64);
            let found = recovered(&open(image, &options()).unwrap());
            assert!(found.len() >= end.get() as usize && units(0..number + 1).starts_with(&found), "unit {number}");
        }
        if number % 100 == 50 {
            let (name, mut file) = flusher.new_base_file().unwrap();
            valkey_wbl::log::StorageFile::write_all_at(&mut file, 0, b"base").unwrap();
            flusher.remove_base_file(name);
            flusher.cut();
        }
        were_used |= disk.names().iter().any(|name| is_used(&disk.contents(name).unwrap_or_default()));
        number += 1;
    }
    drop(flusher.close().unwrap());
    assert!(disk.names().iter().all(|name| !disk.contents(name).unwrap().ends_with(&[0])), "nothing unused is left");
    assert!(disk.contents(&base_name(1)).is_none());
    let opened = open(disk.clone(), &options()).unwrap();
    assert_eq!((opened.verdict(), recovered(&opened)), (&Verdict::Clean, units(0..number)));
    assert!(opened.leftovers().is_empty(), "{:?}", opened.leftovers());
}
