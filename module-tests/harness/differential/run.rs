//! Runs steps, kills the server, and compares what it held with what it holds.

use super::state::{self, Exactness, KeyName, State};
use super::words::{Words, resolve, words};
use super::{Step, generate};
use crate::harness::conditions::Conditions;
use crate::harness::server::info_field;
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use valkey_wbl::log::sim;

/// Commands of one seed.
const COMMANDS: usize = 5000;
/// What may be spent on making a failing sequence shorter.
const SHRINKING: Duration = Duration::from_secs(20);
/// Commands on their way at once.
const PIPELINE: usize = 48;
/// Longer than all short expiry times.
const DOWNTIME: Duration = Duration::from_millis(260);
/// Differences that are told.
const TOLD: usize = 4;
/// Steps that are told of each key that differs.
const TOLD_STEPS: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Module,
    /// The server's own AOF, to prove that the test is right.
    Stock,
}

/// What happens besides the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    AtOnce,
    /// The server is down for longer than the short expiry times.
    Downtime,
    /// New bases are made: one while commands go on, one between them.
    Checkpoints,
    /// A second kill, after more commands.
    TwoKills,
}

/// Keys that differ, and how.
pub struct Failure {
    what: String,
    differences: Vec<(KeyName, String)>,
}

#[derive(Clone, Copy)]
pub struct Plan {
    pub version: Version,
    pub kind: Kind,
    pub variant: Variant,
    /// What goes on around the commands.
    pub conditions: Conditions,
}

/// Runs this many seeds of this variant.
pub fn seeds(plan: &Plan, count: u64) {
    for seed in sim::seeds(1000 * (1 + plan.variant as u64), count) {
        let conditions = match plan.kind {
            Kind::Module => Conditions::of_seed(seed),
            Kind::Stock => Conditions::default(),
        };
        let plan = &Plan { conditions, ..*plan };
        let steps = generate::steps(seed, plan.version, plan.kind == Kind::Stock, conditions, COMMANDS);
        println!("{:?} {:?} {:?} {conditions:?} WBL_SEED={seed}", plan.version, plan.kind, plan.variant);
        if let Err(failure) = plan.run(&steps) {
            let mut report = format!("WBL_SEED={seed}: {}", failure.report(&steps));
            if let Some((steps, failure)) = plan.shrink(&steps, SHRINKING) {
                report += &format!("\n\nThe same or another failure with fewer steps: {}", failure.report(&steps));
                report += "\nall of its steps:";
                steps.iter().for_each(|step| report += &format!("\n  {}", step.text()));
            }
            panic!("{report}");
        }
    }
}

impl Failure {
    fn report(&self, steps: &[Step]) -> String {
        let mut text = format!("{}: {} keys differ", self.what, self.differences.len());
        for ((database, key), difference) in self.differences.iter().take(TOLD) {
            text += &format!("\n{difference}\n  the last steps that name it:");
            let naming: Vec<&Step> = steps.iter().filter(|step| step.names(*database, key)).collect();
            for step in &naming[naming.len().saturating_sub(TOLD_STEPS)..] {
                text += &format!("\n    {}", step.text());
            }
        }
        text
    }

    pub fn text(&self) -> String {
        let differences = self.differences.iter().map(|(_, difference)| difference.as_str());
        format!("{}: {}", self.what, differences.collect::<Vec<_>>().join("\n"))
    }
}

impl Plan {
    fn builder(&self) -> ServerBuilder {
        let builder = match self.kind {
            Kind::Module => ServerBuilder::with_module(self.version),
            Kind::Stock => ServerBuilder::stock_always(self.version),
        };
        // The commands are about what is logged, not about the disk.
        self.conditions.apply(builder.in_memory(), self.version)
    }

    /// Runs the steps on a fresh server.
    pub fn run(&self, steps: &[Step]) -> Result<(), Failure> {
        let mut server = self.builder().start();
        let mut session = Session::open(&server);
        match self.variant {
            Variant::AtOnce | Variant::Downtime => {
                steps.iter().for_each(|step| session.run(&server, step));
                self.kill_and_compare(&mut server, session, "after the kill")
            }
            Variant::Checkpoints => {
                let (first, rest) = steps.split_at(steps.len() / 3);
                let (second, third) = rest.split_at(rest.len() / 2);
                first.iter().for_each(|step| session.run(&server, step));
                let mut other = server.raw();
                self.new_base(&mut other);
                second.iter().for_each(|step| session.run(&server, step));
                session.drain();
                self.wait_for_base(&server, &mut other);
                self.new_base(&mut other);
                self.wait_for_base(&server, &mut other);
                third.iter().for_each(|step| session.run(&server, step));
                self.kill_and_compare(&mut server, session, "after checkpoints and the kill")
            }
            Variant::TwoKills => {
                let (first, second) = steps.split_at(steps.len() / 2);
                first.iter().for_each(|step| session.run(&server, step));
                self.kill_and_compare(&mut server, session, "after the first kill")?;
                let mut session = Session::open(&server);
                second.iter().for_each(|step| session.run(&server, step));
                self.kill_and_compare(&mut server, session, "after the second kill")
            }
        }
    }

