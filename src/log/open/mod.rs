//! Opening a folder: what is in it, is it ours, is it whole.
//!
//! Opening changes nothing, but makes the manifest that it finds durable: what is removed, shown or left as it is from
//! then on is so because of it. All segments are verified before the first frame is handed out, so damage is found
//! before anything is replayed. What a crash may leave behind is repaired when writing starts (`prepare.rs`).

mod aside;
mod base;
mod behind;
mod frames;
mod grammar;
mod leftovers;
mod options;
mod prepare;
mod scan;
mod seen;
mod window;

pub use base::BaseReader;
pub use behind::{is_marked_behind, mark_behind, unmark_behind};
pub use frames::{Frame, Frames};
pub use prepare::Prepared;
pub use seen::SeenLog;

use super::error::LogError;
use super::format::frame::PAYLOAD_BYTES_MAX;
use super::format::manifest::{BaseFacts, Beginning, MANIFEST_PREFIX, Manifest, NamedSegment, Sealed};
use super::format::names::{MANIFEST_NAME, OwnName, base_name, cut_name, segment_name};
use super::format::standing::{Left, Standing};
use super::format::{FormatError, Generation, foreign_line};
use super::format1;
use super::lsn::Lsn;
use super::storage::{Storage, StorageFile, failed};
use super::write::folder::Folder;
use grammar::Head;
use scan::{Expected, Scan, scan_segment};
use std::sync::Arc;
use window::Window;

pub(super) use grammar::Grammar;
pub use options::{CheckBase, Options};

/// How the log ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is no log yet.
    Fresh,
    /// The log ends with a whole unit.
    Clean,
    /// The log ends with bytes that a crash left unfinished; they are cut, and kept aside, when writing starts.
    TornTail {
        /// The last segment.
        file: String,
        /// The first byte to be cut.
        offset: u64,
        /// The number of bytes to be cut.
        bytes: u64,
        /// The file that they will be kept in.
        kept_as: String,
    },
}

/// One segment, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub seq: u64,
    /// Its file name in the folder.
    pub name: String,
    /// The position of its first byte of payload.
    pub first: Lsn,
    /// The position after its last whole unit.
    pub end: Lsn,
    /// Bytes of the file up to there.
    pub bytes: u64,
    pub(super) head_bytes: u64,
    pub(super) grammar: Grammar,
    pub(super) unix_ms: u64,
}

/// The base that the segments continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its file name in the folder.
    pub name: String,
    /// The position whose dataset it holds.
    pub lsn: Lsn,
    /// Bytes of the file.
    pub bytes: u64,
    /// Checksum of the file; unknown for a base of format 1. [`Opened::read_base`] verifies it.
    pub crc32c: Option<u32>,
}

/// A verified folder, locked for this program.
#[derive(Debug)]
pub struct Opened<S: Storage> {
    folder: Folder<S>,
    segments: Vec<Segment>,
    /// What was found in segments that are not sealed, by their index.
    unsealed: Vec<(usize, Scan)>,
    verdict: Verdict,
    examined_bytes: u64,
}

/// Locks, reads and verifies a folder.
pub fn open<S: Storage>(storage: S, options: &Options) -> Result<Opened<S>, LogError> {
    let lock = storage.lock().map_err(failed(&storage, "lock", ""))?;
    let lock = lock.ok_or_else(|| LogError::Locked { file: storage.locate("") })?;
    let names = storage.list().map_err(failed(&storage, "list", ""))?;
    let mut opened = Opened {
        folder: Folder::new(Arc::new(storage), lock, options.clone(), &names),
        segments: Vec::new(),
        unsealed: Vec::new(),
        verdict: Verdict::Fresh,
        examined_bytes: 0,
    };
    if names.iter().any(|name| name == MANIFEST_NAME.as_bytes()) {
        opened.read_log()?;
        opened.find_leftovers(&names)?;
    } else {
        opened.check_first_start(&names)?;
    }
    Ok(opened)
}

impl<S: Storage> Opened<S> {
    /// Whether there is no log in the folder yet.
    pub fn is_empty(&self) -> bool {
        self.folder.manifest.is_none()
    }

    /// Which log it is.
    pub fn generation(&self) -> Option<Generation> {
        self.folder.generation()
    }

    /// Whether the server has taken another dataset since this log was written, see [`Opened::supersede`].
    pub fn is_superseded(&self) -> bool {
        self.folder.is_superseded()
    }

    /// When this log was left, if it was.
    pub fn left(&self) -> Option<&Left> {
        self.folder.left()
    }

