//! Recovering base and log.
//!
//! The base goes through a pipe into the server's own RDB loader (`RdbLoad`), with a sentinel key after its last key.
//! While the server loads, nothing expires, past times are accepted, and other clients are answered with -LOADING,
//! which is just what replaying needs. So the replay happens in the `loaded` event of the sentinel. See `rdb` for what
//! the stream leaves out and why.

use crate::ffi::{Ctx, Level, descriptor_path, log};
use crate::lock::lock;
use crate::log::{BaseReader, Opened, Prepared, Verdict};
use crate::machine::unix_ms;
use crate::module::deferred::Spool;
use crate::module::gate::{GatedFile, GatedStorage};
use crate::module::own_aof::load_dataset;
use crate::module::replay::{Report, replay};
use crate::module::waiting::while_loading;
use crate::module::{demands, homes, server, with};
use crate::rdb::{self, EarlyFields, Needs, RdbError, Summary};
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often progress is reported in the server's log.
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
    /// What was found in the base before it was loaded.
    verified: Summary,
    /// Taken when the sentinel arrives.
    feeder: Option<Feeder>,
    sentinel: Vec<u8>,
    since: Instant,
    outcome: Option<Result<Report, String>>,
}

/// The thread that passes the base on.
type Feeder = JoinHandle<Result<(Summary, Spool), RdbError>>;

static JOB: Mutex<Option<Job>> = Mutex::new(None);

/// The log is being replayed: all changes are the log's own.
static REPLAYING: AtomicBool = AtomicBool::new(false);

/// Whether the log is being replayed. Asked once per event, millions of times then, so it is cheaper than the module's
/// state.
pub(super) fn is_replaying() -> bool {
    REPLAYING.load(Ordering::Relaxed)
}

fn take_job() -> Option<Job> {
    lock(&JOB).take()
}

/// Drops what is under way, for [`crate::module::forget`].
pub(super) fn forget() {
    std::mem::forget(take_job());
    REPLAYING.store(false, Ordering::Relaxed);
}

fn put_job(job: Job) {
    *lock(&JOB) = Some(job);
}

/// A base that was examined: the server will load it, as far as can be known before.
pub(crate) struct Examined {
    summary: Summary,
    since: Instant,
}

/// Looks at what the folder holds before anything of it is replaced or removed. The server loads meanwhile, which
/// empties its dataset.
///
/// # Errors
/// What is wrong, for the server's log.
pub(crate) fn examine(ctx: Ctx<'_>, opened: &Opened<GatedStorage>) -> Result<Examined, String> {
    tell_verdict(opened);
    let since = Instant::now();
    let summary = match opened.read_base().map_err(|error| error.to_string())? {
        Some(mut base) => {
            let path = base.path().to_string();
            let (summary, needs) = while_loading(ctx, "wbl-check", || (), move || check_base(&mut base))??;
            demands::check(ctx, &needs).map_err(|reason| format!("the base {path} can't be loaded: {reason}"))?;
            summary
        }
        None => Summary::default(),
    };
    Ok(Examined { summary, since })
}

/// Replaces the dataset with that of the folder.
///
/// # Errors
/// What is wrong, for the server's log. The dataset is incomplete then and must not be served.
pub(crate) fn recover(ctx: Ctx<'_>, source: Source, examined: Examined) -> Result<(Source, Report), String> {
    let Examined { summary: verified, since } = examined;
    let sentinel = format!("wbl:sentinel:{:x}:{:x}", unix_ms(), std::process::id()).into_bytes();
    let (reader, writer) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    let feeder = start_feeder(ctx, &source, writer, sentinel.clone())?;
    put_job(Job { source, verified, feeder: Some(feeder), sentinel, since, outcome: None });
    let loaded = load_dataset(ctx, &descriptor_path(&reader));
    drop(reader);
    let job = take_job().ok_or("the recovery's state was lost")?;
    match job.outcome {
        Some(Ok(report)) if loaded => {
            log(
                Level::Notice,
                &format!(
                    "recovered in {} ms: {} keys of the base, {} commands of the log ({} bytes), up to position {}",
                    since.elapsed().as_millis(),
                    report.keys,
                    report.commands,
                    report.total_bytes,
                    job.source.next_lsn()
                ),
            );
            let base_bytes = job.source.base().map_or(0, |base| base.bytes);
            let (base, log) = ((base_bytes, report.base_us), (report.total_bytes, report.log_us));
            with(|module| module.bases.speed.measured(base, log));
            Ok((job.source, report))
        }
        Some(Err(reason)) => Err(reason),
        _ => {
            Err("the server did not load the base, for the reason that it gave before this line; a base that a newer \
                  server wrote is loaded by servers of that version or newer"
                .into())
        }
    }
}

