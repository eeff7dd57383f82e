//! `wbl compact`: base and segments become one base, made by a server's program.

use crate::chain::with_chain_once;
use crate::export::{Selection, export};
use crate::failure::Failure;
use crate::shown::size;
use crate::written::NewLog;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use valkey_wbl::log::resp::push_command;

const BASE: &str = "compact.rdb";
const LOG: &str = "server.log";
const POLL: Duration = Duration::from_millis(20);
const STOP: Duration = Duration::from_secs(60);

/// Makes a new log of one base that holds what a log holds, with a server's program.
///
/// The folder that is read stays as it is. A copy of the log is made beside the new folder, loaded by the server and
/// saved; that takes room for both, and the server's memory. What the log needs to be loaded (modules, databases) is
/// given to the server after `--`: `wbl compact FOLDER OUT --server valkey-server -- --loadmodule x.so`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The log's folder (wbl.dir), or a backup's.
    folder: PathBuf,
    /// The folder to be made. It appears when it is whole.
    out: PathBuf,
    /// The program: of the version that is to load the base, or an older one.
    #[arg(long, value_name = "PROGRAM")]
    server: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// Arguments of the server.
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Arguments { folder, out, server, selection, arguments: more } = arguments;
    let scratch = Scratch::create(out)?;
    with_chain_once(folder, |chain| export(chain, selection, &scratch.0.join("log")))?;
    Server::start(server, &scratch.0, more)?.save()?;
    let base = scratch.0.join(BASE);
    let file = File::open(&base).map_err(Failure::io(format!("cannot open {}", base.display())))?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    NewLog::create(out, Some(file))?.finish()?;
    let text = format!("written to {}: a base of {}\n", out.display(), size(bytes));
    io::stdout().write_all(text.as_bytes()).map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn create(out: &Path) -> Result<Scratch, Failure> {
        let mut name = out.file_name().ok_or_else(|| Failure::text("the new folder has no name"))?.to_os_string();
        name.push(".compacting");
        let path = std::path::absolute(out.with_file_name(name)).map_err(Failure::io("cannot find the folder"))?;
        fs::create_dir(&path).map_err(Failure::io(format!("cannot create {}", path.display())))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that loads a log, saves it, and ends. It ends with this program.
struct Server {
    child: Child,
    /// In the system's folder for temporary files, because the path of a socket must be short.
    socket: PathBuf,
    log: PathBuf,
}

impl Server {
    fn start(program: &Path, folder: &Path, more: &[String]) -> Result<Server, Failure> {
        let socket = std::env::temp_dir().join(format!("wbl-compact-{}.sock", std::process::id()));
        let log = folder.join(LOG);
        let file = File::create(&log).map_err(Failure::io(format!("cannot create {}", log.display())))?;
        let again = file.try_clone().map_err(Failure::io("cannot share a file"))?;
        let child = Command::new(program)
            .args(["--port", "0", "--unixsocketperm", "700", "--save", "", "--daemonize", "no"])
            .args(["--appendonly", "yes", "--appenddirname", "log", "--appendfilename", "appendonly.aof"])
            .args(["--auto-aof-rewrite-percentage", "0", "--dbfilename", BASE])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(folder)
            .args(more)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .spawn()
            .map_err(Failure::io(format!("cannot start {}", program.display())))?;
        Ok(Server { child, socket, log })
    }

    fn save(mut self) -> Result<(), Failure> {
        loop {
            self.check_runs()?;
            match self.run(&[b"PING"]) {
                Ok(reply) if reply.starts_with('+') => break,
                // It does not listen yet, or it is loading.
                Err(_) => {}
                Ok(reply) if reply.starts_with("-LOADING") || reply.is_empty() => {}
                Ok(reply) => return Err(Failure::text(format!("the server refuses to serve: {reply}"))),
            }
            std::thread::sleep(POLL);
        }
        let saved = self.run(&[b"SAVE"]).map_err(Failure::io("the server does not answer"))?;
        if !saved.starts_with("+OK") {
            return Err(Failure::text(format!("the server cannot save: {saved}{}", self.last_words())));
        }
        let _ = self.run(&[b"SHUTDOWN", b"NOSAVE"]);
        let began = Instant::now();
        while began.elapsed() < STOP && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn check_runs(&mut self) -> Result<(), Failure> {
        match self.child.try_wait().map_err(Failure::io("cannot look after the server"))? {
            None => Ok(()),
            Some(status) => Err(Failure::text(format!("the server ended with {status}{}", self.last_words()))),
        }
    }

    /// The first line of the reply; nothing where the server ends instead.
    fn run(&self, args: &[&[u8]]) -> io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        let mut command = Vec::new();
        push_command(&mut command, args);
        stream.write_all(&command)?;
        let mut reply = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte)? > 0 && byte != *b"\n" {
            reply.extend_from_slice(&byte);
        }
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(10).collect();
        lines.into_iter().rev().fold("; the end of its log:".to_string(), |text, line| text + "\n  " + line)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}
