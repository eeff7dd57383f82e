//! What the log engine says of segments it did not leave in order: torn, damaged, of another version.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use engine_support::*;
use valkey_wbl::log::sim::SimDisk;
use valkey_wbl::log::{ANNOTATION_PREFIX, Batch, Boundary, FrameHeader, LogError, Verdict, segment_name};

/// `#`, six digits of the checksum, two of the length, CR LF.
const SHORT_ANNOTATION_BYTES: usize = 11;

/// The offsets of the frame ends in a segment of these units, one to a frame; only the first has a whole annotation.
fn frame_ends(range: std::ops::Range<usize>) -> Vec<usize> {
    let lsn = |number| units(0..number).len() as u64;
    let mut ends = vec![frame(lsn(range.start), b"").len()];
    let first = range.start;
    for number in range {
        let whole = number == first;
        let bytes =
            if whole { frame(lsn(number), &unit(number)).len() } else { SHORT_ANNOTATION_BYTES + unit(number).len() };
        ends.push(ends[ends.len() - 1] + bytes);
    }
    ends
}

/// A log with a frame at each of these times, and the frames' headers when it is read again.
fn frames_at(times: &[u64]) -> (Vec<u8>, Vec<FrameHeader>) {
    let disk = SimDisk::new();
    let mut writer = reopen(&disk).unwrap().into_writer(times[0]).unwrap();
    for (number, unix_ms) in times.iter().enumerate() {
        let (start, payload) = (writer.appended(), unit(number));
        writer.append(Batch { start, payload: &payload, boundary: Boundary::Unit, unix_ms: *unix_ms }).unwrap();
    }
    writer.close().unwrap();
    let opened = reopen(&disk).unwrap();
    assert_eq!(*opened.verdict(), Verdict::Clean);
    assert_eq!(recovered(&opened), units(0..times.len()));
    let (mut frames, mut payload, mut headers) = (opened.frames(), Vec::new(), Vec::new());
    while let Some(header) = frames.next_frame(&mut payload).unwrap() {
        headers.push(header);
    }
    (disk.contents(&segment_name(1)).unwrap(), headers)
}

