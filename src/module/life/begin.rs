//! How a log begins: new, or after what was recovered.

use super::base::Base;
use super::descent::{Descent, Origin};
use super::own_file::Newer;
use super::rest::Rest;
use super::{Found, IfLost, Life, Logging, OpenedFolder, State, Visible, base, end, fatal, load, role};
use crate::core::execution::Running;
use crate::core::unit::Batch;
use crate::ffi::{Ctx, Level, exit_now, log};
use crate::log::{Begin, LogState, LogWriter, NotBegun};
use crate::module::census::Listed;
use crate::module::config::{Setting, value};
use crate::module::gate::GatedStorage;
use crate::module::known::Commands;
use crate::module::points::{self, Point};
use crate::module::release::Release;
use crate::module::role::{Role, role_at_start};
use crate::module::units::finish_unit;
use crate::module::waits::unix_ms;
use crate::module::{cluster, config, recovery, second_server, server, with};
use std::sync::Arc;

/// Why a log has not begun, and the folder.
pub(super) type NoLog = (String, Rest);

/// Begins a new log in place of what the folder holds, if that may be. It begins with the dataset in memory;
/// `with_what` says how where that is known.
pub(super) fn begin_log(ctx: Ctx<'_>, rest: Rest, with_what: Option<Begin>, if_lost: IfLost) -> Result<(), NoLog> {
    let rest = rest.opened()?;
    let begin = match rest.may_begin(server::has_data(ctx)) {
        Ok(begin) => with_what.unwrap_or(begin),
        Err(reason) => return Err((reason, rest)),
    };
    let known = match Known::ask(ctx) {
        Ok(known) => known,
        Err(reason) => return Err((reason, rest)),
    };
    let rest = rest.give_up(ctx)?;
    let descent = rest.descent().clone();
    let folder = rest.into_folder().map_err(|rest| ("the folder was lost".into(), rest))?;
    match folder.begin(begin, unix_ms()) {
        Ok(writer) if begin == Begin::WaitsForBase => {
            let descent = descent.or_own(writer.generation());
            write(ctx, writer, known, Visible::with_its_base(descent, if_lost))
        }
        Ok(writer) => write(ctx, writer, known, Visible::Yes),
        Err(not_begun) => {
            let NotBegun { folder, error } = *not_begun;
            Err((error.to_string(), Rest::new(folder, descent.origin())))
        }
    }
}

/// What is asked of the server as a log begins.
struct Known {
    commands: Commands,
    clients: Vec<Listed>,
    fields_expire: bool,
}

impl Known {
    fn ask(ctx: Ctx<'_>) -> Result<Known, String> {
        let fields_expire = server::has_expiring_fields(ctx);
        Ok(Known { commands: Commands::ask(ctx)?, clients: server::listed_clients(ctx)?, fields_expire })
    }
}

/// Starts the log's threads.
fn write(ctx: Ctx<'_>, writer: LogWriter<GatedStorage>, known: Known, visible: Visible) -> Result<(), NoLog> {
    let appended = writer.appended();
    let descent = match &visible {
        Visible::WithItsBase { descent, .. } => descent.clone(),
        Visible::Yes => Descent::from(LogState { generation: writer.generation(), end: appended }),
    };
    let release = Release::start(writer).map_err(|error| (error.to_string(), Rest::lost(descent)))?;
    let waits_for_base = matches!(visible, Visible::WithItsBase { .. });
    with(|module| {
        module.capture.clear();
        if known.fields_expire {
            module.capture.fields_expire();
        }
        module.running = Running::default();
        module.batch = Batch::new(appended);
        module.dirty.clear();
        module.take_clients_in(ctx, &known.clients);
        module.server.commands = known.commands;
        if module.paused {
            release.log().pause();
        }
        module.life = Life::Logging(Logging {
            log: Arc::new(release),
            visible,
            base: if waits_for_base { Base::Wanted { not_before: None } } else { Base::Idle },
            asked: Vec::new(),
        });
        if !waits_for_base {
            module.became_visible();
        }
    });
    if waits_for_base {
        log(Level::Notice, "the log is open; writing its base");
        points::reach(Point::LogBegun);
    }
    Ok(())
}

/// The server is about to serve its first client. What the folder holds takes the place of what the server has loaded.
pub(super) fn start(ctx: Ctx<'_>, found: Found) {
    let outcome = role_at_start(ctx).and_then(|role| match role {
        Role::Primary => begin_or_recover(ctx, newest(ctx, found, Role::Primary)?),
        // What such a node has is its dump.
        Role::Replica if ctx.flags().in_cluster() => role::start_as_replica(ctx, found.opened),
        Role::Replica => role::start_as_replica(ctx, newest(ctx, found, Role::Replica)?),
    });
    if let Err(reason) = outcome {
        fatal("the log can't be brought back, and the server does not start without it", &reason);
    }
}

