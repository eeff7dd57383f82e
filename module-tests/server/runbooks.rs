//! The runbooks of docs/operations.md: their commands as they are printed, with other paths and ports, on a system that
//! has servers started by `systemctl`, and what is printed after them.

use crate::harness::cluster::free_ports;
use crate::harness::process::send_signal;
use crate::harness::temp::TempDir;
use crate::harness::{Version, each_version, paths};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// Where a Debian system has its files.
const PLACES: [&str; 5] =
    ["/etc/valkey", "/var/lib/valkey", "/var/log/valkey", "/var/backups", "/usr/lib/valkey/modules"];

/// Stands in for systemd: PORT, CONF and PID are those of the server.
const SYSTEMCTL: &str = r#"#!/bin/bash
start() {
    valkey-server "$CONF" || return 1
    for _ in $(seq 100); do
        valkey-cli ping 2>/dev/null | grep -q PONG && return 0
        sleep 0.05
    done
    return 1
}
stop() {
    pid=$(cat "$PID")
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
}
[ "$2" = valkey-server ] || exit 1
case $1 in start) start ;; stop) stop ;; restart) stop && start ;; *) exit 1 ;; esac
"#;

/// A command of a runbook, and the lines that follow it.
struct Step {
    command: &'static str,
    expected: Vec<&'static str>,
}

/// The commands below this heading.
fn steps(heading: &str) -> Vec<Step> {
    let section = OPERATIONS.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let blocks = section.unwrap_or_else(|| panic!("no runbook '{heading}'")).split("```\n").skip(1).step_by(2);
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command, expected: Vec::new() }),
            (None, Some(step)) => step.expected.push(line),
            (None, None) => panic!("'{heading}' has a line before its first command: {line}"),
        }
    }
    assert!(!steps.is_empty(), "'{heading}' has no commands");
    steps
}

/// A system with one server, and maybe a replica.
struct System {
    root: TempDir,
    version: Version,
    ports: [u16; 2],
}

impl System {
    fn new(version: Version) -> System {
        let system = System { root: TempDir::new(), version, ports: free_ports() };
        PLACES.iter().for_each(|place| fs::create_dir_all(system.path(place)).expect("a folder"));
        fs::create_dir(system.path("/bin")).expect("a folder");
        fs::copy(paths::module(), system.module()).expect("the module");
        let programs = version.server().parent().expect("a folder").to_path_buf();
        let [port, _] = system.ports;
        let cli = programs.join("valkey-cli");
        let own = |name: &str, text: String| {
            let path = system.path("/bin").join(name);
            fs::write(&path, text).expect("a program");
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
        };
        let cli = cli.display();
        own("valkey-cli", format!("#!/bin/bash\n[ \"$1\" = -p ] || set -- -p {port} \"$@\"\nexec {cli} \"$@\"\n"));
        own("valkey-server", format!("#!/bin/bash\nexec {} \"$@\"\n", version.server().display()));
        own("systemctl", SYSTEMCTL.into());
        system
    }

