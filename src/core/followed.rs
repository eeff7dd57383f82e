//! What a replica gets from its primary, on its way into the replica's log.
//!
//! A primary sends commands that have the same effect on the same dataset, whatever the time: each is logged as it was
//! sent, as soon as it has run, and a transaction as one unit. What else changes data on a replica (other clients where
//! they may write, evictions, other modules) is logged as the resulting state of the keys that events name.

use crate::core::dirty::DbKey;
use crate::core::hash::Set;
use crate::core::leaf::ClientId;
use crate::core::unit::Unit;
use std::sync::Arc;

/// What kind of command the primary has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It changes no data.
    Nothing,
    /// It selects a database; `None` where that is not a number.
    Select(Option<u32>),
    /// MULTI.
    Multi,
    /// EXEC.
    Exec,
    /// DISCARD.
    Discard,
    /// A write with the same effect whenever it runs.
    Exact,
    /// A write that may have another effect: what older servers send.
    Inexact,
}

/// Whose a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The primary's.
    Primary,
    /// Another client's.
    Other,
    /// Unknown: the server must be asked.
    Unknown,
}

/// Commands that run together.
#[derive(Debug)]
struct Commands {
    unit: Unit,
    /// The database in which the next one runs.
    db: u32,
    is_exact: bool,
    /// The server may have made it wait, so that it has not run.
    may_wait: bool,
}

impl Commands {
    fn new(db: u32) -> Commands {
        Commands { unit: Unit::new(0), db, is_exact: true, may_wait: false }
    }

    fn push(&mut self, sent: Sent, args: &[&[u8]]) {
        match sent {
            Sent::Exact | Sent::Inexact => {
                self.unit.command(self.db, args);
                self.is_exact &= sent == Sent::Exact;
            }
            Sent::Select(Some(db)) => self.db = db,
            _ => {}
        }
    }
}

/// The state between what the primary has sent and the log.
#[derive(Debug, Default)]
pub struct Followed {
    primary: Option<ClientId>,
    /// The client that was asked about last and is not the primary's.
    stranger: Option<ClientId>,
    db: u32,
    /// Queued since a MULTI.
    transaction: Option<Commands>,
    /// Announced, and not logged yet.
    announced: Option<Commands>,
    strays: Strays,
    lost: Option<&'static str>,
}

/// What has changed otherwise.
#[derive(Debug, Default)]
pub struct Strays {
    /// Keys whose state is to be logged.
    pub keys: Set<DbKey>,
    /// The same in every database that has them.
    pub everywhere: Set<Arc<[u8]>>,
    /// The function library is to be logged.
    pub functions: bool,
}

impl Strays {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.everywhere.is_empty() && !self.functions
    }
}

/// What is to be logged now, in this order.
#[derive(Debug, Default)]
pub struct Sealed {
    /// As it was sent.
    pub unit: Option<Unit>,
    /// The state of all keys that these commands name.
    pub keys_of: Vec<(u32, Vec<Vec<u8>>)>,
    /// What has changed otherwise.
    pub strays: Strays,
}

impl Followed {
    /// Whose commands come under this id.
    pub fn whose(&self, client: ClientId) -> Whose {
        match client {
            _ if self.primary == Some(client) => Whose::Primary,
            _ if self.stranger == Some(client) => Whose::Other,
            _ => Whose::Unknown,
        }
    }

    /// The primary's client, as far as it is known.
    pub fn primary(&self) -> Option<ClientId> {
        self.primary
    }

    /// The primary's commands come under this id from now on.
    pub fn meet(&mut self, primary: ClientId, db: u32) {
        if self.primary != Some(primary) {
            self.transaction = None;
        }
        (self.primary, self.db) = (Some(primary), db);
    }

    /// This client is not the primary's.
    pub fn note_stranger(&mut self, client: ClientId) {
        self.stranger = Some(client);
    }

    /// A command of the primary's is about to run or to be queued; what was announced before has been taken.
    pub fn announce(&mut self, sent: Sent, args: &[&[u8]], may_wait: bool) {
        if self.announced.is_some() {
            return self.lose("a command came while the one before it waited");
        }
        match (sent, &mut self.transaction) {
            (Sent::Multi, _) => self.transaction = Some(Commands::new(self.db)),
            (Sent::Discard, _) => self.transaction = None,
            (Sent::Exec, None) => self.lose("a transaction had begun before the log"),
            (Sent::Exec, Some(_)) => {
                self.announced = self.transaction.take().map(|queued| Commands { may_wait, ..queued });
                self.db = self.announced.as_ref().map_or(self.db, |queued| queued.db);
            }
            (_, Some(queued)) => queued.push(sent, args),
            (Sent::Nothing, None) => {}
            (Sent::Select(db), None) => self.db = db.unwrap_or(self.db),
            (Sent::Exact | Sent::Inexact, None) => {
                let mut commands = Commands { may_wait, ..Commands::new(self.db) };
                commands.push(sent, args);
                self.announced = Some(commands);
            }
        }
    }

    /// The link to the primary is down: what it has begun it will send again.
    pub fn link_down(&mut self) {
        self.transaction = None;
        if self.announced.as_ref().is_some_and(|announced| announced.may_wait) {
            self.announced = None;
            self.lose("the link broke while a command may have waited for the end of a pause");
        }
    }

    /// Whether what is announced logs this client's changes, or anybody's where it is unknown whose they are.
    pub fn covers(&self, client: Option<ClientId>) -> bool {
        let is_primary = client.is_none_or(|client| self.primary == Some(client));
        is_primary && self.announced.as_ref().is_some_and(|announced| announced.is_exact)
    }

