//! What the simulated disk holds: what programs see, what is durable, and what separates the two.

use super::random::Random;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What an operation does to the disk although it reports an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// A part: half of a write; a sync makes some writes durable and forgets the others, which stay readable.
    Part,
    /// All of it.
    Full,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) at: u64,
    pub(super) errno: i32,
    pub(super) effect: Effect,
    pub(super) forever: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Write {
    Bytes { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// What separates `durable` from `live`, as far as the disk still knows of it.
    pub(super) pending: Vec<Pending>,
    /// Writes so far.
    pub(super) writes: u64,
    /// Writes that are durable, or lost: all up to the last one that a sync has covered.
    pub(super) settled: u64,
    /// Syncs that have lost writes, and what they reported.
    pub(super) losses: u64,
    pub(super) loss_errno: i32,
}

/// A write that is not durable, with its number in the file.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) number: u64,
    pub(super) write: Write,
    /// It is past the cache, so that no sync covers it.
    pub(super) is_direct: bool,
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link {
        name: String,
        inode: usize,
    },
    Rename {
        from: String,
        to: String,
        inode: usize,
    },
    Unlink {
        name: String,
    },
    /// Of a folder with all that is in it.
    RenameFolder {
        from: String,
        to: String,
    },
}

pub(super) type Names = BTreeMap<String, usize>;

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) inodes: Vec<Inode>,
    pub(super) live_names: Names,
    pub(super) durable_names: Names,
    pub(super) pending_names: Vec<NameChange>,
    pub(super) operations: u64,
    pub(super) faults: Vec<Fault>,
    pub(super) pause_at: Option<u64>,
    pub(super) paused: bool,
    /// The folders that are locked, each by the lock of a number.
    pub(super) locked: BTreeMap<u64, String>,
    pub(super) no_new_files: bool,
    /// Syncs report success and do nothing.
    pub(super) lies: bool,
    /// How many bytes all files may have.
    pub(super) room: Option<u64>,
    pub(super) handles_max: Option<usize>,
    pub(super) no_reopening: bool,
    pub(super) no_direct_writes: bool,
    pub(super) openings_share_errors: bool,
    pub(super) holds_syncs: bool,
    pub(super) held: Vec<Held>,
    pub(super) written_bytes: u64,
    pub(super) random: Random,
}

/// How an operation that has an effect ends.
pub(super) struct Outcome {
    pub(super) effect: Effect,
    pub(super) errno: Option<i32>,
}

impl Outcome {
    pub(super) fn finish(&self) -> io::Result<()> {
        self.errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

impl State {
    pub(super) fn inode_of(&self, name: &str) -> io::Result<usize> {
        self.live_names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode(&mut self, inode: usize) -> &mut Inode {
        &mut self.inodes[inode]
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.live_names.values().filter_map(|inode| self.inodes.get(*inode)).map(|inode| inode.live.len() as u64).sum()
    }

    /// How many of these bytes fit.
    pub(super) fn fitting(&self, inode: usize, offset: u64, count: usize) -> usize {
        let Some(room) = self.room else { return count };
        let has = self.inodes.get(inode).map_or(0, |inode| inode.live.len() as u64);
        let end_max = has + room.saturating_sub(self.used_bytes());
        count.min(usize::try_from(end_max.saturating_sub(offset)).unwrap_or(usize::MAX))
    }

    pub(super) fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.live_names);
        self.pending_names.push(change);
    }
}

impl NameChange {
    /// The name that it is about; a renamed file stays in its folder.
    pub(super) fn name(&self) -> &str {
        match self {
            NameChange::Link { name, .. } | NameChange::Rename { to: name, .. } | NameChange::Unlink { name } => name,
            NameChange::RenameFolder { to, .. } => to,
        }
    }

    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Rename { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            NameChange::Unlink { name } => {
                names.remove(name);
            }
            NameChange::RenameFolder { from, to } => {
                let inside = |name: &String| Some(format!("{to}/{}", name.strip_prefix(from)?.strip_prefix('/')?));
                let moved: Names = names.iter().filter_map(|(name, inode)| Some((inside(name)?, *inode))).collect();
                names.retain(|name, _| inside(name).is_none());
                names.extend(moved);
            }
        }
    }
}

impl Inode {
    pub(super) fn write(&mut self, write: Write) {
        write.apply(&mut self.live);
        self.writes += 1;
        self.pending.push(Pending { number: self.writes, write, is_direct: false });
    }
}

impl Write {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Write::Bytes { offset, bytes } => overlay(content, *offset, bytes),
            Write::Length(length) => content.resize(*length as usize, 0),
        }
    }
}

/// A sync, or a write past the cache, that has begun and does not end before a test says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSync {
    /// The number of its operation.
    pub number: u64,
    /// Writes of its file that it covers, from the file's first one on; a write past the cache covers the last of them.
    pub covers: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) sync: HeldSync,
    pub(super) inode: usize,
    pub(super) told: Arc<AtomicU64>,
    pub(super) length: usize,
    pub(super) is_write: bool,
    pub(super) result: Option<Result<(), i32>>,
    pub(super) returns: bool,
}

/// Writes `bytes` over `content` at `offset`; a gap before them reads as zeros.
pub(super) fn overlay(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = offset as usize;
    let end = start + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[start..end].copy_from_slice(bytes);
}
