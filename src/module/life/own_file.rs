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
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What of an RDB file tells it from another, besides its length: its head, which has the time when it was begun, and
/// its checksum at the end.
const HEAD_BYTES: usize = 512;
const TAIL_BYTES: u64 = 8;

/// The clock that files get their times from is some milliseconds late.
const CLOCK_LAG_MS: u64 = 50;

/// A file's own time is in whole seconds.
const SECOND_S: u64 = 1;

/// More temporary files are not noted.
const TEMPORARIES_MAX: usize = 3;

/// More than the manifest of an AOF has.
const AOF_MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// The file that the server itself would load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnFile {
    /// There is none.
    None,
    /// There may be one, and it can't be read or understood, or nobody knows its name.
    Unreadable,
    /// An RDB file.
    Rdb {
        bytes: u64,
        crc32c: u32,
        /// When it was begun, which is the time of its dataset; Unix seconds.
        begun_s: Option<u64>,
        /// Its inode, which it has had since it was begun under another name.
        inode: u64,
        /// When it was last written, renamed or put there; Unix milliseconds.
        touched_ms: u64,
    },
    /// An AOF: the files that its manifest names, the last of which grows.
    Aof {
        /// Of the manifest and of what the base begins with.
        crc32c: u32,
        bytes: u64,
        /// When the last of them was last written; Unix milliseconds.
        changed_ms: u64,
    },
}

/// Which of log and own file has newer data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newer {
    Log,
    OwnFile,
    /// The file was put there since, and is older than that by its own time; or it can't be read.
    Unknown,
}

impl OwnFile {
    pub(super) fn look(ctx: Ctx<'_>) -> OwnFile {
        if server::has_own_aof(ctx) { OwnFile::aof(ctx) } else { OwnFile::rdb(ctx) }
    }

    // The server's own folder is the current one.

    fn rdb(ctx: Ctx<'_>) -> OwnFile {
        name(ctx, "dbfilename").map_or(OwnFile::Unreadable, |name| look_at_rdb(&name))
    }

    fn aof(ctx: Ctx<'_>) -> OwnFile {
        // What is executed and not written yet is older than whatever comes.
        let unwritten_bytes = if server::has_own_aof(ctx) { server::unwritten_aof_bytes(ctx) } else { 0 };
        match (name(ctx, "appenddirname"), name(ctx, "appendfilename")) {
            (Some(folder), Some(file_name)) => look_at_aof(&folder, &file_name, unwritten_bytes),
            _ => OwnFile::Unreadable,
        }
    }

    /// How the file is noted.
    fn noted(self) -> Option<Noted<'static>> {
        match self {
            OwnFile::None | OwnFile::Unreadable => None,
            OwnFile::Rdb { bytes, crc32c, .. } => Some(Noted { kind: RDB, bytes, crc32c }),
            OwnFile::Aof { crc32c, bytes, .. } => Some(Noted { kind: AOF, bytes, crc32c }),
        }
    }

    /// Whether it is what was noted. An AOF may lack what was not on the disk yet.
    fn is_noted(self, note: &Note) -> bool {
        let Some(own) = self.noted() else { return self == OwnFile::None || note.is_unreadable };
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
        let (left_ms, left_s) = (left.unix_ms(), left.unix_ms() / 1000);
        let is_from_before = |ms: u64| ms.saturating_add(CLOCK_LAG_MS) < left_ms;
        match self {
            OwnFile::None => Newer::Log,
            OwnFile::Rdb { begun_s: Some(begun_s), inode, .. } if note.was_being_saved(begun_s, inode, left_s) => {
                Newer::Log
            }
            // It was there already, for other settings than those of that time, or has not been written to since.
            OwnFile::Rdb { touched_ms: ms, .. } | OwnFile::Aof { changed_ms: ms, .. } if is_from_before(ms) => {
                Newer::Log
            }
            OwnFile::Aof { .. } => Newer::OwnFile,
            OwnFile::Rdb { begun_s: Some(time_s), .. } if time_s.saturating_add(SECOND_S) >= left_s => Newer::OwnFile,
            OwnFile::Rdb { .. } | OwnFile::Unreadable => Newer::Unknown,
        }
    }
}

