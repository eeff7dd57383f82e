//! A file that holds the room of the next base, so that a checkpoint can replace a log that has filled the disk.
//!
//! It is made as large as the next base may get, and has nothing in it. A checkpoint gets its room ("lent"), and while
//! its base is written the log checks how much of that is still owed to it. If the disk is full the log takes what is
//! held, before the room of a base that is being written: with that it goes on for a while. From then on, or when less
//! is free than is owed, there is a shortage, which makes a checkpoint begin and writes be refused, until as much is
//! held again.
//!
//! What if it crashes here: the next start finds a temporary file, and removes it before anything takes room. Nobody
//! reads it, so nothing of it is synced.

use crate::lock::lock;
use crate::log::error::{LogError, is_no_room};
use crate::log::format::names::RESERVE_NAME;
use crate::log::storage::{Storage, StorageFile, failed};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The room that is held.
#[derive(Debug)]
pub(crate) struct Reserve<F> {
    /// Held while the file is changed.
    held: Mutex<Held<F>>,
    /// The number for others, who don't wait for the disk.
    bytes: AtomicU64,
    is_short: AtomicBool,
    shortage: Mutex<Option<String>>,
    /// It is about to be changed.
    changes: AtomicBool,
    /// What the base that is being written, or is about to be, has received of it.
    lent: AtomicU64,
    /// How much the log has grown since it was last checked whether that is still there.
    grown: AtomicU64,
}

/// The log may grow by this part of what was lent before that is checked.
const LOOK_PART: u64 = 64;

#[derive(Debug)]
struct Held<F> {
    file: Option<F>,
    bytes: u64,
    /// What the log has taken; 0 where it has not.
    missing: u64,
}

/// How much room is to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedReserve {
    /// A base may take this much: without it there is a shortage.
    pub least: u64,
    /// This much is held where it is free, so that it need not be made larger all the time. 0: nothing is held.
    pub most: u64,
}

/// If there is too little room, this part of it is not held: the log needs some for what it still writes.
const LEFT_PART: u64 = 16;

impl WantedReserve {
    /// Nothing.
    pub const NONE: WantedReserve = WantedReserve { least: 0, most: 0 };

    /// Exactly this much.
    pub fn exactly(bytes: u64) -> WantedReserve {
        WantedReserve { least: bytes, most: bytes }
    }

    /// How much to hold, where this much is held and this much is free now.
    fn of(self, held: u64, free: u64) -> u64 {
        self.most.min(held.saturating_add(free - free / LEFT_PART))
    }
}

impl<F> Default for Reserve<F> {
    fn default() -> Reserve<F> {
        Reserve {
            held: Mutex::new(Held { file: None, bytes: 0, missing: 0 }),
            bytes: AtomicU64::new(0),
            is_short: AtomicBool::new(false),
            shortage: Mutex::default(),
            changes: AtomicBool::new(false),
            lent: AtomicU64::new(0),
            grown: AtomicU64::new(0),
        }
    }
}

/// What the log has done when there is a shortage.
const TAKEN: &str = "the log has taken the room that was held for a checkpoint";

/// Whether the file system can't do that at all.
fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::OPNOTSUPP)
}

/// Makes the file longer, to this many bytes, or leaves it as it is.
fn take(file: &mut impl StorageFile, held: u64, bytes: u64) -> io::Result<()> {
    file.take_room(bytes).inspect_err(|_| {
        let _ = file.set_len(held);
    })
}

fn no_room_for_base() -> LogError {
    LogError::io("find room beside the log for", "a new base", io::Error::from(rustix::io::Errno::NOSPC))
}

impl<F> Reserve<F> {
    /// Bytes that are held.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether the log has taken the room.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Acquire)
    }

    /// Why it has.
    pub fn shortage(&self) -> Option<String> {
        lock(&self.shortage).clone()
    }

    /// Whether it is to be changed; `false` where it is about to be already.
    pub fn begin_change(&self) -> bool {
        !self.changes.swap(true, Ordering::AcqRel)
    }

    pub fn end_change(&self) {
        self.changes.store(false, Ordering::Release);
    }

    fn set_bytes(&self, held: &mut Held<F>, bytes: u64) {
        held.bytes = bytes;
        self.bytes.store(bytes, Ordering::Release);
    }

    /// What a base has received, and may still need all of.
    pub(super) fn lent(&self) -> u64 {
        self.lent.load(Ordering::Acquire)
    }

    /// No base has it any more.
    pub(super) fn end_loan(&self) {
        self.lent.store(0, Ordering::Release);
    }

    /// The log has grown; returns whether to check what it has left of what was lent.
    pub(super) fn grow_log(&self, bytes: u64) -> bool {
        let lent = self.lent();
        let is_due = lent > 0 && self.grown.fetch_add(bytes, Ordering::Relaxed) + bytes >= lent / LOOK_PART;
        if is_due {
            self.grown.store(0, Ordering::Relaxed);
        }
        is_due
    }

    fn begin_shortage(&self, held: &mut Held<F>, missing: u64, why: String) {
        held.missing = missing;
        *lock(&self.shortage) = Some(why);
        self.is_short.store(true, Ordering::Release);
    }

    fn end_shortage(&self, held: &mut Held<F>) {
        held.missing = 0;
        *lock(&self.shortage) = None;
        self.is_short.store(false, Ordering::Release);
    }
}

