//! What a replica gets from its primary, on its way into the replica's log.
//!
//! A primary sends commands that have the same effect on the same dataset, whatever the time: each is logged as it was
//! sent, as soon as it has run, and a transaction as one unit. What else changes data on a replica (other clients where
//! they may write, evictions, other modules) is logged as the resulting state of the keys that events name.

use crate::core::dirty::DbKey;
use crate::core::hash::{Map, Set};
use crate::core::leaf::ClientId;
use crate::core::logged::moves_to;
use crate::core::touched::{Touched, Touches};
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
    Exact(Touches),
    /// A write that may have another effect: what older servers send.
    Inexact(Touches),
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
    touched: Touched,
    /// The server may have made it wait, so that it has not run.
    may_wait: bool,
}

impl Commands {
    fn new(db: u32) -> Commands {
        Commands { unit: Unit::new(0), db, is_exact: true, touched: Touched::default(), may_wait: false }
    }

    fn push(&mut self, sent: Sent, args: &[&[u8]]) {
        match sent {
            Sent::Exact(touches) | Sent::Inexact(touches) => {
                self.unit.command(self.db, args);
                self.is_exact &= matches!(sent, Sent::Exact(_));
                self.touched.add(touches);
            }
            Sent::Select(Some(db)) => self.db = db,
            _ => {}
        }
    }

    /// What stands for them in place of themselves, in addition to what is to be logged already: everything that they
    /// touch.
    ///
    /// # Errors
    /// No images can stand for it.
    fn into_images(self, mut images: Images, named: Named<'_>) -> Result<Images, &'static str> {
        let Commands { unit, db: _, is_exact: _, touched, may_wait: _ } = self;
        // What they change besides the keys that they name has events.
        let Touched { reads_any: _, functions, databases, .. } = touched;
        if databases {
            return Err("commands that empty or swap databases came with one that can't be logged as it was sent");
        }
        unit.commands().iter().for_each(|(db, args)| images.add_named(*db, args, &named(args)));
        images.functions |= functions;
        Ok(images)
    }

    /// Adds what they may have made of other changes than they did when they ran. It is unknown whether something else
    /// changed a key before or after a command that names it: so all of that command's keys may differ, and all keys of
    /// a later one that names one of these.
    fn beside(&self, images: &mut Images, named: Named<'_>) {
        let mut differ: Set<Arc<[u8]>> = images.keys.iter().map(|(_, key)| key.clone()).collect();
        differ.extend(images.everywhere.iter().cloned());
        if differ.is_empty() {
            return;
        }
        for (db, args) in self.unit.commands() {
            let keys = named(&args);
            if self.touched.reads_any || keys.iter().any(|key| differ.contains(key)) {
                images.add_named(db, &args, &keys);
                differ.extend(keys);
            }
        }
        self.touched.add_swapped(&mut images.keys);
    }
}

/// The keys that a command names.
type Named<'a> = &'a dyn Fn(&[Vec<u8>]) -> Vec<Arc<[u8]>>;

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
    strays: Images,
    /// What other clients have queued since their MULTI, as far as no event will show what that changes.
    queued: Map<ClientId, Images>,
    lost: Option<&'static str>,
}

/// What is to be logged as it is now.
#[derive(Debug, Default)]
pub struct Images {
    /// These keys.
    pub keys: Set<DbKey>,
    /// The same in every database that has them.
    pub everywhere: Set<Arc<[u8]>>,
    /// The function library.
    pub functions: bool,
}

impl Images {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.everywhere.is_empty() && !self.functions
    }

    /// Adds the keys that a command names, where it runs and where it moves them to.
    fn add_named(&mut self, db: u32, args: &[Vec<u8>], keys: &[Arc<[u8]>]) {
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let dbs = [Some(db), moves_to(&args)];
        self.keys.extend(dbs.into_iter().flatten().flat_map(|db| keys.iter().map(move |key| (db, key.clone()))));
    }
}

/// What is to be logged now, in this order.
#[derive(Debug, Default)]
pub struct Sealed {
    /// What was sent, as it was.
    pub as_sent: Option<Unit>,
    /// The state of what this does not, or not surely, give.
    pub images: Images,
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
            (Sent::Exact(_) | Sent::Inexact(_), None) => {
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

    /// Whether a command may be running of which only its keys and events are known (a script), so that what it runs
    /// must say what that touches.
    pub fn runs_inexact(&self) -> bool {
        self.announced.as_ref().is_some_and(|announced| !announced.is_exact)
    }

    /// Something else has changed, or may have.
    pub fn strays(&mut self) -> &mut Images {
        &mut self.strays
    }

    /// What another client has queued in its transaction that no event will show.
    pub fn queued(&mut self, client: ClientId) -> &mut Images {
        self.queued.entry(client).or_default()
    }

    /// The client's EXEC is about to run.
    pub fn runs_queued(&mut self, client: ClientId) {
        if let Some(Images { keys, everywhere, functions }) = self.queued.remove(&client) {
            self.strays.keys.extend(keys);
            self.strays.everywhere.extend(everywhere);
            self.strays.functions |= functions;
        }
    }

    /// The client's transaction has ended without it, or the client is gone.
    pub fn drops_queued(&mut self, client: ClientId) {
        self.queued.remove(&client);
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

    /// Takes out what has run. `named`: the keys that a command names.
    pub fn take(&mut self, waits: bool, named: Named<'_>) -> Sealed {
        let mut images = std::mem::take(&mut self.strays);
        let announced = if waits { None } else { self.announced.take() };
        match announced {
            None => Sealed { as_sent: None, images },
            Some(commands) if commands.is_exact => {
                commands.beside(&mut images, named);
                Sealed { as_sent: Some(commands.unit), images }
            }
            Some(commands) => match commands.into_images(images, named) {
                Ok(images) => Sealed { as_sent: None, images },
                Err(why) => {
                    self.lose(why);
                    Sealed::default()
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
