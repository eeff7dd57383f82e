//! Room on the disk, for whoever reads the server's log.

use std::path::Path;

/// How many bytes are free where this file is; `None` where the system does not say.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(path).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize))
}

/// How much of a file could be written, and what room there is.
pub(super) fn written_and_free(path: &Path) -> String {
    let written = std::fs::metadata(path).map(|metadata| metadata.len());
    match (written, free_bytes(path)) {
        (Ok(written), Some(free)) => {
            format!("{written} bytes of it are written, and {free} bytes are free on the disk")
        }
        _ => "the system does not say how much room there is".into(),
    }
}
