//! What is known about where the dataset in memory comes from. It outlives the handle of the log's folder: whatever
//! becomes of that, another's data are never taken for this server's.

use super::opening::LogFolder;
use crate::log::{Generation, LogError, LogState};
use crate::module::config;
use crate::module::gate::GatedStorage;

/// Where the dataset in memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From what the folder holds: it was recovered from there, or written there by this process, and has gone on
    /// since.
    Folder,
    /// A primary has sent it whole, to replace what the folder holds.
    Sent,
    /// From files of the server's own that are older than the folder's log, which has been superseded since.
    Older,
    /// It is less than the folder's log holds: the server was started as a replica that brings none back, or has
    /// emptied it for a dataset that has not arrived. What clients have written there since changes nothing.
    Lacking,
    /// From elsewhere, or unknown.
    Unknown,
}

impl Origin {
    /// Whether a log of what is in memory may take the place of what the folder holds.
    pub(super) fn continues(self) -> bool {
        matches!(self, Origin::Folder | Origin::Sent)
    }
}

/// What the folder may hold if nobody else has had it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// This log, or none. Memory comes from it as far as [`Origin`] says.
    Log(Option<LogState>),
    /// A log that this process has written, up to an unknown position, and where memory comes from if it is there.
    Own(Generation, Origin),
}

/// Where the dataset in memory comes from, and for which logs that is known.
#[derive(Clone, Debug)]
pub(super) struct Descent {
    origin: Origin,
    held: Vec<Held>,
}

impl Descent {
    /// Nothing is known: the folder has not been opened.
    pub(super) fn unknown() -> Descent {
        Descent { origin: Origin::Unknown, held: Vec::new() }
    }

    pub(super) fn of(folder: &LogFolder, origin: Origin) -> Descent {
        Descent { origin, held: vec![Held::Log(folder.log_state())] }
    }

    /// Memory comes from this log alone.
    pub(super) fn from(log: LogState) -> Descent {
        Descent { origin: Origin::Folder, held: vec![Held::Log(Some(log))] }
    }

    /// This process writes a log of what is in memory, which may replace the one before.
    pub(super) fn or_own(mut self, generation: Generation) -> Descent {
        self.held.push(Held::Own(generation, Origin::Folder));
        self
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether the folder has never been opened.
    pub(super) fn is_unknown(&self) -> bool {
        self.held.is_empty()
    }

    /// What is in memory has changed.
    pub(super) fn set_origin(&mut self, now: Origin) {
        self.origin = now;
        for held in &mut self.held {
            if let Held::Own(_, origin) = held {
                *origin = now;
            }
        }
    }

    /// The log that is known to be there.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.held.iter().find_map(|held| match held {
            Held::Log(log) => log.map(|log| log.generation),
            Held::Own(..) => None,
        })
    }

    /// The same of a folder that nobody else has had: it may hold the log before, or the one that has begun since.
    pub(super) fn origin_in(&self, folder: &LogFolder) -> Origin {
        self.origin_with(folder.log_state()).unwrap_or(self.origin)
    }

    /// What memory is to the log that was found in the folder. `None` where another server has gone on with it.
    pub(super) fn origin_with(&self, found: Option<LogState>) -> Option<Origin> {
        self.held.iter().find_map(|held| match held {
            Held::Log(log) if *log == found => Some(self.origin),
            Held::Own(generation, origin) if found.is_some_and(|found| found.generation == *generation) => {
                Some(*origin)
            }
            Held::Log(_) | Held::Own(..) => None,
        })
    }
}

fn shown(folder: &GatedStorage) -> String {
    folder.path("").display().to_string()
}

/// The refusal for a server whose data are not those of the folder.
pub(super) fn holds_another(folder: &GatedStorage) -> String {
    format!(
        "the folder {} holds the log of another dataset than the server does: restart the server to bring that one back, empty the folder, or set wbl.on-existing-log to replace",
        shown(folder)
    )
}

/// The refusal to leave the log of a server that has less.
pub(super) fn holds_more() -> String {
    "the server has less than its log holds, and what it went on with would replace that: restart it as a primary to bring the log back, or set wbl.on-existing-log to replace to give the log up".into()
}

/// The refusal to serve what is less than the log, while its mark can't say so.
pub(super) fn has_less(folder: &GatedStorage, error: &LogError) -> String {
    format!(
        "the server has less than the log in {} holds, and does not serve it before that is noted there: {error}. Make the folder writable, or room on its disk, and try again; or set wbl.dir to another folder to go on without that log",
        shown(folder)
    )
}

/// The refusal for a primary that has a superseded log and nothing to replace it.
pub(super) fn superseded(folder: &LogFolder, has_data: bool) -> String {
    let keeps = config::keeps_existing_log();
    let lacking = match (keeps, has_data) {
        (true, _) => "wbl.on-existing-log is keep",
        (false, true) => "the server's own data are older than the log, or less",
        (false, false) => "the server has no data of its own",
    };
    let keep = if keeps { "restart it as a primary" } else { "set wbl.on-existing-log to keep" };
    format!(
        "the log in {} was superseded by a primary's dataset or by what the server saved later, and {lacking}: start it as a replica of a server that has newer data, or {keep} to bring the log back at its start, which is intact but lacks what was acknowledged elsewhere since, or set wbl.on-existing-log to replace to go on with what the server has now",
        shown(folder.storage())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Lsn;

    fn state(counter: u64, end: u64) -> LogState {
        LogState { generation: Generation { counter, random: 7 }, end: Lsn::ZERO.advance(end) }
    }

    #[test]
    fn a_log_that_somebody_went_on_with_is_not_known() {
        for origin in [Origin::Folder, Origin::Sent, Origin::Older, Origin::Lacking, Origin::Unknown] {
            let descent = Descent { origin, held: vec![Held::Log(Some(state(3, 10)))] };
            assert_eq!(descent.origin_with(Some(state(3, 10))), Some(origin));
            for other in [Some(state(3, 11)), Some(state(4, 10)), None] {
                assert_eq!(descent.origin_with(other), None);
            }
            let descent = descent.or_own(state(4, 0).generation);
            assert_eq!(descent.origin_with(Some(state(3, 10))), Some(origin));
            assert_eq!(descent.origin_with(Some(state(4, 99))), Some(Origin::Folder));
            assert_eq!(descent.origin_with(Some(state(5, 10))), None);
            assert_eq!(descent.generation(), Some(state(3, 10).generation));
            let mut emptied = descent;
            emptied.set_origin(Origin::Lacking);
            assert_eq!(emptied.origin_with(Some(state(4, 99))), Some(Origin::Lacking));
        }
        let sent = Descent { origin: Origin::Sent, held: vec![Held::Log(Some(state(3, 10)))] };
        let sent = sent.or_own(state(4, 0).generation);
        assert_eq!(sent.origin_with(Some(state(3, 10))), Some(Origin::Sent), "the log that gives way to it");
        assert_eq!(sent.origin_with(Some(state(4, 99))), Some(Origin::Folder), "its own log");
        assert_eq!(Descent::unknown().origin_with(None), None);
        assert_eq!(Descent::unknown().origin_with(Some(state(1, 0))), None);
    }
}
