//! Scripts.

use super::*;

/// EVAL "command;command" ...: answers with the last reply, or the first error but for those of commands after a `?`.
/// `YIELD` takes long.
pub fn script(client: &Rc<Client>, argv: &[Bytes]) {
    let s = server();
    let lua = s.make_client(SCRIPT_CLIENT, true, client.user);
    lua.deny_blocking.set(true);
    lua.db.set(client.db.get());
    s.in_script.set(s.in_script.get() + 1);
    let mut last = resp::NULL.to_vec();
    let mut has_written = false;
    for line in argv[1].split(|byte| *byte == b';').filter(|line| !line.is_empty()) {
        let goes_on = line.starts_with(b"?");
        let line = line.strip_prefix(b"?").unwrap_or(line);
        let command: Argv = line.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
        if command[0] == b"YIELD" {
            event_loop::process_while_blocked(client.id);
            continue;
        }
        last = script_call(&lua, &command, argv[0].len() == 7, &mut has_written);
        if !goes_on && last.first() == Some(&b'-') {
            break;
        }
    }
    s.in_script.set(s.in_script.get() - 1);
    reply(client, &last);
}

pub fn script_call(lua: &Rc<Client>, command: &Argv, read_only: bool, has_written: &mut bool) -> Vec<u8> {
    let s = server();
    s.note(|| format!("    script: {}", show(command)));
    let command = api::filter(lua, command);
    let Some(Kind::Own(known)) = lookup(&command) else {
        return resp::error("ERR Unknown command called from script");
    };
    if known.refuses(command.len()) {
        return resp::error("ERR Wrong number of args calling command from script");
    }
    if known.has("noscript") {
        return resp::error("ERR This command is not allowed from script");
    }
    if !may_run(lua.user, &command) {
        return resp::error("NOPERM User can't run the command");
    }
    if known.has("denyoom") && s.is_full.get() && !*has_written {
        return resp::error(OOM);
    }
    if read_only && known.may_replicate() {
        return resp::error("ERR Write commands are not allowed from read-only scripts.");
    }
    *has_written |= known.has("write");
    lua.out.borrow_mut().clear();
    *lua.command.borrow_mut() = command.clone();
    call(lua, &command);
    lua.out.borrow_mut().drain(..).collect()
}
