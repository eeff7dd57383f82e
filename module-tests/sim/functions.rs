//! The functions that the module calls, by name.

use crate::api::{self, Blocked, CallReply, Context, Filtering, Kind, ModuleString, Promise, Strings};
use crate::commands::{self, WRONG_TYPE};
use crate::data::{Bytes, Entry, Value};
use crate::exec::{self, begin_frame, show, write};
use crate::resp::{self, Resp};
use crate::server::{
    Argv, Client, CommandCallback, EventCallback, Filter, Job, JobCallback, KeyspaceCallback, OneShot, SCRIPT_CLIENT,
    User, server,
};
use crate::{admin, rdb, table};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_void};
use std::rc::Rc;
use valkey_module::raw;

const OK: c_int = 0;
const ERR: c_int = 1;

type Raw = *mut c_void;

unsafe fn ctx<'a>(raw: Raw) -> &'a Context {
    unsafe { &*raw.cast::<Context>() }
}

unsafe fn text<'a>(raw: *const c_char) -> &'a str {
    unsafe { CStr::from_ptr(raw) }.to_str().unwrap_or("")
}

unsafe fn string<'a>(raw: Raw) -> &'a [u8] {
    &unsafe { &*raw.cast::<ModuleString>() }.bytes
}

unsafe fn argv_of(argv: *mut Raw, argc: usize) -> Argv {
    (0..argc).map(|at| unsafe { string(*argv.add(at)) }.to_vec()).collect()
}

unsafe extern "C" fn ok() -> c_int {
    OK
}

unsafe extern "C" fn nothing() {}

unsafe extern "C" fn no() -> c_int {
    0
}

unsafe extern "C" fn free(memory: Raw) {
    unsafe { libc::free(memory) }
}

unsafe extern "C" fn log(_: Raw, _level: Raw, _format: Raw, line: *const c_char) {
    let line = unsafe { text(line) }.to_string();
    crate::run::log_line(line);
}

unsafe extern "C" fn create_string(_: Raw, bytes: *const u8, len: usize) -> Raw {
    ModuleString::make(unsafe { std::slice::from_raw_parts(bytes, len) }).cast()
}

unsafe extern "C" fn free_string(_: Raw, string: Raw) {
    unsafe { ModuleString::free(string.cast()) }
}

unsafe extern "C" fn string_ptr_len(string: Raw, len: *mut usize) -> *const u8 {
    let bytes = &unsafe { &*string.cast::<ModuleString>() }.bytes;
    unsafe { *len = bytes.len() };
    bytes.as_ptr()
}

unsafe extern "C" fn create_command(
    _: Raw,
    name: *const c_char,
    callback: CommandCallback,
    flags: *const c_char,
    _: c_int,
    _: c_int,
    _: c_int,
) -> c_int {
    let (name, flags) = unsafe { (text(name).to_string(), text(flags).to_string()) };
    server().registered.borrow_mut().commands.insert(name, (callback, flags));
    OK
}

unsafe extern "C" fn some() -> Raw {
    std::ptr::without_provenance_mut(8)
}

unsafe extern "C" fn register_filter(_: Raw, filter: Filter, _: c_int) -> Raw {
    server().registered.borrow_mut().filter = Some(filter);
    std::ptr::without_provenance_mut(8)
}

unsafe extern "C" fn unregister_filter(_: Raw, _: Raw) -> c_int {
    server().registered.borrow_mut().filter = None;
    OK
}

unsafe extern "C" fn subscribe_keyspace(_: Raw, mask: c_int, callback: KeyspaceCallback) -> c_int {
    server().registered.borrow_mut().keyspace.push((mask, callback, Rc::new(Cell::new(false))));
    OK
}

unsafe extern "C" fn subscribe_event(_: Raw, id: u64, _: u64, callback: Option<EventCallback>) -> c_int {
    let s = server();
    if id >= 20 && !s.is_9_1 {
        return ERR;
    }
    let mut registered = s.registered.borrow_mut();
    match callback {
        Some(callback) => registered.events.insert(id, callback),
        None => registered.events.remove(&id),
    };
    OK
}

