//! What the log of a folder at rest is to count for at a start, and the marks that say so.

use super::{Place, Rest, give_up_watch};
use crate::ffi::{Ctx, Level, log};
use crate::log::{Generation, LogError, Standing};
use crate::module::life::cause::Cause;
use crate::module::life::closing::Closed;
use crate::module::life::descent::{Descent, Origin};
use crate::module::life::marking::{Marking, tell_unmarked, tell_unmarked_in};
use crate::module::life::opening::{OpenedFolder, open_folder};
use crate::module::life::own_file::{Child, OwnFiles, left_now, without_child};
use std::time::{Duration, Instant};

/// A failed mark is tried again after this time.
const MARK_RETRY: Duration = Duration::from_secs(5);

impl Rest {
    /// The server has taken its primary's dataset. A thread marks the log, so that no later start falls back to it;
    /// nobody waits for that.
    pub(in crate::module::life) fn supersede(&mut self) {
        if self.descent.is_unknown() {
            return self.beside.iter_mut().for_each(|beside| beside.supersede());
        }
        self.descent.set_origin(Origin::Sent);
        self.owe_superseded();
        self.mark_owed();
    }

    /// No log has come of what is in memory. If a primary has sent that, it is newer than what the folder holds, which
    /// no later start may fall back to.
    pub(in crate::module::life) fn supersede_if_sent(mut self) -> Rest {
        if self.descent.origin() == Origin::Sent {
            self.owe_superseded();
        }
        self
    }

    fn owe_superseded(&mut self) {
        let owed = self.owed.take().unwrap_or_default();
        self.owed = Some(owed.followed_by(Standing::Superseded(None)));
    }

    /// Has a thread make the owed mark, unless one does already.
    pub(super) fn mark_owed(&mut self) {
        let Some(standing) = &self.owed else { return };
        let is_due = match &self.place {
            Place::Here { mark_at, .. } => mark_at.is_none_or(|at| Instant::now() >= at),
            _ => false,
        };
        if !is_due {
            return;
        }
        let standing = standing.clone();
        let away = Place::Away { open_at: None };
        self.place = match std::mem::replace(&mut self.place, away) {
            Place::Here { folder, .. } if folder.is_empty() || folder.is_superseded() => {
                self.owed = None;
                Place::here(folder)
            }
            Place::Here { folder, is_stale, .. } => match Marking::begin(folder, standing, is_stale) {
                Ok(marking) => Place::Marking(marking),
                Err(folder) => Place::Here { folder, mark_at: Some(Instant::now() + MARK_RETRY), is_stale },
            },
            other => other,
        };
    }

    /// Checks whether the log is to be marked, and on a mark that is being made.
    pub(in crate::module::life) fn poll(&mut self) {
        if let Some(beside) = &mut self.beside {
            beside.poll();
        }
        if self.place.is_busy() == Some(false) {
            self.end_marking();
        }
        self.mark_owed();
    }

    /// Takes the folder back from the thread that closes or marks its log, if one does; waits for that.
    pub(super) fn end_marking(&mut self) {
        let away = Place::Away { open_at: None };
        let marking = match std::mem::replace(&mut self.place, away) {
            Place::Marking(marking) => marking,
            Place::Closing(closing) => {
                let Closed { folder, owed } = closing.join();
                if let Some(folder) = folder {
                    let origin = self.descent.origin_in(&folder);
                    if origin != self.descent.origin() {
                        self.owed = None;
                    }
                    *self.descent = Descent::of(&folder, origin);
                    self.place = Place::here(Box::new(folder));
                }
                self.owed = self.owed.take().or(owed);
                if self.folder().is_some() {
                    self.note_lack_of_former();
                }
                return;
            }
            place => {
                self.place = place;
                return;
            }
        };
        let (standing, is_stale) = (marking.standing.clone(), marking.is_stale);
        // A thread that has panicked has lost it.
        let Some((folder, marked)) = marking.join() else { return };
        let mark_at = marked.is_err().then(|| Instant::now() + MARK_RETRY);
        match marked {
            Ok(()) => {
                if standing.is_superseded() {
                    log(Level::Notice, "the folder's log is superseded: the server's data are newer");
                }
                if self.owed.as_ref() == Some(&standing) {
                    self.owed = None;
                }
            }
            Err(error) => tell_unmarked_in(&folder, &error),
        }
        self.place = Place::Here { folder, mark_at, is_stale };
    }

    /// Whether a child was saving a file when the log was left, whose end has not been seen.
    pub(in crate::module::life) fn has_child(&self) -> bool {
        self.has_child
    }

    /// That child has ended, or something else is about to be saved. `own`: the files that there are now.
    pub(in crate::module::life) fn settle_child(&mut self, own: OwnFiles) {
        self.has_child = false;
        if let Some(standing @ (Standing::Left(left) | Standing::Superseded(Some(left)))) = self.standing() {
            self.owed = Some(standing.followed_by(without_child(left, own)));
        }
    }

