//! Cutting a damaged log at the damage, so that a start goes on with what is good before it.
//!
//! This is done only at a person's request: what goes was acknowledged. All of it is kept, in a folder beside the log's
//! files. What if it crashes here, step by step:
//!
//! 1. A folder is made, with the manifest and hard links to the damaged segment and all after it, durably. The log is
//!    as it was.
//! 2. The good beginning of the damaged segment is copied to a new one (or, where there is none, one without frames is
//!    made), durably. The log is damaged as before; the next attempt to cut it takes a higher number.
//! 3. The manifest is replaced: it names the new segment in place of the damaged one and all after it, and notes that
//!    the log was cut, so that no start prefers it unasked to a file of the server's own.
//! 4. Their names are removed. After a crash they are leftovers, because the new segment goes on from before them, and
//!    the next start removes them.

use super::scan::{Expected, SegmentScan, Step};
use super::view::LogView;
use crate::log::error::LogError;
use crate::log::format::manifest::{Manifest, NamedSegment, Sealed};
use crate::log::format::names::{MANIFEST_NAME, OwnName, new_number, own_name, segment_name};
use crate::log::lsn::Lsn;
use crate::log::storage::{Storage, StorageFile, failed};
use crate::log::write::segment::{NewSegment, Segment};
use std::ops::ControlFlow;

const COPY_BYTES: usize = 1 << 20;

/// A log that is damaged somewhere after its base, locked.
pub struct Damage<S: Storage> {
    view: LogView<S>,
    _lock: S::Lock,
    error: LogError,
    /// The damaged segment, by its index.
    index: usize,
    /// How far it is good.
    bytes: u64,
    end: Lsn,
}

/// A part of a log that goes when it is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The file.
    pub file: String,
    /// The first byte of it that goes.
    pub offset: u64,
    /// Bytes of it from there on; 0 where there is no such file.
    pub bytes: u64,
}

impl<S: Storage> Damage<S> {
    /// Locks the folder and looks for damage of its segments; `None` where there is none.
    ///
    /// # Errors
    /// A server has the folder, there is no log, or its manifest or base is damaged, without which nothing can be
    /// saved.
    pub fn find(storage: S) -> Result<Option<Damage<S>>, LogError> {
        let lock = storage.lock().map_err(failed(&storage, "lock", ""))?;
        let lock = lock.ok_or_else(|| LogError::Locked { file: storage.locate("") })?;
        let Some(view) = LogView::of(storage)? else {
            return Err(LogError::Refused { why: "there is no log in the folder" });
        };
        if view.format() != 2 {
            return Err(LogError::Refused { why: "a log of format 1 can't be cut at its damage" });
        }
        let mut walk = view.walk();
        let read = walk.each_unit(|_| Ok::<_, LogError>(ControlFlow::Continue(())));
        let (index, limit) = walk.reached();
        match read {
            Ok(()) => Ok(None),
            Err(error @ LogError::Damaged { .. }) => {
                let (bytes, end) = good_beginning(&view, index, limit)?;
                Ok(Some(Damage { view, _lock: lock, error, index, bytes, end }))
            }
            Err(error) => Err(error),
        }
    }

    /// What is wrong, and where.
    pub fn error(&self) -> &LogError {
        &self.error
    }

    /// The log.
    pub fn view(&self) -> &LogView<S> {
        &self.view
    }

    /// The position that the log ends at when it is cut.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// What goes when it is cut.
    pub fn gone(&self) -> Vec<Gone> {
        let storage = self.view.storage();
        let bytes_of =
            |name: &str| storage.open_read(name).and_then(|file| file.status()).map_or(0, |status| status.bytes);
        let from = self.gone_segments().iter().enumerate();
        from.map(|(number, segment)| {
            let file = segment_name(segment.seq);
            let offset = if number == 0 { self.bytes } else { 0 };
            Gone { bytes: bytes_of(&file).saturating_sub(offset), offset, file }
        })
        .collect()
    }

    fn gone_segments(&self) -> &[NamedSegment] {
        self.view.manifest().segments.get(self.index..).unwrap_or_default()
    }

    /// Cuts the log. What goes is kept in a new folder of this name, in that of the log. `unix_ms` is the time now.
    ///
    /// # Errors
    /// The log is as it was, unless the last step failed: then it may be either.
    pub fn cut(self, kept_in: &str, unix_ms: u64) -> Result<(), LogError> {
        let storage = self.view.storage();
        let folder = storage.create_folder(kept_in).map_err(failed(storage, "create", kept_in))?;
        self.keep(&folder)?;
        let manifest = self.view.manifest();
        let new = self.new_segment(unix_ms)?;
        let kept = manifest.segments.get(..self.index).unwrap_or_default();
        let segments = kept.iter().copied().chain([new]).collect();
        let standing = manifest.standing.cut(unix_ms);
        Manifest { segments, standing, ..manifest.clone() }.write_next(storage)?;
        Manifest::name_next(storage)?;
        for segment in self.gone_segments() {
            // What stays is a leftover for the next start.
            let _ = storage.remove(&segment_name(segment.seq));
        }
        Ok(())
    }

