//! Folders that go away with the test, unless it fails.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A fresh folder below the system's temporary folder (short, as the path of a unix socket has at most 107 bytes).
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        TempDir::below(&std::env::temp_dir())
    }

    /// A folder in memory, where flushing costs nothing, if the system has such a place.
    pub fn in_memory() -> TempDir {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { TempDir::below(memory) } else { TempDir::new() }
    }

    fn below(parent: &Path) -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("wbl-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        // A process of an earlier run may have had our id.
        if path.exists() {
            std::fs::remove_dir_all(&path).expect("an old test folder can be removed");
        }
        std::fs::create_dir(&path).expect("a test folder can be made");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for inspection: {}", self.0.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}

/// Copies a folder with all that is in it.
pub fn copy_folder(source: &Path, target: &Path) {
    std::fs::create_dir(target).expect("the target folder can be made");
    for entry in std::fs::read_dir(source).expect("the source folder can be read") {
        let entry = entry.expect("the source folder can be read");
        let path = target.join(entry.file_name());
        if entry.file_type().expect("a file type").is_dir() {
            copy_folder(&entry.path(), &path);
        } else {
            std::fs::copy(entry.path(), path).expect("a file can be copied");
        }
    }
}
