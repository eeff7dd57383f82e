//! What the log engine says of segments it did not leave in order: torn, damaged, of another version.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use engine_support::*;
use valkey_wbl::log::sim::SimDisk;
use valkey_wbl::log::{Batch, Boundary, LogError, Verdict, segment_name};

/// The offsets of the frame ends in a segment of these units, one to a frame.
fn frame_ends(range: std::ops::Range<usize>) -> Vec<usize> {
    let lsn = |number| units(0..number).len() as u64;
    let mut ends = vec![frame(lsn(range.start), b"").len()];
    for number in range {
        ends.push(ends[ends.len() - 1] + frame(lsn(number), &unit(number)).len());
    }
    ends
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
fn a_later_version_is_named() {
    let disk = two_segments();
    edit(&disk, &segment_name(2), |bytes| bytes[4] = b'2');
    assert!(matches!(reopen(&disk), Err(LogError::UnsupportedVersion { .. })));
}
