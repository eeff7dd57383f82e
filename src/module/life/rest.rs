//! A locked folder while nothing is logged, and the one question before a log begins in it.

use super::LogFolder;
use super::begin::NoLog;
use super::load::open_folder;
use super::own_file::{OwnFile, left_now, was_saving, without_child};
use crate::ffi::{Ctx, Level, log};
use crate::log::{Begin, Generation, LogError, Standing};
use crate::module::config;
use crate::module::points::{self, Point};
use crossbeam::channel::bounded;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A failed mark is tried again after this time.
const MARK_RETRY: Duration = Duration::from_secs(5);

/// How often it is looked whether a child still saves a file.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where the dataset in memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From what the folder holds: it was recovered from there, or written there by this process, and has gone on
    /// since. A dataset that a primary sent in its place counts, too.
    Folder,
    /// From elsewhere, or nobody knows.
    Unknown,
}

/// A folder that is locked, and that nobody writes to.
pub(crate) struct Rest {
    place: Place,
    origin: Origin,
    /// The log is to be marked so, as soon as that is possible.
    owed: Option<Standing>,
    /// A child was saving a file when the log was left: when it is looked next whether it still does.
    child_at: Option<Instant>,
}

enum Place {
    Here {
        folder: Box<LogFolder>,
        /// What is owed is not tried before, as it has failed.
        mark_at: Option<Instant>,
    },
    /// A thread marks its log.
    Marking(Box<Marking>),
    /// It could not be opened again; this is the log that it held.
    Lost(Option<Generation>),
    /// On its way from one of the above to another.
    Moving,
}

impl Place {
    fn here(folder: Box<LogFolder>) -> Place {
        Place::Here { folder, mark_at: None }
    }
}

impl Rest {
    pub(super) fn new(folder: LogFolder, origin: Origin) -> Rest {
        Rest { place: Place::here(Box::new(folder)), origin, owed: None, child_at: None }
    }

    /// The folder of a log that was closed, from whose state memory goes on. Where its end could not be marked that is
    /// owed.
    pub(super) fn after(folder: LogFolder, standing: Standing) -> Rest {
        let owed = folder.seal_error().map(|_| standing.clone());
        Rest { owed, child_at: looks_after_child(&standing), ..Rest::new(folder, Origin::Folder) }
    }

