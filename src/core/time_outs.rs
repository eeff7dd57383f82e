//! Changes that are not durable and that commands found when they began to wait: their answers show them when they time
//! out.
//!
//! Where the server sends such an answer before the module sees it, the change must be durable by then. Nearly always
//! it is, because a flush takes less time than they wait.

use crate::core::leaf::ClientId;
use crate::log::Lsn;

/// Each such change, with the time when it is shown, in milliseconds since the Unix epoch, and to whom.
#[derive(Debug, Default)]
pub struct TimeOuts(Vec<(i64, ClientId, Lsn)>);

impl TimeOuts {
    /// A command of the client's that has found this change times out then.
    pub fn add(&mut self, deadline_ms: i64, client: ClientId, change: Lsn) {
        self.0.push((deadline_ms, client, change));
    }

    /// Whether nothing is to be shown.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out what is shown until then, with whom it is shown to, and whatever is durable by now.
    pub fn take_until(&mut self, at_ms: i64, durable: Lsn) -> Vec<(ClientId, Lsn)> {
        let mut shown = Vec::new();
        self.0.retain(|(deadline_ms, client, change)| {
            let is_durable = *change <= durable;
            let is_due = *deadline_ms <= at_ms;
            if is_due && !is_durable {
                shown.push((*client, *change));
            }
            !is_due && !is_durable
        });
        shown
    }

    /// Logging ends: nothing is waited for.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_soon_shown_is_taken_out_once_unless_it_is_durable() {
        let mut time_outs = TimeOuts::default();
        for (deadline_ms, client, change) in [(100, 7, 1), (100, 7, 5), (200, 8, 4), (300, 8, 9), (300, 9, 2)] {
            time_outs.add(deadline_ms, client, Lsn::new(change));
        }
        assert_eq!(time_outs.take_until(50, Lsn::new(1)), []);
        assert_eq!(time_outs.take_until(200, Lsn::new(1)), [(7, Lsn::new(5)), (8, Lsn::new(4))]);
        assert_eq!(time_outs.take_until(200, Lsn::new(1)), [], "it was taken out");
        assert_eq!(time_outs.take_until(250, Lsn::new(9)), []);
        assert!(time_outs.is_empty(), "what is durable is not kept");
    }
}
