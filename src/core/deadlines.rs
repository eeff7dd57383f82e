//! When blocked commands time out. The answer of such a command (nothing came) depends on its keys, like any other.

use crate::core::stream_reads::StreamRead;
use crate::core::table::Blocks;

/// How long a blocking command waits, in milliseconds; `None` when it waits without a limit or the server refuses it. 0
/// where the server may read a number that this does not (it takes what `strtold` takes): it must then be asked all the
/// time whether the client still waits.
pub fn timeout_ms(blocks: Blocks, args: &[&[u8]]) -> Option<i64> {
    let place = match blocks {
        Blocks::TimeoutFirst => args.get(1),
        Blocks::TimeoutLast => args.last(),
        Blocks::No => None,
        Blocks::WithOption => {
            let ms = args.get(StreamRead::parse(args.iter().copied())?.timeout?)?;
            return std::str::from_utf8(ms).ok()?.parse().ok().filter(|ms| *ms > 0);
        }
    };
    let text = place?;
    if text.iter().all(|byte| matches!(byte, b'0' | b'.')) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let Ok(seconds) = text.parse::<f64>() else {
        // Of what Rust does not read `strtold` takes only hexadecimal numbers.
        let digits = text.trim_start_matches(['+', '-']);
        return digits.get(..2).is_some_and(|head| head.eq_ignore_ascii_case("0x")).then_some(0);
    };
    let ms = (seconds * 1000.0).ceil();
    // Below 0 and beyond this the server refuses the command.
    (ms >= 0.0 && ms < i64::MAX as f64).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_outs_stand_first_or_last() {
        let timeout_of =
            |blocks, text: &str| timeout_ms(blocks, &text.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        let timeout = |text: &str| timeout_of(Blocks::TimeoutLast, text);
        assert_eq!(timeout("BLPOP a b 0.5"), Some(500));
        assert_eq!(timeout_of(Blocks::TimeoutFirst, "BLMPOP 2 1 a LEFT"), Some(2000));
        assert_eq!(timeout("BLPOP a 0"), None);
        assert_eq!(timeout("BLPOP a 0.00"), None);
        assert_eq!(timeout("BLPOP a 0.0001"), Some(1));
        for unread in ["0x0.1", "0x1p-4", "1e-400", "+0X1", "0x"] {
            assert_eq!(timeout(&format!("BLPOP a {unread}")), Some(0), "{unread}");
        }
        for refused in ["soon", "", "1s"] {
            assert_eq!(timeout(&format!("BLPOP a {refused}")), None, "{refused}");
        }
        assert_eq!(timeout("BLPOP a 1e300"), None);
        assert_eq!(timeout("BLPOP a nan"), None);
        assert_eq!(timeout("BLPOP a -1"), None);
        let of_reader = |text: &str| timeout_of(Blocks::WithOption, text);
        assert_eq!(of_reader("XREAD BLOCK 25 STREAMS s $"), Some(25));
        assert_eq!(of_reader("XREAD BLOCK 0 STREAMS s $"), None);
        assert_eq!(of_reader("XREAD STREAMS s $"), None);
    }
}
