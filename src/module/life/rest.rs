//! A locked folder while nothing is logged, and the one question before a log begins in it.

mod lacking;
mod marks;

use super::beside::Beside;
use super::cause::Cause;
use super::closing::Closing;
use super::descent::{Descent, Origin, holds_another, superseded};
use super::marking::Marking;
use super::marking::tell_unmarked_in;
use super::opening::{LogFolder, OpenedFolder, open_folder};
use super::own_file::{Child, Newer, OwnFile, OwnFiles, left_now, unwatched, was_saving};
use crate::ffi::Ctx;
use crate::log::{Begin, Generation, Standing};
use crate::module::config;
use crate::module::release::Release;
use lacking::Saves;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a log has not begun, and the folder.
pub(super) type NoLog = (Cause, Rest);

/// How long the main thread waits for a thread that has the folder, when the server has become a primary.
const FREE_PATIENCE: Duration = Duration::from_millis(250);
const FREE_POLL: Duration = Duration::from_millis(1);

/// The folder while nobody writes to it: locked, as far as it could be opened.
pub(crate) struct Rest {
    place: Place,
    descent: Box<Descent>,
    /// The log is to be marked as this, as soon as possible.
    pub(super) owed: Option<Standing>,
    /// A child was saving a file when the log was left, and has not ended.
    has_child: bool,
    saves: Saves,
    /// The log that the server was started beside.
    pub(super) beside: Option<Box<Beside>>,
}

enum Place {
    Here {
        folder: Box<LogFolder>,
        /// When to try what is owed again, after a failure.
        mark_at: Option<Instant>,
        /// It could not be used last time, and may have been repaired by hand: it is reopened for the next log.
        is_stale: bool,
    },
    /// A thread marks its log.
    Marking(Box<Marking>),
    /// A thread closes its log.
    Closing(Box<Closing>),
    /// It is not open: it was not needed yet, or could not be reopened. Opening is tried when a log is to begin, and
    /// after this time where its log is to be marked.
    Away { open_at: Option<Instant> },
}

impl Place {
    /// Whether a thread is still at work; `None` if there is none.
    fn is_busy(&self) -> Option<bool> {
        match self {
            Place::Marking(marking) => Some(!marking.is_finished()),
            Place::Closing(closing) => Some(!closing.is_finished()),
            Place::Here { .. } | Place::Away { .. } => None,
        }
    }

    fn here(folder: Box<LogFolder>) -> Place {
        Place::Here { folder, mark_at: None, is_stale: false }
    }
}

impl Rest {
    pub(super) fn new(folder: LogFolder, origin: Origin) -> Rest {
        let descent = Descent::of(&folder, origin);
        Rest { place: Place::here(Box::new(folder)), ..Rest::away(descent) }
    }

    /// The folder has not been opened.
    pub(super) fn unopened() -> Rest {
        Rest::away(Descent::unknown())
    }

    /// The module was loaded, and not enabled.
    pub(super) fn beside(log: Beside) -> Rest {
        Rest { beside: Some(Box::new(log)), ..Rest::unopened() }
    }

    /// The folder of a replica's log that is left: memory goes on without it.
    pub(super) fn closing(log: Arc<Release>, standing: Standing, descent: Descent) -> Rest {
        let has_child = has_child(&standing);
        let (place, owed) = match Closing::begin(log, standing) {
            Ok(closing) => (Place::Closing(Box::new(closing)), None),
            Err(owed) => (Place::Away { open_at: None }, owed),
        };
        Rest { place, owed, has_child, ..Rest::away(descent) }
    }

    fn away(descent: Descent) -> Rest {
        Rest {
            place: Place::Away { open_at: None },
            descent: Box::new(descent),
            owed: None,
            has_child: false,
            saves: Saves::Newer,
            beside: None,
        }
    }

    /// The handle of the folder was lost on the way: reopens it at once, if possible. `owed`: the mark that its log is
    /// to have.
    pub(super) fn lost(descent: Descent, owed: Option<Standing>) -> Rest {
        let has_child = owed.as_ref().is_some_and(has_child);
        let lost = Rest { owed, has_child, ..Rest::away(descent) };
        lost.open_again().unwrap_or_else(|(_, rest)| rest)
    }

    /// The folder of a log that was closed, from whose state memory goes on. A mark of its end that could not be made
    /// is owed.
    pub(super) fn after(folder: LogFolder, standing: Standing) -> Rest {
        let owed = folder.seal_error().map(|_| standing.clone());
        Rest { owed, has_child: has_child(&standing), ..Rest::new(folder, Origin::Folder) }
    }

    /// From here on memory goes on without the log, which no start would have known until now.
    pub(super) fn left_behind(mut self, ctx: Ctx<'_>) -> Rest {
        self.take_over_owed();
        self.beside = None;
        if self.owed.is_none() && self.folder().is_some_and(is_newest) {
            let standing = left_now(ctx, Child::GoesOn);
            self.has_child = has_child(&standing);
            self.owed = Some(standing);
        }
        self.note_lack(ctx);
        self
    }

