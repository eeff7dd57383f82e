//! The columns of the command table.

mod in_log;
mod questions;

use crate::core::answer::Answer;
pub use crate::core::quirk::{Quirk, Quirks};
pub use in_log::{Kept, KeysInLog};

/// How a command's effect is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// As it was sent: its effect follows from the dataset and the arguments alone.
    Verbatim,
    /// SET: relative expiry becomes PXAT, conditions are dropped (the event says that it was done).
    Set,
    /// SETEX, PSETEX: becomes SET ... PXAT; the unit is the argument's.
    SetWithExpiry(TimeUnit),
    /// EXPIRE etc.: becomes PEXPIREAT, or DEL when the time had passed.
    Expire(TimeUnit, TimeBase),
    /// GETEX: becomes PEXPIREAT, PERSIST or DEL by its event.
    GetEx,
    /// RESTORE: becomes RESTORE ... REPLACE ABSTTL, or DEL when the time had passed.
    Restore,
    /// Blocking and non-blocking pops: becomes the pops that the events show.
    Pop,
    /// BLMOVE, BRPOPLPUSH: the same without the time-out.
    BlockingMove,
    /// COPY: verbatim within one database, an image of the destination otherwise.
    Copy,
    /// The server raises a server event (FLUSHALL, FLUSHDB, SWAPDB), which is what is logged.
    ByServerEvent,
    /// XADD, XTRIM: the entry with the id that it got, and trimming to the exact length that was left.
    Stream,
    /// The function library as a whole (FUNCTION RESTORE ... FLUSH).
    Functions,
    /// The keys that its `del` events name (MIGRATE, CLUSTER FLUSHSLOT).
    DeletedKeys,
    /// Images of the keys that its events name; where it raises none, of the keys of its arguments.
    Image,
    /// Verbatim, though no event shows whether it did anything (XACK).
    Silent,
    /// Images of the keys of its arguments, because no event shows what it did (PFDEBUG).
    SilentImage,
    /// XCLAIM of each entry as it is pending now, where the reply was seen; images elsewhere.
    Pending(Pending),
    /// PFCOUNT of one key with a stale cache writes the cache, from the key alone: verbatim then.
    CardinalityCache,
    /// INCRBYFLOAT: SET with the result, KEEPTTL.
    Float,
    /// HINCRBYFLOAT: HSET with the result, and HPEXPIREAT of a field that expires.
    FieldFloat,
    /// HINCRBY: verbatim; where fields of hashes may expire, HSET with the result, and HPEXPIREAT.
    FieldCounter,
    /// HSETNX: HSET, because the field that it found missing may have expired.
    NewField,
    /// HDEL, HGETDEL: verbatim, or DEL of a hash that has no field left. If only expired fields are left, HPEXPIREAT
    /// with a time that is past, so that the hash stays.
    FieldRemoval,
    /// LTRIM: verbatim, unless there was nothing to trim (its event is raised even then).
    Trim,
    /// HEXPIRE etc., HGETEX, HPERSIST: the expiry that each field has now.
    FieldExpiry,
    /// HSETEX: absolute expiry, conditions dropped.
    SetFields,
    /// MSETEX: absolute expiry, conditions dropped.
    MultiSet,
    /// BITFIELD: verbatim. With OVERFLOW FAIL it may lengthen the string without an event: an image of its key where
    /// the module does not run it.
    Bits,
    /// SPOP: SREM of what its reply named; an image where the reply was not seen.
    RandomPop,
    /// SUNIONSTORE and the like, which make a key of others: verbatim; an image of the key they made while the server
    /// keeps expired keys, which it treats as missing.
    FromOthers,
    /// It changes no data.
    NoData,
}

/// The unit of a time argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// What a time argument counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBase {
    /// Now.
    Relative,
    /// The Unix epoch.
    Absolute,
}

/// A command that changes what a consumer group has pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// XREADGROUP.
    Read,
    /// XCLAIM.
    Claim,
    /// XAUTOCLAIM.
    AutoClaim,
}

/// What a command is, besides what its effect on the data is. Where the table does not say, the server's flags do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It changes data.
    Write,
    /// What the server's flags say.
    AsFlagged,
    /// Its arguments do not show what follows from it.
    Opaque,
    /// It begins a transaction.
    Multi,
    /// It runs one.
    Exec,
    /// It drops one.
    EndMulti,
    /// It watches keys.
    Watch,
    /// It watches none any more.
    Unwatch,
}

/// Where a command's keys are, for commands whose keys no event names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Not needed: events name them.
    FromEvents,
    /// The first argument.
    First,
    /// The second argument (the first is a subcommand).
    Second,
    /// The first half of what follows STREAMS.
    AfterStreams,
    /// Asked of the server; the leaf has them.
    Told,
}

/// What a command's reply shows of the dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// The keys among its arguments, where the server says they are.
    Keys,
    /// Nothing, though the server says that there are keys: it answers OK whatever they hold, or they name channels.
    Nothing,
    /// Any key of its database.
    Keyspace,
    /// The same, for some of its subcommands (DEBUG).
    Debug,
    /// The function library.
    Functions,
    /// Whatever the commands of a script read.
    Script,
    /// The same, and the function library.
    FunctionCall,
    /// One key, and any others by patterns (SORT).
    Sort,
    /// A key of its own, and one of another database (COPY, MOVE).
    TwoDatabases,
    /// As many pairs of key and value as its first argument says (MSETEX). The server's API does not report these
    /// (9.1).
    Pairs,
}

