//! Syncs of a [`SimDisk`], which may overlap.

use super::operations::SimFile;
use super::{Effect, Inode, Outcome, Random, SimDisk, State, image};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

/// A sync that has begun and does not end before a test says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSync {
    /// The number of its operation.
    pub number: u64,
    /// Writes of its file that it covers, from the file's first one on.
    pub covers: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    sync: HeldSync,
    inode: usize,
    told: Arc<AtomicU64>,
    length: usize,
    result: Option<Result<(), i32>>,
    returns: bool,
}

impl SimDisk {
    /// Has syncs of files wait for [`SimDisk::end_sync`] and [`SimDisk::let_sync_return`] from now on, or not any more;
    /// those that wait go on waiting.
    pub fn hold_syncs(&self, hold: bool) {
        self.state().holds_syncs = hold;
    }

    /// Waits until this many syncs are held that have not ended; returns them in the order in which they began.
    pub fn wait_held(&self, count: usize) -> Vec<HeldSync> {
        let mut state = self.state();
        loop {
            let held: Vec<HeldSync> =
                state.held.iter().filter(|held| held.result.is_none()).map(|held| held.sync).collect();
            if held.len() >= count {
                return held;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends a held sync on the disk, with a success or with an error and what the disk has done. Whoever waits for it
    /// is not told yet.
    ///
    /// # Panics
    ///
    /// When no such sync is held.
    pub fn end_sync(&self, sync: HeldSync, failure: Option<(i32, Effect)>) {
        let mut state = self.state();
        let found = state.held.iter().find(|held| held.sync == sync && held.result.is_none()).cloned();
        let Some(held) = found else { panic!("no such sync is held: {sync:?}") };
        let outcome = match failure {
            None => Outcome { effect: Effect::Full, errno: None },
            Some((errno, effect)) => Outcome { effect, errno: Some(errno) },
        };
        let covered = Covered { inode: held.inode, number: sync.covers, length: held.length };
        let result = settle(&mut state, &covered, &held.told, &outcome);
        let held = state.held.iter_mut().find(|held| held.sync == sync);
        held.into_iter().for_each(|held| held.result = Some(result));
    }

    /// Tells whoever waits for a held sync, which has ended.
    pub fn let_sync_return(&self, sync: HeldSync) {
        let mut state = self.state();
        state.held.iter_mut().filter(|held| held.sync == sync).for_each(|held| held.returns = true);
        self.shared.changed.notify_all();
    }

    /// Has an error of writing back told to one of all openings of a file, as if they were one.
    pub fn share_errors_between_openings(&self) {
        self.state().openings_share_errors = true;
    }

    pub(super) fn sync(&self, file: &SimFile) -> io::Result<()> {
        let covered = {
            let mut state = self.state();
            let inode = state.inode(file.inode);
            Covered { inode: file.inode, number: inode.writes, length: inode.live.len() }
        };
        let (mut state, outcome) = self.begin()?;
        if state.lies {
            return outcome.finish();
        }
        if !state.holds_syncs {
            let result = settle(&mut state, &covered, &file.told, &outcome);
            return result.map_err(io::Error::from_raw_os_error);
        }
        let sync = HeldSync { number: state.operations, covers: covered.number };
        let told = Arc::clone(&file.told);
        let (inode, length) = (covered.inode, covered.length);
        state.held.push(Held { sync, inode, told, length, result: None, returns: false });
        self.shared.changed.notify_all();
        loop {
            let returned = state.held.iter().position(|held| held.sync == sync && held.returns);
            if let Some(held) = returned.map(|index| state.held.remove(index)) {
                return held.result.unwrap_or(Err(libc::EIO)).map_err(io::Error::from_raw_os_error);
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What a sync covers: the writes that were complete when it began.
struct Covered {
    inode: usize,
    number: u64,
    length: usize,
}

/// What a sync does to the disk, and what it says.
fn settle(state: &mut State, covered: &Covered, told: &AtomicU64, outcome: &Outcome) -> Result<(), i32> {
    let seed = state.operations;
    let inode = state.inode(covered.inode);
    match outcome.effect {
        Effect::None => {}
        Effect::Part => {
            inode.durable = image::torn(inode, covered.number, &mut Random::new(seed));
            inode.losses += 1;
            inode.loss_errno = outcome.errno.unwrap_or(libc::EIO);
        }
        Effect::Full => inode.make_durable(covered),
    }
    if outcome.effect != Effect::None {
        inode.pending.retain(|pending| pending.number > covered.number);
        inode.settled = inode.settled.max(covered.number);
    }
    let losses = inode.losses;
    let is_told = told.swap(losses, Ordering::Relaxed) == losses;
    match outcome.errno {
        Some(errno) => Err(errno),
        None if !is_told => Err(inode.loss_errno),
        None => Ok(()),
    }
}

impl Inode {
    fn make_durable(&mut self, covered: &Covered) {
        // Not a copy of what is readable: what a failed sync forgot stays forgotten.
        for pending in self.pending.iter().filter(|pending| pending.number <= covered.number) {
            pending.write.apply(&mut self.durable);
        }
        // The length belongs to the file system, which forgets none.
        if self.settled <= covered.number || self.durable.len() < covered.length {
            self.durable.resize(covered.length, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::super::storage::{Storage, StorageFile};
    use super::*;

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let disk = SimDisk::new();
        let mut file = disk.create("a").unwrap();
        disk.sync_dir().unwrap();
        let mut flushing = disk.reopen("a", &file).unwrap();
        file.write_all_at(0, &[1; 600]).unwrap();
        disk.hold_syncs(true);
        let thread = std::thread::spawn(move || flushing.sync_data());
        let held = disk.wait_held(1)[0];
        file.write_all_at(600, &[2; 600]).unwrap();
        disk.end_sync(held, None);
        disk.let_sync_return(held);
        thread.join().unwrap().unwrap();
        let images: Vec<Vec<u8>> = (0..100).map(|seed| disk.crash_image(seed).contents("a").unwrap()).collect();
        assert!(images.iter().all(|image| image[..600] == [1; 600]));
        assert!(images.iter().any(|image| image.len() < 1200 || image[600..1200] != [2; 600]));
    }

    #[test]
    fn every_opening_is_told_once_of_a_loss() {
        let disk = SimDisk::new();
        let mut first = disk.create("a").unwrap();
        let mut second = disk.reopen("a", &first).unwrap();
        first.write_all_at(0, b"abc").unwrap();
        disk.fail_at(disk.operations(), libc::ENOSPC, Effect::Part);
        for expected in [Some(libc::ENOSPC), None] {
            for file in [&mut second, &mut first] {
                assert_eq!(file.sync_data().err().and_then(|error| error.raw_os_error()), expected);
            }
        }
        let mut later = disk.open_write("a").unwrap();
        assert!(later.sync_data().is_ok());
    }
}
