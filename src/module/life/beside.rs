//! A log in the folder of a server that was started with the module disabled: nobody has opened it.
//!
//! What the log is to count for follows from what the server does, and is written to the manifest:
//!
//! - It serves, and has changed nothing: the log is the newest, whatever the server saves.
//! - It changes something, or ends without having changed anything: the log was left then.
//! - It has its primary's dataset: the log is superseded, and stays so.
//!
//! Nothing is touched before the server serves: another one may be using the folder, and this one may never get so far.
//! What can't be written is owed. A log that had been left before is not marked at all unless the server's own files
//! prove that none of them is newer ([`OwnFiles::none_is_newer`]), or it is superseded: it keeps the mark that it has.
//! The folder is locked for no longer than a mark takes.

use super::own_file::OwnFiles;
use crate::ffi::{Level, log};
use crate::log::{LogError, SeenLog, Standing};
use crate::machine::unix_ms;
use crate::module::gate::GatedStorage;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How soon what is owed is tried again.
const MARK_RETRY: Duration = Duration::from_secs(5);

/// A folder that is locked for longer is another server's. One that was killed may take a while to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// A log that the server was started beside.
pub(super) struct Beside {
    folder: PathBuf,
    sight: Sight,
    /// What a log is marked with that was left when the server loaded its own files.
    loaded: Standing,
    /// What the log is to count for; `None` before the server serves.
    wanted: Option<Standing>,
    work: Work,
    /// Since when another server has had the folder locked.
    locked_since: Option<Instant>,
    /// It was said that a mark has failed.
    is_told: bool,
    /// Why what is owed could not be written, where that may pass, and a start find the log.
    refusal: Option<String>,
}

/// What is known of the log.
#[derive(Clone)]
enum Sight {
    /// It has not been looked at yet. The server's own files are those that it had loaded; `None` where it has gone on
    /// since.
    Unseen(Option<OwnFiles>),
    /// The log as it was found. `is_newest`: nothing of the server's own was newer.
    Log { seen: SeenLog, is_newest: bool },
    /// There was none at this time (Unix milliseconds), but a folder may come late, for example by a mount. A log that
    /// was left before then is looked at when it is found; others have come since, from elsewhere.
    Missing { own: Option<OwnFiles>, since_ms: u64 },
    /// Another server has it.
    Nothing,
}

enum Work {
    /// Nothing is to be written.
    Done,
    /// The mark is to be made, not before this time.
    Owed(Instant),
    /// A thread makes it.
    Marking(JoinHandle<Marked>),
}

/// What is known of the log now, and what became of the mark.
type Marked = (Sight, Result<(), LogError>);

impl Beside {
    /// `own`: what the server is about to load, or has loaded; `None` where it has gone on since. `loaded`: the mark
    /// for a log that is left now.
    pub(super) fn new(folder: &Path, own: Option<OwnFiles>, loaded: Standing) -> Beside {
        Beside {
            folder: folder.into(),
            sight: Sight::Unseen(own),
            loaded,
            wanted: None,
            work: Work::Done,
            locked_since: None,
            is_told: false,
            refusal: None,
        }
    }

    /// The log is to count for this from now on; tries to note that before anything else happens.
    pub(super) fn mark_now(&mut self, standing: Standing) {
        self.end_marking();
        self.want(standing);
        self.try_now();
    }

    /// The server has its primary's dataset. Nobody waits for that to be noted.
    pub(super) fn supersede(&mut self) {
        self.end_marking();
        if self.is_unchanged() {
            self.want(self.loaded.clone());
        }
        self.want(Standing::Superseded(None));
        self.work = Work::Owed(Instant::now());
    }

    fn want(&mut self, standing: Standing) {
        let before = self.wanted.take().unwrap_or_default();
        self.wanted = Some(before.followed_by(standing));
    }

    /// Whether the dataset has not changed since the server began to serve: the next change is the first one.
    pub(super) fn is_unchanged(&self) -> bool {
        self.wanted == Some(Standing::Current)
    }

    /// Whether the server's data are those of its own files, which are no newer than the log.
    pub(super) fn has_older_data(&self) -> bool {
        self.is_unchanged() && matches!(self.sight, Sight::Log { is_newest: true, .. })
    }

    /// Whether the log must not come back.
    pub(super) fn is_superseded(&self) -> bool {
        let is_marked = matches!(&self.sight, Sight::Log { seen, .. } if seen.standing().is_superseded());
        is_marked || self.wanted.as_ref().is_some_and(Standing::is_superseded)
    }

    /// The server serves: takes care of the mark.
    pub(super) fn poll(&mut self) {
        if self.wanted.is_none() {
            return self.mark_now(Standing::Current);
        }
        if matches!(&self.work, Work::Marking(thread) if thread.is_finished()) {
            self.end_marking();
        }
        let (Work::Owed(mark_at), Some(wanted)) = (&mut self.work, &self.wanted) else { return };
        if Instant::now() < *mark_at {
            return;
        }
        let (folder, mut sight, wanted) = (self.folder.clone(), self.sight.clone(), wanted.clone());
        let marks = move || {
            let outcome = sight.mark(&folder, wanted);
            (sight, outcome)
        };
        match std::thread::Builder::new().name("wbl-mark".into()).spawn(marks) {
            Ok(thread) => self.work = Work::Marking(thread),
            Err(_) => *mark_at = Instant::now() + MARK_RETRY,
        }
    }

