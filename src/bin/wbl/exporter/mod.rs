//! `wbl exporter`: the fields of INFO wbl for Prometheus.

mod http;
mod metrics;
mod server;
mod table;

use crate::failure::Failure;
use server::Target;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many requests are answered at a time; others wait in the kernel's queue, which is bounded.
const WORKERS: usize = 4;
/// After this a client that has not sent its request, or does not take the answer, is given up.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a worker waits after an error of accept (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the fields of INFO wbl to Prometheus, as http://ADDRESS/metrics.
///
/// Each scrape asks the server once, with a time-out. Where it does not answer, or has no module wbl, wbl_up is 0 and
/// there are no other fields. A metric has the name of its field; counters end in _total. Run one exporter beside each
/// server. It speaks no TLS: for a server that has only a TLS port use its unix socket.
///
/// The server's password is that of --password-file, or of VALKEYCLI_AUTH in the environment, as for valkey-cli.
#[derive(clap::Args)]
pub struct Arguments {
    /// The address to serve on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9777")]
    listen: String,
    /// The server's host.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The server's port.
    #[arg(long, default_value_t = 6379)]
    port: u16,
    /// The server's unix socket, in place of host and port.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port"])]
    unix_socket: Option<std::path::PathBuf>,
    /// The server's user; it needs the right to run INFO.
    #[arg(long)]
    user: Option<String>,
    /// A file with the password, read again for each scrape.
    #[arg(long, value_name = "FILE")]
    password_file: Option<std::path::PathBuf>,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    timeout: f64,
    /// Prints the page once and ends, with exit status 0 even if the server does not answer (wbl_up is 0 then): for the
    /// text-file collector of node_exporter.
    #[arg(long, conflicts_with = "listen")]
    once: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=60.0).contains(seconds));
    seconds.ok_or_else(|| "a number from 0.01 to 60 is needed".into())
}

/// Says on stderr when the server is out of reach, and when it is back.
#[derive(Default)]
struct Watch(Mutex<Option<String>>);

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let target = Target::new(arguments);
    let watch = Watch::default();
    if arguments.once {
        io::stdout().write_all(page(&target, &watch).as_bytes()).map_err(Failure::output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let listener =
        TcpListener::bind(&arguments.listen).map_err(Failure::io(format!("cannot listen on {}", arguments.listen)))?;
    let address = listener.local_addr().map_err(Failure::io("cannot listen"))?;
    writeln!(io::stdout(), "http://{address}/metrics").map_err(Failure::output)?;
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| serve(&listener, &target, &watch));
        }
    });
    Ok(ExitCode::SUCCESS)
}

fn serve(listener: &TcpListener, target: &Target, watch: &Watch) {
    loop {
        match listener.accept() {
            // The client may have gone, or take too long: nobody is left to report it to.
            Ok((client, _)) => drop(answer(client, target, watch)),
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}

fn answer(client: TcpStream, target: &Target, watch: &Watch) -> io::Result<()> {
    http::answer(client, CLIENT_TIMEOUT, || page(target, watch))
}

/// The page of the present metrics.
fn page(target: &Target, watch: &Watch) -> String {
    let began = Instant::now();
    let found = target.info();
    watch.see(target, found.as_ref().err());
    metrics::page(found.ok().as_deref(), began.elapsed())
}

impl Watch {
    fn see(&self, target: &Target, error: Option<&String>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) if last.as_ref() != Some(error) => eprintln!("wbl: {target}: {error}"),
            None if last.is_some() => eprintln!("wbl: {target}: answers again"),
            _ => {}
        }
        *last = error.cloned();
    }
}
