//! How long a recovery would take now, from what the last one took.

use crate::module::config;

/// The assumed speed of loading a base before any was measured, in bytes per second.
const BASE_ASSUMED: u64 = 100_000_000;

/// The assumed speed of replaying a log before any was measured, in bytes per second.
const LOG_ASSUMED: u64 = 50_000_000;

/// Smaller amounts say little about larger ones.
const BYTES_MIN: u64 = 8 << 20;

/// How quick recoveries are, in bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speed {
    base: u64,
    log: u64,
}

impl Default for Speed {
    fn default() -> Speed {
        Speed { base: BASE_ASSUMED, log: LOG_ASSUMED }
    }
}

/// Bytes, and the microseconds that they took.
pub(crate) type Measured = (u64, u64);

impl Speed {
    /// A recovery has taken this.
    pub(in crate::module) fn measured(&mut self, base: Measured, log: Measured) {
        let of = |(bytes, us): Measured, before: u64| {
            let speed = u128::from(bytes) * 1_000_000 / u128::from(us.max(1));
            if bytes < BYTES_MIN { before } else { u64::try_from(speed).unwrap_or(u64::MAX).max(1) }
        };
        *self = Speed { base: of(base, self.base), log: of(log, self.log) };
    }

    fn parts_ms(self, base_bytes: u64, log_bytes: u64) -> [u64; 2] {
        let ms = |bytes: u64, speed: u64| u128::from(bytes) * 1000 / u128::from(speed.max(1));
        [ms(base_bytes, self.base), ms(log_bytes, self.log)].map(|ms| u64::try_from(ms).unwrap_or(u64::MAX))
    }

    /// What a recovery of base and log would take, in milliseconds.
    pub(in crate::module) fn estimate_ms(self, base_bytes: u64, log_bytes: u64) -> u64 {
        let [base_ms, log_ms] = self.parts_ms(base_bytes, log_bytes);
        base_ms.saturating_add(log_ms)
    }

    /// Whether it would take longer than `wbl.max-recovery-seconds`, and a new base gains a quarter of that. So none is
    /// written again and again where the base alone takes as long.
    pub(super) fn is_too_slow(self, base_bytes: u64, log_bytes: u64) -> bool {
        config::max_recovery_ms().is_some_and(|bound_ms| self.exceeds(base_bytes, log_bytes, bound_ms))
    }

    fn exceeds(self, base_bytes: u64, log_bytes: u64, bound_ms: u64) -> bool {
        let [base_ms, log_ms] = self.parts_ms(base_bytes, log_bytes);
        base_ms.saturating_add(log_ms) > bound_ms && log_ms >= bound_ms / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_counts_unless_it_was_little() {
        let mut speed = Speed::default();
        assert_eq!(speed.estimate_ms(BASE_ASSUMED, LOG_ASSUMED), 2000);
        speed.measured((1000, 1), (10 * BYTES_MIN, 1_000_000));
        assert_eq!(speed.estimate_ms(BASE_ASSUMED, 10 * BYTES_MIN), 2000);
        assert_eq!(speed.estimate_ms(0, 20 * BYTES_MIN), 2000);
    }

    #[test]
    fn a_base_that_takes_too_long_by_itself_is_not_written_again_and_again() {
        let speed = Speed::default();
        assert!(speed.exceeds(0, 2 * LOG_ASSUMED, 1900));
        assert!(!speed.exceeds(0, 2 * LOG_ASSUMED, 2000));
        assert!(!speed.exceeds(60 * BASE_ASSUMED, LOG_ASSUMED, 10_000));
        assert!(speed.exceeds(60 * BASE_ASSUMED, 3 * LOG_ASSUMED, 10_000));
    }
}
