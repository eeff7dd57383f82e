//! What a client has sent, as far as it is known before its commands run.
//!
//! The module looks at a client's socket before the server reads it, and keeps what it has seen from the last command
//! on. Positions count the bytes that the client has sent since it connected, as the server counts those that it has
//! read. So it is known which commands the server has in its buffer and will run one after the other. Where the two may
//! differ by a byte, nothing is known until the server says that its buffer is empty.

use std::ops::Range;

/// No more is kept of one client: what comes after that is unknown.
const BYTES_MAX: usize = 256 * 1024;

/// No number in a command's frame has more digits.
const DIGITS_MAX: usize = 9;

/// What a client has sent and has not run.
#[derive(Debug, Default)]
pub struct Input {
    /// The position of the first byte; `None` where unknown.
    at: Option<u64>,
    bytes: Vec<u8>,
    /// Where the command that came last begins, and the one after it.
    last: usize,
    next: usize,
}

/// A whole command, as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent<'a> {
    /// Its name and arguments.
    pub args: Vec<&'a [u8]>,
    /// The position of its end.
    pub end: u64,
}

/// What bytes begin with.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// A command with these arguments, which ends there.
    Command(Vec<Range<usize>>, usize),
    /// A part of one.
    Part,
    /// Something else, which the server may take or refuse.
    Other,
}

impl Input {
    /// What comes is unknown.
    pub fn forget(&mut self) {
        *self = Input { bytes: std::mem::take(&mut self.bytes), ..Input::default() };
        self.bytes.clear();
    }

    /// Whether it is known what comes.
    pub fn is_known(&self) -> bool {
        self.at.is_some()
    }

    /// Whatever has come so far has run: what comes next begins at this position.
    pub fn begin(&mut self, at: u64) {
        self.forget();
        self.at = Some(at);
    }

    /// The client's socket begins with these bytes, at this position.
    pub fn saw(&mut self, at: u64, bytes: &[u8]) {
        let Some(begin) = self.at else { return };
        let end = begin + self.bytes.len() as u64;
        if at < begin || at > end {
            // The server has read what had not come when it was looked for.
            return self.forget();
        }
        let known = usize::try_from(end - at).unwrap_or(usize::MAX);
        let new = bytes.get(known..).unwrap_or_default();
        if self.last > 0 {
            self.drop_run();
        }
        let room = BYTES_MAX.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(new.get(..room).unwrap_or(new));
    }

    fn drop_run(&mut self) {
        self.bytes.drain(..self.last);
        self.at = self.at.map(|at| at + self.last as u64);
        self.next -= self.last;
        self.last = 0;
    }

    /// A command of the client's comes. Returns whether it is the one that was to come; otherwise nothing is known from
    /// here on.
    pub fn take<'a>(&mut self, args: impl ExactSizeIterator<Item = &'a [u8]>) -> bool {
        if self.at.is_none() {
            return false;
        }
        let rest = self.bytes.get(self.next..).unwrap_or_default();
        match parse(rest) {
            Parsed::Command(ranges, len)
                if ranges.len() == args.len()
                    && ranges.iter().zip(args).all(|(range, arg)| rest.get(range.clone()) == Some(arg)) =>
            {
                (self.last, self.next) = (self.next, self.next + len);
                true
            }
            _ => {
                self.forget();
                false
            }
        }
    }

    /// Whether everything seen has come as a command.
    pub fn has_run_all(&self) -> bool {
        self.next == self.bytes.len()
    }

    /// Where the last command begins.
    pub fn last(&self) -> Option<u64> {
        self.at.map(|at| at + self.last as u64)
    }

    /// The position after the last command.
    pub fn position(&self) -> Option<u64> {
        self.at.map(|at| at + self.next as u64)
    }

    /// The whole commands up to a position, from the last one on. Ends before anything else.
    pub fn commands(&self, until: u64) -> impl Iterator<Item = Sent<'_>> {
        let begin = self.at.unwrap_or(u64::MAX);
        let end = usize::try_from(until.saturating_sub(begin)).unwrap_or(usize::MAX).min(self.bytes.len());
        let mut place = self.last;
        std::iter::from_fn(move || {
            let rest = self.bytes.get(place..end)?;
            let Parsed::Command(ranges, len) = parse(rest) else { return None };
            place += len;
            let args = ranges.into_iter().filter_map(|range| rest.get(range)).collect();
            Some(Sent { args, end: begin + place as u64 })
        })
    }
}

