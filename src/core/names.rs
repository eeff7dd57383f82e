//! The names that a configuration gives to the server's commands (`rename-command`), and where it says so.
//!
//! The module and the log use the commands' own names. The border to the server (`ffi`) translates.

use std::collections::{HashMap, HashSet};

/// The changed names, all in lower case.
#[derive(Debug, Default)]
pub struct Names {
    /// What the server calls a command, and the command's own name.
    own: HashMap<Vec<u8>, Vec<u8>>,
    /// The same the other way round.
    present: HashMap<Vec<u8>, Vec<u8>>,
    /// Own names that no longer mean their command: it has another name, or none.
    gone: HashSet<Vec<u8>>,
}

impl Names {
    /// The server knows a command by a name that is not its own.
    pub fn renamed(&mut self, own: &[u8], present: &[u8]) {
        let (own, present) = (own.to_ascii_lowercase(), present.to_ascii_lowercase());
        // The command that had the name before has another one, too, or none.
        self.gone.extend([own.clone(), present.clone()]);
        self.own.insert(present.clone(), own.clone());
        self.present.insert(own, present);
    }

    /// Whether every command has its own name.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// Whether the server has the command under a name that is known.
    pub fn has_other(&self, own: &[u8]) -> bool {
        self.present.contains_key(&own.to_ascii_lowercase())
    }

    /// The own name of the command that the server knows by this name; `None` when it knows none. A name that was not
    /// changed is returned as it is.
    pub fn own<'a>(&'a self, name: &'a [u8]) -> Option<&'a [u8]> {
        self.translated(&self.own, name)
    }

    /// The name by which the server knows a command.
    pub fn present<'a>(&'a self, own: &'a [u8]) -> Option<&'a [u8]> {
        self.translated(&self.present, own)
    }

    fn translated<'a>(&'a self, names: &'a HashMap<Vec<u8>, Vec<u8>>, name: &'a [u8]) -> Option<&'a [u8]> {
        let lower = name.to_ascii_lowercase();
        match names.get(&lower) {
            Some(other) => Some(other),
            None if self.gone.contains(&lower) => None,
            None => Some(name),
        }
    }
}

/// What a line of a configuration says of names.
#[derive(Debug, PartialEq, Eq)]
pub enum Directive {
    /// A command gets another name.
    Rename {
        /// The name that it had.
        from: Vec<u8>,
        /// The name that it gets.
        to: Vec<u8>,
    },
    /// These files hold more lines.
    Include(Vec<u8>),
}

impl Directive {
    /// Reads a directive's words; `None` for others.
    pub fn of(words: &[Vec<u8>]) -> Option<Directive> {
        match words {
            [name, from, to] if name.eq_ignore_ascii_case(b"rename-command") && !to.is_empty() => {
                Some(Directive::Rename { from: from.clone(), to: to.clone() })
            }
            [name, path] if name.eq_ignore_ascii_case(b"include") => Some(Directive::Include(path.clone())),
            _ => None,
        }
    }
}

/// The directives of a configuration file.
pub fn directives(text: &[u8]) -> impl Iterator<Item = Directive> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().starts_with(b"#")).filter_map(|line| {
        let words = words(line)?;
        Directive::of(&words)
    })
}

/// The directives of a program's arguments: `--NAME VALUE...`, after the configuration file's name.
pub fn directives_of_arguments(arguments: impl Iterator<Item = Vec<u8>>) -> Vec<Directive> {
    let mut all: Vec<Vec<Vec<u8>>> = Vec::new();
    for argument in arguments {
        match (argument.strip_prefix(b"--"), all.last_mut()) {
            // A name may share one argument with its values.
            (Some(rest), _) => all.push(words(rest).unwrap_or_default()),
            (None, Some(words)) => words.push(argument),
            (None, None) => {}
        }
    }
    all.iter().filter_map(|words| Directive::of(words)).collect()
}

/// The words of a line, which may be quoted; `None` for quotes that are not closed.
pub fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while let Some(first) = rest.first() {
        let word = match first {
            b'"' | b'\'' => quoted(&mut rest)?,
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                rest = behind;
                word.to_vec()
            }
        };
        words.push(word);
        rest = rest.trim_ascii_start();
    }
    Some(words)
}

