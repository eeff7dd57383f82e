//! An EXEC whose commands the server does not report as they run: it cannot, or is not asked to.
//!
//! Any of its events shows that it has run. Whether one of its commands was answered with an error shows from the
//! events where each command raised its own, elsewhere from the server's count of error replies. Where none was, all
//! have run, and running them again on the same dataset has the same effect: they are logged as they were queued, with
//! relative times made absolute. Where the server chooses part of the effect (the id of an XADD, the digits of a
//! float), the events show it: a command of these kinds raises exactly one event of its own kind for its key, unless it
//! fails.
//!
//! While the server keeps keys that have expired, the replay has keys that were missing here, so that a command which
//! did nothing could do something there. If the server keeps only those that are read, none could if each command has
//! raised its own event, and none makes a key of others.
//!
//! Everything else is logged as the resulting state of the keys that changed.

use super::proof::Proof;
use crate::core::event::{EventKind, Keeps, MayExpire, Query};
use crate::core::hash::Set;
use crate::core::leaf::{Leaf, LeafEvent};
use crate::core::rewrite;
use crate::core::table::Rule;
use crate::core::unit::Unit;
use foldhash::fast::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

/// What is known of such an EXEC.
#[derive(Debug)]
pub struct Whole {
    /// How many error replies the server had sent before; `None` where that, or the effect of a command, can't be
    /// known.
    errors_before: Option<u64>,
    /// It was seen to run.
    begun: bool,
    /// The unit's time when the EXEC was announced.
    now_ms: i64,
    /// Places of the commands whose own event shows what they did, by that event's kind and key.
    told: HashMap<(EventKind, Box<[u8]>), VecDeque<usize>>,
    /// The place of the command that raised the last event, where that is known.
    last: Option<usize>,
    /// Whether events show that nothing has failed.
    proof: Proof,
    /// One of the commands makes a key of others.
    makes_keys_of_others: bool,
    /// Which expired keys the server has kept at any time since it began.
    keeps: Keeps,
    /// The arguments of all commands, by their hashes; made when they are first needed.
    names: Option<Set<u64>>,
    hasher: RandomState,
}

/// The event that shows what the command did. It is raised once, unless the command fails.
fn own_event(leaf: &Leaf) -> Option<EventKind> {
    let spec = leaf.spec?;
    match spec.rule {
        Rule::Stream if spec.event == "xadd" => Some(EventKind::XAdd),
        Rule::Float => Some(EventKind::Float),
        Rule::FieldFloat => Some(EventKind::FieldFloat),
        _ => None,
    }
}

impl Whole {
    /// An EXEC of which nothing is known.
    pub fn unknown() -> Whole {
        Whole::new(&VecDeque::new(), None, Keeps::None, 0)
    }

    /// An EXEC of these commands.
    pub fn new(leaves: &VecDeque<Box<Leaf>>, errors_before: Option<u64>, keeps: Keeps, now_ms: i64) -> Whole {
        let mut told: HashMap<(EventKind, Box<[u8]>), VecDeque<usize>> = HashMap::new();
        for (place, leaf) in leaves.iter().enumerate() {
            if let (Some(kind), Some(key)) = (own_event(leaf), leaf.args.get(1)) {
                told.entry((kind, key.into())).or_default().push_back(place);
            }
        }
        let proof = if errors_before.is_some() { Proof::of(leaves) } else { Proof::default() };
        let makes_keys_of_others = leaves.iter().any(|leaf| leaf.makes_keys_of_others());
        Whole {
            errors_before,
            begun: false,
            now_ms,
            told,
            last: None,
            proof,
            makes_keys_of_others,
            keeps,
            names: None,
            hasher: RandomState::default(),
        }
    }

    /// The place of the command whose own event this is.
    fn place_of(&self, kind: EventKind, key: &[u8]) -> Option<usize> {
        if self.told.is_empty() || !matches!(kind, EventKind::XAdd | EventKind::Float | EventKind::FieldFloat) {
            return None;
        }
        self.told.get(&(kind, key.into()))?.front().copied()
    }

