//! The command table: one row per command that changes data, or that matters here for another reason; of Valkey 8.1 to
//! 9.1. Data, not code: its columns are in `row.rs`. What is done with a command that somebody sends follows from its
//! row. Other files decide by a name in these cases only:
//!
//! - subcommands that share a row, those of DEBUG (`reads.rs`), and CLUSTER FLUSHSLOT where rows are not looked up,
//!   with the log or without it (`module/homes.rs`);
//! - names that a row has: the commands that a pop is logged as (`pops.rs`), the event of XADD
//!   (`transaction/whole.rs`);
//! - commands of the log when it is read (`portion.rs`, `unit.rs`), and those that the replay does without the server's
//!   command, or for which it knows what an error means (`module/replay.rs`);
//! - commands that the filter has turned into one of the module's, which is given their names (`module/refusal.rs`,
//!   `module/waitaof.rs`).
//!
//! `rewrite` and `module` name those that they write or call.

use super::answer::Answer;
pub use super::row::*;

const fn write(name: &'static str, rule: Rule) -> CommandSpec {
    CommandSpec::write(name, rule)
}

const fn other(name: &'static str) -> CommandSpec {
    CommandSpec::other(name)
}

/// Commands whose replies are short, whatever they do: a status, a number, an id, an error of a line. Not SET ... GET.
pub const SHORT_REPLIES: &[&str] = &[
    "append",
    "copy",
    "decr",
    "decrby",
    "del",
    "exists",
    "expire",
    "expireat",
    "getbit",
    "hdel",
    "hexists",
    "hincrby",
    "hlen",
    "hmset",
    "hset",
    "hsetnx",
    "hstrlen",
    "incr",
    "incrby",
    "linsert",
    "llen",
    "lpush",
    "lpushx",
    "lrem",
    "lset",
    "ltrim",
    "move",
    "mset",
    "msetnx",
    "persist",
    "pexpire",
    "pexpireat",
    "pfadd",
    "psetex",
    "pttl",
    "rename",
    "renamenx",
    "rpush",
    "rpushx",
    "sadd",
    "scard",
    "set",
    "setbit",
    "setex",
    "setnx",
    "setrange",
    "sismember",
    "smove",
    "srem",
    "strlen",
    "ttl",
    "type",
    "unlink",
    "xack",
    "xadd",
    "xdel",
    "xlen",
    "xtrim",
    "zadd",
    "zcard",
    "zincrby",
    "zrem",
    "zscore",
];

/// Those whose replies are short where they have no argument.
pub const SHORT_ALONE: &[&str] = &["dbsize", "ping", "time"];

/// Those that show no data and do the same whoever sends them.
pub const CLIENTLESS: &[&str] = &["echo", "ping", "time"];

