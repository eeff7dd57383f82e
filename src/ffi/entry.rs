//! The functions that the server looks for in the library.

use super::context::Ctx;
use super::handlers::{Handlers, handlers, set_handlers};
use super::optional;
use super::settings;
use super::shells::{ERR, OK, arguments, guard};
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use valkey_module::raw;

/// Makes the library's entry points, for a module that does what these handlers do.
macro_rules! entry_points {
    ($handlers:expr) => {
        /// The server's entry into the module (`loadmodule`, `MODULE LOAD`).
        ///
        /// # Safety
        /// Called by the server, with a valid context and `argc` live arguments.
        #[allow(unsafe_code, reason = "an entry point; it passes on what the server promises")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn ValkeyModule_OnLoad(
            ctx: *mut valkey_module::raw::ValkeyModuleCtx,
            argv: *mut *mut valkey_module::raw::ValkeyModuleString,
            argc: std::ffi::c_int,
        ) -> std::ffi::c_int {
            // SAFETY: see the function's contract.
            unsafe { $crate::ffi::load($handlers, ctx, argv, argc) }
        }

        /// The server's call before it unloads the module (`MODULE UNLOAD`).
        ///
        /// # Safety
        /// Called by the server, with a valid context.
        #[allow(unsafe_code, reason = "an entry point; it passes on what the server promises")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn ValkeyModule_OnUnload(
            ctx: *mut valkey_module::raw::ValkeyModuleCtx,
        ) -> std::ffi::c_int {
            // SAFETY: see the function's contract.
            unsafe { $crate::ffi::unload(ctx) }
        }
    };
}
pub(crate) use entry_points;

/// Loads the module.
///
/// # Safety
/// The context and `argc` arguments are valid, and this is the server's main thread.
pub unsafe fn load(
    with: &'static dyn Handlers,
    ctx: *mut raw::ValkeyModuleCtx,
    argv: *mut *mut raw::ValkeyModuleString,
    argc: c_int,
) -> c_int {
    set_handlers(with);
    // SAFETY: the context is valid (caller), the name NUL-terminated.
    if unsafe {
        raw::Export_ValkeyModule_Init(ctx, c"wbl".as_ptr(), with.version(), raw::VALKEYMODULE_APIVER_1 as c_int)
    } != OK
    {
        return ERR;
    }
    let loaded = catch_unwind(AssertUnwindSafe(|| {
        optional::find_all();
        // SAFETY: the context and the arguments are valid (caller).
        let (ctx, args) = unsafe { (Ctx::from_raw(ctx), arguments(argv, argc)) };
        ctx.is_some_and(|ctx| with.load(ctx, &args))
    }));
    if matches!(loaded, Ok(true)) { OK } else { ERR }
}

/// Unloads the module.
///
/// # Safety
/// The context is valid, and this is the server's main thread.
pub unsafe fn unload(ctx: *mut raw::ValkeyModuleCtx) -> c_int {
    // SAFETY: the context is valid (caller).
    let unloaded = guard("unload", || unsafe { Ctx::from_raw(ctx) }.is_some_and(|ctx| handlers().unload(ctx)));
    settings::forget_last_text();
    if unloaded { OK } else { ERR }
}
