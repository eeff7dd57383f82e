//! Whether data are safe now, in words: what the state is, and what to do about it.

use crate::module::config::{self, Setting, value};
use crate::module::{Module, State};

/// How long a change may wait for the disk before that is reported, in milliseconds.
const SLOW_MS: u64 = 1000;

/// What is reported to an operator.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Safety {
    /// All that is acknowledged survives a crash.
    pub(super) is_safe: bool,
    /// What the state is.
    pub(super) why: String,
    /// What to do; empty when there is nothing to do.
    pub(super) advice: String,
}

impl Safety {
    fn new(is_safe: bool, why: impl Into<String>, advice: impl Into<String>) -> Safety {
        Safety { is_safe, why: why.into(), advice: advice.into() }
    }
}

impl Module {
    /// Whether data are safe now. `lag_ms`: how long the oldest change has waited.
    pub(super) fn safety(&self, lag_ms: u64) -> Safety {
        let failure = self.life.failure().unwrap_or_default();
        match self.life.state() {
            State::Active => self.safety_of_log(lag_ms),
            State::Starting | State::Recovering => Safety::new(false, "the log is being brought back", "wait"),
            State::Baselining => match self.bases.failure() {
                Some(reason) => Safety::new(
                    false,
                    format!("the first base could not be written ({reason}); until there is one nothing is kept"),
                    "mend that; it is tried again by itself, and at once by WBL.CHECKPOINT",
                ),
                None => Safety::new(
                    false,
                    "the first base is being written; until it is there nothing is kept",
                    "wait for wbl_state:active (WBL.WAIT)",
                ),
            },
            State::Disabled if failure.is_empty() => {
                Safety::new(false, "wbl.enabled is no: nothing is logged", "CONFIG SET wbl.enabled yes")
            }
            State::Disabled => Safety::new(
                false,
                format!("the log was given up: {failure}"),
                "mend that, then CONFIG SET wbl.enabled no and CONFIG SET wbl.enabled yes",
            ),
            State::Replica => self.safety_of_replica(),
            State::Failing => Safety::new(
                false,
                format!("writes are refused because there is no log: {failure}"),
                if self.life.tries_again() {
                    "mend that; it is tried again by itself"
                } else {
                    "mend that, then CONFIG SET wbl.enabled no and CONFIG SET wbl.enabled yes"
                },
            ),
            State::Closed => Safety::new(true, "the log is closed, with all that was acknowledged", ""),
        }
    }

    /// The same on a replica: whether a start would bring back what it has.
    fn safety_of_replica(&self) -> Safety {
        let trouble = || self.log()?.log().trouble();
        if !config::logs_replicas() {
            return Safety::new(
                false,
                "wbl.replica-log is no: what the replica has is in its primary's log",
                "look at the primary; start the primary first after a power loss",
            );
        }
        match (self.life.replica_log(), self.bases.failure()) {
            ("written", _) => match trouble() {
                None => Safety::new(true, "the replica logs what its primary sends", ""),
                Some(trouble) => Safety::new(
                    false,
                    format!("the replica's disk fails, so that its log stays behind what its primary sends: {trouble}"),
                    "repair the disk; the log continues by itself, without a restart",
                ),
            },
            (_, Some(reason)) => Safety::new(
                false,
                format!("the replica has no log of what is in memory ({reason}); what it has is in its primary's log"),
                "mend that; it is tried again by itself",
            ),
            ("baselining", None) => Safety::new(
                false,
                "the replica's first base is being written; until it is there a start finds the log from before",
                "wait for wbl_replica_log:written",
            ),
            _ => Safety::new(
                false,
                "the replica waits for its primary's data; its log begins with them",
                "look at the primary, and at the link to it (INFO replication)",
            ),
        }
    }

    /// The same while the log is active: what is acknowledged is on the disk, whatever the disk does now.
    fn safety_of_log(&self, lag_ms: u64) -> Safety {
        let Some(log) = self.log() else { return Safety::new(false, "there is no log", "") };
        if log.log().durable() < self.life.taken_over() {
            return Safety::new(
                false,
                "what the former primary has acknowledged is not all on this server's disk, which has not answered yet",
                "let the server run, and look at the disk",
            );
        }
        if let Some(trouble) = self.disk_trouble() {
            return Safety::new(
                true,
                format!("all that is acknowledged is on the disk, but the disk fails and writes wait: {trouble}"),
                "repair the disk; the log continues by itself, without a restart",
            );
        }
        if let Some(refusal) = self.no_room() {
            return Safety::new(
                true,
                format!("all that is acknowledged is on the disk, but writes are refused: {refusal}"),
                "make room, or raise wbl.max-log-bytes; a checkpoint makes room by itself",
            );
        }
        if self.paused {
            return Safety::new(true, "WBL.DEBUG PAUSE is on: nothing is acknowledged", "WBL.DEBUG RESUME");
        }
        if lag_ms >= SLOW_MS {
            return Safety::new(
                true,
                format!("all that is acknowledged is on the disk, which is slow: a write has waited for {lag_ms} ms"),
                "look at LATENCY HISTORY wbl-fsync, wbl_flush_p99_usec and what else uses the disk",
            );
        }
        if let Some(reason) = self.bases.failure() {
            return Safety::new(
                true,
                format!("all that is acknowledged is on the disk, but the last checkpoint failed: {reason}"),
                "the log grows until one succeeds: mend that, then WBL.CHECKPOINT",
            );
        }
        if value(Setting::CheckpointPercentage) == 0 && !config::bounds_log() {
            return Safety::new(
                true,
                "all that is acknowledged is on the disk; no checkpoint begins by itself",
                "call WBL.CHECKPOINT now and then, or set wbl.checkpoint-percentage",
            );
        }
        Safety::new(true, "all that is acknowledged is on the disk", "")
    }
}
