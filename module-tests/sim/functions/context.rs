//! Contexts, clients, users, and what is asked for through them.

use super::*;

unsafe extern "C" fn client_id(raw: Raw) -> u64 {
    unsafe { ctx(raw) }.client.id
}

unsafe extern "C" fn command_name(raw: Raw) -> *const c_char {
    let name = if unsafe { ctx(raw) }.kind == Kind::TemporaryEvent { None } else { Some(c"command") };
    name.map_or(std::ptr::null(), CStr::as_ptr)
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
    if !raw.is_null() && unsafe { ctx(raw) }.client.resp3.get() {
        flags |= raw::VALKEYMODULE_CTX_FLAGS_RESP3;
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
    if s.child.get().is_some() {
        flags |= raw::VALKEYMODULE_CTX_FLAGS_ACTIVE_CHILD;
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
    server().asked_of.set(id);
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
    if client.tracked.borrow().is_some() {
        flags |= raw::VALKEYMODULE_CLIENTINFO_FLAG_TRACKING;
    }
    if client.channels.get() > 0 {
        flags |= raw::VALKEYMODULE_CLIENTINFO_FLAG_PUBSUB;
    }
    let info = unsafe { &mut *info };
    (info.id, info.flags, info.db) = (id, u64::from(flags), client.db.get() as u16);
    OK
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

pub fn find(name: &str) -> Option<*const c_void> {
    Some(match name {
        "GetClientId" => client_id as _,
        "GetCurrentCommandName" => command_name as _,
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
        "AddPostNotificationJob" => add_job as _,
        "NotifyKeyspaceEvent" => notify as _,
        "DeauthenticateAndCloseClient" => close_client as _,
        "AvoidReplicaTraffic" => avoids_traffic as _,
        "EventLoopAddOneShot" => one_shot as _,
        _ => return None,
    })
}
