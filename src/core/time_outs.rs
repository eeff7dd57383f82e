//! What commands that wait have found when they began to, and that is not durable yet: their answers show it when their
//! time is over.
//!
//! Where the server sends such an answer before the module sees it, it must be durable by then. Nearly always it is, as
//! a flush takes less time than they wait.

use crate::log::Lsn;

/// What is not durable yet of that, with the time when it is shown, in milliseconds since the Unix epoch.
#[derive(Debug, Default)]
pub struct TimeOuts(Vec<(i64, Lsn)>);

impl TimeOuts {
    /// A command that has found this change times out then.
    pub fn add(&mut self, deadline_ms: i64, change: Lsn) {
        self.0.push((deadline_ms, change));
    }

    /// Whether nothing is to be shown.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out the newest change that is shown until then, and whatever is durable by now.
    pub fn take_until(&mut self, at_ms: i64, durable: Lsn) -> Option<Lsn> {
        let mut newest = None;
        self.0.retain(|(deadline_ms, change)| {
            let is_durable = *change <= durable;
            let is_due = *deadline_ms <= at_ms;
            if is_due && !is_durable {
                newest = newest.max(Some(*change));
            }
            !is_due && !is_durable
        });
        newest
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
        for (deadline_ms, change) in [(100, 1), (100, 5), (200, 4), (300, 9), (300, 2)] {
            time_outs.add(deadline_ms, Lsn::new(change));
        }
        assert_eq!(time_outs.take_until(50, Lsn::new(1)), None);
        assert_eq!(time_outs.take_until(200, Lsn::new(1)), Some(Lsn::new(5)));
        assert_eq!(time_outs.take_until(200, Lsn::new(1)), None, "it was taken out");
        assert_eq!(time_outs.take_until(250, Lsn::new(9)), None);
        assert!(time_outs.is_empty(), "what is durable is not kept");
    }
}
