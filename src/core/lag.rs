//! How long changes wait for the disk: when the oldest one that is not durable was logged.

use crate::log::Lsn;
use std::collections::VecDeque;

/// How many moments are kept. If there are more, every second one is dropped: what was logged then counts as logged a
/// little earlier.
const MOMENTS_MAX: usize = 64;

/// When what is not durable was logged.
#[derive(Debug, Default)]
pub struct Lag {
    /// At this time, in microseconds, what begins at the position was logged.
    moments: VecDeque<(Lsn, u64)>,
}

impl Lag {
    /// What begins at this position is logged now, with that position durable.
    pub fn note(&mut self, begins: Lsn, now_us: u64, durable: Lsn) {
        self.forget(durable);
        self.moments.push_back((begins, now_us));
        if self.moments.len() > MOMENTS_MAX {
            let mut index = 0;
            self.moments.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    fn forget(&mut self, durable: Lsn) {
        while self.moments.get(1).is_some_and(|(begins, _)| *begins <= durable) {
            self.moments.pop_front();
        }
    }

    /// How long the oldest change that is not durable has waited, in microseconds.
    pub fn us(&mut self, now_us: u64, durable: Lsn, appended: Lsn) -> u64 {
        if durable >= appended {
            return 0;
        }
        self.forget(durable);
        self.moments.front().map_or(0, |(_, since_us)| now_us.saturating_sub(*since_us))
    }

    /// Another log begins.
    pub fn clear(&mut self) {
        self.moments.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_not_durable_counts() {
        let mut lag = Lag::default();
        let at = Lsn::new;
        lag.note(at(0), 1000, at(0));
        lag.note(at(10), 2000, at(0));
        lag.note(at(20), 3000, at(0));
        assert_eq!(lag.us(5000, at(0), at(30)), 4000);
        assert_eq!(lag.us(5000, at(9), at(30)), 4000);
        assert_eq!(lag.us(5000, at(10), at(30)), 3000);
        assert_eq!(lag.us(5000, at(30), at(30)), 0);
        assert_eq!(lag.us(5000, at(25), at(30)), 2000);
    }

    #[test]
    fn however_much_waits_little_is_kept_and_never_too_little_is_told() {
        let mut lag = Lag::default();
        let end = 100_000;
        (0..end).for_each(|moment| lag.note(Lsn::new(moment), moment, Lsn::new(0)));
        assert!(lag.moments.len() <= MOMENTS_MAX);
        assert_eq!(lag.us(end, Lsn::new(0), Lsn::new(end)), end);
        // What is durable stays so.
        for durable in [0, 1, 777, end / 2, end - 1] {
            let told = lag.us(end, Lsn::new(durable), Lsn::new(end));
            assert!(told >= end - durable, "{durable}: {told}");
        }
    }
}
