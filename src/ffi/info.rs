//! INFO: our section, and reading the server's.

use super::context::Ctx;
use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::NonNull;
use valkey_module::raw;

/// Writes the fields of the module's INFO section; field names get the module's name and `_` in front.
pub struct InfoWriter<'a> {
    raw: NonNull<raw::ValkeyModuleInfoCtx>,
    lifetime: PhantomData<&'a ()>,
}

impl InfoWriter<'_> {
    /// # Safety
    /// `raw` is the context of the INFO callback that runs now.
    pub(super) unsafe fn from_raw(raw: *mut raw::ValkeyModuleInfoCtx) -> Option<Self> {
        NonNull::new(raw).map(|raw| InfoWriter { raw, lifetime: PhantomData })
    }

    /// Begins the section, named after the module.
    pub fn section(&mut self) {
        // SAFETY: the context is valid (type invariant); an empty name means the module's own.
        unsafe { api!(ValkeyModule_InfoAddSection)(self.raw.as_ptr(), c"".as_ptr()) };
    }

    /// Adds a field with a number.
    pub fn number(&mut self, field: &str, value: u64) {
        let Ok(field) = CString::new(field) else { return };
        // SAFETY: the context is valid (type invariant), the name is NUL-terminated and copied.
        unsafe { api!(ValkeyModule_InfoAddFieldULongLong)(self.raw.as_ptr(), field.as_ptr(), value) };
    }

    /// Adds a field with a text.
    pub fn text(&mut self, field: &str, value: &str) {
        let (Ok(field), Ok(value)) = (CString::new(field), CString::new(value.replace(['\r', '\n', '\0'], " "))) else {
            return;
        };
        // SAFETY: the context is valid (type invariant), name and value are NUL-terminated and copied.
        unsafe { api!(ValkeyModule_InfoAddFieldCString)(self.raw.as_ptr(), field.as_ptr(), value.as_ptr()) };
    }
}

/// One section of the server's own INFO.
pub struct ServerInfo(NonNull<raw::ValkeyModuleServerInfoData>);

impl ServerInfo {
    /// Reads a section (`replication`, `persistence`, ...).
    pub fn read(ctx: Ctx<'_>, section: &str) -> Option<ServerInfo> {
        let section = CString::new(section).ok()?;
        // SAFETY: the context is valid (type invariant) and the name NUL-terminated.
        NonNull::new(unsafe { api!(ValkeyModule_GetServerInfo)(ctx.as_raw(), section.as_ptr()) }).map(ServerInfo)
    }

    /// A field's value as an unsigned number.
    pub fn unsigned(&self, field: &str) -> Option<u64> {
        let field = CString::new(field).ok()?;
        let mut error = 0;
        // SAFETY: the data is valid (type invariant), the name NUL-terminated, and `error` a live integer.
        let value =
            unsafe { api!(ValkeyModule_ServerInfoGetFieldUnsigned)(self.0.as_ptr(), field.as_ptr(), &raw mut error) };
        (error == 0).then_some(value)
    }

    /// A field's value as a text.
    pub fn text(&self, field: &str) -> Option<String> {
        let field = CString::new(field).ok()?;
        // SAFETY: the data is valid (type invariant), the name NUL-terminated; the text belongs to the data.
        let text = unsafe { api!(ValkeyModule_ServerInfoGetFieldC)(self.0.as_ptr(), field.as_ptr()) };
        // SAFETY: a text that is not null is NUL-terminated, and lives until the data is freed.
        (!text.is_null()).then(|| unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }
}

impl Drop for ServerInfo {
    fn drop(&mut self) {
        // SAFETY: the data came from GetServerInfo without automatic memory (null context) and is freed once.
        unsafe { api!(ValkeyModule_FreeServerInfo)(std::ptr::null_mut(), self.0.as_ptr()) };
    }
}
