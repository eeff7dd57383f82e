//! What is measured: loads, the systems that run them, and the disks.

/// What a load runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// A stock server without persistence.
    None,
    /// `appendfsync everysec`.
    Everysec,
    /// `appendfsync always`, which the module takes the place of.
    Always,
    /// The module with its default settings.
    Module,
    /// The module, loaded with `wbl.enabled no`.
    Disabled,
}

impl System {
    /// The head of its column.
    pub fn title(self) -> &'static str {
        match self {
            System::None => "none",
            System::Everysec => "everysec",
            System::Always => "always",
            System::Module => "module",
            System::Disabled => "disabled",
        }
    }
}

/// What the clients of a load are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Those of valkey-benchmark, which send this command; `;` stands between the words of several.
    Benchmark(&'static [&'static str]),
    /// Clients that read nine times as often as they write, keys as uneven as in a cache.
    Zipf,
    /// A script of `clients/` with its first words; reports for itself.
    Script(&'static [&'static str]),
}

/// A program of clients.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its row.
    pub title: &'static str,
    /// Connections, or producers of a queue, or callers of a client library.
    pub clients: u32,
    /// Commands (or sequences of them) that a client sends before it waits.
    pub pipeline: u32,
    /// Bytes of `__data__`.
    pub value_bytes: u32,
    /// Different keys.
    pub keys: u32,
    /// What they run.
    pub program: Program,
}

impl Load {
    const fn new(title: &'static str, clients: u32, command: &'static [&'static str]) -> Load {
        let program = Program::Benchmark(command);
        Load { title, clients, pipeline: 1, value_bytes: 64, keys: 100_000, program }
    }

    const fn zipf(title: &'static str, clients: u32) -> Load {
        Load { program: Program::Zipf, ..Load::new(title, clients, &[]) }
    }

    const fn script(title: &'static str, clients: u32, words: &'static [&'static str]) -> Load {
        Load { program: Program::Script(words), ..Load::new(title, clients, &[]) }
    }

    /// Whether it reads keys that are to be there.
    pub fn reads(&self) -> bool {
        match self.program {
            Program::Benchmark(words) => words.contains(&"GET"),
            Program::Zipf => true,
            Program::Script(_) => false,
        }
    }

    const fn pipeline(self, pipeline: u32) -> Load {
        Load { pipeline, ..self }
    }

    const fn value_bytes(self, value_bytes: u32) -> Load {
        Load { value_bytes, ..self }
    }

    const fn keys(self, keys: u32) -> Load {
        Load { keys, ..self }
    }
}

/// Loads that run side by side.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// The loads, each with a row of its own.
    pub loads: &'static [Load],
    /// The system that the ratio is taken to, and the one that is measured.
    pub compared: (System, System),
    /// Settings of the server that the others do not have.
    pub settings: &'static [(&'static str, &'static str)],
    /// Runs with `--quick`, too.
    pub is_quick: bool,
    /// Runs on slow disks, too.
    pub is_for_slow_disks: bool,
}

impl Cell {
    const fn new(loads: &'static [Load]) -> Cell {
        let compared = (System::Always, System::Module);
        Cell { loads, compared, settings: &[], is_quick: false, is_for_slow_disks: true }
    }

    const fn quick(self) -> Cell {
        Cell { is_quick: true, ..self }
    }

    const fn fast_disk_only(self) -> Cell {
        Cell { is_for_slow_disks: false, ..self }
    }

    const fn to_none(self, system: System) -> Cell {
        Cell { compared: (System::None, system), ..self.fast_disk_only() }
    }

    const fn settings(self, settings: &'static [(&'static str, &'static str)]) -> Cell {
        Cell { settings, ..self }
    }

