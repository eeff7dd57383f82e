//! Who writes the next base.

use super::base::Source;
use super::visible::Visible;
use crate::ffi::{Ctx, ServerInfo};
use crate::module::config::{self, CheckpointMethod};
use crate::module::{room, server, with};

/// A fork that took this long, in microseconds, held up all clients meanwhile, and the dataset is large.
const SLOW_FORK_US: u64 = 20_000;

/// A second server takes as much memory as the dataset, and this part of it in addition.
const MARGIN_PART: u64 = 4;

/// Who writes a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A forked child.
    Fork,
    /// A second server.
    Process,
}

/// The setting's choice, where the log can be read by another process already, and has all that memory has.
pub(super) fn choose(ctx: Ctx<'_>) -> Method {
    let may_be_other = with(|module| {
        let is_visible = module.life.logging().is_some_and(|logging| matches!(logging.visible, Visible::Yes));
        is_visible && module.bases.source() == Source::Any
    });
    let wants_process = match config::checkpoint_method() {
        CheckpointMethod::Fork => false,
        CheckpointMethod::Process => true,
        CheckpointMethod::Auto => is_better(ctx),
    };
    if wants_process && may_be_other == Some(true) { Method::Process } else { Method::Fork }
}

/// Whether a second server is better than a fork: the last fork was slow, and there is memory for one.
fn is_better(ctx: Ctx<'_>) -> bool {
    // What other modules keep besides the keys may be in no log; and what has failed once may fail again.
    let may = with(|module| !module.server.other_modules && !module.bases.has_failed()) == Some(true);
    let fork_us = || ServerInfo::read(ctx, "stats").and_then(|info| info.unsigned("latest_fork_usec"));
    may && !ctx.flags().in_cluster()
        && fork_us().is_some_and(|fork_us| fork_us >= SLOW_FORK_US)
        && server::dataset_bytes(ctx)
            .zip(room::free_memory())
            .is_some_and(|(dataset, free)| free / (MARGIN_PART + 1) * MARGIN_PART >= dataset)
}
