//! What a walk finds in a base, and what it leaves for later.

use std::collections::BTreeSet;
use std::io;

/// An expiry that never comes in the transformed stream; to be applied when the sentinel key is loaded, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deferred {
    /// `PEXPIREAT key at_ms`
    Expire {
        /// The key's database.
        db: u32,
        /// The key.
        key: Vec<u8>,
        /// Its expiry, in Unix milliseconds.
        at_ms: i64,
    },
    /// `HPEXPIREAT key at_ms FIELDS 1 field`
    ExpireField {
        /// The key's database.
        db: u32,
        /// The key of the hash.
        key: Vec<u8>,
        /// The field.
        field: Vec<u8>,
        /// Its expiry, in Unix milliseconds.
        at_ms: i64,
    },
    /// All fields of the hash expire early, and the loader may have left them out, and the key with them.
    Emptied {
        /// The key's database.
        db: u32,
        /// The key of the hash.
        key: Vec<u8>,
    },
}

/// What becomes of the fields of hashes that expire early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyFields {
    /// Their expiry is deferred.
    Deferred,
    /// The loader leaves out those that it takes for expired. Hashes that may be empty then are passed on
    /// ([`Deferred::Emptied`]).
    LeftOut,
}

/// Which expiries are early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Those before this time, in Unix milliseconds. Those of keys are deferred.
    pub ms: i64,
    /// What becomes of fields.
    pub fields: EarlyFields,
}

impl Before {
    /// Expiries before this time are deferred, also of fields.
    pub fn all(ms: i64) -> Before {
        Before { ms, fields: EarlyFields::Deferred }
    }
}

/// Which expiries are deferred, and what becomes of them.
pub trait Strip {
    /// Which. Asked once, when the loader has looked at the clock.
    fn before(&mut self) -> Before;

    /// Keeps what was deferred.
    ///
    /// # Errors
    ///
    /// Why it cannot be kept; the splice ends.
    fn defer(&mut self, deferred: Deferred) -> io::Result<()>;
}

/// What a walk found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Keys of the base, the sentinel not counted.
    pub keys: u64,
    /// Length of the base, its checksum included; 0 without a base.
    pub bytes: u64,
    /// Function libraries of the base.
    pub functions: u64,
    /// Whether hashes of the base may have fields that expire.
    pub fields_expire: bool,
    /// Whether the base has a checksum. `rdbchecksum no` writes zeros instead, which servers take for "not checked".
    pub checked: bool,
    /// The CRC-64 of the base's bytes, whether the base has one or not.
    pub checksum: u64,
}

/// What a server must have to load a base. One that lacks it exits in the middle of loading.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The highest database that is selected.
    pub last_database: u32,
    /// The types of modules whose values or data there are.
    pub module_types: BTreeSet<TypeName>,
    /// The code of all function libraries.
    pub libraries: Vec<Vec<u8>>,
}

/// The name of a module's type.
pub type TypeName = [u8; 9];
