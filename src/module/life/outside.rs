//! The mark of a log in the server's own folder, for as long as the log's folder does not take it.
//!
//! A log that is left, or that falls behind on a replica, counts for less than what the server saves from then on. Its
//! manifest is to say so; but a disk that is full, broken or does not answer takes no manifest, and a start would bring
//! back a log of long ago. What the server saves meanwhile is in its own folder. So that is where the mark goes: a disk
//! that does not take the mark takes nothing newer either.

use super::opening::OpenedFolder;
use super::state::{Life, Logging};
use crate::ffi::{Level, log};
use crate::log::{Generation, LogError, Lsn, OUTSIDE_MARK_NAME, OutsideMark, SeenLog, Standing};
use crate::module::gate::GatedStorage;
use crate::module::{second_server, with};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A failed attempt is repeated after this time.
const RETRY: Duration = Duration::from_secs(5);

/// A disk that has not answered for so long is not waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What the server's folder is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// What it says now: the log's folder has not answered yet.
    AsItIs,
    /// Nothing: the log's folder says all.
    Nothing,
    /// This.
    Mark(OutsideMark),
}

/// What the server's folder says.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// What this process has written there.
    noted: Option<OutsideMark>,
    work: Option<Work>,
    /// After a failure.
    retry_at: Option<Instant>,
}

/// A thread writes or removes the file: nobody waits for the disk.
#[derive(Debug)]
struct Work {
    noting: Option<OutsideMark>,
    thread: JoinHandle<Result<(), LogError>>,
}

impl Outside {
    /// Has a thread see to it that the folder says this.
    fn keep(&mut self, wanted: Wanted) {
        if self.work.as_ref().is_some_and(|work| work.thread.is_finished()) {
            self.end_work();
        }
        let is_due = self.retry_at.is_none_or(|at| Instant::now() >= at);
        let Some(noting) = self.missing(wanted).filter(|_| self.work.is_none() && is_due) else { return };
        let wanted = noting.clone();
        match std::thread::Builder::new().name("wbl-mark".into()).spawn(move || note(wanted.as_ref())) {
            Ok(thread) => self.work = Some(Work { noting, thread }),
            Err(_) => self.retry_at = Some(Instant::now() + RETRY),
        }
    }

    /// The same, and waits for it.
    fn keep_now(&mut self, wanted: Wanted) {
        self.end_work();
        if let Some(noting) = self.missing(wanted) {
            let outcome = note(noting.as_ref());
            self.ended(noting, outcome);
        }
    }

    /// The file may be there.
    fn says_something(&self) -> bool {
        self.noted.is_some() || self.work.is_some() || self.retry_at.is_some()
    }

    /// Whether it says that a log counts for less until it reaches a position beyond this.
    fn is_beyond(&self, flushed: Lsn) -> bool {
        self.noted.as_ref().is_some_and(|mark| mark.before.is_some_and(|before| flushed < before))
    }

    /// What is to be written, or removed, that is not so yet.
    fn missing(&self, wanted: Wanted) -> Option<Option<OutsideMark>> {
        let noting = match wanted {
            Wanted::AsItIs => return None,
            Wanted::Nothing => None,
            Wanted::Mark(mark) => Some(mark),
        };
        (noting != self.noted).then_some(noting)
    }

    fn end_work(&mut self) {
        let Some(Work { noting, thread }) = self.work.take() else { return };
        match thread.join() {
            Ok(outcome) => self.ended(noting, outcome),
            // It has said so.
            Err(_) => self.retry_at = Some(Instant::now() + RETRY),
        }
    }

    fn ended(&mut self, noting: Option<OutsideMark>, outcome: Result<(), LogError>) {
        match outcome {
            Ok(()) => (self.noted, self.retry_at) = (noting, None),
            Err(error) => {
                self.retry_at = Some(Instant::now() + RETRY);
                log(
                    Level::Warning,
                    &format!("what the log's folder does not take can't be noted in the server's own either: {error}"),
                );
            }
        }
    }
}

/// Takes care of the file, at the end of each iteration.
pub(super) fn poll() {
    with(|module| {
        let wanted = module.life.outside(&module.outside);
        module.outside.keep(wanted);
    });
}

/// The same, before the server saves something newer than the log.
pub(super) fn note_before_save() {
    with(|module| {
        let wanted = module.life.outside(&module.outside);
        module.outside.keep_now(wanted);
    });
}

