//! WAITAOF on a server without an append-only file of its own.
//!
//! The server answers `WAITAOF 1 ...` with an error there. The filter turns it into WBL.WAITAOF, which waits for the
//! log: until everything that was executed before is durable. WAITAOF with 0, with wrong arguments, on a replica, or on
//! a server that has an append-only file of its own, is left to the server.
//!
//! A replica reports how far its own append-only file is on its disk in REPLCONF ACK, which passes the filter. The
//! server counts replicas by the offset after its client's last write; the module, which does not know that, by the one
//! after everything that was executed before.

use crate::core::ack::Why;
use crate::core::hash::Map;
use crate::core::leaf::ClientId;
use crate::ffi::{CallMode, Ctx, Filter, Held, ReplyKind, Rights};
use crate::log::{Generation, Lsn};
use crate::machine::now_ms;
use crate::module::release::release;
use crate::module::units::finish_unit;
use crate::module::{Module, State, errors, listed, server, with, wrappers};

/// Its name.
const NAME: &str = "WAITAOF";

/// Clients in WAITAOF, and what replicas say of their append-only files.
#[derive(Default)]
pub(super) struct AofWaits {
    waiting: Vec<(ClientId, Held, Wanted)>,
    /// The offsets that replicas have on their disks. All who send REPLCONF ACK are here; only replicas count.
    acknowledged: Map<ClientId, u64>,
    /// One has changed since the waiting clients were looked at.
    has_changed: bool,
}

/// What a WAITAOF waits for.
#[derive(Clone, Copy)]
struct Wanted {
    /// The position in the log, and which log that is: a later one begins with a base that has everything.
    lsn: Lsn,
    generation: Option<Generation>,
    /// The replication offset, and how many replicas are to have it.
    offset: u64,
    replicas: u64,
}

/// The arguments, where the server would not refuse them.
struct Arguments {
    replicas: u64,
    timeout_ms: i64,
}

impl Arguments {
    /// Reads `1 numreplicas timeout`; `None` for what the server refuses, or answers itself.
    fn parse(args: [&[u8]; 3]) -> Option<Arguments> {
        let [local, replicas, timeout] = args;
        let replicas = number(replicas).filter(|_| local == b"1")?;
        let timeout_ms = number(timeout)?;
        // The server counts from now.
        let is_in_range = timeout_ms <= i64::MAX - now_ms();
        is_in_range.then_some(Arguments { replicas: u64::try_from(replicas).ok()?, timeout_ms })
    }
}

/// A number that is not negative, as the server reads it: no sign, no leading zeros.
fn number(text: &[u8]) -> Option<i64> {
    let is_plain = text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || !text.starts_with(b"0"));
    std::str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}

impl AofWaits {
    /// REPLCONF: what a replica says of its append-only file.
    pub(super) fn note_acknowledged(&mut self, filter: &Filter) {
        let option = |name: &[u8]| {
            let at = (1..filter.len()).step_by(2).find(|index| filter.arg(*index).eq_ignore_ascii_case(name))?;
            number(filter.arg(at + 1))
        };
        if let (Some(_), Some(Ok(offset))) = (option(b"ack"), option(b"fack").map(u64::try_from)) {
            self.acknowledged.insert(filter.client_id(), offset);
            self.has_changed = true;
        }
    }

    /// A client has gone: the reply that it no longer gets.
    pub(super) fn remove(&mut self, client: ClientId) -> Option<Held> {
        self.acknowledged.remove(&client);
        self.take(client).map(|(held, _)| held)
    }

    fn take(&mut self, client: ClientId) -> Option<(Held, Wanted)> {
        let index = self.waiting.iter().position(|(waiting, ..)| *waiting == client)?;
        let (_, held, wanted) = self.waiting.swap_remove(index);
        Some((held, wanted))
    }

