//! The manifest: which files make up the log, and what must be true of them.
//!
//! The lines that begin with `file` are the server's own; it skips those that begin with `#`.
//!
//! ```text
//! #WBL2 generation <counter> <random> [left <unix-ms> <note> | superseded [<unix-ms> <note>]]
//! file appendonly.aof.3.base.rdb seq 3 type b
//! #base lsn <position> bytes <bytes> crc32c <checksum>
//! file appendonly.aof.7.incr.aof seq 7 type i
//! #segment first <position> end <position> bytes <bytes>
//! file appendonly.aof.8.incr.aof seq 8 type i
//! #segment first <position>
//! #end <crc32c of all above>
//! ```

use super::names::{MANIFEST_NAME, NEXT_MANIFEST_NAME, base_name, segment_name};
use super::standing::Standing;
use super::{Generation, hexadecimal};
use crate::log::error::LogError;
use crate::log::lsn::Lsn;
use crate::log::storage::{Storage, StorageFile, failed};
use std::fmt::Write;

/// What begins the manifest of this version.
pub(crate) const MANIFEST_PREFIX: &str = "#WBL2 ";
/// Far more than the segments of any log need.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// What the log begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// An empty dataset at this position.
    Empty(Lsn),
    /// The dataset of a base.
    Base(BaseFacts),
}

impl Beginning {
    /// The position that the segments go on from.
    pub fn lsn(&self) -> Lsn {
        match self {
            Beginning::Empty(lsn) => *lsn,
            Beginning::Base(base) => base.lsn,
        }
    }
}

/// What is known of a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BaseFacts {
    pub seq: u64,
    /// The position whose dataset it holds.
    pub lsn: Lsn,
    pub bytes: u64,
    /// Of the whole file; unknown for a base of format 1.
    pub crc32c: Option<u32>,
}

/// A segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamedSegment {
    pub seq: u64,
    /// The position it begins with.
    pub first: Lsn,
    /// What it holds, where that does not change any more.
    pub sealed: Option<Sealed>,
}

/// The end of a segment that was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub end: Lsn,
    pub bytes: u64,
}

/// Which files make up the log. The segments are in order, with rising numbers. The last may be without a seal; so may
/// others, which end where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub generation: Generation,
    pub standing: Standing,
    pub beginning: Beginning,
    pub segments: Vec<NamedSegment>,
}

/// Why a text is not a manifest of this version.
const CHANGED: &str = "the manifest was changed";

impl Manifest {
    /// Parses a text that begins with [`MANIFEST_PREFIX`]. There is one way to write a manifest.
    pub fn parse(text: &[u8]) -> Result<Manifest, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| CHANGED)?;
        let manifest = parse_lines(text).ok_or(CHANGED)?;
        if manifest.to_text() == text { Ok(manifest) } else { Err(CHANGED) }
    }

    pub fn to_text(&self) -> String {
        let mut text = format!("{MANIFEST_PREFIX}generation {}{}\n", self.generation, self.standing);
        // Writing to a string does not fail.
        let _ = match self.beginning {
            Beginning::Empty(lsn) => writeln!(text, "#base none lsn {lsn}"),
            Beginning::Base(BaseFacts { seq, lsn, bytes, crc32c }) => {
                let crc = crc32c.map_or("-".into(), |crc| format!("{crc:08x}"));
                let line = format!("file {} seq {seq} type b", base_name(seq));
                writeln!(text, "{line}\n#base lsn {lsn} bytes {bytes} crc32c {crc}")
            }
        };
        for NamedSegment { seq, first, sealed } in &self.segments {
            let _ = writeln!(text, "file {} seq {seq} type i", segment_name(*seq));
            let _ = match sealed {
                None => writeln!(text, "#segment first {first}"),
                Some(Sealed { end, bytes }) => writeln!(text, "#segment first {first} end {end} bytes {bytes}"),
            };
        }
        let crc = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "#end {crc:08x}");
        text
    }

    /// Whether the segments follow one another.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = Some(self.beginning.lsn());
        let (mut last_seq, mut last_first) = (0, Lsn::ZERO);
        for segment in &self.segments {
            let follows = expected.is_none_or(|expected| segment.first == expected);
            let rises = segment.seq > last_seq && segment.first >= last_first;
            if !follows || !rises || segment.sealed.is_some_and(|sealed| sealed.end < segment.first) {
                return false;
            }
            (last_seq, last_first) = (segment.seq, segment.first);
            expected = segment.sealed.map(|sealed| sealed.end);
        }
        !self.segments.is_empty()
    }

    pub fn base(&self) -> Option<BaseFacts> {
        match self.beginning {
            Beginning::Base(base) => Some(base),
            Beginning::Empty(_) => None,
        }
    }

    /// The names of all files of the log.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let base = self.base().map(|base| base_name(base.seq));
        base.into_iter().chain(self.segments.iter().map(|segment| segment_name(segment.seq)))
    }

    /// Writes the manifest under a temporary name, durably. Nothing visible has changed then, even if this fails. What
    /// it names must already be durable.
    pub fn write_next<S: Storage>(&self, storage: &S) -> Result<(), LogError> {
        let text = self.to_text();
        if text.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(LogError::Refused { why: "the manifest would become too long" });
        }
        // What is written must read back the same, and as a whole.
        assert_eq!(Manifest::parse(text.as_bytes()).as_ref(), Ok(self), "a manifest must survive its own text");
        assert!(self.is_contiguous(), "segments must follow one another");
        let steps = || {
            let mut file = create_anew(storage, NEXT_MANIFEST_NAME)?;
            file.write_all_at(0, text.as_bytes()).map_err(failed(storage, "write", NEXT_MANIFEST_NAME))?;
            file.sync_data().map_err(failed(storage, "sync", NEXT_MANIFEST_NAME))
        };
        steps().inspect_err(|_| {
            // The next try begins anew.
            let _ = storage.remove(NEXT_MANIFEST_NAME);
        })
    }

    /// Makes what [`Manifest::write_next`] wrote the manifest. Where this fails it is unknown which one a start will
    /// find.
    pub fn name_next<S: Storage>(storage: &S) -> Result<(), LogError> {
        let renamed = storage.rename(NEXT_MANIFEST_NAME, MANIFEST_NAME);
        renamed.map_err(failed(storage, "rename", NEXT_MANIFEST_NAME))?;
        storage.sync_dir().map_err(failed(storage, "sync the folder of", MANIFEST_NAME))
    }

    /// The text of the manifest on the disk, durable under its name: a process may have ended between renaming and
    /// syncing, and a loss of power would bring back the manifest before it.
    pub fn read_text<S: Storage>(storage: &S) -> Result<Vec<u8>, LogError> {
        let text = Manifest::look_at_text(storage)?;
        storage.sync_dir().map_err(failed(storage, "sync the folder of", MANIFEST_NAME))?;
        Ok(text)
    }

    /// The text of the manifest that has the name now, durable or not.
    pub fn look_at_text<S: Storage>(storage: &S) -> Result<Vec<u8>, LogError> {
        let file = storage.open_read(MANIFEST_NAME).map_err(failed(storage, "open", MANIFEST_NAME))?;
        let bytes = file.status().map_err(failed(storage, "measure", MANIFEST_NAME))?.bytes;
        if bytes > MANIFEST_BYTES_MAX {
            return Err(LogError::foreign(storage.locate(MANIFEST_NAME), "the manifest is too long"));
        }
        let mut text = vec![0; bytes as usize];
        let count = file.read_at(0, &mut text).map_err(failed(storage, "read", MANIFEST_NAME))?;
        text.truncate(count);
        Ok(text)
    }
}