/// What the bytes begin with, as the server reads them.
fn parse(bytes: &[u8]) -> Parsed {
    let (count, mut place) = match number(bytes, b'*') {
        Ok(Some((count @ 1.., place))) => (count, place),
        Ok(None) => return Parsed::Part,
        Ok(_) | Err(()) => return Parsed::Other,
    };
    let mut args = Vec::new();
    for _ in 0..count {
        let (len, begin) = match number(bytes.get(place..).unwrap_or_default(), b'$') {
            Ok(Some((len, header))) => (len, place + header),
            Ok(None) => return Parsed::Part,
            Err(()) => return Parsed::Other,
        };
        let end = begin + len;
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => args.push(begin..end),
            Some(_) => return Parsed::Other,
            None => return Parsed::Part,
        }
        place = end + 2;
    }
    Parsed::Command(args, place)
}

/// A line with a mark and a number: the number, and how long the line is. `None` where it has not come as a whole.
fn number(bytes: &[u8], mark: u8) -> Result<Option<(usize, usize)>, ()> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    if *first != mark {
        return Err(());
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (text, end) = rest.split_at(digits);
    if digits > DIGITS_MAX || digits > 1 && text.first() == Some(&b'0') {
        return Err(());
    }
    match end {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] if digits > 0 => {
            let value = text.iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0'));
            Ok(Some((value, digits + 3)))
        }
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n";
    const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

    fn args(words: &[&'static str]) -> impl ExactSizeIterator<Item = &'static [u8]> {
        words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>().into_iter()
    }

    fn sent(input: &Input, until: u64) -> Vec<Vec<u8>> {
        input.commands(until).map(|sent| sent.args.join(&b' ')).collect()
    }

    #[test]
    fn commands_are_read_as_the_server_reads_them() {
        assert_eq!(parse(SET), Parsed::Command(vec![8..11, 17..18, 24..24], SET.len()));
        assert!((0..SET.len()).all(|len| parse(&SET[..len]) == Parsed::Part), "a part is never a whole");
        for other in [
            &b"PING\r\n"[..],
            b"\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*01\r\n$4\r\nPING\r\n",
            b"*1\r\n$4\r\nPINGxx",
            b"*1\r\n:4\r\n",
            b"*1\n$4\r\nPING\r\n",
            b"*\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$99999999999\r\n",
        ] {
            assert_eq!(parse(other), Parsed::Other, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        let mut state = 1_u64;
        for len in 0..2000 {
            let bytes: Vec<u8> = (0..len % 40)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    b"*$123\r\nA"[usize::try_from(state >> 60).unwrap_or(0) % 8]
                })
                .collect();
            if let Parsed::Command(ranges, end) = parse(&bytes) {
                assert!(end <= bytes.len() && ranges.iter().all(|range| range.end + 2 <= end));
            }
        }
    }

    #[test]
    fn what_is_seen_of_a_socket_becomes_commands() {
        let mut input = Input::default();
        input.saw(0, PING);
        assert!(!input.is_known() && !input.take(args(&["PING"])));
        input.begin(100);
        input.saw(100, PING);
        let all = [PING, SET, SET].concat();
        // The server has read the first one, and more has come.
        input.saw(100, &all);
        let until = |bytes: &[&[u8]]| 100 + bytes.concat().len() as u64;
        assert_eq!(sent(&input, until(&[PING, SET])), [b"PING".to_vec(), b"SET k ".to_vec()]);
        assert_eq!(sent(&input, until(&[PING, SET]) - 1), [b"PING"], "what has not come as a whole is none");
        assert!(input.take(args(&["PING"])));
        assert_eq!(sent(&input, u64::MAX).len(), 3, "the one that came last is the first");
        assert!(input.take(args(&["SET", "k", ""])));
        assert_eq!(input.position(), Some(until(&[PING, SET])));
        input.saw(until(&[PING, SET]), &[SET, PING].concat());
        assert_eq!(sent(&input, u64::MAX).len(), 3);
        assert!(input.take(args(&["SET", "k", ""])) && input.take(args(&["PING"])));
        assert!(!input.take(args(&["PING"])) && !input.is_known(), "it had not been seen");
    }

    #[test]
    fn what_the_server_has_read_unseen_makes_all_unknown() {
        let mut input = Input::default();
        input.begin(10);
        input.saw(10, PING);
        input.saw(10 + PING.len() as u64 + 1, PING);
        assert!(!input.is_known());
        input.begin(10);
        input.saw(10, PING);
        assert!(!input.take(args(&["PONG"])) && !input.is_known());
        input.begin(10);
        input.saw(9, PING);
        assert!(!input.is_known());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut input = Input::default();
        input.begin(0);
        input.saw(0, &vec![b'*'; 2 * BYTES_MAX]);
        assert_eq!(input.bytes.len(), BYTES_MAX);
        input.saw(BYTES_MAX as u64 + 1, PING);
        assert!(!input.is_known());
    }
}
