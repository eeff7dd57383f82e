//! What a server is started with.

use super::Names;
use super::paths::{self, Version};
use std::path::Path;

/// What a server is started with.
#[derive(Clone)]
pub struct ServerBuilder {
    pub(super) version: Version,
    pub(super) module: bool,
    pub(super) directives: Vec<Vec<String>>,
    pub(super) config_file: Option<String>,
    pub(super) allowed_warnings: Vec<String>,
    pub(super) only_own_warnings: bool,
    pub(super) in_memory: bool,
    pub(super) variables: Vec<(String, String)>,
    pub(super) run_by: Vec<String>,
    pub(super) confined: bool,
}

impl ServerBuilder {
    /// A server without the module and without persistence.
    pub fn stock(version: Version) -> ServerBuilder {
        let builder = ServerBuilder {
            version,
            module: false,
            directives: Vec::new(),
            config_file: None,
            allowed_warnings: Vec::new(),
            only_own_warnings: false,
            in_memory: false,
            variables: Vec::new(),
            run_by: Vec::new(),
            confined: false,
        };
        builder.set("save", "").set("enable-debug-command", "yes")
    }

    /// A server that loads the module, with its debug commands.
    pub fn with_module(version: Version) -> ServerBuilder {
        let mut builder = ServerBuilder::stock(version);
        builder.module = true;
        let module = paths::module().to_str().expect("a path in UTF-8");
        builder = builder.set("loadmodule", module).set("wbl.enabled", "yes").set("wbl.debug-commands", "yes");
        // Tests that stop the disk expect that others are served meanwhile.
        builder.set("wbl.commit-mode", std::env::var("WBL_COMMIT_MODE").as_deref().unwrap_or("async"))
    }

    /// A server without the module that is as durable as it can be.
    pub fn stock_always(version: Version) -> ServerBuilder {
        ServerBuilder::stock(version).set("appendonly", "yes").set("appendfsync", "always")
    }

    /// Sets a configuration directive; one that is set already is replaced.
    pub fn set(self, name: &str, value: &str) -> ServerBuilder {
        self.set_words(name, &[value])
    }

    pub fn set_words(mut self, name: &str, values: &[&str]) -> ServerBuilder {
        let mut words = vec![name.to_string()];
        words.extend(values.iter().map(ToString::to_string));
        match self.directives.iter_mut().find(|directive| directive[0] == name) {
            Some(directive) => *directive = words,
            None => self.directives.push(words),
        }
        self
    }

    /// Starts another version's server.
    pub fn version(mut self, version: Version) -> ServerBuilder {
        self.version = version;
        self
    }

    /// Takes one directive with all its words away.
    pub fn without(mut self, words: &[&str]) -> ServerBuilder {
        self.directives.retain(|directive| directive != words);
        self
    }

    /// Gives a command another name; none when that is empty. Connections use the new one.
    pub fn rename(mut self, own: &str, other: &str) -> ServerBuilder {
        self.directives.push(["rename-command", own, other].map(String::from).to_vec());
        self
    }

    /// What the server calls its commands.
    pub fn names(&self) -> Names {
        let renames = self.directives.iter().filter(|words| words[0] == "rename-command" && !words[2].is_empty());
        Names::new(renames.map(|words| (words[1].clone(), words[2].clone())).collect())
    }

    /// Loads another module, before or after the one under test.
    pub fn load(mut self, path: &Path, first: bool) -> ServerBuilder {
        let words = vec!["loadmodule".to_string(), path.to_str().expect("a path in UTF-8").to_string()];
        let place = if first { 0 } else { self.directives.len() };
        self.directives.insert(place, words);
        self
    }

    pub fn unset(mut self, name: &str) -> ServerBuilder {
        self.directives.retain(|directive| directive[0] != name);
        self
    }

    /// The same without the module and its settings.
    pub fn without_module(self) -> ServerBuilder {
        self.unset("loadmodule").unset("wbl.enabled").unset("wbl.debug-commands").unset("wbl.commit-mode")
    }

    /// Starts the server with a `valkey.conf` of this text, which `CONFIG REWRITE` may then change.
    pub fn config_file(mut self, text: &str) -> ServerBuilder {
        self.config_file = Some(text.into());
        self
    }

    /// Warnings with this text in them do not fail the test.
    pub fn allow_warning(mut self, text: &str) -> ServerBuilder {
        self.allowed_warnings.push(text.into());
        self
    }

    /// Whether the server is started with this directive.
    pub fn has(&self, words: &[&str]) -> bool {
        self.directives.iter().any(|directive| directive == words)
    }

    /// Sets a variable of the process's environment.
    pub fn variable(mut self, name: &str, value: &str) -> ServerBuilder {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Starts the server through another program, which these words begin.
    pub fn run_by(mut self, words: &[&str]) -> ServerBuilder {
        self.run_by = words.iter().map(ToString::to_string).collect();
        self
    }

    /// The server and its children may change nobody's priority: the system ends who tries, as under Debian's unit.
    pub fn confined(mut self) -> ServerBuilder {
        self.confined = true;
        self
    }

    /// Takes all variables away that were set.
    pub fn no_variables(mut self) -> ServerBuilder {
        self.variables.clear();
        self
    }

    /// Of warnings only the module's fail the test. For nodes that others leave and join, of which the server has many.
    pub fn only_own_warnings(mut self) -> ServerBuilder {
        self.only_own_warnings = true;
        self
    }

    /// The folder is in memory, for tests that are not about the disk.
    pub fn in_memory(mut self) -> ServerBuilder {
        self.in_memory = true;
        self
    }
}
