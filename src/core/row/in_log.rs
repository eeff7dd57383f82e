//! The columns that say what a command of the log is.

/// Where the keys are in a command of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysInLog {
    /// It names none.
    None,
    /// The first argument.
    First,
    /// The first two.
    FirstTwo,
    /// The second argument (the first is a subcommand).
    Second,
    /// All arguments.
    All,
    /// All after the first (BITOP).
    AfterFirst,
    /// Every other argument, the first among them (MSET).
    Pairs,
    /// The same after their number (MSETEX).
    CountedPairs,
    /// As many as the first argument says, after it (LMPOP).
    Counted,
    /// The first, and as many as the second says, after it (ZUNIONSTORE).
    FirstAndCounted,
    /// The first, and what follows STORE or STOREDIST (GEORADIUS).
    FirstAndStore,
    /// Those that follow STREAMS, without their ids (XREADGROUP).
    AfterStreams,
}

/// What a base keeps of the bytes that such a command of the log takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// About all of them, in addition to what there was (RPUSH).
    All,
    /// About all of them, in place of what there was (SET).
    Instead,
    /// None: it changes what there is in place, or makes it less (INCR, LPOP).
    Nothing,
    /// None, and nothing of what there was of its keys (DEL).
    Removed,
}
