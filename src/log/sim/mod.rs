//! Test support: a disk in memory that can crash, fail and block.
//!
//! The fault model:
//! - Content is durable after `sync_data` of its file, names are durable after `sync_dir`; neither implies the other.
//! - A crash keeps all that is durable, and of the rest any part: single 512-byte sectors of single writes, lengths
//!   without content, any of the creations, renames and removals.
//! - A sync that fails may leave pages in the cache that look clean and never reach the disk. Every opening of the file
//!   that was open then is told at its next sync, but each only once.
//! - A write past the cache is durable when it returns, and covers nothing else. Where it fails, or the power goes
//!   before, any of its sectors may have been written.
//! - Syncs of one file, and writes past the cache, may overlap and end in any order ([`SimDisk::hold_syncs`]). A sync
//!   covers the writes that were complete when it began.
//! - Sectors are whole: a crash leaves the old or the new bytes of each.
//!
//! Every operation but `status`, `random` and `lock` has a number, which is how faults and pauses are placed.

mod image;
mod operations;
mod random;
mod syncs;

pub use operations::{SimFile, SimLock};
pub use random::{Random, seeds, times};
pub use syncs::HeldSync;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
struct Fault {
    at: u64,
    errno: i32,
    effect: Effect,
    forever: bool,
}

#[derive(Clone, Debug)]
enum Write {
    Bytes { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What separates `durable` from `live`, as far as the disk still knows of it.
    pending: Vec<Pending>,
    /// Writes so far.
    writes: u64,
    /// Writes that are durable, or lost: all up to the last one that a sync has covered.
    settled: u64,
    /// Syncs that have lost writes, and what they said.
    losses: u64,
    loss_errno: i32,
}

/// A write that is not durable, with its number in the file.
#[derive(Clone, Debug)]
struct Pending {
    number: u64,
    write: Write,
    /// It is past the cache, so that no sync covers it.
    is_direct: bool,
}

#[derive(Clone, Debug)]
enum NameChange {
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

type Names = BTreeMap<String, usize>;

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    live_names: Names,
    durable_names: Names,
    pending_names: Vec<NameChange>,
    operations: u64,
    faults: Vec<Fault>,
    pause_at: Option<u64>,
    paused: bool,
    locked: bool,
    no_new_files: bool,
    /// Syncs report success and do nothing.
    lies: bool,
    /// How many bytes all files may have.
    room: Option<u64>,
    handles_max: Option<usize>,
    no_reopening: bool,
    no_direct_writes: bool,
    openings_share_errors: bool,
    holds_syncs: bool,
    held: Vec<syncs::Held>,
    written_bytes: u64,
    random: Random,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A disk in memory with a live and a durable image; clones are handles of the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    shared: Arc<Shared>,
    /// Of a folder in the disk's own: its name and a slash, with which the names of its files begin.
    folder: String,
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    fn from_state(state: State) -> SimDisk {
        SimDisk {
            shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }),
            folder: String::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of operations so far, which is the number of the next one.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Makes one operation fail.
    pub fn fail_at(&self, operation: u64, errno: i32, effect: Effect) {
        self.state().faults = vec![Fault { at: operation, errno, effect, forever: false }];
    }

    /// Makes one more operation fail.
    pub fn fail_also_at(&self, operation: u64, errno: i32, effect: Effect) {
        self.state().faults.push(Fault { at: operation, errno, effect, forever: false });
    }

    /// No operation fails from now on.
    pub fn mend(&self) {
        self.state().faults.clear();
    }

    /// Makes an operation and all later ones fail: the machine stops there.
    pub fn fail_from(&self, operation: u64, errno: i32, effect: Effect) {
        self.state().faults = vec![Fault { at: operation, errno, effect, forever: true }];
    }

    /// Makes one operation block until [`SimDisk::resume`].
    pub fn pause_at(&self, operation: u64) {
        self.state().pause_at = Some(operation);
    }

    /// Waits until the operation of [`SimDisk::pause_at`] has begun.
    pub fn wait_paused(&self) {
        let mut state = self.state();
        while !state.paused {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Frees the blocked operation.
    pub fn resume(&self) {
        let mut state = self.state();
        state.pause_at = None;
        state.paused = false;
        self.shared.changed.notify_all();
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }

    /// Whether a file is in this folder, and not in one of its folders.
    fn holds(&self, full: &str) -> bool {
        full.strip_prefix(&*self.folder).is_some_and(|name| !name.contains('/'))
    }

    /// A disk with what a folder holds, past all faults, all of it durable.
    pub fn image_of_folder(&self, name: &str) -> SimDisk {
        let (image, prefix) = (SimDisk::new(), self.full(&format!("{name}/")));
        let state = self.state();
        for (full, inode) in &state.live_names {
            if let Some(name) = full.strip_prefix(&prefix) {
                image.put(name, &state.inodes[*inode].live);
            }
        }
        image
    }

    /// The content of a file, past all faults.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = *state.live_names.get(name)?;
        state.inodes.get(inode).map(|inode| inode.live.clone())
    }

    /// The bytes of a file from an offset on that a crash leaves as they are; `None` where a crash may leave no such
    /// file.
    pub fn durable_from(&self, name: &str, offset: usize) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = state.inodes.get(*state.durable_names.get(name)?)?;
        Some(inode.durable.get(offset..).unwrap_or_default().to_vec())
    }

