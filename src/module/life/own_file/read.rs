//! The server's own files in its folder. Nothing here waits: only regular files are opened.

use super::file::{OwnFile, Saved};
use super::note::{PREFIX_BYTES_MAX, Prefixes};
use crate::rdb;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// What distinguishes an RDB file from another, besides its length: its head, with the time when it was begun, and its
/// checksum at the end.
const HEAD_BYTES: usize = 512;
const TAIL_BYTES: u64 = 8;
const _: () = assert!(HEAD_BYTES as u64 >= PREFIX_BYTES_MAX);

/// More than the manifest of an AOF takes.
const AOF_MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// What an RDB file is until it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Temporary {
    pub(super) inode: u64,
    /// When it was begun; Unix seconds.
    pub(super) begun_s: Option<u64>,
    /// Unix milliseconds.
    pub(super) touched_ms: u64,
}

/// The temporary files in the server's folder that are being written and will become RDB files or bases of AOFs, the
/// last touched first: those of a child (also of a server that has died) and of a full sync.
pub(super) fn temporaries(folder: &Path, is_written: &dyn Fn(&str) -> bool) -> Vec<Temporary> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let found = entries.filter_map(Result::ok).filter(|entry| entry.file_name().to_str().is_some_and(is_written));
    let mut found: Vec<Temporary> = found.filter_map(|entry| temporary(&entry.path())).collect();
    found.sort_by_key(|file| std::cmp::Reverse(file.touched_ms));
    found
}

fn temporary(path: &Path) -> Option<Temporary> {
    let (file, status) = open(path).ok()?;
    // It is empty until there is more than fits into a buffer.
    let begun_s = match status.len() {
        0 => u64::try_from(status.mtime()).ok(),
        bytes => head(&file, bytes).ok().and_then(|head| rdb::begun_s(&head)),
    };
    Some(Temporary { inode: status.ino(), begun_s, touched_ms: unix_ms_of(status.ctime(), status.ctime_nsec()) })
}

/// Whether a file is an unfinished one that somebody writes: `temp-PID.rdb` of a child, `temp-TIME.PID.rdb` of a server
/// in a full sync, `temp-rewriteaof-PID.aof` and then `temp-rewriteaof-bg-PID.aof` of a child. The file of a killed
/// child stays for ever.
pub(super) fn is_written(name: &str) -> bool {
    let rdb = || name.strip_prefix("temp-")?.strip_suffix(".rdb");
    let aof = || {
        let rest = name.strip_prefix("temp-rewriteaof-")?.strip_suffix(".aof")?;
        Some(rest.strip_prefix("bg-").unwrap_or(rest))
    };
    let Some(rest) = rdb().or_else(aof) else { return false };
    let (time, process) = rest.rsplit_once('.').map_or((None, rest), |(time, process)| (Some(time), process));
    let own = std::process::id().to_string();
    // This process saves nothing now: an earlier one had its number.
    let is_stale = time.is_none() && process == own;
    let is_number = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
    is_number && !is_stale && Path::new("/proc").join(process).exists()
}

/// A file's time, at the latest: some file systems have whole seconds only, and FAT every second one.
fn unix_ms_of(seconds: i64, nanoseconds: i64) -> u64 {
    let ms = match nanoseconds {
        0 => seconds.saturating_mul(1000).saturating_add(1999),
        _ => seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000),
    };
    u64::try_from(ms).unwrap_or(0)
}

/// Opens a file, or says what there is instead.
fn open(path: &Path) -> Result<(File, Metadata), OwnFile> {
    match std::fs::metadata(path) {
        Ok(status) if status.is_file() => File::open(path).map(|file| (file, status)).map_err(|_| OwnFile::Unreadable),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(OwnFile::None),
        _ => Err(OwnFile::Unreadable),
    }
}

/// What a file of that length begins with.
fn head(file: &File, bytes: u64) -> Result<Vec<u8>, OwnFile> {
    let mut seen = vec![0; HEAD_BYTES.min(usize::try_from(bytes).unwrap_or(HEAD_BYTES))];
    file.read_exact_at(&mut seen, 0).map(|()| seen).map_err(|_| OwnFile::Unreadable)
}

/// The RDB file at that path.
pub(super) fn rdb(path: &Path) -> Result<OwnFile, OwnFile> {
    let (file, status) = open(path)?;
    let mut seen = head(&file, status.len())?;
    let (begun_s, is_empty) = (rdb::begun_s(&seen), rdb::holds_nothing(&seen));
    let mut tail = [0; TAIL_BYTES as usize];
    if file.read_exact_at(&mut tail, status.len().saturating_sub(TAIL_BYTES)).is_ok() {
        seen.extend_from_slice(&tail);
    }
    Ok(OwnFile::Rdb {
        bytes: status.len(),
        crc32c: crc32c::crc32c(&seen),
        begun_s,
        inode: status.ino(),
        touched_ms: unix_ms_of(status.ctime(), status.ctime_nsec()),
        is_empty,
    })
}

/// The AOF of that name, in its folder; or the single file of that name that it was before 7.0, which the server also
/// loads.
pub(super) fn aof(folder: &Path, file_name: &Path, unwritten_bytes: u64) -> Result<OwnFile, OwnFile> {
    let mut manifest = file_name.as_os_str().to_owned();
    manifest.push(".manifest");
    match open(&folder.join(manifest)) {
        Ok((_, status)) if status.len() > AOF_MANIFEST_BYTES_MAX => Err(OwnFile::Unreadable),
        Ok((manifest, _)) => of_manifest(folder, manifest, unwritten_bytes),
        Err(OwnFile::None) => {
            let (file, status) = open(file_name)?;
            // What it begins with does not change when it grows.
            let prefixes = Prefixes::of(0, &head(&file, status.len())?);
            let crc32c = crc32c::crc32c(&head(&file, status.len().min(1))?);
            let bytes = status.len().saturating_add(unwritten_bytes);
            Ok(OwnFile::Aof { crc32c, prefixes, bytes, changed_ms: written_ms(&status), saved: None })
        }
        Err(other) => Err(other),
    }
}

