//! What the server calls its commands (`rename-command`).
//!
//! COMMAND lists each command by its own name, and says of any name which command it is, but not by which name a
//! command is known now. The server's configuration says that: what the files and arguments say is checked with the
//! server, and believed when it agrees.

use crate::core::names::{Directive, Names, directives, directives_of_arguments};
use crate::ffi::{CallMode, Ctx, Level, Reply, ReplyKind, ServerInfo, log, set_names};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Files may include others, which the server follows without a limit.
const INCLUDES_MAX: usize = 1000;

/// Finds out the names, for all calls that follow.
///
/// # Errors
/// A command has a name that cannot be found, or COMMAND is disabled.
pub(super) fn find(ctx: Ctx<'_>) -> Result<(), String> {
    set_names(Names::default());
    let names = found(ctx)?;
    if !names.is_empty() {
        log(Level::Notice, "commands are renamed (rename-command): the log has them by their own names");
    }
    set_names(names);
    Ok(())
}

fn found(ctx: Ctx<'_>) -> Result<Names, String> {
    let own = ctx.own();
    let mut changes = None;
    let command = command_of_commands(own, &mut changes)?;
    let mut names = Names::default();
    let listed = listed(own, &command);
    let missing: Vec<&Vec<u8>> = {
        let really = really(own, &command, &listed);
        listed.iter().zip(really).filter(|(name, real)| real.as_ref() != Some(name)).map(|(name, _)| name).collect()
    };
    if missing.is_empty() {
        return Ok(names);
    }
    let changes: Vec<_> = changes.get_or_insert_with(|| configured(ctx)).iter().map(|(_, to)| to.clone()).collect();
    for (name, real) in changes.iter().zip(really(own, &command, &changes)) {
        if let Some(real) = real.filter(|real| real != name) {
            names.renamed(&real, name);
        }
    }
    match missing.iter().find(|name| !names.has_other(name)) {
        None => Ok(names),
        Some(name) => Err(format!(
            "the server's command {} is renamed (rename-command), and neither the configuration file nor the server's arguments say to what; the module has to know",
            String::from_utf8_lossy(name).to_ascii_uppercase()
        )),
    }
}

/// What the configuration says: own names and others, in lower case.
type Changes = Vec<(Vec<u8>, Vec<u8>)>;

/// The name of COMMAND itself.
fn command_of_commands(own: Ctx<'_>, changes: &mut Option<Changes>) -> Result<Vec<u8>, String> {
    let is_it = |name: &[u8]| {
        really(own, name, &[name.to_vec()]).first().is_some_and(|real| real.as_deref() == Some(b"command"))
    };
    if is_it(b"command") {
        return Ok(b"command".to_vec());
    }
    let changes = changes.get_or_insert_with(|| configured(own));
    let renamed = changes.iter().map(|(_, to)| to).find(|name| is_it(name));
    renamed.cloned().ok_or_else(|| {
        "the server's command COMMAND is disabled or has a name that its configuration does not tell (rename-command); the module needs it to know the other commands".into()
    })
}

/// The names of all commands that the server has.
fn listed(own: Ctx<'_>, command: &[u8]) -> Vec<Vec<u8>> {
    let none: [&[u8]; 0] = [];
    let list = own.call_by_name(CallMode::Question, command, none);
    let name = |list: &Reply<'_>, index| Some(list.element(index)?.element(0)?.bytes().to_ascii_lowercase());
    list.iter().flat_map(|list| (0..list.len()).filter_map(|index| name(list, index))).collect()
}

/// The own name of the command of each name; `None` where the server has no command of that name. `command` is the
/// name of COMMAND.
fn really(own: Ctx<'_>, command: &[u8], names: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
    let args = std::iter::once(&b"INFO"[..]).chain(names.iter().map(Vec::as_slice));
    let info = own.call_by_name(CallMode::Question, command, args).filter(|info| info.kind() == ReplyKind::Array);
    let real = |index| {
        let entry = info.as_ref()?.element(index)?;
        let name = entry.element(0).filter(|_| entry.kind() == ReplyKind::Array)?;
        Some(name.bytes().to_ascii_lowercase())
    };
    (0..names.len()).map(real).collect()
}

/// What the server's configuration files and arguments say. The caller must find out whether they have changed since
/// the server has read them.
fn configured(ctx: Ctx<'_>) -> Changes {
    let mut changes = Changes::new();
    let mut includes = Vec::new();
    let mut take = |directive, includes: &mut Vec<PathBuf>| match directive {
        Directive::Rename { from, to } => changes.push((from.to_ascii_lowercase(), to.to_ascii_lowercase())),
        Directive::Include(pattern) => includes.push(PathBuf::from(std::ffi::OsString::from_vec(pattern))),
    };
    let file = ServerInfo::read(ctx, "server").and_then(|info| info.text("config_file")).map(PathBuf::from);
    let folder = file.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    includes.extend(file.filter(|file| !file.as_os_str().is_empty()));
    directives_of_arguments(std::env::args_os().skip(1).map(OsStringExt::into_vec))
        .into_iter()
        .for_each(|directive| take(directive, &mut includes));
    let mut read = 0;
    while let Some(pattern) = includes.pop().filter(|_| read < INCLUDES_MAX) {
        for path in files(&pattern, folder.as_deref()) {
            read += 1;
            let text = std::fs::read(&path).unwrap_or_default();
            directives(&text).for_each(|directive| take(directive, &mut includes));
        }
    }
    changes
}

/// The files that a name, perhaps with wildcards, denotes. A relative one is looked for where the server may have been
/// when it read it.
fn files(pattern: &Path, folder: Option<&Path>) -> Vec<PathBuf> {
    let started_in = std::env::var_os("PWD").map(PathBuf::from);
    let folders = [std::env::current_dir().ok(), folder.map(Path::to_path_buf), started_in];
    let candidates = folders.into_iter().flatten().map(|folder| folder.join(pattern));
    let mut files: Vec<PathBuf> = candidates.flat_map(|candidate| expanded(&candidate)).collect();
    files.sort();
    files.dedup();
    files
}

/// The files that a pattern matches, `*`, `?` and `[...]` in the last part of its path.
fn expanded(pattern: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else { return Vec::new() };
    if !name.as_bytes().iter().any(|byte| b"*?[".contains(byte)) {
        return vec![pattern.to_path_buf()];
    }
    // Reading a file too many is harmless: what it says is checked with the server.
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).take(INCLUDES_MAX).collect()
}
