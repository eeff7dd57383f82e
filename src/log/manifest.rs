//! File names, and the manifest that says which files make up the log.

use super::error::LogError;
use super::storage::{Storage, StorageFile};

/// The file that names the base and the segments, replaced as a whole by a rename.
pub const MANIFEST_NAME: &str = "appendonly.aof.manifest";
pub(crate) const MANIFEST_TEMPORARY_NAME: &str = "appendonly.aof.manifest.tmp";

const NAME_PREFIX: &str = "appendonly.aof.";
const SEGMENT_SUFFIX: &str = ".incr.aof";
const BASE_SUFFIX: &str = ".base.rdb";
const BASE_TEMPORARY_SUFFIX: &str = ".base.rdb.tmp";
/// Far more than the segments of any log need.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// The name of a segment.
pub fn segment_name(seq: u64) -> String {
    format!("{NAME_PREFIX}{seq}{SEGMENT_SUFFIX}")
}

/// The name of a base.
pub fn base_name(seq: u64) -> String {
    format!("{NAME_PREFIX}{seq}{BASE_SUFFIX}")
}

pub(crate) fn temporary_base_name(seq: u64) -> String {
    format!("{NAME_PREFIX}{seq}{BASE_TEMPORARY_SUFFIX}")
}

/// What a file name of ours stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnName {
    Segment(u64),
    Base(u64),
    Temporary,
}

/// Tells our names from all others.
pub(crate) fn own_name(name: &str) -> Option<OwnName> {
    if name == MANIFEST_TEMPORARY_NAME {
        return Some(OwnName::Temporary);
    }
    let rest = name.strip_prefix(NAME_PREFIX)?;
    if let Some(digits) = rest.strip_suffix(SEGMENT_SUFFIX) {
        return number(digits).map(OwnName::Segment);
    }
    if let Some(digits) = rest.strip_suffix(BASE_SUFFIX) {
        return number(digits).map(OwnName::Base);
    }
    let digits = rest.strip_suffix(BASE_TEMPORARY_SUFFIX)?;
    number(digits).map(|_| OwnName::Temporary)
}

/// A decimal number without leading zeros or sign, at least 1.
fn number(digits: &str) -> Option<u64> {
    let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Which files make up the log. The segments are in order, with rising numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub base: Option<u64>,
    pub segments: Vec<u64>,
}

