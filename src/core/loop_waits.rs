//! What the event loop waits for before replies are sent.

use crate::core::leaf::ClientId;
use crate::log::Lsn;

/// If no more clients than these pipelined scripts in the last iteration, the scripts of all of them run as they were
/// sent in this one, each client's after a flush of its own. That serves all that each has sent for the price of a
/// flush; of many clients with little each, more are served if their scripts share a flush.
const SCRIPT_CLIENTS_FEW: usize = 4;

/// What the written replies that the loop waits for show.
#[derive(Debug, Default)]
pub struct LoopWaits {
    newest: Option<Lsn>,
    whose: Whose,
    /// Whose replies are written in this iteration (`None`: unknown), and what they show.
    written: Vec<(Option<ClientId>, Lsn)>,
    /// The clients that pipeline scripts, and whose scripts run as they were sent in this iteration.
    scripts_of: Vec<ClientId>,
    /// How many others' were put off to its end.
    put_off: usize,
    /// How many clients pipelined scripts in the last iteration in which any did.
    last: usize,
}

/// Whose replies they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Whose {
    #[default]
    Nobodys,
    /// All of them one client's.
    One(ClientId),
    /// Those of several clients, or of unknown ones.
    Several,
}

impl LoopWaits {
    /// The loop waits for this position with a reply of this client's (`None`: unknown).
    pub fn add(&mut self, client: Option<ClientId>, lsn: Lsn) {
        self.newest = self.newest.max(Some(lsn));
        self.is_written(client, lsn);
        self.whose = match (self.whose, client) {
            (Whose::Nobodys, Some(client)) => Whose::One(client),
            (Whose::One(one), Some(client)) if one == client => Whose::One(one),
            _ => Whose::Several,
        };
    }

    /// A reply is written that shows this, for which somebody waits.
    pub fn is_written(&mut self, client: Option<ClientId>, lsn: Lsn) {
        match self.written.last_mut() {
            Some((last, shown)) if *last == client => *shown = lsn.max(*shown),
            _ => self.written.push((client, lsn)),
        }
    }

    /// Whose written replies show what is not durable. They are forgotten, because none of them may leave.
    pub fn take_undurable(&mut self, durable: Lsn) -> Vec<Option<ClientId>> {
        let written = std::mem::take(&mut self.written);
        written.into_iter().filter(|(_, shown)| *shown > durable).map(|(client, _)| client).collect()
    }

    /// All that was waited for is durable, or was taken.
    pub fn may_leave(&mut self) {
        self.written.clear();
    }

    /// The newest position that any reply shows.
    pub fn newest(&self) -> Option<Lsn> {
        self.newest
    }

    /// The same if any of them is not, or may not be, this client's.
    pub fn newest_with_others(&self, client: ClientId) -> Option<Lsn> {
        if self.whose == Whose::One(client) { None } else { self.newest }
    }

    /// Nothing is waited for any more: takes out the position that was.
    pub fn take(&mut self) -> Option<Lsn> {
        self.whose = Whose::Nobodys;
        self.newest.take()
    }

    /// A script of this client's, which pipelines, runs as it was sent.
    pub fn runs_script_of(&mut self, client: ClientId) {
        if !self.scripts_of.contains(&client) {
            self.scripts_of.push(client);
        }
    }

    /// A script of a client that pipelines is put off to the end of the iteration.
    pub fn puts_script_off(&mut self) {
        self.put_off += 1;
    }

    /// What the loop would have to wait for before a script of this client's, where so many others' run in this
    /// iteration that it should not.
    pub fn newest_after_scripts(&self, client: ClientId) -> Option<Lsn> {
        let others = self.scripts_of.iter().filter(|other| **other != client).count();
        let are_too_many = if self.last <= SCRIPT_CLIENTS_FEW { others >= SCRIPT_CLIENTS_FEW } else { others > 0 };
        if are_too_many && !self.scripts_of.contains(&client) { self.newest_with_others(client) } else { None }
    }

