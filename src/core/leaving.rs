//! Clients whose replies have been let go and may not have left.
//!
//! The server takes up what was let go at the end of an iteration of the event loop; until then it takes the client for
//! blocked. Another thread lets replies go, and may be interrupted at any point: a client counts as gone only two ends
//! of iterations after its own release has returned, whatever the event loop did before.

/// The clients that are leaving.
#[derive(Debug, Default)]
pub struct Leaving {
    /// Those that a thread is letting go now, by the number of its turn.
    under_way: Vec<(u64, Vec<u64>)>,
    /// Those let go since the end of the last iteration, and in the iteration before that.
    let_go: [Vec<u64>; 2],
    turns: u64,
}

impl Leaving {
    /// A thread is about to let these clients go. Returns the number of its turn, for [`Leaving::finish`].
    pub fn begin(&mut self, clients: Vec<u64>) -> u64 {
        self.turns += 1;
        self.under_way.push((self.turns, clients));
        self.turns
    }

    /// The clients of that turn have been let go.
    pub fn finish(&mut self, turn: u64) {
        if let Some(index) = self.under_way.iter().position(|(number, _)| *number == turn) {
            self.let_go[0].append(&mut self.under_way.swap_remove(index).1);
        }
    }

    /// An iteration of the event loop is at its end: the server has taken up what was let go before the last end.
    pub fn iteration_ended(&mut self) {
        self.let_go.swap(0, 1);
        self.let_go[0].clear();
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.let_go.iter().all(Vec::is_empty)
    }

    /// Takes all of them out.
    pub fn take_all(&mut self) -> Vec<u64> {
        let under_way = std::mem::take(&mut self.under_way).into_iter().flat_map(|(_, clients)| clients);
        under_way.chain(std::mem::take(&mut self.let_go).into_iter().flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_gone_two_iterations_after_its_release() {
        let mut leaving = Leaving::default();
        let turn = leaving.begin(vec![1]);
        leaving.finish(turn);
        leaving.iteration_ended();
        assert_eq!(leaving.clone_all(), [1]);
        leaving.iteration_ended();
        assert!(leaving.is_empty());
    }

    #[test]
    fn iterations_that_end_while_a_release_is_under_way_do_not_count() {
        let mut leaving = Leaving::default();
        let slow = leaving.begin(vec![1, 2]);
        (0..5).for_each(|_| leaving.iteration_ended());
        let quick = leaving.begin(vec![3]);
        leaving.finish(quick);
        leaving.iteration_ended();
        leaving.iteration_ended();
        assert_eq!(leaving.clone_all(), [1, 2]);
        leaving.finish(slow);
        leaving.iteration_ended();
        assert_eq!(leaving.clone_all(), [1, 2]);
        leaving.iteration_ended();
        assert!(leaving.is_empty());
    }

    #[test]
    fn a_turn_whose_clients_were_taken_out_ends_with_nothing() {
        let mut leaving = Leaving::default();
        let turn = leaving.begin(vec![1]);
        assert_eq!(leaving.take_all(), [1]);
        let next = leaving.begin(vec![2]);
        leaving.finish(turn);
        assert_eq!(leaving.clone_all(), [2]);
        leaving.finish(next);
        assert_eq!(leaving.clone_all(), [2]);
    }

    impl Leaving {
        fn clone_all(&self) -> Vec<u64> {
            let under_way = self.under_way.iter().flat_map(|(_, clients)| clients);
            under_way.chain(self.let_go.iter().flatten()).copied().collect()
        }
    }
}
