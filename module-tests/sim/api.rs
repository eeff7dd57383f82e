//! The fake server's side of the module API: contexts, and calls into the module.

use crate::data::Bytes;
use crate::exec::{self, commit_deferred, end_unit, enter, leave};
use crate::resp::{NULL_ARRAY, Resp, null_for};
use crate::server::{
    Argv, CALL_CLIENT, Canary, Client, CommandCallback, KeyspaceCallback, User, Waits, server, violated,
};
use crate::truth::Expected;
use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_int, c_void};
use std::rc::Rc;

/// A string that the module may hold on to.
pub struct ModuleString {
    pub references: Cell<u32>,
    pub bytes: Bytes,
}

impl ModuleString {
    pub fn make(bytes: &[u8]) -> *mut ModuleString {
        Box::into_raw(Box::new(ModuleString { references: Cell::new(1), bytes: bytes.to_vec() }))
    }

    /// # Safety
    /// `string` came from `make` and the caller owns a reference.
    pub unsafe fn free(string: *mut ModuleString) {
        // SAFETY: see above.
        let left = unsafe { &*string }.references.get() - 1;
        unsafe { &*string }.references.set(left);
        if left == 0 {
            // SAFETY: nobody else has a reference.
            drop(unsafe { Box::from_raw(string) });
        }
    }
}

/// Strings for the time of a call.
pub struct Strings(pub Vec<*mut ModuleString>);

impl Strings {
    pub fn new(argv: &[Bytes]) -> Strings {
        Strings(argv.iter().map(|arg| ModuleString::make(arg)).collect())
    }

    pub fn argv(&self) -> Argv {
        // SAFETY: all are owned here.
        self.0.iter().map(|string| unsafe { &**string }.bytes.clone()).collect()
    }
}

impl Drop for Strings {
    fn drop(&mut self) {
        // SAFETY: all are owned here.
        self.0.iter().for_each(|string| unsafe { ModuleString::free(*string) });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Event,
    Temporary,
    /// In an event, while no command runs.
    TemporaryEvent,
    Command,
    Reply,
    Detached,
    None,
}

/// What the module gets as its context.
#[repr(C)]
pub struct Context {
    /// Where `ValkeyModule_Init` looks for the function that finds the others.
    pub get_api: *const c_void,
    pub kind: Kind,
    pub client: Rc<Client>,
    pub private_data: *mut c_void,
    pub user: Cell<Option<User>>,
}

impl Context {
    pub fn new(kind: Kind, client: Rc<Client>) -> Context {
        let get_api = crate::functions::get_api as *const c_void;
        Context { get_api, kind, client, private_data: std::ptr::null_mut(), user: Cell::new(None) }
    }

    pub fn temporary(db: usize) -> Context {
        let client = call_client();
        client.db.set(db);
        Context::new(Kind::Temporary, client)
    }

    pub fn temporary_event(db: usize) -> Context {
        Context { kind: Kind::TemporaryEvent, ..Context::temporary(db) }
    }

    pub fn of_event(client: &Rc<Client>) -> Context {
        Context::new(Kind::Event, Rc::clone(client))
    }

    /// `moduleCreateContext`, the callback, and `moduleFreeContext`.
    pub fn run<T>(self, callback: impl FnOnce(*mut c_void) -> T) -> T {
        let mut context = self;
        let is_unit = !matches!(context.kind, Kind::Command | Kind::Detached);
        if is_unit {
            enter(true);
        }
        let result = callback((&raw mut context).cast());
        if is_unit {
            leave();
            end_unit();
        }
        result
    }
}

/// A client for a module's call.
pub fn call_client() -> Rc<Client> {
    server().make_client(CALL_CLIENT, true, User::Default)
}

/// The module has blocked a client.
pub struct Blocked {
    pub client: RefCell<Option<Rc<Client>>>,
    pub reply: Option<CommandCallback>,
    pub timeout: Option<CommandCallback>,
    pub free: Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>,
    pub disconnected: Cell<Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>>,
    pub private_data: Cell<*mut c_void>,
    pub released: Cell<bool>,
}

/// A call of the module's that waits.
#[derive(Default)]
pub struct Promise {
    pub client: RefCell<Option<Rc<Client>>>,
    pub handler: Cell<Option<unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void)>>,
    pub data: Cell<usize>,
}

