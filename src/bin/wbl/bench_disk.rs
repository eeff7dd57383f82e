//! `wbl bench-disk`: how quick flushes are, and what to set accordingly.

use crate::failure::Failure;
use crate::shown::size;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use valkey_wbl::log::{FolderStorage, Storage, StorageFile};

const SIZES: [u64; 5] = [200, 1000, 4096, 65_536, 1 << 20];
const FILE_BYTES: u64 = 64 << 20;
/// The disk is asked for the smaller blocks first.
const BLOCKS: [u64; 2] = [512, 4096];
const ALIGNMENT: usize = 4096;
/// No disk makes anything durable in less time.
const TOO_QUICK_US: u128 = 12;
/// Where a flush takes longer, the module leaves it to its own threads.
const SLOW_US: u128 = 5000;

/// Measures how long it takes to make a write durable in a folder, by size and way, and says what to set.
///
/// It writes to one file of 64 MB in the folder, written ahead as a segment is, and removes it.
#[derive(clap::Args)]
pub struct Arguments {
    /// A folder on the disk that the log is to be on.
    folder: PathBuf,
    /// Seconds for each size and way.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// How a write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Through the page cache, then fdatasync.
    Buffered,
    /// Past it, in blocks of so many bytes.
    Direct(u64),
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Buffered => "buffered",
            Way::Direct(_) => "direct",
        }
    }
}

