//! The commands that documents print.

/// A command, and the lines that follow it.
pub struct Step {
    pub command: &'static str,
    pub expected: Vec<&'static str>,
}

/// The commands below this heading of a document. Blocks of another language than the shell's say which.
pub fn steps(text: &'static str, heading: &str) -> Vec<Step> {
    let section = text.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let mut steps: Vec<Step> = Vec::new();
    let mut block = None;
    for line in section.unwrap_or_else(|| panic!("there is no '{heading}'")).lines().map(str::trim_start) {
        if let Some(language) = line.strip_prefix("```") {
            block = if block.is_none() { Some(language) } else { None };
            continue;
        }
        match (block, line.strip_prefix("$ "), steps.last_mut()) {
            (Some(""), Some(command), _) => steps.push(Step { command, expected: Vec::new() }),
            (Some(""), None, Some(step)) => step.expected.push(line),
            (Some(""), None, None) => panic!("'{heading}' has a line before its first command: {line}"),
            _ => {}
        }
    }
    assert!(!steps.is_empty(), "'{heading}' has no commands");
    steps
}

/// The headings with commands below them.
pub fn headings(text: &'static str) -> Vec<&'static str> {
    // Every other fence opens a block.
    let fences = |section: &'static str| section.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
    let has_commands = |section: &&'static str| fences(section).step_by(2).any(str::is_empty);
    text.split("\n## ").filter(has_commands).filter_map(|section| section.lines().next()).collect()
}
