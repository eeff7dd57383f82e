//! What the server reports while a command runs, and what must be asked then, because neither the report nor the
//! command's arguments show it.

/// A client's id, as the server counts them.
pub type ClientId = u64;

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
    /// The server removed the key of its own accord: expired or evicted.
    pub removed_by_server: bool,
    /// The key expired: that it is gone follows from the time, also after a crash.
    pub expired: bool,
    /// It belongs to a command of an EXEC.
    pub in_exec: bool,
    /// The unit's time, milliseconds since the Unix epoch, where it is known.
    pub now_ms: Option<i64>,
    /// What the arguments do not show; the answer to `Capture::query`.
    pub outcome: Option<Outcome>,
    /// Which keys the server keeps that have expired.
    pub keeps: Keeps,
}

/// Which keys that have expired the server keeps, and treats as missing. The replay takes all keys for present that it
/// has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeps {
    /// None: it deletes what a command finds expired, and reports that.
    #[default]
    None,
    /// Those that a command only reads (`import-mode`). What a command is to write it deletes first, as always.
    Read,
    /// All: expiry is paused, with the writes of others. What a command writes over such a key may be lost, or be what
    /// was there before.
    All,
}

/// What must be asked at the time of an event, because neither arguments nor event show it.
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

/// What the server says about a command that has run.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The server counted changes.
    pub changed: bool,
    /// It was answered with an error.
    pub failed: bool,
    /// The client's database.
    pub db: Option<u32>,
    /// Which keys the server keeps that have expired.
    pub keeps: Keeps,
}