#[test]
fn frames_come_back_over_all_segments() {
    let opened = reopen(&two_segments()).unwrap();
    assert_eq!(recovered(&opened), units(0..6));
    assert_eq!(opened.next_lsn().get(), units(0..6).len() as u64);
    assert_eq!(opened.segments().iter().map(|segment| segment.seq).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn every_cut_of_the_last_segment_leaves_whole_units() {
    let whole = two_segments();
    let bytes = whole.contents(&segment_name(2)).unwrap();
    // Where the first frame, which has no payload, and the three units end.
    let ends = frame_ends(3..6);
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
fn every_flipped_bit_is_noticed() {
    let whole = two_segments();
    for seq in [1, 2] {
        let bytes = whole.contents(&segment_name(seq)).unwrap().len();
        let last_frame = frame_ends(3..6)[2];
        for bit in 0..bytes * 8 {
            let disk = whole.crash_image(0);
            edit(&disk, &segment_name(seq), |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            match reopen(&disk) {
                Err(
                    LogError::Damaged { .. } | LogError::ForeignFolder { .. } | LogError::UnsupportedVersion { .. },
                ) => {}
                Err(error) => panic!("bit {bit} of segment {seq}: {error}"),
                // The last frame cannot be told from an unfinished one, but never passes for whole.
                Ok(opened) => {
                    assert!(seq == 2 && bit / 8 >= last_frame, "bit {bit} of segment {seq}");
                    assert!(matches!(opened.verdict(), Verdict::TornTail { .. }));
                    assert_eq!(recovered(&opened), units(0..5));
                }
            }
        }
    }
}

#[test]
fn a_torn_tail_is_reported_and_cut() {
    let disk = two_segments();
    let offset = disk.contents(&segment_name(2)).unwrap().len() as u64;
    edit(&disk, &segment_name(2), |bytes| bytes.extend_from_slice(b"#WBL1 garbage that is no frame"));
    let opened = reopen(&disk).unwrap();
    assert_eq!(*opened.verdict(), Verdict::TornTail { file: segment_name(2), offset, bytes: 30 });
    let mut writer = opened.into_writer(UNIX_MS).unwrap();
    write(&mut writer, 6..7);
    writer.close().unwrap();
    let opened = reopen(&disk).unwrap();
    assert_eq!(*opened.verdict(), Verdict::Clean);
    assert_eq!(recovered(&opened), units(0..7));
}

#[test]
fn zero_bytes_behind_the_last_frame_are_no_damage() {
    let disk = two_segments();
    edit(&disk, &segment_name(2), |bytes| bytes.resize(bytes.len() + 5000, 0));
    let opened = reopen(&disk).unwrap();
    assert_eq!(*opened.verdict(), Verdict::Clean);
    assert_eq!(recovered(&opened), units(0..6));
    drop(opened);
    edit(&disk, &segment_name(1), |bytes| bytes.push(0));
    assert!(matches!(reopen(&disk), Err(LogError::Damaged { .. })), "but in the last segment only");
}

#[test]
fn a_unit_without_its_end_is_dropped() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..1);
    let durable = writer.durable();
    let (start, whole) = (writer.appended(), unit(1));
    let mut part = |start, payload, boundary| writer.append(Batch { start, payload, boundary, unix_ms: UNIX_MS });
    let middle = part(start, &whole[..10], Boundary::Continued).unwrap();
    part(middle, &whole[10..20], Boundary::Continued).unwrap();
    assert_eq!(writer.sync().unwrap(), durable, "half a unit is not durable");
    assert!(matches!(writer.rotate(), Err(LogError::Refused { .. })));
    writer.close().unwrap();
    let opened = reopen(&disk).unwrap();
    assert!(matches!(opened.verdict(), Verdict::TornTail { .. }));
    assert_eq!((opened.next_lsn(), recovered(&opened)), (durable, unit(0)));
}

#[test]
fn a_good_frame_at_a_wrong_position_is_refused() {
    let next = units(0..6).len() as u64;
    for lsn in [0, next - 1, next + 1] {
        let disk = two_segments();
        edit(&disk, &segment_name(2), |bytes| bytes.extend(frame(lsn, &unit(9))));
        match reopen(&disk) {
            Err(LogError::NonMonotonic { expected, found, .. }) => {
                assert_eq!((expected.get(), found.get()), (next, lsn));
            }
            other => panic!("{:?}", other.err()),
        }
    }
}

#[test]
fn a_stored_copy_of_another_log_does_not_turn_a_torn_tail_into_damage() {
    let disk = two_segments();
    let next = units(0..6).len() as u64;
    edit(&disk, &segment_name(2), |bytes| {
        let inner = [frame(0, &unit(0)), frame(1 << 40, &unit(1))].concat();
        let whole = frame(next, &inner);
        bytes.extend_from_slice(&whole[..whole.len() - 1]);
    });
    assert!(matches!(reopen(&disk).unwrap().verdict(), Verdict::TornTail { .. }));
}

#[test]
fn a_stored_copy_of_short_frames_does_not_turn_a_torn_tail_into_damage() {
    let disk = two_segments();
    let next = units(0..6).len() as u64;
    edit(&disk, &segment_name(2), |bytes| {
        // A client stores the segment itself, whose frames were good where they stood.
        let whole = frame(next, &bytes[frame_ends(3..6)[1]..]);
        bytes.extend_from_slice(&whole[..whole.len() - 1]);
    });
    assert!(matches!(reopen(&disk).unwrap().verdict(), Verdict::TornTail { .. }));
}

#[test]
fn a_short_frame_behind_a_bad_one_is_damage() {
    let disk = two_segments();
    let ends = frame_ends(3..6);
    // The first unit's frame; only short ones follow.
    edit(&disk, &segment_name(2), |bytes| bytes[ends[1] - 5] ^= 1);
    match reopen(&disk) {
        Err(LogError::Damaged { offset, why, .. }) => {
            assert_eq!(offset, ends[0] as u64);
            assert!(why.contains(&format!("byte {}", ends[1])), "{why}");
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_clock_that_steps_back_does_no_harm() {
    let times = [5_000_000, 5_000_001, 7_000_000, 3_000_000, 3_000_500, 1, 0, 9_000_000];
    let (_, headers) = frames_at(&times);
    for (header, unix_ms) in headers.iter().zip(times) {
        assert!(header.unix_ms.abs_diff(unix_ms) < 1000, "{header:?} was written at {unix_ms}");
    }
}

#[test]
fn a_frame_has_the_whole_annotation_once_in_a_second() {
    let (bytes, _) = frames_at(&[1000, 1001, 1999, 2000, 2001, 1500, 500, 501]);
    let whole = bytes.windows(ANNOTATION_PREFIX.len()).filter(|bytes| *bytes == ANNOTATION_PREFIX).count();
    // The segment's own, and those of 1000, 2000 and 500.
    assert_eq!(whole, 4);
}

#[test]
fn a_later_version_is_named() {
    let disk = two_segments();
    edit(&disk, &segment_name(2), |bytes| bytes[4] = b'2');
    assert!(matches!(reopen(&disk), Err(LogError::UnsupportedVersion { .. })));
}
