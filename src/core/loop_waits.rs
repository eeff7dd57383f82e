//! What the event loop waits for before replies are sent.

use crate::core::leaf::ClientId;
use crate::log::Lsn;

/// What the written replies that the loop waits for show.
#[derive(Debug, Default)]
pub struct LoopWaits {
    newest: Option<Lsn>,
    whose: Whose,
    /// Whose replies are written in this iteration (`None`: unknown), and what they show.
    written: Vec<(Option<ClientId>, Lsn)>,
    /// The client that pipelines scripts and whose script ran first in the iteration.
    scripts_of: Option<ClientId>,
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
        self.scripts_of.get_or_insert(client);
    }

    /// What the loop would have to wait for before a script of this client's, where another's run in this iteration.
    pub fn newest_after_scripts(&self, client: ClientId) -> Option<Lsn> {
        self.scripts_of.filter(|first| *first != client)?;
        self.newest_with_others(client)
    }

    /// An iteration of the loop ends: takes out the position that is waited for.
    pub fn end_iteration(&mut self) -> Option<Lsn> {
        self.scripts_of = None;
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
    fn scripts_of_one_client_may_be_waited_for_in_an_iteration() {
        let mut waits = LoopWaits::default();
        waits.add(Some(1), Lsn::new(1));
        assert_eq!(waits.newest_after_scripts(2), None);
        assert_eq!(waits.take(), Some(Lsn::new(1)));
        waits.runs_script_of(2);
        assert_eq!(waits.newest_after_scripts(3), None, "nobody waits");
        waits.add(Some(2), Lsn::new(2));
        waits.runs_script_of(3);
        assert_eq!((waits.newest_after_scripts(2), waits.newest_after_scripts(3)), (None, Some(Lsn::new(2))));
        assert_eq!(waits.end_iteration(), Some(Lsn::new(2)));
        waits.add(Some(1), Lsn::new(3));
        assert_eq!(waits.newest_after_scripts(3), None);
    }
}
