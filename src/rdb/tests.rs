//! Tests of the walker, on files made by hand.

use std::io::{self, Read, Write};

use super::format::*;
use super::samples::{Sample, hash_2, length, packed_text, text};
use super::walk::{Splice, Walker};
use super::*;

pub(super) const SENTINEL: &[u8] = b"the sentinel";

pub(super) fn spliced(file: &[u8], strip_before_ms: i64) -> Result<(Vec<u8>, Summary), RdbError> {
    let mut out = Vec::new();
    let summary = splice(Some(&mut &file[..]), &mut out, SENTINEL, strip_before_ms)?;
    Ok((out, summary))
}

/// Gives a few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(buffer.len());
        self.0.read(&mut buffer[..count])
    }
}

fn expire(db: u32, key: &[u8], at_ms: i64) -> Deferred {
    Deferred::Expire { db, key: key.to_vec(), at_ms }
}

fn payload(value: &[u8]) -> Vec<u8> {
    let mut out = [&[TYPE_HASH_2], value, &[80, 0]].concat();
    let checksum = CRC64.checksum(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

#[test]
fn a_file_with_nothing_to_strip_passes_byte_for_byte() -> Result<(), RdbError> {
    let file = Sample::everything().file();
    let (out, summary) = spliced(&file, 1000)?;
    assert_eq!(out, Sample::everything().spliced(SENTINEL));
    let expected = Summary { keys: 19, deferred: Vec::new(), bytes: file.len() as u64, functions: 1, checked: true };
    assert_eq!(summary, expected);
    assert_eq!(verify(&mut &file[..])?, expected);
    Ok(())
}

#[test]
fn the_window_and_the_reads_may_be_of_any_size() -> Result<(), RdbError> {
    let file = Sample::everything().file();
    for strip_before_ms in [0, 2400, i64::MAX] {
        let whole = spliced(&file, strip_before_ms)?;
        for window_bytes in (1..70).chain([1000]) {
            let mut out = Vec::new();
            let mut base = Trickle(&file, 1 + window_bytes / 2);
            let rule = Splice { sentinel: SENTINEL, strip_before_ms };
            let summary = Walker::new(&mut base, &mut out, window_bytes, Some(rule)).run()?;
            assert_eq!((out, summary), whole, "window of {window_bytes}");
        }
    }
    Ok(())
}

#[test]
fn keys_that_expire_earlier_lose_their_expiry_and_nothing_else() -> Result<(), RdbError> {
    let key = |sample: Sample, name: &[u8]| sample.raw(&[&[OPCODE_IDLE, 5]]).key(TYPE_STRING, name, &text(b"v"));
    let base = key(Sample::valkey().expire(999), b"a");
    let base = key(base.expire(1000), b"b").select(3);
    let base = key(base.raw(&[&[OPCODE_EXPIRETIME, 0, 0, 0, 0x80]]), b"c");
    let base = key(base.expire(NO_EXPIRY), b"d").file();

    let stream = key(key(Sample::valkey(), b"a").expire(1000), b"b").select(3);
    let stream = key(key(stream, b"c"), b"d").spliced(SENTINEL);

    let (out, summary) = spliced(&base, 1000)?;
    assert_eq!(out, stream);
    assert_eq!(summary.deferred, [expire(0, b"a", 999), expire(3, b"c", i64::from(i32::MIN) * 1000)]);
    assert_eq!(summary.keys, 4);
    Ok(())
}

#[test]
fn deferred_keys_are_plain_bytes_whatever_their_encoding() -> Result<(), RdbError> {
    let (packed, unpacked) = packed_text();
    let base = [&[0xc0, 0xfe][..], &[0xc1, 0x18, 0xfc], &[0xc2, 0x40, 0x42, 0x0f, 0], &packed, &text(b"a\0b")]
        .iter()
        .fold(Sample::valkey(), |base, key| base.expire(1).raw(&[&[TYPE_STRING], key, &text(b"v")]));
    let (_, summary) = spliced(&base.file(), 2)?;
    let keys: Vec<&[u8]> = vec![b"-2", b"-1000", b"1000000", &unpacked, b"a\0b"];
    assert_eq!(summary.deferred, keys.iter().map(|key| expire(0, key, 1)).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn a_hash_with_a_field_that_expires_earlier_becomes_a_payload() -> Result<(), RdbError> {
    let early = hash_2(&[(b"a", NO_EXPIRY), (b"b", 999), (b"c", 5000)]);
    let late = hash_2(&[(b"a", NO_EXPIRY), (b"b", 1000)]);
    let base = Sample::valkey()
        .key(TYPE_HASH_2, b"early", &early)
        .select(2)
        .expire(7000)
        .raw(&[&[OPCODE_IDLE, 5]])
        .key(TYPE_HASH_2, b"early too", &early)
        .expire(7000)
        .raw(&[&[OPCODE_IDLE, 6]])
        .key(TYPE_HASH_2, b"late", &late)
        .expire(10)
        .key(TYPE_HASH_2, b"late fields only", &late);
    let stream = Sample::valkey()
        .select(2)
        .expire(7000)
        .raw(&[&[OPCODE_IDLE, 6]])
        .key(TYPE_HASH_2, b"late", &late)
        .key(TYPE_HASH_2, b"late fields only", &late);
    let (out, summary) = spliced(&base.file(), 1000)?;
    assert_eq!(out, stream.spliced(SENTINEL));
    let restore = |db, key: &[u8], at_ms| Deferred::Restore { db, key: key.to_vec(), at_ms, payload: payload(&early) };
    let expected =
        [restore(0, b"early", None), restore(2, b"early too", Some(7000)), expire(2, b"late fields only", 10)];
    assert_eq!(summary.deferred, expected);
    assert_eq!(summary.keys, 4);
    Ok(())
}

#[test]
fn an_empty_dataset_is_the_sentinel_alone() -> Result<(), RdbError> {
    let mut out = Vec::new();
    let summary = splice(None, &mut out, b"key", i64::MAX)?;
    assert_eq!(out, b"REDIS0011\xfe\x00\x00\x03key\x00\xff\0\0\0\0\0\0\0\0");
    assert_eq!(summary, Summary::default());
    Ok(())
}

#[test]
fn a_key_of_the_sentinels_name_is_refused_in_its_database_only() {
    let named = |db, kind, value: &[u8]| spliced(&Sample::valkey().select(db).key(kind, SENTINEL, value).file(), 1000);
    assert!(named(1, TYPE_STRING, &text(b"")).is_ok());
    assert!(matches!(named(0, TYPE_STRING, &text(b"")), Err(RdbError::SentinelExists { offset: 12 })));
    assert!(matches!(named(0, TYPE_HASH_2, &hash_2(&[(b"a", 1)])), Err(RdbError::SentinelExists { offset: 12 })));
}

#[test]
fn no_sentinel_is_sent_for_a_damaged_base() {
    let mut flipped = Sample::everything().file();
    let end = flipped.len();
    flipped[end - 1] ^= 1;
    let mut long = Sample::everything().file();
    long.push(b'*');
    for (file, what) in [(flipped, "wrong checksum at offset "), (long, "bytes behind the end")] {
        let mut out = Vec::new();
        let result = splice(Some(&mut &file[..]), &mut out, SENTINEL, 0).map_err(|error| error.to_string());
        assert!(matches!(&result, Err(error) if error.contains(what)), "{result:?}");
        assert!(verify(&mut &file[..]).is_err());
        assert!(!out.windows(SENTINEL.len()).any(|bytes| bytes == SENTINEL));
    }
}

#[test]
fn a_base_written_without_a_checksum_is_reported_as_unchecked() -> Result<(), RdbError> {
    let mut file = Sample::everything().file();
    let end = file.len();
    file[end - 8..].fill(0);
    assert!(!spliced(&file, 0)?.1.checked);
    assert!(!verify(&mut &file[..])?.checked);
    Ok(())
}

#[test]
fn errors_name_the_byte_and_its_offset() {
    let check = |sample: Sample, expected: &str| {
        let file = sample.file();
        for error in [spliced(&file, 0).err(), verify(&mut &file[..]).err()] {
            assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(expected));
        }
    };
    let unknown =
        |byte: u8, offset: u64| format!("unknown type, opcode or encoding {byte} at offset {offset} of the RDB file");
    let damaged = |offset: u64, what: &str| format!("damaged RDB file at offset {offset}: {what}");
    for byte in [6, 8, 23, 242, 246] {
        check(Sample::valkey().select(0).raw(&[&[byte]]), &unknown(byte, 11));
    }
    // Foreign servers give these another meaning.
    check(Sample::new(b"REDIS0011").key(TYPE_HASH_2, b"k", &hash_2(&[])), &unknown(22, 9));
    check(Sample::new(b"REDIS0011").raw(&[&[OPCODE_SLOT_IMPORT]]), &unknown(243, 9));
    check(Sample::valkey().key(TYPE_STRING, b"k", &[0xc4]), &unknown(0xc4, 12));
    check(Sample::valkey().key(TYPE_STRING, b"k", &[0x82]), &unknown(0x82, 12));
    check(Sample::valkey().key(TYPE_MODULE_2, b"k", &[1, 6]), &unknown(6, 13));
    check(Sample::valkey().key(TYPE_LIST, b"k", &[0xc0, 1]), &damaged(12, "a string's encoding in place of a number"));
    check(Sample::valkey().expire(5).select(1), &damaged(18, "attributes of a key without the key"));
    check(Sample::valkey().expire(5), &damaged(18, "attributes of a key without the key"));
    check(Sample::valkey().select(1 << 32), &damaged(9, "a database number beyond 32 bits"));
    check(Sample::valkey().key(TYPE_HASH_2, b"k", &hash_2(&[(b"f", -2)])), &damaged(21, "a negative field expiry"));
    for magic in [b"REDIS0004", b"REDIS0012", b"REDIS0080", b"VALKEY011", b"VALKEY081", b"VALKEY+80", b"VALKEYxyz"] {
        let magic_text = String::from_utf8_lossy(magic);
        let expected = format!("not an RDB file of a known version (offset 0): \"{magic_text}\"");
        check(Sample::new(magic), &expected);
    }
}

#[test]
fn lengths_in_the_file_allocate_nothing_by_themselves() {
    let huge = length(u64::MAX - 1);
    let packed_key = [&[0xc3][..], &huge, &huge, b"x"].concat();
    let tiny_packed_key = [&[0xc3][..], &[2], &huge, &[0, b'x']].concat();
    let check = |sample: Sample, truncated: bool| {
        let error = spliced(&sample.0, i64::MAX).err();
        assert_eq!(matches!(error, Some(RdbError::Truncated { .. })), truncated, "{error:?}");
        assert!(error.is_some());
    };
    check(Sample::valkey().raw(&[&[TYPE_STRING], &huge, b"x"]), true);
    check(Sample::valkey().raw(&[&[TYPE_STRING], &packed_key]), true);
    check(Sample::valkey().raw(&[&[TYPE_STRING], &tiny_packed_key]), false);
    check(Sample::valkey().key(TYPE_STRING, b"k", &huge), true);
    check(Sample::valkey().key(TYPE_HASH_2, b"k", &[&huge[..], &huge, b"x"].concat()), true);
    check(Sample::valkey().key(TYPE_STREAM_3, b"k", &huge), true);
}

#[test]
fn failures_of_either_side_are_told_apart() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no disk"))
        }
    }
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("no reader"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let file = Sample::everything().file();
    let result = splice(Some(&mut &file[..]), &mut Broken, SENTINEL, 0);
    assert!(matches!(result, Err(RdbError::Write { .. })), "{result:?}");
    assert!(matches!(splice(None, &mut Broken, SENTINEL, 0), Err(RdbError::Write { offset: 0, .. })));
    let mut base = (&file[..30]).chain(Broken);
    assert!(matches!(verify(&mut base), Err(RdbError::Read { offset: 30, .. })));
}
