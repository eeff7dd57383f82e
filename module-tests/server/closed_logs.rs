//! Damage at the end of a log that was closed: nothing there can be the unfinished write of a crash.

use crate::harness::temp::copy_folder;
use crate::harness::{ServerBuilder, Version, each_version};
use crate::outside::last_segment;
use crate::unusable_folders::{listing, refused_start};
use std::fs;

/// A change of a segment, given where its last frames begin.
type Damage = fn(&mut Vec<u8>, &[usize]);

const DAMAGES: [(&str, Damage); 6] = [
    ("a bit of the last frame", |bytes, _| {
        let last = bytes.iter().rposition(|byte| *byte == b'v').unwrap();
        bytes[last] ^= 0x10;
    }),
    ("a bad sector", |bytes, frames| {
        let from = frames[frames.len() - 1] / 512 * 512;
        let to = bytes.len().min(from + 512);
        bytes[from..to].iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 7) as u8 ^ 0xa5);
    }),
    ("cut before the last frame", |bytes, frames| bytes.truncate(frames[frames.len() - 1])),
    ("cut before ten frames", |bytes, frames| bytes.truncate(frames[frames.len() - 10])),
    ("zeros from the last frame on", |bytes, frames| bytes[frames[frames.len() - 1]..].fill(0)),
    ("zeros from ten frames on", |bytes, frames| bytes[frames[frames.len() - 10]..].fill(0)),
];

/// Where frames begin: with an annotation, or with the line of a time before one. Other lines are their padding.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let (mut frames, mut at, mut is_timed) = (Vec::new(), 0, false);
    for line in lines {
        let is_time = line.starts_with(b"#TS:");
        let is_annotation = !is_time && line.len() > 11 && line[0] == b'#' && line[1] != b' ' && at > 0;
        if is_time || (is_annotation && !is_timed) {
            frames.push(at);
        }
        is_timed = is_time;
        at += line.len();
    }
    frames
}

each_version! {
    fn damage_at_the_end_of_a_log_that_was_closed_ends_the_start(version: Version) {
        let mut server = ServerBuilder::with_module(version).allow_warning("").start();
        let mut client = server.raw();
        for number in 0..200 {
            assert_eq!(client.run(&format!("SET key:{number} {}", "v".repeat(20))).text(), "OK");
        }
        server.stop();
        let folder = server.log_folder();
        let whole = server.folder().join("whole");
        copy_folder(&folder, &whole);
        for (how, damage) in DAMAGES {
            fs::remove_dir_all(&folder).unwrap();
            copy_folder(&whole, &folder);
            let segment = last_segment(&server);
            let mut bytes = fs::read(&segment).unwrap();
            let frames = frames(&bytes);
            assert!(frames.len() > 20, "{} frames", frames.len());
            damage(&mut bytes, &frames);
            fs::write(&segment, &bytes).unwrap();
            let before = listing(&folder);
            let said = refused_start(&mut server);
            let lines: Vec<&str> = said.lines().filter(|line| line.contains("the log is damaged")).collect();
            let [line] = lines[..] else { panic!("{how}: {said}") };
            let place = format!("{} at byte ", segment.display());
            let offset = line.split_once(&place).and_then(|(_, rest)| rest.split(':').next()?.parse::<usize>().ok());
            let last = frames[frames.len() - 1];
            let first = frames[frames.len() - 10];
            assert!(offset.is_some_and(|offset| (first..=last).contains(&offset)), "{how}, {first} to {last}: {line}");
            assert!(listing(&folder) == before, "{how}: the folder has changed");
        }
        fs::remove_dir_all(&folder).unwrap();
        copy_folder(&whole, &folder);
        server.start();
        assert_eq!(server.raw().run("DBSIZE").integer(), 200);
    }
}