unsafe extern "C" fn version() -> c_int {
    if server().is_9_1 { 0x0009_0102 } else { 0x0008_0101 }
}

unsafe extern "C" fn unit_us() -> c_longlong {
    server().unit_ms.get() * 1000
}

unsafe extern "C" fn client_id(raw: Raw) -> u64 {
    unsafe { ctx(raw) }.client.id
}

unsafe extern "C" fn selected_db(raw: Raw) -> c_int {
    unsafe { ctx(raw) }.client.db.get() as c_int
}

unsafe extern "C" fn select_db(raw: Raw, db: c_int) -> c_int {
    match usize::try_from(db) {
        Ok(db) if db < crate::data::DATABASES => {
            unsafe { ctx(raw) }.client.db.set(db);
            OK
        }
        _ => ERR,
    }
}

unsafe extern "C" fn context_flags(raw: Raw) -> c_int {
    let s = server();
    let mut flags = raw::VALKEYMODULE_CTX_FLAGS_PRIMARY;
    if !raw.is_null() && unsafe { ctx(raw) }.client.deny_blocking.get() {
        flags |= raw::VALKEYMODULE_CTX_FLAGS_DENY_BLOCKING;
    }
    if s.in_script.get() > 0 {
        flags |= raw::VALKEYMODULE_CTX_FLAGS_LUA;
    }
    if s.in_exec.get() {
        flags |= raw::VALKEYMODULE_CTX_FLAGS_MULTI;
    }
    if s.loading.get() {
        flags |= raw::VALKEYMODULE_CTX_FLAGS_LOADING;
    }
    if s.starting.get() {
        flags |= raw::VALKEYMODULE_CTX_FLAGS_SERVER_STARTUP;
    }
    flags as c_int
}

unsafe extern "C" fn detached_context(_: Raw) -> Raw {
    let context = Box::into_raw(Box::new(Context::new(Kind::Detached, api::call_client())));
    context.cast()
}

unsafe extern "C" fn free_context(context: Raw) {
    drop(unsafe { Box::from_raw(context.cast::<Context>()) });
}

unsafe extern "C" fn set_context_user(raw: Raw, user: *const User) {
    unsafe { ctx(raw) }.user.set(unsafe { user.as_ref() }.copied());
}

fn user_name(user: User) -> &'static str {
    match user {
        User::Default | User::Nobody => "default",
        User::Plain => "plain",
        User::Reader => "reader",
    }
}

unsafe extern "C" fn client_user(_: Raw, id: u64) -> Raw {
    match server().client(id) {
        Some(client) => ModuleString::make(user_name(client.user).as_bytes()).cast(),
        None => std::ptr::null_mut(),
    }
}

unsafe extern "C" fn user_of_name(name: Raw) -> Raw {
    let user = match unsafe { string(name) } {
        b"plain" => User::Plain,
        b"reader" => User::Reader,
        _ => User::Default,
    };
    Box::into_raw(Box::new(user)).cast()
}

unsafe extern "C" fn free_user(user: Raw) {
    drop(unsafe { Box::from_raw(user.cast::<User>()) });
}

unsafe extern "C" fn check_permissions(user: *const User, argv: *mut Raw, argc: c_int) -> c_int {
    let argv = unsafe { argv_of(argv, argc as usize) };
    let name = String::from_utf8_lossy(&argv[0]).to_ascii_lowercase();
    let known = server().registered.borrow().commands.contains_key(&name) || table::find(&argv[0], b"").is_some();
    if known && exec::may_run(unsafe { *user }, &argv) { OK } else { ERR }
}

unsafe extern "C" fn client_info(info: *mut raw::ValkeyModuleClientInfo, id: u64) -> c_int {
    let Some(client) = server().client(id) else { return ERR };
    let mut flags = 0;
    if client.queue.borrow().is_some() {
        flags |= raw::VALKEYMODULE_CLIENTINFO_FLAG_MULTI;
    }
    if client.is_blocked() {
        flags |= raw::VALKEYMODULE_CLIENTINFO_FLAG_BLOCKED;
    }
    let info = unsafe { &mut *info };
    (info.id, info.flags, info.db) = (id, u64::from(flags), client.db.get() as u16);
    OK
}

