//! Clients: holding replies back, and what is known of a client.

use super::answer::Answer;
use super::call::OwnedString;
use super::context::Ctx;
use super::optional::find;
use super::reply::Reply;
use std::ffi::{CStr, c_int};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use valkey_module::raw;

type CheckPermissions = unsafe extern "C" fn(
    *mut raw::ValkeyModuleUser,
    *mut *mut raw::ValkeyModuleString,
    c_int,
    c_int,
    *mut raw::ValkeyModuleACLLogEntryReason,
) -> c_int;

/// Knows users' rights in a database: servers from 9.1 on, which have rules for databases, have it.
static CHECK_PERMISSIONS: OnceLock<Option<CheckPermissions>> = OnceLock::new();

/// Looks for functions that not every server has. Once, at load, after ValkeyModule_Init.
pub(super) fn find_optional_functions() {
    // SAFETY: the function has this type.
    CHECK_PERMISSIONS.get_or_init(|| unsafe { find(c"ValkeyModule_ACLCheckPermissions") });
}

/// A client whose reply the server keeps in its deferred buffer until [`Held::release`].
///
/// There is no other way to let a reply go. Dropping one without releasing it would leave the client hanging, so that
/// aborts the process.
#[derive(Debug)]
pub struct Held {
    raw: NonNull<raw::ValkeyModuleBlockedClient>,
    answer: Option<Answer>,
    /// What it will be sent, as far as the module has it, in bytes.
    reply_bytes: usize,
}

// SAFETY: the handle is used under the server's global lock or passed to ValkeyModule_UnblockClient, which the server
// documents as safe to call from any thread.
unsafe impl Send for Held {}

impl Held {
    pub(super) fn from_raw(raw: *mut raw::ValkeyModuleBlockedClient) -> Option<Held> {
        NonNull::new(raw).map(|raw| Held { raw, answer: None, reply_bytes: 0 })
    }

    /// Its reply is one of the module's, of so many bytes; those of the server's own are not known.
    pub fn note_reply(&mut self, bytes: usize) {
        self.reply_bytes += bytes;
    }

    /// The bytes of its reply that are known.
    pub fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// Of a client blocked with [`Ctx::block_for_answer`]: what it gets when it is released.
    pub fn set_answer(&mut self, answer: Reply<'static>) {
        self.note_reply(answer.sent_bytes());
        self.answer = Some(Answer::Reply(answer));
    }

    /// The same with an error of the module's own; the text begins with its code and must not hold line ends.
    pub fn set_error(&mut self, text: String) {
        self.answer = Some(Answer::Error(text));
    }

    /// The same with an array of two numbers.
    pub fn set_pair(&mut self, numbers: [i64; 2]) {
        self.answer = Some(Answer::Pair(numbers));
    }

    /// The same with what `write` replies, on the main thread.
    pub fn set_written(&mut self, write: impl Fn(Ctx<'_>) + Send + 'static) {
        self.answer = Some(Answer::Written(Box::new(write)));
    }

    /// Has [`super::Handlers::client_left`] called when the client leaves its wait without the module: it disconnects,
    /// or CLIENT UNBLOCK ends it.
    pub fn on_leave(&self) {
        // SAFETY: the handle is that of a blocked client and not used up; the callback is a shell with the server's
        // signature.
        unsafe { api!(ValkeyModule_SetDisconnectCallback)(self.raw.as_ptr(), Some(super::shells::blocked_left as _)) };
    }

    /// In the time-out callback of the client: gives it its answer there.
    pub fn answer_now(&mut self, ctx: Ctx<'_>) {
        if let Some(answer) = self.answer.take() {
            answer.send(ctx);
        }
    }

    /// Lets the reply go. Any thread. The client may have died meanwhile. The caller is responsible: only one place
    /// calls this.
    pub fn release(mut self) {
        let answer = self.answer.take().map_or(std::ptr::null_mut(), Answer::into_raw);
        // SAFETY: the handle came from BlockClient and is used once: `self` is consumed and its Drop is skipped below.
        // Only a client that was blocked for an answer has one, and its callbacks take it over.
        unsafe { api!(ValkeyModule_UnblockClient)(self.raw.as_ptr(), answer) };
        std::mem::forget(self);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        super::log(
            super::Level::Warning,
            "a withheld client was lost; ending the process rather than leave it hanging",
        );
        std::process::abort();
    }
}

/// What the server says about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The database it has selected.
    pub db: u32,
    /// It is between MULTI and EXEC.
    pub in_multi: bool,
    /// It waits in a blocking command.
    pub blocked: bool,
    /// It has CLIENT TRACKING on.
    pub tracking: bool,
    /// It is subscribed to a channel.
    pub subscribed: bool,
}

