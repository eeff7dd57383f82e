//! A file of the file system, by its descriptor.

use super::{FileStatus, StorageFile};
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};

impl StorageFile for File {
    fn write_all_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match FileExt::read_at(self, rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn write_durably_at(&mut self, offset: u64, blocks: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while let Some(rest) = blocks.get(written..).filter(|rest| !rest.is_empty()) {
            let at = offset + written as u64;
            match rustix::io::pwritev2(&*self, &[IoSlice::new(rest)], at, ReadWriteFlags::DSYNC) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                // If that leaves a part of a block, the next write fails.
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn take_room(&mut self, bytes: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(&*self, FallocateFlags::empty(), 0, bytes) {
                Err(Errno::INTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(self.metadata()?.nlink() > 1)
    }

    fn status(&self) -> io::Result<FileStatus> {
        Ok(FileStatus { bytes: self.metadata()?.len() })
    }
}