    /// Has syncs report success and do nothing: no disk to keep a promise on.
    pub fn lie(&self) {
        self.state().lies = true;
    }

    /// Puts a durable file on the disk, past all faults.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode { live: bytes.to_vec(), durable: bytes.to_vec(), ..Inode::default() });
        state.live_names.insert(name.to_string(), inode);
        state.durable_names.insert(name.to_string(), inode);
    }

    /// Bytes written so far.
    pub fn written_bytes(&self) -> u64 {
        self.state().written_bytes
    }

    /// Has no room for new files, or has it again.
    pub fn refuse_new_files(&self, refuse: bool) {
        self.state().no_new_files = refuse;
    }

    /// Has room for so many bytes in all files together, those included that are there; `None` for any number.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.state().room = bytes;
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Refuses to open a file (`EMFILE`) while there are more handles of the disk and of files than this.
    pub fn limit_handles(&self, count: usize) {
        self.state().handles_max = Some(count);
    }

    /// Opens no file once more, as a process with too many open files.
    pub fn refuse_reopening(&self, refuse: bool) {
        self.state().no_reopening = refuse;
    }

    /// Knows no writes past the cache.
    pub fn refuse_direct_writes(&self) {
        self.state().no_direct_writes = true;
    }

    /// Cuts a file under whoever has it open, past all faults.
    pub fn truncate(&self, name: &str, bytes: usize) {
        let mut state = self.state();
        if let Ok(inode) = state.inode_of(name) {
            let inode = state.inode(inode);
            inode.live.truncate(bytes);
            inode.durable.truncate(bytes);
            inode.pending.clear();
        }
    }

    /// The names on the disk, sorted, past all faults.
    pub fn names(&self) -> Vec<String> {
        self.state().live_names.keys().cloned().collect()
    }

    /// Counts an operation and reports how it ends.
    fn begin(&self) -> io::Result<(MutexGuard<'_, State>, Outcome)> {
        let mut state = self.state();
        let number = state.operations;
        state.operations += 1;
        if state.pause_at == Some(number) {
            state.paused = true;
            self.shared.changed.notify_all();
            while state.paused {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let is_hit = |fault: &&Fault| number == fault.at || fault.forever && number > fault.at;
        let hit = state.faults.iter().find(is_hit).copied();
        let Some(fault) = hit else {
            return Ok((state, Outcome { effect: Effect::Full, errno: None }));
        };
        let effect = if number == fault.at { fault.effect } else { Effect::None };
        if effect == Effect::None {
            return Err(io::Error::from_raw_os_error(fault.errno));
        }
        Ok((state, Outcome { effect, errno: Some(fault.errno) }))
    }

    /// An operation on names, which has no part.
    fn change_names(&self, change: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let (mut state, outcome) = self.begin()?;
        if outcome.effect == Effect::Full {
            change(&mut state)?;
        }
        outcome.finish()
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let (state, outcome) = self.begin()?;
        if state.handles_max.is_some_and(|limit| Arc::strong_count(&self.shared) > limit) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let inode = state.inode_of(name)?;
        outcome.finish()?;
        Ok(SimFile::new(self, &state, inode))
    }
}

/// How an operation that has an effect ends.
struct Outcome {
    effect: Effect,
    errno: Option<i32>,
}

impl Outcome {
    fn finish(&self) -> io::Result<()> {
        self.errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

impl State {
    fn inode_of(&self, name: &str) -> io::Result<usize> {
        self.live_names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn inode(&mut self, inode: usize) -> &mut Inode {
        &mut self.inodes[inode]
    }

    fn used_bytes(&self) -> u64 {
        self.live_names.values().filter_map(|inode| self.inodes.get(*inode)).map(|inode| inode.live.len() as u64).sum()
    }

    /// How many of these bytes fit.
    fn fitting(&self, inode: usize, offset: u64, count: usize) -> usize {
        let Some(room) = self.room else { return count };
        let has = self.inodes.get(inode).map_or(0, |inode| inode.live.len() as u64);
        let end_max = has + room.saturating_sub(self.used_bytes());
        count.min(usize::try_from(end_max.saturating_sub(offset)).unwrap_or(usize::MAX))
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.live_names);
        self.pending_names.push(change);
    }
}

impl NameChange {
    /// The name that it is about; a renamed file stays in its folder.
    fn name(&self) -> &str {
        match self {
            NameChange::Link { name, .. } | NameChange::Rename { to: name, .. } | NameChange::Unlink { name } => name,
            NameChange::RenameFolder { to, .. } => to,
        }
    }

    fn apply(&self, names: &mut Names) {
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
    fn write(&mut self, write: Write) {
        write.apply(&mut self.live);
        self.writes += 1;
        self.pending.push(Pending { number: self.writes, write, is_direct: false });
    }
}

impl Write {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Write::Bytes { offset, bytes } => image::overlay(content, *offset, bytes),
            Write::Length(length) => content.resize(*length as usize, 0),
        }
    }
}