unsafe extern "C" fn block_client(
    raw: Raw,
    reply: Option<CommandCallback>,
    timeout: Option<CommandCallback>,
    free: Option<unsafe extern "C" fn(Raw, Raw)>,
    timeout_ms: c_longlong,
) -> *mut Blocked {
    let blocked = Blocked {
        client: RefCell::new(None),
        reply,
        timeout,
        free,
        disconnected: Cell::new(None),
        private_data: Cell::new(std::ptr::null_mut()),
        released: Cell::new(false),
    };
    api::block(unsafe { ctx(raw) }, blocked, timeout_ms)
}

unsafe extern "C" fn unblock_client(blocked: *mut Blocked, data: Raw) -> c_int {
    let handle = unsafe { &*blocked };
    assert!(!handle.released.replace(true), "a client is released twice");
    handle.private_data.set(data);
    server().released.borrow_mut().push_back(blocked);
    OK
}

unsafe extern "C" fn set_disconnected(blocked: *mut Blocked, callback: Option<unsafe extern "C" fn(Raw, Raw)>) {
    unsafe { &*blocked }.disconnected.set(callback);
}

unsafe extern "C" fn blocked_data(raw: Raw) -> Raw {
    unsafe { ctx(raw) }.private_data
}

unsafe extern "C" fn add_job(raw: Raw, callback: JobCallback, data: Raw, _: Raw) -> c_int {
    let s = server();
    if s.loading.get() {
        return ERR;
    }
    s.note(|| "    asks for the unit's end".into());
    s.jobs.borrow_mut().push_back(Job { callback, data, db: unsafe { ctx(raw) }.client.db.get() });
    OK
}

unsafe extern "C" fn notify(raw: Raw, class: c_int, name: *const c_char, key: Raw) -> c_int {
    let db = unsafe { ctx(raw) }.client.db.get();
    exec::notify(class, unsafe { text(name) }, unsafe { string(key) }, db);
    OK
}

unsafe extern "C" fn close_client(_: Raw, id: u64) -> c_int {
    match server().client(id) {
        Some(client) => {
            client.close.set(true);
            OK
        }
        None => ERR,
    }
}

unsafe extern "C" fn avoids_traffic() -> c_int {
    c_int::from(server().is_paused(true))
}

unsafe extern "C" fn one_shot(callback: OneShot, _: Raw) -> c_int {
    server().one_shots.borrow_mut().push(callback);
    OK
}

unsafe extern "C" fn reply_integer(raw: Raw, value: c_longlong) -> c_int {
    write(&unsafe { ctx(raw) }.client, &resp::int(value));
    OK
}

unsafe extern "C" fn reply_error(raw: Raw, message: *const c_char) -> c_int {
    let client = &unsafe { ctx(raw) }.client;
    write(client, &resp::error(unsafe { text(message) }));
    server().error_replies.set(server().error_replies.get() + 1);
    exec::commit_deferred(client, true);
    OK
}

unsafe extern "C" fn reply_custom_error(raw: Raw, _: c_int, _format: *const c_char, message: *const c_char) -> c_int {
    unsafe { reply_error(raw, message) }
}

unsafe extern "C" fn reply_simple(raw: Raw, message: *const c_char) -> c_int {
    write(&unsafe { ctx(raw) }.client, format!("+{}\r\n", unsafe { text(message) }).as_bytes());
    OK
}

unsafe extern "C" fn reply_null_array(raw: Raw) -> c_int {
    write(&unsafe { ctx(raw) }.client, resp::NULL_ARRAY);
    OK
}

unsafe extern "C" fn reply_bulk(raw: Raw, bytes: *const u8, len: usize) -> c_int {
    write(&unsafe { ctx(raw) }.client, &resp::bulk(unsafe { std::slice::from_raw_parts(bytes, len) }));
    OK
}

unsafe extern "C" fn reply_map(raw: Raw, len: c_longlong) -> c_int {
    write(&unsafe { ctx(raw) }.client, &resp::header(2 * len as usize));
    OK
}

