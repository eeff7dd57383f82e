//! A command before it runs.

use super::call::OwnedString;
use super::client::User;
use super::context::Ctx;
use super::names;
use super::shells::{OK, bytes};
use std::ffi::{CStr, c_int};
use valkey_module::raw;

/// What a client may run of a command and the module's command that would run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Not even the command: the server refuses it.
    None,
    /// The command alone.
    Own,
    /// Both.
    Both,
}

/// How many arguments are asked for at once: most commands have no more.
const HEAD_ARGS: usize = 4;

/// A command in the command filter, before it runs.
pub struct Filter {
    raw: *mut raw::ValkeyModuleCommandFilterCtx,
    client: u64,
    /// How many arguments come before the command.
    begins: usize,
    len: usize,
    /// The first arguments, which live as long as the filter runs: only `insert` and `replace` take them from the
    /// command, and these take the filter by value.
    head: [*const [u8]; HEAD_ARGS],
    /// The command's own name, where it was sent by another; empty when the server knows no command by the name that
    /// was sent.
    name: Option<Box<[u8]>>,
}

impl Filter {
    /// The command of the running filter callback.
    ///
    /// # Safety
    /// `raw` is the context of the filter callback that runs now.
    pub(super) unsafe fn new(raw: *mut raw::ValkeyModuleCommandFilterCtx) -> Filter {
        // SAFETY: the filter context is the running callback's (the function's contract).
        let (client, len) = unsafe {
            (api!(ValkeyModule_CommandFilterGetClientId)(raw), api!(ValkeyModule_CommandFilterArgsCount)(raw))
        };
        Filter::of(raw, client, 0, usize::try_from(len).unwrap_or(0))
    }

    fn of(raw: *mut raw::ValkeyModuleCommandFilterCtx, client: u64, begins: usize, len: usize) -> Filter {
        let none: *const [u8] = &[];
        let mut filter = Filter { raw, client, begins, len, head: [none; HEAD_ARGS], name: None };
        for index in 0..filter.len.min(HEAD_ARGS) {
            filter.head[index] = filter.asked_arg(index);
        }
        filter.name = names::own(filter.arg(0)).replacement();
        filter
    }

    /// The command that begins with this argument.
    pub fn from(&self, begins: usize) -> Filter {
        Filter::of(self.raw, self.client, self.begins + begins, self.len.saturating_sub(begins))
    }

    /// The client that sent it (a script's own for its commands).
    pub fn client_id(&self) -> u64 {
        self.client
    }

    /// The number of arguments, with the command's name.
    pub fn len(&self) -> usize {
        self.len
    }

    /// An argument; empty when there is none at the index. The first is the command's own name, whatever the server
    /// calls it.
    pub fn arg(&self, index: usize) -> &[u8] {
        if let (Some(name), 0) = (&self.name, index) {
            return name;
        }
        self.sent(index)
    }

    /// An argument as it was sent, even the name of a command that the server knows by another name.
    pub fn sent(&self, index: usize) -> &[u8] {
        match self.head.get(index) {
            // SAFETY: the argument, or the empty slice of before, lives while the filter runs (`head`).
            Some(arg) => unsafe { &**arg },
            None => self.asked_arg(index),
        }
    }

    /// Where the server has the command's arguments.
    fn indices(&self) -> std::ops::Range<c_int> {
        let index = |index| c_int::try_from(index).unwrap_or(0);
        index(self.begins)..index(self.begins + self.len)
    }

    fn asked_arg(&self, index: usize) -> &[u8] {
        let Ok(index) = c_int::try_from(self.begins + index) else { return &[] };
        // SAFETY: the filter context is the running callback's (`new`'s contract); an index after the end is answered
        // with null.
        let string = unsafe { api!(ValkeyModule_CommandFilterArgGet)(self.raw, index) };
        if string.is_null() {
            return &[];
        }
        // SAFETY: the argument lives while the filter runs, and `insert`, which could move it, takes `self` by value.
        unsafe { bytes(string) }
    }

    /// Whether the client's user may run the command in the client's database, and `name NAME ARG...` as well.
    pub fn rights(&self, ctx: Ctx<'_>, name: &CStr, db: Option<u32>) -> Rights {
        self.rights_of(ctx, self.client_id(), name, db)
    }

    /// The same for the user of this client.
    pub fn rights_of(&self, ctx: Ctx<'_>, client: u64, name: &CStr, db: Option<u32>) -> Rights {
        let Some(user) = User::of(ctx, client) else { return Rights::Own };
        let name = OwnedString::new(name.to_bytes());
        // SAFETY: the filter context is the running callback's; indices below the count have an argument.
        let arg = |index| unsafe { api!(ValkeyModule_CommandFilterArgGet)(self.raw, index) };
        let mut argv: Vec<_> = std::iter::once(name.as_raw()).chain(self.indices().map(arg)).collect();
        match argv.get_mut(1..).is_some_and(|own| user.may_run(own, db)) {
            false => Rights::None,
            true if user.may_run(&mut argv, db) => Rights::Both,
            true => Rights::Own,
        }
    }

    /// Whether the user of this client may run the command in the database. The answer is yes if the user is unknown,
    /// or if the database is unknown and rights may depend on it.
    pub fn may_be_run_by(&self, ctx: Ctx<'_>, client: u64, db: Option<u32>) -> bool {
        let Some(user) = User::of(ctx, client) else { return true };
        // SAFETY: the filter context is the running callback's; indices below the count have an argument.
        let arg = |index| unsafe { api!(ValkeyModule_CommandFilterArgGet)(self.raw, index) };
        user.may_run(&mut self.indices().map(arg).collect::<Vec<_>>(), db)
    }

    /// The same for a SELECT: what matters is the database that it names.
    pub fn select_may_be_run_by(&self, ctx: Ctx<'_>, client: u64) -> bool {
        self.may_be_run_by(ctx, client, Some(0))
    }

    /// Replaces an argument.
    pub fn replace(self, index: usize, with: &[u8]) {
        let Ok(index) = c_int::try_from(self.begins + index) else { return };
        let string = OwnedString::new(with);
        // SAFETY: the filter context is valid; the server checks the index and takes over the reference when it is one,
        // so that it is not dropped here.
        if unsafe { api!(ValkeyModule_CommandFilterArgReplace)(self.raw, index, string.as_raw()) } == OK {
            std::mem::forget(string);
        }
    }

    /// Inserts an argument; 0 puts it before the command's name.
    pub fn insert(self, index: usize, with: &CStr) {
        let Ok(index) = c_int::try_from(self.begins + index) else { return };
        let string = OwnedString::new(with.to_bytes());
        // SAFETY: the filter context is valid; the server checks the index and takes over the reference when it is one,
        // so that it is not dropped here.
        if unsafe { api!(ValkeyModule_CommandFilterArgInsert)(self.raw, index, string.as_raw()) } == OK {
            std::mem::forget(string);
        }
    }
}