    /// The server begins to save its own file: what is owed is tried before that.
    pub(super) fn save_begins(&mut self) {
        self.end_marking();
        if matches!(self.work, Work::Owed(_)) || matches!(self.sight, Sight::Missing { .. }) {
            self.try_now();
        }
    }

    /// What is known of the log ends with the server, or the module. `now` is the mark for a log that is left now:
    /// later changes of the dataset are not reported.
    ///
    /// # Errors
    /// The mark can't be made.
    pub(super) fn end(&mut self, now: impl FnOnce() -> Standing) -> Result<(), String> {
        if self.is_unchanged() {
            self.mark_now(now());
        } else {
            self.save_begins();
        }
        match (&self.work, &self.refusal) {
            (Work::Owed(_), Some(reason)) => Err(reason.clone()),
            _ => Ok(()),
        }
    }

    /// The mark that the log is still owed, by whatever has the folder open.
    pub(super) fn owed(&mut self) -> Option<Standing> {
        self.end_marking();
        let is_owed = matches!(self.work, Work::Owed(_));
        let is_newest = matches!(self.sight, Sight::Log { is_newest: true, .. });
        self.wanted.clone().filter(|wanted| match wanted {
            Standing::Current => false,
            Standing::Left(_) => is_owed && is_newest,
            Standing::Superseded(_) => is_owed,
        })
    }

    /// Waits for the thread that marks the log, if one does, and has the folder locked meanwhile.
    pub(super) fn end_marking(&mut self) {
        if !matches!(self.work, Work::Marking(_)) {
            return;
        }
        // If the thread has panicked, which it has reported, the mark is still owed.
        let owed = Work::Owed(Instant::now() + MARK_RETRY);
        let Work::Marking(thread) = std::mem::replace(&mut self.work, owed) else { return };
        if let Ok((sight, outcome)) = thread.join() {
            self.sight = sight;
            self.tried(outcome);
        }
    }

    fn try_now(&mut self) {
        if let Some(wanted) = self.wanted.clone() {
            let outcome = self.sight.mark(&self.folder, wanted);
            self.tried(outcome);
        }
    }

    fn tried(&mut self, outcome: Result<(), LogError>) {
        let Err(error) = outcome else {
            (self.work, self.locked_since) = (Work::Done, None);
            return;
        };
        self.work = Work::Owed(Instant::now() + MARK_RETRY);
        let is_locked = matches!(error, LogError::Locked { .. });
        // What was no log when it was looked at would not be brought back either.
        let may_pass = is_locked || matches!(error, LogError::Io { .. }) || matches!(self.sight, Sight::Log { .. });
        self.refusal = may_pass.then(|| error.to_string());
        if is_locked {
            let since = *self.locked_since.get_or_insert_with(Instant::now);
            if since.elapsed() > LOCK_PATIENCE {
                (self.work, self.sight) = (Work::Done, Sight::Nothing);
            }
        } else {
            self.locked_since = None;
        }
        if !std::mem::replace(&mut self.is_told, true) {
            log(
                Level::Warning,
                &format!(
                    "it can't be noted that the server goes on without the folder's log: until that has been possible, which is tried again and again, a start may take older data for newer: {error}"
                ),
            );
        }
    }
}

impl Sight {
    /// Makes the log count for this, where it is known to be the newest; looks at it first, if that has not been done.
    fn mark(&mut self, folder: &Path, wanted: Standing) -> Result<(), LogError> {
        let storage = GatedStorage::existing(folder)?;
        let look = || storage.as_ref().map_or(Ok(None), SeenLog::look);
        match *self {
            Sight::Unseen(own) => {
                let missing = Sight::Missing { own, since_ms: unix_ms() };
                *self = look()?.map_or(missing, |seen| Sight::Log { is_newest: is_newest(&seen, own), seen });
            }
            Sight::Missing { own, since_ms } => {
                let Some(seen) = look()? else { return Ok(()) };
                let was_left = matches!(seen.standing(), Standing::Left(left) if left.unix_ms() < since_ms);
                *self = Sight::Log { is_newest: was_left && is_newest(&seen, own), seen };
            }
            Sight::Log { .. } | Sight::Nothing => {}
        }
        let Sight::Log { seen, is_newest } = self else { return Ok(()) };
        if !*is_newest && !wanted.is_superseded() {
            return Ok(());
        }
        let storage = storage.ok_or_else(|| {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            LogError::io("open the folder", folder.display().to_string(), missing)
        })?;
        if !seen.mark(&storage, wanted)? {
            *self = Sight::Nothing;
        }
        Ok(())
    }
}

/// Whether nothing is newer than the log of a server that has changed nothing.
fn is_newest(seen: &SeenLog, own: Option<OwnFiles>) -> bool {
    match seen.standing() {
        Standing::Current => true,
        Standing::Left(left) | Standing::Superseded(Some(left)) => own.is_some_and(|own| own.none_is_newer(left)),
        Standing::Superseded(None) => false,
    }
}
