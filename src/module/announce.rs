//! Commands before they run: what they may change is announced to the capture, what their reply may show is noted, and
//! those that the module must run itself are turned into its own commands.

use crate::core::ack::Reason;
use crate::core::answer::Answer;
use crate::core::capture::Class;
use crate::core::execution::{Running, UnitEnd};
use crate::core::leaf::ClientId;
use crate::core::output::{ReplySize, SHORT_VALUE_BYTES_MAX};
use crate::core::table::{Quirk, Shows};
use crate::ffi::{ClientInfo, Ctx, Filter, KeyKind};
use crate::module::arguments::unblocked_client;
use crate::module::iteration::finish_run_before;
use crate::module::known::Known;
use crate::module::listed::info_in;
use crate::module::moving::wait_for_gone_keys;
use crate::module::sender::{Sender, sender_of};
use crate::module::settle::{finish_deferred, settle};
use crate::module::units::{ask_for_unit_end, finish_suspects};
use crate::module::verdict::{LetsOut, Rewrite, Verdict};
use crate::module::waits::wait_in_filter;
use crate::module::{Module, commands, following, refusal, with, wrappers};
use std::ffi::CStr;

/// An id that no client has.
const NO_CLIENT: &[u8] = b"0";

/// What an EXEC gets for an argument whose commands were queued before they were seen: what they do could not be
/// logged. It takes none, so that the server refuses it, and says so.
const UNSEEN_QUEUE: &CStr = c"queued-before-the-log-began";

/// A command is about to run or to be queued, at top level or from a script or module.
pub fn command_filter(ctx: Ctx<'_>, filter: Filter) {
    // Nearly always nothing of the command before is left, and a connected client sends this one.
    let quick = with(|module| {
        module.note_home(ctx, &filter);
        if module.life.follows() {
            return None;
        }
        let client = filter.client_id();
        let is_connection = module.clients.contains(client) && !module.clients.shares_id(client);
        let is_alone = module.is_quiet() && !module.moving.may_move && !module.iteration.lets_others_in;
        let quick = is_alone && is_connection;
        quick.then(|| module.verdict(ctx, &filter, Sender::Client))
    });
    match quick {
        Some(Some(verdict)) => perform(ctx, filter, verdict),
        Some(None) if with(|module| module.life.follows()) == Some(true) => filter_as_replica(ctx, filter),
        Some(None) => filter_slowly(ctx, filter),
        None => {}
    }
}

/// The same on a replica that logs.
fn filter_as_replica(ctx: Ctx<'_>, filter: Filter) {
    if !following::announce(ctx, &filter)
        && let Some(verdict) = with(|module| module.verdict(ctx, &filter, Sender::Client))
    {
        perform(ctx, filter, verdict);
    }
}

/// The same after something else.
fn filter_slowly(ctx: Ctx<'_>, filter: Filter) {
    finish_deferred(ctx);
    let sender = sender_of(ctx, &filter);
    if sender == Sender::Client {
        with(|module| {
            if module.clients.is_blocked_by_module(filter.client_id()) {
                // Its answer is written, as it has sent another command since.
                module.wait_for_all(filter.client_id(), Reason::OtherModule);
            }
        });
        if with(Module::drop_refused) == Some(true) {
            // The end would be reported within the next call, whoever makes that.
            commands::call_for_nothing(ctx);
        }
        settle(ctx);
        finish_run_before(ctx, filter.client_id());
    }
    // A blocked reader that the command before served has run by now, unseen; what it did comes before what this
    // command does.
    finish_suspects(ctx, false);
    if sender == Sender::Client {
        wait_for_gone_keys(ctx, &filter);
    }
    let verdict = with(|module| {
        let verdict = module.verdict(ctx, &filter, sender);
        module.close_postponed(ctx);
        verdict
    });
    if let Some(verdict) = verdict {
        perform(ctx, filter, verdict);
    }
}

