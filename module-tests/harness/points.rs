//! Servers that stop at named points of the module's code (WBL.DEBUG POINT).

use super::process::{children, send_signal};
use super::{PATIENCE, Server, wait_for, wait_until};
use std::fs;

/// The environment's way to set a point for the start.
pub const VARIABLE: &str = "WBL_DEBUG_POINT";

fn is_stopped(id: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    text.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('T'))
}

/// Waits until a child of a process has stopped, and returns the child's id.
pub fn wait_child_stopped(of: u32) -> u32 {
    wait_for("a child of the server stops", PATIENCE, || children(of).into_iter().find(|child| is_stopped(*child)))
}

impl Server {
    /// Has the process stop (`STOP`) or die (`KILL`) when it comes to a point.
    pub fn point(&self, name: &str, action: &str) {
        self.raw().run(&format!("WBL.DEBUG POINT {name} {action}"));
    }

    /// Waits until the process has stopped at its point.
    pub fn wait_stopped(&mut self) {
        wait_until("the server stops", PATIENCE, || {
            self.assert_running();
            is_stopped(self.process_id())
        });
    }

    /// What is sent meanwhile is read in one iteration of the server's event loop, in the order in which it arrives.
    pub fn in_one_iteration(&mut self, send: impl FnOnce()) {
        // The kernel lists sockets that were read last before others, until they are looked at once more.
        self.raw().run("PING");
        self.signal("STOP");
        self.wait_stopped();
        send();
        self.signal("CONT");
    }

    /// Waits until the process has a child, such as one that saves, and returns the child's id.
    pub fn wait_child(&self) -> u32 {
        wait_for("the server has a child", PATIENCE, || children(self.process_id()).first().copied())
    }

    /// Waits until a child of the process has stopped at its point, and returns the child's id.
    pub fn wait_child_stopped(&mut self) -> u32 {
        wait_for("a child of the server stops", PATIENCE, || {
            self.assert_running();
            children(self.process_id()).into_iter().find(|child| is_stopped(*child))
        })
    }

    /// Has the stopped process go on.
    pub fn go_on(&self) {
        send_signal(self.process_id(), "CONT");
    }
}
