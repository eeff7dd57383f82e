//! The files that the server itself would load at its next start, and what the mark of a log that is left says about
//! them.
//!
//! When a log is left, its manifest notes when, and what the server's RDB file and its AOF were then, whichever it
//! uses: by content and not by time, so that neither a copy nor a clock that steps makes an old file look new. A file's
//! own time only shows whether a file that has changed since was also saved since.

mod both;
mod file;
mod lacking;
mod look;
mod note;
mod read;
#[cfg(test)]
mod tests;

pub(super) use both::OwnFiles;
pub(super) use file::{Newer, OwnFile};
pub(super) use lacking::{is_lacking, lacking, not_lacking};

use super::descent::Origin;
use super::opening::OpenedFolder;
use crate::ffi::Ctx;
use crate::log::{Left, Standing};
use crate::machine::unix_ms;
use crate::module::server;
use file::SECOND_S;
use note::{Note, Noted, Unfinished};
use std::path::Path;

/// No more temporary files than this are noted.
const TEMPORARIES_MAX: usize = 3;

/// Where the data that this file has brought come from, in relation to what the folder holds.
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

/// The mark of a log that is left now.
pub(super) fn left_now(ctx: Ctx<'_>, child: Child) -> Standing {
    let unix_ms = unix_ms();
    // Which of them a start loads depends on its settings.
    let own = OwnFiles::look(ctx).all();
    let files = own.into_iter().filter_map(OwnFile::noted).collect();
    let mut temporaries = read::temporaries(Path::new("."), &read::is_written);
    let saves_for_s = if child == Child::Killed { None } else { server::saves_for_s(ctx) };
    let begun_s = saves_for_s.map(|for_s| (unix_ms / 1000).saturating_sub(for_s));
    // A child that has just been forked has no file yet; the present files are others'.
    let has_file = |begun_s: u64| temporaries.first().is_some_and(|file| file.touched_ms / 1000 + SECOND_S >= begun_s);
    let saving_since_s = begun_s.filter(|begun_s| !has_file(*begun_s));
    temporaries.truncate(TEMPORARIES_MAX);
    let unfinished = temporaries.iter().map(|file| Unfinished { inode: file.inode, begun_s: file.begun_s }).collect();
    let is_unreadable = own.contains(&OwnFile::Unreadable);
    let is_unwatched = child == Child::Unwatched && saving_since_s.is_some();
    let note = Note { files, is_unreadable, unfinished, saving_since_s, is_unwatched, ..Note::default() }.text();
    Left::new(unix_ms, &note).map_or(Standing::Current, Standing::Left)
}

/// The mark of a log that was left beside a child, now that the child has ended or something else is about to be saved,
/// and nothing else has been saved since the log was left: `own` holds nothing newer than the log but what was appended
/// to an AOF. What comes from now on is not the child's.
pub(super) fn without_child(left: &Left, own: OwnFiles) -> Standing {
    with_files(left, own, |before| Note { unfinished: Vec::new(), saving_since_s: None, ..before })
}

/// The same for a child without a file under another name, which the shutdown has killed: what others had begun may
/// still come.
fn without_killed(left: &Left, own: OwnFiles) -> Standing {
    with_files(left, own, |before| Note { saving_since_s: None, ..before })
}

/// The mark of a log that was left beside a child whose end nobody sees from here on, except for what is known of that:
/// `own` are the files that there are now.
pub(super) fn unwatched(standing: &Standing, child: Child, own: impl FnOnce() -> OwnFiles) -> Standing {
    let (Standing::Left(left) | Standing::Superseded(Some(left))) = standing else { return standing.clone() };
    let note = Note::parse(left.note());
    if note.saving_since_s.is_none() {
        return standing.clone();
    }
    let marked = match child {
        Child::Killed => without_killed(left, own()),
        Child::GoesOn | Child::Unwatched => with_note(left, &Note { is_unwatched: true, ..note }),
    };
    match (standing, marked) {
        (Standing::Superseded(_), Standing::Left(left)) => Standing::Superseded(Some(left)),
        (_, marked) => marked,
    }
}

fn with_note(left: &Left, note: &Note) -> Standing {
    Left::new(left.unix_ms(), &note.text()).map_or_else(|| Standing::Left(left.clone()), Standing::Left)
}

/// The mark with the files that there are now in its note, none of which is newer than the log.
fn with_files(left: &Left, own: OwnFiles, change: impl FnOnce(Note) -> Note) -> Standing {
    let before = Note::parse(left.note());
    let is_as_saved = |file: &OwnFile| !matches!(file, OwnFile::Aof { saved: None, .. });
    let mut files: Vec<Noted> = own.all().into_iter().filter(is_as_saved).filter_map(OwnFile::noted).collect();
    let gone: Vec<Noted> = before.files.iter().copied().filter(|noted| !files.contains(noted)).collect();
    files.extend(gone);
    with_note(left, &change(Note { files, ..before }))
}

/// Whether a part of the log was cut since it was left.
pub(super) fn was_cut(left: &Left) -> bool {
    Note::parse(left.note()).is_cut
}

/// Whether a child was saving a file when the log was left, about which the mark says no more.
pub(super) fn was_saving(left: &Left) -> bool {
    Note::parse(left.note()).has_child()
}
