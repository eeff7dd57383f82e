//! What the head of an RDB file says.

use super::format::{OPCODE_AUX, STRING_INT8, STRING_INT16, STRING_INT32};

/// Magic and version.
const MAGIC_BYTES: usize = 9;

/// The field with the time at which the file was begun.
const BEGUN: &[u8] = b"ctime";

/// When the file that begins with these bytes was begun, which is the time of its dataset; Unix seconds. `None` where
/// it does not say.
pub fn begun_s(head: &[u8]) -> Option<u64> {
    let (magic, mut rest) = head.split_at_checked(MAGIC_BYTES)?;
    if !magic.starts_with(b"REDIS") && !magic.starts_with(b"VALKEY") {
        return None;
    }
    while let Some((&OPCODE_AUX, fields)) = rest.split_first() {
        let (name, behind_name) = text(fields)?;
        let (value, behind_value) = text(behind_name)?;
        if name == BEGUN {
            return std::str::from_utf8(&value).ok()?.parse().ok();
        }
        rest = behind_value;
    }
    None
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
    use super::begun_s;

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
}
