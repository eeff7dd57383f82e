//! Opening a folder: what is in it, is it ours, is it whole.
//!
//! Opening changes nothing, but makes the manifest that it finds durable, because all that is removed, shown or left
//! from then on depends on it. All segments are verified before the first frame is handed out, so damage is found
//! before anything is replayed. What a crash may leave behind is repaired when writing starts (`prepare.rs`).

mod aside;
mod base;
mod behind;
mod frames;
mod grammar;
mod leftovers;
mod opened;
mod options;
mod plan;
mod prepare;
mod repair;
mod scan;
mod seen;
mod units;
mod view;
mod window;

pub use base::BaseReader;
pub use behind::{is_marked_behind, mark_behind, unmark_behind};
pub use frames::{Frame, Frames};
pub use opened::{Base, Opened, Segment, Verdict, open};
pub use options::{CheckBase, Options};
pub use prepare::Prepared;
pub use repair::{Damage, Gone};
pub use seen::SeenLog;
pub use units::{Unit, UnitCommand};
pub use view::{LogView, Walk};

pub(super) use grammar::segment_head;
