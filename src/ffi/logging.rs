//! Lines for the server's log.

use std::ffi::CString;

/// Levels of the server's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What a developer may want to know; the server shows it with `loglevel debug`.
    Debug,
    /// What an operator may want to know.
    Notice,
    /// What an operator must know.
    Warning,
}

/// Writes one line to the server's log; `%` and NUL in the message are harmless. Any thread.
pub fn log(level: Level, message: &str) {
    let level = match level {
        Level::Debug => c"debug",
        Level::Notice => c"notice",
        Level::Warning => c"warning",
    };
    let text = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
    // SAFETY: the API table is set once at load; see the macro `api`.
    let Some(function) = (unsafe { valkey_module::raw::ValkeyModule_Log }) else {
        // Before ValkeyModule_Init (unit tests): there is no server to log to.
        eprintln!("{message}");
        return;
    };
    // SAFETY: a null context is allowed (the line carries no module name then, so the text does); the format is a
    // constant with one `%s` and both strings are NUL-terminated and live over the call. ValkeyModule_Log may be called
    // from any thread.
    unsafe { function(std::ptr::null_mut(), level.as_ptr(), c"<wbl> %s".as_ptr(), text.as_ptr()) }
}
