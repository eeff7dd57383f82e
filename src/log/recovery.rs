//! Opening a folder: what is in it, is it ours, is it whole.
//!
//! Opening changes nothing but the lock file. All segments are verified before the first frame is handed out, so
//! damage is found before anything is replayed. What a crash may leave behind is repaired when writing starts
//! (`start.rs`).

use super::error::LogError;
use super::format::{ANNOTATION_BYTES_MAX, ANNOTATION_PREFIX, FormatError, FrameHeader};
use super::lsn::Lsn;
use super::manifest::{MANIFEST_NAME, MANIFEST_TEMPORARY_NAME, Manifest, OwnName, base_name, own_name, segment_name};
use super::scan::{Before, Located, Scan, Window, scan_segment};
use super::storage::{LOCK_NAME, Storage, StorageFile};
use std::collections::VecDeque;

/// What a crash may leave of a segment that is not named yet: one annotation, with nothing but zeros behind it.
const FIRST_FRAME_BYTES_MAX: u64 = ANNOTATION_BYTES_MAX as u64;
/// What file systems put into the root of a volume.
const VOLUME_ENTRY: &str = "lost+found";

/// How the log is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// A segment that has reached this many bytes is followed by a new one.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 256 << 20 }
    }
}

/// How the log ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is no log yet.
    Fresh,
    /// The log ends with a whole unit.
    Clean,
    /// The log ends with bytes that a crash left unfinished; they are cut when writing starts.
    TornTail {
        /// The last segment.
        file: String,
        /// The first byte to be cut.
        offset: u64,
        /// The number of bytes to be cut.
        bytes: u64,
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
    /// The position behind its last whole unit.
    pub end: Lsn,
    /// Bytes of the file up to there.
    pub bytes: u64,
}

/// A verified folder, locked for this program.
#[derive(Debug)]
pub struct Opened<S: Storage> {
    pub(super) storage: S,
    pub(super) lock: S::Lock,
    pub(super) options: Options,
    pub(super) manifest: Manifest,
    pub(super) segments: Vec<Segment>,
    pub(super) verdict: Verdict,
    pub(super) leftovers: Vec<String>,
}

/// Locks, reads and verifies a folder.
pub fn open<S: Storage>(storage: S, options: &Options) -> Result<Opened<S>, LogError> {
    let lock = storage.lock().map_err(|source| LogError::io("lock", storage.locate(LOCK_NAME), source))?;
    let lock = lock.ok_or_else(|| LogError::Locked { file: storage.locate(LOCK_NAME) })?;
    let names = storage.list().map_err(|source| LogError::io("list", storage.locate(""), source))?;
    let mut opened = Opened {
        storage,
        lock,
        options: options.clone(),
        manifest: Manifest::default(),
        segments: Vec::new(),
        verdict: Verdict::Fresh,
        leftovers: Vec::new(),
    };
    if names.iter().any(|name| name == MANIFEST_NAME) {
        opened.manifest = Manifest::load(&opened.storage)?;
        opened.check_base(&names)?;
        opened.verify_segments(&names)?;
    } else {
        check_first_start(&opened.storage, &names)?;
    }
    opened.leftovers = find_leftovers(&opened.storage, &opened.manifest, &names)?;
    Ok(opened)
}

impl<S: Storage> Opened<S> {
    /// Whether there is no log in the folder yet.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The file name of the base the segments continue, where there is one.
    pub fn base(&self) -> Option<String> {
        self.manifest.base.map(base_name)
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
        self.segments.last().map_or(Lsn::ZERO, |segment| segment.end)
    }

    /// Bytes of all segments that [`Opened::frames`] reads.
    pub fn log_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Files of ours that are no part of the log; they are removed when writing starts.
    pub fn leftovers(&self) -> &[String] {
        &self.leftovers
    }

    /// The storage, to read the base from.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// The frames of the log, in order, from the start.
    pub fn frames(&self) -> Frames<'_, S> {
        Frames {
            storage: &self.storage,
            waiting: self.segments.iter().collect(),
            current: None,
            read_bytes: 0,
            before: Before {
                first: Lsn::ZERO,
                next: self.segments.first().map_or(Lsn::ZERO, |segment| segment.first),
                unix_ms: 0,
            },
        }
    }

    fn check_base(&self, names: &[String]) -> Result<(), LogError> {
        match self.base().filter(|base| !names.contains(base)) {
            Some(base) => Err(missing(&self.storage, &base)),
            None => Ok(()),
        }
    }

    fn verify_segments(&mut self, names: &[String]) -> Result<(), LogError> {
        // Without a base the log is the whole history.
        let mut expected = if self.manifest.base.is_none() { Some(Lsn::ZERO) } else { None };
        let last = self.manifest.segments.last().copied();
        self.verdict = Verdict::Clean;
        for seq in &self.manifest.segments {
            let name = segment_name(*seq);
            if !names.contains(&name) {
                return Err(missing(&self.storage, &name));
            }
            let mut window = Window::open(&self.storage, &name)?;
            let scan = scan_segment(&mut window, expected, Some(*seq) == last)?;
            let Scan { first, end, kept_bytes, file_bytes, torn } = scan;
            expected = Some(end);
            if torn {
                let file = window.shown().to_string();
                self.verdict = Verdict::TornTail { file, offset: kept_bytes, bytes: file_bytes - kept_bytes };
            }
            self.segments.push(Segment { seq: *seq, name, first, end, bytes: kept_bytes });
        }
        Ok(())
    }
}

