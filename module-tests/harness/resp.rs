//! The server's protocol, versions 2 and 3.

use std::fmt;

/// One reply.
#[derive(Clone, PartialEq)]
pub enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    /// The null of either version.
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Double(String),
    Boolean(bool),
    BigNumber(String),
    Verbatim(Vec<u8>),
}

impl Value {
    pub fn integer(&self) -> i64 {
        match self {
            Value::Integer(number) => *number,
            other => panic!("not an integer: {other:?}"),
        }
    }

    pub fn text(&self) -> String {
        match self {
            Value::Simple(text) | Value::Double(text) | Value::BigNumber(text) => text.clone(),
            Value::Bulk(bytes) | Value::Verbatim(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Integer(number) => number.to_string(),
            other => panic!("not a text: {other:?}"),
        }
    }

    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    /// The same structure with all content left out, to compare replies that are random or tell the time.
    pub fn shape(&self) -> String {
        let all = |items: &[Value]| items.iter().map(Value::shape).collect::<Vec<_>>().join(",");
        match self {
            Value::Simple(_) => "simple".into(),
            Value::Error(text) => format!("error {}", text.split(' ').next().unwrap_or_default()),
            Value::Integer(_) => "integer".into(),
            Value::Bulk(_) => "bulk".into(),
            Value::Null => "null".into(),
            Value::Array(items) => format!("array({})", all(items)),
            Value::Set(items) => format!("set({})", all(items)),
            Value::Push(items) => format!("push({})", all(items)),
            Value::Map(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| format!("{}:{}", key.shape(), value.shape()));
                format!("map({})", pairs.collect::<Vec<_>>().join(","))
            }
            Value::Double(_) => "double".into(),
            Value::Boolean(_) => "boolean".into(),
            Value::BigNumber(_) => "big".into(),
            Value::Verbatim(_) => "verbatim".into(),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Simple(text) => write!(f, "+{text}"),
            Value::Error(text) => write!(f, "-{text}"),
            Value::Integer(number) => write!(f, ":{number}"),
            Value::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Value::Null => write!(f, "null"),
            Value::Array(items) => f.debug_list().entries(items).finish(),
            Value::Set(items) => f.debug_set().entries(items).finish(),
            Value::Push(items) => write!(f, ">{items:?}"),
            Value::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish(),
            Value::Double(text) => write!(f, ",{text}"),
            Value::Boolean(value) => write!(f, "#{value}"),
            Value::BigNumber(text) => write!(f, "({text}"),
            Value::Verbatim(bytes) => write!(f, "={}", bytes.escape_ascii()),
        }
    }
}

/// A command as a client sends it.
pub fn encode<A: AsRef<[u8]>>(words: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The reply at the front of `bytes` and its length, or `None` when more bytes are needed.
pub fn decode(bytes: &[u8]) -> Option<(Value, usize)> {
    let line_end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    // Errors quote what the client sent, whatever that was.
    let line = String::from_utf8_lossy(&bytes[1..line_end]);
    let body = line_end + 2;
    let number = || -> i64 { line.parse().unwrap_or_else(|_| panic!("a number: {line:?}")) };
    let whole = |value| Some((value, body));
    match bytes[0] {
        b'+' => whole(Value::Simple(line.into_owned())),
        b'-' => whole(Value::Error(line.into_owned())),
        b':' => whole(Value::Integer(number())),
        b',' => whole(Value::Double(line.into_owned())),
        b'(' => whole(Value::BigNumber(line.into_owned())),
        b'#' => whole(Value::Boolean(line == "t")),
        b'_' => whole(Value::Null),
        b'$' | b'=' | b'*' | b'%' | b'~' | b'>' if number() < 0 => whole(Value::Null),
        b'$' | b'=' => {
            let end = body + number() as usize;
            let content = bytes.get(body..end)?.to_vec();
            assert_eq!(bytes.get(end..end + 2)?, b"\r\n", "the end of a bulk string");
            let value = if bytes[0] == b'$' { Value::Bulk(content) } else { Value::Verbatim(content) };
            Some((value, end + 2))
        }
        b'%' => {
            let (items, end) = decode_items(bytes, body, 2 * number())?;
            let pairs = items.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
            Some((Value::Map(pairs.collect()), end))
        }
        kind @ (b'*' | b'~' | b'>') => {
            let (items, end) = decode_items(bytes, body, number())?;
            let value = match kind {
                b'*' => Value::Array(items),
                b'~' => Value::Set(items),
                _ => Value::Push(items),
            };
            Some((value, end))
        }
        other => panic!("no reply begins with byte {other}"),
    }
}

fn decode_items(bytes: &[u8], start: usize, count: i64) -> Option<(Vec<Value>, usize)> {
    let mut items = Vec::new();
    let mut end = start;
    for _ in 0..count {
        let (value, length) = decode(&bytes[end..])?;
        items.push(value);
        end += length;
    }
    Some((items, end))
}
