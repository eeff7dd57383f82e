//! The log engine: a folder of segments and a base, a writer, a writer thread, recovery.
//!
//! It knows no server, has no statics and asks no wall clock. How the files look and in which order they change is
//! told in `docs/design.md`; "what if it crashes here" is answered step by step in `start.rs`, `writer.rs` and
//! `checkpoint.rs`.

#![forbid(unsafe_code)]

mod checkpoint;
mod error;
mod flusher;
mod format;
mod lsn;
mod manifest;
mod published;
mod recovery;
pub mod resp;
mod scan;
mod short;
pub mod sim;
mod start;
mod statistics;
mod storage;
mod worker;
mod writer;

pub use error::LogError;
pub use flusher::Flusher;
pub use format::{
    ANNOTATION_BYTES_MAX, ANNOTATION_PREFIX, Annotation, Boundary, FormatError, FrameHeader, checksum,
    encode_annotation, parse_annotation,
};
pub use lsn::Lsn;
pub use manifest::{MANIFEST_NAME, base_name, segment_name};
pub use recovery::{Frames, Opened, Options, Segment, Verdict, open};
pub use statistics::Statistics;
pub use storage::{FolderStorage, LOCK_NAME, Storage, StorageFile};
pub use writer::{Batch, LogWriter};
