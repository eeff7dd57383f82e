//! What happens in one life of the server: what its clients send, what the disk and the log's threads do, and how
//! everything comes to rest.

use crate::event_loop::{
    after_sleep, before_sleep, clients, connect, disconnect, file_events, process_input, resume, timer,
};
use crate::process::{advance, power_is_lost, running, update};
use crate::server::{Client, User, Waits, server, violated};
use crate::{exec, schedule as commands};
use std::rc::Rc;
use valkey_wbl::log::sim::Effect;

pub(super) fn live() {
    let s = server();
    s.others_rest.set(false);
    for _ in 0..2 + s.below(3) {
        connect_someone();
    }
    let count = 12 + s.below(48);
    // How many things happen while the disk fails.
    let mut mended_after = None;
    if s.chance(35) {
        let at = s.disk.borrow().operations() + s.below(60) as u64;
        let effect = [Effect::None, Effect::Part, Effect::Full][s.below(3)];
        s.power_goes.set(s.chance(70));
        if s.power_goes.get() {
            s.disk.borrow().fail_from(at, libc::EIO, effect);
        } else if s.chance(60) {
            s.disk.borrow().fail_from(at, [libc::EIO, libc::ENOSPC, libc::EROFS][s.below(3)], effect);
            mended_after = Some(1 + s.below(60));
        } else {
            s.disk.borrow().fail_at(at, [libc::EIO, libc::ENOSPC][s.below(2)], effect);
        }
        update(|running| running.fault_at = Some(at));
        s.note(|| format!("the disk fails at {at}"));
    }
    for _ in 0..count {
        if power_is_lost() {
            return;
        }
        act();
        let fails = running().fault_at.is_some_and(|at| s.disk.borrow().operations() > at);
        if let Some(left) = mended_after.as_mut().filter(|_| fails) {
            *left -= 1;
            if *left == 0 {
                mend();
                mended_after = None;
            }
        }
    }
    if mended_after.is_some() && s.chance(60) {
        mend();
    }
}

fn mend() {
    server().note(|| "the disk works again".into());
    server().disk.borrow().mend();
}

fn connect_someone() -> Rc<Client> {
    let s = server();
    let user = match s.below(20) {
        0..=15 => User::Default,
        16 | 17 => User::Plain,
        18 => User::Reader,
        _ => User::Nobody,
    };
    connect(user)
}

fn act() {
    let s = server();
    let all = clients();
    match s.below(100) {
        0..=44 => {
            let Some(client) = pick(&all).filter(|client| !client.ended.get()) else { return };
            let ids: Vec<u64> = all.iter().map(|client| client.id).collect();
            let many = if s.chance(25) { 1 + s.below(4) } else { 1 };
            for _ in 0..many {
                client.input.borrow_mut().extend(commands::next(&ids));
            }
            if s.chance(5) {
                s.note(|| format!("half-closed: {}", client.id));
                client.ended.set(true);
            }
        }
        45..=71 => iterate(60),
        72..=87 => step_writer(1 + s.below(4)),
        88 => tidy(),
        89..=93 => advance(if s.chance(85) { s.below(20) as i64 } else { 1500 }),
        94 => drop(connect_someone()),
        95 | 96 => {
            if let Some(client) = pick(&all).filter(|_| all.len() > 1) {
                disconnect(&client);
            }
        }
        97 if s.is_limited => {
            s.keys_max.set(if s.chance(50) { usize::MAX } else { 1 + s.below(6) });
            s.evicts.set(s.chance(70));
        }
        _ => {
            if let Some(client) = pick(&all) {
                process_input(&client);
            }
        }
    }
}

fn pick(clients: &[Rc<Client>]) -> Option<Rc<Client>> {
    if clients.is_empty() { None } else { Some(Rc::clone(&clients[server().below(clients.len())])) }
}

fn tidy() {
    let steps = server().steps.borrow().clone();
    if let Some(steps) = steps {
        // It may remove segments.
        let followed = server().truth.borrow_mut().follow(&server().disk.borrow());
        if let Err(text) = followed {
            violated(&text);
        }
        steps.tidy();
    }
}

/// One round of the event loop.
fn iterate(chance: u64) {
    after_sleep();
    file_events(chance);
    server().one_shots.borrow_mut().clear();
    timer();
    if !power_is_lost() {
        before_sleep();
    }
}

/// Whether a client has all that it can get now.
fn is_quiet(client: &Client) -> bool {
    let s = server();
    let waits_for_data =
        match &*client.waits.borrow() {
            None => client.input.borrow().is_empty(),
            Some(Waits::Keys { .. }) => true,
            Some(Waits::Module(..)) => s.waiting.borrow().iter().any(|other| {
                other.behalf.get() == client.id && matches!(&*other.waits.borrow(), Some(Waits::Keys { .. }))
            }),
            Some(Waits::Pause) => false,
        };
    waits_for_data && client.out.borrow().is_empty()
}

/// The disk works and nobody sends more: everybody gets what he waits for.
pub(super) fn quiesce() {
    let s = server();
    s.note(|| "quiesce".into());
    if !s.power_goes.get() {
        mend();
    }
    s.keys_max.set(usize::MAX);
    s.others_rest.set(true);
    let mut quiet_rounds = 0;
    for _ in 0..100 {
        if power_is_lost() {
            return;
        }
        // What clients had sent before may freeze it again.
        if s.truth.borrow().is_frozen() {
            resume();
        }
        advance(50);
        iterate(100);
        step_writer(50);
        tidy();
        quiet_rounds = if clients().iter().all(|client| is_quiet(client)) { quiet_rounds + 1 } else { 0 };
        if quiet_rounds == 4 {
            break;
        }
    }
    if running().fault_at.is_some_and(|at| s.disk.borrow().operations() > at) {
        // Where it has failed just now the module ends the process here.
        iterate(100);
        step_writer(50);
    }
    if power_is_lost() {
        return;
    }
    if running().fault_at.is_some_and(|at| s.disk.borrow().operations() > at) {
        // The module may have to notice yet that the disk has failed, and end the process.
        iterate(100);
        step_writer(50);
    }
    for client in clients() {
        let has_all = client.expected.borrow().is_empty();
        if !is_quiet(&client) || !has_all {
            violated(&format!(
                "client {} waits for ever: in {}, expects {:?}",
                client.id,
                exec::show(&client.command.borrow()),
                client.expected.borrow()
            ));
        }
    }
    let mut truth = s.truth.borrow_mut();
    if let Err(text) = truth.follow(&s.disk.borrow()) {
        drop(truth);
        violated(&text);
    }
    let (durable, units) = (truth.durable(), truth.units());
    drop(truth);
    if durable < units {
        violated(&format!("the log is at rest, and of {units} units {durable} are in it"));
    }
}

/// The writer thread does something, or not.
pub fn writer_may_step() {
    let s = server();
    if s.chance(30) {
        step_writer(1 + s.below(3));
    }
}

pub(super) fn step_writer(count: usize) {
    let steps = server().steps.borrow().clone();
    if let Some(steps) = steps {
        (0..count).for_each(|_| {
            if power_is_lost() {
                return;
            }
            let (first, which) = (server().chance(50), server().below(4));
            let flushes =
                if first { steps.flush(which) || steps.write() } else { !steps.write() && steps.flush(which) };
            server().note(|| format!("  writer steps: {flushes}"));
        });
    }
}
