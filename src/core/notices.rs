//! Keyspace notifications that wait until the change they report is durable.

use crate::log::Lsn;
use std::collections::VecDeque;

/// The classes of events that are published, and in which channels: the flags of the server's `notify-keyspace-events`,
/// in its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventClasses(u32);

/// The letters of the classes that `A` means, in the order in which the server shows them, with their bits
/// (`server.h`).
const LETTERS: [(char, u32); 11] = [
    ('g', 1 << 2),
    ('$', 1 << 3),
    ('l', 1 << 4),
    ('s', 1 << 5),
    ('h', 1 << 6),
    ('z', 1 << 7),
    ('x', 1 << 8),
    ('e', 1 << 9),
    ('t', 1 << 10),
    ('d', 1 << 13),
    ('n', 1 << 14),
];
const KEYSPACE: (char, u32) = ('K', 1 << 0);
const KEYEVENT: (char, u32) = ('E', 1 << 1);
const KEY_MISS: (char, u32) = ('m', 1 << 11);
/// All of `LETTERS` but `n`.
const ALL: u32 = 0b10_0111_1111_1100;

impl EventClasses {
    /// Reads the letters of `notify-keyspace-events`; `None` when one is unknown.
    pub fn parse(letters: &str) -> Option<EventClasses> {
        let bits = |letter: char| match letter {
            'A' => Some(ALL),
            _ => {
                LETTERS.iter().chain([&KEYSPACE, &KEYEVENT, &KEY_MISS]).find(|(l, _)| *l == letter).map(|(_, bit)| *bit)
            }
        };
        letters.chars().map(bits).try_fold(0, |all, bits| Some(all | bits?)).map(EventClasses)
    }

    /// The letters as the server shows them.
    pub fn letters(self) -> String {
        let has = |bits: u32| self.0 & bits == bits;
        let mut letters: String =
            if has(ALL) { "A".into() } else { LETTERS.iter().filter(|(_, bit)| has(*bit)).map(|(l, _)| *l).collect() };
        letters.extend([KEYSPACE, KEYEVENT, KEY_MISS].iter().filter(|(_, bit)| has(*bit)).map(|(letter, _)| *letter));
        letters
    }

    /// As one number.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// From such a number.
    pub fn from_bits(bits: u32) -> EventClasses {
        EventClasses(bits)
    }

    /// Whether events of this class (the server's bit) are published in any channel.
    pub fn publish(self, class: u32) -> bool {
        self.0 & class != 0 && self.0 & (KEYSPACE.1 | KEYEVENT.1) != 0
    }

    /// Whether they include classes that are not changes, or that few want: `m` and `n`.
    pub fn needs_more_events(self) -> bool {
        self.0 & (KEY_MISS.1 | 1 << 14) != 0
    }

    /// The messages of an event, each with its channel.
    pub fn messages(self, notice: &Notice) -> Vec<(Vec<u8>, Vec<u8>)> {
        let channel = |kind: &str, name: &[u8]| [format!("__{kind}@{}__:", notice.db).as_bytes(), name].concat();
        let mut messages = Vec::new();
        if self.0 & KEYSPACE.1 != 0 {
            messages.push((channel("keyspace", &notice.key), notice.event.clone()));
        }
        if self.0 & KEYEVENT.1 != 0 {
            messages.push((channel("keyevent", &notice.event), notice.key.clone()));
        }
        messages
    }
}

/// An event to be published to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The key's database.
    pub db: u32,
    /// The event's name.
    pub event: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
}

/// Events in their order, each from when it happened until its change is durable.
#[derive(Debug, Default)]
pub struct Notices {
    /// Those of the running unit.
    running: Vec<Notice>,
    waiting: VecDeque<(Lsn, Notice)>,
}

impl Notices {
    /// An event of the running unit.
    pub fn add(&mut self, notice: Notice) {
        self.running.push(notice);
    }

    /// The unit has ended at this position, which is not below that of any unit before.
    pub fn unit_ended(&mut self, lsn: Lsn) {
        self.waiting.extend(self.running.drain(..).map(|notice| (lsn, notice)));
    }

    /// Takes out what may be published.
    pub fn take_up_to(&mut self, durable: Lsn) -> Vec<Notice> {
        let count = self.waiting.partition_point(|(lsn, _)| *lsn <= durable);
        self.waiting.drain(..count).map(|(_, notice)| notice).collect()
    }

    /// Takes out everything.
    pub fn take_all(&mut self) -> Vec<Notice> {
        let mut all: Vec<Notice> = self.waiting.drain(..).map(|(_, notice)| notice).collect();
        all.append(&mut self.running);
        all
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_told_as_the_server_tells_them() {
        for (given, told) in
            [("", ""), ("KEA", "AKE"), ("Ex", "xE"), ("g$lshzxetd", "A"), ("AnmK", "AKm"), ("K$n", "$nK"), ("m", "m")]
        {
            assert_eq!(EventClasses::parse(given).map(EventClasses::letters).as_deref(), Some(told), "{given}");
        }
        assert_eq!(EventClasses::parse("KEq"), None);
    }

    #[test]
    fn nothing_is_published_without_a_channel() {
        let publish = |letters: &str, class| EventClasses::parse(letters).expect("known").publish(class);
        assert!(publish("K$", 1 << 3));
        assert!(!publish("$", 1 << 3));
        assert!(!publish("Kg", 1 << 3));
    }

    #[test]
    fn events_leave_in_order_when_their_unit_is_durable() {
        let notice = |key: &str| Notice { db: 3, event: b"set".to_vec(), key: key.as_bytes().to_vec() };
        let mut notices = Notices::default();
        notices.add(notice("a"));
        notices.unit_ended(Lsn::new(5));
        notices.add(notice("b"));
        assert_eq!(notices.take_up_to(Lsn::new(4)), []);
        assert_eq!(notices.take_up_to(Lsn::new(9)), [notice("a")]);
        notices.unit_ended(Lsn::new(10));
        assert_eq!(notices.take_up_to(Lsn::new(10)), [notice("b")]);
        assert!(notices.is_empty());
    }

    #[test]
    fn channels_are_the_servers() {
        let notice = Notice { db: 3, event: b"set".to_vec(), key: b"k".to_vec() };
        let messages = EventClasses::parse("KEA").expect("known").messages(&notice);
        let text: Vec<_> =
            messages.iter().map(|(c, m)| (String::from_utf8_lossy(c), String::from_utf8_lossy(m))).collect();
        assert_eq!(text, [("__keyspace@3__:k".into(), "set".into()), ("__keyevent@3__:set".into(), "k".into())]);
    }
}
