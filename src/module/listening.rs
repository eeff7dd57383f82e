//! Other modules that listen (`api/valkey_wbl.h`): they are called at the end of an iteration, with nothing running.

use crate::core::listeners::{Call, Event, Listeners};
use crate::ffi::{Ctx, DurableListener, EventListener, wake_event_loop};
use crate::log::Lsn;
use crate::module::{Module, with};
use std::sync::atomic::{AtomicBool, Ordering};

/// Who listens.
pub(super) type Others = Listeners<DurableListener, EventListener>;

/// Whether anybody gets events, for code that would look at each of them.
static HAS_SUBSCRIBERS: AtomicBool = AtomicBool::new(false);

/// The appended and the durable position, while a log protects the server.
pub(super) fn positions() -> Option<(u64, u64)> {
    with(|module| module.protected().map(|(appended, durable)| (appended.get(), durable.get()))).flatten()
}

/// Reports to another module when a position, or everything executed, is durable; `None` without a log.
pub(super) fn tell_when_durable(owner: &[u8], position: Option<u64>, listener: DurableListener) -> Option<u64> {
    let asked = with(|module| {
        module.protected()?;
        Some(module.others.when_durable(owner, position.map(Lsn::new), listener))
    });
    // There may be nothing else to do.
    wake_event_loop();
    asked.flatten()
}

/// Reports events of these classes to another module.
pub(super) fn tell_of_events(owner: &[u8], classes: u32, listener: EventListener) -> u64 {
    let token = with(|module| module.others.subscribe(owner, classes, listener));
    look_for_subscribers();
    token.unwrap_or(0)
}

/// Forgets what was asked for with this token.
pub(super) fn stop_telling(token: u64) -> bool {
    let has_stopped = with(|module| module.others.cancel(token));
    look_for_subscribers();
    has_stopped == Some(true)
}

/// A module was unloaded: its code is no longer there.
pub(super) fn module_gone(name: &[u8]) {
    with(|module| module.others.forget_owner(name));
    look_for_subscribers();
}

fn look_for_subscribers() {
    let has_subscribers = with(|module| module.others.has_subscribers());
    HAS_SUBSCRIBERS.store(has_subscribers == Some(true), Ordering::Relaxed);
}

/// An event of a class (the server's bit) has been raised, and reports a change.
pub(super) fn event(ctx: Ctx<'_>, class: u32, name: &[u8], key: &[u8]) {
    if HAS_SUBSCRIBERS.load(Ordering::Relaxed) {
        add(Event { class, db: Some(ctx.event_db(name, key)), name: name.to_vec(), key: key.to_vec() });
    }
}

/// A database was emptied, or all were.
pub(super) fn flushed(db: Option<u32>) {
    let name = if db.is_some() { "flushdb" } else { "flushall" };
    server_event(db, name, Vec::new());
}

/// Two databases have changed places.
pub(super) fn swapped(first: u32, second: u32) {
    server_event(Some(first), "swapdb", second.to_string().into_bytes());
}

fn server_event(db: Option<u32>, name: &str, key: Vec<u8>) {
    if HAS_SUBSCRIBERS.load(Ordering::Relaxed) {
        add(Event { class: 0, db, name: name.into(), key });
    }
}

fn add(event: Event) {
    with(|module| {
        if module.life.is_active() {
            module.others.add(event);
        }
    });
}

/// Reports what is durable. If the log is no longer there, the outcome is reported as unknown.
pub(super) fn tell_durable(ctx: Ctx<'_>) {
    let has_any = with(|module| {
        if module.others.is_empty() {
            return false;
        }
        let appended = module.appended();
        match module.log().filter(|_| module.life.is_active()).cloned() {
            Some(log) => {
                module.others.iteration_ended(appended);
                log.wake_when_durable();
                module.others.durable(log.log().durable());
            }
            None => module.others.given_up(appended),
        }
        true
    });
    if has_any == Some(true) {
        tell(ctx);
    }
}

/// The log was closed, so all of it is durable. That is reported at the end of the iteration.
pub(super) fn log_closed(appended: Lsn) {
    with(|module| {
        module.others.unit_ended(appended);
        module.others.iteration_ended(appended);
        module.others.durable(appended);
    });
}

/// The server has become a replica: what waits is not acknowledged.
pub(super) fn demoted() {
    with(|module| module.others.given_up(module.appended()));
}

fn tell(ctx: Ctx<'_>) {
    let mut has_told = false;
    // A call may cancel others.
    while let Some(Some(call)) = with(|module| module.others.next_call()) {
        has_told = true;
        match call {
            Call::Position(lsn, is_durable, listener) => listener.tell(ctx, lsn.get(), is_durable),
            Call::Event(lsn, event, listener) => {
                let Event { class, db, name, key } = &*event;
                listener.tell(ctx, lsn.get(), *db, *class, name, key);
            }
        }
    }
    if has_told {
        // What they have executed is logged in the next iteration.
        wake_event_loop();
    }
}

impl Module {
    /// The appended and the durable position, while a log protects the server.
    fn protected(&self) -> Option<(Lsn, Lsn)> {
        let log = self.log().filter(|_| self.life.is_active())?;
        Some((self.appended(), log.log().durable()))
    }
}
