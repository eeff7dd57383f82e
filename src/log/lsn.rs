//! Positions in the log.

use std::fmt;

/// A position in the log: the number of payload bytes logged before it, over all segments and restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// The position of the first byte ever logged.
    pub const ZERO: Lsn = Lsn(0);

    /// No log goes beyond this position: half of the range, so that everything appended to a log that was read stays
    /// within it. A file that states more is damaged.
    pub const LIMIT: Lsn = Lsn(1 << 63);

    /// The position after `bytes` payload bytes.
    pub const fn new(bytes: u64) -> Lsn {
        Lsn(bytes)
    }

    /// The number of payload bytes before this position.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position `bytes` further on.
    ///
    /// # Panics
    ///
    /// When the position leaves the 64-bit range, which [`Lsn::LIMIT`] keeps from happening; for lengths read from a
    /// disk use [`Lsn::checked_advance`].
    #[must_use]
    pub fn advance(self, bytes: u64) -> Lsn {
        let end = self.0.checked_add(bytes);
        assert!(end.is_some(), "position {self} + {bytes} bytes leaves the 64-bit range");
        end.map_or(self, Lsn)
    }

    /// The position `bytes` further on, or `None` after [`Lsn::LIMIT`].
    #[must_use]
    pub fn checked_advance(self, bytes: u64) -> Option<Lsn> {
        self.0.checked_add(bytes).map(Lsn).filter(|end| *end <= Lsn::LIMIT)
    }

    /// The number of payload bytes from `earlier` to this position.
    ///
    /// # Panics
    ///
    /// When `earlier` is after this position.
    #[must_use]
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        assert!(earlier <= self, "position {earlier} is behind {self}");
        self.0 - earlier.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_advances_by_bytes() {
        let start = Lsn::new(10);
        assert_eq!(start.advance(5), Lsn::new(15));
        assert_eq!(start.advance(5).bytes_since(start), 5);
        assert_eq!(start.to_string(), "10");
    }

    #[test]
    fn a_position_outside_the_range_is_none() {
        assert_eq!(Lsn::new(u64::MAX).checked_advance(1), None);
        assert_eq!(Lsn::LIMIT.checked_advance(1), None);
        assert_eq!(Lsn::new(Lsn::LIMIT.get() - 1).checked_advance(1), Some(Lsn::LIMIT));
    }
}
