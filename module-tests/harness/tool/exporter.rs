//! A running `wbl exporter`, and a strict reader of what it serves.

use crate::harness::{PATIENCE, Server};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Dropping it ends it.
pub struct Exporter {
    process: Child,
    address: String,
    errors: PathBuf,
}

impl Exporter {
    /// One for a server's unix socket.
    pub fn of_socket(server: &Server) -> Exporter {
        Exporter::start(server, &[])
    }

    /// The same with more options.
    pub fn start(server: &Server, options: &[&str]) -> Exporter {
        let errors = server.folder().join("exporter-errors");
        let mut process = Command::new(Path::new(env!("CARGO_BIN_EXE_wbl")))
            .args(["exporter", "--listen", "127.0.0.1:0", "--timeout", "0.5", "--unix-socket"])
            .arg(server.socket())
            .args(options)
            .env_remove("VALKEYCLI_AUTH")
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).expect("a file"))
            .spawn()
            .expect("the tool starts");
        let mut line = String::new();
        let out = process.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("the address");
        let address = line.trim().trim_start_matches("http://").trim_end_matches("/metrics").to_string();
        Exporter { process, address, errors }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it has said on stderr.
    pub fn errors(&self) -> String {
        fs::read_to_string(&self.errors).expect("its errors")
    }

    /// What it serves now.
    pub fn page(&self) -> Page {
        let mut client = TcpStream::connect(&self.address).expect("the exporter takes connections");
        client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        Page::of(body)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        self.process.wait().expect("the exporter ends");
    }
}

/// A page in the text format of Prometheus.
pub struct Page {
    pub text: String,
    /// The type of each family.
    pub kinds: BTreeMap<String, String>,
    /// By name and labels.
    pub samples: BTreeMap<String, f64>,
}

impl Page {
    fn of(text: &str) -> Page {
        let mut page = Page { text: text.into(), kinds: BTreeMap::new(), samples: BTreeMap::new() };
        let (mut family, mut closed) = (String::new(), BTreeSet::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a name and a text");
                assert!(!help.is_empty(), "{name} has no help");
                let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")));
                page.kinds.insert(name.into(), kind.unwrap_or_else(|| panic!("{name} has no type")).into());
                assert!(closed.insert(name.to_string()), "{name} is there twice");
                family = name.into();
                continue;
            }
            let (name, value) = line.rsplit_once(' ').expect("a value");
            let bare = name.split('{').next().expect("a name");
            let parts: &[&str] = match page.kinds[&family].as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(parts.iter().any(|part| bare == format!("{family}{part}")), "{line} is not of {family}");
            let is_counter = page.kinds[&family] == "counter";
            assert_eq!(is_counter, family.ends_with("_total"), "{family} is a {}", page.kinds[&family]);
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(page.samples.insert(name.into(), value).is_none(), "{name} is there twice");
        }
        page.check_histograms();
        page
    }

    /// Buckets grow, and the last one has all.
    fn check_histograms(&self) {
        for (family, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let prefix = format!("{family}_bucket{{le=\"");
            let limit = |name: &str| match name[prefix.len()..].trim_end_matches("\"}") {
                "+Inf" => f64::INFINITY,
                number => number.parse().expect("a limit"),
            };
            let buckets = self.samples.iter().filter(|(name, _)| name.starts_with(&prefix));
            let mut buckets: Vec<(f64, f64)> = buckets.map(|(name, count)| (limit(name), *count)).collect();
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.len() > 10 && buckets.is_sorted_by(|one, other| one.1 <= other.1), "{buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, self.value(&format!("{family}_count")))));
        }
    }

    /// Whether there is a metric of this name.
    pub fn has(&self, name: &str) -> bool {
        self.samples.keys().any(|found| found.split('{').next() == Some(name))
    }

    /// A value, by name and labels.
    pub fn value(&self, name: &str) -> f64 {
        *self.samples.get(name).unwrap_or_else(|| panic!("there is no {name}: {}", self.text))
    }
}
