//! Runs pipelines for their clients: all replies are kept until the last command, which is held and answers for all.
//!
//! The filter turns each command of a plan (`core/collecting.rs`, made by `planning.rs`) into `WBL.COLLECT command...`.
//! When that returns without an answer the server goes on with the client's next command at once, and runs all that it
//! has of a client in one go: a plan begins and ends within that. If anything came in between, its answer would
//! overtake those that are kept; the client is then disconnected.

use crate::core::capture::Class;
use crate::core::collecting::{Act, Plan, Step};
use crate::core::leaf::ClientId;
use crate::core::table::Quirk;
use crate::ffi::{CallMode, Ctx, Filter, Kept, Reply, ReplyKind};
use crate::log::Lsn;
use crate::module::known::Known;
use crate::module::listed::Received;
use crate::module::units::ask_for_unit_end;
use crate::module::verdict::{Rewrite, Verdict};
use crate::module::waited::count_write;
use crate::module::wrap::{self, Done, Ran};
use crate::module::wrapped_run::Outcome;
use crate::module::{Module, errors, with, wrappers};
use std::ffi::CStr;

/// When this many bytes of replies are kept, the next command is the last one, and its client is held.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// A plan that is being carried out.
pub(super) struct Collecting {
    client: ClientId,
    plan: Plan,
    /// What the server had received of the client.
    received: Received,
    /// What is to be done with the command that has passed the filter and has not begun.
    step: Option<Step>,
    kept: Vec<Answer>,
    kept_bytes: usize,
    /// The transaction that has begun.
    transaction: Option<Transaction>,
    /// Any of its commands has changed data.
    changed: bool,
    /// The newest change, not durable yet, that any of them shows.
    shown: Option<Lsn>,
}

impl Collecting {
    /// Whether it is a pipeline of this client's.
    pub(super) fn is_of(&self, client: ClientId) -> bool {
        self.client == client
    }
}

/// What is queued since a MULTI.
#[derive(Default)]
struct Transaction {
    commands: Vec<(Act, Vec<Vec<u8>>)>,
    /// The server would have refused one of them.
    is_refused: bool,
}

