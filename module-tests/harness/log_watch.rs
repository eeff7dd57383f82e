//! What a server may log.

/// Warnings that say nothing about the module or the test.
const ALWAYS_ALLOWED: &[&str] = &[
    "WARNING Memory overcommit must be enabled!",
    "WARNING You have Transparent Huge Pages",
    "WARNING: The TCP backlog setting",
    "WARNING Your system is configured to use the",
    "WARNING Your kernel has a bug",
    // Of a server that was built without TLS, when a client asks for INFO.
    "Missing implement of connection type tls",
    // What MODULE UNLOAD says of held replies.
    "the module has blocked clients",
    // Of a child that the server itself has ended with SIGUSR1, as nobody needs its dump any more.
    "terminated by signal 10",
    // Of a server that is stopped, or loads its primary's dataset, while a child still saves for a replica or itself.
    "There is a child saving an .rdb. Killing it!",
    "There is a child rewriting the AOF. Killing it!",
    "There is a module fork child. Killing it!",
    // A child's last words, when the test has killed its parent.
    "Child failed reporting info to parent, exiting. Broken pipe",
    // What a kill may leave at the log's end.
    "the log ends in an unfinished write",
    // What any start says that leaves a log where it is.
    "is not brought back, as wbl.enabled is no",
    "User requested shutdown",
    "is now ready to exit, bye bye",
];

/// What a crash leaves in the log, at whatever level.
const CRASHES: &[&str] =
    &["BUG REPORT START", "ASSERTION FAILED", "panicked at", "crashed by signal", "Fatal glibc error"];

/// The lines that fail a test: crash reports, and warnings that are not allowed.
pub fn complaints(log: &str, allowed: &[String]) -> Vec<String> {
    log.lines()
        .filter(|line| {
            let crash = is_crash(line);
            let listed = ALWAYS_ALLOWED.iter().any(|text| line.contains(text))
                || allowed.iter().any(|text| line.contains(text.as_str()));
            (crash || is_warning(line)) && !listed
        })
        .map(String::from)
        .collect()
}

/// Whether the line belongs to a crash report.
pub fn is_crash(line: &str) -> bool {
    CRASHES.iter().any(|text| line.contains(text))
}

/// `1234:M 22 Nov 2026 16:33:57.432 # text`: the level is the first word after the time.
fn is_warning(line: &str) -> bool {
    let mut words = line.split(' ');
    let process = words.next().unwrap_or_default();
    let stamped = process
        .split_once(':')
        .is_some_and(|(id, role)| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) && role.len() == 1);
    stamped && words.nth(4) == Some("#")
}

/// The last lines, for the message of a failing test.
pub fn tail(log: &str, count: usize) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("Memory overcommit")).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