fn perform(ctx: Ctx<'_>, filter: Filter, verdict: Verdict) {
    let protected = match verdict.lets_out {
        LetsOut::Others => Some(filter.client_id()),
        LetsOut::Nothing | LetsOut::All => None,
    };
    if verdict.lets_out != LetsOut::Nothing && !wait_in_filter(ctx, protected) {
        return filter.insert(0, refusal::REFUSED);
    }
    if verdict.watch_unit {
        ask_for_unit_end(ctx);
    }
    match verdict.rewrite {
        Rewrite::None => {}
        Rewrite::Wrap(name) => filter.insert(0, name),
        Rewrite::Refuse => filter.insert(1, UNSEEN_QUEUE),
        Rewrite::UnblockNobody => filter.replace(2, NO_CLIENT),
    }
}

/// A command that comes while the log is brought back, when the server gives -LOADING for all but a few. `may_fail`: a
/// MODULE LOAD does that, and the server frees the module's commands if it fails, so that no ACL rule may come to name
/// one. What was queued may make one. Until it has succeeded, the server does not write its `loadmodule` line.
fn recovering(known: Known, may_fail: bool) -> Verdict {
    match (known.class, known.row.quirk) {
        (Class::Exec, _) if may_fail => Verdict::rewrite(Rewrite::Refuse),
        // The module's command gets -LOADING.
        (_, Quirk::ChangesRights | Quirk::RewritesFile) if may_fail => {
            Verdict::rewrite(Rewrite::Wrap(refusal::REFUSED))
        }
        // It may replace the dataset (DEBUG RELOAD).
        _ if known.row.shows == Shows::Debug => Verdict::rewrite(Rewrite::Wrap(refusal::REFUSED)),
        _ => Verdict::PASS,
    }
}

impl Module {
    /// Whether nothing is left of what ran before, and nothing runs that other commands could belong to.
    pub(super) fn is_quiet(&self) -> bool {
        self.running.is_plain()
            && self.unit_end == UnitEnd::NotAsked
            && self.replies.is_empty()
            && self.delayed.is_empty()
            && self.capture.is_at_rest()
    }

    fn verdict(&mut self, ctx: Ctx<'_>, filter: &Filter, sender: Sender) -> Verdict {
        if !self.life.holds_folder() {
            // Nothing is logged, refused or endangered: what the command is does not matter.
            return Verdict::PASS;
        }
        let known = self.server.commands.known(filter.arg(0), filter.arg(1));
        if self.life.is_changing() && ctx.flags().is_loading() {
            return recovering(known, self.arrival.is_some());
        }
        if known.row.quirk == Quirk::Configures && self.endangers_folder(filter) {
            return Verdict::rewrite(Rewrite::Wrap(refusal::REFUSED));
        }
        if self.life.follows() {
            if known.row.quirk == Quirk::ChangesUnseen {
                // Clients' commands are not looked at here, and nothing shows whether this one runs.
                self.bases.log_lacks_changes();
            }
            return Verdict::PASS;
        }
        if !self.life.logs() {
            return if self.life.refuses_writes() {
                self.announce_without_log(ctx, filter, known)
            } else {
                Verdict::PASS
            };
        }
        let is_foreseen = self.is_foreseen(filter, sender);
        if known.may_select(self.server.other_modules)
            && let Some(client) = self.clients.get_mut(filter.client_id())
        {
            client.db = None;
        }
        let size = if sender == Sender::Inner { ReplySize::Any } else { self.reply_size(ctx, filter, known) };
        self.clients.replies(filter.client_id(), size);
        if self.unblocks_answered(filter, known) {
            return Verdict::rewrite(Rewrite::UnblockNobody);
        }
        let verdict = self.announce(ctx, filter, known, (sender, is_foreseen));
        match known.row.quirk {
            Quirk::WaitsForAof if sender != Sender::Bystander && self.answers_waitaof(ctx, filter) => {
                Verdict { rewrite: Rewrite::Wrap(wrappers::WAITAOF), ..verdict }
            }
            Quirk::Explains => {
                self.note_explained(ctx, filter);
                verdict
            }
            Quirk::Acknowledges => {
                self.aof_waits.note_acknowledged(filter);
                verdict
            }
            _ => verdict,
        }
    }

    /// How much it answers.
    fn reply_size(&mut self, ctx: Ctx<'_>, filter: &Filter, known: Known) -> ReplySize {
        match known.reply_size((0..filter.len()).map(|index| filter.arg(index))) {
            ReplySize::Any if known.row.answer == Answer::Value && self.gets_short_value(ctx, filter) => {
                ReplySize::Short
            }
            size => size,
        }
    }

