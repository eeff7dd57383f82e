//! The file that the server itself would load at its next start, and whether it is newer than a log that was left.
//!
//! When a log is left, its manifest notes when, and what the server's RDB file and its AOF were then, whichever it
//! uses: by its content and not by its times, so that neither a copy nor a clock that steps makes an old file look new.
//! What the file's own time is for is to say whether a file that has changed since is one that was saved since.

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
        if server::has_own_aof(ctx) { OwnFile::aof(ctx) } else { OwnFile::rdb(ctx) }
    }

    // The server's own folder is the current one.

    fn rdb(ctx: Ctx<'_>) -> OwnFile {
        look_at_rdb(&name(ctx, "dbfilename", "dump.rdb")).unwrap_or(OwnFile::None)
    }

    fn aof(ctx: Ctx<'_>) -> OwnFile {
        let folder = name(ctx, "appenddirname", "appendonlydir");
        // What is executed and not written yet is older than whatever comes.
        let unwritten_bytes = if server::has_own_aof(ctx) { server::unwritten_aof_bytes(ctx) } else { 0 };
        let file_name = name(ctx, "appendfilename", "appendonly.aof");
        look_at_aof(&folder, &file_name, unwritten_bytes).unwrap_or(OwnFile::None)
    }

    /// How the file is noted.
    fn noted(self) -> Option<Noted<'static>> {
        match self {
            OwnFile::None => None,
            OwnFile::Rdb { bytes, crc32c, .. } => Some(Noted { kind: RDB, bytes, crc32c }),
            OwnFile::Aof { crc32c, bytes, .. } => Some(Noted { kind: AOF, bytes, crc32c }),
        }
    }

    /// Whether it is what was noted. An AOF may lack what was not on the disk yet.
    fn is_noted(self, note: &Note) -> bool {
        let Some(own) = self.noted() else { return true };
        note.files.iter().any(|noted| {
            let is_whole = if own.kind == AOF { own.bytes <= noted.bytes } else { own.bytes == noted.bytes };
            own.kind == noted.kind && own.crc32c == noted.crc32c && is_whole
        })
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
    // Which of them a start loads is a matter of its settings.
    let files = [OwnFile::rdb(ctx), OwnFile::aof(ctx)].into_iter().filter_map(OwnFile::noted).collect();
    let saving_since_s = server::saves_for_s(ctx).map(|for_s| (unix_ms / 1000).saturating_sub(for_s));
    let note = Note { files, saving_since_s }.text();
    Left::new(unix_ms, &note).map_or(Standing::Current, Standing::Left)
}

/// The mark of a log, now that the file is there that a child was saving when the log was left. `None` where none was,
/// or the file is another.
pub(super) fn without_child(left: &Left, own: OwnFile) -> Option<Standing> {
    let OwnFile::Rdb { begun_s: Some(begun_s), .. } = own else { return None };
    let note = Note::parse(left.note());
    let is_the_childs = note.was_being_saved(begun_s, left.unix_ms() / 1000);
    let others = note.files.iter().copied().filter(|noted| noted.kind != RDB);
    let files = own.noted().into_iter().chain(others).collect();
    let noted = || Left::new(left.unix_ms(), &Note { files, saving_since_s: None }.text()).map(Standing::Left);
    if is_the_childs { noted() } else { None }
}

/// Whether a child was saving a file when the log was left.
pub(super) fn was_saving(left: &Left) -> bool {
    Note::parse(left.note()).saving_since_s.is_some()
}

/// A file in a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Noted<'a> {
    kind: &'a str,
    bytes: u64,
    crc32c: u32,
}

/// The kinds of files.
const RDB: &str = "rdb";
const AOF: &str = "aof";

/// A note. What is not understood when it is read back stands for files that are not there any more.
struct Note<'a> {
    files: Vec<Noted<'a>>,
    saving_since_s: Option<u64>,
}