/// What a log is marked with that is left now.
pub(super) fn left_now(ctx: Ctx<'_>) -> Standing {
    let unix_ms = unix_ms();
    // Which of them a start loads is a matter of its settings.
    let own = [OwnFile::rdb(ctx), OwnFile::aof(ctx)];
    let files = own.into_iter().filter_map(OwnFile::noted).collect();
    let mut temporaries = temporaries(Path::new("."));
    let begun_s = server::saves_for_s(ctx).map(|for_s| (unix_ms / 1000).saturating_sub(for_s));
    // A child that has been forked just now has no file yet; the files that there are have been left by others.
    let has_file = |begun_s: u64| temporaries.first().is_some_and(|file| file.touched_ms / 1000 + SECOND_S >= begun_s);
    let saving_since_s = begun_s.filter(|begun_s| !has_file(*begun_s));
    temporaries.truncate(TEMPORARIES_MAX);
    let temporaries = temporaries.iter().map(|file| file.inode).collect();
    let note = Note { files, is_unreadable: own.contains(&OwnFile::Unreadable), temporaries, saving_since_s }.text();
    Left::new(unix_ms, &note).map_or(Standing::Current, Standing::Left)
}

/// The mark of a log, now that the file is there that a child was saving when the log was left. `None` where none was,
/// or the file is another.
pub(super) fn without_child(left: &Left, own: OwnFile) -> Option<Standing> {
    let OwnFile::Rdb { begun_s: Some(begun_s), inode, .. } = own else { return None };
    let note = Note::parse(left.note());
    let is_the_childs = note.was_being_saved(begun_s, inode, left.unix_ms() / 1000);
    let others = note.files.iter().copied().filter(|noted| noted.kind != RDB);
    let files = own.noted().into_iter().chain(others).collect();
    let note = Note { files, is_unreadable: note.is_unreadable, temporaries: Vec::new(), saving_since_s: None };
    let noted = || Left::new(left.unix_ms(), &note.text()).map(Standing::Left);
    if is_the_childs { noted() } else { None }
}

/// Whether a child was saving a file when the log was left.
pub(super) fn was_saving(left: &Left) -> bool {
    let note = Note::parse(left.note());
    note.saving_since_s.is_some() || !note.temporaries.is_empty()
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
    /// One of them could not be read.
    is_unreadable: bool,
    /// The inodes of files that were being saved: by a child, or by one whose server has died.
    temporaries: Vec<u64>,
    /// Since when a child was saving one that had no file yet; Unix seconds.
    saving_since_s: Option<u64>,
}

impl Note<'_> {
    fn text(&self) -> String {
        let mut words: Vec<String> =
            self.files.iter().map(|file| format!("{}:{}:{:08x}", file.kind, file.bytes, file.crc32c)).collect();
        if self.is_unreadable {
            words.push("unreadable".into());
        } else if words.is_empty() {
            words.push("none".into());
        }
        words.extend(self.temporaries.iter().map(|inode| format!("temp:{inode}")));
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
        let temporaries = words.windows(2).filter(|pair| pair[0] == "temp").filter_map(|pair| pair[1].parse().ok());
        let temporaries = temporaries.collect();
        Note { files, is_unreadable: words.contains(&"unreadable"), temporaries, saving_since_s }
    }

    /// Whether this file is the one that was being saved when the log was left. It has its inode from the beginning;
    /// where it had none yet, its time says so. Server and child look at the clock one after the other.
    fn was_being_saved(&self, begun_s: u64, inode: u64, left_s: u64) -> bool {
        let near = |since_s: u64| since_s.saturating_sub(1) <= begun_s && begun_s <= since_s.saturating_add(1);
        begun_s <= left_s && (self.temporaries.contains(&inode) || self.saving_since_s.is_some_and(near))
    }
}

