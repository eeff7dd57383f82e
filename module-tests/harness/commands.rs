//! Every command of the servers, the writes with arguments that really change data.

use super::raw::RawConnection;
use super::resp::Value;
use std::collections::BTreeMap;

/// The writes: `command | set-up; set-up | call | notes`
///
/// - A `+` before the command: `COMMAND` does not mark it as a write, but it may change data.
/// - `@name=command` in a set-up keeps the reply, which `@name` stands for later on.
/// - Notes: `since 9.1`; `random`, when only the shape of the reply can be compared; `not here: reason` (last).
const WRITES: &str = include_str!("commands.txt");

/// All others, with the [`Reads`] as the first note.
const READS: &str = include_str!("reads.txt");

/// Writes that change nothing, in the same form.
const NOOPS: &str = include_str!("noops.txt");

/// What the reply of a command that changes nothing reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The keys of its arguments and all others that the set-up made.
    Keys,
    /// All keys of its database.
    Keyspace,
    /// The function library.
    Functions,
    /// Nothing of the dataset.
    Never,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub command: &'static str,
    pub setup: Vec<&'static str>,
    pub call: &'static str,
    pub random: bool,
    /// `None` for writes.
    pub reads: Option<Reads>,
    /// Why the command is not in the table.
    pub excluded: Option<&'static str>,
    /// Not marked as a write by the server.
    extra: bool,
    since_9_1: bool,
}

impl Case {
    fn parse(line: &'static str) -> Case {
        let mut columns = line.split(" |").map(str::trim);
        let mut column = || columns.next().unwrap_or_else(|| panic!("commands.txt: {line}"));
        let (name, setup, call, notes) = (column(), column(), column(), column());
        assert!(columns.next().is_none(), "commands.txt: {line}");
        let reads = match notes.split(';').next() {
            Some("keys") => Some(Reads::Keys),
            Some("keyspace") => Some(Reads::Keyspace),
            Some("functions") => Some(Reads::Functions),
            Some("never") => Some(Reads::Never),
            _ => None,
        };
        Case {
            command: name.trim_start_matches('+'),
            setup: setup.split(';').map(str::trim).filter(|text| !text.is_empty()).collect(),
            call,
            random: notes.contains("random"),
            reads,
            excluded: notes.split_once("not here: ").map(|(_, reason)| reason),
            extra: name.starts_with('+'),
            since_9_1: notes.contains("since 9.1"),
        }
    }

    /// Runs the set-up on the connection that the call will be made on, and returns the call's words.
    pub fn prepare(&self, connection: &mut RawConnection) -> Vec<Vec<u8>> {
        let mut names = BTreeMap::new();
        for step in &self.setup {
            let (name, command) = match step.strip_prefix('@').and_then(|step| step.split_once('=')) {
                Some((name, command)) => (Some(name), command),
                None => (None, *step),
            };
            let reply = connection.call(&words(command, &names));
            assert!(!reply.is_error(), "{step}: {reply:?}");
            if let (Some(name), Value::Bulk(bytes)) = (name, reply) {
                names.insert(name, bytes);
            }
        }
        words(self.call, &names)
    }
}

/// The writes of this server. Fails when the server has a write command that the table does not know, or the table one
/// that the server does not have.
pub fn cases(connection: &mut RawConnection) -> Vec<Case> {
    let table = parse(WRITES);
    let writes = names(&connection.run("COMMAND"), |flags| flags.iter().any(|flag| flag.text() == "write"));
    let known = |name: &str| table.iter().any(|case| case.command == name);
    let unknown: Vec<_> = writes.iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "write commands that commands.txt lacks: {unknown:?}");

    let here = of_version(table, connection);
    for case in &here {
        let write = writes.iter().any(|name| name == case.command);
        assert!(write != case.extra, "commands.txt is wrong about {}", case.command);
    }
    here
}

/// The commands of this server that change nothing. Fails when the server has a command that neither table knows, or
/// the table one that the server does not have.
pub fn read_cases(connection: &mut RawConnection) -> Vec<Case> {
    let (table, writes) = (parse(READS), parse(WRITES));
    let all = names(&connection.run("COMMAND"), |_| true);
    let known = |name: &str| table.iter().chain(&writes).any(|case| case.command == name);
    let unknown: Vec<_> = all.iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "commands that reads.txt and commands.txt lack: {unknown:?}");

    let here = of_version(table, connection);
    for case in &here {
        assert!(all.iter().any(|name| name == case.command), "reads.txt is wrong about {}", case.command);
        assert!(case.reads.is_some() != case.excluded.is_some(), "reads.txt: {}: {case:?}", case.command);
    }
    here
}

/// Writes of this server that change nothing.
pub fn noop_cases(connection: &mut RawConnection) -> Vec<Case> {
    of_version(parse(NOOPS), connection)
}

fn parse(table: &'static str) -> Vec<Case> {
    table.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).map(Case::parse).collect()
}

fn of_version(table: Vec<Case>, connection: &mut RawConnection) -> Vec<Case> {
    let is_9_1 = connection.run("INFO server").text().contains("valkey_version:9.");
    table.into_iter().filter(|case| is_9_1 || !case.since_9_1).collect()
}

/// The names of all commands and subcommands whose flags are wanted, but for those of the module.
fn names(commands: &Value, wanted: fn(&[Value]) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for command in commands.items() {
        let fields = command.items();
        let name = fields[0].text();
        if wanted(fields[2].items()) && !name.starts_with("wbl.") {
            found.push(name);
        }
        found.extend(names(&fields[9], wanted));
    }
    found
}

/// Splits at spaces, but not within `"..."`, where `\n` is a line's end. `@name` is replaced.
pub fn words(command: &str, names: &BTreeMap<&str, Vec<u8>>) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    for (index, part) in command.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.replace("\\n", "\n").into_bytes());
            continue;
        }
        for word in part.split_whitespace() {
            let name = word.strip_prefix('@');
            words.push(match name.and_then(|name| names.get(name)) {
                Some(bytes) => bytes.clone(),
                None => word.into(),
            });
        }
    }
    words
}
