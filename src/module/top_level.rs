//! A command that a connected client wants to have run now, at top level: how its reply is kept until what it shows is
//! durable, and what it changes for others if it runs.

use crate::core::ack::{Command, Hold, Kind, Moment, Reason, decide};
use crate::core::capture::Class;
use crate::core::client::Transaction;
use crate::core::execution::{IfRun, What};
use crate::core::leaf::ClientId;
use crate::core::reads::{ReadSet, Reads};
use crate::core::table::{CommandSpec, Quirk};
use crate::ffi::{ClientInfo, Ctx, Filter};
use crate::log::Lsn;
use crate::module::arguments::add_reads;
use crate::module::facts::{Asked, kind_of};
use crate::module::known::Known;
use crate::module::verdict::{Rewrite, Verdict};
use crate::module::{Module, refusal, server, wrappers};

impl Module {
    /// A command that a connected client wants to have run now.
    pub(super) fn announce_top(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId, known: Known) -> Verdict {
        self.note_delayed(ctx, client, known, known.runs_others() || known.reads == Reads::Script);
        let waits_anyway = self.waits_anyway(ctx, client, known);
        let (info, shown) = if waits_anyway { (None, None) } else { self.shown_at_top(ctx, filter, known) };
        let asked = self.clients.get_mut(client).is_some_and(|client| std::mem::take(&mut client.asking));
        let kind = self.kind_at_top(ctx, filter, known, (info, shown));
        let command = Command { kind, shows_change: shown.is_some() };
        let mut facts = Asked::new(self, ctx, client).in_filter(filter, asked, info);
        let hold = decide(Moment::Announced(command), &mut facts);
        let may_write = known.writes || matches!(kind, Kind::Script { writes: true });
        let is_refused = self.disk_fails() && self.would_need_disk(ctx, client, known, kind, hold)
            || may_write && hold != Hold::Refused && self.has_no_room_for(filter, known);
        if is_refused {
            self.announce_nothing(client);
            return Verdict::rewrite(Rewrite::Wrap(refusal::REFUSED));
        }
        match hold {
            Hold::ThroughModule(wrapper) => {
                if matches!(kind, Kind::Script { .. }) && self.running.pipelines == Some(true) {
                    self.iteration.waits.puts_script_off();
                }
                self.announce_nothing(client);
                return Verdict::rewrite(Rewrite::Wrap(wrappers::name_of(wrapper)));
            }
            Hold::Refused => return self.announce_nothing(client),
            Hold::AtIterationEnd(reason) | Hold::AtUnitEnd(reason) => {
                if let (Kind::Script { .. }, Reason::Pipelining) = (kind, reason) {
                    self.iteration.waits.runs_script_of(client);
                }
                self.running.as_sent = Some(reason);
            }
            Hold::Nothing | Hold::InEvent | Hold::Disconnect => {}
        }
        let ends_wait = self.note_unblock(ctx, filter, known);
        if known.row.quirk == Quirk::Publishes {
            // Its message comes after the replies that wait, and must not leave before them.
            self.shows_others(self.iteration.waits.newest());
        }
        match (known.row.quirk, self.clients.get_mut(client)) {
            (Quirk::Asks, Some(client)) => client.asking = true,
            (Quirk::DebugsScripts, Some(client)) => client.debugs_scripts = true,
            _ => {}
        }
        let mut reads = ends_wait | self.note_read(shown, self.running.as_sent.unwrap_or(Reason::Failure));
        if known.row.quirk == Quirk::MovesSlots && ctx.flags().in_cluster() {
            // Whoever is sent elsewhere afterwards is shown that the slot's keys have gone from here.
            reads |= self.note_read(self.dirty.any_change(), Reason::SlotMoves);
        }
        if self.server.makes_room {
            let mut shows = ReadSet::default();
            add_reads(&mut shows, ctx, filter, known);
            self.running.shows = Some(Box::new(Transaction::of_one(shows)));
        }
        if waits_anyway {
            self.running.what = What::Command(IfRun::WaitsAnyway);
        }
        let verdict = self.announce_running(ctx, filter, client, known, Some(client));
        self.announce_quirk(ctx, known.row);
        Verdict { watch_unit: verdict.watch_unit || reads, ..verdict }
    }

    /// Which kind of command it is for the rule. Also takes what the client is known to be and the newest change, not
    /// durable yet, that the reply would show.
    fn kind_at_top(
        &mut self,
        ctx: Ctx<'_>,
        filter: &Filter,
        known: Known,
        (info, shown): (Option<ClientInfo>, Option<Lsn>),
    ) -> Kind {
        let mut kind = kind_of(filter, known, shown.is_some());
        if let (true, Kind::Write { is_effective, .. }) = (self.disk_fails(), &mut kind) {
            // The loop could not wait with its error.
            *is_effective = false;
        }
        if let (Kind::Read, Some(_), Some(info)) = (kind, shown, info) {
            let args = (0..filter.len()).map(|index| filter.arg(index));
            let at = (info.db, ctx.unit_time_us() / 1000);
            if self.is_answered_by_durable(filter.client_id(), known.row, at, args) {
                return Kind::DurableRead;
            }
        }
        kind
    }

    /// What the command changes for others, if it runs.
    fn announce_quirk(&mut self, ctx: Ctx<'_>, spec: &'static CommandSpec) {
        let runs_before = match spec.quirk {
            Quirk::MovesSlots | Quirk::ChangesRights | Quirk::Pauses | Quirk::ChangesUnseen => {
                server::successes_of(ctx, spec.name)
            }
            // The server is asked what has become of it.
            Quirk::Tracks => None,
            _ => return,
        };
        self.running.what = What::Command(IfRun::Quirk { quirk: spec.quirk, name: spec.name, runs_before });
    }

    /// The server refuses the command, or has the module run it.
    pub(super) fn announce_nothing(&mut self, client: ClientId) -> Verdict {
        self.capture.command(client, Class::ReadOnly, None, std::iter::empty());
        Verdict::PASS
    }

    /// A CLIENT PAUSE may make the command wait, which has passed the filter then. `runs_others`: it may run long.
    pub(super) fn note_delayed(&mut self, ctx: Ctx<'_>, client: ClientId, known: Known, runs_others: bool) {
        let harmless = known.class == Class::ReadOnly && known.reads == Reads::Nothing;
        if harmless && self.capture.blocked.is_empty() {
            return;
        }
        if self.sees_pause(ctx) && !harmless {
            self.delayed.note(client, runs_others, self.appended());
        }
    }

    /// Whether a pause of writes is on: CLIENT PAUSE, a failover, a slot that moves. It may delay readers, too.
    pub(super) fn sees_pause(&mut self, ctx: Ctx<'_>) -> bool {
        let is_paused = ctx.writes_are_paused();
        if is_paused {
            self.note_delayed_readers();
        }
        is_paused
    }

    /// A pause is on, or begins: clients that wait may have to wait for its end, too, when they are served.
    pub(super) fn note_delayed_readers(&mut self) {
        self.delayed.note_readers(self.capture.blocked.clients_of_server());
    }
}
