//! The folder's log while memory has less than that: what the server saves is then no newer than what it had loaded.

use super::{NoLog, Place, Rest};
use crate::ffi::Ctx;
use crate::log::Standing;
use crate::module::life::descent::{Origin, has_less};
use crate::module::life::own_file::{OwnFiles, is_lacking, lacking, not_lacking};

/// What the server saves of memory, compared with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saves {
    /// Newer, or unknown.
    Newer,
    /// No newer than files that are known to be older.
    Older,
}

impl Rest {
    /// [`Rest::left_behind`] on a server that has not served yet what it has. If that is less than a log that was left
    /// before, the mark says so first: by the mark that is there, whatever the server saves would be newer. Later ones
    /// only renew it.
    ///
    /// # Errors
    /// The mark can't be made. Nothing has changed.
    pub(in crate::module::life) fn left_before_serving(mut self, ctx: Ctx<'_>) -> Result<Rest, NoLog> {
        let is_unmarked = self.folder().and_then(|folder| folder.left()).is_some_and(|left| !is_lacking(left));
        if !is_unmarked || self.descent.origin() != Origin::Lacking {
            return Ok(self.left_behind(ctx));
        }
        let before = self.owed.clone();
        self.take_over_owed();
        self.note_lack(ctx);
        if let (Place::Here { folder, .. }, Some(standing)) = (&mut self.place, &self.owed)
            && let Err(error) = folder.mark_with_room(standing.clone())
        {
            let reason = has_less(folder.storage(), &error);
            (self.owed, self.saves) = (before, Saves::Newer);
            return Err((reason.into(), self));
        }
        (self.owed, self.beside) = (None, None);
        Ok(self)
    }

    /// Has the mark say so if memory has less than the log.
    pub(in crate::module::life) fn note_lack(&mut self, ctx: Ctx<'_>) {
        match (self.descent.origin(), self.standing()) {
            (Origin::Older, _) => self.saves = Saves::Older,
            (Origin::Lacking, Some(standing @ Standing::Left(left))) => {
                let are_older = OwnFiles::look(ctx).all_are_older(left);
                let lacking = lacking(standing);
                if lacking != *standing {
                    self.owed = Some(lacking);
                }
                self.saves = if are_older { Saves::Older } else { Saves::Newer };
            }
            _ => {}
        }
    }

    /// A log that was left before it had its base is closed, and the folder holds the one before it: the mark of that
    /// may not say yet that memory has less. What was saved since it was left may be newer.
    pub(super) fn note_lack_of_former(&mut self) {
        if let (Origin::Lacking, Some(standing @ Standing::Left(left))) = (self.descent.origin(), self.standing())
            && !is_lacking(left)
        {
            self.owed = Some(lacking(standing));
            self.saves = Saves::Newer;
        }
    }

    /// Memory no longer has less, or that no longer matters.
    pub(in crate::module::life) fn forget_lack(&mut self) {
        self.saves = Saves::Newer;
        if let Some(standing) = self.standing() {
            let counts = not_lacking(standing);
            if counts != *standing {
                self.owed = Some(counts);
            }
        }
    }

    fn saves_older(&self) -> bool {
        self.saves == Saves::Older && matches!(self.descent.origin(), Origin::Older | Origin::Lacking)
    }

    /// Something has begun to be saved.
    pub(super) fn await_older_save(&mut self) {
        self.has_child |= self.saves_older();
    }

    /// Something was being saved that is no newer than the log.
    pub(in crate::module::life) fn awaits_older_save(&self) -> bool {
        self.has_child && self.saves_older()
    }

    /// That has ended: notes what it has become. `now`: the mark of a log that is left now.
    pub(in crate::module::life) fn note_older_save(&mut self, now: &Standing) {
        self.has_child = false;
        self.renew_if_older(|| now.clone());
        self.mark_before_save();
    }

    /// Replaces the mark by that of a log that is left now, if nothing was saved since that is newer.
    pub(super) fn renew_if_older(&mut self, now: impl Fn() -> Standing) {
        if self.saves_older() {
            let now = now();
            self.owed = Some(if self.descent.origin() == Origin::Lacking { lacking(&now) } else { now });
        }
    }
}
