//! A log in the folder of a server that was started with the module disabled: nobody has opened it.
//!
//! As long as the server changes nothing, what it saves is no newer than the log, whatever its time: a log that was
//! left counts as the newest again from the start on ([`Beside::look`]), and is left again at a shutdown. From its
//! first change on the server goes on without the log, which is marked then, by its manifest alone. The folder is
//! locked for no longer than a mark takes.

use super::marking::tell_unmarked;
use super::own_file::{Newer, OwnFile};
use crate::ffi::{Level, log};
use crate::log::{LogError, SeenLog, Standing};
use crate::module::gate::GatedStorage;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A failed mark is tried again after this time.
const MARK_RETRY: Duration = Duration::from_secs(5);

/// A log that the server was started beside.
pub(super) struct Beside {
    folder: PathBuf,
    seen: Arc<SeenLog>,
    /// It had been left when the server was started.
    was_left: bool,
    state: State,
    /// It was said that a mark has failed.
    is_told: bool,
}

enum State {
    /// The server loads its own files.
    Loading,
    /// The dataset is what was loaded.
    Unchanged,
    /// The log is to be marked so.
    Owed {
        standing: Standing,
        /// It is not tried before, as it has failed.
        mark_at: Option<Instant>,
    },
    /// A thread marks it.
    Marking { standing: Standing, thread: JoinHandle<Result<Option<SeenLog>, LogError>> },
    /// It says what it counts for, or is not the log any more that was there.
    Marked,
}

impl Beside {
    /// Looks whether there is a log that is newer than what the server is about to load, `own`. One that was left is
    /// marked as the newest that there is.
    pub(super) fn look(folder: &Path, own: OwnFile) -> Option<Beside> {
        let looked = || {
            let Some(storage) = GatedStorage::existing(folder)? else { return Ok(None) };
            let Some(seen) = SeenLog::look(&storage)? else { return Ok(None) };
            let (state, was_left) = match seen.standing() {
                Standing::Superseded => (State::Marked, false),
                Standing::Left(left) if own.or_log(left) == Newer::OwnFile => (State::Marked, true),
                Standing::Left(_) => (State::Loading, true),
                Standing::Current => (State::Loading, false),
            };
            let seen = match (&state, was_left) {
                (State::Loading, true) => seen.mark(&storage, Standing::Current)?,
                _ => Some(seen),
            };
            // Without one, another server has just gone on with the log.
            Ok(seen.map(|seen| (seen, state, was_left)))
        };
        match looked() {
            Ok(found) => {
                let (seen, state, was_left) = found?;
                Some(Beside { folder: folder.into(), seen: Arc::new(seen), was_left, state, is_told: false })
            }
            Err(error) => {
                let error: LogError = error;
                log(
                    Level::Warning,
                    &format!(
                        "it can't be noted that the server goes on without the folder's log, so that a later start with it may bring back older data: {error}"
                    ),
                );
                None
            }
        }
    }

    /// Clients are served from now on.
    pub(super) fn loaded(&mut self) {
        if matches!(self.state, State::Loading) {
            self.state = State::Unchanged;
        }
    }

    /// The dataset changes; `true` when that has the log left, see [`Beside::owe`].
    pub(super) fn is_first_change(&mut self) -> bool {
        let is_first = matches!(self.state, State::Unchanged);
        if is_first {
            self.state = State::Marked;
        }
        is_first
    }

    /// Whether the server has changed nothing since it was started.
    pub(super) fn is_unchanged(&self) -> bool {
        matches!(self.state, State::Loading | State::Unchanged)
    }

    /// Whether the log had been left when the server was started.
    pub(super) fn was_left(&self) -> bool {
        self.was_left
    }

    /// Whether the log must not come back.
    pub(super) fn is_superseded(&self) -> bool {
        let is_wanted = match &self.state {
            State::Owed { standing, .. } | State::Marking { standing, .. } => *standing == Standing::Superseded,
            State::Loading | State::Unchanged | State::Marked => false,
        };
        is_wanted || *self.seen.standing() == Standing::Superseded
    }

    /// The log is to be marked.
    pub(super) fn owe(&mut self, standing: Standing) {
        self.end_marking();
        self.state = State::Owed { standing, mark_at: None };
    }

    /// Marks the log so before anything else happens; where that fails it is owed.
    pub(super) fn mark_now(&mut self, standing: Standing) {
        self.end_marking();
        let outcome = mark(&self.folder, &self.seen, standing.clone());
        self.marked(standing, outcome);
    }

    /// Looks after the mark.
    pub(super) fn poll(&mut self) {
        if matches!(&self.state, State::Marking { thread, .. } if thread.is_finished()) {
            self.end_marking();
        }
        let State::Owed { standing, mark_at } = &mut self.state else { return };
        if mark_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let (folder, seen, wanted) = (self.folder.clone(), Arc::clone(&self.seen), standing.clone());
        let marks = move || mark(&folder, &seen, wanted);
        match std::thread::Builder::new().name("wbl-mark".into()).spawn(marks) {
            Ok(thread) => self.state = State::Marking { standing: standing.clone(), thread },
            Err(_) => *mark_at = Some(Instant::now() + MARK_RETRY),
        }
    }

    /// The server ends: marks the log where that is still owed.
    pub(super) fn end(mut self) {
        self.end_marking();
        if let State::Owed { standing, .. } = self.state
            && let Err(error) = mark(&self.folder, &self.seen, standing)
        {
            tell_unmarked(&error);
        }
    }

    /// Waits for the thread that marks the log, if one does, and has the folder locked meanwhile.
    pub(super) fn end_marking(&mut self) {
        if !matches!(self.state, State::Marking { .. }) {
            return;
        }
        let State::Marking { standing, thread } = std::mem::replace(&mut self.state, State::Marked) else { return };
        // One that has panicked has said so.
        if let Ok(outcome) = thread.join() {
            self.marked(standing, outcome);
        }
    }

    fn marked(&mut self, standing: Standing, outcome: Result<Option<SeenLog>, LogError>) {
        self.state = State::Marked;
        match outcome {
            Ok(Some(marked)) => self.seen = Arc::new(marked),
            // Somebody else has gone on with the log.
            Ok(None) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.is_told, true) {
                    tell_unmarked(&error);
                }
                self.state = State::Owed { standing, mark_at: Some(Instant::now() + MARK_RETRY) };
            }
        }
    }
}

fn mark(folder: &Path, seen: &SeenLog, standing: Standing) -> Result<Option<SeenLog>, LogError> {
    match GatedStorage::existing(folder)? {
        Some(storage) => seen.mark(&storage, standing),
        None => Ok(None),
    }
}
