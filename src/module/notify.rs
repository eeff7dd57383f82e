//! Keyspace notifications to clients (`wbl.notify-keyspace-events`): published when what they report is durable.

use crate::core::notices::{EventClasses, Notice};
use crate::ffi::{Ctx, Level, follow_all_events, log};
use crate::module::config::{Setting, value};
use crate::module::{Module, listening, server, with};

/// While this many messages wait for the disk, keys that are missed raise none.
const WAITING_MAX: usize = 10_000;

/// The classes that are to be published.
fn classes() -> EventClasses {
    EventClasses::from_bits(u32::try_from(value(Setting::NotifyKeyspaceEvents)).unwrap_or(0))
}

/// An event of a class (the server's bit) has been raised.
pub(super) fn event(ctx: Ctx<'_>, class: u32, event: &[u8], key: &[u8]) {
    listening::event(ctx, class, event, key);
    let classes = classes();
    if !classes.publish(class) {
        return;
    }
    // A node's messages go to the subscribers of the whole cluster: those of the primary are enough.
    let flags = ctx.flags();
    if flags.in_cluster() && flags.is_replica() {
        return;
    }
    let notice = Notice { db: ctx.event_db(event, key), event: event.to_vec(), key: key.to_vec() };
    let now = with(|module| {
        if module.life.withholds() {
            module.notices.add(notice.clone());
            return false;
        }
        module.notices.is_empty()
    });
    if now == Some(true) {
        publish(ctx, classes, &notice);
    }
}

/// `new`, which belongs to the unit that makes the key, or `keymiss`, which reports no change and comes after the
/// events before it.
pub(super) fn event_without_change(ctx: Ctx<'_>, class: u32, name: &[u8], key: &[u8]) {
    // Writes wait where too much is pending; reads, which cause these misses, do not.
    let is_lost = with(|module| {
        let lost = name == b"keymiss" && module.notices.len() >= WAITING_MAX && classes().publish(class);
        module.counters.notices_lost += u64::from(lost);
        lost
    });
    if is_lost == Some(true) {
        return;
    }
    event(ctx, class, name, key);
    if name == b"keymiss" {
        belongs_to_no_unit();
    }
}

/// Fields of a hash have expired, which follows from the time, and the server has removed them of its own accord.
pub(super) fn fields_expired(ctx: Ctx<'_>, class: u32, name: &[u8], key: &[u8]) {
    event(ctx, class, name, key);
    belongs_to_no_unit();
}

/// The last event reports no change: it comes after those before it.
fn belongs_to_no_unit() {
    with(|module| {
        if !module.capture.has_unit() {
            module.end_notices(module.appended());
        }
    });
}

/// Publishes what is durable.
pub(super) fn publish_durable(ctx: Ctx<'_>) {
    let notices = with(|module| match module.log() {
        Some(log) if !module.notices.is_empty() => {
            log.wake_when_durable();
            module.notices.take_up_to(log.log().durable())
        }
        _ => Vec::new(),
    });
    notices.iter().flatten().for_each(|notice| publish(ctx, classes(), notice));
}

/// Publishes everything: the log was closed, so all of it is durable.
pub(super) fn publish_all(ctx: Ctx<'_>) {
    let notices = with(|module| module.notices.take_all());
    notices.iter().flatten().for_each(|notice| publish(ctx, classes(), notice));
}

fn publish(ctx: Ctx<'_>, classes: EventClasses, notice: &Notice) {
    classes.messages(notice).iter().for_each(|(channel, message)| ctx.publish(channel, message));
}

/// The setting, or the server's, may have changed.
pub(super) fn setting_changed(ctx: Ctx<'_>) {
    if classes().needs_more_events() {
        follow_all_events(ctx);
    }
    if value(Setting::NotifyKeyspaceEvents) != 0 && server::notifies_early(ctx) {
        log(
            Level::Warning,
            "notify-keyspace-events and wbl.notify-keyspace-events are both set: clients get each message twice, once before the change is durable. Empty notify-keyspace-events.",
        );
    }
}

impl Module {
    /// The unit has ended at this position.
    pub(super) fn end_notices(&mut self, lsn: crate::log::Lsn) {
        if !self.notices.is_empty() {
            self.notices.unit_ended(lsn);
        }
        if !self.others.is_empty() {
            self.others.unit_ended(lsn);
        }
    }
}
