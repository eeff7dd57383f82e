//! What bases have replaced, kept for a while: each time a folder with the old base, the segments up to the new one,
//! and a manifest of just these. It is a closed log, like a backup, and reaches from one base to the next.
//!
//! What if it crashes here, step by step:
//! 1. The folder is made under a temporary name, of hard links, and gets its name: it holds what the log itself still
//!    has. That does not disturb a start; a reader of both skips what is there twice.
//! 2. The manifest names the new base, and the log's own names of the old files are removed, as always.
//!
//! A folder that is given up first gets a temporary name back, so that what has the name of one is always whole. The
//! log never waits for any of this to succeed: if a folder can't be made there is none.

use super::backup::{make_copy, name_copy, remove_copy};
use crate::lock::lock;
use crate::log::error::LogError;
use crate::log::format::manifest::{Manifest, Sealed};
use crate::log::format::names::{
    NEW_HISTORY_NAME, OLD_HISTORY_NAME, OwnName, own_name, segment_name, stamp_of, stamped_name,
};
use crate::log::lsn::Lsn;
use crate::log::open::segment_head;
use crate::log::storage::{Storage, StorageFile, failed};
use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const PREFIX: &str = "history-";

/// A log that a base has replaced, in a folder of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLog {
    /// The name of the folder within the log's.
    pub name: String,
    /// When its first unit was logged, or before.
    pub begins_unix_ms: u64,
    /// When its last unit was logged.
    pub unix_ms: u64,
    /// The position up to which it goes: that of the base which has replaced it.
    pub end: Lsn,
    /// What its files take.
    pub bytes: u64,
}

impl KeptLog {
    fn of<S: Storage>(storage: &S, name: String) -> io::Result<Option<KeptLog>> {
        let Some((unix_ms, end)) = stamp_of(PREFIX, &name) else { return Ok(None) };
        let folder = storage.folder(&name)?;
        let (mut bytes, mut first) = (0, None);
        let folders = folder.list_folders()?;
        for file in folder.list()? {
            let text = String::from_utf8_lossy(&file);
            if folders.iter().any(|name| *name == text) {
                continue;
            }
            match folder.open_read(&text).and_then(|file| file.status()) {
                Ok(status) => bytes += status.bytes,
                // A server that was started on it has removed one of its own.
                Err(error) if error.kind() == io::ErrorKind::NotFound && storage.list_folders()?.contains(&name) => {}
                Err(error) => return Err(error),
            }
            if let Some(OwnName::Segment(seq)) = own_name(&file) {
                first = Some(first.map_or(seq, |first: u64| first.min(seq)));
            }
        }
        let head = first.and_then(|seq| segment_head(&folder, &segment_name(seq)).ok());
        let begins_unix_ms = head.map_or(unix_ms, |head| head.unix_ms);
        Ok(Some(KeptLog { name, begins_unix_ms, unix_ms, end, bytes }))
    }
}

