//! Tests of the walker, on files made by hand.

use std::io::{self, Read, Write};

use super::format::*;
use super::samples::{Sample, hash_2, length, packed_text, text};
use super::walk::{Splice, Walker};
use super::*;

pub(super) const SENTINEL: &[u8] = b"the sentinel";

/// Collects what is left out.
pub(super) struct Collect {
    pub(super) before_ms: i64,
    pub(super) deferred: Vec<Deferred>,
}

impl Strip for Collect {
    fn before(&mut self) -> Before {
        Before::all(self.before_ms)
    }

    fn defer(&mut self, deferred: Deferred) -> io::Result<()> {
        self.deferred.push(deferred);
        Ok(())
    }
}

/// The stream without its padding, what the walk found, and what was left out.
pub(super) type Spliced = (Vec<u8>, Summary, Vec<Deferred>);

pub(super) fn spliced(file: &[u8], before_ms: i64) -> Result<Spliced, RdbError> {
    spliced_by(&mut &file[..], before_ms, 1 << 20)
}

fn spliced_by(base: &mut dyn Read, before_ms: i64, window_bytes: usize) -> Result<Spliced, RdbError> {
    let (mut out, mut collect) = (Vec::new(), Collect { before_ms, deferred: Vec::new() });
    let (summary, needs) =
        Walker::new(base, &mut out, window_bytes, Some(Splice::new(SENTINEL, &mut collect))).run()?;
    assert!(needs.libraries.is_empty(), "they are kept where nobody needs them");
    let padding = padding(PADDING_BYTES);
    assert!(out[9..].starts_with(&padding));
    drop(out.drain(9..9 + padding.len()));
    Ok((out, summary, collect.deferred))
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

#[test]
fn a_file_with_nothing_to_strip_passes_byte_for_byte() -> Result<(), RdbError> {
    let file = Sample::everything().file();
    let (out, summary, deferred) = spliced(&file, 1000)?;
    assert_eq!(out, Sample::everything().spliced(SENTINEL));
    assert_eq!(deferred, []);
    let checksum = CRC64.checksum(&file[..file.len() - 8]);
    let expected =
        Summary { keys: 19, bytes: file.len() as u64, functions: 1, fields_expire: true, checked: true, checksum };
    assert_eq!(summary, expected);
    assert_eq!(verify(&mut &file[..])?, expected);
    Ok(())
}

#[test]
fn an_import_that_was_under_way_is_left_out() -> Result<(), RdbError> {
    let with = |sample: Sample| sample.slot_import().slot_import().select(0);
    let file = with(Sample::valkey()).key(TYPE_STRING, b"k", &text(b"v")).file();
    let (out, summary, _) = spliced(&file, 0)?;
    assert_eq!(out, Sample::valkey().select(0).key(TYPE_STRING, b"k", &text(b"v")).spliced(SENTINEL));
    assert_eq!((summary.keys, summary.bytes), (1, file.len() as u64));
    assert_eq!(verify(&mut &file[..])?, summary);
    Ok(())
}

#[test]
fn the_window_and_the_reads_may_be_of_any_size() -> Result<(), RdbError> {
    let file = Sample::everything().file();
    for strip_before_ms in [0, 2400, i64::MAX] {
        let whole = spliced(&file, strip_before_ms)?;
        for window_bytes in (1..70).chain([1000]) {
            let mut base = Trickle(&file, 1 + window_bytes / 2);
            let found = spliced_by(&mut base, strip_before_ms, window_bytes)?;
            assert_eq!(found, whole, "window of {window_bytes}");
        }
    }
    Ok(())
}

#[test]
fn keys_that_expire_earlier_never_expire_and_change_no_more() -> Result<(), RdbError> {
    let key = |sample: Sample, name: &[u8]| sample.raw(&[&[OPCODE_IDLE, 5]]).key(TYPE_STRING, name, &text(b"v"));
    let base = key(Sample::valkey().expire(999), b"a");
    let base = key(base.expire(1000), b"b").select(3);
    let base = key(base.raw(&[&[OPCODE_EXPIRETIME, 0, 0, 0, 0x80]]), b"c");
    let base = key(base.expire(NO_EXPIRY), b"d").file();

    let stream = key(key(Sample::valkey().expire(NEVER), b"a").expire(1000), b"b").select(3);
    let stream = key(key(stream.expire(NEVER), b"c"), b"d").spliced(SENTINEL);

    let (out, summary, deferred) = spliced(&base, 1000)?;
    assert_eq!(out, stream);
    assert_eq!(deferred, [expire(0, b"a", 999), expire(3, b"c", i64::from(i32::MIN) * 1000)]);
    assert_eq!(summary.keys, 4);
    Ok(())
}

#[test]
fn deferred_keys_are_plain_bytes_whatever_their_encoding() -> Result<(), RdbError> {
    let (packed, unpacked) = packed_text();
    let base = [&[0xc0, 0xfe][..], &[0xc1, 0x18, 0xfc], &[0xc2, 0x40, 0x42, 0x0f, 0], &packed, &text(b"a\0b")]
        .iter()
        .fold(Sample::valkey(), |base, key| base.expire(1).raw(&[&[TYPE_STRING], key, &text(b"v")]));
    let (.., deferred) = spliced(&base.file(), 2)?;
    let keys: Vec<&[u8]> = vec![b"-2", b"-1000", b"1000000", &unpacked, b"a\0b"];
    assert_eq!(deferred, keys.iter().map(|key| expire(0, key, 1)).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn fields_that_expire_earlier_never_expire_and_change_no_more() -> Result<(), RdbError> {
    let (packed, unpacked) = packed_text();
    let packed_field = [&[1][..], &packed, &text(b"value"), &2_i64.to_le_bytes()].concat();
    let packed_stripped = [&[1][..], &packed, &text(b"value"), &NEVER.to_le_bytes()].concat();
    let early = hash_2(&[(b"a", NO_EXPIRY), (b"b", 999), (b"c", 5000), (b"d", 0)]);
    let stripped = hash_2(&[(b"a", NO_EXPIRY), (b"b", NEVER), (b"c", 5000), (b"d", NEVER)]);
    let late = hash_2(&[(b"a", NO_EXPIRY), (b"b", 1000)]);
    let base = Sample::valkey()
        .key(TYPE_HASH_2, b"early", &early)
        .select(2)
        .expire(7000)
        .raw(&[&[OPCODE_IDLE, 5]])
        .key(TYPE_HASH_2, b"early too", &early)
        .key(TYPE_HASH_2, b"late", &late)
        .expire(10)
        .key(TYPE_HASH_2, b"packed", &packed_field);
    let stream = Sample::valkey()
        .key(TYPE_HASH_2, b"early", &stripped)
        .select(2)
        .expire(7000)
        .raw(&[&[OPCODE_IDLE, 5]])
        .key(TYPE_HASH_2, b"early too", &stripped)
        .key(TYPE_HASH_2, b"late", &late)
        .expire(NEVER)
        .key(TYPE_HASH_2, b"packed", &packed_stripped);
    let (out, summary, deferred) = spliced(&base.clone().file(), 1000)?;
    assert_eq!(out, stream.spliced(SENTINEL));
    let field = |db, key: &[u8], field: &[u8], at_ms| Deferred::ExpireField {
        db,
        key: key.to_vec(),
        field: field.to_vec(),
        at_ms,
    };
    let expected = [
        field(0, b"early", b"b", 999),
        field(0, b"early", b"d", 0),
        field(2, b"early too", b"b", 999),
        field(2, b"early too", b"d", 0),
        field(2, b"packed", &unpacked, 2),
        expire(2, b"packed", 10),
    ];
    assert_eq!(deferred, expected);
    assert_eq!(summary.keys, 4);
    // Also where an expiry lies across the edge of the window.
    let file = base.file();
    for window_bytes in 1..40 {
        assert_eq!(spliced_by(&mut &file[..], 1000, window_bytes)?, (out.clone(), summary.clone(), expected.to_vec()));
    }
    Ok(())
}

#[test]
fn fields_that_are_left_to_the_loader_stay_as_they_are() -> Result<(), RdbError> {
    struct LeftOut(Vec<Deferred>);
    impl Strip for LeftOut {
        fn before(&mut self) -> Before {
            Before { ms: 100, fields: EarlyFields::LeftOut }
        }
        fn defer(&mut self, deferred: Deferred) -> io::Result<()> {
            self.0.push(deferred);
            Ok(())
        }
    }
    let some = hash_2(&[(b"a", 9), (b"b", 100)]);
    let all = hash_2(&[(b"a", 9), (b"b", 99)]);
    let with = |expiry| {
        let base = Sample::valkey().key(TYPE_HASH_2, b"some", &some).key(TYPE_HASH_2, b"all", &all).select(2);
        base.expire(expiry).key(TYPE_HASH_2, b"all too", &all)
    };
    let (mut out, mut left) = (Vec::new(), LeftOut(Vec::new()));
    let summary = splice(Some(&mut &with(99).file()[..]), &mut out, SENTINEL, &mut left)?;
    assert!(summary.fields_expire && out.ends_with(&with(NEVER).spliced(SENTINEL)[9..]));
    let emptied = |db, key: &[u8]| Deferred::Emptied { db, key: key.to_vec() };
    assert_eq!(left.0, [emptied(0, b"all"), emptied(2, b"all too"), expire(2, b"all too", 99)]);
    Ok(())
}

#[test]
fn the_clock_is_asked_when_the_padding_is_written() {
    struct Late(std::rc::Rc<std::cell::Cell<usize>>, Option<usize>);
    impl Strip for Late {
        fn before(&mut self) -> Before {
            self.1 = Some(self.0.get());
            Before::all(0)
        }
        fn defer(&mut self, _: Deferred) -> io::Result<()> {
            Ok(())
        }
    }
    struct Counted(std::rc::Rc<std::cell::Cell<usize>>);
    impl Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.set(self.0.get() + bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let written = std::rc::Rc::default();
    let mut late = Late(std::rc::Rc::clone(&written), None);
    let file = Sample::everything().file();
    assert!(splice(Some(&mut &file[..]), &mut Counted(written), SENTINEL, &mut late).is_ok());
    assert_eq!(late.1, Some(9 + padding(PADDING_BYTES).len()));
}

#[test]
fn an_empty_dataset_is_the_sentinel_alone() -> Result<(), RdbError> {
    let mut out = Vec::new();
    let summary = splice(None, &mut out, b"key", &mut Collect { before_ms: i64::MAX, deferred: Vec::new() })?;
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
    for (file, what) in [(flipped, "wrong checksum at offset "), (long, "bytes after the end")] {
        let mut out = Vec::new();
        let mut collect = Collect { before_ms: 0, deferred: Vec::new() };
        let result = splice(Some(&mut &file[..]), &mut out, SENTINEL, &mut collect).map_err(|error| error.to_string());
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
    let newer = "the RDB file is of version 81, and this module knows versions up to 80";
    check(Sample::new(b"VALKEY081"), newer);
    for magic in [b"REDIS0004", b"REDIS0012", b"REDIS0080", b"VALKEY011", b"VALKEY+80", b"VALKEYxyz"] {
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
    let mut collect = Collect { before_ms: 0, deferred: Vec::new() };
    let result = splice(Some(&mut &file[..]), &mut Broken, SENTINEL, &mut collect);
    assert!(matches!(result, Err(RdbError::Write { .. })), "{result:?}");
    assert!(matches!(splice(None, &mut Broken, SENTINEL, &mut collect), Err(RdbError::Write { offset: 0, .. })));
    struct Full;
    impl Strip for Full {
        fn before(&mut self) -> Before {
            Before::all(i64::MAX)
        }
        fn defer(&mut self, _: Deferred) -> io::Result<()> {
            Err(io::Error::other("no room"))
        }
    }
    let result = splice(Some(&mut &file[..]), &mut Vec::new(), SENTINEL, &mut Full);
    assert!(matches!(result, Err(RdbError::Defer { .. })), "{result:?}");
    let mut base = (&file[..30]).chain(Broken);
    assert!(matches!(verify(&mut base), Err(RdbError::Read { offset: 30, .. })));
}
