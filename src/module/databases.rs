//! Which database a command runs in, where the server does not tell: inside scripts and EXEC.

use crate::core::dirty::DbKey;
use crate::ffi::{ContextFlags, Ctx, Filter};
use crate::module::arguments::selected_db;
use crate::module::{Module, server};

impl Module {
    /// A SELECT of a script or of another module.
    pub(super) fn announce_select(&mut self, ctx: Ctx<'_>, filter: &Filter) {
        let Some(db) = selected_db(ctx, filter) else { return };
        self.script_db = Some(db);
        if ctx.flags().in_exec() {
            self.script_select = Some((server::scripts_run(ctx), db));
        }
    }

    /// The database that the running script's next command runs in.
    pub(super) fn db_of_script(&self, ctx: Ctx<'_>) -> Option<u32> {
        if !ctx.flags().in_exec() {
            return self.script_db;
        }
        // Nothing tells where a script of an EXEC begins, but each that has ended is counted.
        match self.script_select {
            Some((before, db)) if before == server::scripts_run(ctx) => Some(db),
            _ => self.info_of(self.top_client).map(|info| info.db),
        }
    }

    /// The database that the client of a COPY or MOVE has selected. Its event comes with the destination's, and an 8.1 server leaves the client there.
    pub(super) fn home_db(&mut self, flags: ContextFlags, client: u64, db_key: DbKey) -> Option<u32> {
        if flags.in_exec() && !flags.in_script() {
            return self.capture.exec_home(client, &db_key);
        }
        self.capture.db_of(client).or(self.script_db)
    }
}