impl<F: StorageFile> Reserve<F> {
    /// Holds this much room; for none there is no such file. If less is free nearly all of that is held, and if it is
    /// not enough for a base others give up theirs, as long as `give_up_other` finds some; then there is a shortage.
    /// May take as long as the disk does.
    pub fn keep<S: Storage<File = F>>(
        &self,
        storage: &S,
        wanted: WantedReserve,
        give_up_other: impl Fn() -> bool,
    ) -> Result<(), LogError> {
        let mut held = lock(&self.held);
        if wanted.most == 0 {
            self.remove_held(storage, &mut held);
            return Ok(());
        }
        if wanted.most > held.bytes {
            self.grow(storage, &mut held, wanted)?;
            while held.bytes < wanted.least && give_up_other() {
                self.grow(storage, &mut held, wanted)?;
            }
        } else if wanted.most < held.bytes {
            self.cut(&mut held, wanted.most);
        }
        let enough = if held.missing > 0 { held.missing.min(wanted.least) } else { wanted.least };
        if held.bytes >= enough {
            self.end_shortage(&mut held);
        } else if !self.is_short() {
            let WantedReserve { least, .. } = wanted;
            let why = format!("{}: {} of {least} bytes are there", no_room_for_base(), held.bytes);
            self.begin_shortage(&mut held, least, why);
        }
        Ok(())
    }

    fn grow<S: Storage<File = F>>(
        &self,
        storage: &S,
        held: &mut Held<F>,
        wanted: WantedReserve,
    ) -> Result<(), LogError> {
        let free = storage.free_bytes().map_err(failed(storage, "look for room for", RESERVE_NAME))?;
        let bytes = wanted.of(held.bytes, free);
        if bytes <= held.bytes {
            return Ok(());
        }
        let file = match &mut held.file {
            Some(file) => file,
            none => {
                // What has that name is useless: nobody reads it.
                let _ = storage.remove(RESERVE_NAME);
                let created = storage.create(RESERVE_NAME).map_err(failed(storage, "create", RESERVE_NAME))?;
                none.insert(created)
            }
        };
        let mut bytes = bytes;
        let mut taken = take(file, held.bytes, bytes);
        if taken.as_ref().is_err_and(is_no_room) && (held.bytes + 1..bytes).contains(&wanted.least) {
            // A quota may leave less than is free.
            bytes = wanted.least;
            taken = take(file, held.bytes, bytes);
        }
        if taken.as_ref().is_err_and(is_unsupported) {
            // None can be held, so none is missing.
            self.end_shortage(held);
        }
        match taken.map_err(failed(storage, "hold room with", RESERVE_NAME)) {
            Ok(()) => self.set_bytes(held, bytes),
            // Somebody else was quicker.
            Err(error) if error.is_no_room() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns whether that has made room.
    fn cut(&self, held: &mut Held<F>, bytes: u64) -> bool {
        let has_more = held.bytes > bytes;
        let is_cut = has_more && held.file.as_mut().is_some_and(|file| file.set_len(bytes).is_ok());
        if is_cut {
            self.set_bytes(held, bytes);
        }
        is_cut
    }

    /// Gives its room to the base that a checkpoint begins.
    pub fn lend(&self) {
        let mut held = lock(&self.held);
        let bytes = held.bytes;
        if self.cut(&mut held, 0) {
            self.lent.store(bytes, Ordering::Release);
        }
    }

    /// Gives its room to the log; `false` where it has none.
    pub(super) fn give_up(&self, why: &LogError) -> bool {
        let mut held = lock(&self.held);
        let bytes = held.bytes;
        let is_cut = self.cut(&mut held, 0);
        if is_cut {
            self.begin_shortage(&mut held, bytes, format!("{why}; {TAKEN}"));
        }
        is_cut
    }

    /// The log has taken the room of a base, which may have received it from here.
    pub(super) fn took_base(&self, why: &LogError) {
        let mut held = lock(&self.held);
        let lent = self.lent.swap(0, Ordering::AcqRel);
        if lent > 0 {
            self.begin_shortage(&mut held, lent, format!("{why}; {TAKEN}"));
        }
    }

    /// Less is free than is owed to the base that is being written, which was lent this much.
    pub(super) fn lacks_lent(&self, lent: u64) {
        self.begin_shortage(&mut lock(&self.held), lent, format!("{}; {TAKEN}", no_room_for_base()));
    }

    /// The log is closed.
    pub fn remove<S: Storage<File = F>>(&self, storage: &S) {
        self.remove_held(storage, &mut lock(&self.held));
    }

    fn remove_held<S: Storage<File = F>>(&self, storage: &S, held: &mut Held<F>) {
        if let Some(mut file) = held.file.take() {
            // Its descriptor holds the room even if somebody has removed the name.
            let _ = file.set_len(0);
            let _ = storage.remove(RESERVE_NAME);
        }
        self.set_bytes(held, 0);
        self.end_shortage(held);
    }
}

#[cfg(test)]
mod tests;
