//! The log engine and the positions that files state: none beyond the limit, each segment at its own.

use crate::folder::damage;
use crate::support::*;
use valkey_wbl::log::sim::SimDisk;
use valkey_wbl::log::{Batch, LogError, Lsn, MANIFEST_NAME, base_name, segment_name};

const LIMIT: u64 = Lsn::LIMIT.get();
const BEYOND: [u64; 3] = [LIMIT + 1, u64::MAX - 10, u64::MAX];

/// A manifest with these lines, and with a right checksum.
fn manifest_of(lines: &str) -> Vec<u8> {
    format!("{lines}#end {:08x}\n", crc32c::crc32c(lines.as_bytes())).into_bytes()
}

/// A changed manifest, with a right checksum.
fn change_manifest(disk: &SimDisk, change: impl Fn(&str) -> String) {
    let text = String::from_utf8(disk.contents(MANIFEST_NAME).unwrap()).unwrap();
    let lines = &text[..text.find("#end ").unwrap()];
    let changed = change(lines);
    assert_ne!(changed, lines);
    disk.put(MANIFEST_NAME, &manifest_of(&changed));
}

/// A log of one segment whose header has the one position, and its manifest the other; all checksums are right.
fn log_at(header: u64, manifest: u64, frames: &[usize]) -> SimDisk {
    let (disk, name) = (SimDisk::new(), segment_name(1));
    drop(writer_of(&disk));
    edit(&disk, &name, |bytes| {
        let line = String::from_utf8(bytes.clone()).unwrap();
        let mut fields: Vec<&str> = line.split(' ').collect();
        let first = format!("{header:x}");
        (fields[3], fields[7]) = (&first, "");
        let covered = fields.join(" ");
        *bytes = format!("{covered}{:08x}\n", crc32c::crc32c(covered.as_bytes())).into_bytes();
        let salt = salt_of(bytes);
        for number in frames {
            bytes.extend(format_2_frame(salt, bytes.len() as u64, &unit(*number), 0));
        }
    });
    if manifest != 0 {
        change_manifest(&disk, |lines| {
            let lines = lines.replace("#base none lsn 0", &format!("#base none lsn {manifest}"));
            lines.replace("#segment first 0", &format!("#segment first {manifest}"))
        });
    }
    disk
}

#[test]
fn a_position_beyond_the_limit_is_damage() {
    let segment = segment_name(1);
    for beyond in BEYOND {
        for frames in [&[][..], &[0, 1]] {
            let found = damage(&log_at(beyond, 0, frames));
            assert!(found.contains(&segment) && found.contains("header is wrong"), "{found}");
            for header in [0, beyond] {
                let found = damage(&log_at(header, beyond, frames));
                assert!(found.contains(MANIFEST_NAME) && found.contains("changed"), "{found}");
            }
        }
        let disk = two_segments();
        let end = units(0..6).len();
        change_manifest(&disk, |lines| lines.replace(&format!(" end {end} "), &format!(" end {beyond} ")));
        let found = damage(&disk);
        assert!(found.contains(MANIFEST_NAME) && found.contains("changed"), "{found}");
        // Format 1.
        let disk = SimDisk::new();
        disk.put(MANIFEST_NAME, format!("file {segment} seq 1 type i\n").as_bytes());
        disk.put(&segment, &[&format_1_whole(beyond, b"")[..], &format_1_whole(beyond, &unit(0)), &unit(0)].concat());
        let found = damage(&disk);
        assert!(found.contains(&segment) && found.contains("first frame is wrong"), "{found}");
    }
}

#[test]
fn a_frame_that_ends_beyond_the_limit_is_damage() {
    let length = unit(0).len() as u64;
    for (before, frames) in [(0, &[0][..]), (1, &[0]), (length - 1, &[0]), (2 * length - 1, &[0, 1])] {
        let found = damage(&log_at(LIMIT - before, LIMIT - before, frames));
        assert!(found.contains(&segment_name(1)) && found.contains("out of range"), "{found}");
    }
    // Format 1, where nothing but a base lets a log begin there.
    let first = LIMIT - length + 1;
    let disk = SimDisk::new();
    let (base, segment) = (base_name(1), segment_name(2));
    disk.put(&base, b"base");
    let manifest = format!("file {base} seq 1 type b\nfile {segment} seq 2 type i\n");
    disk.put(MANIFEST_NAME, manifest.as_bytes());
    disk.put(&segment, &[&format_1_whole(first, b"")[..], &format_1_whole(first, &unit(0)), &unit(0)].concat());
    let found = damage(&disk);
    assert!(found.contains(&segment) && found.contains("out of range"), "{found}");
}

#[test]
fn a_log_that_ends_at_the_limit_is_read_and_takes_no_more() {
    let length = unit(0).len() as u64;
    let disk = log_at(LIMIT - length, LIMIT - length, &[0]);
    let opened = reopen(&disk).unwrap();
    assert_eq!((opened.next_lsn(), recovered(&opened)), (Lsn::LIMIT, unit(0)));
    let mut writer = go_on(opened, UNIX_MS).unwrap();
    let refused = writer.append(Batch { start: Lsn::LIMIT, payload: &unit(1), unix_ms: UNIX_MS });
    assert!(matches!(&refused, Err(LogError::Refused { .. } | LogError::Failed(_))), "{refused:?}");
    drop(writer);
    assert_eq!(recovered(&reopen(&disk).unwrap()), unit(0));
}

/// All that is checked of a segment by itself is right: its name and length, its log, its frames.
#[test]
fn a_segment_of_the_same_log_in_the_place_of_another_is_refused() {
    for is_closed in [true, false] {
        let disk = SimDisk::new();
        let mut writer = writer_of(&disk);
        write(&mut writer, 0..5);
        writer.cut().unwrap();
        write(&mut writer, 5..7);
        writer.cut().unwrap();
        write(&mut writer, 7..9);
        if is_closed {
            writer.close().unwrap();
        } else {
            drop(writer);
        }
        let (second, third) = (segment_name(2), segment_name(3));
        let contents = [disk.contents(&second).unwrap(), disk.contents(&third).unwrap()];
        assert_eq!(contents[0].len(), contents[1].len());
        for (now_second, now_third) in [(1, 0), (0, 0), (1, 1)] {
            let disk = disk.restart_image();
            disk.put(&second, &contents[now_second]);
            disk.put(&third, &contents[now_third]);
            let found = damage(&disk);
            let first = if now_second == 1 { &second } else { &third };
            assert!(found.contains(first) && found.contains("another position"), "{now_second}, {now_third}: {found}");
            assert_eq!(disk.contents(&second).as_ref(), Some(&contents[now_second]), "nothing is changed");
        }
    }
}