    /// An iteration of the loop ends: takes out the position that is waited for.
    pub fn end_iteration(&mut self) -> Option<Lsn> {
        let clients = self.scripts_of.len() + std::mem::take(&mut self.put_off);
        if clients > 0 {
            self.last = clients;
        }
        self.scripts_of.clear();
        self.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_one_client_are_told_from_those_of_others() {
        let mut waits = LoopWaits::default();
        assert_eq!(waits.newest_with_others(1), None);
        waits.add(Some(1), Lsn::new(5));
        waits.add(Some(1), Lsn::new(3));
        assert_eq!((waits.newest(), waits.newest_with_others(1)), (Some(Lsn::new(5)), None));
        assert_eq!(waits.newest_with_others(2), Some(Lsn::new(5)));
        waits.add(Some(2), Lsn::new(4));
        let [one, two] = [1, 2].map(|client| waits.newest_with_others(client));
        assert_eq!((one, two), (Some(Lsn::new(5)), Some(Lsn::new(5))));
        assert_eq!((waits.take(), waits.newest()), (Some(Lsn::new(5)), None));
        waits.add(None, Lsn::new(6));
        waits.add(Some(1), Lsn::new(6));
        assert_eq!(waits.newest_with_others(1), Some(Lsn::new(6)), "it may be anybody's");
        waits.take();
        waits.add(Some(1), Lsn::new(7));
        assert_eq!(waits.newest_with_others(1), None);
    }

    #[test]
    fn whose_replies_may_not_leave_is_known_until_they_may() {
        let mut waits = LoopWaits::default();
        waits.add(Some(1), Lsn::new(5));
        waits.add(Some(1), Lsn::new(3));
        waits.is_written(Some(2), Lsn::new(6));
        waits.add(None, Lsn::new(7));
        assert_eq!(waits.take(), Some(Lsn::new(7)), "which says nothing of whether they leave");
        assert_eq!(waits.take_undurable(Lsn::new(5)), [Some(2), None]);
        assert!(waits.take_undurable(Lsn::ZERO).is_empty(), "they are cut off once");
        waits.add(Some(3), Lsn::new(8));
        waits.may_leave();
        assert!(waits.take_undurable(Lsn::ZERO).is_empty());
    }

    #[test]
    fn scripts_of_a_few_clients_are_waited_for_in_an_iteration() {
        let mut waits = LoopWaits::default();
        // Whether the script of each of so many clients runs as it was sent.
        let mut iteration = |clients: ClientId| {
            let runs = |client| {
                let runs = waits.newest_after_scripts(client).is_none();
                if runs {
                    waits.take();
                    waits.runs_script_of(client);
                    waits.add(Some(client), Lsn::new(client));
                } else {
                    waits.puts_script_off();
                }
                runs
            };
            let run = (1..=clients).map(runs).filter(|runs| *runs).count();
            waits.end_iteration();
            run
        };
        assert_eq!(iteration(SCRIPT_CLIENTS_FEW as u64), SCRIPT_CLIENTS_FEW);
        assert_eq!(iteration(20), SCRIPT_CLIENTS_FEW, "there were few before");
        assert_eq!(iteration(20), 1);
        assert_eq!(iteration(0), 0);
        assert_eq!(iteration(2), 1, "there were many before");
        assert_eq!(iteration(2), 2);
    }

    #[test]
    fn a_client_goes_on_with_its_scripts() {
        let mut waits = LoopWaits { last: 2 * SCRIPT_CLIENTS_FEW, ..LoopWaits::default() };
        waits.add(Some(1), Lsn::new(1));
        assert_eq!(waits.newest_after_scripts(2), None, "it is the first");
        assert_eq!(waits.take(), Some(Lsn::new(1)));
        waits.runs_script_of(2);
        assert_eq!(waits.newest_after_scripts(3), None, "nobody waits");
        waits.add(Some(2), Lsn::new(2));
        waits.runs_script_of(3);
        assert_eq!((waits.newest_after_scripts(2), waits.newest_after_scripts(3)), (None, None));
        assert_eq!(waits.newest_after_scripts(4), Some(Lsn::new(2)));
        assert_eq!(waits.end_iteration(), Some(Lsn::new(2)));
        waits.add(Some(1), Lsn::new(3));
        assert_eq!(waits.newest_after_scripts(3), None);
    }
}
