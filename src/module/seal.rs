//! Writes that the module runs for a client: what the capture gets before and after.

use crate::core::leaf::Told;
use crate::core::pending::GroupChange;
use crate::core::table::{CommandSpec, Keys, Rule};
use crate::ffi::{Ctx, Reply, ReplyKind};
use crate::module::{Module, streams, with};
use std::sync::Arc;

/// Shows the capture what the command did; `unseen` where it is known to have changed data without an event.
pub(super) fn seal(ctx: Ctx<'_>, spec: &CommandSpec, command: &[&[u8]], reply: Option<&Reply<'_>>, unseen: bool) {
    let changed = reply.is_some_and(|reply| match reply.kind() {
        ReplyKind::Error | ReplyKind::Null | ReplyKind::Promise => false,
        ReplyKind::Integer if spec.rule == Rule::Silent => reply.integer() > 0,
        _ => true,
    });
    let told = reply.and_then(|reply| match spec.rule {
        Rule::RandomPop => Some(Told::Members(members(reply))),
        Rule::Pending(pending) if reply.kind() != ReplyKind::Error => {
            let created = with(|module| module.capture.wrapped_has_events()) == Some(true);
            streams::changes(ctx, pending, command, reply, created).map(Told::Groups)
        }
        _ => None,
    });
    // A reply that names no entry, of a command that made no consumer, shows that nothing was changed.
    let changed = changed && !matches!(&told, Some(Told::Groups(groups)) if groups.iter().all(GroupChange::is_nothing));
    let now_ms = ctx.unit_time_us() / 1000;
    with(|module| {
        let changed = module.capture.wrapped_done(unseen || changed && spec.is_silent(), told, now_ms);
        if let Some(wrapped) = module.running.wrapped() {
            wrapped.changed |= changed;
        }
    });
}

/// What SPOP popped: one member, or many.
fn members(reply: &Reply<'_>) -> Vec<Vec<u8>> {
    match reply.kind() {
        ReplyKind::Array => (0..reply.len()).filter_map(|index| Some(reply.element(index)?.bytes().to_vec())).collect(),
        ReplyKind::String => vec![reply.bytes().to_vec()],
        _ => Vec::new(),
    }
}

impl Module {
    /// The module is about to run a write of this client's.
    pub(super) fn announce_wrapped(
        &mut self,
        ctx: Ctx<'_>,
        client: u64,
        spec: &'static CommandSpec,
        db: u32,
        command: &[&[u8]],
    ) {
        self.capture.wrapped(client, spec, db, command.iter().copied());
        if spec.keys == Keys::AfterStreams {
            let keys = ctx.command_keys(command.iter().copied());
            let keys = keys.into_iter().filter_map(|index| command.get(index).map(|key| Arc::from(*key)));
            self.capture.told_keys(keys.collect());
        }
    }
}
