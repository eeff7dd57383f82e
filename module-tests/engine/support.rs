//! What the engine tests of one subject share: small logs, and changes to their files.

use valkey_wbl::log::resp::push_command;
use valkey_wbl::log::sim::SimDisk;
use valkey_wbl::log::{
    Batch, Begin, LogError, LogWriter, MANIFEST_NAME, Opened, Options, Storage, StorageFile, base_name, open,
    segment_name,
};

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

/// Writes units, one to a frame and a flush.
pub fn write<S: Storage>(writer: &mut LogWriter<S>, units: std::ops::Range<usize>) {
    for number in units {
        let (start, payload) = (writer.appended(), unit(number));
        writer.append(Batch { start, payload: &payload, unix_ms: UNIX_MS }).unwrap();
        writer.sync().unwrap();
    }
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

/// Opens and goes on to write, in segments that are too large to be written ahead: only the test does something on the
/// disk.
pub fn writer_of(disk: &SimDisk) -> LogWriter<SimDisk> {
    let options = Options { segment_bytes: 2 << 30, ..Options::default() };
    go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap()
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

/// A folder as version 0.1 left it: a base of three units, a segment of two, one of one, and bytes after it.
pub fn format_1(tail: &[u8]) -> SimDisk {
    let disk = SimDisk::new();
    let position = |unit: usize| units(0..unit).len() as u64;
    let segment = |range: std::ops::Range<usize>| {
        let first = position(range.start);
        let mut bytes = format_1_whole(first, b"");
        for number in range.clone() {
            let payload = unit(number);
            let line = if number == range.start {
                format_1_whole(position(number), &payload)
            } else {
                format_1_short(first, bytes.len() as u64, &payload)
            };
            bytes.extend(line);
            bytes.extend(payload);
        }
        bytes
    };
    disk.put("LOCK", b"");
    disk.put(&base_name(1), &units(0..3));
    disk.put(&segment_name(2), &segment(3..5));
    disk.put(&segment_name(3), &[&segment(5..7)[..], tail].concat());
    let manifest = "file appendonly.aof.1.base.rdb seq 1 type b\n\
                    file appendonly.aof.2.incr.aof seq 2 type i\n\
                    file appendonly.aof.3.incr.aof seq 3 type i\n";
    disk.put(MANIFEST_NAME, manifest.as_bytes());
    disk
}

/// A whole annotation of format 1.
pub fn format_1_whole(lsn: u64, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u64;
    let fields = [&lsn.to_le_bytes()[..], &length.to_le_bytes(), b"u", &UNIX_MS.to_le_bytes(), payload].concat();
    format!("#WBL1 {lsn:x} {length:x} u {UNIX_MS:x} {:08x}\r\n", crc32c::crc32c(&fields)).into_bytes()
}

/// A short annotation of format 1.
fn format_1_short(first: u64, offset: u64, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u64;
    let fields = [&first.to_le_bytes()[..], &offset.to_le_bytes(), &length.to_le_bytes(), payload].concat();
    format!("#{}{}\r\n", base_64(crc32c::crc32c(&fields).into(), 6), base_64(length, 1)).into_bytes()
}

/// A number in digits of base 64.
pub fn base_64(value: u64, digits_min: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = (1..11).find(|digits| value >> (6 * digits) == 0).unwrap_or(11).max(digits_min);
    (0..digits).rev().map(|digit| char::from(DIGITS[(value >> (6 * digit)) as usize & 63])).collect()
}

/// A frame of format 2 without a time, good in its place where the salt is that of the segment.
pub fn format_2_frame(salt: u64, offset: u64, payload: &[u8], durable_back: u64) -> Vec<u8> {
    let seed = crc32c::crc32c(&[salt.to_le_bytes(), offset.to_le_bytes()].concat());
    let crc = crc32c::crc32c_append(seed, payload);
    let length = payload.len() as u64;
    let fields = [&crc.to_le_bytes()[..], &length.to_le_bytes(), &durable_back.to_le_bytes(), &[0; 9]].concat();
    let check = crc32c::crc32c_append(seed, &fields) & 0xff_ffff;
    let back = if durable_back > 0 { format!(".{}", base_64(durable_back, 1)) } else { String::new() };
    let line = format!("#{}{}{}{back}\n", base_64(check.into(), 4), base_64(crc.into(), 6), base_64(length, 1));
    [line.as_bytes(), payload].concat()
}

/// The salt of a segment of format 2.
pub fn salt_of(segment: &[u8]) -> u64 {
    let header = segment.split(|byte| *byte == b'\n').next().unwrap();
    u64::from_str_radix(std::str::from_utf8(header).unwrap().split(' ').nth(4).unwrap(), 16).unwrap()
}

/// What a folder holds: the content of its base, which stands for the units before the segments, and those.
pub fn dataset(opened: &Opened<SimDisk>) -> Result<Vec<u8>, LogError> {
    opened.verify_base()?;
    let mut data = Vec::new();
    if let Some(mut base) = opened.read_base()? {
        std::io::Read::read_to_end(&mut base, &mut data).map_err(|error| LogError::io("read", base.path(), error))?;
    }
    let (mut frames, mut payload) = (opened.frames(), Vec::new());
    while frames.next_frame(&mut payload)?.is_some() {
        data.extend_from_slice(&payload);
    }
    Ok(data)
}

/// Writes the file of a base that stands for these units.
pub fn base_of(writer: &mut LogWriter<SimDisk>, content: &[u8]) -> Result<String, LogError> {
    let (name, mut file) = writer.new_base_file()?;
    file.write_all_at(0, content).map_err(|error| LogError::io("write", &name, error))?;
    Ok(name)
}

/// What the disk said, also of an earlier operation.
pub fn errno(error: &LogError) -> Option<i32> {
    match error {
        LogError::Io { source, .. } => source.raw_os_error(),
        LogError::Failed(first) => errno(first),
        _ => None,
    }
}
