//! Syncs of a [`SimDisk`], and writes past its cache, which may overlap.

use super::operations::SimFile;
use super::state::{Effect, Held, HeldSync, Inode, Outcome, Pending, State, Write, overlay};
use super::{Random, SimDisk, image};
use crate::lock::wait;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

impl SimDisk {
    /// Makes syncs of files wait for [`SimDisk::end_sync`] and [`SimDisk::let_sync_return`] from now on, or no longer;
    /// those that already wait go on waiting.
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
            state = wait(&self.shared.changed, state);
        }
    }

    /// Ends a held sync on the disk, with a success or with an error and what the disk has done. It does not return to
    /// its caller yet.
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
        let Held { inode, length, is_write, .. } = held;
        let covered = Covered { inode, number: sync.covers, length, is_write };
        let result = settle(&mut state, &covered, &held.told, &outcome);
        let held = state.held.iter_mut().find(|held| held.sync == sync);
        held.into_iter().for_each(|held| held.result = Some(result));
    }

    /// Lets a held sync that has ended return to its caller.
    pub fn let_sync_return(&self, sync: HeldSync) {
        let mut state = self.state();
        state.held.iter_mut().filter(|held| held.sync == sync).for_each(|held| held.returns = true);
        self.shared.changed.notify_all();
    }

    /// Reports an error of writing back to only one of a file's openings, as if they were one.
    pub fn share_errors_between_openings(&self) {
        self.state().openings_share_errors = true;
    }

    pub(super) fn sync(&self, file: &SimFile) -> io::Result<()> {
        let covered = {
            let mut state = self.state();
            let inode = state.inode(file.inode);
            Covered { inode: file.inode, number: inode.writes, length: inode.live.len(), is_write: false }
        };
        let (state, outcome) = self.begin()?;
        if state.lies {
            return outcome.finish();
        }
        self.run(state, &covered, &file.told, &outcome)
    }

    /// A write that is on its way to the disk when it begins, and on the disk when it ends.
    pub(super) fn write_durably(&self, file: &SimFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let covered = {
            let mut state = self.state();
            state.written_bytes += bytes.len() as u64;
            let inode = state.inode(file.inode);
            inode.write_unread(Write::Bytes { offset, bytes: bytes.to_vec() });
            Covered { inode: file.inode, number: inode.writes, length: offset as usize + bytes.len(), is_write: true }
        };
        let (mut state, outcome) = self.begin()?;
        let kept = if outcome.effect == Effect::Full { bytes } else { &bytes[..bytes.len() / 2] };
        overlay(&mut state.inode(file.inode).live, offset, kept);
        if state.lies {
            return outcome.finish();
        }
        self.run(state, &covered, &file.told, &outcome)
    }

    /// Ends what has begun, or waits until a test does.
    fn run(
        &self,
        mut state: MutexGuard<'_, State>,
        covered: &Covered,
        told: &Arc<AtomicU64>,
        outcome: &Outcome,
    ) -> io::Result<()> {
        if !state.holds_syncs {
            let result = settle(&mut state, covered, told, outcome);
            return result.map_err(io::Error::from_raw_os_error);
        }
        let sync = HeldSync { number: state.operations, covers: covered.number };
        let Covered { inode, length, is_write, .. } = *covered;
        let told = Arc::clone(told);
        state.held.push(Held { sync, inode, told, length, is_write, result: None, returns: false });
        self.shared.changed.notify_all();
        loop {
            let returned = state.held.iter().position(|held| held.sync == sync && held.returns);
            if let Some(held) = returned.map(|index| state.held.remove(index)) {
                return held.result.unwrap_or(Err(libc::EIO)).map_err(io::Error::from_raw_os_error);
            }
            state = wait(&self.shared.changed, state);
        }
    }
}

/// What a sync covers: the writes that were complete when it began.
struct Covered {
    inode: usize,
    number: u64,
    length: usize,
    /// It is the write of this number and nothing else.
    is_write: bool,
}

/// What a sync does to the disk, and what it reports.
fn settle(state: &mut State, covered: &Covered, told: &AtomicU64, outcome: &Outcome) -> Result<(), i32> {
    if covered.is_write {
        return settle_write(state, covered, outcome);
    }
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
        inode.pending.retain(|pending| pending.number > covered.number || pending.is_direct);
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

/// What a write past the cache does to the disk, and what it reports, to its caller alone.
fn settle_write(state: &mut State, covered: &Covered, outcome: &Outcome) -> Result<(), i32> {
    let inode = state.inode(covered.inode);
    if outcome.effect == Effect::Full
        && let Some(at) = inode.pending.iter().position(|pending| pending.number == covered.number)
    {
        inode.pending.remove(at).write.apply(&mut inode.durable);
    }
    // Otherwise a crash leaves any part of it.
    outcome.errno.map_or(Ok(()), Err)
}

impl Inode {
    /// A write that nobody reads yet.
    fn write_unread(&mut self, write: Write) {
        self.writes += 1;
        self.pending.push(Pending { number: self.writes, write, is_direct: true });
    }

    fn make_durable(&mut self, covered: &Covered) {
        // Not a copy of what is readable: what a failed sync forgot stays forgotten.
        for pending in self.pending.iter().filter(|pending| pending.number <= covered.number && !pending.is_direct) {
            pending.write.apply(&mut self.durable);
        }
        // The length belongs to the file system, which does not forget it.
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
    fn a_direct_write_is_durable_when_it_returns_and_covers_nothing_else() {
        let disk = SimDisk::new();
        let mut file = disk.create("a").unwrap();
        file.write_all_at(0, &[0; 2048]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        let mut direct = disk.reopen_direct("a", &file).unwrap();
        file.write_all_at(1024, &[1; 512]).unwrap();
        direct.write_durably_at(0, &[2; 512]).unwrap();
        disk.fail_at(disk.operations(), libc::EIO, Effect::None);
        assert!(direct.write_durably_at(512, &[3; 512]).is_err());
        let images: Vec<Vec<u8>> = (0..100).map(|seed| disk.crash_image(seed).contents("a").unwrap()).collect();
        assert!(
            images.iter().all(|image| image[..512] == [2; 512]
                && [[0; 512], [3; 512]].iter().any(|sector| image[512..1024] == *sector))
        );
        for at in [512, 1024] {
            assert!(images.iter().any(|image| image[at] == 0) && images.iter().any(|image| image[at] != 0), "at {at}");
        }
        file.sync_data().unwrap();
        assert!((0..100).any(|seed| disk.crash_image(seed).contents("a").unwrap()[512] == 0), "a sync covers it");
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
