//! Segments whose frames are written past the page cache, in whole blocks.

use crate::support::*;
use std::time::Duration;
use valkey_wbl::log::sim::{Effect, SimDisk};
use valkey_wbl::log::{Batch, Flusher, LogError, LogWriter, Lsn, Options, Verdict, open, segment_name};

const BLOCK_BYTES: usize = 512;
const LONG: Option<Duration> = Some(Duration::from_secs(20));

fn options() -> Options {
    Options { segment_bytes: 1 << 16, direct_block_bytes: Some(BLOCK_BYTES as u64), ..Options::default() }
}

/// A log whose second segment, with the unit 1, is written past the cache.
fn direct(disk: &SimDisk, options: &Options) -> LogWriter<SimDisk> {
    let mut writer = go_on(open(disk.clone(), options).unwrap(), UNIX_MS).unwrap();
    write(&mut writer, 0..1);
    writer.write_ahead().unwrap();
    write(&mut writer, 1..2);
    writer
}

fn append(writer: &mut LogWriter<SimDisk>, payload: &[u8], is_more_wanted: bool) {
    let start = writer.appended();
    writer.append_before(Batch { start, payload, unix_ms: UNIX_MS }, is_more_wanted).unwrap();
}

fn used_bytes(disk: &SimDisk) -> usize {
    let bytes = disk.contents(&segment_name(2)).unwrap();
    bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count()
}

#[test]
fn frames_end_with_their_block_only_where_flushes_may_overlap() {
    let disk = SimDisk::new();
    let mut writer = direct(&disk, &options());
    let mut ends = vec![used_bytes(&disk)];
    for (number, overlaps) in (2..8).zip([false, false, true, true, false, false]) {
        append(&mut writer, &unit(number), overlaps);
        assert_eq!(used_bytes(&disk), *ends.last().unwrap(), "nothing is written before the flush");
        writer.sync().unwrap();
        ends.push(used_bytes(&disk));
        assert_eq!(writer.has_open_block(), !overlaps);
        assert_eq!(ends.last().unwrap() % BLOCK_BYTES == 0, overlaps);
    }
    assert!(ends[2] < BLOCK_BYTES && ends[3] == BLOCK_BYTES && ends[4] == 2 * BLOCK_BYTES && ends[6] < 3 * BLOCK_BYTES);
    writer.close().unwrap();
    let bytes = disk.contents(&segment_name(2)).unwrap();
    assert!(bytes.len() == ends[6] && !bytes.contains(&0), "the server's own readers know no zeros");
    let opened = reopen(&disk).unwrap();
    assert_eq!((opened.verdict(), recovered(&opened)), (&Verdict::Clean, units(0..8)));
}

#[test]
fn a_write_that_is_cut_short_leaves_what_its_block_had() {
    for overlaps in [false, true] {
        let disk = SimDisk::new();
        let mut writer = direct(&disk, &options());
        append(&mut writer, &units(2..40), overlaps);
        disk.fail_from(disk.operations(), libc::EIO, Effect::None);
        assert!(writer.sync().is_err());
        let found: Vec<usize> = (0..200)
            .map(|image| {
                let found = recovered(&reopen(&disk.crash_image(image)).unwrap());
                assert!([units(0..2), units(0..40)].contains(&found), "image {image}");
                found.len()
            })
            .collect();
        assert!(found.contains(&units(0..2).len()) && found.contains(&units(0..40).len()), "it is never cut short");
        assert_eq!(recovered(&reopen(&disk.restart_image()).unwrap())[..units(0..2).len()], units(0..2));
    }
}

#[test]
fn a_file_system_without_direct_writes_is_written_through_the_cache() {
    let disk = SimDisk::new();
    disk.refuse_direct_writes();
    let mut writer = direct(&disk, &options());
    append(&mut writer, &unit(2), true);
    assert!(!writer.has_open_block() && !used_bytes(&disk).is_multiple_of(BLOCK_BYTES));
    writer.close().unwrap();
    assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..3));
}

/// Beyond the end of what was written ahead, and more than is kept in memory.
#[test]
fn frames_may_be_longer_than_what_was_written_ahead() {
    for payload_bytes in [1 << 16, (4 << 20) + 1000, 9 << 20] {
        let disk = SimDisk::new();
        let mut writer = direct(&disk, &options());
        let before = disk.operations();
        append(&mut writer, &vec![b'x'; payload_bytes], true);
        assert_eq!(used_bytes(&disk) > payload_bytes / 2, payload_bytes > 4 << 20, "so much waits for the flush");
        append(&mut writer, &unit(3), false);
        let durable = writer.sync().unwrap();
        assert!(disk.operations() > before + 1);
        let opened = reopen(&disk.crash_image(1)).unwrap();
        assert_eq!(opened.next_lsn(), durable);
        assert!(recovered(&opened).ends_with(&unit(3)));
        writer.close().unwrap();
        assert!(!disk.contents(&segment_name(2)).unwrap().contains(&0));
    }
}