/// What was measured of one size and way.
struct Measured {
    way: Way,
    bytes: u64,
    /// Sorted.
    times: Vec<Duration>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let storage = crate::folder::storage(&arguments.folder)?;
    let name = format!("temp-wbl-bench-disk-{}", std::process::id());
    let removed = RemovedAtEnd(arguments.folder.join(&name));
    let measured = measure(&storage, &name, Duration::from_secs_f64(arguments.seconds.clamp(0.01, 60.0)))?;
    drop(removed);
    let advice = advice(&arguments.folder, &measured);
    let text = if arguments.json { format!("{}\n", json_of(&measured, &advice)) } else { text_of(&measured, &advice) };
    io::stdout().write_all(text.as_bytes()).map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// A file that goes when this is dropped.
struct RemovedAtEnd(PathBuf);

impl Drop for RemovedAtEnd {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn measure(storage: &FolderStorage, name: &str, time: Duration) -> Result<Vec<Measured>, Failure> {
    let failed = |what: &str| Failure::io(format!("cannot {what} {}", storage.locate(name)));
    let mut file = storage.create(name).map_err(failed("create"))?;
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(at, &zeros).map_err(failed("write"))?;
    }
    StorageFile::sync_data(&mut file).map_err(failed("sync"))?;
    storage.sync_dir().map_err(failed("sync the folder of"))?;
    let direct = storage.reopen_direct(name, &file).ok();
    let mut measured = Vec::new();
    for bytes in SIZES {
        measured.push(repeat(&mut file, Way::Buffered, bytes, time).map_err(failed("write"))?);
    }
    let Some(mut direct) = direct else { return Ok(measured) };
    let block = BLOCKS.into_iter().find(|block| repeat(&mut direct, Way::Direct(*block), 1, Duration::ZERO).is_ok());
    let Some(block) = block else { return Ok(measured) };
    for bytes in SIZES {
        measured.push(repeat(&mut direct, Way::Direct(block), bytes, time).map_err(failed("write"))?);
    }
    Ok(measured)
}

/// Writes one after another, at least one, each durable before the next.
fn repeat(file: &mut File, way: Way, bytes: u64, time: Duration) -> io::Result<Measured> {
    let block = if let Way::Direct(block) = way { block } else { 1 };
    let written = bytes.next_multiple_of(block);
    let memory = vec![b'#'; usize::try_from(written).unwrap_or(0) + ALIGNMENT];
    let skipped = memory.as_ptr().addr().next_multiple_of(ALIGNMENT) - memory.as_ptr().addr();
    let piece = memory.get(skipped..skipped + usize::try_from(written).unwrap_or(0)).unwrap_or_default();
    let (began, mut at, mut times) = (Instant::now(), 0, Vec::new());
    while times.is_empty() || began.elapsed() < time {
        if at + written > FILE_BYTES {
            at = 0;
        }
        let start = Instant::now();
        match way {
            Way::Buffered => {
                file.write_all_at(at, piece)?;
                StorageFile::sync_data(file)?;
            }
            Way::Direct(_) => file.write_durably_at(at, piece)?,
        }
        times.push(start.elapsed());
        at += written;
    }
    times.sort();
    Ok(Measured { way, bytes, times })
}

impl Measured {
    fn us(&self, percent: usize) -> u128 {
        let index = (self.times.len() * percent / 100).min(self.times.len().saturating_sub(1));
        self.times.get(index).map_or(0, Duration::as_micros)
    }
}

/// What the numbers mean for the settings.
fn advice(folder: &Path, measured: &[Measured]) -> Vec<String> {
    let small = |is_direct: bool| {
        let found = measured.iter().find(|one| one.bytes == SIZES[0] && matches!(one.way, Way::Direct(_)) == is_direct);
        found.map(|found| (found.us(50), found.us(99)))
    };
    let mut advice = Vec::new();
    let Some((buffered, slowest)) = small(false) else { return advice };
    let direct = small(true);
    let best = direct.map_or(buffered, |(direct, _)| direct.min(buffered));
    if best < TOO_QUICK_US {
        advice.push(format!(
            "WARNING: a flush takes {best} us, which no disk does: {} is in memory, or the disk (or the machine below \
             it) says that data are durable that are not. A loss of power loses what was acknowledged",
            folder.display()
        ));
    }
    match direct {
        Some((direct, _)) if direct <= buffered + buffered / 4 => {
            advice.push("wbl.io-mode auto (the default): writes past the page cache are no slower here".into());
        }
        Some(_) => advice.push("wbl.io-mode buffered: writes past the page cache are slower here".into()),
        None => advice.push("wbl.io-mode buffered: this file system has no writes past the page cache".into()),
    }
    if best > SLOW_US {
        advice.push("wbl.commit-mode async: flushes are slow; writers wait for them, readers do not".into());
    } else {
        advice.push("wbl.commit-mode auto (the default)".into());
    }
    let flushes = (best / 100).clamp(1, 16);
    advice.push(format!("wbl.max-inflight-flushes 0 (the default) comes to about {flushes} here"));
    advice
        .push(format!("one client that waits for each of its writes does about {} a second", 1_000_000 / best.max(1)));
    if slowest > 20 * buffered.max(1) {
        advice.push(format!("one flush of a hundred takes {slowest} us or longer: something else uses the disk"));
    }
    advice
}

fn text_of(measured: &[Measured], advice: &[String]) -> String {
    let mut text = format!("{:<10} {:>10} {:>10} {:>10} {:>10}\n", "way", "bytes", "p50 us", "p99 us", "flushes");
    for one in measured {
        let (way, bytes, count) = (one.way.name(), size(one.bytes), one.times.len());
        text += &format!("{way:<10} {bytes:>10} {:>10} {:>10} {count:>10}\n", one.us(50), one.us(99));
    }
    advice.iter().fold(text + "\n", |text, line| text + line + "\n")
}

fn json_of(measured: &[Measured], advice: &[String]) -> Value {
    let rows = measured.iter().map(|one| {
        json!({
            "way": one.way.name(),
            "bytes": one.bytes,
            "p50_us": u64::try_from(one.us(50)).unwrap_or(u64::MAX),
            "p99_us": u64::try_from(one.us(99)).unwrap_or(u64::MAX),
            "flushes": one.times.len(),
        })
    });
    json!({ "measured": rows.collect::<Vec<_>>(), "advice": advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(buffered_us: u64, direct_us: u64) -> Vec<Measured> {
        let of = |way, us| Measured { way, bytes: SIZES[0], times: vec![Duration::from_micros(us); 9] };
        vec![of(Way::Buffered, buffered_us), of(Way::Direct(512), direct_us)]
    }

    #[test]
    fn advice_follows_from_the_numbers() {
        let advice_for = |buffered, direct| advice(Path::new("/x"), &measured(buffered, direct)).join("\n");
        assert!(advice_for(3, 4).contains("WARNING") && !advice_for(100, 100).contains("WARNING"));
        assert!(advice_for(100, 100).contains("io-mode auto") && advice_for(100, 300).contains("io-mode buffered"));
        assert!(advice_for(9000, 9000).contains("commit-mode async") && advice_for(800, 800).contains("about 8 here"));
    }
}
