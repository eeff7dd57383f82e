//! What the engine tests of one subject share: small logs, and changes to their files.

#![allow(dead_code)]

use valkey_wbl::log::resp::push_command;
use valkey_wbl::log::sim::SimDisk;
use valkey_wbl::log::{Batch, Begin, LogError, LogWriter, Opened, Options, Storage, open};

/// The time of all frames.
pub const UNIX_MS: u64 = 1_700_000_000_000;

/// One unit, the same for the same number.
pub fn unit(number: usize) -> Vec<u8> {
    let mut unit = Vec::new();
    push_command(&mut unit, &[b"SET", format!("key:{number}").as_bytes(), &[b'v'; 40]]);
    unit
}

/// The bytes of several units.
pub fn units(range: std::ops::Range<usize>) -> Vec<u8> {
    range.flat_map(unit).collect()
}

/// Writes units, one to a frame.
pub fn write<S: Storage>(writer: &mut LogWriter<S>, units: std::ops::Range<usize>) {
    for number in units {
        let (start, payload) = (writer.appended(), unit(number));
        writer.append(Batch { start, payload: &payload, unix_ms: UNIX_MS }).unwrap();
    }
    writer.sync().unwrap();
}

/// Opens with a segment size that is never reached.
pub fn reopen(disk: &SimDisk) -> Result<Opened<SimDisk>, LogError> {
    open(disk.clone(), &Options::default())
}

/// Goes on with the log, or begins one.
pub fn go_on<S: Storage>(opened: Opened<S>, unix_ms: u64) -> Result<LogWriter<S>, LogError> {
    let mut writer = if opened.is_empty() {
        opened.into_folder().begin(Begin::Empty, unix_ms).map_err(|not_begun| not_begun.error)?
    } else {
        opened.prepare(unix_ms)?.start()?
    };
    writer.remove_leftovers();
    Ok(writer)
}

/// Opens and goes on to write.
pub fn writer_of(disk: &SimDisk) -> LogWriter<SimDisk> {
    go_on(reopen(disk).unwrap(), UNIX_MS).unwrap()
}

/// A log of two segments with three units each, both closed.
pub fn two_segments() -> SimDisk {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write_two_segments(&mut writer);
    writer.close().unwrap();
    disk
}

/// The same as a crash leaves it, which had all of it durable.
pub fn two_open_segments() -> SimDisk {
    let disk = SimDisk::new();
    write_two_segments(&mut writer_of(&disk));
    disk
}

fn write_two_segments(writer: &mut LogWriter<SimDisk>) {
    write(writer, 0..3);
    writer.cut().unwrap();
    write(writer, 3..6);
}

/// Changes a file, past the engine.
pub fn edit(disk: &SimDisk, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.contents(name).unwrap();
    change(&mut bytes);
    disk.put(name, &bytes);
}

/// The payloads of all frames.
pub fn recovered<S: Storage>(opened: &Opened<S>) -> Vec<u8> {
    let (mut frames, mut payload, mut all) = (opened.frames(), Vec::new(), Vec::new());
    while frames.next_frame(&mut payload).unwrap().is_some() {
        all.extend_from_slice(&payload);
    }
    all
}
