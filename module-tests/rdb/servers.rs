//! Servers for the RDB tests: one process and one folder each, gone with the value.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Connection, FromRedisValue, Value};

pub type Failure = Box<dyn std::error::Error>;

const DEADLINE: Duration = Duration::from_secs(30);

/// The path of a server of that version.
pub fn binary(version: &str) -> Result<PathBuf, Failure> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/valkey");
    let output = Command::new(script).arg(version).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("scripts/valkey {version} failed").into());
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// A folder of its own below the system's temporary one.
fn new_folder() -> Result<PathBuf, Failure> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("wbl-rdb-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A running server, reached over a Unix socket in its folder.
pub struct Server {
    folder: PathBuf,
    child: Child,
    connection: Connection,
}

impl Server {
    /// Starts a server, with `dump` (if any) as its dump.rdb, and waits until it has loaded that.
    pub fn start(version: &str, dump: Option<&[u8]>, options: &[&str]) -> Result<Self, Failure> {
        let folder = new_folder()?;
        if let Some(dump) = dump {
            fs::write(folder.join("dump.rdb"), dump)?;
        }
        let log = File::create(folder.join("log"))?;
        let mut child = Command::new(binary(version)?)
            .args(["--port", "0", "--unixsocket", "s", "--save", "", "--appendonly", "no"])
            .args(["--enable-debug-command", "yes", "--list-compress-depth", "1"])
            .args(options)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .spawn()?;
        match wait_until_loaded(&mut child, &folder) {
            Ok(connection) => Ok(Self { folder, child, connection }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                Err(format!("{error}; its log, in {}:\n{log}", folder.display()).into())
            }
        }
    }

    /// Sends one command.
    pub fn call<T: FromRedisValue>(&mut self, words: &[&[u8]]) -> Result<T, Failure> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut self.connection).map_err(|error| {
            let text: Vec<String> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
            format!("{}: {error}", text.join(" ")).into()
        })
    }

    /// Sends one command whose words have no blanks, for its effect.
    pub fn run(&mut self, line: &str) -> Result<Value, Failure> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.call(&words)
    }

    /// SAVEs and gives the file.
    pub fn save(&mut self) -> Result<Vec<u8>, Failure> {
        self.run("SAVE")?;
        Ok(fs::read(self.folder.join("dump.rdb"))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("left for inspection: {}", self.folder.display());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Connects and asks until the server answers, which it does not while it loads.
fn wait_until_loaded(child: &mut Child, folder: &Path) -> Result<Connection, Failure> {
    let client = redis::Client::open(format!("unix://{}", folder.join("s").display()))?;
    let start = Instant::now();
    loop {
        let answer = client.get_connection().and_then(|mut connection| {
            redis::cmd("ECHO").arg("ready").query::<String>(&mut connection).map(|_| connection)
        });
        match answer {
            Ok(connection) => {
                connection.set_read_timeout(Some(DEADLINE))?;
                return Ok(connection);
            }
            Err(error) if start.elapsed() > DEADLINE => {
                return Err(format!("no answer in time: {error}").into());
            }
            Err(_) => {}
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("the server ended: {status}").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
}
