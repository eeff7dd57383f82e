//! A capture that is driven with words.

use crate::core::args;
use crate::core::capture::{Capture, Class};
use crate::core::event::{Done, Event, EventKind, Keeps, Outcome};
use crate::core::silent::{Proof, SilentChanges};
use crate::core::table::{self, CommandSpec};
use crate::core::unit::{Batch, Unit};
use crate::log::{Lsn, resp::Commands};

pub(super) const NOW_MS: i64 = 1_000_000;

/// A capture with words for arguments.
pub(super) struct Hooks(pub(super) Capture, Keeps);

/// What a command may change that no event reports.
pub(super) fn silent(command: &str) -> SilentChanges {
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    SilentChanges::of(spec_of(command), words.len(), |index| words[index], &[])
}

fn spec_of(command: &str) -> &'static CommandSpec {
    let name = command.split(' ').next().expect("a name").to_ascii_lowercase();
    table::find(&name).expect("in the table")
}

impl Hooks {
    pub(super) fn new() -> Hooks {
        Hooks(Capture::default(), Keeps::None)
    }

    /// The server keeps these keys that have expired, from now on.
    pub(super) fn keep(&mut self, keeps: Keeps) -> &mut Self {
        self.1 = keeps;
        self
    }

    pub(super) fn write(&mut self, client: u64, command: &str) -> &mut Self {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.0.command(client, Class::Write(spec_of(command)), Some(0), words.into_iter());
        self
    }

    /// The same for a command of a script or module that no event reports. `count` is the count that proves it.
    pub(super) fn silent_inside(&mut self, client: u64, command: &str, count: u64) -> &mut Self {
        let spec = spec_of(command);
        self.write(client, command);
        self.0.unseen_inside(silent(command), Proof::of(spec), || Some([count, 0]));
        self
    }

    /// What ran is over; `count` is the count by then.
    pub(super) fn prove(&mut self, count: u64) -> &mut Self {
        self.0.prove(NOW_MS, |_| Some([count, 0]));
        self
    }

    pub(super) fn class(&mut self, client: u64, class: Class) -> &mut Self {
        self.0.command(client, class, None, std::iter::empty());
        self
    }

    pub(super) fn raise(
        &mut self,
        client: u64,
        in_exec: bool,
        name: &str,
        key: &str,
        outcome: Option<Outcome>,
    ) -> &mut Self {
        self.0.event(Event {
            client,
            db: 0,
            key: key.as_bytes(),
            name: name.as_bytes(),
            kind: EventKind::of(name.as_bytes()),
            removed_by_server: name == "expired" || name == "evicted",
            expired: name == "expired",
            in_exec,
            now_ms: Some(NOW_MS),
            outcome,
            keeps: self.1,
        });
        self
    }

    pub(super) fn event(&mut self, client: u64, name: &str, key: &str) -> &mut Self {
        self.raise(client, false, name, key, None)
    }

    pub(super) fn exec_event(&mut self, client: u64, name: &str, key: &str) -> &mut Self {
        self.raise(client, true, name, key, None)
    }

    /// The server says that a command of an EXEC has run.
    pub(super) fn done(&mut self, client: u64, command: &str, changed: bool, db: u32) -> &mut Self {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let done = Done { changed, failed: false, db: Some(db), keeps: self.1 };
        self.0.command_done(client, &words, done, NOW_MS);
        self
    }

    /// Queues commands and begins their EXEC on a server that reports when each has run.
    pub(super) fn exec_stepwise(&mut self, client: u64, commands: &[&str]) -> &mut Self {
        self.class(client, Class::Multi);
        for command in commands {
            self.write(client, command);
        }
        self.class(client, Class::Exec);
        self.0.exec_stepwise(client);
        self
    }

    /// Queues commands and begins their EXEC on a server that does not; it has sent `errors` error replies so far.
    pub(super) fn exec_whole(&mut self, client: u64, commands: &[&str], errors: u64) -> &mut Self {
        self.class(client, Class::Multi);
        for command in commands {
            self.write(client, command);
        }
        self.0.command(client, Class::Exec, Some(0), std::iter::empty());
        self.0.exec(client, || Some(errors), self.1, NOW_MS);
        self
    }

    pub(super) fn end(&mut self) -> (String, Vec<String>) {
        let keeps = self.1;
        match self.0.end_unit(|| Some(0), || keeps) {
            Some(unit) => told(unit),
            None => (String::new(), Vec::new()),
        }
    }

    /// The unit of evictions that ends now.
    pub(super) fn evictions(&mut self) -> String {
        told(self.0.take_evictions().expect("a unit of evictions")).0
    }

    pub(super) fn logged(&mut self) -> String {
        let (commands, images) = self.end();
        assert!(images.is_empty(), "images of {images:?}");
        commands
    }

    pub(super) fn imaged(&mut self) -> Vec<String> {
        self.end().1
    }
}

/// A unit's commands without markers, and the keys whose images it asks for.
pub(super) fn told(mut unit: Unit) -> (String, Vec<String>) {
    let mut images: Vec<String> =
        unit.take_images().iter().map(|(_, key)| String::from_utf8_lossy(key).into_owned()).collect();
    images.extend(unit.take_images_everywhere().iter().map(|key| String::from_utf8_lossy(key).into_owned()));
    images.sort();
    let mut batch = Batch::new(Lsn::ZERO);
    batch.push(&unit);
    let payload = batch.take(Vec::new());
    let commands: Vec<String> = Commands::new(&payload)
        .map(|command| String::from_utf8_lossy(&command.expect("valid").args.join(&b' ')).into_owned())
        .filter(|command| !["MULTI", "EXEC", "SELECT 0"].contains(&command.as_str()))
        .collect();
    (commands.join("; "), images)
}

/// How many arguments the capture looks at while `body` runs.
pub(super) fn work_of(body: impl FnOnce()) -> usize {
    let count = || args::work::ARGUMENTS_READ.with(std::cell::Cell::get);
    let before = count();
    body();
    count() - before
}
