//! Commands that run as they were sent: what they may change is announced to the capture.

use crate::core::capture::Class;
use crate::core::deadlines::timeout_ms;
use crate::core::leaf::ClientId;
use crate::core::reads::Reads;
use crate::core::table::{CommandSpec, Rule};
use crate::ffi::{Ctx, Filter};
use crate::module::Module;
use crate::module::announce::Verdict;
use crate::module::arguments::{has_arg, key_positions};
use crate::module::server::Known;

impl Module {
    /// Announces a command that runs now, as it was sent. `top` is its client, if it is one that waits for a reply.
    pub(super) fn announce_running(
        &mut self,
        ctx: Ctx<'_>,
        filter: &Filter,
        client: ClientId,
        known: Known,
        top: Option<ClientId>,
    ) -> Verdict {
        let none = std::iter::empty;
        match known.class {
            Class::Opaque => {
                self.capture.command(client, Class::Opaque, None, none());
                if top.is_none() {
                    self.announce_select(ctx, filter);
                } else if let Some(info) = self.info_of(ctx, client) {
                    self.script_db = Some(info.db);
                    self.top_client = client;
                }
                // What another module's command reads, or a script's, is noted while it runs.
                let watch_unit = top.is_some() && !filter.arg(0).eq_ignore_ascii_case(b"select");
                self.opaque_runs |= watch_unit;
                Verdict { wait_first: self.iteration_waits_for, watch_unit, ..Verdict::PASS }
            }
            Class::Write(spec) if spec.rule == Rule::CardinalityCache && filter.len() != 2 => {
                self.capture.command(client, Class::ReadOnly, None, none());
                Verdict::PASS
            }
            Class::Write(spec) => self.announce_write(ctx, filter, client, spec, top),
            class => {
                if known.stream_reader && top.is_some() && has_arg(filter, b"BLOCK") {
                    self.announce_stream_reader(ctx, filter, client);
                }
                self.capture.command(client, class, None, none());
                let watch_unit = known.reads == Reads::Script && top.is_some() && !self.dirty.is_empty();
                if watch_unit {
                    self.top_client = client;
                }
                Verdict { watch_unit, ..Verdict::PASS }
            }
        }
    }

    /// A SELECT of a script or of another module.
    fn announce_select(&mut self, ctx: Ctx<'_>, filter: &Filter) {
        if !filter.arg(0).eq_ignore_ascii_case(b"select") {
            return;
        }
        let db = std::str::from_utf8(filter.arg(1)).ok().and_then(|db| db.parse().ok());
        if let Some(db) = db.filter(|db| ctx.own().select_db(*db)) {
            self.script_db = Some(db);
        }
    }

    fn announce_write(
        &mut self,
        ctx: Ctx<'_>,
        filter: &Filter,
        client: ClientId,
        spec: &'static CommandSpec,
        top: Option<ClientId>,
    ) -> Verdict {
        // COPY and MOVE name another database, so that their events do not tell their own.
        let needs_db = spec.is_silent() || spec.is_wrapped() || spec.rule == Rule::Copy || spec.name == "move";
        let db = if needs_db { self.info_of(ctx, client).map(|info| info.db) } else { None };
        self.capture.command(client, Class::Write(spec), db, (0..filter.len()).map(|index| filter.arg(index)));
        self.note_unknown(ctx, filter, Class::Write(spec));
        if spec.blocks && top.is_some() {
            let args: Vec<&[u8]> = (0..filter.len()).map(|index| filter.arg(index)).collect();
            if let Some(timeout) = timeout_ms(spec.name, &args) {
                self.deadlines.set(client, (ctx.unit_time_us() / 1000).saturating_add(timeout));
            }
        }
        let failing_bitfield = spec.rule == Rule::Bits && has_arg(filter, b"FAIL");
        if !spec.is_silent() && !failing_bitfield {
            return Verdict::PASS;
        }
        // It may change data though no event tells of it.
        if let Some(client) = top {
            self.top_client = client;
        }
        self.capture.unseen(top, ctx.unit_time_us() / 1000);
        self.unit_waits = true;
        Verdict::WATCH
    }

    /// A reader that the server itself will serve, without an event: whatever changes its streams is waited for by the loop.
    fn announce_stream_reader(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId) {
        let Some(info) = self.info_of(ctx, client) else { return };
        for index in key_positions(ctx, filter, Reads::Movable) {
            self.blocked_readers.add(client, (info.db, filter.arg(index).into()));
        }
    }
}
