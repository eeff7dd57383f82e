//! The progress of long work, on stderr if that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Read};

/// Work on a number of bytes.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub fn of_bytes(what: &'static str, total: u64) -> Progress {
        let is_seen = io::stderr().is_terminal();
        let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_message(what);
        let form = "{msg} {bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        Progress { bar }
    }

    /// Sets how many bytes are done.
    pub fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Reads, and shows the progress.
pub struct Shown<'p, R> {
    pub from: R,
    pub at: u64,
    pub progress: &'p Progress,
}

impl<R: Read> Read for Shown<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.at += count as u64;
        self.progress.at(self.at);
        Ok(count)
    }
}
