//! Clients that the module has blocked, and its calls that wait.

use crate::api::{CallReply, Context, Kind, Strings, call_client};
use crate::exec::{self, commit_deferred};
use crate::resp::{NULL_ARRAY, null_for};
use crate::server::{Canary, Client, CommandCallback, Waits, server, violated};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::rc::Rc;

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
