//! Clients that write to a group of nodes while these restart and change roles, and remember what was acknowledged.

use super::raw::RawConnection;
use super::resp::Value;
use super::{PATIENCE, Server, wait_until};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const WRITERS: usize = 3;

/// Keys of one tag are in one slot.
const TAGS: usize = 12;

/// After a refusal, before the next try.
const PAUSE: Duration = Duration::from_millis(2);

/// How long an answer is waited for; a node that is stopped gives none.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// How long WAIT may take.
const WAIT_MS: &str = "2000";

const SCRIPT: &str = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('RPUSH', KEYS[2], ARGV[1])";

/// Has a client after the other write 10,000 bytes while the disk stands still, until one of them is answered, which it
/// returns; `held` gets the others, fewer than `most` in all. `control` is served all the time.
pub fn write_until_refused(
    server: &Server,
    control: &mut RawConnection,
    held: &mut Vec<RawConnection>,
    most: usize,
) -> RawConnection {
    let value = "v".repeat(10_000);
    loop {
        let mut client = server.raw();
        client.send(&["SET", &format!("key:{}", held.len()), &value]);
        match client.silent(control) {
            Ok(()) => held.push(client),
            Err(_) => return client,
        }
        assert!(held.len() < most, "nothing is refused");
    }
}

/// The sort of an operation, by its number.
const KINDS: u64 = 4;

/// Where nodes are reached.
#[derive(Clone)]
pub struct Group {
    sockets: Vec<PathBuf>,
    ports: Vec<u16>,
}

/// Running writers.
pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<u64>>>,
    group: Group,
}

impl Writers {
    /// Starts writers. An operation counts as acknowledged when `replicas` have confirmed it besides.
    pub fn start(nodes: &[Server], ports: &[u16], replicas: usize) -> Writers {
        let group = Group { sockets: nodes.iter().map(Server::socket).collect(), ports: ports.to_vec() };
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..WRITERS).map(|index| {
            let (group, stop, acknowledged) = (group.clone(), stop.clone(), acknowledged.clone());
            thread::spawn(move || Writer::new(index, group, replicas).run(&stop, &acknowledged))
        });
        Writers { threads: threads.collect(), stop, acknowledged, group }
    }

    /// Waits until that many more operations are acknowledged.
    pub fn wait_more(&self, count: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + count;
        wait_until("more operations are acknowledged", PATIENCE, || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a writer has failed");
            self.acknowledged.load(Ordering::Relaxed) >= goal
        });
    }

    /// Ends the writers, and checks that all that was acknowledged is there, once, and in order. Returns how much that
    /// is.
    pub fn stop_and_check(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let acknowledged = self.threads.into_iter().map(|thread| thread.join().expect("a writer"));
        let mut count = 0;
        for (index, numbers) in acknowledged.enumerate() {
            count += numbers.len();
            Writer::new(index, self.group.clone(), 0).check(&numbers);
        }
        count
    }
}

/// What became of an attempt.
enum Outcome {
    Acknowledged(Value),
    /// It was not executed.
    Refused,
    /// It may have been executed.
    Unknown,
}

struct Writer {
    index: usize,
    group: Group,
    connections: Vec<Option<RawConnection>>,
    /// The node that each tag is looked for at first.
    routes: [usize; TAGS],
    replicas: usize,
}

impl Writer {
    fn new(index: usize, group: Group, replicas: usize) -> Writer {
        let connections = group.sockets.iter().map(|_| None).collect();
        Writer { index, group, connections, routes: [0; TAGS], replicas }
    }

