//! The mark of a log outside its folder, for as long as the folder does not take it.
//!
//! ```text
//! #WBL2 mark <generation> <position>|- [left <unix ms> <note>|superseded [<unix ms> <note>]] <crc32c>\n
//! ```
//!
//! The checksum, eight hexadecimal digits, covers all that is before it.

use super::standing::Standing;
use super::{Generation, hexadecimal};
use crate::log::lsn::Lsn;
use std::fmt;

/// What the line begins with.
const PREFIX: &str = "#WBL2 mark ";

/// Bytes of the longest mark, and more.
pub(crate) const OUTSIDE_MARK_BYTES_MAX: usize = 1024;

/// What a log counts for at the next start, which its own folder does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideMark {
    /// Which log.
    pub generation: Generation,
    /// It only counts for that if it ends before this position; `None` where it does wherever it ends.
    pub before: Option<Lsn>,
    /// What it counts for.
    pub standing: Standing,
}

impl OutsideMark {
    /// Whether it says anything of a log that ends there.
    pub fn holds_for(&self, generation: Generation, end: Lsn) -> bool {
        self.generation == generation && self.before.is_none_or(|before| end < before)
    }

    /// Reads a mark; `None` where the text is none, or is damaged.
    pub fn parse(text: &str) -> Option<OutsideMark> {
        let (checked, crc) = text.strip_suffix('\n')?.rsplit_once(' ')?;
        let is_whole =
            crc.len() == 8 && hexadecimal(crc.as_bytes()) == Some(u64::from(crc32c::crc32c(checked.as_bytes())));
        let words: Vec<&str> = checked.strip_prefix(PREFIX).filter(|_| is_whole)?.split(' ').collect();
        let [counter, random, before, standing @ ..] = &words[..] else { return None };
        let generation =
            Generation { counter: hexadecimal(counter.as_bytes())?, random: hexadecimal(random.as_bytes())? };
        let before = match *before {
            "-" => None,
            position => Some(Lsn::new(position.parse().ok()?)),
        };
        Some(OutsideMark { generation, before, standing: Standing::parse(standing)? })
    }
}

/// The line, as it is written.
impl fmt::Display for OutsideMark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.before.map_or_else(|| "-".into(), |before| before.to_string());
        let checked = format!("{PREFIX}{} {before}{}", self.generation, self.standing);
        writeln!(formatter, "{checked} {:08x}", crc32c::crc32c(checked.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::log::format::standing::Left;

    const GENERATION: Generation = Generation { counter: 3, random: 0xfedc };

    fn marks() -> [OutsideMark; 4] {
        let left = Left::new(1_700_000_000_000, "aof:7:000000ab").unwrap();
        [
            (None, Standing::Left(left.clone())),
            (Some(Lsn::new(77)), Standing::Left(left.clone())),
            (None, Standing::Superseded(None)),
            (None, Standing::Superseded(Some(left))),
        ]
        .map(|(before, standing)| OutsideMark { generation: GENERATION, before, standing })
    }

    #[test]
    fn a_mark_is_read_back_and_every_other_byte_is_noticed() {
        for mark in marks() {
            let text = mark.to_string();
            assert!(text.len() <= OUTSIDE_MARK_BYTES_MAX);
            assert_eq!(OutsideMark::parse(&text), Some(mark));
            for at in 0..text.len() {
                assert_eq!(OutsideMark::parse(&text[..at]), None, "cut at {at}");
                let mut other = text.clone().into_bytes();
                other[at] ^= 1;
                assert_eq!(OutsideMark::parse(&String::from_utf8(other).unwrap()), None, "byte {at}");
            }
        }
    }

    #[test]
    fn it_says_nothing_of_another_log_or_of_one_that_has_gone_on() {
        let [always, before, ..] = marks();
        let other = Generation { counter: 4, ..GENERATION };
        assert!(always.holds_for(GENERATION, Lsn::LIMIT) && !always.holds_for(other, Lsn::ZERO));
        assert!(before.holds_for(GENERATION, Lsn::new(76)) && !before.holds_for(GENERATION, Lsn::new(77)));
    }
}