    /// Whether a GET answers shortly. A look at the value costs far less than a question about the client's output.
    fn gets_short_value(&mut self, ctx: Ctx<'_>, filter: &Filter) -> bool {
        let client = filter.client_id();
        let shows_present = self.commits_inline() && filter.len() == 2;
        // A pause may delay it until the value is another one.
        if !shows_present || !self.clients.looks_at_get(client) || ctx.writes_are_paused() {
            return false;
        }
        let Some(db) = self.selected_by(ctx, client) else { return false };
        let own = ctx.own();
        // Of other types it shows an error.
        let len = || own.key_length(filter.arg(1), KeyKind::String);
        own.select_db(db) && len().is_none_or(|len| len <= SHORT_VALUE_BYTES_MAX)
    }

    /// The database that a connected client has selected.
    pub(super) fn selected_by(&mut self, ctx: Ctx<'_>, client: ClientId) -> Option<u32> {
        if let Some(db) = self.clients.get(client)?.db {
            return Some(db);
        }
        let db = self.info_of(ctx, client)?.db;
        self.clients.get_mut(client)?.db = Some(db);
        Some(db)
    }

    /// Whether it is the command that was to come, of a client that is looked at.
    fn is_foreseen(&mut self, filter: &Filter, sender: Sender) -> bool {
        if !self.looks.is_up_to_date() {
            return false;
        }
        let input = self.clients.get_mut(filter.client_id()).and_then(|record| record.input.as_mut());
        match (input, sender) {
            (Some(input), Sender::Client) => input.take((0..filter.len()).map(|index| filter.sent(index))),
            (Some(input), _) => {
                input.forget();
                false
            }
            (None, _) => false,
        }
    }

    /// Whether it is to end the wait of a client that has its answer and waits for the disk only; for the server's eyes
    /// that is not blocked.
    fn unblocks_answered(&self, filter: &Filter, known: Known) -> bool {
        unblocked_client(filter, known).is_some_and(|client| self.capture.blocked.is_answered(client))
    }

    /// Nothing executes, and the end of a unit that was asked for has not come: its command was refused (or waits for
    /// the end of a pause), and has shown nothing. Returns whether it is so.
    pub(super) fn drop_refused(&mut self) -> bool {
        let is_refused = self.unit_end != UnitEnd::NotAsked;
        if is_refused {
            self.drop_leftovers();
        }
        is_refused
    }

    /// If the command that was announced last has left neither an open unit nor a held reply, it ended its unit or the
    /// server refused it: forgets what its reply would have waited for.
    fn drop_leftovers(&mut self) {
        if !self.running.ends_late() && !self.replies.any_held() && !self.capture.has_unit() {
            self.replies.forget();
        }
    }

    /// What is known of a connected client; `None` for those of scripts and modules.
    pub(super) fn info_of(&self, ctx: Ctx<'_>, client: ClientId) -> Option<ClientInfo> {
        info_in(&self.clients, ctx, client)
    }

    /// `sender`, and whether the command was foreseen.
    fn announce(
        &mut self,
        ctx: Ctx<'_>,
        filter: &Filter,
        known: Known,
        (sender, is_foreseen): (Sender, bool),
    ) -> Verdict {
        let client = filter.client_id();
        self.note_own_quirk(known.row.quirk, client);
        if sender != Sender::Inner {
            self.delayed.comes(client);
        }
        match sender {
            // Scripts and modules send none of these, so that the client is not another one of that id.
            Sender::Inner if known.class.bounds_transactions() && self.clients.contains(client) => {
                return self.announce_meanwhile(ctx, filter, client, known);
            }
            Sender::Inner => return self.announce_nested(ctx, filter, client, known),
            Sender::Bystander => return self.announce_meanwhile(ctx, filter, client, known),
            Sender::Client => {}
        }
        self.wait_for_ended(ctx, client);
        self.capture.awake(client);
        self.drop_leftovers();
        self.running = Running::command(client);
        if let Some(verdict) = self.collect(ctx, filter, client, is_foreseen) {
            self.stop_stepping(ctx);
            return verdict;
        }
        match known.class {
            Class::Multi | Class::EndMulti | Class::Watch => return self.announce_bounds(ctx, filter, client, known),
            Class::Exec => {
                self.command_comes();
                return self.announce_exec(ctx, client);
            }
            _ => {}
        }
        self.stop_stepping(ctx);
        match known.class {
            _ if self.is_queueing(ctx, client) => self.announce_queued(ctx, filter, client, known),
            Class::Unwatch => self.announce_bounds(ctx, filter, client, known),
            _ => {
                self.command_comes();
                self.announce_top(ctx, filter, client, known)
            }
        }
    }

