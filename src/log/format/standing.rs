//! What a log counts for at the next start.

use std::fmt;

/// The most characters of a note.
const NOTE_CHARACTERS_MAX: usize = 400;

/// What a log counts for at the next start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It is the newest that there is.
    #[default]
    Current,
    /// It was left: the server went on without it, or ended.
    Left(Left),
    /// The server has taken another dataset since, so that this one must not come back.
    Superseded,
}

/// When a log was left, and a note on what there was beside it then, by which the next start finds out whether that has
/// changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    unix_ms: u64,
    note: String,
}

impl Left {
    /// `None` where the note is not one word of lower-case letters, digits, and `:-`.
    pub fn new(unix_ms: u64, note: &str) -> Option<Left> {
        let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b':' | b'-');
        let is_word = (1..=NOTE_CHARACTERS_MAX).contains(&note.len()) && note.bytes().all(is_known);
        is_word.then(|| Left { unix_ms, note: note.into() })
    }

    /// When.
    pub fn unix_ms(&self) -> u64 {
        self.unix_ms
    }

    /// The note.
    pub fn note(&self) -> &str {
        &self.note
    }
}

impl Standing {
    /// What it becomes: a superseded log stays that.
    pub(crate) fn followed_by(&self, next: Standing) -> Standing {
        if *self == Standing::Superseded { Standing::Superseded } else { next }
    }

    /// Reads the words that stand for it in the manifest.
    pub(super) fn parse(words: &[&str]) -> Option<Standing> {
        match words {
            [] => Some(Standing::Current),
            ["superseded"] => Some(Standing::Superseded),
            ["left", unix_ms, note] => Left::new(unix_ms.parse().ok()?, note).map(Standing::Left),
            _ => None,
        }
    }
}

/// As the manifest has it, with a space before each word.
impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Current => Ok(()),
            Standing::Left(Left { unix_ms, note }) => write!(formatter, " left {unix_ms} {note}"),
            Standing::Superseded => formatter.write_str(" superseded"),
        }
    }
}
