//! Looking at a log without opening it: nothing is locked, changed or made durable, so a server may write to it
//! meanwhile. It is read in the same steps as at a start.
//!
//! A server that writes goes on in the last segment, begins others, and removes what a checkpoint has replaced. A view
//! shows the log as its manifest was; [`LogView::has_changed`] says whether that still has its name.

use super::base::BaseReader;
use super::frames::Frame;
use super::grammar::Head;
use super::leftovers::Unnamed;
use super::opened::{Base, Segment, Verdict, torn_tail};
use super::plan::Plan;
use super::scan::{Scan, SegmentScan, Step};
use super::units::{FrameUnits, Unit};
use super::window::Window;
use crate::log::error::LogError;
use crate::log::format::Generation;
use crate::log::format::manifest::Manifest;
use crate::log::format::names::{MANIFEST_NAME, segment_name};
use crate::log::format::standing::Standing;
use crate::log::lsn::Lsn;
use crate::log::storage::{Storage, StorageFile, failed};
use std::ops::ControlFlow;

/// A log that is only looked at.
pub struct LogView<S: Storage> {
    storage: S,
    text: Vec<u8>,
    plan: Plan,
}

impl<S: Storage> LogView<S> {
    /// Looks at the log of a folder; `None` where there is none.
    ///
    /// # Errors
    /// The manifest or the base is not there, or not what it should be; the folder can't be read.
    pub fn of(storage: S) -> Result<Option<LogView<S>>, LogError> {
        let names = storage.list().map_err(failed(&storage, "list", ""))?;
        if !names.iter().any(|name| name == MANIFEST_NAME.as_bytes()) {
            return Ok(None);
        }
        let text = Manifest::look_at_text(&storage)?;
        let plan = Plan::of(&storage, &text)?;
        Ok(Some(LogView { storage, text, plan }))
    }

    /// Whether the folder now has another manifest.
    ///
    /// # Errors
    /// Of reading.
    pub fn has_changed(&self) -> Result<bool, LogError> {
        Manifest::look_at_text(&self.storage).map(|text| text != self.text)
    }

    /// The storage.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Which log it is.
    pub fn generation(&self) -> Generation {
        self.plan.manifest.generation
    }

    /// The version of the format that the manifest has.
    pub fn format(&self) -> u32 {
        if self.plan.is_format_1 { 1 } else { 2 }
    }

    /// What it counts for at the next start.
    pub fn standing(&self) -> &Standing {
        &self.plan.manifest.standing
    }

    /// The position that the segments go on from: that of the base.
    pub fn begins(&self) -> Lsn {
        self.plan.manifest.beginning.lsn()
    }

    /// The base that the segments continue, where there is one.
    pub fn base(&self) -> Option<Base> {
        self.plan.manifest.base().map(Base::of)
    }

    /// Opens the base, where there is one. Only what was read to the end without an error is verified.
    ///
    /// # Errors
    /// Of opening it.
    pub fn read_base(&self) -> Result<Option<BaseReader<S::File>>, LogError> {
        self.base().map(|base| BaseReader::open(&self.storage, base)).transpose()
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.plan.manifest
    }

    /// Opens a segment, whatever is wrong with those before it.
    pub(super) fn open_segment(&self, index: usize) -> Result<(Window<S::File>, Head), LogError> {
        let first = self.plan.manifest.segments.get(index).map_or(Lsn::ZERO, |segment| segment.first);
        self.plan.open_segment(&self.storage, index, first).map(|(_, window, head)| (window, head))
    }

    /// How many segments the manifest names.
    pub fn segment_count(&self) -> usize {
        self.plan.manifest.segments.len()
    }

    /// Bytes of the segments' files now, unused space among them.
    pub fn segment_bytes(&self) -> u64 {
        let bytes_of = |name: String| Some(self.storage.open_read(&name).ok()?.status().ok()?.bytes);
        let named = self.plan.manifest.segments.iter();
        named
            .filter_map(|segment| segment.sealed.map(|seal| seal.bytes).or_else(|| bytes_of(segment_name(segment.seq))))
            .sum()
    }

    /// Reads the log from its base on.
    pub fn walk(&self) -> Walk<'_, S> {
        let end = self.begins();
        let start = Place { offset: 0, end };
        Walk {
            view: self,
            next_index: 0,
            current: None,
            segments: Vec::new(),
            verdict: None,
            frame: start,
            good: start,
            retried: None,
            read_bytes: 0,
        }
    }

    /// Files of the log's that its manifest does not name; a start removes them.
    ///
    /// # Errors
    /// The log needs one of them, so the manifest is not the log's newest.
    pub fn leftovers(&self, segments: &[Segment]) -> Result<Vec<String>, LogError> {
        let names = self.storage.list().map_err(failed(&self.storage, "list", ""))?;
        let unnamed = Unnamed { storage: &self.storage, log: Some(&self.plan.manifest), segments };
        Ok(unnamed.find(&self.plan.manifest, &names)?.names)
    }
}

/// A place between two frames.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// In the file of the last segment that was begun.
    offset: u64,
    end: Lsn,
}

/// A log that is being read, verified as it goes.
pub struct Walk<'v, S: Storage> {
    view: &'v LogView<S>,
    next_index: usize,
    current: Option<Current<S::File>>,
    segments: Vec<Segment>,
    verdict: Option<Verdict>,
    /// The frame that was read last.
    frame: Place,
    /// How far everything is good.
    good: Place,
    /// The offset in the last segment that was looked at once more.
    retried: Option<u64>,
    read_bytes: u64,
}