    /// The command that raised the last event, if that was an XADD of this key: the entries that it trims go right
    /// after.
    fn trimmer(&self, leaves: &VecDeque<Box<Leaf>>, kind: EventKind, key: &[u8]) -> Option<usize> {
        let place = self.last.filter(|_| kind == EventKind::XTrim)?;
        leaves.get(place).filter(|leaf| leaf.args.get(1) == Some(key)).map(|_| place)
    }

    /// What to ask about an event.
    pub fn query(
        &self,
        leaves: &VecDeque<Box<Leaf>>,
        kind: EventKind,
        key: &[u8],
        may_expire: MayExpire,
    ) -> Option<Query> {
        let place = self.place_of(kind, key).or_else(|| self.trimmer(leaves, kind, key))?;
        leaves.get(place)?.query(kind, may_expire)
    }

    /// It was seen to run.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// The unit's time when the EXEC was announced.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// How many error replies the server had sent before, if it matters whether there are more by now.
    pub fn errors_before(&self) -> Option<u64> {
        self.errors_before.filter(|_| self.begun && !self.proof.is_complete())
    }

    /// Whether one of the commands names this key.
    fn is_named(&mut self, leaves: &VecDeque<Box<Leaf>>, key: &[u8]) -> bool {
        let names = self.names.get_or_insert_with(|| {
            let args = leaves.iter().flat_map(|leaf| (1..leaf.args.len()).filter_map(|index| leaf.args.get(index)));
            args.map(|arg| self.hasher.hash_one(arg)).collect()
        });
        names.contains(&self.hasher.hash_one(key))
            || leaves.iter().any(|leaf| leaf.spec.is_some_and(|spec| spec.rule == Rule::DeletedKeys))
    }

    /// Takes an event of this name.
    pub fn event(&mut self, leaves: &mut VecDeque<Box<Leaf>>, name: &[u8], event: LeafEvent) {
        self.begun = true;
        if !self.proof.event(leaves, name, &event.key) && !self.is_named(leaves, &event.key) {
            // Another module's, within one of the commands.
            self.errors_before = None;
        }
        let own = self.place_of(event.kind, &event.key);
        if own.is_some()
            && let Some(places) = self.told.get_mut(&(event.kind, (*event.key).into()))
        {
            places.pop_front();
        }
        let place = own.or_else(|| self.trimmer(leaves, event.kind, &event.key));
        self.last = own.filter(|_| event.kind == EventKind::XAdd);
        // Expired fields count as present when the command is replayed.
        if event.kind == EventKind::FieldsExpired {
            self.errors_before = None;
        }
        if let Some(leaf) = place.and_then(|place| leaves.get_mut(place)) {
            leaf.events.push(event);
        }
    }

    /// Which expired keys the server keeps by now.
    pub fn keeps(&mut self, keeps: Keeps) {
        self.keeps = self.keeps.max(keeps);
    }

    /// Whether expired keys that are missing here could make the replay do something else.
    fn may_have_missed_keys(&self) -> bool {
        match self.keeps {
            Keeps::None => false,
            Keeps::Read => self.makes_keys_of_others || !self.proof.is_complete(),
            Keeps::All => true,
        }
    }

    /// Adds all effects to the unit, in order; none of them (`false`) when one cannot be known exactly. `errors` is how
    /// many error replies the server has sent by now.
    pub fn seal(&self, leaves: &VecDeque<Box<Leaf>>, db: Option<u32>, errors: Option<u64>, unit: &mut Unit) -> bool {
        let nothing_failed = self.errors_before.is_some()
            && !self.proof.is_exceeded()
            && !self.may_have_missed_keys()
            && (self.proof.is_complete() || self.errors_before == errors);
        let Some(db) = db.filter(|_| self.begun && nothing_failed) else { return false };
        let before = unit.place();
        let exact = leaves.iter().all(|leaf| match own_event(leaf) {
            Some(_) => !leaf.events.is_empty() && rewrite::rewrite(leaf, unit),
            None => rewrite::restate(leaf, db, unit),
        });
        if !exact {
            unit.return_to(before);
        }
        exact
    }
}