/// All rows, sorted by name.
#[rustfmt::skip]
pub const COMMANDS: &[CommandSpec] = &[
    other("acl|load").quirk(Quirk::ChangesRights),
    other("acl|setuser").quirk(Quirk::ChangesRights),
    write("append", Rule::Verbatim).only_event("append").notifies(Notifies::Always),
    other("asking").quirk(Quirk::Asks),
    write("bitfield", Rule::Bits).keys(Keys::First),
    write("bitop", Rule::FromOthers).kept(Kept::Instead).keys_in_log(KeysInLog::AfterFirst),
    write("blmove", Rule::BlockingMove).blocks(Blocks::TimeoutLast).logged_as(&["lmove"]),
    write("blmpop", Rule::Pop).blocks(Blocks::TimeoutFirst).logged_as(&["lpop", "rpop"]),
    write("blpop", Rule::Pop).blocks(Blocks::TimeoutLast).logged_as(&["lpop"]),
    write("brpop", Rule::Pop).blocks(Blocks::TimeoutLast).logged_as(&["rpop"]),
    write("brpoplpush", Rule::BlockingMove).blocks(Blocks::TimeoutLast).logged_as(&["rpoplpush"]),
    write("bzmpop", Rule::Pop).blocks(Blocks::TimeoutFirst).logged_as(&["zpopmin", "zpopmax"]),
    write("bzpopmax", Rule::Pop).blocks(Blocks::TimeoutLast).logged_as(&["zpopmax"]),
    write("bzpopmin", Rule::Pop).blocks(Blocks::TimeoutLast).logged_as(&["zpopmin"]),
    other("client|pause").quirk(Quirk::Pauses),
    other("client|reply").quirk(Quirk::Mutes),
    other("client|tracking").quirk(Quirk::Tracks),
    other("client|unblock").quirk(Quirk::Unblocks),
    other("clusterscan").shows(Shows::Keyspace).quirk(Quirk::RoutesByCursor),
    other("cluster|countkeysinslot").shows(Shows::Keyspace),
    write("cluster|flushslot", Rule::DeletedKeys),
    other("cluster|flushslots").quirk(Quirk::NeedsNoKeys),
    other("cluster|getkeysinslot").shows(Shows::Keyspace),
    other("cluster|replicate").quirk(Quirk::NeedsNoKeys),
    other("cluster|reset").quirk(Quirk::NeedsNoKeys),
    other("cluster|setslot").quirk(Quirk::MovesSlots),
    other("cluster|slot-stats").shows(Shows::Keyspace),
    other("cluster|syncslots").quirk(Quirk::Copies),
    other("config|resetstat").quirk(Quirk::ResetsStatistics),
    other("config|rewrite").quirk(Quirk::RewritesFile),
    other("config|set").quirk(Quirk::Configures),
    write("copy", Rule::Copy).keys_in_log(KeysInLog::FirstTwo).shows(Shows::TwoDatabases),
    other("dbsize").shows(Shows::Keyspace),
    other("debug").role(Role::Opaque).shows(Shows::Debug),
    write("decr", Rule::Verbatim).kept(Kept::Nothing).only_event("incrby").notifies(Notifies::Always),
    write("decrby", Rule::Verbatim).kept(Kept::Nothing).only_event("incrby").notifies(Notifies::Always),
    write("del", Rule::Verbatim).kept(Kept::Removed).keys_in_log(KeysInLog::All),
    write("delifeq", Rule::Verbatim).kept(Kept::Removed),
    other("discard").role(Role::EndMulti).quirk(Quirk::Discards),
    other("eval").shows(Shows::Script),
    other("eval_ro").shows(Shows::Script),
    other("evalsha").shows(Shows::Script),
    other("evalsha_ro").shows(Shows::Script),
    other(EXEC).role(Role::Exec),
    other("exists").answer(Answer::Count),
    write("expire", Rule::Expire(TimeUnit::Seconds, TimeBase::Relative)).event("expire").logged_as(&["pexpireat"]),
    write("expireat", Rule::Expire(TimeUnit::Seconds, TimeBase::Absolute)).event("expire").logged_as(&["pexpireat"]),
    other("failover").quirk(Quirk::Pauses),
    other("fcall").shows(Shows::FunctionCall),
    other("fcall_ro").shows(Shows::FunctionCall),
    write("flushall", Rule::ByServerEvent).kept(Kept::Nothing).keys_in_log(KeysInLog::None).quirk(Quirk::EmptiesAll),
    write("flushdb", Rule::ByServerEvent).kept(Kept::Nothing).keys_in_log(KeysInLog::None).quirk(Quirk::EmptiesOne),
    write("function|delete", Rule::Functions).keys_in_log(KeysInLog::None).shows(Shows::Functions),
    other("function|dump").shows(Shows::Functions),
    write("function|flush", Rule::Functions).keys_in_log(KeysInLog::None).shows(Shows::Functions),
    other("function|list").shows(Shows::Functions),
    write("function|load", Rule::Functions).keys_in_log(KeysInLog::None).shows(Shows::Functions),
    write("function|restore", Rule::Functions).kept(Kept::Instead).keys_in_log(KeysInLog::None)
        .shows(Shows::Functions),
    other("function|stats").shows(Shows::Functions),
    write("geoadd", Rule::Verbatim),
    write("georadius", Rule::FromOthers).keys_in_log(KeysInLog::FirstAndStore),
    write("georadiusbymember", Rule::FromOthers).keys_in_log(KeysInLog::FirstAndStore),
    write("geosearchstore", Rule::FromOthers).kept(Kept::Instead).keys_in_log(KeysInLog::FirstTwo),
    other("get").answer(Answer::Value),
    write("getdel", Rule::Verbatim).kept(Kept::Removed).quirk(Quirk::LosesItsError),
    write("getex", Rule::GetEx).logged_as(&["pexpireat", "persist"]),
    other("getrange").answer(Answer::Range),
    write("getset", Rule::Verbatim).kept(Kept::Instead).replies_early(Early::Always).quirk(Quirk::LosesItsError),
    write("hdel", Rule::FieldRemoval).kept(Kept::Nothing).event("hdel").quirk(Quirk::FieldsAfterKey),
    write("hexpire", Rule::FieldExpiry).logged_as(&["hpexpireat", "hpersist"]).quirk(Quirk::CountsFromNow),
    write("hexpireat", Rule::FieldExpiry).logged_as(&["hpexpireat", "hpersist"]),
    write("hgetdel", Rule::FieldRemoval).kept(Kept::Nothing),
    write("hgetex", Rule::FieldExpiry).logged_as(&["hpexpireat", "hpersist"]),
    write("hincrby", Rule::FieldCounter).kept(Kept::Nothing).event("hincrby").notifies(Notifies::Always),
    write("hincrbyfloat", Rule::FieldFloat).event("hincrbyfloat").notifies(Notifies::Always).logged_as(&["hset"]),
    write("hmset", Rule::Verbatim).only_event("hset").notifies(Notifies::Always),
    write("hpersist", Rule::FieldExpiry).kept(Kept::Nothing).logged_as(&["hpexpireat", "hpersist"]),
    write("hpexpire", Rule::FieldExpiry).logged_as(&["hpexpireat", "hpersist"]).quirk(Quirk::CountsFromNow),
    write("hpexpireat", Rule::FieldExpiry).kept(Kept::Nothing).logged_as(&["hpexpireat", "hpersist"]),
    other("hrandfield").quirk(Quirk::Repeats),
    write("hset", Rule::Verbatim).only_event("hset").notifies(Notifies::Always),
    write("hsetex", Rule::SetFields),
    write("hsetnx", Rule::NewField).event("hset").logged_as(&["hset"]),
    write("incr", Rule::Verbatim).kept(Kept::Nothing).only_event("incrby").notifies(Notifies::Always),
    write("incrby", Rule::Verbatim).kept(Kept::Nothing).only_event("incrby").notifies(Notifies::Always),
    write("incrbyfloat", Rule::Float).event("incrbyfloat").notifies(Notifies::Always).logged_as(&["set"]),
    other("keys").shows(Shows::Keyspace),
    write("linsert", Rule::Verbatim).only_event("linsert"),
    write("lmove", Rule::Verbatim).kept(Kept::Nothing).keys_in_log(KeysInLog::FirstTwo),
    write("lmpop", Rule::Verbatim).kept(Kept::Nothing).keys_in_log(KeysInLog::Counted),
    write("lpop", Rule::Verbatim).kept(Kept::Nothing).event("lpop"),
    write("lpush", Rule::Verbatim).only_event("lpush").notifies(Notifies::Always),
    write("lpushx", Rule::Verbatim).only_event("lpush"),
    write("lrem", Rule::Verbatim).kept(Kept::Nothing).event("lrem"),
    write("lset", Rule::Verbatim).kept(Kept::Nothing).only_event("lset").notifies(Notifies::Always),
    write("ltrim", Rule::Trim).kept(Kept::Nothing).event("ltrim").notifies(Notifies::Always),
    other("mget").answer(Answer::Values),
    write("migrate", Rule::DeletedKeys).notifies(Notifies::Always),
    other("module|load").quirk(Quirk::LoadsModules),
    other("module|loadex").quirk(Quirk::LoadsModules),
    other("module|unload").quirk(Quirk::LoadsModules),
    write("move", Rule::Verbatim).kept(Kept::Nothing).shows(Shows::TwoDatabases),
    write("mset", Rule::Verbatim).kept(Kept::Instead).keys_in_log(KeysInLog::Pairs).notifies(Notifies::Always),
    write("msetex", Rule::MultiSet).kept(Kept::Instead).keys_in_log(KeysInLog::CountedPairs).shows(Shows::Pairs),
    write("msetnx", Rule::Verbatim).kept(Kept::Instead).keys_in_log(KeysInLog::Pairs),
    other("multi").role(Role::Multi),
    write("persist", Rule::Verbatim).kept(Kept::Nothing).event("persist"),
    write("pexpire", Rule::Expire(TimeUnit::Milliseconds, TimeBase::Relative)).event("expire")
        .logged_as(&["pexpireat"]),
    write("pexpireat", Rule::Expire(TimeUnit::Milliseconds, TimeBase::Absolute)).kept(Kept::Nothing).event("expire")
        .logged_as(&["pexpireat"]),
    write("pfadd", Rule::Verbatim).only_event("pfadd"),
    write("pfcount", Rule::CardinalityCache).keys(Keys::First),
    write("pfdebug", Rule::SilentImage).keys(Keys::Second),
    write("pfmerge", Rule::FromOthers).keys_in_log(KeysInLog::All),
    other("ping").quirk(Quirk::FailsWithDisk),
    write("psetex", Rule::SetWithExpiry(TimeUnit::Milliseconds)).event("set").notifies(Notifies::Always)
        .logged_as(&["set"]),
    other("psubscribe").quirk(Quirk::Subscribes),
    other("psync").quirk(Quirk::Copies),
    other("publish").quirk(Quirk::Publishes),
    other("randomkey").shows(Shows::Keyspace).quirk(Quirk::ExpiresAny),
    write("rename", Rule::Verbatim).kept(Kept::Nothing).keys_in_log(KeysInLog::FirstTwo),
    write("renamenx", Rule::Verbatim).kept(Kept::Nothing).keys_in_log(KeysInLog::FirstTwo),
    other("replconf").quirk(Quirk::Acknowledges),
    other("reset").role(Role::EndMulti),
    write("restore", Rule::Restore).kept(Kept::Instead),
    write("restore-asking", Rule::Restore).quirk(Quirk::NeverWrapped),
    write("rpop", Rule::Verbatim).kept(Kept::Nothing).event("rpop"),
    write("rpoplpush", Rule::Verbatim).kept(Kept::Nothing).keys_in_log(KeysInLog::FirstTwo),
    write("rpush", Rule::Verbatim).only_event("rpush").notifies(Notifies::Always),
    write("rpushx", Rule::Verbatim).only_event("rpush"),
    write("sadd", Rule::Verbatim).only_event("sadd"),
    other("scan").shows(Shows::Keyspace).quirk(Quirk::ExpiresAny),
    other("script|debug").quirk(Quirk::DebugsScripts),
    write("sdiffstore", Rule::FromOthers).kept(Kept::Instead).keys_in_log(KeysInLog::All),
    other("select").role(Role::Opaque).quirk(Quirk::Selects),
    write("set", Rule::Set).kept(Kept::Instead).only_event("set").notifies(Notifies::UnlessConditional)
        .replies_early(Early::WithGet)
        .logged_as(&["set"]),
    write("setbit", Rule::Verbatim).kept(Kept::Nothing).only_event("setbit"),
    write("setex", Rule::SetWithExpiry(TimeUnit::Seconds)).event("set").notifies(Notifies::Always).logged_as(&["set"]),
    write("setnx", Rule::Verbatim).kept(Kept::Instead).only_event("set"),
    write("setrange", Rule::Verbatim).kept(Kept::Nothing).only_event("setrange"),
    write("sinterstore", Rule::FromOthers).kept(Kept::Instead).keys_in_log(KeysInLog::All),
    write("smove", Rule::Verbatim).kept(Kept::Nothing).keys_in_log(KeysInLog::FirstTwo),
    write("sort", Rule::Image).shows(Shows::Sort),
    other("sort_ro").shows(Shows::Sort),
    write("spop", Rule::RandomPop).logged_as(&["srem"]),
    other("spublish").shows(Shows::Nothing).quirk(Quirk::Publishes),
    other("srandmember").quirk(Quirk::Repeats),
    write("srem", Rule::Verbatim).kept(Kept::Nothing).event("srem"),
    other("ssubscribe").shows(Shows::Nothing).quirk(Quirk::Subscribes),
    other("strlen").answer(Answer::Length),
    other("subscribe").quirk(Quirk::Subscribes),
    other("substr").answer(Answer::Range),
    write("sunionstore", Rule::FromOthers).kept(Kept::Instead).keys_in_log(KeysInLog::All),
    other("sunsubscribe").shows(Shows::Nothing),
    write("swapdb", Rule::ByServerEvent).kept(Kept::Nothing).keys_in_log(KeysInLog::None).quirk(Quirk::SwapsDatabases),
    other("sync").quirk(Quirk::Copies),
    write("unlink", Rule::Verbatim).kept(Kept::Removed).keys_in_log(KeysInLog::All),
    other("unwatch").role(Role::Unwatch),
    other("waitaof").quirk(Quirk::WaitsForAof),
    other("watch").role(Role::Watch).shows(Shows::Nothing),
    other("wbl.debug").shows(Shows::Nothing).quirk(Quirk::Explains),
    write("xack", Rule::Silent).kept(Kept::Nothing).keys(Keys::First),
    write("xadd", Rule::Stream).event("xadd").notifies(Notifies::UnlessConditional).logged_as(&["xadd", "xtrim"]),
    write("xautoclaim", Rule::Pending(Pending::AutoClaim)).keys(Keys::First).logged_as(&["xclaim", "xack", "xgroup"]),
    write("xclaim", Rule::Pending(Pending::Claim)).keys(Keys::First).logged_as(&["xclaim", "xack", "xgroup"]),
    write("xdel", Rule::Verbatim).kept(Kept::Nothing).event("xdel"),
    write("xgroup|create", Rule::Verbatim).keys_in_log(KeysInLog::Second),
    write("xgroup|createconsumer", Rule::Verbatim).keys_in_log(KeysInLog::Second),
    write("xgroup|delconsumer", Rule::Verbatim).keys_in_log(KeysInLog::Second),
    write("xgroup|destroy", Rule::Verbatim).keys_in_log(KeysInLog::Second),
    write("xgroup|setid", Rule::Verbatim).keys_in_log(KeysInLog::Second),
    other("xread").blocks(Blocks::WithOption),
    write("xreadgroup", Rule::Pending(Pending::Read)).keys(Keys::AfterStreams).blocks(Blocks::WithOption)
        .kept(Kept::Nothing).keys_in_log(KeysInLog::AfterStreams).logged_as(&["xclaim", "xack", "xgroup", "xreadgroup"]),
    write("xsetid", Rule::Verbatim).kept(Kept::Nothing),
    write("xtrim", Rule::Stream).kept(Kept::Nothing).logged_as(&["xadd", "xtrim"]),
    write("zadd", Rule::Verbatim).only_event("zadd"),
    write("zdiffstore", Rule::FromOthers).kept(Kept::Instead).keys_in_log(KeysInLog::FirstAndCounted),
    write("zincrby", Rule::Verbatim).kept(Kept::Nothing).only_event("zincr"),
    write("zinterstore", Rule::FromOthers).kept(Kept::Instead).keys_in_log(KeysInLog::FirstAndCounted),
    write("zmpop", Rule::Verbatim).kept(Kept::Nothing).keys_in_log(KeysInLog::Counted),
    write("zpopmax", Rule::Verbatim).kept(Kept::Nothing),
    write("zpopmin", Rule::Verbatim).kept(Kept::Nothing),
    other("zrandmember").quirk(Quirk::Repeats),
    write("zrangestore", Rule::FromOthers).kept(Kept::Instead).keys_in_log(KeysInLog::FirstTwo),
    write("zrem", Rule::Verbatim).kept(Kept::Nothing).event("zrem"),
    write("zremrangebylex", Rule::Verbatim).kept(Kept::Nothing),
    write("zremrangebyrank", Rule::Verbatim).kept(Kept::Nothing),
    write("zremrangebyscore", Rule::Verbatim).kept(Kept::Nothing),
    write("zunionstore", Rule::FromOthers).kept(Kept::Instead).keys_in_log(KeysInLog::FirstAndCounted),
];

