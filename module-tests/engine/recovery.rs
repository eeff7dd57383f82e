//! What the log engine says of segments it did not leave in order: torn, damaged, of another version.

mod segments;

use crate::support::*;
use segments::{frame_ends, frames_at, time_lines, unseal};
use valkey_wbl::log::sim::SimDisk;
use valkey_wbl::log::{Batch, LogError, MANIFEST_NAME, Opened, Options, Verdict, open, segment_name};

/// `#`, four digits of the check, six of the checksum, two of the length, LF; where no time is stated.
const ANNOTATION_BYTES: usize = 14;

fn is_damaged(outcome: &Result<Opened<SimDisk>, LogError>) -> bool {
    matches!(outcome, Err(LogError::Damaged { .. }))
}

#[test]
fn frames_come_back_over_all_segments() {
    let opened = reopen(&two_segments()).unwrap();
    assert_eq!(recovered(&opened), units(0..6));
    assert_eq!(opened.next_lsn().get(), units(0..6).len() as u64);
    assert_eq!(opened.segments().iter().map(|segment| segment.seq).collect::<Vec<_>>(), [1, 2]);
    let mut frames = opened.frames();
    let mut count = 0;
    while let Some(frame) = frames.next_header().unwrap() {
        count += 1;
        assert_eq!(frame.length, unit(0).len() as u64);
    }
    assert_eq!((count, frames.read_bytes()), (6, opened.log_bytes()), "payloads may be skipped");
}

/// There may be more of them than a process may have open.
#[test]
fn a_start_has_few_segments_open_at_a_time() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    for number in 0..100 {
        write(&mut writer, number..number + 1);
        writer.cut().unwrap();
    }
    writer.close().unwrap();
    disk.limit_handles(12);
    let opened = reopen(&disk).unwrap();
    assert_eq!(opened.segments().len(), 101);
    assert_eq!(recovered(&opened), units(0..100));
    go_on(opened, UNIX_MS).unwrap().close().unwrap();
}

#[test]
fn every_cut_of_the_last_segment_leaves_whole_units() {
    let whole = two_open_segments();
    let bytes = whole.contents(&segment_name(2)).unwrap();
    let ends = frame_ends(&bytes, 3..6);
    assert_eq!(ends.last(), Some(&bytes.len()));
    for cut in ends[0]..bytes.len() {
        let disk = whole.crash_image(0);
        edit(&disk, &segment_name(2), |bytes| bytes.truncate(cut));
        let opened = reopen(&disk).unwrap();
        let kept = ends.iter().filter(|end| **end <= cut).count() - 1;
        assert!(recovered(&opened) == units(0..3 + kept), "cut at {cut}");
        let is_clean = ends.contains(&cut);
        assert_eq!(*opened.verdict() == Verdict::Clean, is_clean, "cut at {cut}");
    }
}

