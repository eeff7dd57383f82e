//! What somebody does who has never seen the module: README in a clone of the repository, then the runbooks, on a
//! server that was there before.

use crate::harness::printed::steps;
use crate::harness::process::send_signal;
use crate::harness::{PATIENCE, System, Version, each_version, paths, wait_for};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const README: &str = include_str!("../../README.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// `scripts/run` of a clone in a terminal of its own, with another port and folder.
struct Terminal<'s> {
    system: &'s System,
    clone: PathBuf,
    process: Option<Child>,
}

impl Terminal<'_> {
    /// Runs it, and returns the process id that it prints.
    fn run(&mut self, version: Version, command: &str) -> String {
        self.end();
        let said = self.system.path("/said");
        let port = self.system.ports[0];
        self.system.program("bin/server", &format!("exec {} \"$@\" --port {port}", version.server().display()));
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("exec {command}")]).current_dir(&self.clone);
        bash.env("VALKEY_SERVER", self.system.path("/bin/server")).env("VALKEY_WBL_DATA", self.system.path("/data"));
        bash.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said).expect("a file"));
        bash.env("WBL_MODULE", paths::module());
        self.process = Some(bash.spawn().expect("bash starts"));
        let id = wait_for("scripts/run says its process id", PATIENCE, || {
            let said = fs::read_to_string(&said).expect("what it says");
            said.lines().find_map(|line| line.rsplit_once("kill -9 ")).map(|(_, id)| id.to_string())
        });
        self.system.run("timeout 60 sh -c 'until valkey-cli ping | grep -q PONG; do sleep 0.05; done' 2>/dev/null");
        id
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            send_signal(process.id(), "KILL");
            process.wait().expect("the server ends");
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Clones the repository, and tries a crash there as README says.
fn try_a_crash(system: &System, version: Version) {
    let clone = system.path("/clone");
    system.run(&format!("git clone --quiet '{}' '{}'", paths::repository().display(), clone.display()));
    let mut terminal = Terminal { system, clone, process: None };
    let mut id = String::new();
    for step in steps(README, "Try a crash") {
        if step.command.starts_with("scripts/run") {
            id = terminal.run(version, step.command);
            continue;
        }
        let said = system.run(&step.command.replace("PID", &id));
        for expected in step.expected.into_iter().filter(|line| !line.is_empty()) {
            assert!(said.lines().any(|line| line == expected.trim_matches('"')), "{}: {said}", step.command);
        }
    }
}

each_version! {
    fn a_newcomer_tries_loads_trusts_watches_and_leaves_it(version: Version) {
        let system = System::new(version);
        try_a_crash(&system, version);

        let crash_and_start = || {
            system.run("kill -9 $(cat $PID); while kill -0 $(cat $PID) 2>/dev/null; do sleep 0.02; done");
            system.run("systemctl start valkey-server");
        };
        system.configure("enable-module-command local\nsave \"\"");
        system.run("systemctl start valkey-server && valkey-cli set k v && valkey-cli lpush list a");
        system.run("valkey-cli module load /usr/lib/valkey/modules/libvalkey_wbl.so && valkey-cli wbl.wait");
        system.run("valkey-cli info wbl | grep wbl_state:active && valkey-cli config rewrite");
        system.run("valkey-cli lpush list b");
        crash_and_start();
        let data = "valkey-cli get k; valkey-cli lrange list 0 -1";
        assert_eq!(system.run(data), "v\nb\na");
        for runbook in ["Are data safe now?", "Watch it with Prometheus", "Look at a log", "Backup"] {
            system.follow(OPERATIONS, runbook);
            assert_eq!(system.run(data), "v\nb\na", "after '{runbook}'");
        }
        system.run("valkey-cli flushall");
        system.follow(OPERATIONS, "Restore");
        assert_eq!(system.run(data), "v\nb\na");
        system.follow(OPERATIONS, "Back to the append-only file");
        assert_eq!(system.run(&format!("{data}; valkey-cli module list | grep -c wbl; true")), "v\nb\na\n0");
        crash_and_start();
        assert_eq!(system.run(data), "v\nb\na");
    }
}
