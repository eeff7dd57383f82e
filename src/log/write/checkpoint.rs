//! Replacing old segments with a base.
//!
//! What if it crashes here, step by step:
//! 1. The content of the new base is made durable, read again and checked, as a start would read it. It has a temporary
//!    name, and the next start removes it.
//! 2. The base gets its name, and the name is made durable: the manifest still names the old base and all segments, or
//!    there is none; the next start removes the new one.
//! 3. The manifest is replaced: it names the old set of files or the new one, and both are complete. A log that waited
//!    for its base appears at this moment.
//! 4. What only the old manifest named is removed: the next start removes the rest.
//!
//! Steps 1 and 2 need only the base, and any thread may do them; step 4 too.

use super::expendable::Expendable;
use super::writer::{LogWriter, StepError};
use crate::log::error::LogError;
use crate::log::format::manifest::{BaseFacts, Beginning, Manifest};
use crate::log::format::names::{base_name, new_number, segment_name, temporary_base_name, temporary_base_seq};
use crate::log::lsn::Lsn;
use crate::log::open::CheckBase;
use crate::log::storage::{Storage, StorageFile, failed};
use std::collections::HashSet;
use std::io::{self, Read};

/// What the check did not read is read in pieces of this size.
const REST_PIECE_BYTES: usize = 64 << 10;

/// A base that was written, under its temporary name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBase {
    /// Its name.
    pub name: String,
    /// The position whose dataset it holds, as a `cut` returned it.
    pub lsn: Lsn,
}

/// A base that has its name.
#[derive(Debug)]
pub(crate) struct PreparedBase(BaseFacts);

/// Steps 1 and 2.
pub(crate) struct BaseJob<'a, S: Storage> {
    pub storage: &'a S,
    pub expendable: &'a Expendable<S>,
    /// Whether a start could recover the base.
    pub check: CheckBase,
    /// Asked between pieces: whether the base is no longer wanted.
    pub is_cancelled: &'a dyn Fn() -> bool,
}

impl<S: Storage> BaseJob<'_, S> {
    /// Makes the base durable, checks it and gives it its name. If that fails the file is removed: a second sync of the
    /// same file could succeed without the bytes that the first one lost.
    pub fn run(&self, base: &NewBase) -> Result<PreparedBase, LogError> {
        let Some(seq) = temporary_base_seq(&base.name) else {
            return Err(LogError::Refused { why: "the name is not one of a temporary base" });
        };
        self.prepare(base, seq).inspect_err(|_| {
            self.expendable.remove(std::slice::from_ref(&base.name));
        })
    }

    fn prepare(&self, base: &NewBase, seq: u64) -> Result<PreparedBase, LogError> {
        let (storage, name) = (self.storage, &base.name);
        let mut file = storage.open_write(name).map_err(failed(storage, "open", name))?;
        file.sync_data().map_err(failed(storage, "sync", name))?;
        let mut reader =
            NewBaseReader { file: &file, bytes: 0, crc32c: 0, error: None, is_cancelled: self.is_cancelled };
        let checked = (self.check)(&mut reader).and_then(|()| reader.read_rest().map_err(|error| error.to_string()));
        let NewBaseReader { bytes, crc32c, error, .. } = reader;
        if (self.is_cancelled)() {
            return Err(LogError::Closed);
        }
        if let Some(error) = error {
            return Err(failed(storage, "read", name)(error));
        }
        if !self.expendable.keep(name) {
            let no_room = failed(storage, "find room beside the log for", name);
            return Err(no_room(io::Error::from(rustix::io::Errno::NOSPC)));
        }
        checked.map_err(|why| LogError::BadBase { file: storage.locate(name), why })?;
        storage.rename(name, &base_name(seq)).map_err(failed(storage, "rename", name))?;
        storage.sync_dir().map_err(failed(storage, "sync the folder of", &base_name(seq)))?;
        Ok(PreparedBase(BaseFacts { seq, lsn: base.lsn, bytes, crc32c: Some(crc32c) }))
    }
}

/// Reads a new base from its start, whatever was done with the file before, and adds up what the manifest will say of
/// it.
struct NewBaseReader<'a, F> {
    file: &'a F,
    bytes: u64,
    crc32c: u32,
    /// The file could not be read.
    error: Option<io::Error>,
    is_cancelled: &'a dyn Fn() -> bool,
}

impl<F: StorageFile> Read for NewBaseReader<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.is_cancelled)() {
            return Err(io::Error::other("the log is being closed"));
        }
        let count = self.file.read_at(self.bytes, buffer).map_err(|error| {
            let again = io::Error::new(error.kind(), error.to_string());
            self.error = Some(error);
            again
        })?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, buffer.get(..count).unwrap_or(&[]));
        self.bytes += count as u64;
        Ok(count)
    }
}

impl<F: StorageFile> NewBaseReader<'_, F> {
    /// The checksum is that of the whole file.
    fn read_rest(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; REST_PIECE_BYTES];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }
}

impl<S: Storage> LogWriter<S> {
    /// A number for the next base.
    pub(crate) fn next_base(&self) -> u64 {
        self.folder.next_base
    }

    /// What a new base is checked with.
    pub(crate) fn check_base(&self) -> CheckBase {
        self.folder.options.check_base
    }

    /// The file name of the base, where there is one.
    pub fn base(&self) -> Option<String> {
        self.folder.manifest.as_ref()?.base().map(|base| base_name(base.seq))
    }