    /// How many replicas have this offset on their disks.
    fn count(&self, ctx: Ctx<'_>, offset: u64) -> u64 {
        if !self.acknowledged.values().any(|acknowledged| *acknowledged >= offset) {
            return 0;
        }
        let replicas = listed::replicas(ctx);
        let has_it = |id: &&ClientId| self.acknowledged.get(id).is_some_and(|acknowledged| *acknowledged >= offset);
        replicas.iter().filter(has_it).count() as u64
    }
}

/// An answer: whether the log has it, and how many replicas.
fn answer(is_durable: bool, replicas: u64) -> [i64; 2] {
    [i64::from(is_durable), i64::try_from(replicas).unwrap_or(i64::MAX)]
}

impl Module {
    /// Whether the module answers a WAITAOF instead of the server.
    pub(super) fn answers_waitaof(&mut self, ctx: Ctx<'_>, filter: &Filter) -> bool {
        let args = [1, 2, 3].map(|index| filter.arg(index));
        if self.server.appends || filter.len() != 4 || Arguments::parse(args).is_none() {
            return false;
        }
        let (flags, sender) = (ctx.flags(), filter.client_id());
        // What another module runs is left to the server.
        let client = if flags.in_script() { self.running.client } else { sender };
        let Some(info) = self.info_of(ctx, client) else { return false };
        // The server's refusal names the command.
        let is_refused = !flags.in_script() && info.subscribed && !listed::uses_resp3(ctx, client);
        !is_refused && filter.rights_of(ctx, client, wrappers::WAITAOF, Some(info.db)) == Rights::Both
    }

    fn is_durable_for(&self, wanted: Wanted) -> bool {
        let is_later = self.life.generation() != wanted.generation;
        self.life.is_active() && self.log().is_some_and(|log| is_later || log.log().durable() >= wanted.lsn)
    }

    /// What a WAITAOF that comes now waits for; `None` where it is left to the server.
    fn wanted(&self, ctx: Ctx<'_>, replicas: u64) -> Option<Wanted> {
        if !self.life.logs() || self.life.follows() || self.server.appends {
            return None;
        }
        // Replicas are counted only if any has reported its offset.
        let counts = replicas > 0 || !self.aof_waits.acknowledged.is_empty();
        let offset = if counts { server::replication_offset(ctx) } else { 0 };
        Some(Wanted { lsn: self.appended(), generation: self.life.generation(), offset, replicas })
    }

    /// Whether what is waited for has come, and the answer of now.
    fn look(&self, ctx: Ctx<'_>, wanted: Wanted) -> (bool, [i64; 2]) {
        let (is_durable, replicas) = (self.is_durable_for(wanted), self.aof_waits.count(ctx, wanted.offset));
        (is_durable && replicas >= wanted.replicas, answer(is_durable, replicas))
    }

    /// Takes out those whose wait is over, with their answers.
    fn take_served(&mut self, ctx: Ctx<'_>) -> Vec<Held> {
        let has_changed = std::mem::take(&mut self.aof_waits.has_changed);
        let logs = self.life.logs() && !self.life.follows();
        let mut served = Vec::new();
        for (client, mut held, wanted) in std::mem::take(&mut self.aof_waits.waiting) {
            let may_be_served = wanted.replicas == 0 || has_changed || !logs;
            if !logs {
                held.set_error(without_log(self.life.state()).into());
                served.push(held);
            } else if let (true, answer) = if may_be_served { self.look(ctx, wanted) } else { (false, [0; 2]) } {
                held.set_pair(answer);
                served.push(held);
            } else {
                self.aof_waits.waiting.push((client, held, wanted));
            }
        }
        served
    }
}

/// What the server answers where there is nothing to wait for.
fn without_log(state: State) -> &'static str {
    if state == State::Replica { errors::WAITAOF_ON_REPLICA } else { errors::WAITAOF_WITHOUT_LOG }
}