unsafe extern "C" fn reply_with_call(raw: Raw, reply: *const CallReply) -> c_int {
    let (client, reply) = unsafe { (&ctx(raw).client, &*reply) };
    write(client, &reply.bytes);
    if matches!(reply.resp, Resp::Error(_)) {
        exec::commit_deferred(client, true);
    }
    OK
}

unsafe extern "C" fn filter_client(filtering: Raw) -> u64 {
    unsafe { &*filtering.cast::<Filtering>() }.client
}

unsafe extern "C" fn filter_count(filtering: Raw) -> c_int {
    unsafe { &*filtering.cast::<Filtering>() }.argv.len() as c_int
}

unsafe extern "C" fn filter_get(filtering: Raw, at: c_int) -> Raw {
    let argv = unsafe { &(*filtering.cast::<Filtering>()).argv };
    argv.get(at as usize).map_or(std::ptr::null_mut(), |string| string.cast())
}

unsafe extern "C" fn filter_insert(filtering: Raw, at: c_int, string: Raw) -> c_int {
    unsafe { &mut (*filtering.cast::<Filtering>()).argv }.insert(at as usize, string.cast());
    OK
}

unsafe extern "C" fn filter_replace(filtering: Raw, at: c_int, string: Raw) -> c_int {
    let argv = unsafe { &mut (*filtering.cast::<Filtering>()).argv };
    let before = std::mem::replace(&mut argv[at as usize], string.cast());
    unsafe { ModuleString::free(before) };
    OK
}

unsafe extern "C" fn command_keys(_: Raw, argv: *mut Raw, argc: c_int, count: *mut c_int) -> *mut c_int {
    let argv = unsafe { argv_of(argv, argc as usize) };
    unsafe { *count = 0 };
    let Some(command) = table::find(&argv[0], argv.get(1).map_or(b"", |arg| arg)) else { return std::ptr::null_mut() };
    if command.refuses(argv.len()) {
        return std::ptr::null_mut();
    }
    let keys = commands::key_positions(&argv, command.keys);
    if keys.is_empty() {
        return std::ptr::null_mut();
    }
    let memory: *mut c_int = unsafe { libc::malloc(keys.len() * size_of::<c_int>()) }.cast();
    keys.iter().enumerate().for_each(|(at, key)| unsafe { *memory.add(at) = *key as c_int });
    unsafe { *count = keys.len() as c_int };
    memory
}

/// Why a module's call is refused; `None` when it is not.
fn call_refusal(client: &Client, argv: &Argv, user: Option<User>, flags: &str) -> Option<String> {
    let name = String::from_utf8_lossy(&argv[0]).to_ascii_lowercase();
    let is_module = server().registered.borrow().commands.contains_key(&name);
    let command = table::find(&argv[0], argv.get(1).map_or(b"", |arg| arg));
    if command.is_none() && !is_module {
        return Some(format!("ERR unknown command '{name}'"));
    }
    let command = command?;
    if command.refuses(argv.len()) {
        return Some(format!("ERR wrong number of arguments for '{name}' command"));
    }
    if flags.contains('M') && command.has("denyoom") && server().is_full.get() {
        return Some(exec::OOM.into());
    }
    if flags.contains('W') && command.has("write") {
        return Some("ERR Write command was called while write is not allowed.".into());
    }
    if user.is_some_and(|user| !exec::may_run(user, argv)) {
        return Some(format!("NOPERM this user has no permissions to run the '{name}' command"));
    }
    let _ = client;
    None
}

