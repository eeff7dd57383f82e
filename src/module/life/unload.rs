//! What the server keeps of the module's commands, which it frees when the module goes.
//!
//! A client points to the command that it ran last (CLIENT LIST shows its name), and to those that it has queued since
//! a MULTI; the API has no way to change that. So such clients are closed. The rules of ACL users name commands; a
//! server that has this checked by nobody ends itself when it works the rules out again.

use crate::ffi::{CallMode, Ctx, Level, log};
use crate::module::{listed, server};

/// Sees to it that nothing in the server points to the module's commands.
///
/// # Errors
/// Why something still does, for the server's log.
pub(super) fn take_commands_back(ctx: Ctx<'_>) -> Result<(), String> {
    if let Some(rule) = server::own_acl_rule(ctx)? {
        return Err(format!(
            "the ACL rule {rule} names a command of the module; take it away first (ACL SETUSER, or ACL DELUSER)"
        ));
    }
    close_clients(ctx)
}

/// Closes the clients that point to a command of the module.
///
/// # Errors
/// One is still there.
pub(super) fn close_clients(ctx: Ctx<'_>) -> Result<(), String> {
    let before = own_clients(ctx)?;
    for id in &before {
        let id = id.to_string();
        // Never the client whose command this is, as CLIENT KILL passes over that by itself.
        ctx.own().call(CallMode::Internal, "CLIENT", [&b"KILL"[..], b"ID", id.as_bytes()]);
    }
    let after = own_clients(ctx)?;
    let closed = before.len().saturating_sub(after.len());
    if closed > 0 {
        log(
            Level::Notice,
            &format!("closed {closed} clients: their last command was one of the module's, or they were in a MULTI"),
        );
    }
    match after.first() {
        None => Ok(()),
        Some(id) => Err(format!("client {id} still uses a command of the module, or is in a MULTI; try again")),
    }
}

fn own_clients(ctx: Ctx<'_>) -> Result<Vec<u64>, String> {
    let listed = listed::clients(ctx)?;
    Ok(listed.iter().filter(|client| client.may_point_to_own_command()).map(|client| client.id).collect())
}
