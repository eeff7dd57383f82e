//! The server's count of error replies, which shows whether a command of an EXEC has failed. Reading it costs more than
//! a short EXEC.

/// Once the count has moved, it is also read before each of this many EXECs.
const READ_BEFORE: u32 = 1000;

/// What is known of the count.
#[derive(Debug, Default)]
pub(super) struct ErrorReplies {
    /// Its value when last read: if it is the same later, it has not moved. Only CONFIG RESETSTAT makes it less.
    last: Option<u64>,
    read_before: u32,
}

impl ErrorReplies {
    /// A value that it had before now.
    pub(super) fn before(&mut self, read: impl FnOnce() -> Option<u64>) -> Option<u64> {
        if self.last.is_none() || self.read_before > 0 {
            self.read_before = self.read_before.saturating_sub(1);
            self.last = read();
        }
        self.last
    }

    /// The count after what ran from `before` on.
    pub(super) fn after(&mut self, before: u64, now: Option<u64>) -> Option<u64> {
        if now != Some(before) {
            self.read_before = READ_BEFORE;
        }
        self.last = now;
        now
    }
}
