//! Clients: holding replies back, and what is known of a client.

use super::call::OwnedString;
use super::context::Ctx;
use std::ffi::CStr;
use std::ptr::NonNull;
use valkey_module::raw;

/// A client whose reply the server keeps in its deferred buffer until [`Held::release`].
///
/// There is no other way to let a reply go. Dropping one without releasing it would leave the client hanging, so that aborts.
#[derive(Debug)]
pub struct Held(NonNull<raw::ValkeyModuleBlockedClient>);

// SAFETY: the handle is only ever passed to ValkeyModule_UnblockClient, which the server documents as safe to call from any thread.
unsafe impl Send for Held {}

impl Held {
    pub(super) fn from_raw(raw: *mut raw::ValkeyModuleBlockedClient) -> Option<Held> {
        NonNull::new(raw).map(Held)
    }

    /// Lets the reply go. Any thread. The client may have died meanwhile.
    pub fn release(self) {
        // SAFETY: the handle came from BlockClient and is used once: `self` is consumed and its Drop is skipped below.
        unsafe { api!(ValkeyModule_UnblockClient)(self.0.as_ptr(), std::ptr::null_mut()) };
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

/// What the server tells about a client.
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
}

/// Looks a client up by its id; `None` when there is no such client. Main thread.
///
/// Only for ids of connected clients: a 9.1 server looks at the connection of whichever client executes under that id, and those of scripts
/// and modules have none.
pub fn client_info(id: u64) -> Option<ClientInfo> {
    let mut info = raw::ValkeyModuleClientInfo { version: 1, flags: 0, id: 0, addr: [0; 46], port: 0, db: 0 };
    // SAFETY: `info` is a live version-1 structure, as its `version` field says; the server only writes within it.
    let status = unsafe { api!(ValkeyModule_GetClientInfoById)((&raw mut info).cast(), id) };
    (status == raw::VALKEYMODULE_OK as i32).then_some(ClientInfo {
        db: u32::from(info.db),
        in_multi: info.flags & u64::from(raw::VALKEYMODULE_CLIENTINFO_FLAG_MULTI) != 0,
        tracking: info.flags & u64::from(raw::VALKEYMODULE_CLIENTINFO_FLAG_TRACKING) != 0,
        blocked: info.flags & u64::from(raw::VALKEYMODULE_CLIENTINFO_FLAG_BLOCKED) != 0,
    })
}

/// Whether the client's user may run a command of the module that takes no keys by itself. Main thread.
pub fn may_run(ctx: Ctx<'_>, client: u64, command: &CStr) -> bool {
    // SAFETY: the context is valid (type invariant); an unknown client is answered with null.
    let user_name = unsafe { api!(ValkeyModule_GetClientUserNameById)(ctx.as_raw(), client) };
    if user_name.is_null() {
        return false;
    }
    let command = OwnedString::new(command.to_bytes());
    let mut argv = [command.as_raw()];
    // SAFETY: the name is a live string; an unknown user is answered with null. The module owns both and frees each once; `argv` holds one
    // live string.
    unsafe {
        let user = api!(ValkeyModule_GetModuleUserFromUserName)(user_name);
        api!(ValkeyModule_FreeString)(ctx.as_raw(), user_name);
        if user.is_null() {
            return false;
        }
        let allowed =
            api!(ValkeyModule_ACLCheckCommandPermissions)(user, argv.as_mut_ptr(), 1) == raw::VALKEYMODULE_OK as i32;
        api!(ValkeyModule_FreeModuleUser)(user);
        allowed
    }
}
