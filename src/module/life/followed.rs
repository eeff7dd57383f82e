//! What is known of the primary that a replica's log follows. How it comes to be known: `module/following.rs`.

use crate::core::followed::Followed;
use crate::ffi::Ctx;
use crate::module::{listed, server};

/// The log of a server that follows a primary.
#[derive(Debug)]
pub(crate) struct Following {
    pub(in crate::module) followed: Followed,
    /// How many of the primary's commands the server had refused when last asked.
    pub(in crate::module) errors: Option<u64>,
    /// That count may have been set back.
    pub(in crate::module) may_be_reset: bool,
    /// Something was logged since.
    pub(in crate::module) has_logged: bool,
    /// Other clients may write, or could since the log follows.
    pub(in crate::module) is_writable: bool,
}

impl Following {
    /// The log follows from here on. What the primary has sent before is not in it.
    pub(super) fn begin(ctx: Ctx<'_>) -> Following {
        let mut followed = Followed::default();
        if let Some(primary) = listed::primary(ctx) {
            followed.meet(primary.client, primary.db);
        }
        Following {
            followed,
            errors: server::refused_of_primary(ctx),
            may_be_reset: false,
            has_logged: false,
            is_writable: server::is_writable_replica(ctx),
        }
    }

    /// Whether other clients may write now.
    pub(super) fn set_writable(&mut self, is_writable: bool) {
        self.is_writable |= is_writable;
    }

    /// The link to the primary is down.
    pub(super) fn link_down(&mut self) {
        self.followed.link_down();
    }
}
