//! WBL.DEBUG EXPLAIN: how the reply to a command would be kept until what it shows is durable, and why.
//!
//! The rule is asked in the filter, where commands are announced: the arguments of WBL.DEBUG EXPLAIN are looked at as
//! the command that its client would send now. It does not run, and nothing is noted of it.

use crate::core::ack::{Command, Hold, Kind, Moment, Reason, Wrapper, decide};
use crate::ffi::{Ctx, Filter};
use crate::module::facts::{Asked, kind_of};
use crate::module::wrappers::name_of;
use crate::module::{Module, errors, with};

/// The answer: the way, the reason's name, and both in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Explained {
    way: &'static str,
    reason: &'static str,
    text: String,
}

impl Explained {
    fn new(way: &'static str, reason: Option<Reason>, text: String) -> Explained {
        Explained { way, reason: reason.map_or("", Reason::name), text }
    }

    fn of(hold: Hold) -> Explained {
        let because = |reason: Reason, what: &str| format!("{what}: {}", reason.text());
        match hold {
            Hold::Nothing => Explained::new("at-once", None, "it shows nothing that is not durable".into()),
            Hold::InEvent => Explained::new("held", None, "the server keeps its reply; nobody else waits".into()),
            Hold::ThroughModule(wrapper) => Explained::new("module", None, of_module(wrapper)),
            Hold::AtIterationEnd(reason) => {
                let text = because(reason, "the event loop waits before it sends replies");
                Explained::new("loop", Some(reason), text)
            }
            Hold::AtUnitEnd(reason) => {
                let text = because(reason, "the main thread waits as soon as the command has run");
                Explained::new("main-thread", Some(reason), text)
            }
            Hold::Disconnect => Explained::new("disconnected", None, "its client is disconnected".into()),
            Hold::Refused => Explained::new("refused", None, "the server refuses it".into()),
        }
    }
}

fn of_module(wrapper: Wrapper) -> String {
    let name = name_of(wrapper).to_string_lossy().to_ascii_uppercase();
    format!("the module runs it ({name}) and keeps its reply; nobody else waits")
}

impl Module {
    /// WBL.DEBUG EXPLAIN command... has come: how would the reply to the command be kept?
    pub(super) fn note_explained(&mut self, ctx: Ctx<'_>, filter: &Filter) {
        self.explained = if filter.len() > 2 && filter.arg(1).eq_ignore_ascii_case(b"explain") {
            Some(self.explain(ctx, &filter.from(2)))
        } else {
            None
        };
    }

    fn explain(&mut self, ctx: Ctx<'_>, filter: &Filter) -> Explained {
        let known = self.server.commands.known(filter.arg(0), filter.arg(1));
        if known.is_unknown() {
            return Explained::new("refused", None, "the server has no such command".into());
        }
        if !self.life.withholds() {
            let text = format!("the log is {}: no reply waits", self.life.state().name());
            return Explained::new("at-once", None, text);
        }
        let client = filter.client_id();
        let shown = self.newest_read(ctx, filter, known, self.info_of(ctx, client).map(|info| info.db));
        let kind = kind_of(filter, known, shown.is_some());
        let command = Command { kind, shows_change: shown.is_some() };
        let hold = {
            let mut facts = Asked::new(self, ctx, client).in_filter(filter, false, None);
            match decide(Moment::Announced(command), &mut facts) {
                Hold::Nothing if matches!(kind, Kind::Write { .. } | Kind::AsSent { .. }) => {
                    decide(Moment::Changed, &mut facts)
                }
                // The module may run it, and leave the wait to the loop.
                hold @ Hold::ThroughModule(wrapper @ (Wrapper::Call | Wrapper::Read)) => {
                    let moment = if wrapper == Wrapper::Read { Moment::Shown } else { Moment::Changed };
                    match decide(moment, &mut facts) {
                        Hold::InEvent => hold,
                        changed => changed,
                    }
                }
                hold => hold,
            }
        };
        if kind == Kind::Exec {
            return Explained::of(Hold::AtIterationEnd(Reason::Transaction));
        }
        // What the loop waits for may leave before that.
        match hold {
            Hold::AtIterationEnd(reason) => {
                let ended = decide(Moment::UnitEnded(reason), &mut Asked::new(self, ctx, client));
                Explained::of(ended)
            }
            hold => Explained::of(hold),
        }
    }
}

/// WBL.DEBUG EXPLAIN command...
pub(super) fn explain(ctx: Ctx<'_>) {
    let Some(Some(Explained { way, reason, text })) = with(|module| module.explained.take()) else {
        return ctx.reply_error(errors::NOT_EXPLAINED);
    };
    ctx.reply_map(3);
    for (name, value) in [("way", way), ("reason", reason), ("text", &text)] {
        ctx.reply_bulk(name.as_bytes());
        ctx.reply_bulk(value.as_bytes());
    }
}
