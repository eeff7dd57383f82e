//! Clients that send commands without waiting for replies.
//!
//! A held client's next command waits for the release of the one before, so holding each write would allow a pipelining
//! client one write per flush. Its replies are not held: the event loop waits for the iteration's last write instead,
//! and all replies leave together.

use crate::log::Lsn;

/// A client that was seen to pipeline is held again after this many iterations with a single write.
const QUIET_ITERATIONS_MAX: u32 = 8;

#[derive(Debug)]
struct Marked {
    iteration: u64,
    writes: u32,
    quiet_iterations: u32,
}

/// Where the event loop is.
#[derive(Debug, Default)]
pub struct Loop {
    iteration: u64,
    /// What was durable when the last iteration ended: replies after it cannot have been sent.
    sent_up_to: Lsn,
}

impl Loop {
    /// The number of the iteration, 1 for the first.
    pub fn number(&self) -> u64 {
        self.iteration + 1
    }

    /// An iteration ends, with this position durable; what was released by now is sent.
    pub fn ended(&mut self, durable: Lsn) {
        self.iteration += 1;
        self.sent_up_to = durable;
    }
}

/// Whether a client pipelines.
#[derive(Debug, Default)]
pub struct Pipelining {
    /// The position that its last held reply waited for.
    held: Option<Lsn>,
    /// At the end of which iteration its last script got an answer.
    answered: Option<u64>,
    marked: Option<Marked>,
}

impl Pipelining {
    /// The client writes: whether it pipelines. It surely does if its held reply, or the answer to its script of the
    /// iteration before, cannot have reached it yet.
    pub fn writes(&mut self, event_loop: &Loop) -> bool {
        let iteration = event_loop.iteration;
        let Some(marked) = &mut self.marked else {
            let pipelines = self.held.is_some_and(|lsn| lsn > event_loop.sent_up_to)
                || self.answered.is_some_and(|answered| answered + 1 == iteration);
            self.marked = pipelines.then_some(Marked { iteration, writes: 2, quiet_iterations: 0 });
            return pipelines;
        };
        if marked.iteration == iteration {
            marked.writes += 1;
            return true;
        }
        marked.quiet_iterations = if marked.writes > 1 { 0 } else { marked.quiet_iterations + 1 };
        (marked.iteration, marked.writes) = (iteration, 1);
        if marked.quiet_iterations < QUIET_ITERATIONS_MAX {
            return true;
        }
        self.marked = None;
        false
    }

    /// The client's reply is held for this position.
    pub fn held(&mut self, lsn: Lsn) {
        self.held = Some(lsn);
    }

    /// A script of the client's, which waits, has run at the end of the iteration: its answer leaves at the end of the
    /// next iteration at the earliest.
    pub fn answered(&mut self, event_loop: &Loop) {
        self.answered = Some(event_loop.iteration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_writes_before_its_reply_can_have_been_sent_pipelines() {
        let (mut client, mut event_loop) = (Pipelining::default(), Loop::default());
        assert!(!client.writes(&event_loop));
        client.held(Lsn::new(10));
        event_loop.ended(Lsn::new(5));
        assert!(client.writes(&event_loop));
    }

    #[test]
    fn a_client_that_waits_for_its_reply_does_not() {
        let (mut client, mut event_loop) = (Pipelining::default(), Loop::default());
        client.held(Lsn::new(10));
        event_loop.ended(Lsn::new(10));
        assert!(!client.writes(&event_loop));
    }

    #[test]
    fn a_client_that_sends_on_before_a_scripts_answer_pipelines() {
        for (iterations, pipelines) in [(1, true), (2, false)] {
            let (mut client, mut event_loop) = (Pipelining::default(), Loop::default());
            client.answered(&event_loop);
            (0..iterations).for_each(|_| event_loop.ended(Lsn::new(1)));
            assert_eq!(client.writes(&event_loop), pipelines, "{iterations}");
        }
    }

    #[test]
    fn a_pipeliner_that_calms_down_is_held_again() {
        let (mut client, mut event_loop) = (Pipelining::default(), Loop::default());
        client.held(Lsn::new(10));
        assert!(client.writes(&event_loop));
        let mut quiet = 0;
        loop {
            event_loop.ended(Lsn::new(20));
            if !client.writes(&event_loop) {
                break;
            }
            quiet += 1;
        }
        assert_eq!(quiet, QUIET_ITERATIONS_MAX);
    }
}
