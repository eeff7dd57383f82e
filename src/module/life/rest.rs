//! A locked folder while nothing is logged, and the one question before a log begins in it.

use super::LogFolder;
use super::begin::NoLog;
use super::load::open_folder;
use crate::ffi::{Ctx, Level, log};
use crate::log::{Begin, Generation, LogError};
use crate::module::config;
use crate::module::points::{self, Point};
use crate::module::server;
use crossbeam::channel::bounded;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it is looked whether the server has saved its own file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A failed mark is tried again after this time.
const MARK_RETRY: Duration = Duration::from_secs(5);

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
    /// Memory goes on without the log, and the server saves files of its own.
    alone: Option<Alone>,
}

/// Since when memory goes on without the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alone {
    /// When the server had saved its own file last.
    saved: Option<u64>,
    /// The dataset was emptied since, where a server saves a file without data.
    is_flushed: bool,
    /// A child was saving a file then: that is of an earlier dataset than the log is.
    was_saving: bool,
    look_at: Instant,
}

impl Alone {
    pub(super) fn now(ctx: Ctx<'_>) -> Alone {
        Alone {
            saved: server::last_save(ctx),
            is_flushed: false,
            was_saving: server::is_saving(ctx),
            look_at: Instant::now() + LOOK_EVERY,
        }
    }

    pub(super) fn flushed(&mut self) {
        self.is_flushed = true;
    }

    /// The server has saved its own file since, with data: that is newer than the log.
    pub(super) fn is_saved(&self, ctx: Ctx<'_>) -> bool {
        let is_later = self.saved.is_some() && server::last_save(ctx).is_some_and(|saved| Some(saved) != self.saved);
        let is_certain = !self.is_flushed && !self.was_saving;
        is_later && (is_certain || server::has_saved_all(ctx) && server::has_data(ctx))
    }

    /// Whether the log is older than the server's own file by now.
    fn look(&mut self, ctx: Ctx<'_>) -> bool {
        if Instant::now() < self.look_at {
            return false;
        }
        let is_saved = self.is_saved(ctx);
        self.look_at = Instant::now() + LOOK_EVERY;
        if std::mem::take(&mut self.is_flushed) && !is_saved {
            // The file that was saved when the dataset was emptied does not count.
            self.saved = server::last_save(ctx);
        }
        if self.was_saving && !server::is_saving(ctx) && !is_saved {
            // Nor does the one that a child was saving when the log was left.
            self.was_saving = false;
            self.saved = server::last_save(ctx);
        }
        is_saved
    }
}

enum Place {
    Here(Box<LogFolder>),
    /// A thread marks its log as superseded.
    Marking(Marking),
    /// That failed.
    Unmarked {
        folder: Box<LogFolder>,
        try_at: Instant,
    },
    /// It could not be opened again; this is the log that it held.
    Lost(Option<Generation>),
    /// On its way from one of the above to another.
    Moving,
}

impl Rest {
    pub(super) fn new(folder: LogFolder, origin: Origin) -> Rest {
        Rest { place: Place::Here(Box::new(folder)), origin, alone: None }
    }

    pub(super) fn with_alone(self, alone: Option<Alone>) -> Rest {
        Rest { alone, ..self }
    }

    /// Removes the files of a log that was given up.
    pub(super) fn without_leftovers(mut self) -> Rest {
        if let Place::Here(folder) = &mut self.place {
            folder.remove_leftovers();
        }
        self
    }

    /// From here on memory goes on without the log, unless it does already.
    pub(super) fn left_alone(self, ctx: Ctx<'_>) -> Rest {
        let alone = self.alone.unwrap_or_else(|| Alone::now(ctx));
        self.with_alone(Some(alone))
    }

    pub(super) fn flushed(&mut self) {
        self.alone.iter_mut().for_each(Alone::flushed);
    }

