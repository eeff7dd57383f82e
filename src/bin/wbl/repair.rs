//! `wbl repair`: cuts what is not good at the end of a log, and keeps it.

use crate::failure::{DAMAGED, Failure};
use crate::folder;
use crate::shown::size;
use crate::written::{options, unix_ms};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use valkey_wbl::log::{Damage, FolderStorage, LogError, Opened, Verdict, open};
use valkey_wbl::rdb;

/// Cuts a damaged log at the damage, so that a server starts on what is good before it; or the end that a crash has
/// left unfinished, as a start does.
///
/// Without --yes it only shows what would go. What is cut stays in the folder, under a name that it prints. What goes
/// of a damaged log was acknowledged: restore a backup if there is one. It refuses a folder that a server uses.
///
/// Exit status: 0 if nothing is left to be done, 1 if something is to be cut, 2 for errors.
#[derive(clap::Args)]
pub struct Arguments {
    /// The log's folder (wbl.dir).
    folder: PathBuf,
    /// Does it.
    #[arg(long)]
    yes: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let found = Damage::find(folder::storage(&arguments.folder)?);
    let damage = found.map_err(|error| match error {
        LogError::Damaged { .. } => {
            Failure::text(format!("{error}. Without manifest and base nothing is left of a log: restore a backup"))
        }
        error => error.into(),
    })?;
    match damage {
        Some(damage) => arguments.cut(damage),
        None => arguments.cut_torn_end(),
    }
}

impl Arguments {
    fn cut(&self, damage: Damage<FolderStorage>) -> Result<ExitCode, Failure> {
        if let Some(mut base) = damage.view().read_base()?
            && let Err(error) = rdb::verify(&mut base)
        {
            return Err(Failure::text(format!(
                "{}: {error}. Without it nothing is left: restore a backup",
                base.path()
            )));
        }
        let mut text = format!("{}\nthe log is good up to position {}; what goes:\n", damage.error(), damage.end());
        for gone in damage.gone() {
            text += &format!("  {}: {} from byte {} on\n", gone.file, size(gone.bytes), gone.offset);
        }
        say(&text)?;
        if !self.yes {
            say("nothing was changed; with --yes that is cut, and kept in a folder beside the log's files\n")?;
            return Ok(ExitCode::from(DAMAGED));
        }
        let now = unix_ms();
        let kept_in = format!("cut-by-repair-{now}");
        damage.cut(&kept_in, now)?;
        say(&format!("cut; all of it is kept in {}\n", self.folder.join(kept_in).display()))?;
        let shown = self.check()?;
        say("a server with data of its own (an RDB file, an AOF) will ask which counts: wbl.on-existing-log\n")?;
        Ok(shown)
    }

    fn cut_torn_end(&self) -> Result<ExitCode, Failure> {
        let opened = open(folder::storage(&self.folder)?, &options())?;
        let Verdict::TornTail { file, offset, bytes, kept_as } = opened.verdict().clone() else {
            say("the log is good: there is nothing to cut (the base was not read: see `wbl check`)\n")?;
            return Ok(ExitCode::SUCCESS);
        };
        say(&format!(
            "{file}: an unfinished end of {} from byte {offset} on, and nothing proves that it was acknowledged\n",
            size(bytes)
        ))?;
        if !self.yes {
            say("nothing was changed; a start cuts it, and so does --yes\n")?;
            return Ok(ExitCode::from(DAMAGED));
        }
        close(opened)?;
        say(&format!("cut; it is kept as {kept_as}\n"))?;
        self.check()
    }

    /// Opens it as a start does.
    fn check(&self) -> Result<ExitCode, Failure> {
        let opened = open(folder::storage(&self.folder)?, &options())?;
        say(&format!("the log ends at position {}\n", opened.next_lsn()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Does what a start does, and ends.
fn close(opened: Opened<FolderStorage>) -> Result<(), Failure> {
    let mut writer = opened.prepare(unix_ms())?.start()?;
    writer.remove_leftovers();
    writer.close()?;
    Ok(())
}

fn say(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(Failure::output)
}
