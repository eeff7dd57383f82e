//! Bases: the RDB files that the log continues, and checkpoints, which write new ones.

use crate::ffi::{
    ChildResult, Ctx, Held, Level, LoadingPhase, descriptor_path, exit_now, fork_child, kill_child, log, save_rdb,
    wake_event_loop,
};
use crate::log::{LogError, NewBase};
use crate::module::points::{self, Point};
use crate::module::release::Waiting;
use crate::module::units::finish_unit;
use crate::module::{Module, State, with};
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use std::time::{Duration, Instant};

/// After a base failed, the next try waits this long.
const BASE_RETRY: Duration = Duration::from_secs(1);

/// The base that is being written, and who waits for it.
#[derive(Default)]
pub(crate) struct Baseline {
    pub(super) wanted: bool,
    pub(super) not_before: Option<Instant>,
    pub(super) child: Option<Child>,
    pub(super) install: Option<Receiver<Result<(), LogError>>>,
    /// The dataset was replaced from outside; what was captured meanwhile is void.
    pub(super) dataset_replaced: bool,
    /// Its loading has ended: the next base is written at once.
    pub(super) needs_base_now: bool,
    /// Bases written since the module was loaded.
    pub(super) done: u64,
    /// Whether the last one succeeded.
    pub(super) last_ok: bool,
    pub(super) waiting_for_checkpoint: Vec<Held>,
    pub(super) waiting_for_active: Vec<Waiting>,
}

pub(super) struct Child {
    pub(super) pid: i32,
    pub(super) base: NewBase,
}

impl Baseline {
    pub(super) fn is_running(&self) -> bool {
        self.wanted || self.child.is_some() || self.install.is_some()
    }
}

/// The whole dataset is being replaced from outside.
pub fn dataset_loading(_ctx: Ctx<'_>, phase: LoadingPhase) {
    with(|module| {
        if !module.state.logs() {
            return;
        }
        match phase {
            LoadingPhase::Started => module.baseline.dataset_replaced = true,
            LoadingPhase::Ended | LoadingPhase::Failed => {
                // What the log holds is not what is in memory now; `before_sleep` mends that before any reply leaves.
                module.capture.clear();
                module.baseline.needs_base_now = true;
            }
        }
    });
}

impl Module {
    /// What changed can't be logged: has a new base written before any reply leaves.
    pub(super) fn request_base_now(&mut self) {
        self.baseline.needs_base_now = true;
    }
}

/// Asks for a new base; `false` when one is being written.
pub fn request_checkpoint() -> bool {
    with(|module| !module.baseline.is_running() && !std::mem::replace(&mut module.baseline.wanted, true)) == Some(true)
}

/// The dataset was replaced from outside (DEBUG RELOAD and kin): no unit tells how, so a new base is written on the main thread, before any
/// reply on the new dataset leaves. It takes as long as the loading that went before.
pub(super) fn replace_base(ctx: Ctx<'_>) {
    let Some((log_open, child)) = with(|module| {
        module.baseline.needs_base_now = false;
        module.baseline.dataset_replaced = false;
        module.hand_over();
        (module.log.clone(), module.baseline.child.take())
    }) else {
        return;
    };
    if let Some(child) = child {
        // What it saves is the dataset before.
        kill_child(child.pid);
        log_open.iter().for_each(|log_open| log_open.log().remove_base_file(child.base.name.clone()));
    }
    let Some(log_open) = log_open else { return };
    let written = log_open.log().new_base_file().map_err(|error| error.to_string());
    let installed = written.and_then(|(name, file)| {
        let lsn = log_open.log().cut();
        if !save_rdb(ctx, &descriptor_path(&file)) {
            log_open.log().remove_base_file(name);
            return Err("the server could not save its dataset".into());
        }
        let (done, outcome) = bounded(1);
        log_open.log().install_base(NewBase { name, lsn }, answer_to(done));
        match outcome.recv() {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err("the log was closed".into()),
        }
    });
    if let Err(reason) = installed {
        log(
            Level::Warning,
            &format!("the replaced dataset can't be logged: {reason}. Exiting, as nothing could be acknowledged."),
        );
        exit_now(1);
    }
    with(|module| {
        module.baseline.install = None;
        module.baseline.wanted = false;
    });
    base_ended(Ok(()));
}

