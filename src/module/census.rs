//! The clients that are there when logging begins (MODULE LOAD, `wbl.enabled yes`, a promotion): what the filter would
//! know of them is asked of the server, and for what it does not say the worst is assumed.

use crate::core::capture::Class;
use crate::core::delayed::Delayed;
use crate::core::output::ReplySize;
use crate::core::table::{self, Blocks};
use crate::ffi::Ctx;
use crate::module::Module;
use crate::module::listed::Listed;
use crate::module::moving::Moving;

impl Module {
    /// Logging begins while clients are doing this.
    pub(super) fn take_clients_in(&mut self, ctx: Ctx<'_>, listed: &[Listed]) {
        self.clients.forget();
        listed.iter().for_each(|client| self.take_in(client));
        self.delayed = Delayed::default();
        if ctx.writes_are_paused() {
            // What a pause has made wait before is unknown.
            let blocked = listed.iter().filter(|client| client.blocked);
            blocked.for_each(|client| self.delayed.note(client.id, true));
        }
        self.moving = Moving::begin(ctx.flags().in_cluster());
    }

    /// What the client has queued was not seen.
    pub(super) fn take_queue_in(&mut self, listed: &Listed) {
        self.clients.insert(listed.id).has_unseen_queue = listed.queued.is_some_and(|queued| queued > 0);
    }

    fn take_in(&mut self, listed: &Listed) {
        let client = self.clients.insert(listed.id);
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
        // The server serves it without an event when its streams change.
        let waits_for_streams = table::find(&listed.command).is_some_and(|row| row.blocks == Blocks::WithOption);
        if listed.blocked && waits_for_streams {
            self.capture.blocked.wait_for_anything(listed.id);
        }
        if listed.blocked && self.server.other_modules {
            self.clients.blocked_by_module(listed.id);
        }
    }
}
