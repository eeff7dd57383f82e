//! How long the main thread waits for the disk, and for which replies.

use crate::core::ack::Reason;
use crate::core::client::Clients;
use crate::core::leaf::ClientId;
use crate::ffi::{LatencyEvent, add_latency};
use crate::log::Peaks;
use crate::module::{Counters, Iteration, Module};

/// The time that the main thread has waited.
#[derive(Debug, Default)]
pub(super) struct Waited {
    /// Microseconds, by the place of the reason in [`Reason::ALL`].
    by_reason_us: [u64; Reason::ALL.len()],
    total_us: u64,
    max_us: u64,
}

impl Waited {
    /// By reason, in the order of [`Reason::ALL`].
    pub(super) fn by_reason_us(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().copied().zip(self.by_reason_us)
    }

    /// All of it, including waits for which no reply was the reason.
    pub(super) fn total_us(&self) -> u64 {
        self.total_us
    }

    /// The longest.
    pub(super) fn max_us(&self) -> u64 {
        self.max_us
    }

    fn add(&mut self, because: Option<Reason>, us: u64) {
        if let Some(reason) = because
            && let Some(waited_us) = self.by_reason_us.get_mut(reason as usize)
        {
            *waited_us += us;
        }
        self.total_us += us;
        self.max_us = self.max_us.max(us);
    }
}

/// The loop is to wait for a reply's position.
pub(super) fn count_wait(counters: &mut Counters, iteration: &mut Iteration, reason: Reason) {
    counters.waits[reason as usize] += 1;
    iteration.waits_because.get_or_insert(reason);
}

/// A write of this client's waits, `is_unheld` where nothing could hold its reply.
pub(super) fn count_write(iteration: &mut Iteration, clients: &mut Clients, client: ClientId, is_unheld: bool) {
    iteration.writes += 1;
    iteration.unheld_writes += u32::from(is_unheld);
    iteration.waiting += u32::from(clients.counts(client));
}

impl Module {
    /// The main thread has waited for so long.
    pub(super) fn note_waited(&mut self, us: u64) {
        self.counters.waited.add(self.iteration.waits_because.take(), us);
        add_latency(LatencyEvent::LoopWait, us);
    }

    /// The end of an iteration: reports the longest write and flush since the last one to the server's latency monitor.
    pub(super) fn note_latency(&mut self) {
        self.iteration.waits_because = None;
        let peaks = self.log().map(|log| log.log().statistics().take_peaks());
        let Peaks { write_us, sync_us } = peaks.unwrap_or_default();
        add_latency(LatencyEvent::Write, write_us);
        add_latency(LatencyEvent::Fsync, sync_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_counted_for_its_reason_and_in_all() {
        let mut waited = Waited::default();
        waited.add(Some(Reason::Pipelining), 5);
        waited.add(None, 7);
        let pipelining = waited.by_reason_us().find(|(reason, _)| *reason == Reason::Pipelining);
        assert_eq!(pipelining, Some((Reason::Pipelining, 5)));
        assert_eq!((waited.total_us(), waited.max_us()), (12, 7));
    }
}
