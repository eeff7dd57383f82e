//! What a log counts for at the next start.

use std::fmt;

/// The most characters of a note.
const NOTE_CHARACTERS_MAX: usize = 400;

/// What a log counts for at the next start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It is the newest.
    #[default]
    Current,
    /// It was left: the server went on without it, or ended.
    Left(Left),
    /// The server has taken another dataset since, so that this one must not come back; and when it was left before
    /// that, where that is known.
    Superseded(Option<Left>),
}

/// When a log was left, and a note on what was beside it then, from which the next start finds out whether that has
/// changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    unix_ms: u64,
    note: Box<str>,
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

    /// The note on a log of which a part was cut since: whatever is beside it may hold what it lacks.
    pub const CUT: &str = "cut";
}

impl Standing {
    /// Whether another dataset has taken its place.
    pub fn is_superseded(&self) -> bool {
        matches!(self, Standing::Superseded(_))
    }

    /// What it becomes. A superseded log stays so, and keeps the time when it was left, which a later time may replace.
    pub fn followed_by(&self, next: Standing) -> Standing {
        match (self, next) {
            (Standing::Superseded(Some(_)), Standing::Left(left)) => Standing::Superseded(Some(left)),
            (Standing::Superseded(_), _) => self.clone(),
            (Standing::Left(left), Standing::Superseded(_)) => Standing::Superseded(Some(left.clone())),
            (_, next) => next,
        }
    }

    /// What it becomes where a part of the log is cut at this time. A superseded log stays so.
    pub(crate) fn cut(&self, unix_ms: u64) -> Standing {
        let cut = |unix_ms| Standing::Left(Left { unix_ms, note: Left::CUT.into() });
        match self {
            Standing::Current => cut(unix_ms),
            Standing::Left(left) => cut(left.unix_ms),
            Standing::Superseded(_) => self.clone(),
        }
    }

    /// Reads its words in the manifest.
    pub(super) fn parse(words: &[&str]) -> Option<Standing> {
        match words {
            [] => Some(Standing::Current),
            ["superseded"] => Some(Standing::Superseded(None)),
            ["superseded", unix_ms, note] => Some(Standing::Superseded(Some(Left::new(unix_ms.parse().ok()?, note)?))),
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
            Standing::Superseded(None) => formatter.write_str(" superseded"),
            Standing::Superseded(Some(Left { unix_ms, note })) => write!(formatter, " superseded {unix_ms} {note}"),
        }
    }
}
