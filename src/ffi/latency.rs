//! The server's latency monitor.

use std::ffi::CStr;

/// What takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyEvent {
    /// A write to a file of the log.
    Write,
    /// A flush of the log.
    Fsync,
    /// The main thread waits for the log.
    LoopWait,
}

impl LatencyEvent {
    fn name(self) -> &'static CStr {
        match self {
            LatencyEvent::Write => c"wbl-write",
            LatencyEvent::Fsync => c"wbl-fsync",
            LatencyEvent::LoopWait => c"wbl-loop-wait",
        }
    }
}

/// Something has taken this many microseconds. The server records it when that is more than its
/// `latency-monitor-threshold`. Main thread only.
pub fn add_latency(event: LatencyEvent, us: u64) {
    // The threshold is in milliseconds.
    let Some(ms) = i64::try_from(us / 1000).ok().filter(|ms| *ms > 0) else { return };
    // SAFETY: the name is NUL-terminated and static; the caller is the main thread.
    unsafe { api!(ValkeyModule_LatencyAddSample)(event.name().as_ptr(), ms) };
}