/// A name among the server's settings; `None` when it does not say.
fn name(ctx: Ctx<'_>, setting: &str) -> Option<PathBuf> {
    server::setting(ctx, setting).and_then(|name| String::from_utf8(name).ok()).map(PathBuf::from)
}

/// What an RDB file is until it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Temporary {
    inode: u64,
    /// Unix milliseconds.
    touched_ms: u64,
}

/// The files in the server's folder that RDB files are until they are complete, that were touched last first:
/// `temp-PID.rdb` of a child, which a child of a server that has died writes on, and those of a full sync. What a
/// child leaves that was killed stays for ever.
fn temporaries(folder: &Path) -> Vec<Temporary> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let found = entries.filter_map(Result::ok).filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with("temp-") && name.ends_with(".rdb"))
    });
    let mut found: Vec<Temporary> = found
        .filter_map(|entry| entry.metadata().ok())
        .map(|status| Temporary { inode: status.ino(), touched_ms: unix_ms_of(status.ctime(), status.ctime_nsec()) })
        .collect();
    found.sort_by_key(|file| std::cmp::Reverse(file.touched_ms));
    found
}

/// What stands there, and that it is a file.
enum Entry {
    None,
    File(Metadata),
    Unreadable,
}

fn entry(path: &Path) -> Entry {
    match std::fs::metadata(path) {
        Ok(status) if status.is_file() => Entry::File(status),
        Err(error) if error.kind() == ErrorKind::NotFound => Entry::None,
        _ => Entry::Unreadable,
    }
}

/// A file's time, at the latest: some file systems have whole seconds only, and FAT every second one.
fn unix_ms_of(seconds: i64, nanoseconds: i64) -> u64 {
    let ms = match nanoseconds {
        0 => seconds.saturating_mul(1000).saturating_add(1999),
        _ => seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000),
    };
    u64::try_from(ms).unwrap_or(0)
}

fn look_at_rdb(path: &Path) -> OwnFile {
    let status = match entry(path) {
        Entry::None => return OwnFile::None,
        Entry::Unreadable => return OwnFile::Unreadable,
        Entry::File(status) => status,
    };
    let Some(mut seen) = head(path, status.len()) else { return OwnFile::Unreadable };
    let begun_s = rdb::begun_s(&seen);
    let mut tail = [0; TAIL_BYTES as usize];
    let has_tail = File::open(path)
        .and_then(|file| file.read_exact_at(&mut tail, status.len().saturating_sub(TAIL_BYTES)))
        .is_ok();
    if has_tail {
        seen.extend_from_slice(&tail);
    }
    OwnFile::Rdb {
        bytes: status.len(),
        crc32c: crc32c::crc32c(&seen),
        begun_s,
        inode: status.ino(),
        touched_ms: unix_ms_of(status.ctime(), status.ctime_nsec()),
    }
}

/// What a file of that length begins with.
fn head(path: &Path, bytes: u64) -> Option<Vec<u8>> {
    let mut seen = vec![0; HEAD_BYTES.min(usize::try_from(bytes).unwrap_or(HEAD_BYTES))];
    File::open(path).ok()?.read_exact_at(&mut seen, 0).ok()?;
    Some(seen)
}

fn look_at_aof(folder: &Path, file_name: &Path, unwritten_bytes: u64) -> OwnFile {
    let mut manifest = file_name.as_os_str().to_owned();
    manifest.push(".manifest");
    let path = folder.join(manifest);
    match entry(&path) {
        // The server also loads the single file that an AOF was before 7.0.
        Entry::None => return look_at_old_aof(file_name, unwritten_bytes),
        Entry::File(status) if status.len() <= AOF_MANIFEST_BYTES_MAX => {}
        Entry::File(_) | Entry::Unreadable => return OwnFile::Unreadable,
    }
    read_aof(folder, &path, unwritten_bytes).unwrap_or(OwnFile::Unreadable)
}

