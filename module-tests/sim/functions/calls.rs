//! The command filter, and calls of commands.

use super::*;

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

unsafe extern "C" fn filter_delete(filtering: Raw, at: c_int) -> c_int {
    let argv = unsafe { &mut (*filtering.cast::<Filtering>()).argv };
    if at as usize >= argv.len() {
        return ERR;
    }
    unsafe { ModuleString::free(argv.remove(at as usize)) };
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
    let as_user = flags.contains('C');
    let user = as_user.then(|| context.user.get().unwrap_or(context.client.user));
    let for_somebody = as_user || flags.contains('K');
    let owner = if for_somebody { behalf(context, &command, flags) } else { 0 };
    let client = calling_client(context, flags, user, owner);
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
        // What may wait is only looked at: before it runs, and before it is answered.
        if for_somebody && !filtered[0].to_ascii_lowercase().starts_with(b"xread") {
            answer_owner(&resp::error(WRONG_TYPE));
        }
        return Box::into_raw(Box::new(CallReply::new(Resp::Null, Vec::new()))).cast();
    }
    if for_somebody {
        s.note(|| format!("    called for {}: {}", client.behalf.get(), show(&filtered)));
    }
    if filtered[0].eq_ignore_ascii_case(b"command") {
        return Box::into_raw(Box::new(about_commands(&client, &filtered))).cast();
    }
    *client.command.borrow_mut() = filtered.clone();
    exec::call(&client, &filtered);
    if let Some(value) = stale_value(&client, &filtered, flags) {
        return Box::into_raw(Box::new(CallReply::parse(resp::bulk(&value)))).cast();
    }
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

/// The client with which a context's call with these flags runs, as this user, for the client of this id.
fn calling_client(context: &Context, flags: &str, user: Option<User>, owner: u64) -> Rc<Client> {
    let mut client = api::call_client();
    if let Some(user) = user {
        client = server().make_client(client.id, true, user);
    }
    client.deny_blocking.set(!flags.contains('K'));
    client.db.set(context.client.db.get());
    client.resp3.set(flags.contains('3') || flags.contains('0') && context.client.resp3.get());
    client.behalf.set(owner);
    client
}

/// What a key held before its last change, which a read of the module's gets if that is the fault to be found.
fn stale_value(client: &Client, argv: &Argv, flags: &str) -> Option<Bytes> {
    let s = server();
    if s.canary.get() != Canary::StaleValue || !flags.contains('W') || !argv[0].eq_ignore_ascii_case(b"get") {
        return None;
    }
    let truth = s.truth.borrow();
    let changed = truth.version(client.db.get(), &argv[1]);
    match truth.past(changed.saturating_sub(1), client.db.get(), &argv[1]) {
        (_, Some(Entry { value: Value::String(before), .. })) => Some(before),
        _ => None,
    }
}

thread_local! {
    static ABOUT_COMMANDS: RefCell<HashMap<(Argv, usize, bool), CallReply>> = RefCell::default();
}

/// What COMMAND says is long, and always the same.
fn about_commands(client: &Rc<Client>, argv: &Argv) -> CallReply {
    let own_commands = server().registered.borrow().commands.len();
    ABOUT_COMMANDS.with_borrow_mut(|known| {
        let make = || {
            exec::call(client, argv);
            CallReply::parse(client.out.borrow().iter().copied().collect())
        };
        known.entry((argv.clone(), own_commands, server().has_other_module)).or_insert_with(make).clone()
    })
}

/// The connected client that a call is done for.
fn behalf(context: &Context, command: &Argv, flags: &str) -> u64 {
    if !context.client.fake {
        return context.client.id;
    }
    let mut scripts = server().scripts.borrow_mut();
    match scripts.iter().position(|(_, script)| script == command) {
        Some(at) => scripts.remove(at).map_or(0, |(client, _)| client),
        // It is run again, for the client whose user was just asked for.
        None if flags.contains('K') => {
            let client = server().asked_of.get();
            server().client(client).iter().for_each(|client| client.unserved.set(false));
            client
        }
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
    if reply.is_missing {
        return raw::VALKEYMODULE_REPLY_UNKNOWN as c_int;
    }
    let kind = match reply.resp {
        Resp::Simple(_) | Resp::Bulk(_) => raw::VALKEYMODULE_REPLY_STRING,
        Resp::Error(_) => raw::VALKEYMODULE_REPLY_ERROR,
        Resp::Int(_) => raw::VALKEYMODULE_REPLY_INTEGER,
        Resp::Array(_) => raw::VALKEYMODULE_REPLY_ARRAY,
        Resp::Map(_) => raw::VALKEYMODULE_REPLY_MAP,
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

unsafe extern "C" fn reply_proto(raw: Raw, len: *mut usize) -> *const u8 {
    let bytes = &unsafe { reply(raw) }.bytes;
    unsafe { *len = bytes.len() };
    bytes.as_ptr()
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

pub fn find(name: &str) -> Option<*const c_void> {
    Some(match name {
        "CommandFilterGetClientId" => filter_client as _,
        "CommandFilterArgsCount" => filter_count as _,
        "CommandFilterArgGet" => filter_get as _,
        "CommandFilterArgInsert" => filter_insert as _,
        "CommandFilterArgReplace" => filter_replace as _,
        "CommandFilterArgDelete" => filter_delete as _,
        "GetCommandKeys" => command_keys as _,
        "Call" => call as _,
        "FreeCallReply" => reply_free as _,
        "CallReplyType" => reply_type as _,
        "CallReplyProto" => reply_proto as _,
        "CallReplyStringPtr" => reply_bytes as _,
        "CallReplyInteger" => reply_number as _,
        "CallReplyLength" => reply_len as _,
        "CallReplyArrayElement" => reply_element as _,
        "CallReplyPromiseSetUnblockHandler" => on_promise as _,
        "CallReplyPromiseAbort" => abort_promise as _,
        _ => return None,
    })
}