    /// From here on memory goes on without the log, of which no start knew that until now.
    pub(super) fn left_behind(mut self, ctx: Ctx<'_>) -> Rest {
        if self.owed.is_none() && self.folder().is_some_and(is_newest) {
            let standing = left_now(ctx);
            self.child_at = looks_after_child(&standing);
            self.owed = Some(standing);
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

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    fn folder(&self) -> Option<&LogFolder> {
        match &self.place {
            Place::Here { folder, .. } => Some(folder),
            Place::Marking(_) | Place::Lost(_) | Place::Moving => None,
        }
    }

    pub(super) fn generation(&self) -> Option<Generation> {
        match &self.place {
            Place::Lost(generation) => *generation,
            Place::Marking(marking) => marking.generation,
            _ => self.folder()?.generation(),
        }
    }

    pub(super) fn is_superseded(&self) -> bool {
        let is_owed = self.owed == Some(Standing::Superseded);
        is_owed || self.folder().is_some_and(LogFolder::is_superseded)
    }

    /// A new log is to begin here, and this one stands until then: marks it at once, so that the next start compares it
    /// with what the server saves by itself meanwhile.
    ///
    /// # Errors
    /// Why it can't be marked.
    pub(super) fn give_up(self, ctx: Ctx<'_>) -> Result<Rest, NoLog> {
        let origin = self.origin;
        // Memory does not come from this log, so that what the server has saved by itself is what counts.
        let is_older = origin == Origin::Unknown && OwnFile::look(ctx) != OwnFile::None;
        let owed = self.owed.clone();
        let Some(mut folder) = self.into_folder() else { return Err(("the folder was lost".into(), None)) };
        let standing = match owed {
            _ if is_older => Some(Standing::Superseded),
            None if is_newest(&folder) => Some(left_now(ctx)),
            owed => owed,
        };
        let self_owed = standing.clone();
        match standing.map_or(Ok(()), |standing| folder.mark(standing)) {
            Ok(()) => Ok(Rest::new(folder, origin)),
            Err(error) => Err((error.to_string(), Some(Rest { owed: self_owed, ..Rest::new(folder, origin) }))),
        }
    }

    /// The server has taken its primary's dataset. Has a thread mark the log, so that no later start falls back to it;
    /// nobody waits for that.
    pub(super) fn supersede(&mut self) {
        self.origin = Origin::Folder;
        self.owed = Some(Standing::Superseded);
        self.mark_owed();
    }

    /// Has a thread mark the log as is owed, unless one does already.
    fn mark_owed(&mut self) {
        let Some(standing) = &self.owed else { return };
        let is_due = match &self.place {
            Place::Here { mark_at, .. } => mark_at.is_none_or(|at| Instant::now() >= at),
            _ => false,
        };
        if !is_due {
            return;
        }
        self.place = match std::mem::replace(&mut self.place, Place::Moving) {
            Place::Here { folder, .. } if folder.is_empty() || folder.is_superseded() => {
                self.owed = None;
                Place::here(folder)
            }
            Place::Here { folder, .. } => mark(folder, standing.clone()),
            other => other,
        };
    }

    /// Looks whether the log is to be marked, and after a mark that is being made.
    pub(super) fn poll(&mut self) {
        if let Place::Marking(marking) = &self.place
            && marking.thread.is_finished()
        {
            self.end_marking();
        }
        self.mark_owed();
    }

    /// Takes the folder back from the thread that marks its log; waits for that.
    fn end_marking(&mut self) {
        let Place::Marking(marking) = std::mem::replace(&mut self.place, Place::Moving) else { return };
        let Marking { thread, standing, .. } = *marking;
        let Ok(Some((folder, marked))) = thread.join() else { return };
        let mark_at = marked.is_err().then(|| Instant::now() + MARK_RETRY);
        match marked {
            Ok(()) => {
                if standing == Standing::Superseded {
                    log(Level::Notice, "the folder's log is superseded: the server's data are newer");
                }
                if self.owed.as_ref() == Some(&standing) {
                    self.owed = None;
                }
            }
            Err(error) => tell_unmarked(&error),
        }
        self.place = Place::Here { folder, mark_at };
    }

    /// Whether it is time to look if a child is still saving a file that it began before the log was left.
    pub(super) fn looks_for_child(&mut self) -> bool {
        let is_due = self.child_at.is_some_and(|at| Instant::now() >= at) && self.owed.is_none();
        if is_due {
            self.child_at = Some(Instant::now() + LOOK_EVERY);
        }
        is_due
    }

    /// No child saves a file any more; this is the one that is there.
    pub(super) fn child_ended(&mut self, own: OwnFile) {
        self.child_at = None;
        let left = self.folder().and_then(LogFolder::left);
        if let Some(standing) = left.and_then(|left| without_child(left, own)) {
            self.owed = Some(standing);
        }
    }

    /// The folder, at once when nothing is being done to it. `None` when the thread that had it has panicked.
    pub(super) fn into_folder(mut self) -> Option<LogFolder> {
        self.end_marking_if_any();
        match self.place {
            Place::Here { folder, .. } => Some(*folder),
            Place::Marking(_) | Place::Lost(_) | Place::Moving => None,
        }
    }

    fn end_marking_if_any(&mut self) {
        if matches!(self.place, Place::Marking(_)) {
            self.end_marking();
        }
    }

    /// Gives the folder up, as it could not be used; what is known of it is kept.
    pub(super) fn lose(self) -> Rest {
        let (origin, lost, owed) = (self.origin, self.generation(), self.owed.clone());
        let held = self.into_folder();
        Rest { place: Place::Lost(held.as_ref().map_or(lost, LogFolder::generation)), origin, owed, child_at: None }
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.place, Place::Lost(_) | Place::Moving)
    }

    /// Opens a lost folder again, whatever has become of it since: what was wrong with it may have been mended.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub(super) fn reopen(self) -> Result<Rest, (String, Rest)> {
        let (origin, generation, owed) = (self.origin, self.generation(), self.owed);
        match open_folder(Duration::ZERO) {
            // Another server may have had it meanwhile.
            Ok(opened) if opened.generation() != generation => Ok(Rest::new(opened.into_folder(), Origin::Unknown)),
            Ok(opened) => Ok(Rest { owed, ..Rest::new(opened.into_folder(), origin) }),
            Err(reason) => Err((reason, Rest { place: Place::Lost(generation), origin, owed, child_at: None })),
        }
    }

