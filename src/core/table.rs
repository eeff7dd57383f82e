//! The command table: how each write command of Valkey 8.1 to 9.1 is logged. Data, not code.

/// How a command's effect is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// As it was sent: its effect follows from the dataset and the arguments alone.
    Verbatim,
    /// SET: relative expiry becomes PXAT, conditions are dropped (the event says that it was done).
    Set,
    /// SETEX, PSETEX: becomes SET ... PXAT; the unit is the argument's.
    SetWithExpiry(TimeUnit),
    /// EXPIRE and kin: becomes PEXPIREAT, or DEL when the time had passed.
    Expire(TimeUnit, TimeBase),
    /// GETEX: becomes PEXPIREAT, PERSIST or DEL by its event.
    GetEx,
    /// RESTORE: becomes RESTORE ... REPLACE ABSTTL, or DEL when the time had passed.
    Restore,
    /// Blocking and non-blocking pops: becomes the pops that the events tell.
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
    /// Verbatim, though no event tells whether it did anything (XACK).
    Silent,
    /// Images of the keys of its arguments, as no event tells what it did (PFDEBUG).
    SilentImage,
    /// XREADGROUP, XCLAIM, XAUTOCLAIM: XCLAIM of each entry as it is pending now, where the reply was seen; images
    /// elsewhere.
    Pending,
    /// PFCOUNT of one key with a stale cache writes the cache, from the key alone: verbatim then.
    CardinalityCache,
    /// INCRBYFLOAT: SET with the result, KEEPTTL.
    Float,
    /// HINCRBYFLOAT: HSET with the result, or HSETEX PXAT of a field that expires.
    FieldFloat,
    /// HINCRBY: verbatim; where fields of hashes may expire, HSET or HSETEX PXAT with the result.
    FieldCounter,
    /// HSETNX: HSET, as the field that it found missing may have expired.
    NewField,
    /// HDEL, HGETDEL: verbatim, or DEL of a hash that has no field left. If only expired fields are left, HPEXPIREAT
    /// with a time that is past, so that the hash stays.
    FieldRemoval,
    /// LTRIM: verbatim, unless there was nothing to trim (its event is raised all the same).
    Trim,
    /// HEXPIRE and kin, HGETEX, HPERSIST: the expiry that each field has now.
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
    /// SUNIONSTORE and the like, which make a key of others: verbatim; an image of what they made while the server
    /// keeps expired keys, which it takes for missing.
    FromOthers,
    /// No effect on the dataset.
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

/// Where a command's keys stand, for commands whose keys no event names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Not needed: events name them.
    FromEvents,
    /// The first argument.
    First,
    /// The first half of what follows STREAMS.
    AfterStreams,
    /// Where the server says; the leaf has them.
    Told,
}

/// A command's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandSpec {
    /// Lower case; `container|subcommand` for subcommands.
    pub name: &'static str,
    /// How its effect is logged.
    pub rule: Rule,
    /// Where its keys stand.
    pub keys: Keys,
    /// It may block the client and run later, without passing the command filter again.
    pub blocks: bool,
}

impl CommandSpec {
    /// It runs through the module's command where that is possible: no keyspace event tells of its effect, or its reply
    /// tells more than those.
    pub fn is_wrapped(&self) -> bool {
        (self.is_silent() || self.rule == Rule::RandomPop) && !self.is_unknown()
    }

    /// It is [`UNKNOWN`] or [`UNKNOWN_BLOCKING`].
    pub fn is_unknown(&self) -> bool {
        self.keys == Keys::Told
    }