/// What is kept in a folder of a log, in its order.
///
/// # Errors
/// Of reading.
pub fn kept_logs<S: Storage>(storage: &S) -> io::Result<Vec<KeptLog>> {
    let mut found = Vec::new();
    for name in storage.list_folders()? {
        match KeptLog::of(storage, name) {
            Ok(kept) => found.extend(kept),
            // It has been given up meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by_key(|kept| (kept.end, kept.unix_ms));
    Ok(found)
}

/// Gives up one of them; `false` where it is to stay, because a server uses it, or has left more in it than a log.
fn remove_kept<S: Storage>(storage: &S, name: &str) -> Result<bool, LogError> {
    match remove_copy(storage, name, OLD_HISTORY_NAME) {
        Ok(()) => Ok(true),
        Err(LogError::Locked { .. } | LogError::Occupied { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives up the oldest one that can be, while nobody writes; returns whether there was one.
pub(crate) fn remove_oldest<S: Storage>(storage: &S) -> bool {
    for kept in kept_logs(storage).unwrap_or_default() {
        match remove_kept(storage, &kept.name) {
            Ok(false) => {}
            outcome => return outcome.is_ok(),
        }
    }
    false
}

/// What is kept beside a log that is written.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Whether the next base's predecessor is kept.
    keeps: AtomicBool,
    /// The oldest first; `None` until first looked at.
    kept: Mutex<Option<VecDeque<KeptLog>>>,
    /// Held while one is given up.
    removing: Mutex<()>,
    /// The number for others, who don't wait for the disk.
    bytes: AtomicU64,
    since_unix_ms: AtomicU64,
    /// Whether it is known that there is none.
    is_gone: AtomicBool,
    /// Why the last one is missing, until that is asked.
    failure: Mutex<Option<String>>,
}

impl History {
    pub fn keeps(&self) -> bool {
        self.keeps.load(Ordering::Relaxed)
    }

    pub fn set_keeps(&self, keeps: bool) {
        self.keeps.store(keeps, Ordering::Relaxed);
    }

    /// Bytes that it takes, and the first moment that it has; zeros where there is none.
    pub fn extent(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.since_unix_ms.load(Ordering::Relaxed))
    }

    /// Whether it is known that there is none.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// Why something that should have been kept is not; reported once.
    pub fn take_failure(&self) -> Option<String> {
        lock(&self.failure).take()
    }

    /// A base of this position, where a segment begins, is about to replace what this log has before it: that is kept.
    /// All of it is durable.
    pub(super) fn keep<S: Storage>(&self, storage: &S, log: Manifest, base: Lsn) {
        if let Err(error) = self.try_keep(storage, log, base) {
            *lock(&self.failure) = Some(error.to_string());
        }
    }

    fn try_keep<S: Storage>(&self, storage: &S, mut log: Manifest, base: Lsn) -> Result<(), LogError> {
        let Some(index) = log.segments.iter().position(|segment| segment.first == base) else { return Ok(()) };
        log.segments.truncate(index + 1);
        let Some(last) = log.segments.last_mut() else { return Ok(()) };
        let head = segment_head(storage, &segment_name(last.seq))?;
        // The new base's first segment has no frames here.
        last.sealed = Some(Sealed { end: base, bytes: head.bytes });
        let name = stamped_name(PREFIX, head.unix_ms, base);
        let known = storage.list_folders().map_err(failed(storage, "list", ""))?;
        if known.contains(&name) {
            // A crash came before the base had replaced it.
            return Ok(());
        }
        make_copy(storage, &log, NEW_HISTORY_NAME, |storage| name_copy(storage, NEW_HISTORY_NAME, &name))?;
        self.add(storage, &name);
        Ok(())
    }

    fn publish(&self, kept: &VecDeque<KeptLog>) {
        self.is_gone.store(kept.is_empty(), Ordering::Relaxed);
        self.bytes.store(kept.iter().map(|kept| kept.bytes).sum(), Ordering::Relaxed);
        self.since_unix_ms.store(kept.front().map_or(0, |oldest| oldest.begins_unix_ms), Ordering::Relaxed);
    }

    fn change<S: Storage, T>(&self, storage: &S, change: impl FnOnce(&mut VecDeque<KeptLog>) -> T) -> io::Result<T> {
        let mut known = lock(&self.kept);
        let kept = match &mut *known {
            Some(kept) => kept,
            none => none.insert(kept_logs(storage)?.into()),
        };
        let changed = change(kept);
        self.publish(kept);
        Ok(changed)
    }

    /// There is one more. If that can't be measured now, all are, later.
    fn add<S: Storage>(&self, storage: &S, name: &str) {
        let added = KeptLog::of(storage, name.into()).and_then(|kept| {
            // It may be listed just now.
            self.change(storage, |known| known.extend(kept.filter(|kept| !known.contains(kept))))
        });
        if added.is_err() {
            *lock(&self.kept) = None;
        }
    }

    /// Gives up the oldest that can be, if `is_due` says so for the time of its last unit and the size of all; returns
    /// whether that was done. That time is not after the last unit of any newer one, even if the clock has been set
    /// back since.
    pub(super) fn remove_oldest<S: Storage>(&self, storage: &S, is_due: impl Fn(u64, u64) -> bool) -> bool {
        let _one = lock(&self.removing);
        for staying in 0.. {
            let oldest = self.change(storage, |kept| {
                let bytes = kept.iter().map(|kept| kept.bytes).sum();
                let unix_ms = kept.iter().skip(staying).map(|kept| kept.unix_ms).min()?;
                kept.get(staying).filter(|_| is_due(unix_ms, bytes)).map(|kept| kept.name.clone())
            });
            let Ok(Some(oldest)) = oldest else { break };
            match remove_kept(storage, &oldest) {
                Ok(true) => return self.change(storage, |kept| kept.retain(|kept| kept.name != oldest)).is_ok(),
                Ok(false) => {}
                Err(_) => {
                    // It may have another name by now. All are listed again, and it is tried again.
                    *lock(&self.kept) = None;
                    break;
                }
            }
        }
        false
    }
}
