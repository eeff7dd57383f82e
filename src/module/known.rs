//! What the module knows of the server's commands.

use crate::core::capture::Class;
use crate::core::hash::{Map, Set};
use crate::core::output::ReplySize;
use crate::core::reads::{self, Reads};
use crate::core::table::{self, CommandSpec, Quirk, Role, Rule, Shows};
use crate::ffi::{Ctx, Level, Reply, ReplyKind, log};

/// The longest command name that is looked up in the table, with room for subcommands.
const NAME_BYTES_MAX: usize = 64;

/// How the module's own commands begin.
const OWN_COMMANDS: &str = "wbl.";

/// Whether this is the name of a command of the module.
pub(super) fn is_own_command(name: &str) -> bool {
    name.get(..OWN_COMMANDS.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(OWN_COMMANDS))
}

/// What is known of one of the server's commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// What it is for capture.
    pub(super) class: Class,
    /// What its reply shows.
    pub(super) reads: Reads,
    /// Its row in the table.
    pub(super) row: &'static CommandSpec,
    /// The number of arguments, with the name; at least that many when negative; 0 when unknown.
    pub(super) arity: i64,
    /// The server marks it as a write.
    pub(super) writes: bool,
    /// A write that the server accepts even without memory left, because it needs none.
    pub(super) frees: bool,
    /// With this many arguments or fewer, its name included, its reply is short: one of [`table::SHORT_REPLIES`], or of
    /// [`table::SHORT_ALONE`].
    is_short_to: usize,
    /// It may run while another client's script runs long.
    pub(super) runs_meanwhile: bool,
    /// The module can run it for any client, and keep its reply.
    pub(super) is_collected: bool,
    /// The same in a transaction.
    pub(super) is_collected_queued: bool,
    /// A log may hold it; or the server has no such command, and says so.
    pub(super) is_logged: bool,
}

impl Known {
    /// A command that COMMAND did not name.
    pub(super) const UNKNOWN: Known = Known {
        class: Class::Opaque,
        reads: Reads::Nothing,
        row: &table::NONE,
        arity: 0,
        writes: false,
        frees: false,
        is_short_to: 0,
        runs_meanwhile: false,
        is_collected: false,
        is_collected_queued: false,
        is_logged: true,
    };
    /// One whose name is too long to be looked up.
    const LONG: Known = Known { arity: -1, ..Known::UNKNOWN };
    /// A command that neither shows nor changes data.
    pub(super) const HARMLESS: Known = Known { class: Class::ReadOnly, ..Known::UNKNOWN };

    /// The same where a script or another module calls it.
    pub(super) fn called(self) -> Known {
        Known { class: self.class.called(), ..self }
    }

    /// Whether the server refuses it with this many arguments, its name included.
    pub(super) fn refuses(self, len: usize) -> bool {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        self.arity > 0 && len != self.arity || len < -self.arity
    }

    /// How much it answers.
    pub(super) fn reply_size<'a>(self, args: impl ExactSizeIterator<Item = &'a [u8]>) -> ReplySize {
        match self.class {
            Class::Multi => ReplySize::Multi,
            Class::Exec => ReplySize::Exec,
            Class::EndMulti => ReplySize::EndMulti,
            // SET ... GET is not.
            _ if args.len() <= self.is_short_to && !self.row.may_reply_early(args) => ReplySize::Short,
            _ => ReplySize::Any,
        }
    }

    /// Whether it may run commands of its own, or run long and let other clients in meanwhile.
    pub(super) fn runs_others(self) -> bool {
        self.class == Class::Opaque && self.row.quirk != Quirk::Selects
    }

    /// Whether its client may have selected another database afterwards: any that neither reads nor writes keys of the
    /// one that is selected, or that runs others. What a script selects counts for the script only, unless another
    /// module runs it.
    pub(super) fn may_select(self, other_modules: bool) -> bool {
        match (self.class, self.reads) {
            (Class::Write(_), _) => false,
            (Class::ReadOnly | Class::Opaque, Reads::Script) => other_modules,
            (Class::ReadOnly, reads) => reads == Reads::Nothing,
            _ => true,
        }
    }

    /// Whether it is another module's, or unknown.
    pub(super) fn is_other_modules(self) -> bool {
        self.class == Class::Opaque && self.reads != Reads::Script && self.row.role == Role::AsFlagged
    }

    /// Whether COMMAND did not name it.
    pub(super) fn is_unknown(self) -> bool {
        self.class == Class::Opaque && self.arity == 0
    }
}

