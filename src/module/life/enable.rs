//! `wbl.enabled` of a running server.
//!
//! The server sets all values of a CONFIG SET, then has them applied, and takes all of them back where one is refused.
//! So a log begins when the value is applied, as that may fail and memory goes on as it was without it; and it ends
//! only when the server reports that the whole command has succeeded.

use super::begin::begin_log;
use super::state::{IfLost, Life, State};
use super::{end, role};
use crate::ffi::{Ctx, Level, log};
use crate::module::role::{Role, role_at_start};
use crate::module::units::finish_unit;
use crate::module::{config, with};

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

/// Begins a log where the setting wants one.
///
/// # Errors
/// Why it can't begin, for the client; nothing has changed then.
pub(in crate::module) fn apply_enabled(ctx: Ctx<'_>) -> Result<(), String> {
    if config::is_enabled() && with(|module| module.life.state()) == Some(State::Disabled) {
        return enable(ctx);
    }
    Ok(())
}

/// Ends the log where the setting wants none. Also before the event loop sleeps, as a log that has begun in a CONFIG
/// SET which was taken back after that is not wanted either, and no event says so.
pub(super) fn disable_if_unwanted(ctx: Ctx<'_>) {
    if config::is_enabled() {
        return;
    }
    match with(|module| (module.life.state(), module.life.failure().is_some())) {
        Some((State::Baselining | State::Active, _)) => {
            finish_unit(ctx);
            if let Some(rest) = end::stop(ctx) {
                with(|module| module.life = Life::Disabled(rest));
            }
            log(Level::Notice, "disabled: everything logged so far is durable, replies don't wait any more");
        }
        Some((State::Replica | State::Failing, _) | (State::Disabled, true)) => {
            with(|module| {
                if let Some(rest) = module.life.take_rest() {
                    module.life = Life::Disabled(rest);
                }
            });
        }
        _ => {}
    }
}

fn enable(ctx: Ctx<'_>) -> Result<(), String> {
    let Some(Some(rest)) = with(|module| module.life.take_rest()) else { return Ok(()) };
    let outcome = match role_at_start(ctx) {
        Ok(Role::Primary) => begin_log(ctx, rest, None, IfLost::ServesOn),
        Ok(Role::Replica) => rest.opened().and_then(|rest| role::rest_as_replica(ctx, rest)),
        Err(reason) => Err((reason, rest)),
    };
    outcome.map_err(|(reason, rest)| {
        with(|module| module.life = Life::Disabled(rest.stale()));
        reason
    })
}
