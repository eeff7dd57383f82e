//! The protocol: building replies and reading them.

/// A reply, or an element of one (RESP2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resp {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    Null,
    NullArray,
    Array(Vec<Resp>),
    /// Keys and values, one after the other.
    Map(Vec<Resp>),
}

pub fn bulk(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("${}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

pub fn int(value: i64) -> Vec<u8> {
    format!(":{value}\r\n").into_bytes()
}

pub fn header(len: usize) -> Vec<u8> {
    format!("*{len}\r\n").into_bytes()
}

/// The head of a map, or of an array of pairs in RESP2.
pub fn map_header(len: usize, resp3: bool) -> Vec<u8> {
    if resp3 { format!("%{len}\r\n").into_bytes() } else { header(2 * len) }
}

pub fn set_header(len: usize, resp3: bool) -> Vec<u8> {
    if resp3 { format!("~{len}\r\n").into_bytes() } else { header(len) }
}

/// A null of RESP2 as the client gets it.
pub fn null_for(bytes: &[u8], resp3: bool) -> &[u8] {
    if resp3 && (bytes == NULL || bytes == NULL_ARRAY) { b"_\r\n" } else { bytes }
}

/// What tells a client that a key, or all keys, have changed.
pub fn invalidation(key: Option<&[u8]>) -> Vec<u8> {
    let mut out = b">2\r\n$10\r\ninvalidate\r\n".to_vec();
    match key {
        Some(key) => out.extend(array(&[key.to_vec()])),
        None => out.extend(b"_\r\n"),
    }
    out
}

pub fn error(text: &str) -> Vec<u8> {
    format!("-{text}\r\n").into_bytes()
}

pub fn array(items: &[Vec<u8>]) -> Vec<u8> {
    let mut out = header(items.len());
    items.iter().for_each(|item| out.extend(bulk(item)));
    out
}

pub const OK: &[u8] = b"+OK\r\n";
pub const QUEUED: &[u8] = b"+QUEUED\r\n";
pub const NULL: &[u8] = b"$-1\r\n";
pub const NULL_ARRAY: &[u8] = b"*-1\r\n";

impl Resp {
    /// Reads one value; returns how many bytes it took.
    pub fn parse(bytes: &[u8]) -> Option<(Resp, usize)> {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let line = bytes.get(1..end)?;
        let number = || std::str::from_utf8(line).ok()?.parse::<i64>().ok();
        let mut used = end + 2;
        let value = match bytes.first()? {
            b'+' => Resp::Simple(line.to_vec()),
            b'-' => Resp::Error(line.to_vec()),
            b':' => Resp::Int(number()?),
            b'_' => Resp::Null,
            b'$' => match usize::try_from(number()?) {
                Err(_) => Resp::Null,
                Ok(len) => {
                    let content = bytes.get(used..used + len)?.to_vec();
                    used += len + 2;
                    Resp::Bulk(content)
                }
            },
            kind @ (b'*' | b'~' | b'%' | b'>') => match usize::try_from(number()?) {
                Err(_) => Resp::NullArray,
                Ok(len) => {
                    let len = if *kind == b'%' { 2 * len } else { len };
                    let mut items = Vec::with_capacity(len);
                    for _ in 0..len {
                        let (item, more) = Resp::parse(bytes.get(used..)?)?;
                        items.push(item);
                        used += more;
                    }
                    if *kind == b'%' { Resp::Map(items) } else { Resp::Array(items) }
                }
            },
            _ => return None,
        };
        (used <= bytes.len()).then_some((value, used))
    }
}
