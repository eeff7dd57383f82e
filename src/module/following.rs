//! A replica's log: what its primary sends is logged when it has run, and nobody waits for that.
//!
//! See [`Followed`](crate::core::followed::Followed). No unit's end is reported on a replica: what was announced has
//! run when the next command comes, or at the end of the iteration.

use crate::core::capture::Class;
use crate::core::exact::{as_any_client, is_exact};
use crate::core::followed::{Images, Sent, Whose};
use crate::core::reads::Reads;
use crate::core::table::{Quirk, Role, Rule};
use crate::core::touched::Touches;
use crate::core::unit::{Batch, Unit};
use crate::ffi::{Ctx, Filter, Level, client_info, log};
use crate::log::Lsn;
use crate::module::arguments::untold_keys;
use crate::module::known::Known;
use crate::module::units::{EARLY_HAND_OVER_BYTES, complete};
use crate::module::{Module, life, listed, server, with};
use std::sync::Arc;

/// What to do with a command that a replica's filter sees.
enum Seen {
    Primary,
    Other { may_write: bool, resets: bool },
}

/// A command is about to run on a replica that logs. Returns whether it is the primary's.
pub(super) fn announce(ctx: Ctx<'_>, filter: &Filter) -> bool {
    let seen = with(|module| module.whose(ctx, filter)).flatten();
    match seen {
        None => false,
        Some(Seen::Other { may_write: false, resets: false }) => false,
        Some(Seen::Other { resets: true, .. }) => {
            settle(ctx);
            with(|module| module.life.following_mut().map(|following| following.may_be_reset = true));
            false
        }
        Some(Seen::Other { .. }) => {
            if !ctx.flags().in_script() && !ctx.flags().in_exec() {
                seal(ctx);
            }
            with(|module| module.note_untold(ctx, filter));
            false
        }
        Some(Seen::Primary) => {
            seal(ctx);
            if with(|module| module.batch.len() >= EARLY_HAND_OVER_BYTES) == Some(true) && settle(ctx) {
                with(Module::hand_over);
            }
            let may_wait = ctx.writes_are_paused();
            with(|module| module.announce_followed(filter, may_wait));
            true
        }
    }
}

/// Logs what has run.
pub(super) fn seal(ctx: Ctx<'_>) {
    let sealed = with(|module| {
        let following = module.life.following_mut()?;
        if following.followed.is_quiet() {
            return None;
        }
        let primary = following.followed.primary().filter(|_| following.followed.may_wait());
        let waits = primary.is_some_and(|primary| listed::client_info(ctx, primary).is_some_and(|info| info.blocked));
        following.has_logged = true;
        let sealed = following.followed.take(waits, &|args| named_keys(ctx, args));
        if let Some(unit) = &sealed.as_sent {
            module.batch.push(unit);
            module.counters.units += u64::from(!unit.is_empty());
        }
        Some(sealed.images)
    });
    if let Some(Some(images)) = sealed.map(|images| images.filter(|images| !images.is_empty())) {
        complete(ctx, unit_of(ctx, images));
    }
}

/// A unit of resulting state.
fn unit_of(ctx: Ctx<'_>, images: Images) -> Unit {
    let Images { keys, everywhere, functions } = images;
    let mut unit = Unit::new(ctx.unit_time_us() / 1000);
    keys.into_iter().for_each(|key| unit.image(key));
    everywhere.into_iter().for_each(|key| unit.image_everywhere(key));
    unit.functions = functions;
    unit
}

/// The keys that a command names.
fn named_keys(ctx: Ctx<'_>, args: &[Vec<u8>]) -> Vec<Arc<[u8]>> {
    let arg = |index: usize| args.get(index).map(Vec::as_slice);
    let told = ctx.command_keys(args.iter().map(Vec::as_slice));
    let untold = untold_keys(arg(0).unwrap_or_default(), arg(1).unwrap_or_default(), args.len());
    told.into_iter().chain(untold).filter_map(arg).map(Arc::from).collect()
}

/// Logs what has run; then checks whether the server has refused any of the primary's commands. Those must not be in
/// the log, which is then left. Returns whether all is well.
pub(super) fn settle(ctx: Ctx<'_>) -> bool {
    seal(ctx);
    let lost = with(|module| {
        let following = module.life.following_mut()?;
        if following.has_logged && following.followed.lost().is_none() {
            following.has_logged = false;
            let now = server::refused_of_primary(ctx);
            let is_reset = std::mem::take(&mut following.may_be_reset) && now == Some(0);
            if now.is_none() || now != following.errors && !is_reset {
                following.followed.lose("a command of the primary's has failed here");
            }
            following.errors = now;
        }
        following.followed.lost()
    });
    let Some(Some(why)) = lost else { return true };
    log(Level::Warning, &format!("the log can't follow the primary: {why}. A new one begins, with a base"));
    life::lose_primary(ctx, why);
    false
}

