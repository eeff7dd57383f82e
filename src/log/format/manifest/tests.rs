//! What manifests say, and what is refused.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::log::format::standing::Left;

fn sample() -> Manifest {
    let sealed = Some(Sealed { end: Lsn::new(40), bytes: 900 });
    let base = BaseFacts { seq: 3, lsn: Lsn::new(17), bytes: 12, crc32c: Some(0xabc) };
    Manifest {
        generation: Generation { counter: 2, random: 0xff },
        standing: Standing::Current,
        beginning: Beginning::Base(base),
        segments: vec![
            NamedSegment { seq: 7, first: Lsn::new(17), sealed },
            NamedSegment { seq: 8, first: Lsn::new(40), sealed: None },
        ],
    }
}

/// Prints what an error of the disk costs where nothing has replaced the segments of earlier ones.
#[test]
fn a_hundred_thousand_segments_can_be_named() {
    let segments = (0..100_000).map(|number| NamedSegment {
        seq: number + 9_000_000,
        first: Lsn::new(40 + number * 9_000_000_000),
        sealed: None,
    });
    let manifest = Manifest { beginning: Beginning::Empty(Lsn::new(40)), segments: segments.collect(), ..sample() };
    let disk = crate::log::sim::SimDisk::new();
    let began = std::time::Instant::now();
    manifest.write_next(&disk).unwrap();
    Manifest::name_next(&disk).unwrap();
    let took = began.elapsed();
    let text = Manifest::read_text(&disk).unwrap();
    assert_eq!(Manifest::parse(&text), Ok(manifest));
    println!("{} bytes, written in {} ms", text.len(), took.as_millis());
    assert!(text.len() < 10 << 20);
}

#[test]
fn a_manifest_that_no_start_would_read_is_not_written() {
    let disk = crate::log::sim::SimDisk::new();
    sample().write_next(&disk).unwrap();
    Manifest::name_next(&disk).unwrap();
    // With the longest numbers: some 170 bytes each.
    let sealed = Some(Sealed { end: Lsn::LIMIT, bytes: u64::MAX });
    let segment = |seq| NamedSegment { seq, first: Lsn::LIMIT, sealed };
    let of = |count: u64| Manifest {
        beginning: Beginning::Empty(Lsn::LIMIT),
        segments: (1 << 60..(1 << 60) + count).map(segment).collect(),
        ..sample()
    };
    let [one, two] = [1, 2].map(|count| of(count).to_text().len());
    let fit = 1 + (MANIFEST_BYTES_MAX - one as u64) / (two - one) as u64;
    let long = of(fit + 1);
    assert!(long.to_text().len() as u64 > MANIFEST_BYTES_MAX);
    let operations = disk.operations();
    let refused = long.write_next(&disk);
    assert!(matches!(refused, Err(LogError::Refused { .. })), "{refused:?}");
    assert_eq!((disk.operations(), disk.names()), (operations, vec![MANIFEST_NAME.to_string()]));
    assert_eq!(Manifest::parse(&Manifest::read_text(&disk).unwrap()), Ok(sample()), "the one before stands");
    // What can be written can be read.
    let longest = of(fit);
    longest.write_next(&disk).unwrap();
    Manifest::name_next(&disk).unwrap();
    let text = Manifest::read_text(&disk).unwrap();
    assert!(MANIFEST_BYTES_MAX - (text.len() as u64) < (two - one) as u64);
    assert_eq!(Manifest::parse(&text), Ok(longest));
}

#[test]
fn the_bytes_of_a_manifest_are_fixed() {
    let text = "#WBL2 generation 2 00000000000000ff\n\
                file appendonly.aof.3.base.rdb seq 3 type b\n\
                #base lsn 17 bytes 12 crc32c 00000abc\n\
                file appendonly.aof.7.incr.aof seq 7 type i\n\
                #segment first 17 end 40 bytes 900\n\
                file appendonly.aof.8.incr.aof seq 8 type i\n\
                #segment first 40\n\
                #end b22589d0\n";
    assert_eq!(sample().to_text(), text);
}

#[test]
fn a_manifest_comes_back_as_it_went() {
    let mut unsealed = Manifest { standing: Standing::Superseded(None), ..sample() };
    unsealed.segments.push(NamedSegment { seq: 9, first: Lsn::new(50), sealed: None });
    let mut empty = sample();
    empty.beginning = Beginning::Empty(Lsn::new(17));
    let mut unchecked = sample();
    unchecked.beginning = Beginning::Base(BaseFacts { seq: 1, lsn: Lsn::new(17), bytes: 0, crc32c: None });
    let mut left = sample();
    left.standing = Standing::Left(Left::new(u64::MAX, "rdb:12:00000abc").unwrap());
    let superseded = left.standing.followed_by(Standing::Superseded(None));
    assert!(superseded.to_string().starts_with(" superseded 18446744073709551615 rdb:"), "{superseded}");
    let superseded = Manifest { standing: superseded, ..sample() };
    for manifest in [sample(), unsealed, empty, unchecked, left, superseded] {
        assert_eq!(Manifest::parse(manifest.to_text().as_bytes()), Ok(manifest));
    }
}

#[test]
fn every_change_of_a_manifest_is_noticed() {
    let left = Standing::Left(Left::new(1_700_000_000_000, "aof:1f:900").unwrap());
    let text = Manifest { standing: left, ..sample() }.to_text();
    for at in 0..text.len() {
        let mut other = text.clone().into_bytes();
        for byte in 0..=255 {
            other[at] = byte;
            assert!(Manifest::parse(&other).is_err() || other == text.as_bytes(), "byte {byte} at {at}");
        }
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for line in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(line);
        assert!(Manifest::parse(fewer.concat().as_bytes()).is_err(), "without line {line}");
        let mut more = lines.clone();
        more.insert(line, lines[line]);
        assert!(Manifest::parse(more.concat().as_bytes()).is_err(), "line {line} twice");
        more[line] = "# a remark\n";
        assert!(Manifest::parse(more.concat().as_bytes()).is_err(), "a remark before line {line}");
    }
}

#[test]
fn segments_that_do_not_follow_one_another_are_refused() {
    let change = |change: fn(&mut Manifest)| {
        let mut manifest = sample();
        change(&mut manifest);
        Manifest::parse(manifest.to_text().as_bytes())
    };
    for wrong in [
        change(|manifest| manifest.segments[1].first = Lsn::new(41)),
        change(|manifest| manifest.segments[0].first = Lsn::new(16)),
        change(|manifest| manifest.segments[1].seq = 7),
        change(|manifest| manifest.segments[0].sealed = Some(Sealed { end: Lsn::new(3), bytes: 900 })),
        change(|manifest| manifest.segments.clear()),
    ] {
        assert_eq!(wrong, Err(CHANGED));
    }
}
