//! How long something takes, counted in buckets: four for each doubling, so that a quantile is known to a quarter.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Enough for 2^33 microseconds, more than two hours.
const BUCKETS: usize = 128;

/// Durations in microseconds. Any thread may add one, and any may look.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    total_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [const { AtomicU64::new(0) }; BUCKETS], total_us: AtomicU64::new(0) }
    }
}

/// The bucket of a duration.
fn bucket_of(us: u64) -> usize {
    if us < 4 {
        return us as usize;
    }
    let octave = us.ilog2();
    let bucket = (octave - 1) * 4 + ((us >> (octave - 2)) & 3) as u32;
    (bucket as usize).min(BUCKETS - 1)
}

/// The first duration that is too long for a bucket.
fn end_of(bucket: usize) -> u64 {
    match bucket {
        0..4 => bucket as u64 + 1,
        _ => (5 + bucket as u64 % 4) << (bucket / 4 - 1),
    }
}

impl Histogram {
    pub(in crate::log) fn add(&self, us: u64) {
        if let Some(count) = self.counts.get(bucket_of(us)) {
            count.fetch_add(1, Relaxed);
        }
        self.total_us.fetch_add(us, Relaxed);
    }

    fn counts(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().map(|count| count.load(Relaxed)).enumerate().filter(|(_, count)| *count > 0)
    }

    /// All of them together, in microseconds.
    pub fn total_us(&self) -> u64 {
        self.total_us.load(Relaxed)
    }

    /// `of_thousand` of a thousand took no longer than this, in microseconds: the end of a bucket. 0 where there are
    /// none.
    pub fn quantile_us(&self, of_thousand: u64) -> u64 {
        let total: u64 = self.counts().map(|(_, count)| count).sum();
        let rank = (total * of_thousand).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = self.counts().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        found.map_or(0, |(bucket, _)| end_of(bucket))
    }

    /// `LIMIT=COUNT,...`: how many took less than each limit, in microseconds and powers of two, from the first limit
    /// that any keeps to the first that all do. Empty where there are none.
    pub fn text(&self) -> String {
        let mut limits: Vec<(u64, u64)> = Vec::new();
        let mut seen = 0;
        for (bucket, count) in self.counts() {
            seen += count;
            let limit = end_of(bucket).next_power_of_two();
            match limits.last_mut() {
                Some(last) if last.0 == limit => last.1 = seen,
                Some(last) => {
                    let (mut between, before) = *last;
                    while between * 2 < limit {
                        between *= 2;
                        limits.push((between, before));
                    }
                    limits.push((limit, seen));
                }
                None => limits.push((limit, seen)),
            }
        }
        limits.iter().map(|(limit, count)| format!("{limit}={count}")).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_within_its_bucket_and_buckets_follow_each_other() {
        for us in (0..5000).chain([1 << 20, (1 << 20) + 1, (1 << 32) - 1]) {
            let bucket = bucket_of(us);
            assert!(us < end_of(bucket), "{us}");
            assert!(bucket == 0 || us >= end_of(bucket - 1), "{us}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_and_text_are_those_of_what_was_added() {
        let histogram = Histogram::default();
        assert_eq!((histogram.quantile_us(500), histogram.text().as_str()), (0, ""));
        (0..98).for_each(|_| histogram.add(300));
        (0..2).for_each(|_| histogram.add(2000));
        assert_eq!(histogram.total_us(), 98 * 300 + 2 * 2000);
        assert_eq!(histogram.quantile_us(500), 320);
        assert_eq!(histogram.quantile_us(990), 2048);
        assert_eq!(histogram.text(), "512=98,1024=98,2048=100");
    }
}
