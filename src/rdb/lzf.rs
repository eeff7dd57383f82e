//! LZF decompression, for compressed keys.
//!
//! A compressed string is a sequence of runs. A first byte below 32 announces that many plus one literal bytes. Any
//! other one announces a copy of earlier output: its upper three bits are the length minus two (7: the next byte is
//! added), its lower five bits and the byte that follows are the distance minus one.

/// The plain bytes of `packed`, if they are exactly `length`. Memory grows with the output, never by `length` alone.
pub(super) fn decompress(packed: &[u8], length: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok()?;
    let mut input = packed;
    let mut output = Vec::new();
    while let Some((&control, rest)) = input.split_first() {
        input = rest;
        if control < 32 {
            let (literals, rest) = input.split_at_checked(usize::from(control) + 1)?;
            output.extend_from_slice(literals);
            input = rest;
        } else {
            let mut copied = usize::from(control >> 5) + 2;
            if copied == 9 {
                let (&more, rest) = input.split_first()?;
                copied += usize::from(more);
                input = rest;
            }
            let (&low, rest) = input.split_first()?;
            input = rest;
            let distance = (usize::from(control & 31) << 8) + usize::from(low) + 1;
            let from = output.len().checked_sub(distance)?;
            // Source and target may overlap: a distance of 1 repeats a byte.
            for position in from..from + copied {
                output.push(*output.get(position)?);
            }
        }
        if output.len() > length {
            return None;
        }
    }
    (output.len() == length).then_some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_overlapping_copies_unpack() {
        // "ab", then 7 more bytes from distance 2, then 1 + 9 + 3 copies of distance 1.
        let packed = [1, b'a', b'b', 5 << 5, 1, 7 << 5, 4, 0];
        assert_eq!(decompress(&packed, 22).as_deref(), Some(&b"ababababaaaaaaaaaaaaaa"[..]));
    }

    #[test]
    fn damage_is_refused() {
        assert_eq!(decompress(&[1, b'a', b'b'], 3), None, "shorter than announced");
        assert_eq!(decompress(&[1, b'a', b'b'], 1), None, "longer than announced");
        assert_eq!(decompress(&[3, b'a', b'b'], 4), None, "literals cut off");
        assert_eq!(decompress(&[0, b'a', 1 << 5], 4), None, "distance cut off");
        assert_eq!(decompress(&[0, b'a', 7 << 5, 4], 14), None, "distance behind the long length cut off");
        assert_eq!(decompress(&[0, b'a', 1 << 5, 1], 4), None, "a copy from before the start");
        assert_eq!(decompress(&[], u64::MAX), None);
        assert_eq!(decompress(&[], 0).as_deref(), Some(&b""[..]));
    }
}