unsafe extern "C" fn call(raw: Raw, name: *const c_char, flags: *const c_char, argv: *mut Raw, argc: usize) -> Raw {
    let (s, context, flags) = (server(), unsafe { ctx(raw) }, unsafe { text(flags) });
    let mut command: Argv = vec![unsafe { text(name) }.as_bytes().to_vec()];
    command.extend(unsafe { argv_of(argv, argc) });
    let client = api::call_client();
    client.deny_blocking.set(!flags.contains('K'));
    client.db.set(context.client.db.get());
    let as_user = flags.contains('C');
    let user = as_user.then(|| context.user.get().unwrap_or(context.client.user));
    if as_user {
        client.behalf.set(behalf(context, &command));
    }
    let client = match user {
        Some(user) => {
            let other = s.make_client(client.id, true, user);
            other.deny_blocking.set(client.deny_blocking.get());
            other.db.set(client.db.get());
            other.behalf.set(client.behalf.get());
            other
        }
        None => client,
    };
    // Its own filter gives up the module's references to the strings.
    let filtered = api::filter(&client, &command);
    let answer_owner = |bytes: &[u8]| {
        if let Some(owner) = s.client(client.behalf.get()) {
            owner.answering.borrow_mut().extend(bytes);
        }
    };
    if let Some(text) = call_refusal(&client, &filtered, user, flags) {
        let bytes = resp::error(&text);
        if as_user {
            // It may be that nothing runs for its owner in which this could be answered.
            begin_frame(client.behalf.get(), false);
            answer_owner(&bytes);
            exec::end_frame(&api::call_client());
        }
        return Box::into_raw(Box::new(CallReply::parse(bytes))).cast();
    }
    if flags.contains('D') {
        answer_owner(&resp::error(WRONG_TYPE));
        return Box::into_raw(Box::new(CallReply::new(Resp::Null, Vec::new()))).cast();
    }
    if as_user {
        s.note(|| format!("    called for {}: {}", client.behalf.get(), show(&filtered)));
    }
    *client.command.borrow_mut() = filtered.clone();
    exec::call(&client, &filtered);
    if client.is_blocked() {
        let promise = Rc::new(Promise::default());
        *promise.client.borrow_mut() = Some(Rc::clone(&client));
        *client.promise.borrow_mut() = Some(Rc::clone(&promise));
        let reply = CallReply { promise: Some(promise), ..CallReply::new(Resp::Null, Vec::new()) };
        return Box::into_raw(Box::new(reply)).cast();
    }
    let bytes: Vec<u8> = client.out.borrow().iter().copied().collect();
    Box::into_raw(Box::new(CallReply::parse(bytes))).cast()
}

/// The connected client that a call is done for.
fn behalf(context: &Context, command: &Argv) -> u64 {
    if !context.client.fake {
        return context.client.id;
    }
    let mut scripts = server().scripts.borrow_mut();
    match scripts.iter().position(|(_, script)| script == command) {
        Some(at) => scripts.remove(at).map_or(0, |(client, _)| client),
        None => 0,
    }
}

unsafe fn reply<'a>(raw: Raw) -> &'a CallReply {
    unsafe { &*raw.cast::<CallReply>() }
}

unsafe extern "C" fn reply_free(raw: Raw) {
    let reply = unsafe { Box::from_raw(raw.cast::<CallReply>()) };
    drop(reply);
}

unsafe extern "C" fn reply_type(raw: Raw) -> c_int {
    let reply = unsafe { reply(raw) };
    if reply.promise.is_some() {
        return raw::VALKEYMODULE_REPLY_PROMISE as c_int;
    }
    let kind = match reply.resp {
        Resp::Simple(_) | Resp::Bulk(_) => raw::VALKEYMODULE_REPLY_STRING,
        Resp::Error(_) => raw::VALKEYMODULE_REPLY_ERROR,
        Resp::Int(_) => raw::VALKEYMODULE_REPLY_INTEGER,
        Resp::Array(_) => raw::VALKEYMODULE_REPLY_ARRAY,
        Resp::Null | Resp::NullArray => raw::VALKEYMODULE_REPLY_NULL,
    };
    kind as c_int
}

unsafe extern "C" fn reply_bytes(raw: Raw, len: *mut usize) -> *const u8 {
    match &unsafe { reply(raw) }.resp {
        Resp::Simple(bytes) | Resp::Bulk(bytes) | Resp::Error(bytes) => {
            unsafe { *len = bytes.len() };
            bytes.as_ptr()
        }
        _ => std::ptr::null(),
    }
}

unsafe extern "C" fn reply_number(raw: Raw) -> c_longlong {
    match unsafe { reply(raw) }.resp {
        Resp::Int(value) => value,
        _ => i64::MIN,
    }
}

