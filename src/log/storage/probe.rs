//! Whether it is better to write frames past the page cache in a folder.

use super::StorageFile;
use super::folder::FolderStorage;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

/// Blocks that disks take: the larger ones of some, the smaller ones of all others.
const BLOCK_BYTES: [usize; 2] = [512, 4096];
const FILE_BYTES: usize = 64 << 10;
/// Writes of each kind.
const WRITES: usize = 9;
/// How many of them may take less than the one that counts: other work on the machine makes some slow, and none quick.
const QUICKER_WRITES: usize = 2;
/// What a server with little to do writes.
const FRAME_BYTES: usize = 200;

/// File systems that overwrite a block where it is: ext2 to ext4, and XFS.
const OVERWRITING: [u64; 2] = [0xef53, 0x5846_5342];

/// What was found of a file system.
#[derive(Debug)]
pub enum DirectWrites {
    /// It writes past the page cache, in blocks of this size, about as quickly as through it.
    Good(u64),
    /// It does that, but more slowly, or not in place, or in large blocks only.
    Poor(u64),
    /// It does not.
    Refused(io::Error),
}

impl FolderStorage {
    /// Tries writes past the page cache, in a file without a name.
    pub fn probe_direct_writes(&self) -> DirectWrites {
        match self.probe() {
            Ok(found) => found,
            Err(error) => DirectWrites::Refused(error),
        }
    }

    fn probe(&self) -> io::Result<DirectWrites> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(self.directory(), ".", flags, Mode::RUSR | Mode::WUSR)?);
        StorageFile::write_all_at(&mut file, 0, &[0; FILE_BYTES])?;
        StorageFile::sync_data(&mut file)?;
        let cached = quick(|at| {
            StorageFile::write_all_at(&mut file, at, &[0; FRAME_BYTES])?;
            StorageFile::sync_data(&mut file)
        })?;
        rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? | OFlags::DIRECT)?;
        let memory = vec![0; 2 * FILE_BYTES];
        let start = memory.as_ptr().addr().next_multiple_of(FILE_BYTES) - memory.as_ptr().addr();
        let overwrites = OVERWRITING.contains(&(rustix::fs::fstatfs(&file)?.f_type as u64));
        let mut refused = io::ErrorKind::Unsupported.into();
        for block_bytes in BLOCK_BYTES {
            let block = memory.get(start..start + block_bytes).unwrap_or_default();
            match quick(|at| file.write_durably_at(at, block)) {
                // A larger difference is no accident of the measurement. In large blocks a log of small frames grows
                // too fast.
                Ok(direct) if overwrites && block_bytes == BLOCK_BYTES[0] && direct <= cached + cached / 4 => {
                    return Ok(DirectWrites::Good(block_bytes as u64));
                }
                Ok(_) => return Ok(DirectWrites::Poor(block_bytes as u64)),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

/// How long one of the quicker of several writes took, each at a place of its own.
fn quick(mut write: impl FnMut(u64) -> io::Result<()>) -> io::Result<Duration> {
    let mut durations = Vec::new();
    for number in 0..WRITES {
        let began = Instant::now();
        write((number * BLOCK_BYTES[1]) as u64)?;
        durations.push(began.elapsed());
    }
    durations.sort();
    Ok(durations.get(QUICKER_WRITES).copied().unwrap_or_default())
}
