//! How a base begins: its file is created, and then a child forked, or a second server started, that writes it.

use super::super::base::{Base, Child, Created, Creating, Process};
use super::super::installed::{ended, reported};
use super::super::method::{self, Method};
use super::{WRITTEN, save, take_base};
use crate::ffi::{Ctx, Level, descriptor_path, fork_child, log};
use crate::log::{LogError, NewBase};
use crate::module::gate::GatedFile;
use crate::module::points::{self, Point};
use crate::module::release::Release;
use crate::module::units::finish_unit;
use crate::module::{Module, second_server, server, with};
use std::io::{PipeWriter, Write};
use std::sync::Arc;

/// Begins the base that is wanted, unless another child runs: has its file created, and when that is there and a point
/// between units has come, the child forked that writes it.
pub(in crate::module::life) fn start(ctx: Ctx<'_>) {
    if ctx.flags().has_active_child() {
        return;
    }
    if let Some(Some(error)) = with(create_file) {
        ended(Err(error.to_string()));
    }
    if with(|module| module.life.logging().is_some_and(|logging| matches!(logging.base, Base::Created(_))))
        != Some(true)
    {
        // The thread that creates it will wake the event loop.
        return;
    }
    finish_unit(ctx);
    with(Module::hand_over);
    let created = take_base(|base| match base {
        Base::Created(created) => Ok(created),
        other => Err(other),
    });
    if let Some((created, release)) = created {
        begin(ctx, created, &release);
    }
}

/// The log has outgrown its base: begins a new one, as WBL.CHECKPOINT does, unless another child runs.
pub(in crate::module::life) fn start_by_itself(ctx: Ctx<'_>) {
    if ctx.flags().has_active_child() {
        return;
    }
    with(|module| {
        let Some(logging) = module.life.logging_mut() else { return };
        logging.base = Base::Wanted;
        let statistics = logging.log.log().statistics();
        let (log_bytes, base_bytes) = (statistics.bytes_since_base(), statistics.base_bytes());
        log(
            Level::Notice,
            &format!("{log_bytes} bytes were logged since the base of {base_bytes} bytes: a new one begins"),
        );
    });
    start(ctx);
}

/// Has the file of the base created that is wanted, if it is time for that.
fn create_file(module: &mut Module) -> Option<LogError> {
    let logging = module.life.logging_mut().filter(|logging| matches!(logging.base, Base::Wanted))?;
    if !logging.may_retry(&module.bases) {
        return None;
    }
    let (on_done, file) = reported();
    match logging.log.log().create_base_file(Box::new(on_done)) {
        Ok(name) => logging.base = Base::Creating(Creating { name, file }),
        Err(error) => return Some(error),
    }
    None
}

/// Has the base written to its file.
fn begin(ctx: Ctx<'_>, created: Created, release: &Arc<Release>) {
    let name = created.name.clone();
    let begun = match method::choose(ctx) {
        Method::Fork => fork(ctx, created, release).map(Base::Child),
        Method::Process => start_process(ctx, created, release).map(Base::Process),
    };
    match begun {
        Ok(base) => {
            let memory = server::dataset_bytes(ctx);
            with(|module| {
                module.bases.relief.begin(release.log(), memory);
                if let Some(logging) = module.life.logging_mut() {
                    logging.base = base;
                }
            });
        }
        Err(reason) => {
            release.log().remove_base_file(name);
            ended(Err(reason));
        }
    }
}

fn start_process(ctx: Ctx<'_>, created: Created, release: &Arc<Release>) -> Result<Process, String> {
    let folder = with(|module| module.folder.clone()).unwrap_or_default();
    let (lsn, outcome) = second_server::write_base(ctx, &folder, release, &created.name)?;
    log(Level::Notice, "a second server writes a new base");
    Ok(Process { base: NewBase { name: created.name, lsn }, outcome })
}

fn fork(ctx: Ctx<'_>, created: Created, release: &Release) -> Result<Child, String> {
    let Created { name, file } = created;
    points::reach(Point::BaseFork);
    let (report, to_parent) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    let pid = fork_child(|| write_in_child(ctx, &file, to_parent));
    let pid = pid.ok_or_else(|| "the server could not fork a child".to_string())?;
    points::forked();
    // Nothing has happened since the fork, so this is where the child's dataset ends.
    Ok(Child { pid, base: NewBase { name, lsn: release.log().cut() }, report })
}

/// The child's work; returns its exit status.
fn write_in_child(ctx: Ctx<'_>, file: &GatedFile, mut to_parent: PipeWriter) -> i32 {
    points::reach(Point::BaseChild);
    let saved = save(ctx, &descriptor_path(file));
    points::reach(Point::BaseChildWritten);
    let report = saved.as_ref().map_or_else(String::as_str, |()| WRITTEN);
    // If the parent has gone, it needs neither this nor the file.
    i32::from(to_parent.write_all(report.as_bytes()).is_err() || saved.is_err())
}
