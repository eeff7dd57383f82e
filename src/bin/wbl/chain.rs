//! A log with what is kept of the time before its base (`wbl.keep-history-seconds`), as one.
//!
//! Each part that is kept reaches from a base to the next one. After a crash a part may hold what the log still has,
//! too: units seen before are skipped.

use crate::failure::Failure;
use crate::folder::{View, view};
use crate::moment::{Moment, Span};
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use valkey_wbl::log::{FolderStorage, KeptLog, LogError, LogView, Lsn, Storage, Unit, kept_logs};
use valkey_wbl::rdb;

/// The head of a base has the time at which it was begun.
const HEAD_BYTES: usize = 4096;

/// A log, and what goes before it without a gap.
pub struct Chain {
    /// The oldest first; the log itself is the last one.
    parts: Vec<Part>,
}

struct Part {
    view: View,
    /// Its folder's name, unless it is the log itself.
    kept_as: Option<String>,
    /// When the last unit before it was logged, where that is kept.
    since_unix_ms: Option<u64>,
}

impl Part {
    /// Goes through its units from a position on, until `visit` breaks. The position follows.
    fn each_unit(
        &self,
        at: &mut Lsn,
        visit: &mut impl FnMut(&Unit<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<ControlFlow<()>, Failure> {
        let mut flow = ControlFlow::Continue(());
        self.view.walk().each_unit(|unit| {
            if unit.start >= *at {
                *at = unit.end;
                flow = visit(unit)?;
            }
            Ok::<_, Failure>(flow)
        })?;
        Ok(flow)
    }
}

impl Chain {
    /// Looks at everything in a folder.
    pub fn of(path: &Path) -> Result<Chain, Failure> {
        let log = view(path)?;
        let kept = kept_logs(log.storage()).map_err(Failure::io("cannot look for what is kept of before"))?;
        let mut older: Vec<(KeptLog, View)> = kept.into_iter().filter_map(|kept| look(log.storage(), kept)).collect();
        let mut parts = vec![Part { view: log, kept_as: None, since_unix_ms: None }];
        while let Some(next) = parts.first_mut() {
            let goes_before = |(kept, view): &(KeptLog, View)| {
                let is_same = view.generation() == next.view.generation();
                is_same && view.begins() < next.view.begins() && kept.end >= next.view.begins()
            };
            let last = older.iter().enumerate().filter(|(_, part)| goes_before(part));
            let Some((index, _)) = last.max_by_key(|(_, (_, view))| view.begins()) else { break };
            let (kept, view) = older.swap_remove(index);
            next.since_unix_ms = Some(kept.unix_ms);
            parts.insert(0, Part { view, kept_as: Some(kept.name), since_unix_ms: None });
        }
        Ok(Chain { parts })
    }

    /// A part; those with smaller numbers are older.
    pub fn part(&self, index: usize) -> Result<&View, Failure> {
        self.parts.get(index).map(|part| &part.view).ok_or_else(|| Failure::text("there is no such part of the log"))
    }

    /// The newest part from which a moment can be reached, and all of these units; the log itself where nothing is
    /// said.
    pub fn part_for(&self, until: Option<Moment>, units: &[Span]) -> Result<usize, Failure> {
        let reaches = |part: &Part| {
            let is_early = match until {
                None => true,
                Some(Moment::Position(position)) => part.view.begins() <= position,
                // A base that was begun later lacks what has expired in between.
                Some(Moment::UnixMs(unix_ms)) => {
                    part.since_unix_ms.is_none_or(|since| since <= unix_ms)
                        && begun_s(&part.view)?.is_none_or(|begun_s| begun_s <= unix_ms / 1000)
                }
            };
            Ok::<_, Failure>(is_early && units.iter().all(|span| part.view.begins() <= span.start))
        };
        for (index, part) in self.parts.iter().enumerate().rev() {
            if reaches(part)? {
                return Ok(index);
            }
        }
        Ok(0)
    }

    /// Bytes of the files from a part on.
    pub fn bytes_from(&self, index: usize) -> u64 {
        self.parts.iter().skip(index).map(|part| part.view.segment_bytes()).sum()
    }

    /// Goes through all units from a part on, until `visit` breaks.
    pub fn each_unit(
        &self,
        index: usize,
        mut visit: impl FnMut(&Unit<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let mut at = Lsn::ZERO;
        for part in self.parts.iter().skip(index) {
            if part.each_unit(&mut at, &mut visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Goes through all units that can be read, until `visit` breaks. What is damaged of the time before the base is
    /// left out, and said so. Returns whether nothing was.
    pub fn each_readable_unit(
        &self,
        mut visit: impl FnMut(&Unit<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<bool, Failure> {
        let (mut at, mut is_whole) = (Lsn::ZERO, true);
        for part in &self.parts {
            match (part.each_unit(&mut at, &mut visit), &part.kept_as) {
                (Ok(ControlFlow::Continue(())), _) => {}
                (Ok(ControlFlow::Break(())), _) => break,
                (Err(Failure::Log(error)), Some(name)) if !is_gone(&error) => {
                    eprintln!("wbl: {name} is left out from position {at} on: {error}");
                    is_whole = false;
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(is_whole)
    }

    /// Whether a server has removed, or replaced, a part of it meanwhile.
    fn has_changed(&self) -> Result<bool, Failure> {
        let has_changed =
            |part: &Part| part.view.has_changed().or_else(|error| is_gone(&error).then_some(true).ok_or(error));
        for part in &self.parts {
            if has_changed(part)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// When the base was begun.
pub fn begun_s(view: &View) -> Result<Option<u64>, Failure> {
    let Some(mut reader) = view.read_base()? else { return Ok(None) };
    let mut head = vec![0; HEAD_BYTES];
    let count = reader.read(&mut head).unwrap_or(0);
    Ok(rdb::begun_s(head.get(..count).unwrap_or(&[])))
}

fn is_gone(error: &LogError) -> bool {
    matches!(error, LogError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// Looks at a part that is kept. One that can't be read does not count; one that has just been given up is left out
/// silently.
fn look(storage: &FolderStorage, kept: KeptLog) -> Option<(KeptLog, View)> {
    let folder = storage.folder(&kept.name).ok()?;
    match LogView::of(folder) {
        Ok(view) => view.map(|view| (kept, view)),
        Err(error) => {
            if !is_gone(&error) {
                eprintln!("wbl: {} is left out: {error}", kept.name);
            }
            None
        }
    }
}

/// Does something with a log and its kept history that can't be done again.
pub fn with_chain_once<T>(path: &Path, act: impl FnOnce(&Chain) -> Result<T, Failure>) -> Result<T, Failure> {
    let chain = Chain::of(path)?;
    match act(&chain) {
        Err(Failure::Log(error)) if chain.has_changed()? => Err(Failure::text(format!(
            "a checkpoint has replaced the log while it was read; try again, or read a backup (WBL.BACKUP START): {error}"
        ))),
        outcome => outcome,
    }
}
