//! The fake server's side of the module API: contexts, and calls into the module.

use crate::data::Bytes;
use crate::exec::{end_unit, enter, leave};
use crate::held::Promise;
use crate::resp::Resp;
use crate::server::{Argv, CALL_CLIENT, Canary, Client, KeyspaceCallback, User, server, violated};
use crate::truth::Expected;
use std::cell::Cell;
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
