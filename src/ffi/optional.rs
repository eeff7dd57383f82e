//! Functions of the API that not every server has.

use super::{client, errors};
use std::ffi::{CStr, c_void};

/// Looks for all of them. Once, at load, after ValkeyModule_Init.
pub(super) fn find_all() {
    errors::find_optional_functions();
    client::find_optional_functions();
}

/// The function of the API that has this name; `None` where the server has none.
///
/// # Safety
///
/// `F` is the type of pointers to that function.
pub(super) unsafe fn find<F>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<Option<F>>() == size_of::<*mut c_void>(), "a pointer to a function, or none") };
    let mut found: Option<F> = None;
    let place: *mut c_void = (&raw mut found).cast();
    // SAFETY: the name is NUL-terminated, and the server writes a function of this type (caller), or nothing, to the
    // live place.
    unsafe { api!(ValkeyModule_GetApi)(name.as_ptr(), place) };
    found
}
