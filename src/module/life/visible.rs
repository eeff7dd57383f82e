//! Whether a start would find the log, from its beginning to its first base.
//!
//! Before that, nothing is withheld and nothing promised: what there was before counts. From the moment in which the
//! manifest names the base the log counts, and must have all that anybody was shown. That moment is the disk's, on
//! another thread, so withholding begins before it.

use super::descent::Descent;
use crate::log::LogError;
use crate::module::release::Waiting;
use crossbeam::channel::Receiver;
use std::time::Duration;

/// Whether a start would find the log.
pub(crate) enum Visible {
    /// Not before its first base is in place: nothing is withheld, nothing is promised.
    WithItsBase(Pending),
    /// At any moment: the base is being named. What was executed before is durable by then; replies to what is executed
    /// since wait, and no position is published before it is known what has come of it.
    Soon { pending: Pending, named: Receiver<Result<(), LogError>> },
    /// It would: what is durable in it may be acknowledged.
    Yes,
}

/// A log that waits for its first base.
pub(crate) struct Pending {
    /// Who waits for that.
    pub(super) waiting: Vec<Waiting>,
    /// Where the dataset came from when the log began.
    pub(super) descent: Descent,
    pub(super) if_lost: IfLost,
}

/// What becomes of the server when a log fails that no start would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfLost {
    /// It serves on as before the log was asked for: nothing was promised.
    ServesOn,
    /// It refuses writes: it took over from a primary that kept what it acknowledged.
    RefusesWrites,
}

impl Visible {
    pub(super) fn with_its_base(descent: Descent, if_lost: IfLost) -> Visible {
        Visible::WithItsBase(Pending { waiting: Vec::new(), descent, if_lost })
    }

    /// How soon, at the latest, the next base is begun automatically after one that failed.
    pub(super) fn longest_retry(&self) -> Duration {
        match self {
            // Nothing is promised before.
            Visible::WithItsBase(_) | Visible::Soon { .. } => Duration::from_secs(60),
            Visible::Yes => Duration::from_secs(3600),
        }
    }

    /// Replies wait.
    pub(super) fn withholds(&self) -> bool {
        match self {
            Visible::WithItsBase(_) => false,
            Visible::Soon { .. } | Visible::Yes => true,
        }
    }

    pub(super) fn pending(&self) -> Option<&Pending> {
        match self {
            Visible::WithItsBase(pending) | Visible::Soon { pending, .. } => Some(pending),
            Visible::Yes => None,
        }
    }

    pub(super) fn pending_mut(&mut self) -> Option<&mut Pending> {
        match self {
            Visible::WithItsBase(pending) | Visible::Soon { pending, .. } => Some(pending),
            Visible::Yes => None,
        }
    }

    pub(super) fn into_pending(self) -> Option<Pending> {
        match self {
            Visible::WithItsBase(pending) | Visible::Soon { pending, .. } => Some(pending),
            Visible::Yes => None,
        }
    }

    /// Reports what has come of the base that is being named.
    pub(super) fn named(&self) -> Option<&Receiver<Result<(), LogError>>> {
        match self {
            Visible::Soon { named, .. } => Some(named),
            Visible::WithItsBase(_) | Visible::Yes => None,
        }
    }

    /// The base is about to be named.
    pub(super) fn begin_naming(&mut self, named: Receiver<Result<(), LogError>>) {
        *self = match std::mem::replace(self, Visible::Yes) {
            Visible::WithItsBase(pending) => Visible::Soon { pending, named },
            other => other,
        };
    }

    /// It is, and the log is visible; or it is not, and another one is needed. Returns who has waited for it.
    pub(super) fn end_naming(&mut self, is_named: bool) -> Vec<Waiting> {
        match std::mem::replace(self, Visible::Yes) {
            Visible::Soon { pending, .. } if !is_named => {
                *self = Visible::WithItsBase(pending);
                Vec::new()
            }
            Visible::Soon { pending, .. } => pending.waiting,
            other => {
                *self = other;
                Vec::new()
            }
        }
    }

    /// Takes out those who wait for the base.
    pub(super) fn take_waiting(&mut self) -> Vec<Waiting> {
        self.pending_mut().map_or_else(Vec::new, |pending| std::mem::take(&mut pending.waiting))
    }
}