    /// Something else has changed, or may have.
    pub fn strays(&mut self) -> &mut Strays {
        &mut self.strays
    }

    /// The log can't follow: why.
    pub fn lose(&mut self, why: &'static str) {
        self.lost.get_or_insert(why);
    }

    /// Why the log can't follow, if that is so.
    pub fn lost(&self) -> Option<&'static str> {
        self.lost
    }

    /// Whether the server may have made what is announced wait.
    pub fn may_wait(&self) -> bool {
        self.announced.as_ref().is_some_and(|announced| announced.may_wait)
    }

    /// Whether nothing is to be logged.
    pub fn is_quiet(&self) -> bool {
        self.announced.is_none() && self.strays.is_empty()
    }

    /// Takes out what has run. It is unknown whether something else changed a key before or after a command that names
    /// it: all of that command's keys are then logged as they are.
    pub fn take(&mut self, waits: bool) -> Sealed {
        let strays = std::mem::take(&mut self.strays);
        let announced = if waits { None } else { self.announced.take() };
        let Some(Commands { unit, is_exact, .. }) = announced else {
            return Sealed { strays, ..Sealed::default() };
        };
        let keys_of = if is_exact && strays.is_empty() { Vec::new() } else { unit.commands() };
        Sealed { unit: Some(unit).filter(|_| is_exact), keys_of, strays }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<&[u8]> {
        text.split(' ').map(str::as_bytes).collect()
    }

    fn sent(followed: &mut Followed, sent: Sent, text: &str) -> Vec<String> {
        followed.announce(sent, &args(text), false);
        logged(followed)
    }

    fn words(commands: &[(u32, Vec<Vec<u8>>)]) -> Vec<String> {
        let text = |args: &[Vec<u8>]| args.iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>().join(" ");
        commands.iter().map(|(db, args)| format!("{db}: {}", text(args))).collect()
    }

    fn logged(followed: &mut Followed) -> Vec<String> {
        words(&followed.take(false).unit.map_or(Vec::new(), |unit| unit.commands()))
    }

    fn met() -> Followed {
        let mut followed = Followed::default();
        followed.meet(7, 2);
        followed
    }

    #[test]
    fn commands_are_logged_in_the_database_of_their_time() {
        let mut followed = met();
        assert_eq!(sent(&mut followed, Sent::Exact, "SET a 1"), ["2: SET a 1"]);
        assert!(sent(&mut followed, Sent::Select(Some(5)), "SELECT 5").is_empty());
        assert!(sent(&mut followed, Sent::Nothing, "PING").is_empty());
        assert_eq!(sent(&mut followed, Sent::Exact, "SET b 1"), ["5: SET b 1"]);
        assert_eq!(followed.lost(), None);
    }

    #[test]
    fn a_transaction_is_one_unit_with_the_databases_that_it_selects() {
        let mut followed = met();
        for (what, text) in [
            (Sent::Multi, "MULTI"),
            (Sent::Exact, "SET a 1"),
            (Sent::Select(Some(3)), "SELECT 3"),
            (Sent::Exact, "SET b 2"),
        ] {
            assert!(sent(&mut followed, what, text).is_empty());
        }
        assert_eq!(sent(&mut followed, Sent::Exec, "EXEC"), ["2: SET a 1", "3: SET b 2"]);
        assert_eq!(sent(&mut followed, Sent::Exact, "SET c 1"), ["3: SET c 1"]);
    }

    #[test]
    fn what_a_broken_link_left_unfinished_comes_again() {
        let mut followed = met();
        sent(&mut followed, Sent::Multi, "MULTI");
        sent(&mut followed, Sent::Exact, "SET a 1");
        followed.link_down();
        sent(&mut followed, Sent::Multi, "MULTI");
        sent(&mut followed, Sent::Exact, "SET a 2");
        assert_eq!(sent(&mut followed, Sent::Exec, "EXEC"), ["2: SET a 2"]);
        assert_eq!(followed.lost(), None);
        followed.announce(Sent::Exact, &args("SET b 1"), true);
        followed.link_down();
        assert!(followed.lost().is_some(), "nobody knows whether it has run");
    }

    #[test]
    fn a_transaction_whose_beginning_was_not_seen_is_not_followed() {
        let mut followed = met();
        sent(&mut followed, Sent::Exec, "EXEC");
        assert!(followed.lost().is_some());
    }

    #[test]
    fn what_changes_otherwise_makes_images_of_all_that_it_may_have_to_do_with() {
        let mut followed = met();
        followed.announce(Sent::Exact, &args("SUNIONSTORE to from"), false);
        assert!(followed.covers(Some(7)) && !followed.covers(Some(8)));
        followed.strays().keys.insert((2, Arc::from(&b"from"[..])));
        let sealed = followed.take(false);
        assert!(sealed.unit.is_some());
        assert_eq!(words(&sealed.keys_of), ["2: SUNIONSTORE to from"]);
        assert_eq!(sealed.strays.keys.len(), 1);
        // An old server's.
        followed.announce(Sent::Inexact, &args("EXPIRE a 10"), false);
        assert!(!followed.covers(Some(7)));
        let sealed = followed.take(false);
        assert!(sealed.unit.is_none());
        assert_eq!(words(&sealed.keys_of), ["2: EXPIRE a 10"]);
    }

    #[test]
    fn what_waits_is_not_logged() {
        let mut followed = met();
        followed.announce(Sent::Exact, &args("SET a 1"), true);
        assert!(followed.may_wait());
        assert!(followed.take(true).unit.is_none());
        assert_eq!(logged(&mut followed), ["2: SET a 1"]);
    }
}
