//! Other processes.

use super::labels::fill;
use super::{PATIENCE, Server, wait_until};
use std::fs;
use std::process::Command;

/// Sends a signal by its name (`TERM`, `STOP`).
pub fn send_signal(id: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status();
    assert!(status.expect("kill starts").success(), "process {id} takes no signal {name}");
}

/// The children of a process that have not been waited for, dead ones included.
pub fn children(of: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("a list of processes").filter_map(Result::ok);
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| stat_field(*id, PARENT).is_some_and(|parent| parent == of.to_string())).collect()
}

/// Whether the process still runs: it is neither gone nor dead and not waited for.
pub fn runs(id: u32) -> bool {
    stat_field(id, STATE).is_some_and(|state| state != "Z" && state != "X")
}

/// How much of the processor a process leaves to others (`nice`).
pub fn niceness(id: u32) -> i32 {
    stat_field(id, NICE).and_then(|value| value.parse().ok()).expect("a process")
}

/// The fields of `/proc/ID/stat` after the program's name, which is in parentheses.
const STATE: usize = 0;
const PARENT: usize = 1;
const NICE: usize = 16;

fn stat_field(id: u32, index: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(index).map(String::from)
}

/// The memory of the server's process.
pub fn resident_kib(server: &Server) -> i64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process_id())).expect("the process' status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its resident memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// A child that saves a dataset with a label that nobody expects, and has stopped. It has looked at the clock before,
/// as any child does soon that nobody stops: its file says when it was begun.
pub fn stop_save(server: &Server) -> u32 {
    let mut client = server.raw();
    // The file has its head when its first key is written.
    client.run("CONFIG SET rdbcompression no");
    fill(&mut client, &"old".repeat(2000));
    client.run("CONFIG SET rdb-key-save-delay 50000");
    client.run("BGSAVE");
    let child = server.wait_child();
    let file = server.folder().join(format!("temp-{child}.rdb"));
    wait_until("the child's file has its head", PATIENCE, || fs::metadata(&file).is_ok_and(|file| file.len() > 0));
    send_signal(child, "STOP");
    child
}