    /// When a log that is superseded was left before that; `None` where nobody knows.
    pub fn left_before_superseded(&self) -> Option<&Left> {
        self.folder.left_before_superseded()
    }

    /// The base the segments continue, where there is one.
    pub fn base(&self) -> Option<Base> {
        let BaseFacts { seq, lsn, bytes, crc32c } = self.folder.manifest.as_ref()?.base()?;
        Some(Base { name: base_name(seq), lsn, bytes, crc32c })
    }

    /// The segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How the log ended.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The position the next unit gets.
    pub fn next_lsn(&self) -> Lsn {
        self.folder.end()
    }

    /// Bytes of all segments that [`Opened::frames`] reads.
    pub fn log_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Files of ours that are no part of the log; they are removed when writing starts.
    pub fn leftovers(&self) -> &[String] {
        &self.folder.leftovers
    }

    /// Bytes of segments that opening looked at; those looked at twice count twice.
    pub fn examined_bytes(&self) -> u64 {
        self.examined_bytes
    }

    /// Has segments that are written ahead be written past the page cache from now on, or not, see
    /// [`Options::direct_block_bytes`].
    pub fn write_directly(&mut self, block_bytes: Option<u64>) {
        self.folder.options.direct_block_bytes = block_bytes;
    }

    /// The storage, to read the base from.
    pub fn storage(&self) -> &S {
        &self.folder.storage
    }

    /// The folder without its log, to begin another one in it.
    pub fn into_folder(self) -> Folder<S> {
        self.folder
    }

    /// What the log counts for; `None` where there is none.
    pub fn standing(&self) -> Option<&Standing> {
        self.folder.standing()
    }

    /// Counts a superseded log as one that is not, from the next change of the folder on.
    pub fn reinstate(&mut self) {
        if let Some(manifest) = self.folder.manifest.as_mut() {
            manifest.standing = Standing::Current;
        }
    }

    /// See [`Folder::supersede`].
    pub fn supersede(&mut self) -> Result<(), LogError> {
        self.folder.supersede()
    }

    fn read_log(&mut self) -> Result<(), LogError> {
        let storage = Arc::clone(&self.folder.storage);
        let text = Manifest::read_text(&*storage)?;
        self.verdict = Verdict::Clean;
        let shown = storage.locate(MANIFEST_NAME);
        if text.starts_with(MANIFEST_PREFIX.as_bytes()) {
            let manifest = Manifest::parse(&text).map_err(|why| LogError::damaged(shown, 0, why))?;
            self.read_format_2(&manifest)?;
            self.folder.manifest = Some(manifest);
        } else if foreign_line(&text, &[]) == FormatError::UnsupportedVersion {
            return Err(LogError::UnsupportedVersion { file: shown });
        } else {
            let named = format1::parse_manifest(&text);
            let (base, segments) = named.map_err(|why| LogError::foreign(shown, why))?;
            self.folder.manifest = Some(self.read_format_1(base, &segments)?);
        }
        self.folder.end = self.segments.last().map_or(self.folder.end, |segment| segment.end);
        self.folder.log_end = self.folder.end;
        Ok(())
    }

    fn read_format_2(&mut self, manifest: &Manifest) -> Result<(), LogError> {
        if let Some(base) = manifest.base() {
            let (name, bytes) = (base_name(base.seq), self.base_bytes(base.seq)?);
            if bytes != base.bytes {
                let why = format!("the base has {bytes} bytes instead of {}", base.bytes);
                return Err(LogError::damaged(self.storage().locate(&name), bytes.min(base.bytes), why));
            }
        }
        self.folder.end = manifest.beginning.lsn();
        for (index, named) in manifest.segments.iter().enumerate() {
            let mut window = self.open_segment(named.seq)?;
            let head = head_of(&mut window)?;
            if head.generation.is_some_and(|found| found != manifest.generation) {
                return Err(window.damaged(0, "the segment belongs to another log"));
            }
            if head.first != named.first {
                return Err(window.damaged(0, "the segment has another position than the manifest says"));
            }
            let expected = match (named.sealed, manifest.segments.get(index + 1)) {
                (Some(sealed), _) => Expected::Sealed(sealed),
                (None, Some(next)) => Expected::Until(next.first),
                (None, None) => Expected::Open,
            };
            self.take_segment(named.seq, &mut window, &head, expected)?;
        }
        Ok(())
    }

