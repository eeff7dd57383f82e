//! One command with its arguments, its events, and what more was asked about it.

mod fields;

use crate::core::pending::GroupChange;
use crate::core::silent::{Proof, argument_keys};
use crate::core::table::{CommandSpec, Rule};
use std::cell::OnceCell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// A client's id, as the server counts them.
pub type ClientId = u64;

/// A command's arguments in one allocation.
#[derive(Clone, Debug, Default)]
pub struct Args {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Args {
    /// Replaces the content.
    pub fn fill<'a>(&mut self, args: impl Iterator<Item = &'a [u8]>) {
        self.clear();
        for arg in args {
            self.bytes.extend_from_slice(arg);
            self.ends.push(self.bytes.len());
        }
    }

    /// Forgets the content, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// An argument; 0 is the command's name.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        #[cfg(test)]
        work::ARGUMENTS_READ.with(|count| count.set(count.get() + 1));
        let start = if index == 0 { 0 } else { *self.ends.get(index - 1)? };
        self.bytes.get(start..*self.ends.get(index)?)
    }

    /// The number of arguments, with the name.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory kept.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether they are these.
    pub fn are(&self, others: &[&[u8]]) -> bool {
        self.len() == others.len() && others.iter().enumerate().all(|(index, other)| self.get(index) == Some(other))
    }

    /// Bytes of all arguments.
    pub fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// All arguments, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).filter_map(|index| self.get(index))
    }

    /// All arguments.
    pub fn slices(&self) -> Vec<&[u8]> {
        self.iter().collect()
    }
}

/// How much tests have made the core do.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local! {
        /// Arguments that were looked at: whatever goes through commands does so by their arguments.
        pub(crate) static ARGUMENTS_READ: Cell<usize> = const { Cell::new(0) };
    }
}

/// What kind of event the server raised, as far as rules need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `del`: the key was removed.
    Del,
    /// `expire`: it got an expiry.
    Expire,
    /// `persist`: it lost its expiry.
    Persist,
    /// `restore`.
    Restore,
    /// `lpop`.
    LPop,
    /// `rpop`.
    RPop,
    /// `zpopmin`.
    ZPopMin,
    /// `zpopmax`.
    ZPopMax,
    /// `xadd`.
    XAdd,
    /// `xtrim`.
    XTrim,
    /// `hexpired`: fields of a hash had expired and were removed or overwritten.
    FieldsExpired,
    /// `copy_to`, `move_to`: it came from another database or key.
    Arrived,
    /// `incrbyfloat`.
    Float,
    /// `hincrbyfloat`.
    FieldFloat,
    /// `ltrim`.
    Trim,
    /// `hexpire`, `hpersist`.
    FieldExpiry,
    /// `hdel`.
    FieldsDeleted,
    /// `hset`.
    FieldsSet,
    /// `hincrby`.
    FieldCounter,
    /// `evicted`: the server removed the key to make room, before it ran the command.
    Evicted,
    /// Any other.
    Other,
}

impl EventKind {
    /// The kind of an event name.
    pub fn of(name: &[u8]) -> EventKind {
        match name {
            b"del" => EventKind::Del,
            b"expire" => EventKind::Expire,
            b"persist" => EventKind::Persist,
            b"restore" => EventKind::Restore,
            b"lpop" => EventKind::LPop,
            b"rpop" => EventKind::RPop,
            b"zpopmin" => EventKind::ZPopMin,
            b"zpopmax" => EventKind::ZPopMax,
            b"xadd" => EventKind::XAdd,
            b"xtrim" => EventKind::XTrim,
            b"hexpired" => EventKind::FieldsExpired,
            b"copy_to" | b"move_to" => EventKind::Arrived,
            b"incrbyfloat" => EventKind::Float,
            b"hincrbyfloat" => EventKind::FieldFloat,
            b"ltrim" => EventKind::Trim,
            b"hexpire" | b"hpersist" => EventKind::FieldExpiry,
            b"hdel" => EventKind::FieldsDeleted,
            b"hset" => EventKind::FieldsSet,
            b"hincrby" => EventKind::FieldCounter,
            b"evicted" => EventKind::Evicted,
            _ => EventKind::Other,
        }
    }

    /// What the command did may depend on which fields of the hash have expired.
    pub fn is_of_fields(self) -> bool {
        matches!(
            self,
            EventKind::FieldsDeleted | EventKind::FieldsSet | EventKind::FieldCounter | EventKind::FieldsExpired
        )
    }
}