/// Creates a file in place of what may have the name.
pub(crate) fn create_anew<S: Storage>(storage: &S, name: &str) -> Result<S::File, LogError> {
    let created = match storage.create(name) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            storage.remove(name).map_err(failed(storage, "remove", name))?;
            storage.create(name)
        }
        created => created,
    };
    created.map_err(failed(storage, "create", name))
}

fn parse_lines(text: &str) -> Option<Manifest> {
    let mut lines = text.strip_suffix('\n')?.split('\n').peekable();
    let words: Vec<&str> = lines.next()?.split(' ').collect();
    let ["#WBL2", "generation", counter, random, standing @ ..] = &words[..] else { return None };
    let standing = Standing::parse(standing)?;
    let generation = Generation { counter: hexadecimal(counter.as_bytes())?, random: hexadecimal(random.as_bytes())? };
    let beginning = match file_line(lines.peek()?) {
        Some((seq, "b")) => {
            lines.next();
            base_line(lines.next()?, seq)?
        }
        _ => Beginning::Empty(position(lines.next()?.strip_prefix("#base none lsn ")?)?),
    };
    let mut segments = Vec::new();
    while let Some((seq, "i")) = file_line(lines.peek()?) {
        lines.next();
        segments.push(segment_line(lines.next()?, seq)?);
    }
    lines.next()?.strip_prefix("#end ")?;
    let manifest = Manifest { generation, standing, beginning, segments };
    (lines.next().is_none() && manifest.is_contiguous()).then_some(manifest)
}

/// Sequence number and type of one of the server's own lines. Whether name and number agree shows when the text is
/// written again.
fn file_line(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split(' ');
    let (file, _name, seq_word) = (words.next()?, words.next()?, words.next()?);
    let (seq, type_word, kind) = (words.next()?, words.next()?, words.next()?);
    if (file, seq_word, type_word) != ("file", "seq", "type") {
        return None;
    }
    Some((super::names::number(seq)?, kind))
}

fn base_line(line: &str, seq: u64) -> Option<Beginning> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["#base", "lsn", lsn, "bytes", bytes, "crc32c", crc32c] = words[..] else { return None };
    let crc32c = match crc32c {
        "-" => None,
        digits => Some(u32::try_from(hexadecimal(digits.as_bytes())?).ok()?),
    };
    Some(Beginning::Base(BaseFacts { seq, lsn: position(lsn)?, bytes: bytes.parse().ok()?, crc32c }))
}

fn segment_line(line: &str, seq: u64) -> Option<NamedSegment> {
    let rest = line.strip_prefix("#segment ")?;
    let words: Vec<&str> = rest.split(' ').collect();
    match words[..] {
        ["first", first] => Some(NamedSegment { seq, first: position(first)?, sealed: None }),
        ["first", first, "end", end, "bytes", bytes] => {
            let sealed = Some(Sealed { end: position(end)?, bytes: bytes.parse().ok()? });
            Some(NamedSegment { seq, first: position(first)?, sealed })
        }
        _ => None,
    }
}

fn position(digits: &str) -> Option<Lsn> {
    digits.parse().ok().map(Lsn::new).filter(|lsn| *lsn <= Lsn::LIMIT)
}

#[cfg(test)]
mod tests;