/// The reply of a call.
#[derive(Clone)]
pub struct CallReply {
    /// Without its elements.
    pub resp: Resp,
    pub bytes: Rc<Vec<u8>>,
    pub elements: Rc<Vec<CallReply>>,
    pub promise: Option<Rc<Promise>>,
    /// There is none: a pause has made the call wait, and it was not run after that.
    pub is_missing: bool,
}

impl CallReply {
    pub fn new(resp: Resp, bytes: Vec<u8>) -> CallReply {
        let made = |items: Vec<Resp>| items.into_iter().map(|item| CallReply::new(item, Vec::new())).collect();
        let (resp, elements) = match resp {
            Resp::Array(items) => (Resp::Array(Vec::new()), made(items)),
            Resp::Map(items) => (Resp::Map(Vec::new()), made(items)),
            other => (other, Vec::new()),
        };
        CallReply { resp, bytes: Rc::new(bytes), elements: Rc::new(elements), promise: None, is_missing: false }
    }

    pub fn parse(bytes: Vec<u8>) -> CallReply {
        let resp = Resp::parse(&bytes).map_or(Resp::Null, |(resp, _)| resp);
        CallReply::new(resp, bytes)
    }
}

/// The command filter's context.
pub struct Filtering {
    pub client: u64,
    pub argv: Vec<*mut ModuleString>,
}

/// `moduleCallCommandFilters`.
pub fn filter(client: &Client, argv: &[Bytes]) -> Argv {
    let filter = server().registered.borrow().filter;
    let Some(filter) = filter else { return argv.to_vec() };
    let mut filtering = Filtering { client: client.id, argv: Strings::new(argv).take() };
    // SAFETY: the module registered the callback; it gets a live context.
    unsafe { filter((&raw mut filtering).cast()) };
    Strings(filtering.argv).argv()
}

impl Strings {
    fn take(mut self) -> Vec<*mut ModuleString> {
        std::mem::take(&mut self.0)
    }
}

pub fn keyspace_callback(callback: KeyspaceCallback, ctx: *mut c_void, class: i32, name: &str, key: &[u8]) {
    let (name, key) = (CString::new(name).unwrap_or_default(), Strings::new(&[key.to_vec()]));
    // SAFETY: the module registered the callback; name and key live over the call.
    unsafe { callback(ctx, class, name.as_ptr(), key.0[0].cast()) };
}

/// `moduleFireServerEvent`.
pub fn server_event(id: u64, sub: u64, data: *mut c_void, client: Option<&Rc<Client>>) {
    let callback = server().registered.borrow().events.get(&id).copied();
    let Some(callback) = callback else { return };
    let context = match client {
        Some(client) => Context::new(Kind::None, Rc::clone(client)),
        None => Context::temporary(0),
    };
    // SAFETY: the module registered the callback; `data` is what the event has.
    context.run(|ctx| unsafe { callback(ctx, id, 1, sub, data) });
}

pub fn flushed(db: Option<usize>) {
    let mut info =
        valkey_module::raw::ValkeyModuleFlushInfo { version: 1, sync: 1, dbnum: db.map_or(-1, |db| db as i32) };
    for sub in [0, 1] {
        server_event(valkey_module::raw::VALKEYMODULE_EVENT_FLUSHDB, sub, (&raw mut info).cast(), None);
    }
}

pub fn client_changed(client: &Rc<Client>, sub: u64) {
    // SAFETY: an all-zero structure of integers is a value of it.
    let mut info: valkey_module::raw::ValkeyModuleClientInfo = unsafe { std::mem::zeroed() };
    (info.version, info.id) = (1, client.id);
    server_event(valkey_module::raw::VALKEYMODULE_EVENT_CLIENT_CHANGE, sub, (&raw mut info).cast(), Some(client));
}

#[repr(C)]
struct ResultInfo {
    version: u64,
    name: *const i8,
    duration_us: i64,
    dirty: i64,
    client: u64,
    is_module_client: c_int,
    argc: c_int,
    argv: *mut *mut c_void,
    rejection: *mut c_void,
}

/// A command has run: servers of version 9.1 tell who asks for it.
pub fn command_result(client: &Rc<Client>, argv: &[Bytes], failed: bool, changed: bool) {
    let id = if failed { 21 } else { 20 };
    if !server().registered.borrow().events.contains_key(&id) {
        return;
    }
    let mut strings = Strings::new(argv);
    let mut info = ResultInfo {
        version: 1,
        name: c"".as_ptr().cast(),
        duration_us: 1,
        dirty: i64::from(changed),
        client: client.id,
        is_module_client: c_int::from(client.id >= CALL_CLIENT),
        argc: argv.len() as c_int,
        argv: strings.0.as_mut_ptr().cast(),
        rejection: std::ptr::null_mut(),
    };
    server_event(id, 0, (&raw mut info).cast(), None);
}

