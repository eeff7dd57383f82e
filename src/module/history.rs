//! What checkpoints have replaced is kept for a while (`wbl.keep-history-seconds`).

use crate::ffi::{Level, log};
use crate::machine;
use crate::machine::unix_ms;
use crate::module::{Module, config, shortage, with};

/// How often to check what is too old or takes too much.
const LOOK_EVERY_US: u64 = 1_000_000;

/// When to check next.
#[derive(Debug, Default)]
pub(super) struct History {
    look_us: u64,
}

/// Makes the log keep what is wanted, and no more.
pub(super) fn watch() {
    if let Some(Some(failure)) = with(Module::keep_history) {
        log(Level::Warning, &format!("the checkpoint's predecessor is not kept (wbl.keep-history-seconds): {failure}"));
    }
}

impl Module {
    /// Returns why something was not kept.
    fn keep_history(&mut self) -> Option<String> {
        let seconds = config::keep_history_seconds();
        let release = self.log()?;
        let log = release.log();
        log.keep_history(seconds > 0);
        if seconds == 0 && log.is_history_gone() {
            return None;
        }
        let now_us = machine::monotonic_us();
        if now_us < self.history.look_us {
            return None;
        }
        let since_unix_ms =
            if seconds == 0 { u64::MAX } else { unix_ms().saturating_sub(seconds.saturating_mul(1000)) };
        let left = |bound: u64| bound.saturating_sub(shortage::taken(log));
        log.trim_history(since_unix_ms, config::max_log_bytes().map_or(u64::MAX, left));
        let failure = log.take_history_failure();
        self.history = History { look_us: now_us.saturating_add(LOOK_EVERY_US) };
        failure
    }
}
