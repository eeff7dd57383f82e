//! Transactions: what a client queues and watches, and its EXEC.

use crate::core::ack::{Command, Hold, Kind, Moment, decide};
use crate::core::capture::Class;
use crate::core::client::{Client, Transaction};
use crate::core::execution::{Exec, IfRun, What};
use crate::core::leaf::ClientId;
use crate::core::quirk::Quirks;
use crate::core::table::{self, Quirk};
use crate::ffi::{Ctx, Filter, watch_results};
use crate::module::arguments::add_reads;
use crate::module::facts::Asked;
use crate::module::known::Known;
use crate::module::questions::keeps_expired;
use crate::module::server::Reports;
use crate::module::verdict::{LetsOut, Rewrite, Verdict};
use crate::module::{Module, listed, server};

impl Module {
    /// Whether what this client sends is queued. If it may be, the server is asked; a yes holds until the client sends
    /// something that may end the queue. Nothing is kept of a queue that has ended.
    pub(super) fn is_queueing(&mut self, ctx: Ctx<'_>, client: ClientId) -> bool {
        if !self.capture.is_queueing(client) {
            return false;
        }
        // Another module's filter may make any command one that ends it.
        if self.capture.proved_queueing(client).is_some() && !self.server.other_modules {
            return true;
        }
        let info = self.info_of(ctx, client);
        let queueing = info.is_some_and(|info| info.in_multi);
        if info.is_some_and(|info| listed::waits(info, &self.delayed, ctx, client)) {
            // What it has sent last may begin or end a queue yet: a pause makes it wait.
            return queueing;
        }
        self.capture.prove_queueing(client, info.filter(|info| info.in_multi).map(|info| info.db));
        if queueing {
            self.look_from_now_on(client);
        } else {
            self.capture.not_queueing(client);
            self.clients.get_mut(client).into_iter().for_each(Client::drop_queue);
        }
        queueing
    }

    /// A command that begins or ends what its client queues or watches, if the server accepts it.
    pub(super) fn announce_bounds(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId, known: Known) -> Verdict {
        self.note_bounds(ctx, filter, client, known);
        self.capture.prove_queueing(client, None);
        let may_unwatch = known.class != Class::Multi;
        self.running.what = What::Command(IfRun::Transaction { may_unwatch });
        Verdict::PASS
    }

    /// The same, of which the server is asked later. What may have begun counts as begun, and what may have ended does
    /// not count as ended: to queue or to watch more than the server knows of only makes an EXEC wait.
    pub(super) fn note_bounds(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId, known: Known) {
        let is_queueing = self.is_queueing(ctx, client);
        let begins = known.class == Class::Multi && !is_queueing;
        let class = if begins { Class::Multi } else { Class::ReadOnly };
        self.capture.command(client, class, None, std::iter::empty());
        if known.class != Class::Watch || is_queueing || known.refuses(filter.len()) {
            return;
        }
        let db = self.info_of(ctx, client).map(|info| info.db);
        if let (Some(db), Some(record)) = (db, self.clients.get_mut(client)) {
            (1..filter.len()).for_each(|index| record.transaction.watch((db, filter.arg(index).into())));
        }
    }

    /// Such a command has run, or was refused, or waits for the end of a pause: what the client queues and watches is
    /// what the server says.
    pub(super) fn settle_transaction(&mut self, ctx: Ctx<'_>, client: ClientId, may_unwatch: bool) {
        self.is_queueing(ctx, client);
        if !may_unwatch || !self.clients.get(client).is_some_and(|record| record.transaction.may_watch()) {
            return;
        }
        let watches = self.is_blocked(ctx, client) || listed::watches_keys(ctx, client);
        let Some(record) = self.clients.get_mut(client) else { return };
        if !watches {
            record.transaction.unwatch();
        } else if record.transaction.newest_watched(&self.dirty).is_some() {
            // Its EXEC will be one after that change: nobody may read what was before, and act on it.
            self.versions.tell();
        }
    }

