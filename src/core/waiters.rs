//! Who waits for which position. Generic over what is released, so that it can be tested without a server.

use crate::log::Lsn;
use std::collections::BTreeMap;

/// Waiters by position; those of one position in the order in which they came.
///
/// The only way out is [`Waiters::take_up_to`] with the durable position (or [`Waiters::take_all`], for those who get
/// no acknowledgement).
#[derive(Debug)]
pub struct Waiters<T> {
    queue: BTreeMap<Lsn, Vec<T>>,
    len: usize,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Waiters { queue: BTreeMap::new(), len: 0 }
    }
}

impl<T> Waiters<T> {
    /// Adds one who waits for `lsn`.
    pub fn push(&mut self, lsn: Lsn, waiter: T) {
        self.queue.entry(lsn).or_default().push(waiter);
        self.len += 1;
    }

    /// Takes out everyone whose position is durable, in the order of positions, each with its own.
    pub fn take_up_to(&mut self, durable: Lsn) -> Vec<(Lsn, T)> {
        let mut taken = Vec::new();
        while let Some(entry) = self.queue.first_entry() {
            if *entry.key() > durable {
                break;
            }
            let (lsn, waiters) = entry.remove_entry();
            taken.extend(waiters.into_iter().map(|waiter| (lsn, waiter)));
        }
        self.len -= taken.len();
        taken
    }

    /// Takes out everyone who waits for more than this, each with its position: for those who may get no
    /// acknowledgement.
    pub fn take_after(&mut self, lsn: Lsn) -> Vec<(Lsn, T)> {
        let mut all = std::mem::take(&mut self.queue);
        let taken = all.split_off(&lsn.advance(1));
        self.queue = all;
        let taken: Vec<(Lsn, T)> =
            taken.into_iter().flat_map(|(lsn, all)| all.into_iter().map(move |one| (lsn, one))).collect();
        self.len -= taken.len();
        taken
    }

    /// Takes out the first of those that are wanted, with its position.
    pub fn take_first(&mut self, is_wanted: impl Fn(&T) -> bool) -> Option<(Lsn, T)> {
        let (lsn, index) = self
            .queue
            .iter()
            .find_map(|(lsn, waiters)| waiters.iter().position(&is_wanted).map(|index| (*lsn, index)))?;
        let waiters = self.queue.get_mut(&lsn)?;
        let waiter = waiters.remove(index);
        if waiters.is_empty() {
            self.queue.remove(&lsn);
        }
        self.len -= 1;
        Some((lsn, waiter))
    }

    /// Takes out everyone.
    pub fn take_all(&mut self) -> Vec<(Lsn, T)> {
        self.len = 0;
        let queue = std::mem::take(&mut self.queue);
        queue.into_iter().flat_map(|(lsn, waiters)| waiters.into_iter().map(move |waiter| (lsn, waiter))).collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.queue.values().flatten()
    }

    /// The number of waiters.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_whose_position_is_durable_leave_in_order() {
        let mut waiters = Waiters::default();
        for (lsn, name) in [(5, "c"), (1, "a"), (9, "d"), (1, "b")] {
            waiters.push(Lsn::new(lsn), name);
        }
        assert!(waiters.take_up_to(Lsn::new(0)).is_empty());
        let taken = waiters.take_up_to(Lsn::new(5));
        assert_eq!(taken, [(1, "a"), (1, "b"), (5, "c")].map(|(lsn, name)| (Lsn::new(lsn), name)));
        assert_eq!(waiters.len(), 1);
        let later: Vec<_> = [8, 9].map(|lsn| waiters.take_after(Lsn::new(lsn - 1))).concat();
        assert_eq!((later, waiters.len()), (vec![(Lsn::new(9), "d")], 0));
        waiters.push(Lsn::new(9), "d");
        waiters.push(Lsn::new(7), "e");
        assert_eq!(waiters.take_first(|name| *name == "e"), Some((Lsn::new(7), "e")));
        assert_eq!((waiters.take_first(|name| *name == "e"), waiters.len()), (None, 1));
        assert_eq!(waiters.take_all(), [(Lsn::new(9), "d")]);
        assert!(waiters.is_empty());
    }
}
