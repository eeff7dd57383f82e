//! What the head of an RDB file says.

use super::format::{OPCODE_AUX, OPCODE_EOF, STRING_INT8, STRING_INT16, STRING_INT32};

/// Magic and version.
const MAGIC_BYTES: usize = 9;

/// The field with the time at which the file was begun.
const BEGUN: &[u8] = b"ctime";

/// When the file that begins with these bytes was begun, which is the time of its dataset; Unix seconds. `None` where
/// it does not say.
pub fn begun_s(head: &[u8]) -> Option<u64> {
    let mut rest = fields(head)?;
    while let Some((name, value, others)) = field(rest) {
        if name == BEGUN {
            return std::str::from_utf8(&value).ok()?.parse().ok();
        }
        rest = others;
    }
    None
}

/// Whether the file that begins with these bytes ends after its head: it holds no key, function or data of a module.
pub fn holds_nothing(head: &[u8]) -> bool {
    let Some(mut rest) = fields(head) else { return false };
    while let Some((_, _, others)) = field(rest) {
        rest = others;
    }
    rest.first() == Some(&OPCODE_EOF)
}

/// What follows magic and version.
fn fields(head: &[u8]) -> Option<&[u8]> {
    let (magic, rest) = head.split_at_checked(MAGIC_BYTES)?;
    (magic.starts_with(b"REDIS") || magic.starts_with(b"VALKEY")).then_some(rest)
}

/// A field's name and value, and what follows it.
fn field(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>, &[u8])> {
    let (&OPCODE_AUX, fields) = bytes.split_first()? else { return None };
    let (name, rest) = text(fields)?;
    let (value, rest) = text(rest)?;
    Some((name, value, rest))
}

/// A short text, or a number as text, and what follows.
fn text(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let number = |value: i64, rest| Some((value.to_string().into_bytes(), rest));
    match (first >> 6, first & 0x3f) {
        (0, length) => rest.split_at_checked(usize::from(length)).map(|(text, rest)| (text.to_vec(), rest)),
        (1, high) => {
            let (&low, rest) = rest.split_first()?;
            let length = usize::from(high) << 8 | usize::from(low);
            rest.split_at_checked(length).map(|(text, rest)| (text.to_vec(), rest))
        }
        (3, STRING_INT8) => {
            let (value, rest) = rest.split_first_chunk()?;
            number(i64::from(i8::from_le_bytes(*value)), rest)
        }
        (3, STRING_INT16) => {
            let (value, rest) = rest.split_first_chunk()?;
            number(i64::from(i16::from_le_bytes(*value)), rest)
        }
        (3, STRING_INT32) => {
            let (value, rest) = rest.split_first_chunk()?;
            number(i64::from(i32::from_le_bytes(*value)), rest)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{begun_s, holds_nothing};

    #[test]
    fn the_time_is_found_as_servers_write_it() {
        let head = b"VALKEY080\xfa\x0avalkey-ver\x059.1.2\xfa\x0aredis-bits\xc0\x40\xfa\x05ctime\xc2\x00\xf1\x53\x65\xfa\x08used-mem";
        assert_eq!(begun_s(head), Some(0x6553_f100));
        // From 2038 on it is a text.
        assert_eq!(begun_s(b"REDIS0011\xfa\x05ctime\x0a4000000000\xfa"), Some(4_000_000_000));
        for cut in 0..head.len() - b"\xfa\x08used-mem".len() {
            assert_eq!(begun_s(&head[..cut]), None, "{cut}");
        }
        for other in [&b""[..], b"REDIS0011", b"REDIS0011\xff", b"something else", b"REDIS0011\xfa\x05ctime\xc3\x00"] {
            assert_eq!(begun_s(other), None);
        }
    }

    #[test]
    fn a_file_that_ends_after_its_fields_holds_nothing() {
        let fields = b"REDIS0011\xfa\x09redis-ver\x058.1.4\xfa\x05ctime\xc2\x00\xf1\x53\x65";
        let with = |rest: &[u8]| [&fields[..], rest].concat();
        assert!(holds_nothing(&with(b"\xff01234567")) && holds_nothing(b"REDIS0011\xff"));
        for rest in [&b""[..], b"\xfe\x00\xfb\x01\x00", b"\xf5\x03abc\xff", b"\xf7\x01", b"\xfa\x05ctime\xc3\xff"] {
            assert!(!holds_nothing(&with(rest)), "{rest:?}");
        }
        for other in [&b""[..], b"\xff", b"*2\r\n", b"REDIS0011"] {
            assert!(!holds_nothing(other), "{other:?}");
        }
    }
}