unsafe extern "C" fn reply_len(raw: Raw) -> usize {
    unsafe { reply(raw) }.elements.len()
}

unsafe extern "C" fn reply_element(raw: Raw, at: usize) -> Raw {
    let found = unsafe { reply(raw) }.elements.get(at);
    found.map_or(std::ptr::null_mut(), |element| (&raw const *element).cast_mut().cast())
}

unsafe extern "C" fn on_promise(raw: Raw, handler: unsafe extern "C" fn(Raw, Raw, Raw), data: Raw) {
    if let Some(promise) = &unsafe { reply(raw) }.promise {
        promise.handler.set(Some(handler));
        promise.data.set(data.addr());
    }
}

unsafe extern "C" fn abort_promise(raw: Raw, _: Raw) -> c_int {
    let Some(promise) = &unsafe { reply(raw) }.promise else { return ERR };
    let Some(client) = promise.client.take() else { return ERR };
    promise.handler.set(None);
    client.promise.take();
    exec::unblock(&client, false);
    OK
}

struct ServerInfo {
    fields: HashMap<String, String>,
    shown: RefCell<Vec<CString>>,
}

unsafe extern "C" fn server_info(_: Raw, section: *const c_char) -> Raw {
    let fields = admin::info(unsafe { text(section) });
    Box::into_raw(Box::new(ServerInfo { fields, shown: RefCell::default() })).cast()
}

unsafe extern "C" fn info_unsigned(info: Raw, field: *const c_char, error: *mut c_int) -> u64 {
    let info = unsafe { &*info.cast::<ServerInfo>() };
    let value = info.fields.get(unsafe { text(field) }).and_then(|value| value.parse().ok());
    unsafe { *error = c_int::from(value.is_none()) };
    value.unwrap_or(0)
}

unsafe extern "C" fn info_text(info: Raw, field: *const c_char) -> *const c_char {
    let info = unsafe { &*info.cast::<ServerInfo>() };
    let Some(value) = info.fields.get(unsafe { text(field) }) else { return std::ptr::null() };
    let value = CString::new(value.as_str()).unwrap_or_default();
    let pointer = value.as_ptr();
    info.shown.borrow_mut().push(value);
    pointer
}

unsafe extern "C" fn free_info(_: Raw, info: Raw) {
    drop(unsafe { Box::from_raw(info.cast::<ServerInfo>()) });
}

struct Key {
    db: usize,
    name: Bytes,
    iterating: Cell<bool>,
}

impl Key {
    fn with<T>(&self, work: impl FnOnce(Option<&Entry>) -> T) -> T {
        work(server().data.borrow().get(self.db, &self.name))
    }
}

unsafe fn key<'a>(raw: Raw) -> Option<&'a Key> {
    unsafe { raw.cast::<Key>().as_ref() }
}

unsafe extern "C" fn open_key(raw: Raw, name: Raw, mode: c_int) -> Raw {
    let key = Key {
        db: unsafe { ctx(raw) }.client.db.get(),
        name: unsafe { string(name) }.to_vec(),
        iterating: Cell::new(false),
    };
    if mode & raw::VALKEYMODULE_WRITE as c_int == 0 && key.with(|entry| entry.is_none()) {
        return std::ptr::null_mut();
    }
    Box::into_raw(Box::new(key)).cast()
}

unsafe extern "C" fn close_key(raw: Raw) {
    drop(unsafe { Box::from_raw(raw.cast::<Key>()) });
}

unsafe extern "C" fn key_type(raw: Raw) -> c_int {
    let kind = unsafe { key(raw) }.map_or(0, |key| {
        key.with(|entry| match entry.map(|entry| &entry.value) {
            None => raw::VALKEYMODULE_KEYTYPE_EMPTY,
            Some(Value::String(_)) => raw::VALKEYMODULE_KEYTYPE_STRING,
            Some(Value::List(_)) => raw::VALKEYMODULE_KEYTYPE_LIST,
            Some(Value::Set(_)) => raw::VALKEYMODULE_KEYTYPE_SET,
            Some(Value::Stream(_)) => raw::VALKEYMODULE_KEYTYPE_STREAM,
        })
    });
    kind as c_int
}