struct Current<F> {
    seq: u64,
    window: Window<F>,
    head: Head,
    scan: SegmentScan,
    unix_ms: u64,
    db: u32,
}

impl<S: Storage> Walk<'_, S> {
    /// Replaces `payload` with the next frame's; `None` at the end of the log.
    ///
    /// # Errors
    /// Damage, or of reading; [`Walk::good_end`] says up to where the log is good.
    pub fn next_frame(&mut self, payload: &mut Vec<u8>) -> Result<Option<Frame>, LogError> {
        payload.clear();
        loop {
            let Some(current) = &mut self.current else {
                if !self.open_next()? {
                    return Ok(None);
                }
                continue;
            };
            let start = Place { offset: current.scan.offset, end: current.scan.end };
            match current.scan.next(&mut current.window) {
                Ok(Step::Frame(located)) => {
                    payload.reserve(usize::try_from(located.length()).unwrap_or(0));
                    let is_whole = current.window.each_piece(located.payload, located.payload_end, |piece| {
                        payload.extend_from_slice(piece);
                    })?;
                    if !is_whole {
                        return Err(current.window.damaged(located.start, "the file became shorter while it was read"));
                    }
                    self.read_bytes += located.end - start.offset;
                    current.unix_ms = located.unix_ms.unwrap_or(current.unix_ms);
                    let (unix_ms, is_format_1) = (current.unix_ms, self.view.plan.is_format_1);
                    let frame = Frame { lsn: start.end, length: located.length(), unix_ms, is_format_1 };
                    self.good = Place { offset: current.scan.offset, end: current.scan.end };
                    self.frame = start;
                    return Ok(Some(frame));
                }
                Ok(Step::End(scan)) => self.end_segment(&scan),
                Err(error) => self.retry(start.offset, error)?,
            }
        }
    }

    /// Goes through all units that are left, until `visit` breaks.
    ///
    /// # Errors
    /// Those of [`Walk::next_frame`] and of `visit`.
    pub fn each_unit<E: From<LogError>>(
        &mut self,
        mut visit: impl FnMut(&Unit<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let mut payload = Vec::new();
        while let Some(frame) = self.next_frame(&mut payload)? {
            let (mut units, mut unit) = (FrameUnits::new(frame.lsn, &payload), Unit::default());
            unit.unix_ms = frame.unix_ms;
            let mut db = self.current.as_ref().map_or(0, |current| current.db);
            loop {
                match units.next_into(&mut unit, &mut db) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => return Err(self.bad_frame(error.why()).into()),
                }
                if visit(&unit)?.is_break() {
                    return Ok(());
                }
            }
            self.current.iter_mut().for_each(|current| current.db = db);
        }
        Ok(())
    }

    /// The segments that were read to their end.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How the log ended, once that is known.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// The position up to which the log is good, as far as it was read.
    pub fn good_end(&self) -> Lsn {
        self.good.end
    }

    /// The segment that was read last, by its index, and up to which position it is good where it was opened.
    pub(super) fn reached(&self) -> (usize, Option<Lsn>) {
        match &self.current {
            Some(_) => (self.next_index - 1, Some(self.good.end)),
            None => (self.next_index, None),
        }
    }

    /// Bytes of the segments read so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// The error of a frame with a good checksum that does not hold whole units.
    fn bad_frame(&mut self, why: &str) -> LogError {
        self.good = self.frame;
        let file = self.current.as_ref().map_or("", |current| current.window.shown());
        LogError::damaged(file, self.frame.offset, why)
    }

    fn open_next(&mut self) -> Result<bool, LogError> {
        let (view, index) = (self.view, self.next_index);
        if index >= view.segment_count() {
            return Ok(false);
        }
        let (seq, window, head) = view.plan.open_segment(&view.storage, index, self.good.end)?;
        let scan = SegmentScan::begin(&window, &head, view.plan.expected(index))?;
        self.good = Place { offset: scan.offset, end: scan.end };
        self.read_bytes += head.bytes;
        self.current = Some(Current { seq, window, unix_ms: head.unix_ms, head, scan, db: 0 });
        self.next_index += 1;
        self.retried = None;
        Ok(true)
    }

    fn end_segment(&mut self, scan: &Scan) {
        let Some(current) = self.current.take() else { return };
        self.segments.push(Segment::of(current.seq, &current.head, scan));
        self.verdict = (self.next_index == self.view.segment_count()).then(|| {
            if scan.is_torn {
                torn_tail(&self.view.storage, current.window.shown(), current.seq, scan)
            } else {
                Verdict::Clean
            }
        });
    }

    /// Looks once more at a bad place of the last segment. If a server writes to it, what was read of it may be older
    /// than what follows.
    fn retry(&mut self, offset: u64, error: LogError) -> Result<(), LogError> {
        let is_last = self.next_index == self.view.segment_count();
        let Some(current) = self.current.as_mut().filter(|_| is_last && self.retried != Some(offset)) else {
            return Err(error);
        };
        current.window = Window::open(&self.view.storage, &segment_name(current.seq))?;
        self.retried = Some(offset);
        Ok(())
    }
}
