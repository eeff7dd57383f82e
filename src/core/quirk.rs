//! What a command does besides what its row says of its effect and its reply.

/// What else of a command matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// Nothing.
    None,
    /// The next command of its client may use a slot that arrives (ASKING).
    Asks,
    /// It changes data, and nothing shows what (DEBUG POPULATE).
    ChangesUnseen,
    /// It changes settings (CONFIG SET).
    Configures,
    /// It writes the configuration file anew (CONFIG REWRITE).
    RewritesFile,
    /// It runs code of a module that is loaded, or unloaded (MODULE LOAD).
    LoadsModules,
    /// It begins or ends the move of a slot (CLUSTER SETSLOT).
    MovesSlots,
    /// The server refuses it as long as there are keys; other nodes see at once that it has run (CLUSTER RESET).
    NeedsNoKeys,
    /// It selects a database.
    Selects,
    /// It turns client-side caching on or off.
    Tracks,
    /// It has its client get messages (SUBSCRIBE).
    Subscribes,
    /// It drops what is queued, and nothing else (DISCARD).
    Discards,
    /// It may remove any keys that have expired, each separately (SCAN).
    ExpiresAny,
    /// It may answer with any number of elements, however few there are (HRANDFIELD with a negative count).
    Repeats,
    /// It has its client get no replies (CLIENT REPLY).
    Mutes,
    /// The server refuses it together with writes while it cannot save (PING).
    FailsWithDisk,
    /// It ends another client's wait.
    Unblocks,
    /// It may take rights away from users whose clients wait.
    ChangesRights,
    /// It has clients wait (CLIENT PAUSE).
    Pauses,
    /// It sends a message to subscribers.
    Publishes,
    /// Scripts of its client are debugged from now on, or no longer.
    DebugsScripts,
    /// It sets the count of error replies back.
    ResetsStatistics,
    /// The fields of a hash that it names follow the key; those of others follow FIELDS and their number (HDEL).
    FieldsAfterKey,
    /// The server may accept it where it refuses the module's command that would run it (RESTORE-ASKING).
    NeverWrapped,
    /// When a module runs it for a key that is not a string, its error comes with a later call's reply (GETSET,
    /// GETDEL).
    LosesItsError,
    /// It waits until what its client wrote is durable (WAITAOF).
    WaitsForAof,
    /// Its first argument is no key, but decides which node of a cluster serves it, as a key does (CLUSTERSCAN).
    RoutesByCursor,
    /// It shows how the reply to another command would be kept (WBL.DEBUG EXPLAIN).
    Explains,
    /// A replica reports with it how much of the stream it has (REPLCONF ACK).
    Acknowledges,
    /// It makes its client a replica, of the server or of a slot (PSYNC).
    Copies,
    /// It empties all databases (FLUSHALL).
    EmptiesAll,
    /// It empties the selected database (FLUSHDB).
    EmptiesOne,
    /// It exchanges two databases (SWAPDB).
    SwapsDatabases,
    /// Its time counts from now (HEXPIRE).
    CountsFromNow,
}

/// Several of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks(u64);

impl Quirks {
    /// Adds one.
    pub fn add(&mut self, quirk: Quirk) {
        self.0 |= 1 << quirk as u32;
    }

    /// Whether it is among them.
    pub fn have(self, quirk: Quirk) -> bool {
        self.0 & 1 << quirk as u32 != 0
    }

    /// Whether one of them has others wait, once its command has run.
    pub fn concern_others(self) -> bool {
        let concern = [
            Quirk::ChangesRights,
            Quirk::ChangesUnseen,
            Quirk::MovesSlots,
            Quirk::NeedsNoKeys,
            Quirk::Pauses,
            Quirk::Tracks,
            Quirk::Unblocks,
        ];
        concern.into_iter().any(|quirk| self.have(quirk))
    }
}

impl From<Quirk> for Quirks {
    fn from(quirk: Quirk) -> Quirks {
        let mut quirks = Quirks::default();
        quirks.add(quirk);
        quirks
    }
}
