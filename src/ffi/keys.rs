//! Questions about keys of the selected database that leave no trace: neither statistics nor access times change, and
//! nothing expires.

use super::call::OwnedString;
use super::cluster::OpenedKey;
use super::context::Ctx;
use std::ffi::c_void;
use valkey_module::raw;

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// There is no such key.
    None,
    /// A string.
    String,
    /// A list.
    List,
    /// A sorted set.
    SortedSet,
    /// A stream.
    Stream,
    /// A hash.
    Hash,
    /// Any other.
    Other,
}

const OK: i32 = raw::VALKEYMODULE_OK as i32;

impl Ctx<'_> {
    /// In the callback of an event of this key: the database that it happened in. Within an EXEC servers from 9.1 on
    /// report the transaction's as the selected one (`VM_GetSelectedDb`), but open keys in the event's. Opening a key
    /// costs a look-up, which advances the resizing of a hash table: this is asked only for what may happen in another
    /// database than its command's.
    pub fn event_db(self, event: &[u8], key: &[u8]) -> u32 {
        let may_be_elsewhere = matches!(event, b"copy_to" | b"move_to" | b"del" | b"expired" | b"evicted");
        if !may_be_elsewhere || !self.flags().in_exec() {
            return self.selected_db();
        }
        // For writing, even a missing key is opened.
        self.with_key(key, raw::VALKEYMODULE_READ | raw::VALKEYMODULE_WRITE, |open| {
            if open.is_null() {
                return self.selected_db();
            }
            // SAFETY: the key is open.
            let db = unsafe { api!(ValkeyModule_GetDbIdFromModuleKey)(open) };
            u32::try_from(db).unwrap_or(0)
        })
    }

    /// The type of the key's value.
    pub fn key_kind(self, key: &[u8]) -> KeyKind {
        self.with_key(key, raw::VALKEYMODULE_READ, kind)
    }

    /// The length of a string, list or stream, or the number of a hash's fields, expired ones among them; `None` when
    /// the key is of another type.
    pub fn key_length(self, key: &[u8], expected: KeyKind) -> Option<usize> {
        self.with_key(key, raw::VALKEYMODULE_READ, |open| {
            // SAFETY: the key is open.
            (kind(open) == expected).then(|| unsafe { api!(ValkeyModule_ValueLength)(open) })
        })
    }

    /// The id of a stream's last entry.
    pub fn last_stream_id(self, key: &[u8]) -> Option<(u64, u64)> {
        self.with_key(key, raw::VALKEYMODULE_READ, |open| {
            let any = std::ptr::null_mut();
            // SAFETY: the key is open, or null, which is refused as other types are; null stands for the first and the
            // last possible id.
            let started = unsafe {
                api!(ValkeyModule_StreamIteratorStart)(open, raw::VALKEYMODULE_STREAM_ITERATOR_REVERSE as i32, any, any)
            };
            if started != OK {
                return None;
            }
            let mut id = raw::ValkeyModuleStreamID { ms: 0, seq: 0 };
            // SAFETY: the iterator was started above; `id` is live, and the number of fields is not asked for.
            let found = unsafe { api!(ValkeyModule_StreamIteratorNextID)(open, &raw mut id, std::ptr::null_mut()) };
            // SAFETY: it is stopped once.
            unsafe { api!(ValkeyModule_StreamIteratorStop)(open) };
            (found == OK).then_some((id.ms, id.seq))
        })
    }

    /// The value of a field of a hash.
    pub fn hash_field(self, key: &[u8], field: &[u8]) -> Option<Vec<u8>> {
        let field = OwnedString::new(field);
        self.with_key(key, raw::VALKEYMODULE_READ, |open| {
            if open.is_null() {
                return None;
            }
            let mut value: *mut raw::ValkeyModuleString = std::ptr::null_mut();
            let (flags, end) = (raw::VALKEYMODULE_HASH_NONE as i32, std::ptr::null_mut::<c_void>());
            // SAFETY: the key is open, and other types than hashes are refused; pairs of a live string and a live place
            // end with null.
            let found = unsafe { api!(ValkeyModule_HashGet)(open, flags, field.as_raw(), &raw mut value, end) };
            if found != OK || value.is_null() {
                return None;
            }
            // SAFETY: the server made the string for the caller, who reads it and frees it once.
            unsafe {
                let bytes = super::shells::bytes(value).to_vec();
                api!(ValkeyModule_FreeString)(std::ptr::null_mut(), value);
                Some(bytes)
            }
        })
    }

    /// Makes a key that has expired, without a value, where there is none.
    pub fn make_expired_key(self, key: &[u8]) -> bool {
        let value = OwnedString::new(b"");
        self.with_key(key, raw::VALKEYMODULE_READ | raw::VALKEYMODULE_WRITE, |open| {
            // SAFETY: the key is open for writing, the value is a live string, and the server takes its own reference.
            let is_made =
                kind(open) == KeyKind::None && unsafe { api!(ValkeyModule_StringSet)(open, value.as_raw()) } == OK;
            // SAFETY: the key is open for writing, and has a value now.
            is_made && unsafe { api!(ValkeyModule_SetAbsExpire)(open, 1) } == OK
        })
    }

    /// When the key expires, in milliseconds since the Unix epoch; `None` when it does not, or is not there.
    pub fn key_expiry_ms(self, key: &[u8]) -> Option<i64> {
        let at = self.with_key(key, raw::VALKEYMODULE_READ, |open| {
            // SAFETY: the key is open; null is refused before.
            if open.is_null() { -1 } else { unsafe { api!(ValkeyModule_GetAbsExpire)(open) } }
        });
        (at >= 0).then_some(at)
    }

    /// Sets the key's expiry, without an event; `false` when it is not there. A past time is accepted.
    pub fn set_key_expiry(self, key: &[u8], at_ms: i64) -> bool {
        self.has_key(key)
            && self.with_key(key, raw::VALKEYMODULE_READ | raw::VALKEYMODULE_WRITE, |open| {
                // SAFETY: the key is open for writing.
                !open.is_null() && unsafe { api!(ValkeyModule_SetAbsExpire)(open, at_ms.max(0)) == OK }
            })
    }

    /// Deletes all keys of all databases. Functions stay.
    pub fn delete_all_keys(self) {
        // SAFETY: called on the main thread (the context proves it); the AOF is not restarted, and the work is done
        // now.
        unsafe { api!(ValkeyModule_ResetDataset)(0, 0) };
    }
}

fn kind(open: OpenedKey) -> KeyKind {
    // SAFETY: the key is open; null stands for none.
    match unsafe { api!(ValkeyModule_KeyType)(open) } as isize {
        raw::VALKEYMODULE_KEYTYPE_EMPTY => KeyKind::None,
        raw::VALKEYMODULE_KEYTYPE_STRING => KeyKind::String,
        raw::VALKEYMODULE_KEYTYPE_LIST => KeyKind::List,
        raw::VALKEYMODULE_KEYTYPE_ZSET => KeyKind::SortedSet,
        raw::VALKEYMODULE_KEYTYPE_STREAM => KeyKind::Stream,
        raw::VALKEYMODULE_KEYTYPE_HASH => KeyKind::Hash,
        _ => KeyKind::Other,
    }
}
