//! Numbers of the RDB format, and the little of it that we write ourselves.

use super::found::TypeName;
use crc::{CRC_64_REDIS, Crc, Table};

/// The checksum of RDB files and DUMP payloads.
pub(super) static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// What an empty dataset starts with: every supported server loads version 11.
pub(super) const EMPTY_HEADER: &[u8] = b"REDIS0011";
/// The versions with the magic `REDIS` that we know: 5 brought the checksum, 11 is what 7.2 to 8.1 write.
pub(super) const REDIS_VERSIONS: std::ops::RangeInclusive<u16> = 5..=11;
/// The versions with the magic `VALKEY` that we know: 80 is what 9.x writes.
pub(crate) const VALKEY_VERSIONS: std::ops::RangeInclusive<u16> = 80..=80;

pub(super) const TYPE_STRING: u8 = 0;
pub(super) const TYPE_LIST: u8 = 1;
pub(super) const TYPE_SET: u8 = 2;
pub(super) const TYPE_ZSET: u8 = 3;
pub(super) const TYPE_HASH: u8 = 4;
pub(super) const TYPE_ZSET_2: u8 = 5;
pub(super) const TYPE_MODULE_2: u8 = 7;
pub(super) const TYPE_HASH_ZIPMAP: u8 = 9;
pub(super) const TYPE_LIST_ZIPLIST: u8 = 10;
pub(super) const TYPE_SET_INTSET: u8 = 11;
pub(super) const TYPE_ZSET_ZIPLIST: u8 = 12;
pub(super) const TYPE_HASH_ZIPLIST: u8 = 13;
pub(super) const TYPE_LIST_QUICKLIST: u8 = 14;
pub(super) const TYPE_STREAM: u8 = 15;
pub(super) const TYPE_HASH_LISTPACK: u8 = 16;
pub(super) const TYPE_ZSET_LISTPACK: u8 = 17;
pub(super) const TYPE_LIST_QUICKLIST_2: u8 = 18;
pub(super) const TYPE_STREAM_2: u8 = 19;
pub(super) const TYPE_SET_LISTPACK: u8 = 20;
pub(super) const TYPE_STREAM_3: u8 = 21;
/// A hash with an expiry for each field; the first type of the `VALKEY` versions.
pub(super) const TYPE_HASH_2: u8 = 22;

pub(super) const OPCODE_SLOT_IMPORT: u8 = 243;
pub(super) const OPCODE_SLOT_INFO: u8 = 244;
pub(super) const OPCODE_FUNCTION2: u8 = 245;
pub(super) const OPCODE_MODULE_AUX: u8 = 247;
pub(super) const OPCODE_IDLE: u8 = 248;
pub(super) const OPCODE_FREQ: u8 = 249;
pub(super) const OPCODE_AUX: u8 = 250;
pub(super) const OPCODE_RESIZEDB: u8 = 251;
pub(super) const OPCODE_EXPIRETIME_MS: u8 = 252;
pub(super) const OPCODE_EXPIRETIME: u8 = 253;
pub(super) const OPCODE_SELECTDB: u8 = 254;
pub(super) const OPCODE_EOF: u8 = 255;

pub(super) const MODULE_EOF: u64 = 0;
pub(super) const MODULE_SINT: u64 = 1;
pub(super) const MODULE_UINT: u64 = 2;
pub(super) const MODULE_FLOAT: u64 = 3;
pub(super) const MODULE_DOUBLE: u64 = 4;
pub(super) const MODULE_STRING: u64 = 5;

pub(super) const STRING_INT8: u8 = 0;
pub(super) const STRING_INT16: u8 = 1;
pub(super) const STRING_INT32: u8 = 2;
pub(super) const STRING_LZF: u8 = 3;

/// "No expiry", as an expiry.
pub(super) const NO_EXPIRY: i64 = -1;
/// The value for a deferred expiry: it never comes. A key that already has an expiry takes no more memory when it gets
/// its own.
pub(super) const NEVER: i64 = 1 << 52;

