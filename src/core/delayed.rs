//! What a pause of writes (CLIENT PAUSE, a failover, a slot that moves) may have made wait, and that may not have run
//! yet. The server runs it, when the pause has ended, without showing it to the command filter again.
//!
//! Nothing reports the end of a pause, or what has run since. What the server shows is asked at the end of each
//! iteration of the event loop. All has run when two of these in a row saw no pause and no client that waits: a pause
//! may end between what the server runs at the end of an iteration and the module's look at it, and a command that has
//! waited may begin another one.
//!
//! While a pause is on, a client that still waits has run nothing, unless another command of its has come; and one that
//! does not wait has run its own: that was not delayed (a read while only writes are paused), or an earlier pause has
//! ended and let it go.

use crate::core::hash::Set;
use crate::core::leaf::ClientId;
use crate::log::Lsn;

/// How far it is known to have run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing waits.
    #[default]
    Nothing,
    /// Something may. `readers`: those that wait in blocking commands are noted.
    Waits { readers: bool },
    /// The end of an iteration has seen no more.
    SeenToEnd,
}

/// Commands that a pause may have made wait.
#[derive(Debug, Default)]
pub struct Delayed {
    stage: Stage,
    /// Whose they are, and those that wait in blocking commands: when these are served, the pause may delay them.
    clients: Set<ClientId>,
    /// Those of them whose commands may run long, and let other clients in.
    scripts: Set<ClientId>,
    /// What was noted in this iteration.
    noted: Noted,
}

/// Commands that were noted in the running iteration.
#[derive(Debug, Default)]
struct Noted {
    /// Where the log ended when the first of them came.
    since: Option<Lsn>,
    /// The clients that were not known before.
    new: Set<ClientId>,
    /// Those of which another one has come since: the one before has run.
    again: Set<ClientId>,
}

impl Delayed {
    /// A client's command may wait. `may_run_long`: and let others in when it runs. `appended`: the end of the log.
    pub fn note(&mut self, client: ClientId, may_run_long: bool, appended: Lsn) {
        if !matches!(self.stage, Stage::Waits { .. }) {
            self.stage = Stage::Waits { readers: false };
        }
        self.noted.since.get_or_insert(appended);
        if self.clients.insert(client) {
            self.noted.new.insert(client);
        }
        if may_run_long {
            self.scripts.insert(client);
        }
    }

    /// A command of the client's comes: what is noted of it has run.
    pub fn comes(&mut self, client: ClientId) {
        if self.clients.contains(&client) {
            self.noted.again.insert(client);
        }
    }

    /// A pause is on, or begins: clients that wait in blocking commands may have to wait for its end, too, when they
    /// are served. Without any, nothing waits.
    pub fn note_readers(&mut self, readers: impl Iterator<Item = ClientId>) {
        if self.stage == (Stage::Waits { readers: true }) {
            return;
        }
        self.clients.extend(readers);
        if !self.clients.is_empty() {
            self.stage = Stage::Waits { readers: true };
        }
    }

    /// The client has gone.
    pub fn remove(&mut self, client: ClientId) {
        self.clients.remove(&client);
        self.scripts.remove(&client);
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.stage == Stage::Nothing
    }

    /// The clients whose commands may run long.
    pub fn scripts(&self) -> Vec<ClientId> {
        self.scripts.iter().copied().collect()
    }

    /// An iteration ends while a pause is on. `waits` says which of these clients wait, or are about to go on. Forgets
    /// the others, and returns whether a command that has run may show a change that it was not seen to show: it was
    /// noted before this iteration, or before the log, which ends at `appended`, had its newest unit.
    pub fn ended_in_pause(&mut self, appended: Lsn, waits: impl Fn(ClientId) -> bool) -> bool {
        let Noted { since, new, again } = std::mem::take(&mut self.noted);
        let has_unit = since.is_some_and(|since| since < appended);
        let mut has_run = false;
        self.clients.retain(|client| {
            let stays = waits(*client);
            let one_has_run = !stays || again.contains(client);
            has_run |= one_has_run && (has_unit || !new.contains(client));
            stays
        });
        self.scripts.retain(|client| self.clients.contains(client));
        if self.clients.is_empty() {
            self.stage = Stage::Nothing;
        }
        has_run
    }

