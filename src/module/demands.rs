//! What a base needs of the server: one that lacks it exits in the middle of loading.
//!
//! So all of it is checked before: a running server that is to load the module must live on. Whether other modules have
//! a type can only be asked during MODULE LOAD; at a start the server itself reports a missing one, and exits.

use crate::ffi::{CallMode, Ctx, ReplyKind, has_module_type};
use crate::module::server;
use crate::rdb::{Needs, TypeName, library_payload};
use std::ffi::CString;

/// Whether the server can load a base that needs this. Its own functions are gone by now.
///
/// # Errors
/// What it lacks.
pub(super) fn check(ctx: Ctx<'_>, needs: &Needs) -> Result<(), String> {
    if !ctx.own().select_db(needs.last_database) {
        let count = server::database_count(ctx);
        return Err(format!("it has database {}, and the server has {count} databases", needs.last_database));
    }
    needs.module_types.iter().try_for_each(|name| check_type(ctx, name))?;
    let checked = needs.libraries.iter().try_for_each(|code| check_library(ctx, code));
    if !needs.libraries.is_empty() {
        ctx.own().call(CallMode::Internal, "FUNCTION", [&b"FLUSH"[..], b"SYNC"]);
    }
    checked
}

fn check_type(ctx: Ctx<'_>, name: &TypeName) -> Result<(), String> {
    let shown = String::from_utf8_lossy(name);
    match CString::new(&name[..]) {
        Ok(name) if has_module_type(ctx, &name) => Ok(()),
        _ => Err(format!("it has data of a module's type {shown}, and no module with that is loaded")),
    }
}

/// Nothing but loading a library shows whether it can be loaded. A base or a log does that however long it takes;
/// FUNCTION LOAD gives it half a second.
fn check_library(ctx: Ctx<'_>, code: &[u8]) -> Result<(), String> {
    let payload = library_payload(code);
    let reply = ctx.own().call(CallMode::Internal, "FUNCTION", [&b"RESTORE"[..], &payload]);
    let reply = reply.ok_or("it has functions, and the server has no command FUNCTION to check them with")?;
    if reply.kind() == ReplyKind::Error {
        return Err(format!("the server does not take its functions: {}", String::from_utf8_lossy(reply.bytes())));
    }
    Ok(())
}
