//! `wbl.enabled` of a running server.
//!
//! The server sets all values of a CONFIG SET, then has them applied, and undoes all of them if one is refused. So a
//! log begins when the value is applied, because that may fail and leaves memory as it was; and it ends only when the
//! server reports that the whole command has succeeded.

use super::begin::begin_log;
use super::descent::holds_another;
use super::rest::Rest;
use super::state::{Life, Logging, State};
use super::visible::IfLost;
use super::{end, role};
use crate::ffi::{Ctx, Level, log};
use crate::log::{SeenLog, Storage};
use crate::module::gate::GatedStorage;
use crate::module::role::{Role, role_at_start};
use crate::module::units::finish_unit;
use crate::module::{config, disk, following, own_aof, server, with};

/// Whether the setting can be changed now.
///
/// # Errors
/// Why not, for the client.
pub(in crate::module) fn check_enabled() -> Result<(), String> {
    match with(|module| module.life.state()) {
        Some(State::Starting | State::Recovering) => Err("the log is being recovered".into()),
        _ => Ok(()),
    }
}

/// Begins a log where the setting wants one, and checks whether it may end where none is wanted.
///
/// # Errors
/// Why it can't, for the client; nothing has changed then.
pub(in crate::module) fn apply_enabled(ctx: Ctx<'_>) -> Result<(), String> {
    if !config::is_enabled() {
        return may_end(ctx);
    }
    if with(|module| module.life.state()) != Some(State::Disabled) {
        return Ok(());
    }
    if ctx.flags().is_inside_another() {
        return Err(
            "wbl.enabled can't be set to yes in a transaction or a script, the rest of which the log would not see"
                .into(),
        );
    }
    // A replica's log begins later, but what is in memory is compared with the folder at once.
    server::has_loaded(ctx)?;
    enable(ctx)
}

/// Whether the server may go on without the log.
///
/// # Errors
/// What would be lost.
pub(super) fn may_end(ctx: Ctx<'_>) -> Result<(), String> {
    // What is not durable would be lost.
    disk::settle()?;
    has_free_folder()?;
    with(|module| module.life.may_leave_log()).unwrap_or(Ok(()))?;
    own_aof::check(ctx)
}

/// Ends the log where the setting wants none. Also called before the event loop sleeps: a log that began in a CONFIG
/// SET which was then taken back is not wanted either, and no event reports that; and a CONFIG SET within a transaction
/// ends the log only then, with all of the transaction in it.
pub(super) fn disable_if_unwanted(ctx: Ctx<'_>) {
    let flags = ctx.flags();
    if config::is_enabled() || flags.is_inside_another() {
        return;
    }
    following::settle(ctx);
    let closes = with(|module| module.life.logging().map(Logging::once_closed)).flatten();
    match with(|module| (module.life.state(), module.life.failure().is_some(), closes)) {
        Some((_, _, Some(what))) => {
            finish_unit(ctx);
            if let Some(rest) = end::stop(ctx) {
                with(|module| module.life = Life::Disabled(rest));
            }
            log(Level::Notice, &format!("disabled: replies don't wait any more. The log is closed; {what}"));
        }
        Some((State::Replica | State::Failing, _, _) | (State::Disabled, true, _)) => {
            with(|module| {
                if let Some(mut rest) = module.life.take_rest() {
                    rest.forget_lack();
                    module.life = Life::Disabled(rest);
                }
            });
        }
        _ => {}
    }
}

/// Whether no thread closes or marks the folder's log, which the main thread would wait for.
///
/// # Errors
/// One does, and the disk does not answer.
fn has_free_folder() -> Result<(), String> {
    let is_free = with(|module| {
        let rest = module.life.resting_mut()?;
        rest.wait_until_free();
        Some(!rest.is_busy())
    });
    match is_free.flatten() {
        Some(false) => Err("the disk of the log's folder does not answer; try again".into()),
        _ => Ok(()),
    }
}

fn enable(ctx: Ctx<'_>) -> Result<(), String> {
    has_free_folder()?;
    let Some(Some(rest)) = with(|module| module.life.take_rest()) else { return Ok(()) };
    let outcome = match role_at_start(ctx).and_then(|role| may_open(ctx, role, &rest).map(|()| role)) {
        Ok(Role::Primary) => begin_log(ctx, rest, IfLost::ServesOn),
        Ok(Role::Replica) => rest.opened().and_then(|rest| role::rest_as_replica(ctx, rest)),
        Err(reason) => Err((reason.into(), rest)),
    };
    outcome.map_err(|(reason, rest)| {
        with(|module| module.life = Life::Disabled(rest.stale()));
        reason.to_string()
    })
}

/// Whether to open the folder at all, which takes as long as reading its log. It is not opened if it has not been yet
/// and its manifest says that the log can't give way.
///
/// # Errors
/// That reason, for the client.
fn may_open(ctx: Ctx<'_>, role: Role, rest: &Rest) -> Result<(), String> {
    let asks = role == Role::Primary || server::follows_primary(ctx) || server::has_data(ctx);
    if !asks || !rest.descent().is_unknown() || config::replaces_existing_log() {
        return Ok(());
    }
    let folder = with(|module| module.folder.clone()).unwrap_or_default();
    // Opening it shows what else is wrong with it.
    if with(|module| module.aof_folder.check(&folder).is_err()) == Some(true) {
        return Ok(());
    }
    let Ok(Some(storage)) = GatedStorage::existing(&folder) else { return Ok(()) };
    let Ok(Some(_lock)) = storage.lock() else { return Ok(()) };
    match SeenLog::look(&storage) {
        Ok(Some(seen)) if !seen.standing().is_superseded() => Err(holds_another(&storage)),
        _ => Ok(()),
    }
}
