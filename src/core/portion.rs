//! A portion of the log, made ready to be replayed.
//!
//! Around a command that a module runs the server does more work than for a small SET itself. Plain SETs that follow one another are therefore
//! run as one MSET, which does to each key what SET does: any old value and its expiry go, the new value gets its compact encoding. While the log
//! is replayed nobody can look in between.

use crate::log::{FormatError, Lsn};

/// Pairs of one MSET: more save no time.
const PAIRS_MAX: usize = 64;

/// An MSET takes no more SETs when its arguments have this many bytes.
const PAIRS_BYTES_MAX: usize = 64 << 10;

/// Where in the log a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its position.
    pub at: Lsn,
    /// It may have failed already when it was executed: format 1 has transactions with all their commands, as they were queued.
    pub may_have_failed: bool,
}

/// Something to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    place: Place,
    kind: Kind,
}

/// What is to be done, with the number of arguments that are for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Select(u32),
    SetAll { count: usize, bytes: usize },
    Run { count: usize },
}

/// What the replay does next.
#[derive(Clone, Debug)]
pub enum Action<'a> {
    /// The commands that follow are for this database.
    Select(u32),
    /// Sets keys; key and value by turns.
    SetAll(Arguments<'a>),
    /// Runs a command; its name first.
    Run(Arguments<'a>),
}

/// Commands of the log, copied from their frame.
#[derive(Debug, Default)]
pub struct Portion {
    /// All arguments, one behind the other.
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    steps: Vec<Step>,
}

impl Portion {
    /// Adds the command that stands at this place. What only marks units is left out: the replay need not keep them apart.
    ///
    /// # Errors
    /// A SELECT without a number.
    pub fn push(&mut self, place: Place, args: &[&[u8]]) -> Result<(), FormatError> {
        match args {
            [] | [b"MULTI" | b"EXEC"] => {}
            [b"SELECT", db] => {
                let db = std::str::from_utf8(db).ok().and_then(|db| db.parse().ok());
                let db = db.ok_or(FormatError::Command("a database is no number"))?;
                self.steps.push(Step { place, kind: Kind::Select(db) });
            }
            [name, pair @ ..] if pair.len() == 2 && name.eq_ignore_ascii_case(b"set") => self.push_set(place, pair),
            _ => {
                self.copy(args);
                self.steps.push(Step { place, kind: Kind::Run { count: args.len() } });
            }
        }
        Ok(())
    }

    fn push_set(&mut self, place: Place, pair: &[&[u8]]) {
        self.copy(pair);
        let added: usize = pair.iter().map(|arg| arg.len()).sum();
        match self.steps.last_mut().map(|step| &mut step.kind) {
            Some(Kind::SetAll { count, bytes }) if *count < 2 * PAIRS_MAX && *bytes < PAIRS_BYTES_MAX => {
                *count += pair.len();
                *bytes += added;
            }
            _ => self.steps.push(Step { place, kind: Kind::SetAll { count: pair.len(), bytes: added } }),
        }
    }

    fn copy(&mut self, args: &[&[u8]]) {
        for arg in args {
            self.bytes.extend_from_slice(arg);
            self.ends.push(self.bytes.len());
        }
    }

    /// What is to be done, in order, each with its place in the log (that of the first of several SETs).
    pub fn actions(&self) -> impl Iterator<Item = (Place, Action<'_>)> {
        let mut rest = Arguments { bytes: &self.bytes, ends: &self.ends, start: 0 };
        self.steps.iter().map(move |step| {
            let action = match step.kind {
                Kind::Select(db) => Action::Select(db),
                Kind::SetAll { count, .. } => Action::SetAll(rest.split_off_first(count)),
                Kind::Run { count } => Action::Run(rest.split_off_first(count)),
            };
            (step.place, action)
        })
    }

    /// Bytes of memory in use.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(self.ends.as_slice()) + size_of_val(self.steps.as_slice())
    }

    /// Forgets the content and keeps the memory, unless more than `kept_bytes_max` bytes were in use.
    pub fn clear(&mut self, kept_bytes_max: usize) {
        if self.size_bytes() > kept_bytes_max {
            *self = Portion::default();
        }
        self.bytes.clear();
        self.ends.clear();
        self.steps.clear();
    }
}

/// Some arguments of a portion, in order.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    ends: &'a [usize],
    /// Where the first begins.
    start: usize,
}

