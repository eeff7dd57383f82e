//! The file that the server itself would load at its next start, and whether it is newer than a log that was left.
//!
//! When a log is left, its manifest notes when, and what that file was then: by its content and not by its times, so
//! that neither a copy nor a clock that steps makes an old file look new. What the file's own time is for is to say
//! whether a file that has changed since is one that was saved since.

use crate::ffi::Ctx;
use crate::log::{Left, Standing};
use crate::module::server;
use crate::module::waits::unix_ms;
use crate::rdb;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What of an RDB file tells it from another, besides its length: its head, which has the time when it was begun, and
/// its checksum at the end.
const HEAD_BYTES: usize = 512;
const TAIL_BYTES: u64 = 8;

/// The clock that files get their times from is some milliseconds behind, which may be another second.
const CLOCK_LAG_S: u64 = 1;

/// More than the manifest of an AOF has.
const AOF_MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// The file that the server itself would load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnFile {
    /// There is none.
    None,
    /// An RDB file. `begun_s`: when it was begun, which is the time of its dataset; Unix seconds.
    Rdb { bytes: u64, crc32c: u32, begun_s: Option<u64> },
    /// An AOF: the files that its manifest names, the last of which grows. `changed_s`: when that was last written.
    Aof { crc32c: u32, bytes: u64, changed_s: Option<u64> },
}

/// Which of log and own file has newer data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newer {
    Log,
    OwnFile,
    /// The file has changed since, and is older than that by its own time.
    Unknown,
}

impl OwnFile {
    pub(super) fn look(ctx: Ctx<'_>) -> OwnFile {
        // The server's own folder is the current one.
        let found = if server::has_own_aof(ctx) {
            let folder = name(ctx, "appenddirname", "appendonlydir");
            // What is executed and not written yet is older than whatever comes.
            let unwritten_bytes = server::unwritten_aof_bytes(ctx);
            look_at_aof(&folder, &name(ctx, "appendfilename", "appendonly.aof"), unwritten_bytes)
        } else {
            look_at_rdb(&name(ctx, "dbfilename", "dump.rdb"))
        };
        found.unwrap_or(OwnFile::None)
    }

    /// How the file is noted.
    fn note(self) -> String {
        match self {
            OwnFile::None => "none".into(),
            OwnFile::Rdb { bytes, crc32c, .. } => format!("rdb:{bytes}:{crc32c:08x}"),
            OwnFile::Aof { crc32c, bytes, .. } => format!("aof:{bytes}:{crc32c:08x}"),
        }
    }

    /// Whether it is what was noted. An AOF may lack what was not on the disk yet.
    fn is_noted(self, note: &Note) -> bool {
        match self {
            OwnFile::None => true,
            OwnFile::Rdb { bytes, crc32c, .. } => note.file == Some(("rdb", bytes, crc32c)),
            OwnFile::Aof { crc32c, bytes, .. } => {
                note.file.is_some_and(|(kind, noted, crc)| kind == "aof" && bytes <= noted && crc == crc32c)
            }
        }
    }

    /// Whether the file or the log that was left has newer data.
    pub(super) fn or_log(self, left: &Left) -> Newer {
        let note = Note::parse(left.note());
        if self.is_noted(&note) {
            return Newer::Log;
        }
        let left_s = left.unix_ms() / 1000;
        match self {
            OwnFile::Rdb { begun_s: Some(begun_s), .. } if note.was_being_saved(begun_s, left_s) => Newer::Log,
            OwnFile::Rdb { begun_s: Some(time_s), .. } | OwnFile::Aof { changed_s: Some(time_s), .. }
                if time_s.saturating_add(CLOCK_LAG_S) >= left_s =>
            {
                Newer::OwnFile
            }
            _ => Newer::Unknown,
        }
    }
}

