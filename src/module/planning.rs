//! Whether the module runs what a client has sent as a pipeline, and what is to be done with each command of it.

use crate::core::capture::Class;
use crate::core::collecting::{Act, Can, Plan, Planned, Step, plan};
use crate::core::leaf::ClientId;
use crate::core::table::Quirk;
use crate::ffi::{Ctx, may_run_all, own_name};
use crate::module::known::Known;
use crate::module::listed::{self, Received};
use crate::module::{Module, config, wrappers};

/// A client that has sent a single command this many times in a row no longer pipelines.
const SINGLES_MAX: u32 = 64;

impl Module {
    /// What is to be done with the client's commands, from the one that has just come, if the module is to run them.
    pub(super) fn plan_for(&mut self, ctx: Ctx<'_>, client: ClientId) -> Option<(Plan, Received)> {
        let is_forced = self.looks.is_forced();
        let record = self.clients.get_mut(client)?;
        let input = record.input.as_ref()?;
        let (is_planned, began) = (input.position() > record.left_until, input.last());
        if !is_planned || record.mutes || self.capture.is_queueing(client) || !self.may_collect() || self.disk_fails() {
            return None;
        }
        if !self.delayed.is_empty() || ctx.writes_are_paused() {
            return None;
        }
        let fresh = self.looks.take_fresh(client, began);
        let received = fresh.or_else(|| listed::received_of(ctx, &[client]).pop())?;
        let planned = self.plan_of(ctx, client, &received);
        let record = self.clients.get_mut(client)?;
        let ends = match planned {
            Ok(plan) if plan.steps.len() > 1 || is_forced && !plan.steps.is_empty() => {
                record.singles = 0;
                return Some((plan, received));
            }
            Ok(_) => {
                // Nothing of the client's comes after it: it can be held like any other.
                self.running.pipelines = Some(false);
                record.singles += 1;
                if record.singles > SINGLES_MAX {
                    record.input = None;
                    self.looks.forget(client);
                }
                return None;
            }
            Err(ends) => ends,
        };
        record.left_until = Some(ends);
        None
    }

    /// A plan for the client's commands.
    ///
    /// # Errors
    /// The position up to which the server is to run them.
    fn plan_of(&mut self, ctx: Ctx<'_>, client: ClientId, received: &Received) -> Result<Plan, u64> {
        let module = &*self;
        let input = module.clients.get(client).and_then(|record| record.input.as_ref()).ok_or(0_u64)?;
        let commands: Vec<_> = input.commands(received.bytes).collect();
        let end = commands.last().map_or(0, |command| command.end);
        if !received.is_plain || received.watches {
            return Err(end);
        }
        let (mut writes, mut shows, mut bytes, mut databases) = (false, false, 0, Vec::new());
        let mut in_multi = false;
        let ended = plan(commands.iter(), received.db, |args, db| {
            let name = own_name(args.first().copied().unwrap_or_default());
            let known = module.server.commands.known(&name, args.get(1).copied().unwrap_or_default());
            databases.push(db);
            writes |= known.writes;
            bytes += args.iter().map(|arg| arg.len() as u64).sum::<u64>();
            shows = shows || module.newest_change(ctx, args.len(), || args.iter().copied(), known, Some(db)).is_some();
            let can = module.can_run(ctx, known, args, in_multi);
            in_multi = in_multi && !matches!(can, Can::Exec | Can::Discard) || can == Can::Multi;
            can
        });
        let plan = match ended {
            Planned::All(plan) => plan,
            Planned::Not(end) => return Err(end),
        };
        if plan.steps.len() == commands.len() && plan.steps.iter().all(|step| *step == Step::Now(Act::Run)) {
            module.looks.stands(client, end, *received);
        }
        if plan.steps.len() < 2 && !module.looks.is_forced() {
            return Ok(plan);
        }
        // What only reads, and shows nothing that is not durable, is answered at once.
        let is_needed = writes || shows || module.looks.is_forced();
        let with_databases = commands.iter().zip(&databases).map(|(command, db)| (command.args.as_slice(), *db));
        if !is_needed
            || writes && module.has_no_room(bytes)
            || !may_run_all(ctx, client, wrappers::COLLECT, with_databases)
        {
            return Err(end);
        }
        Ok(plan)
    }

    fn can_run(&self, ctx: Ctx<'_>, known: Known, args: &[&[u8]], in_multi: bool) -> Can {
        let is_forced = self.looks.is_forced();
        let transactions = config::collects_transactions() || is_forced;
        match known.class {
            _ if known.refuses(args.len()) => return Can::Nothing,
            Class::Multi if transactions && !in_multi => return Can::Multi,
            Class::Exec if in_multi => return Can::Exec,
            Class::EndMulti if in_multi && known.row.quirk == Quirk::Discards => return Can::Discard,
            _ if !in_multi && !config::collects_pipelines() && !is_forced => return Can::Nothing,
            _ => {}
        }
        if known.row.quirk == Quirk::Selects {
            let text = args.get(1).and_then(|db| std::str::from_utf8(db).ok());
            let db = text.and_then(|text| text.parse::<u32>().ok().filter(|db| db.to_string() == text));
            return db.filter(|db| ctx.own().select_db(*db)).map_or(Can::Nothing, Can::Select);
        }
        let is_collected = if in_multi { known.is_collected_queued } else { known.is_collected };
        if is_collected { Can::Run } else { Can::Nothing }
    }
}
