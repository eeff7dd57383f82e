//! The module's life: how a log begins, is replaced and ends. See the state diagram in `docs/design.md`.
//!
//! Every way to begin a log where the folder already holds one goes through [`rest::Rest::may_begin`], which asks
//! whether memory descends from it.

mod arrival;
mod base;
mod before_sleep;
mod begin;
pub(super) mod behind;
mod beside;
mod cause;
mod checkpoint;
mod closing;
mod descent;
mod enable;
mod end;
mod failing;
mod failure;
mod follow;
mod followed;
mod installed;
mod leave;
mod load;
mod marking;
mod method;
mod naming;
mod newer;
mod opening;
mod own_file;
mod recover;
mod relief;
mod replaced;
mod rest;
mod role;
mod settings;
mod speed;
mod start;
mod state;
mod unload;
mod visible;

pub use before_sleep::before_sleep;
pub use checkpoint::child_done;
pub use end::shut_down;
pub use leave::lose_primary;
pub use load::{dataset_changed, load, save_begins, settle_child};
pub use role::{emptied, primary_link_changed, role_changed};
pub use settings::config_changed;
pub use unload::unload;

pub(crate) use arrival::Arrival;
pub(super) use arrival::arrived;
pub(super) use base::Bases;
pub(super) use checkpoint::request_checkpoint;
pub(super) use enable::{apply_enabled, check_enabled};
pub(super) use failing::end_if_failed;
pub(super) use replaced::{begin_anew_now, dataset_loading};
pub(crate) use state::{Life, State};
