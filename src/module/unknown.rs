//! Commands that neither COMMAND nor the module's table tells of: those of a newer server, and those under a name that the configuration gave
//! them (`rename-command`).

use crate::core::capture::Class;
use crate::core::reads::Reads;
use crate::core::table::Keys;
use crate::ffi::{Ctx, Filter, Level, log};
use crate::module::arguments::{NAME_BYTES_MAX, key_positions, lower_case};
use crate::module::server::Known;
use crate::module::{Module, server};
use std::sync::Arc;

impl Module {
    /// What the command is; the server is asked for names that it did not list.
    pub(super) fn known_or_learned(&mut self, ctx: Ctx<'_>, filter: &Filter) -> Known {
        let known = self.known(filter.arg(0), filter.arg(1));
        let mut lower = [0; NAME_BYTES_MAX];
        if !known.is_unknown() || lower_case(filter.arg(0), &mut lower, 0).is_none() {
            return known;
        }
        let Some(learned) = server::learn(ctx, filter.arg(0)) else { return known };
        self.commands.insert(filter.arg(0).to_ascii_lowercase(), learned);
        learned
    }

    /// A command was announced to the capture: where the server knows more of its keys than the table, they are told; one that the table does not know is counted.
    pub(super) fn note_unknown(&mut self, ctx: Ctx<'_>, filter: &Filter, class: Class) {
        let Class::Write(spec) = class else { return };
        if !spec.is_unknown() && spec.keys != Keys::AfterStreams {
            return;
        }
        let positions = key_positions(ctx, filter, Reads::Movable);
        self.capture.told_keys(positions.into_iter().map(|index| Arc::from(filter.arg(index))).collect());
        if !spec.is_unknown() {
            return;
        }
        self.counters.unknown_commands += 1;
        let mut name = filter.arg(0).to_ascii_lowercase();
        if self.commands.get(&name).is_some_and(|known| known.class == Class::Container) {
            name.push(b' ');
            name.extend(filter.arg(1).to_ascii_lowercase());
        }
        if !self.unknown_names.contains(&name) {
            let text = format!("not known how to log {}: the keys that it names are logged whole", name.escape_ascii());
            log(Level::Notice, &text);
            self.unknown_names.insert(name);
        }
    }
}
