//! Bringing base and log back.
//!
//! The base goes through a pipe into the server's own RDB loader (`RdbLoad`), with a sentinel key behind its last key. While the server loads,
//! nothing expires, past times are taken as they are, and other clients are answered with -LOADING: just what replaying needs. So the replay
//! happens in the `loaded` event of the sentinel. See `rdb` for what the stream leaves out and why.

use crate::ffi::{Ctx, Level, descriptor_path, load_rdb, log};
use crate::log::{BaseReader, Opened, Prepared, Verdict};
use crate::module::gate::{GatedFile, GatedStorage};
use crate::module::replay::{Report, apply_deferred, replay};
use crate::module::units::unix_ms;
use crate::module::waiting::while_loading;
use crate::module::with;
use crate::rdb::{self, RdbError, Summary};
use std::fs::File;
use std::io::BufReader;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Keys that expire within this time are loaded without expiry, too: the loader reads its own clock a moment later.
const EXPIRY_MARGIN_MS: i64 = 3_600_000;

/// How often progress is told in the server's log.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// What is recovered.
pub(crate) enum Source {
    /// A log that is to rest afterwards.
    Opened(Box<Opened<GatedStorage>>),
    /// A log that is to go on.
    Prepared(Box<Prepared<GatedStorage>>),
}

impl Deref for Source {
    type Target = Opened<GatedStorage>;

    fn deref(&self) -> &Opened<GatedStorage> {
        match self {
            Source::Opened(opened) => opened,
            Source::Prepared(prepared) => prepared,
        }
    }
}

/// A recovery under way, from the start of the loader to the sentinel's event.
struct Job {
    source: Source,
    /// Taken when the sentinel arrives.
    feeder: Option<JoinHandle<Result<Summary, RdbError>>>,
    sentinel: Vec<u8>,
    outcome: Option<Result<Report, String>>,
}

static JOB: Mutex<Option<Job>> = Mutex::new(None);

/// The log is being replayed: changes are nobody's but the log's own.
static REPLAYING: AtomicBool = AtomicBool::new(false);

/// Whether the log is being replayed. Asked once per event, millions of times then, so it is cheaper than the module's state.
pub(super) fn is_replaying() -> bool {
    REPLAYING.load(Ordering::Relaxed)
}

