//! The rule of acknowledgement, row by row.

use crate::core::ack::{Author, Command, Facts, Hold, Kind, Moment, Reason, Rights, Why, Wrapper, decide};
use crate::log::Lsn;

/// Facts that hold only where they are listed.
struct Only(Vec<&'static str>);

macro_rules! facts {
    ($($name:ident),*) => {
        impl Facts for Only {
            $(fn $name(&mut self) -> bool {
                self.0.contains(&stringify!($name))
            })*

            fn author(&mut self) -> Author {
                if self.0.contains(&"by_server") { Author::Server } else { Author::Command }
            }

            fn script_reason(&mut self) -> Option<Reason> {
                self.0.contains(&"script_reason").then_some(Reason::Tracking)
            }

            fn rights(&mut self, _wrapper: Wrapper) -> Rights {
                match () {
                    () if self.0.contains(&"no_rights") => Rights::None,
                    () if self.0.contains(&"own_rights") => Rights::Own,
                    () => Rights::Both,
                }
            }
        }
    };
}

facts! {
    is_active, any_change, commits_inline, in_exec, in_script, in_other_module, has_replied_early, is_slot_import,
    names_gone_key, has_postponed, has_postponed_script,
    writes_are_paused, is_cluster_with_modules, shares_id, tracks, pipelines, others_run_scripts, is_subscribed, has_asked, debugs_scripts,
    debug_paused, has_io_threads, has_other_modules, has_output_left, loses_cut_commands
}

fn hold(moment: Moment, facts: &[&'static str]) -> Hold {
    decide(moment, &mut Only(facts.to_vec()))
}

fn announced(kind: Kind, shows_change: bool, facts: &[&'static str]) -> Hold {
    let active: Vec<&str> = facts.iter().copied().chain(["is_active"]).collect();
    hold(Moment::Announced(Command { kind, shows_change }), &active)
}

const SCRIPT: Kind = Kind::Script { writes: true };
const UNSEEN: Kind = Kind::Unseen { waits: false };
const MAYBE: Kind = Kind::Write { replies_early: false, is_effective: false };
const SURELY: Kind = Kind::Write { replies_early: false, is_effective: true };

#[test]
fn a_change_is_held_in_its_event_unless_a_row_says_why_not() {
    assert_eq!(hold(Moment::Changed, &["is_active"]), Hold::InEvent);
    for (fact, reason) in [
        ("commits_inline", Reason::Inline),
        ("in_exec", Reason::Transaction),
        ("in_script", Reason::Script),
        ("has_replied_early", Reason::EarlyReply),
        ("is_slot_import", Reason::SlotImport),
        ("has_postponed", Reason::ClientPause),
        ("in_other_module", Reason::OtherModule),
        ("is_cluster_with_modules", Reason::ClusterModules),
        ("shares_id", Reason::SharedId),
        ("tracks", Reason::Tracking),
        ("pipelines", Reason::Pipelining),
        ("loses_cut_commands", Reason::CutCommands),
    ] {
        assert_eq!(hold(Moment::Changed, &[fact]), Hold::AtIterationEnd(reason), "{fact}");
    }
    for fact in ["debug_paused", "has_io_threads", "has_other_modules", "has_output_left"] {
        assert_eq!(hold(Moment::Changed, &["pipelines", fact]), Hold::InEvent, "the loop would wait for each");
    }
    assert_eq!(hold(Moment::Shown, &["has_postponed"]), Hold::InEvent, "it leaves nothing that others could show");
    assert_eq!(hold(Moment::Shown, &["tracks"]), Hold::AtIterationEnd(Reason::Tracking));
    let because = hold(Moment::Changed, &["in_script", "script_reason"]);
    assert_eq!(because, Hold::AtIterationEnd(Reason::Tracking), "why the module does not run the script");
}

#[test]
fn no_reply_waits_for_what_the_server_does_of_its_own_accord() {
    for fact in ["is_active", "commits_inline", "in_other_module", "has_postponed", "shares_id"] {
        assert_eq!(hold(Moment::Changed, &["by_server", fact]), Hold::Nothing, "{fact}");
    }
}

#[test]
fn a_refusal_that_shows_a_key_has_gone_waits_in_the_loop() {
    assert_eq!(hold(Moment::MayBeRefused, &["names_gone_key"]), Hold::AtIterationEnd(Reason::SlotMoves));
    assert_eq!(hold(Moment::MayBeRefused, &["is_active", "any_change", "has_asked"]), Hold::Nothing);
}

#[test]
fn what_shows_a_change_runs_through_the_module() {
    for (kind, without, with) in [
        (Kind::Read, None, Some(Wrapper::Read)),
        (MAYBE, None, Some(Wrapper::Call)),
        (SURELY, None, None),
        (Kind::Write { replies_early: true, is_effective: true }, Some(Wrapper::Call), Some(Wrapper::Call)),
        (UNSEEN, Some(Wrapper::Call), Some(Wrapper::Call)),
        (Kind::Count { caches: false }, None, Some(Wrapper::Read)),
        (Kind::Count { caches: true }, Some(Wrapper::Read), Some(Wrapper::Read)),
        (SCRIPT, Some(Wrapper::Eval), Some(Wrapper::Eval)),
        (Kind::WaitingRead, Some(Wrapper::Read), Some(Wrapper::Read)),
        (Kind::AsSent { blocks: true }, None, None),
        (Kind::Exec, None, None),
        (Kind::Other, None, None),
    ] {
        let through = |hold| match hold {
            Hold::ThroughModule(wrapper) => Some(wrapper),
            _ => None,
        };
        assert_eq!(through(announced(kind, false, &[])), without, "{kind:?}");
        assert_eq!(through(announced(kind, true, &[])), with, "{kind:?} of what is dirty");
    }
    let read_only = Kind::Script { writes: false };
    assert_eq!(announced(read_only, false, &[]), Hold::Nothing);
    assert_eq!(announced(read_only, false, &["any_change"]), Hold::ThroughModule(Wrapper::EvalRo));
}

#[test]
fn what_the_module_cannot_run_waits_in_the_loop_with_its_reason() {
    for (kind, fact, reason) in [
        (Kind::Read, "commits_inline", Reason::Inline),
        (MAYBE, "commits_inline", Reason::Inline),
        (SCRIPT, "has_asked", Reason::Asking),
        (SCRIPT, "debugs_scripts", Reason::ScriptDebug),
        (SCRIPT, "writes_are_paused", Reason::ClientPause),
        (Kind::Count { caches: true }, "writes_are_paused", Reason::ClientPause),
        (Kind::Read, "is_subscribed", Reason::Subscriber),
        (Kind::Read, "tracks", Reason::Tracking),
        (Kind::Read, "pipelines", Reason::Pipelining),
        (SCRIPT, "pipelines", Reason::Pipelining),
        (SCRIPT, "loses_cut_commands", Reason::CutCommands),
        (Kind::WaitingRead, "loses_cut_commands", Reason::CutCommands),
        (Kind::Read, "loses_cut_commands", Reason::CutCommands),
        (MAYBE, "loses_cut_commands", Reason::CutCommands),
        (UNSEEN, "own_rights", Reason::Rights),
    ] {
        assert_eq!(announced(kind, true, &[fact]), Hold::AtIterationEnd(reason), "{fact}");
    }
    assert_eq!(announced(Kind::Read, true, &["no_rights"]), Hold::Refused, "by its user's rights");
    assert_eq!(announced(Kind::Refused, true, &["tracks"]), Hold::Refused, "by its arguments");
    assert_eq!(announced(Kind::Read, true, &["has_asked"]), Hold::ThroughModule(Wrapper::Read));
    assert_eq!(announced(UNSEEN, true, &["tracks", "pipelines"]), Hold::ThroughModule(Wrapper::Call), "to be seen");
    for fact in ["debug_paused", "has_io_threads", "has_other_modules", "has_output_left"] {
        let hold = announced(Kind::Read, true, &["pipelines", fact]);
        assert_eq!(hold, Hold::ThroughModule(Wrapper::Read), "the loop would wait for each");
    }
    let crowded = ["pipelines", "others_run_scripts"];
    assert_eq!(announced(SCRIPT, true, &crowded), Hold::ThroughModule(Wrapper::Eval), "to share a flush");
    assert_eq!(announced(Kind::Read, true, &crowded), Hold::AtIterationEnd(Reason::Pipelining));
    for kind in [UNSEEN, SCRIPT, Kind::WaitingRead, Kind::Count { caches: true }] {
        let hold = announced(kind, true, &["commits_inline"]);
        assert!(matches!(hold, Hold::ThroughModule(_)), "{kind:?} outlasts the iteration, or is not seen");
    }
    for (kind, reason) in [
        (Kind::Exec, Reason::Transaction),
        (Kind::AsSent { blocks: true }, Reason::Blocking),
        (SURELY, Reason::Failure),
        (Kind::Other, Reason::OtherModule),
    ] {
        assert_eq!(announced(kind, true, &[]), Hold::AtIterationEnd(reason));
        assert_eq!(announced(kind, false, &[]), Hold::Nothing);
    }
}

#[test]
fn nobody_is_held_where_the_server_loses_cut_commands() {
    for fact in ["debug_paused", "has_io_threads", "has_other_modules", "has_output_left"] {
        let facts = ["loses_cut_commands", "pipelines", fact];
        let cut = Hold::AtIterationEnd(Reason::CutCommands);
        assert_eq!(hold(Moment::Changed, &facts), cut, "even if the loop waits for each");
        assert_eq!(announced(Kind::Read, true, &facts), cut);
    }
    let crowded = ["loses_cut_commands", "pipelines", "others_run_scripts"];
    assert_eq!(announced(SCRIPT, true, &crowded), Hold::AtIterationEnd(Reason::CutCommands), "WBL.EVAL blocks it");
    let read_only = announced(Kind::Script { writes: false }, false, &["any_change", "loses_cut_commands"]);
    assert_eq!(read_only, Hold::AtIterationEnd(Reason::CutCommands));
    let lost = ["loses_cut_commands"];
    assert_eq!(announced(UNSEEN, true, &lost), Hold::ThroughModule(Wrapper::Call), "to be seen; then the loop waits");
    assert_eq!(announced(Kind::DurableRead, true, &lost), Hold::ThroughModule(Wrapper::Read), "it waits for nothing");
    assert_eq!(announced(Kind::Read, true, &["loses_cut_commands", "no_rights"]), Hold::Refused);
}

#[test]
fn nothing_but_what_must_be_seen_is_wrapped_before_the_log_is_active() {
    let hold = |kind| hold(Moment::Announced(Command { kind, shows_change: false }), &["any_change"]);
    for kind in [SCRIPT, MAYBE, Kind::WaitingRead, Kind::Unseen { waits: true }, Kind::Script { writes: false }] {
        assert_eq!(hold(kind), Hold::Nothing, "{kind:?}");
    }
    assert_eq!(hold(UNSEEN), Hold::ThroughModule(Wrapper::Call));
}

#[test]
fn what_could_leave_before_the_iteration_ends_waits_at_the_units_end() {
    let ended = |facts: &[&'static str]| hold(Moment::UnitEnded(Reason::Tracking), facts);
    assert_eq!(ended(&[]), Hold::AtIterationEnd(Reason::Tracking));
    for (fact, reason) in [
        ("debug_paused", Reason::DebugPause),
        ("has_io_threads", Reason::IoThreads),
        ("has_other_modules", Reason::ModuleYield),
        ("has_postponed_script", Reason::ClientPause),
        ("has_output_left", Reason::OutputLeft),
    ] {
        assert_eq!(ended(&[fact]), Hold::AtUnitEnd(reason), "{fact}");
    }
}

#[test]
fn what_a_command_has_found_is_durable_before_it_can_be_shown_unseen() {
    assert_eq!(hold(Moment::Waits, &["has_postponed", "has_output_left"]), Hold::Nothing, "it is seen to end");
    assert_eq!(hold(Moment::Waits, &["has_io_threads"]), Hold::AtUnitEnd(Reason::IoThreads));
    assert_eq!(hold(Moment::Waits, &["has_other_modules"]), Hold::AtUnitEnd(Reason::ModuleYield));
}

#[test]
fn what_another_module_may_answer_is_durable_before_threads_can_send_it() {
    assert_eq!(hold(Moment::MayBeAnswered, &["has_other_modules", "has_output_left"]), Hold::Nothing, "it is seen");
    assert_eq!(hold(Moment::MayBeAnswered, &["has_io_threads"]), Hold::AtUnitEnd(Reason::IoThreads));
}

#[test]
fn no_reply_of_a_change_that_is_logged_later_can_leave_before_that() {
    for (moment, way) in [
        (Moment::MayChange, Hold::Disconnect),
        (Moment::Postponed, Hold::Disconnect),
        (Moment::EndsLate, Hold::Refused),
    ] {
        assert_eq!(hold(moment, &["has_postponed", "debug_paused"]), Hold::Nothing, "{moment:?}: it is seen in time");
        for fact in ["has_io_threads", "has_other_modules", "has_postponed_script"] {
            assert_eq!(hold(moment, &[fact]), way, "{moment:?}: {fact}");
        }
        let with_output = if moment == Moment::Postponed { Hold::Nothing } else { way };
        assert_eq!(hold(moment, &["has_output_left"]), with_output, "{moment:?}");
    }
}

#[test]
fn what_ended_out_of_sight_waits_in_the_loop_or_is_never_sent() {
    assert_eq!(hold(Moment::EndedUnseen, &[]), Hold::AtIterationEnd(Reason::Blocking));
    assert_eq!(hold(Moment::EndedUnseen, &["debug_paused"]), Hold::Disconnect);
    for facts in [&[][..], &["debug_paused"]] {
        assert_eq!(hold(Moment::MayBeServed, facts), Hold::AtIterationEnd(Reason::Blocking));
        assert_eq!(hold(Moment::MayFail, facts), Hold::AtIterationEnd(Reason::Blocking));
        assert_eq!(hold(Moment::Resumed, facts), Hold::AtIterationEnd(Reason::ClientPause));
    }
}

#[test]
fn each_reason_has_a_field_of_its_own() {
    let mut fields: Vec<&str> = Reason::ALL.iter().map(|reason| reason.field()).collect();
    assert!(Reason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
    assert!(Reason::ALL.iter().all(|reason| reason.field() == format!("waits_{}", reason.name())));
    fields.sort_unstable();
    fields.dedup();
    assert_eq!(fields.len(), Reason::ALL.len());
}

#[test]
fn nothing_leaves_before_its_position_is_durable() {
    let (waits_for, before, behind) = (Lsn::new(5), Lsn::new(4), Lsn::new(6));
    for (durable, possible) in [(before, false), (waits_for, true), (behind, true)] {
        assert_eq!(Why::Durable { waits_for, durable }.is_possible(), possible);
        assert_eq!(Why::LogClosed { waits_for, durable }.is_possible(), possible);
    }
}