fn look_at_old_aof(path: &Path, unwritten_bytes: u64) -> OwnFile {
    let status = match entry(path) {
        Entry::None => return OwnFile::None,
        Entry::Unreadable => return OwnFile::Unreadable,
        Entry::File(status) => status,
    };
    // What it begins with does not change when it grows.
    let Some(seen) = head(path, status.len().min(1)) else { return OwnFile::Unreadable };
    OwnFile::Aof {
        crc32c: crc32c::crc32c(&seen),
        bytes: status.len().saturating_add(unwritten_bytes),
        changed_ms: unix_ms_of(status.mtime(), status.mtime_nsec()),
    }
}

fn read_aof(folder: &Path, manifest: &Path, unwritten_bytes: u64) -> Option<OwnFile> {
    let mut seen = std::fs::read(manifest).ok()?;
    let text = String::from_utf8(seen.clone()).ok()?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
    let first = folder.join(name_in(lines.peek()?)?);
    let last = folder.join(name_in(lines.last()?)?);
    // A new AOF may have the names of the old one.
    let base = std::fs::metadata(&first).ok()?;
    seen.extend(head(&first, if first == last { 0 } else { base.len() })?);
    let status = std::fs::metadata(last).ok().filter(Metadata::is_file)?;
    Some(OwnFile::Aof {
        crc32c: crc32c::crc32c(&seen),
        bytes: status.len().saturating_add(unwritten_bytes),
        changed_ms: unix_ms_of(status.mtime(), status.mtime_nsec()),
    })
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
                // Bytes that are no text: nobody uses such names.
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

    const LEFT_S: u64 = 1_000;

    fn left(note: &str) -> Left {
        Left::new(LEFT_S * 1000 + 500, note).unwrap()
    }

    fn noted(file: OwnFile) -> String {
        note(file.noted().into_iter().collect(), None).text()
    }

    fn note(files: Vec<Noted<'_>>, saving_since_s: Option<u64>) -> Note<'_> {
        Note { files, is_unreadable: false, temporaries: Vec::new(), saving_since_s }
    }

    /// A file that was put there after the log was left.
    fn rdb(crc32c: u32, begun_s: u64) -> OwnFile {
        OwnFile::Rdb { bytes: 90, crc32c, begun_s: Some(begun_s), inode: 5, touched_ms: LEFT_S * 1000 + 600 }
    }

    fn aof(crc32c: u32, bytes: u64, changed_s: u64) -> OwnFile {
        OwnFile::Aof { crc32c, bytes, changed_ms: changed_s.saturating_mul(1000) }
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
            }
            assert_eq!(aof(8, 91, LEFT_S + 1).or_log(&left(&note)), Newer::OwnFile, "{note}");
            assert_eq!(rdb(8, LEFT_S - 2).or_log(&left(&note)), Newer::Unknown, "{note}");
            // Nobody has written to it since.
            assert_eq!(aof(8, 91, LEFT_S - 2).or_log(&left(&note)), Newer::Log, "{note}");
        }
        let without_time = OwnFile::Rdb { bytes: 1, crc32c: 1, begun_s: None, inode: 5, touched_ms: u64::MAX };
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
        let renamed = format!("{}:temp:4:temp:5", noted(rdb(7, 1)));
        assert_eq!(rdb(8, LEFT_S - 60).or_log(&left(&renamed)), Newer::Log, "whoever was saving it");
        assert_eq!(rdb(8, LEFT_S + 1).or_log(&left(&renamed)), Newer::OwnFile, "the number was used again");
        assert!(was_saving(&left(&renamed)));
        assert_eq!(rdb(8, LEFT_S - 7).or_log(&left(&note)), Newer::Unknown);
        assert_eq!(rdb(8, LEFT_S).or_log(&left(&note)), Newer::OwnFile);
        assert_eq!(without_child(&left(&note), rdb(8, LEFT_S)), None);
        let began_just_now = format!("none:saving:{LEFT_S}");
        assert_eq!(rdb(8, LEFT_S).or_log(&left(&began_just_now)), Newer::Log);
        assert_eq!(rdb(8, LEFT_S + 1).or_log(&left(&began_just_now)), Newer::OwnFile);
        assert!(was_saving(&left(&note)) && !was_saving(&left("none")));
    }

    #[test]
    fn a_file_from_before_is_older_whatever_it_is_called() {
        let untouched =
            OwnFile::Rdb { bytes: 1, crc32c: 1, begun_s: Some(LEFT_S), inode: 5, touched_ms: LEFT_S * 1000 };
        assert_eq!(untouched.or_log(&left("none")), Newer::Log);
    }

    #[test]
    fn a_time_in_whole_seconds_may_be_that_of_a_later_moment() {
        assert_eq!((unix_ms_of(5, 0), unix_ms_of(5, 1), unix_ms_of(5, 999_999_999)), (6999, 5000, 5999));
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_missing() {
        assert_eq!(OwnFile::Unreadable.or_log(&left(&noted(rdb(7, 1)))), Newer::Unknown);
        assert_eq!(OwnFile::Unreadable.or_log(&left("unreadable")), Newer::Log);
        assert_eq!(rdb(8, LEFT_S + 1).or_log(&left("unreadable")), Newer::OwnFile);
        assert_eq!(name_in("file a.1.incr.aof seq 1 type i").as_deref(), Some("a.1.incr.aof"));
        assert_eq!(name_in(r#"file "my \"a\\b.aof" seq 1 type i"#).as_deref(), Some(r#"my "a\b.aof"#));
        assert_eq!(name_in(r#"file "\x01.aof" seq 1 type i"#), None);
        assert_eq!(name_in("other"), None);
    }

    #[test]
    fn files_that_are_being_saved_come_before_those_of_children_that_were_killed() {
        let folder = std::env::temp_dir().join(format!("wbl-own-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["temp-1.rdb", "temp-2.rdb", "temp-3.rdb", "temp-4.rdb", "dump.rdb", "temp-5.aof"] {
            std::fs::write(folder.join(name), name).unwrap();
        }
        let live = folder.join("temp-2.rdb");
        let before = temporaries(&folder).first().unwrap().touched_ms;
        while temporaries(&folder).first().unwrap().touched_ms <= before {
            std::fs::write(&live, "more").unwrap();
        }
        let found = temporaries(&folder);
        assert_eq!((found.len(), found[0].inode), (4, std::fs::metadata(&live).unwrap().ino()));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_single_file_of_an_old_aof_counts() {
        let path = std::env::temp_dir().join(format!("wbl-old-aof-{}", std::process::id()));
        assert_eq!(look_at_old_aof(&path, 0), OwnFile::None);
        std::fs::write(&path, "*1").unwrap();
        let before = look_at_old_aof(&path, 0);
        assert!(matches!(before, OwnFile::Aof { bytes: 2, .. }), "{before:?}");
        std::fs::write(&path, "*1 and more").unwrap();
        let left = left(&note(before.noted().into_iter().collect(), None).text());
        assert_eq!(look_at_old_aof(&path, 0).or_log(&left), Newer::OwnFile);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn both_kinds_of_files_are_known() {
        let files = [rdb(7, 1), aof(8, 90, 1)].into_iter().filter_map(OwnFile::noted).collect();
        let both = left(&note(files, Some(LEFT_S)).text());
        let Some(Standing::Left(without)) = without_child(&both, rdb(9, LEFT_S)) else { panic!("the child's file") };
        for (left, rdb) in [(&both, rdb(7, LEFT_S + 9)), (&without, rdb(9, LEFT_S))] {
            assert_eq!(rdb.or_log(left), Newer::Log);
            assert_eq!(aof(8, 90, LEFT_S + 9).or_log(left), Newer::Log);
            assert_eq!(aof(8, 91, LEFT_S + 9).or_log(left), Newer::OwnFile);
        }
    }
}
