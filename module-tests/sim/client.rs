//! A client of the fake server.

use crate::data::Bytes;
use crate::held::{Blocked, Promise};
use crate::server::Argv;
use crate::truth::{Expected, UnitNumber};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// What a client waits for.
pub enum Waits {
    /// A key; the server runs its command then. That none was there shows what had changed them last.
    Keys { keys: Vec<Bytes>, db: usize, deadline_ms: Option<i64>, shown: UnitNumber },
    /// The module.
    Module(*mut Blocked, Option<i64>),
    /// The end of a pause.
    Pause,
}

/// Who a client logs in as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// May do anything.
    Default,
    /// May run none of the module's commands.
    Plain,
    /// May not write.
    Reader,
    /// Has not logged in.
    Nobody,
}

pub struct Client {
    pub id: u64,
    /// A client of a script or of a module's call, without a connection.
    pub fake: bool,
    pub deny_blocking: Cell<bool>,
    pub db: Cell<usize>,
    pub user: User,
    /// What it has sent and the server has not looked at.
    pub input: RefCell<VecDeque<Argv>>,
    /// It has closed its side of the connection: it sends nothing more.
    pub ended: Cell<bool>,
    /// The bytes of what it has sent that has run, and of all that the server has read.
    pub run_bytes: Cell<u64>,
    pub read_bytes: Cell<u64>,
    /// How many commands of a transaction the module keeps for it.
    pub collected: Cell<Option<usize>>,
    /// The server would have refused one of those.
    pub refused_one: Cell<bool>,
    /// The command that it waits in, after the filter.
    pub command: RefCell<Argv>,
    /// The command runs again when the wait is over.
    pub pending: Cell<bool>,
    pub out: RefCell<VecDeque<u8>>,
    pub deferred: RefCell<Option<Vec<u8>>>,
    /// Its write handler is installed.
    pub handler: Cell<bool>,
    pub queue: RefCell<Option<Vec<Argv>>>,
    pub resp3: Cell<bool>,
    /// The keys that it has read since CLIENT TRACKING ON.
    pub tracked: RefCell<Option<BTreeSet<Bytes>>>,
    pub channels: Cell<u32>,
    pub dirty_exec: Cell<bool>,
    pub dirty_cas: Cell<bool>,
    pub watched: RefCell<Vec<(usize, Bytes)>>,
    /// What it watched until one of them changed: its EXEC shows that.
    pub touched: RefCell<Vec<(usize, Bytes)>>,
    pub waits: RefCell<Option<Waits>>,
    pub close: Cell<bool>,
    pub gone: Cell<bool>,
    /// The connected client that a call of the module's is done for.
    pub behalf: Cell<u64>,
    pub promise: RefCell<Option<Rc<Promise>>>,
    /// The call that it waited in was not run, and the module is to run the command again.
    pub unserved: Cell<bool>,
    /// It waits no longer, and its owner is to be told that nothing came, which shows this unit.
    pub timed_out: Cell<Option<UnitNumber>>,
    pub expected: RefCell<VecDeque<Expected>>,
    /// What its running command has answered; becomes expected when that has ended.
    pub answering: RefCell<Vec<u8>>,
    /// Was sent and is not checked yet.
    pub unchecked: RefCell<Vec<u8>>,
}

impl Client {
    /// The bytes of what it has sent and that has not run.
    pub fn sent(&self) -> Vec<u8> {
        self.input.borrow().iter().flat_map(|argv| crate::resp::array(argv)).collect()
    }

    /// Whether the server has read all that it has sent.
    pub fn is_read(&self) -> bool {
        self.read_bytes.get() == self.run_bytes.get() + self.sent().len() as u64
    }

    /// The server reads all that it has sent.
    pub fn read(&self) {
        self.read_bytes.set(self.run_bytes.get() + self.sent().len() as u64);
    }

    /// The next command that it has sent, which runs now.
    pub fn take_input(&self) -> Option<Argv> {
        let argv = self.input.borrow_mut().pop_front()?;
        self.run_bytes.set(self.run_bytes.get() + crate::resp::array(&argv).len() as u64);
        Some(argv)
    }

    pub fn is_blocked(&self) -> bool {
        self.waits.borrow().is_some()
    }

    /// What it watches has changed: the server watches none of that any more, and aborts its EXEC.
    pub fn abort_exec(&self) {
        self.dirty_cas.set(true);
        self.touched.borrow_mut().append(&mut self.watched.borrow_mut());
    }

    /// Its EXEC depends on no key any more.
    pub fn unwatch(&self) {
        self.dirty_cas.set(false);
        self.watched.borrow_mut().clear();
        self.touched.borrow_mut().clear();
    }
}
