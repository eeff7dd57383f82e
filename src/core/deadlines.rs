//! When blocked commands time out. The answer of such a command (nothing came) depends on its keys, as others do.

/// How long a blocking command waits, in milliseconds; `None` when it waits without a limit or its time-out is no
/// number.
pub fn timeout_ms(name: &str, args: &[&[u8]]) -> Option<i64> {
    let place = match name {
        // BLMPOP timeout numkeys...
        "blmpop" | "bzmpop" => args.get(1),
        // BLPOP key... timeout
        _ => args.last(),
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
        let timeout = |text: &str| {
            let args: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
            timeout_ms(&text.split(' ').next().expect("a name").to_lowercase(), &args)
        };
        assert_eq!(timeout("BLPOP a b 0.5"), Some(500));
        assert_eq!(timeout("BLMPOP 2 1 a LEFT"), Some(2000));
        assert_eq!(timeout("BLPOP a 0"), None);
        assert_eq!(timeout("BLPOP a soon"), None);
        assert_eq!(timeout("BLPOP a 1e300"), None);
        assert_eq!(timeout("BLPOP a nan"), None);
        assert_eq!(timeout("BLPOP a -1"), None);
    }
}
