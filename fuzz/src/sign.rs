//! Checksums made right again, so that a change gets behind them: no fuzzer finds a CRC-32C by itself.

use crate::Files;
use std::ops::Range;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// No annotation is longer.
const LINE_BYTES_MAX: usize = 60;

/// Makes right whatever the files of a folder say of themselves and of the base.
pub fn sign(files: &mut Files) {
    for (name, bytes) in files.iter_mut() {
        if name.ends_with(".incr.aof")
            && let Some((salt, header)) = sign_header(bytes)
        {
            sign_frames(bytes, header, salt);
        }
    }
    let name = "appendonly.aof.manifest";
    if let Some(manifest) = files.get(name).and_then(|text| sign_manifest(text, files)) {
        files.insert(name.into(), manifest);
    }
}

fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|byte| *byte == wanted)
}

/// The salt and the length of the header.
fn sign_header(bytes: &mut [u8]) -> Option<(u64, usize)> {
    let end = position(bytes.get(..bytes.len().min(150))?, b'\n')?;
    let digits = end.checked_sub(8)?;
    let (text, rest) = bytes.split_at_mut_checked(digits)?;
    rest.get_mut(..8)?.copy_from_slice(format!("{:08x}", crc32c::crc32c(text)).as_bytes());
    let salt = text.split(|byte| *byte == b' ').nth(4)?;
    Some((u64::from_str_radix(std::str::from_utf8(salt).ok()?, 16).ok()?, end + 1))
}

fn sign_manifest(text: &[u8], files: &Files) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines: Vec<String> = text.split('\n').map(str::to_string).collect();
    for at in 1..lines.len() {
        let (Some(before), Some(line)) = (lines.get(at - 1), lines.get(at)) else { break };
        let words: Vec<&str> = line.split(' ').collect();
        if let ["#base", "lsn", lsn, "bytes", _, "crc32c", crc] = words[..]
            && let Some(base) = before.split(' ').nth(1).and_then(|name| files.get(name))
        {
            let crc = if crc == "-" { crc.to_string() } else { format!("{:08x}", crc32c::crc32c(base)) };
            lines[at] = format!("#base lsn {lsn} bytes {} crc32c {crc}", base.len());
        }
    }
    let end = lines.iter().rposition(|line| line.starts_with("#end "))?;
    let above = lines.get(..end)?.iter().fold(String::new(), |text, line| text + line + "\n");
    lines[end] = format!("#end {:08x}", crc32c::crc32c(above.as_bytes()));
    Some(lines.join("\n").into_bytes())
}

/// Makes the frames from an offset on right, up to what is none.
pub fn sign_frames(bytes: &mut [u8], mut at: usize, salt: u64) {
    while let Some(end) = sign_frame(bytes, at, salt) {
        at = end;
    }
}

fn sign_frame(bytes: &mut [u8], mut at: usize, salt: u64) -> Option<usize> {
    if bytes.get(at..)?.starts_with(b"#TS:") {
        at += position(bytes.get(at..)?, b'\n')? + 1;
    }
    let rest = bytes.get(at..)?;
    let line = rest.get(..position(rest.get(..rest.len().min(LINE_BYTES_MAX))?, b'\n')? + 1)?;
    let fields = fields(line)?;
    let payload = at + line.len();
    let end = payload.checked_add(usize::try_from(fields.length).ok()?)?;
    let padding = usize::try_from(padding(&fields, end as u64)).ok()?;
    pad(bytes.get_mut(end..end.checked_add(padding)?)?);
    let whole = bytes.get(payload..end + padding)?;
    let seed = seed(salt, at as u64);
    let crc = crc32c::crc32c_append(seed, whole);
    let check = check(&fields, crc, seed);
    bytes.get_mut(at + 1..at + 5)?.copy_from_slice(base_64(check, 4).as_bytes());
    bytes.get_mut(at + 5..at + 11)?.copy_from_slice(base_64(crc.into(), 6).as_bytes());
    Some(end + padding)
}

struct Fields {
    length: u64,
    durable_back: u64,
    unix_ms: Option<u64>,
    block: Option<u64>,
}

fn fields(line: &[u8]) -> Option<Fields> {
    let line = line.strip_prefix(b"#")?.strip_suffix(b"\n")?;
    let (line, block) = match position(line, b'+') {
        Some(at) => (line.get(..at)?, Some(1 << number(line.get(at + 1..)?).filter(|block| *block < 20)?)),
        None => (line, None),
    };
    let mut parts = line.split(|byte| *byte == b'.');
    let length = number(parts.next()?.get(10..)?)?;
    let durable_back = parts.next().map_or(Some(0), number)?;
    let unix_ms = parts.next().map(number);
    Some(Fields { length, durable_back, unix_ms: unix_ms.flatten(), block })
}

fn padding(fields: &Fields, payload_end: u64) -> u64 {
    match fields.block.map(|bytes| (bytes, bytes - 1 - payload_end.wrapping_sub(1) % bytes)) {
        None => 0,
        Some((bytes, 1)) => 1 + bytes,
        Some((_, padding)) => padding,
    }
}

/// Fills padding with the lines that a writer puts there.
fn pad(mut padding: &mut [u8]) {
    while !padding.is_empty() {
        let line = if padding.len() <= 513 { padding.len() } else { 512 };
        let (first, rest) = std::mem::take(&mut padding).split_at_mut(line);
        first.fill(b' ');
        first[0] = b'#';
        first[line - 1] = b'\n';
        padding = rest;
    }
}

fn seed(salt: u64, offset: u64) -> u32 {
    crc32c::crc32c(&[salt.to_le_bytes(), offset.to_le_bytes()].concat())
}

fn check(fields: &Fields, crc: u32, seed: u32) -> u64 {
    let mut bytes = [&crc.to_le_bytes()[..], &fields.length.to_le_bytes(), &fields.durable_back.to_le_bytes()].concat();
    bytes.push(fields.unix_ms.is_some().into());
    bytes.extend_from_slice(&fields.unix_ms.unwrap_or(0).to_le_bytes());
    bytes.extend(fields.block.map(u64::to_le_bytes).iter().flatten());
    u64::from(crc32c::crc32c_append(seed, &bytes) & 0xff_ffff)
}

/// A frame of this payload, right in its place.
pub fn frame(salt: u64, offset: usize, payload: &[u8]) -> Vec<u8> {
    let line = format!("#AAAAAAAAAA{}\n", base_64(payload.len() as u64, 1));
    let mut bytes = [&vec![0; offset][..], line.as_bytes(), payload].concat();
    sign_frame(&mut bytes, offset, salt);
    bytes.split_off(offset)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.len() > 8 {
        return None;
    }
    digits.iter().try_fold(0, |value, digit| Some(value << 6 | position(DIGITS, *digit)? as u64))
}

fn base_64(value: u64, digits_min: usize) -> String {
    let digits: Range<usize> = 0..(1..11).find(|digits| value >> (6 * digits) == 0).unwrap_or(11).max(digits_min);
    digits.rev().map(|digit| char::from(DIGITS[(value >> (6 * digit)) as usize & 63])).collect()
}