#[test]
fn after_a_clean_close_nothing_can_be_missing_at_the_end() {
    let whole = two_segments();
    let name = segment_name(2);
    let bytes = whole.contents(&name).unwrap();
    for cut in 0..bytes.len() {
        for zeros in [false, true] {
            let disk = whole.crash_image(0);
            edit(&disk, &name, |bytes| {
                let length = bytes.len();
                bytes.truncate(cut);
                bytes.resize(if zeros { length } else { cut }, 0);
            });
            assert!(reopen(&disk).is_err(), "cut at {cut}, zeros: {zeros}");
        }
    }
    for more in [&b"\0"[..], b"#", b"*1\r\n$4\r\nPING\r\n"] {
        let disk = whole.crash_image(0);
        edit(&disk, &name, |bytes| bytes.extend_from_slice(more));
        assert!(is_damaged(&reopen(&disk)));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for (whole, last_may_be_torn) in [(two_segments(), false), (two_open_segments(), true)] {
        for seq in [1, 2] {
            let bytes = whole.contents(&segment_name(seq)).unwrap();
            let last_frame = frame_ends(&bytes, 3..6)[2];
            for bit in 0..bytes.len() * 8 {
                let disk = whole.crash_image(0);
                edit(&disk, &segment_name(seq), |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
                match reopen(&disk) {
                    Err(
                        LogError::Damaged { .. } | LogError::ForeignFolder { .. } | LogError::UnsupportedVersion { .. },
                    ) => {}
                    Err(error) => panic!("bit {bit} of segment {seq}: {error}"),
                    // The last frame of a log that was not closed cannot be told from an unfinished one, but never
                    // passes for whole.
                    Ok(opened) => {
                        let is_last = seq == 2 && bit / 8 >= last_frame && last_may_be_torn;
                        assert!(is_last, "bit {bit} of segment {seq}");
                        assert!(matches!(opened.verdict(), Verdict::TornTail { .. }));
                        assert_eq!(recovered(&opened), units(0..5));
                    }
                }
            }
        }
    }
}

#[test]
fn a_torn_tail_is_reported_cut_and_kept_aside() {
    let disk = two_open_segments().restart_image();
    let offset = disk.contents(&segment_name(2)).unwrap().len() as u64;
    edit(&disk, &segment_name(2), |bytes| bytes.extend_from_slice(b"#WBL2 garbage that is no frame"));
    let opened = reopen(&disk).unwrap();
    assert_eq!(
        *opened.verdict(),
        Verdict::TornTail { file: segment_name(2), offset, bytes: 30, kept_as: format!("cut-2-{offset}.bin") }
    );
    let mut writer = go_on(opened, UNIX_MS).unwrap();
    write(&mut writer, 6..7);
    writer.close().unwrap();
    assert_eq!(disk.contents(&format!("cut-2-{offset}.bin")).unwrap(), b"#WBL2 garbage that is no frame");
    let opened = reopen(&disk).unwrap();
    assert_eq!(*opened.verdict(), Verdict::Clean);
    assert_eq!(recovered(&opened), units(0..7));
}

#[test]
fn only_the_newest_cut_ends_are_kept() {
    let disk = SimDisk::new();
    drop(writer_of(&disk));
    for number in 0..8 {
        let mut writer = writer_of(&disk);
        write(&mut writer, number..number + 1);
        let name = disk.names().into_iter().rfind(|name| name.ends_with(".incr.aof")).unwrap();
        drop(writer);
        edit(&disk, &name, |bytes| bytes.extend_from_slice(b"torn"));
    }
    drop(writer_of(&disk));
    let cuts = disk.names().into_iter().filter(|name| name.starts_with("cut-")).collect::<Vec<_>>();
    assert_eq!(cuts.len(), 4, "{cuts:?}");
    assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..8));
}

#[test]
fn zero_bytes_behind_the_last_frame_are_no_damage() {
    let disk = two_open_segments();
    edit(&disk, &segment_name(2), |bytes| bytes.resize(bytes.len() + 5000, 0));
    let opened = reopen(&disk).unwrap();
    assert_eq!(*opened.verdict(), Verdict::Clean);
    assert_eq!(recovered(&opened), units(0..6));
    drop(opened);
    edit(&disk, &segment_name(1), |bytes| bytes.push(0));
    assert!(is_damaged(&reopen(&disk)), "but in the last segment only");
}

#[test]
fn two_bad_frames_at_the_end_are_damage() {
    let disk = two_open_segments();
    edit(&disk, &segment_name(2), |bytes| {
        let ends = frame_ends(bytes, 3..6);
        // The payloads of the last two; their headers stay.
        bytes[ends[2] - 5] ^= 1;
        bytes[ends[3] - 5] ^= 1;
    });
    assert!(is_damaged(&reopen(&disk)));
}

#[test]
fn a_frame_behind_a_bad_one_is_damage() {
    for at in [5, ANNOTATION_BYTES + 5] {
        let disk = two_open_segments();
        let ends = frame_ends(&disk.contents(&segment_name(2)).unwrap(), 3..6);
        edit(&disk, &segment_name(2), |bytes| bytes[ends[1] + at] ^= 1);
        match reopen(&disk) {
            Err(LogError::Damaged { offset, why, .. }) => {
                assert_eq!(offset, ends[1] as u64);
                assert!(why.contains(&format!("byte {}", ends[2])), "{why}");
            }
            other => panic!("{:?}", other.err()),
        }
    }
}