/// The folder, with its log marked as superseded where that is older than what the server has loaded by itself.
///
/// # Errors
/// Nobody knows which of the two is newer.
fn newest(ctx: Ctx<'_>, found: Found, role: Role) -> Result<OpenedFolder, String> {
    let Found { mut opened, own } = found;
    if config::keeps_existing_log() {
        if opened.is_superseded() {
            log(
                Level::Warning,
                "the folder's log is superseded, and brought back all the same, as wbl.on-existing-log is keep: what a primary, or the server by itself, has taken since is not in it. Set wbl.on-existing-log back to refuse",
            );
        }
        opened.reinstate();
        return Ok(opened);
    }
    // A file without data holds nothing that would be missed.
    let newer = opened.left().filter(|_| server::has_data(ctx)).map(|left| own.or_log(left));
    match newer {
        None | Some(Newer::Log) => {}
        // Its primary's data are what counts; the file may be a dump of the primary's, by the primary's clock.
        Some(Newer::Unknown) if role == Role::Replica => {}
        Some(Newer::Unknown) if !config::replaces_existing_log() => {
            return Err(
                "the server's own data file was changed since it went on without the log, but it is older than that by its own time, so that nobody knows which of the two is newer: move that file away or set wbl.on-existing-log to keep to bring the log back, or set it to replace to go on with what the file holds".into(),
            );
        }
        Some(Newer::Unknown | Newer::OwnFile) => {
            opened.supersede().map_err(|error| error.to_string())?;
        }
    }
    Ok(opened)
}

/// Begins a log on a server that is to recover what the folder holds, or has nothing to lose.
pub(super) fn begin_or_recover(ctx: Ctx<'_>, opened: OpenedFolder) -> Result<(), String> {
    if opened.is_empty() || opened.is_superseded() {
        if !opened.is_empty() {
            log(
                Level::Warning,
                "the folder's log was superseded by a primary's dataset, or by what the server saved later: the server's own data stand",
            );
        }
        return begin_log(ctx, Rest::new(opened.into_folder(), Origin::Unknown), None, IfLost::ServesOn)
            .map_err(|(reason, _)| reason);
    }
    with(|module| module.life = Life::Changing);
    if server::has_data(ctx) {
        log(
            Level::Warning,
            "the log's folder holds a state: it takes the place of the data that the server loaded by itself",
        );
    }
    let (opened, skipped) = fold(ctx, opened)?;
    let examined = recovery::examine(ctx, &opened)?;
    // Whether the folder can be written to is found before what it holds is loaded.
    let prepared = opened.prepare(unix_ms()).map_err(|error| error.to_string())?;
    let (source, mut report) = recovery::recover(ctx, recovery::Source::Prepared(Box::new(prepared)), examined)?;
    points::reach(Point::Recovered);
    report.errors += skipped;
    with(|module| module.recovered = Some(report));
    let recovery::Source::Prepared(prepared) = source else { return Err("the recovery's state was lost".into()) };
    let writer = prepared.start().map_err(|error| error.to_string())?;
    write(ctx, writer, Known::ask(ctx)?, Visible::Yes).map_err(|(reason, _)| reason)?;
    if role_at_start(ctx)? == Role::Replica {
        // The role has changed while the log was replayed.
        role::role_changed(ctx, true);
        return Ok(());
    }
    cluster::fit_slots(ctx)?;
    if second_server::is_folding() {
        base::begin_anew(ctx).map_err(|(reason, _)| reason)?;
        drop(end::stop(ctx));
        second_server::leave_skipped(&with(|module| module.folder.clone()).unwrap_or_default(), report.errors)?;
        exit_now(0);
    }
    Ok(())
}

/// A node of a cluster cannot replay commands: has a second server make a base of them. Returns how many it has
/// skipped, too.
fn fold(ctx: Ctx<'_>, opened: OpenedFolder) -> Result<(OpenedFolder, u64), String> {
    if !ctx.flags().in_cluster() || !cluster::has_commands(&opened).map_err(|error| error.to_string())? {
        return Ok((opened, 0));
    }
    // The second server locks the folder.
    drop(opened);
    let folder = with(|module| module.folder.clone()).unwrap_or_default();
    let skipped = second_server::fold(ctx, &folder)?;
    Ok((load::open_folder(load::LOCK_PATIENCE)?, skipped))
}

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
                if let Some(rest) = take_rest(&mut module.life) {
                    module.life = Life::Disabled(rest);
                }
            });
            Ok(())
        }
        (Some(State::Disabled), true) => enable(ctx),
        _ => Ok(()),
    }
}

/// The folder of a state in which nothing is logged; the next state is to be set at once. `None` for other states,
/// which stay as they are.
pub(super) fn take_rest(life: &mut Life) -> Option<Rest> {
    match life.change() {
        Life::Replica(rest) | Life::Disabled(rest) => Some(rest),
        Life::Failing(failing) | Life::GivenUp(failing) => Some(failing.rest),
        other => {
            *life = other;
            None
        }
    }
}

fn enable(ctx: Ctx<'_>) -> Result<(), String> {
    let Some(Some(rest)) = with(|module| take_rest(&mut module.life)) else { return Ok(()) };
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

/// Whether the settings want a log.
pub(super) fn is_enabled() -> bool {
    value(Setting::Enabled) != 0
}
