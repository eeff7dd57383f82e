//! What runs, and the replies that wait for the end of its unit.

use crate::core::ack::Reason;
use crate::core::client::Transaction;
use crate::core::dirty::DbKey;
use crate::core::leaf::ClientId;
use crate::core::row::Quirk;
use crate::core::script_db::ScriptDb;
use crate::core::silent::SilentChanges;
use crate::log::Lsn;

/// What runs now, or has run last.
#[derive(Debug, Default)]
pub struct Running {
    /// The connected client whose command it is; 0 before the first. Any change that no other client can have made is
    /// attributed to it.
    pub client: ClientId,
    /// What it is.
    pub what: What,
    /// The database of the commands inside of it, where it is a script or function that runs by itself.
    pub db: ScriptDb,
    /// Why the module does not run it.
    pub as_sent: Option<Reason>,
    /// Whether its client pipelines, once that was asked.
    pub pipelines: Option<bool>,
    /// What its reply can show, where the server may remove some of that to make room before it runs.
    pub shows: Option<Box<Transaction>>,
}

/// What runs.
#[derive(Debug, Default)]
pub enum What {
    /// Nothing: the last command has ended.
    #[default]
    Nothing,
    /// A command that the server runs as it was sent, if it accepts it.
    Command(IfRun),
    /// An EXEC.
    Exec(Exec),
    /// A script or function (or DEBUG), as it was sent: what comes while it runs belongs to it.
    Script,
    /// Another module's command: the same.
    OtherModule,
    /// The module runs a command for the client.
    Wrapped(Wrapped),
}

/// What the command announced last does, if it runs, that no event shows. Announced is not executed: it is applied when
/// the command has been seen to run.
#[derive(Debug, Default)]
pub enum IfRun {
    /// Nothing more.
    #[default]
    Nothing,
    /// It is a write whose reply waits for the end of the iteration: what that shows was not looked for. Where no event
    /// comes it may show anything.
    WaitsAnyway,
    /// It is a write whose effect no event reports.
    Unseen {
        /// What it may change.
        changes: SilentChanges,
        /// The command, as INFO commandstats names it.
        name: &'static str,
        /// How often the server had run such commands before, where it says so.
        runs_before: Option<u64>,
        /// Until when the server may make it wait, in milliseconds since the Unix epoch.
        deadline_ms: Option<i64>,
    },
    /// The server may make it wait.
    Blocking {
        /// Until when, in milliseconds since the Unix epoch.
        deadline_ms: Option<i64>,
        /// The streams that it reads, and whose changes serve it without an event.
        streams: Vec<DbKey>,
    },
    /// It changes what replies to others have to wait for, and neither raises an event nor writes.
    Quirk {
        /// In which way.
        quirk: Quirk,
        /// The command, as INFO commandstats names it.
        name: &'static str,
        /// How often the server had run such commands before, where it says so.
        runs_before: Option<u64>,
    },
    /// It begins or ends what its client queues or watches. The server is asked what has become of that.
    Transaction {
        /// The client may watch less than is noted: it ends that, or is a WATCH that was refused.
        may_unwatch: bool,
    },
}

/// An EXEC.
#[derive(Debug, Default)]
pub struct Exec {
    /// How often the server had run an EXEC before, if writes whose effect no event reports are in its queue.
    pub unseen: Option<Option<u64>>,
    /// Its end is reported too early for what must be asked then (it begins a pause): it is taken up later.
    pub ends_late: bool,
    /// The database of the last script of it that has sent a SELECT, and how many scripts had run before that one.
    pub select: Option<(u64, ScriptDb)>,
}

/// A command that the module runs, and what has come of it so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrapped {
    /// It has changed data.
    pub changed: bool,
    /// The newest change, not durable yet, that commands inside of it have read.
    pub read: Option<Lsn>,
}

impl Running {
    /// A connected client's command was announced.
    pub fn command(client: ClientId) -> Running {
        Running { client, what: What::Command(IfRun::Nothing), ..Running::default() }
    }

    /// Another client's command, or nothing, runs from now on.
    pub fn end(&mut self) {
        *self = Running { client: self.client, ..Running::default() };
    }

    /// The command that the module runs.
    pub fn wrapped(&mut self) -> Option<&mut Wrapped> {
        match &mut self.what {
            What::Wrapped(wrapped) => Some(wrapped),
            _ => None,
        }
    }

    /// The module runs a command.
    pub fn is_wrapped(&self) -> bool {
        matches!(self.what, What::Wrapped(_))
    }

    /// A script, a function or another module's command runs, as it was sent.
    pub fn is_opaque(&self) -> bool {
        matches!(self.what, What::Script | What::OtherModule)
    }

