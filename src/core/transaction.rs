//! What a client has queued since MULTI, and what its EXEC did.
//!
//! Events do not tell which queued command raised them. Commands that are logged as sent need no telling: those that did nothing do nothing
//! again, as the state is the same when they are replayed. Any other command must be the only one of the transaction that names its key; then
//! the key's events are its own.
//!
//! Servers that tell when each command has run (9.1) need none of this: the events since the command before are the command's own.

use crate::core::dirty::DbKey;
use crate::core::leaf::{Args, EventKind, Leaf, LeafEvent, Query};
use crate::core::rewrite::rewrite;
use crate::core::table::Rule;
use crate::core::unit::Unit;
use std::collections::VecDeque;
use std::sync::Arc;

/// The queue of one client.
#[derive(Debug, Default)]
pub struct Queue {
    leaves: Vec<Leaf>,
    /// Something is queued whose effect its arguments and events do not tell (scripts, SELECT, SPOP...).
    opaque: bool,
    /// Keys of commands that no event tells of.
    silent_keys: Vec<Arc<[u8]>>,
    /// The database that the queue's last SELECT chose.
    selected: Option<u32>,
    /// The client's database when its EXEC was announced.
    db: Option<u32>,
    /// Where its COPYs and MOVEs with a database of their own take keys, and the database chosen before each.
    arrivals: VecDeque<(DbKey, Option<u32>)>,
    /// It changes the function library.
    pub functions: bool,
    /// Its EXEC was announced; the client's next command ends the queue.
    executing: bool,
    /// Whether all effects can be told exactly; known from the EXEC on.
    exact: bool,
    /// The server tells when each of its commands has run.
    stepwise: bool,
    /// Events since the last command that has run.
    events: Vec<LeafEvent>,
    /// The command whose arguments said what to ask about one of those events.
    asked: Option<Args>,
}

/// A command of a transaction that has run.
#[derive(Debug)]
pub struct Step {
    /// What was queued; `None` for what is no write, and where events were taken for another command's.
    pub leaf: Option<Leaf>,
    /// What it raised.
    pub events: Vec<LeafEvent>,
}

/// Commands that are logged as sent, whatever they did.
fn is_as_sent(leaf: &Leaf) -> bool {
    leaf.spec.is_some_and(|spec| match spec.rule {
        // MOVE's second database is not the client's.
        Rule::Verbatim => spec.name != "move",
        Rule::Trim | Rule::FieldFloat => true,
        Rule::Bits => !leaf.is_failing_bitfield(),
        Rule::Set => leaf.args.len() == 3,
        _ => false,
    })
}

/// Commands of one key whose effect their events tell.
fn is_told_by_events(leaf: &Leaf) -> bool {
    leaf.spec.is_some_and(|spec| {
        matches!(
            spec.rule,
            Rule::Set
                | Rule::SetWithExpiry(_)
                | Rule::Expire(..)
                | Rule::GetEx
                | Rule::Restore
                | Rule::Stream
                | Rule::Float
                | Rule::FieldExpiry
                | Rule::SetFields
        )
    })
}

impl Queue {
    /// A write was queued.
    pub fn push(&mut self, leaf: Leaf) {
        let Some(spec) = leaf.spec else { return };
        if let (Some(db), Some(key)) = (leaf.other_db(), leaf.args.get(if spec.name == "copy" { 2 } else { 1 })) {
            self.arrivals.push_back(((db, key.into()), self.selected));
        }
        if spec.is_silent() || leaf.is_failing_bitfield() {
            self.functions |= spec.rule == Rule::Functions;
            self.silent_keys.extend(leaf.argument_keys());
            self.opaque = true;
        }
        self.leaves.push(leaf);
    }

    /// Something was queued whose effect is not known.
    pub fn push_opaque(&mut self) {
        self.opaque = true;
    }

    /// A SELECT was queued.
    pub fn push_select(&mut self, db: u32) {
        self.selected = Some(db);
    }

    /// The database that the command was run in that made this key arrive in another one. Those before it have failed.
    pub fn home_of(&mut self, key: &DbKey) -> Option<u32> {
        let index = self.arrivals.iter().position(|(arrival, _)| arrival == key)?;
        let (_, selected) = self.arrivals.drain(..=index).next_back()?;
        selected.or(self.db)
    }