    /// The commands that its effect may be logged with, besides itself. DEL is not among them: what it does can be done
    /// without it.
    pub fn logged_as(&self) -> &'static [&'static str] {
        match (self.rule, self.name) {
            (Rule::Set | Rule::SetWithExpiry(_) | Rule::Float, _) => &["set"],
            (Rule::Expire(..), _) => &["pexpireat"],
            (Rule::GetEx, _) => &["pexpireat", "persist"],
            (Rule::Pop, "blpop") => &["lpop"],
            (Rule::Pop, "brpop") => &["rpop"],
            (Rule::Pop, "blmpop") => &["lpop", "rpop"],
            (Rule::Pop, "bzpopmin") => &["zpopmin"],
            (Rule::Pop, "bzpopmax") => &["zpopmax"],
            (Rule::Pop, _) => &["zpopmin", "zpopmax"],
            (Rule::BlockingMove, "blmove") => &["lmove"],
            (Rule::BlockingMove, _) => &["rpoplpush"],
            (Rule::Stream, _) => &["xadd", "xtrim"],
            (Rule::Pending, _) => &["xclaim", "xack", "xgroup"],
            (Rule::FieldFloat, _) => &["hset"],
            (Rule::FieldExpiry, _) => &["hpexpireat", "hpersist"],
            (Rule::NewField, _) => &["hset"],
            (Rule::RandomPop, _) => &["srem"],
            _ => &[],
        }
    }

    /// The same on servers where fields of hashes expire, besides [`Self::logged_as`].
    pub fn logged_with_fields_as(&self) -> &'static [&'static str] {
        match self.rule {
            Rule::FieldFloat | Rule::FieldCounter => &["hset", "hsetex"],
            Rule::FieldExpiry | Rule::SetFields => &["hdel"],
            _ => &[],
        }
    }

    /// The entry that it has when it cannot be logged so.
    pub fn as_unknown(&self) -> &'static CommandSpec {
        if self.blocks { &UNKNOWN_BLOCKING } else { &UNKNOWN }
    }

    /// No keyspace event tells of its effect.
    pub fn is_silent(&self) -> bool {
        matches!(
            self.rule,
            Rule::Silent
                | Rule::SilentImage
                | Rule::Pending
                | Rule::Functions
                | Rule::ByServerEvent
                | Rule::CardinalityCache
        )
    }
}

const fn spec(name: &'static str, rule: Rule) -> CommandSpec {
    CommandSpec { name, rule, keys: Keys::FromEvents, blocks: false }
}

const fn blocking(name: &'static str, rule: Rule) -> CommandSpec {
    CommandSpec { name, rule, keys: Keys::FromEvents, blocks: true }
}

const fn silent(name: &'static str, rule: Rule, keys: Keys) -> CommandSpec {
    CommandSpec { name, rule, keys, blocks: false }
}

