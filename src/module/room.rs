//! Room on the disk, and in memory.

use std::path::Path;

/// How many bytes are free on this file's disk; `None` where the system does not say.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(path).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize))
}

/// How many bytes of memory a process could still take, without swap: of the machine's, and of what its control group
/// may have (`memory.max` of version 2). `None` where the system does not say.
pub(super) fn free_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let available = available_bytes(&read("/proc/meminfo")?)?;
    let group = read("/proc/self/cgroup").and_then(|groups| Some(groups.trim().rsplit_once("::")?.1.to_string()));
    let of_group = |name: &str| read(&format!("/sys/fs/cgroup{}/{name}", group.as_deref()?.trim_end_matches('/')));
    let number = |name| of_group(name).and_then(|text| text.trim().parse::<u64>().ok());
    // Without a bound there is no number.
    let left = number("memory.max").zip(number("memory.current")).map(|(most, taken)| most.saturating_sub(taken));
    Some(left.map_or(available, |left| left.min(available)))
}

/// `MemAvailable` of `/proc/meminfo`, which counts in units of 1024 bytes.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// How much of a file could be written, and what room there is.
pub(super) fn written_and_free(path: &Path) -> String {
    let written = std::fs::metadata(path).map(|metadata| metadata.len());
    match (written, free_bytes(path)) {
        (Ok(written), Some(free)) => {
            format!("{written} bytes of it are written, and {free} bytes are free on the disk")
        }
        _ => "the system does not say how much room there is".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{available_bytes, free_memory};

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:       8 kB\nMemAvailable:    3 kB\nBuffers: 1 kB\n";
        assert_eq!(available_bytes(text), Some(3072));
        assert_eq!(available_bytes("MemAvailable: many kB"), None);
        assert_eq!(available_bytes(""), None);
        assert!(free_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