    /// Step 1.
    fn keep(&self, folder: &S) -> Result<(), LogError> {
        let storage = self.view.storage();
        for segment in self.gone_segments() {
            let name = segment_name(segment.seq);
            if storage.open_read(&name).is_ok() {
                storage.link(&name, folder).map_err(failed(storage, "link", &name))?;
            }
        }
        let mut file = folder.create(MANIFEST_NAME).map_err(failed(folder, "create", MANIFEST_NAME))?;
        let text = self.view.manifest().to_text();
        file.write_all_at(0, text.as_bytes()).map_err(failed(folder, "write", MANIFEST_NAME))?;
        file.sync_data().map_err(failed(folder, "sync", MANIFEST_NAME))?;
        folder.sync_dir().map_err(failed(folder, "sync the folder of", MANIFEST_NAME))
    }

    /// Step 2.
    fn new_segment(&self, unix_ms: u64) -> Result<NamedSegment, LogError> {
        let storage = self.view.storage();
        let names = storage.list().map_err(failed(storage, "list", ""))?;
        let numbers = names.iter().filter_map(|name| match own_name(name) {
            Some(OwnName::Segment(seq)) => Some(seq),
            _ => None,
        });
        let named = self.view.manifest().segments.iter().map(|segment| segment.seq);
        let seq = new_number(numbers.chain(named).max().unwrap_or(0) + 1)?;
        let damaged = self.gone_segments().first();
        let Some(damaged) = damaged.filter(|damaged| damaged.first < self.end) else {
            let generation = self.view.generation();
            let new = NewSegment { seq, generation, first: self.end, unix_ms, is_pending: false };
            return Ok(Segment::create(storage, new)?.named(true));
        };
        copy(storage, &segment_name(damaged.seq), &segment_name(seq), self.bytes)?;
        let sealed = Some(Sealed { end: self.end, bytes: self.bytes });
        Ok(NamedSegment { seq, first: damaged.first, sealed })
    }
}

/// How far a damaged segment is good, by offset and position. `limit` is the position that is known to be its last, if
/// any is.
fn good_beginning<S: Storage>(view: &LogView<S>, index: usize, limit: Option<Lsn>) -> Result<(u64, Lsn), LogError> {
    let begins = view.manifest().segments.get(index).map_or(view.begins(), |segment| segment.first);
    let opened = match view.open_segment(index) {
        Ok(opened) => opened,
        // Nothing of it can be relied on.
        Err(LogError::Damaged { .. }) => return Ok((0, begins)),
        Err(error) => return Err(error),
    };
    let (mut window, head) = opened;
    let sealed = view.manifest().segments.get(index).and_then(|segment| segment.sealed);
    let limit = limit.or(sealed.map(|sealed| sealed.end));
    let mut scan = SegmentScan::begin(&window, &head, Expected::Open)?;
    while limit.is_none_or(|limit| scan.end < limit) {
        match scan.next(&mut window) {
            Ok(Step::Frame(_)) => {}
            Ok(Step::End(_)) | Err(LogError::Damaged { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok((scan.offset, scan.end))
}

/// Copies the beginning of a file to a new one, durably.
fn copy<S: Storage>(storage: &S, from: &str, to: &str, bytes: u64) -> Result<(), LogError> {
    let source = storage.open_read(from).map_err(failed(storage, "open", from))?;
    let mut target = storage.create(to).map_err(failed(storage, "create", to))?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    while at < bytes {
        let wanted = COPY_BYTES.min(usize::try_from(bytes - at).unwrap_or(COPY_BYTES));
        let count = source.read_at(at, buffer.get_mut(..wanted).unwrap_or_default());
        let count = count.map_err(failed(storage, "read", from))?;
        let piece = buffer.get(..count).filter(|piece| !piece.is_empty());
        let piece = piece.ok_or_else(|| LogError::damaged(storage.locate(from), at, "the file became shorter"))?;
        target.write_all_at(at, piece).map_err(failed(storage, "write", to))?;
        at += piece.len() as u64;
    }
    target.sync_data().map_err(failed(storage, "sync", to))?;
    storage.sync_dir().map_err(failed(storage, "sync the folder of", to))
}
