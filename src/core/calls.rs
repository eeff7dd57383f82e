//! Commands that the module runs for clients, which wait in them.
//!
//! ```text
//!   begun ---> waits in a call of the server's ---> answered: its client gets that
//!                ^                     |
//!                |                     '- the server has let go of it without running it
//!                '--- is run again <-----------'
//!                       when writes are no longer paused
//! ```
//!
//! The server may answer a call when its client has left it, and may wait in another one by then. So each call has a
//! number that no other one has had, and an answer to one that nobody waits in is nobody's.

use crate::core::hash::Map;
use crate::core::leaf::ClientId;
use std::collections::VecDeque;

/// Clients that wait in a command of the kind `C`, each in a call with the handle `H` or for the end of a pause.
#[derive(Debug)]
pub struct Calls<C, H> {
    waiting: Map<ClientId, (C, Option<Call<H>>)>,
    /// The client of each call.
    clients: Map<u64, ClientId>,
    /// The number that was given last.
    last: u64,
    /// Those whose command is to run again when writes are no longer paused, in the order in which it was found to.
    /// Some may have left.
    put_off: VecDeque<ClientId>,
}

/// A call that waits.
#[derive(Debug)]
struct Call<H> {
    number: u64,
    handle: H,
}

impl<C, H> Default for Calls<C, H> {
    fn default() -> Calls<C, H> {
        Calls { waiting: Map::default(), clients: Map::default(), last: 0, put_off: VecDeque::new() }
    }
}

impl<C, H> Calls<C, H> {
    /// The client, which waits in none, waits in this one. `call` has its answer come by the number. Returns that.
    pub fn begin(&mut self, client: ClientId, command: C, call: impl FnOnce(u64) -> H) -> u64 {
        self.last += 1;
        let number = self.last;
        self.clients.insert(number, client);
        self.waiting.insert(client, (command, Some(Call { number, handle: call(number) })));
        number
    }

    /// The call with this number has its answer. Takes it out, unless nobody waits in it any more.
    pub fn answered(&mut self, number: u64) -> Option<(ClientId, C)> {
        let client = self.clients.remove(&number)?;
        Some((client, self.waiting.remove(&client)?.0))
    }

    /// The client's command is to run again, but not before writes are no longer paused.
    pub fn put_off(&mut self, client: ClientId, command: C) {
        self.waiting.insert(client, (command, None));
        self.put_off.push_back(client);
    }

    /// Whether any was put off.
    pub fn any_put_off(&self) -> bool {
        !self.put_off.is_empty()
    }

    /// Takes out the next one of those, in their order.
    pub fn next_put_off(&mut self) -> Option<(ClientId, C)> {
        while let Some(client) = self.put_off.pop_front() {
            if matches!(self.waiting.get(&client), Some((_, None))) {
                return Some((client, self.waiting.remove(&client)?.0));
            }
        }
        None
    }

    /// The client waits no longer. What it waited in, and the handle of the call if there is one.
    pub fn leave(&mut self, client: ClientId) -> Option<(C, Option<H>)> {
        let (command, call) = self.waiting.remove(&client)?;
        let handle = call.map(|Call { number, handle }| {
            self.clients.remove(&number);
            handle
        });
        Some((command, handle))
    }

    /// How many clients wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_for_the_call_that_it_belongs_to() {
        let mut calls: Calls<&str, ()> = Calls::default();
        let first = calls.begin(7, "first", |_| ());
        assert_eq!(calls.leave(7), Some(("first", Some(()))));
        let second = calls.begin(7, "second", |_| ());
        assert_eq!(calls.answered(first), None, "its client has left it");
        assert_eq!(calls.answered(second), Some((7, "second")));
        assert_eq!(calls.answered(second), None, "it has had its answer");
        assert!(calls.is_empty() && calls.clients.is_empty());
    }

    #[test]
    fn what_is_put_off_comes_back_in_its_order_unless_its_client_leaves() {
        let mut calls: Calls<&str, ()> = Calls::default();
        ["a", "b", "c"].into_iter().zip(1..).for_each(|(command, client)| calls.put_off(client, command));
        assert_eq!(calls.leave(2), Some(("b", None)));
        assert_eq!(calls.next_put_off(), Some((1, "a")));
        calls.leave(3);
        let number = calls.begin(3, "d", |_| ());
        assert_eq!(calls.next_put_off(), None, "it waits in a call");
        assert_eq!((calls.len(), calls.answered(number)), (1, Some((3, "d"))));
    }
}
