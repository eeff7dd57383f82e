//! The rule of acknowledgement: when a reply may leave, and how it is kept until then.
//!
//! [`decide`] is asked three times about a command: when it is announced, when it has changed data (or has run, where
//! the module runs it), and at the end of its unit; again about one that waits, is served or delayed, or has ended out
//! of sight; and before all that, about whether the server may refuse the command and thereby show something. It goes
//! through tables of rows in order; the first row that applies decides. `docs/design.md` has the same as a table
//! ("Withholding"). Replies are let go in one place (`module/release.rs`), which takes [`Why`].

mod kind;
mod reason;
mod why;

pub use kind::{Command, Kind};
pub use reason::Reason;
pub use why::Why;

/// How a reply is kept until what it shows is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is not: it shows nothing that is not durable, as far as is known yet.
    Nothing,
    /// The server defers it (`BlockClient` in the event of the change, or in one that the module raises for it).
    InEvent,
    /// The module runs the command, and decides when it has seen what that did.
    ThroughModule(Wrapper),
    /// The event loop waits before replies are sent.
    AtIterationEnd(Reason),
    /// The main thread waits as soon as the unit has ended, because its reply could leave before the iteration's end.
    AtUnitEnd(Reason),
    /// Once written, the reply could not be stopped, so the client is disconnected.
    Disconnect,
    /// There is no reply that shows data: the server refuses the command.
    Refused,
}

/// A command of the module that runs another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapper {
    /// WBL.CALL: writes.
    Call,
    /// WBL.READ: reads.
    Read,
    /// WBL.EVAL: scripts and functions.
    Eval,
    /// WBL.EVAL_RO: those that may not write.
    EvalRo,
}

/// What a user may run of a command and the module's command that would run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Not even the command: the server refuses it.
    None,
    /// The command alone.
    Own,
    /// Both.
    Both,
}

/// Who has made a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Author {
    /// A command, or another module: some reply may be that of the change.
    #[default]
    Command,
    /// The server, of its own accord, outside of any command: no reply is that of the change. What shows it later finds
    /// it dirty.
    Server,
}

/// What the rule asks about the execution, the client and the server; only where the answer matters, because some of it
/// must be asked of the server.
pub trait Facts {
    /// Replies wait for the log.
    fn is_active(&mut self) -> bool;
    /// Anything has changed that is not durable.
    fn any_change(&mut self) -> bool;
    /// The main thread makes the log durable at the end of the iteration.
    fn commits_inline(&mut self) -> bool;
    /// An EXEC runs.
    fn in_exec(&mut self) -> bool;
    /// A script or function runs.
    fn in_script(&mut self) -> bool;
    /// Who has made the change.
    fn author(&mut self) -> Author;
    /// Why the script that runs was not run by the module.
    fn script_reason(&mut self) -> Option<Reason>;
    /// A command of another module runs, or a client without a connection.
    fn in_other_module(&mut self) -> bool;
    /// The running command may have sent the head of its reply.
    fn has_replied_early(&mut self) -> bool;
    /// The client brings the keys of a slot.
    fn is_slot_import(&mut self) -> bool;
    /// The command names a key of a slot that moves, which has changed and is not here.
    fn names_gone_key(&mut self) -> bool;
    /// Commands wait for the end of a pause, or may.
    fn has_postponed(&mut self) -> bool;
    /// One of them may run long, and let other clients in, and has not run yet.
    fn has_postponed_script(&mut self) -> bool;
    /// Writes are paused now.
    fn writes_are_paused(&mut self) -> bool;
    /// The server is a node of a cluster, and has other modules.
    fn is_cluster_with_modules(&mut self) -> bool;
    /// Another module has blocked the client once.
    fn shares_id(&mut self) -> bool;
    /// The client has CLIENT TRACKING on.
    fn tracks(&mut self) -> bool;
    /// The client sends commands without waiting for replies.
    fn pipelines(&mut self) -> bool;
    /// Another client's pipelined scripts run in this iteration, and before one of this client's the loop would have to
    /// wait for replies of others.
    fn others_run_scripts(&mut self) -> bool;
    /// The client is subscribed to a channel.
    fn is_subscribed(&mut self) -> bool;
    /// The client has sent an ASKING for this command.
    fn has_asked(&mut self) -> bool;
    /// The client has sent SCRIPT DEBUG.
    fn debugs_scripts(&mut self) -> bool;
    /// What its user may run.
    fn rights(&mut self, wrapper: Wrapper) -> Rights;
    /// WBL.DEBUG PAUSE is on.
    fn debug_paused(&mut self) -> bool;
    /// The server sends replies from other threads.
    fn has_io_threads(&mut self) -> bool;
    /// Other modules are loaded, and may have the server send replies at any time.
    fn has_other_modules(&mut self) -> bool;
    /// Output of the client waits for its socket.
    fn has_output_left(&mut self) -> bool;
    /// The server loses a command that comes in two parts while its client is blocked.
    fn loses_cut_commands(&mut self) -> bool;
}

