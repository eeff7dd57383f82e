//! What the fuzz targets share: folders as one input, checksums made right again, and the judgement of a folder.
#![forbid(unsafe_code)]

mod archive;
mod judge;
mod sign;

pub use archive::{Files, pack, unpack};
pub use judge::judge;
pub use sign::{frame, sign, sign_frames};
