//! What other modules wait for: positions, and changes that keyspace events report, to become durable.

use crate::log::Lsn;
use std::collections::VecDeque;
use std::sync::Arc;

/// An event of a key, or of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its class, as the server's bit; 0 for what is not an event of a key.
    pub class: u32,
    /// The database; none where it is about all of them.
    pub db: Option<u32>,
    /// Its name.
    pub name: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
}

/// What another module has asked for.
#[derive(Debug)]
struct Asked<T> {
    token: u64,
    owner: Vec<u8>,
    what: T,
}

/// Who listens. `D` gets positions, `E` events.
#[derive(Debug)]
pub struct Listeners<D, E> {
    last_token: u64,
    /// To be called when everything executed by the end of the iteration is durable.
    new: Vec<Asked<D>>,
    /// To be called when these positions are durable; in the order in which they came.
    waiting: Vec<(Lsn, Asked<D>)>,
    /// To be called for events of these classes.
    subscribers: Vec<Asked<(u32, E)>>,
    /// Events of the running unit.
    running: Vec<Event>,
    events: VecDeque<(Lsn, Event)>,
    /// The tokens of those to be called now for these events.
    due_events: VecDeque<(u64, Lsn, Arc<Event>)>,
    /// Those to be called after that, and whether their position is durable.
    due: VecDeque<(Lsn, bool, Asked<D>)>,
}

/// A call that is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Call<D, E> {
    /// The position is durable, or it is unknown what became of it.
    Position(Lsn, bool, D),
    /// The event is, with its unit's position.
    Event(Lsn, Arc<Event>, E),
}

impl<D, E> Default for Listeners<D, E> {
    fn default() -> Listeners<D, E> {
        Listeners {
            last_token: 0,
            new: Vec::new(),
            waiting: Vec::new(),
            subscribers: Vec::new(),
            running: Vec::new(),
            events: VecDeque::new(),
            due_events: VecDeque::new(),
            due: VecDeque::new(),
        }
    }
}

impl<D: Copy, E: Copy> Listeners<D, E> {
    fn asked<T>(&mut self, owner: &[u8], what: T) -> Asked<T> {
        self.last_token += 1;
        Asked { token: self.last_token, owner: owner.to_vec(), what }
    }

    /// Asks for a call when a position is durable; without one, when everything executed by then is.
    pub fn when_durable(&mut self, owner: &[u8], position: Option<Lsn>, what: D) -> u64 {
        let asked = self.asked(owner, what);
        match position {
            Some(position) => self.waiting.push((position, asked)),
            None => self.new.push(asked),
        }
        self.last_token
    }

    /// Asks for calls for events of these classes.
    pub fn subscribe(&mut self, owner: &[u8], classes: u32, what: E) -> u64 {
        let asked = self.asked(owner, (classes, what));
        self.subscribers.push(asked);
        self.last_token
    }

    /// Whether anybody gets events.
    pub fn has_subscribers(&self) -> bool {
        !self.subscribers.is_empty()
    }

