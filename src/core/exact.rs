//! Which commands of a primary have the same effect on the same dataset whenever they run. All that today's servers
//! send do; older ones send scripts, times that count from now, and commands with random results.

use crate::core::logged::spec_of;
use crate::core::table::{Pending, Quirk, Rule, TimeBase};

/// Whether a command may be logged as the primary has sent it.
pub fn is_exact(rule: Rule, args: &[&[u8]]) -> bool {
    match rule {
        Rule::Set => !counts_from_now(args, 3),
        Rule::GetEx => !counts_from_now(args, 2),
        Rule::SetFields | Rule::MultiSet => !counts_from_now(args, 1),
        Rule::FieldExpiry => {
            let is_relative = spec_of(args).is_some_and(|spec| spec.quirk == Quirk::CountsFromNow);
            !is_relative && !counts_from_now(args, 2)
        }
        Rule::Restore => {
            args.get(2) == Some(&&b"0"[..]) || args.iter().skip(4).any(|word| word.eq_ignore_ascii_case(b"ABSTTL"))
        }
        Rule::Stream => !takes_new_id(args) && !args.iter().skip(2).take(3).any(|word| **word == b"~"[..]),
        Rule::Expire(_, base) => base == TimeBase::Absolute,
        // A start that recovers a node of a cluster can't run all of these.
        Rule::DeletedKeys => false,
        // Before 9.1.1 it leaves the client that replays it in the other database.
        Rule::Copy => !args.iter().skip(3).any(|word| word.eq_ignore_ascii_case(b"DB")),
        Rule::SetWithExpiry(_) | Rule::RandomPop | Rule::Pop | Rule::BlockingMove => false,
        Rule::Pending(pending) => pending == Pending::Claim,
        _ => true,
    }
}

/// Whether an option from this argument on may set a time that counts from now.
fn counts_from_now(args: &[&[u8]], options: usize) -> bool {
    args.iter().skip(options).any(|word| word.eq_ignore_ascii_case(b"EX") || word.eq_ignore_ascii_case(b"PX"))
}

/// Of the commands of streams: whether it is the one that adds an entry.
fn adds_entry(args: &[&[u8]]) -> bool {
    spec_of(args).is_some_and(|spec| !spec.event.is_empty())
}

/// Whether an XADD leaves the id, or a part of it, to the server.
fn takes_new_id(args: &[&[u8]]) -> bool {
    if !adds_entry(args) {
        return false;
    }
    let mut rest = args.iter().skip(2).peekable();
    while let Some(word) = rest.next() {
        match word.to_ascii_uppercase().as_slice() {
            b"NOMKSTREAM" => {}
            b"MAXLEN" | b"MINID" => {
                rest.next_if(|how| matches!(**how, b"=" | b"~"));
                rest.next();
            }
            b"LIMIT" => {
                rest.next();
            }
            id => return id.contains(&b'*'),
        }
    }
    false
}

/// The arguments as a start runs them, where the server reads its primary's commands differently from others': from a
/// primary any trimming of a stream is exact, whatever it says.
pub fn as_any_client<'a>(rule: Rule, args: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    if rule != Rule::Stream {
        return None;
    }
    let is_xadd = adds_entry(args);
    let mut plain: Vec<&[u8]> = Vec::with_capacity(args.len());
    let mut rest = args.iter().copied().peekable();
    plain.extend(rest.by_ref().take(2));
    while let Some(word) = rest.next() {
        match word.to_ascii_uppercase().as_slice() {
            b"NOMKSTREAM" => plain.push(word),
            b"MAXLEN" | b"MINID" => {
                rest.next_if(|how| matches!(*how, b"=" | b"~"));
                plain.extend([word, b"="]);
                plain.extend(rest.next());
            }
            b"LIMIT" => {
                rest.next();
            }
            _ => {
                plain.push(word);
                if is_xadd {
                    break;
                }
            }
        }
    }
    plain.extend(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::table;

    fn of(text: &str) -> bool {
        let args: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
        let name = text.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        table::find(&name).is_some_and(|row| is_exact(row.rule, &args))
    }

    #[test]
    fn what_todays_servers_send_is_exact() {
        for text in [
            "SET k v",
            "SET k v PXAT 9999",
            "SET EX PX KEEPTTL",
            "PEXPIREAT k 9999",
            "XADD s MAXLEN = 5 LIMIT 0 1-1 f *",
            "XADD s NOMKSTREAM 1-1 f v",
            "XCLAIM s g c 0 1-1 TIME 5 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1",
            "RESTORE k 99999 x REPLACE ABSTTL",
            "RESTORE k 0 x",
            "HPEXPIREAT h 9999 FIELDS 1 f",
            "SREM s m",
            "XACK s g 1-1",
            "FLUSHALL",
            "SWAPDB 0 1",
            "COPY a b REPLACE",
            "MOVE a 1",
        ] {
            assert!(of(text), "{text}");
        }
    }

    #[test]
    fn what_depends_on_the_time_or_on_chance_is_not() {
        for text in [
            "SET k v EX 5",
            "SET k v px 5",
            "GETEX k EX 5",
            "SETEX k 5 v",
            "EXPIRE k 5",
            "PEXPIRE k 5",
            "XADD s * f v",
            "XADD s MAXLEN ~ 5 5-* f v",
            "XTRIM s MAXLEN ~ 5",
            "RESTORE k 99999 x",
            "SPOP s",
            "HEXPIRE h 5 FIELDS 1 f",
            "HSETEX h PX 5 FIELDS 1 f v",
            "BLPOP l 0",
            "XAUTOCLAIM s g c 0 0",
            "COPY a b DB 1",
        ] {
            assert!(!of(text), "{text}");
        }
    }

    #[test]
    fn streams_are_trimmed_exactly() {
        let plain = |text: &str| {
            let args: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
            let plain = as_any_client(Rule::Stream, &args).expect("a stream's");
            plain.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ")
        };
        for (sent, logged) in [
            ("XADD s MINID = 5 LIMIT 0 1-1 LIMIT ~", "XADD s MINID = 5 1-1 LIMIT ~"),
            ("XADD s NOMKSTREAM MAXLEN ~ 5 1-1 MAXLEN 7", "XADD s NOMKSTREAM MAXLEN = 5 1-1 MAXLEN 7"),
            ("XADD s 1-1 f v", "XADD s 1-1 f v"),
            ("XTRIM s MAXLEN = 5 LIMIT 0", "XTRIM s MAXLEN = 5"),
            ("XTRIM s MINID 5", "XTRIM s MINID = 5"),
        ] {
            assert_eq!(plain(sent), logged);
        }
        assert_eq!(as_any_client(Rule::Verbatim, &[b"LPUSH", b"l", b"LIMIT"]), None);
    }
}
