//! Another module, if the seed says that one is loaded. Its commands run others; it also runs commands in events, at
//! the ends of units, in timers and in BEFORE_SLEEP, and has the server serve clients (Yield) in all of these.

use crate::api::{self, Context};
use crate::event_loop::yield_to_clients;
use crate::exec::{self, begin_frame, close_truth, reply, show};
use crate::resp;
use crate::schedule;
use crate::server::{Argv, Client, Job, OTHER_CLIENT, User, server};
use crate::table;
use std::ffi::c_void;
use std::rc::Rc;

/// The first class of events that other modules do not ask for.
const PRIVATE: i32 = 1 << 15;

/// OTHER.CALL command...; OTHER.YIELD command... yields before and after that.
pub fn command(client: &Rc<Client>, name: &str, argv: &[Vec<u8>]) {
    let yields = name == "other.yield";
    if yields {
        yield_to_clients();
    }
    let answer = call(client.db.get(), &argv[1..]);
    if yields {
        yield_to_clients();
    }
    reply(client, &answer);
}

/// `VM_Call` with a client of its own, whose reply it returns.
fn call(db: usize, argv: &[Vec<u8>]) -> Vec<u8> {
    let s = server();
    let client = s.make_client(OTHER_CLIENT, true, User::Default);
    client.deny_blocking.set(true);
    client.db.set(db);
    let argv: Argv = api::filter(&client, argv);
    s.note(|| format!("    another module calls: {}", show(&argv)));
    match table::find(&argv[0], argv.get(1).map_or(b"", |arg| arg)) {
        Some(command) if !command.refuses(argv.len()) => {}
        _ => return resp::error("ERR cannot be called"),
    }
    *client.command.borrow_mut() = argv.clone();
    exec::call(&client, &argv);
    client.out.borrow_mut().drain(..).collect()
}

/// Whether it does something now, in so many percent of the cases.
fn acts(percent: u64) -> bool {
    let s = server();
    s.has_other_module && !s.others_rest.get() && !s.starting.get() && !s.loading.get() && s.chance(percent)
}

/// In its timer, or in BEFORE_SLEEP: all that it calls is one unit.
pub fn runs_by_itself(percent: u64) {
    if !acts(percent) {
        return;
    }
    let s = server();
    s.note(|| "another module runs".into());
    s.in_event.set(true);
    Context::temporary(0).run(|_| {
        begin_frame(0, true);
        for _ in 0..1 + s.below(3) {
            if s.chance(50) {
                yield_to_clients();
            } else {
                call(s.below(2), &schedule::called());
            }
        }
        s.frames.borrow_mut().pop();
        close_truth(false);
    });
    s.in_event.set(false);
}

/// A command has raised an event.
pub fn sees_event(class: i32, db: usize) {
    let s = server();
    // It has no private ones, and does nothing in those of what it runs by itself.
    if class >= PRIVATE || s.in_event.get() || s.frames.borrow().is_empty() || !acts(15) {
        return;
    }
    // That a command answers before its event the module does not know any more if others have passed its filter since.
    let is_alone = !s.in_exec.get() && s.in_script.get() == 0;
    let has_answered = |client: Rc<Client>| !client.answering.borrow().is_empty() || client.deferred.borrow().is_some();
    if is_alone && s.client(s.current.get()).is_some_and(has_answered) {
        return;
    }
    s.in_event.set(true);
    match s.below(3) {
        0 => yield_to_clients(),
        1 => drop(call(db, &schedule::called_in_event())),
        _ => s.jobs.borrow_mut().push_back(Job { callback: at_unit_end, data: std::ptr::null_mut(), db }),
    }
    s.in_event.set(false);
}

/// What it has asked for at the end of a unit belongs to that.
unsafe extern "C" fn at_unit_end(_: *mut c_void, _: *mut c_void) {
    let s = server();
    let in_event = s.in_event.replace(true);
    begin_frame(0, true);
    call(s.below(2), &schedule::called());
    s.frames.borrow_mut().pop();
    s.in_event.set(in_event);
    if s.frames.borrow().is_empty() {
        // The log has it with the unit that has just ended.
        close_truth(true);
    }
}
