//! The names of the commands through which the module runs others.

use crate::core::ack::Wrapper;
use crate::module::refusal::REFUSED;
use std::ffi::CStr;

/// Runs a write.
pub const CALL: &CStr = c"wbl.call";
/// Runs a read.
pub const READ: &CStr = c"wbl.read";
/// Runs a script or function that may write.
pub const EVAL: &CStr = c"wbl.eval";
/// Runs a script or function that may not.
pub const EVAL_RO: &CStr = c"wbl.eval_ro";
/// Runs a command of a pipeline, and keeps its reply.
pub const COLLECT: &CStr = c"wbl.collect";

/// Runs a WAITAOF.
pub const WAITAOF: &CStr = c"wbl.waitaof";

/// The module's command.
pub(super) fn name_of(wrapper: Wrapper) -> &'static CStr {
    match wrapper {
        Wrapper::Call => CALL,
        Wrapper::Read => READ,
        Wrapper::Eval => EVAL,
        Wrapper::EvalRo => EVAL_RO,
    }
}

/// Whether the command of this name runs another, with which its arguments begin.
pub fn is_wrapper(name: &[u8]) -> bool {
    [CALL, READ, EVAL, EVAL_RO, COLLECT, WAITAOF, REFUSED].iter().any(|own| own.to_bytes().eq_ignore_ascii_case(name))
}