fn of_manifest(folder: &Path, mut manifest: File, unwritten_bytes: u64) -> Result<OwnFile, OwnFile> {
    let mut text = String::new();
    manifest.read_to_string(&mut text).map_err(|_| OwnFile::Unreadable)?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    // What its manifest names is there.
    let there = |line: &&str| {
        let name = name_in(line).ok_or(OwnFile::Unreadable)?;
        open(&folder.join(name)).map_err(|_| OwnFile::Unreadable)
    };
    let (first, last) = (lines.first().ok_or(OwnFile::Unreadable)?, lines.last().ok_or(OwnFile::Unreadable)?);
    // A new AOF may have the names of the old one.
    let (base, base_status) = there(first)?;
    let base_bytes = if lines.len() == 1 { 0 } else { base_status.len() };
    let (grows, status) = there(last)?;
    let prefixes = Prefixes::of(base_bytes, &head(&grows, status.len())?);
    let appended = lines.iter().filter(|line| is_of_type(line, "i")).map(there).collect::<Result<Vec<_>, _>>()?;
    let newest = appended.iter().map(|(_, status)| status).rfind(|status| status.len() > 0);
    let is_saved = newest.is_none() && unwritten_bytes == 0 && is_of_type(first, "b");
    let base_head = head(&base, base_status.len())?;
    let saved = Saved {
        begun_s: rdb::begun_s(&base_head),
        inode: base_status.ino(),
        bytes: base_status.len(),
        prefixes: Prefixes::of(0, &base_head),
        is_empty: rdb::holds_nothing(&base_head),
    };
    let noted_head = if lines.len() == 1 { &[][..] } else { &base_head };
    let seen = [text.as_bytes(), noted_head].concat();
    Ok(OwnFile::Aof {
        crc32c: crc32c::crc32c(&seen),
        prefixes,
        bytes: status.len().saturating_add(unwritten_bytes),
        changed_ms: written_ms(newest.unwrap_or(if is_saved { &base_status } else { &status })),
        saved: is_saved.then_some(saved),
    })
}

/// When a file was last written.
fn written_ms(status: &Metadata) -> u64 {
    unix_ms_of(status.mtime(), status.mtime_nsec())
}

/// Whether a line of an AOF's manifest names a file of this type: `b`, a base; `i`, what was appended.
fn is_of_type(line: &str, wanted: &str) -> bool {
    line.split(' ').skip_while(|word| *word != "type").nth(1) == Some(wanted)
}

/// The file that a line of an AOF's manifest names. The server puts a name between quotes where it has spaces, quotes
/// or others that it would not print (`sdscatrepr`, sds.c).
fn name_in(line: &str) -> Option<String> {
    let rest = line.strip_prefix("file ")?;
    let Some(quoted) = rest.strip_prefix('"') else { return rest.split(' ').next().map(Into::into) };
    let (mut name, mut characters) = (String::new(), quoted.chars());
    loop {
        match characters.next()? {
            '"' => return Some(name),
            '\\' => match characters.next()? {
                plain @ ('"' | '\\') => name.push(plain),
                // Bytes that are not text: nobody uses such names.
                _ => return None,
            },
            plain => name.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_in_whole_seconds_may_be_that_of_a_later_moment() {
        assert_eq!((unix_ms_of(5, 0), unix_ms_of(5, 1), unix_ms_of(5, 999_999_999)), (6999, 5000, 5999));
    }

    #[test]
    fn the_files_that_are_being_saved_are_found() {
        let folder = std::env::temp_dir().join(format!("wbl-own-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let own = std::process::id();
        let living = std::os::unix::process::parent_id();
        let rewrites = ["temp-rewriteaof-1.aof", "temp-rewriteaof-bg-1.aof"].map(String::from);
        let names = [format!("temp-{living}.rdb"), format!("temp-17.{own}.rdb"), "temp-1.rdb".into()];
        let names = [&names[..], &rewrites].concat();
        // Of earlier processes, or no RDB files.
        let others = ["temp-4294967295.rdb", "temp-17.4294967295.rdb", "dump.rdb", "temp-1.aof", "temp-x.rdb"];
        let others = others.into_iter().map(String::from).chain([format!("temp-{own}.rdb")]);
        for name in names.iter().cloned().chain(others) {
            std::fs::write(folder.join(&name), name).unwrap();
        }
        let live = folder.join(&names[1]);
        let found = || temporaries(&folder, &is_written);
        let before = found().first().unwrap().touched_ms;
        while found().first().unwrap().touched_ms <= before {
            std::fs::write(&live, "").unwrap();
        }
        let status = std::fs::metadata(&live).unwrap();
        assert_eq!((found().len(), found()[0].inode), (names.len(), status.ino()));
        assert_eq!(found()[0].begun_s, u64::try_from(status.mtime()).ok(), "nothing is written yet");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn names_in_a_manifest_may_be_quoted() {
        assert_eq!(name_in("file a.1.incr.aof seq 1 type i").as_deref(), Some("a.1.incr.aof"));
        assert_eq!(name_in(r#"file "my \"a\\b.aof" seq 1 type i"#).as_deref(), Some(r#"my "a\b.aof"#));
        assert_eq!(name_in(r#"file "\x01.aof" seq 1 type i"#), None);
        assert_eq!(name_in("other"), None);
        assert!(is_of_type("file a.1.base.rdb seq 1 type b", "b") && !is_of_type("file a seq 1 type h", "i"));
    }
}