    pub(super) fn announce_exec(&mut self, ctx: Ctx<'_>, client: ClientId) -> Verdict {
        self.stop_stepping(ctx);
        let runs_others = self.clients.get(client).is_some_and(|record| record.transaction.queued.runs_commands());
        self.note_delayed(ctx, client, Known::UNKNOWN, runs_others);
        if !self.is_queueing(ctx, client) {
            // The server refuses it, and may go on watching.
            self.capture.command(client, Class::ReadOnly, None, std::iter::empty());
            self.running.what = What::Command(IfRun::Transaction { may_unwatch: true });
            return Verdict::PASS;
        }
        let proved = self.capture.proved_queueing(client);
        self.capture.prove_queueing(client, None);
        let Some(record) = self.clients.get_mut(client) else { return Verdict::PASS };
        if std::mem::take(&mut record.has_unseen_queue) || self.refuses_exec(ctx, client) {
            let record = self.clients.get_mut(client);
            record.into_iter().for_each(|record| {
                (record.transaction, record.queued_quirks) = (Transaction::default(), Quirks::default());
            });
            return Verdict::rewrite(Rewrite::Refuse);
        }
        self.drop_refused_queue(ctx, client);
        let Some(record) = self.clients.get_mut(client) else { return Verdict::PASS };
        // Calls at the end of such a unit would end the pause before it begins, which the server asserts against.
        let mut exec = Exec { ends_late: record.queued_quirks.have(Quirk::Pauses), ..Exec::default() };
        let db = proved.or_else(|| self.info_of(ctx, client).map(|info| info.db)).unwrap_or_default();
        self.capture.command(client, Class::Exec, Some(db), std::iter::empty());
        let Some(record) = self.clients.get_mut(client) else { return Verdict::PASS };
        let (quirks, debugs_scripts) = (std::mem::take(&mut record.queued_quirks), record.debugs_scripts);
        let shows = std::mem::take(&mut record.transaction);
        self.will_run(ctx, quirks, client);
        let (mut shown, runs_others) = (shows.newest_change(db, &self.dirty), shows.queued.runs_commands());
        if self.server.makes_room {
            self.running.shows = Some(Box::new(shows));
        }
        if quirks.have(Quirk::Unblocks) && !self.capture.blocked.is_empty() {
            // Whose wait it ends gets an answer that depends on keys which that waited for.
            let change = self.dirty.any_change();
            shown = shown.max(change);
            self.shows_others(change);
        }
        let needs_no_keys = quirks.have(Quirk::NeedsNoKeys);
        if needs_no_keys {
            self.shows_others(self.dirty.any_change());
        }
        let lets_out = self.lets_out_by_exec(runs_others || needs_no_keys, debugs_scripts || needs_no_keys);
        let command = Command { kind: Kind::Exec, shows_change: shown.is_some() };
        if let Hold::AtIterationEnd(reason) = decide(Moment::Announced(command), &mut Asked::new(self, ctx, client)) {
            self.note_read(shown, reason);
        }
        let reads = self.undurable(shown).is_some() || runs_others && !self.dirty.is_empty();
        exec.unseen = self.capture_exec(ctx, client);
        let watch_unit = reads || exec.unseen.is_some();
        self.running.what = What::Exec(exec);
        Verdict { lets_out, watch_unit, ..Verdict::PASS }
    }

    /// Forgets the commands of an EXEC that the server refuses: they neither run nor show anything. The server is asked
    /// where others would wait for what they do or show, or where no event would tell that they have not run.
    fn drop_refused_queue(&mut self, ctx: Ctx<'_>, client: ClientId) {
        let Some(record) = self.clients.get(client) else { return };
        // Another module may have had commands pass the filter twice.
        let concerns_others = !self.server.other_modules
            && (record.transaction.queued.runs_commands() || record.queued_quirks.concern_others());
        if !concerns_others && !self.capture.has_silent(client) || !self.keeps_less(ctx, client) {
            return;
        }
        self.capture.refuse_queue(client);
        if let Some(record) = self.clients.get_mut(client) {
            record.transaction.queued.refuse();
            record.queued_quirks = Quirks::default();
        }
    }

    /// What its commands do is captured from now on. Returns how often the server had run an EXEC before, if no event
    /// reports all of that.
    fn capture_exec(&mut self, ctx: Ctx<'_>, client: ClientId) -> Option<Option<u64>> {
        // Where it has no writes, what its scripts do is seen as that of any script.
        let shows_all = self.capture.shows_all(client);
        if !self.capture.has_queued_writes(client) || !shows_all && self.watch_results(ctx) {
            self.capture.exec_stepwise(client);
            return None;
        }
        let keeps = keeps_expired(ctx, self.server.imports);
        let is_unseen = self.capture.exec(client, || server::error_replies(ctx), keeps, ctx.unit_time_us() / 1000);
        is_unseen.then(|| server::runs_of(ctx, table::EXEC))
    }

