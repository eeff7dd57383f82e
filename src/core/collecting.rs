//! Pipelines that the module runs for their clients: a run of commands whose replies are kept, and the last of which
//! answers for all.
//!
//! Only the client's last command can hold it. So before the first one runs it is known which is the last
//! ([`plan`]), and that the module can run all of them: nothing stands behind kept replies that only the server could
//! answer.

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
}

/// What is done with a command of a pipeline when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It runs.
    Run,
    /// It chooses this database.
    Select(u32),
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

/// Plans what becomes of the commands. `can` says what the module can do with one that is sent in this database.
pub fn plan<'a>(
    commands: impl Iterator<Item = &'a Sent<'a>>,
    mut db: u32,
    mut can: impl FnMut(&[&'a [u8]], u32) -> Can,
) -> Planned {
    let mut plan = Plan::default();
    for command in commands {
        plan.steps.push_back(match can(&command.args, db) {
            Can::Nothing => return Planned::Not(command.end),
            Can::Run => Step::Run,
            Can::Select(selected) => {
                db = selected;
                Step::Select(db)
            }
        });
    }
    Planned::All(plan)
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
            _ => Can::Nothing,
        })
    }

    #[test]
    fn a_pipeline_is_run_as_a_whole_or_not_at_all() {
        let all = |steps: &[Step]| Planned::All(Plan { steps: steps.iter().copied().collect() });
        assert_eq!(planned("GET IN3 GET"), all(&[Step::Run; 3]));
        assert_eq!(planned("GET EVAL GET"), Planned::Not(2));
        assert_eq!(planned("IN3 SELECT GET"), all(&[Step::Run, Step::Select(5), Step::Run]));
        assert_eq!(planned("SELECT GET IN3"), Planned::Not(3), "its database counts");
    }
}