/// An event, as it arrives.
#[derive(Debug)]
pub struct Event<'a> {
    /// The executing client.
    pub client: ClientId,
    /// The key's database.
    pub db: u32,
    /// The key.
    pub key: &'a [u8],
    /// The event's name.
    pub name: &'a [u8],
    /// What happened.
    pub kind: EventKind,
    /// The server removed the key by itself: expired or evicted.
    pub removed_by_server: bool,
    /// The key expired by itself: that it has gone follows from the time, also after a crash.
    pub expired: bool,
    /// It belongs to a command of an EXEC.
    pub in_exec: bool,
    /// The unit's time, milliseconds since the Unix epoch, where it is known.
    pub now_ms: Option<i64>,
    /// What the arguments do not tell; the answer to `Capture::query`.
    pub outcome: Option<Outcome>,
}

/// What must be asked at the time of an event, as neither arguments nor event tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The id of the stream's last entry.
    LastStreamId,
    /// The stream's length.
    StreamLength,
    /// The string's value.
    Value,
    /// The list's length.
    ListLength,
    /// The field's value, and when it expires, if any may.
    Field(Vec<u8>, MayExpire),
    /// When each field expires, milliseconds since the epoch: -1 never, -2 no such field.
    FieldExpiries(Vec<Vec<u8>>),
    /// Which of the fields have gone, and whether the hash has a field that has not expired.
    RemovedFields(Vec<Vec<u8>>, MayExpire),
    /// Whether the hash has a field that has not expired.
    Survives,
}

/// Whether fields of hashes may expire, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MayExpire(pub bool);

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An id, length or value.
    Value(Vec<u8>),
    /// A field's value, and when it expires, milliseconds since the epoch.
    Field(Vec<u8>, Option<i64>),
    /// Nothing has changed, though the event was raised.
    Unchanged,
    /// Fields with the expiry each has.
    FieldExpiries(Vec<(Vec<u8>, i64)>),
    /// Fields that have gone, and whether the hash has one that has not expired.
    RemovedFields(Vec<Vec<u8>>, bool),
    /// Whether the hash has a field that has not expired.
    Survives(bool),
    /// No field of the hash was missing because it had expired: the command has the same effect when it is replayed.
    NoneExpired,
    /// The server keeps expired keys and takes them for missing. The replay does not.
    ExpiredKept,
}

impl Outcome {
    /// Whether the hash may have fields of the command's that the server does not show: those that have expired, where
    /// it keeps them.
    pub fn may_miss_fields(&self) -> bool {
        match self {
            Outcome::RemovedFields(_, survives) | Outcome::Survives(survives) => !survives,
            Outcome::FieldExpiries(fields) => fields.iter().any(|(_, at)| *at < -1),
            _ => false,
        }
    }
}

/// What a wrapped command's reply told.
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
    /// It runs inside the module's own command: all events are its, whichever client the server names, and it is known
    /// to have run.
    pub wrapped: bool,
    /// Its arguments, to be found by their content; filled when it is first needed.
    pub found: Found,
    /// What proves whether it has run, if it may have changed data unseen unless it raises an event.
    pub proof: Option<Proof>,
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
    /// Whether the event is its own. What other modules do within it goes by its client's id, and inside the module's own
    /// command the server names other clients: the key tells.
    pub fn has_raised(&self, event: &Event<'_>) -> bool {
        (self.wrapped || self.client == event.client) && self.names(event.key)
    }

    /// Whether this may be a key of its own: those of nearly all commands are among their arguments.
    pub fn names(&self, key: &[u8]) -> bool {
        self.args.get(1) == Some(key)
            || self.found.contains(&self.args, key)
            || self.spec.is_some_and(|spec| spec.rule == Rule::DeletedKeys)
    }

    /// Whether a command that raises its event once for a key has been told of twice: another module has written that
    /// key, too.
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

    /// BITFIELD with OVERFLOW FAIL, which may lengthen a string without an event.
    pub fn is_failing_bitfield(&self) -> bool {
        self.spec.is_some_and(|spec| spec.rule == Rule::Bits)
            && self.args.slices().iter().skip(2).any(|arg| arg.eq_ignore_ascii_case(b"FAIL"))
    }

    /// The same command, before anything happened.
    pub fn without_events(&self) -> Leaf {
        Leaf {
            client: self.client,
            spec: self.spec,
            args: self.args.clone(),
            keys: self.keys.clone(),
            db: self.db,
            events: Vec::new(),
            told: None,
            wrapped: false,
            found: Found::default(),
            proof: None,
        }
    }

    /// Its keys, for commands that no event reports.
    pub fn argument_keys(&self) -> Vec<Arc<[u8]>> {
        let Some(spec) = self.spec else { return Vec::new() };
        argument_keys(spec, self.args.len(), |index| self.args.get(index).unwrap_or_default(), &self.keys)
    }
}
