//! Files that hold room which the log may need more than they do: those of earlier bases (`history.rs`), segments
//! written ahead that are not used yet, files that wait to be removed, the reserve (`reserve.rs`), and bases that are
//! being written. They give it up in this order.
//!
//! If the disk is full the log takes their room by cutting them to nothing, which works even while a child still writes
//! one: what it writes later is cut the next time. A base is checked once more before it gets its name, so that one
//! that was cut is never named.

use super::history::History;
use super::reserve::{Reserve, WantedReserve};
use crate::lock::{lock, wait};
use crate::log::error::LogError;
use crate::log::storage::{Storage, StorageFile};
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What the log takes room from, shared by all of its threads.
#[derive(Debug)]
pub(crate) struct Expendable<S: Storage> {
    pub(super) storage: Arc<S>,
    pub reserve: Reserve<S::File>,
    pub history: History,
    files: Mutex<Files>,
    /// A removal has ended.
    removal_ended: Condvar,
}

#[derive(Debug, Default)]
struct Files {
    /// Segments written ahead.
    ahead: BTreeSet<String>,
    /// Bases that are being written.
    bases: BTreeSet<String>,
    /// No longer of use, though something may still write to them.
    void: BTreeSet<String>,
    /// Files that are being removed: their room comes back when that has ended, which may take a while.
    removing: usize,
    /// How many files were removed.
    removed: u64,
}

impl<S: Storage> Expendable<S> {
    pub fn new(storage: Arc<S>) -> Expendable<S> {
        Expendable {
            storage,
            reserve: Reserve::default(),
            history: History::default(),
            files: Mutex::default(),
            removal_ended: Condvar::new(),
        }
    }

    /// A base is being written.
    pub fn add_base(&self, name: &str) {
        self.files().bases.insert(name.into());
    }

    /// It has no file after all.
    pub(super) fn drop_base(&self, name: &str) {
        self.no_longer_taken(&mut self.files(), name);
    }

    /// A segment is written ahead.
    pub fn add_ahead(&self, name: &str) {
        self.files().ahead.insert(name.into());
    }

    /// Holds this much room for the next base, and gives up history for it.
    pub fn keep_reserve(&self, wanted: WantedReserve) -> Result<(), LogError> {
        self.reserve.keep(&*self.storage, wanted, || self.give_up_history())
    }

    /// The log has grown by this much. If less is free than is owed to the base that is being written there is a
    /// shortage, just as when the log takes what is held.
    pub(super) fn log_has_grown(&self, bytes: u64) {
        if !self.reserve.grow_log(bytes) || self.reserve.is_short() {
            return;
        }
        let (lent, owed) = (self.reserve.lent(), self.owed_to_base());
        while owed > 0 && self.storage.free_bytes().is_ok_and(|free| free < owed) {
            if !self.give_up_history() {
                return self.reserve.lacks_lent(lent);
            }
        }
    }

    /// Whether what is free belongs to the next base.
    pub(super) fn is_short_of_room(&self) -> bool {
        self.reserve.is_short()
    }

    /// What the base that is being written, or is about to be, may still need of the room that it was lent.
    pub(super) fn owed_to_base(&self) -> u64 {
        let lent = self.reserve.lent();
        if lent == 0 {
            return 0;
        }
        let bases = self.files().bases.clone();
        let bytes = |name: &String| Some(self.storage.open_read(name).ok()?.status().ok()?.bytes);
        lent.saturating_sub(bases.iter().filter_map(bytes).sum())
    }

    /// The log is going to rely on a base, or a segment: it is no longer cut from now on. `false` when it may have
    /// been.
    pub fn keep(&self, name: &str) -> bool {
        let mut files = self.files();
        self.no_longer_taken(&mut files, name);
        !files.void.contains(name)
    }

    /// These files are no longer needed.
    pub fn give_up(&self, names: &[String]) {
        let mut files = self.files();
        for name in names {
            self.no_longer_taken(&mut files, name);
            files.void.insert(name.clone());
        }
    }

    /// Whether this file is no longer needed.
    pub fn is_void(&self, name: &str) -> bool {
        self.files().void.contains(name)
    }

    /// Removes files, as far as that is possible; what stays is removed by a later start.
    pub fn remove(&self, names: &[String]) {
        for name in names {
            self.files().removing += 1;
            let removed = self.storage.remove(name);
            let mut files = self.files();
            self.no_longer_taken(&mut files, name);
            files.void.remove(name);
            files.removing -= 1;
            files.removed += u64::from(removed.is_ok());
            self.removal_ended.notify_all();
        }
    }

    /// Gives up what was logged before this, and the oldest of what takes more bytes.
    pub fn trim_history(&self, since_unix_ms: u64, bytes_max: u64) {
        let is_due = |unix_ms: u64, bytes: u64| unix_ms < since_unix_ms || bytes > bytes_max;
        while self.history.remove_oldest(&*self.storage, is_due) {
            self.count_removal();
        }
    }

    /// Gives up its oldest part for the room; returns whether there was one.
    fn give_up_history(&self) -> bool {
        let is_removed = self.history.remove_oldest(&*self.storage, |_, _| true);
        if is_removed {
            self.count_removal();
        }
        is_removed
    }

