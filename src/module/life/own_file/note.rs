//! What is noted of the server's own files when a log is left, as one word of its manifest:
//!
//! ```text
//! rdb:<bytes>:<crc32c> aof:<bytes>:<crc32c>:head:<bytes>:<crc32c> unreadable none temp:<inode>:at:<s>
//! saving:<s> unwatched lacking cut
//! ```
//!
//! with colons between all of them.

use crate::log::Left;

/// The kinds of files.
pub(super) const RDB: &str = "rdb";
pub(super) const AOF: &str = "aof";

/// Lengths of what the last file of an AOF begins with.
const PREFIX_BYTES: [u64; 7] = [0, 16, 32, 64, 128, 256, 512];

/// The most of them.
pub(super) const PREFIX_BYTES_MAX: u64 = 512;

/// What the last file of an AOF begins with, which stays when the file grows, in several lengths: a file that was noted
/// when short is still recognised when it is long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::module::life) struct Prefixes {
    crc32c: [u32; PREFIX_BYTES.len()],
    count: u8,
}

impl Prefixes {
    /// Of the file's head. The size of the AOF's base is part of all of them.
    pub(super) fn of(base_bytes: u64, head: &[u8]) -> Prefixes {
        let seed = crc32c::crc32c(&base_bytes.to_le_bytes());
        let mut prefixes = Prefixes::default();
        for (crc, bytes) in prefixes.crc32c.iter_mut().zip(PREFIX_BYTES) {
            let Some(prefix) = usize::try_from(bytes).ok().and_then(|bytes| head.get(..bytes)) else { break };
            *crc = crc32c::crc32c_append(seed, prefix);
            prefixes.count += 1;
        }
        prefixes
    }

    /// The longest that the file has.
    pub(super) fn longest(&self) -> Option<Prefix> {
        let last = usize::from(self.count.checked_sub(1)?);
        Some(Prefix { bytes: *PREFIX_BYTES.get(last)?, crc32c: *self.crc32c.get(last)? })
    }

    /// Whether the file begins so.
    pub(super) fn has(&self, prefix: Prefix) -> bool {
        let known = PREFIX_BYTES.into_iter().zip(self.crc32c).take(usize::from(self.count));
        known.into_iter().any(|(bytes, crc32c)| prefix == Prefix { bytes, crc32c })
    }
}

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    bytes: u64,
    crc32c: u32,
}

/// A file in a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) kind: &'static str,
    pub(super) bytes: u64,
    pub(super) crc32c: u32,
    /// Of an AOF.
    pub(super) prefix: Option<Prefix>,
}

/// An RDB file, or the base of an AOF, that was being saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    pub(super) inode: u64,
    /// When it was begun; Unix seconds.
    pub(super) begun_s: Option<u64>,
}

/// A note. What is not understood when it is read back is taken for files that are no longer there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) files: Vec<Noted>,
    /// One of them could not be read.
    pub(super) is_unreadable: bool,
    /// Files that were being saved: by a child, or by one whose server has died.
    pub(super) unfinished: Vec<Unfinished>,
    /// Since when a child was saving one that had no file under another name; Unix seconds.
    pub(super) saving_since_s: Option<u64>,
    /// Nobody renews the note when that child has ended.
    pub(super) is_unwatched: bool,
    /// The server has gone on with less than the log holds, so that what it saves may be older, whenever it does.
    pub(super) is_lacking: bool,
    /// A part of the log was cut since: its files may hold what the log lacks.
    pub(super) is_cut: bool,
}

impl Note {
    pub(super) fn text(&self) -> String {
        let mut words = Vec::new();
        for file in &self.files {
            words.push(format!("{}:{}:{:08x}", file.kind, file.bytes, file.crc32c));
            words.extend(file.prefix.map(|prefix| format!("head:{}:{:08x}", prefix.bytes, prefix.crc32c)));
        }
        if self.is_unreadable {
            words.push("unreadable".into());
        } else if words.is_empty() {
            words.push("none".into());
        }
        for file in &self.unfinished {
            words.push(format!("temp:{}", file.inode));
            words.extend(file.begun_s.map(|begun_s| format!("at:{begun_s}")));
        }
        words.extend(self.saving_since_s.map(|since_s| format!("saving:{since_s}")));
        words.extend(self.is_unwatched.then(|| "unwatched".into()));
        words.extend(self.is_lacking.then(|| "lacking".into()));
        words.extend(self.is_cut.then(|| Left::CUT.into()));
        words.join(":")
    }

    pub(super) fn parse(text: &str) -> Note {
        let words: Vec<&str> = text.split(':').collect();
        let (mut note, mut rest) = (Note::default(), &words[..]);
        while let Some((_, behind)) = rest.split_first() {
            rest = note.take(rest).unwrap_or(behind);
        }
        note
    }

