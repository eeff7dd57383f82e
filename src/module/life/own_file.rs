//! The file that the server itself would load at its next start, and whether it is newer than a log that was left.
//!
//! When a log is left, its manifest notes when, and what the server's RDB file and its AOF were then, whichever it
//! uses: by its content and not by its times, so that neither a copy nor a clock that steps makes an old file look new.
//! What the file's own time is for is to say whether a file that has changed since is one that was saved since.

mod both;
mod note;
mod read;

pub(super) use both::OwnFiles;

use super::descent::Origin;
use super::opening::OpenedFolder;
use crate::ffi::Ctx;
use crate::log::{Left, Standing};
use crate::module::waits::unix_ms;
use crate::module::{own_aof, server};
use note::{AOF, Note, Noted, Prefixes, RDB, Unfinished};
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
        /// What the last of them begins with.
        prefixes: Prefixes,
        bytes: u64,
        /// When the last of those that hold anything was last written; Unix milliseconds.
        changed_ms: u64,
        /// What it was saved as, where nothing has been appended to that.
        saved: Option<Saved>,
    },
}

/// The base of an AOF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// When it was begun, where it says so; Unix seconds.
    begun_s: Option<u64>,
    /// It has had it since it was begun under another name.
    inode: u64,
    bytes: u64,
    /// What it begins with.
    prefixes: Prefixes,
}

impl Saved {
    /// Whether it was all of the AOF that was noted. A start gives it another manifest, and a file to append to.
    fn was_alone(self, noted: &Noted) -> bool {
        noted.bytes == self.bytes && noted.prefix.is_some_and(|prefix| self.prefixes.has(prefix))
    }
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
        if own_aof::is_on(ctx) { OwnFile::aof(ctx) } else { OwnFile::rdb(ctx) }
    }

    // The server's own folder is the current one.

    fn rdb(ctx: Ctx<'_>) -> OwnFile {
        name(ctx, "dbfilename").map_or(OwnFile::Unreadable, |name| read::rdb(&name).unwrap_or_else(|instead| instead))
    }

    pub(super) fn aof(ctx: Ctx<'_>) -> OwnFile {
        // What is executed and not written yet is older than whatever comes.
        let unwritten_bytes = if own_aof::is_on(ctx) { own_aof::unwritten_bytes(ctx) } else { 0 };
        match (name(ctx, "appenddirname"), name(ctx, "appendfilename")) {
            (Some(folder), Some(file_name)) => {
                read::aof(&folder, &file_name, unwritten_bytes).unwrap_or_else(|instead| instead)
            }
            _ => OwnFile::Unreadable,
        }
    }

    /// How the file is noted.
    fn noted(self) -> Option<Noted> {
        match self {
            OwnFile::None | OwnFile::Unreadable => None,
            OwnFile::Rdb { bytes, crc32c, .. } => Some(Noted { kind: RDB, bytes, crc32c, prefix: None }),
            OwnFile::Aof { crc32c, bytes, prefixes, .. } => {
                Some(Noted { kind: AOF, bytes, crc32c, prefix: prefixes.longest() })
            }
        }
    }

    /// Whether it is what was noted. An AOF may lack what was not on the disk yet.
    fn is_noted(self, note: &Note) -> bool {
        let is_same = |noted: &Noted| match self {
            OwnFile::None | OwnFile::Unreadable => false,
            OwnFile::Rdb { bytes, crc32c, .. } => (noted.kind, noted.bytes, noted.crc32c) == (RDB, bytes, crc32c),
            OwnFile::Aof { bytes, crc32c, prefixes, saved, .. } => {
                let begins_so = noted.prefix.is_none_or(|prefix| prefixes.has(prefix));
                let is_it = noted.crc32c == crc32c && bytes <= noted.bytes && begins_so;
                noted.kind == AOF && (is_it || saved.is_some_and(|saved| saved.was_alone(noted)))
            }
        };
        match self {
            OwnFile::None => true,
            OwnFile::Unreadable => note.is_unreadable,
            OwnFile::Rdb { .. } | OwnFile::Aof { .. } => note.files.iter().any(is_same),
        }
    }

    /// When it was begun, and its inode, where it says both, and nothing has been added since.
    fn begun(self) -> Option<(u64, u64)> {
        match self {
            OwnFile::Rdb { begun_s: Some(begun_s), inode, .. }
            | OwnFile::Aof { saved: Some(Saved { begun_s: Some(begun_s), inode, .. }), .. } => Some((begun_s, inode)),
            _ => None,
        }
    }

    /// Whether it is what was noted, or was being saved then.
    fn is_known(self, note: &Note, left: &Left) -> bool {
        let left_s = left.unix_ms() / 1000;
        let was_unfinished = |(begun_s, inode)| note.was_unfinished(begun_s, inode, left_s);
        self.is_noted(note)
            || self.begun().is_some_and(was_unfinished)
            || !note.is_unwatched && self.may_have_come(note, left)
    }

    /// Whether it may be what a child was saving then that had no file.
    fn may_have_come(self, note: &Note, left: &Left) -> bool {
        self.begun().is_some_and(|(begun_s, _)| note.may_have_come(begun_s, left.unix_ms() / 1000))
    }

    /// Whether the file or the log that was left has newer data.
    pub(super) fn or_log(self, left: &Left) -> Newer {
        let note = Note::parse(left.note());
        if self.is_known(&note, left) {
            return Newer::Log;
        }
        if self.may_have_come(&note, left) {
            return Newer::Unknown;
        }
        let (left_ms, left_s) = (left.unix_ms(), left.unix_ms() / 1000);
        let is_from_before = |ms: u64| ms.saturating_add(CLOCK_LAG_MS) < left_ms;
        match self {
            OwnFile::None => Newer::Log,
            // The clock has been set back since, so that its time says nothing.
            _ if unix_ms() < left_ms => Newer::Unknown,
            // It was there already, for other settings than those of that time, or has not been written to since.
            OwnFile::Rdb { touched_ms: ms, .. } | OwnFile::Aof { changed_ms: ms, .. } if is_from_before(ms) => {
                Newer::Log
            }
            OwnFile::Rdb { begun_s: Some(time_s), .. }
            | OwnFile::Aof { saved: Some(Saved { begun_s: Some(time_s), .. }), .. }
                if time_s.saturating_add(SECOND_S) >= left_s =>
            {
                Newer::OwnFile
            }
            OwnFile::Aof { saved: Some(saved), .. } if saved.begun_s.is_some() || note.has_unfinished(saved.inode) => {
                Newer::Unknown
            }
            OwnFile::Aof { .. } => Newer::OwnFile,
            OwnFile::Rdb { .. } | OwnFile::Unreadable => Newer::Unknown,
        }
    }
}