/// Looks a client up by its id; `None` when there is no such client. Main thread.
///
/// Only for ids of connected clients: a 9.1 server looks at the connection of whichever client executes under that id,
/// and those of scripts and modules have none.
pub fn client_info(id: u64) -> Option<ClientInfo> {
    let mut info = raw::ValkeyModuleClientInfo { version: 1, flags: 0, id: 0, addr: [0; 46], port: 0, db: 0 };
    // SAFETY: `info` is a live version-1 structure, as its `version` field says; the server only writes within it.
    let status = unsafe { api!(ValkeyModule_GetClientInfoById)((&raw mut info).cast(), id) };
    (status == raw::VALKEYMODULE_OK as i32).then_some(ClientInfo {
        db: u32::from(info.db),
        in_multi: info.flags & u64::from(raw::VALKEYMODULE_CLIENTINFO_FLAG_MULTI) != 0,
        tracking: info.flags & u64::from(raw::VALKEYMODULE_CLIENTINFO_FLAG_TRACKING) != 0,
        subscribed: info.flags & u64::from(raw::VALKEYMODULE_CLIENTINFO_FLAG_PUBSUB) != 0,
        blocked: info.flags & u64::from(raw::VALKEYMODULE_CLIENTINFO_FLAG_BLOCKED) != 0,
    })
}

/// A user of the server, looked up by its client. Main thread, for the time of one callback.
pub(super) struct User(NonNull<raw::ValkeyModuleUser>);

impl User {
    /// The user of a client; `None` when either is unknown.
    pub(super) fn of(ctx: Ctx<'_>, client: u64) -> Option<User> {
        // SAFETY: the context is valid (type invariant); an unknown client is answered with null.
        let name = NonNull::new(unsafe { api!(ValkeyModule_GetClientUserNameById)(ctx.as_raw(), client) })?;
        // SAFETY: the name is a live string, owned here and freed once; an unknown user is answered with null.
        let user = unsafe {
            let user = api!(ValkeyModule_GetModuleUserFromUserName)(name.as_ptr());
            api!(ValkeyModule_FreeString)(ctx.as_raw(), name.as_ptr());
            user
        };
        NonNull::new(user).map(User)
    }

    pub(super) fn as_raw(&self) -> *mut raw::ValkeyModuleUser {
        self.0.as_ptr()
    }

    /// Whether the user may run a command with these arguments in the database. Where that is unknown and the rights
    /// may depend on it, the answer is yes.
    pub(super) fn may_run(&self, argv: &mut [*mut raw::ValkeyModuleString], db: Option<u32>) -> bool {
        let Ok(argc) = c_int::try_from(argv.len()) else { return false };
        let (user, args) = (self.as_raw(), argv.as_mut_ptr());
        let allowed = match CHECK_PERMISSIONS.get().copied().flatten() {
            Some(check) => {
                let Some(Ok(db)) = db.map(c_int::try_from) else { return true };
                // SAFETY: the user is live (owned), `argv` holds `argc` live strings (callers); the reason is not
                // asked.
                unsafe { check(user, args, argc, db, ptr::null_mut()) }
            }
            // SAFETY: as above.
            None => unsafe { api!(ValkeyModule_ACLCheckCommandPermissions)(user, args, argc) },
        };
        allowed == raw::VALKEYMODULE_OK as i32
    }
}

/// Whether the client's user may run each of these commands, as the server knows them, in its database, and the
/// module's command of this name in all of them.
pub fn may_run_all<'a>(
    ctx: Ctx<'_>,
    client: u64,
    wrapper: &CStr,
    commands: impl Iterator<Item = (&'a [&'a [u8]], u32)>,
) -> bool {
    let Some(user) = User::of(ctx, client) else { return false };
    let wrapper = OwnedString::new(wrapper.to_bytes());
    let mut checked = None;
    for (args, db) in commands {
        let strings: Vec<OwnedString> = args.iter().map(|arg| OwnedString::new(arg)).collect();
        let mut argv: Vec<_> = std::iter::once(&wrapper).chain(&strings).map(OwnedString::as_raw).collect();
        if !argv.get_mut(1..).is_some_and(|own| user.may_run(own, Some(db))) {
            return false;
        }
        if checked != Some(db) && !user.may_run(&mut argv, Some(db)) {
            return false;
        }
        checked = Some(db);
    }
    true
}

impl Drop for User {
    fn drop(&mut self) {
        // SAFETY: the handle came from GetModuleUserFromUserName and is freed once; the user itself stays.
        unsafe { api!(ValkeyModule_FreeModuleUser)(self.as_raw()) };
    }
}
