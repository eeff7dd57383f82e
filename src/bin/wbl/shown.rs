//! Commands in a form for people and programs.

use serde_json::{Value, json};
use valkey_wbl::core::logged::{self, Databases};

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Redaction {
    /// All arguments but keys.
    Values,
    /// All arguments.
    All,
}

/// Which arguments of a command are shown.
pub struct Shown<'c> {
    pub args: &'c [&'c [u8]],
    pub redaction: Option<Redaction>,
}

impl Shown<'_> {
    /// The arguments; for those that are left out, how many bytes they have.
    fn parts(&self) -> Vec<Result<&[u8], usize>> {
        let all_shown = || self.args.iter().map(|arg| Ok(*arg)).collect();
        let Some(redaction) = self.redaction else { return all_shown() };
        // The numbers of databases are not data.
        if logged::databases(self.args) != Databases::Untouched {
            return all_shown();
        }
        let keys = logged::keys(self.args);
        let has_subcommand = keys.first() == Some(&2);
        let is_shown = |index: usize| match redaction {
            _ if index == 0 => true,
            Redaction::Values => keys.contains(&index) || index == 1 && has_subcommand,
            Redaction::All => false,
        };
        let all = self.args.iter().enumerate();
        all.map(|(index, arg)| if is_shown(index) { Ok(*arg) } else { Err(arg.len()) }).collect()
    }

    /// In one line, as valkey-cli takes it.
    pub fn line(&self) -> String {
        let mut line = String::new();
        for part in self.parts() {
            if !line.is_empty() {
                line.push(' ');
            }
            match part {
                Ok(arg) => push_word(&mut line, arg),
                Err(bytes) => line += &format!("<{bytes} bytes>"),
            }
        }
        line
    }

    /// For JSON: texts, and objects for what is none.
    pub fn json(&self) -> Value {
        let parts = self.parts().into_iter();
        parts.map(|part| part.map_or_else(|bytes| json!({ "bytes": bytes }), bytes_json)).collect()
    }
}

/// Bytes for JSON: a text, or `{"hex": "..."}`.
pub fn bytes_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

/// A word as it is, or in quotes where it would not be a single word.
pub fn word(bytes: &[u8]) -> String {
    let mut text = String::new();
    push_word(&mut text, bytes);
    text
}

fn push_word(line: &mut String, bytes: &[u8]) {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b'<');
    if !bytes.is_empty() && bytes.iter().copied().all(is_plain) {
        line.push_str(&String::from_utf8_lossy(bytes));
        return;
    }
    line.push('"');
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().for_each(|letter| push_letter(line, letter)),
        Err(_) => bytes.iter().for_each(|byte| match byte {
            0..0x80 => push_letter(line, char::from(*byte)),
            _ => *line += &format!("\\x{byte:02x}"),
        }),
    }
    line.push('"');
}

fn push_letter(line: &mut String, letter: char) {
    match letter {
        '"' | '\\' => line.extend(['\\', letter]),
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\t' => line.push_str("\\t"),
        _ if letter.is_ascii_control() => *line += &format!("\\x{:02x}", u32::from(letter)),
        _ => line.push(letter),
    }
}

/// A number of bytes, short.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    let mut unit = None;
    let mut shown = bytes as f64;
    for name in UNITS {
        if shown < 1000.0 {
            break;
        }
        (shown, unit) = (shown / 1000.0, Some(name));
    }
    unit.map_or_else(|| format!("{bytes} bytes"), |unit| format!("{shown:.1} {unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &[&[u8]], redaction: Option<Redaction>) -> String {
        Shown { args, redaction }.line()
    }

    #[test]
    fn a_line_is_what_a_client_would_type() {
        assert_eq!(line(&[b"SET", b"k:1", b"a b"], None), "SET k:1 \"a b\"");
        assert_eq!(line(&[b"SET", b"", b"\xff\x01\"\n"], None), "SET \"\" \"\\xff\\x01\\\"\\n\"");
        assert_eq!(line(&[b"SET", "\u{e9}".as_bytes(), b"1"], None), "SET \"\u{e9}\" 1");
    }

    #[test]
    fn what_is_no_key_can_be_left_out() {
        let values = Some(Redaction::Values);
        assert_eq!(line(&[b"SET", b"k", b"secret"], values), "SET k <6 bytes>");
        assert_eq!(line(&[b"XGROUP", b"CREATE", b"s", b"g", b"0"], values), "XGROUP CREATE s <1 bytes> <1 bytes>");
        assert_eq!(line(&[b"SET", b"k", b"secret"], Some(Redaction::All)), "SET <1 bytes> <6 bytes>");
        let shown = Shown { args: &[b"SET", b"\xff", b"secret"], redaction: values };
        assert_eq!(shown.json().to_string(), r#"["SET",{"hex":"ff"},{"bytes":6}]"#);
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!([size(7), size(1000), size(2_340_000)], ["7 bytes", "1.0 KB", "2.3 MB"]);
    }
}