/// Forks the child that writes the base, at a point between units.
pub(super) fn start_base(ctx: Ctx<'_>) {
    let due = with(|module| {
        let baseline = &module.baseline;
        baseline.wanted
            && baseline.child.is_none()
            && baseline.install.is_none()
            && !baseline.dataset_replaced
            && baseline.not_before.is_none_or(|at| Instant::now() >= at)
            && module.log.is_some()
    });
    if due != Some(true) || ctx.flags().has_active_child() {
        return;
    }
    finish_unit(ctx);
    let Some(Some(log_open)) = with(|module| {
        module.hand_over();
        module.log.clone()
    }) else {
        return;
    };
    let (name, file) = match log_open.log().new_base_file() {
        Ok(created) => created,
        Err(error) => {
            log(Level::Warning, &format!("the base can't be begun: {error}"));
            with(|module| module.baseline.not_before = Some(Instant::now() + BASE_RETRY));
            return;
        }
    };
    let path = descriptor_path(&file);
    let base = NewBase { name, lsn: log_open.log().cut() };
    points::reach(Point::BaseFork);
    let pid = fork_child(|| {
        points::reach(Point::BaseChild);
        let saved = save_rdb(ctx, &path);
        points::reach(Point::BaseChildWritten);
        i32::from(!saved)
    });
    with(|module| match pid {
        Some(pid) => {
            module.baseline.wanted = false;
            module.baseline.child = Some(Child { pid, base });
        }
        None => {
            log_open.log().remove_base_file(base.name);
            module.baseline.not_before = Some(Instant::now() + BASE_RETRY);
        }
    });
}

/// Sends what became of a base to whoever looks for it.
fn answer_to(done: Sender<Result<(), LogError>>) -> Box<dyn FnOnce(Result<(), LogError>) + Send> {
    Box::new(move |outcome| {
        // Nobody looks after a newer base has taken its place.
        let _ = done.send(outcome);
        wake_event_loop();
    })
}

/// The child that writes the base has ended.
pub fn child_done(_ctx: Ctx<'_>, result: ChildResult) {
    let failed = with(|module| {
        let child = module.baseline.child.take()?;
        let log_open = module.log.clone()?;
        if result == ChildResult::Exited(0) {
            points::reach(Point::BaseWritten);
            let (done, outcome) = bounded(1);
            log_open.log().install_base(child.base, answer_to(done));
            module.baseline.install = Some(outcome);
            return None;
        }
        log_open.log().remove_base_file(child.base.name);
        Some(())
    });
    if let Some(Some(())) = failed {
        base_ended(Err(format!("the child that writes the base failed: {result:?}")));
    }
}

/// Looks whether the writer thread has put the base in place.
pub(super) fn poll_install() {
    let outcome = with(|module| match module.baseline.install.as_ref().map(Receiver::try_recv) {
        None | Some(Err(TryRecvError::Empty)) => None,
        Some(Ok(outcome)) => Some(outcome.map_err(|error| error.to_string())),
        Some(Err(TryRecvError::Disconnected)) => Some(Err("the log was closed".into())),
    });
    if let Some(Some(outcome)) = outcome {
        with(|module| module.baseline.install = None);
        base_ended(outcome);
    }
}

fn base_ended(outcome: Result<(), String>) {
    let ok = outcome.is_ok();
    if ok {
        points::reach(Point::BaseInstalled);
    }
    let Some((becomes_active, waiting)) = with(|module| {
        let baseline = &mut module.baseline;
        baseline.last_ok = ok;
        baseline.done += u64::from(ok);
        let first = module.state == State::Baselining;
        if !ok && first {
            baseline.wanted = true;
            baseline.not_before = Some(Instant::now() + BASE_RETRY);
        }
        if ok && first {
            module.state = State::Active;
        }
        (ok && first, std::mem::take(&mut module.baseline.waiting_for_checkpoint))
    }) else {
        return;
    };
    match outcome {
        Ok(()) => log(Level::Notice, "a new base is in place; the log before it is removed"),
        Err(reason) => log(Level::Warning, &format!("no new base: {reason}")),
    }
    if becomes_active {
        log(Level::Notice, "the log is active: replies wait for the disk");
        became_active();
    }
    waiting.into_iter().for_each(Held::release);
}

/// Those who waited for the log to become active now wait for their position.
pub(super) fn became_active() {
    with(|module| {
        module.hand_over();
        let Some(log_open) = module.log.clone() else { return };
        let appended = module.appended();
        for waiting in std::mem::take(&mut module.baseline.waiting_for_active) {
            log_open.wait(appended, waiting);
        }
    });
}
