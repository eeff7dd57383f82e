//! What the server says of itself, and RDB files.

use super::*;
use crate::server::{Child, ForkDone};

/// The only child's.
const CHILD_PID: c_int = 77;

struct ServerInfo {
    fields: HashMap<String, String>,
    shown: RefCell<Vec<CString>>,
}

unsafe extern "C" fn server_info(_: Raw, section: *const c_char) -> Raw {
    let fields = admin::info(unsafe { text(section) });
    Box::into_raw(Box::new(ServerInfo { fields, shown: RefCell::default() })).cast()
}

unsafe extern "C" fn info_unsigned(info: Raw, field: *const c_char, error: *mut c_int) -> u64 {
    let info = unsafe { &*info.cast::<ServerInfo>() };
    let value = info.fields.get(unsafe { text(field) }).and_then(|value| value.parse().ok());
    unsafe { *error = c_int::from(value.is_none()) };
    value.unwrap_or(0)
}

unsafe extern "C" fn info_text(info: Raw, field: *const c_char) -> *const c_char {
    let info = unsafe { &*info.cast::<ServerInfo>() };
    let Some(value) = info.fields.get(unsafe { text(field) }) else { return std::ptr::null() };
    let value = CString::new(value.as_str()).unwrap_or_default();
    let pointer = value.as_ptr();
    info.shown.borrow_mut().push(value);
    pointer
}

unsafe extern "C" fn free_info(_: Raw, info: Raw) {
    drop(unsafe { Box::from_raw(info.cast::<ServerInfo>()) });
}

unsafe extern "C" fn stream_of_file(path: *const c_char) -> Raw {
    Box::into_raw(Box::new(unsafe { text(path) }.to_string())).cast()
}

unsafe extern "C" fn free_stream(stream: Raw) {
    drop(unsafe { Box::from_raw(stream.cast::<String>()) });
}

unsafe extern "C" fn rdb_save(_: Raw, _stream: Raw, _: c_int) -> c_int {
    if rdb::save() { OK } else { ERR }
}

/// A child has done its work when it is forked; its end is told some time.
unsafe extern "C" fn fork(callback: ForkDone, _: Raw) -> c_int {
    let s = server();
    if s.child.get().is_some() {
        return -1;
    }
    s.note(|| "    forks".into());
    s.child.set(Some(Child { callback, status: 0, signal: 0 }));
    CHILD_PID
}

unsafe extern "C" fn kill_fork(_: c_int) -> c_int {
    if server().child.take().is_some() { OK } else { ERR }
}

unsafe extern "C" fn rdb_load(_: Raw, stream: Raw, _: c_int) -> c_int {
    if rdb::load(unsafe { &*stream.cast::<String>() }) { OK } else { ERR }
}

pub fn find(name: &str) -> Option<*const c_void> {
    Some(match name {
        "GetServerInfo" => server_info as _,
        "ServerInfoGetFieldUnsigned" => info_unsigned as _,
        "ServerInfoGetFieldC" => info_text as _,
        "FreeServerInfo" => free_info as _,
        "RdbStreamCreateFromFile" => stream_of_file as _,
        "RdbStreamFree" => free_stream as _,
        "RdbSave" => rdb_save as _,
        "Fork" => fork as _,
        "KillForkChild" => kill_fork as _,
        "RdbLoad" => rdb_load as _,
        _ => return None,
    })
}