/// A client may store anything, also a copy of the log itself, and the crash may come while it is written.
#[test]
fn frames_inside_of_a_value_do_not_turn_a_torn_tail_into_damage() {
    let disk = two_open_segments().restart_image();
    let copy = disk.contents(&segment_name(2)).unwrap();
    let mut writer = writer_of(&disk);
    let mut value = Vec::new();
    valkey_wbl::log::resp::push_command(&mut value, &[b"SET", b"key", &copy]);
    let start = writer.appended();
    writer.append(Batch { start, payload: &value, unix_ms: UNIX_MS }).unwrap();
    let name = segment_name(3);
    let whole = disk.contents(&name).unwrap();
    drop(writer);
    for cut in (whole.len() - value.len())..whole.len() {
        let torn = disk.restart_image();
        edit(&torn, &name, |bytes| bytes.truncate(cut));
        let opened = reopen(&torn).unwrap();
        assert!(matches!(opened.verdict(), Verdict::TornTail { .. }), "cut at {cut}");
    }
}

#[test]
fn a_tail_of_lines_like_annotations_is_judged_in_linear_time() {
    let disk = two_open_segments();
    let torn: Vec<u8> = b"#ABCDEFGHIJ______\n#ABCDEFGHIJB".iter().copied().cycle().take(16 << 20).collect();
    edit(&disk, &segment_name(2), |bytes| bytes.extend_from_slice(&torn));
    let opened = reopen(&disk).unwrap();
    assert!(matches!(opened.verdict(), Verdict::TornTail { .. }));
    let (examined, bytes) = (opened.examined_bytes(), torn.len() as u64 + opened.log_bytes());
    assert!(examined < 8 * bytes, "{examined} bytes were looked at for {bytes}");
}

#[test]
fn a_clock_that_steps_back_does_no_harm() {
    let times = [5_000_000, 5_000_001, 7_000_000, 3_000_000, 3_000_500, 1, 0, 9_000_000, u64::MAX, 1];
    let (_, frames) = frames_at(&times);
    for (frame, unix_ms) in frames.iter().zip(times) {
        assert!(frame.unix_ms.abs_diff(unix_ms.min((1 << 48) - 1)) < 1000, "{frame:?} was written at {unix_ms}");
    }
}

#[test]
fn each_second_with_frames_has_its_time_line() {
    // However often the log continues in another segment, by itself or not.
    for (segment_bytes, cuts) in [(2 << 30, false), (2 << 30, true), (500, false), (100, false)] {
        let disk = SimDisk::new();
        let options = Options { segment_bytes, ..Options::default() };
        let mut writer = go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap();
        let mut expected = Vec::new();
        for number in 0..100_usize {
            // 310 ms from one to the next, and a clock that is set forward and back.
            let step = if (40..60).contains(&number) { 60_000 } else { 0 };
            let unix_ms = UNIX_MS + 310 * number as u64 + step;
            let (start, payload) = (writer.appended(), unit(number));
            writer.append(Batch { start, payload: &payload, unix_ms }).unwrap();
            expected.push(unix_ms / 1000);
            if cuts && number % 7 == 0 {
                writer.cut().unwrap();
            }
        }
        writer.close().unwrap();
        let opened = open(disk.clone(), &options).unwrap();
        let mut found: Vec<u64> = Vec::new();
        for segment in opened.segments() {
            let own = time_lines(&disk.contents(&segment.name).unwrap());
            // Beginning with a cut, because what is before it may be removed.
            assert!(!cuts || !own.is_empty(), "{}", segment.name);
            found.extend(own);
        }
        expected.dedup();
        if cuts {
            found.dedup();
        }
        assert_eq!(found, expected, "segments of {segment_bytes} bytes, {cuts}");
    }
}

#[test]
fn a_frame_states_its_time_once_in_a_second() {
    let (bytes, _) = frames_at(&[1000, 1001, 1999, 2000, 2001, 1500, 500, 501]);
    assert_eq!(time_lines(&bytes), [1, 2, 1, 0]);
}

