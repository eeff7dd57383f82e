//! Which commands of a log are meant.

use crate::moment::Moment;
use valkey_wbl::core::logged;
use valkey_wbl::log::{Unit, UnitCommand};

/// Which commands of a log are meant; all where nothing is said.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// Commands that name a key which matches this pattern, as KEYS takes it.
    #[arg(long, value_name = "PATTERN")]
    key: Option<String>,
    /// Commands of these names.
    #[arg(long, value_name = "NAME")]
    command: Vec<String>,
    /// What was logged from this position or time on.
    #[arg(long, value_name = "POSITION|TIME")]
    from: Option<Moment>,
    /// What was logged up to this position or time.
    #[arg(long, value_name = "POSITION|TIME")]
    until: Option<Moment>,
    /// Commands that ran in this database.
    #[arg(long, value_name = "NUMBER")]
    db: Option<u32>,
}

impl Filter {
    /// Whether a unit is within the limits of position and time.
    pub fn has_unit(&self, unit: &Unit<'_>) -> bool {
        let is_late = self.from.is_none_or(|from| match from {
            Moment::Position(position) => unit.start >= position,
            Moment::UnixMs(time) => unit.unix_ms >= time,
        });
        is_late && self.until.is_none_or(|until| is_until(unit, until))
    }

    /// Whether nothing that is meant can follow. (A clock may have been set back, so times show nothing.)
    pub fn is_over(&self, unit: &Unit<'_>) -> bool {
        matches!(self.until, Some(Moment::Position(position)) if unit.start >= position)
    }

    /// Whether a command is meant.
    pub fn has_command(&self, command: &UnitCommand<'_, '_>) -> bool {
        let name = command.args.first().copied().unwrap_or_default();
        let has_name = |wanted: &String| name.eq_ignore_ascii_case(wanted.as_bytes());
        (self.command.is_empty() || self.command.iter().any(has_name))
            && self.db.is_none_or(|db| db == command.db)
            && self.key.as_ref().is_none_or(|pattern| {
                let is_meant = |index: usize| matches(pattern.as_bytes(), command.args.get(index).unwrap_or(&&[][..]));
                logged::keys(command.args).into_iter().any(is_meant)
            })
    }
}

/// Whether a unit had been logged at a moment. Its end is the position that its replies waited for.
pub fn is_until(unit: &Unit<'_>, until: Moment) -> bool {
    match until {
        Moment::Position(position) => unit.end <= position,
        Moment::UnixMs(time) => unit.unix_ms <= time,
    }
}

/// Whether a text matches a pattern, as KEYS takes it: `*`, `?`, `[a-c]`, `[^x]`, and `\` before a letter.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on when what follows the last `*` does not match.
    let mut again: Option<(&[u8], &[u8])> = None;
    let (mut pattern, mut text) = (pattern, text);
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                again = Some((rest, text));
                pattern = rest;
                continue;
            }
            (None, None) => return true,
            (Some(_), Some((letter, text_rest))) => {
                if let Some(rest) = match_one(pattern, *letter) {
                    (pattern, text) = (rest, text_rest);
                    continue;
                }
            }
            _ => {}
        }
        match again {
            Some((rest, [_, text_rest @ ..])) => {
                again = Some((rest, text_rest));
                (pattern, text) = (rest, text_rest);
            }
            _ => return false,
        }
    }
}

/// The pattern after its first element, if that matches a letter.
fn match_one(pattern: &[u8], letter: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => {
            let (is_negated, mut rest) = match rest {
                [b'^', rest @ ..] => (true, rest),
                rest => (false, rest),
            };
            let mut is_in = false;
            loop {
                rest = match rest {
                    [b'\\', one, rest @ ..] => {
                        is_in |= *one == letter;
                        rest
                    }
                    [b']', rest @ ..] => return (is_in != is_negated).then_some(rest),
                    [first, b'-', last, rest @ ..] => {
                        is_in |= (*first.min(last)..=*first.max(last)).contains(&letter);
                        rest
                    }
                    [one, rest @ ..] => {
                        is_in |= *one == letter;
                        rest
                    }
                    // A set without an end goes to the end of the pattern.
                    [] => return (is_in != is_negated).then_some(&[]),
                };
            }
        }
        [b'\\', one, rest @ ..] | [one, rest @ ..] => (*one == letter).then_some(rest),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_keys() {
        for (pattern, text) in [
            ("*", ""),
            ("user:*", "user:1"),
            ("*:1", "user:1"),
            ("u*r:?", "user:1"),
            ("[a-c]x", "bx"),
            ("[c-a]x", "bx"),
            ("[^a]x", "bx"),
            ("\\*", "*"),
            ("a**b", "ab"),
            ("*a*b", "xaaab"),
            ("[\\]]", "]"),
            ("[ab", "a"),
        ] {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("user:*", "use"), ("?", ""), ("[a-c]x", "dx"), ("[^a]x", "ax"), ("\\*", "a"), ("*a*b", "xaaa")]
        {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "*a".repeat(40) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(5000).as_bytes()));
    }
}
