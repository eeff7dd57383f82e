//! A system as Debian has it, below a folder of its own: paths, programs, a server that `systemctl` starts.

use super::Version;
use super::paths;
use super::ports::free_ports;
use super::printed;
use super::process::send_signal;
use super::temp::TempDir;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where a Debian system has its files.
const PLACES: [&str; 5] =
    ["/etc/valkey", "/var/lib/valkey", "/var/log/valkey", "/var/backups", "/usr/lib/valkey/modules"];

/// Stands in for systemd: CONF and PID are those of the server.
const SYSTEMCTL: &str = r#"start() {
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

/// Stands in for `install`: there is no group of the server's.
const INSTALL: &str = r#"words=()
for word in "$@"; do
    case $word in -g | valkey) ;; *) words+=("$word") ;; esac
done
exec /usr/bin/install "${words[@]}"
"#;

/// A system with one server, and maybe a replica.
pub struct System {
    root: TempDir,
    version: Version,
    pub ports: [u16; 2],
}

impl System {
    pub fn new(version: Version) -> System {
        let system = System { root: TempDir::new(), version, ports: free_ports() };
        PLACES.iter().for_each(|place| fs::create_dir_all(system.path(place)).expect("a folder"));
        fs::copy(paths::module(), system.module()).expect("the module");
        let programs = version.server().parent().expect("a folder").to_path_buf();
        let [port, _] = system.ports;
        let cli = programs.join("valkey-cli");
        let cli = cli.display();
        system.program("bin/valkey-cli", &format!("[ \"$1\" = -p ] || set -- -p {port} \"$@\"\nexec {cli} \"$@\""));
        system.program("bin/valkey-server", &format!("exec {} \"$@\"", version.server().display()));
        system.program("bin/systemctl", SYSTEMCTL);
        system.program("bin/install", INSTALL);
        system.program("bin/wbl", &format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_wbl")));
        system
    }

    /// One whose server has the module, these lines in its configuration, and a key `k`.
    pub fn serving(version: Version, lines: &str) -> System {
        let system = System::new(version);
        system.configure_log(lines);
        system.run("systemctl start valkey-server && valkey-cli set k v");
        system
    }

    /// Writes a program for bash, at a path below the root.
    pub fn program(&self, name: &str, text: &str) {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, format!("#!/bin/bash\n{text}\n")).expect("a program");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
    }

    /// Where the system has this path.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("{}{path}", self.root.path().display()))
    }

    pub fn module(&self) -> PathBuf {
        self.path("/usr/lib/valkey/modules/libvalkey_wbl.so")
    }

    /// Writes the configuration, with these lines and those that the server needs here.
    pub fn configure(&self, lines: &str) {
        let text = self.text(&format!(
            "port 6379\nbind 127.0.0.1\ndaemonize yes\npidfile /etc/valkey/pid\ndir /var/lib/valkey\n\
             logfile /var/log/valkey/valkey-server.log\n{lines}\n"
        ));
        fs::write(self.path("/etc/valkey/valkey.conf"), text).expect("a configuration");
    }

    /// The same with the module.
    pub fn configure_log(&self, lines: &str) {
        self.configure(&format!(
            "save \"\"\nloadmodule /usr/lib/valkey/modules/libvalkey_wbl.so\nwbl.commit-mode async\n{lines}"
        ));
    }

    /// The text with the paths and ports of here.
    pub fn text(&self, text: &str) -> String {
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
        command.env("WBL_MODULE", paths::module()).env("WBL_TOOL", env!("CARGO_BIN_EXE_wbl"));
        command.env("CONF", self.path("/etc/valkey/valkey.conf")).env("PID", self.path("/etc/valkey/pid"));
        command.output().expect("bash runs")
    }

    /// Runs a line of the test's own, which must succeed.
    pub fn run(&self, script: &str) -> String {
        let output = self.bash(&self.text(script));
        assert!(output.status.success(), "{script}: {output:?}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).trim_end().to_string()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("/var/log/valkey/valkey-server.log")).unwrap_or_default()
    }

    /// Runs the commands that a text prints below a heading, all in one shell, and compares what they say.
    pub fn follow(&self, text: &'static str, heading: &str) {
        let steps = printed::steps(text, heading);
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
                let expected = self.text(expected);
                assert!(
                    lines.any(|line| line == expected),
                    "{heading}: {}: '{expected}' is not in {said}{error}",
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
