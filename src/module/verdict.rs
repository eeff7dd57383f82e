//! What the filter makes of a command.

use std::ffi::CStr;

/// What the filter makes of a command.
#[derive(Default)]
pub(super) struct Verdict {
    /// What the server may send while the command runs long.
    pub(super) lets_out: LetsOut,
    /// Ask to be called at the end of the unit.
    pub(super) watch_unit: bool,
    /// What becomes of its arguments.
    pub(super) rewrite: Rewrite,
}

/// Which of the replies that are written the server may send while a command runs, before the end of the iteration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LetsOut {
    /// None: it lets nobody in.
    #[default]
    Nothing,
    /// Those of other clients: the server protects the command's own until it has ended.
    Others,
    /// All.
    All,
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
    pub(super) const PASS: Verdict = Verdict { lets_out: LetsOut::Nothing, watch_unit: false, rewrite: Rewrite::None };
    pub(super) const WATCH: Verdict = Verdict { watch_unit: true, ..Verdict::PASS };

    pub(super) fn rewrite(rewrite: Rewrite) -> Verdict {
        Verdict { rewrite, ..Verdict::PASS }
    }
}
