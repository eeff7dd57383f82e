//! What a crash leaves of a [`SimDisk`].

use super::state::{Inode, NameChange, Names, Pending, State, Write, overlay};
use super::{Random, SimDisk};
use std::collections::BTreeMap;

/// The unit the disk writes as a whole.
pub(super) const SECTOR_BYTES: u64 = 512;

impl SimDisk {
    /// The disk after a power loss: all that is durable and a part of the rest that the seed picks.
    pub fn crash_image(&self, seed: u64) -> SimDisk {
        let mut random = Random::new(seed);
        let state = self.state();
        let names = torn_names(&state, &mut random);
        let mut image = State { random: random.clone(), ..State::default() };
        let mut images = BTreeMap::new();
        for (name, inode) in names {
            let inode = *images.entry(inode).or_insert_with(|| {
                let content = torn(&state.inodes[inode], u64::MAX, &mut random);
                image.inodes.push(Inode { live: content.clone(), durable: content, ..Inode::default() });
                image.inodes.len() - 1
            });
            image.live_names.insert(name.clone(), inode);
            image.durable_names.insert(name, inode);
        }
        SimDisk::from_state(image)
    }

    /// The disk after the process died but the machine did not: everything is readable, and no more than before is
    /// durable. Writes past the cache have ended, with any of their sectors written.
    pub fn restart_image(&self) -> SimDisk {
        let state = self.state();
        let mut image = state.clone();
        let mut random = Random::new(state.operations);
        image.inodes.iter_mut().for_each(|inode| inode.end_direct_writes(&mut random));
        (image.operations, image.faults, image.pause_at) = (0, Vec::new(), None);
        (image.paused, image.holds_syncs) = (false, false);
        image.held.clear();
        image.locked.clear();
        SimDisk::from_state(image)
    }
}

impl Inode {
    fn end_direct_writes(&mut self, random: &mut Random) {
        let (ended, pending) = std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.is_direct);
        self.pending = pending;
        let ended: Vec<Pending> = ended;
        for Pending { write, .. } in ended {
            let Write::Bytes { offset, bytes } = write else { continue };
            let percent = [0, 50, 100][random.below(3) as usize];
            let mut same = random.clone();
            tear(&mut self.durable, offset, &bytes, percent, &mut same);
            tear(&mut self.live, offset, &bytes, percent, random);
        }
    }
}

fn torn_names(state: &State, random: &mut Random) -> Names {
    let mut names = state.durable_names.clone();
    let changes: &[NameChange] = &state.pending_names;
    let prefix = random.below(changes.len() as u64 + 1) as usize;
    let any_order = random.chance(50);
    for (index, change) in changes.iter().enumerate() {
        if if any_order { random.chance(50) } else { index < prefix } {
            change.apply(&mut names);
        }
    }
    names
}

/// The durable content of a file with a part of the pending writes up to a number.
pub(super) fn torn(inode: &Inode, number_max: u64, random: &mut Random) -> Vec<u8> {
    let mut content = inode.durable.clone();
    let percent = [0, 30, 50, 90, 100][random.below(5) as usize];
    let lengths_first = random.chance(30);
    for Pending { write, .. } in inode.pending.iter().filter(|pending| pending.number <= number_max) {
        match write {
            Write::Length(_) if !random.chance(percent) => {}
            Write::Length(_) => write.apply(&mut content),
            Write::Bytes { offset, bytes } => {
                let end = *offset as usize + bytes.len();
                if lengths_first && content.len() < end {
                    content.resize(end, 0);
                }
                tear(&mut content, *offset, bytes, percent, random);
            }
        }
    }
    let kept_min = inode.durable.len().min(inode.live.len()).min(content.len());
    if random.chance(20) {
        content.truncate(kept_min + random.below((content.len() - kept_min) as u64 + 1) as usize);
    } else if !inode.pending.is_empty() && random.chance(10) {
        content.resize(content.len() + random.below(3 * SECTOR_BYTES) as usize, 0);
    }
    content
}

/// Applies each sector of a write or not.
fn tear(content: &mut Vec<u8>, offset: u64, bytes: &[u8], percent: u64, random: &mut Random) {
    let (mut at, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let room = (SECTOR_BYTES - at % SECTOR_BYTES) as usize;
        let (sector, behind) = rest.split_at(room.min(rest.len()));
        if random.chance(percent) {
            overlay(content, at, sector);
        }
        at += sector.len() as u64;
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::super::storage::{Storage, StorageFile};
    use super::*;

    #[test]
    fn a_crash_keeps_all_that_was_synced() {
        for seed in 0..200 {
            let disk = SimDisk::new();
            let mut file = disk.create("a").unwrap();
            file.write_all_at(0, &[1; 2000]).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir().unwrap();
            file.write_all_at(2000, &[2; 2000]).unwrap();
            let content = disk.crash_image(seed).contents("a").unwrap();
            assert_eq!(content[..2000], [1; 2000]);
        }
    }

    #[test]
    fn a_crash_may_tear_what_was_not_synced() {
        let disk = SimDisk::new();
        let mut file = disk.create("a").unwrap();
        disk.sync_dir().unwrap();
        file.write_all_at(0, &[1; 3000]).unwrap();
        let images: Vec<Vec<u8>> = (0..300).map(|seed| disk.crash_image(seed).contents("a").unwrap()).collect();
        assert!(images.iter().any(|image| image.is_empty()));
        assert!(images.iter().any(|image| image[..] == [1; 3000]));
        assert!(images.iter().any(|image| image.len() == 3000 && image[..512] == [0; 512] && image[512] == 1));
        assert!(images.iter().any(|image| image.len() > 3000), "a length without content");
    }

    #[test]
    fn a_name_is_durable_with_its_folder_only() {
        let disk = SimDisk::new();
        let mut file = disk.create("a").unwrap();
        file.sync_data().unwrap();
        let kept = (0..100).filter(|seed| !disk.crash_image(*seed).names().is_empty()).count();
        assert!(kept > 0 && kept < 100);
        disk.sync_dir().unwrap();
        assert!((0..100).all(|seed| disk.crash_image(seed).names() == ["a"]));
    }

    #[test]
    fn a_restart_keeps_what_was_not_synced_readable() {
        let disk = SimDisk::new();
        let mut file = disk.create("a").unwrap();
        disk.sync_dir().unwrap();
        file.write_all_at(0, b"abc").unwrap();
        let restarted = disk.restart_image();
        assert_eq!(restarted.contents("a").unwrap(), b"abc");
        assert!((0..100).any(|seed| restarted.crash_image(seed).contents("a").unwrap() != b"abc"));
    }
}
