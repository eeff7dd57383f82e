//! The clients that are there when logging begins (MODULE LOAD, `wbl.enabled yes`, a promotion): what the filter would
//! know of them is asked of the server, and for what it does not say the worst is assumed.
//!
//! A command that a pause delays has passed the filter before, and the server runs it without the filter when the pause
//! ends: nothing would announce it. So a log begins with a [`Census`] only, and no client of that has such a command.

use crate::core::capture::Class;
use crate::core::delayed::Delayed;
use crate::core::output::ReplySize;
use crate::core::table::{self, Blocks};
use crate::ffi::{Ctx, Level, log};
use crate::module::Module;
use crate::module::listed::{self, Listed};
use crate::module::moving::Moving;

/// The connected clients, none of which has a command that has passed the filter and has yet to run.
pub(super) struct Census(Vec<Listed>);

impl Census {
    /// Disconnects those that have one. Nothing of it has run, so that nobody has been shown anything.
    ///
    /// # Errors
    /// One is still there, or the server does not say.
    pub(super) fn take(ctx: Ctx<'_>) -> Result<Census, String> {
        // Asked first: if a pause is over, that ends it, and those that it has delayed are about to run.
        let is_paused = ctx.writes_are_paused();
        let listed = listed::clients(ctx)?;
        let delayed: Vec<u64> =
            listed.iter().filter(|client| is_delayed(client, is_paused)).map(|client| client.id).collect();
        if delayed.is_empty() {
            return Ok(Census(listed));
        }
        listed::kill(ctx, &delayed);
        let left = listed::clients(ctx)?;
        // The client whose command this is, which the server does not disconnect, waits with no other.
        if let Some(client) = left.iter().find(|client| client.blocked && is_delayed(client, is_paused)) {
            return Err(format!("client {} waits with a command that came before the log, and stays", client.id));
        }
        let count = delayed.len();
        log(
            Level::Notice,
            &format!(
                "disconnected {count} clients: the log begins, and would not see the commands that they wait with (docs/limits.md)"
            ),
        );
        Ok(Census(left))
    }

    /// The same on a replica, which logs what its primary sends.
    ///
    /// # Errors
    /// The server does not say.
    pub(super) fn of_replica(ctx: Ctx<'_>) -> Result<Census, String> {
        listed::clients(ctx).map(Census)
    }
}

/// Whether a client may wait with a command that will run without the filter. Unless writes are paused it waits in a
/// blocking command. In a pause the server does not show in what it waits.
fn is_delayed(client: &Listed, is_paused: bool) -> bool {
    !client.is_special && (client.resumes || is_paused && client.blocked)
}

impl Module {
    /// Logging begins while clients are doing this.
    pub(super) fn take_clients_in(&mut self, ctx: Ctx<'_>, census: &Census) {
        self.clients.forget();
        census.0.iter().for_each(|client| self.take_in(client));
        self.delayed = Delayed::default();
        self.moving = Moving::begin(ctx.flags().in_cluster());
    }

    /// What the client has queued was not seen.
    pub(super) fn take_queue_in(&mut self, listed: &Listed) {
        self.clients.insert(listed.id).has_unseen_queue = listed.queued.is_some_and(|queued| queued > 0);
    }

    fn take_in(&mut self, listed: &Listed) {
        let client = self.clients.insert(listed.id);
        client.may_be_subscribed = listed.subscribed;
        // CLIENT LIST does not show CLIENT REPLY.
        client.mutes = true;
        if listed.watches {
            client.transaction.watch_anything();
        }
        if listed.tracks {
            self.clients.may_track(listed.id, true);
        }
        self.take_queue_in(listed);
        if listed.queued.is_some() {
            self.capture.command(listed.id, Class::Multi, None, std::iter::empty());
            self.clients.replies(listed.id, ReplySize::Multi);
        }
        if !listed.blocked {
            return;
        }
        // The server serves it without an event when its streams change.
        if table::find(&listed.command).is_some_and(|row| row.blocks == Blocks::WithOption) {
            self.capture.blocked.wait_for_anything(listed.id);
        } else {
            self.capture.blocked.has_waited(listed.id);
        }
        if self.server.other_modules {
            self.clients.blocked_by_module(listed.id);
        }
    }
}
