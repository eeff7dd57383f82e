//! A portion of the log, made ready to be replayed.
//!
//! It holds a piece of the log as it was read, and where in it the arguments of the commands are. A command that does
//! not end in the portion is open: it goes on with what is read next, and moves to the next portion when this one is
//! handed over.
//!
//! The server's work around a command that a module runs is more than a small SET itself. Plain SETs that follow one
//! another are therefore run as one MSET, which does to each key what SET does: any old value and its expiry go, the
//! new value gets its compact encoding. While the log is replayed nobody can look in between.

use crate::log::{FormatError, Lsn};
use std::ops::Range;

/// Pairs of one MSET: more save no time.
const PAIRS_MAX: usize = 64;

/// An MSET takes no more SETs once its arguments have this many bytes.
const PAIRS_BYTES_MAX: usize = 64 << 10;

/// The shortest argument: `$0\r\n\r\n`.
const ARGUMENT_BYTES_MIN: u64 = 6;

/// The longest number.
const DIGITS_MAX: usize = 20;

/// Memory for a longer argument is taken at once.
const LONG_ARGUMENT_BYTES: usize = 1 << 20;

/// Where in the log a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its position.
    pub at: Lsn,
    /// It may have failed already when it was executed: format 1 has transactions with all their commands, as they were
    /// queued.
    pub may_have_failed: bool,
}

/// What is known of the log at the end of what was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    /// The frame is of format 1.
    pub is_format_1: bool,
    /// A MULTI comes before.
    pub in_transaction: bool,
}

/// Something to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    /// Where it begins in the portion's bytes.
    start: usize,
    may_have_failed: bool,
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
    /// Sets keys; key and value alternately.
    SetAll(Arguments<'a>),
    /// Runs a command; its name first.
    Run(Arguments<'a>),
}

/// Commands of the log.
#[derive(Debug, Default)]
pub struct Portion {
    /// The position of the first byte.
    first: Lsn,
    bytes: Vec<u8>,
    /// Where in them the arguments are.
    args: Vec<Range<usize>>,
    steps: Vec<Step>,
    open: Open,
}

/// A command that has not ended.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    /// Where it begins.
    start: usize,
    /// The number of its arguments; 0 when that was not read yet.
    count: usize,
    /// The first of them.
    first_arg: usize,
    /// It is read up to here.
    at: usize,
}

impl Portion {
    /// Adds a piece of a frame, from this position of the log, after what is there. `left` bytes of the frame follow.
    ///
    /// # Errors
    /// What is at the position is not a command.
    pub fn add(&mut self, at: Lsn, piece: &[u8], left: u64, marks: &mut Marks) -> Result<(), (Lsn, FormatError)> {
        if self.bytes.is_empty() {
            self.first = at;
        }
        self.bytes.extend_from_slice(piece);
        loop {
            let added =
                self.read_command(left).and_then(|is_whole| if is_whole { self.close(*marks) } else { Ok(None) });
            match added {
                Ok(None) => break,
                Ok(Some(in_transaction)) => marks.in_transaction = in_transaction,
                Err(error) => return Err((self.position(self.open.start), error)),
            }
        }
        if left == 0 && self.is_open() {
            return Err((self.position(self.open.start), FormatError::Command("a command is cut short")));
        }
        Ok(())
    }

    /// Reads on; `true` when the open command is whole.
    fn read_command(&mut self, left: u64) -> Result<bool, FormatError> {
        if self.open.count == 0 {
            let Some((count, at)) = number(&self.bytes, self.open.at, b'*')? else { return Ok(false) };
            // Bounds the memory by the bytes present.
            if count == 0 || count as u64 > self.unread(at, left) / ARGUMENT_BYTES_MIN {
                return Err(FormatError::Command("the count of arguments is out of range"));
            }
            (self.open.count, self.open.at) = (count, at);
        }
        while self.args.len() - self.open.first_arg < self.open.count {
            let Some((length, start)) = number(&self.bytes, self.open.at, b'$')? else { return Ok(false) };
            let cut = FormatError::Command("an argument is cut short");
            let missing = match self.bytes.get(start..).map(|rest| rest.split_at_checked(length)) {
                Some(Some((_, behind))) if behind.len() >= 2 => None,
                _ => Some((length as u64).saturating_add(2)),
            };
            if let Some(needed) = missing {
                if needed > self.unread(start, left) {
                    return Err(cut);
                }
                if length >= LONG_ARGUMENT_BYTES {
                    self.bytes.reserve_exact(start + length + 2 - self.bytes.len());
                }
                return Ok(false);
            }
            let end = start + length;
            if self.bytes.get(end..end + 2) != Some(&b"\r\n"[..]) {
                return Err(cut);
            }
            self.args.push(start..end);
            self.open.at = end + 2;
        }
        Ok(true)
    }

    /// Bytes of the frame from here on.
    fn unread(&self, at: usize, left: u64) -> u64 {
        (self.bytes.len() - at) as u64 + left
    }

