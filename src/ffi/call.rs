//! Running the server's commands.

use super::context::Ctx;
use super::names;
use super::reply::{Reply, ReplyKind};
use super::shells::OK;
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use valkey_module::raw;

/// A string object of the server, owned here. Main thread only.
pub(super) struct OwnedString(NonNull<raw::ValkeyModuleString>);

impl OwnedString {
    pub(super) fn new(bytes: &[u8]) -> OwnedString {
        // SAFETY: pointer and length are those of a live slice, which the server copies; a null context means no
        // automatic memory.
        let raw = unsafe { api!(ValkeyModule_CreateString)(std::ptr::null_mut(), bytes.as_ptr().cast(), bytes.len()) };
        match NonNull::new(raw) {
            Some(raw) => OwnedString(raw),
            None => super::missing_api("memory for a string"),
        }
    }

    pub(super) fn as_raw(&self) -> *mut raw::ValkeyModuleString {
        self.0.as_ptr()
    }
}

impl Drop for OwnedString {
    fn drop(&mut self) {
        // SAFETY: the object came from CreateString and this is its only owner here.
        unsafe { api!(ValkeyModule_FreeString)(std::ptr::null_mut(), self.0.as_ptr()) };
    }
}

/// Longer than any command's name, with its final NUL.
const NAME_BYTES_MAX: usize = 128;

/// How a command is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallMode {
    /// As the module: no ACL check, not replicated. For replaying while the server is loading, and for settings.
    Internal,
    /// The same, and refused if the command could write. For questions.
    Question,
    /// As the context's client: its user's ACL rules, its protocol, replicated, refused when out of memory.
    AsClient,
    /// The same, and refused where the server accepts no writes (no replicas, a disk that fails).
    Collected,
    /// The same, but it does not run, and no rights are checked: the reply is an error if it would be refused before.
    DryRunCollected,
    /// Whether the server accepts any write.
    DryRunWrite,
    /// As `AsClient`, but it does not run: the reply is an error if it would be refused before.
    DryRunAsClient,
    /// As no user, in RESP2 or RESP3, and it may block: its reply is then a promise. The server goes on using the user
    /// of a call that waits, though ACL LOAD frees it.
    Waiting {
        /// RESP3.
        resp3: bool,
    },
    /// As the context's user, but it does not run, as with `DryRunAsClient`.
    DryRunAsUser,
    /// As the context's user, in RESP2 or RESP3, replicated, refused when out of memory.
    AsUser {
        /// RESP3.
        resp3: bool,
    },
}

thread_local! {
    /// Set while a `call` waits for its own pass through the module's command filter; see `call`.
    static OWN_CALL: Cell<bool> = const { Cell::new(false) };
    /// The arguments of that call; the filter drops them so that the server's command is their only owner.
    static ARGUMENTS: RefCell<Vec<OwnedString>> = const { RefCell::new(Vec::new()) };
    /// The memory of a finished call's argument vector, for the next one.
    static RAW_ARGUMENTS: Cell<Vec<*mut raw::ValkeyModuleString>> = const { Cell::new(Vec::new()) };
}

/// For the filter shell: whether this pass is that of a call of the module itself, which the filter then ignores.
/// Changes that other modules' filters have made to its arguments are undone: they have seen the command before, when
/// its client sent it.
///
/// It also gives up the module's references to the arguments. The server does not compact shared strings
/// (`tryObjectEncoding`, object.c), so a replayed `SET k 1` would otherwise be stored as a string and not as an
/// integer.
///
/// # Safety
/// `filter` is the context of the filter callback that runs now.
pub(super) unsafe fn take_own_call(filter: *mut raw::ValkeyModuleCommandFilterCtx) -> bool {
    let own = OWN_CALL.replace(false);
    if own {
        // SAFETY: as above.
        ARGUMENTS.with_borrow_mut(|arguments| unsafe { restore(filter, arguments) });
    }
    own
}

/// Has the command run with these arguments after its name.
///
/// # Safety
/// `filter` is the context of the filter callback that runs now.
unsafe fn restore(filter: *mut raw::ValkeyModuleCommandFilterCtx, arguments: &mut Vec<OwnedString>) {
    let wanted = arguments.len();
    for (position, argument) in (1..).zip(arguments.drain(..)) {
        // SAFETY: the filter context is valid (caller). The server answers an index after the end with null, and takes
        // over the reference to a string that it takes, so that it is not dropped here.
        let taken = unsafe {
            match api!(ValkeyModule_CommandFilterArgGet)(filter, position) {
                present if present == argument.as_raw() => continue,
                present if present.is_null() => {
                    api!(ValkeyModule_CommandFilterArgInsert)(filter, position, argument.as_raw())
                }
                _ => api!(ValkeyModule_CommandFilterArgReplace)(filter, position, argument.as_raw()),
            }
        };
        if taken == OK {
            std::mem::forget(argument);
        }
    }
    let Ok(first_surplus) = i32::try_from(wanted + 1) else { return };
    // SAFETY: as above; an index after the end is answered with an error.
    while unsafe { api!(ValkeyModule_CommandFilterArgDelete)(filter, first_surplus) } == OK {}
}

