//! What the engine tests of one subject share: small logs, and changes to their files.

#![allow(dead_code)]

use valkey_wbl::log::resp::push_command;
use valkey_wbl::log::sim::SimDisk;
use valkey_wbl::log::{
    Batch, Boundary, FrameHeader, LogError, LogWriter, Lsn, Opened, Options, Storage, encode_annotation, open,
};

/// The time of all frames.
pub const UNIX_MS: u64 = 1_700_000_000_000;

/// One unit, the same for the same number.
pub fn unit(number: usize) -> Vec<u8> {
    let mut unit = Vec::new();
    push_command(&mut unit, &[b"SET", format!("key:{number}").as_bytes(), &[b'v'; 40]]);
    unit
}

/// Writes units, one to a frame.
pub fn write<S: Storage>(writer: &mut LogWriter<S>, units: std::ops::Range<usize>) {
    for number in units {
        let (start, payload) = (writer.appended(), unit(number));
        writer.append(Batch { start, payload: &payload, boundary: Boundary::Unit, unix_ms: UNIX_MS }).unwrap();
    }
    writer.sync().unwrap();
}

/// Opens with a segment size that is never reached.
pub fn reopen(disk: &SimDisk) -> Result<Opened<SimDisk>, LogError> {
    open(disk.clone(), &Options::default())
}

/// Opens and goes on to write.
pub fn writer_of(disk: &SimDisk) -> LogWriter<SimDisk> {
    reopen(disk).unwrap().into_writer(UNIX_MS).unwrap()
}

/// A log of two segments with three units each.
pub fn two_segments() -> SimDisk {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..3);
    assert_eq!(writer.rotate().unwrap(), 2);
    write(&mut writer, 3..6);
    writer.close().unwrap();
    disk
}

/// Changes a file, past the engine.
pub fn edit(disk: &SimDisk, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.contents(name).unwrap();
    change(&mut bytes);
    disk.put(name, &bytes);
}

/// The bytes of a frame.
pub fn frame(lsn: u64, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u64;
    let header = FrameHeader { lsn: Lsn::new(lsn), length, boundary: Boundary::Unit, unix_ms: UNIX_MS };
    [encode_annotation(&header, payload).as_bytes(), payload].concat()
}

/// The payloads of all frames.
pub fn recovered<S: Storage>(opened: &Opened<S>) -> Vec<u8> {
    let (mut frames, mut payload, mut all) = (opened.frames(), Vec::new(), Vec::new());
    while frames.next_frame(&mut payload).unwrap().is_some() {
        all.extend_from_slice(&payload);
    }
    all
}

/// The bytes of several units.
pub fn units(range: std::ops::Range<usize>) -> Vec<u8> {
    range.flat_map(unit).collect()
}