    /// It is an EXEC whose end is taken up late.
    pub fn ends_late(&self) -> bool {
        matches!(self.what, What::Exec(Exec { ends_late: true, .. }))
    }

    /// Nothing is noted any more of what runs, but for how its unit must end.
    pub fn forget(&mut self) {
        let before = std::mem::take(self);
        if before.ends_late() {
            self.client = before.client;
            self.is_within_exec();
        }
    }

    /// A transaction runs, of which nothing was seen. It may have begun a pause, so its unit ends late.
    pub fn is_within_exec(&mut self) {
        self.what = What::Exec(Exec { ends_late: true, ..Exec::default() });
    }

    /// The end that was put off is taken up.
    pub fn end_late(&mut self) {
        if let What::Exec(exec) = &mut self.what {
            exec.ends_late = false;
        }
    }

    /// Nothing runs, or a command that is seen by its events alone.
    pub fn is_plain(&self) -> bool {
        matches!(self.what, What::Nothing | What::Command(IfRun::Nothing))
    }

    /// A command of this client's has raised an event: what its reply waits for is known by that.
    pub fn is_seen(&mut self, client: ClientId) {
        match &mut self.what {
            What::Command(if_run @ IfRun::WaitsAnyway) if self.client == client => *if_run = IfRun::Nothing,
            _ => {}
        }
    }

    /// It is a write whose effect no event reports, or an EXEC with any, that has not been seen to run.
    pub fn is_unseen(&self) -> bool {
        matches!(self.what, What::Command(IfRun::Unseen { .. }) | What::Exec(Exec { unseen: Some(_), .. }))
    }

    /// There is nothing left to apply when it has run.
    pub fn is_settled(&self) -> bool {
        match &self.what {
            What::Nothing | What::Command(IfRun::Nothing) | What::Wrapped(_) => true,
            What::Exec(exec) => exec.unseen.is_none(),
            What::Command(_) | What::Script | What::OtherModule => false,
        }
    }

    /// Takes out what is to be applied now that it has run; nothing of it is left.
    pub fn settle(&mut self) -> What {
        match &mut self.what {
            What::Command(if_run) => What::Command(std::mem::take(if_run)),
            What::Exec(exec) => What::Exec(Exec { unseen: exec.unseen.take(), ..Exec::default() }),
            What::Script | What::OtherModule => std::mem::take(&mut self.what),
            What::Nothing | What::Wrapped(_) => What::Nothing,
        }
    }

    /// Its client has gone: what it would have done is not applied. What runs goes on.
    pub fn client_gone(&mut self, client: ClientId) {
        if self.client != client {
            return;
        }
        match &mut self.what {
            // What it has changed for others stays.
            What::Command(IfRun::Quirk { .. }) => {}
            What::Command(if_run) => *if_run = IfRun::Nothing,
            What::Exec(exec) => exec.unseen = None,
            What::Nothing | What::Script | What::OtherModule | What::Wrapped(_) => {}
        }
    }
}

/// How far the report of the running unit's end has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnitEnd {
    /// It is not asked for.
    #[default]
    NotAsked,
    /// It is.
    Asked,
    /// It has come, and was asked for again: what other modules do at the end of the unit comes before the second.
    AskedAgain,
}

/// A reply that waits for the end of the unit.
#[derive(Debug)]
pub struct Reply<H> {
    /// Whose it is.
    pub client: ClientId,
    /// How it is kept.
    pub way: Way<H>,
    /// What it shows; the unit itself when `None`.
    pub shows: Option<Lsn>,
}

/// How a reply is kept.
#[derive(Debug)]
pub enum Way<H> {
    /// The server defers it.
    Held(H),
    /// The event loop waits.
    Loop(Reason),
}

/// The replies that wait for the end of the running unit. Generic over what is held, so that it is tested without a
/// server.
#[derive(Debug)]
pub struct Replies<H>(Vec<Reply<H>>);

impl<H> Default for Replies<H> {
    fn default() -> Replies<H> {
        Replies(Vec::new())
    }
}

impl<H> Replies<H> {
    /// The client's reply is held, and waits for the unit.
    pub fn hold(&mut self, client: ClientId, held: H) {
        self.0.push(Reply { client, way: Way::Held(held), shows: None });
    }

    /// The loop waits with the client's reply for the unit.
    pub fn wait(&mut self, client: ClientId, reason: Reason) {
        if !self.wait_for_unit(client) {
            self.0.push(Reply { client, way: Way::Loop(reason), shows: None });
        }
    }

