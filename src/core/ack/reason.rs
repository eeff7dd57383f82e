//! Why replies cannot be held.

/// Declares the reasons with the names that INFO and the server's log show.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $reason:ident = $name:literal,)*) => {
        /// Why a reply cannot be held, so that the event loop waits for what it shows. INFO counts each as
        /// `wbl_waits_NAME`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $doc])* $reason,)*
        }

        impl Reason {
            /// All of them, in order.
            pub const ALL: &[Reason] = &[$(Reason::$reason),*];

            /// The field of INFO that counts it.
            pub fn field(self) -> &'static str {
                match self {
                    $(Reason::$reason => concat!("waits_", $name),)*
                }
            }

            /// The field of INFO that says how long the loop has waited because of it.
            pub fn time_field(self) -> &'static str {
                match self {
                    $(Reason::$reason => concat!("wait_usec_", $name),)*
                }
            }

            /// What it means, in a sentence.
            pub fn text(self) -> String {
                let lines: &[&str] = match self {
                    $(Reason::$reason => &[$($doc),*],)*
                };
                lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Reason::$reason => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// The loop commits inline: all replies of the iteration wait for its end, whoever could be held.
    Inline = "inline",
    /// EXEC: nothing defers the reply of a transaction.
    Transaction = "transaction",
    /// A script or function that runs as it was sent.
    Script = "script",
    /// Another module's command, or its work in a client that cannot be blocked.
    OtherModule = "other_module",
    /// The head of the reply may have been sent before the event of the change.
    EarlyReply = "early_reply",
    /// The client brings the keys of a slot that moves here.
    SlotImport = "slot_import",
    /// The server may refuse it for a key of a slot that moves, which has gone; the client learns that before the
    /// module sees the command.
    SlotMoves = "slot_moves",
    /// CLIENT PAUSE or a failover makes commands wait that have passed the filter.
    ClientPause = "client_pause",
    /// In a cluster, what other modules' jobs do at the unit's end is done with the slot of a blocked client's command.
    ClusterModules = "cluster_modules",
    /// Another module has blocked the client once, and the server gives its id to that module's own clients since.
    SharedId = "shared_id",
    /// The client tracks keys: invalidations would leave before its held reply.
    Tracking = "tracking",
    /// The client pipelines: its commands after this one would wait for its reply.
    Pipelining = "pipelining",
    /// A subscriber may run certain commands only, and is told their names.
    Subscriber = "subscriber",
    /// The client's user may not run the module's command.
    Rights = "rights",
    /// An ASKING before a script counts for its client's next command only.
    Asking = "asking",
    /// A script that the module runs cannot be debugged.
    ScriptDebug = "script_debug",
    /// The server loses the next command of a client that is held, if it comes in two parts (9.0.0 to 9.1.1).
    CutCommands = "cut_commands",
    /// A blocking command, which fails or times out over what is not durable, or is served by the server unseen.
    Blocking = "blocking",
    /// A write that raises an event whenever it does not fail: it may fail.
    Failure = "failure",
    /// The server has removed what it shows, to make room for it after it was announced.
    Eviction = "eviction",
    /// The server refused to block the client.
    Unblockable = "unblockable",
    /// WBL.DEBUG PAUSE: the loop must not wait at its end, where nothing could resume it.
    DebugPause = "debug_pause",
    /// The server sends replies from threads of its own, at any time.
    IoThreads = "io_threads",
    /// Other modules are loaded, and may have the server send replies at any time (Yield).
    ModuleYield = "module_yield",
    /// Output of the client from before waits for its socket: what follows could be sent with it.
    OutputLeft = "output_left",
}
