//! The end of a log that is written.

use super::LogWriter;
use crate::log::error::LogError;
use crate::log::format::manifest::Manifest;
use crate::log::format::names::segment_name;
use crate::log::format::standing::Standing;
use crate::log::storage::Storage;
use crate::log::write::folder::Folder;

impl<S: Storage> LogWriter<S> {
    /// Makes all frames durable and marks the log as closed, so that the next start can prove that nothing is missing.
    /// A log that still waits for its base is given up, even if it has failed: nothing was promised of it.
    pub fn close(self) -> Result<Folder<S>, LogError> {
        self.close_as(Standing::Current)
    }

    /// The same; notes in the same step what the log counts for at the next start.
    pub fn close_as(mut self, standing: Standing) -> Result<Folder<S>, LogError> {
        self.finish(standing)?;
        Ok(self.into_folder())
    }

    pub(crate) fn finish(&mut self, standing: Standing) -> Result<(), LogError> {
        self.drop_ahead();
        self.expendable.reserve.remove(&*self.folder.storage);
        if self.waits_for_base {
            return Ok(());
        }
        self.guarded(|writer| {
            writer.sync_current()?;
            let sealed = writer.current.cut_unused().and_then(|()| writer.seal(standing));
            writer.folder.seal_error = sealed.err();
            Ok(())
        })
    }

    pub(crate) fn into_folder(mut self) -> Folder<S> {
        self.folder.end = self.appended();
        if self.waits_for_base {
            // They are never taken for part of a log. They stay until another log begins or the next start, because
            // there may already be a base that nothing names: beside them it is recognised as such.
            self.folder.leftovers.extend(self.log.segments.iter().map(|segment| segment_name(segment.seq)));
        } else {
            self.folder.log_end = self.folder.end;
        }
        self.folder
    }

    fn seal(&mut self, standing: Standing) -> Result<(), LogError> {
        let standing = self.log.standing.followed_by(standing);
        let mut log = Manifest { standing, ..self.log.clone() };
        if let Some(last) = log.segments.last_mut() {
            *last = self.current.named(true);
        }
        log.write_next(&*self.folder.storage)?;
        self.folder.name_next(log.clone())?;
        self.log = log;
        Ok(())
    }
}
