//! One command with its arguments and its events: which keys are its own, and what must be asked about it.

mod fields;

pub use crate::core::event::ClientId;

use crate::core::args::Args;
use crate::core::event::{Event, EventKind, Keeps, MayExpire, Outcome, Query};
use crate::core::pending::GroupChange;
use crate::core::silent::{Proof, argument_keys};
use crate::core::table::{CommandSpec, Rule};
use std::cell::OnceCell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// What a wrapped command's reply showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The members that SPOP popped.
    Members(Vec<Vec<u8>>),
    /// What a command did to consumer groups.
    Groups(Vec<GroupChange>),
}

/// An event of a leaf.
#[derive(Debug)]
pub struct LeafEvent {
    /// What happened.
    pub kind: EventKind,
    /// The key's database.
    pub db: u32,
    /// The key.
    pub key: Arc<[u8]>,
    /// See [`Event::outcome`].
    pub outcome: Option<Outcome>,
}

/// One command that may change data, and what is known of its effect.
#[derive(Debug)]
pub struct Leaf {
    /// Who sent it.
    pub client: ClientId,
    /// Its entry in the table.
    pub spec: Option<&'static CommandSpec>,
    /// Its arguments, with the name.
    pub args: Args,
    /// Its keys, where the server was asked for them ([`Keys::Told`](crate::core::table::Keys::Told)).
    pub keys: Vec<Arc<[u8]>>,
    /// Its database, where known before any event.
    pub db: Option<u32>,
    /// Its events so far.
    pub events: Vec<LeafEvent>,
    /// What its reply showed, where the reply was seen.
    pub told: Option<Told>,
    /// It runs inside the module's own command: all events are its own, whichever client the server names, and it is
    /// known to have run.
    pub wrapped: bool,
    /// Its arguments, to be found by their content; filled when it is first needed.
    pub found: Found,
    /// What proves whether it has run, where it may have changed data without raising an event.
    pub proof: Option<Proof>,
    /// Which keys that had expired were kept, and missing for it.
    pub keeps: Keeps,
}

/// Arguments by their hash, so that a command of many keys does not go through all of them for the event of each.
#[derive(Debug, Default)]
pub struct Found(OnceCell<(RandomState, HashSet<u64>)>);

impl Found {
    /// Arguments of commands with fewer are compared one by one.
    const MANY: usize = 32;

    fn contains(&self, args: &Args, wanted: &[u8]) -> bool {
        if args.len() < Found::MANY {
            return args.iter().skip(1).any(|arg| arg == wanted);
        }
        let (hasher, hashes) = self.0.get_or_init(|| {
            let hasher = RandomState::new();
            let hashes = args.slices().iter().skip(1).map(|arg| hasher.hash_one(arg)).collect();
            (hasher, hashes)
        });
        hashes.contains(&hasher.hash_one(wanted))
    }
}

impl Leaf {
    /// A command of which nothing is known yet but what its client has sent.
    pub fn new(
        client: ClientId,
        spec: Option<&'static CommandSpec>,
        args: Args,
        keys: Vec<Arc<[u8]>>,
        db: Option<u32>,
    ) -> Leaf {
        Leaf {
            client,
            spec,
            args,
            keys,
            db,
            events: Vec::new(),
            told: None,
            wrapped: false,
            found: Found::default(),
            proof: None,
            keeps: Keeps::None,
        }
    }

    /// Whether the event is its own. What other modules do within it has its client's id, and inside the module's own
    /// command the server names other clients: the key shows which it is.
    pub fn has_raised(&self, event: &Event<'_>) -> bool {
        (self.wrapped || self.client == event.client) && self.names(event.key)
    }

    /// Whether it has raised an event of this kind.
    pub fn has_event(&self, kind: EventKind) -> bool {
        self.events.iter().any(|event| event.kind == kind)
    }

    /// Whether this may be a key of its own: those of nearly all commands are among their arguments.
    pub fn names(&self, key: &[u8]) -> bool {
        self.args.get(1) == Some(key)
            || self.found.contains(&self.args, key)
            || self.spec.is_some_and(|spec| spec.rule == Rule::DeletedKeys)
    }

    /// Whether a command that raises its event once for a key has raised it twice: another module has written that key,
    /// too.
    pub fn is_told_twice(&self) -> bool {
        let raises_one = self.spec.is_some_and(|spec| !spec.event.is_empty());
        let [first, others @ ..] = self.events.as_slice() else { return false };
        raises_one && others.iter().any(|event| event.kind == first.kind)
    }

    /// What must be asked about the key of an event of this kind.
    pub fn query(&self, kind: EventKind, may_expire: MayExpire) -> Option<Query> {
        match (self.spec?.rule, kind) {
            (Rule::Stream, EventKind::XAdd) => Some(Query::LastStreamId),
            (Rule::Stream, EventKind::XTrim) => Some(Query::StreamLength),
            (Rule::Float, EventKind::Float) => Some(Query::Value),
            (Rule::Trim, EventKind::Trim) => Some(Query::ListLength),
            (Rule::FieldFloat, EventKind::FieldFloat) => Some(Query::Field(self.args.get(2)?.to_vec(), may_expire)),
            (Rule::FieldExpiry, EventKind::FieldExpiry) => Some(Query::FieldExpiries(self.named_fields()?)),
            (Rule::FieldExpiry, EventKind::FieldsExpired) => {
                Some(Query::RemovedFields(self.named_fields()?, may_expire))
            }
            (Rule::FieldCounter, EventKind::FieldCounter) if may_expire.0 => {
                Some(Query::Field(self.args.get(2)?.to_vec(), may_expire))
            }
            (Rule::FieldRemoval, EventKind::FieldsDeleted) | (Rule::SetFields, EventKind::FieldsExpired)
                if may_expire.0 =>
            {
                Some(Query::Survives)
            }
            (Rule::SetFields, EventKind::FieldsSet) if may_expire.0 && self.keeps_ttl() => {
                Some(Query::FieldExpiries(self.named_fields()?))
            }
            _ => None,
        }
    }

    /// See [`CommandSpec::is_failing_bitfield`].
    pub fn is_failing_bitfield(&self) -> bool {
        self.spec.is_some_and(|spec| spec.is_failing_bitfield(self.args.iter()))
    }

    /// The same command, before anything happened.
    pub fn without_events(&self) -> Leaf {
        Leaf::new(self.client, self.spec, self.args.clone(), self.keys.clone(), self.db)
    }

    /// Whether keys that had expired may have been missing for it which the replay has.
    pub fn may_have_missed_keys(&self) -> bool {
        match self.keeps {
            Keeps::None => false,
            Keeps::Read => self.makes_keys_of_others(),
            Keeps::All => self.spec.is_none_or(|spec| spec.rule != Rule::Functions),
        }
    }

    /// Whether it changes a key by what it has read in others.
    pub fn makes_keys_of_others(&self) -> bool {
        self.spec.is_some_and(|spec| spec.rule == Rule::FromOthers)
    }

    /// Its keys, for commands that no event reports.
    pub fn argument_keys(&self) -> Vec<Arc<[u8]>> {
        let Some(spec) = self.spec else { return Vec::new() };
        argument_keys(spec, self.args.len(), |index| self.args.get(index).unwrap_or_default(), &self.keys)
    }
}
