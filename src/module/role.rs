//! Whether the server is a primary or a replica, as it says itself.
//!
//! A node of a cluster knows from `nodes.conf` that it is a replica, and loads its own dump as one, with the offset to
//! go on from; but it does not follow its primary before the first tick of its timer, and all that the module API says
//! of replication says "primary" until then. If its data were replaced in between, it would go on from the dump's
//! offset on top of other data.

use crate::ffi::{Ctx, NodeRole};

/// The server's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Its dataset is its own.
    Primary,
    /// Its dataset is that of a primary.
    Replica,
}

/// The role that the server believes it has, already at its start, before anything is loaded.
///
/// # Errors
/// A node of a cluster does not say what it is. Neither role may then be assumed.
pub(super) fn role_at_start(ctx: Ctx<'_>) -> Result<Role, String> {
    let flags = ctx.flags();
    if flags.is_replica() {
        return Ok(Role::Replica);
    }
    if !flags.in_cluster() {
        return Ok(Role::Primary);
    }
    match ctx.node_role() {
        Some(NodeRole::Primary) => Ok(Role::Primary),
        Some(NodeRole::Replica) => Ok(Role::Replica),
        None => Err("the node does not say whether it is a primary or a replica of its cluster".into()),
    }
}
