//! The fake server's state: the dataset, what the module has registered.

pub use crate::client::{Client, User, Waits};
use crate::data::{Bytes, Data};
use crate::held::Blocked;
use crate::truth::{Truth, UnitNumber};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{c_char, c_int, c_void};
use std::rc::Rc;
use std::sync::Arc;
use valkey_wbl::log::Steps;
use valkey_wbl::log::sim::{Random, SimDisk};

pub type Argv = Vec<Bytes>;

pub type Filter = unsafe extern "C" fn(*mut c_void);
pub type KeyspaceCallback = unsafe extern "C" fn(*mut c_void, c_int, *const c_char, *mut c_void) -> c_int;
pub type EventCallback = unsafe extern "C" fn(*mut c_void, u64, u64, u64, *mut c_void);
pub type CommandCallback = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, c_int) -> c_int;
pub type JobCallback = unsafe extern "C" fn(*mut c_void, *mut c_void);
pub type ForkDone = unsafe extern "C" fn(c_int, c_int, *mut c_void);
pub type OneShot = unsafe extern "C" fn(*mut c_void);

/// What a top-level command has read so far.
pub struct Frame {
    pub owner: u64,
    pub reads: UnitNumber,
    /// The module asks for itself: nobody is shown the answer.
    pub detached: bool,
}

pub struct Job {
    pub callback: JobCallback,
    pub data: *mut c_void,
    pub db: usize,
}

/// A forked child, which has done its work.
#[derive(Clone, Copy)]
pub struct Child {
    pub callback: ForkDone,
    pub status: c_int,
    pub signal: c_int,
}

/// What the module has registered.
#[derive(Default)]
pub struct Registered {
    pub filter: Option<Filter>,
    pub keyspace: Vec<(c_int, KeyspaceCallback, Rc<Cell<bool>>)>,
    pub events: HashMap<u64, EventCallback>,
    pub commands: HashMap<String, (CommandCallback, String)>,
}

pub struct Server {
    pub is_9_1: bool,
    /// It is of 9.1.1, which loses commands that come in two parts while their client is blocked.
    pub loses_cut_commands: bool,
    pub random: RefCell<Random>,
    pub disk: RefCell<SimDisk>,
    pub now_ms: Cell<i64>,
    /// The time that commands see.
    pub unit_ms: Cell<i64>,
    pub data: RefCell<Data>,
    pub truth: RefCell<Truth>,
    pub clients: RefCell<BTreeMap<u64, Rc<Client>>>,
    pub next_id: Cell<u64>,
    pub nesting: Cell<u32>,
    pub in_exec: Cell<bool>,
    pub in_script: Cell<u32>,
    /// A script runs long, or the module yields: other clients are told that the server is busy.
    pub busy: Cell<bool>,
    pub loading: Cell<bool>,
    pub starting: Cell<bool>,
    pub no_expiry: Cell<u32>,
    pub executing: RefCell<Option<Rc<Client>>>,
    /// The connected client whose command is processed.
    pub current: Cell<u64>,
    /// A module yields: it does so once at a time.
    pub yields: Cell<bool>,
    /// How often the module has yielded since WBL.DEBUG PAUSE.
    pub yields_while_paused: Cell<u32>,
    /// Invalidations that the current client gets after its command; of all keys when `None`.
    pub invalidated: RefCell<Vec<Option<Bytes>>>,
    pub frames: RefCell<Vec<Frame>>,
    pub jobs: RefCell<VecDeque<Job>>,
    pub ready: RefCell<VecDeque<(usize, Bytes)>>,
    pub serving: Cell<bool>,
    pub released: RefCell<VecDeque<*mut Blocked>>,
    pub unblocked: RefCell<VecDeque<Rc<Client>>>,
    /// Clients that wait for keys, in the order in which they came.
    pub waiting: RefCell<Vec<Rc<Client>>>,
    pub registered: RefCell<Registered>,
    /// Counts changes, as the server does.
    pub dirty: Cell<u64>,
    pub calls: RefCell<HashMap<String, u64>>,
    pub error_replies: Cell<u64>,
    /// Until when writes, or all commands, are paused.
    pub paused_until_ms: Cell<i64>,
    pub pause_is_for_all: Cell<bool>,
    /// More keys are evicted, or refused.
    pub keys_max: Cell<usize>,
    pub evicts: Cell<bool>,
    /// There is a limit, as the server's settings show it.
    pub is_limited: bool,
    pub is_full: Cell<bool>,
    pub io_threads: bool,
    /// Another module is loaded.
    pub has_other_module: bool,
    /// It was loaded before the module: it sees events and the end of an iteration first.
    pub other_is_first: bool,
    /// It does nothing by itself.
    pub others_rest: Cell<bool>,
    /// It works by itself, in an event or at the end of a unit.
    pub in_event: Cell<bool>,
    /// Clients mostly read and write the same key.
    pub has_hot_key: bool,
    /// The client whose user the module has asked for last.
    pub asked_of: Cell<u64>,
    pub scripts: RefCell<VecDeque<(u64, Argv)>>,
    pub steps: RefCell<Option<Arc<dyn Steps>>>,
    pub one_shots: RefCell<Vec<OneShot>>,
    pub child: Cell<Option<Child>>,
    pub trace: RefCell<Option<Vec<String>>>,
    /// The module's lines in the server's log.
    pub lines: RefCell<Vec<String>>,
    pub canary: Cell<Canary>,
    pub checks: Cell<u64>,
    /// A failing disk means that the power has gone.
    pub power_goes: Cell<bool>,
}

