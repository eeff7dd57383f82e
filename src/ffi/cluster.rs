//! Cluster mode: slots may be moved while the module is loaded, and keys can be reached whichever node owns their slot.

use super::api;
use super::call::OwnedString;
use super::context::Ctx;
use super::names;
use super::registration::server_version;
use std::ffi::CString;
use valkey_module::raw;

/// The first server with atomic slot migration.
const SLOT_MIGRATION_SINCE: u32 = 0x0009_0000;

/// Looking at a key leaves it as it is, and an expired one counts.
const UNNOTICED: u32 = raw::VALKEYMODULE_OPEN_KEY_NOTOUCH
    | raw::VALKEYMODULE_OPEN_KEY_NONOTIFY
    | raw::VALKEYMODULE_OPEN_KEY_NOSTATS
    | raw::VALKEYMODULE_OPEN_KEY_NOEXPIRE;

/// Declares what the server may do while the module is loaded: move slots atomically (what arrives and what leaves
/// raises events like other commands), and keep a replica's old dataset readable until the new one is there (on a
/// replica the module rests). A key that is opened for writing does not count as changed.
pub fn declare_options(ctx: Ctx<'_>) {
    let mut options =
        raw::VALKEYMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD | raw::VALKEYMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED;
    if server_version(ctx) >= SLOT_MIGRATION_SINCE {
        options |= api::WBL_OPTIONS_HANDLE_ATOMIC_SLOT_MIGRATION;
    }
    // SAFETY: the context is valid (type invariant); this is the only place that sets options.
    unsafe { api!(ValkeyModule_SetModuleOptions)(ctx.as_raw(), i32::try_from(options).unwrap_or(0)) };
}

/// The slot of a key.
pub fn key_slot(key: &[u8]) -> u16 {
    let key = OwnedString::new(key);
    // SAFETY: the string is live.
    let slot = unsafe { api!(ValkeyModule_ClusterKeySlot)(key.as_raw()) };
    u16::try_from(slot).unwrap_or(0)
}

/// A key that is open for the time of a call, or null.
pub(super) type OpenedKey = *mut raw::ValkeyModuleKey;

/// What a node of a cluster is, by its own configuration (`nodes.conf`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// It has slots of its own, or may get some.
    Primary,
    /// It follows a primary, whether or not it has reached that yet.
    Replica,
}

impl Ctx<'_> {
    /// What this node is in its cluster; `None` where the server does not say, as outside a cluster.
    pub fn node_role(self) -> Option<NodeRole> {
        let (nowhere, mut flags) = (std::ptr::null_mut(), 0);
        // SAFETY: takes nothing; the server keeps the name, null outside of a cluster, for its lifetime.
        let name = unsafe { api!(ValkeyModule_GetMyClusterID)() };
        if name.is_null() {
            return None;
        }
        // The name is 40 characters without an end of their own where the server keeps it.
        // SAFETY: a name has that many bytes.
        let name = unsafe { std::slice::from_raw_parts(name.cast::<u8>(), raw::VALKEYMODULE_NODE_ID_LEN as usize) };
        let name = CString::new(name).ok()?;
        // SAFETY: the context is valid (type invariant), the name NUL-terminated and `flags` a live integer; what is
        // not wanted may be null.
        let status = unsafe {
            api!(ValkeyModule_GetClusterNodeInfo)(
                self.as_raw(),
                name.as_ptr(),
                nowhere,
                nowhere,
                std::ptr::null_mut(),
                &raw mut flags,
            )
        };
        let has = |flag: u32| flags & flag.cast_signed() != 0;
        match (status == raw::VALKEYMODULE_OK as i32, has(raw::VALKEYMODULE_NODE_PRIMARY)) {
            (true, true) => Some(NodeRole::Primary),
            (true, false) if has(raw::VALKEYMODULE_NODE_REPLICA) => Some(NodeRole::Replica),
            _ => None,
        }
    }

    /// Whether the key is in the selected database, expired or not.
    pub fn has_key(self, key: &[u8]) -> bool {
        self.with_key(key, raw::VALKEYMODULE_READ, |open| !open.is_null())
    }

    /// Deletes the key from the selected database, without an event and in memory alone; returns whether it was there.
    pub fn delete_key(self, key: &[u8]) -> bool {
        self.has_key(key)
            && self.with_key(key, raw::VALKEYMODULE_READ | raw::VALKEYMODULE_WRITE, |open| {
                // SAFETY: the key is open for writing; null is answered with an error.
                !open.is_null() && unsafe { api!(ValkeyModule_DeleteKey)(open) == raw::VALKEYMODULE_OK as i32 }
            })
            && self.signal_modified(key)
    }

    /// Has the server write to its own append-only file, and send to its replicas, that these keys of the selected
    /// database were deleted: [`Ctx::delete_key`] changes memory alone. `false` if it has no command that says so.
    pub fn propagate_deletion<'a>(self, keys: impl Iterator<Item = &'a [u8]>) -> bool {
        let keys: Vec<OwnedString> = keys.map(OwnedString::new).collect();
        let mut argv: Vec<_> = keys.iter().map(OwnedString::as_raw).collect();
        [c"DEL", c"UNLINK"].into_iter().any(|own| {
            let present = names::present(own.to_bytes()).replacement().map(|name| CString::new(&name[..]));
            let name = match &present {
                None => own,
                Some(Ok(name)) if !name.is_empty() => name,
                Some(_) => return false,
            };
            // SAFETY: the context is valid (type invariant), the strings are NUL-terminated, and `v` takes a pointer to
            // that many live string objects and their count; the server takes its own references to them. A command
            // that it does not have is answered with an error.
            let status = unsafe {
                api!(ValkeyModule_Replicate)(self.as_raw(), name.as_ptr(), c"v".as_ptr(), argv.as_mut_ptr(), argv.len())
            };
            status == raw::VALKEYMODULE_OK as i32
        })
    }

    /// Signals to those who watch or track the key that it has changed.
    fn signal_modified(self, key: &[u8]) -> bool {
        let key = OwnedString::new(key);
        // SAFETY: the context is valid (type invariant) and the key is a live string.
        unsafe { api!(ValkeyModule_SignalModifiedKey)(self.as_raw(), key.as_raw()) == raw::VALKEYMODULE_OK as i32 }
    }

    /// Announces to everybody that the key was deleted from the selected database.
    pub fn tell_deleted(self, key: &[u8]) {
        let key = OwnedString::new(key);
        let class = raw::VALKEYMODULE_NOTIFY_GENERIC;
        // SAFETY: the context is valid (type invariant), the event name is NUL-terminated and the key lives over the
        // call.
        unsafe { api!(ValkeyModule_NotifyKeyspaceEvent)(self.as_raw(), class, c"del".as_ptr(), key.as_raw()) };
    }

    /// Works on a key, which is null where it is not there.
    pub(super) fn with_key<T>(self, key: &[u8], mode: u32, work: impl FnOnce(OpenedKey) -> T) -> T {
        let name = OwnedString::new(key);
        let mode = i32::try_from(mode | UNNOTICED).unwrap_or(0);
        // SAFETY: the context is valid (type invariant) and the name is a live string.
        let open = unsafe { api!(ValkeyModule_OpenKey)(self.as_raw(), name.as_raw(), mode) };
        let result = work(open);
        if !open.is_null() {
            // SAFETY: the key was opened above and is closed once.
            unsafe { api!(ValkeyModule_CloseKey)(open) };
        }
        result
    }
}