/// The answer to a command.
enum Answer {
    Reply(Kept),
    Status(&'static CStr),
    Error(&'static str),
    Refusal(String),
    All(Vec<Answer>),
}

impl Answer {
    fn of(ran: Ran) -> Answer {
        match ran {
            Ran::Answered(reply) => Answer::Reply(Kept::new(reply)),
            Ran::Refused(Some(refusal)) if refusal.kind() == ReplyKind::Error => Answer::Reply(Kept::new(refusal)),
            Ran::Refused(_) => Answer::Error(errors::WRONG_TYPE),
            // None of the commands of a plan waits, or is unknown.
            Ran::Waits(_) | Ran::NoCommand => Answer::Error(errors::CALL_REFUSED),
        }
    }

    fn sent_bytes(&self) -> usize {
        match self {
            Answer::Reply(reply) => reply.sent_bytes(),
            Answer::Status(text) => text.count_bytes(),
            Answer::Error(text) => text.len(),
            Answer::Refusal(text) => text.len(),
            Answer::All(answers) => answers.iter().map(Answer::sent_bytes).sum(),
        }
    }

    fn send(&self, ctx: Ctx<'_>) {
        match self {
            Answer::Reply(reply) => ctx.reply_with(reply.reply()),
            Answer::Status(text) => ctx.reply_simple(text),
            Answer::Error(text) => ctx.reply_error(text),
            Answer::Refusal(text) => ctx.reply_error(text),
            Answer::All(answers) => {
                ctx.reply_array(answers.len());
                answers.iter().for_each(|answer| answer.send(ctx));
            }
        }
    }
}

/// WBL.COLLECT command [argument ...]
pub(super) fn collect(ctx: Ctx<'_>, args: &[&[u8]]) {
    let client = ctx.client_id();
    let step = with(|module| module.collecting.as_mut().filter(|plan| plan.client == client)?.step.take()).flatten();
    let (Some(step), Some(command @ [_, ..])) = (step, args.get(1..)) else {
        return ctx.reply_error(errors::CALL_REFUSED);
    };
    let (answer, outcome) = match step {
        Step::Now(act) => perform(ctx, act, command),
        Step::Multi => {
            with_transaction(|transaction| *transaction = Some(Transaction::default()));
            (Answer::Status(c"OK"), Outcome::default())
        }
        Step::Queue(act) => (queue(ctx, act, command), Outcome::default()),
        Step::Exec => exec(ctx),
        Step::Discard => {
            with_transaction(|transaction| *transaction = None);
            (Answer::Status(c"OK"), Outcome::default())
        }
    };
    let ended = with(|module| module.keep(answer, outcome, ctx.selected_db())).flatten();
    if let Some((answers, outcome)) = ended {
        wrap::hold(ctx, outcome);
        answers.iter().for_each(|answer| answer.send(ctx));
    }
    if with(|module| module.capture.has_unit()) == Some(true) {
        ask_for_unit_end(ctx);
    }
}

fn with_transaction<T>(body: impl FnOnce(&mut Option<Transaction>) -> T) -> Option<T> {
    with(|module| module.collecting.as_mut().map(|collecting| body(&mut collecting.transaction))).flatten()
}

/// Queues a command, as the server does.
fn queue(ctx: Ctx<'_>, act: Act, command: &[&[u8]]) -> Answer {
    let refusal = refusal_of(ctx, command);
    with_transaction(|transaction| {
        let transaction = transaction.get_or_insert_default();
        transaction.is_refused |= refusal.is_some();
        transaction.commands.push((act, command.iter().map(|arg| arg.to_vec()).collect()));
    });
    refusal.map_or(Answer::Status(c"QUEUED"), |refusal| Answer::Reply(Kept::new(refusal)))
}

/// Runs what is queued, as one unit: the server reports the end of it when all of this command has run.
fn exec(ctx: Ctx<'_>) -> (Answer, Outcome) {
    let transaction = with_transaction(Option::take).flatten().unwrap_or_default();
    if transaction.is_refused {
        return (Answer::Error(errors::EXEC_ABORTED), Outcome::default());
    }
    with(|module| module.counters.collected_transactions += 1);
    let commands = || transaction.commands.iter().map(|(act, args)| (*act, args.iter().map(Vec::as_slice).collect()));
    // Nothing has run since they were queued, but they take memory: if the server now refuses a write, it would refuse
    // all of them.
    let write = commands().find(|(_, command): &(Act, Vec<&[u8]>)| known_of(command).writes);
    let refusal = write.and_then(|(_, command)| refusal_of(ctx, &command));
    if let Some(refusal) = refusal {
        let text = errors::exec_aborted_by(&String::from_utf8_lossy(refusal.bytes()));
        return (Answer::Refusal(text), Outcome::default());
    }
    let mut all = Outcome::default();
    let answers = commands().map(|(act, command): (Act, Vec<&[u8]>)| {
        let (answer, outcome) = perform(ctx, act, &command);
        all = Outcome { changed: all.changed | outcome.changed, shown: all.shown.max(outcome.shown), ..all };
        answer
    });
    let answers = answers.collect();
    (Answer::All(answers), all)
}

fn known_of(command: &[&[u8]]) -> Known {
    let (name, subcommand) =
        (command.first().copied().unwrap_or_default(), command.get(1).copied().unwrap_or_default());
    with(|module| module.server.commands.known(name, subcommand)).unwrap_or(Known::UNKNOWN)
}

/// The error with which the server would refuse the command before running it.
fn refusal_of(ctx: Ctx<'_>, command: &[&[u8]]) -> Option<Reply<'static>> {
    match wrap::run_only(ctx, CallMode::DryRunCollected, command) {
        Ran::Answered(reply) if reply.kind() == ReplyKind::Error => Some(reply),
        _ => None,
    }
}

fn perform(ctx: Ctx<'_>, act: Act, command: &[&[u8]]) -> (Answer, Outcome) {
    match act {
        Act::Run => run(ctx, command),
        Act::Select(db) => (select(ctx, command, db), Outcome::default()),
    }
}

fn run(ctx: Ctx<'_>, command: &[&[u8]]) -> (Answer, Outcome) {
    let known = known_of(command);
    if known.row.quirk == Quirk::FailsWithDisk
        && let Some(refusal) = refusal_by_disk(ctx)
    {
        return (Answer::Reply(Kept::new(refusal)), Outcome::default());
    }
    match wrap::run_for_client(ctx, CallMode::Collected, known, command) {
        Some(Done { ran, outcome, .. }) => (Answer::of(ran), outcome),
        None => (Answer::of(wrap::run_only(ctx, CallMode::Collected, command)), Outcome::default()),
    }
}

/// The error with which the server refuses all writes while it cannot save, if it does. It refuses a PING in the same
/// way.
fn refusal_by_disk(ctx: Ctx<'_>) -> Option<Reply<'static>> {
    let refusal = ctx.own().call(CallMode::DryRunWrite, "SET", [&b""[..], b""])?;
    (refusal.kind() == ReplyKind::Error && refusal.bytes().starts_with(b"MISCONF")).then_some(refusal)
}

/// A SELECT that a module calls would count for that call only.
fn select(ctx: Ctx<'_>, command: &[&[u8]], db: u32) -> Answer {
    let ran = wrap::run_only(ctx, CallMode::Collected, command);
    if matches!(&ran, Ran::Answered(reply) if reply.kind() != ReplyKind::Error) {
        ctx.select_db(db);
    }
    Answer::of(ran)
}

impl Module {
    /// A connected client's command comes; `is_foreseen`: it is the one that was expected. If it is one of a plan, or
    /// begins one, the module runs it.
    pub(super) fn collect(
        &mut self,
        ctx: Ctx<'_>,
        filter: &Filter,
        client: ClientId,
        is_foreseen: bool,
    ) -> Option<Verdict> {
        match &mut self.collecting {
            Some(collecting) => {
                let is_next = collecting.client == client && collecting.step.is_none() && is_foreseen;
                let step = if is_next { collecting.plan.steps.pop_front() } else { None };
                if step.is_none() {
                    self.break_off(ctx);
                    return None;
                }
                collecting.step = step;
            }
            None if is_foreseen => {
                let (mut plan, received) = self.plan_for(ctx, client)?;
                let step = plan.steps.pop_front();
                self.collecting = Some(Collecting {
                    client,
                    plan,
                    received,
                    step,
                    kept: Vec::new(),
                    kept_bytes: 0,
                    transaction: None,
                    changed: false,
                    shown: None,
                });
            }
            None => return None,
        }
        let is_queued =
            self.collecting.as_ref().is_some_and(|collecting| collecting.step.is_some_and(Step::only_queues));
        if !is_queued {
            self.command_comes();
        }
        // It is held for everything that came before, whatever else the client sends.
        self.running.pipelines = Some(false);
        self.counters.collected += 1;
        self.capture.command(filter.client_id(), Class::ReadOnly, None, std::iter::empty());
        Some(Verdict::rewrite(Rewrite::Wrap(wrappers::COLLECT)))
    }

    /// A command of the plan has run; its client is in this database now. Returns all answers, in order, and what they
    /// wait for, if it was the last one.
    fn keep(&mut self, answer: Answer, outcome: Outcome, db: u32) -> Option<(Vec<Answer>, Outcome)> {
        let collecting = self.collecting.as_mut()?;
        collecting.kept_bytes += answer.sent_bytes();
        collecting.kept.push(answer);
        collecting.shown = collecting.shown.max(outcome.shown);
        let may_end = collecting.kept_bytes >= KEPT_BYTES_MAX && collecting.transaction.is_none();
        if !collecting.plan.steps.is_empty() && !may_end {
            collecting.changed |= outcome.changed;
            if outcome.changed {
                count_write(&mut self.iteration, &mut self.clients, collecting.client, true);
            }
            return None;
        }
        // Its reply is what is counted as a write.
        self.iteration.unheld_writes += u32::from(outcome.changed);
        let Collecting { client, received, kept, kept_bytes, changed, shown, .. } = self.collecting.take()?;
        if let Some(at) = self.clients.input(client).and_then(|input| input.position()) {
            self.looks.stands(client, at, Received { db, ..received });
        }
        // The units of the commands before have ended, so their positions are known.
        let before = if changed { Some(self.appended()) } else { None };
        let changed = outcome.changed || changed && self.capture.has_unit();
        Some((kept, Outcome { changed, shown: shown.max(before), reply_bytes: kept_bytes }))
    }

    /// A plan that has begun is given up. The replies that are kept can no longer be sent.
    pub(super) fn break_off(&mut self, ctx: Ctx<'_>) {
        if let Some(collecting) = self.collecting.take()
            && !collecting.kept.is_empty()
        {
            ctx.close_client(collecting.client);
        }
    }
}