/// When the rule is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It is about to pass the filter, and the server may refuse it before the module sees more of it.
    MayBeRefused,
    /// The command has passed the filter.
    Announced(Command),
    /// It has changed data.
    Changed,
    /// The module has run it; it has changed nothing, and shows a change.
    Shown,
    /// Its unit has ended, and its reply is one that the loop waits for.
    UnitEnded(Reason),
    /// It is one that waits, and the server will serve it, if at all, at the end of the running unit, without an event.
    MayBeServed,
    /// It waits, and the server may serve it when the running unit has ended. What it then changes no event shows.
    MayChange,
    /// A pause makes it wait. What it changes when it runs no event shows.
    Postponed,
    /// It is an EXEC that begins a pause: its unit is taken up, and logged, some time after it has run.
    EndsLate,
    /// A unit has ended while another module may answer a client that it has blocked, at any time, with all that has
    /// changed.
    MayBeAnswered,
    /// It waits, and has found a change that is not durable: its answer shows that when it has waited in vain.
    Waits,
    /// It waits, and the server may serve it with an error at the end of the running unit: no event shows that.
    MayFail,
    /// It waited, and has ended or was served without an event: its reply is written already.
    EndedUnseen,
    /// A pause may have made it wait, and it may have run by now: it passed the filter before the pause.
    Resumed,
}

/// A row of the tables below: the reason, and when it applies.
type Row<Asked> = (Reason, fn(&mut dyn Facts, Asked) -> bool);

/// What the server shows of the dataset though it refuses a command. All other refusals show nothing.
const REFUSAL_SHOWS: &[Row<()>] = &[
    // -ASK, -TRYAGAIN: a key has gone.
    (Reason::SlotMoves, |facts, ()| facts.names_gone_key()),
];

/// What keeps the module from running a command for its client. Where it is [`Kind::Unseen`], the module must
/// nevertheless run it if it may, whoever then waits.
const NOT_THROUGH_MODULE: &[Row<(Kind, Wrapper)>] = &[
    // What may wait, or run long and let others in, still goes through the module: it outlasts the iteration.
    (Reason::Inline, |facts, (kind, _)| kind.ends_at_once() && facts.commits_inline()),
    (Reason::Asking, |facts, (kind, _)| kind.is_script() && facts.has_asked()),
    (Reason::ScriptDebug, |facts, (kind, _)| kind.is_script() && facts.debugs_scripts()),
    // A pause of writes stops some of these, and nothing may be replicated.
    (Reason::ClientPause, |facts, (kind, _)| (kind.is_script() || kind.is_count()) && facts.writes_are_paused()),
    (Reason::Subscriber, |facts, _| facts.is_subscribed()),
    (Reason::Tracking, |facts, (kind, _)| !kind.is_unseen() && facts.tracks()),
    (Reason::Pipelining, |facts, (kind, _)| {
        let pipelines = kind.makes_wait() && facts.pipelines() && can_wait_once(facts);
        // Waiting for each client's scripts would cost a flush each; the scripts of all but one client share the next
        // flush.
        pipelines && !(kind.is_script() && facts.others_run_scripts())
    }),
    (Reason::Rights, |facts, (_, wrapper)| facts.rights(wrapper) != Rights::Both),
    (Reason::CutCommands, |facts, (kind, _)| kind.makes_wait() && facts.loses_cut_commands()),
];