/// Every command that changes data, sorted by name.
pub const COMMANDS: &[CommandSpec] = &[
    spec("append", Rule::Verbatim),
    CommandSpec { name: "bitfield", rule: Rule::Bits, keys: Keys::First, blocks: false },
    spec("bitop", Rule::FromOthers),
    blocking("blmove", Rule::BlockingMove),
    blocking("blmpop", Rule::Pop),
    blocking("blpop", Rule::Pop),
    blocking("brpop", Rule::Pop),
    blocking("brpoplpush", Rule::BlockingMove),
    blocking("bzmpop", Rule::Pop),
    blocking("bzpopmax", Rule::Pop),
    blocking("bzpopmin", Rule::Pop),
    spec("cluster|flushslot", Rule::DeletedKeys),
    spec("copy", Rule::Copy),
    spec("decr", Rule::Verbatim),
    spec("decrby", Rule::Verbatim),
    spec("del", Rule::Verbatim),
    spec("delifeq", Rule::Verbatim),
    spec("expire", Rule::Expire(TimeUnit::Seconds, TimeBase::Relative)),
    spec("expireat", Rule::Expire(TimeUnit::Seconds, TimeBase::Absolute)),
    silent("flushall", Rule::ByServerEvent, Keys::FromEvents),
    silent("flushdb", Rule::ByServerEvent, Keys::FromEvents),
    silent("function|delete", Rule::Functions, Keys::FromEvents),
    silent("function|flush", Rule::Functions, Keys::FromEvents),
    silent("function|load", Rule::Functions, Keys::FromEvents),
    silent("function|restore", Rule::Functions, Keys::FromEvents),
    spec("geoadd", Rule::Verbatim),
    spec("georadius", Rule::FromOthers),
    spec("georadiusbymember", Rule::FromOthers),
    spec("geosearchstore", Rule::FromOthers),
    spec("getdel", Rule::Verbatim),
    spec("getex", Rule::GetEx),
    spec("getset", Rule::Verbatim),
    spec("hdel", Rule::FieldRemoval),
    spec("hexpire", Rule::FieldExpiry),
    spec("hexpireat", Rule::FieldExpiry),
    spec("hgetdel", Rule::FieldRemoval),
    spec("hgetex", Rule::FieldExpiry),
    spec("hincrby", Rule::FieldCounter),
    spec("hincrbyfloat", Rule::FieldFloat),
    spec("hmset", Rule::Verbatim),
    spec("hpersist", Rule::FieldExpiry),
    spec("hpexpire", Rule::FieldExpiry),
    spec("hpexpireat", Rule::FieldExpiry),
    spec("hset", Rule::Verbatim),
    spec("hsetex", Rule::SetFields),
    spec("hsetnx", Rule::NewField),
    spec("incr", Rule::Verbatim),
    spec("incrby", Rule::Verbatim),
    spec("incrbyfloat", Rule::Float),
    spec("linsert", Rule::Verbatim),
    spec("lmove", Rule::Verbatim),
    spec("lmpop", Rule::Verbatim),
    spec("lpop", Rule::Verbatim),
    spec("lpush", Rule::Verbatim),
    spec("lpushx", Rule::Verbatim),
    spec("lrem", Rule::Verbatim),
    spec("lset", Rule::Verbatim),
    spec("ltrim", Rule::Trim),
    spec("migrate", Rule::DeletedKeys),
    spec("move", Rule::Verbatim),
    spec("mset", Rule::Verbatim),
    spec("msetex", Rule::MultiSet),
    spec("msetnx", Rule::Verbatim),
    spec("persist", Rule::Verbatim),
    spec("pexpire", Rule::Expire(TimeUnit::Milliseconds, TimeBase::Relative)),
    spec("pexpireat", Rule::Expire(TimeUnit::Milliseconds, TimeBase::Absolute)),
    spec("pfadd", Rule::Verbatim),
    silent("pfcount", Rule::CardinalityCache, Keys::First),
    silent("pfdebug", Rule::SilentImage, Keys::First),
    spec("pfmerge", Rule::FromOthers),
    spec("psetex", Rule::SetWithExpiry(TimeUnit::Milliseconds)),
    spec("rename", Rule::Verbatim),
    spec("renamenx", Rule::Verbatim),
    spec("restore", Rule::Restore),
    spec("restore-asking", Rule::Restore),
    spec("rpop", Rule::Verbatim),
    spec("rpoplpush", Rule::Verbatim),
    spec("rpush", Rule::Verbatim),
    spec("rpushx", Rule::Verbatim),
    spec("sadd", Rule::Verbatim),
    spec("sdiffstore", Rule::FromOthers),
    spec("set", Rule::Set),
    spec("setbit", Rule::Verbatim),
    spec("setex", Rule::SetWithExpiry(TimeUnit::Seconds)),
    spec("setnx", Rule::Verbatim),
    spec("setrange", Rule::Verbatim),
    spec("sinterstore", Rule::FromOthers),
    spec("smove", Rule::Verbatim),
    spec("sort", Rule::Image),
    spec("spop", Rule::RandomPop),
    spec("srem", Rule::Verbatim),
    spec("sunionstore", Rule::FromOthers),
    silent("swapdb", Rule::ByServerEvent, Keys::FromEvents),
    spec("unlink", Rule::Verbatim),
    silent("xack", Rule::Silent, Keys::First),
    spec("xadd", Rule::Stream),
    silent("xautoclaim", Rule::Pending, Keys::First),
    silent("xclaim", Rule::Pending, Keys::First),
    spec("xdel", Rule::Verbatim),
    spec("xgroup|create", Rule::Verbatim),
    spec("xgroup|createconsumer", Rule::Verbatim),
    spec("xgroup|delconsumer", Rule::Verbatim),
    spec("xgroup|destroy", Rule::Verbatim),
    spec("xgroup|setid", Rule::Verbatim),
    CommandSpec { name: "xreadgroup", rule: Rule::Pending, keys: Keys::AfterStreams, blocks: true },
    spec("xsetid", Rule::Verbatim),
    spec("xtrim", Rule::Stream),
    spec("zadd", Rule::Verbatim),
    spec("zdiffstore", Rule::FromOthers),
    spec("zincrby", Rule::Verbatim),
    spec("zinterstore", Rule::FromOthers),
    spec("zmpop", Rule::Verbatim),
    spec("zpopmax", Rule::Verbatim),
    spec("zpopmin", Rule::Verbatim),
    spec("zrangestore", Rule::FromOthers),
    spec("zrem", Rule::Verbatim),
    spec("zremrangebylex", Rule::Verbatim),
    spec("zremrangebyrank", Rule::Verbatim),
    spec("zremrangebyscore", Rule::Verbatim),
    spec("zunionstore", Rule::FromOthers),
];

/// The entry of every other command of the server's that writes: a newer server's, or one under a name that the
/// configuration gave it. The keys of its arguments and those that its events name are logged as their resulting state.
pub const UNKNOWN: CommandSpec = silent("?", Rule::SilentImage, Keys::Told);

/// The same, for those that may block.
pub const UNKNOWN_BLOCKING: CommandSpec = CommandSpec { blocks: true, ..UNKNOWN };

/// The entry of a command, by its lower-case name (`container|subcommand` for subcommands).
pub fn find(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.binary_search_by(|spec| spec.name.cmp(name)).ok().and_then(|index| COMMANDS.get(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_without_doubles() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn commands_are_found_by_name() {
        assert_eq!(find("set").map(|spec| spec.rule), Some(Rule::Set));
        assert_eq!(find("xgroup|create").map(|spec| spec.rule), Some(Rule::Verbatim));
        assert_eq!(find("get"), None);
    }
}
