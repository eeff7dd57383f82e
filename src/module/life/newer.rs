//! Servers that are newer than those that the module is tested with.

use crate::ffi::{Ctx, Level, log, server_version};
use crate::module::with;

/// The first server, 0x00MMmmpp, that no test runs with.
const UNTESTED_SINCE: u32 = 0x0009_0200;

/// Warns of a server that is newer than those that the module is tested with.
pub(super) fn warn(ctx: Ctx<'_>) {
    let version = server_version(ctx);
    if version < UNTESTED_SINCE {
        return;
    }
    let unknown = with(|module| module.server.commands.unknown_writes()).unwrap_or_default();
    log(Level::Warning, &text(version, &unknown));
}

fn text(version: u32, unknown: &[String]) -> String {
    let [_, major, minor, patch] = version.to_be_bytes();
    let unknown = match unknown {
        [] => "it has no writes that the module does not know".into(),
        names => {
            format!("these writes are not known, and the keys that they name are logged whole: {}", names.join(", "))
        }
    };
    format!("the module is tested with servers up to 9.1, and this is {major}.{minor}.{patch}; {unknown}")
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_newer_server_is_named_with_the_writes_that_are_not_known() {
        let said = text(0x000a_0001, &["SETNEW".into(), "HASH SWAP".into()]);
        assert!(said.contains("up to 9.1, and this is 10.0.1;") && said.ends_with(": SETNEW, HASH SWAP"), "{said}");
        assert!(text(0x0009_0203, &[]).ends_with("this is 9.2.3; it has no writes that the module does not know"));
    }
}
