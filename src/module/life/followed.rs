//! What is known of the primary that a replica's log follows. How it comes to be known: `module/following.rs`.

use super::state::{Logging, Visible};
use crate::core::followed::Followed;
use crate::ffi::Ctx;
use crate::log::{Left, Lsn, OutsideMark, Standing};
use crate::machine::unix_ms;
use crate::module::{config, listed, server};

/// A log that has been behind for so long, in milliseconds, counts as left until it has caught up.
const BEHIND_MS: u64 = 1000;

/// The note of a log that was left at a time for which nobody has looked at the server's own files.
const NO_FILES: &str = "none";

/// The log of a server that follows a primary.
#[derive(Debug)]
pub(crate) struct Following {
    pub(in crate::module) followed: Followed,
    /// How many of the primary's commands the server had refused when last asked.
    pub(in crate::module) errors: Option<u64>,
    /// That count may have been set back.
    pub(in crate::module) may_be_reset: bool,
    /// Something was logged since.
    pub(in crate::module) has_logged: bool,
    /// Other clients may write.
    pub(in crate::module) is_writable: bool,
    lag: Lag,
}

/// How far the disk is behind what is followed.
#[derive(Debug)]
struct Lag {
    /// All that was followed up to then is on the disk; Unix milliseconds.
    complete_ms: u64,
    /// When the log had which end.
    sample: Option<(u64, Lsn)>,
    /// The position that it would have to reach to count for more than that.
    told: Option<Lsn>,
}

impl Following {
    /// The log follows from here on. What the primary has sent before is not in it.
    pub(super) fn begin(ctx: Ctx<'_>) -> Following {
        let mut followed = Followed::default();
        if let Some(primary) = listed::primary(ctx) {
            followed.meet(primary.client, primary.db);
        }
        Following {
            followed,
            errors: server::refused_of_primary(ctx),
            may_be_reset: false,
            has_logged: false,
            is_writable: server::is_writable_replica(ctx),
            lag: Lag::begin(unix_ms()),
        }
    }

    /// Whether other clients may write.
    pub(super) fn set_writable(&mut self, is_writable: bool) {
        self.is_writable = is_writable;
    }

    /// The link to the primary is down.
    pub(super) fn link_down(&mut self) {
        self.followed.link_down();
    }
}

impl Lag {
    fn begin(now_ms: u64) -> Lag {
        Lag { complete_ms: now_ms, sample: None, told: None }
    }

    /// The log has these positions now, and is left before more than `pending_max` bytes wait. Returns a position that
    /// it can't reach before it has caught up, where it has been behind for long.
    fn behind(&mut self, flushed: Lsn, appended: Lsn, pending_max: u64, now_ms: u64) -> Option<Lsn> {
        match self.sample {
            Some((_, end)) if flushed < end => {}
            Some((sampled_ms, _)) => {
                self.complete_ms = if flushed >= appended { now_ms } else { sampled_ms };
                self.sample = Some((now_ms, appended));
            }
            None => self.sample = Some((now_ms, appended)),
        }
        let beyond = |bytes| appended.checked_advance(bytes).unwrap_or(Lsn::LIMIT);
        if now_ms.saturating_sub(self.complete_ms) < BEHIND_MS {
            self.told = None;
        } else if self.told.is_none_or(|told| told < beyond(pending_max)) {
            self.told = Some(beyond(pending_max.saturating_mul(2)));
        }
        self.told
    }
}

impl Logging {
    /// The mark of a replica's log that its disk does not keep up with, for the server's own folder.
    pub(super) fn behind(&mut self) -> Option<OutsideMark> {
        let Visible::Yes = self.visible else { return None };
        let (log, lag) = (self.log.log(), &mut self.following.as_mut()?.lag);
        let before = lag.behind(log.flushed(), log.appended(), config::max_pending_bytes(), unix_ms())?;
        Some(self.left_before(before))
    }

    /// The mark of a log that counts for all that was followed only if it reaches this position.
    fn left_before(&self, before: Lsn) -> OutsideMark {
        OutsideMark { generation: self.log.log().generation(), before: Some(before), standing: self.complete() }
    }

    /// The server becomes a primary, and the log goes on: what the server's own folder is to say of it as soon as
    /// somebody may rely on the log, if that says anything. A log with anything that was acknowledged since has all that
    /// is in memory now.
    pub(super) fn promoted(&self) -> OutsideMark {
        self.left_before(self.log.log().appended())
    }

    /// What the log counts for where what is not on the disk yet never gets there: the server's own files of a later
    /// time are newer.
    pub(super) fn complete(&self) -> Standing {
        let complete_ms = self.following.as_ref().map_or_else(unix_ms, |following| following.lag.complete_ms);
        Left::new(complete_ms, NO_FILES).map_or(Standing::Current, Standing::Left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_behind_whose_disk_has_not_caught_up_for_long() {
        let at = Lsn::new;
        let mut lag = Lag::begin(10_000);
        // Under load something is always on its way.
        for step in 1..100 {
            assert_eq!(lag.behind(at(10 * step), at(10 * step + 5), 1_000, 10_000 + 100 * step), None);
        }
        assert!(lag.complete_ms >= 19_700, "{lag:?}");
        let complete_ms = lag.complete_ms;
        // It stops. No position that it has by then is far enough.
        assert_eq!(lag.behind(at(990), at(1_500), 1_000, 20_500), None);
        assert_eq!(lag.behind(at(990), at(1_600), 1_000, 21_000), Some(at(3_600)));
        assert_eq!(lag.behind(at(990), at(1_900), 1_000, 22_000), Some(at(3_600)));
        assert_eq!(lag.complete_ms, complete_ms);
        // It goes on, slowly.
        assert_eq!(lag.behind(at(1_550), at(2_800), 1_000, 23_000), Some(at(4_800)));
        assert_eq!(lag.behind(at(2_800), at(2_800), 1_000, 23_100), None);
        assert_eq!(lag.complete_ms, 23_100);
        assert_eq!(lag.behind(at(2_800), at(2_900), u64::MAX, 25_000), Some(Lsn::LIMIT));
    }
}