    /// Whether nobody waits for anything.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty()
            && self.waiting.is_empty()
            && self.events.is_empty()
            && self.running.is_empty()
            && self.due_events.is_empty()
            && self.due.is_empty()
    }

    /// Forgets the holder of this token; `false` where there is none.
    pub fn cancel(&mut self, token: u64) -> bool {
        self.retain(|found, _| found != token)
    }

    /// Forgets all that a module has asked for.
    pub fn forget_owner(&mut self, owner: &[u8]) {
        self.retain(|_, found| found != owner);
    }

    /// Returns whether anybody has gone.
    fn retain(&mut self, stays: impl Fn(u64, &[u8]) -> bool) -> bool {
        let count = |of: &Self| of.new.len() + of.waiting.len() + of.due.len() + of.subscribers.len();
        let before = count(self);
        self.new.retain(|asked| stays(asked.token, &asked.owner));
        self.waiting.retain(|(_, asked)| stays(asked.token, &asked.owner));
        self.due.retain(|(_, _, asked)| stays(asked.token, &asked.owner));
        self.subscribers.retain(|asked| stays(asked.token, &asked.owner));
        if self.subscribers.is_empty() {
            self.running.clear();
            self.events.clear();
        }
        count(self) < before
    }

    /// An event of the running unit.
    pub fn add(&mut self, event: Event) {
        let is_wanted = |asked: &Asked<(u32, E)>| event.class == 0 || asked.what.0 & event.class != 0;
        if self.subscribers.iter().any(is_wanted) {
            self.running.push(event);
        }
    }

    /// The unit has ended at this position, which is not below that of any unit before.
    pub fn unit_ended(&mut self, lsn: Lsn) {
        self.events.extend(self.running.drain(..).map(|event| (lsn, event)));
    }

    /// The iteration has ended at this position.
    pub fn iteration_ended(&mut self, appended: Lsn) {
        self.waiting.extend(self.new.drain(..).map(|asked| (appended, asked)));
    }

    /// Everything up to this position is durable: those who wait for it are due.
    pub fn durable(&mut self, durable: Lsn) {
        let count = self.events.partition_point(|(lsn, _)| *lsn <= durable);
        for (lsn, event) in self.events.drain(..count) {
            let event = Arc::new(event);
            let told = self.subscribers.iter().filter(|asked| event.class == 0 || asked.what.0 & event.class != 0);
            self.due_events.extend(told.map(|asked| (asked.token, lsn, Arc::clone(&event))));
        }
        self.take_waiting(durable, true);
    }

    fn take_waiting(&mut self, up_to: Lsn, is_durable: bool) {
        let (mut due, left): (Vec<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(lsn, _)| *lsn <= up_to);
        due.sort_by_key(|(lsn, asked)| (*lsn, asked.token));
        self.due.extend(due.into_iter().map(|(lsn, asked)| (lsn, is_durable, asked)));
        self.waiting = left;
    }

    /// No further position will become durable: whoever waits is due, and events that wait are forgotten.
    pub fn given_up(&mut self, appended: Lsn) {
        self.running.clear();
        self.events.clear();
        self.iteration_ended(appended);
        self.take_waiting(Lsn::new(u64::MAX), false);
    }

    /// Takes out the next call that is due. Those cancelled meanwhile are left out.
    pub fn next_call(&mut self) -> Option<Call<D, E>> {
        while let Some((token, lsn, event)) = self.due_events.pop_front() {
            if let Some(asked) = self.subscribers.iter().find(|asked| asked.token == token) {
                return Some(Call::Event(lsn, event, asked.what.1));
            }
        }
        self.due.pop_front().map(|(lsn, is_durable, asked)| Call::Position(lsn, is_durable, asked.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(class: u32, key: &str) -> Event {
        Event { class, db: Some(0), name: b"set".to_vec(), key: key.as_bytes().to_vec() }
    }

    fn calls(listeners: &mut Listeners<u8, u8>) -> Vec<String> {
        let next = || {
            Some(match listeners.next_call()? {
                Call::Position(lsn, true, who) => format!("{who} {lsn}"),
                Call::Position(lsn, false, who) => format!("{who} {lsn} lost"),
                Call::Event(lsn, event, who) => format!("{who} {lsn} {}", String::from_utf8_lossy(&event.key)),
            })
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn all_is_told_once_and_in_order() {
        let mut listeners = Listeners::default();
        listeners.when_durable(b"a", None, 1);
        listeners.when_durable(b"a", Some(Lsn::new(5)), 2);
        let strings = listeners.subscribe(b"a", 8, 3);
        listeners.subscribe(b"b", 12, 4);
        for (class, key) in [(8, "s"), (4, "g"), (16, "l"), (0, "all")] {
            listeners.add(event(class, key));
        }
        listeners.unit_ended(Lsn::new(10));
        listeners.iteration_ended(Lsn::new(10));
        listeners.durable(Lsn::new(4));
        assert_eq!(calls(&mut listeners), [""; 0]);
        listeners.durable(Lsn::new(9));
        assert_eq!(calls(&mut listeners), ["2 5"]);
        listeners.durable(Lsn::new(10));
        assert_eq!(calls(&mut listeners), ["3 10 s", "4 10 s", "4 10 g", "3 10 all", "4 10 all", "1 10"]);
        assert!(listeners.is_empty() && listeners.has_subscribers());
        assert!(listeners.cancel(strings) && !listeners.cancel(strings));
    }

    #[test]
    fn a_module_that_has_gone_is_told_nothing() {
        let mut listeners = Listeners::default();
        listeners.when_durable(b"a", None, 1);
        listeners.when_durable(b"b", None, 2);
        listeners.subscribe(b"a", 8, 3);
        listeners.subscribe(b"b", 8, 4);
        listeners.add(event(8, "s"));
        listeners.unit_ended(Lsn::new(7));
        listeners.iteration_ended(Lsn::new(7));
        listeners.durable(Lsn::new(7));
        assert!(matches!(listeners.next_call(), Some(Call::Event(_, _, 3))));
        // While it goes on.
        listeners.forget_owner(b"a");
        assert_eq!(calls(&mut listeners), ["4 7 s", "2 7"]);
        listeners.add(event(8, "t"));
        listeners.when_durable(b"b", None, 5);
        listeners.given_up(Lsn::new(8));
        assert_eq!(calls(&mut listeners), ["5 8 lost"]);
        listeners.forget_owner(b"b");
        assert!(!listeners.has_subscribers() && listeners.is_empty());
    }
}