    /// Writes numbers from 0 on until it is told to stop; returns those that were acknowledged.
    fn run(mut self, stop: &AtomicBool, acknowledged: &AtomicU64) -> Vec<u64> {
        let mut numbers = Vec::new();
        for number in 0.. {
            let (tag, words) = self.operation(number);
            let outcome = loop {
                if stop.load(Ordering::Relaxed) {
                    return numbers;
                }
                match self.attempt(tag, &words, self.replicas) {
                    Outcome::Refused => thread::sleep(PAUSE),
                    outcome => break outcome,
                }
            };
            if let Outcome::Acknowledged(_) = outcome {
                numbers.push(number);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
        numbers
    }

    fn key(&self, tag: usize, name: &str) -> String {
        format!("{{{}-{tag}}}:{name}", self.index)
    }

    /// The tag of an operation, and its command.
    fn operation(&self, number: u64) -> (usize, Vec<String>) {
        let tag = tag_of(number);
        let key = |name: &str| self.key(tag, name);
        let text = number.to_string();
        let words = match number % KINDS {
            0 => vec!["SET".into(), key(&format!("set {number}")), text],
            1 => vec!["RPUSH".into(), key("list"), text],
            2 => vec!["HSET".into(), key("hash"), text.clone(), text],
            _ => {
                let keys = [key(&format!("script {number}")), key("scripts")];
                ["EVAL", SCRIPT, "2"].map(String::from).into_iter().chain(keys).chain([text]).collect()
            }
        };
        (tag, words)
    }

    fn attempt(&mut self, tag: usize, words: &[String], replicas: usize) -> Outcome {
        let node = self.routes[tag];
        let Some(connection) = self.connection(node) else {
            self.routes[tag] = (node + 1) % self.group.ports.len();
            return Outcome::Refused;
        };
        let reply = match exchange(connection, words) {
            Ok(Value::Error(text)) => return self.refused(tag, &text),
            Ok(reply) => reply,
            Err(_) => {
                self.connections[node] = None;
                return Outcome::Unknown;
            }
        };
        if replicas == 0 {
            return Outcome::Acknowledged(reply);
        }
        let wait = ["WAIT".to_string(), replicas.to_string(), WAIT_MS.into()];
        match exchange(connection, &wait) {
            Ok(Value::Integer(count)) if count >= i64::try_from(replicas).expect("few replicas") => {
                Outcome::Acknowledged(reply)
            }
            Ok(_) => Outcome::Unknown,
            Err(_) => {
                self.connections[node] = None;
                Outcome::Unknown
            }
        }
    }

    /// Learns from a refusal where to go.
    fn refused(&mut self, tag: usize, text: &str) -> Outcome {
        let mut parts = text.split(' ');
        match parts.next().unwrap_or_default() {
            "MOVED" => {
                let port = parts.nth(1).and_then(|address| address.rsplit_once(':')).map(|(_, port)| port);
                let known = self.group.ports.iter().position(|own| Some(own.to_string().as_str()) == port);
                self.routes[tag] = known.unwrap_or_else(|| panic!("moved to nowhere: {text}"));
            }
            "CLUSTERDOWN" | "LOADING" | "READONLY" | "MASTERDOWN" => {
                self.routes[tag] = (self.routes[tag] + 1) % self.group.ports.len();
            }
            "UNBLOCKED" => return Outcome::Unknown,
            _ => panic!("a writer was told {text}"),
        }
        Outcome::Refused
    }

    fn connection(&mut self, node: usize) -> Option<&mut RawConnection> {
        let place = &mut self.connections[node];
        if place.is_none() {
            *place = RawConnection::open(&self.group.sockets[node]).ok();
        }
        // What the servers' patience is worth is not this client's affair: a stopped server does not answer.
        if let Some(connection) = place.take() {
            *place = Some(connection.with_patience(ANSWER_PATIENCE));
        }
        place.as_mut()
    }

    /// Asks the node that has the key.
    fn ask(&mut self, tag: usize, words: &[&str]) -> Value {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let mut answer = None;
        wait_until("a key can be read", PATIENCE, || {
            // A replica answers reads outside of a cluster, so that the primary is looked for with a write.
            let primary = self.attempt(tag, &["DEL".into(), self.key(tag, "none")], 0);
            if !matches!(primary, Outcome::Acknowledged(_)) {
                return false;
            }
            answer = match self.attempt(tag, &words, 0) {
                Outcome::Acknowledged(value) => Some(value),
                _ => None,
            };
            answer.is_some()
        });
        answer.expect("an answer")
    }

    /// Fails where an acknowledged number is missing, or one is there twice or in the wrong place.
    fn check(mut self, numbers: &[u64]) {
        for tag in 0..TAGS {
            let of_tag =
                |kind| numbers.iter().filter(move |number| tag_of(**number) == tag && **number % KINDS == kind);
            let name = |what: &str| format!("writer {}, tag {tag}: {what}", self.index);
            let (list_name, hash_name, scripts_name) = (name("list"), name("hash"), name("scripts"));
            let list = increasing(&self.ask(tag, &["LRANGE", &self.key(tag, "list"), "0", "-1"]), &list_name);
            assert_has_all(&list, of_tag(1), &list_name);
            let fields = self.ask(tag, &["HKEYS", &self.key(tag, "hash")]);
            assert_has_all(&fields.items().iter().map(number).collect(), of_tag(2), &hash_name);
            let scripts = increasing(&self.ask(tag, &["LRANGE", &self.key(tag, "scripts"), "0", "-1"]), &scripts_name);
            assert_has_all(&scripts, of_tag(3), &scripts_name);
            let keys = of_tag(0).map(|number| (format!("set {number}"), number));
            let keys = keys.chain(scripts.iter().map(|number| (format!("script {number}"), number)));
            let words: Vec<(String, u64)> = keys.map(|(name, number)| (self.key(tag, &name), *number)).collect();
            for (key, number) in words {
                assert_eq!(self.ask(tag, &["GET", &key]), Value::Bulk(number.to_string().into()), "{key}");
            }
        }
    }
}

fn tag_of(number: u64) -> usize {
    usize::try_from(number / KINDS).expect("a small number") % TAGS
}

fn exchange(connection: &mut RawConnection, words: &[String]) -> std::io::Result<Value> {
    connection.send_bytes(&super::resp::encode(words))?;
    connection.try_reply()
}

fn number(value: &Value) -> u64 {
    value.text().parse().expect("a number")
}

/// The numbers of a list, which must be in order and without doubles.
fn increasing(list: &Value, what: &str) -> BTreeSet<u64> {
    let numbers: Vec<u64> = list.items().iter().map(number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{what} is out of order: {numbers:?}");
    numbers.into_iter().collect()
}

fn assert_has_all<'a>(found: &BTreeSet<u64>, wanted: impl Iterator<Item = &'a u64>, what: &str) {
    let missing: Vec<_> = wanted.filter(|number| !found.contains(number)).collect();
    assert!(missing.is_empty(), "{what}: {} acknowledged numbers are missing: {missing:?}", missing.len());
}
