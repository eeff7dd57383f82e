//! What a command is, for the rule of acknowledgement.

use super::Reason;

/// What a command is, for the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A write whose effect events do not report, or not fully: only the caller sees what it did.
    Unseen {
        /// It may wait for something (XREADGROUP ... BLOCK).
        waits: bool,
    },
    /// A write that is always left to the server: it blocks, it is unknown, or only the server accepts it.
    AsSent {
        /// It may block.
        blocks: bool,
    },
    /// Any other write: it raises an event if it changes anything.
    Write {
        /// The head of its reply may be sent before that event.
        replies_early: bool,
        /// It changes something whenever it does not fail.
        is_effective: bool,
    },
    /// PFCOUNT, which may write what it has counted.
    Count {
        /// It may: it is of a single key.
        caches: bool,
    },
    /// A script or function.
    Script {
        /// It may write.
        writes: bool,
    },
    /// A read that may wait for a stream to change (XREAD ... BLOCK).
    WaitingRead,
    /// A read of strings whose newest durable values are known: they answer it, and nobody waits.
    DurableRead,
    /// Any other command that changes no data.
    Read,
    /// EXEC.
    Exec,
    /// Another module's command, or one that the server does not name.
    Other,
    /// It has too many arguments, or too few: the server refuses it.
    Refused,
}

/// A command, when it is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// What it is.
    pub kind: Kind,
    /// What its reply shows has changed and is not durable.
    pub shows_change: bool,
}

impl Kind {
    pub(super) fn is_script(self) -> bool {
        matches!(self, Kind::Script { .. })
    }

    pub(super) fn is_count(self) -> bool {
        matches!(self, Kind::Count { .. })
    }

    pub(super) fn is_unseen(self) -> bool {
        matches!(self, Kind::Unseen { .. })
    }

    /// Whether the server can run it so that what it did is seen, and it has its reply in the same iteration.
    pub(super) fn ends_at_once(self) -> bool {
        matches!(self, Kind::Write { .. } | Kind::Read)
    }

    /// Whether the client's next command would wait for its reply, so that the module need not hold it.
    pub(super) fn makes_wait(self) -> bool {
        !self.is_unseen() && self != Kind::DurableRead
    }

    /// Why the loop waits for what it shows when it is left to the server.
    pub(super) fn reason_as_sent(self) -> Reason {
        match self {
            Kind::Exec => Reason::Transaction,
            Kind::Script { .. } => Reason::Script,
            Kind::AsSent { blocks: true } | Kind::WaitingRead | Kind::Unseen { waits: true } => Reason::Blocking,
            Kind::Other => Reason::OtherModule,
            _ => Reason::Failure,
        }
    }
}