/// `ValkeyModuleCommandDispatcher`.
pub fn module_command(client: &Rc<Client>, argv: &[Bytes]) {
    let s = server();
    let name = String::from_utf8_lossy(&argv[0]).to_ascii_lowercase();
    let Some((callback, _)) = s.registered.borrow().commands.get(&name).cloned() else { return };
    if !client.fake && matches!(name.as_str(), "wbl.wait" | "wbl.status" | "wbl.checkpoint") {
        let needs = if name == "wbl.wait" { s.truth.borrow().units() } else { 0 };
        client.expected.borrow_mut().push_back(Expected::Any(needs));
    }
    if !client.fake && name == "wbl.refused" {
        client.expected.borrow_mut().push_back(Expected::Any(0));
    }
    if !client.fake && name == "wbl.debug" {
        client.expected.borrow_mut().push_back(Expected::Any(0));
    }
    if !client.fake && name.starts_with("wbl.eval") {
        s.scripts.borrow_mut().push_back((client.id, argv[1..].to_vec()));
    }
    let mut strings = Strings::new(argv);
    let context = Context::new(Kind::Command, Rc::clone(client));
    // SAFETY: the module registered the callback; the strings live over the call.
    context.run(|ctx| unsafe { callback(ctx, strings.0.as_mut_ptr().cast(), argv.len() as c_int) });
    if name == "wbl.debug" {
        s.yields_while_paused.set(0);
        let freezes = argv[1] == b"PAUSE";
        let followed = s.truth.borrow_mut().freeze(freezes, &s.disk.borrow());
        if let Err(text) = followed {
            violated(&text);
        }
        if freezes && s.canary.get() == Canary::Thawed {
            resume();
        }
    }
}

/// WBL.DEBUG RESUME of nobody's.
fn resume() {
    let argv = [b"wbl.debug".to_vec(), b"RESUME".to_vec()];
    let mut strings = Strings::new(&argv);
    let callback = server().registered.borrow().commands["wbl.debug"].0;
    let context = Context::new(Kind::Command, call_client());
    // SAFETY: the module registered the callback; the strings live over the call.
    context.run(|ctx| unsafe { callback(ctx, strings.0.as_mut_ptr().cast(), argv.len() as c_int) });
}

/// `moduleHandleBlockedClients`.
pub fn handle_released() {
    let s = server();
    loop {
        let Some(raw) = s.released.borrow_mut().pop_front() else { break };
        // SAFETY: the handle lives until it is freed below, once.
        let blocked = unsafe { &*raw };
        let client = blocked.client.borrow().clone();
        if let (Some(client), Some(reply)) = (&client, blocked.reply) {
            let mut strings = Strings::new(&client.command.borrow());
            let mut context = Context::new(Kind::Reply, Rc::clone(client));
            context.private_data = blocked.private_data.get();
            let argc = strings.0.len() as c_int;
            // SAFETY: the module passed the callback.
            context.run(|ctx| unsafe { reply(ctx, strings.0.as_mut_ptr().cast(), argc) });
        }
        if let Some(free) = blocked.free.filter(|_| !blocked.private_data.get().is_null()) {
            let client = client.clone().unwrap_or_else(call_client);
            let data = blocked.private_data.get();
            // SAFETY: the module passed the callback and the data.
            Context::new(Kind::None, client).run(|ctx| unsafe { free(ctx, data) });
        }
        if let Some(client) = client {
            commit_deferred(&client, false);
            blocked.disconnected.set(None);
            exec::unblock(&client, true);
        }
        // SAFETY: the module has given it up; nobody refers to it.
        drop(unsafe { Box::from_raw(raw) });
    }
}

pub fn is_released(blocked: *mut Blocked) -> bool {
    // SAFETY: a client waits with it, so that it lives.
    unsafe { &*blocked }.released.get()
}

/// `unblockClientFromModule`.
pub fn left(client: &Rc<Client>, blocked: *mut Blocked) {
    // SAFETY: a client waited with it, so that it lives.
    let blocked = unsafe { &*blocked };
    if let Some(callback) = blocked.disconnected.take() {
        let raw = (&raw const *blocked).cast_mut().cast();
        // SAFETY: the module set the callback.
        Context::new(Kind::None, Rc::clone(client)).run(|ctx| unsafe { callback(ctx, raw) });
    }
    blocked.client.take();
}