/// What keeps the server from deferring a reply in an event.
const NOT_IN_EVENT: &[Row<Moment>] = &[
    (Reason::Inline, |facts, _| facts.commits_inline()),
    (Reason::Transaction, |facts, _| facts.in_exec()),
    (Reason::Script, |facts, _| facts.in_script()),
    (Reason::EarlyReply, |facts, _| facts.has_replied_early()),
    (Reason::SlotImport, |facts, _| facts.is_slot_import()),
    // What a pause made wait runs without passing the filter, so nothing may be left that it could show.
    (Reason::ClientPause, |facts, moment| moment == Moment::Changed && facts.has_postponed()),
    (Reason::OtherModule, |facts, _| facts.in_other_module()),
    (Reason::ClusterModules, |facts, _| facts.is_cluster_with_modules()),
    (Reason::SharedId, |facts, _| facts.shares_id()),
    (Reason::Tracking, |facts, _| facts.tracks()),
    (Reason::Pipelining, |facts, _| facts.pipelines() && can_wait_once(facts)),
    // Even if it has to wait for each.
    (Reason::CutCommands, |facts, _| facts.loses_cut_commands()),
];

/// What lets replies out before the end of the iteration.
const NOT_AT_ITERATION_END: &[Row<()>] = &[
    (Reason::DebugPause, |facts, ()| facts.debug_paused()),
    (Reason::IoThreads, |facts, ()| facts.has_io_threads()),
    // One may yield (`Yield`) outside its own commands: in a timer, an event of another client's change, BEFORE_SLEEP.
    (Reason::ModuleYield, |facts, ()| facts.has_other_modules()),
    // What it made wait runs without passing the filter, and may run long.
    (Reason::ClientPause, |facts, ()| facts.has_postponed_script()),
    (Reason::OutputLeft, |facts, ()| facts.has_output_left()),
];

/// Whether the loop can wait for all that a client sends at once. Otherwise it would wait for each, and everybody with
/// it.
fn can_wait_once(facts: &mut dyn Facts) -> bool {
    first(NOT_AT_ITERATION_END, facts, ()).is_none()
}

/// What sends the answer of a command that has waited in vain before its end is seen: in BEFORE_SLEEP, where the loop
/// waits.
const NOT_SEEN_TO_END: &[Row<()>] = &[
    // The server hands it to another thread as soon as it has ended the wait.
    (Reason::IoThreads, |facts, ()| facts.has_io_threads()),
    // One that comes first in BEFORE_SLEEP may yield there.
    (Reason::ModuleYield, |facts, ()| facts.has_other_modules()),
];

/// What lets out another module's answer to a client that it has blocked before BEFORE_SLEEP sees that.
const NOT_SEEN_TO_BE_ANSWERED: &[Row<()>] = &[
    // The server hands it to another thread as soon as the client goes on.
    (Reason::IoThreads, |facts, ()| facts.has_io_threads()),
];

/// What lets out a reply before its change is logged: that is when BEFORE_SLEEP, or the filter of the next command,
/// shows that it has run.
const NOT_SEEN_TO_RUN: &[Row<Moment>] = &[
    // The server hands it to another thread as soon as the command has run.
    (Reason::IoThreads, |facts, _| facts.has_io_threads()),
    // One may yield in between.
    (Reason::ModuleYield, |facts, _| facts.has_other_modules()),
    // That runs without passing the filter, perhaps next, and may run long.
    (Reason::ClientPause, |facts, _| facts.has_postponed_script()),
    // Its socket may take output before the end of the iteration. What a pause delays runs just before that.
    (Reason::OutputLeft, |facts, moment| moment != Moment::Postponed && facts.has_output_left()),
];

/// What lets out written replies, even if the loop waits for them.
const NOT_ONCE_WRITTEN: &[Row<()>] = &[
    // Every wait then lets other clients in, and lets their written replies out.
    (Reason::DebugPause, |facts, ()| facts.debug_paused()),
];