/// What a log is marked with that is left now.
pub(super) fn left_now(ctx: Ctx<'_>) -> Standing {
    let unix_ms = unix_ms();
    let mut note = OwnFile::look(ctx).note();
    if let Some(for_s) = server::saves_for_s(ctx) {
        note += &format!(":saving:{}", (unix_ms / 1000).saturating_sub(for_s));
    }
    Left::new(unix_ms, &note).map_or(Standing::Current, Standing::Left)
}

/// The mark of a log, now that the file is there that a child was saving when the log was left. `None` where none was,
/// or the file is another.
pub(super) fn without_child(left: &Left, own: OwnFile) -> Option<Standing> {
    let OwnFile::Rdb { begun_s: Some(begun_s), .. } = own else { return None };
    let note = Note::parse(left.note());
    let is_the_childs = note.was_being_saved(begun_s, left.unix_ms() / 1000);
    let noted = || Left::new(left.unix_ms(), &own.note()).map(Standing::Left);
    if is_the_childs { noted() } else { None }
}

/// Whether a child was saving a file when the log was left.
pub(super) fn was_saving(left: &Left) -> bool {
    Note::parse(left.note()).saving_since_s.is_some()
}

/// A note, read back. What is not understood stands for a file that is not there any more.
struct Note<'a> {
    file: Option<(&'a str, u64, u32)>,
    saving_since_s: Option<u64>,
}

impl Note<'_> {
    fn parse(text: &str) -> Note<'_> {
        let words: Vec<&str> = text.split(':').collect();
        let file = match words[..] {
            [kind, bytes, crc32c, ..] => {
                bytes.parse().ok().zip(u32::from_str_radix(crc32c, 16).ok()).map(|(bytes, crc)| (kind, bytes, crc))
            }
            _ => None,
        };
        let saving_since_s = match words[..] {
            [.., "saving", since_s] => since_s.parse().ok(),
            _ => None,
        };
        Note { file, saving_since_s }
    }

    /// Whether a file of this time is the one that a child was saving when the log was left. Server and child look at
    /// the clock one after the other.
    fn was_being_saved(&self, begun_s: u64, left_s: u64) -> bool {
        let near = |since_s: u64| since_s.saturating_sub(1) <= begun_s && begun_s <= since_s.saturating_add(1);
        begun_s <= left_s && self.saving_since_s.is_some_and(near)
    }
}

fn name(ctx: Ctx<'_>, setting: &str, default: &str) -> PathBuf {
    let name = server::setting(ctx, setting).and_then(|name| String::from_utf8(name).ok());
    name.unwrap_or_else(|| default.into()).into()
}

fn look_at_rdb(path: &Path) -> Option<OwnFile> {
    let file = File::open(path).ok()?;
    let bytes = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    let mut seen = vec![0; HEAD_BYTES.min(usize::try_from(bytes).unwrap_or(HEAD_BYTES))];
    file.read_exact_at(&mut seen, 0).ok()?;
    let begun_s = rdb::begun_s(&seen);
    let mut tail = [0; TAIL_BYTES as usize];
    if file.read_exact_at(&mut tail, bytes.saturating_sub(TAIL_BYTES)).is_ok() {
        seen.extend_from_slice(&tail);
    }
    Some(OwnFile::Rdb { bytes, crc32c: crc32c::crc32c(&seen), begun_s })
}

