//! A complete checker of linearizability for the history of one key: a depth-first search over all orders, which
//! remembers where it has been (Wing and Gong; Lowe).

use super::Operation;
use std::collections::HashSet;

/// Fails with an explanation when no order of the operations, each at a moment between its invocation and its
/// completion, gives all the replies. Operations without a reply may be left out.
pub fn check(initial: &[u64], history: &[Operation]) -> Result<(), String> {
    let mut operations: Vec<&Operation> = history.iter().collect();
    operations.sort_by_key(|operation| operation.invoked);
    let mut search = Search { done: Done::new(operations.len()), operations, seen: HashSet::new(), furthest: None };
    if search.from(initial) {
        return Ok(());
    }
    let (count, state, stuck) = search.furthest.unwrap_or_default();
    let explained = format!("{count} of {} operations can be explained, then the key holds {state:?}", history.len());
    Err(format!("{explained}, and none of these can come next:\n  {}", stuck.join("\n  ")))
}

/// Which operations have their place in the order.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done {
    bits: Vec<u64>,
    count: usize,
}

impl Done {
    fn new(count: usize) -> Done {
        Done { bits: vec![0; count.div_ceil(64)], count: 0 }
    }

    fn has(&self, index: usize) -> bool {
        self.bits[index / 64] >> (index % 64) & 1 == 1
    }

    fn flip(&mut self, index: usize) {
        self.bits[index / 64] ^= 1 << (index % 64);
        self.count = if self.has(index) { self.count + 1 } else { self.count - 1 };
    }
}

struct Search<'a> {
    /// By invocation.
    operations: Vec<&'a Operation>,
    done: Done,
    seen: HashSet<(Done, Vec<u64>)>,
    /// The longest order found, with the key's state and what was tried after it.
    furthest: Option<(usize, Vec<u64>, Vec<String>)>,
}