/// What is broken on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    None,
    /// Syncs do nothing.
    LyingDisk,
    /// Clients whose replies the module holds get them.
    LostHold,
    /// The same for those that have closed their side of the connection, while the server has not noticed.
    LostHoldAtEnd,
    /// The server does not name the other module that is loaded.
    HiddenModule,
    /// WBL.DEBUG PAUSE is followed by a RESUME that nobody has sent.
    Thawed,
    /// What the module reads for later readers is what was there before.
    StaleValue,
}

thread_local! {
    static SERVER: Cell<Option<&'static Server>> = const { Cell::new(None) };
}

/// The server that runs.
pub fn server() -> &'static Server {
    SERVER.get().expect("a server runs")
}

pub fn set_server(server: &'static Server) {
    SERVER.set(Some(server));
}

/// The id of the client in which scripts run, and the first of those of modules' calls.
pub const SCRIPT_CLIENT: u64 = 1 << 40;
pub const CALL_CLIENT: u64 = SCRIPT_CLIENT + 1;
/// The id of the clients of another module's calls.
pub const OTHER_CLIENT: u64 = CALL_CLIENT + 1;

impl Server {
    pub fn new(disk: SimDisk, seed: u64, now_ms: i64) -> Server {
        Server {
            is_9_1: seed.is_multiple_of(2),
            loses_cut_commands: seed.is_multiple_of(8),
            random: RefCell::new(Random::new(seed)),
            disk: RefCell::new(disk),
            now_ms: Cell::new(now_ms),
            unit_ms: Cell::new(now_ms),
            data: RefCell::default(),
            truth: RefCell::default(),
            clients: RefCell::default(),
            next_id: Cell::new(10),
            nesting: Cell::new(0),
            in_exec: Cell::new(false),
            in_script: Cell::new(0),
            busy: Cell::new(false),
            loading: Cell::new(false),
            starting: Cell::new(true),
            no_expiry: Cell::new(0),
            executing: RefCell::default(),
            current: Cell::new(0),
            yields: Cell::new(false),
            yields_while_paused: Cell::new(0),
            invalidated: RefCell::default(),
            frames: RefCell::default(),
            jobs: RefCell::default(),
            ready: RefCell::default(),
            serving: Cell::new(false),
            released: RefCell::default(),
            unblocked: RefCell::default(),
            waiting: RefCell::default(),
            registered: RefCell::default(),
            dirty: Cell::new(0),
            calls: RefCell::default(),
            error_replies: Cell::new(0),
            paused_until_ms: Cell::new(0),
            pause_is_for_all: Cell::new(false),
            keys_max: Cell::new(usize::MAX),
            evicts: Cell::new(false),
            is_limited: Random::new(seed).chance(60),
            is_full: Cell::new(false),
            io_threads: Random::new(seed ^ 1).chance(12),
            has_other_module: Random::new(seed ^ 3).chance(15),
            other_is_first: Random::new(seed ^ 4).chance(50),
            others_rest: Cell::new(true),
            in_event: Cell::new(false),
            has_hot_key: Random::new(seed ^ 2).chance(15),
            asked_of: Cell::new(0),
            scripts: RefCell::default(),
            steps: RefCell::default(),
            one_shots: RefCell::default(),
            child: Cell::new(None),
            trace: RefCell::new(None),
            lines: RefCell::default(),
            canary: Cell::new(Canary::None),
            checks: Cell::new(0),
            power_goes: Cell::new(false),
        }
    }

    pub fn client(&self, id: u64) -> Option<Rc<Client>> {
        self.clients.borrow().get(&id).cloned()
    }

    /// A client without a connection, or with one that nobody knows of yet.
    pub fn make_client(&self, id: u64, fake: bool, user: User) -> Rc<Client> {
        Rc::new(Client {
            id,
            fake,
            deny_blocking: Cell::new(false),
            db: Cell::new(0),
            user,
            input: RefCell::default(),
            ended: Cell::new(false),
            run_bytes: Cell::new(0),
            read_bytes: Cell::new(0),
            collected: Cell::new(None),
            refused_one: Cell::new(false),
            command: RefCell::default(),
            pending: Cell::new(false),
            out: RefCell::default(),
            deferred: RefCell::new(None),
            handler: Cell::new(false),
            queue: RefCell::new(None),
            resp3: Cell::new(false),
            tracked: RefCell::new(None),
            channels: Cell::new(0),
            dirty_exec: Cell::new(false),
            dirty_cas: Cell::new(false),
            watched: RefCell::default(),
            touched: RefCell::default(),
            waits: RefCell::new(None),
            close: Cell::new(false),
            gone: Cell::new(false),
            behalf: Cell::new(0),
            promise: RefCell::new(None),
            unserved: Cell::new(false),
            timed_out: Cell::new(None),
            expected: RefCell::default(),
            answering: RefCell::default(),
            unchecked: RefCell::default(),
        })
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut *self.trace.borrow_mut() {
            trace.push(what());
        }
    }

    pub fn below(&self, bound: usize) -> usize {
        self.random.borrow_mut().below(bound as u64) as usize
    }

    pub fn chance(&self, percent: u64) -> bool {
        self.random.borrow_mut().chance(percent)
    }

    /// Whether commands of this kind wait for the end of a pause.
    pub fn is_paused(&self, may_replicate: bool) -> bool {
        self.now_ms.get() < self.paused_until_ms.get() && (may_replicate || self.pause_is_for_all.get())
    }
}

/// A promise was broken: ends the run, with the seed.
pub fn violated(what: &str) -> ! {
    let server = server();
    let mut text = format!("VIOLATION {what}\n");
    if let Some(trace) = &*server.trace.borrow() {
        let from = trace.len().saturating_sub(400);
        text += &trace[from..].join("\n");
        text += "\n";
    }
    text += &format!("units: {:?}\n", server.truth.borrow().history);
    text += &format!("log: {:#?}\n", server.lines.borrow());
    crate::process::fail(&text)
}
