//! MODULE UNLOAD, and what the server keeps of the module's commands, which it then frees.
//!
//! A client points to the command that it ran last (CLIENT LIST shows its name), and to those that it has queued since
//! a MULTI; the API has no way to change that. So such clients are closed. Where the server parses ahead, so are those
//! that wait, as nothing shows what they have sent after what they wait in. The rules of ACL users also name commands;
//! a server with a rule for a command that is gone crashes when it evaluates the rules again.

use super::arrival;
use super::enable::may_end;
use super::end::close;
use super::failing::fail_for_now;
use super::own_file::Child;
use super::state::Life;
use crate::core::leaf::ClientId;
use crate::ffi::{Ctx, Level, forget_child, forget_file_size_limit, log, unregister_hooks};
use crate::module::listed::Listed;
use crate::module::units::finish_unit;
use crate::module::{cut_commands, following, listed, replace, second_server, server, with};

/// MODULE UNLOAD. `false` refuses.
pub fn unload(ctx: Ctx<'_>) -> bool {
    let arrival = arrival::take_arrival();
    following::settle(ctx);
    finish_unit(ctx);
    // A module that has just come goes whatever there is: nothing could get hold of its commands but clients that were
    // served while it brought a log back (`recovering` in `announce.rs`).
    let may_go = match &arrival {
        Some(arrival) => {
            if arrival.recovers {
                leave_clients(ctx);
            }
            Ok(())
        }
        // The server has shut down, and runs nothing any more.
        None if with(|module| matches!(module.life, Life::Closed)) == Some(true) => Ok(()),
        None => may_end(ctx).and_then(|()| take_commands_back(ctx)),
    };
    if let Err(reason) = may_go {
        log(Level::Warning, &format!("the module is not unloaded: {reason}"));
        return false;
    }
    let had_log = with(|module| module.life.logs()) == Some(true);
    let closed = match &arrival {
        Some(arrival) => {
            arrival::take_back(ctx, arrival);
            Ok(())
        }
        None => close(ctx, Child::Unwatched),
    };
    if let Err(cause) = closed {
        stay(ctx, had_log, &cause.to_string());
        return false;
    }
    // Nothing may run code that is gone, nor report to it.
    second_server::end_with_threads();
    forget_child();
    unregister_hooks(ctx);
    forget_file_size_limit();
    drop(replace(None));
    arrival.iter().for_each(|arrival| arrival::give_up_data(ctx, arrival));
    ctx.free_detached();
    true
}

/// Nobody could note later that the server goes on without the folder's log, so that a start would bring that back in
/// place of what is saved from here on. The module stays. `had_log`: one has been closed; another one begins by itself.
fn stay(ctx: Ctx<'_>, had_log: bool, reason: &str) {
    log(
        Level::Warning,
        &format!("the module is not unloaded: it can't be noted that the server goes on without the log: {reason}"),
    );
    if had_log && let Some(Some(rest)) = with(|module| module.life.take_rest()) {
        fail_for_now(ctx, reason.into(), rest);
    }
}

/// Makes sure that nothing in the server points to the module's commands.
///
/// # Errors
/// Why something still does, for the server's log.
fn take_commands_back(ctx: Ctx<'_>) -> Result<(), String> {
    if let Some(rule) = server::own_acl_rule(ctx)? {
        return Err(format!(
            "the ACL rule {rule} names a command of the module; take it away first (ACL SETUSER, or ACL DELUSER)"
        ));
    }
    let clients = own_clients(ctx)?;
    // A reply of its own may not have left yet.
    if let Some(client) = clients.iter().find(|client| client.resumes) {
        return Err(format!("client {} has waited and is about to go on; try again", client.id));
    }
    close_clients(ctx, &clients)
}

/// The module goes before it has come: closes the clients that have sent commands of it meanwhile.
pub(super) fn leave_clients(ctx: Ctx<'_>) {
    if let Err(reason) = own_clients(ctx).and_then(|clients| close_clients(ctx, &clients)) {
        log(Level::Warning, &reason);
    }
}

/// Closes these clients, which point to a command of the module.
///
/// # Errors
/// One that does is still there.
fn close_clients(ctx: Ctx<'_>, before: &[Listed]) -> Result<(), String> {
    if !before.is_empty() {
        let ids: Vec<ClientId> = before.iter().map(|client| client.id).collect();
        listed::kill(ctx, &ids);
    }
    let after = own_clients(ctx)?;
    let closed = before.len().saturating_sub(after.len());
    if closed > 0 {
        log(
            Level::Notice,
            &format!("closed {closed} clients: they may have sent a command of the module last, in a MULTI or ahead"),
        );
    }
    match after.first() {
        None => Ok(()),
        Some(client) => {
            Err(format!("client {} still uses a command of the module, or is in a MULTI; try again", client.id))
        }
    }
}

fn own_clients(ctx: Ctx<'_>) -> Result<Vec<Listed>, String> {
    let parses_ahead = cut_commands::parses_ahead(ctx);
    let mut listed = listed::clients(ctx)?;
    listed.retain(|client| client.may_point_to_own_command(parses_ahead));
    Ok(listed)
}