/// `moduleBlockedClientTimedOut`.
pub fn timed_out(client: &Rc<Client>, blocked: *mut Blocked) {
    let s = server();
    // SAFETY: a client waits with it, so that it lives.
    let blocked = unsafe { &*blocked };
    // What it was called for waits still, or has waited in vain just now: a stock server has nothing to show.
    let is_its = |other: &&Rc<Client>| other.fake && other.behalf.get() == client.id;
    let waits = s.waiting.borrow().iter().find(is_its).map(|inner| exec::shown_in_vain(inner));
    let waited = || s.unblocked.borrow().iter().find(is_its).and_then(|inner| inner.timed_out.take());
    let put_off = || client.unserved.take().then_some(0);
    if let Some(needs) = waits.or_else(waited).or_else(put_off) {
        exec::expect(client, null_for(NULL_ARRAY, client.resp3.get()).to_vec(), needs);
    }
    if let Some(timeout) = blocked.timeout {
        let mut strings = Strings::new(&client.command.borrow());
        let argc = strings.0.len() as c_int;
        // SAFETY: the module passed the callback.
        Context::new(Kind::Reply, Rc::clone(client))
            .run(|ctx| unsafe { timeout(ctx, strings.0.as_mut_ptr().cast(), argc) });
    }
    blocked.disconnected.set(None);
}

/// `moduleCallCommandUnblockedHandler`.
pub fn promise_kept(client: &Rc<Client>) {
    let Some(promise) = client.promise.take() else { return };
    promise.client.take();
    if let (Some(needs), Some(owner)) = (client.timed_out.take(), server().client(client.behalf.get())) {
        exec::expect(&owner, null_for(NULL_ARRAY, owner.resp3.get()).to_vec(), needs);
    }
    let Some(handler) = promise.handler.get() else { return };
    let bytes: Vec<u8> = client.out.borrow_mut().drain(..).collect();
    let is_missing = bytes.is_empty();
    if let (true, Some(owner)) = (is_missing, server().client(client.behalf.get())) {
        owner.unserved.set(true);
    }
    let reply = Box::into_raw(Box::new(CallReply { is_missing, ..CallReply::parse(bytes) }));
    let data = promise.data.get();
    // SAFETY: the module set the handler, which takes the reply over.
    Context::temporary(client.db.get())
        .run(|ctx| unsafe { handler(ctx, reply.cast(), std::ptr::without_provenance_mut(data)) });
}

/// `VM_BlockClient`.
pub fn block(context: &Context, blocked: Blocked, timeout_ms: i64) -> *mut Blocked {
    let (s, client) = (server(), &context.client);
    if client.is_blocked() || matches!(context.kind, Kind::Temporary | Kind::TemporaryEvent) {
        return std::ptr::null_mut();
    }
    let nested = s.in_script.get() > 0 || s.in_exec.get();
    assert!(!client.deny_blocking.get() || nested, "the server asserts that this client may block");
    if nested && context.kind == Kind::Event {
        return std::ptr::null_mut();
    }
    let is_script = client.command.borrow().first().is_some_and(|name| name.starts_with(b"wbl.eval"));
    if s.loses_cut_commands && (context.kind == Kind::Event || is_script) {
        violated(&format!("client {} is held, and the server may lose its next command", client.id));
    }
    let raw = Box::into_raw(Box::new(blocked));
    if nested {
        exec::write(client, b"-ERR Blocking module command called from transaction\r\n");
        return raw;
    }
    let is_lost = match s.canary.get() {
        Canary::LostHold => true,
        Canary::LostHoldAtEnd => client.ended.get(),
        _ => false,
    };
    if is_lost && context.kind == Kind::Event {
        return raw;
    }
    // SAFETY: it was just made.
    *unsafe { &*raw }.client.borrow_mut() = Some(Rc::clone(client));
    let deadline_ms = (timeout_ms > 0).then(|| s.now_ms.get() + timeout_ms);
    *client.waits.borrow_mut() = Some(Waits::Module(raw, deadline_ms));
    if context.kind == Kind::Event {
        client.deferred.borrow_mut().get_or_insert_default();
    }
    s.note(|| format!("    held {}", client.id));
    raw
}
