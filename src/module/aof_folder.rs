//! The folder of the server's own append-only file, which must never be the log's: the server would take the log's
//! files for its own, replace their manifest and remove them. The folder's lock keeps out other processes, but not this
//! one.

use crate::ffi::{Ctx, Filter};
use crate::module::{Module, server};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder's name where the server does not say.
const NAME_DEFAULT: &str = "appendonlydir";

/// The folder's name in the server's `dir`, which cannot change while the server runs.
#[derive(Debug)]
pub(super) struct AofFolder(PathBuf);

impl AofFolder {
    pub(super) fn of(ctx: Ctx<'_>) -> AofFolder {
        let name = server::setting(ctx, "appenddirname").and_then(|name| String::from_utf8(name).ok());
        AofFolder(name.unwrap_or_else(|| NAME_DEFAULT.into()).into())
    }

    /// Whether it is this folder, by any path. `dir` is the server's.
    fn is(&self, dir: &Path, folder: &Path) -> bool {
        let identity = |path: &Path| std::fs::metadata(path).map(|status| (status.dev(), status.ino()));
        matches!((identity(&dir.join(&self.0)), identity(folder)), (Ok(own), Ok(log)) if own == log)
    }

    /// Refuses a folder that is the server's. It does not matter whether the server writes an append-only file now:
    /// that can be switched on at any time.
    ///
    /// # Errors
    /// It is.
    pub(super) fn check(&self, folder: &Path) -> Result<(), String> {
        // The server's `dir` is the current folder.
        if self.is(Path::new(""), folder) {
            return Err(format!(
                "the folder {} is that of the server's own append-only file (appenddirname), which would remove the log's files: set wbl.dir or appenddirname to another",
                folder.display()
            ));
        }
        Ok(())
    }
}

impl Module {
    /// Whether the server's own append-only file would be in the log's folder, which is open, after this CONFIG SET.
    pub(super) fn endangers_folder(&self, filter: &Filter) -> bool {
        let is = |index: usize, word: &str| filter.arg(index).eq_ignore_ascii_case(word.as_bytes());
        let names = (2..filter.len()).step_by(2);
        let (mut dir, mut concerns) = (PathBuf::new(), false);
        for name in names {
            if is(name, "dir") {
                dir = PathBuf::from(String::from_utf8_lossy(filter.arg(name + 1)).into_owned());
                concerns = true;
            }
            concerns |= is(name, "appendonly") && !is(name + 1, "no");
        }
        concerns && self.aof_folder.is(&dir, &self.folder)
    }
}