unsafe extern "C" fn value_length(raw: Raw) -> usize {
    unsafe { key(raw) }.map_or(0, |key| {
        key.with(|entry| match entry.map(|entry| &entry.value) {
            None => 0,
            Some(Value::String(bytes)) => bytes.len(),
            Some(Value::List(items)) => items.len(),
            Some(Value::Set(items)) => items.len(),
            Some(Value::Stream(stream)) => stream.entries.len(),
        })
    })
}

unsafe extern "C" fn delete_key(raw: Raw) -> c_int {
    let Some(key) = (unsafe { key(raw) }) else { return ERR };
    server().data.borrow_mut().remove(key.db, &key.name);
    OK
}

unsafe extern "C" fn get_expire(raw: Raw) -> c_longlong {
    unsafe { key(raw) }.and_then(|key| key.with(|entry| entry?.expires_ms)).unwrap_or(-1)
}

unsafe extern "C" fn set_expire(raw: Raw, at_ms: c_longlong) -> c_int {
    let Some(key) = (unsafe { key(raw) }) else { return ERR };
    match server().data.borrow_mut().get_mut(key.db, &key.name) {
        Some(entry) => entry.expires_ms = Some(at_ms),
        None => return ERR,
    }
    OK
}

unsafe extern "C" fn stream_start(raw: Raw, _: c_int, _: Raw, _: Raw) -> c_int {
    let Some(key) = (unsafe { key(raw) }) else { return ERR };
    key.iterating.set(true);
    if key.with(|entry| matches!(entry.map(|entry| &entry.value), Some(Value::Stream(_)))) { OK } else { ERR }
}

unsafe extern "C" fn stream_next(raw: Raw, id: *mut raw::ValkeyModuleStreamID, _: Raw) -> c_int {
    let Some(key) = (unsafe { key(raw) }) else { return ERR };
    let last = key.with(|entry| match entry.map(|entry| &entry.value) {
        Some(Value::Stream(stream)) => stream.entries.keys().next_back().copied(),
        _ => None,
    });
    match last {
        Some((ms, seq)) => {
            unsafe { (*id).ms = ms };
            unsafe { (*id).seq = seq };
            OK
        }
        None => ERR,
    }
}

unsafe extern "C" fn failing() -> c_int {
    ERR
}

unsafe extern "C" fn no_child() -> c_int {
    -1
}

unsafe extern "C" fn stream_of_file(path: *const c_char) -> Raw {
    Box::into_raw(Box::new(unsafe { text(path) }.to_string())).cast()
}

unsafe extern "C" fn free_stream(stream: Raw) {
    drop(unsafe { Box::from_raw(stream.cast::<String>()) });
}

unsafe extern "C" fn rdb_load(_: Raw, stream: Raw, _: c_int) -> c_int {
    if rdb::load(unsafe { &*stream.cast::<String>() }) { OK } else { ERR }
}

