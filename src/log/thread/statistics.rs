//! Counters of the log.

use super::histogram::Histogram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// A sync that takes longer is slow.
pub const SLOW_SYNC_US: u64 = 5_000;

/// The average moves by one part in this many with each sync.
const EWMA_WEIGHT: u64 = 8;

/// Counters that one thread writes and any thread may read.
#[derive(Debug, Default)]
pub struct Statistics {
    frames: AtomicU64,
    bytes: AtomicU64,
    base_bytes: AtomicU64,
    bytes_since_base: AtomicU64,
    segments: AtomicU64,
    segments_after_errors: AtomicU64,
    syncs: AtomicU64,
    failed_rotations: AtomicU64,
    disk_errors: AtomicU64,
    sync_last_us: AtomicU64,
    sync_max_us: AtomicU64,
    sync_ewma_us: AtomicU64,
    slow_syncs: AtomicU64,
    is_direct: AtomicBool,
    units: AtomicU64,
    sync_times: Histogram,
    /// The longest since these were taken last.
    write_peak_us: AtomicU64,
    sync_peak_us: AtomicU64,
}

/// The longest write and sync since a moment, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Of a write to the file.
    pub write_us: u64,
    /// Of a sync.
    pub sync_us: u64,
}

impl Statistics {
    /// Frames written.
    pub fn frames(&self) -> u64 {
        self.frames.load(Relaxed)
    }

    /// Bytes of the frames written, with their annotations.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Size of the base; 0 without one.
    pub fn base_bytes(&self) -> u64 {
        self.base_bytes.load(Relaxed)
    }

    /// Bytes of the segments that go on from the base, including those that existed when the log was opened; 0 where
    /// nothing has been logged since the base.
    pub fn bytes_since_base(&self) -> u64 {
        self.bytes_since_base.load(Relaxed)
    }

    /// Segments after the base.
    pub fn segments(&self) -> u64 {
        self.segments.load(Relaxed)
    }

    /// Those of them that the log went on with after an error of the disk, since it was opened.
    pub fn segments_after_errors(&self) -> u64 {
        self.segments_after_errors.load(Relaxed)
    }

    /// Syncs of segments that had something to sync.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Relaxed)
    }

    /// Full segments that were not closed, because there was no room for another.
    pub fn failed_rotations(&self) -> u64 {
        self.failed_rotations.load(Relaxed)
    }

    /// Errors after which the log tries again elsewhere, and tries that have failed.
    pub fn disk_errors(&self) -> u64 {
        self.disk_errors.load(Relaxed)
    }

    /// Duration of the last sync.
    pub fn sync_last_us(&self) -> u64 {
        self.sync_last_us.load(Relaxed)
    }

    /// Duration of the longest sync.
    pub fn sync_max_us(&self) -> u64 {
        self.sync_max_us.load(Relaxed)
    }

    /// `of_thousand` of a thousand syncs took no longer than this, which is known to a quarter.
    pub fn sync_quantile_us(&self, of_thousand: u64) -> u64 {
        self.sync_times.quantile_us(of_thousand).min(self.sync_max_us())
    }

    /// Moving average of the durations of syncs (weight 1/8).
    pub fn sync_ewma_us(&self) -> u64 {
        self.sync_ewma_us.load(Relaxed)
    }

    /// Syncs that took longer than [`SLOW_SYNC_US`].
    pub fn slow_syncs(&self) -> u64 {
        self.slow_syncs.load(Relaxed)
    }

    /// How long syncs took.
    pub fn sync_times(&self) -> &Histogram {
        &self.sync_times
    }

    /// Units handed over.
    pub fn units(&self) -> u64 {
        self.units.load(Relaxed)
    }

    /// So many units were handed over.
    pub fn count_units(&self, count: u64) {
        self.units.fetch_add(count, Relaxed);
    }

    /// The longest of each since the last call.
    pub fn take_peaks(&self) -> Peaks {
        let take = |peak: &AtomicU64| if peak.load(Relaxed) == 0 { 0 } else { peak.swap(0, Relaxed) };
        Peaks { write_us: take(&self.write_peak_us), sync_us: take(&self.sync_peak_us) }
    }

    /// Whether the segment that is written now is written past the page cache.
    pub fn is_direct(&self) -> bool {
        self.is_direct.load(Relaxed)
    }

    pub(in crate::log) fn set_direct(&self, is_direct: bool) {
        self.is_direct.store(is_direct, Relaxed);
    }

    pub(in crate::log) fn count_frame(&self, bytes: u64) {
        self.frames.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.bytes_since_base.fetch_add(bytes, Relaxed);
    }

    /// The log goes on from another base, or was opened.
    pub(in crate::log) fn set_log(&self, base_bytes: u64, bytes_since_base: u64) {
        self.base_bytes.store(base_bytes, Relaxed);
        self.bytes_since_base.store(bytes_since_base, Relaxed);
    }

    /// The log has other segments.
    pub(in crate::log) fn set_segments(&self, count: usize, after_errors: usize) {
        self.segments.store(count as u64, Relaxed);
        self.segments_after_errors.store(after_errors as u64, Relaxed);
    }

    pub(in crate::log) fn count_sync(&self) {
        self.syncs.fetch_add(1, Relaxed);
    }

    pub(in crate::log) fn count_failed_rotation(&self) {
        self.failed_rotations.fetch_add(1, Relaxed);
    }

    pub(in crate::log) fn count_disk_error(&self) {
        self.disk_errors.fetch_add(1, Relaxed);
    }

    pub(in crate::log) fn time_write(&self, duration_us: u64) {
        self.write_peak_us.fetch_max(duration_us, Relaxed);
    }

    pub(in crate::log) fn time_sync(&self, duration_us: u64) {
        self.sync_times.add(duration_us);
        self.sync_peak_us.fetch_max(duration_us, Relaxed);
        self.sync_last_us.store(duration_us, Relaxed);
        self.sync_max_us.fetch_max(duration_us, Relaxed);
        self.slow_syncs.fetch_add(u64::from(duration_us > SLOW_SYNC_US), Relaxed);
        let average = self.sync_ewma_us.load(Relaxed);
        let moved =
            if average == 0 { duration_us } else { average - average / EWMA_WEIGHT + duration_us / EWMA_WEIGHT };
        self.sync_ewma_us.store(moved, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_follows_slowly() {
        let statistics = Statistics::default();
        statistics.time_sync(800);
        statistics.time_sync(1600);
        assert_eq!(statistics.sync_last_us(), 1600);
        assert_eq!(statistics.sync_max_us(), 1600);
        // A bucket ends later.
        assert_eq!((statistics.sync_quantile_us(500), statistics.sync_quantile_us(990)), (896, 1600));
        assert_eq!(statistics.sync_ewma_us(), 900);
        statistics.time_sync(SLOW_SYNC_US + 1);
        assert_eq!(statistics.slow_syncs(), 1);
        statistics.time_write(7);
        assert_eq!(statistics.take_peaks(), Peaks { write_us: 7, sync_us: SLOW_SYNC_US + 1 });
        assert_eq!(statistics.take_peaks(), Peaks::default());
    }
}