    /// A command that comes while the server is busy with another client's.
    fn announce_meanwhile(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId, known: Known) -> Verdict {
        match known.class {
            Class::Multi | Class::Watch => {
                self.note_bounds(ctx, filter, client, known);
                // Nobody asks what has become of it; no other client reads meanwhile.
                self.versions.tell();
            }
            // Whatever becomes of these, the server is asked at the client's next command.
            Class::Exec | Class::EndMulti | Class::Unwatch => self.capture.prove_queueing(client, None),
            _ if self.is_queueing(ctx, client) => return self.announce_queued(ctx, filter, client, known),
            // Another module's. A SELECT is that client's own, and no other one shows or changes data.
            _ if known.runs_meanwhile && known.runs_others() => {
                return self.announce_nested(ctx, filter, client, known);
            }
            // The server runs it now, and nothing could hold its reply.
            _ if known.runs_meanwhile && self.undurable(self.newest_read(ctx, filter, known, None)).is_some() => {
                return Verdict::rewrite(Rewrite::Wrap(refusal::REFUSED));
            }
            _ => {}
        }
        Verdict::PASS
    }

    /// What concerns nobody but the client of the command: it counts whatever becomes of that.
    fn note_own_quirk(&mut self, quirk: Quirk, client: ClientId) {
        match (quirk, self.clients.get_mut(client)) {
            (Quirk::Mutes, Some(client)) => client.mutes = true,
            (Quirk::Subscribes, Some(client)) => client.may_be_subscribed = true,
            (Quirk::ResetsStatistics, _) => self.capture.forget_error_replies(),
            _ => {}
        }
    }

    /// A client whose wait the command ends, if it runs, gets an answer, as if its time were over.
    /// Returns whether the end of the unit must be asked for.
    pub(super) fn note_unblock(&mut self, ctx: Ctx<'_>, filter: &Filter, known: Known) -> bool {
        let Some(client) = unblocked_client(filter, known) else { return false };
        self.capture.blocked.unblock(client);
        self.wait_for_unblocked(ctx, client)
    }

    /// A command of a script or of another module.
    fn announce_nested(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId, known: Known) -> Verdict {
        let known = known.called();
        self.will_run(ctx, known.row.quirk.into(), client);
        let flags = ctx.flags();
        let reason = match () {
            () if flags.in_exec() => Reason::Transaction,
            () if flags.in_script() => self.running.as_sent.unwrap_or(Reason::Script),
            () => Reason::OtherModule,
        };
        if known.row.quirk == Quirk::Publishes {
            // Its message shows what the script or transaction did and read, and is not held.
            self.versions.tell();
        }
        let shown = self.newest_read(ctx, filter, known, None).and_then(|_| {
            // Scripts of one EXEC may begin in different databases.
            let db = if flags.in_script() && !flags.in_exec() { self.script_db(ctx, flags).proved() } else { None };
            self.newest_read(ctx, filter, known, db)
        });
        let mut reads = self.note_read(shown, reason);
        // It may go by the id of an EXEC's client, and is none of what that has queued.
        let client = if self.capture.is_queueing(client) { 0 } else { client };
        let is_alone = known.writes && !flags.in_script() && !flags.in_exec();
        if is_alone && (self.disk_fails() && self.has_too_much_pending() || self.has_no_room_for(filter, known)) {
            // Scripts and transactions are refused as a whole, or not at all.
            self.announce_nothing(client);
            return Verdict::rewrite(Rewrite::Wrap(refusal::REFUSED));
        }
        reads |= self.note_unblock(ctx, filter, known);
        let verdict = self.announce_running(ctx, filter, client, known, None);
        // The end asked for before may have come already, when the server made room.
        Verdict { watch_unit: verdict.watch_unit || reads, ..verdict }
    }
}