fn look_at_aof(folder: &Path, file_name: &Path, unwritten_bytes: u64) -> Option<OwnFile> {
    let mut manifest = file_name.as_os_str().to_owned();
    manifest.push(".manifest");
    let path = folder.join(manifest);
    std::fs::metadata(&path).ok().filter(|status| status.is_file() && status.len() <= AOF_MANIFEST_BYTES_MAX)?;
    let text = std::fs::read(path).ok()?;
    let names = String::from_utf8_lossy(&text).into_owned();
    let name_of = |line: &str| line.strip_prefix("file ")?.split(' ').next().map(|name| folder.join(name));
    let last = names.lines().filter(|line| !line.starts_with('#')).filter_map(name_of).next_back()?;
    let status = std::fs::metadata(last).ok()?;
    let (bytes, changed_s) = (status.len().saturating_add(unwritten_bytes), u64::try_from(status.mtime()).ok());
    Some(OwnFile::Aof { crc32c: crc32c::crc32c(&text), bytes, changed_s })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LEFT_S: u64 = 1_000;

    fn left(note: &str) -> Left {
        Left::new(LEFT_S * 1000 + 500, note).unwrap()
    }

    fn rdb(crc32c: u32, begun_s: u64) -> OwnFile {
        OwnFile::Rdb { bytes: 90, crc32c, begun_s: Some(begun_s) }
    }

    fn aof(crc32c: u32, bytes: u64, changed_s: u64) -> OwnFile {
        OwnFile::Aof { crc32c, bytes, changed_s: Some(changed_s) }
    }

    #[test]
    fn the_file_that_was_there_is_not_newer_whatever_its_times() {
        for begun_s in [0, LEFT_S, LEFT_S + 100] {
            assert_eq!(rdb(7, begun_s).or_log(&left(&rdb(7, 1).note())), Newer::Log);
            assert_eq!(aof(7, 90, begun_s).or_log(&left(&aof(7, 90, 1).note())), Newer::Log);
            assert_eq!(aof(7, 89, begun_s).or_log(&left(&aof(7, 90, 1).note())), Newer::Log, "its end was lost");
        }
        assert_eq!(OwnFile::None.or_log(&left(&rdb(7, 1).note())), Newer::Log);
    }

    #[test]
    fn a_file_that_was_saved_since_is_newer() {
        for note in [OwnFile::None.note(), rdb(7, 1).note(), aof(8, 90, 1).note(), "what: is this".replace(' ', "")] {
            for time_s in [LEFT_S - 1, LEFT_S, LEFT_S + 1, u64::MAX] {
                assert_eq!(rdb(8, time_s).or_log(&left(&note)), Newer::OwnFile, "{note}");
                assert_eq!(aof(8, 91, time_s).or_log(&left(&note)), Newer::OwnFile, "{note}");
            }
            assert_eq!(rdb(8, LEFT_S - 2).or_log(&left(&note)), Newer::Unknown, "{note}");
            assert_eq!(aof(8, 91, LEFT_S - 2).or_log(&left(&note)), Newer::Unknown, "{note}");
        }
        let without_time = OwnFile::Rdb { bytes: 1, crc32c: 1, begun_s: None };
        assert_eq!(without_time.or_log(&left("none")), Newer::Unknown);
    }

    #[test]
    fn a_file_that_a_child_was_saving_is_not_newer() {
        let note = format!("{}:saving:{}", rdb(7, 1).note(), LEFT_S - 5);
        for begun_s in LEFT_S - 6..=LEFT_S - 4 {
            assert_eq!(rdb(8, begun_s).or_log(&left(&note)), Newer::Log);
            let marked = without_child(&left(&note), rdb(8, begun_s));
            assert_eq!(marked, Some(Standing::Left(left(&rdb(8, begun_s).note()))));
        }
        assert_eq!(rdb(8, LEFT_S - 7).or_log(&left(&note)), Newer::Unknown);
        assert_eq!(rdb(8, LEFT_S).or_log(&left(&note)), Newer::OwnFile);
        assert_eq!(without_child(&left(&note), rdb(8, LEFT_S)), None);
        let began_just_now = format!("none:saving:{LEFT_S}");
        assert_eq!(rdb(8, LEFT_S).or_log(&left(&began_just_now)), Newer::Log);
        assert_eq!(rdb(8, LEFT_S + 1).or_log(&left(&began_just_now)), Newer::OwnFile);
        assert!(was_saving(&left(&note)) && !was_saving(&left("none")));
    }
}
