//! Files that the manifest does not name.
//!
//! A crash leaves some between two steps; they are removed when writing starts. Nothing is ever removed that holds
//! frames which no base covers: such a segment was named by a manifest that somebody has replaced with an older one.

use super::grammar::Head;
use super::opened::{Opened, Segment};
use super::window::Window;
use crate::log::error::LogError;
use crate::log::format::header::{HEADER_BYTES_MAX, HEADER_PREFIX};
use crate::log::format::manifest::Manifest;
use crate::log::format::names::{BEHIND_NAME, MANIFEST_NAME, OwnName, own_name, segment_name};
use crate::log::format1;
use crate::log::lsn::Lsn;
use crate::log::storage::{Storage, StorageFile};

/// What file systems put into the root of a volume, what earlier versions left, and a mark that has outlived its log.
const HARMLESS: [&[u8]; 3] = [b"lost+found", b"LOCK", BEHIND_NAME.as_bytes()];

impl<S: Storage> Opened<S> {
    /// A folder without a manifest may hold what an unfinished first start left, and nothing else: anything more could
    /// be someone's data.
    pub(super) fn check_first_start(&mut self, names: &[Vec<u8>]) -> Result<(), LogError> {
        let mut bases = Vec::new();
        let mut waits_for_base = false;
        for name in names.iter().filter(|name| !HARMLESS.contains(&name.as_slice())) {
            let own = own_name(name);
            let text = String::from_utf8_lossy(name).into_owned();
            match own {
                Some(OwnName::Temporary) => {}
                Some(OwnName::Cut(..)) => continue,
                Some(OwnName::Base(_)) => bases.push(text.clone()),
                Some(OwnName::Segment(seq)) if self.unnamed().is_void(seq)? => {
                    waits_for_base |= self.unnamed().head_of(seq)?.is_some_and(|head| head.is_pending);
                }
                _ => return Err(self.without_manifest(&text)),
            }
            self.folder.leftovers.push(text);
        }
        // A base gets its name before a manifest names it.
        match bases.first().filter(|_| !waits_for_base) {
            Some(base) => Err(self.without_manifest(base)),
            None => Ok(()),
        }
    }

    fn without_manifest(&self, name: &str) -> LogError {
        LogError::foreign(self.storage().locate(name), format!("there is no {MANIFEST_NAME} beside it"))
    }

    /// Finds what a crash left beside the log.
    pub(super) fn find_leftovers(&mut self, names: &[Vec<u8>]) -> Result<(), LogError> {
        let Some(manifest) = &self.folder.manifest else { return Ok(()) };
        let unnamed = Unnamed { storage: self.storage(), log: Some(manifest), segments: &self.segments };
        let found = unnamed.find(manifest, names)?;
        (self.folder.leftovers, self.folder.set_aside) = (found.names, found.set_aside);
        Ok(())
    }

    fn unnamed(&self) -> Unnamed<'_, S> {
        Unnamed { storage: self.storage(), log: self.folder.manifest.as_ref(), segments: &self.segments }
    }
}

/// What the manifest does not name.
pub(super) struct Unnamed<'a, S: Storage> {
    pub storage: &'a S,
    pub log: Option<&'a Manifest>,
    /// Those of the log.
    pub segments: &'a [Segment],
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    pub names: Vec<String>,
    /// Segments among them that are kept under another name.
    pub set_aside: Vec<u64>,
}

impl<S: Storage> Unnamed<'_, S> {
    /// Finds what a crash left beside the log.
    pub fn find(&self, manifest: &Manifest, names: &[Vec<u8>]) -> Result<Leftovers, LogError> {
        let named: std::collections::HashSet<String> = manifest.names().collect();
        let mut found = Leftovers::default();
        let mut pending = Vec::new();
        let mut begun = Vec::new();
        for name in names {
            let Some(own) = own_name(name) else { continue };
            let text = String::from_utf8_lossy(name).into_owned();
            if named.contains(&text) || matches!(own, OwnName::Cut(..)) {
                continue;
            }
            if let OwnName::Segment(seq) = own {
                match self.head_of(seq)? {
                    // A segment's header is durable before a manifest names it, and frames come after that: this is
                    // what a crash has left of one that was written ahead.
                    None if !self.is_void(seq)? => found.set_aside.push(seq),
                    None => {}
                    Some(head) => {
                        self.check(manifest, seq, head)?;
                        if head.is_pending {
                            pending.push((seq, head));
                        } else {
                            begun.push(head.generation);
                        }
                    }
                }
            }
            found.names.push(text);
        }
        // A log that waits for its base is void. Beside the segment that it goes on with when its base gets its name,
        // it cannot be distinguished from a newer log over which an older manifest was put: its frames are kept.
        for (seq, head) in pending {
            let mut window = Window::open(self.storage, &segment_name(seq))?;
            if begun.contains(&head.generation) && !window.is_zero_from(head.bytes)? {
                found.set_aside.push(seq);
            }
        }
        found.names.sort();
        Ok(found)
    }

    /// Refuses a segment with frames that the log needs.
    fn check(&self, manifest: &Manifest, seq: u64, head: Head) -> Result<(), LogError> {
        if self.is_void(seq)? {
            return Ok(());
        }
        let file = self.storage.locate(&segment_name(seq));
        let is_of_this_log = match head.generation {
            Some(generation) if generation.counter < manifest.generation.counter => return Ok(()),
            Some(generation) => generation == manifest.generation,
            None => true,
        };
        if is_of_this_log && self.is_covered(manifest, seq, head.first) {
            return Ok(());
        }
        Err(LogError::damaged(file, head.bytes, "it holds frames, but the manifest does not name it"))
    }

    /// Whether all frames of a segment are before the base, or void because a later segment goes on from before them.
    fn is_covered(&self, manifest: &Manifest, seq: u64, first: Lsn) -> bool {
        let begins = manifest.beginning.lsn();
        self.segments.iter().any(|later| later.seq > seq && (later.first <= first || later.first <= begins))
    }

    /// Whether a segment holds nothing, or what never became part of a log.
    fn is_void(&self, seq: u64) -> Result<bool, LogError> {
        let generation = self.log.map(|log| log.generation);
        let mut window = Window::open(self.storage, &segment_name(seq))?;
        match window.head()? {
            Ok(head) if head.is_pending && generation.is_none_or(|log| head.generation != Some(log)) => Ok(true),
            Ok(head) => window.is_zero_from(head.bytes),
            Err(_) => is_unfinished_header(&mut window),
        }
    }

    fn head_of(&self, seq: u64) -> Result<Option<Head>, LogError> {
        Ok(Window::open(self.storage, &segment_name(seq))?.head()?.ok())
    }
}

/// Whether a segment holds no more than a part of a header, which looks like ours.
fn is_unfinished_header<F: StorageFile>(window: &mut Window<F>) -> Result<bool, LogError> {
    const _: () = assert!(HEADER_BYTES_MAX >= format1::LINE_BYTES_MAX);
    if !window.is_zero_from(HEADER_BYTES_MAX as u64)? {
        return Ok(false);
    }
    let bytes = window.bytes_at(0, HEADER_PREFIX.len())?;
    let begins_with = |prefix: &[u8]| {
        let common = bytes.len().min(prefix.len());
        bytes.get(..common) == prefix.get(..common)
    };
    Ok(begins_with(HEADER_PREFIX) || begins_with(format1::SEGMENT_PREFIX) || window.is_zero_from(0)?)
}
