//! Ports for the servers of a test.

use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Below those that the kernel gives to outgoing connections, which may take a port between its choice and its use
/// (`net.ipv4.ip_local_port_range`), and below those of Valkey's own suite.
const PORTS: Range<u16> = 10_000..21_000;

/// What this process has claimed, until it ends: abstract sockets, which leave nothing behind.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// Ports that nobody listens on, and that no other test gets while this process lives.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    free_ports_list(COUNT).try_into().expect("as many as asked for")
}

/// The same where the number is known at run time only.
pub fn free_ports_list(count: usize) -> Vec<u16> {
    let mut claims = CLAIMS.lock().expect("no panic with the claims");
    // Each process begins elsewhere, so that they seldom try the same.
    let first = std::process::id() as usize * 97 % PORTS.len();
    let ports = PORTS.cycle().skip(first).take(PORTS.len());
    let free = ports.filter_map(|port| Some((port, claim(port)?))).take(count);
    let (ports, new): (Vec<u16>, Vec<UnixListener>) = free.unzip();
    assert_eq!(ports.len(), count, "no free ports are left");
    claims.extend(new);
    ports
}

fn claim(port: u16) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("valkey-wbl-test-port-{port}")).expect("a short name");
    let claim = UnixListener::bind_addr(&name).ok()?;
    TcpListener::bind(("127.0.0.1", port)).ok()?;
    Some(claim)
}
