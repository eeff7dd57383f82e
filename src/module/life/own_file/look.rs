//! Where the server's own files are, as the server says. Its folder is the current one.

use super::both::OwnFiles;
use super::file::OwnFile;
use super::read;
use crate::ffi::Ctx;
use crate::module::server;
use std::path::PathBuf;

impl OwnFile {
    /// The one that the server would load.
    pub(in crate::module::life) fn look(ctx: Ctx<'_>) -> OwnFile {
        if server::writes_aof(ctx) { OwnFile::aof(ctx) } else { OwnFile::rdb(ctx) }
    }

    fn rdb(ctx: Ctx<'_>) -> OwnFile {
        name(ctx, "dbfilename").map_or(OwnFile::Unreadable, |name| read::rdb(&name).unwrap_or_else(|instead| instead))
    }

    pub(in crate::module::life) fn aof(ctx: Ctx<'_>) -> OwnFile {
        // What is executed and not written yet is older than anything to come.
        let unwritten_bytes = if server::writes_aof(ctx) { server::unwritten_aof_bytes(ctx) } else { 0 };
        match (name(ctx, "appenddirname"), name(ctx, "appendfilename")) {
            (Some(folder), Some(file_name)) => {
                read::aof(&folder, &file_name, unwritten_bytes).unwrap_or_else(|instead| instead)
            }
            _ => OwnFile::Unreadable,
        }
    }
}

impl OwnFiles {
    pub(in crate::module::life) fn look(ctx: Ctx<'_>) -> OwnFiles {
        OwnFiles { rdb: OwnFile::rdb(ctx), aof: OwnFile::aof(ctx), loads_aof: server::writes_aof(ctx) }
    }
}

/// A name among the server's settings; `None` when it does not say.
fn name(ctx: Ctx<'_>, setting: &str) -> Option<PathBuf> {
    server::setting(ctx, setting).and_then(|name| String::from_utf8(name).ok()).map(PathBuf::from)
}