    fn new_base(&self, connection: &mut RawConnection) {
        match self.kind {
            Kind::Module => connection.send_text("WBL.CHECKPOINT"),
            Kind::Stock => drop(connection.run("BGREWRITEAOF")),
        }
    }

    fn wait_for_base(&self, server: &Server, connection: &mut RawConnection) {
        match self.kind {
            Kind::Module => {
                let reply = connection.reply();
                assert!(!reply.is_error(), "WBL.CHECKPOINT: {reply:?}");
            }
            Kind::Stock => wait_until("the new base is there", PATIENCE, || {
                let info = server.raw().run("INFO persistence").text();
                info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
            }),
        }
    }

    fn kill_and_compare(&self, server: &mut Server, mut session: Session, what: &str) -> Result<(), Failure> {
        session.drain();
        session.run(server, &Step::Loosen);
        if self.kind == Kind::Module {
            session.main.run("WBL.WAIT");
        }
        let before = self.read(server);
        server.kill9();
        if self.variant == Variant::Downtime {
            // Time must pass: this is about what is out of date when the server comes back.
            std::thread::sleep(DOWNTIME);
        }
        server.start();
        let after = self.read(server);
        let differences = state::differences(&before, &after, now_ms());
        if differences.is_empty() { Ok(()) } else { Err(Failure { what: what.into(), differences }) }
    }

    fn read(&self, server: &Server) -> State {
        let exactness = match self.kind {
            Kind::Module => Exactness::All,
            Kind::Stock => Exactness::OfAof,
        };
        state::read(&mut server.raw(), exactness)
    }

    /// Leaves out steps as long as it fails: first the last ones, then ever smaller parts.
    fn shrink(&self, steps: &[Step], patience: Duration) -> Option<(Vec<Step>, Failure)> {
        let start = Instant::now();
        let mut best: Option<(Vec<Step>, Failure)> = None;
        let mut steps = steps.to_vec();
        let mut part = steps.len().div_ceil(2);
        while part > 0 && start.elapsed() < patience {
            let mut end = steps.len();
            while end > 0 && start.elapsed() < patience {
                let from = end.saturating_sub(part);
                let fewer: Vec<Step> = steps[..from].iter().chain(&steps[end..]).cloned().collect();
                if let Err(failure) = self.run(&fewer) {
                    steps.clone_from(&fewer);
                    best = Some((fewer, failure));
                }
                end = from;
            }
            part /= 2;
        }
        best
    }
}

/// What the module says of a client whose reply nothing could keep until it was durable (`docs/limits.md`).
const DISCONNECTED: &str = "is disconnected: nothing shows what its write does";

/// The clients of a server.
struct Session {
    socket: PathBuf,
    log: PathBuf,
    /// How much of the log has been looked at.
    log_bytes: usize,
    main: RawConnection,
    pending: usize,
    others: Vec<(RawConnection, i64)>,
    /// Of a user who may not run everything.
    few_rights: RawConnection,
}

/// What a user may who has few keys, and neither all commands nor all of the module's.
const FEW_RIGHTS: &str = "ACL SETUSER few on nopass ~s* ~h* ~x* +@all -@dangerous";

impl Session {
    fn open(server: &Server) -> Session {
        let mut others = Vec::new();
        for _ in 0..4 {
            let mut connection = server.raw();
            let id = connection.run("CLIENT ID").integer();
            others.push((connection, id));
        }
        let (mut main, mut few_rights) = (server.raw(), server.raw());
        main.run(FEW_RIGHTS);
        // A stock server has no such command.
        main.call(&["ACL", "SETUSER", "few", "-wbl.call"]);
        few_rights.run("AUTH few x");
        Session { socket: server.socket(), log: server.log_path(), log_bytes: 0, main, pending: 0, others, few_rights }
    }

