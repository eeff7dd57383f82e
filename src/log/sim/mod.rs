//! Test support: a disk in memory that can crash, fail and block.
//!
//! The fault model:
//! - Content is durable after `sync_data` of its file, names are durable after `sync_dir`; neither implies the other.
//! - A crash keeps everything durable, and any part of the rest: single 512-byte sectors of single writes, lengths
//!   without content, any of the creations, renames and removals.
//! - A sync that fails may leave pages in the cache that look clean and never reach the disk. Each opening of the file
//!   that was open then gets the error at its next sync, but only once.
//! - A write past the cache is durable when it returns, and covers nothing else. If it fails, or the power goes before,
//!   any of its sectors may have been written.
//! - Syncs of one file, and writes past the cache, may overlap and end in any order ([`SimDisk::hold_syncs`]). A sync
//!   covers the writes that were complete when it began.
//! - Sectors are whole: a crash leaves the old or the new bytes of each.
//! - A forked child may outlive its process and keep files open ([`SimFile::inherited`]); the lock does not outlive it.
//!
//! Every operation but `status`, `random` and `lock` has a number, which is how faults and pauses are placed.

mod image;
mod operations;
mod random;
mod state;
mod syncs;

use crate::lock::{lock, wait};
pub use operations::{SimFile, SimLock};
pub use random::{Random, seeds, times};
pub use state::{Effect, HeldSync};

use state::{Fault, Inode, Outcome, State};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A disk in memory with a live and a durable image; clones are handles of the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    shared: Arc<Shared>,
    /// For a folder within the disk's: its name and a slash, with which the names of its files begin.
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
        lock(&self.shared.state)
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
            state = wait(&self.shared.changed, state);
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

    /// Makes syncs report success and do nothing: no promise can be kept on such a disk.
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

    /// Sets whether there is no room for new files.
    pub fn refuse_new_files(&self, refuse: bool) {
        self.state().no_new_files = refuse;
    }

    /// Sets how many bytes all files together may have, existing ones included; `None` for any number.
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

    /// Refuses to open a file once more, as for a process with too many open files.
    pub fn refuse_reopening(&self, refuse: bool) {
        self.state().no_reopening = refuse;
    }

    /// Refuses writes past the cache.
    pub fn refuse_direct_writes(&self) {
        self.state().no_direct_writes = true;
    }

    /// Cuts a file while others have it open, past all faults.
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
                state = wait(&self.shared.changed, state);
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
