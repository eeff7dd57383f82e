//! Creating a folder so that a crash cannot remove it again, with everything acknowledged in it.

use crate::log::error::LogError;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// What is needed of a file system.
trait Folders {
    fn is_folder(&self, path: &Path) -> bool;
    fn create(&mut self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync(&mut self, path: &Path) -> io::Result<()>;
}

struct Real;

impl Folders for Real {
    fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn create(&mut self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn sync(&mut self, path: &Path) -> io::Result<()> {
        File::open(path).and_then(|folder| folder.sync_all())
    }
}

/// Creates a folder where it is missing, and those above it that are below the current one, the server's `dir`. All
/// others must be there: if one is missing, the disk that it belongs to may not be mounted, and a log that began in its
/// place would hide the one on that disk.
pub(super) fn create_durably(folder: &Path) -> Result<(), LogError> {
    let current = std::env::current_dir().map_err(|source| LogError::io("find", ".", source))?;
    create_in(&mut Real, folder, &current)
}

/// Any folder of the path may have been created by a process that died before it was durable, so all names down to the
/// folder are synced at each start.
fn create_in(folders: &mut impl Folders, folder: &Path, current: &Path) -> Result<(), LogError> {
    let mut paths: Vec<&Path> = folder.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    paths.reverse();
    for path in paths {
        let failed = |operation| move |source| LogError::io(operation, path.display().to_string(), source);
        let Some(above) = path.parent() else { continue };
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        let is_new = !folders.is_folder(path);
        if is_new && path != folder && path.is_absolute() && !path.starts_with(current) {
            let why = format!(
                "there is no folder {} (is a disk not mounted?); outside of `dir` only the last one is created",
                path.display()
            );
            let missing = io::Error::new(io::ErrorKind::NotFound, why);
            return Err(LogError::io("create the folder", folder.display().to_string(), missing));
        }
        if is_new {
            match folders.create(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folders.is_folder(path) => {}
                created => created.map_err(failed("create the folder"))?,
            }
        }
        match folders.sync(above) {
            // Without the right to read or write there this user has not created the folder.
            Err(error) if !is_new && is_forbidden(&error) => {}
            synced => synced.map_err(failed("sync the folder above"))?,
        }
    }
    Ok(())
}

fn is_forbidden(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::log::sim::Random;
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    /// Folders that a power loss takes away when their names are not durable; the machine stops at an operation.
    #[derive(Clone, Default)]
    struct Forgetful {
        live: BTreeSet<PathBuf>,
        durable: BTreeSet<PathBuf>,
        operations_left: Option<u32>,
    }

    impl Forgetful {
        fn operate(&mut self) -> io::Result<()> {
            match &mut self.operations_left {
                Some(0) => Err(io::Error::other("stopped")),
                Some(left) => {
                    *left -= 1;
                    Ok(())
                }
                None => Ok(()),
            }
        }

        /// After a power loss: a part of what was not durable is there, but nothing below what has gone.
        fn after_power_loss(&self, seed: u64) -> Forgetful {
            let mut random = Random::new(seed);
            let mut live: BTreeSet<PathBuf> = BTreeSet::new();
            for path in &self.live {
                let has_parent = path.parent().is_none_or(|above| above == Path::new("/") || live.contains(above));
                if has_parent && (self.durable.contains(path) || random.chance(50)) {
                    live.insert(path.clone());
                }
            }
            Forgetful { durable: live.clone(), live, operations_left: None }
        }
    }

    impl Folders for Forgetful {
        fn is_folder(&self, path: &Path) -> bool {
            path == Path::new("/") || self.live.contains(path)
        }

        fn create(&mut self, path: &Path) -> io::Result<()> {
            self.operate()?;
            self.live.insert(path.to_path_buf());
            Ok(())
        }

        fn sync(&mut self, path: &Path) -> io::Result<()> {
            self.operate()?;
            let inside = self.live.iter().filter(|name| name.parent() == Some(path)).cloned();
            self.durable.extend(inside.collect::<Vec<_>>());
            Ok(())
        }
    }

    #[test]
    fn a_folder_that_was_created_survives_every_power_loss() {
        let folder = Path::new("/a/b/c");
        for stop in 0..8 {
            for seed in 0..20 {
                // A first process that is killed, a second one that finishes, with and without a power loss in between.
                // The one above all was created by somebody who has made nothing durable.
                let mut killed = Forgetful { operations_left: Some(stop), ..Forgetful::default() };
                killed.live.insert(PathBuf::from("/a"));
                let is_done = create_in(&mut killed, folder, Path::new("/a")).is_ok();
                assert!(!is_done || killed.after_power_loss(seed).is_folder(folder), "stopped at {stop}");
                let rebooted = killed.after_power_loss(seed);
                for mut folders in [killed, rebooted] {
                    folders.operations_left = None;
                    folders.live.insert(PathBuf::from("/a"));
                    create_in(&mut folders, folder, Path::new("/a")).unwrap();
                    assert!(folders.after_power_loss(seed).is_folder(folder), "stopped at {stop}, seed {seed}");
                }
            }
        }
    }

    #[test]
    fn a_missing_folder_above_is_named_and_not_created() {
        let mut folders = Forgetful::default();
        folders.live.insert(PathBuf::from("/a"));
        let error = create_in(&mut folders, Path::new("/a/b/c/d"), Path::new("/e")).unwrap_err().to_string();
        let expected = "cannot create the folder /a/b/c/d: there is no folder /a/b (is a disk not mounted?)";
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(folders.live.len(), 1);
    }

    #[test]
    fn relative_folders_are_created_too() {
        let mut folders = Forgetful::default();
        create_in(&mut folders, Path::new("above/wbl"), Path::new("/e")).unwrap();
        assert!(folders.is_folder(Path::new("above/wbl")));
    }
}