impl Note<'_> {
    fn text(&self) -> String {
        let mut words: Vec<String> =
            self.files.iter().map(|file| format!("{}:{}:{:08x}", file.kind, file.bytes, file.crc32c)).collect();
        if words.is_empty() {
            words.push("none".into());
        }
        words.extend(self.saving_since_s.map(|since_s| format!("saving:{since_s}")));
        words.join(":")
    }

    fn parse(text: &str) -> Note<'_> {
        let words: Vec<&str> = text.split(':').collect();
        let (mut files, mut rest) = (Vec::new(), &words[..]);
        while let [kind @ (RDB | AOF), bytes, crc32c, behind @ ..] = rest {
            if let (Ok(bytes), Ok(crc32c)) = (bytes.parse(), u32::from_str_radix(crc32c, 16)) {
                files.push(Noted { kind, bytes, crc32c });
            }
            rest = behind;
        }
        let saving_since_s = match words[..] {
            [.., "saving", since_s] => since_s.parse().ok(),
            _ => None,
        };
        Note { files, saving_since_s }
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

    fn noted(file: OwnFile) -> String {
        Note { files: file.noted().into_iter().collect(), saving_since_s: None }.text()
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
            assert_eq!(rdb(7, begun_s).or_log(&left(&noted(rdb(7, 1)))), Newer::Log);
            assert_eq!(aof(7, 90, begun_s).or_log(&left(&noted(aof(7, 90, 1)))), Newer::Log);
            assert_eq!(aof(7, 89, begun_s).or_log(&left(&noted(aof(7, 90, 1)))), Newer::Log, "its end was lost");
        }
        assert_eq!(OwnFile::None.or_log(&left(&noted(rdb(7, 1)))), Newer::Log);
    }

    #[test]
    fn a_file_that_was_saved_since_is_newer() {
        for note in [noted(OwnFile::None), noted(rdb(7, 1)), noted(aof(8, 90, 1)), "what: is this".replace(' ', "")] {
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
        let note = format!("{}:saving:{}", noted(rdb(7, 1)), LEFT_S - 5);
        for begun_s in LEFT_S - 6..=LEFT_S - 4 {
            assert_eq!(rdb(8, begun_s).or_log(&left(&note)), Newer::Log);
            let marked = without_child(&left(&note), rdb(8, begun_s));
            assert_eq!(marked, Some(Standing::Left(left(&noted(rdb(8, begun_s))))));
        }
        assert_eq!(rdb(8, LEFT_S - 7).or_log(&left(&note)), Newer::Unknown);
        assert_eq!(rdb(8, LEFT_S).or_log(&left(&note)), Newer::OwnFile);
        assert_eq!(without_child(&left(&note), rdb(8, LEFT_S)), None);
        let began_just_now = format!("none:saving:{LEFT_S}");
        assert_eq!(rdb(8, LEFT_S).or_log(&left(&began_just_now)), Newer::Log);
        assert_eq!(rdb(8, LEFT_S + 1).or_log(&left(&began_just_now)), Newer::OwnFile);
        assert!(was_saving(&left(&note)) && !was_saving(&left("none")));
    }
    #[test]
    fn both_kinds_of_files_are_known() {
        let files = [rdb(7, 1), aof(8, 90, 1)].into_iter().filter_map(OwnFile::noted).collect();
        let both = left(&Note { files, saving_since_s: Some(LEFT_S) }.text());
        let Some(Standing::Left(without)) = without_child(&both, rdb(9, LEFT_S)) else { panic!("the child's file") };
        for (left, rdb) in [(&both, rdb(7, LEFT_S + 9)), (&without, rdb(9, LEFT_S))] {
            assert_eq!(rdb.or_log(left), Newer::Log);
            assert_eq!(aof(8, 90, LEFT_S + 9).or_log(left), Newer::Log);
            assert_eq!(aof(8, 91, LEFT_S + 9).or_log(left), Newer::OwnFile);
        }
    }
}
