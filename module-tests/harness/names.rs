//! What a server calls its commands.

/// The commands that have another name (`rename-command`), by their own names.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<(String, String)>);

/// The commands of the test module that run another one.
const WRAPPERS: &[&str] = &["effects.call", "effects.timer", "effects.thread", "effects.block"];

impl Names {
    pub fn new(renamed: Vec<(String, String)>) -> Names {
        Names(renamed)
    }

    /// What the server calls this command.
    pub fn of<'a>(&'a self, own: &'a [u8]) -> &'a [u8] {
        let renamed = self.0.iter().find(|(name, _)| own.eq_ignore_ascii_case(name.as_bytes()));
        renamed.map_or(own, |(_, other)| other.as_bytes())
    }

    /// A command's words with the server's name in them, and with that of the command that the test module runs.
    pub fn words<'a, A: AsRef<[u8]>>(&'a self, words: &'a [A]) -> Vec<&'a [u8]> {
        let mut words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        let wraps = WRAPPERS.iter().any(|name| words[0].eq_ignore_ascii_case(name.as_bytes()));
        for name in words.iter_mut().take(1 + usize::from(wraps)) {
            *name = self.of(name);
        }
        words
    }

    /// A script with the server's names in its calls, which are `call('NAME', ..)`.
    pub fn script(&self, script: &str) -> String {
        self.0.iter().fold(script.into(), |script: String, (own, other)| {
            script.replace(&format!("call('{}'", own.to_uppercase()), &format!("call('{other}'"))
        })
    }
}
