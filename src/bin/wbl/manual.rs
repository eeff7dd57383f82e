//! `wbl manual`: the manual pages, for packages.

use crate::failure::Failure;
use std::path::PathBuf;
use std::process::ExitCode;

/// Writes the manual pages into a folder: one for the program, one for each of its commands.
#[derive(clap::Args)]
pub struct Arguments {
    folder: PathBuf,
}

pub fn run(arguments: &Arguments, command: clap::Command) -> Result<ExitCode, Failure> {
    let written = clap_mangen::generate_to(command, &arguments.folder);
    written.map_err(Failure::io(format!("cannot write to {}", arguments.folder.display())))?;
    Ok(ExitCode::SUCCESS)
}
