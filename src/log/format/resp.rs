//! RESP commands, as a payload holds them: `*<count>\r\n` and per argument `$<bytes>\r\n<argument>\r\n`.

use super::FormatError;

/// The shortest argument: `$0\r\n\r\n`.
const ARGUMENT_BYTES_MIN: usize = 6;

/// Appends a whole command to `out`.
pub fn push_command(out: &mut Vec<u8>, args: &[&[u8]]) {
    push_args(out, args.len(), args.iter().map(|arg| arg.len()).sum(), args.iter().copied());
}

/// The same for a command with `argc` arguments, its name included, which have `bytes` bytes.
pub fn push_args<'a>(out: &mut Vec<u8>, argc: usize, bytes: usize, args: impl Iterator<Item = &'a [u8]>) {
    assert!(argc > 0, "a command has at least its name");
    // With their lengths, line ends and signs.
    out.reserve(bytes + 24 * (argc + 1));
    push_count(out, b'*', argc);
    for arg in args {
        push_count(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn push_count(out: &mut Vec<u8>, kind: u8, count: usize) {
    // Most counts are short.
    let digit = |value: usize| b'0' + (value % 10) as u8;
    match count {
        0..10 => return out.extend_from_slice(&[kind, digit(count), b'\r', b'\n']),
        10..100 => return out.extend_from_slice(&[kind, digit(count / 10), digit(count), b'\r', b'\n']),
        _ => {}
    }
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    let mut rest = count;
    loop {
        start -= 1;
        digits[start] = digit(rest);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[start..]);
    out.extend_from_slice(b"\r\n");
}

/// One command, its arguments borrowed from the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The arguments, the name first; never empty.
    pub args: Vec<&'a [u8]>,
}

/// The commands of a payload, in order.
///
/// As an iterator it allocates per command and ends after the first error; [`Commands::next_into`] reuses the
/// caller's vector.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Commands<'a> {
    /// The commands of `payload`.
    pub fn new(payload: &'a [u8]) -> Commands<'a> {
        Commands { rest: payload, length: payload.len() }
    }

    /// Bytes of the payload before the next command.
    pub fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    /// Replaces `args` with the arguments of the next command; `false` at the end of the payload.
    ///
    /// After an error `args` holds nothing useful and the position is unchanged.
    pub fn next_into(&mut self, args: &mut Vec<&'a [u8]>) -> Result<bool, FormatError> {
        args.clear();
        if self.rest.is_empty() {
            return Ok(false);
        }
        let mut rest = self.rest;
        let argc = take_count(&mut rest, b'*')?;
        // Bounds the allocation by the bytes present.
        if argc == 0 || argc > rest.len() / ARGUMENT_BYTES_MIN {
            return Err(FormatError::Command("the count of arguments is out of range"));
        }
        args.reserve(argc);
        for _ in 0..argc {
            let length = take_count(&mut rest, b'$')?;
            let cut = FormatError::Command("an argument is cut short");
            let (arg, behind) = rest.split_at_checked(length).ok_or(cut)?;
            rest = behind.strip_prefix(b"\r\n").ok_or(cut)?;
            args.push(arg);
        }
        self.rest = rest;
        Ok(true)
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<Command<'a>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut args = Vec::new();
        match self.next_into(&mut args) {
            Ok(true) => Some(Ok(Command { args })),
            Ok(false) => None,
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

fn take_count(rest: &mut &[u8], kind: u8) -> Result<usize, FormatError> {
    const WRONG: FormatError = FormatError::Command("a count is no number");
    let (first, behind) = rest.split_first().ok_or(FormatError::Command("a command is cut short"))?;
    if *first != kind {
        return Err(FormatError::Command("a command has the wrong shape"));
    }
    let mut count = 0usize;
    for (index, byte) in behind.iter().enumerate() {
        if byte.is_ascii_digit() {
            let digit = usize::from(byte - b'0');
            count = count.checked_mul(10).and_then(|value| value.checked_add(digit)).ok_or(WRONG)?;
        } else if index > 0 && *byte == b'\r' {
            *rest = behind.get(index..).and_then(|tail| tail.strip_prefix(b"\r\n")).ok_or(WRONG)?;
            return Ok(count);
        } else {
            return Err(WRONG);
        }
    }
    Err(FormatError::Command("a command is cut short"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_command_is_encoded_as_clients_send_it() {
        let mut out = Vec::new();
        push_command(&mut out, &[b"SET", b"key", b""]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n");
        out.clear();
        push_command(&mut out, &[&[b'x'; 105]]);
        assert!(out.starts_with(b"*1\r\n$105\r\nxxx"));
    }

    #[test]
    fn commands_come_back_without_an_allocation_each() {
        let mut payload = Vec::new();
        push_command(&mut payload, &[b"SET", b"a\r\nb", b"\0\xff"]);
        push_command(&mut payload, &[b"PING"]);
        let mut commands = Commands::new(&payload);
        let mut args = Vec::new();
        assert_eq!(commands.next_into(&mut args), Ok(true));
        assert_eq!(args, [&b"SET"[..], b"a\r\nb", b"\0\xff"]);
        assert_eq!(commands.next_into(&mut args), Ok(true));
        assert_eq!(args, [&b"PING"[..]]);
        assert_eq!(commands.offset(), payload.len());
        assert_eq!(commands.next_into(&mut args), Ok(false));
        assert_eq!(Commands::new(&payload).map(|command| command.unwrap().args.len()).sum::<usize>(), 4);
    }

    #[test]
    fn every_cut_of_a_command_is_an_error() {
        let mut payload = Vec::new();
        push_command(&mut payload, &[b"SET", b"key", b"0123456789a"]);
        for end in 1..payload.len() {
            let found: Vec<_> = Commands::new(&payload[..end]).collect();
            assert!(matches!(found[..], [Err(FormatError::Command(_))]), "cut at {end}");
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        for payload in [
            "*0\r\n",
            "*-1\r\n$1\r\na\r\n",
            "PING\r\n",
            "*99999999999999999999999\r\n",
            "*1000000\r\n$1\r\na\r\n",
            "*1\r\n:1\r\naaaaaaa",
            "*1\r\n$1\r\naa\r\n",
            "*1\r\n$18446744073709551615\r\na\r\n",
            "*\r\n$1\r\na\r\n",
        ] {
            assert!(Commands::new(payload.as_bytes()).next().unwrap().is_err(), "{payload}");
        }
    }
}
