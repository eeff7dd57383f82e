//! `CONFIG SET wbl.enabled`.

use super::begin::begin_log;
use super::state::{IfLost, Life, State};
use super::{end, role};
use crate::ffi::{Ctx, Level, log};
use crate::module::role::{Role, role_at_start};
use crate::module::units::finish_unit;
use crate::module::with;

/// `CONFIG SET wbl.enabled`.
///
/// # Errors
/// Why it was refused, for the client; nothing has changed then.
pub(in crate::module) fn set_enabled(ctx: Ctx<'_>, enabled: bool) -> Result<(), String> {
    match (with(|module| module.life.state()), enabled) {
        (Some(State::Starting | State::Recovering), _) => Err("the log is being recovered".into()),
        (Some(State::Baselining | State::Active), false) => {
            finish_unit(ctx);
            if let Some(rest) = end::stop(ctx) {
                with(|module| module.life = Life::Disabled(rest));
            }
            log(Level::Notice, "disabled: everything logged so far is durable, replies don't wait any more");
            Ok(())
        }
        (Some(State::Replica | State::Failing), false) => {
            with(|module| {
                if let Some(rest) = module.life.take_rest() {
                    module.life = Life::Disabled(rest);
                }
            });
            Ok(())
        }
        (Some(State::Disabled), true) => enable(ctx),
        _ => Ok(()),
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