    /// Where the system has this path.
    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("{}{path}", self.root.path().display()))
    }

    fn module(&self) -> PathBuf {
        self.path("/usr/lib/valkey/modules/libvalkey_wbl.so")
    }

    /// Writes the configuration, with these lines and those that the server needs here.
    fn configure(&self, lines: &str) {
        let text = self.text(&format!(
            "port 6379\nbind 127.0.0.1\ndaemonize yes\npidfile /etc/valkey/pid\ndir /var/lib/valkey\n\
             logfile /var/log/valkey/valkey-server.log\n{lines}\n"
        ));
        fs::write(self.path("/etc/valkey/valkey.conf"), text).expect("a configuration");
    }

    /// The same with the module.
    fn configure_log(&self, lines: &str) {
        self.configure(&format!(
            "save \"\"\nloadmodule /usr/lib/valkey/modules/libvalkey_wbl.so\nwbl.commit-mode async\n{lines}"
        ));
    }

    /// The text with the paths and ports of here.
    fn text(&self, text: &str) -> String {
        let mut text = text.to_string();
        for place in PLACES {
            text = text.replace(place, &self.path(place).display().to_string());
        }
        let [port, replica] = self.ports.map(|port| port.to_string());
        text.replace("6379", &port).replace("6380", &replica)
    }

    fn bash(&self, script: &str) -> Output {
        let path = format!("{}:{}", self.path("/bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("bash");
        command.args(["-c", script]).current_dir(self.root.path()).env("PATH", path);
        command.env("CONF", self.path("/etc/valkey/valkey.conf")).env("PID", self.path("/etc/valkey/pid"));
        command.output().expect("bash runs")
    }

    /// Runs a line of the test's own, which must succeed.
    fn run(&self, script: &str) -> String {
        let output = self.bash(&self.text(script));
        assert!(output.status.success(), "{script}: {output:?}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).trim_end().to_string()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("/var/log/valkey/valkey-server.log")).unwrap_or_default()
    }

    /// Runs a runbook, all in one shell, and compares what it says.
    fn follow(&self, heading: &str) {
        let steps = steps(heading);
        let mut script = String::from("set -e\n");
        for (number, step) in steps.iter().enumerate() {
            script += &format!("echo '@@{number}'\n{}\n", self.text(step.command));
        }
        let output = self.bash(&script);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{heading}: {said}{error}\n{}", self.log());
        for (step, said) in steps.iter().zip(said.split("@@").skip(1)) {
            let mut lines = said.lines().skip(1).map(str::trim_end);
            for expected in &step.expected {
                assert!(
                    lines.any(|line| line == *expected),
                    "{heading}: {}: '{expected}' is not in {said}",
                    step.command
                );
            }
            assert!(!said.lines().any(|line| line.starts_with("ERR ")), "{heading}: {}: {said}", step.command);
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for file in ["/etc/valkey/pid", "/etc/valkey/replica.pid"] {
            let id = fs::read_to_string(self.path(file)).ok().and_then(|id| id.trim().parse::<u32>().ok());
            let is_ours = |id: u32| {
                Path::new(&format!("/proc/{id}/exe")).read_link().is_ok_and(|exe| exe == self.version.server())
            };
            id.filter(|id| is_ours(*id)).into_iter().for_each(|id| send_signal(id, "KILL"));
        }
    }
}

each_version! {
    fn are_data_safe_now(version: Version) {
        let system = System::new(version);
        system.configure_log("");
        system.run("systemctl start valkey-server && valkey-cli set k v");
        system.follow("Are data safe now?");
    }

    fn disk_full(version: Version) {
        let system = System::new(version);
        system.configure_log("wbl.max-log-bytes 64kb");
        system.run("systemctl start valkey-server && valkey-cli set k v && valkey-cli wbl.backup start");
        let set = "head -c 40000 /dev/zero | tr '\\0' x | valkey-cli -x set big";
        system.run(&format!("{set} && {set} | grep -q MISCONF"));
        system.follow("Disk full");
        assert_eq!(system.run("valkey-cli wbl.backup status"), "");
    }

    fn slow_disk(version: Version) {
        let system = System::new(version);
        system.configure_log("");
        system.run("systemctl start valkey-server && valkey-cli set k v");
        system.follow("Slow disk");
    }

    fn the_server_refuses_to_start(version: Version) {
        let system = System::new(version);
        system.configure_log("");
        system.run("systemctl start valkey-server && valkey-cli set k v && valkey-cli append other v");
        system.run("systemctl stop valkey-server && echo 'rename-command APPEND \"\"' >> /etc/valkey/valkey.conf");
        system.run("! systemctl start valkey-server");
        system.follow("The server refuses to start");
        assert_eq!(system.run("valkey-cli get k; valkey-cli exists other"), "v\n0");
        assert!(system.path("/var/lib/valkey/wbl.copy").is_dir());
        system.run("systemctl restart valkey-server");
    }

    fn backup_and_restore(version: Version) {
        let system = System::new(version);
        system.configure_log("save 3600 1000000");
        system.run("systemctl start valkey-server && valkey-cli set k before");
        system.follow("Backup");
        assert_eq!(system.run("valkey-cli wbl.backup status"), "");
        system.run("valkey-cli set k after && valkey-cli set other after && valkey-cli save");
        system.follow("Restore");
        assert_eq!(system.run("valkey-cli get k; valkey-cli exists other"), "before\n0");
    }

    fn fail_over(version: Version) {
        let system = System::new(version);
        system.configure_log("repl-diskless-sync-delay 0");
        system.run("systemctl start valkey-server && valkey-cli set k v");
        system.run(
            "mkdir /var/lib/valkey/replica && sed -e 's/^port.*/port 6380/; s/^pidfile.*/pidfile \
             REPLICA/; s/^dir .*/dir FOLDER/' /etc/valkey/valkey.conf > /etc/valkey/replica.conf",
        );
        let conf = system.path("/etc/valkey/replica.conf");
        let text = fs::read_to_string(&conf).expect("a configuration");
        let text = text.replace("REPLICA", &system.text("/etc/valkey/replica.pid"));
        let text = text.replace("FOLDER", &system.text("/var/lib/valkey/replica"));
        fs::write(&conf, format!("{text}\nreplicaof 127.0.0.1 {}\n", system.ports[0])).expect("a configuration");
        system.run("valkey-server /etc/valkey/replica.conf");
        system.run("timeout 20 sh -c 'until valkey-cli -p 6380 role | grep -q connected; do sleep 0.1; done'");
        system.follow("Fail-over");
        assert_eq!(system.run("valkey-cli -p 6380 get k"), "v");
    }

    fn from_the_append_only_file_to_the_log_and_back(version: Version) {
        let system = System::new(version);
        system.configure("save \"\"\nappendonly yes\nenable-module-command local");
        system.run("systemctl start valkey-server && valkey-cli set k v && valkey-cli lpush list a b");
        system.follow("From `appendonly yes` to the log");
        assert_eq!(system.run("valkey-cli get k; valkey-cli waitaof 1 0 0; valkey-cli llen list"), "v\n1\n0\n2");
        system.run("valkey-cli set after change");
        system.follow("Back to the append-only file");
        assert_eq!(system.run("valkey-cli get k; valkey-cli get after; valkey-cli module list | grep -c wbl; true"), "v\nchange\n0");
    }

    fn upgrade(version: Version) {
        let system = System::new(version);
        system.configure_log("");
        system.run("systemctl start valkey-server && valkey-cli set k v");
        fs::copy(paths::module(), system.path("/libvalkey_wbl.so")).expect("the module");
        system.follow("Upgrade and downgrade");
        assert_eq!(system.run("valkey-cli get k"), "v");
    }
}