impl Search<'_> {
    /// Whether all that is not done can be explained from this state on.
    fn from(&mut self, state: &[u64]) -> bool {
        let next = self.next();
        if next.is_empty() {
            return true;
        }
        if self.furthest.as_ref().is_none_or(|(count, ..)| *count < self.done.count) {
            let tried = next.iter().map(|index| format!("{:?}", self.operations[*index])).collect();
            self.furthest = Some((self.done.count, state.to_vec(), tried));
        }
        for index in next {
            let operation = self.operations[index];
            let mut after = state.to_vec();
            let told = operation.effect.apply(&mut after);
            self.done.flip(index);
            let may_happen = operation.reply.as_ref().is_none_or(|reply| reply.fits(&told));
            if may_happen && self.enter(after) {
                return true;
            }
            if operation.reply.is_none() && self.enter(state.to_vec()) {
                return true;
            }
            self.done.flip(index);
        }
        false
    }

    fn enter(&mut self, state: Vec<u64>) -> bool {
        self.seen.insert((self.done.clone(), state.clone())) && self.from(&state)
    }

    /// The operations that may come next: nothing that is not done was completed before they were invoked, and nothing
    /// of the same client comes before them.
    fn next(&self) -> Vec<usize> {
        let mut next: Vec<usize> = Vec::new();
        let mut deadline = u64::MAX;
        for (index, operation) in self.operations.iter().enumerate() {
            if self.done.has(index) {
                continue;
            }
            if operation.invoked > deadline {
                break;
            }
            deadline = deadline.min(operation.completed);
            if !next.iter().any(|earlier| self.operations[*earlier].client == operation.client) {
                next.push(index);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::super::disturbances::evictions;
    use super::super::{Effect, Reply};
    use super::*;

    fn operation(client: usize, effect: Effect, reply: Option<Reply>, invoked: u64, completed: u64) -> Operation {
        Operation { client, effect, reply, invoked, completed }
    }

    fn set(client: usize, value: u64, invoked: u64, completed: u64) -> Operation {
        operation(client, Effect::Set(value), Some(Reply::Done), invoked, completed)
    }

    fn read(client: usize, values: &[u64], invoked: u64, completed: u64) -> Operation {
        operation(client, Effect::Read, Some(Reply::Contents(values.into())), invoked, completed)
    }

    fn push(client: usize, value: u64, length: usize, invoked: u64, completed: u64) -> Operation {
        operation(client, Effect::Push(value), Some(Reply::Length(length)), invoked, completed)
    }

    /// An operation that the death of the server at 100 left without a reply.
    fn lost(client: usize, effect: Effect, invoked: u64) -> Operation {
        operation(client, effect, None, invoked, 100)
    }

    /// What another module has pushed.
    fn push_of_module(client: usize, value: u64, invoked: u64, completed: u64) -> Operation {
        operation(client, Effect::Push(value), Some(Reply::Done), invoked, completed)
    }

    /// A time in which keys may be evicted.
    fn squeeze(invoked: u64, completed: u64) -> Operation {
        evictions(&vec![(invoked, completed)], 9).remove(0)
    }

    #[test]
    fn good_histories_are_accepted() {
        let good: [&[Operation]; 14] = [
            &[],
            &[set(0, 1, 0, 1), read(1, &[1], 2, 3)],
            // While a write is under way, readers may see either.
            &[set(0, 1, 0, 9), read(1, &[], 1, 2), read(1, &[1], 3, 4)],
            &[set(0, 1, 0, 9), set(1, 2, 1, 8), read(2, &[2], 2, 3), read(2, &[1], 4, 5)],
            &[set(0, 1, 0, 1), operation(1, Effect::Delete, Some(Reply::Changed(true)), 2, 3), read(0, &[], 4, 5)],
            &[push(0, 1, 2, 0, 9), push(1, 2, 1, 1, 8), read(2, &[2, 1], 10, 11)],
            // The server died with a write under way: it happened, or it did not.
            &[lost(0, Effect::Set(1), 5), read(1, &[1], 101, 102)],
            &[lost(0, Effect::Set(1), 5), read(1, &[], 101, 102)],
            &[lost(0, Effect::Push(1), 5), lost(1, Effect::Push(2), 6), read(2, &[2], 101, 102)],
            &[push_of_module(0, 1, 0, 9), push(1, 2, 1, 1, 8), read(2, &[2, 1], 10, 11)],
            // The key was evicted, or it was not.
            &[set(0, 1, 0, 1), squeeze(2, 9), read(1, &[1], 3, 4), read(1, &[], 5, 6), read(1, &[], 101, 102)],
            &[set(0, 1, 0, 1), squeeze(2, 9), read(1, &[1], 3, 4), read(1, &[1], 101, 102)],
            &[set(0, 1, 0, 9), squeeze(2, 100), read(1, &[], 3, 4), read(1, &[], 101, 102)],
            &[set(0, 1, 0, 1), squeeze(2, 3), squeeze(5, 9), read(1, &[1], 4, 4), read(1, &[], 10, 11)],
        ];
        for history in good {
            assert_eq!(check(&[], history), Ok(()), "{history:?}");
        }
    }

    #[test]
    fn bad_histories_are_rejected() {
        let bad: [(&str, &[Operation]); 17] = [
            ("a stale read", &[set(0, 1, 0, 1), read(1, &[], 2, 3)]),
            ("a value of nobody", &[read(0, &[7], 0, 1)]),
            ("a read of the future", &[read(0, &[1], 0, 1), set(1, 1, 2, 3)]),
            ("new, then old", &[set(0, 1, 0, 9), read(1, &[1], 1, 2), read(2, &[], 3, 4)]),
            (
                "two readers, two orders",
                &[
                    set(0, 1, 0, 9),
                    set(1, 2, 0, 9),
                    read(2, &[1], 1, 2),
                    read(2, &[2], 3, 4),
                    read(3, &[2], 1, 2),
                    read(3, &[1], 5, 6),
                ],
            ),
            ("an acknowledged write lost in a crash", &[set(0, 1, 0, 1), read(1, &[], 101, 102)]),
            (
                "a shown write lost in a crash",
                &[lost(0, Effect::Set(1), 0), read(1, &[1], 1, 2), read(1, &[], 101, 102)],
            ),
            (
                "a shown deletion lost in a crash",
                &[set(0, 1, 0, 1), lost(0, Effect::Delete, 2), read(1, &[], 3, 4), read(1, &[1], 101, 102)],
            ),
            (
                "a refused SETNX whose reason is lost",
                &[
                    lost(0, Effect::Set(1), 0),
                    operation(1, Effect::SetIfAbsent(2), Some(Reply::Changed(false)), 1, 2),
                    read(1, &[], 101, 102),
                ],
            ),
            ("a lost element", &[push(0, 1, 1, 0, 1), push(0, 2, 2, 2, 3), read(1, &[2], 4, 5)]),
            ("a doubled element", &[push(0, 1, 1, 0, 1), read(1, &[1, 1], 4, 5)]),
            ("a lost element of a module", &[push_of_module(0, 1, 0, 1), push(0, 2, 2, 2, 3), read(1, &[2], 4, 5)]),
            ("an early element of a module", &[push_of_module(0, 1, 4, 5), read(1, &[1], 2, 3)]),
            (
                "an eviction that was shown and lost",
                &[set(0, 1, 0, 1), squeeze(2, 100), read(1, &[], 3, 4), read(1, &[1], 101, 102)],
            ),
            ("a loss before keys were evicted", &[set(0, 1, 0, 1), squeeze(5, 9), read(1, &[], 3, 4)]),
            (
                "a loss after keys were evicted",
                &[set(0, 1, 0, 1), squeeze(2, 5), read(1, &[1], 6, 7), read(1, &[], 101, 102)],
            ),
            ("swapped elements of one client", &[push(0, 1, 1, 0, 9), push(0, 2, 2, 1, 9), read(1, &[2, 1], 10, 11)]),
        ];
        for (what, history) in bad {
            assert!(check(&[], history).is_err(), "{what}: {history:?}");
        }
    }

    #[test]
    fn a_long_history_with_much_overlap_is_checked_quickly() {
        let mut history = Vec::new();
        for round in 0..60 {
            let start = round * 100;
            history.extend(
                (0..8).map(|client| set(client, 1 + round * 8 + client as u64, start + client as u64, start + 50)),
            );
            let last = 1 + round * 8 + round % 8;
            history.push(read(8, &[last], start + 60, start + 61));
        }
        assert_eq!(check(&[], &history), Ok(()));
        history.push(read(9, &[1], 5990, 5991));
        assert!(check(&[], &history).is_err());
    }
}
