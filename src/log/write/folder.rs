//! A folder between two logs: locked, known, nothing being written.

use super::backup::remove_temporary_folders;
use super::history::remove_oldest;
use crate::log::error::LogError;
use crate::log::format::Generation;
use crate::log::format::manifest::Manifest;
use crate::log::format::names::{OwnName, cut_name, new_number, own_name, segment_name, temporary_base_seq};
use crate::log::format::standing::{Left, Standing};
use crate::log::lsn::Lsn;
use crate::log::open::Options;
use crate::log::storage::{Storage, failed};
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::Arc;

/// A locked folder with the log it holds, which nobody writes to.
pub struct Folder<S: Storage> {
    pub(crate) storage: Arc<S>,
    _lock: S::Lock,
    pub(crate) options: Options,
    /// What is on the disk; `None` where there is no log.
    pub(crate) manifest: Option<Manifest>,
    /// Giving another manifest its name has failed, so it is unknown which of the two is on the disk.
    is_unsettled: bool,
    /// The position after all that was ever written.
    pub(crate) end: Lsn,
    /// The end of the log that the manifest names.
    pub(crate) log_end: Lsn,
    /// The files of ours that were found.
    pub(crate) present: HashSet<OwnName>,
    /// Numbers that no file has.
    pub(crate) next_segment: u64,
    pub(crate) next_base: u64,
    /// Files of ours that are not part of the log, to be removed when writing starts.
    pub(crate) leftovers: Vec<String>,
    /// Segments among them that are kept under another name.
    pub(crate) set_aside: Vec<u64>,
    /// Why the log could not be marked as closed.
    pub(crate) seal_error: Option<LogError>,
}

/// A log at one moment. Going on with it moves its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Which log.
    pub generation: Generation,
    /// Its end.
    pub end: Lsn,
}

impl<S: Storage> Folder<S> {
    pub(crate) fn new(storage: Arc<S>, lock: S::Lock, options: Options, names: &[Vec<u8>]) -> Folder<S> {
        let present: HashSet<OwnName> = names.iter().filter_map(|name| own_name(name)).collect();
        let (mut next_segment, mut next_base) = (1, 1);
        // A file of a base that a crash left will be removed, and must not be written to.
        let temporary = names.iter().filter_map(|name| temporary_base_seq(std::str::from_utf8(name).ok()?));
        temporary.for_each(|seq| next_base = next_base.max(seq + 1));
        for own in &present {
            match own {
                OwnName::Segment(seq) => next_segment = next_segment.max(seq + 1),
                OwnName::Base(seq) => next_base = next_base.max(seq + 1),
                OwnName::Temporary | OwnName::Cut(..) => {}
            }
        }
        Folder {
            storage,
            _lock: lock,
            options,
            manifest: None,
            is_unsettled: false,
            end: Lsn::ZERO,
            log_end: Lsn::ZERO,
            present,
            next_segment,
            next_base,
            leftovers: Vec::new(),
            set_aside: Vec::new(),
            seal_error: None,
        }
    }

    /// The position after all that was ever written.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// Which log it holds.
    pub fn generation(&self) -> Option<Generation> {
        self.manifest.as_ref().map(|manifest| manifest.generation)
    }

    /// Which log it holds, and up to where.
    pub fn log_state(&self) -> Option<LogState> {
        self.generation().map(|generation| LogState { generation, end: self.log_end })
    }

    /// Whether it holds no log.
    pub fn is_empty(&self) -> bool {
        self.manifest.is_none()
    }

    /// Whether the server has taken another dataset since the log was written, see [`Folder::supersede`].
    pub fn is_superseded(&self) -> bool {
        self.manifest.as_ref().is_some_and(|manifest| manifest.standing.is_superseded())
    }

    /// Why the log, all of which is durable, could not be marked as closed: the next start then cannot prove that
    /// nothing is missing at its end. `None` when it is marked.
    pub fn seal_error(&self) -> Option<&LogError> {
        self.seal_error.as_ref()
    }

    /// The storage.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Notes durably that the server has taken another dataset, so that no start falls back to this one. Without a log
    /// there is nothing to note.
    pub fn supersede(&mut self) -> Result<(), LogError> {
        self.mark(Standing::Superseded(None))
    }

    /// When the log was left, if it was.
    pub fn left(&self) -> Option<&Left> {
        match &self.manifest.as_ref()?.standing {
            Standing::Left(left) => Some(left),
            Standing::Current | Standing::Superseded(_) => None,
        }
    }

    /// When a log that is superseded was left before that; `None` where unknown.
    pub fn left_before_superseded(&self) -> Option<&Left> {
        match &self.manifest.as_ref()?.standing {
            Standing::Superseded(left) => left.as_ref(),
            Standing::Current | Standing::Left(_) => None,
        }
    }

    /// What the log counts for at the next start; `None` where there is none.
    pub fn standing(&self) -> Option<&Standing> {
        self.manifest.as_ref().map(|manifest| &manifest.standing)
    }

