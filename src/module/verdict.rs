//! What the filter makes of a command.

use std::ffi::CStr;

/// What the filter makes of a command.
#[derive(Default)]
pub(super) struct Verdict {
    /// The command may run long, and the server sends other clients' replies meanwhile.
    pub(super) may_yield: bool,
    /// Ask to be called at the end of the unit.
    pub(super) watch_unit: bool,
    /// What becomes of its arguments.
    pub(super) rewrite: Rewrite,
}

/// What becomes of a command's arguments.
#[derive(Default)]
pub(super) enum Rewrite {
    /// They stay.
    #[default]
    None,
    /// This command of the module runs it.
    Wrap(&'static CStr),
    /// The server refuses it.
    Refuse,
    /// CLIENT UNBLOCK finds nobody.
    UnblockNobody,
}

impl Verdict {
    pub(super) const PASS: Verdict = Verdict { may_yield: false, watch_unit: false, rewrite: Rewrite::None };
    pub(super) const WATCH: Verdict = Verdict { watch_unit: true, ..Verdict::PASS };

    pub(super) fn rewrite(rewrite: Rewrite) -> Verdict {
        Verdict { rewrite, ..Verdict::PASS }
    }
}