fn missing<S: Storage>(storage: &S, name: &str) -> LogError {
    LogError::Damaged { file: storage.locate(name), offset: 0, why: "the manifest names it, but it is missing".into() }
}

/// A folder without a manifest may hold the remains of a first start that crashed, and nothing else: anything more
/// could be someone's data.
fn check_first_start<S: Storage>(storage: &S, names: &[String]) -> Result<(), LogError> {
    let first_segment = segment_name(1);
    for name in names {
        let remains = match name.as_str() {
            LOCK_NAME | VOLUME_ENTRY | MANIFEST_TEMPORARY_NAME => true,
            name => name == first_segment && is_blank_segment(storage, name)?,
        };
        if !remains {
            let why = format!("there is no {MANIFEST_NAME} beside it");
            return Err(LogError::ForeignFolder { file: storage.locate(name), why });
        }
    }
    Ok(())
}

/// Whether a segment holds no more than the remains of the frame it begins with, and looks like ours.
fn is_blank_segment<S: Storage>(storage: &S, name: &str) -> Result<bool, LogError> {
    let mut window = Window::open(storage, name)?;
    if !window.is_zero_from(FIRST_FRAME_BYTES_MAX)? {
        return Ok(false);
    }
    if let Ok(located) = window.frame_at(0, None)? {
        return Ok(located.header.length == 0 && window.is_zero_from(located.end)?);
    }
    let bytes = window.bytes_at(0, ANNOTATION_PREFIX.len())?;
    let common = bytes.len().min(ANNOTATION_PREFIX.len());
    let is_ours = bytes.get(..common) == ANNOTATION_PREFIX.get(..common);
    Ok(is_ours || window.is_zero_from(0)?)
}

/// Files of ours that the manifest does not name: what a crash left between two steps.
fn find_leftovers<S: Storage>(storage: &S, manifest: &Manifest, names: &[String]) -> Result<Vec<String>, LogError> {
    let newest = manifest.segments.last().copied();
    let mut leftovers = Vec::new();
    for name in names.iter().filter(|name| !manifest.contains(name)) {
        match own_name(name) {
            None => continue,
            // A segment gets its frames after the manifest names it. One that has some was named by a manifest that
            // somebody has replaced by an older one.
            Some(OwnName::Segment(seq)) if newest.is_some_and(|newest| seq > newest) => {
                if !is_blank_segment(storage, name)? {
                    let why = "it holds frames, but the manifest does not name it".into();
                    return Err(LogError::Damaged { file: storage.locate(name), offset: 0, why });
                }
            }
            Some(_) => {}
        }
        leftovers.push(name.clone());
    }
    leftovers.sort();
    Ok(leftovers)
}

/// The frames of a log, one at a time.
pub struct Frames<'a, S: Storage> {
    storage: &'a S,
    waiting: VecDeque<&'a Segment>,
    current: Option<(Window<S::File>, u64, u64)>,
    read_bytes: u64,
    before: Before,
}

impl<S: Storage> Frames<'_, S> {
    /// Bytes of the segments read so far, out of [`Opened::log_bytes`].
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Replaces `payload` with the next frame's; `None` at the end of the log.
    ///
    /// Frames without a payload are skipped. Each frame is verified again.
    pub fn next_frame(&mut self, payload: &mut Vec<u8>) -> Result<Option<FrameHeader>, LogError> {
        loop {
            let Some((window, offset, end)) = self.current.as_mut().filter(|(_, offset, end)| offset < end) else {
                let Some(segment) = self.waiting.pop_front() else {
                    return Ok(None);
                };
                self.current = Some((Window::open(self.storage, &segment.name)?, 0, segment.bytes));
                self.before.first = segment.first;
                continue;
            };
            let located = read_frame(window, *offset, self.before, payload)?;
            let header = located.header;
            if header.lsn != self.before.next {
                let (file, offset) = (window.shown().to_string(), *offset);
                return Err(LogError::NonMonotonic { file, offset, expected: self.before.next, found: header.lsn });
            }
            assert!(located.end <= *end, "a frame must not cross the verified end of its segment");
            self.read_bytes += located.end - *offset;
            *offset = located.end;
            self.before = self.before.behind(&header);
            if header.length > 0 {
                return Ok(Some(header));
            }
        }
    }
}

fn read_frame<F: StorageFile>(
    window: &mut Window<F>,
    offset: u64,
    before: Before,
    out: &mut Vec<u8>,
) -> Result<Located, LogError> {
    out.clear();
    // Every segment begins with a whole annotation.
    let before = (offset > 0).then_some(before);
    let found = match window.header_at(offset, before)? {
        Ok(located) => {
            out.reserve(located.header.length as usize);
            let whole = window.each_piece(located.payload, located.end, |piece| out.extend_from_slice(piece))?;
            if whole && crc32c::crc32c_append(located.seed, out) == located.crc {
                return Ok(located);
            }
            FormatError::Field("the checksum is wrong")
        }
        Err(error) => error,
    };
    let why = format!("{found}, which was not so when the log was opened");
    Err(LogError::Damaged { file: window.shown().to_string(), offset, why })
}