fn tell_verdict(opened: &Opened<GatedStorage>) {
    match opened.verdict() {
        Verdict::TornTail { file, offset, bytes, kept_as } => log(
            Level::Warning,
            &format!(
                "the log ends in an unfinished write, and nothing proves that any of it was acknowledged: cutting {bytes} bytes at offset {offset} of {file}, which are kept in {kept_as}"
            ),
        ),
        Verdict::Clean => log(Level::Notice, "the log ends with a whole unit"),
        Verdict::Fresh => log(Level::Notice, "the folder holds no log yet"),
    }
}

/// The server exits on a damaged RDB file, so the module looks first and names the place.
fn check_base(base: &mut BaseReader<GatedFile>) -> Result<(Summary, Needs), String> {
    // Length and checksum that the manifest states are verified at its end, which the walk reads.
    let (summary, needs) =
        rdb::examine(base).map_err(|error| format!("the base {} is damaged: {error}", base.path()))?;
    if !summary.checked && !base.has_checksum() {
        log(
            Level::Warning,
            &format!("the base {} has no checksum (rdbchecksum no): it can't be verified", base.path()),
        );
    }
    Ok((summary, needs))
}

/// Replaces the dataset with an empty one, as it was before a recovery that has failed.
///
/// # Errors
/// The server did not do it.
pub(super) fn empty_dataset(ctx: Ctx<'_>) -> Result<(), String> {
    let (reader, mut writer) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    let sentinel = format!("wbl:empty:{:x}:{:x}", unix_ms(), std::process::id()).into_bytes();
    rdb::write_empty(&mut writer, &sentinel).map_err(|error| error.to_string())?;
    drop(writer);
    // Nothing may report it any more.
    homes::loading_began(ctx);
    let loaded = load_dataset(ctx, &descriptor_path(&reader));
    homes::loading_ended();
    let own = ctx.own();
    own.select_db(0);
    own.delete_key(&sentinel);
    if loaded { Ok(()) } else { Err("the server did not give up what was recovered so far".into()) }
}

fn start_feeder(
    ctx: Ctx<'_>,
    opened: &Opened<GatedStorage>,
    mut writer: std::io::PipeWriter,
    sentinel: Vec<u8>,
) -> Result<Feeder, String> {
    let base = opened.read_base().map_err(|error| error.to_string())?;
    // In a cluster no command can give them their times.
    let fields = if ctx.flags().in_cluster() { EarlyFields::LeftOut } else { EarlyFields::Deferred };
    let mut spool = Spool::new(opened.storage().path(""), fields);
    let feed = move || {
        let summary = match base {
            Some(mut base) => rdb::splice(Some(&mut base), &mut writer, &sentinel, &mut spool)?,
            None => rdb::splice(None, &mut writer, &sentinel, &mut spool)?,
        };
        Ok((summary, spool))
    };
    std::thread::Builder::new().name("wbl-base".into()).spawn(feed).map_err(|error| format!("no thread: {error}"))
}

/// A key was loaded: if it is the sentinel, all of the base is there, and the log follows.
pub(super) fn key_loaded(ctx: Ctx<'_>, key: &[u8]) {
    let is_sentinel = lock(&JOB).as_ref().is_some_and(|job| job.sentinel == key && job.outcome.is_none());
    if !is_sentinel {
        return;
    }
    let Some(Job { source, verified, feeder: Some(feeder), sentinel, since, .. }) = take_job() else { return };
    let own = ctx.own();
    own.select_db(0);
    own.delete_key(&sentinel);
    // Only the end mark follows the sentinel in the pipe, so the feeder is not waiting for the loader.
    let outcome = match feeder.join() {
        Ok(Ok((summary, _))) if summary != verified => Err("the base has changed since it was verified".into()),
        Ok(Ok((summary, spool))) => {
            finish_base(ctx, &summary, spool).and_then(|()| replay_log(ctx, &source, &summary, since))
        }
        Ok(Err(error)) => Err(format!("the base could not be read: {error}")),
        Err(_) => Err("the thread that reads the base has failed".into()),
    };
    put_job(Job { source, verified, feeder: None, sentinel, since, outcome: Some(outcome) });
}

/// Completes the dataset of the base, all of which must be there.
fn finish_base(ctx: Ctx<'_>, summary: &Summary, spool: Spool) -> Result<(), String> {
    spool.apply(ctx)?;
    if server::key_count(ctx) != Some(summary.keys) {
        return Err(format!("the server did not load all of the base's {} keys", summary.keys));
    }
    if summary.fields_expire {
        // The log has them, even if they have expired and memory has none.
        with(|module| module.capture.fields_expire());
    }
    Ok(())
}

fn replay_log(
    ctx: Ctx<'_>,
    opened: &Opened<GatedStorage>,
    summary: &Summary,
    since: Instant,
) -> Result<Report, String> {
    let base_us = since.elapsed().as_micros() as u64;
    let mut report = Report { keys: summary.keys, total_bytes: opened.log_bytes(), base_us, ..Report::default() };
    let began = Instant::now();
    let mut last_told = began;
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
    report.log_us = began.elapsed().as_micros() as u64;
    replayed.map(|()| report)
}
