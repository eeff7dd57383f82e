//! What goes on around the clients: too little memory, and strangers.

use super::clients::insist;
use super::steps::Shared;
use super::{Effect, Operation};
use crate::harness::conditions::FEW_RIGHTS;
use crate::harness::{Random, RawConnection, Value};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// When keys could be evicted, and be shown to be: from and until.
pub type Windows = Vec<(u64, u64)>;

/// The longest time with too little memory, and between two such times, in microseconds.
const LONGEST_US: u64 = 6000;

/// Disturbs the clients, as the conditions ask for, until the server is gone.
pub fn run(socket: &Path, shared: &Shared, rng: Random) -> Windows {
    let mut disturber = Disturber { shared, rng, windows: Vec::new(), open_since: None, evicted: 0 };
    // It only ends when the server does.
    let _gone: io::Result<()> = disturber.run(socket);
    disturber.windows.extend(disturber.open_since.map(|since| (since, shared.now())));
    disturber.windows
}

/// Whether the conditions ask for disturbances.
pub fn are_asked_for(shared: &Shared) -> bool {
    shared.conditions.evicts || shared.conditions.refuses
}

/// The user whom one in three clients is.
pub fn prepare(control: &mut RawConnection, shared: &Shared) {
    if shared.conditions.refuses {
        let half = |keys: &[String]| keys[..keys.len() / 2].iter().map(|key| format!(" ~{key}")).collect::<String>();
        let keys = half(&shared.registers) + &half(&shared.lists);
        control.run(&format!("{FEW_RIGHTS}{keys} ~e* -wbl.call"));
    }
}

/// The evictions that may have happened to a register that is set once.
pub fn evictions(windows: &Windows, first_client: usize) -> Vec<Operation> {
    let eviction = |(number, (invoked, completed)): (usize, &(u64, u64))| {
        let client = first_client + number;
        Operation { client, effect: Effect::Delete, reply: None, invoked: *invoked, completed: *completed }
    };
    windows.iter().enumerate().map(eviction).collect()
}

struct Disturber<'a> {
    shared: &'a Shared,
    rng: Random,
    windows: Windows,
    open_since: Option<u64>,
    /// As the server counts them.
    evicted: u64,
}

impl Disturber<'_> {
    fn run(&mut self, socket: &Path) -> io::Result<()> {
        let mut connection = RawConnection::open(socket)?.with_names(self.shared.names.clone());
        loop {
            self.pause();
            if self.shared.conditions.evicts && (!self.shared.conditions.refuses || self.rng.one_in(2)) {
                self.squeeze(&mut connection)?;
            } else if self.rng.one_in(2) {
                self.starve(&mut connection)?;
            } else {
                self.ask_for_passwords(&mut connection, socket)?;
            }
        }
    }

    fn pause(&mut self) {
        thread::sleep(Duration::from_micros(self.rng.below(LONGEST_US)));
    }

    /// Lets some keys be evicted.
    fn squeeze(&mut self, connection: &mut RawConnection) -> io::Result<()> {
        let used = self.info(connection, "memory", "used_memory")?;
        let limit = used.saturating_sub(self.rng.below(16_000));
        self.open_since = Some(self.shared.now());
        insist(connection, self.shared, &format!("CONFIG SET maxmemory-policy volatile-ttl maxmemory {limit}"))?;
        self.pause();
        insist(connection, self.shared, "CONFIG SET maxmemory 0")?;
        // Until then a key that was evicted may still be shown as it was.
        insist(connection, self.shared, "WBL.WAIT")?;
        let until = self.shared.now();
        self.windows.extend(self.open_since.take().map(|since| (since, until)));
        let evicted = self.info(connection, "stats", "evicted_keys")?;
        self.shared.count("evicted", evicted - self.evicted);
        self.evicted = evicted;
        Ok(())
    }

    /// Refuses what may need memory.
    fn starve(&mut self, connection: &mut RawConnection) -> io::Result<()> {
        insist(connection, self.shared, "CONFIG SET maxmemory-policy noeviction maxmemory 1")?;
        self.pause();
        insist(connection, self.shared, "CONFIG SET maxmemory 0").map(drop)
    }

    /// What clients send without a password is refused.
    fn ask_for_passwords(&mut self, connection: &mut RawConnection, socket: &Path) -> io::Result<()> {
        insist(connection, self.shared, "CONFIG SET requirepass secret")?;
        let mut stranger = RawConnection::open(socket)?.with_names(self.shared.names.clone());
        let register = &self.shared.registers[self.rng.below(self.shared.registers.len() as u64) as usize];
        for command in ["SET KEY VALUE", "MULTI", "SET KEY VALUE", "EXEC", "DEL KEY", "EVAL return 0"] {
            let command = command.replace("KEY", register).replace("VALUE", &self.shared.value().to_string());
            stranger.try_send(&command.split(' ').collect::<Vec<_>>())?;
            match stranger.try_reply()? {
                Value::Error(text) => self.shared.note(&text),
                reply => panic!("{command} without a password: {reply:?}"),
            }
        }
        insist(connection, self.shared, "CONFIG SET requirepass ").map(drop)
    }

    fn info(&mut self, connection: &mut RawConnection, section: &str, field: &str) -> io::Result<u64> {
        let text = insist(connection, self.shared, &format!("INFO {section}"))?.text();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(value.expect("the field").parse().expect("a number"))
    }
}