    /// The systems that run it.
    pub fn systems(&self, is_slow: bool) -> Vec<System> {
        let (base, system) = self.compared;
        let others = [System::None, System::Everysec];
        let others = others.into_iter().filter(|_| !is_slow && self.settings.is_empty() && base == System::Always);
        others.chain([base, system]).collect()
    }
}

/// Microseconds by which each flush is made to last longer.
pub const DISKS_US: &[u64] = &[0, 500, 2_000, 10_000];
/// The same with `--quick`.
pub const QUICK_DISKS_US: &[u64] = &[0, 10_000];

const KEY: &str = "key:__rand_int__";
const SET: &[&str] = &["SET", KEY, "__data__"];
const SET_OTHER: &[&str] = &["SET", "other:__rand_int__", "__data__"];
const GET: &[&str] = &["GET", KEY];
const EXEC: &[&str] = &["MULTI", ";", "4", "SET", KEY, "__data__", ";", "EXEC"];
const EXEC_OTHER: &[&str] = &["MULTI", ";", "4", "SET", "other:__rand_int__", "__data__", ";", "EXEC"];
const SCRIPT: &str = "for i = 1, 4 do redis.call('SET', KEYS[1] .. i, ARGV[1]) end";
const EVAL: &[&str] = &["EVAL", SCRIPT, "1", KEY, "__data__"];
const EVAL_OTHER: &[&str] = &["EVAL", SCRIPT, "1", "other:__rand_int__", "__data__"];
const SHORT_SCRIPT: &str = "return redis.call('SET', KEYS[1], ARGV[1])";
const MSET: &[&str] = &[
    "MSET", KEY, "__data__", KEY, "__data__", KEY, "__data__", KEY, "__data__", KEY, "__data__", KEY, "__data__", KEY,
    "__data__", KEY, "__data__", KEY, "__data__", KEY, "__data__",
];

/// All cells, in the order of the tables.
pub const CELLS: &[Cell] = &[
    Cell::new(&[Load::new("SET, 1 client", 1, SET)]).quick(),
    Cell::new(&[Load::new("SET, 8 clients", 8, SET)]).quick(),
    Cell::new(&[Load::new("SET, 50 clients", 50, SET)]).quick(),
    Cell::new(&[Load::new("SET, 200 clients", 200, SET)]),
    Cell::new(&[Load::new("SET, 500 clients", 500, SET)]),
    Cell::new(&[Load::new("SET, 1 client, pipeline of 16", 1, SET).pipeline(16)]),
    Cell::new(&[Load::new("SET, 8 clients, pipeline of 16", 8, SET).pipeline(16)]),
    Cell::new(&[Load::new("SET, 50 clients, pipeline of 16", 50, SET).pipeline(16)]).quick(),
    Cell::new(&[Load::new("SET, 50 clients, pipeline of 100", 50, SET).pipeline(100)]),
    Cell::new(&[Load::new("SET of 16 bytes, 50 clients", 50, SET).value_bytes(16)]),
    Cell::new(&[Load::new("SET of 1 KB, 50 clients", 50, SET).value_bytes(1 << 10)]),
    Cell::new(&[Load::new("SET of 16 KB, 50 clients", 50, SET).value_bytes(16 << 10).keys(10_000)]),
    Cell::new(&[Load::new("SET of 1 MB, 8 clients", 8, SET).value_bytes(1 << 20).keys(100)]),
    Cell::new(&[Load::new("SET, 50 clients, io-threads 2", 50, SET)]).settings(&[("io-threads", "2")]),
    Cell::new(&[Load::new("INCR of one key, 50 clients", 50, &["INCR", "counter"])]),
    Cell::new(&[Load::new("MSET of 10, 50 clients", 50, MSET)]),
    Cell::new(&[Load::new(
        "XADD, 50 clients",
        50,
        &["XADD", "stream", "MAXLEN", "~", "1000", "*", "field", "__data__"],
    )]),
    Cell::new(&[Load::new("EXEC of 4 SETs, 50 clients", 50, EXEC)]).quick(),
    Cell::new(&[Load::new("EVAL of 4 SETs, 50 clients", 50, EVAL)]).quick(),
    Cell::new(&[Load::new(
        "EVAL of a SET, 1 client, pipeline of 3,000",
        1,
        &["EVAL", SHORT_SCRIPT, "1", KEY, "__data__"],
    )
    .pipeline(3_000)]),
    Cell::new(&[Load::new("GET, 50 clients", 50, GET), Load::new("beside SET of other keys, 8 clients", 8, SET_OTHER)])
        .quick(),
    Cell::new(&[
        Load::new("GET of one hot key, 50 clients", 50, &["GET", "hot"]),
        Load::new("beside SET of it, 8 clients", 8, &["SET", "hot", "__data__"]),
    ])
    .quick(),
    Cell::new(&[
        Load::new("GET, 50 clients", 50, GET),
        Load::new("beside SET of other keys, 8 clients, pipeline of 16", 8, SET_OTHER).pipeline(16),
    ]),
    Cell::new(&[
        Load::new("GET, 50 clients", 50, GET),
        Load::new("beside EXEC of 4 SETs of other keys, 8 clients", 8, EXEC_OTHER),
    ]),
    Cell::new(&[
        Load::new("GET, 50 clients", 50, GET),
        Load::new("beside EVAL of 4 SETs of other keys, 8 clients", 8, EVAL_OTHER),
    ]),
    Cell::new(&[Load::new(
        "9 GETs and a SET in turn, 1,000 keys, 50 clients",
        50,
        &["9", "GET", KEY, ";", "SET", KEY, "__data__"],
    )
    .keys(1_000)]),
    Cell::new(&[Load::zipf("9 GETs to a SET, zipf, 100,000 keys, 50 clients", 50)]),
    Cell::new(&[
        Load::new("BRPOP, 25 clients", 25, &["BRPOP", "list", "1"]),
        Load::new("beside LPUSH, 25 clients", 25, &["LPUSH", "list", "__data__"]),
    ]),
    Cell::new(&[
        Load::new(
            "XREADGROUP, 25 clients",
            25,
            &[
                "XREADGROUP",
                "GROUP",
                "group",
                "consumer:__rand_int__",
                "COUNT",
                "10",
                "BLOCK",
                "1000",
                "STREAMS",
                "jobs",
                ">",
            ],
        )
        .keys(25),
        Load::new("beside XADD, 8 clients", 8, &["XADD", "jobs", "MAXLEN", "~", "10000", "*", "field", "__data__"]),
    ]),
    Cell::new(&[Load::script("BullMQ, 30 producers and 50 jobs at a time", 30, &["node", "bullmq.js"])]),
    Cell::new(&[Load::script("iovalkey, 50 callers of a custom command", 50, &["node", "callers.js", "iovalkey"])]),
    Cell::new(&[Load::script("node-redis, 8 clients, pipeline of 20", 8, &["node", "callers.js", "redis"])]),
    Cell::new(&[Load::script("dramatiq, 8 producers and 8 workers", 8, &["venv/bin/python", "queues.py", "dramatiq"])]),
    Cell::new(&[Load::script("huey, 8 producers and 8 workers", 8, &["venv/bin/python", "queues.py", "huey"])]),
    Cell::new(&[Load::new("GET, 50 clients, and nothing else; to none", 50, GET)]).to_none(System::Module).quick(),
    Cell::new(&[Load::new("SET, 50 clients, wbl.enabled no; to none", 50, SET)]).to_none(System::Disabled).quick(),
];