    /// Notes durably what the log counts for at the next start. A superseded one stays so.
    pub fn mark(&mut self, standing: Standing) -> Result<(), LogError> {
        match self.standing() {
            Some(before) => self.mark_anew(before.followed_by(standing)),
            None => Ok(()),
        }
    }

    /// The same if the server may not go on without it: on a full disk it takes the room of what is not part of the
    /// log, and of history.
    ///
    /// # Errors
    /// Of the last try; what has given up its room is gone.
    pub fn mark_with_room(&mut self, standing: Standing) -> Result<(), LogError> {
        let mut marked = self.mark(standing.clone());
        if marked.as_ref().is_err_and(LogError::is_no_room) {
            self.remove_leftovers();
            marked = self.mark(standing.clone());
        }
        while marked.as_ref().is_err_and(LogError::is_no_room) && self.give_up_kept() {
            marked = self.mark(standing.clone());
        }
        marked
    }

    /// Removes the oldest history, or without any the oldest end that was cut; `false` where there is neither.
    fn give_up_kept(&mut self) -> bool {
        if remove_oldest(&*self.storage) {
            return true;
        }
        let cuts = self.present.iter().filter_map(|own| match own {
            OwnName::Cut(seq, offset) => Some((*seq, *offset)),
            _ => None,
        });
        let Some((seq, offset)) = cuts.min() else { return false };
        self.present.remove(&OwnName::Cut(seq, offset));
        // One that stays makes no room, and the next one is tried.
        let _ = self.storage.remove(&cut_name(seq, offset));
        true
    }

    /// Notes durably that the log counts for just this, whatever it counted for before.
    pub fn mark_anew(&mut self, standing: Standing) -> Result<(), LogError> {
        let Some(manifest) = self.manifest.as_ref() else { return Ok(()) };
        if manifest.standing == standing && !self.is_unsettled {
            return Ok(());
        }
        let marked = Manifest { standing, ..manifest.clone() };
        marked.write_next(&*self.storage)?;
        self.name_next(marked).map(drop)
    }

    /// Makes what was written as the next manifest the folder's; returns the one before.
    pub(crate) fn name_next(&mut self, next: Manifest) -> Result<Option<Manifest>, LogError> {
        self.is_unsettled = true;
        Manifest::name_next(&*self.storage)?;
        self.is_unsettled = false;
        Ok(self.manifest.replace(next))
    }

    /// Removes the files that are not part of the log. Bases go first, durably: beside a pending segment a base that
    /// nothing names is recognised as such.
    pub fn remove_leftovers(&mut self) {
        // They may hold the room of files that the log no longer has. If that fails they stay for the next start.
        let _ = remove_temporary_folders(&*self.storage);
        if !self.are_set_aside() {
            // They stay for the next start.
            return;
        }
        let (bases, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.leftovers)
            .into_iter()
            .partition(|name| matches!(own_name(name.as_bytes()), Some(OwnName::Base(_) | OwnName::Temporary)));
        if !self.are_gone(&bases) && !others.is_empty() {
            // They stay for the next start.
            self.leftovers = others;
            return;
        }
        for name in &others {
            // What stays is removed by a later start.
            let _ = self.storage.remove(name);
        }
    }

    /// Gives segments that are kept the names of ends that were cut, durably; `false` where that fails.
    fn are_set_aside(&mut self) -> bool {
        let segments = std::mem::take(&mut self.set_aside);
        let mut done = true;
        for seq in &segments {
            let name = segment_name(*seq);
            done &= self.storage.rename(&name, &cut_name(*seq, 0)).is_ok();
            self.leftovers.retain(|leftover| *leftover != name);
        }
        done && (segments.is_empty() || self.storage.sync_dir().is_ok())
    }

    /// Removes bases and temporaries; `false` where a base may be found under its name after a crash.
    fn are_gone(&self, names: &[String]) -> bool {
        let (mut removed, mut gone) = (false, true);
        for name in names {
            let outcome = self.storage.remove(name);
            if !matches!(own_name(name.as_bytes()), Some(OwnName::Base(_))) {
                continue;
            }
            match outcome {
                Ok(()) => removed = true,
                Err(error) => gone &= error.kind() == io::ErrorKind::NotFound,
            }
        }
        gone && (!removed || self.storage.sync_dir().is_ok())
    }

    pub(crate) fn random(&self) -> Result<u64, LogError> {
        self.storage.random().map_err(failed(&*self.storage, "name a log in", ""))
    }

    /// A number that no segment has. A failed try leaves its number unused, because its file may exist.
    pub(crate) fn take_segment_number(&mut self) -> Result<u64, LogError> {
        let seq = new_number(self.next_segment)?;
        self.next_segment += 1;
        assert!(
            !self.manifest.iter().any(|log| log.segments.iter().any(|segment| segment.seq >= seq)),
            "{}",
            segment_name(seq)
        );
        Ok(seq)
    }
}

impl<S: Storage> fmt::Debug for Folder<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Folder");
        shown.field("manifest", &self.manifest).field("end", &self.end).finish_non_exhaustive()
    }
}