impl Manifest {
    pub fn parse(text: &[u8]) -> Result<Manifest, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "the manifest is no text")?;
        let whole = text.strip_suffix('\n').ok_or("the manifest does not end with a line end")?;
        let mut manifest = Manifest::default();
        for line in whole.split('\n').filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split(' ').collect();
            let ["file", name, "seq", seq, "type", kind] = fields[..] else {
                return Err("a line of the manifest has an unknown form");
            };
            let seq = number(seq).ok_or("the manifest has a wrong sequence number")?;
            match (kind, own_name(name)) {
                ("b", Some(OwnName::Base(named))) if named == seq && manifest.base.is_none() => {
                    manifest.base = Some(seq);
                }
                ("i", Some(OwnName::Segment(named)))
                    if named == seq && manifest.segments.last().is_none_or(|last| *last < seq) =>
                {
                    manifest.segments.push(seq);
                }
                _ => return Err("the manifest names a file this module does not write"),
            }
        }
        if manifest.segments.is_empty() {
            return Err("the manifest names no segment");
        }
        Ok(manifest)
    }

    pub fn to_text(&self) -> String {
        let base = self.base.map(|seq| format!("file {} seq {seq} type b\n", base_name(seq)));
        let segments = self.segments.iter().map(|seq| format!("file {} seq {seq} type i\n", segment_name(*seq)));
        base.into_iter().chain(segments).collect()
    }

    pub fn contains(&self, name: &str) -> bool {
        match own_name(name) {
            Some(OwnName::Base(seq)) => self.base == Some(seq),
            Some(OwnName::Segment(seq)) => self.segments.binary_search(&seq).is_ok(),
            Some(OwnName::Temporary) | None => false,
        }
    }

    pub fn load<S: Storage>(storage: &S) -> Result<Manifest, LogError> {
        let shown = storage.locate(MANIFEST_NAME);
        let foreign = |why: &str| LogError::ForeignFolder { file: shown.clone(), why: why.to_string() };
        let failed = |source| LogError::io("read", &shown, source);
        let file = storage.open_read(MANIFEST_NAME).map_err(failed)?;
        let bytes = file.len().map_err(failed)?;
        if bytes > MANIFEST_BYTES_MAX {
            return Err(foreign("the manifest is too long"));
        }
        let mut text = vec![0; bytes as usize];
        let count = file.read_at(0, &mut text).map_err(failed)?;
        text.truncate(count);
        Manifest::parse(&text).map_err(foreign)
    }

    /// Replaces the manifest on the disk. What it names must be durable before.
    ///
    /// A crash before the last step leaves the old or the new manifest, both whole: the new one's content is durable
    /// before it gets the name.
    pub fn store<S: Storage>(&self, storage: &S) -> Result<(), LogError> {
        let text = self.to_text();
        // Pair assertion: what is written must read back as the same.
        assert_eq!(Manifest::parse(text.as_bytes()).as_ref(), Ok(self), "a manifest must survive its own text");
        let shown = storage.locate(MANIFEST_TEMPORARY_NAME);
        let failed = |operation| move |source| (operation, source);
        let steps = || -> Result<(), (&'static str, std::io::Error)> {
            let mut file = storage.create(MANIFEST_TEMPORARY_NAME).map_err(failed("create"))?;
            file.write_all_at(0, text.as_bytes()).map_err(failed("write"))?;
            file.sync_data().map_err(failed("sync"))?;
            storage.rename(MANIFEST_TEMPORARY_NAME, MANIFEST_NAME).map_err(failed("rename"))?;
            storage.sync_dir().map_err(failed("sync the folder of"))
        };
        steps().map_err(|(operation, source)| LogError::io(operation, &shown, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_looks_like_the_servers() {
        let manifest = Manifest { base: Some(3), segments: vec![7, 8] };
        let text = "file appendonly.aof.3.base.rdb seq 3 type b\n\
                    file appendonly.aof.7.incr.aof seq 7 type i\n\
                    file appendonly.aof.8.incr.aof seq 8 type i\n";
        assert_eq!(manifest.to_text(), text);
        assert_eq!(Manifest::parse(text.as_bytes()), Ok(manifest));
    }

    #[test]
    fn manifests_of_other_programs_are_refused() {
        for text in [
            "",
            "\n",
            "file appendonly.aof.3.base.rdb seq 3 type b\n",
            "file appendonly.aof.7.incr.aof seq 7 type i",
            "file appendonly.aof.7.incr.aof seq 8 type i\n",
            "file appendonly.aof.7.incr.aof seq 7 type h\n",
            "file other.aof.7.incr.aof seq 7 type i\n",
            "file appendonly.aof.7.incr.aof seq 7 type i startoffset 1\n",
            "file appendonly.aof.8.incr.aof seq 8 type i\nfile appendonly.aof.7.incr.aof seq 7 type i\n",
            "file appendonly.aof.1.base.aof seq 1 type b\nfile appendonly.aof.7.incr.aof seq 7 type i\n",
        ] {
            assert!(Manifest::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Manifest::parse(b"\xff\n").is_err());
    }

    #[test]
    fn our_names_are_told_from_others() {
        assert_eq!(own_name("appendonly.aof.12.incr.aof"), Some(OwnName::Segment(12)));
        assert_eq!(own_name("appendonly.aof.1.base.rdb"), Some(OwnName::Base(1)));
        assert_eq!(own_name(&temporary_base_name(4)), Some(OwnName::Temporary));
        assert_eq!(own_name(MANIFEST_TEMPORARY_NAME), Some(OwnName::Temporary));
        for name in [
            "appendonly.aof.012.incr.aof",
            "appendonly.aof.+1.incr.aof",
            "appendonly.aof..incr.aof",
            "appendonly.aof.0.incr.aof",
            "appendonly.aof.1.base.aof",
            "appendonly.aof.x.base.rdb.tmp",
            "notes.tmp",
            MANIFEST_NAME,
        ] {
            assert_eq!(own_name(name), None, "{name}");
        }
    }
}