    /// Reads what the words begin with; returns the words after it.
    fn take<'w, 't>(&mut self, words: &'w [&'t str]) -> Option<&'w [&'t str]> {
        let crc = |word: &str| u32::from_str_radix(word, 16).ok();
        let number = |word: &str| word.parse::<u64>().ok();
        match words {
            ["unreadable", rest @ ..] => {
                self.is_unreadable = true;
                Some(rest)
            }
            ["unwatched", rest @ ..] => {
                self.is_unwatched = true;
                Some(rest)
            }
            ["lacking", rest @ ..] => {
                self.is_lacking = true;
                Some(rest)
            }
            [Left::CUT, rest @ ..] => {
                self.is_cut = true;
                Some(rest)
            }
            ["temp", inode, rest @ ..] => {
                self.unfinished.push(Unfinished { inode: number(inode)?, begun_s: None });
                Some(rest)
            }
            ["at", begun_s, rest @ ..] => {
                self.unfinished.last_mut()?.begun_s = number(begun_s);
                Some(rest)
            }
            ["saving", since_s, rest @ ..] => {
                self.saving_since_s = number(since_s);
                Some(rest)
            }
            ["head", bytes, crc32c, rest @ ..] => {
                let prefix = Prefix { bytes: number(bytes)?, crc32c: crc(crc32c)? };
                self.files.last_mut()?.prefix = Some(prefix);
                Some(rest)
            }
            [kind, bytes, crc32c, rest @ ..] => {
                let kind = [RDB, AOF].into_iter().find(|known| known == kind)?;
                let (bytes, crc32c) = (number(bytes)?, crc(crc32c)?);
                self.files.push(Noted { kind, bytes, crc32c, prefix: None });
                Some(rest)
            }
            _ => None,
        }
    }

    /// Whether a file with this inode was being saved when the log was left.
    pub(super) fn has_unfinished(&self, inode: u64) -> bool {
        self.unfinished.iter().any(|file| file.inode == inode)
    }

    /// Whether this file is one of those that were being saved when the log was left. A file keeps its inode from the
    /// beginning; a copy is recognised by its time. What was begun in the second in which the log was left may be newer
    /// than the log.
    pub(super) fn was_unfinished(&self, begun_s: u64, inode: u64, left_s: u64) -> bool {
        let begun_then = |at_s: u64| begun_s < left_s && (at_s..=at_s.saturating_add(1)).contains(&begun_s);
        let is_it = |file: &Unfinished| file.inode == inode || file.begun_s.is_some_and(begun_then);
        begun_s <= left_s && self.unfinished.iter().any(is_it)
    }

    /// Whether this file may be the one that a child without a file was saving when the log was left. Server and child
    /// look at the clock one after the other.
    pub(super) fn may_have_come(&self, begun_s: u64, left_s: u64) -> bool {
        let near = |since_s: u64| since_s.saturating_sub(1) <= begun_s && begun_s <= since_s.saturating_add(1);
        begun_s <= left_s && self.saving_since_s.is_some_and(near)
    }

    /// Whether a child was saving a file when the log was left, of which nothing more is known.
    pub(super) fn has_child(&self) -> bool {
        self.saving_since_s.is_some() || !self.unfinished.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_note_is_read_back() {
        let prefixes = Prefixes::of(9, b"*2 and more than that");
        let noted = |kind, prefix| Noted { kind, bytes: 7, crc32c: 0xab, prefix };
        let note = Note {
            files: vec![noted(RDB, None), noted(AOF, prefixes.longest())],
            is_unreadable: true,
            unfinished: vec![Unfinished { inode: 3, begun_s: None }, Unfinished { inode: 4, begun_s: Some(5) }],
            saving_since_s: Some(6),
            is_unwatched: true,
            is_lacking: true,
            is_cut: true,
        };
        assert_eq!(Note::parse(&note.text()), note);
        assert_eq!(Note::parse(Left::CUT), Note { is_cut: true, ..Note::default() });
        assert_eq!(Note::parse("none"), Note::default());
        assert_eq!(Note::parse("what:is:this:temp"), Note::default());
    }

    #[test]
    fn a_file_that_has_grown_begins_as_before() {
        let text = [b'x'; 512];
        for (bytes, noted_bytes) in [(0, 0), (15, 0), (16, 16), (300, 256), (512, 512)] {
            let prefix = Prefixes::of(9, &text[..bytes]).longest().unwrap();
            assert_eq!(prefix.bytes, noted_bytes);
            assert!(Prefixes::of(9, &text).has(prefix));
            assert!(!Prefixes::of(8, &text).has(prefix), "another base");
            assert_eq!(Prefixes::of(9, b"y and more than sixteen").has(prefix), noted_bytes == 0);
        }
    }
}