    /// The folder could not be used: it is reopened before another log begins there. It is not kept open for a log that
    /// the server was started beside.
    pub(super) fn stale(mut self) -> Rest {
        self.end_marking();
        if self.beside.is_some() {
            return Rest { beside: self.beside, ..Rest::unopened() };
        }
        if let Place::Here { is_stale, .. } = &mut self.place {
            *is_stale = true;
        }
        self
    }

    /// Removes the files of a log that was given up.
    pub(super) fn without_leftovers(mut self) -> Rest {
        if let Place::Here { folder, .. } = &mut self.place {
            folder.remove_leftovers();
        }
        self
    }

    pub(super) fn descent(&self) -> &Descent {
        &self.descent
    }

    fn folder(&self) -> Option<&LogFolder> {
        match &self.place {
            Place::Here { folder, .. } => Some(folder),
            Place::Marking(_) | Place::Closing(_) | Place::Away { .. } => None,
        }
    }

    pub(super) fn generation(&self) -> Option<Generation> {
        self.descent.generation()
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.owed.as_ref().is_some_and(Standing::is_superseded)
            || self.beside.as_ref().is_some_and(|beside| beside.is_superseded())
            || self.folder().is_some_and(LogFolder::is_superseded)
    }

    /// A new log is to begin here, and this one stays valid until then: marks it at once, so that the next start
    /// compares it with what the server itself saves meanwhile. Returns also what it counted for, if memory does not
    /// come from it: should no log begin, that is still so. `has_data`: the server has any.
    ///
    /// # Errors
    /// Why it can't be marked.
    pub(super) fn give_up(mut self, ctx: Ctx<'_>, has_data: bool) -> Result<(Rest, Option<Standing>), NoLog> {
        // Memory does not come from this log, so what counts is what the server itself has saved, at any time: unless
        // the log's mark shows that it is newer than that. A start that finds nothing there has the log.
        let is_others = !self.descent.origin().continues();
        self.end_marking();
        self.take_over_owed();
        let gives_way = is_others && has_data && {
            let own = OwnFile::look(ctx);
            own.may_hold_data() && !self.is_newer_than(own)
        };
        let Place::Here { folder, .. } = &mut self.place else { return Err(("the folder was lost".into(), self)) };
        // A child is not watched any more, see `into_folder`.
        let before = if is_others && self.owed.is_none() { folder.standing() } else { None };
        let before = before.map(|before| unwatched(before, Child::Unwatched, || OwnFiles::look(ctx)));
        if !gives_way && self.owed.is_none() && is_newest(folder) {
            self.owed = Some(left_now(ctx, Child::Unwatched));
        }
        let marked = match &self.owed {
            _ if gives_way => folder.mark_anew(Standing::Superseded(None)),
            Some(standing) => folder.mark(standing.clone()),
            None => Ok(()),
        };
        match marked {
            Ok(()) => {
                self.owed = None;
                Ok((self, before))
            }
            Err(error) => Err((error.into(), self)),
        }
    }

    /// Whether the log's mark shows that the log is newer than this file.
    fn is_newer_than(&self, own: OwnFile) -> bool {
        match self.standing() {
            Some(Standing::Left(left) | Standing::Superseded(Some(left))) => own.or_log(left) == Newer::Log,
            _ => false,
        }
    }

    /// The dataset in memory replaces what the folder holds as soon as a log of it can begin.
    pub(super) fn replaces_log(&mut self) {
        self.descent.set_origin(Origin::Sent);
        self.forget_lack();
    }

    /// Whether a log of what is in memory may replace what the folder holds, as far as memory is concerned. Work on the
    /// folder is over by now.
    pub(super) fn may_follow(&self) -> bool {
        !self.is_busy() && self.descent.origin().continues()
    }

    /// Whether a thread has the folder, whose disk may not answer.
    pub(super) fn is_busy(&self) -> bool {
        self.place.is_busy() == Some(true)
    }

    /// Waits until no thread has the folder any more, but no longer than is bearable if the disk does not answer.
    pub(super) fn wait_until_free(&self) {
        let until = Instant::now() + FREE_PATIENCE;
        while self.is_busy() && Instant::now() < until {
            std::thread::sleep(FREE_POLL);
        }
    }

    /// Nothing is left in memory of what the folder holds. Until a whole dataset has arrived, memory has less, whatever
    /// is written there.
    pub(super) fn lose_dataset(&mut self) {
        if !self.descent.is_unknown() {
            self.descent.set_origin(Origin::Lacking);
        }
    }

    /// Whether the folder holds more than memory does, and nothing newer is known to be anywhere.
    pub(super) fn holds_more(&self) -> bool {
        let holds_log = self.folder().is_none_or(|folder| !folder.is_empty());
        self.descent.origin() == Origin::Lacking && holds_log && !self.is_superseded()
    }

