//! Clients that send commands without waiting for replies.
//!
//! A held client's next command waits for the release of the one before, so that holding each write would give a pipelining client one write
//! per flush. Its replies are not held: the event loop waits for the iteration's last write instead, and all replies leave together.

use crate::core::leaf::ClientId;
use crate::log::Lsn;
use std::collections::HashMap;

/// A client that was seen to pipeline is held again after this many iterations with a single write.
const QUIET_ITERATIONS_MAX: u32 = 8;

#[derive(Debug)]
struct Pipeliner {
    iteration: u64,
    writes: u32,
    quiet_iterations: u32,
}

/// Who pipelines. Main thread only.
#[derive(Debug, Default)]
pub struct Pipeliners {
    /// The position that a client's last held reply waited for.
    held: HashMap<ClientId, Lsn>,
    marked: HashMap<ClientId, Pipeliner>,
    iteration: u64,
    /// What was durable when the last iteration ended: replies behind it cannot have been sent.
    sent_up_to: Lsn,
}

impl Pipeliners {
    /// A client writes: whether it pipelines. It surely does if it was held and that reply cannot have reached it.
    pub fn is_pipelining(&mut self, client: ClientId) -> bool {
        if let Some(marked) = self.marked.get_mut(&client) {
            if marked.iteration == self.iteration {
                marked.writes += 1;
                return true;
            }
            marked.quiet_iterations = if marked.writes > 1 { 0 } else { marked.quiet_iterations + 1 };
            (marked.iteration, marked.writes) = (self.iteration, 1);
            if marked.quiet_iterations < QUIET_ITERATIONS_MAX {
                return true;
            }
            self.marked.remove(&client);
            return false;
        }
        if self.held.get(&client).is_some_and(|lsn| *lsn > self.sent_up_to) {
            self.marked.insert(client, Pipeliner { iteration: self.iteration, writes: 2, quiet_iterations: 0 });
            return true;
        }
        false
    }

    /// A client's reply is held for this position.
    pub fn held(&mut self, client: ClientId, lsn: Lsn) {
        self.held.insert(client, lsn);
    }

    /// An iteration of the event loop ends, with this position durable; what was released by now is sent.
    pub fn iteration_ended(&mut self, durable: Lsn) {
        self.iteration += 1;
        self.sent_up_to = durable;
    }

    /// A client has gone.
    pub fn client_gone(&mut self, client: ClientId) {
        self.held.remove(&client);
        self.marked.remove(&client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_writes_before_its_reply_can_have_been_sent_pipelines() {
        let mut pipeliners = Pipeliners::default();
        assert!(!pipeliners.is_pipelining(1));
        pipeliners.held(1, Lsn::new(10));
        pipeliners.iteration_ended(Lsn::new(5));
        assert!(pipeliners.is_pipelining(1));
        assert!(!pipeliners.is_pipelining(2));
    }

    #[test]
    fn a_client_that_waits_for_its_reply_does_not() {
        let mut pipeliners = Pipeliners::default();
        pipeliners.held(1, Lsn::new(10));
        pipeliners.iteration_ended(Lsn::new(10));
        assert!(!pipeliners.is_pipelining(1));
    }

    #[test]
    fn a_pipeliner_that_calms_down_is_held_again() {
        let mut pipeliners = Pipeliners::default();
        pipeliners.held(1, Lsn::new(10));
        assert!(pipeliners.is_pipelining(1));
        let mut quiet = 0;
        loop {
            pipeliners.iteration_ended(Lsn::new(20));
            if !pipeliners.is_pipelining(1) {
                break;
            }
            quiet += 1;
        }
        assert_eq!(quiet, QUIET_ITERATIONS_MAX);
    }

    #[test]
    fn a_client_that_has_gone_is_forgotten() {
        let mut pipeliners = Pipeliners::default();
        pipeliners.held(1, Lsn::new(10));
        pipeliners.client_gone(1);
        assert!(!pipeliners.is_pipelining(1));
    }
}
