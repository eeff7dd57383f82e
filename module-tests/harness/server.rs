//! A server process with a folder of its own.

use super::log_watch::{complaints, is_crash, tail};
use super::paths::{self, Version};
use super::raw::RawConnection;
use super::temp::TempDir;
use super::{Names, PATIENCE, confined, wait_for, wait_until};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// What a server is started with.
#[derive(Clone)]
pub struct ServerBuilder {
    version: Version,
    module: bool,
    directives: Vec<Vec<String>>,
    config_file: Option<String>,
    allowed_warnings: Vec<String>,
    only_own_warnings: bool,
    in_memory: bool,
    variables: Vec<(String, String)>,
    run_by: Vec<String>,
    confined: bool,
}

impl ServerBuilder {
    /// A server without the module and without persistence.
    pub fn stock(version: Version) -> ServerBuilder {
        let builder = ServerBuilder {
            version,
            module: false,
            directives: Vec::new(),
            config_file: None,
            allowed_warnings: Vec::new(),
            only_own_warnings: false,
            in_memory: false,
            variables: Vec::new(),
            run_by: Vec::new(),
            confined: false,
        };
        builder.set("save", "").set("enable-debug-command", "yes")
    }

    /// A server that loads the module, with its debug commands.
    pub fn with_module(version: Version) -> ServerBuilder {
        let mut builder = ServerBuilder::stock(version);
        builder.module = true;
        let module = paths::module().to_str().expect("a path in UTF-8");
        builder = builder.set("loadmodule", module).set("wbl.enabled", "yes").set("wbl.debug-commands", "yes");
        // Tests that stop the disk expect that others are served meanwhile.
        builder.set("wbl.commit-mode", std::env::var("WBL_COMMIT_MODE").as_deref().unwrap_or("async"))
    }

    /// A server without the module that is as durable as it can be.
    pub fn stock_always(version: Version) -> ServerBuilder {
        ServerBuilder::stock(version).set("appendonly", "yes").set("appendfsync", "always")
    }

    /// Sets a configuration directive; one that is set already is replaced.
    pub fn set(self, name: &str, value: &str) -> ServerBuilder {
        self.set_words(name, &[value])
    }

    pub fn set_words(mut self, name: &str, values: &[&str]) -> ServerBuilder {
        let mut words = vec![name.to_string()];
        words.extend(values.iter().map(ToString::to_string));
        match self.directives.iter_mut().find(|directive| directive[0] == name) {
            Some(directive) => *directive = words,
            None => self.directives.push(words),
        }
        self
    }

    /// Starts another version's server.
    pub fn version(mut self, version: Version) -> ServerBuilder {
        self.version = version;
        self
    }

    /// Takes one directive with all its words away.
    pub fn without(mut self, words: &[&str]) -> ServerBuilder {
        self.directives.retain(|directive| directive != words);
        self
    }

    /// Gives a command another name; none when that is empty. Connections use the new one.
    pub fn rename(mut self, own: &str, other: &str) -> ServerBuilder {
        self.directives.push(["rename-command", own, other].map(String::from).to_vec());
        self
    }

    /// What the server calls its commands.
    pub fn names(&self) -> Names {
        let renames = self.directives.iter().filter(|words| words[0] == "rename-command" && !words[2].is_empty());
        Names::new(renames.map(|words| (words[1].clone(), words[2].clone())).collect())
    }

    /// Loads another module, before or after the one under test.
    pub fn load(mut self, path: &Path, first: bool) -> ServerBuilder {
        let words = vec!["loadmodule".to_string(), path.to_str().expect("a path in UTF-8").to_string()];
        let place = if first { 0 } else { self.directives.len() };
        self.directives.insert(place, words);
        self
    }

    pub fn unset(mut self, name: &str) -> ServerBuilder {
        self.directives.retain(|directive| directive[0] != name);
        self
    }

    /// The same without the module and its settings.
    pub fn without_module(self) -> ServerBuilder {
        self.unset("loadmodule").unset("wbl.enabled").unset("wbl.debug-commands").unset("wbl.commit-mode")
    }

    /// Starts the server with a `valkey.conf` of this text, which `CONFIG REWRITE` may then change.
    pub fn config_file(mut self, text: &str) -> ServerBuilder {
        self.config_file = Some(text.into());
        self
    }

    /// Warnings with this text in them do not fail the test.
    pub fn allow_warning(mut self, text: &str) -> ServerBuilder {
        self.allowed_warnings.push(text.into());
        self
    }

    /// Whether the server is started with this directive.
    pub fn has(&self, words: &[&str]) -> bool {
        self.directives.iter().any(|directive| directive == words)
    }

    /// Sets a variable of the process's environment.
    pub fn variable(mut self, name: &str, value: &str) -> ServerBuilder {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Starts the server through another program, which these words begin.
    pub fn run_by(mut self, words: &[&str]) -> ServerBuilder {
        self.run_by = words.iter().map(ToString::to_string).collect();
        self
    }

    /// The server and its children may change nobody's priority: the system ends who tries, as under Debian's unit.
    pub fn confined(mut self) -> ServerBuilder {
        self.confined = true;
        self
    }

    /// Takes all variables away that were set.
    pub fn no_variables(mut self) -> ServerBuilder {
        self.variables.clear();
        self
    }

    /// Of warnings only the module's fail the test. For nodes that others leave and join, of which the server has many.
    pub fn only_own_warnings(mut self) -> ServerBuilder {
        self.only_own_warnings = true;
        self
    }

    /// The folder is in memory, for tests that are not about the disk.
    pub fn in_memory(mut self) -> ServerBuilder {
        self.in_memory = true;
        self
    }

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