/// WBL.WAITAOF WAITAOF 1 numreplicas timeout
pub(super) fn waitaof(ctx: Ctx<'_>, args: &[&[u8]]) {
    let flags = ctx.flags();
    let [_, name, rest @ ..] = args else { return ctx.reply_error(errors::CALL_REFUSED) };
    if !name.eq_ignore_ascii_case(NAME.as_bytes()) {
        return ctx.reply_error(errors::CALL_REFUSED);
    }
    if !flags.in_script()
        && let Some(refusal) = ctx.call(CallMode::DryRunAsClient, NAME, rest.iter().copied())
        && refusal.kind() == ReplyKind::Error
    {
        return ctx.reply_with(&refusal);
    }
    if flags.can_block() {
        finish_unit(ctx);
    }
    let arguments = <[&[u8]; 3]>::try_from(rest).ok().and_then(Arguments::parse);
    let wanted = arguments.as_ref().and_then(|arguments| with(|module| module.wanted(ctx, arguments.replicas))?);
    let (Some(arguments), Some(wanted)) = (arguments, wanted) else {
        return match ctx.call(CallMode::AsClient, NAME, rest.iter().copied()) {
            Some(reply) => ctx.reply_with(&reply),
            None => ctx.reply_error(errors::CALL_REFUSED),
        };
    };
    let (is_over, answer) = with(|module| module.look(ctx, wanted)).unwrap_or_default();
    if is_over || !flags.can_block() {
        return ctx.reply_integers(&answer);
    }
    let Some(held) = ctx.block_for_answer_within(arguments.timeout_ms) else {
        return ctx.reply_error(errors::CANNOT_BLOCK);
    };
    held.on_leave();
    if arguments.replicas > 0 {
        ask_for_acknowledgements(ctx);
    }
    with(|module| module.aof_waits.waiting.push((ctx.client_id(), held, wanted)));
}

/// Asks the replicas to report what they have. Unasked, they do so once a second.
fn ask_for_acknowledgements(ctx: Ctx<'_>) {
    let many = i64::MAX.to_string();
    let asked = ctx.own().call(CallMode::Waiting { resp3: false }, NAME, [&b"0"[..], many.as_bytes(), b"0"]);
    if let Some(Ok(promise)) = asked.map(crate::ffi::Reply::into_promise) {
        promise.abort();
    }
}

/// The context's client times out, or CLIENT UNBLOCK id TIMEOUT ends its wait.
pub(super) fn timed_out(ctx: Ctx<'_>) {
    let client = ctx.client_id();
    let left = with(|module| {
        let (held, wanted) = module.aof_waits.take(client)?;
        Some((held, module.look(ctx, wanted).1))
    });
    if let Some(Some((held, answer))) = left {
        ctx.reply_integers(&answer);
        release(held, Why::Left);
    }
}

/// The client has disconnected, or CLIENT UNBLOCK id ERROR has ended its wait.
pub(super) fn left(client: ClientId) {
    if let Some(Some((held, _))) = with(|module| module.aof_waits.take(client)) {
        release(held, Why::Left);
    }
}

/// Lets clients go whose wait is over. At the end of each iteration.
pub(super) fn poll(ctx: Ctx<'_>) {
    let served = with(|module| {
        if module.aof_waits.waiting.is_empty() {
            return Vec::new();
        }
        // The position is read after this.
        module.log().into_iter().for_each(|log| log.wake_when_durable());
        module.take_served(ctx)
    });
    served.into_iter().flatten().for_each(|held| release(held, Why::Own));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_would_refuse_is_left_to_it() {
        let is_own = |text: &str| {
            let args: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
            <[&[u8]; 3]>::try_from(args).ok().and_then(Arguments::parse).is_some()
        };
        for own in ["1 0 0", "1 2 1000", "1 9223372036854775807 10"] {
            assert!(is_own(own), "{own}");
        }
        let others = [
            "0 0 0",
            "2 0 0",
            "01 0 0",
            "1 -1 0",
            "1 +1 0",
            "1 x 0",
            "1 0 -1",
            "1 0 1.5",
            "1 0 00",
            "1 0 ",
            "1 0",
            "1 9223372036854775808 0",
            "1 0 9223372036854775807",
        ];
        for other in others {
            assert!(!is_own(other), "{other}");
        }
    }
}
