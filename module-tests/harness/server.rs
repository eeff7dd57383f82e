//! A server process with a folder of its own.

use super::log_watch::{complaints, is_crash, tail};
use super::paths::Version;
use super::raw::RawConnection;
use super::temp::TempDir;
use super::{PATIENCE, ServerBuilder, confined, wait_for, wait_until};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

impl ServerBuilder {
    /// Starts the server in a fresh folder and waits until it is ready.
    pub fn start(self) -> Server {
        let mut server = self.prepare();
        server.launch();
        server.wait_ready();
        server
    }

    /// The server with its fresh folder, not yet started.
    pub fn prepare(self) -> Server {
        let folder = if self.in_memory { TempDir::in_memory() } else { TempDir::new() };
        let server = Server { builder: self, folder, child: None };
        fs::create_dir(server.folder()).expect("a data folder can be made");
        if let Some(text) = &server.builder.config_file {
            fs::write(server.config_path(), text).expect("the configuration file can be written");
        }
        server
    }
}

/// A server, running or not. Dropping it kills the process and fails the test when the log holds a complaint.
pub struct Server {
    pub builder: ServerBuilder,
    folder: TempDir,
    child: Option<Child>,
}

impl Server {
    pub fn version(&self) -> Version {
        self.builder.version
    }

    /// The data folder.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The default place of the module's log.
    pub fn log_folder(&self) -> PathBuf {
        self.folder().join("wbl")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("valkey.conf")
    }

    /// All that the server and its predecessors in this folder have logged.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where that is.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// Changes how the server is started the next time.
    pub fn reconfigure(&mut self, change: impl FnOnce(ServerBuilder) -> ServerBuilder) {
        self.builder = change(self.builder.clone());
    }

    /// Starts the process without waiting for anything.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file");
        let server = self.builder.version.server();
        let mut command = match &self.builder.run_by[..] {
            [] => Command::new(server),
            [program, words @ ..] => {
                let mut command = Command::new(program);
                command.args(words).arg(server);
                command
            }
        };
        if self.builder.config_file.is_some() {
            command.arg(self.config_path());
        }
        command.args(["--port", "0", "--unixsocket"]).arg(self.socket()).arg("--dir").arg(self.folder());
        for directive in &self.builder.directives {
            command.arg(format!("--{}", directive[0])).args(&directive[1..]);
        }
        command.envs(self.builder.variables.iter().map(|(name, value)| (name, value)));
        if self.builder.confined {
            confined::forbid_resources(&mut command);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.child = Some(child);
    }

    /// Waits until the server serves commands.
    pub fn wait_answers(&mut self) -> RawConnection {
        wait_for("the server answers PING", PATIENCE, || {
            self.assert_running();
            let mut connection = RawConnection::open(&self.socket()).ok()?.with_names(self.builder.names());
            connection.try_send(&["PING"]).ok()?;
            // While it loads, it answers with an error.
            let reply = connection.try_reply().ok()?;
            (!reply.is_error()).then_some(connection)
        })
    }

    /// Waits until the server serves commands and the module, if there is one, has its base.
    pub fn wait_ready(&mut self) {
        let mut connection = self.wait_answers();
        let enabled = self.builder.directives.iter().any(|words| words[0] == "wbl.enabled" && words[1] == "yes");
        if self.builder.module && enabled {
            wait_until("the module is active", PATIENCE, || {
                self.assert_running();
                info_field(&mut connection, "wbl", "wbl_state").as_deref() == Some("active")
            });
        }
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("a started server");
        child.try_wait().expect("the server's status").is_some()
    }

    pub fn assert_running(&mut self) {
        let child = self.child.as_mut().expect("a started server");
        if let Some(status) = child.try_wait().expect("the server's status") {
            panic!("the server ended with {status}; its log:\n{}", tail(&self.log(), 40));
        }
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The most memory that the process ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that the process has now, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process_id())).expect("the process' status");
        let size = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
        size.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    /// A connection of the `redis` crate.
    pub fn connect(&self) -> redis::Connection {
        connect(&self.socket()).expect("the server takes connections")
    }

    pub fn raw(&self) -> RawConnection {
        let connection = RawConnection::open(&self.socket()).expect("the server takes connections");
        connection.with_names(self.builder.names())
    }

    /// A field of `INFO wbl`.
    pub fn wbl_info(&self, field: &str) -> String {
        info_field(&mut self.raw(), "wbl", field).unwrap_or_else(|| panic!("INFO wbl has no {field}"))
    }

    /// Ends the process at once, as a crash does.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("a running server");
        child.kill().expect("the server can be killed");
        child.wait().expect("the server ends");
    }

    /// Sends the process a signal by its name (`TERM`, `STOP`).
    pub fn signal(&self, name: &str) {
        super::process::send_signal(self.process_id(), name);
    }

    /// Ends the process by `SHUTDOWN NOSAVE`.
    pub fn stop(&mut self) {
        self.raw().send(&["SHUTDOWN", "NOSAVE"]);
        let status = self.wait_exit();
        assert!(status.success(), "SHUTDOWN ended with {status}; log:\n{}", tail(&self.log(), 40));
    }

    /// Waits until the process ends by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a started server");
        wait_for("the server ends", PATIENCE, || child.try_wait().expect("the server's status"))
    }

    /// Starts a stopped or killed server again.
    pub fn start(&mut self) {
        self.launch();
        self.wait_ready();
    }

    pub fn kill9_and_restart(&mut self) {
        self.kill9();
        self.start();
    }

    pub fn stop_and_restart(&mut self) {
        self.stop();
        self.start();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill9();
        }
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("the end of the server's log:\n{}", tail(&log, 40));
            return;
        }
        let mut complaints = complaints(&log, &self.builder.allowed_warnings);
        if self.builder.only_own_warnings {
            complaints.retain(|line| is_crash(line) || line.contains("<wbl>"));
        }
        assert!(complaints.is_empty(), "the server's log has:\n{}", complaints.join("\n"));
    }
}

/// A connection of the `redis` crate that fails instead of waiting for ever.
pub fn connect(socket: &Path) -> redis::RedisResult<redis::Connection> {
    let address = format!("redis+unix://{}", socket.display());
    let connection = redis::Client::open(address)?.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// A field of a section of INFO.
pub fn info_field(connection: &mut RawConnection, section: &str, field: &str) -> Option<String> {
    let text = connection.call(&["INFO", section]).text();
    let line = text.lines().find(|line| line.split(':').next() == Some(field))?;
    Some(line.split_once(':')?.1.to_string())
}