/// What the module cannot work without: it reads and restores images of keys, knows clients, and knows what commands
/// are.
const NEEDED: [&str; 3] = ["dump", "restore", "client"];
/// The same where hash fields expire.
const NEEDED_WITH_FIELD_EXPIRY: [&str; 1] = ["hpexpireat"];
/// The same in a cluster.
const NEEDED_IN_CLUSTER: [&str; 2] = ["cluster", "module"];

/// The server's commands.
#[derive(Debug)]
pub(super) struct Commands {
    /// By their own names in lower case: from the module's table where it knows the command, else from the server's
    /// flags.
    by_name: Map<Vec<u8>, Known>,
    /// Names of writes that the table does not know, and that the server's log has named.
    named: Set<Vec<u8>>,
}

impl Commands {
    /// Asks the server.
    ///
    /// # Errors
    /// A command that the module needs is missing.
    pub(super) fn ask(ctx: Ctx<'_>) -> Result<Commands, String> {
        let mut commands = Map::default();
        let none: [&[u8]; 0] = [];
        let list = ctx.own().ask("COMMAND", none).ok_or_else(|| lacking("command"))?;
        (0..list.len()).filter_map(|index| list.element(index)).for_each(|entry| add_command(&mut commands, &entry));
        if !ctx.flags().in_cluster() {
            // All that they show is that there is no cluster.
            let of_nodes = commands.values_mut().filter(|known| known.row.quirk == Quirk::NeedsNoKeys);
            of_nodes.for_each(|known| known.row = &table::NONE);
        }
        let has = |name: &str| commands.contains_key(name.as_bytes());
        let of_fields = |row: &&CommandSpec| matches!(row.rule, Rule::FieldExpiry | Rule::SetFields);
        let expires_fields = table::COMMANDS.iter().filter(of_fields).any(|row| has(row.name));
        let with_field_expiry = NEEDED_WITH_FIELD_EXPIRY.iter().filter(|_| expires_fields);
        let in_cluster = NEEDED_IN_CLUSTER.iter().filter(|_| ctx.flags().in_cluster());
        if let Some(name) = NEEDED.iter().chain(with_field_expiry).chain(in_cluster).find(|name| !has(name)) {
            return Err(lacking(name));
        }
        // What cannot be logged as an operation, because the server has no command for it, is logged as its resulting
        // state.
        let can_log = |row: &CommandSpec| {
            let with_fields = row.logged_with_fields_as().iter().filter(|_| expires_fields);
            row.logged_as.iter().chain(with_fields).all(|name| has(name))
        };
        let classes: Vec<(&[u8], Class)> = table::COMMANDS
            .iter()
            .filter_map(|row| Some((row.name.as_bytes(), class_of(row, can_log(row))?)))
            .collect();
        for (name, class) in classes {
            if let Some(known) = commands.get_mut(name) {
                known.class = class;
                known.is_collected &= can_be_collected(known, name);
                known.is_collected_queued &= known.is_collected && !row_empties(known);
            }
        }
        Ok(Commands { by_name: commands, named: Set::default() })
    }