    /// Whether memory has less than what the folder holds or has held, which is so where it comes from older files, or
    /// from nowhere. Whatever its log counts for at a start, somebody else may have more.
    pub(super) fn is_less(&self, has_data: bool) -> bool {
        let holds_log = self.folder().map(|folder| !folder.is_empty());
        match self.descent.origin() {
            Origin::Folder | Origin::Sent => false,
            Origin::Older | Origin::Lacking => holds_log != Some(false),
            Origin::Unknown => !has_data && holds_log == Some(true),
        }
    }

    /// The server has no data, and nothing has replaced what the folder holds: memory has less than that.
    pub(super) fn lacks_all(&mut self) {
        if self.descent.origin() == Origin::Unknown && self.folder().is_some_and(|folder| !folder.is_empty()) {
            self.descent.set_origin(Origin::Lacking);
        }
    }

    /// The folder; at once if nothing is being done to it. Nobody sees the end of a child that was saving when its log
    /// was left: the mark says so from here on.
    ///
    /// # Errors
    /// It is not open.
    pub(super) fn into_folder(mut self, ctx: Ctx<'_>) -> Result<LogFolder, Rest> {
        self.end_marking();
        match self.place {
            Place::Here { mut folder, .. } => {
                if self.has_child {
                    give_up_watch(&mut folder, Child::Unwatched, || OwnFiles::look(ctx));
                }
                Ok(*folder)
            }
            Place::Marking(_) | Place::Closing(_) | Place::Away { .. } => Err(self),
        }
    }

    /// The folder, open, because a log is to begin there.
    ///
    /// # Errors
    /// Why it can't be opened.
    pub(super) fn opened(mut self) -> Result<Rest, NoLog> {
        self.end_marking();
        self.beside.iter_mut().for_each(|beside| beside.end_marking());
        if let Place::Here { folder, is_stale: false, .. } = &self.place
            && folder.storage().has_its_path()
        {
            return Ok(self);
        }
        // An existing handle has the lock.
        self.place = Place::Away { open_at: None };
        self.open_again()
    }

    fn open_again(mut self) -> Result<Rest, NoLog> {
        match open_folder(Duration::ZERO) {
            Ok(opened) => {
                self.found(opened);
                Ok(self)
            }
            Err(reason) => Err((reason, self)),
        }
    }

    /// The folder is open again. Another server may have used it meanwhile.
    fn found(&mut self, opened: OpenedFolder) {
        let folder = opened.into_folder();
        let origin = self.descent.origin_with(folder.log_state());
        let is_own = self.descent.origin() == Origin::Sent && origin == Some(Origin::Folder);
        if origin.is_none() || is_own {
            self.owed = None;
        }
        let is_older = folder.is_superseded() && self.beside.as_ref().is_some_and(|beside| beside.has_older_data());
        let unknown = if is_older { Origin::Older } else { Origin::Unknown };
        *self.descent = Descent::of(&folder, origin.unwrap_or(unknown));
        self.place = Place::here(Box::new(folder));
    }

    /// What a new log would begin with here; everything that begins one asks this.
    ///
    /// The log in the folder is then given up, so memory must descend from it. Otherwise it is someone's acknowledged
    /// data.
    ///
    /// # Errors
    /// Why none may begin.
    pub(super) fn may_begin(&self, has_data: bool) -> Result<Begin, String> {
        let begin = if has_data { Begin::WaitsForBase } else { Begin::Empty };
        let Some(folder) = self.folder() else { return Ok(begin) };
        if folder.is_empty() || self.descent.origin().continues() || config::replaces_existing_log() {
            return Ok(begin);
        }
        match (folder.is_superseded(), has_data) {
            (true, true) if self.descent.origin() == Origin::Unknown && !config::keeps_existing_log() => Ok(begin),
            (true, _) => Err(superseded(folder, has_data)),
            (false, _) => Err(holds_another(folder.storage())),
        }
    }
}

/// Whether a child was saving a file when the log was left.
fn has_child(standing: &Standing) -> bool {
    matches!(standing, Standing::Left(left) if was_saving(left))
}

/// Nobody sees the end of that child any more: its log's mark no longer rests on that.
fn give_up_watch(folder: &mut LogFolder, child: Child, own: impl FnOnce() -> OwnFiles) {
    let Some(standing) = folder.standing().cloned() else { return };
    let marked = unwatched(&standing, child, own);
    if marked != standing
        && let Err(error) = folder.mark_anew(marked)
    {
        tell_unmarked_in(folder, &error);
    }
}

/// Whether no start would look for anything newer than the log.
fn is_newest(folder: &LogFolder) -> bool {
    !folder.is_empty() && !folder.is_superseded() && folder.left().is_none()
}
