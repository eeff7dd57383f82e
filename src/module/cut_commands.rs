//! Servers that lose commands. From 9.0 on a server parses all that it has read of a client before it runs the first
//! command, and up to 9.1.1 the last one, if only its head has come, is never completed when its rest is read while the
//! client is blocked: the client waits for ever. An ordinary pipeline of more than 16 KB, which the server reads in
//! parts, is enough. So clients are not held there, and the event loop waits with their replies.

use crate::ffi::{Ctx, Level, log, server_version};

/// The first server that parses ahead, and the first that completes what it has cut, 0x00MMmmpp. No 9.0 is known to.
const SINCE: u32 = 0x0009_0000;
const UNTIL: u32 = 0x0009_0102;

/// Whether the server looks up all that a client has sent before it runs the first of it.
pub(super) fn parses_ahead(ctx: Ctx<'_>) -> bool {
    server_version(ctx) >= SINCE
}

/// Whether a server of this version loses them.
pub(super) fn are_lost(version: u32) -> bool {
    (SINCE..UNTIL).contains(&version)
}

/// Warns of such a server.
pub(super) fn warn(ctx: Ctx<'_>) {
    let version = server_version(ctx);
    if are_lost(version) {
        log(Level::Warning, &text(version));
    }
}

fn text(version: u32) -> String {
    let [_, major, minor, patch] = version.to_be_bytes();
    format!(
        "this server, {major}.{minor}.{patch}, loses a command that comes in two parts while its client is blocked, and the client then waits for ever. So no reply is held: the event loop waits for the disk before replies are sent, as with appendfsync always (wbl_waits_cut_commands), and readers wait with it. Valkey 9.1.2 has this corrected: upgrade to it"
    )
}

#[cfg(test)]
mod tests {
    use super::{are_lost, text};

    #[test]
    fn servers_from_9_0_up_to_9_1_1_lose_cut_commands() {
        let lost = |versions: &[u32]| versions.iter().map(|version| are_lost(*version)).collect::<Vec<_>>();
        assert_eq!(lost(&[0x0009_0000, 0x0009_0008, 0x0009_0100, 0x0009_0101]), [true; 4]);
        assert_eq!(lost(&[0x0008_0101, 0x0008_01ff, 0x0009_0102, 0x0009_0200]), [false; 4]);
        assert!(text(0x0009_0101).starts_with("this server, 9.1.1, loses"));
    }
}