    /// What the command is, by its name (and its subcommand's).
    pub(super) fn known(&self, name: &[u8], subcommand: &[u8]) -> Known {
        let mut lower = [0; NAME_BYTES_MAX];
        let Some(len) = lower_case(name, &mut lower, 0) else { return Known::LONG };
        let known = self.by_name.get(&lower[..len]).copied().unwrap_or(Known::UNKNOWN);
        if known.class != Class::Container {
            return match known.row.shows {
                Shows::Debug if reads::debug_populates(subcommand) => {
                    Known { class: Class::ReadOnly, reads: Reads::Nothing, row: &table::POPULATE, ..known }
                }
                Shows::Debug if !reads::debug_shows(subcommand) => Known { reads: Reads::Nothing, ..known },
                _ => known,
            };
        }
        lower[len] = b'|';
        let Some(len) = lower_case(subcommand, &mut lower, len + 1) else { return Known::LONG };
        self.by_name.get(&lower[..len]).copied().unwrap_or(Known::HARMLESS)
    }

    /// The names of the writes that the table does not know.
    pub(super) fn unknown_writes(&self) -> Vec<String> {
        let is_unknown = |known: &Known| matches!(known.class, Class::Write(spec) if spec.is_unknown());
        let names = self.by_name.iter().filter(|(_, known)| is_unknown(known)).map(|(name, _)| name);
        let mut names: Vec<String> =
            names.map(|name| String::from_utf8_lossy(name).to_ascii_uppercase().replace('|', " ")).collect();
        names.sort();
        names
    }

    /// A write was announced that the table does not know: names it once in the server's log.
    pub(super) fn tell_unknown(&mut self, name: &[u8], subcommand: &[u8]) {
        let mut full = name.to_ascii_lowercase();
        if self.by_name.get(&full).is_some_and(|known| known.class == Class::Container) {
            full.push(b' ');
            full.extend(subcommand.to_ascii_lowercase());
        }
        if !self.named.contains(&full) {
            let text = format!("not known how to log {}: the keys that it names are logged whole", full.escape_ascii());
            log(Level::Notice, &text);
            self.named.insert(full);
        }
    }
}

/// What the table says of a command; `None` where the server's flags do.
fn class_of(row: &'static CommandSpec, can_log: bool) -> Option<Class> {
    Some(match row.role {
        Role::Write => Class::Write(if can_log { row } else { row.as_unknown() }),
        Role::Opaque => Class::Opaque,
        Role::Multi => Class::Multi,
        Role::Exec => Class::Exec,
        Role::EndMulti => Class::EndMulti,
        Role::Watch => Class::Watch,
        Role::Unwatch => Class::Unwatch,
        Role::AsFlagged => return None,
    })
}

/// The server has no such command.
pub(super) fn lacking(name: &str) -> String {
    format!(
        "the server has no command {}, which the module needs; is it disabled by rename-command?",
        name.to_ascii_uppercase()
    )
}

/// Whether the module can run the command for any client, and keep its reply: it does not wait, runs no others, and has
/// to do with one database.
fn can_be_collected(known: &Known, name: &[u8]) -> bool {
    let row = known.row;
    match known.class {
        _ if row.may_block() || row.shows == Shows::TwoDatabases => false,
        // No output limit of the client's applies to a call's reply; and replicas would get what it removes as one.
        _ if matches!(row.quirk, Quirk::Repeats | Quirk::ExpiresAny) => false,
        Class::Write(spec) => spec.quirk != Quirk::NeverWrapped && spec.rule != Rule::DeletedKeys,
        Class::ReadOnly if table::CLIENTLESS.iter().any(|clientless| clientless.as_bytes() == name) => true,
        Class::ReadOnly => !matches!(known.reads, Reads::Nothing | Reads::Script),
        _ => false,
    }
}

/// Whether it empties or swaps databases, after which the unit's other changes are elsewhere.
fn row_empties(known: &Known) -> bool {
    matches!(known.class, Class::Write(spec) if matches!(spec.rule, Rule::ByServerEvent | Rule::Functions))
}

