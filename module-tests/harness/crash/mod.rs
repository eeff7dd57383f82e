//! Clients that write all the time, a server that is killed under them, and what must be true afterwards.
//!
//! A group is some keys, the clients that work on them, and a model: what each client was told, and the one
//! operation of each client that was under way when the connection broke, which may or may not have happened.
//! The model is carried over from round to round.

pub mod counters;
pub mod evictions;
pub mod expiry;
pub mod link;
pub mod lists;
pub mod maintenance;
pub mod modules;
pub mod pipelines;
pub mod queues;
pub mod refusals;
pub mod streams;
pub mod units;

use super::Random;
use super::conditions::Conditions;
use super::server::Server;
use super::{PATIENCE, RawConnection, wait_until};
use link::{Link, Opener};
use redis::RedisResult;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LONGEST_ROUND: Duration = Duration::from_secs(5);

/// What a client works with during one round.
pub struct Session {
    pub connection: Link,
    opener: Opener,
    /// Another connection, to database 0, on which replies can be counted one by one.
    raw: RawConnection,
}

impl Session {
    fn open(opener: &Opener, database: i64) -> RedisResult<Session> {
        Ok(Session { connection: opener.link(database)?, opener: opener.clone(), raw: opener.raw()? })
    }
}

pub trait Client: Send {
    /// Does one operation and notes that it was acknowledged. On an error the operation stays noted as in flight.
    fn step(&mut self, session: &mut Session) -> RedisResult<()>;
}

pub trait Group {
    fn name(&self) -> &'static str;

    /// The database of the keys.
    fn database(&self) -> i64;

    /// Runs once, before the first round.
    fn prepare(&mut self, _connection: &mut Link) {}

    fn clients(&mut self) -> Vec<&mut dyn Client>;

    /// Compares the recovered dataset with the model, and takes over into the model what became of the operations
    /// in flight.
    fn verify(&mut self, connection: &mut Link);

    /// Fails when what the group is there for has not happened.
    fn assert_seen(&self) {}
}

/// All groups: more than 16 clients. With `readers`, what clients read is checked, too.
pub fn all_groups(rng: &mut Random, readers: bool, conditions: Conditions) -> Vec<Box<dyn Group>> {
    let mut groups: Vec<Box<dyn Group>> = vec![
        Box::new(lists::Lists::new(3, rng)),
        Box::new(counters::Counters::new(2, readers, rng)),
        Box::new(units::Transactions::new(2)),
        Box::new(units::Scripts::new(2, rng)),
        Box::new(pipelines::Pipelines::new(2)),
        Box::new(queues::Queues::new(2, 2, 2)),
        Box::new(streams::Streams::new(2)),
    ];
    if conditions.evicts {
        // Of keys with an expiry time only these may be evicted.
        groups.push(Box::new(evictions::Evictions::new(rng)));
    } else {
        groups.push(Box::new(expiry::Expiry::new(2, rng)));
    }
    if conditions.refuses {
        groups.push(Box::new(refusals::Refusals::new(rng)));
    }
    if conditions.other_module {
        groups.push(Box::new(modules::Modules::new(2, rng)));
    }
    groups
}

/// One kill under load: see [`load_and_kill`] and [`restart_and_verify`].
pub fn round(server: &mut Server, groups: &mut [Box<dyn Group>], target: u64, conditions: Conditions) {
    load_and_kill(server, groups, target, conditions);
    restart_and_verify(server, groups, conditions);
}

/// Lets all clients run until `target` operations have been acknowledged, or as many as can be in [`LONGEST_ROUND`],
/// and every client has been answered; then kills the server.
pub fn load_and_kill(server: &mut Server, groups: &mut [Box<dyn Group>], target: u64, conditions: Conditions) {
    let work = Work::new(Opener::new(server, conditions));
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for group in groups.iter_mut() {
            let (name, database) = (group.name(), group.database());
            for client in group.clients() {
                clients.push((name, Session::open(&work.opener, database).expect("a connection"), client));
            }
        }
        // All have connected before there is a password.
        for (name, session, client) in clients {
            let work = &work;
            work.unanswered.fetch_add(1, Ordering::Relaxed);
            scope.spawn(move || work.run(name, session, client));
        }
        let waited = catch_unwind(AssertUnwindSafe(|| {
            let start = Instant::now();
            wait_until("every client is answered", PATIENCE, || {
                server.assert_running();
                let enough = work.acknowledged.load(Ordering::Relaxed) >= target;
                (enough || start.elapsed() >= LONGEST_ROUND) && work.unanswered.load(Ordering::Relaxed) == 0
            });
        }));
        // Whatever happened, the clients end only when the server does.
        work.ending.store(true, Ordering::SeqCst);
        if server.is_running() {
            server.kill9();
        }
        waited.unwrap_or_else(|panic| resume_unwind(panic));
    });
    println!("killed after {} acknowledged operations", work.acknowledged.load(Ordering::Relaxed));
}

/// Starts the server again and verifies every group.
pub fn restart_and_verify(server: &mut Server, groups: &mut [Box<dyn Group>], conditions: Conditions) {
    server.start();
    let opener = Opener::new(server, conditions);
    for group in groups {
        let mut connection = opener.link(group.database()).expect("a connection");
        group.verify(&mut connection);
    }
}

struct Work {
    opener: Opener,
    acknowledged: AtomicU64,
    /// Clients that have not finished their first operation.
    unanswered: AtomicU64,
    ending: AtomicBool,
}

impl Work {
    fn new(opener: Opener) -> Work {
        let (acknowledged, unanswered) = (AtomicU64::new(0), AtomicU64::new(0));
        Work { opener, acknowledged, unanswered, ending: AtomicBool::new(false) }
    }

    fn run(&self, name: &str, mut session: Session, client: &mut dyn Client) {
        let Err(error) = self.work(&mut session, client) else {
            return;
        };
        assert!(!error.is_timeout(), "{name}: no reply for {PATIENCE:?}");
        assert!(error.is_io_error() || error.is_connection_dropped(), "{name}: {error}");
        assert!(self.ending.load(Ordering::SeqCst), "{name}: the server closed the connection: {error}");
    }

    fn work(&self, session: &mut Session, client: &mut dyn Client) -> RedisResult<()> {
        client.step(session)?;
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        loop {
            client.step(session)?;
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Fails unless `found` is what was acknowledged, or one operation more when one was in flight.
pub fn assert_between(what: &str, found: u64, acknowledged: u64, in_flight: bool) {
    let most = acknowledged + u64::from(in_flight);
    assert!(
        (acknowledged..=most).contains(&found),
        "{what}: found {found}, acknowledged were {acknowledged}, in flight: {in_flight}"
    );
}
