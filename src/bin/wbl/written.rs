//! Writing a new log, with the module's own writer.

use crate::failure::Failure;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use valkey_wbl::core::unit;
use valkey_wbl::log::{
    Batch, Begin, FolderStorage, LogError, LogWriter, Lsn, NewBase, Options, StorageFile, Unit, open,
};
use valkey_wbl::rdb;

/// A frame is written when it has this many bytes.
const FRAME_BYTES: usize = 1 << 20;
const COPY_BYTES: usize = 1 << 20;

/// The time now.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// How a log is opened and written here.
pub fn options() -> Options {
    let check_base = |base: &mut dyn Read| rdb::verify(base).map(drop).map_err(|error| error.to_string());
    Options { check_base, ..Options::default() }
}

/// A log in the making, in a folder that gets its name when all is in it. If it is dropped before that, it is removed.
pub struct NewLog {
    /// Taken when it is finished.
    writer: Option<LogWriter<FolderStorage>>,
    batch: unit::Batch,
    unix_ms: u64,
    unfinished: PathBuf,
    out: PathBuf,
}

impl NewLog {
    /// Begins a log, with a copy of a base where there is one.
    pub fn create(out: &Path, base: Option<impl Read>) -> Result<NewLog, Failure> {
        let mut name = out.file_name().ok_or_else(|| Failure::text("the new folder has no name"))?.to_os_string();
        name.push(".unfinished");
        let unfinished = out.with_file_name(name);
        for path in [out, &unfinished] {
            if path.symlink_metadata().is_ok() {
                return Err(Failure::text(format!("{} is there already", path.display())));
            }
        }
        let storage = FolderStorage::new(&unfinished)?;
        let mut log = NewLog {
            writer: None,
            batch: unit::Batch::new(Lsn::ZERO),
            unix_ms: unix_ms(),
            unfinished,
            out: out.to_path_buf(),
        };
        let begin = if base.is_some() { Begin::WaitsForBase } else { Begin::Empty };
        let begun = open(storage, &options())?.into_folder().begin(begin, log.unix_ms);
        let mut writer = begun.map_err(|not_begun| not_begun.error)?;
        if let Some(base) = base {
            let (name, file) = writer.new_base_file()?;
            copy(base, file)?;
            let lsn = writer.appended();
            writer.install_base(&NewBase { name, lsn })?;
        }
        log.writer = Some(writer);
        Ok(log)
    }

    /// Adds a unit.
    pub fn push(&mut self, unit: &Unit<'_>) -> Result<(), Failure> {
        if unit.unix_ms != self.unix_ms || self.batch.len() >= FRAME_BYTES {
            self.write()?;
            self.unix_ms = unit.unix_ms;
        }
        let mut copy = unit::Unit::at(None);
        unit.commands().for_each(|command| copy.command(command.db, command.args));
        self.batch.push(&copy);
        Ok(())
    }

    fn write(&mut self) -> Result<(), LogError> {
        let (Some(writer), false) = (&mut self.writer, self.batch.is_empty()) else { return Ok(()) };
        let payload = self.batch.take(Vec::new());
        writer.append(Batch { start: writer.appended(), payload: &payload, unix_ms: self.unix_ms }).map(drop)
    }

    /// Makes the log durable, and gives the folder its name.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.write()?;
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        writer.remove_leftovers();
        let folder = writer.close()?;
        if let Some(error) = folder.seal_error() {
            return Err(Failure::text(error.to_string()));
        }
        let shown = self.out.display().to_string();
        let renamed = fs::rename(&self.unfinished, &self.out);
        renamed.map_err(Failure::io(format!("cannot name the folder {shown}")))?;
        let parent = self.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(Failure::io(format!("cannot sync the folder of {shown}")))
    }
}

impl Drop for NewLog {
    fn drop(&mut self) {
        self.writer = None;
        // A finished one has nothing under this name.
        let _ = fs::remove_dir_all(&self.unfinished);
    }
}

fn copy(mut from: impl Read, mut to: impl StorageFile) -> Result<(), Failure> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let count = from.read(&mut buffer).map_err(Failure::io("cannot read the base"))?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        to.write_all_at(at, bytes).map_err(Failure::io("cannot write the base"))?;
        at += count as u64;
    }
}