/// Adds an entry of COMMAND's reply (name, arity, flags, first key, last key, step, ..., subcommands last) and its
/// subcommands.
fn add_command(commands: &mut Map<Vec<u8>, Known>, entry: &Reply<'_>) {
    let (Some(name), Some(flags)) = (entry.element(0), entry.element(2)) else { return };
    let flags: Vec<Reply<'_>> = (0..flags.len()).filter_map(|index| flags.element(index)).collect();
    let has_flag = |wanted: &[u8]| flags.iter().any(|flag| flag.bytes() == wanted);
    let number = |index| entry.element(index).map_or(0, |number| number.integer());
    let lower = String::from_utf8_lossy(name.bytes()).to_ascii_lowercase();
    let movable = has_flag(b"movablekeys");
    let own = lower.starts_with(OWN_COMMANDS);
    // Commands with neither flag change no data (PUBLISH, CLIENT...), except scripts, functions and modules' commands.
    let opaque = !own && (has_flag(b"module") || movable && !has_flag(b"readonly") || has_flag(b"write"));
    let subcommands = entry.element(9).filter(|list| list.kind() == ReplyKind::Array && !list.is_empty());
    let class = match (&subcommands, opaque) {
        (Some(_), _) => Class::Container,
        (None, true) if has_flag(b"write") && !has_flag(b"module") => {
            let spec = if has_flag(b"blocking") { &table::UNKNOWN_BLOCKING } else { &table::UNKNOWN };
            Class::Write(spec)
        }
        (None, true) => Class::Opaque,
        (None, false) => Class::ReadOnly,
    };
    let row = table::find(&lower).unwrap_or(&table::NONE);
    let is_short_to = match lower.as_str() {
        name if table::SHORT_REPLIES.contains(&name) => usize::MAX,
        name if table::SHORT_ALONE.contains(&name) => 1,
        _ => 0,
    };
    let reads = match Reads::of(row, number(3), number(4), number(5), movable) {
        _ if own => Reads::Nothing,
        Reads::Nothing if has_flag(b"module") => Reads::Anything,
        reads => reads,
    };
    let known = Known {
        is_collected: false,
        is_collected_queued: false,
        // What moves keys to other servers is logged as the keys that are gone.
        is_logged: !own && (has_flag(b"write") || row.role == Role::Write) && row.rule != Rule::DeletedKeys,
        class,
        reads,
        row,
        arity: number(1),
        writes: has_flag(b"write"),
        frees: has_flag(b"write") && !has_flag(b"denyoom") && !has_flag(b"module"),
        is_short_to,
        runs_meanwhile: has_flag(b"allow_busy"),
    };
    let is_for_scripts = !own && !has_flag(b"module") && !has_flag(b"noscript");
    let can_be = has_flag(b"readonly") || has_flag(b"write") || table::CLIENTLESS.contains(&lower.as_str());
    let is_collected = is_for_scripts && can_be && can_be_collected(&known, lower.as_bytes());
    // The server refuses a PING when it is queued, too.
    let is_collected_queued = is_collected && row.quirk != Quirk::FailsWithDisk;
    let known = Known { is_collected, is_collected_queued, ..known };
    commands.insert(lower.into_bytes(), known);
    if let Some(subcommands) = subcommands {
        (0..subcommands.len())
            .filter_map(|index| subcommands.element(index))
            .for_each(|entry| add_command(commands, &entry));
    }
}

/// Writes the lower-case name after `start`; `None` when it is too long to be one.
fn lower_case(name: &[u8], out: &mut [u8; NAME_BYTES_MAX], start: usize) -> Option<usize> {
    let end = start + name.len();
    // One byte stays free for the `|` of a subcommand.
    if end >= NAME_BYTES_MAX {
        return None;
    }
    out.get_mut(start..end)?.copy_from_slice(name);
    out.get_mut(start..end)?.make_ascii_lowercase();
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_may_be_any_command() {
        let commands = Commands { by_name: Map::default(), named: Set::default() };
        assert!(commands.known(b"nosuch", b"").is_unknown());
        let long = commands.known(&[b'x'; NAME_BYTES_MAX], b"");
        assert!(!long.is_unknown() && !long.refuses(1) && long.runs_others());
    }
}