impl<'a> Arguments<'a> {
    /// Takes the first `count` arguments away.
    pub fn split_off_first(&mut self, count: usize) -> Arguments<'a> {
        let (first, rest) = self.ends.split_at_checked(count).unwrap_or((self.ends, &[]));
        let taken = Arguments { bytes: self.bytes, ends: first, start: self.start };
        self.start = first.last().copied().unwrap_or(self.start);
        self.ends = rest;
        taken
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (end, rest) = self.ends.split_first()?;
        let arg = self.bytes.get(self.start..*end);
        (self.start, self.ends) = (*end, rest);
        arg
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.ends.len(), Some(self.ends.len()))
    }
}

impl ExactSizeIterator for Arguments<'_> {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// One line per action.
    fn told(portion: &Portion) -> Vec<String> {
        let words = |args: Arguments<'_>| args.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        let told = portion.actions().map(|(_, action)| match action {
            Action::Select(db) => format!("select {db}"),
            Action::SetAll(args) => format!("set all: {}", words(args)),
            Action::Run(args) => format!("run: {}", words(args)),
        });
        told.collect()
    }

    fn place(at: usize) -> Place {
        Place { at: Lsn::new(at as u64), may_have_failed: false }
    }

    fn of(commands: &[&str]) -> Portion {
        let mut portion = Portion::default();
        for (at, command) in commands.iter().enumerate() {
            portion.push(place(at), &command.split(' ').map(str::as_bytes).collect::<Vec<_>>()).unwrap();
        }
        portion
    }

    #[test]
    fn plain_sets_in_a_row_are_joined_and_all_else_stays_as_it_is_and_where_it_is() {
        let portion = of(&[
            "SET a 1",
            "MULTI",
            "set b 2",
            "SET a 3",
            "EXEC",
            "INCR a",
            "SET c 4 PXAT 5",
            "SET d 6",
            "SELECT 7",
            "SET e 8",
            "GET e",
            "SET f",
        ]);
        let expected = [
            "set all: a 1 b 2 a 3",
            "run: INCR a",
            "run: SET c 4 PXAT 5",
            "set all: d 6",
            "select 7",
            "set all: e 8",
            "run: GET e",
            "run: SET f",
        ];
        assert_eq!(told(&portion), expected);
        let positions: Vec<u64> = portion.actions().map(|(place, _)| place.at.get()).collect();
        assert_eq!(positions, [0, 5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn joined_sets_are_bounded_in_number_and_bytes() {
        let sets = |count: usize, bytes: usize| {
            let mut portion = Portion::default();
            for _ in 0..count {
                portion.push(place(0), &[b"SET", b"k", &vec![b'v'; bytes]]).unwrap();
            }
            portion
                .actions()
                .map(|(_, action)| if let Action::SetAll(args) = action { args.len() / 2 } else { 0 })
                .collect()
        };
        let counts: Vec<usize> = sets(2 * PAIRS_MAX + 1, 0);
        assert_eq!(counts, [PAIRS_MAX, PAIRS_MAX, 1]);
        let counts: Vec<usize> = sets(3, PAIRS_BYTES_MAX);
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn empty_arguments_are_arguments() {
        let mut portion = Portion::default();
        portion.push(place(0), &[b"SET", b"", b""]).unwrap();
        portion.push(place(0), &[b"ECHO", b""]).unwrap();
        let counts: Vec<usize> = portion
            .actions()
            .map(|(_, action)| match action {
                Action::SetAll(args) | Action::Run(args) => {
                    assert_eq!(args.len(), args.clone().count());
                    args.len()
                }
                Action::Select(_) => 0,
            })
            .collect();
        assert_eq!(counts, [2, 2]);
    }

    #[test]
    fn a_cleared_portion_keeps_its_memory_unless_it_is_big() {
        let mut portion = of(&["SET a 1"]);
        portion.clear(1 << 20);
        assert!(portion.size_bytes() == 0 && portion.bytes.capacity() > 0);
        portion.push(place(0), &[b"SET", b"a", &[0; 5000]]).unwrap();
        portion.clear(4096);
        assert!(portion.size_bytes() == 0 && portion.bytes.capacity() == 0);
    }

    #[test]
    fn a_select_without_a_number_is_an_error() {
        assert!(Portion::default().push(place(0), &[b"SELECT", b"x"]).is_err());
    }
}
