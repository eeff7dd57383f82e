//! Replacing old segments by a base.
//!
//! What if it crashes here, step by step:
//! 1. The content of the new base is made durable: it has a temporary name, the next start removes it.
//! 2. The base gets its name, and the name is made durable: the manifest still names the old base and all segments, the
//!    next start removes the new one.
//! 3. The manifest is replaced: it names the old set of files or the new set, and both are complete.
//! 4. What only the old manifest named is removed: the next start removes the rest.

use super::error::LogError;
use super::manifest::{
    MANIFEST_TEMPORARY_NAME, Manifest, OwnName, base_name, own_name, segment_name, temporary_base_name,
};
use super::storage::{Storage, StorageFile};
use super::writer::LogWriter;

impl<S: Storage> LogWriter<S> {
    /// The name under which the next base is to be written into the folder.
    pub fn temp_base_name(&self) -> String {
        temporary_base_name(self.next_base())
    }

    /// The file name of the base, where there is one.
    pub fn base(&self) -> Option<String> {
        self.manifest.base.map(base_name)
    }

    /// Makes a file the base of the log. It must hold all that is logged before segment `first_segment_seq` and
    /// nothing behind, as of a [`LogWriter::rotate`] that returned this number.
    ///
    /// Where this fails before the manifest is touched, the log goes on with the old base; the file is not to be tried
    /// again. Files that can then not be
    /// removed are no failure; that is tried again with the next base and at the next start.
    pub fn install_base(&mut self, temporary: &str, first_segment_seq: u64) -> Result<(), LogError> {
        let seq = self.next_base();
        self.name_base(temporary, seq, first_segment_seq)?;
        self.guarded(|writer| {
            let old = writer.manifest.clone();
            let segments = old.segments.iter().copied().filter(|segment| *segment >= first_segment_seq);
            let manifest = Manifest { base: Some(seq), segments: segments.collect() };
            manifest.store(&writer.storage)?;
            writer.manifest = manifest;
            let gone = old.segments.iter().copied().filter(|segment| *segment < first_segment_seq);
            writer.unremoved.extend(old.base.map(base_name));
            writer.unremoved.extend(gone.map(segment_name));
            Ok(())
        })?;
        self.remove_old_files();
        Ok(())
    }

    fn next_base(&self) -> u64 {
        self.manifest.base.unwrap_or(0) + 1
    }

    fn name_base(&mut self, temporary: &str, seq: u64, first_segment_seq: u64) -> Result<(), LogError> {
        self.check_usable()?;
        if own_name(temporary) != Some(OwnName::Temporary) || temporary == MANIFEST_TEMPORARY_NAME {
            return Err(LogError::Refused { why: "the name is not one of a temporary base" });
        }
        if self.manifest.segments.binary_search(&first_segment_seq).is_err() {
            return Err(LogError::Refused { why: "the log has no such segment" });
        }
        let storage = &self.storage;
        let failed = |operation| move |source| LogError::io(operation, storage.locate(temporary), source);
        let mut file = storage.open_write(temporary).map_err(failed("open"))?;
        if let Err(error) = file.sync_data() {
            // A second sync of the same file could succeed without the bytes that this one lost.
            let _ = storage.remove(temporary);
            return Err(failed("sync")(error));
        }
        storage.rename(temporary, &base_name(seq)).map_err(failed("rename"))?;
        storage.sync_dir().map_err(failed("sync the folder of"))
    }

    fn remove_old_files(&mut self) {
        let storage = &self.storage;
        let manifest = &self.manifest;
        self.unremoved.retain(|name| {
            assert!(!manifest.contains(name), "a file of the log must not be removed");
            storage.remove(name).is_err()
        });
    }
}