/// The server becomes a primary, and its log goes on.
///
/// # Errors
/// What is acknowledged from here on may not be brought back.
pub(super) fn note_promotion() -> Result<(), String> {
    let is_noted = with(|module| {
        if let Some(logging) = module.life.logging().filter(|_| module.outside.says_something()) {
            let mark = logging.promoted();
            module.outside.keep_now(Wanted::Mark(mark.clone()));
            return module.outside.noted == Some(mark);
        }
        true
    });
    if is_noted == Some(false) {
        return Err(format!(
            "{OUTSIDE_MARK_NAME} in the server's own folder, which says that the log is behind, can't be replaced"
        ));
    }
    Ok(())
}

/// The server ends, and the log's folder has not taken this.
pub(super) fn note_at_end(unmarked: Option<OutsideMark>) {
    with(|module| module.outside.keep_now(unmarked.map_or(Wanted::AsItIs, Wanted::Mark)));
}

impl Life {
    /// What the server's folder is to say of the log.
    fn outside(&mut self, now: &Outside) -> Wanted {
        match self {
            Life::Starting(_) | Life::Changing | Life::Closed => Wanted::AsItIs,
            // It was promoted, and not all that it had then is on the disk.
            Life::Logging(Logging { following: None, log, .. }) if now.is_beyond(log.log().flushed()) => Wanted::AsItIs,
            Life::Logging(logging) => logging.behind().map_or(Wanted::Nothing, Wanted::Mark),
            Life::Disabled(rest) | Life::Replica(rest) => rest.outside(),
            Life::GivenUp(failing) | Life::Failing(failing) => failing.rest.outside(),
        }
    }
}

/// The mark of a log that was left, wherever it ends.
pub(super) fn of_left(generation: Generation, standing: Standing) -> OutsideMark {
    OutsideMark { generation, before: None, standing }
}

/// Gives a log that was opened the mark that the server's own folder has for it.
///
/// # Errors
/// The log's folder does not take it, or the mark can't be read.
pub(super) fn carry_over(opened: &mut OpenedFolder) -> Result<(), String> {
    let Some(generation) = opened.generation() else { return Ok(()) };
    let end = opened.next_lsn();
    let unreadable = |error: LogError| format!("what the log counts for can't be read: {error}");
    let Some(mark) = read(generation).map_err(unreadable)? else { return Ok(()) };
    if mark.holds_for(generation, end) {
        log(
            Level::Notice,
            &format!(
                "the server went on without the log, as {OUTSIDE_MARK_NAME} in its own folder says: the log's folder could not be marked then"
            ),
        );
        opened.mark(mark.standing).map_err(|error| {
            format!("{OUTSIDE_MARK_NAME} in the server's folder says that the server went on without the log, and that can't be noted in the log's folder, which comes first: {error}")
        })?;
    }
    note(None).map_err(|error| error.to_string())
}

/// What a log counts for that was seen and not read. Where it ends is not known.
pub(super) fn standing_of(seen: &SeenLog) -> Result<Standing, LogError> {
    let mark = read(seen.generation())?;
    Ok(mark.map_or_else(|| seen.standing().clone(), |mark| seen.standing().followed_by(mark.standing)))
}

/// Gives such a log its mark. `false` where it is no longer the log that was seen.
///
/// # Errors
/// As for [`carry_over`].
pub(super) fn carry_over_seen(seen: &mut SeenLog, storage: &GatedStorage) -> Result<bool, LogError> {
    let Some(mark) = read(seen.generation())? else { return Ok(true) };
    let is_same = seen.mark(storage, mark.standing)?;
    if is_same {
        note(None)?;
    }
    Ok(is_same)
}

impl Drop for Outside {
    /// The thread runs the module's code.
    fn drop(&mut self) {
        self.end_work();
    }
}

/// The server's folder, which is the current one.
fn own_folder() -> Result<Option<GatedStorage>, LogError> {
    GatedStorage::existing(Path::new("."))
}

fn read(generation: Generation) -> Result<Option<OutsideMark>, LogError> {
    // The second server's folder is that of the first, which has decided what the log counts for.
    if second_server::is_folding() {
        return Ok(None);
    }
    own_folder()?.map_or(Ok(None), |folder| OutsideMark::read(&folder, generation))
}

fn note(mark: Option<&OutsideMark>) -> Result<(), LogError> {
    let missing = || LogError::io("open the folder", ".", std::io::ErrorKind::NotFound.into());
    let folder = own_folder()?.ok_or_else(missing)?;
    mark.map_or_else(|| OutsideMark::remove(&folder), |mark| mark.write(&folder))
}