    /// The EXEC is about to run; `db` is its client's database.
    pub fn execute(&mut self, db: Option<u32>) {
        self.db = db;
        self.executing = true;
        let (as_sent, others): (Vec<&Leaf>, Vec<&Leaf>) = self.leaves.iter().partition(|leaf| is_as_sent(leaf));
        let alone = |leaf: &Leaf| {
            let Some(key) = leaf.args.get(1) else { return false };
            let names = |other: &&&Leaf| !std::ptr::eq(**other, leaf) && other.args.slices().contains(&key);
            as_sent.iter().chain(&others).find(names).is_none()
        };
        self.exact = !self.opaque && others.iter().all(|leaf| is_told_by_events(leaf) && alone(leaf));
    }

    /// Whether no write is queued.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// The server will tell when each command has run.
    pub fn step(&mut self) {
        self.stepwise = true;
    }

    /// Whether it does.
    pub fn is_stepwise(&self) -> bool {
        self.stepwise
    }

    /// What to ask about an event of the command that runs now, which is the next write or one behind it.
    pub fn query(&mut self, kind: EventKind, key: &[u8]) -> Option<Query> {
        if !self.stepwise {
            return self.leaf_of(key)?.query(kind);
        }
        let leaf = self.leaves.iter().find(|leaf| leaf.args.get(1) == Some(key) && leaf.query(kind).is_some())?;
        self.asked = Some(leaf.args.clone());
        leaf.query(kind)
    }

    /// Takes an event of the command that runs now.
    pub fn step_event(&mut self, event: LeafEvent) {
        self.events.push(event);
    }

    /// Takes out the events since the last command that has run.
    pub fn take_events(&mut self) -> Vec<LeafEvent> {
        std::mem::take(&mut self.events)
    }

    /// A command has run.
    pub fn command_done(&mut self, args: &[&[u8]]) -> Step {
        let events = self.take_events();
        // Those before it were refused, as rights can change until the EXEC.
        let index = self.leaves.iter().position(|leaf| leaf.args.are(args));
        let leaf = index.and_then(|index| self.leaves.drain(..=index).next_back());
        let mistaken = self.asked.take().is_some_and(|asked| !asked.are(args));
        Step { leaf: leaf.filter(|_| !mistaken), events }
    }

    /// Whether the EXEC was announced.
    pub fn is_executing(&self) -> bool {
        self.executing
    }

    /// Whether commands are queued that no event tells of.
    pub fn has_silent(&self) -> bool {
        self.functions || !self.silent_keys.is_empty()
    }

    /// The keys of those commands.
    pub fn silent_keys(&self) -> &[Arc<[u8]>] {
        &self.silent_keys
    }

    /// The command that an event of this key belongs to, if it is one whose events matter.
    pub fn leaf_of(&self, key: &[u8]) -> Option<&Leaf> {
        self.leaves.iter().find(|leaf| self.exact && !is_as_sent(leaf) && leaf.args.get(1) == Some(key))
    }

    /// Takes an event of the EXEC. `false` when the effect cannot be told exactly.
    pub fn event(&mut self, event: LeafEvent) -> bool {
        // Expired fields count as present when the command is replayed, so what it did to them cannot be told by sending it.
        if !self.exact || event.kind == EventKind::FieldsExpired {
            return false;
        }
        let leaf = self.leaves.iter_mut().find(|leaf| !is_as_sent(leaf) && leaf.args.get(1) == Some(&event.key));
        if let Some(leaf) = leaf {
            leaf.events.push(event);
        }
        true
    }

    /// Adds all effects to the unit, in order; none of them (`false`) when one cannot be told exactly.
    pub fn seal(&self, unit: &mut Unit) -> bool {
        let mut effects = Unit::new(unit.now_ms);
        let exact = self.leaves.iter().all(|leaf| {
            if is_as_sent(leaf) {
                effects.command(unit.exec_db, &leaf.args.slices());
                return true;
            }
            leaf.events.is_empty() || rewrite(leaf, &mut effects)
        });
        if exact {
            unit.append(&effects);
        }
        exact
    }
}
