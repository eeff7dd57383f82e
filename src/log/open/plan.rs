//! What the manifest says is to be read, and what each file has to be.

use super::grammar::Head;
use super::scan::Expected;
use super::window::Window;
use crate::log::error::LogError;
use crate::log::format::manifest::{BaseFacts, Beginning, MANIFEST_PREFIX, Manifest, NamedSegment, Sealed};
use crate::log::format::names::{MANIFEST_NAME, base_name, segment_name};
use crate::log::format::standing::Standing;
use crate::log::format::{FormatError, Generation, foreign_line};
use crate::log::format1;
use crate::log::lsn::Lsn;
use crate::log::storage::{Storage, StorageFile, failed};
use std::io;

/// A log as its manifest describes it. Only the base's length and, in format 1, the heads of the segments were looked
/// at.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// As format 2 has it.
    pub manifest: Manifest,
    pub is_format_1: bool,
}

impl Plan {
    pub fn of<S: Storage>(storage: &S, text: &[u8]) -> Result<Plan, LogError> {
        let shown = storage.locate(MANIFEST_NAME);
        if text.starts_with(MANIFEST_PREFIX.as_bytes()) {
            let manifest = Manifest::parse(text).map_err(|why| LogError::damaged(shown, 0, why))?;
            check_base(storage, &manifest)?;
            Ok(Plan { manifest, is_format_1: false })
        } else if let FormatError::UnknownFormat(format) = foreign_line(text, &[]) {
            Err(LogError::UnsupportedVersion { file: shown, format })
        } else {
            let named = format1::parse_manifest(text);
            let (base, segments) = named.map_err(|why| LogError::foreign(shown, why))?;
            Ok(Plan { manifest: of_format_1(storage, base, &segments)?, is_format_1: true })
        }
    }

    /// Opens a segment, which has to go on from `end`; returns its number, too.
    pub fn open_segment<S: Storage>(
        &self,
        storage: &S,
        index: usize,
        end: Lsn,
    ) -> Result<(u64, Window<S::File>, Head), LogError> {
        let Some(named) = self.manifest.segments.get(index) else {
            return Err(LogError::Refused { why: "there is no such segment" });
        };
        let mut window = open_named(storage, named.seq)?;
        // The manifest is one of this module, so whatever the file has become, the log is damaged.
        let head = head_of(&mut window).map_err(|error| match error {
            LogError::ForeignFolder { why, .. } => window.damaged(0, why),
            error => error,
        })?;
        if head.generation.is_some_and(|found| found != self.manifest.generation) {
            return Err(window.damaged(0, "the segment belongs to another log"));
        }
        if head.first != named.first {
            return Err(window.damaged(0, "the segment has another position than the manifest says"));
        }
        if head.first != end {
            return Err(window.damaged(0, format!("the segment has position {} instead of {end}", head.first)));
        }
        Ok((named.seq, window, head))
    }

    /// What is known of a segment's end.
    pub fn expected(&self, index: usize) -> Expected {
        let next = self.manifest.segments.get(index + 1);
        match (self.manifest.segments.get(index).and_then(|named| named.sealed), next) {
            (Some(sealed), _) => Expected::Sealed(sealed),
            (None, Some(next)) => Expected::Until(next.first),
            (None, None) => Expected::Open,
        }
    }
}

fn check_base<S: Storage>(storage: &S, manifest: &Manifest) -> Result<(), LogError> {
    let Some(base) = manifest.base() else { return Ok(()) };
    let bytes = base_bytes(storage, base.seq)?;
    if bytes == base.bytes {
        return Ok(());
    }
    let why = format!("the base has {bytes} bytes instead of {}", base.bytes);
    Err(LogError::damaged(storage.locate(&base_name(base.seq)), bytes.min(base.bytes), why))
}

/// The manifest of a log of format 1 as format 2 has it.
fn of_format_1<S: Storage>(storage: &S, base: Option<u64>, segments: &[u64]) -> Result<Manifest, LogError> {
    // Where a segment ends is known from where the next one begins. They are not kept open: there may be more of them
    // than a process may have open.
    let mut named: Vec<NamedSegment> = Vec::new();
    let mut bytes_before = 0;
    for seq in segments {
        let mut window = open_named(storage, *seq)?;
        let head = head_of(&mut window)?;
        if head.generation.is_some() {
            return Err(window.damaged(0, "the segment is newer than the manifest, which was changed"));
        }
        if let Some(last) = named.last_mut() {
            last.sealed = Some(Sealed { end: head.first, bytes: bytes_before });
        }
        bytes_before = window.file_bytes();
        named.push(NamedSegment { seq: *seq, first: head.first, sealed: None });
    }
    let beginning = match base {
        // Nothing says which position it is of.
        Some(seq) => {
            let lsn = named.first().map_or(Lsn::ZERO, |first| first.first);
            Beginning::Base(BaseFacts { seq, lsn, bytes: base_bytes(storage, seq)?, crc32c: None })
        }
        None => Beginning::Empty(Lsn::ZERO),
    };
    let random = storage.random().map_err(failed(storage, "name a log in", ""))?;
    let generation = Generation { counter: 1, random };
    Ok(Manifest { generation, standing: Standing::Current, beginning, segments: named })
}

fn open_named<S: Storage>(storage: &S, seq: u64) -> Result<Window<S::File>, LogError> {
    let name = segment_name(seq);
    Window::open(storage, &name).map_err(|error| missing(storage, &name, error))
}

fn base_bytes<S: Storage>(storage: &S, seq: u64) -> Result<u64, LogError> {
    let name = base_name(seq);
    let file = storage.open_read(&name).map_err(failed(storage, "open", &name));
    let file = file.map_err(|error| missing(storage, &name, error))?;
    Ok(file.status().map_err(failed(storage, "measure", &name))?.bytes)
}

fn missing<S: Storage>(storage: &S, name: &str, error: LogError) -> LogError {
    match error {
        LogError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            LogError::damaged(storage.locate(name), 0, "the manifest names it, but it is missing")
        }
        error => error,
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
        FormatError::UnknownFormat(format) => LogError::UnsupportedVersion { file, format },
        _ if zero || window.bytes_at(0, 4)?.starts_with(b"#WBL") => window.damaged(0, error.why()),
        _ => LogError::foreign(file, "the segment does not begin with a header of this module"),
    })
}
