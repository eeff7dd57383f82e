//! MODULE LOADEX may fail after the module has been loaded: the server unloads it at once if a setting in the command
//! belongs to nobody. Everything is then as it was before.

use super::end::stop;
use super::marking::tell_unmarked;
use super::opening::OpenedFolder;
use super::own_file::Child;
use super::state::Life;
use crate::ffi::{Ctx, Level, log};
use crate::log::{Generation, Standing};
use crate::module::{recovery, server, with};

/// What a module that is loaded into a running server found.
pub(crate) struct Arrival {
    /// The folder's log, and what it counted for.
    log: Option<(Generation, Standing)>,
    has_data: bool,
    /// It brings a log back, and the server serves others meanwhile.
    pub(super) recovers: bool,
}

impl Arrival {
    pub(super) fn new(opened: &OpenedFolder, has_data: bool) -> Arrival {
        let log = opened.generation().zip(opened.standing().cloned());
        let recovers = !has_data && !opened.is_empty() && !opened.is_superseded();
        Arrival { log, has_data, recovers }
    }
}

/// Another module comes or goes, so that this one has been loaded. The server does not report that itself.
pub(crate) fn arrived() {
    with(|module| module.arrival = None);
}

/// What is still to be undone of a module's arrival.
pub(super) fn take_arrival() -> Option<Arrival> {
    with(|module| module.arrival.take()).flatten()
}

/// Closes the log, which counts again for what it did before.
pub(super) fn take_back(ctx: Ctx<'_>, arrival: &Arrival) {
    let stopped = stop(ctx);
    let rest = with(|module| {
        let rest = module.life.take_rest();
        module.life = Life::Closed;
        rest
    });
    let Some(rest) = stopped.or(rest.flatten()) else { return };
    match (rest.into_folder(ctx), &arrival.log) {
        (Ok(mut folder), Some((generation, standing))) if folder.generation() == Some(*generation) => {
            if let Err(error) = folder.mark_anew(standing.clone()) {
                tell_unmarked(&error);
            }
        }
        (Ok(_), _) => {}
        (Err(mut rest), _) => {
            // It has told what it can't note, and the module goes all the same.
            let _ = rest.end(ctx, false, Child::Unwatched);
        }
    }
}

/// Gives up what was recovered into a server that had no data. Nothing of the module listens any more.
pub(super) fn give_up_data(ctx: Ctx<'_>, arrival: &Arrival) {
    if arrival.has_data || !server::has_data(ctx) {
        return;
    }
    match recovery::empty_dataset(ctx) {
        Ok(()) => {
            log(Level::Notice, "the server unloads the module: what was recovered is given up, and stays in the log")
        }
        Err(reason) => log(Level::Warning, &reason),
    }
}