/// The row of every other command of the server's that writes: a newer server's, or one under a name that the
/// configuration gave it. For the keys of its arguments and those that its events name the resulting state is logged.
pub static UNKNOWN: CommandSpec = write("?", Rule::SilentImage).keys(Keys::Told);

/// The same, for those that may block.
pub static UNKNOWN_BLOCKING: CommandSpec = write("?", Rule::SilentImage).keys(Keys::Told).blocks(Blocks::TimeoutLast);

/// The row of DEBUG POPULATE.
pub static POPULATE: CommandSpec = other("debug").quirk(Quirk::ChangesUnseen);

/// The row of every other command that does not write.
pub static NONE: CommandSpec = other("?");

impl CommandSpec {
    /// The row used when it cannot be logged as its own row says.
    pub fn as_unknown(&self) -> &'static CommandSpec {
        if self.may_block() { &UNKNOWN_BLOCKING } else { &UNKNOWN }
    }
}

/// The row of a command, by its lower-case name (`container|subcommand` for subcommands).
pub fn find(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.binary_search_by(|spec| spec.name.cmp(name)).ok().and_then(|index| COMMANDS.get(index))
}

/// The name of EXEC, as INFO commandstats has it.
pub const EXEC: &str = "exec";

/// Whether a command, by its name in any case, has this role.
pub fn has_role(name: &[u8], role: Role) -> bool {
    COMMANDS.iter().any(|spec| spec.role == role && spec.name.as_bytes().eq_ignore_ascii_case(name))
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
        assert_eq!(find("hget"), None);
        assert!(has_role(b"Exec", Role::Exec) && !has_role(b"exec", Role::Multi));
    }

    #[test]
    fn writes_have_a_rule_and_others_have_none() {
        assert!(COMMANDS.iter().all(|spec| (spec.role == Role::Write) == (spec.rule != Rule::NoData)));
    }

    #[test]
    fn a_write_with_conditions_may_change_nothing() {
        let set = find("set").expect("a row");
        let effective = |text: &str| set.is_effective(text.split(' ').map(str::as_bytes));
        assert!(effective("SET nx xx EX 5"));
        assert!(!effective("SET k v NX"));
        assert!(!effective("SET k v EX 5 get"));
        let add = find("xadd").expect("a row");
        let effective = |text: &str| add.is_effective(text.split(' ').map(str::as_bytes));
        assert!(effective("XADD k * NOMKSTREAM v") && !effective("XADD k nomkstream * f v"));
    }
}
