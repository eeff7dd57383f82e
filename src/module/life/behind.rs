//! The server's own append-only file where it lacks what is in the log.
//!
//! That does no harm as long as the log is written, but it does when the server is started with the module disabled: it
//! then loads its file, and leaves the log with its first change. So the folder has a mark from before the first change
//! that only the log keeps until the file is whole again, and a start that would load such a file is refused.

use super::own_file::{Newer, OwnFile, OwnFiles};
use crate::ffi::{Ctx, Level, log};
use crate::log::{SeenLog, Standing, is_marked_behind};
use crate::module::gate::GatedStorage;
use crate::module::role::{Role, role_at_start};
use crate::module::{config, server};
use std::path::Path;

/// Whether there is a file about which anything can be said.
pub(in crate::module) fn has_file(ctx: Ctx<'_>) -> bool {
    matches!(OwnFile::aof(ctx), OwnFile::Aof { .. })
}

/// The server starts with the module disabled, and is about to load its own files: checks whether the folder's log is
/// newer than that. Nothing in the folder changes.
///
/// # Errors
/// It is known to be newer than the server's append-only file.
pub(super) fn check_disabled_start(ctx: Ctx<'_>, folder: &Path) -> Result<(), String> {
    let Ok(Some(storage)) = GatedStorage::existing(folder) else { return Ok(()) };
    // What is wrong with it is reported when it is to be marked.
    let Ok(Some(seen)) = SeenLog::look(&storage) else { return Ok(()) };
    let own = OwnFile::look(ctx);
    let newer = match seen.standing() {
        Standing::Current => Newer::Log,
        // It is up to the server whether it loads the newest of its own files.
        Standing::Left(left) if OwnFiles::look(ctx).one_is_newer(left) => return Ok(()),
        Standing::Left(left) => own.or_log(left),
        Standing::Superseded(_) => return Ok(()),
    };
    let is_behind = own == OwnFile::None || matches!(is_marked_behind(&storage), Ok(true));
    let may_lose = newer == Newer::Log && server::writes_aof(ctx) && role_at_start(ctx) != Ok(Role::Replica);
    if is_behind && may_lose && !config::replaces_existing_log() {
        return Err(format!(
            "wbl.enabled is no, and the server's own append-only file, which it would load, {}: what was acknowledged meanwhile is in the log in {} only, and the server's first change would leave that for good. Start it with wbl.enabled yes, wait until the file is written (INFO persistence: aof_enabled:1, aof_rewrite_in_progress:0, aof_rewrite_scheduled:0), and set wbl.enabled to no then; or set wbl.on-existing-log to replace to go on with what the file holds",
            if own == OwnFile::None { "is not there" } else { "was off, or was still to be written anew" },
            folder.display()
        ));
    }
    log(
        Level::Warning,
        &format!(
            "the log in {} is not brought back, as wbl.enabled is no: the server starts with its own files, which may lack what was acknowledged, and its first change leaves the log. To have what the log holds stop the server before that, and start it with wbl.enabled yes",
            folder.display()
        ),
    );
    Ok(())
}