    /// The loop waits with the client's reply for a change that it may show.
    pub fn wait_for(&mut self, client: ClientId, change: Lsn, reason: Reason) {
        match self.0.iter_mut().find(|reply| reply.client == client && reply.shows.is_some()) {
            Some(reply) => reply.shows = reply.shows.max(Some(change)),
            None => self.0.push(Reply { client, way: Way::Loop(reason), shows: Some(change) }),
        }
    }

    /// Whether the client's reply waits for the unit, whichever way.
    pub fn wait_for_unit(&self, client: ClientId) -> bool {
        self.waiting_for_unit().any(|waiting| waiting == client)
    }

    /// Whose replies wait for the unit.
    pub fn waiting_for_unit(&self) -> impl Iterator<Item = ClientId> {
        self.0.iter().filter(|reply| reply.shows.is_none()).map(|reply| reply.client)
    }

    /// Whether any reply is held.
    pub fn any_held(&self) -> bool {
        self.0.iter().any(|reply| matches!(reply.way, Way::Held(_)))
    }

    /// Whether any reply waits for what it shows, or is held.
    pub fn any_to_complete(&self) -> bool {
        self.0.iter().any(|reply| matches!(reply.way, Way::Held(_)) || reply.shows.is_some())
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The unit ends. What a reply shows of others is durable before the unit that it waits for; and a client that
    /// blocks, as `is_blocked` tells, gets no reply yet: what those have found is returned.
    pub fn drop_needless(&mut self, is_blocked: impl Fn(ClientId) -> bool) -> Vec<(ClientId, Lsn)> {
        let mut found = Vec::new();
        if self.0.iter().all(|reply| reply.shows.is_none()) {
            return found;
        }
        let held: Vec<ClientId> =
            self.0.iter().filter(|reply| matches!(reply.way, Way::Held(_))).map(|reply| reply.client).collect();
        self.0.retain(|reply| {
            let Some(shows) = reply.shows else { return true };
            let is_held = held.contains(&reply.client);
            let blocks = !is_held && is_blocked(reply.client);
            if blocks {
                found.push((reply.client, shows));
            }
            !is_held && !blocks
        });
        found
    }

    /// The unit did not come to be: nothing is waited for. None may be held.
    pub fn forget(&mut self) {
        assert!(!self.any_held(), "a held reply is let go with its reason");
        self.0.clear();
    }

    /// Takes all of them out, in the order in which they came, and keeps the memory.
    pub fn drain(&mut self) -> impl Iterator<Item = Reply<H>> + use<'_, H> {
        self.0.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reply_waits_once_for_the_unit() {
        let mut replies: Replies<&str> = Replies::default();
        replies.hold(1, "one");
        replies.wait(1, Reason::Tracking);
        replies.wait(2, Reason::Tracking);
        replies.wait(2, Reason::Pipelining);
        assert!(replies.any_held() && replies.wait_for_unit(2) && !replies.wait_for_unit(3));
        let all: Vec<_> = replies.drain().map(|reply| (reply.client, reply.shows)).collect();
        assert_eq!(all, [(1, None), (2, None)]);
        assert!(replies.is_empty());
    }

    #[test]
    fn a_held_reply_does_not_wait_for_what_it_shows_besides() {
        let mut replies: Replies<&str> = Replies::default();
        for (client, change) in [(1, 5), (2, 4), (2, 9), (3, 1)] {
            replies.wait_for(client, Lsn::new(change), Reason::Failure);
        }
        replies.hold(1, "one");
        assert_eq!(replies.drop_needless(|client| client == 3), [(3, Lsn::new(1))], "what it has found");
        let all: Vec<_> = replies.drain().map(|reply| (reply.client, reply.shows)).collect();
        assert_eq!(all, [(2, Some(Lsn::new(9))), (1, None)]);
    }

    #[test]
    fn what_was_announced_is_applied_once() {
        let mut running = Running::command(7);
        assert!(running.is_settled());
        running.what = What::Command(IfRun::Transaction { may_unwatch: true });
        assert!(matches!(running.settle(), What::Command(IfRun::Transaction { may_unwatch: true })));
        assert!(running.is_settled() && running.client == 7);
        running.what = What::OtherModule;
        running.client_gone(7);
        assert!(matches!(running.settle(), What::OtherModule) && running.is_settled());
        running.what = What::Command(IfRun::Quirk { quirk: Quirk::ChangesRights, name: "acl|load", runs_before: None });
        running.client_gone(7);
        assert!(matches!(running.settle(), What::Command(IfRun::Quirk { .. })), "it is not its client's alone");
        running.what = What::Exec(Exec { unseen: Some(None), ends_late: true, ..Exec::default() });
        assert!(matches!(running.settle(), What::Exec(Exec { unseen: Some(None), .. })));
        assert!(running.is_settled() && running.ends_late());
    }
}