    /// A part of the kept history is gone.
    fn count_removal(&self) {
        self.files().removed += 1;
        self.removal_ended.notify_all();
    }

    /// How many files were removed so far.
    pub fn removed(&self) -> u64 {
        self.files().removed
    }

    /// Makes room for the log, which has failed for lack of it, in the next possible way. `true` when there is more
    /// room than when `removed` files had been removed. Where files are being removed by another thread, this waits
    /// until that has ended before it takes what the log would miss.
    pub fn make_room(&self, removed: &mut u64, why: &LogError) -> bool {
        self.give_up_history() || self.take_idle_room(removed) || self.reserve.give_up(why) || self.take_bases(why)
    }

    fn take_idle_room(&self, removed: &mut u64) -> bool {
        let mut files = self.files();
        let ahead = std::mem::take(&mut files.ahead);
        files.void.extend(ahead);
        let made = self.cut(files.void.iter());
        while !made && files.removed == *removed && files.removing > 0 {
            files = wait(&self.removal_ended, files);
        }
        let has_removed = files.removed > *removed;
        *removed = files.removed;
        made || has_removed
    }

    fn take_bases(&self, why: &LogError) -> bool {
        let mut files = self.files();
        let bases = std::mem::take(&mut files.bases);
        let made = self.cut(bases.iter());
        files.void.extend(bases);
        drop(files);
        if made {
            self.reserve.took_base(why);
        }
        made
    }

    /// Cuts files to nothing; returns whether that has made room.
    fn cut<'a>(&self, names: impl Iterator<Item = &'a String>) -> bool {
        let mut made = false;
        for name in names {
            let Ok(mut file) = self.storage.open_write(name) else { continue };
            // A backup also has it, and its room would not come back.
            if !file.is_linked().is_ok_and(|is_linked| !is_linked) {
                continue;
            }
            made |= file.status().is_ok_and(|status| status.bytes > 0) && file.set_len(0).is_ok();
        }
        made
    }

    fn no_longer_taken(&self, files: &mut Files, name: &str) {
        files.ahead.remove(name);
        if files.bases.remove(name) && files.bases.is_empty() {
            self.reserve.end_loan();
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        lock(&self.files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::FileStatus;
    use crate::log::sim::{SimDisk, SimFile, SimLock};
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A disk on which a removal, once begun, lasts until the file is looked for.
    struct SlowRemoval {
        disk: SimDisk,
        begun: Mutex<Sender<()>>,
        was_looked_for: (Mutex<Sender<()>>, Mutex<Receiver<()>>),
    }

    impl SlowRemoval {
        fn new(disk: SimDisk, begun: Sender<()>) -> SlowRemoval {
            let (sender, receiver) = channel();
            SlowRemoval { disk, begun: Mutex::new(begun), was_looked_for: (Mutex::new(sender), Mutex::new(receiver)) }
        }
    }

    impl Storage for SlowRemoval {
        type File = SimFile;
        type Lock = SimLock;

        fn lock(&self) -> io::Result<Option<SimLock>> {
            self.disk.lock()
        }
        fn list(&self) -> io::Result<Vec<Vec<u8>>> {
            self.disk.list()
        }
        fn create(&self, name: &str) -> io::Result<SimFile> {
            self.disk.create(name)
        }
        fn open_write(&self, name: &str) -> io::Result<SimFile> {
            self.was_looked_for.0.lock().unwrap().send(()).unwrap();
            self.disk.open_write(name)
        }
        fn open_read(&self, name: &str) -> io::Result<SimFile> {
            self.disk.open_read(name)
        }
        fn reopen(&self, name: &str, file: &SimFile) -> io::Result<SimFile> {
            self.disk.reopen(name, file)
        }
        fn reopen_direct(&self, name: &str, file: &SimFile) -> io::Result<SimFile> {
            self.disk.reopen_direct(name, file)
        }
        fn status_of(&self, name: &str, file: &SimFile) -> io::Result<Option<FileStatus>> {
            self.disk.status_of(name, file)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.disk.rename(from, to)
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.disk.remove(name)?;
            self.begun.lock().unwrap().send(()).unwrap();
            self.was_looked_for.1.lock().unwrap().recv().unwrap();
            Ok(())
        }
        fn sync_dir(&self) -> io::Result<()> {
            self.disk.sync_dir()
        }
        fn free_bytes(&self) -> io::Result<u64> {
            self.disk.free_bytes()
        }
        fn random(&self) -> io::Result<u64> {
            self.disk.random()
        }
    }

    #[test]
    fn the_room_of_a_file_that_is_being_removed_is_waited_for() {
        let (begun, has_begun) = channel();
        let expendable = Arc::new(Expendable::new(Arc::new(SlowRemoval::new(SimDisk::new(), begun))));
        drop(expendable.storage.create("ahead").unwrap());
        expendable.add_ahead("ahead");
        let mut removed = expendable.removed();
        let full = LogError::io("write", "x", io::ErrorKind::StorageFull.into());
        let remover = Arc::clone(&expendable);
        let remover = std::thread::spawn(move || remover.remove(&["ahead".into()]));
        has_begun.recv().unwrap();
        assert!(expendable.make_room(&mut removed, &full), "the log's write has failed for good");
        remover.join().unwrap();
        assert!(!expendable.make_room(&mut removed, &full), "room was found twice");
    }
}