#[test]
fn a_later_version_is_named() {
    let unsupported = |disk: &SimDisk| {
        reopen(disk).is_err_and(|error| {
            matches!(error, LogError::UnsupportedVersion { .. })
                && error.to_string().ends_with(" has format 3; this module reads 1 and 2")
        })
    };
    let disk = two_segments();
    edit(&disk, &segment_name(2), |bytes| bytes[4] = b'3');
    assert!(unsupported(&disk));
    let disk = two_segments();
    edit(&disk, MANIFEST_NAME, |bytes| bytes[4] = b'3');
    assert!(unsupported(&disk));
    // Behind good frames, where a later version went on.
    let disk = two_open_segments();
    edit(&disk, &segment_name(2), |bytes| bytes.extend_from_slice(b"#WBL3 1 2 3\r\n"));
    assert!(unsupported(&disk));
}

#[test]
fn a_segment_that_was_given_up_ends_where_the_next_one_begins() {
    let whole = two_open_segments();
    unseal(&whole);
    assert_eq!(recovered(&reopen(&whole).unwrap()), units(0..6));
    // Frames that were written and never acknowledged, whole or torn: the later segment voids them.
    let one_more = {
        let other = SimDisk::new();
        let mut writer = writer_of(&other);
        write(&mut writer, 0..4);
        other.contents(&segment_name(1)).unwrap()
    };
    let first = whole.contents(&segment_name(1)).unwrap();
    assert!(one_more.starts_with(&first), "the same salt");
    for length in first.len()..=one_more.len() {
        let disk = whole.restart_image();
        edit(&disk, &segment_name(1), |bytes| bytes.extend_from_slice(&one_more[first.len()..length]));
        assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..6));
        let mut writer = writer_of(&disk);
        write(&mut writer, 6..7);
        writer.close().unwrap();
        assert_eq!(disk.contents(&segment_name(1)).unwrap(), first, "the void frames are cut");
        assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..7));
    }
    // What the later segment goes on from must be there.
    for length in 0..first.len() {
        let disk = whole.restart_image();
        edit(&disk, &segment_name(1), |bytes| bytes.truncate(length));
        assert!(reopen(&disk).is_err(), "cut at {length}");
    }
}

/// Two frames that were in flight together: the first may be missing where the second is there, and nobody was told of
/// either.
#[test]
fn a_frame_that_was_written_before_the_bad_place_was_durable_proves_nothing() {
    let whole = two_open_segments();
    let name = segment_name(2);
    let bytes = whole.contents(&name).unwrap();
    let (salt, start) = (salt_of(&bytes), bytes.len() as u64);
    let first = format_2_frame(salt, start, &unit(6), 0);
    let second_start = start + first.len() as u64;
    for overlapped in [true, false] {
        let back = if overlapped { first.len() as u64 } else { 0 };
        let second = format_2_frame(salt, second_start, &unit(7), back);
        let disk = whole.restart_image();
        edit(&disk, &name, |bytes| bytes.extend([&first[..], &second].concat()));
        assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..8), "both are there");
        for lost in 0..first.len() {
            let disk = disk.restart_image();
            edit(&disk, &name, |bytes| bytes[start as usize + lost] ^= 1);
            match reopen(&disk) {
                Ok(opened) => assert!(overlapped && recovered(&opened) == units(0..6), "byte {lost}"),
                outcome => assert!(!overlapped && is_damaged(&outcome), "byte {lost}"),
            }
        }
        // Whatever may not be durable of what is recovered is made so.
        let mut writer = writer_of(&disk);
        write(&mut writer, 8..9);
        drop(writer);
        assert_eq!(recovered(&reopen(&disk.crash_image(1)).unwrap()), units(0..9));
    }
}

#[test]
fn a_start_writes_only_what_may_not_be_durable() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..2000);
    drop(writer);
    let before = disk.written_bytes();
    drop(writer_of(&disk));
    let written = disk.written_bytes() - before;
    assert!(written < 1000, "{written} bytes were written to go on with {} bytes", units(0..2000).len());
}
