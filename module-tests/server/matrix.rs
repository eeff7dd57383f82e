//! Every way in which a log begins, is replaced or is left, ended in every way at named points before, during and after
//! its base.
//!
//! Each dataset has one label in all of its keys, so that a mixture of two shows. What a start brings back must be the
//! whole state from before, as the log or the server's own files had it, or the whole state from after; and the latter
//! once the transition is over.

mod stages;

use crate::harness::labels::label;
use crate::harness::points::VARIABLE;
use crate::harness::process::send_signal;
use crate::harness::{Server, Version, each_version};
use stages::*;
use std::thread;

/// Points at which the child stops that writes the base.
const OF_THE_CHILD: [&str; 2] = ["base-child", "base-child-written"];

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Kill9,
    Sigterm,
    Shutdown,
    ShutdownNosave,
}

const STOPS: [Stop; 4] = [Stop::Kill9, Stop::Sigterm, Stop::Shutdown, Stop::ShutdownNosave];

/// Where the server is when it is ended.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The process has stopped at a point.
    Server(&'static str),
    /// Its child has.
    Child(&'static str),
    /// The transition is over, and if the log is active WBL.WAIT has answered.
    After,
}

each_version! {
    fn a_first_start_on_an_rdb_file(version: Version) {
        at_each_moment(first_start, version);
    }

    fn a_first_start_on_an_append_only_file(version: Version) {
        at_each_moment(first_start_on_aof, version);
    }

    fn a_first_start_that_replaces_another_log(version: Version) {
        let file = older_file(version);
        at_each_moment(|version| first_start_replacing(version, &file), version);
    }

    fn a_module_load_on_data(version: Version) {
        at_each_moment(|version| module_load(version, false), version);
    }

    fn a_module_load_that_replaces_another_log(version: Version) {
        at_each_moment(|version| module_load(version, true), version);
    }

    fn a_replacement_asked_of_a_running_server_whose_data_are_saved(version: Version) {
        at_each_moment(|version| replacement(version, true), version);
    }

    fn a_replacement_asked_of_a_running_server_whose_data_are_nowhere_else(version: Version) {
        at_each_moment(|version| replacement(version, false), version);
    }

    fn switching_off_and_on(version: Version) {
        at_each_moment(enable, version);
    }

    fn switching_off(version: Version) {
        at_each_moment(disable, version);
    }

    fn a_demotion(version: Version) {
        at_each_moment(demotion, version);
    }

    fn a_demotion_and_a_promotion(version: Version) {
        at_each_moment(demotion_and_back, version);
    }

    fn a_reload_of_the_dataset(version: Version) {
        at_each_moment(reload, version);
    }

    fn a_checkpoint(version: Version) {
        at_each_moment(checkpoint, version);
    }

    fn a_full_sync(version: Version) {
        let (_primary, command) = primary(version);
        at_each_moment(|version| full_sync(version, &command), version);
    }

    fn a_full_sync_of_a_replica_that_logs(version: Version) {
        let (_primary, command) = primary(version);
        at_each_moment(|version| full_sync_with_log(version, &command), version);
    }

    fn a_promotion_of_a_replica_that_logs(version: Version) {
        let (_primary, command) = primary(version);
        at_each_moment(|version| promotion_with_log(version, &command), version);
    }

    fn a_promotion_after_a_full_sync(version: Version) {
        let (_primary, command) = primary(version);
        at_each_moment(|version| promotion(version, &command), version);
    }
}

fn moments_of(stage: &Stage) -> Vec<Moment> {
    let of_the_child = if stage.has_child() { &OF_THE_CHILD[..] } else { &[] };
    let server = stage.points.iter().map(|point| Moment::Server(point));
    server.chain(of_the_child.iter().map(|point| Moment::Child(point))).chain([Moment::After]).collect()
}

fn at_each_moment(prepare: impl Fn(Version) -> Stage + Sync, version: Version) {
    for moment in moments_of(&prepare(version)) {
        // Most of the time they wait: a replica of 9.1 notices once a second that it has its primary's dataset.
        thread::scope(|scope| {
            for stop in STOPS {
                let prepare = &prepare;
                scope.spawn(move || end_and_start_again(prepare(version), moment, stop));
            }
        });
    }
}

fn end_and_start_again(mut stage: Stage, moment: Moment, stop: Stop) {
    let what = format!("{stop:?} at {moment:?} of {}", stage.command);
    let keeps_write = reach(&mut stage, moment);
    end(&mut stage.server, stop, matches!(moment, Moment::Server(_)));
    let found = start_again(&mut stage);
    let is_over = matches!(moment, Moment::After);
    // What goes on after it was stopped may come to its end before the server does.
    let may_be_over = is_over || stop != Stop::Kill9 || matches!(moment, Moment::Server("renamed" | "base-installed"));
    let expected = |found: &str| found == stage.after && may_be_over || !is_over && stage.before.contains(&found);
    assert!(expected(&found), "{what}: found {found:?}, before {:?}, after {:?}", stage.before, stage.after);
    // And it goes on from there.
    let mut client = stage.server.raw();
    client.run("SET more v");
    client.run("WBL.WAIT");
    stage.server.kill9_and_restart();
    let mut client = stage.server.raw();
    assert_eq!(label(&mut client), found, "{what}: after another crash");
    assert_eq!(client.run("EXISTS more").integer(), 1, "{what}: after another crash");
    assert!(!keeps_write || client.run("EXISTS meanwhile").integer() == 1, "{what}: a write was lost");
}

/// Has the transition come to the moment. While a child writes the base a client writes, too; `true` when that must be
/// found, because it was acknowledged beside a log that counts, or WBL.WAIT has answered since.
fn reach(stage: &mut Stage, moment: Moment) -> bool {
    let (point, in_child) = match moment {
        Moment::Server(point) => (Some(point), false),
        Moment::Child(point) => (Some(point), true),
        Moment::After => (stage.has_child().then_some("base-child"), true),
    };
    let server = &mut stage.server;
    let is_first_start = stage.command.is_empty();
    let is_load = stage.command.starts_with("MODULE");
    // A module that is not there yet takes the point from the environment, which only a process that is started has.
    if let (Some(point), true) = (point, is_first_start || is_load) {
        let value = format!("{point}:stop");
        server.reconfigure(|builder| builder.variable(VARIABLE, &value));
        if is_load {
            // Its own file has all of it.
            server.kill9();
        }
    }
    if !server.is_running() {
        server.launch();
        if is_load {
            server.wait_answers();
        }
    }
    let caller = if is_first_start {
        None
    } else {
        if let (Some(point), false) = (point, is_load) {
            server.point(point, "STOP");
        }
        let mut caller = server.raw();
        caller.send_text(&stage.command);
        Some(caller)
    };
    if !in_child {
        server.wait_stopped();
        return false;
    }
    let child = point.map(|_| server.wait_child_stopped());
    let counts = child.is_some() && is_active(server);
    // A replica takes none.
    let is_written = child.is_some() && !server.raw().call(&["SET", "meanwhile", "v"]).is_error();
    if let Moment::Child(_) = moment {
        return is_written && counts;
    }
    if let Some(child) = child {
        send_signal(child, "CONT");
    }
    if let Some(mut caller) = caller {
        let reply = caller.reply();
        assert!(!reply.is_error(), "{}: {reply:?}", stage.command);
    }
    stage.settle();
    is_written
}

fn end(server: &mut Server, stop: Stop, is_stopped: bool) {
    let process = server.process_id();
    match stop {
        Stop::Kill9 => return server.kill9(),
        Stop::Sigterm => send_signal(process, "TERM"),
        Stop::Shutdown => server.raw().send_text("SHUTDOWN"),
        Stop::ShutdownNosave => server.raw().send_text("SHUTDOWN NOSAVE"),
    }
    if is_stopped {
        server.go_on();
    }
    let status = server.wait_exit();
    assert!(status.success(), "{stop:?} ended with {status}: {}", server.log());
}

/// Starts the server with the module, and returns what it has.
fn start_again(stage: &mut Stage) -> String {
    stage.server.reconfigure(|_| stage.again.clone());
    stage.server.start();
    assert!(is_active(&stage.server));
    label(&mut stage.server.raw())
}
