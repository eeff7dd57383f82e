//! From a verified folder to a writer.
//!
//! Each start begins a new segment, with a salt of its own: nothing that an earlier writer left after the recovered end
//! can ever look like a frame of it.
//!
//! What if it crashes here, step by step:
//! 1. Leftovers are removed, and the zeros at the end of a segment that was written ahead. They are not part of the
//!    log; those that come back are removed at the next start. This comes first because what follows takes room, and
//!    they may hold all of it.
//! 2. What may not be durable yet of the recovered frames is written again with the same bytes, and synced. Readers
//!    will see what was recovered, so it must be durable; and after a failed sync a kernel may hold bytes in its cache
//!    that it calls clean and that never reached the disk. Only frames that no later one calls durable can be
//!    affected: the last ones. A crash here changes no byte that was on the disk.
//! 3. The next segment and the next manifest are written: leftovers until the manifest gets its name. If there is no
//!    room for them, the end of what will be cut gives way.
//! 4. What will be cut is copied aside. A crash leaves a copy, which the next start makes again. If there is no room
//!    for a copy it is moved (see [`super::aside`]), and stays there whatever becomes of this start.
//! 5. What is after the end of a segment is cut, and the segment is synced. A start after a crash finds a clean end.
//!    From here on the copy stays, whatever fails: it may be all that is left of those bytes.
//! 6. The manifest gets its name: it seals what was recovered, and names the new segment. A crash leaves the old or the
//!    new one. What only the old one named is removed by the writer ([`LogWriter::remove_leftovers`]).

use super::opened::{Opened, Segment};
use crate::log::error::LogError;
use crate::log::format::manifest::{Manifest, NamedSegment, Sealed};
use crate::log::format::names::{NEXT_MANIFEST_NAME, segment_name};
use crate::log::format::standing::Standing;
use crate::log::open::scan::Scan;
use crate::log::storage::{Storage, StorageFile, failed};
use crate::log::write::segment::{self, NewSegment};
use crate::log::write::{LogWriter, remove_oldest_kept};
use std::ops::Deref;

pub(super) const COPY_BYTES: usize = 1 << 20;

/// A folder that can be written: everything is ready to go on with its log, and nothing visible has changed. Dropping
/// it removes what was prepared.
pub struct Prepared<S: Storage> {
    /// Taken with `next`.
    opened: Option<Opened<S>>,
    next: Option<Next<S::File>>,
    given_up_bytes: u64,
}

struct Next<F> {
    segment: segment::Segment<F>,
    log: Manifest,
    cut: Option<String>,
    unix_ms: u64,
}

impl<S: Storage> Opened<S> {
    /// Makes what was recovered durable, and prepares to go on after it. `unix_ms` is the time now.
    ///
    /// Removes what is not part of the log. To keep that until the base is known to be whole, read the base before
    /// ([`Opened::read_base`]).
    ///
    /// For a folder without a log see `Folder::begin`.
    pub fn prepare(mut self, unix_ms: u64) -> Result<Prepared<S>, LogError> {
        let Some(old) = self.folder.manifest.clone() else {
            return Err(LogError::Refused { why: "there is no log to go on with" });
        };
        self.folder.remove_leftovers();
        self.cut_unused()?;
        self.make_durable()?;
        let mut torn = self.torn_end()?;
        let (segment, log) = loop {
            match self.prepare_next(old.clone(), unix_ms) {
                Err(error)
                    if error.is_no_room()
                        && (remove_oldest_kept(self.storage()) || self.make_room(torn.as_mut())?) => {}
                outcome => break outcome?,
            }
        };
        let next = Some(Next { segment, log, cut: None, unix_ms });
        let mut prepared = Prepared { opened: Some(self), next, given_up_bytes: 0 };
        if let Some(torn) = &mut torn {
            let cut = prepared.opened().keep_aside(torn)?;
            prepared.given_up_bytes = torn.given_up_bytes;
            prepared.next.iter_mut().for_each(|next| next.cut.clone_from(&cut));
        }
        Ok(prepared)
    }

    fn prepare_next(&mut self, old: Manifest, unix_ms: u64) -> Result<(segment::Segment<S::File>, Manifest), LogError> {
        // Segments without frames are replaced, so that restarts do not pile them up.
        let kept = self.segments.iter().filter(|segment| segment.first < segment.end);
        let sealed = |segment: &Segment| Some(Sealed { end: segment.end, bytes: segment.bytes });
        let named =
            |segment: &Segment| NamedSegment { seq: segment.seq, first: segment.first, sealed: sealed(segment) };
        let standing = old.standing.followed_by(Standing::Current);
        let mut log = Manifest { standing, segments: kept.map(named).collect(), ..old };
        let (seq, first) = (self.folder.take_segment_number()?, self.folder.end());
        let new = NewSegment { seq, generation: log.generation, first, unix_ms, is_pending: false };
        let next = segment::Segment::create(self.storage(), new)?;
        log.segments.push(next.named(false));
        match log.write_next(self.storage()) {
            Ok(()) => Ok((next, log)),
            Err(error) => {
                let _ = self.storage().remove(&next.name);
                Err(error)
            }
        }
    }