    /// Whether there is no room for what it may write, the disk fails that its reply would need, or that could leave
    /// before what it does is logged.
    fn refuses_exec(&mut self, ctx: Ctx<'_>, client: ClientId) -> bool {
        let may_write = |module: &Module| {
            let record = module.clients.get(client);
            let runs_others = record.is_some_and(|record| record.transaction.queued.runs_commands());
            runs_others || module.capture.has_queued_writes(client)
        };
        let ends_late = self.clients.get(client).is_some_and(|record| record.queued_quirks.have(Quirk::Pauses));
        self.disk_fails() && self.exec_would_need_disk(ctx, client)
            || may_write(self) && self.has_no_room(0)
            || ends_late && decide(Moment::EndsLate, &mut Asked::new(self, ctx, client)) == Hold::Refused
    }

    /// What it may let out, as only its queueing passes the filter: whatever it runs is waited for before it.
    fn lets_out_by_exec(&self, runs_others: bool, debugs_scripts: bool) -> LetsOut {
        match () {
            () if !runs_others => LetsOut::Nothing,
            // The debugger of scripts sends what is written.
            () if self.server.other_modules || debugs_scripts => LetsOut::All,
            () => LetsOut::Others,
        }
    }

    /// Has the server say when each command of the EXEC that is about to run has run, where it can.
    fn watch_results(&mut self, ctx: Ctx<'_>) -> bool {
        let reports = self.server.reports != Reports::Never && watch_results(ctx, true);
        self.server.reports = if reports { Reports::Now } else { Reports::Never };
        reports
    }

    /// A connected client has sent a command, so that no EXEC runs. Each command would cost if the server went on to
    /// tell.
    pub(super) fn stop_stepping(&mut self, ctx: Ctx<'_>) {
        self.capture.stop_stepping();
        // Within a wait that lets other clients in, the server may be going through its listeners.
        if self.iteration.lets_others_in {
            return;
        }
        if self.server.reports == Reports::Now {
            self.server.reports = Reports::WhenAsked;
            watch_results(ctx, false);
        }
    }

    /// Whether the server keeps fewer commands than the client has sent since its MULTI: it has refused one, or will
    /// refuse the EXEC because of a watched key.
    fn keeps_less(&self, ctx: Ctx<'_>, client: ClientId) -> bool {
        listed::queued_commands(ctx, client).is_some_and(|kept| kept < self.capture.sent(client))
    }

    /// Whether the server has refused to queue a command that the client has sent before this one. It keeps none of
    /// those after it; now and then it is asked how many it has.
    fn was_refused(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId) -> bool {
        let bytes = (0..filter.len()).map(|index| filter.arg(index).len()).sum();
        let sent = self.capture.queued_one(client, bytes);
        sent.is_some_and(|sent| listed::queued_commands(ctx, client).is_some_and(|kept| kept < sent))
    }

    /// A command that its client queues.
    pub(super) fn announce_queued(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId, known: Known) -> Verdict {
        // Another module's filter may make another command of it.
        let refused = !self.server.other_modules && (known.refuses(filter.len()) || known.is_unknown());
        if refused || self.was_refused(ctx, filter, client) {
            self.clients.get_mut(client).into_iter().for_each(|client| client.transaction.queued.refuse());
            self.capture.refuse_queue(client);
            return Verdict::PASS;
        }
        let Some(record) = self.clients.get_mut(client) else { return Verdict::PASS };
        let set = &mut record.transaction.queued;
        if known.runs_others() || known.row.quirk == Quirk::LoadsModules {
            set.runs_others();
        }
        add_reads(set, ctx, filter, known);
        let quirk = known.row.quirk;
        record.queued_quirks.add(quirk);
        let class = match quirk {
            // What these change during the EXEC is not known: the count of error replies, which shows whether one of
            // the commands has failed, and whether the server keeps keys that have expired.
            Quirk::ResetsStatistics | Quirk::Pauses | Quirk::Configures => Class::Opaque,
            _ => known.class,
        };
        let args = (0..filter.len()).map(|index| filter.arg(index));
        self.capture.command(client, class, None, args);
        self.note_unknown(ctx, filter, known.class);
        self.capture.queued();
        Verdict::PASS
    }
}