impl Ctx<'_> {
    /// Runs a command, given by its own name, in the context's database. `None` when the server has no such command.
    pub fn call<'a>(
        self,
        mode: CallMode,
        command: &str,
        args: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Reply<'static>> {
        let translated = names::present(command.as_bytes()).replacement();
        self.call_by_name(mode, translated.as_deref().unwrap_or(command.as_bytes()), args)
    }

    /// Asks the server a question. `None` when there is no answer: the server has no such command, or refused it.
    pub fn ask<'a>(self, command: &str, args: impl IntoIterator<Item = &'a [u8]>) -> Option<Reply<'static>> {
        self.call(CallMode::Question, command, args).filter(|reply| reply.kind() != ReplyKind::Error)
    }

    /// Runs the command that the server knows by this name.
    pub fn call_by_name<'a>(
        self,
        mode: CallMode,
        present: &[u8],
        args: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Reply<'static>> {
        let mut name = [0; NAME_BYTES_MAX];
        let fits = present.len() < NAME_BYTES_MAX && !present.is_empty() && !present.contains(&0);
        name.get_mut(..present.len()).filter(|_| fits)?.copy_from_slice(present);
        let mut raw_args = RAW_ARGUMENTS.take();
        raw_args.clear();
        ARGUMENTS.with_borrow_mut(|arguments| {
            arguments.clear();
            arguments.extend(args.into_iter().map(OwnedString::new));
            raw_args.extend(arguments.iter().map(OwnedString::as_raw));
        });
        let format = match mode {
            CallMode::Internal => c"Ev",
            CallMode::Question => c"EWv",
            CallMode::AsClient => c"!CE0Mv",
            CallMode::Collected => c"!CE0MSv",
            CallMode::DryRunCollected => c"!E0MSDv",
            CallMode::DryRunWrite => c"ESDv",
            CallMode::DryRunAsClient => c"!CE0MDv",
            CallMode::Waiting { resp3: false } => c"!EMKv",
            CallMode::Waiting { resp3: true } => c"!E3MKv",
            CallMode::DryRunAsUser => c"CEDv",
            CallMode::AsUser { resp3: false } => c"!CEMv",
            CallMode::AsUser { resp3: true } => c"!CE3Mv",
        };
        OWN_CALL.set(true);
        // SAFETY: the context is valid (type invariant), the strings are NUL-terminated, and `v` takes a pointer to
        // that many live string objects and their count; the server takes its own references to them.
        let reply = unsafe {
            api!(ValkeyModule_Call)(
                self.as_raw(),
                name.as_ptr().cast(),
                format.as_ptr(),
                raw_args.as_mut_ptr(),
                raw_args.len(),
            )
        };
        // If the server knows no such command, no filter has seen it.
        OWN_CALL.set(false);
        ARGUMENTS.with_borrow_mut(Vec::clear);
        RAW_ARGUMENTS.set(raw_args);
        // SAFETY: whoever calls owns the reply.
        unsafe { Reply::from_raw(reply) }
    }

    /// The indices of a command's keys among its arguments (0 is its own name), where the server can name them.
    pub fn command_keys<'a>(self, args: impl Iterator<Item = &'a [u8]>) -> Vec<usize> {
        let mut strings: Vec<OwnedString> = args.map(OwnedString::new).collect();
        if let Some(name) = strings.first_mut()
            // SAFETY: the string was just made, and lives while it is translated.
            && let Some(present) = names::present(unsafe { super::shells::bytes(name.as_raw()) }).replacement()
        {
            *name = OwnedString::new(&present);
        }
        let mut argv: Vec<_> = strings.iter().map(OwnedString::as_raw).collect();
        // The server looks at the first one.
        let Some(argc) = i32::try_from(argv.len()).ok().filter(|argc| *argc > 0) else { return Vec::new() };
        let mut count = 0;
        // SAFETY: the context is valid (type invariant), `argv` holds `argc` live strings, `count` is a live integer.
        let positions =
            unsafe { api!(ValkeyModule_GetCommandKeys)(self.as_raw(), argv.as_mut_ptr(), argc, &raw mut count) };
        if positions.is_null() {
            return Vec::new();
        }
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: the server returned `count` positions.
        let found = unsafe { std::slice::from_raw_parts(positions, count) };
        let found = found.iter().filter_map(|position| usize::try_from(*position).ok()).collect();
        // SAFETY: the caller of GetCommandKeys owns the array, allocated with the server's allocator.
        unsafe { api!(ValkeyModule_Free)(positions.cast()) };
        found
    }
}
