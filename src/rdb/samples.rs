//! RDB files made by hand, for the tests of the walker.

use super::format::*;

/// An RDB file in the making.
#[derive(Clone)]
pub(super) struct Sample(pub(super) Vec<u8>);

/// A plain string.
pub(super) fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = length(bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

/// A length.
pub(super) fn length(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_length(&mut out, value);
    out
}

/// "aaaa...": 264 + 1 + 1 bytes, compressed.
pub(super) fn packed_text() -> (Vec<u8>, Vec<u8>) {
    let packed = [1, b'a', b'a', 7 << 5, 255, 0];
    let mut out = vec![0xc0 | STRING_LZF];
    put_length(&mut out, packed.len() as u64);
    put_length(&mut out, 266);
    out.extend_from_slice(&packed);
    (out, vec![b'a'; 266])
}

/// A hash with field expiries.
pub(super) fn hash_2(fields: &[(&[u8], i64)]) -> Vec<u8> {
    let mut out = length(fields.len() as u64);
    for (field, at_ms) in fields {
        out.extend_from_slice(&text(field));
        out.extend_from_slice(&text(b"value"));
        out.extend_from_slice(&at_ms.to_le_bytes());
    }
    out
}

impl Sample {
    pub(super) fn new(magic: &[u8; 9]) -> Self {
        Self(magic.to_vec())
    }

    pub(super) fn valkey() -> Self {
        Self::new(b"VALKEY080")
    }

    pub(super) fn raw(mut self, parts: &[&[u8]]) -> Self {
        for part in parts {
            self.0.extend_from_slice(part);
        }
        self
    }

    pub(super) fn select(self, db: u64) -> Self {
        self.raw(&[&[OPCODE_SELECTDB], &length(db)])
    }

    pub(super) fn expire(self, at_ms: i64) -> Self {
        self.raw(&[&[OPCODE_EXPIRETIME_MS], &at_ms.to_le_bytes()])
    }

    pub(super) fn key(self, kind: u8, key: &[u8], value: &[u8]) -> Self {
        self.raw(&[&[kind], &text(key), value])
    }

    /// The whole file, with its checksum.
    pub(super) fn file(mut self) -> Vec<u8> {
        self.0.push(OPCODE_EOF);
        let checksum = CRC64.checksum(&self.0);
        self.0.extend_from_slice(&checksum.to_le_bytes());
        self.0
    }

    /// What a splice is to send.
    pub(super) fn spliced(mut self, sentinel: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(&tail(sentinel));
        self.0
    }

    /// One of everything. Expiries are from 1,000 to 3,000.
    pub(super) fn everything() -> Self {
        Self::valkey().add_opcodes().add_strings().add_collections().select(7).add_encoded()
    }

    fn add_opcodes(self) -> Self {
        self.raw(&[&[OPCODE_AUX], &text(b"valkey-ver"), &text(b"9.1.0")])
            .raw(&[&[OPCODE_AUX], &text(b"redis-bits"), &[0xc0, 64]])
            .raw(&[&[OPCODE_MODULE_AUX], &length(u64::MAX / 3), &module_value()])
            .raw(&[&[OPCODE_FUNCTION2], &text(b"#!lua name=f\n")])
            .select(0)
            .raw(&[&[OPCODE_RESIZEDB], &length(100), &length(2)])
            .raw(&[&[OPCODE_SLOT_INFO], &length(5), &length(6), &length(7)])
    }

    /// An import of two ranges of slots.
    pub(super) fn slot_import(self) -> Self {
        self.raw(&[&[OPCODE_SLOT_IMPORT], &text(&[b'j'; 40]), &[2, 1, 3], &length(100), &length(16383)])
    }

    fn add_strings(self) -> Self {
        self.key(TYPE_STRING, b"plain", &text(b"value"))
            .expire(1000)
            .key(TYPE_STRING, b"packed", &packed_text().0)
            .raw(&[&[OPCODE_IDLE], &length(70)])
            .key(TYPE_STRING, b"int8", &[0xc0, 1])
            .expire(2000)
            .raw(&[&[OPCODE_FREQ, 200]])
            .key(TYPE_STRING, b"int16", &[0xc1, 1, 2])
            .raw(&[&[TYPE_STRING, 0xc2, 1, 2, 3, 4], &text(&[b'v'; 300])])
    }

    fn add_collections(self) -> Self {
        let pair = [text(b"x"), text(b"y")].concat();
        let scores = [&[3], &pair[..2], &[253], &pair[..2], &[255], &pair[..2], b"\x011"].concat();
        self.key(TYPE_LIST, b"list", &two(&text(b"item")))
            .key(TYPE_SET, b"set", &two(&[0xc1, 3, 4]))
            .key(TYPE_ZSET, b"zset", &scores)
            .key(TYPE_ZSET_2, b"zset 2", &two(&[&pair[..2], &[0; 8]].concat()))
            .key(TYPE_HASH, b"hash", &two(&pair))
            .key(TYPE_MODULE_2, b"module", &[length(1 << 40), module_value()].concat())
    }

    fn add_encoded(self) -> Self {
        let (packed, _) = packed_text();
        self.key(TYPE_HASH_ZIPMAP, b"zipmap", &text(b"opaque"))
            .key(TYPE_LIST_QUICKLIST, b"quicklist", &two(&packed))
            .key(TYPE_LIST_QUICKLIST_2, b"quicklist 2", &two(&[&[2], &packed[..]].concat()))
            .key(TYPE_SET_LISTPACK, b"listpack", &packed)
            .expire(3000)
            .raw(&[&[OPCODE_IDLE, 9]])
            .key(TYPE_HASH_2, b"hash 2", &hash_2(&[(b"a", NO_EXPIRY), (b"b", 2500)]))
            .key(TYPE_STREAM, b"stream", &stream_value(1))
            .key(TYPE_STREAM_2, b"stream 2", &stream_value(2))
            .key(TYPE_STREAM_3, b"stream 3", &stream_value(3))
    }
}

/// Two items, after their number.
fn two(item: &[u8]) -> Vec<u8> {
    [&[2], item, item].concat()
}

/// One of each that a module can write, up to the end mark.
fn module_value() -> Vec<u8> {
    let (packed, _) = packed_text();
    [&[2, 0x81][..], &7u64.to_be_bytes(), &[1, 5, 3], &[0; 4], &[4], &[0; 8], &[5], &packed, &[0]].concat()
}

/// A stream with two nodes and two groups of two consumers.
fn stream_value(version: usize) -> Vec<u8> {
    let mut out = vec![2];
    for _ in 0..2 {
        out.extend_from_slice(&text(&[1; 16]));
        out.extend_from_slice(&text(b"a listpack"));
    }
    out.extend_from_slice(&[length(1000), length(1 << 40), length(0)].concat());
    if version >= 2 {
        out.extend_from_slice(&length(u64::MAX).repeat(5));
    }
    out.push(2);
    for group in [b"one", b"two"] {
        out.extend_from_slice(&text(group));
        out.extend_from_slice(&length(1 << 20).repeat(if version >= 2 { 3 } else { 2 }));
        out.push(1);
        out.extend_from_slice(&[7; 16 + 8]);
        out.extend_from_slice(&length(99));
        out.push(2);
        for (name, pending) in [("busy", 1), ("idle", 0)] {
            out.extend_from_slice(&text(name.as_bytes()));
            out.extend_from_slice(&[6; 8].repeat(if version == 3 { 2 } else { 1 }));
            out.push(pending);
            out.extend_from_slice(&[7; 16].repeat(usize::from(pending)));
        }
    }
    out
}