    pub(super) fn alone(&self) -> Option<Alone> {
        self.alone
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    fn folder(&self) -> Option<&LogFolder> {
        match &self.place {
            Place::Here(folder) | Place::Unmarked { folder, .. } => Some(folder),
            Place::Marking(_) | Place::Lost(_) | Place::Moving => None,
        }
    }

    pub(super) fn generation(&self) -> Option<Generation> {
        match &self.place {
            Place::Lost(generation) => *generation,
            _ => self.folder()?.generation(),
        }
    }

    pub(super) fn is_superseded(&self) -> bool {
        match &self.place {
            Place::Here(folder) => folder.is_superseded(),
            Place::Marking(_) | Place::Unmarked { .. } => true,
            Place::Lost(_) | Place::Moving => false,
        }
    }

    /// The log is to be given up for the server's own data; marks it at once, so that a crash on the way does not bring
    /// it back.
    ///
    /// # Errors
    /// Why it can't be marked.
    pub(super) fn give_up(mut self) -> Result<Rest, NoLog> {
        let (origin, alone) = (self.origin, self.alone);
        let Some(mut folder) = self.into_folder() else { return Err(("the folder was lost".into(), None)) };
        let marked = folder.supersede();
        self = Rest { alone, ..Rest::new(folder, origin) };
        match marked {
            Ok(()) => Ok(self),
            Err(error) => Err((error.to_string(), Some(self))),
        }
    }

    /// Whether a new log here gives one up that a start would put in the place of newer data of the server's own.
    pub(super) fn is_older_than_own_file(&self, ctx: Ctx<'_>) -> bool {
        let has_log = self.folder().is_some_and(|folder| !folder.is_empty() && !folder.is_superseded());
        has_log
            && match self.origin {
                Origin::Unknown => server::has_own_file(ctx),
                Origin::Folder => self.alone.is_some_and(|alone| alone.is_saved(ctx)),
            }
    }

    /// The server has taken its primary's dataset, or saved its own. Has a thread mark the log, so that no later start
    /// falls back to it; nobody waits for that.
    pub(super) fn supersede(&mut self) {
        self.origin = Origin::Folder;
        self.place = match std::mem::replace(&mut self.place, Place::Moving) {
            Place::Here(folder) if !folder.is_empty() && !folder.is_superseded() => mark(folder),
            Place::Unmarked { folder, .. } => mark(folder),
            other => other,
        };
    }

    /// Looks whether the log is to be marked, and after a mark that is being made or that failed.
    pub(super) fn poll(&mut self, ctx: Ctx<'_>) {
        if self.alone.as_mut().is_some_and(|alone| alone.look(ctx)) {
            self.alone = None;
            self.supersede();
        }
        match &self.place {
            Place::Marking(thread) if thread.is_finished() => {}
            Place::Unmarked { try_at, .. } if Instant::now() >= *try_at => return self.supersede(),
            _ => return,
        }
        self.place = match std::mem::replace(&mut self.place, Place::Moving) {
            Place::Marking(thread) => ended(thread),
            other => other,
        };
    }

    /// The folder, at once when nothing is being done to it. `None` when the thread that had it has panicked.
    pub(super) fn into_folder(self) -> Option<LogFolder> {
        let place = match self.place {
            Place::Marking(thread) => ended(thread),
            other => other,
        };
        match place {
            Place::Here(folder) | Place::Unmarked { folder, .. } => Some(*folder),
            Place::Marking(_) | Place::Lost(_) | Place::Moving => None,
        }
    }

    /// Gives the folder up, as it could not be used; what is known of it is kept.
    pub(super) fn lose(self) -> Rest {
        let (origin, lost) = (self.origin, self.generation());
        let held = self.into_folder();
        Rest { place: Place::Lost(held.as_ref().map_or(lost, LogFolder::generation)), origin, alone: None }
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.place, Place::Lost(_) | Place::Moving)
    }

    /// Opens a lost folder again, whatever has become of it since: what was wrong with it may have been mended.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub(super) fn reopen(self) -> Result<Rest, (String, Rest)> {
        let (origin, generation) = (self.origin, self.generation());
        match open_folder(Duration::ZERO) {
            Ok(opened) => {
                // Another server may have had it meanwhile.
                let origin = if opened.generation() == generation { origin } else { Origin::Unknown };
                Ok(Rest::new(opened.into_folder(), origin))
            }
            Err(reason) => Err((reason, Rest { place: Place::Lost(generation), origin, alone: None })),
        }
    }

    /// The server ends: marks the log where that is still owed, or where the server's own files hold what came since.
    pub(super) fn end(self, ctx: Ctx<'_>) {
        let saved = |alone: Alone| alone.is_saved(ctx) || server::has_own_aof(ctx);
        let owed = self.is_superseded() || self.alone.is_some_and(saved);
        if let Some(mut folder) = self.into_folder()
            && owed
            && let Err(error) = folder.supersede()
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

fn mark(folder: Box<LogFolder>) -> Place {
    let (sender, receiver) = bounded::<Box<LogFolder>>(1);
    let work = move || {
        let mut folder = receiver.recv().ok()?;
        points::reach(Point::Supersedes);
        let marked = folder.supersede();
        points::reach(Point::Superseded);
        Some((folder, marked))
    };
    let try_at = Instant::now() + MARK_RETRY;
    match std::thread::Builder::new().name("wbl-mark".into()).spawn(work) {
        Ok(thread) => match sender.send(folder) {
            Ok(()) => Place::Marking(thread),
            Err(unsent) => Place::Unmarked { folder: unsent.into_inner(), try_at },
        },
        Err(_) => Place::Unmarked { folder, try_at },
    }
}

/// A thread that marks the log, and gives the folder back.
type Marking = JoinHandle<Option<(Box<LogFolder>, Result<(), LogError>)>>;

fn ended(thread: Marking) -> Place {
    match thread.join() {
        Ok(Some((folder, Ok(())))) => {
            log(Level::Notice, "the folder's log is superseded: the server's data are newer");
            Place::Here(folder)
        }
        Ok(Some((folder, Err(error)))) => {
            tell_unmarked(&error);
            Place::Unmarked { folder, try_at: Instant::now() + MARK_RETRY }
        }
        Ok(None) | Err(_) => Place::Moving,
    }
}

fn tell_unmarked(error: &LogError) {
    log(
        Level::Warning,
        &format!("the folder's log can't be marked as superseded; a start before it is would bring it back: {error}"),
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
        "the log in {} was superseded when the server took its primary's dataset, and the server has no data of its own: start it as a replica of a server that has, or set wbl.on-existing-log to replace to begin with an empty dataset",
        shown(folder)
    )
}