/// Each frame beyond what was written ahead costs one more flush.
#[test]
fn the_log_goes_on_in_the_next_segment_once_it_has_used_what_was_written_ahead() {
    let disk = SimDisk::new();
    let mut writer = direct(&disk, &Options { segment_bytes: 1 << 20, ..options() });
    for end_bytes in [50_000, 70_000] {
        append(&mut writer, &vec![b'x'; end_bytes - used_bytes(&disk)], false);
        writer.sync().unwrap();
    }
    writer.write_ahead().unwrap();
    append(&mut writer, &unit(2), false);
    assert!(disk.contents(&segment_name(3)).unwrap().starts_with(b"#WBL2 "));
    writer.close().unwrap();
    assert!(recovered(&reopen(&disk).unwrap()).ends_with(&unit(2)));
}

#[test]
fn a_full_disk_fails_a_long_frame_before_its_flush() {
    let disk = SimDisk::new();
    let mut writer = direct(&disk, &options());
    disk.set_room(Some(disk.used_bytes() + 1000));
    let start = writer.appended();
    let error = writer.append(Batch { start, payload: &[b'x'; 1 << 17], unix_ms: UNIX_MS }).unwrap_err();
    assert_eq!(errno(&error), Some(libc::ENOSPC));
    assert_eq!(recovered(&reopen(&disk.crash_image(1)).unwrap()), units(0..2));
}

/// The next frame would have both flushes write the block between them, in whatever order the disk likes.
#[test]
fn no_flush_begins_within_the_block_of_another_one() {
    for in_flight_max in [1, 2, 4] {
        let disk = SimDisk::new();
        let options = Options { max_inflight_flushes: Some(in_flight_max), ..options() };
        let flusher = Flusher::start_stepped(direct(&disk, &options), Box::new(|_| {}), Box::new(|_| {})).unwrap();
        let steps = flusher.steps().unwrap();
        for number in 2..10 {
            flusher.append(unit(number), UNIX_MS);
            assert_eq!(steps.write(), number < 2 + in_flight_max, "unit {number}, {in_flight_max} at a time");
        }
        while steps.flush(1) || steps.flush(0) || steps.write() {}
        assert!(flusher.wait_durable(Lsn::new(units(0..10).len() as u64), LONG).unwrap());
        assert_eq!(recovered(&reopen(&disk.crash_image(1)).unwrap()), units(0..10));
        drop(flusher.close().unwrap());
        let padded = disk.contents(&segment_name(2)).unwrap().len() > 2 * BLOCK_BYTES;
        assert_eq!(padded, in_flight_max > 1, "padding takes room");
    }
}

/// Who is alone takes no room for others, and makes way when they come.
#[test]
fn frames_are_padded_while_others_come_beside_them() {
    let disk = SimDisk::new();
    let options = Options { max_inflight_flushes: Some(4), ..options() };
    let flusher = Flusher::start_stepped(direct(&disk, &options), Box::new(|_| {}), Box::new(|_| {})).unwrap();
    let steps = flusher.steps().unwrap();
    for _ in 0..2 {
        let mut alone = 0;
        while {
            let before = used_bytes(&disk);
            flusher.append(unit(0), UNIX_MS);
            assert!(steps.write() && steps.flush(0));
            used_bytes(&disk) / BLOCK_BYTES > before / BLOCK_BYTES && used_bytes(&disk).is_multiple_of(BLOCK_BYTES)
        } {
            alone += 1;
        }
        assert!((30..40).contains(&alone), "{alone} frames were padded");
        flusher.append(unit(0), UNIX_MS);
        assert!(steps.write());
        flusher.append(unit(0), UNIX_MS);
        assert!(!steps.write(), "it would write the other one's block");
        assert!(steps.flush(0) && steps.write());
        flusher.append(unit(0), UNIX_MS);
        assert!(steps.write(), "they may overlap now");
        assert!(steps.flush(1) && steps.flush(0));
    }
    drop(flusher.close().unwrap());
}

/// Whether the next flush misses what was cut of the file: a write up to its end gives it its length back.
#[test]
fn a_segment_that_was_cut_is_missed_however_near_to_its_end_the_next_write_goes() {
    const FILE_BYTES: usize = 1 << 16;
    for direct_block_bytes in [Some(BLOCK_BYTES as u64), None] {
        let mut reached = [false; 2];
        for free in (24..80).chain((80..BLOCK_BYTES * 2).step_by(8)) {
            for is_staged in [false, true] {
                let disk = SimDisk::new();
                let mut writer = direct(&disk, &Options { direct_block_bytes, ..options() });
                let filling = FILE_BYTES - used_bytes(&disk) - free;
                append(&mut writer, &vec![b'x'; filling], false);
                writer.sync().unwrap();
                let (durable, case) = (writer.durable(), format!("{direct_block_bytes:?}, {free}, {is_staged}"));
                if !is_staged {
                    disk.truncate(&segment_name(2), 0);
                }
                append(&mut writer, b"y", false);
                if is_staged {
                    disk.truncate(&segment_name(2), 0);
                }
                let outcome = writer.sync();
                assert!(outcome.is_err_and(|error| error.to_string().contains("the file was cut")), "{case}");
                assert_eq!(writer.durable(), durable, "{case}");
                let bytes = disk.contents(&segment_name(2)).unwrap().len();
                reached[usize::from(is_staged)] |= bytes == FILE_BYTES;
                drop(writer);
                assert!(matches!(reopen(&disk), Err(LogError::Damaged { .. })), "{case}");
            }
        }
        assert_eq!(reached, [true, direct_block_bytes.is_some()], "no write went up to the end");
    }
}
