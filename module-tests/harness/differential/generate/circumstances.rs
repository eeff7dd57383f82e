//! What happens besides ordinary commands, where the conditions allow it.

use super::*;

impl Generator {
    /// Now and then one of those.
    pub(super) fn circumstance(&mut self) -> Option<Step> {
        if self.conditions == Conditions::default() || !self.rng.one_in(25) {
            return None;
        }
        let Conditions { evicts, refuses, runs_long, other_module, .. } = self.conditions;
        match self.rng.below(6) {
            0 if evicts => {
                let bytes = 200 + self.rng.below(20_000);
                Some(self.squeeze("allkeys-random", bytes))
            }
            1 if refuses => Some(self.squeeze("noeviction", 1)),
            2 if refuses => Some(self.refused()),
            3 if refuses => Some(self.aborted()),
            4 if runs_long => Some(self.long()),
            5 if other_module => Some(Step::Send(vec![self.module_command()])),
            _ => None,
        }
    }

    /// Some steps with too little memory.
    fn squeeze(&mut self, policy: &'static str, bytes: u64) -> Step {
        // None of them begins such a time itself.
        let conditions = std::mem::take(&mut self.conditions);
        let steps: Vec<Step> = (0..1 + self.rng.below(6)).map(|_| self.step()).collect();
        self.conditions = conditions;
        self.planned.extend(steps);
        self.planned.push_back(Step::Loosen);
        Step::Squeeze { bytes, policy }
    }

    fn refused(&mut self) -> Step {
        match self.rng.below(4) {
            0 => Step::Refused { has_password: false, command: self.command(Place::Top) },
            1 => Step::Refused { has_password: true, command: self.command(Place::Top) },
            2 => Step::Send(vec![self.wrong()]),
            _ => Step::Refused { has_password: self.rng.one_in(2), command: self.script() },
        }
    }

    /// A command that there is not, or with another number of arguments.
    fn wrong(&mut self) -> Words {
        let mut words = self.command(Place::Top);
        match self.rng.below(3) {
            0 => words[0] = "NOSUCH".word(),
            1 => words.truncate(1 + self.rng.below(2) as usize),
            _ => words.push(self.value()),
        }
        words
    }

    /// A transaction with such a command.
    fn aborted(&mut self) -> Step {
        let mut commands = self.some(1, 4, Place::Transaction);
        let place = self.rng.below(commands.len() as u64 + 1) as usize;
        commands.insert(place, self.wrong());
        commands.insert(0, words!["MULTI"]);
        commands.push(words!["EXEC"]);
        Step::Send(commands)
    }

    fn long(&mut self) -> Step {
        let commands = self.some(1, 4, Place::Script);
        let mut script = words!["EVAL", format!("{RUNS_LONG}{SCRIPT}"), "0"];
        script.extend(self.script_args(&commands));
        Step::Long { script, meanwhile: self.some(1, 5, Place::Top) }
    }

    /// A command of the test module (`module-tests/test-module`).
    fn module_command(&mut self) -> Words {
        match self.rng.below(8) {
            0 => words!["effects.string", self.key("s"), self.value()],
            1 => words!["effects.fields", self.key("h"), self.field(), self.value()],
            2 => words!["effects.push", self.key("l"), self.value()],
            3 => words!["effects.score", self.key("z"), self.score(), self.member()],
            4 => words!["effects.remove", self.any_key()],
            // What the module does in the callback of the event, and at the end of the unit.
            5 => words!["SET", format!("echo:{}", self.rng.below(3)), self.value()],
            6 => words!["SET", format!("later:{}", self.rng.below(3)), self.value()],
            _ => {
                let mut words = words!["effects.call"];
                words.extend(self.command(Place::Script));
                words
            }
        }
    }
}