/// The name of the type of a module that has this id: nine characters of six bits each, above a version of ten bits.
pub(super) fn type_name(id: u64) -> TypeName {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let character = |index: usize| CHARACTERS.get((id >> (10 + 6 * (8 - index)) & 63) as usize).copied();
    std::array::from_fn(|index| character(index).unwrap_or_default())
}

/// A length in its shortest form, which is the one servers write.
pub(super) fn put_length(out: &mut Vec<u8>, length: u64) {
    if let Ok(short) = u8::try_from(length)
        && short < 0x40
    {
        out.push(short);
    } else if let Ok(short) = u16::try_from(length)
        && short < 0x4000
    {
        out.extend_from_slice(&(0x4000 | short).to_be_bytes());
    } else if let Ok(word) = u32::try_from(length) {
        out.push(0x80);
        out.extend_from_slice(&word.to_be_bytes());
    } else {
        out.push(0x81);
        out.extend_from_slice(&length.to_be_bytes());
    }
}

/// What FUNCTION RESTORE takes for a library of this code. Every supported server takes version 11.
pub(crate) fn library_payload(code: &[u8]) -> Vec<u8> {
    let mut out = vec![OPCODE_FUNCTION2];
    put_length(&mut out, code.len() as u64);
    out.extend_from_slice(code);
    out.extend_from_slice(&REDIS_VERSIONS.end().to_le_bytes());
    let checksum = CRC64.checksum(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// The end of a transformed stream: the sentinel, an empty string in database 0, and the end without a checksum.
pub(super) fn tail(sentinel: &[u8]) -> Vec<u8> {
    let mut out = vec![OPCODE_SELECTDB, 0, TYPE_STRING];
    put_length(&mut out, sentinel.len() as u64);
    out.extend_from_slice(sentinel);
    put_length(&mut out, 0);
    out.push(OPCODE_EOF);
    out.extend_from_slice(&[0; 8]);
    out
}

/// After the header the stream has a field without a meaning, of this many bytes: more than a pipe and the loader's
/// buffer hold, so the loader is past the header when all of it is written. By then it has looked at the clock.
pub(super) const PADDING_BYTES: usize = 256 << 10;

/// A field of this many bytes that no server knows, and which servers skip.
pub(super) fn padding(bytes: usize) -> Vec<u8> {
    const NAME: &[u8] = b"wbl-padding";
    let mut out = vec![OPCODE_AUX];
    put_length(&mut out, NAME.len() as u64);
    out.extend_from_slice(NAME);
    put_length(&mut out, bytes as u64);
    out.resize(out.len() + bytes, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        let cases: [(u64, &[u8]); 7] = [
            (0, &[0]),
            (63, &[63]),
            (64, &[0x40, 64]),
            (16383, &[0x7f, 0xff]),
            (16384, &[0x80, 0, 0, 0x40, 0]),
            (u64::from(u32::MAX), &[0x80, 0xff, 0xff, 0xff, 0xff]),
            (1 << 32, &[0x81, 0, 0, 0, 1, 0, 0, 0, 0]),
        ];
        for (length, bytes) in cases {
            let mut out = Vec::new();
            put_length(&mut out, length);
            assert_eq!(out, bytes, "{length}");
        }
    }

    #[test]
    fn a_types_name_is_that_of_its_id() {
        // What the server computes for "test-type" of version 1.
        let characters = [45_u64, 30, 44, 45, 62, 45, 50, 41, 30];
        let id = characters.iter().fold(0, |id, character| id << 6 | character) << 10 | 1;
        assert_eq!(&type_name(id), b"test-type");
        assert_eq!(type_name(u64::MAX), [b'_'; 9]);
    }

    #[test]
    fn the_checksum_is_the_servers() {
        // The server's own self-test uses this pair.
        assert_eq!(CRC64.checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }
}