    /// Reads a log of format 1; returns the manifest as format 2 has it.
    fn read_format_1(&mut self, base: Option<u64>, segments: &[u64]) -> Result<Manifest, LogError> {
        // Where a segment ends is known from where the next one begins. They are not kept open: there may be more of
        // them than a process may have open.
        let mut heads = Vec::new();
        for seq in segments {
            let mut window = self.open_segment(*seq)?;
            let head = head_of(&mut window)?;
            if head.generation.is_some() {
                return Err(window.damaged(0, "the segment is newer than the manifest, which was changed"));
            }
            heads.push(head);
        }
        let first = heads.first().map_or(Lsn::ZERO, |head| head.first);
        let beginning = match base {
            // Nothing says of what position it is.
            Some(seq) => Beginning::Base(BaseFacts { seq, lsn: first, bytes: self.base_bytes(seq)?, crc32c: None }),
            None => Beginning::Empty(Lsn::ZERO),
        };
        self.folder.end = beginning.lsn();
        let mut named = Vec::new();
        for (index, (seq, head)) in segments.iter().copied().zip(&heads).enumerate() {
            let mut window = self.open_segment(seq)?;
            if head.first != self.folder.end {
                let why = format!("the segment has position {} instead of {}", head.first, self.folder.end);
                return Err(window.damaged(0, why));
            }
            let next = heads.get(index + 1).map(|head| head.first);
            let sealed = next.map(|end| Sealed { end, bytes: window.file_bytes() });
            named.push(NamedSegment { seq, first: head.first, sealed });
            self.take_segment(seq, &mut window, head, sealed.map_or(Expected::Open, Expected::Sealed))?;
        }
        let generation = Generation { counter: 1, random: self.folder.random()? };
        Ok(Manifest { generation, standing: Standing::Current, beginning, segments: named })
    }

    /// Verifies a segment and adds it to the log.
    fn take_segment(
        &mut self,
        seq: u64,
        window: &mut Window<S::File>,
        head: &Head,
        expected: Expected,
    ) -> Result<(), LogError> {
        let scan = scan_segment(window, head, expected)?;
        if scan.is_torn {
            let (file, offset) = (window.shown().to_string(), scan.bytes);
            let kept_as = self.storage().locate(&cut_name(seq, offset));
            self.verdict = Verdict::TornTail { file, offset, bytes: scan.used_bytes - offset, kept_as };
        }
        self.examined_bytes += window.examined_bytes();
        self.folder.end = scan.end;
        if !matches!(expected, Expected::Sealed(_)) {
            self.unsealed.push((self.segments.len(), scan));
        }
        self.segments.push(Segment {
            seq,
            name: segment_name(seq),
            first: head.first,
            end: scan.end,
            bytes: scan.bytes,
            head_bytes: head.bytes,
            grammar: head.grammar,
            unix_ms: head.unix_ms,
        });
        Ok(())
    }

    fn open_segment(&self, seq: u64) -> Result<Window<S::File>, LogError> {
        let name = segment_name(seq);
        self.check_present(OwnName::Segment(seq), &name)?;
        Window::open(self.storage(), &name)
    }

    fn base_bytes(&self, seq: u64) -> Result<u64, LogError> {
        let name = base_name(seq);
        self.check_present(OwnName::Base(seq), &name)?;
        let file = self.storage().open_read(&name).map_err(failed(self.storage(), "open", &name))?;
        Ok(file.status().map_err(failed(self.storage(), "measure", &name))?.bytes)
    }

    fn check_present(&self, own: OwnName, name: &str) -> Result<(), LogError> {
        if self.folder.present.contains(&own) {
            return Ok(());
        }
        Err(LogError::damaged(self.storage().locate(name), 0, "the manifest names it, but it is missing"))
    }
}

/// The head of a named segment.
fn head_of<F: StorageFile>(window: &mut Window<F>) -> Result<Head, LogError> {
    match window.head()? {
        Ok(head) => Ok(head),
        Err(error) => Err(bad_start(window, error)?),
    }
}

/// The error of a named segment that does not begin with a good header, which no crash of ours leaves behind.
fn bad_start<F: StorageFile>(window: &mut Window<F>, error: FormatError) -> Result<LogError, LogError> {
    let zero = window.is_zero_from(0)?;
    let file = window.shown().to_string();
    Ok(match error {
        FormatError::UnsupportedVersion => LogError::UnsupportedVersion { file },
        _ if zero || window.bytes_at(0, 4)?.starts_with(b"#WBL") => window.damaged(0, error.why()),
        _ => LogError::foreign(file, "the segment does not begin with a header of this module"),
    })
}

const _: () = assert!(PAYLOAD_BYTES_MAX < Lsn::LIMIT.get());