impl Module {
    fn whose(&mut self, ctx: Ctx<'_>, filter: &Filter) -> Option<Seen> {
        let client = filter.client_id();
        let known = self.server.commands.known(filter.arg(0), filter.arg(1));
        let is_connection = self.clients.contains(client);
        let following = self.life.following_mut()?;
        let mut whose = following.followed.whose(client);
        if whose == Whose::Unknown && is_connection {
            whose = Whose::Other;
        }
        if whose == Whose::Unknown {
            let flags = ctx.flags();
            whose = Whose::Other;
            if !flags.in_script() && !flags.in_exec() {
                // What the question does to other modules' filters is not the primary's.
                following.followed.note_stranger(client);
                if let Some(primary) = listed::primary(ctx).filter(|primary| primary.client == client) {
                    if primary.is_queueing {
                        following.followed.lose("a transaction had begun before the log");
                    }
                    following.followed.meet(client, primary.db);
                    whose = Whose::Primary;
                }
            }
        }
        // A script of the primary's is known by its keys and events only: what it runs must say the rest.
        let ends_queue = matches!(known.class, Class::Exec | Class::EndMulti);
        let may_write =
            (following.is_writable || following.followed.runs_inexact()) && (may_write(known) || ends_queue);
        let resets = known.row.quirk == Quirk::ResetsStatistics;
        Some(if whose == Whose::Primary { Seen::Primary } else { Seen::Other { may_write, resets } })
    }

    fn announce_followed(&mut self, filter: &Filter, may_wait: bool) {
        let known = self.server.commands.known(filter.arg(0), filter.arg(1));
        let args: Vec<&[u8]> = (0..filter.len()).map(|index| filter.arg(index)).collect();
        let sent = sent(known, &args);
        let plain = as_any_client(known.row.rule, &args);
        let args = plain.as_deref().unwrap_or(&args);
        let Some(following) = self.life.following_mut() else { return };
        following.followed.announce(sent, args, may_wait);
    }

    /// Another client's command may change keys without an event: now, or in its EXEC.
    fn note_untold(&mut self, ctx: Ctx<'_>, filter: &Filter) {
        let client = filter.client_id();
        let known = self.server.commands.known(filter.arg(0), filter.arg(1));
        let args = || (0..filter.len()).map(|index| filter.arg(index));
        let keys: Vec<Arc<[u8]>> =
            ctx.command_keys(args()).into_iter().map(|index| Arc::from(filter.arg(index))).collect();
        let flags = ctx.flags();
        let Some(following) = self.life.following_mut() else { return };
        let images = match known.class {
            _ if flags.in_script() || flags.in_exec() => following.followed.strays(),
            Class::Exec => return following.followed.runs_queued(client),
            Class::EndMulti => return following.followed.drops_queued(client),
            _ if client_info(client).is_some_and(|info| info.in_multi) => following.followed.queued(client),
            _ => following.followed.strays(),
        };
        images.functions |= known.row.rule == Rule::Functions;
        images.everywhere.extend(keys);
    }

    /// A key has changed on a replica that logs; returns whether it is one.
    pub(super) fn follow_event(&mut self, client: u64, by_server: bool, db: u32, key: &[u8]) -> bool {
        let Some(following) = self.life.following_mut() else { return false };
        if by_server || !following.followed.covers(Some(client)) {
            following.followed.strays().keys.insert((db, Arc::from(key)));
        }
        true
    }

    /// Whole databases have changed on a replica that logs; returns whether it is one.
    pub(super) fn follow_server_event(&mut self) -> bool {
        let Some(following) = self.life.following_mut() else { return false };
        if !following.followed.covers(None) {
            following.followed.lose("whole databases have changed, and not by the primary's command");
        }
        true
    }

    /// The log is left: what has not been looked at is not in it.
    pub(super) fn drop_unsettled(&mut self) {
        let Some(log) = self.log() else { return };
        let appended: Lsn = log.log().appended();
        self.batch = Batch::new(appended);
    }
}

fn may_write(known: Known) -> bool {
    known.writes || known.row.role == Role::Write
}

/// What kind of command the primary has sent.
fn sent(known: Known, args: &[&[u8]]) -> Sent {
    match known.class {
        Class::Multi => Sent::Multi,
        Class::Exec => Sent::Exec,
        Class::EndMulti => Sent::Discard,
        _ if known.row.quirk == Quirk::Selects => {
            Sent::Select(args.get(1).and_then(|db| str::from_utf8(db).ok()?.parse().ok()))
        }
        _ if known.reads == Reads::Script => Sent::Inexact(Touches::of(known.row.rule, args)),
        _ if may_write(known) && is_exact(known.row.rule, args) => Sent::Exact(Touches::of(known.row.rule, args)),
        _ if may_write(known) => Sent::Inexact(Touches::of(known.row.rule, args)),
        _ => Sent::Nothing,
    }
}
