//! A folder that is open, and what was found in it.

use super::grammar::{Grammar, Head};
use super::options::Options;
use super::plan::Plan;
use super::scan::{Expected, Scan, scan_segment};
use super::window::Window;
use crate::log::error::LogError;
use crate::log::format::Generation;
use crate::log::format::frame::PAYLOAD_BYTES_MAX;
use crate::log::format::manifest::{BaseFacts, Manifest};
use crate::log::format::names::{MANIFEST_NAME, base_name, cut_name, segment_name};
use crate::log::format::standing::{Left, Standing};
use crate::log::lsn::Lsn;
use crate::log::storage::{Storage, failed};
use crate::log::write::folder::Folder;
use std::sync::Arc;

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
    pub(in crate::log) head_bytes: u64,
    pub(in crate::log) grammar: Grammar,
    pub(in crate::log) unix_ms: u64,
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

impl Base {
    pub(super) fn of(BaseFacts { seq, lsn, bytes, crc32c }: BaseFacts) -> Base {
        Base { name: base_name(seq), lsn, bytes, crc32c }
    }
}

/// A verified folder, locked for this program.
#[derive(Debug)]
pub struct Opened<S: Storage> {
    pub(super) folder: Folder<S>,
    pub(super) segments: Vec<Segment>,
    /// What was found in segments that are not sealed, by their index.
    pub(super) unsealed: Vec<(usize, Scan)>,
    pub(super) verdict: Verdict,
    pub(super) examined_bytes: u64,
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

    /// When a log that is superseded was left before that; `None` where unknown.
    pub fn left_before_superseded(&self) -> Option<&Left> {
        self.folder.left_before_superseded()
    }

    /// The base the segments continue, where there is one.
    pub fn base(&self) -> Option<Base> {
        self.folder.manifest.as_ref()?.base().map(Base::of)
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

    /// Files of ours that are not part of the log; they are removed when writing starts.
    pub fn leftovers(&self) -> &[String] {
        &self.folder.leftovers
    }

    /// Bytes of segments that opening looked at; those looked at twice count twice.
    pub fn examined_bytes(&self) -> u64 {
        self.examined_bytes
    }

    /// Sets whether segments that are written ahead are written past the page cache from now on, see
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
        let plan = Plan::of(&*storage, &text)?;
        self.folder.end = plan.manifest.beginning.lsn();
        for index in 0..plan.manifest.segments.len() {
            let (seq, mut window, head) = plan.open_segment(&*storage, index, self.folder.end)?;
            self.take_segment(seq, &mut window, &head, plan.expected(index))?;
        }
        self.folder.manifest = Some(plan.manifest);
        self.folder.log_end = self.folder.end;
        Ok(())
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
            self.verdict = torn_tail(self.storage(), window.shown(), seq, &scan);
        }
        self.examined_bytes += window.examined_bytes();
        self.folder.end = scan.end;
        if !matches!(expected, Expected::Sealed(_)) {
            self.unsealed.push((self.segments.len(), scan));
        }
        self.segments.push(Segment::of(seq, head, &scan));
        Ok(())
    }
}

/// A log that ends so in its last segment.
pub(super) fn torn_tail<S: Storage>(storage: &S, file: &str, seq: u64, scan: &Scan) -> Verdict {
    let kept_as = storage.locate(&cut_name(seq, scan.bytes));
    Verdict::TornTail { file: file.into(), offset: scan.bytes, bytes: scan.used_bytes - scan.bytes, kept_as }
}

impl Segment {
    pub(super) fn of(seq: u64, head: &Head, scan: &Scan) -> Segment {
        Segment {
            seq,
            name: segment_name(seq),
            first: head.first,
            end: scan.end,
            bytes: scan.bytes,
            head_bytes: head.bytes,
            grammar: head.grammar,
            unix_ms: head.unix_ms,
        }
    }
}

const _: () = assert!(PAYLOAD_BYTES_MAX < Lsn::LIMIT.get());
