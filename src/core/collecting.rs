//! Pipelines that the module runs for their clients: a run of commands whose replies are kept, and the last of which
//! answers for all.
//!
//! Only the client's last command can hold it. So before the first one runs it is known which is the last ([`plan`]),
//! and that the module can run all of them: after kept replies there is nothing that only the server could answer.

use crate::core::input::Sent;
use std::collections::VecDeque;

/// What the module can do with a command of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Can {
    /// Nothing.
    Nothing,
    /// Run it.
    Run,
    /// Choose this database.
    Select(u32),
    /// Begin a transaction.
    Multi,
    /// Run one.
    Exec,
    /// Drop one.
    Discard,
}

/// What is done with a single command, or with one in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It runs.
    Run,
    /// It chooses this database.
    Select(u32),
}

/// What is done with a command of a pipeline when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This, now.
    Now(Act),
    /// A transaction begins.
    Multi,
    /// This, when that ends.
    Queue(Act),
    /// Its commands run.
    Exec,
    /// They do not.
    Discard,
}

impl Step {
    /// Whether nothing runs yet.
    pub fn only_queues(self) -> bool {
        matches!(self, Step::Multi | Step::Queue(_) | Step::Discard)
    }
}

/// The commands of a pipeline that are run, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is done with each.
    pub steps: VecDeque<Step>,
}

/// What becomes of a pipeline.
#[derive(Debug, PartialEq, Eq)]
pub enum Planned {
    /// All of it that has come as a whole can be run.
    All(Plan),
    /// The command that ends at this position can't.
    Not(u64),
}

/// Plans what becomes of the commands, up to a transaction whose end has not come. `can` says what the module can do
/// with one that is sent in this database.
pub fn plan<'a>(
    commands: impl Iterator<Item = &'a Sent<'a>>,
    mut db: u32,
    mut can: impl FnMut(&[&'a [u8]], u32) -> Can,
) -> Planned {
    let mut steps = VecDeque::new();
    // Where the transaction begins.
    let mut begun: Option<usize> = None;
    for command in commands {
        let step = |act| if begun.is_some() { Step::Queue(act) } else { Step::Now(act) };
        let step = match (can(&command.args, db), begun) {
            (Can::Run, _) => step(Act::Run),
            (Can::Select(selected), _) => {
                db = selected;
                step(Act::Select(db))
            }
            (Can::Multi, None) => {
                begun = Some(steps.len());
                Step::Multi
            }
            // A SELECT that is dropped has chosen nothing.
            (Can::Discard, Some(at)) if !steps.range(at..).any(|step| matches!(step, Step::Queue(Act::Select(_)))) => {
                begun = None;
                Step::Discard
            }
            (Can::Exec, Some(_)) => {
                begun = None;
                Step::Exec
            }
            (Can::Nothing | Can::Multi | Can::Exec | Can::Discard, _) => return Planned::Not(command.end),
        };
        steps.push_back(step);
    }
    steps.truncate(begun.unwrap_or(steps.len()));
    Planned::All(Plan { steps })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str) -> Planned {
        let words: Vec<&str> = text.split(' ').collect();
        let commands = words.iter().enumerate();
        let commands: Vec<Sent<'_>> =
            commands.map(|(index, word)| Sent { args: vec![word.as_bytes()], end: index as u64 + 1 }).collect();
        plan(commands.iter(), 3, |args, db| match args {
            [b"GET"] => Can::Run,
            [b"IN3"] if db == 3 => Can::Run,
            [b"SELECT"] => Can::Select(5),
            [b"MULTI"] => Can::Multi,
            [b"EXEC"] => Can::Exec,
            [b"DISCARD"] => Can::Discard,
            _ => Can::Nothing,
        })
    }

    #[test]
    fn a_pipeline_is_run_as_a_whole_or_not_at_all() {
        let all = |steps: &[Step]| Planned::All(Plan { steps: steps.iter().copied().collect() });
        let (run, select) = (Step::Now(Act::Run), Step::Now(Act::Select(5)));
        assert_eq!(planned("GET IN3 GET"), all(&[run; 3]));
        assert_eq!(planned("GET EVAL GET"), Planned::Not(2));
        assert_eq!(planned("IN3 SELECT GET"), all(&[run, select, run]));
        assert_eq!(planned("SELECT GET IN3"), Planned::Not(3), "its database counts");
    }

    #[test]
    fn a_transaction_is_run_when_all_of_it_has_come() {
        let all = |steps: &[Step]| Planned::All(Plan { steps: steps.iter().copied().collect() });
        let (run, queued) = (Step::Now(Act::Run), Step::Queue(Act::Run));
        assert_eq!(planned("GET MULTI GET EXEC GET"), all(&[run, Step::Multi, queued, Step::Exec, run]));
        assert_eq!(planned("MULTI GET DISCARD"), all(&[Step::Multi, queued, Step::Discard]));
        assert_eq!(planned("GET MULTI GET"), all(&[run]));
        assert_eq!(planned("MULTI GET"), all(&[]));
        for (text, not) in [
            ("MULTI GET MULTI EXEC", 3),
            ("GET EXEC", 2),
            ("DISCARD", 1),
            ("MULTI EVAL EXEC", 2),
            ("MULTI SELECT DISCARD GET", 3),
        ] {
            assert_eq!(planned(text), Planned::Not(not), "{text}");
        }
        let select = Step::Queue(Act::Select(5));
        assert_eq!(planned("MULTI SELECT EXEC GET"), all(&[Step::Multi, select, Step::Exec, run]));
    }
}
