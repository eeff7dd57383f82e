//! How far a second server is, which INFO shows.

use crate::module::replay::Report;
use crate::module::with;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long to wait for an answer to that.
const ASK_PATIENCE: Duration = Duration::from_secs(1);

/// Its progress, bytes of the log.
static DONE_BYTES: AtomicU64 = AtomicU64::new(0);
static TOTAL_BYTES: AtomicU64 = AtomicU64::new(0);

/// Asks the second server how far it is. A missing answer only leaves the progress as it was.
pub(super) fn ask(path: &Path) {
    let Ok(mut socket) = UnixStream::connect(path) else { return };
    let prepared = socket.set_read_timeout(Some(ASK_PATIENCE)).and_then(|()| socket.write_all(b"INFO wbl\r\n"));
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while prepared.is_ok()
        && let Ok(count @ 1..) = socket.read(&mut piece)
    {
        text.extend_from_slice(piece.get(..count).unwrap_or_default());
        if let Some((done, total)) = progress(&String::from_utf8_lossy(&text)) {
            DONE_BYTES.store(done, Ordering::Relaxed);
            TOTAL_BYTES.store(total, Ordering::Relaxed);
            return;
        }
    }
}

/// What INFO says about bytes replayed and to be replayed, if it has arrived to its last byte.
fn progress(info: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let line = info.split_inclusive("\r\n").find_map(|line| line.strip_prefix(name))?;
        line.strip_suffix("\r\n")?.parse().ok()
    };
    Some((field("wbl_recovery_done_bytes:")?, field("wbl_recovery_total_bytes:")?))
}

/// Puts the second server's progress into this one's INFO.
pub(super) fn show() {
    let bytes = |place: &AtomicU64| place.load(Ordering::Relaxed);
    let report = Report { done_bytes: bytes(&DONE_BYTES), total_bytes: bytes(&TOTAL_BYTES), ..Report::default() };
    with(|module| module.recovered = Some(report));
}

#[cfg(test)]
mod tests {
    use super::progress;

    #[test]
    fn progress_is_taken_from_whole_lines_only() {
        let info =
            "$99\r\n# wbl\r\nwbl_state:recovering\r\nwbl_recovery_total_bytes:1234\r\nwbl_recovery_done_bytes:56\r\n";
        assert_eq!(progress(info), Some((56, 1234)));
        assert_eq!(progress(info.trim_end()), None);
        assert_eq!(progress(""), None);
    }
}
