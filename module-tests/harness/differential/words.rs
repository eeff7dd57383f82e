//! Commands as lists of words.

/// A command with its arguments.
pub type Words = Vec<Vec<u8>>;

/// Anything that can be a word of a command.
pub trait Word {
    fn word(self) -> Vec<u8>;
}

impl Word for Vec<u8> {
    fn word(self) -> Vec<u8> {
        self
    }
}

impl Word for &[u8] {
    fn word(self) -> Vec<u8> {
        self.to_vec()
    }
}

impl Word for &str {
    fn word(self) -> Vec<u8> {
        self.into()
    }
}

impl Word for String {
    fn word(self) -> Vec<u8> {
        self.into()
    }
}

impl Word for i64 {
    fn word(self) -> Vec<u8> {
        self.to_string().into()
    }
}

impl Word for u64 {
    fn word(self) -> Vec<u8> {
        self.to_string().into()
    }
}

impl Word for usize {
    fn word(self) -> Vec<u8> {
        self.to_string().into()
    }
}

/// `words!["SET", key, 1i64]`: the words of a command.
macro_rules! words {
    ($($word:expr),+ $(,)?) => { vec![$($crate::harness::differential::words::Word::word($word)),+] };
}
pub(crate) use words;

/// The milliseconds (`@ms:`) or seconds (`@s:`) since the epoch, so many from the moment that the command is sent.
pub const NOW_MS: &str = "@ms:";
pub const NOW_S: &str = "@s:";

/// Puts the present time where the words ask for it.
pub fn resolve(words: &Words, now_ms: i64) -> Words {
    let offset = |word: &[u8], prefix: &str| -> Option<i64> {
        std::str::from_utf8(word.strip_prefix(prefix.as_bytes())?).ok()?.parse().ok()
    };
    let resolved = |word: &Vec<u8>| match (offset(word, NOW_MS), offset(word, NOW_S)) {
        (Some(ms), _) => (now_ms + ms).word(),
        (_, Some(seconds)) => (now_ms / 1000 + seconds).word(),
        _ => word.clone(),
    };
    words.iter().map(resolved).collect()
}

/// The command for people to read, and for a table of regressions to hold.
pub fn text(words: &Words) -> String {
    let quote = |word: &Vec<u8>| match word.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"') {
        true if !word.is_empty() => String::from_utf8_lossy(word).into_owned(),
        _ => format!("\"{}\"", word.escape_ascii()),
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}