/// Where the data come from that this file has brought, beside what the folder holds.
pub(super) fn origin_beside(folder: &OpenedFolder, own: OwnFile) -> Origin {
    match folder.left_before_superseded() {
        Some(left) if own != OwnFile::Unreadable && own.or_log(left) == Newer::Log => Origin::Older,
        _ => Origin::Unknown,
    }
}

/// What has become of a child that saves the server's own file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    /// It goes on, and the mark is renewed when it has ended.
    GoesOn,
    /// It goes on, and nobody sees its end.
    Unwatched,
    /// The shutdown has killed it, and removed its file.
    Killed,
}

/// What a log is marked with that is left now.
pub(super) fn left_now(ctx: Ctx<'_>, child: Child) -> Standing {
    let unix_ms = unix_ms();
    // Which of them a start loads is a matter of its settings.
    let own = OwnFiles::look(ctx).all();
    let files = own.into_iter().filter_map(OwnFile::noted).collect();
    let mut temporaries = read::temporaries(Path::new("."), &read::is_written);
    let saves_for_s = if child == Child::Killed { None } else { server::saves_for_s(ctx) };
    let begun_s = saves_for_s.map(|for_s| (unix_ms / 1000).saturating_sub(for_s));
    // A child that has been forked just now has no file yet; the files that there are have been left by others.
    let has_file = |begun_s: u64| temporaries.first().is_some_and(|file| file.touched_ms / 1000 + SECOND_S >= begun_s);
    let saving_since_s = begun_s.filter(|begun_s| !has_file(*begun_s));
    temporaries.truncate(TEMPORARIES_MAX);
    let unfinished = temporaries.iter().map(|file| Unfinished { inode: file.inode, begun_s: file.begun_s }).collect();
    let is_unreadable = own.contains(&OwnFile::Unreadable);
    let is_unwatched = child == Child::Unwatched && saving_since_s.is_some();
    let note = Note { files, is_unreadable, unfinished, saving_since_s, is_unwatched }.text();
    Left::new(unix_ms, &note).map_or(Standing::Current, Standing::Left)
}