    /// Creates the file of the next base; also returns its name.
    pub fn new_base_file(&mut self) -> Result<(String, S::File), LogError> {
        self.expendable.lend_reserve();
        let name = temporary_base_name(new_number(self.folder.next_base)?);
        self.folder.next_base += 1;
        let file = self.folder.storage.create(&name).map_err(failed(&*self.folder.storage, "create", &name))?;
        self.expendable.add_base(&name);
        Ok((name, file))
    }

    /// Makes a file the base of the log: all steps, in this thread.
    ///
    /// Where this fails before the manifest is touched, the log goes on with the old base; the file is not to be tried
    /// again.
    pub fn install_base(&mut self, base: &NewBase) -> Result<(), LogError> {
        self.check_usable()?;
        let storage = self.storage();
        let expendable = self.expendable();
        let job =
            BaseJob { storage: &*storage, expendable: &expendable, check: self.check_base(), is_cancelled: &|| false };
        let prepared = job.run(base)?;
        let named = self.name_base(prepared);
        self.remove_leftovers();
        named
    }

    /// Step 3. [`LogWriter::take_leftovers`] has the files that are no longer part of the log.
    pub(crate) fn name_base(&mut self, base: PreparedBase) -> Result<(), LogError> {
        let PreparedBase(facts) = base;
        self.check_usable().inspect_err(|_| self.folder.leftovers.push(base_name(facts.seq)))?;
        match self.try_name_base(facts) {
            Ok(()) => Ok(()),
            Err(StepError::Untouched(error)) => {
                self.folder.leftovers.push(base_name(facts.seq));
                Err(error)
            }
            Err(StepError::Fatal(error)) => self.guarded(|_| Err(error)),
        }
    }

    fn try_name_base(&mut self, base: BaseFacts) -> Result<(), StepError> {
        let has_boundary = self.log.segments.iter().any(|segment| segment.first == base.lsn);
        if !has_boundary || base.lsn < self.log.beginning.lsn() {
            let refused = LogError::Refused { why: "no segment begins at the position of the base" };
            let missing = self.missing_boundary.take().filter(|(lsn, _)| *lsn == base.lsn);
            return Err(StepError::Untouched(missing.map_or(refused, |(_, error)| error)));
        }
        self.sync_current().map_err(StepError::Fatal)?;
        self.keep_replaced(base.lsn);
        let old: Vec<String> = self.folder.manifest.iter().chain([&self.log]).flat_map(Manifest::names).collect();
        let mut log = Manifest { beginning: Beginning::Base(base), ..self.log.clone() };
        log.segments.retain(|segment| segment.first >= base.lsn);
        if self.waits_for_base {
            // The first segment that must not be taken for one of a log that never came to be.
            let next = self.create_next(false)?;
            log.segments.retain(|segment| segment.seq != self.current.seq);
            if !self.current.is_blank() {
                log.segments.push(self.leave_current()?);
            }
            log.segments.push(next.named(false));
            let stored = self.store(&log, Some(&next.name));
            // If the last step failed, a start may find the log.
            self.waits_for_base = matches!(stored, Err(StepError::Untouched(_)));
            stored?;
            self.set_current(next);
        } else {
            self.store(&log, None)?;
        }
        self.log = log;
        self.measure();
        let named: HashSet<String> = self.log.names().collect();
        self.folder.leftovers.extend(old.into_iter().filter(|name| !named.contains(name)));
        Ok(())
    }

    /// The base that the log waits for begins at the current segment: what is before it no longer belongs to any base.
    pub(super) fn forget_before_cut(&mut self) {
        let (first, seq) = (self.appended(), self.current.seq);
        let before = self.log.segments.iter().filter(|segment| segment.seq != seq);
        self.folder.leftovers.extend(before.map(|segment| segment_name(segment.seq)));
        self.log.segments.retain(|segment| segment.seq == seq);
        self.log.beginning = Beginning::Empty(first);
        self.measure();
    }

    /// Updates the number of segments in the statistics. Those that an error has ended have no seal.
    pub(super) fn count_segments(&self) {
        let segments = &self.log.segments;
        let open = segments.iter().filter(|segment| segment.sealed.is_none()).count();
        self.statistics.set_segments(segments.len(), open.saturating_sub(1));
    }

    /// Updates the sizes of the base and the segments after it in the statistics.
    pub(super) fn measure(&self) {
        self.count_segments();
        let ends = self.log.segments.iter().skip(1).map(|next| next.first).chain([self.current.end]);
        let segments = self.log.segments.iter().zip(ends).map(|(segment, end)| match segment.sealed {
            _ if end == segment.first => 0,
            _ if segment.seq == self.current.seq => self.current.bytes,
            Some(sealed) => sealed.bytes,
            None => end.bytes_since(segment.first),
        });
        self.statistics.set_log(self.log.base().map_or(0, |base| base.bytes), segments.sum());
    }

    /// The files that are no longer part of the log; a crash before they are removed leaves them to the next start.
    pub(crate) fn take_leftovers(&mut self) -> Vec<String> {
        let mut names = std::mem::take(&mut self.folder.leftovers);
        names.sort();
        names.dedup();
        let named: HashSet<String> = self.folder.manifest.iter().chain([&self.log]).flat_map(Manifest::names).collect();
        assert!(names.iter().all(|name| !named.contains(name)), "a file of the log must not be removed");
        self.expendable.give_up(&names);
        names
    }

    /// Removes the files that are no longer part of the log, in this thread; returns their names.
    pub fn remove_leftovers(&mut self) -> Vec<String> {
        let names = self.take_leftovers();
        self.expendable.remove(&names);
        names
    }
}

/// Removes files, as far as that is possible; what stays is removed by a later start.
pub(super) fn remove_files<S: Storage>(storage: &S, names: &[String]) {
    for name in names {
        let _ = storage.remove(name);
    }
}
