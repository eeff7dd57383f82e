//! Opening the folder.

use super::cause::Cause;
use crate::ffi::{Level, log};
use crate::log::{DirectWrites, LogError, Options, open};
use crate::module::config::{self, IoMode, Setting, io_mode, value};
use crate::module::gate::GatedStorage;
use crate::module::with;
use crate::rdb;
use std::io::Read;
use std::time::{Duration, Instant};

/// A folder whose log is known and that nobody writes to.
pub(super) type LogFolder = crate::log::Folder<GatedStorage>;

/// A folder that was opened and verified.
pub(super) type OpenedFolder = crate::log::Opened<GatedStorage>;

/// How long a start waits for the folder's lock, and how often it looks: a killed server may not have ended yet.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Opens, locks and verifies the folder; nothing in it changes.
pub(super) fn open_folder(patience: Duration) -> Result<OpenedFolder, Cause> {
    let Some(folder) = with(|module| module.folder.clone()) else { return Err("the module is not loaded".into()) };
    let segment_bytes = config::segment_bytes();
    // 0 leaves it to the log.
    let max_inflight_flushes = usize::try_from(value(Setting::MaxInflightFlushes)).ok().filter(|count| *count > 0);
    let options = Options { segment_bytes, max_inflight_flushes, direct_block_bytes: None, check_base };
    let deadline = Instant::now() + patience;
    loop {
        let storage = GatedStorage::new(&folder)?;
        with(|module| module.aof_folder.check(&folder)).unwrap_or(Ok(()))?;
        match open(storage, &options) {
            Err(LogError::Locked { .. }) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            outcome => {
                let mut opened = outcome?;
                choose_io_mode(&mut opened);
                return Ok(opened);
            }
        }
    }
}

/// Reads a new base as a start does before it loads one. What this server has written needs nothing that it lacks.
fn check_base(base: &mut dyn Read) -> Result<(), String> {
    rdb::verify(base).map(drop).map_err(|error| error.to_string())
}

/// Has the log written as the settings want it and the file system can.
fn choose_io_mode(opened: &mut OpenedFolder) {
    let wanted = io_mode();
    let block_bytes = match wanted {
        IoMode::Buffered => None,
        IoMode::Auto | IoMode::Direct => match opened.storage().probe_direct_writes() {
            DirectWrites::Good(block_bytes) => Some(block_bytes),
            DirectWrites::Poor(block_bytes) => Some(block_bytes).filter(|_| wanted == IoMode::Direct),
            DirectWrites::Refused(error) if wanted == IoMode::Direct => {
                log(
                    Level::Notice,
                    &format!("wbl.io-mode is direct, and the log's file system cannot do that: buffered ({error})"),
                );
                None
            }
            DirectWrites::Refused(_) => None,
        },
    };
    opened.write_directly(block_bytes);
}
