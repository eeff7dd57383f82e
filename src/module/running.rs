//! Commands that run as they were sent: what they may change is announced to the capture.

use crate::core::ack::Reason;
use crate::core::capture::Class;
use crate::core::deadlines::timeout_ms;
use crate::core::execution::{IfRun, What};
use crate::core::leaf::ClientId;
use crate::core::reads::Reads;
use crate::core::script_db::ScriptDb;
use crate::core::silent::{Proof, SilentChanges};
use crate::core::table::{Blocks, CommandSpec, Quirk, Rule, Shows};
use crate::ffi::{ContextFlags, Ctx, Filter};
use crate::module::arguments::{key_positions, read_blocks, selected_db};
use crate::module::known::Known;
use crate::module::verdict::{LetsOut, Verdict};
use crate::module::{Module, server};

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
                if known.row.quirk == Quirk::Selects {
                    if top.is_none() {
                        self.announce_select(ctx, filter, known);
                    }
                    return Verdict::PASS;
                }
                // What a command of another module or of a script reads is noted while it runs.
                if top.is_some() {
                    self.running.db = ScriptDb::Of(client);
                    self.running.what = if known.is_other_modules() { What::OtherModule } else { What::Script };
                }
                Verdict { lets_out: self.lets_out(known, top), watch_unit: top.is_some(), ..Verdict::PASS }
            }
            Class::Write(spec) if spec.rule == Rule::CardinalityCache && filter.len() != 2 => {
                self.capture.command(client, Class::ReadOnly, None, none());
                Verdict::PASS
            }
            Class::Write(spec) => self.announce_write(ctx, filter, client, (known, spec), top),
            class => {
                if known.row.blocks == Blocks::WithOption && top.is_some() && read_blocks(filter) {
                    self.announce_stream_reader(ctx, filter, client);
                }
                self.capture.command(client, class, None, none());
                let watch_unit = known.reads == Reads::Script && top.is_some() && !self.dirty.is_empty();
                let lets_out = match known.row.quirk {
                    Quirk::LoadsModules | Quirk::NeedsNoKeys if self.refuses(ctx, filter, client, known) => {
                        LetsOut::Nothing
                    }
                    Quirk::LoadsModules => LetsOut::All,
                    Quirk::NeedsNoKeys => {
                        self.shows_others(self.dirty.any_change());
                        LetsOut::All
                    }
                    _ => self.lets_out(known, top),
                };
                Verdict { lets_out, watch_unit, ..Verdict::PASS }
            }
        }
    }

    /// Whether the server refuses the command: its number of arguments is wrong, or its client lacks the right to it.
    fn refuses(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId, known: Known) -> bool {
        let db = self.selected_by(ctx, client);
        known.refuses(filter.len()) || !filter.may_be_run_by(ctx, client, db)
    }

    /// What the server may send while the command runs.
    fn lets_out(&self, known: Known, top: Option<ClientId>) -> LetsOut {
        match () {
            // What does not exist does not run, unless another module's filter makes something else of it.
            () if known.is_unknown() && !self.server.other_modules => LetsOut::Nothing,
            () if !known.runs_others() && known.reads != Reads::Script => LetsOut::Nothing,
            // The client of the caller is not protected, and a debugger shows it what is in memory.
            () if top.is_none() || self.running.as_sent == Some(Reason::ScriptDebug) => LetsOut::All,
            () if known.is_other_modules() => LetsOut::All,
            () => LetsOut::Others,
        }
    }

    /// Whose command or script runs: that of the client announced last, unless it may be one that a pause had made
    /// wait.
    pub(super) fn runner(&self) -> Option<ClientId> {
        self.delayed.is_empty().then_some(self.running.client)
    }

    /// A SELECT of a script: no event shows whether it runs. One of another module counts for that call only.
    fn announce_select(&mut self, ctx: Ctx<'_>, filter: &Filter, known: Known) {
        let flags = ctx.flags();
        if !flags.in_script() {
            return;
        }
        let accepted = self.runner().is_none_or(|client| filter.select_may_be_run_by(ctx, client));
        let chosen = selected_db(ctx, filter, known).filter(|_| accepted);
        let mut db = self.script_db(ctx, flags);
        db.announce_select(chosen);
        match &mut self.running.what {
            What::Exec(exec) => exec.select = server::scripts_run(ctx).map(|before| (before, db)),
            _ => self.running.db = db,
        }
    }

    /// The database that the running script's next command runs in.
    pub(super) fn script_db(&self, ctx: Ctx<'_>, flags: ContextFlags) -> ScriptDb {
        let ask = |client| self.info_of(ctx, client).map(|info| info.db);
        if !flags.in_exec() {
            return self.running.db.asked(ask);
        }
        // Nothing is known of an EXEC that the server made wait.
        let What::Exec(exec) = &self.running.what else { return ScriptDb::default() };
        // Nothing shows where a script of an EXEC begins, but each that has ended is counted.
        match exec.select {
            Some((before, db)) if server::scripts_run(ctx) == Some(before) => db,
            _ => ScriptDb::Of(self.running.client).asked(ask),
        }
    }

    fn announce_write(
        &mut self,
        ctx: Ctx<'_>,
        filter: &Filter,
        client: ClientId,
        (known, spec): (Known, &'static CommandSpec),
        top: Option<ClientId>,
    ) -> Verdict {
        // COPY and MOVE name another database, so their events do not show their own.
        let names_db = spec.shows == Shows::TwoDatabases;
        let in_script = if names_db { Some(ctx.flags()).filter(|flags| flags.in_script()) } else { None };
        let db = match in_script {
            Some(flags) => self.script_db(ctx, flags).proved(),
            None if names_db || spec.is_silent() || spec.is_wrapped() => self.info_of(ctx, client).map(|info| info.db),
            None => None,
        };
        self.capture.command(client, Class::Write(spec), db, (0..filter.len()).map(|index| filter.arg(index)));
        let told = self.note_unknown(ctx, filter, Class::Write(spec));
        let is_seen = !spec.is_silent() || spec.rule == Rule::ByServerEvent;
        if is_seen && !spec.is_failing_bitfield((0..filter.len()).map(|index| filter.arg(index))) {
            if spec.may_block() && top.is_some() {
                let deadline_ms = self.deadline_ms(ctx, filter, spec.blocks);
                self.running.what = What::Command(IfRun::Blocking { deadline_ms, streams: Vec::new() });
            }
            return Verdict::PASS;
        }
        // It may change data though no event reports it.
        let changes = SilentChanges::of(spec, filter.len(), |index| filter.arg(index), &told);
        if top.is_some() {
            let runs_before = if spec.is_unknown() { None } else { server::runs_of(ctx, spec.name) };
            let deadline_ms = if spec.may_block() { self.deadline_ms(ctx, filter, spec.blocks) } else { None };
            self.running.what = What::Command(IfRun::Unseen { changes, name: spec.name, runs_before, deadline_ms });
        } else if self.is_refused_in_script(ctx, filter, known) {
            return Verdict::PASS;
        } else {
            let proof = Proof::of(spec);
            self.capture.unseen_inside(changes, proof, || server::count(ctx, proof));
        }
        Verdict::WATCH
    }

    /// Whether the server is known to refuse this command of a script, so that it has no effect to log. Scripts of
    /// other modules' calls may run without a user.
    fn is_refused_in_script(&self, ctx: Ctx<'_>, filter: &Filter, known: Known) -> bool {
        let flags = ctx.flags();
        let db = || self.script_db(ctx, flags).proved();
        let has_rights = || self.runner().is_none_or(|client| filter.may_be_run_by(ctx, client, db()));
        known.refuses(filter.len()) || flags.in_script() && !self.server.other_modules && !has_rights()
    }

    /// A reader that the server itself will serve, without an event: whatever changes its streams is waited for by the
    /// loop.
    fn announce_stream_reader(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId) {
        let Some(info) = self.info_of(ctx, client) else { return };
        let streams = key_positions(ctx, filter, Reads::Movable);
        let streams = streams.into_iter().map(|index| (info.db, filter.arg(index).into())).collect();
        let deadline_ms = self.deadline_ms(ctx, filter, Blocks::WithOption);
        self.running.what = What::Command(IfRun::Blocking { deadline_ms, streams });
    }

    /// When the command times out, if it waits.
    fn deadline_ms(&self, ctx: Ctx<'_>, filter: &Filter, blocks: Blocks) -> Option<i64> {
        let args: Vec<&[u8]> = (0..filter.len()).map(|index| filter.arg(index)).collect();
        timeout_ms(blocks, &args).map(|timeout| (ctx.unit_time_us() / 1000).saturating_add(timeout))
    }
}
