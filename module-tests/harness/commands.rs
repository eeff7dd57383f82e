//! Every write command of the servers, with arguments that really change data.

use super::raw::RawConnection;
use super::resp::Value;
use std::collections::BTreeMap;

/// `command | set-up; set-up | call | notes`
///
/// - A `+` before the command: `COMMAND` does not mark it as a write, but it may change data.
/// - `@name=command` in a set-up keeps the reply, which `@name` stands for later on.
/// - Notes: `since 9.1`; `random`, when only the shape of the reply can be compared; `not here: reason` (last).
const TABLE: &str = include_str!("commands.txt");

#[derive(Clone, Debug)]
pub struct Case {
    pub command: &'static str,
    pub setup: Vec<&'static str>,
    pub call: &'static str,
    pub random: bool,
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
        Case {
            command: name.trim_start_matches('+'),
            setup: setup.split(';').map(str::trim).filter(|text| !text.is_empty()).collect(),
            call,
            random: notes.contains("random"),
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

/// The cases for this server. Fails when the server has a write command that the table does not know, or the table
/// one that the server does not have.
pub fn cases(connection: &mut RawConnection) -> Vec<Case> {
    let lines = TABLE.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let table: Vec<Case> = lines.map(Case::parse).collect();
    let writes = write_commands(&connection.run("COMMAND"));
    let known = |name: &str| table.iter().any(|case| case.command == name);
    let unknown: Vec<_> = writes.iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "write commands that commands.txt lacks: {unknown:?}");

    let is_9_1 = connection.run("INFO server").text().contains("valkey_version:9.");
    let here: Vec<Case> = table.into_iter().filter(|case| is_9_1 || !case.since_9_1).collect();
    for case in &here {
        let write = writes.iter().any(|name| name == case.command);
        assert!(write != case.extra, "commands.txt is wrong about {}", case.command);
    }
    here
}

/// The names of all commands and subcommands with the flag `write`, but for those of the module.
fn write_commands(commands: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for command in commands.items() {
        let fields = command.items();
        let name = fields[0].text();
        if fields[2].items().iter().any(|flag| flag.text() == "write") && !name.starts_with("wbl.") {
            names.push(name);
        }
        names.extend(write_commands(&fields[9]));
    }
    names
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
