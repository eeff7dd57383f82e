//! What a log keeps besides itself: the history that its bases have replaced, and room for its next base.

use super::Flusher;
use crate::log::storage::Storage;
use crate::log::thread::files::Task;
use crate::log::write::WantedReserve;

impl<S: Storage> Flusher<S> {
    /// Sets whether to keep what bases replace from now on.
    pub fn keep_history(&self, keeps: bool) {
        self.expendable.history.set_keeps(keeps);
    }

    /// Has kept history given up later that is older than this time or takes more bytes.
    pub fn trim_history(&self, since_unix_ms: u64, bytes_max: u64) {
        self.send(Task::TrimHistory(since_unix_ms, bytes_max));
    }

    /// Bytes of kept history, and the first moment that it has; zeros where there is none.
    pub fn history_extent(&self) -> (u64, u64) {
        self.expendable.history.extent()
    }

    /// Whether it is known that no history is kept.
    pub fn is_history_gone(&self) -> bool {
        self.expendable.history.is_gone()
    }

    /// Why something that should have been kept was not; reported once.
    pub fn take_history_failure(&self) -> Option<String> {
        self.expendable.history.take_failure()
    }

    /// Bytes that are held for the next base.
    pub fn reserve_bytes(&self) -> u64 {
        self.expendable.reserve.bytes()
    }

    /// Has this much reserved later for the next base, or what there is room for.
    pub fn keep_reserve(&self, wanted: WantedReserve) {
        if self.expendable.reserve.begin_change() {
            self.send(Task::KeepReserve(wanted));
        }
    }

    /// Whether the log has taken the room that was held for the next base because the disk is full. True until as much
    /// is held again.
    pub fn is_short_of_room(&self) -> bool {
        self.expendable.reserve.is_short()
    }

    /// What has failed for lack of room.
    pub fn shortage(&self) -> Option<String> {
        if self.is_short_of_room() { self.expendable.reserve.shortage() } else { None }
    }
}