    fn run(&mut self, server: &Server, step: &Step) {
        match step {
            Step::Send(commands) => commands.iter().for_each(|words| self.send(words)),
            Step::Other(command) => {
                self.drain();
                let command = self.resolved(command);
                self.others[0].0.call(&command);
            }
            Step::Watched { key, change, commands } => {
                self.send(&words!["WATCH", key.as_slice()]);
                self.drain();
                let change = self.resolved(change);
                self.others[0].0.call(&change);
                self.send(&words!["MULTI"]);
                commands.iter().for_each(|words| self.send(words));
                self.send(&words!["EXEC"]);
            }
            Step::Restore { source, target, ttl, options } => {
                self.drain();
                let dump = words!["DUMP", source.as_slice()];
                if let Value::Bulk(payload) = self.main.call(&dump) {
                    let mut words = words!["RESTORE", target.as_slice(), ttl.as_slice(), payload];
                    words.extend(options.iter().cloned());
                    self.send(&words);
                }
            }
            Step::Blocked { blocked, serving } => self.run_blocked(blocked, serving),
            Step::Squeeze { bytes, policy } => {
                self.drain();
                let used = info_field(&mut self.main, "memory", "used_memory").expect("the field");
                let limit = used.parse::<u64>().expect("a number").saturating_sub(*bytes);
                self.main.run(&format!("CONFIG SET maxmemory-policy {policy} maxmemory {limit}"));
            }
            Step::Loosen => {
                self.drain();
                self.main.run("CONFIG SET maxmemory 0");
            }
            Step::Refused { has_password, command } => self.run_refused(server, *has_password, command),
            Step::Long { script, meanwhile } => {
                self.drain();
                let script = self.resolved(script);
                self.others[0].0.send(&script);
                meanwhile.iter().for_each(|words| self.send(words));
                self.drain();
                self.others[0].0.reply();
            }
            Step::Wait(ms) => {
                self.drain();
                // Time must pass: keys and fields expire meanwhile.
                std::thread::sleep(Duration::from_millis(*ms));
            }
        }
    }

    fn run_refused(&mut self, server: &Server, has_password: bool, command: &Words) {
        self.drain();
        if has_password {
            let command = self.resolved(command);
            self.few_rights.call(&command);
            return;
        }
        self.main.run("CONFIG SET requirepass secret");
        let refused = server.raw().call(&self.resolved(command));
        assert!(refused.is_error(), "{refused:?}");
        self.main.call(&["CONFIG", "SET", "requirepass", ""]);
    }

    fn run_blocked(&mut self, blocked: &[(u32, Words)], serving: &[Words]) {
        self.drain();
        let mut waiting = BTreeSet::new();
        for (index, (database, words)) in blocked.iter().enumerate() {
            let words = self.resolved(words);
            let (connection, id) = &mut self.others[index];
            connection.run(&format!("SELECT {database}"));
            connection.send(&words);
            let question = words!["CLIENT", "LIST", "ID", *id];
            let main = &mut self.main;
            wait_until("the client is blocked or done", PATIENCE, || {
                if connection.ready_reply().is_some() {
                    return true;
                }
                let flags = main.call(&question).text();
                let is_blocked = flags.split(' ').any(|field| field.starts_with("flags=") && field.contains('b'));
                is_blocked && waiting.insert(index)
            });
        }
        serving.iter().for_each(|words| self.send(words));
        self.drain();
        // Served or timed out.
        waiting.iter().for_each(|index| drop(self.others[*index].0.reply()));
    }

    fn send(&mut self, words: &Words) {
        if self.pending >= PIPELINE {
            self.drain();
        }
        self.main.send(&self.resolved(words));
        self.pending += 1;
    }

    /// The words as they are sent now: with the present time, and with the names that the server has for the commands
    /// inside.
    fn resolved(&self, words: &Words) -> Words {
        let mut words = resolve(words, now_ms());
        let is = |name: &str| words[0].eq_ignore_ascii_case(name.as_bytes());
        let mut inside = Vec::new();
        if is("EVAL") || is("FCALL") {
            // "call" or "pcall", the number of words, and the words.
            let mut at = 3;
            while let Some(count) = words.get(at + 1).and_then(|count| std::str::from_utf8(count).ok()?.parse().ok()) {
                inside.push(at + 2);
                at += 2 + usize::max(count, 1);
            }
        }
        for index in inside {
            if let Some(name) = words.get(index) {
                words[index] = self.main.name_of(name).to_vec();
            }
        }
        words
    }

    fn drain(&mut self) {
        for _ in 0..std::mem::take(&mut self.pending) {
            if let Err(error) = self.main.try_reply() {
                let log = fs::read_to_string(&self.log).expect("the server's log");
                let is_end = error.kind() == ErrorKind::UnexpectedEof;
                assert!(is_end && log[self.log_bytes..].contains(DISCONNECTED), "a reply: {error}");
                self.log_bytes = log.len();
                self.main = self.main.reopen(&self.socket).expect("the server goes on");
                return;
            }
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as i64
}
