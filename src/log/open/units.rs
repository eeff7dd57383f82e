//! The units of a frame: what was executed as a whole, command by command.
//!
//! A unit is one command, after a SELECT where the database changes, or several between MULTI and EXEC.

use crate::log::format::FormatError;
use crate::log::format::resp::Commands;
use crate::log::lsn::Lsn;
use std::ops::Range;

/// One unit of a log, its arguments borrowed from the frame.
#[derive(Clone, Debug, Default)]
pub struct Unit<'a> {
    /// The position of its first byte.
    pub start: Lsn,
    /// The position after it, which its replies waited for.
    pub end: Lsn,
    /// When its frame was handed over, to a second.
    pub unix_ms: u64,
    /// Whether it is between MULTI and EXEC.
    pub is_transaction: bool,
    commands: Vec<Place>,
    args: Vec<&'a [u8]>,
}

/// One command of a unit. SELECT, MULTI and EXEC do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitCommand<'u, 'a> {
    /// The position of its first byte.
    pub at: Lsn,
    /// Its bytes in the log.
    pub bytes: u64,
    /// The database that it runs in.
    pub db: u32,
    /// The arguments, the name first; never empty.
    pub args: &'u [&'a [u8]],
}

#[derive(Clone, Debug)]
struct Place {
    at: Lsn,
    bytes: u64,
    db: u32,
    args: Range<usize>,
}

impl<'a> Unit<'a> {
    /// Its commands, in order.
    pub fn commands(&self) -> impl Iterator<Item = UnitCommand<'_, 'a>> {
        self.commands.iter().map(|Place { at, bytes, db, args }| UnitCommand {
            at: *at,
            bytes: *bytes,
            db: *db,
            args: self.args.get(args.clone()).unwrap_or_default(),
        })
    }
}

/// The units of one frame, in order.
pub(super) struct FrameUnits<'a> {
    commands: Commands<'a>,
    first: Lsn,
    one: Vec<&'a [u8]>,
}

impl<'a> FrameUnits<'a> {
    pub fn new(first: Lsn, payload: &'a [u8]) -> FrameUnits<'a> {
        FrameUnits { commands: Commands::new(payload), first, one: Vec::new() }
    }

    /// Replaces `unit` with the next one; `false` at the end of the frame. `db` is the selected database.
    pub fn next_into(&mut self, unit: &mut Unit<'a>, db: &mut u32) -> Result<bool, FormatError> {
        (unit.start, unit.is_transaction) = (self.position(), false);
        unit.commands.clear();
        unit.args.clear();
        loop {
            let at = self.position();
            if !self.commands.next_into(&mut self.one)? {
                let is_whole = at == unit.start;
                return if is_whole { Ok(false) } else { Err(FormatError::Command("a unit is cut short")) };
            }
            match *self.one.as_slice() {
                [b"MULTI"] if !unit.is_transaction => unit.is_transaction = true,
                [b"EXEC"] if unit.is_transaction => break,
                [b"MULTI" | b"EXEC"] => return Err(FormatError::Command("MULTI and EXEC are no pair")),
                [b"SELECT", number] => {
                    let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
                    *db = number.ok_or(FormatError::Command("a database is no number"))?;
                }
                _ => {
                    let first = unit.args.len();
                    unit.args.append(&mut self.one);
                    let bytes = self.position().bytes_since(at);
                    unit.commands.push(Place { at, bytes, db: *db, args: first..unit.args.len() });
                    if !unit.is_transaction {
                        break;
                    }
                }
            }
        }
        unit.end = self.position();
        Ok(true)
    }

    /// Of the next command. A frame ends within the range of positions.
    fn position(&self) -> Lsn {
        self.first.advance(self.commands.offset() as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::log::format::resp::push_command;

    fn payload(commands: &[&str]) -> Vec<u8> {
        let mut payload = Vec::new();
        for command in commands {
            push_command(&mut payload, &command.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        }
        payload
    }

    /// Each unit as `start-end db:command, ...`.
    fn units(payload: &[u8]) -> Result<Vec<String>, FormatError> {
        let (mut reader, mut unit, mut db) = (FrameUnits::new(Lsn::new(100), payload), Unit::default(), 0);
        let mut found = Vec::new();
        while reader.next_into(&mut unit, &mut db)? {
            let commands = unit.commands().map(|command| {
                let words: Vec<_> = command.args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
                format!("{}:{}", command.db, words.join(" "))
            });
            found.push(format!("{}-{} {}", unit.start, unit.end, commands.collect::<Vec<_>>().join(", ")));
        }
        Ok(found)
    }

    #[test]
    fn units_are_single_commands_or_transactions() {
        let bytes = payload(&["SELECT 2", "DEL a", "DEL b", "MULTI", "SELECT 0", "DEL c", "SELECT 3", "DEL d", "EXEC"]);
        let select = payload(&["SELECT 2"]).len();
        let del = payload(&["DEL a"]).len();
        let first = 100 + select + del;
        let expected = [
            format!("100-{first} 2:DEL a"),
            format!("{first}-{} 2:DEL b", first + del),
            format!("{}-{} 0:DEL c, 3:DEL d", first + del, 100 + bytes.len()),
        ];
        assert_eq!(units(&bytes).unwrap(), expected);
    }

    #[test]
    fn what_is_no_whole_unit_is_an_error() {
        for commands in [
            &["MULTI", "DEL a"][..],
            &["SELECT 1"],
            &["EXEC"],
            &["MULTI", "MULTI", "EXEC"],
            &["SELECT x", "DEL a"],
            &["DEL a", "MULTI"],
        ] {
            assert!(units(&payload(commands)).is_err(), "{commands:?}");
        }
        assert_eq!(units(b"").unwrap(), [""; 0]);
    }
}