/// Finds a function of the API; the module's `ValkeyModule_Init` calls it for each name.
pub unsafe extern "C" fn get_api(name: *const c_char, place: *mut *const c_void) -> c_int {
    let name = unsafe { text(name) };
    let name = name.strip_prefix("ValkeyModule_").unwrap_or(name);
    let function: *const c_void = match name {
        "SetModuleAttribs" | "InfoAddSection" | "InfoAddFieldULongLong" | "InfoAddFieldCString" | "Yield" => {
            nothing as _
        }
        "IsModuleNameBusy" | "IsKeysPositionRequest" => no as _,
        "SetModuleOptions" | "SetCommandACLCategories" | "SetCommandInfo" | "RegisterInfoFunc" | "LoadConfigs" => {
            ok as _
        }
        "RegisterBoolConfig" | "RegisterNumericConfig" | "RegisterStringConfig" | "RegisterEnumConfig" => ok as _,
        "PublishMessage" | "StreamIteratorStop" | "ResetDataset" | "KeyAtPosWithFlags" => ok as _,
        "GetApi" => get_api as _,
        "Free" => free as _,
        "Log" => log as _,
        "CreateString" => create_string as _,
        "FreeString" => free_string as _,
        "StringPtrLen" => string_ptr_len as _,
        "CreateCommand" => create_command as _,
        "GetCommand" => some as _,
        "RegisterCommandFilter" => register_filter as _,
        "UnregisterCommandFilter" => unregister_filter as _,
        "SubscribeToKeyspaceEvents" => subscribe_keyspace as _,
        "SubscribeToServerEvent" => subscribe_event as _,
        "GetServerVersion" => version as _,
        "CachedMicroseconds" => unit_us as _,
        "GetClientId" => client_id as _,
        "GetSelectedDb" => selected_db as _,
        "SelectDb" => select_db as _,
        "GetContextFlags" => context_flags as _,
        "GetDetachedThreadSafeContext" => detached_context as _,
        "FreeThreadSafeContext" => free_context as _,
        "SetContextUser" => set_context_user as _,
        "GetClientUserNameById" => client_user as _,
        "GetModuleUserFromUserName" => user_of_name as _,
        "FreeModuleUser" => free_user as _,
        "ACLCheckCommandPermissions" => check_permissions as _,
        "GetClientInfoById" => client_info as _,
        "BlockClient" => block_client as _,
        "UnblockClient" => unblock_client as _,
        "SetDisconnectCallback" => set_disconnected as _,
        "GetBlockedClientPrivateData" => blocked_data as _,
        "AddPostNotificationJob" => add_job as _,
        "NotifyKeyspaceEvent" => notify as _,
        "DeauthenticateAndCloseClient" => close_client as _,
        "AvoidReplicaTraffic" => avoids_traffic as _,
        "EventLoopAddOneShot" => one_shot as _,
        "ReplyWithLongLong" => reply_integer as _,
        "ReplyWithError" => reply_error as _,
        "ReplyWithCustomErrorFormat" if server().is_9_1 => reply_custom_error as _,
        "ReplyWithSimpleString" => reply_simple as _,
        "ReplyWithNullArray" => reply_null_array as _,
        "ReplyWithStringBuffer" => reply_bulk as _,
        "ReplyWithMap" => reply_map as _,
        "ReplyWithCallReply" => reply_with_call as _,
        "CommandFilterGetClientId" => filter_client as _,
        "CommandFilterArgsCount" => filter_count as _,
        "CommandFilterArgGet" => filter_get as _,
        "CommandFilterArgInsert" => filter_insert as _,
        "CommandFilterArgReplace" => filter_replace as _,
        "GetCommandKeys" => command_keys as _,
        "Call" => call as _,
        "FreeCallReply" => reply_free as _,
        "CallReplyType" => reply_type as _,
        "CallReplyStringPtr" => reply_bytes as _,
        "CallReplyInteger" => reply_number as _,
        "CallReplyLength" => reply_len as _,
        "CallReplyArrayElement" => reply_element as _,
        "CallReplyPromiseSetUnblockHandler" => on_promise as _,
        "CallReplyPromiseAbort" => abort_promise as _,
        "GetServerInfo" => server_info as _,
        "ServerInfoGetFieldUnsigned" => info_unsigned as _,
        "ServerInfoGetFieldC" => info_text as _,
        "FreeServerInfo" => free_info as _,
        "OpenKey" => open_key as _,
        "CloseKey" => close_key as _,
        "KeyType" => key_type as _,
        "ValueLength" => value_length as _,
        "DeleteKey" => delete_key as _,
        "GetAbsExpire" => get_expire as _,
        "SetAbsExpire" => set_expire as _,
        "StreamIteratorStart" => stream_start as _,
        "StreamIteratorNextID" => stream_next as _,
        "HashGet" => failing as _,
        "Fork" => no_child as _,
        "RdbStreamCreateFromFile" => stream_of_file as _,
        "RdbStreamFree" => free_stream as _,
        "RdbLoad" => rdb_load as _,
        _ => return ERR,
    };
    unsafe { *place = function };
    let _ = (Strings::new(&[]), SCRIPT_CLIENT);
    OK
}
