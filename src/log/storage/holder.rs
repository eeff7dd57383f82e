//! Who has a folder locked, without locking it: a server that starts at that moment would find it locked.

use super::folder::FolderStorage;
use std::fs;

impl FolderStorage {
    /// The process that has the folder locked, as the system lists it. `None` if nobody has, or it cannot be seen (a
    /// process of another container).
    pub fn lock_holder(&self) -> Option<u32> {
        let status = rustix::fs::fstat(self.directory()).ok()?;
        let device = (rustix::fs::major(status.st_dev), rustix::fs::minor(status.st_dev));
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| holder(line, device, status.st_ino))
    }
}

/// The process that a line of the system's list names, if it is one of a lock of this file.
fn holder(line: &str, device: (u32, u32), inode: u64) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, _, process, file, ..] = words[..] else { return None };
    let mut parts = file.split(':');
    let mut number = |radix| u64::from_str_radix(parts.next()?, radix).ok();
    let found = ((number(16)?, number(16)?), number(10)?);
    (found == ((device.0.into(), device.1.into()), inode)).then(|| process.parse().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::log::storage::Storage;

    #[test]
    fn a_line_names_the_process_of_a_lock() {
        let line = "2: FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF";
        assert_eq!(holder(line, (0xfe, 0), 1234), Some(4321));
        for other in [
            "2: FLOCK  ADVISORY  WRITE 4321 fe:00:1235 0 EOF",
            "2: FLOCK  ADVISORY  WRITE 4321 fe:01:1234 0 EOF",
            "2: POSIX  ADVISORY  WRITE 4321 fe:00:1234 0 EOF",
            "2: -> FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF",
            "",
        ] {
            assert_eq!(holder(other, (0xfe, 0), 1234), None, "{other}");
        }
    }

    #[test]
    fn the_lock_of_this_process_is_seen() {
        let path = std::env::temp_dir().join(format!("wbl-holder-{}", std::process::id()));
        let storage = FolderStorage::new(&path).unwrap();
        assert_eq!(storage.lock_holder(), None);
        let lock = storage.lock().unwrap();
        assert_eq!(storage.lock_holder(), Some(std::process::id()));
        drop(lock);
        std::fs::remove_dir_all(path).unwrap();
    }
}
