//! Which file it is, and how large: checked after each flush.

use rustix::fs::{AtFlags, StatxFlags, major, minor};
use rustix::io::{Errno, Result};
use rustix::path::Arg;
use std::os::fd::AsFd;

/// What the file system says of a file or folder. Times are not asked for: from 6.13 on Linux notes its own time for
/// the first write after a question for them (`fill_mg_cmtime` in the kernel's `fs/stat.c`), and a flush of what
/// overwrites other bytes, which has nothing else to note, takes up to half as long again.
pub(super) struct Seen {
    /// The device, by both of its numbers, and the inode.
    pub identity: (u32, u32, u64),
    pub bytes: u64,
}

impl Seen {
    /// Asks about an open one.
    pub fn open(file: impl AsFd) -> Result<Seen> {
        Seen::named(file, "", AtFlags::EMPTY_PATH)
    }

    /// Asks about the one that has this name in a folder.
    pub fn named(folder: impl AsFd, name: impl Arg + Copy, flags: AtFlags) -> Result<Seen> {
        let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE;
        match rustix::fs::statx(&folder, name, flags, wanted) {
            Ok(found) => {
                let identity = (found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
                Ok(Seen { identity, bytes: found.stx_size })
            }
            // The system, or a sandbox, does not know this call.
            Err(Errno::NOSYS) => {
                let found = rustix::fs::statat(&folder, name, flags)?;
                let identity = (major(found.st_dev), minor(found.st_dev), found.st_ino);
                Ok(Seen { identity, bytes: u64::try_from(found.st_size).unwrap_or(0) })
            }
            Err(error) => Err(error),
        }
    }
}
