//! The file that the server itself would load at its next start, and whether it is newer than a log that was left.
//!
//! When a log is left, its manifest notes when, and what the server's RDB file and its AOF were then, whichever it
//! uses: by its content and not by its times, so that neither a copy nor a clock that steps makes an old file look new.
//! What the file's own time is for is to say whether a file that has changed since is one that was saved since.

mod read;

use crate::ffi::Ctx;
use crate::log::{Left, Standing};
use crate::module::server;
use crate::module::waits::unix_ms;
use std::path::{Path, PathBuf};

/// The clock that files get their times from is some milliseconds late.
const CLOCK_LAG_MS: u64 = 50;

/// A file's own time is in whole seconds.
const SECOND_S: u64 = 1;

/// More temporary files are not noted.
const TEMPORARIES_MAX: usize = 3;

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
        name(ctx, "dbfilename").map_or(OwnFile::Unreadable, |name| read::rdb(&name).unwrap_or_else(|instead| instead))
    }

    fn aof(ctx: Ctx<'_>) -> OwnFile {
        // What is executed and not written yet is older than whatever comes.
        let unwritten_bytes = if server::has_own_aof(ctx) { server::unwritten_aof_bytes(ctx) } else { 0 };
        match (name(ctx, "appenddirname"), name(ctx, "appendfilename")) {
            (Some(folder), Some(file_name)) => {
                read::aof(&folder, &file_name, unwritten_bytes).unwrap_or_else(|instead| instead)
            }
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
    let mut temporaries = read::temporaries(Path::new("."));
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
    fn what_cannot_be_read_is_not_taken_for_missing() {
        assert_eq!(OwnFile::Unreadable.or_log(&left(&noted(rdb(7, 1)))), Newer::Unknown);
        assert_eq!(OwnFile::Unreadable.or_log(&left("unreadable")), Newer::Log);
        assert_eq!(rdb(8, LEFT_S + 1).or_log(&left("unreadable")), Newer::OwnFile);
    }

    #[test]
    fn the_single_file_of_an_old_aof_counts() {
        let old_aof = |path: &Path| read::aof(&path.join("none"), path, 0).unwrap_or_else(|instead| instead);
        let path = std::env::temp_dir().join(format!("wbl-old-aof-{}", std::process::id()));
        assert_eq!(old_aof(&path), OwnFile::None);
        std::fs::write(&path, "*1").unwrap();
        let before = old_aof(&path);
        assert!(matches!(before, OwnFile::Aof { bytes: 2, .. }), "{before:?}");
        std::fs::write(&path, "*1 and more").unwrap();
        let left = left(&note(before.noted().into_iter().collect(), None).text());
        assert_eq!(old_aof(&path).or_log(&left), Newer::OwnFile);
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
