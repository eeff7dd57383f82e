//! The databases in which COPYs that name a database were sent.
//!
//! An event names the database of its key, and where a module listens, most servers before 9.1.1 leave the executing
//! client in it. Only the events of MOVE, COPY ... DB and CLUSTER FLUSHSLOT, and those of a dataset that is loaded,
//! name another database than their client's. MOVE raises one in each. That of COPY holds the very string that was
//! sent, so its place in memory shows which COPY raised it, however many a transaction has, and whether those
//! before it have failed. While a client's FLUSHSLOT runs, all deletions of that client are part of it. Where
//! clients were when a dataset began to be loaded is asked of the server, and kept beside this (`module/homes.rs`).

use crate::core::hash::Map;
use crate::core::leaf::ClientId;

/// Where a string is in memory: until its command has run, no other string is there.
pub type Place = usize;

/// A COPY that names a database: where the name of the key that it makes is, and the database that it is sent in.
type Copied = (Place, u32);

/// What a client has sent last, or since its MULTI.
#[derive(Debug, Default)]
struct Sent {
    /// The database that a queued SELECT has chosen.
    selected: Option<u32>,
    /// Those that wait, by their places. The strings of refused commands are gone, and others are in their places.
    copies: Map<Place, u32>,
}

/// The databases that clients are in while events name others.
#[derive(Debug, Default)]
pub struct Homes {
    sent: Map<ClientId, Sent>,
    /// What a script or a module has sent last, which runs at once.
    inner: Option<Copied>,
    /// The database that the key of the running MOVE comes from.
    moved_from: Option<u32>,
    /// The connected client that has sent the last command.
    sender: ClientId,
    /// The client whose script runs, or whose transaction with scripts.
    caller: ClientId,
    /// The database that its script has chosen by a SELECT, and how many scripts had run before that, which is counted
    /// in transactions only.
    script: Option<(u32, Option<u64>)>,
    /// The client that has sent a CLUSTER FLUSHSLOT last, and nothing since, and its database.
    flushing: Option<(ClientId, u32)>,
}

impl Homes {
    /// The client has gone, or sends what begins a new queue.
    pub fn forget(&mut self, client: ClientId) {
        self.sent.remove(&client);
    }

    /// The client queues a SELECT of this database.
    pub fn selects(&mut self, client: ClientId, db: u32) {
        self.sent.entry(client).or_default().selected = Some(db);
    }

    /// The client queues a COPY; `copied` where it names a database, with the client's.
    pub fn queues_copy(&mut self, client: ClientId, copied: Option<Copied>) {
        // What was there may have gone, and this one's string may be there.
        self.inner = None;
        if let Some((place, db)) = copied {
            let sent = self.sent.entry(client).or_default();
            let home = sent.selected.unwrap_or(db);
            sent.copies.insert(place, home);
        }
    }

    /// The client sends a COPY that runs now; `copied` where it names a database.
    pub fn copies(&mut self, client: ClientId, copied: Option<Copied>) {
        self.inner = None;
        match copied {
            Some(copied) => {
                self.sent.insert(client, Sent { selected: None, copies: Map::from_iter([copied]) });
            }
            None => self.forget(client),
        }
    }

    /// The same for a script or a module.
    pub fn copies_inside(&mut self, copied: Option<Copied>) {
        self.inner = copied;
    }

    /// A connected client has sent a command.
    pub fn sends(&mut self, client: ClientId) {
        self.sender = client;
        self.flushing = self.flushing.filter(|(flushing, _)| *flushing != client);
    }

    /// It is a CLUSTER FLUSHSLOT, outside of a transaction, in this database.
    pub fn flushes(&mut self, client: ClientId, db: u32) {
        self.flushing = Some((client, db));
    }

    /// The database of the client whose FLUSHSLOT has deleted a key.
    pub fn deletes(&self, client: ClientId) -> Option<u32> {
        self.flushing.filter(|(flushing, _)| *flushing == client).map(|(_, db)| db)
    }

    /// Who has sent the last command.
    pub fn sender(&self) -> ClientId {
        self.sender
    }

    /// The client has sent what may run scripts.
    pub fn calls(&mut self, client: ClientId) {
        (self.caller, self.script) = (client, None);
    }

    /// A module calls a script.
    pub fn script_begins(&mut self) {
        self.script = None;
    }