    /// An iteration ends. `waiting` says which of these clients wait, or are about to go on; all of them where that is
    /// not known.
    pub fn iteration_ended(&mut self, is_paused: bool, waiting: impl FnOnce(&[ClientId]) -> Option<Vec<ClientId>>) {
        if self.is_empty() {
            return;
        }
        self.noted = Noted::default();
        if !is_paused && !self.clients.is_empty() {
            let mut asked: Vec<ClientId> = self.clients.iter().copied().collect();
            // The server sorts them, and takes long for what is in no order.
            asked.sort_unstable();
            if let Some(waiting) = waiting(&asked) {
                let waiting: Set<ClientId> = waiting.into_iter().collect();
                self.scripts.retain(|client| waiting.contains(client));
                self.clients = waiting;
            }
        }
        self.stage = match self.stage {
            stage @ Stage::Waits { .. } if is_paused => stage,
            _ if is_paused || !self.clients.is_empty() => Stage::Waits { readers: false },
            Stage::Waits { .. } => Stage::SeenToEnd,
            Stage::SeenToEnd | Stage::Nothing => Stage::Nothing,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody(_: &[ClientId]) -> Option<Vec<ClientId>> {
        Some(Vec::new())
    }

    #[test]
    fn what_waits_has_run_when_two_iterations_in_a_row_saw_nothing_of_it() {
        let mut delayed = Delayed::default();
        delayed.note(7, true, Lsn::new(0));
        delayed.note(8, false, Lsn::new(0));
        delayed.iteration_ended(true, |_| panic!("nothing runs while the pause lasts"));
        delayed.iteration_ended(false, |asked| Some(asked.to_vec()));
        assert_eq!(delayed.scripts(), [7], "it is about to run");
        delayed.iteration_ended(false, |_| Some(vec![8]));
        assert!(delayed.scripts().is_empty() && !delayed.is_empty());
        delayed.iteration_ended(false, nobody);
        assert!(!delayed.is_empty(), "the last may have begun another pause, which has ended");
        delayed.iteration_ended(false, nobody);
        assert!(delayed.is_empty());
    }

    #[test]
    fn a_pause_that_is_seen_again_begins_it_anew() {
        let mut delayed = Delayed::default();
        delayed.note(6, false, Lsn::new(0));
        delayed.iteration_ended(false, nobody);
        delayed.iteration_ended(true, nobody);
        delayed.iteration_ended(false, nobody);
        delayed.note(7, false, Lsn::new(0));
        delayed.iteration_ended(false, nobody);
        assert!(!delayed.is_empty());
        delayed.iteration_ended(false, nobody);
        assert!(delayed.is_empty());
    }

    #[test]
    fn readers_are_noted_once_for_each_pause() {
        let mut delayed = Delayed::default();
        delayed.note_readers([7].into_iter());
        delayed.note_readers(std::iter::from_fn(|| panic!("they are known")));
        delayed.iteration_ended(true, nobody);
        delayed.iteration_ended(false, nobody);
        delayed.note_readers([8].into_iter());
        delayed.iteration_ended(false, |asked| Some(asked.to_vec()));
        delayed.iteration_ended(false, nobody);
        assert!(!delayed.is_empty(), "the last may have begun another pause, which has ended");
        delayed.iteration_ended(false, nobody);
        assert!(delayed.is_empty());
        delayed.note_readers(std::iter::empty());
        assert!(delayed.is_empty(), "nobody waits");
    }

    #[test]
    fn in_a_pause_what_waits_has_run_nothing() {
        let at = Lsn::new;
        let mut delayed = Delayed::default();
        delayed.note(6, true, at(1));
        delayed.note(7, false, at(1));
        assert!(!delayed.ended_in_pause(at(1), |client| client == 7), "the first was not delayed");
        assert!(delayed.scripts().is_empty() && !delayed.is_empty());
        delayed.note(8, false, at(1));
        assert!(delayed.ended_in_pause(at(2), |client| client == 7), "it may show the unit after it");
        assert!(!delayed.ended_in_pause(at(2), |client| client == 7), "none has run");
        delayed.comes(7);
        assert!(delayed.ended_in_pause(at(2), |client| client == 7), "the one before has run");
        let twice = |delayed: &mut Delayed| {
            delayed.note(9, false, at(2));
            delayed.comes(9);
            delayed.note(9, false, at(2));
        };
        twice(&mut delayed);
        assert!(!delayed.ended_in_pause(at(2), |client| client == 7), "its first one was not delayed");
        twice(&mut delayed);
        assert!(delayed.ended_in_pause(at(3), |_| true), "its first one has run, perhaps after the unit");
        delayed.comes(8);
        assert!(!delayed.ended_in_pause(at(3), |_| true), "nothing is noted of it");
        assert!(delayed.ended_in_pause(at(2), |_| false), "it has run, perhaps after others");
        assert!(delayed.is_empty());
    }

    #[test]
    fn where_the_server_does_not_say_all_of_them_wait() {
        let mut delayed = Delayed::default();
        delayed.note(7, true, Lsn::new(0));
        (0..3).for_each(|_| delayed.iteration_ended(false, |_| None));
        assert_eq!(delayed.scripts(), [7]);
    }
}
