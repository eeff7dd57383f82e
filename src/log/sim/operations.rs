//! A [`SimDisk`] as the [`Storage`] of a log.

use super::super::storage::{FileStatus, Storage, StorageFile};
use super::SimDisk;
use super::image::SECTOR_BYTES;
use super::state::{Effect, Inode, NameChange, State, Write};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Keeps a [`SimDisk`], or a folder of one, locked.
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    number: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locked.remove(&self.number);
    }
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) inode: usize,
    /// Losses that were reported to this opening.
    pub(super) told: Arc<AtomicU64>,
}

impl SimFile {
    pub(super) fn new(disk: &SimDisk, state: &State, inode: usize) -> SimFile {
        let losses = state.inodes.get(inode).map_or(0, |inode| inode.losses);
        SimFile { disk: disk.clone(), inode, told: Arc::new(AtomicU64::new(losses)) }
    }

    /// The same opening in a forked child that outlives its process, on the disk that the next process sees
    /// ([`SimDisk::restart_image`]).
    pub fn inherited(&self, disk: &SimDisk) -> SimFile {
        SimFile { disk: disk.clone(), inode: self.inode, told: Arc::clone(&self.told) }
    }
}

impl Storage for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn lock(&self) -> io::Result<Option<SimLock>> {
        let mut state = self.state();
        if state.locked.values().any(|folder| *folder == self.folder) {
            return Ok(None);
        }
        let number = state.locked.keys().next_back().map_or(0, |last| last + 1);
        state.locked.insert(number, self.folder.clone());
        Ok(Some(SimLock { disk: self.clone(), number }))
    }

    fn list(&self) -> io::Result<Vec<Vec<u8>>> {
        let (state, outcome) = self.begin()?;
        outcome.finish()?;
        let here = state.live_names.keys().filter(|name| self.holds(name));
        Ok(here.filter_map(|name| Some(name.strip_prefix(&*self.folder)?.as_bytes().to_vec())).collect())
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let name = &self.full(name);
        self.change_names(|state| {
            if state.no_new_files {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            if state.live_names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let inode = state.inodes.len();
            state.inodes.push(Inode::default());
            state.change_name(NameChange::Link { name: name.clone(), inode });
            Ok(())
        })?;
        let state = self.state();
        Ok(SimFile::new(self, &state, state.inode_of(name)?))
    }

    fn open_write(&self, name: &str) -> io::Result<SimFile> {
        self.open(&self.full(name))
    }

    fn open_read(&self, name: &str) -> io::Result<SimFile> {
        self.open(&self.full(name))
    }

    fn reopen(&self, name: &str, file: &SimFile) -> io::Result<SimFile> {
        let state = self.state();
        if state.no_reopening {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        if state.inode_of(&self.full(name))? != file.inode {
            return Err(io::ErrorKind::NotFound.into());
        }
        let again = SimFile::new(self, &state, file.inode);
        let told = if state.openings_share_errors { Arc::clone(&file.told) } else { Arc::clone(&again.told) };
        Ok(SimFile { told, ..again })
    }

    fn reopen_direct(&self, name: &str, file: &SimFile) -> io::Result<SimFile> {
        if self.state().no_direct_writes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.reopen(name, file)
    }

    fn status_of(&self, name: &str, file: &SimFile) -> io::Result<Option<FileStatus>> {
        let is_same = self.state().live_names.get(&self.full(name)) == Some(&file.inode);
        if is_same { file.status().map(Some) } else { Ok(None) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.full(from), self.full(to));
        self.change_names(|state| {
            let inode = state.inode_of(&from)?;
            state.change_name(NameChange::Rename { from, to, inode });
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let name = &self.full(name);
        self.change_names(|state| {
            state.inode_of(name)?;
            state.change_name(NameChange::Unlink { name: name.clone() });
            Ok(())
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.change_names(|state| {
            let is_folders = |change: &&NameChange| matches!(change, NameChange::RenameFolder { .. });
            let State { pending_names, durable_names, .. } = state;
            let folders = pending_names.iter().filter(is_folders).filter(|change| self.holds(change.name()));
            folders.for_each(|change| change.apply(durable_names));
            let live = state.live_names.clone().into_iter().filter(|(name, _)| self.holds(name));
            state.durable_names.retain(|name, _| !self.holds(name));
            state.durable_names.extend(live);
            state.pending_names.retain(|change| !self.holds(change.name()));
            Ok(())
        })
    }

    /// It exists from its creation on, and while it holds files.
    fn create_folder(&self, name: &str) -> io::Result<SimDisk> {
        let folder = self.folder(name)?;
        self.change_names(|state| {
            let is_taken = state.live_names.keys().any(|full| full.starts_with(&folder.folder));
            if is_taken { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
        })?;
        Ok(folder)
    }

    fn folder(&self, name: &str) -> io::Result<SimDisk> {
        Ok(SimDisk { folder: self.full(&format!("{name}/")), ..self.clone() })
    }

    fn list_folders(&self) -> io::Result<Vec<String>> {
        let (state, outcome) = self.begin()?;
        outcome.finish()?;
        let inside = state.live_names.keys().filter_map(|name| name.strip_prefix(&*self.folder)?.split_once('/'));
        let mut names: Vec<String> = inside.map(|(name, _)| name.to_string()).collect();
        names.dedup();
        Ok(names)
    }

    fn rename_folder(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.full(from), self.full(to));
        self.change_names(|state| {
            let has_files = |name: &str| state.live_names.keys().any(|full| full.starts_with(&format!("{name}/")));
            match (has_files(&from), has_files(&to)) {
                (false, _) => Err(io::ErrorKind::NotFound.into()),
                (true, true) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
                (true, false) => {
                    // A lock is one of the folder, whatever its name.
                    let (from_inside, to_inside) = (format!("{from}/"), format!("{to}/"));
                    for folder in state.locked.values_mut() {
                        if let Some(rest) = folder.strip_prefix(&from_inside) {
                            *folder = format!("{to_inside}{rest}");
                        }
                    }
                    state.change_name(NameChange::RenameFolder { from, to });
                    Ok(())
                }
            }
        })
    }

    fn remove_folder(&self, name: &str) -> io::Result<()> {
        let folder = self.folder(name)?.folder;
        self.change_names(|state| {
            let has_files = state.live_names.keys().any(|full| full.starts_with(&folder));
            if has_files { Err(io::ErrorKind::DirectoryNotEmpty.into()) } else { Ok(()) }
        })
    }

    fn link(&self, name: &str, into: &SimDisk) -> io::Result<()> {
        self.change_names(|state| {
            let (inode, name) = (state.inode_of(&self.full(name))?, into.full(name));
            if state.live_names.contains_key(&name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.change_name(NameChange::Link { name, inode });
            Ok(())
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state.room.map_or(u64::MAX, |room| room.saturating_sub(state.used_bytes())))
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.state().random.next_u64())
    }
}

impl StorageFile for SimFile {
    fn write_all_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut state, outcome) = self.disk.begin()?;
        let kept = if outcome.effect == Effect::Full { bytes } else { &bytes[..bytes.len() / 2] };
        let fitting = &kept[..state.fitting(self.inode, offset, kept.len())];
        state.written_bytes += fitting.len() as u64;
        state.inode(self.inode).write(Write::Bytes { offset, bytes: fitting.to_vec() });
        if fitting.len() < kept.len() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        outcome.finish()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut state, outcome) = self.disk.begin()?;
        outcome.finish()?;
        let live = &state.inode(self.inode).live;
        let start = live.len().min(offset as usize);
        let count = buffer.len().min(live.len() - start);
        buffer[..count].copy_from_slice(&live[start..start + count]);
        Ok(count)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.disk.sync(self)
    }

    fn write_durably_at(&mut self, offset: u64, blocks: &[u8]) -> io::Result<()> {
        assert!(offset.is_multiple_of(SECTOR_BYTES) && (blocks.len() as u64).is_multiple_of(SECTOR_BYTES));
        self.disk.write_durably(self, offset, blocks)
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        let (mut state, outcome) = self.disk.begin()?;
        if outcome.effect == Effect::Full {
            state.inode(self.inode).write(Write::Length(bytes));
        }
        outcome.finish()
    }

    fn take_room(&mut self, bytes: u64) -> io::Result<()> {
        let (mut state, outcome) = self.disk.begin()?;
        let has = state.inode(self.inode).live.len() as u64;
        let more = bytes.saturating_sub(has);
        let more = if outcome.effect == Effect::Full { more } else { more / 2 };
        let fitting = state.fitting(self.inode, has, more as usize) as u64;
        state.inode(self.inode).write(Write::Length(has + fitting));
        if fitting < more {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        outcome.finish()
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(self.disk.state().live_names.values().filter(|inode| **inode == self.inode).count() > 1)
    }

    fn status(&self) -> io::Result<FileStatus> {
        let mut state = self.disk.state();
        Ok(FileStatus { bytes: state.inode(self.inode).live.len() as u64 })
    }
}
