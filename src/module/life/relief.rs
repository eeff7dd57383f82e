//! Checkpoints for lack of room: writes are refused, or the log has taken the room of the next base. One begins as soon
//! as it may free anything. If it has freed next to nothing, the next one is put off, for longer each time.

use crate::machine;
use crate::module::gate::GatedStorage;
use crate::module::{config, shortage};
use std::time::Duration;

/// The log, for the room that there is.
type Log = crate::log::Flusher<GatedStorage>;

/// After a checkpoint that has not helped the next one is put off by this; twice as long after each further one.
const PUT_OFF_MIN: Duration = Duration::from_secs(1);

/// And by this at most.
pub(super) const PUT_OFF_MAX: Duration = Duration::from_secs(60);

/// A checkpoint that frees less than this part of the bound has not helped.
const HELPS_PART: u64 = 64;

/// A dataset that has lost this part of its memory gets a smaller base.
const SMALLER_PART: u64 = 16;

/// How often the server is asked what the dataset takes in memory.
const LOOK_EVERY_US: u64 = 1_000_000;

/// What is known of the room that a checkpoint would make.
#[derive(Debug, Default)]
pub(in crate::module) struct Relief {
    /// The largest write that was refused since a base was begun.
    refused: Option<u64>,
    /// The largest write that was refused and for which there has been no room since.
    unmet: u64,
    /// What a write needed that was refused before.
    needed: u64,
    /// How many bases have been begun while there was too little room.
    tries: u32,
    /// What the dataset took in memory when the last base was begun, where one was.
    memory: Option<u64>,
    /// It takes less now.
    is_smaller: bool,
    look_us: u64,
}

impl Relief {
    /// A write of this size is refused for lack of room.
    pub(in crate::module) fn refused(&mut self, bytes: u64) {
        if shortage::may_ever_fit(bytes) {
            self.refused = Some(self.refused.unwrap_or(0).max(bytes));
            self.unmet = self.unmet.max(bytes);
        }
    }

    /// How large a write was that there has been no room for, also while a base is written that may make some, and
    /// after one that has not; 0 if there is none.
    pub(in crate::module) fn refused_bytes(&self) -> u64 {
        self.unmet
    }

    /// Whether there is no room for a write that was refused, or for any.
    pub(super) fn is_wanted(&self, log: &Log) -> bool {
        shortage::is_out_of_room(log, self.refused.unwrap_or(0))
    }

    /// Whether a base may make room: something was logged since the last one, or the dataset has become smaller.
    pub(super) fn may_help(&self, log: &Log) -> bool {
        self.is_wanted(log) && (log.statistics().bytes_since_base() > 0 || self.is_smaller)
    }

    /// For how long after the last base none is begun for lack of room.
    pub(super) fn put_off(&self) -> Duration {
        match self.tries.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => PUT_OFF_MIN.saturating_mul(1 << doublings.min(20)).min(PUT_OFF_MAX),
        }
    }

    /// Whether to ask the server what the dataset takes in memory.
    pub(in crate::module) fn looks(&mut self) -> bool {
        let now_us = machine::monotonic_us();
        let looks = self.refused.is_some() && !self.is_smaller && now_us >= self.look_us;
        if looks {
            self.look_us = now_us.saturating_add(LOOK_EVERY_US);
        }
        looks
    }

    /// The dataset takes this much memory.
    pub(in crate::module) fn look(&mut self, memory: Option<u64>) {
        let Some(memory) = memory else { return };
        if self.memory.is_none_or(|before| memory < before - before / SMALLER_PART) {
            self.is_smaller = true;
            self.tries = 0;
        }
    }

    /// A base is begun.
    pub(super) fn begin(&mut self, log: &Log, memory: Option<u64>) {
        if self.is_wanted(log) {
            self.tries = self.tries.saturating_add(1);
        }
        self.needed = self.refused.take().unwrap_or(0);
        self.memory = memory;
        self.is_smaller = false;
    }

    /// No base is being written: checks whether the last one has helped.
    pub(super) fn settle(&mut self, log: &Log) {
        if !self.is_wanted(log) {
            self.refused = None;
            self.is_smaller = false;
        }
        let helps = config::max_log_bytes().map_or(0, |bound| bound / HELPS_PART);
        if self.tries > 0 && !shortage::is_out_of_room(log, self.needed.max(helps)) {
            self.tries = 0;
        }
        if !shortage::is_out_of_room(log, self.unmet) {
            self.unmet = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_base_that_does_not_help_puts_off_the_next_up_to_a_minute() {
        let mut relief = Relief::default();
        for expected in [0, 1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(relief.put_off(), Duration::from_secs(expected));
            relief.tries += 1;
        }
        relief.tries = u32::MAX;
        assert_eq!(relief.put_off(), PUT_OFF_MAX);
    }

    #[test]
    fn a_dataset_that_has_become_smaller_is_worth_a_base_at_once() {
        let mut relief = Relief { memory: Some(1600), tries: 5, refused: Some(1), ..Relief::default() };
        relief.look(None);
        relief.look(Some(1500));
        assert!(!relief.is_smaller && relief.looks() && !relief.looks());
        relief.look(Some(1499));
        assert!(relief.is_smaller && relief.put_off() == Duration::ZERO);
        let mut never = Relief::default();
        never.look(Some(5));
        assert!(never.is_smaller, "no base was begun since the start");
    }
}
