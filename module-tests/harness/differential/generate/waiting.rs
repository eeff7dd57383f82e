//! Clients that wait, and what may serve them.

use super::*;

impl Generator {
    /// Clients that block, and what may serve them.
    pub(super) fn blocked(&mut self) -> Step {
        let database = self.rng.below(2) as u32;
        let mut blocked = Vec::new();
        let mut serving = vec![words!["SELECT", u64::from(database)]];
        for _ in 0..1 + self.rng.below(2) {
            let (command, key, serve) = match self.rng.below(3) {
                0 => {
                    let key = self.key("l");
                    let to = if self.rng.one_in(6) { key.clone() } else { self.key("l") };
                    let command = self.blocking_list(&key, &to, "0.05");
                    (command, key.clone(), words!["RPUSH", key, self.value(), self.value(), self.value()])
                }
                1 => {
                    let key = self.key("z");
                    let command = self.blocking_sorted_set(&key, "0.05");
                    (command, key.clone(), words!["ZADD", key, self.score(), self.member(), "7", self.member()])
                }
                _ => {
                    let key = self.pick(&CLOCK_STREAMS).word();
                    let (group, consumer) = (self.group(), self.consumer());
                    serving.push(words!["XADD", key.clone(), "*", "f", "v"]);
                    let mut command = words!["XREADGROUP", "GROUP", group.clone(), consumer, "BLOCK", "50"];
                    if self.rng.one_in(4) {
                        command.push("NOACK".word());
                    }
                    command.extend(words!["STREAMS", key.clone(), ">"]);
                    let create = words!["XGROUP", "CREATE", key.clone(), group, "$", "MKSTREAM"];
                    blocked.push((database, create));
                    (command, key.clone(), words!["XADD", key, "*", "g", self.value()])
                }
            };
            blocked.push((database, command));
            self.serve(database, key, serve, &mut serving);
            if self.rng.one_in(3) {
                serving.push(self.command(Place::Top));
            }
        }
        Step::Blocked { blocked, serving }
    }

    /// The key may get its content in many ways.
    fn serve(&mut self, database: u32, key: Vec<u8>, serve: Words, serving: &mut Vec<Words>) {
        match self.rng.below(10) {
            0 => serving.push(self.run_script(&[serve])),
            1 => serving.extend([words!["MULTI"], serve, words!["EXEC"]]),
            2 => {
                let mut elsewhere = serve;
                elsewhere[1] = "elsewhere".word();
                serving.extend([words!["DEL", "elsewhere"], elsewhere, words!["RENAME", "elsewhere", key.clone()]]);
            }
            3 => {
                let mut elsewhere = serve;
                elsewhere[1] = "elsewhere".word();
                let copy = words!["COPY", "elsewhere", key.clone(), "REPLACE"];
                serving.extend([words!["DEL", "elsewhere"], elsewhere, copy, words!["DEL", "elsewhere"]]);
            }
            4 => {
                let other = u64::from(1 - database);
                serving.extend([words!["SELECT", other], serve, words!["SWAPDB", "0", "1"]]);
            }
            5 => {
                let other = u64::from(1 - database);
                let back = u64::from(database);
                serving.extend([words!["SELECT", other], serve, words!["MOVE", key.clone(), back]]);
            }
            _ => serving.push(serve),
        }
    }
}