fn first<Asked: Copy>(rows: &[Row<Asked>], facts: &mut dyn Facts, asked: Asked) -> Option<Reason> {
    rows.iter().find(|(_, applies)| applies(facts, asked)).map(|(reason, _)| *reason)
}

/// The rule.
pub fn decide(moment: Moment, facts: &mut dyn Facts) -> Hold {
    match moment {
        Moment::MayBeRefused => first(REFUSAL_SHOWS, facts, ()).map_or(Hold::Nothing, Hold::AtIterationEnd),
        Moment::Announced(command) => announced(command, facts),
        Moment::Changed if facts.author() == Author::Server => Hold::Nothing,
        Moment::Changed | Moment::Shown => match first(NOT_IN_EVENT, facts, moment) {
            Some(Reason::Script) => Hold::AtIterationEnd(facts.script_reason().unwrap_or(Reason::Script)),
            Some(reason) => Hold::AtIterationEnd(reason),
            None => Hold::InEvent,
        },
        Moment::UnitEnded(reason) => {
            first(NOT_AT_ITERATION_END, facts, ()).map_or(Hold::AtIterationEnd(reason), Hold::AtUnitEnd)
        }
        Moment::MayBeServed | Moment::MayFail => Hold::AtIterationEnd(Reason::Blocking),
        Moment::MayChange | Moment::Postponed => {
            first(NOT_SEEN_TO_RUN, facts, moment).map_or(Hold::Nothing, |_| Hold::Disconnect)
        }
        Moment::EndsLate => first(NOT_SEEN_TO_RUN, facts, moment).map_or(Hold::Nothing, |_| Hold::Refused),
        Moment::MayBeAnswered => first(NOT_SEEN_TO_BE_ANSWERED, facts, ()).map_or(Hold::Nothing, Hold::AtUnitEnd),
        Moment::Waits => first(NOT_SEEN_TO_END, facts, ()).map_or(Hold::Nothing, Hold::AtUnitEnd),
        Moment::EndedUnseen => match first(NOT_ONCE_WRITTEN, facts, ()) {
            Some(_) => Hold::Disconnect,
            None => Hold::AtIterationEnd(Reason::Blocking),
        },
        Moment::Resumed => Hold::AtIterationEnd(Reason::ClientPause),
    }
}

fn announced(command: Command, facts: &mut dyn Facts) -> Hold {
    let Command { kind, shows_change } = command;
    if kind == Kind::Refused {
        return Hold::Refused;
    }
    let Some(wrapper) = wrapper(command, facts) else {
        return if shows_change { Hold::AtIterationEnd(kind.reason_as_sent()) } else { Hold::Nothing };
    };
    match first(NOT_THROUGH_MODULE, facts, (kind, wrapper)) {
        None => Hold::ThroughModule(wrapper),
        Some(Reason::Rights) if facts.rights(wrapper) == Rights::None => Hold::Refused,
        Some(reason) => Hold::AtIterationEnd(reason),
    }
}

/// The module's command that is to run this one: because events do not report what it does, or not fully, because its
/// reply shows a change that is not durable, or because it may wait for one.
fn wrapper(command: Command, facts: &mut dyn Facts) -> Option<Wrapper> {
    let Command { kind, shows_change } = command;
    match kind {
        Kind::Count { caches } => (caches || shows_change).then_some(Wrapper::Read),
        Kind::Unseen { waits } => (!waits || facts.is_active()).then_some(Wrapper::Call),
        Kind::Write { replies_early, is_effective } => {
            (shows_change && !is_effective || replies_early && facts.is_active()).then_some(Wrapper::Call)
        }
        Kind::Script { writes: true } => facts.is_active().then_some(Wrapper::Eval),
        Kind::Script { writes: false } => (facts.is_active() && facts.any_change()).then_some(Wrapper::EvalRo),
        Kind::WaitingRead => (shows_change || facts.is_active()).then_some(Wrapper::Read),
        Kind::DurableRead | Kind::Read => shows_change.then_some(Wrapper::Read),
        Kind::AsSent { .. } | Kind::Exec | Kind::Other | Kind::Refused => None,
    }
}