    /// Cuts what was never used of segments that were written ahead. It is synced with step 5.
    fn cut_unused(&self) -> Result<(), LogError> {
        for (segment, scan) in self.unsealed().filter(|(_, scan)| scan.file_bytes > scan.used_bytes) {
            let (storage, name) = (self.storage(), &segment.name);
            let mut file = storage.open_write(name).map_err(failed(storage, "open", name))?;
            file.set_len(scan.used_bytes).map_err(failed(storage, "cut", name))?;
        }
        Ok(())
    }

    /// Step 2. To be done before what was recovered is shown without going on with the log.
    ///
    /// # Errors
    /// Of writing.
    pub fn make_durable(&self) -> Result<(), LogError> {
        self.unsealed().try_for_each(|(segment, scan)| self.make_segment_durable(segment, scan))
    }

    fn make_segment_durable(&self, last: &Segment, scan: &Scan) -> Result<(), LogError> {
        if scan.durable_bytes >= scan.bytes {
            return Ok(());
        }
        let (storage, name) = (self.storage(), &last.name);
        let mut file = storage.open_write(name).map_err(failed(storage, "open", name))?;
        let mut buffer = vec![0; COPY_BYTES.min((scan.bytes - scan.durable_bytes) as usize)];
        let mut at = scan.durable_bytes;
        while at < scan.bytes {
            let wanted = ((scan.bytes - at) as usize).min(buffer.len());
            let count = file.read_at(at, buffer.get_mut(..wanted).unwrap_or_default());
            let count = count.map_err(failed(storage, "read", name))?;
            let bytes =
                buffer.get(..count).filter(|bytes| !bytes.is_empty()).ok_or_else(|| shorter(storage, name, at))?;
            file.write_all_at(at, bytes).map_err(failed(storage, "write", name))?;
            at += bytes.len() as u64;
        }
        file.sync_data().map_err(failed(storage, "sync", name))
    }

    /// Step 5. Only the last segment can be torn; what others hold beyond their end is void.
    fn cut_ends(&self) -> Result<(), LogError> {
        for (segment, scan) in self.unsealed().filter(|(_, scan)| scan.file_bytes > scan.bytes) {
            let (storage, name) = (self.storage(), &segment.name);
            let mut file = storage.open_write(name).map_err(failed(storage, "open", name))?;
            file.set_len(scan.bytes).map_err(failed(storage, "cut", name))?;
            file.sync_data().map_err(failed(storage, "sync", name))?;
        }
        Ok(())
    }

    pub(super) fn unsealed(&self) -> impl Iterator<Item = (&Segment, &Scan)> {
        self.unsealed.iter().filter_map(|(index, scan)| Some((self.segments.get(*index)?, scan)))
    }
}

impl<S: Storage> Prepared<S> {
    /// Goes on with the log: steps 5 and 6.
    pub fn start(mut self) -> Result<LogWriter<S>, LogError> {
        if let Some(next) = &mut self.next {
            // Dropping must no longer remove it.
            next.cut = None;
        }
        self.opened().cut_ends()?;
        let (Some(mut opened), Some(Next { segment, log, unix_ms, .. })) = (self.opened.take(), self.next.take())
        else {
            unreachable!("both are there until now");
        };
        let old = opened.folder.name_next(log.clone())?;
        let kept = |seq: u64| log.segments.iter().any(|segment| segment.seq == seq);
        let gone = old.iter().flat_map(|old| &old.segments).filter(|segment| !kept(segment.seq));
        opened.folder.leftovers.extend(gone.map(|segment| segment_name(segment.seq)));
        Ok(LogWriter::new(opened.folder, segment, log, false, unix_ms))
    }

    /// Bytes of the unfinished end that are not kept aside, for lack of room.
    pub fn given_up_bytes(&self) -> u64 {
        self.given_up_bytes
    }

    fn opened(&self) -> &Opened<S> {
        match &self.opened {
            Some(opened) => opened,
            None => unreachable!("it is taken with the value itself"),
        }
    }
}

impl<S: Storage> Deref for Prepared<S> {
    type Target = Opened<S>;

    fn deref(&self) -> &Opened<S> {
        self.opened()
    }
}

impl<S: Storage> Drop for Prepared<S> {
    fn drop(&mut self) {
        let (Some(opened), Some(next)) = (&self.opened, &self.next) else { return };
        // What stays is a leftover for the next start.
        for name in next.cut.iter().map(String::as_str).chain([NEXT_MANIFEST_NAME, next.segment.name.as_str()]) {
            let _ = opened.storage().remove(name);
        }
    }
}

pub(super) fn shorter<S: Storage>(storage: &S, name: &str, offset: u64) -> LogError {
    LogError::damaged(storage.locate(name), offset, "the file became shorter since the log was opened")
}