fn take_job() -> Option<Job> {
    JOB.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn put_job(job: Job) {
    *JOB.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
}

/// Replaces the dataset by that of the folder.
///
/// # Errors
/// What is wrong, for the server's log. The dataset is incomplete then and must not be served.
pub(crate) fn recover(ctx: Ctx<'_>, source: Source) -> Result<(Source, Report), String> {
    tell_verdict(&source);
    let started = Instant::now();
    if let Some(mut base) = source.read_base().map_err(|error| error.to_string())? {
        while_loading(ctx, "wbl-check", || (), move || check_base(&mut base))??;
    }
    let sentinel = format!("wbl:sentinel:{:x}:{:x}", unix_ms(), std::process::id()).into_bytes();
    let (reader, writer) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    // Where no commands follow the base, expired keys may go.
    let strip_before_ms = if ctx.flags().in_cluster() {
        i64::MIN
    } else {
        i64::try_from(unix_ms()).unwrap_or(i64::MAX).saturating_add(EXPIRY_MARGIN_MS)
    };
    let base = source.base().map(|base| source.storage().path(&base.name));
    let feeder = start_feeder(base, writer, sentinel.clone(), strip_before_ms)?;
    put_job(Job { source, feeder: Some(feeder), sentinel, outcome: None });
    let loaded = load_rdb(ctx, &descriptor_path(&reader));
    drop(reader);
    let job = take_job().ok_or("the recovery's state was lost")?;
    match job.outcome {
        Some(Ok(report)) if loaded => {
            log(
                Level::Notice,
                &format!(
                    "recovered in {} ms: {} keys of the base, {} commands of the log ({} bytes), up to position {}",
                    started.elapsed().as_millis(),
                    report.keys,
                    report.commands,
                    report.total_bytes,
                    job.source.next_lsn()
                ),
            );
            Ok((job.source, report))
        }
        Some(Err(reason)) => Err(reason),
        _ => Err("the server did not load the base".into()),
    }
}

fn tell_verdict(opened: &Opened<GatedStorage>) {
    match opened.verdict() {
        Verdict::TornTail { file, offset, bytes } => log(
            Level::Notice,
            &format!(
                "the log ends in an unfinished write, which nobody was told of: cutting {bytes} bytes at offset {offset} of {file}"
            ),
        ),
        verdict => log(Level::Notice, &format!("the log's end: {verdict:?}")),
    }
}

/// The server ends itself on a damaged RDB file, so the module looks first and names the place.
fn check_base(base: &mut BaseReader<GatedFile>) -> Result<(), String> {
    rdb::verify(base).map_err(|error| format!("the base {} is damaged: {error}", base.path()))?;
    // Its checksum is verified at its end.
    std::io::copy(base, &mut std::io::sink())
        .map_err(|error| format!("the base {} is damaged: {error}", base.path()))?;
    Ok(())
}

/// Replaces the dataset by an empty one, with which a recovery began that has failed.
///
/// # Errors
/// The server did not do it.
pub(super) fn empty_dataset(ctx: Ctx<'_>) -> Result<(), String> {
    let (reader, mut writer) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    let sentinel = format!("wbl:empty:{:x}:{:x}", unix_ms(), std::process::id()).into_bytes();
    // It is much shorter than what a pipe holds.
    rdb::splice(None, &mut writer, &sentinel, i64::MIN).map_err(|error| error.to_string())?;
    drop(writer);
    let loaded = load_rdb(ctx, &descriptor_path(&reader));
    let own = ctx.own();
    own.select_db(0);
    own.delete_key(&sentinel);
    if loaded { Ok(()) } else { Err("the server did not give up what was recovered so far".into()) }
}

fn start_feeder(
    base: Option<PathBuf>,
    mut writer: std::io::PipeWriter,
    sentinel: Vec<u8>,
    strip_before_ms: i64,
) -> Result<JoinHandle<Result<Summary, RdbError>>, String> {
    let file = match base {
        Some(path) => {
            Some(File::open(&path).map_err(|error| format!("the base {} can't be read: {error}", path.display()))?)
        }
        None => None,
    };
    let feed = move || match file {
        Some(file) => rdb::splice(Some(&mut BufReader::new(file)), &mut writer, &sentinel, strip_before_ms),
        None => rdb::splice(None, &mut writer, &sentinel, strip_before_ms),
    };
    std::thread::Builder::new().name("wbl-base".into()).spawn(feed).map_err(|error| format!("no thread: {error}"))
}

/// A key was loaded: if it is the sentinel, all of the base is there, and the log follows.
pub(super) fn key_loaded(ctx: Ctx<'_>, key: &[u8]) {
    let is_sentinel = JOB
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .is_some_and(|job| job.sentinel == key && job.outcome.is_none());
    if !is_sentinel {
        return;
    }
    let Some(Job { source, feeder: Some(feeder), sentinel, .. }) = take_job() else { return };
    let own = ctx.own();
    own.select_db(0);
    own.delete_key(&sentinel);
    // Only the end mark follows the sentinel in the pipe, so the feeder is not waiting for the loader.
    let outcome = match feeder.join() {
        Ok(Ok(summary)) => replay_log(ctx, &source, &summary),
        Ok(Err(error)) => Err(format!("the base could not be read: {error}")),
        Err(_) => Err("the thread that reads the base has failed".into()),
    };
    put_job(Job { source, feeder: None, sentinel, outcome: Some(outcome) });
}

fn replay_log(ctx: Ctx<'_>, opened: &Opened<GatedStorage>, summary: &Summary) -> Result<Report, String> {
    if !apply_deferred(ctx, &summary.deferred) {
        return Err("keys of the base could not be restored".into());
    }
    let mut report = Report { keys: summary.keys, total_bytes: opened.log_bytes(), ..Report::default() };
    let mut last_told = Instant::now();
    let mut tell = |report: &Report| {
        with(|module| module.recovered = Some(*report));
        if last_told.elapsed() >= TELL_EVERY {
            last_told = Instant::now();
            log(Level::Notice, &format!("replaying the log: {} of {} bytes", report.done_bytes, report.total_bytes));
        }
    };
    REPLAYING.store(true, Ordering::Relaxed);
    let replayed = replay(ctx, opened, &mut report, &mut tell);
    REPLAYING.store(false, Ordering::Relaxed);
    replayed.map(|()| report)
}