    /// What the log counts for as soon as what is owed is marked.
    pub(super) fn standing(&self) -> Option<&Standing> {
        self.owed.as_ref().or_else(|| match &self.place {
            Place::Here { folder, .. } => folder.standing(),
            Place::Marking(marking) => Some(&marking.standing),
            Place::Closing(closing) => Some(&closing.standing),
            Place::Away { .. } => None,
        })
    }

    /// No log has begun in its place, so that the one before counts again for what it did; `None` where memory comes
    /// from that.
    pub(in crate::module::life) fn counts_again(mut self, before: Option<(Generation, Standing)>) -> Rest {
        if let (Some((generation, standing)), Place::Here { folder, .. }) = (before, &mut self.place)
            && folder.generation() == Some(generation)
            && let Err(error) = folder.mark_anew(standing)
        {
            tell_unmarked(&error);
        }
        self
    }

    /// The server begins to save its own file, and the log's mark would not distinguish that from what was saved
    /// before: what is owed is marked at once, if the folder is open. A replica's log that is being closed is waited
    /// for only if memory has less, because the log before it may have to say so; and no longer than is bearable.
    pub(in crate::module::life) fn mark_before_save(&mut self) {
        if matches!(self.place, Place::Closing(_)) {
            if self.descent.origin() != Origin::Lacking {
                return;
            }
            self.wait_until_free();
            if self.is_busy() {
                return;
            }
            self.end_marking();
        }
        if self.owed.is_none() {
            return;
        }
        self.end_marking();
        // It has told what it can't mark, and is tried again.
        let _ = self.make_owed();
    }

    /// Makes the mark that is owed, if the folder is open.
    ///
    /// # Errors
    /// It can't be made, which the server's log says, too.
    fn make_owed(&mut self) -> Result<(), LogError> {
        let (Place::Here { folder, mark_at, .. }, Some(standing)) = (&mut self.place, &self.owed) else {
            return Ok(());
        };
        if let Err(error) = folder.mark(standing.clone()) {
            *mark_at = Some(Instant::now() + MARK_RETRY);
            tell_unmarked_in(folder, &error);
            return Err(error);
        }
        self.owed = None;
        Ok(())
    }

    /// Whether it is time to open a folder that was lost, to mark its log.
    pub(in crate::module::life) fn is_missed(&mut self) -> bool {
        let Place::Away { open_at } = &mut self.place else { return false };
        let is_due = self.owed.is_some() && open_at.is_none_or(|at| Instant::now() >= at);
        if is_due {
            *open_at = Some(Instant::now() + MARK_RETRY);
        }
        is_due
    }

    /// Takes such a folder over, if it could be opened.
    pub(in crate::module::life) fn take_in(&mut self, opened: Result<OpenedFolder, Cause>) {
        match opened {
            Ok(opened) => self.found(opened),
            Err(reason) => tell_unmarked(&reason),
        }
    }

    /// The server ends, or the module: makes a mark that is still owed, and one that no longer rests on somebody who
    /// sees the end of a child. `child`: what has become of that; `is_unchanged`: the server has changed nothing of
    /// what it loaded.
    ///
    /// # Errors
    /// The mark can't be made, which the server's log says, too.
    pub(in crate::module::life) fn end(&mut self, ctx: Ctx<'_>, is_unchanged: bool, child: Child) -> Result<(), Cause> {
        let now = || left_now(ctx, child);
        if let Some(beside) = &mut self.beside {
            beside.end(now)?;
        }
        self.end_marking();
        if is_unchanged {
            self.renew_if_older(now);
        }
        if matches!(self.place, Place::Away { .. }) && (self.owed.is_some() || self.has_child) {
            let opened = open_folder(Duration::ZERO).inspect_err(tell_unmarked)?;
            self.found(opened);
        }
        self.make_owed()?;
        if let (Place::Here { folder, .. }, true) = (&mut self.place, self.has_child) {
            give_up_watch(folder, child, || OwnFiles::look(ctx));
        }
        Ok(())
    }

    /// The server changes its dataset for the first time beside a log, and goes on without it from here on: what it
    /// saves is newer, and it may be killed as soon as it has.
    pub(in crate::module::life) fn leave(&mut self, standing: Standing) {
        self.beside.iter_mut().for_each(|beside| beside.mark_now(standing.clone()));
    }

    /// Whether the next change is the first one beside a log, see [`Rest::leave`].
    pub(in crate::module::life) fn is_unchanged(&self) -> bool {
        self.beside.as_ref().is_some_and(|beside| beside.is_unchanged())
    }

    /// The server begins to save its own file.
    pub(in crate::module::life) fn save_begins(&mut self) {
        self.beside.iter_mut().for_each(|beside| beside.save_begins());
        self.mark_before_save();
        self.await_older_save();
    }

    /// The mark owed to a log that nobody had opened is made by the present handle.
    pub(in crate::module::life) fn take_over_owed(&mut self) {
        if let Some(standing) = self.beside.as_mut().and_then(|beside| beside.owed()) {
            self.owed.get_or_insert(standing);
        }
    }
}