/// Whether a command may block its client and run later, without passing the command filter again, and where its
/// time-out is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// It does not.
    No,
    /// The time-out is its first argument, in seconds.
    TimeoutFirst,
    /// The time-out is its last argument, in seconds.
    TimeoutLast,
    /// With the option BLOCK (XREAD, XREADGROUP), which the server answers without an event.
    WithOption,
}

/// Whether a write changes something, and raises an event, whenever it does not fail: nobody need check whether it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notifies {
    /// It may do nothing.
    WhenChanged,
    /// It does.
    Always,
    /// It does, unless it has conditions (SET, XADD).
    UnlessConditional,
}

/// Whether a write can send the head of its reply before the event that reports its change: it answers with the value
/// before, and if there is none, that raises an event of its own (`keymiss`, `new`), at which the server ends its
/// deferral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Early {
    /// It cannot.
    No,
    /// It can.
    Always,
    /// It can with the option GET (SET).
    WithGet,
}

/// A command's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandSpec {
    /// Lower case; `container|subcommand` for subcommands.
    pub name: &'static str,
    /// What it is.
    pub role: Role,
    /// How its effect is logged.
    pub rule: Rule,
    /// Where its keys are.
    pub keys: Keys,
    /// Where they are in the log.
    pub keys_in_log: KeysInLog,
    /// What a base keeps of it.
    pub kept: Kept,
    /// What its reply shows.
    pub shows: Shows,
    /// What its reply is made of.
    pub answer: Answer,
    /// Whether it may block.
    pub blocks: Blocks,
    /// Whether it always raises an event.
    pub notifies: Notifies,
    /// Whether it may answer before that.
    pub early: Early,
    /// The event that it raises for its first key when it changes something, for commands that raise no other but
    /// `del`, and `expire` with an expiry; empty for others.
    pub event: &'static str,
    /// It raises that event when all that it changes has changed, and no other one after it, if it has no more options
    /// than its rule leaves as they are.
    pub ends_with_event: bool,
    /// The commands that its effect may be logged with, besides itself. DEL is not among them: what it does can be done
    /// without it.
    pub logged_as: &'static [&'static str],
    /// What else matters.
    pub quirk: Quirk,
}

/// The builders of the table's rows.
impl CommandSpec {
    /// A write.
    pub const fn write(name: &'static str, rule: Rule) -> CommandSpec {
        CommandSpec { role: Role::Write, rule, ..CommandSpec::other(name) }
    }

    /// Another command.
    pub const fn other(name: &'static str) -> CommandSpec {
        CommandSpec {
            name,
            role: Role::AsFlagged,
            rule: Rule::NoData,
            keys: Keys::FromEvents,
            keys_in_log: KeysInLog::First,
            kept: Kept::All,
            shows: Shows::Keys,
            answer: Answer::Other,
            blocks: Blocks::No,
            notifies: Notifies::WhenChanged,
            early: Early::No,
            event: "",
            ends_with_event: false,
            logged_as: &[],
            quirk: Quirk::None,
        }
    }

    pub(super) const fn role(self, role: Role) -> CommandSpec {
        CommandSpec { role, ..self }
    }

    pub(super) const fn keys(self, keys: Keys) -> CommandSpec {
        CommandSpec { keys, ..self }
    }

    pub(super) const fn keys_in_log(self, keys_in_log: KeysInLog) -> CommandSpec {
        CommandSpec { keys_in_log, ..self }
    }

    pub(super) const fn kept(self, kept: Kept) -> CommandSpec {
        CommandSpec { kept, ..self }
    }

    pub(super) const fn shows(self, shows: Shows) -> CommandSpec {
        CommandSpec { shows, ..self }
    }

    pub(super) const fn answer(self, answer: Answer) -> CommandSpec {
        CommandSpec { answer, ..self }
    }

    pub(super) const fn blocks(self, blocks: Blocks) -> CommandSpec {
        CommandSpec { blocks, ..self }
    }

    pub(super) const fn notifies(self, notifies: Notifies) -> CommandSpec {
        CommandSpec { notifies, ..self }
    }

    pub(super) const fn replies_early(self, early: Early) -> CommandSpec {
        CommandSpec { early, ..self }
    }

    pub(super) const fn event(self, event: &'static str) -> CommandSpec {
        CommandSpec { event, ..self }
    }

    /// The same for one that ends with it.
    pub(super) const fn only_event(self, event: &'static str) -> CommandSpec {
        CommandSpec { ends_with_event: true, ..self.event(event) }
    }

    pub(super) const fn logged_as(self, logged_as: &'static [&'static str]) -> CommandSpec {
        CommandSpec { logged_as, ..self }
    }

    pub(super) const fn quirk(self, quirk: Quirk) -> CommandSpec {
        CommandSpec { quirk, ..self }
    }
}
