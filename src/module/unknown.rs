//! Writes that the module's table does not know: those of a newer server, and those that this server cannot do again.

use crate::core::capture::Class;
use crate::core::reads::Reads;
use crate::core::table::Keys;
use crate::ffi::{Ctx, Filter};
use crate::module::Module;
use crate::module::arguments::key_positions;
use std::sync::Arc;

impl Module {
    /// A command was announced to the capture: where the server knows more of its keys than the table, it is given
    /// those; one that the table does not know is counted. Returns those keys.
    pub(super) fn note_unknown(&mut self, ctx: Ctx<'_>, filter: &Filter, class: Class) -> Vec<Arc<[u8]>> {
        let Class::Write(spec) = class else { return Vec::new() };
        if !spec.is_unknown() && spec.keys != Keys::AfterStreams {
            return Vec::new();
        }
        let positions = key_positions(ctx, filter, Reads::Movable);
        let told: Vec<Arc<[u8]>> = positions.into_iter().map(|index| Arc::from(filter.arg(index))).collect();
        // Inside a command that the module runs nothing is announced to the capture.
        if !self.capture.is_wrapping() {
            self.capture.told_keys(told.clone());
        }
        if spec.is_unknown() {
            self.counters.unknown_commands += 1;
            self.server.commands.tell_unknown(filter.arg(0), filter.arg(1));
        }
        told
    }
}
