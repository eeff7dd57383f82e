//! Looking at a log without opening it: it shows what a start would find, and leaves the folder to others.

use crate::support::*;
use std::ops::ControlFlow;
use valkey_wbl::log::sim::SimDisk;
use valkey_wbl::log::{LogError, LogView, Lsn, MANIFEST_NAME, Storage, Verdict, base_name, segment_name};

/// How the log ended, and its payload; or why it can't be brought back.
type Outcome = Result<(Verdict, Vec<u8>), String>;

fn opened(disk: &SimDisk) -> Outcome {
    let opened = reopen(disk).map_err(|error| error.to_string())?;
    opened.verify_base().map_err(|error| error.to_string())?;
    Ok((opened.verdict().clone(), recovered(&opened)))
}

fn viewed(disk: &SimDisk) -> Outcome {
    try_view(disk).map_err(|error| error.to_string())
}

fn try_view(disk: &SimDisk) -> Result<(Verdict, Vec<u8>), LogError> {
    let Some(view) = LogView::of(disk.clone())? else { return Ok((Verdict::Fresh, Vec::new())) };
    let (mut walk, mut payload, mut all) = (view.walk(), Vec::new(), Vec::new());
    while walk.next_frame(&mut payload)?.is_some() {
        all.extend_from_slice(&payload);
    }
    view.leftovers(walk.segments())?;
    if let Some(mut base) = view.read_base()? {
        let read = std::io::copy(&mut base, &mut std::io::sink());
        read.map_err(|error| {
            let why = error.to_string();
            LogError::Damaged { file: base.path().into(), offset: 0, why }
        })?;
    }
    let verdict = walk.verdict().expect("the log was read to its end").clone();
    Ok((verdict, all))
}

#[test]
fn a_view_shows_what_a_start_finds_whatever_byte_is_damaged() {
    for disk in [two_segments(), two_open_segments(), format_1(b""), format_1(b"#torn")] {
        assert_eq!(viewed(&disk), opened(&disk));
        for name in disk.names() {
            for at in 0..disk.contents(&name).unwrap().len() {
                for change in [1, 0x80] {
                    let other = disk.crash_image(0);
                    edit(&other, &name, |bytes| bytes[at] ^= change);
                    assert_eq!(viewed(&other), opened(&other), "byte {at} of {name}");
                }
                let other = disk.crash_image(0);
                edit(&other, &name, |bytes| bytes.truncate(at));
                assert_eq!(viewed(&other), opened(&other), "{name} cut to {at} bytes");
            }
            let other = disk.crash_image(0);
            other.remove(&name).unwrap();
            // Without a manifest a start refuses what it can't be sure of.
            if name != MANIFEST_NAME {
                assert_eq!(viewed(&other), opened(&other), "without {name}");
            }
        }
    }
}

#[test]
fn a_view_needs_no_lock_and_changes_nothing() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..3);
    let view = LogView::of(disk.clone()).unwrap().unwrap();
    let names = disk.names();
    let mut ends = Vec::new();
    let each = view.walk().each_unit(|unit| -> Result<_, LogError> {
        ends.push((unit.start, unit.end, unit.unix_ms, unit.commands().count()));
        Ok(ControlFlow::Continue(()))
    });
    each.unwrap();
    let end = |number| Lsn::new(units(0..number).len() as u64);
    assert_eq!(ends, [0, 1, 2].map(|number| (end(number), end(number + 1), UNIX_MS, 1)));
    assert_eq!(disk.names(), names);
    // Whatever is written meanwhile: what it shows is a beginning of it, and that it is old can be seen.
    assert!(!view.has_changed().unwrap());
    write(&mut writer, 3..4);
    writer.cut().unwrap();
    write(&mut writer, 4..5);
    assert!(view.has_changed().unwrap());
    let (mut walk, mut payload, mut all) = (view.walk(), Vec::new(), Vec::new());
    while walk.next_frame(&mut payload).unwrap().is_some() {
        all.extend_from_slice(&payload);
    }
    assert_eq!((all, walk.good_end()), (units(0..4), end(4)));
}

#[test]
fn what_was_good_before_damage_is_shown() {
    let disk = two_segments();
    edit(&disk, &segment_name(2), |bytes| *bytes.last_mut().unwrap() ^= 1);
    let view = LogView::of(disk).unwrap().unwrap();
    let (mut walk, mut seen) = (view.walk(), 0);
    let outcome = walk.each_unit(|_| -> Result<_, LogError> {
        seen += 1;
        Ok(ControlFlow::Continue(()))
    });
    assert!(matches!(outcome, Err(LogError::Damaged { .. })), "{outcome:?}");
    assert_eq!((seen, walk.good_end()), (5, Lsn::new(units(0..5).len() as u64)));
    assert_eq!((walk.segments().len(), walk.verdict()), (1, None));
}

#[test]
fn a_frame_that_holds_no_whole_units_is_damage() {
    for payload in [&b"*1\r\n$5\r\nMULTI\r\n"[..], b"*1\r\n$4\r\nEXEC\r\n", b"PING\r\n"] {
        let disk = SimDisk::new();
        let mut writer = writer_of(&disk);
        let start = writer.appended();
        writer.append(valkey_wbl::log::Batch { start, payload, unix_ms: UNIX_MS }).unwrap();
        writer.close().unwrap();
        let view = LogView::of(disk).unwrap().unwrap();
        let mut walk = view.walk();
        let outcome = walk.each_unit(|_| Ok::<_, LogError>(ControlFlow::Continue(())));
        assert!(matches!(outcome, Err(LogError::Damaged { .. })), "{outcome:?}");
        assert_eq!(walk.good_end(), start);
    }
}

#[test]
fn a_base_that_is_missing_is_damage() {
    let disk = format_1(b"");
    disk.remove(&base_name(1)).unwrap();
    let text = viewed(&disk).unwrap_err();
    assert!(text.contains("is missing") && text.contains("base"), "{text}");
}