    /// The open command is whole. What only marks units is left out: the replay need not keep them apart. Returns
    /// whether a transaction is open after it.
    fn close(&mut self, marks: Marks) -> Result<Option<bool>, FormatError> {
        let Open { start, count, first_arg, at } = self.open;
        let arg = |index: usize| {
            self.args.get(first_arg + index).and_then(|range| self.bytes.get(range.clone())).unwrap_or_default()
        };
        let mut in_transaction = marks.in_transaction;
        let kind = match (count, arg(0)) {
            (1, b"MULTI" | b"EXEC") => {
                in_transaction = arg(0) == b"MULTI";
                self.args.truncate(first_arg);
                None
            }
            (2, b"SELECT") => {
                let db = std::str::from_utf8(arg(1)).ok().and_then(|db| db.parse().ok());
                let db = db.ok_or(FormatError::Command("a database is no number"))?;
                self.args.truncate(first_arg);
                Some(Kind::Select(db))
            }
            (3, name) if name.eq_ignore_ascii_case(b"set") => {
                let added = arg(1).len() + arg(2).len();
                self.args.remove(first_arg);
                self.join(added)
            }
            _ => Some(Kind::Run { count }),
        };
        if let Some(kind) = kind {
            self.steps.push(Step { start, may_have_failed: marks.is_format_1 && in_transaction, kind });
        }
        self.open = Open { start: at, count: 0, first_arg: self.args.len(), at };
        Ok(Some(in_transaction))
    }

    /// Joins a SET to those before it; gives a step of its own where that is not possible.
    fn join(&mut self, added: usize) -> Option<Kind> {
        match self.steps.last_mut().map(|step| &mut step.kind) {
            Some(Kind::SetAll { count, bytes }) if *count < 2 * PAIRS_MAX && *bytes < PAIRS_BYTES_MAX => {
                *count += 2;
                *bytes += added;
                None
            }
            _ => Some(Kind::SetAll { count: 2, bytes: added }),
        }
    }

    fn position(&self, offset: usize) -> Lsn {
        self.first.checked_advance(offset as u64).unwrap_or(self.first)
    }

    /// What is to be done, in order, each with its place in the log (that of the first of several SETs).
    pub fn actions(&self) -> impl Iterator<Item = (Place, Action<'_>)> {
        let mut rest = Arguments { bytes: &self.bytes, ranges: &self.args };
        self.steps.iter().map(move |step| {
            let action = match step.kind {
                Kind::Select(db) => Action::Select(db),
                Kind::SetAll { count, .. } => Action::SetAll(rest.split_off_first(count)),
                Kind::Run { count } => Action::Run(rest.split_off_first(count)),
            };
            (Place { at: self.position(step.start), may_have_failed: step.may_have_failed }, action)
        })
    }

    /// Whether a command has begun in it and not ended.
    pub fn is_open(&self) -> bool {
        self.open.start < self.bytes.len()
    }

    /// Whether it has nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Moves the open command to another portion, which is empty.
    pub fn move_open(&mut self, to: &mut Portion) {
        let Open { start, count, first_arg, at } = self.open;
        to.first = self.position(start);
        to.bytes.extend_from_slice(self.bytes.get(start..).unwrap_or_default());
        to.args.extend(self.args.drain(first_arg..).map(|range| range.start - start..range.end - start));
        to.open = Open { start: 0, count, first_arg: 0, at: at - start };
        self.bytes.truncate(start);
        self.open = Open { start, count: 0, first_arg, at: start };
    }

    /// Bytes of memory in use.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(self.args.as_slice()) + size_of_val(self.steps.as_slice())
    }

    /// Forgets the content and keeps the memory, unless more than `kept_bytes_max` bytes were in use.
    pub fn clear(&mut self, kept_bytes_max: usize) {
        if self.size_bytes() > kept_bytes_max {
            *self = Portion::default();
        }
        self.bytes.clear();
        self.args.clear();
        self.steps.clear();
        self.open = Open::default();
    }
}

/// The number of the line at `at`, which begins with `kind`, and where the next line begins; `None` when the line has
/// not ended yet.
fn number(bytes: &[u8], at: usize, kind: u8) -> Result<Option<(usize, usize)>, FormatError> {
    const WRONG: FormatError = FormatError::Command("a count is no number");
    let Some((first, line)) = bytes.get(at..).and_then(<[u8]>::split_first) else { return Ok(None) };
    if *first != kind {
        return Err(FormatError::Command("a command has the wrong shape"));
    }
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match line.get(digits..digits + 2) {
        Some(b"\r\n") => {}
        None if digits <= DIGITS_MAX && matches!(line.get(digits..), Some(b"" | b"\r")) => return Ok(None),
        _ => return Err(WRONG),
    }
    let value = line.get(..digits).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    Ok(Some((value.ok_or(WRONG)?, at + 1 + digits + 2)))
}

/// Some arguments of a portion, in order.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Arguments<'a> {
    /// Takes the first `count` arguments away.
    pub fn split_off_first(&mut self, count: usize) -> Arguments<'a> {
        let (first, rest) = self.ranges.split_at_checked(count).unwrap_or((self.ranges, &[]));
        self.ranges = rest;
        Arguments { bytes: self.bytes, ranges: first }
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (range, rest) = self.ranges.split_first()?;
        self.ranges = rest;
        self.bytes.get(range.clone())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.ranges.len(), Some(self.ranges.len()))
    }
}

impl ExactSizeIterator for Arguments<'_> {}

#[cfg(test)]
mod tests;
