//! The `wbl` tool, as people run it.

pub mod exporter;

use std::path::Path;
use std::process::Command;

/// What a run of the tool did.
pub struct Ran {
    /// Its exit status.
    pub status: i32,
    pub out: String,
    pub errors: String,
}

/// Runs the tool.
pub fn wbl(command: &str, folder: &Path, options: &[&str]) -> Ran {
    let program = Path::new(env!("CARGO_BIN_EXE_wbl"));
    let ran = Command::new(program).arg(command).arg(folder).args(options).output().expect("the tool runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { status: ran.status.code().expect("an exit status"), out: text(&ran.stdout), errors: text(&ran.stderr) }
}

impl Ran {
    /// The output of a run that went well.
    pub fn good(self) -> String {
        assert_eq!(self.status, 0, "{}{}", self.out, self.errors);
        self.out
    }

    /// The last words of each line of the output that went well: without positions and time.
    pub fn commands(self) -> Vec<String> {
        let words = |line: &str| line.splitn(3, ' ').nth(2).unwrap_or_default().to_string();
        self.good().lines().map(words).collect()
    }
}