/// The mark of a log that was left beside a child, now that the child has ended or something else is about to be saved,
/// and nothing else has been since the log was left: `own` holds nothing newer than the log but what was appended to an
/// AOF. What comes from now on is not the child's.
pub(super) fn without_child(left: &Left, own: OwnFiles) -> Standing {
    let before = Note::parse(left.note());
    let is_as_saved = |file: &OwnFile| !matches!(file, OwnFile::Aof { saved: None, .. });
    let mut files: Vec<Noted> = own.all().into_iter().filter(is_as_saved).filter_map(OwnFile::noted).collect();
    let gone: Vec<Noted> = before.files.iter().copied().filter(|noted| !files.contains(noted)).collect();
    files.extend(gone);
    let note = Note { files, unfinished: Vec::new(), saving_since_s: None, ..before };
    Left::new(left.unix_ms(), &note.text()).map_or_else(|| Standing::Left(left.clone()), Standing::Left)
}

/// Whether a child was saving a file when the log was left, of which the mark says nothing more.
pub(super) fn was_saving(left: &Left) -> bool {
    Note::parse(left.note()).has_child()
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

    fn note(files: Vec<Noted>, saving_since_s: Option<u64>) -> Note {
        Note { files, saving_since_s, ..Note::default() }
    }

    /// A file that was put there after the log was left.
    fn rdb(crc32c: u32, begun_s: u64) -> OwnFile {
        OwnFile::Rdb { bytes: 90, crc32c, begun_s: Some(begun_s), inode: 5, touched_ms: LEFT_S * 1000 + 600 }
    }

    fn aof(crc32c: u32, bytes: u64, changed_s: u64) -> OwnFile {
        let changed_ms = changed_s.saturating_mul(1000);
        OwnFile::Aof { crc32c, bytes, prefixes: prefixes(b"*2"), changed_ms, saved: None }
    }

    /// One without anything behind its base, which was put there after the log was left.
    fn rewritten(begun_s: Option<u64>, inode: u64) -> OwnFile {
        let saved = Some(Saved { begun_s, inode, bytes: 90, prefixes: prefixes(b"VALKEY080") });
        OwnFile::Aof { crc32c: 8, bytes: 0, prefixes: prefixes(b""), changed_ms: LEFT_S * 1000 + 600, saved }
    }

    fn prefixes(begins: &[u8]) -> Prefixes {
        Prefixes::of(9, &begins.repeat(8))
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
    fn before_the_time_of_the_mark_nobody_knows() {
        let ahead = Left::new(unix_ms() + 3_600_000, &noted(rdb(7, 1))).unwrap();
        assert_eq!((rdb(8, LEFT_S).or_log(&ahead), aof(8, 9, LEFT_S).or_log(&ahead)), (Newer::Unknown, Newer::Unknown));
        assert_eq!(rdb(7, LEFT_S).or_log(&ahead), Newer::Log);
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
            let both = [rdb(8, begun_s), rdb(7, 1)].into_iter().filter_map(OwnFile::noted).collect();
            assert_eq!(
                renewed(&note, rdb(8, begun_s), OwnFile::None),
                left(&Note { files: both, ..Note::default() }.text())
            );
        }
        let renamed = format!("{}:temp:4:temp:5", noted(rdb(7, 1)));
        assert_eq!(rdb(8, LEFT_S - 60).or_log(&left(&renamed)), Newer::Log, "whoever was saving it");
        assert_eq!(rdb(8, LEFT_S + 1).or_log(&left(&renamed)), Newer::OwnFile, "the number was used again");
        assert!(was_saving(&left(&renamed)));
        assert_eq!(rdb(8, LEFT_S - 7).or_log(&left(&note)), Newer::Unknown);
        assert_eq!(rdb(8, LEFT_S).or_log(&left(&note)), Newer::OwnFile);
        let began_just_now = format!("none:saving:{LEFT_S}");
        assert_eq!(rdb(8, LEFT_S).or_log(&left(&began_just_now)), Newer::Log);
        assert_eq!(rdb(8, LEFT_S + 1).or_log(&left(&began_just_now)), Newer::OwnFile);
        assert!(was_saving(&left(&note)) && !was_saving(&left("none")));
        // Where nobody sees its end it may be a later one.
        let unwatched = left(&format!("{began_just_now}:unwatched"));
        assert_eq!(rdb(8, LEFT_S).or_log(&unwatched), Newer::Unknown);
        assert_eq!(rdb(8, LEFT_S + 1).or_log(&unwatched), Newer::OwnFile);
    }

    #[test]
    fn what_is_saved_after_a_child_has_ended_is_newer_in_the_same_second() {
        for note in [format!("none:saving:{LEFT_S}"), format!("none:temp:5:at:{LEFT_S}")] {
            let renewed = renewed(&note, rdb(8, LEFT_S), OwnFile::None);
            assert!(!was_saving(&renewed), "{note}");
            assert_eq!(rdb(8, LEFT_S).or_log(&renewed), Newer::Log, "{note}");
            assert_eq!(rdb(9, LEFT_S).or_log(&renewed), Newer::OwnFile, "{note}");
        }
        // What was appended to an AOF meanwhile may be newer than the log.
        let renewed = |aof| renewed(&format!("none:saving:{LEFT_S}"), OwnFile::None, aof);
        let appended = aof(8, 90, LEFT_S + 1);
        assert_eq!(appended.or_log(&renewed(appended)), Newer::OwnFile);
        let alone = rewritten(Some(LEFT_S), 6);
        assert_eq!(alone.or_log(&renewed(alone)), Newer::Log);
    }

    /// What a mark becomes when a child has ended, beside these files.
    fn renewed(note: &str, rdb: OwnFile, aof: OwnFile) -> Left {
        match without_child(&left(note), OwnFiles { rdb, aof, loads_aof: false }) {
            Standing::Left(left) => left,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_aof_to_which_nothing_was_appended_is_as_old_as_its_base() {
        let unfinished = format!("{}:temp:77:at:{}", noted(aof(7, 90, 1)), LEFT_S - 5);
        let newer = |begun_s, inode| rewritten(begun_s, inode).or_log(&left(&unfinished));
        assert_eq!(newer(Some(LEFT_S - 5), 77), Newer::Log, "a child was writing it");
        assert_eq!(newer(Some(LEFT_S - 5), 4), Newer::Log, "a copy of that");
        assert_eq!(newer(Some(LEFT_S - 60), 4), Newer::Unknown);
        assert_eq!(newer(Some(LEFT_S + 1), 77), Newer::OwnFile, "the number was used again");
        assert_eq!((newer(None, 77), newer(None, 4)), (Newer::Unknown, Newer::OwnFile), "nobody knows its time");
        let alone = Noted { kind: AOF, bytes: 90, crc32c: 1, prefix: prefixes(b"VALKEY080").longest() };
        let noted_alone = |bytes| note(vec![Noted { bytes, ..alone }], None).text();
        assert_eq!(rewritten(None, 4).or_log(&left(&noted_alone(90))), Newer::Log);
        assert_eq!(rewritten(None, 4).or_log(&left(&noted_alone(91))), Newer::OwnFile, "another one");
    }

    #[test]
    fn an_aof_that_begins_otherwise_is_another() {
        let anew = |begins: &[u8], changed_ms| {
            let prefixes = Prefixes::of(9, begins);
            OwnFile::Aof { crc32c: 7, bytes: 30, prefixes, changed_ms, saved: None }
                .or_log(&left(&noted(aof(7, 90, 1))))
        };
        let later_ms = LEFT_S * 1000 + 600;
        assert_eq!(anew(&b"*2".repeat(8), later_ms), Newer::Log, "its end was lost");
        assert_eq!(anew(&b"*3".repeat(8), later_ms), Newer::OwnFile);
        assert_eq!(anew(b"*2", later_ms), Newer::OwnFile, "too short to be compared, and written to");
        assert_eq!(anew(b"*2", 0), Newer::Log, "not written to");
        let without = noted(aof(7, 90, 1)).split(":head").next().unwrap().to_owned();
        assert_eq!(aof(7, 30, LEFT_S + 9).or_log(&left(&without)), Newer::Log, "an earlier version's note");
    }

    #[test]
    fn a_copy_of_what_was_being_saved_is_not_newer() {
        let note = format!("none:temp:77:at:{}", LEFT_S - 2);
        for begun_s in [LEFT_S - 2, LEFT_S - 1] {
            assert_eq!(rdb(8, begun_s).or_log(&left(&note)), Newer::Log);
        }
        assert_eq!(rdb(8, LEFT_S - 3).or_log(&left(&note)), Newer::Unknown);
        assert_eq!(rdb(8, LEFT_S).or_log(&left(&note)), Newer::OwnFile);
        let just_now = format!("none:temp:77:at:{LEFT_S}");
        assert_eq!(rdb(8, LEFT_S).or_log(&left(&just_now)), Newer::OwnFile, "it may have been saved since");
    }

    #[test]
    fn a_file_from_before_is_older_whatever_it_is_called() {
        let untouched =
            OwnFile::Rdb { bytes: 1, crc32c: 1, begun_s: Some(LEFT_S), inode: 5, touched_ms: LEFT_S * 1000 };
        assert_eq!(untouched.or_log(&left("none")), Newer::Log);
    }

    #[test]
    fn only_what_was_noted_and_is_loaded_proves_that_nothing_is_newer() {
        let (noted_rdb, noted_aof) = (rdb(7, 1), aof(8, 90, 1));
        let note_of =
            |files: &[OwnFile]| left(&note(files.iter().filter_map(|file| file.noted()).collect(), None).text());
        let proves = |rdb, aof, loads_aof, left: &Left| OwnFiles { rdb, aof, loads_aof }.none_is_newer(left);
        let rdb_only = note_of(&[noted_rdb]);
        let both = note_of(&[noted_rdb, noted_aof]);
        assert!(proves(noted_rdb, OwnFile::None, false, &rdb_only));
        assert!(proves(noted_rdb, aof(9, 9, LEFT_S - 9), false, &rdb_only), "from before");
        assert!(proves(noted_rdb, noted_aof, false, &both) && proves(noted_rdb, noted_aof, true, &both));
        assert!(!proves(noted_rdb, OwnFile::None, true, &rdb_only), "it loads none");
        assert!(!proves(OwnFile::None, OwnFile::None, false, &left("none")), "it may have another name");
        assert!(!proves(OwnFile::None, OwnFile::None, false, &rdb_only));
        assert!(!proves(noted_rdb, OwnFile::None, false, &both), "the other one may have another name");
        assert!(!proves(noted_rdb, aof(8, 91, LEFT_S + 9), false, &both), "it was written to");
        assert!(!proves(noted_rdb, aof(8, 91, LEFT_S + 9), false, &rdb_only));
        assert!(!proves(rdb(9, LEFT_S - 9), OwnFile::None, false, &rdb_only), "nobody knows");
        assert!(!proves(OwnFile::Unreadable, OwnFile::None, false, &left("unreadable")));
        let from_before =
            OwnFile::Rdb { bytes: 1, crc32c: 1, begun_s: Some(LEFT_S), inode: 5, touched_ms: LEFT_S * 1000 };
        assert!(!proves(from_before, OwnFile::None, false, &rdb_only), "it has another name");
        let saving = left(&format!("{}:saving:{}", noted(noted_rdb), LEFT_S - 5));
        assert!(proves(rdb(8, LEFT_S - 5), OwnFile::None, false, &saving));
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
        let without = renewed(both.note(), rdb(9, LEFT_S), aof(8, 90, 1));
        for (left, rdb) in [(&both, rdb(7, LEFT_S + 9)), (&without, rdb(9, LEFT_S))] {
            assert_eq!(rdb.or_log(left), Newer::Log);
            assert_eq!(aof(8, 90, LEFT_S + 9).or_log(left), Newer::Log);
            assert_eq!(aof(8, 91, LEFT_S + 9).or_log(left), Newer::OwnFile);
        }
    }
}