    /// The server ends: marks the log where that is still owed.
    pub(super) fn end(mut self) {
        self.end_marking_if_any();
        let owed = self.owed.take();
        if let (Some(standing), Some(mut folder)) = (owed, self.into_folder())
            && let Err(error) = folder.mark(standing)
        {
            tell_unmarked(&error);
        }
    }

    /// What a new log would begin with here; the question that everybody asks who is to begin one.
    ///
    /// The log that the folder holds is given up then, so memory must descend from it. Otherwise it is someone's
    /// acknowledged data.
    ///
    /// # Errors
    /// Why none may, for whoever asked.
    pub(super) fn may_begin(&self, has_data: bool) -> Result<Begin, String> {
        let begin = if has_data { Begin::WaitsForBase } else { Begin::Empty };
        let Some(folder) = self.folder() else { return Ok(begin) };
        if folder.is_empty() || self.origin == Origin::Folder || config::replaces_existing_log() {
            return Ok(begin);
        }
        match (folder.is_superseded(), has_data) {
            (true, true) => Ok(begin),
            (true, false) => Err(superseded(folder)),
            (false, _) => Err(holds_another(folder)),
        }
    }
}

/// When it is looked first whether a child has ended that was saving a file when the log was left.
fn looks_after_child(standing: &Standing) -> Option<Instant> {
    match standing {
        Standing::Left(left) if was_saving(left) => Some(Instant::now()),
        _ => None,
    }
}

/// Whether no start would look for anything newer than the log.
fn is_newest(folder: &LogFolder) -> bool {
    !folder.is_empty() && !folder.is_superseded() && folder.left().is_none()
}

/// A thread that marks a log.
struct Marking {
    /// The log.
    generation: Option<Generation>,
    standing: Standing,
    /// Gives the folder back.
    thread: JoinHandle<Option<Marked>>,
}

/// The folder, and what became of the mark.
type Marked = (Box<LogFolder>, Result<(), LogError>);

fn mark(folder: Box<LogFolder>, standing: Standing) -> Place {
    let (sender, receiver) = bounded::<Box<LogFolder>>(1);
    let (generation, wanted) = (folder.generation(), standing.clone());
    let work = move || {
        let mut folder = receiver.recv().ok()?;
        let supersedes = wanted == Standing::Superseded;
        if supersedes {
            points::reach(Point::Supersedes);
        }
        let marked = folder.mark(wanted);
        if supersedes {
            points::reach(Point::Superseded);
        }
        Some((folder, marked))
    };
    let mark_at = Some(Instant::now() + MARK_RETRY);
    match std::thread::Builder::new().name("wbl-mark".into()).spawn(work) {
        Ok(thread) => match sender.send(folder) {
            Ok(()) => Place::Marking(Box::new(Marking { generation, standing, thread })),
            Err(unsent) => Place::Here { folder: unsent.into_inner(), mark_at },
        },
        Err(_) => Place::Here { folder, mark_at },
    }
}

fn tell_unmarked(error: &LogError) {
    log(
        Level::Warning,
        &format!(
            "it can't be noted that the server goes on without the folder's log: a start before it is noted would bring the log back: {error}"
        ),
    );
}

fn shown(folder: &LogFolder) -> String {
    folder.storage().path("").display().to_string()
}

/// What a server is told whose data are not those of the folder.
pub(super) fn holds_another(folder: &LogFolder) -> String {
    format!(
        "the folder {} holds the log of another dataset than the server does: restart the server to bring that one back, empty the folder, or set wbl.on-existing-log to replace",
        shown(folder)
    )
}

/// What a primary without data is told that would fall back to an old log.
pub(super) fn superseded(folder: &LogFolder) -> String {
    format!(
        "the log in {} was superseded by a primary's dataset or by what the server saved later, and the server has no data of its own: start it as a replica of a server that has, or set wbl.on-existing-log to replace to begin with an empty dataset",
        shown(folder)
    )
}