    /// Whose script runs.
    pub fn caller(&self) -> ClientId {
        self.caller
    }

    /// The running script has selected this database. `runs`: how many scripts have ended.
    pub fn script_selects(&mut self, db: u32, runs: Option<u64>) {
        self.script = Some((db, runs));
    }

    /// The database that the running script has selected, `runs` being asked for only where it matters.
    pub fn script_selected(&self, in_exec: bool, runs: impl FnOnce() -> Option<u64>) -> Option<u32> {
        let (db, before) = self.script?;
        // Nothing says where a script of a transaction begins.
        (!in_exec || before == runs()).then_some(db)
    }

    /// A key has left this database by the MOVE that runs.
    pub fn move_from(&mut self, db: u32) {
        self.moved_from = Some(db);
    }

    /// It has arrived. The database that it came from.
    pub fn move_to(&mut self) -> Option<u32> {
        self.moved_from.take()
    }

    /// The database of the client whose COPY has made the key with the name at this place.
    pub fn copy_to(&mut self, client: ClientId, place: Place) -> Option<u32> {
        let queued = self.sent.get_mut(&client).and_then(|sent| sent.copies.remove(&place));
        queued.or_else(|| self.inner.filter(|(at, _)| *at == place).map(|(_, home)| home))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queued_copies_run_where_the_selects_before_them_lead() {
        let mut homes = Homes::default();
        homes.forget(1);
        homes.queues_copy(1, Some((10, 7)));
        homes.selects(1, 5);
        homes.queues_copy(1, Some((20, 7)));
        homes.queues_copy(1, Some((30, 7)));
        homes.copies_inside(Some((40, 3)));
        assert_eq!(homes.copy_to(2, 10), None, "another client");
        assert_eq!(homes.copy_to(1, 10), Some(7));
        assert_eq!(homes.copy_to(1, 40), Some(3), "a module's under the client's id");
        assert_eq!(homes.copy_to(1, 30), Some(5), "the one before has failed");
        assert_eq!(homes.copy_to(1, 30), None, "each runs once");
    }

    #[test]
    fn what_was_sent_before_does_not_count() {
        let mut homes = Homes::default();
        homes.selects(1, 5);
        homes.queues_copy(1, Some((10, 7)));
        homes.forget(1);
        homes.queues_copy(1, Some((20, 7)));
        assert_eq!(homes.copy_to(1, 10), None);
        assert_eq!(homes.copy_to(1, 20), Some(7));
        homes.copies(1, Some((10, 2)));
        homes.copies(1, None);
        assert_eq!(homes.copy_to(1, 10), None, "another string may lie there now");
        homes.copies_inside(Some((10, 2)));
        homes.copies_inside(None);
        assert_eq!(homes.copy_to(1, 10), None);
        homes.copies_inside(Some((10, 2)));
        homes.queues_copy(1, None);
        assert_eq!(homes.copy_to(1, 10), None);
        homes.copies_inside(Some((10, 2)));
        homes.copies(1, None);
        assert_eq!(homes.copy_to(1, 10), None);
    }

    #[test]
    fn a_script_of_a_transaction_does_not_begin_where_the_one_before_went() {
        let mut homes = Homes::default();
        homes.calls(1);
        homes.script_selects(4, Some(2));
        assert_eq!(homes.script_selected(true, || Some(2)), Some(4));
        assert_eq!(homes.script_selected(true, || Some(3)), None);
        homes.calls(2);
        assert_eq!((homes.caller(), homes.script_selected(false, || None)), (2, None));
    }

    #[test]
    fn deletions_belong_to_a_flushed_slot_until_its_client_sends_something_else() {
        let mut homes = Homes::default();
        homes.sends(1);
        homes.flushes(1, 3);
        homes.sends(2);
        assert_eq!((homes.deletes(1), homes.deletes(2)), (Some(3), None), "a pause may have delayed it");
        homes.sends(1);
        assert_eq!(homes.deletes(1), None);
    }

    #[test]
    fn a_move_comes_from_the_database_that_its_key_has_left() {
        let mut homes = Homes::default();
        assert_eq!(homes.move_to(), None);
        homes.move_from(3);
        assert_eq!((homes.move_to(), homes.move_to()), (Some(3), None));
    }
}
