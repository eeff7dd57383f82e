//! Random commands against one server that is killed: what it held before must be what it holds afterwards.

pub mod generate;
pub mod regressions;
pub mod run;
pub mod state;
pub mod words;

use words::Words;

/// Runs commands: of each `call` or `pcall`, the number of words, and the words.
pub const SCRIPT: &str = "local at = 1 \
    while at <= #ARGV do \
      local words = {} \
      for index = 1, tonumber(ARGV[at + 1]) do words[index] = ARGV[at + 1 + index] end \
      if ARGV[at] == 'call' then redis.call(unpack(words)) else redis.pcall(unpack(words)) end \
      at = at + 2 + #words \
    end \
    return 1";

/// A library of one function that does the same.
pub const LIBRARY: &str = "#!lua name=libraryNUMBER\n\
    redis.register_function('runNUMBER', function(keys, args) \
      local at = 1 \
      while at <= #args do \
        local words = {} \
        for index = 1, tonumber(args[at + 1]) do words[index] = args[at + 1 + index] end \
        if args[at] == 'call' then redis.call(unpack(words)) else redis.pcall(unpack(words)) end \
        at = at + 2 + #words \
      end \
      return 1 \
    end)\n";

/// What is left out together when a failing sequence is made shorter.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sent without waiting for replies.
    Send(Vec<Words>),
    /// A command of another client.
    Other(Words),
    /// The transaction of a client that watches a key, and another client's command before it.
    Watched { key: Vec<u8>, change: Words, commands: Vec<Words> },
    /// RESTORE of what DUMP gives of the source.
    Restore { source: Vec<u8>, target: Vec<u8>, ttl: Vec<u8>, options: Words },
    /// Each command on a connection of its own, with its database; when all are blocked or done, what may serve them.
    Blocked { blocked: Vec<(u32, Words)>, serving: Vec<Words> },
    /// Milliseconds.
    Wait(u64),
    /// From here on the server has so many bytes of memory less than it uses, and evicts keys by this policy.
    Squeeze { bytes: u64, policy: &'static str },
    /// It has enough again.
    Loosen,
    /// A command of a client that has sent no password, or has few rights.
    Refused { has_password: bool, command: Words },
    /// A script of another client's that runs long, and what is sent meanwhile.
    Long { script: Words, meanwhile: Vec<Words> },
}

impl Step {
    pub fn commands(&self) -> usize {
        match self {
            Step::Send(commands) => commands.len(),
            Step::Watched { commands, .. } => commands.len() + 4,
            Step::Restore { .. } => 2,
            Step::Blocked { blocked, serving } => blocked.len() + serving.len(),
            Step::Long { meanwhile, .. } => 1 + meanwhile.len(),
            Step::Other(_) | Step::Refused { .. } => 1,
            Step::Wait(_) | Step::Squeeze { .. } | Step::Loosen => 0,
        }
    }

    /// Whether it may have to do with the key, or with function libraries.
    pub fn names(&self, database: Option<u32>, key: &[u8]) -> bool {
        if database.is_none() {
            return matches!(self, Step::Send(commands) if commands.iter().any(|words| words[0] == b"FUNCTION"));
        }
        let any = |commands: &[Words]| commands.iter().any(|words| words.iter().skip(1).any(|word| word == key));
        let general = |commands: &[Words]| {
            let all = ["SWAPDB", "FLUSHDB", "FLUSHALL"];
            commands.iter().any(|words| all.iter().any(|name| words[0] == name.as_bytes()))
        };
        match self {
            Step::Send(commands) => any(commands) || general(commands),
            Step::Watched { key: watched, change, commands } => {
                watched == key || any(std::slice::from_ref(change)) || any(commands) || general(commands)
            }
            Step::Restore { source, target, .. } => source == key || target == key,
            Step::Blocked { blocked, serving } => {
                any(serving)
                    || general(serving)
                    || blocked.iter().any(|(_, words)| words.iter().any(|word| word == key))
            }
            Step::Long { script, meanwhile } => {
                any(std::slice::from_ref(script)) || any(meanwhile) || general(meanwhile)
            }
            Step::Other(command) | Step::Refused { command, .. } => any(std::slice::from_ref(command)),
            Step::Wait(_) => false,
            Step::Squeeze { .. } | Step::Loosen => true,
        }
    }

    pub fn text(&self) -> String {
        let all = |commands: &[Words]| commands.iter().map(words::text).collect::<Vec<_>>().join("; ");
        match self {
            Step::Send(commands) => all(commands),
            Step::Watched { key, change, commands } => format!(
                "WATCH {}; (other client: {}); MULTI; {}; EXEC",
                key.escape_ascii(),
                words::text(change),
                all(commands)
            ),
            Step::Restore { source, target, ttl, options } => {
                let mut words = words::words!["RESTORE", target.as_slice(), ttl.as_slice(), "<dump>"];
                words.extend(options.iter().cloned());
                format!("DUMP {}; {}", source.escape_ascii(), words::text(&words))
            }
            Step::Blocked { blocked, serving } => {
                let blocked = blocked.iter().map(|(db, words)| format!("(blocks in {db}: {})", words::text(words)));
                format!("{}; {}", blocked.collect::<Vec<_>>().join("; "), all(serving))
            }
            Step::Other(command) => format!("(other client: {})", words::text(command)),
            Step::Wait(ms) => format!("wait {ms} ms"),
            Step::Squeeze { bytes, policy } => format!("(maxmemory is {bytes} bytes less than is used, {policy})"),
            Step::Loosen => "(maxmemory is 0)".into(),
            Step::Refused { has_password, command } => {
                format!("(client with password: {has_password}: {})", words::text(command))
            }
            Step::Long { script, meanwhile } => format!("(other client: {}) {}", words::text(script), all(meanwhile)),
        }
        .replace(&words::text(&words::words![SCRIPT]), "<script>")
    }
}
