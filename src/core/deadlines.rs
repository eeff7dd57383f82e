//! When blocked commands time out. The answer of such a command (nothing came) depends on its keys, as others do.

use crate::core::stream_reads::StreamRead;
use crate::core::table::Blocks;

/// How long a blocking command waits, in milliseconds; `None` when it waits without a limit or its time-out is no
/// number.
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
    let seconds: f64 = std::str::from_utf8(place?).ok()?.parse().ok()?;
    let ms = (seconds * 1000.0).ceil();
    // Beyond this the server refuses the command.
    (ms >= 1.0 && ms < i64::MAX as f64).then_some(ms as i64)
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
        assert_eq!(timeout("BLPOP a soon"), None);
        assert_eq!(timeout("BLPOP a 1e300"), None);
        assert_eq!(timeout("BLPOP a nan"), None);
        assert_eq!(timeout("BLPOP a -1"), None);
        let of_reader = |text: &str| timeout_of(Blocks::WithOption, text);
        assert_eq!(of_reader("XREAD BLOCK 25 STREAMS s $"), Some(25));
        assert_eq!(of_reader("XREAD BLOCK 0 STREAMS s $"), None);
        assert_eq!(of_reader("XREAD STREAMS s $"), None);
    }
}
