//! From a verified folder to a writer: repairs what a crash left, then makes durable all that was recovered.
//!
//! What if it crashes here, step by step:
//! 1. Leftovers are removed. They are no part of the log; those that come back are removed at the next start.
//! 2. The torn tail is cut. A crash before step 3 is done may leave it for the next start; frames are written behind
//!    the cut after that only, or old bytes that look like frames could follow them.
//! 3. The last segment is written again with the bytes it has, and synced. Readers will see what was recovered, so it
//!    must be durable; and after a failed sync a kernel may hold bytes in its cache that it calls clean and that never
//!    reached the disk. A crash here changes no byte that was on the disk.
//! 4. The folder is synced: the manifest that was read may have been renamed by a process that died before its sync.

use super::error::LogError;
use super::lsn::Lsn;
use super::manifest::Manifest;
use super::recovery::{Opened, Segment};
use super::storage::{Storage, StorageFile};
use super::writer::{Current, LogWriter, create_segment};

const COPY_BYTES: u64 = 1 << 20;

impl<S: Storage> Opened<S> {
    /// Repairs the folder and starts to write behind the last whole unit.
    ///
    /// When it returns all that was recovered is durable. `start_unix_ms` is the time now.
    pub fn into_writer(self, start_unix_ms: u64) -> Result<LogWriter<S>, LogError> {
        let next = self.next_lsn();
        let Opened { storage, lock, options, mut manifest, segments, leftovers, .. } = self;
        for name in &leftovers {
            storage.remove(name).map_err(|source| LogError::io("remove", storage.locate(name), source))?;
        }
        let current = match segments.last() {
            Some(segment) => continue_segment(&storage, segment)?,
            None => first_segment(&storage, &mut manifest, start_unix_ms)?,
        };
        let synced = storage.sync_dir();
        synced.map_err(|source| LogError::io("sync the folder of", storage.locate(&current.name), source))?;
        Ok(LogWriter::new(storage, lock, options, manifest, current, next, leftovers, start_unix_ms))
    }
}

fn first_segment<S: Storage>(storage: &S, manifest: &mut Manifest, unix_ms: u64) -> Result<Current<S::File>, LogError> {
    let current = create_segment(storage, 1, Lsn::ZERO, unix_ms)?;
    manifest.segments.push(current.seq);
    manifest.store(storage)?;
    Ok(current)
}

fn continue_segment<S: Storage>(storage: &S, segment: &Segment) -> Result<Current<S::File>, LogError> {
    let shown = storage.locate(&segment.name);
    let failed = |operation: &'static str| {
        let shown = shown.clone();
        move |source| LogError::io(operation, shown, source)
    };
    let mut file = storage.open_write(&segment.name).map_err(failed("open"))?;
    if file.len().map_err(failed("measure"))? != segment.bytes {
        file.set_len(segment.bytes).map_err(failed("cut"))?;
    }
    let mut buffer = vec![0; segment.bytes.min(COPY_BYTES) as usize];
    let mut offset = 0;
    while offset < segment.bytes {
        let count = file.read_at(offset, &mut buffer).map_err(failed("read"))?;
        let bytes = buffer.get(..count).filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or_else(|| LogError::Damaged {
            file: shown.clone(),
            offset,
            why: "the file became shorter since the log was opened".into(),
        })?;
        file.write_all_at(offset, bytes).map_err(failed("write"))?;
        offset += bytes.len() as u64;
    }
    file.sync_data().map_err(failed("sync"))?;
    Ok(Current { seq: segment.seq, name: segment.name.clone(), file, bytes: segment.bytes, first: segment.first })
}
