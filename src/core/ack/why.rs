//! Why a reply is let go.

use crate::log::Lsn;

/// Why a held reply is let go. There are no other reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// What it did, or shows, is durable.
    Durable {
        /// The position that it waited for.
        waits_for: Lsn,
        /// The durable position.
        durable: Lsn,
    },
    /// It did nothing, and shows nothing that is not durable.
    NothingShown,
    /// No reply waits: there is no log, or none that a start would find.
    NotActive,
    /// The log was closed after everything in it had become durable.
    LogClosed {
        /// The position that it waited for.
        waits_for: Lsn,
        /// The durable position.
        durable: Lsn,
    },
    /// The server became a replica. Its client is closed: nobody gets the reply.
    Demoted,
    /// Its client waits no longer (it has gone, or CLIENT UNBLOCK has ended its wait), and does not get this reply.
    Left,
    /// It is that of one of the module's own commands, and shows no data.
    Own,
}

impl Why {
    /// Whether it can be so.
    pub fn is_possible(self) -> bool {
        match self {
            Why::Durable { waits_for, durable } | Why::LogClosed { waits_for, durable } => waits_for <= durable,
            Why::NothingShown | Why::NotActive | Why::Demoted | Why::Left | Why::Own => true,
        }
    }
}
