//! Keys that the module looks at.

use super::*;

struct Key {
    db: usize,
    name: Bytes,
    iterating: Cell<bool>,
}

impl Key {
    fn with<T>(&self, work: impl FnOnce(Option<&Entry>) -> T) -> T {
        work(server().data.borrow().get(self.db, &self.name))
    }
}

unsafe fn key<'a>(raw: Raw) -> Option<&'a Key> {
    unsafe { raw.cast::<Key>().as_ref() }
}

unsafe extern "C" fn open_key(raw: Raw, name: Raw, mode: c_int) -> Raw {
    let key = Key {
        db: unsafe { ctx(raw) }.client.db.get(),
        name: unsafe { string(name) }.to_vec(),
        iterating: Cell::new(false),
    };
    if mode & raw::VALKEYMODULE_WRITE as c_int == 0 && key.with(|entry| entry.is_none()) {
        return std::ptr::null_mut();
    }
    Box::into_raw(Box::new(key)).cast()
}

unsafe extern "C" fn close_key(raw: Raw) {
    drop(unsafe { Box::from_raw(raw.cast::<Key>()) });
}

unsafe extern "C" fn key_type(raw: Raw) -> c_int {
    let kind = unsafe { key(raw) }.map_or(0, |key| {
        key.with(|entry| match entry.map(|entry| &entry.value) {
            None => raw::VALKEYMODULE_KEYTYPE_EMPTY,
            Some(Value::String(_)) => raw::VALKEYMODULE_KEYTYPE_STRING,
            Some(Value::List(_)) => raw::VALKEYMODULE_KEYTYPE_LIST,
            Some(Value::Set(_)) => raw::VALKEYMODULE_KEYTYPE_SET,
            Some(Value::Stream(_)) => raw::VALKEYMODULE_KEYTYPE_STREAM,
        })
    });
    kind as c_int
}

unsafe extern "C" fn value_length(raw: Raw) -> usize {
    unsafe { key(raw) }.map_or(0, |key| {
        key.with(|entry| match entry.map(|entry| &entry.value) {
            None => 0,
            Some(Value::String(bytes)) => bytes.len(),
            Some(Value::List(items)) => items.len(),
            Some(Value::Set(items)) => items.len(),
            Some(Value::Stream(stream)) => stream.entries.len(),
        })
    })
}

unsafe extern "C" fn delete_key(raw: Raw) -> c_int {
    let Some(key) = (unsafe { key(raw) }) else { return ERR };
    server().data.borrow_mut().remove(key.db, &key.name);
    OK
}

unsafe extern "C" fn key_db(raw: Raw) -> c_int {
    unsafe { key(raw) }.map_or(-1, |key| key.db as c_int)
}

unsafe extern "C" fn signal_modified(raw: Raw, name: Raw) -> c_int {
    exec::touch_watched(unsafe { ctx(raw) }.client.db.get(), unsafe { string(name) });
    OK
}

unsafe extern "C" fn get_expire(raw: Raw) -> c_longlong {
    unsafe { key(raw) }.and_then(|key| key.with(|entry| entry?.expires_ms)).unwrap_or(-1)
}

unsafe extern "C" fn set_expire(raw: Raw, at_ms: c_longlong) -> c_int {
    let Some(key) = (unsafe { key(raw) }) else { return ERR };
    match server().data.borrow_mut().get_mut(key.db, &key.name) {
        Some(entry) => entry.expires_ms = Some(at_ms),
        None => return ERR,
    }
    OK
}

unsafe extern "C" fn stream_start(raw: Raw, _: c_int, _: Raw, _: Raw) -> c_int {
    let Some(key) = (unsafe { key(raw) }) else { return ERR };
    key.iterating.set(true);
    if key.with(|entry| matches!(entry.map(|entry| &entry.value), Some(Value::Stream(_)))) { OK } else { ERR }
}

unsafe extern "C" fn stream_next(raw: Raw, id: *mut raw::ValkeyModuleStreamID, _: Raw) -> c_int {
    let Some(key) = (unsafe { key(raw) }) else { return ERR };
    let last = key.with(|entry| match entry.map(|entry| &entry.value) {
        Some(Value::Stream(stream)) => stream.entries.keys().next_back().copied(),
        _ => None,
    });
    match last {
        Some((ms, seq)) => {
            unsafe { (*id).ms = ms };
            unsafe { (*id).seq = seq };
            OK
        }
        None => ERR,
    }
}

pub fn find(name: &str) -> Option<*const c_void> {
    Some(match name {
        "OpenKey" => open_key as _,
        "CloseKey" => close_key as _,
        "KeyType" => key_type as _,
        "ValueLength" => value_length as _,
        "DeleteKey" => delete_key as _,
        "GetDbIdFromModuleKey" => key_db as _,
        "SignalModifiedKey" => signal_modified as _,
        "GetAbsExpire" => get_expire as _,
        "SetAbsExpire" => set_expire as _,
        "StreamIteratorStart" => stream_start as _,
        "StreamIteratorNextID" => stream_next as _,
        _ => return None,
    })
}
