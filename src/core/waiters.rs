//! Who waits for which position. Generic over what is released, so that it is tested without a server.

use crate::log::Lsn;
use std::collections::VecDeque;

/// Waiters in log order.
///
/// The only way out is [`Waiters::take_up_to`] with the durable position (or [`Waiters::take_all`], for those who get no acknowledgement).
#[derive(Debug)]
pub struct Waiters<T> {
    queue: VecDeque<(Lsn, T)>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Waiters { queue: VecDeque::new() }
    }
}

impl<T> Waiters<T> {
    /// Adds one who waits for `lsn`, which is not below that of anyone before.
    pub fn push(&mut self, lsn: Lsn, waiter: T) {
        assert!(self.queue.back().is_none_or(|(last, _)| *last <= lsn), "waiters arrive in log order");
        self.queue.push_back((lsn, waiter));
    }

    /// Takes out everyone whose position is durable.
    pub fn take_up_to(&mut self, durable: Lsn) -> impl Iterator<Item = T> + '_ {
        let count = self.queue.partition_point(|(lsn, _)| *lsn <= durable);
        self.queue.drain(..count).map(move |(lsn, waiter)| {
            assert!(lsn <= durable, "nobody is released early");
            waiter
        })
    }

    /// Takes out everyone.
    pub fn take_all(&mut self) -> impl Iterator<Item = T> + '_ {
        self.queue.drain(..).map(|(_, waiter)| waiter)
    }

    /// The number of waiters.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_whose_position_is_durable_leave_in_order() {
        let mut waiters = Waiters::default();
        for (lsn, name) in [(1, "a"), (1, "b"), (5, "c"), (9, "d")] {
            waiters.push(Lsn::new(lsn), name);
        }
        assert_eq!(waiters.take_up_to(Lsn::new(0)).count(), 0);
        assert_eq!(waiters.take_up_to(Lsn::new(5)).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(waiters.len(), 1);
        assert_eq!(waiters.take_all().collect::<Vec<_>>(), ["d"]);
    }
}