/// Takes off a quoted word.
fn quoted(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (quote, mut bytes) = rest.split_first()?;
    let mut word = Vec::new();
    loop {
        let (byte, behind) = bytes.split_first()?;
        bytes = behind;
        match byte {
            byte if byte == quote => break,
            b'\\' if *quote == b'"' => word.push(escaped(&mut bytes)?),
            b'\\' if bytes.first() == Some(quote) => {
                word.push(*quote);
                bytes = bytes.get(1..)?;
            }
            byte => word.push(*byte),
        }
    }
    *rest = bytes;
    // The end of a quoted word must be the end of the word.
    bytes.first().is_none_or(u8::is_ascii_whitespace).then_some(word)
}

/// Takes off what follows a backslash.
fn escaped(bytes: &mut &[u8]) -> Option<u8> {
    let (byte, behind) = bytes.split_first()?;
    *bytes = behind;
    Some(match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        b'x' => {
            let digits = std::str::from_utf8(behind.get(..2)?).ok()?;
            *bytes = behind.get(2..)?;
            u8::from_str_radix(digits, 16).ok()?
        }
        byte => *byte,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rename(from: &str, to: &str) -> Directive {
        Directive::Rename { from: from.into(), to: to.into() }
    }

    #[test]
    fn names_are_translated_both_ways_in_any_case() {
        let mut names = Names::default();
        assert!(names.is_empty());
        names.renamed(b"del", b"Remove-It");
        assert_eq!(names.own(b"REMOVE-IT"), Some(&b"del"[..]));
        assert_eq!(names.present(b"Del"), Some(&b"remove-it"[..]));
        assert_eq!(names.own(b"del"), None, "no command of the server's");
        assert_eq!(names.own(b"Get"), Some(&b"Get"[..]));
        assert_eq!(names.present(b"Get"), Some(&b"Get"[..]));
        assert!(names.has_other(b"DEL") && !names.has_other(b"get"));
    }

    #[test]
    fn a_name_may_be_that_of_another_command() {
        let mut names = Names::default();
        names.renamed(b"set", b"get");
        assert_eq!(names.own(b"get"), Some(&b"set"[..]));
        assert_eq!((names.own(b"set"), names.present(b"get")), (None, None), "GET is disabled");
        names.renamed(b"get", b"set");
        assert_eq!(names.own(b"set"), Some(&b"get"[..]));
        assert_eq!(names.present(b"get"), Some(&b"set"[..]));
    }

    #[test]
    fn directives_are_found_in_a_configuration() {
        let text = b"port 1\n# rename-command A B\n rename-command DEL 'it''s'\nrename-command DEL del2\r\n\
            RENAME-COMMAND \"get\" \"\\x41\\n\\\"\"\nrename-command KEYS \"\"\ninclude /etc/*.conf\nrename-command x \"y";
        let found: Vec<_> = directives(text).collect();
        assert_eq!(found, [rename("DEL", "del2"), rename("get", "A\n\""), Directive::Include(b"/etc/*.conf".to_vec())]);
    }

    #[test]
    fn directives_are_found_among_arguments() {
        let arguments = ["file.conf", "--port", "0", "--rename-command", "DEL", "", "--rename-command", "GET", "a b"];
        let more = ["--rename-command KEYS k2", "--include", "x"];
        let all = arguments.iter().chain(&more).map(|argument| argument.as_bytes().to_vec());
        let expected = [rename("GET", "a b"), rename("KEYS", "k2"), Directive::Include(b"x".to_vec())];
        assert_eq!(directives_of_arguments(all), expected);
    }

    #[test]
    fn single_quotes_know_one_escape() {
        assert_eq!(words(b"a 'b\\'c\\n' \"\""), Some(vec![b"a".to_vec(), b"b'c\\n".to_vec(), Vec::new()]));
        assert_eq!(words(b"'a'b"), None);
        assert_eq!(words(b"\"\\x4"), None);
    }
}
