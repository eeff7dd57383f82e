//! Every way in which a log begins or is replaced, ended in every way at named points before, during and after its
//! base.
//!
//! Each dataset has one label in all of its keys, so that a mixture of two shows. What a start brings back must be the
//! whole state from before, as the log or the server's own files had it, or the whole state from after; and the latter
//! once WBL.WAIT has said so.

use crate::harness::labels::{self, label};
use crate::harness::points::VARIABLE;
use crate::harness::ports::free_ports;
use crate::harness::process::send_signal;
use crate::harness::server::info_field;
use crate::harness::{
    PATIENCE, RawConnection, Server, ServerBuilder, Version, each_version, paths, wait_for, wait_until,
};

/// Points at which the whole process stops.
const OF_THE_SERVER: [&str; 6] = ["log-begun", "base-fork", "base-written", "rename", "renamed", "base-installed"];

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
    /// The log is active, and WBL.WAIT has answered.
    After,
}

/// A transition, ready to begin.
struct Stage {
    server: Server,
    /// What begins it; no reply is waited for.
    command: String,
    /// What a start may bring back while it is under way.
    before: Vec<&'static str>,
    /// What it leads to.
    after: &'static str,
    /// The points that it passes.
    points: Vec<&'static str>,
    /// What else it needs.
    _others: Vec<Server>,
}

each_version! {
    fn a_first_start_on_an_rdb_file(version: Version) {
        at_each_moment(first_start, version);
    }

    fn a_first_start_on_an_append_only_file(version: Version) {
        at_each_moment(first_start_on_aof, version);
    }

    fn a_module_load_on_data(version: Version) {
        at_each_moment(|version| module_load(version, None), version);
    }

    fn a_module_load_that_replaces_another_log(version: Version) {
        at_each_moment(|version| module_load(version, Some("foreign")), version);
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
        at_some_moments(full_sync, version, &[Moment::Server("log-closes"), Moment::Server("supersedes"), Moment::Server("superseded")]);
    }

    fn a_full_sync_of_a_replica_that_logs(version: Version) {
        let points = ["log-closes", "log-begun", "rename", "renamed", "base-installed"];
        let mut moments = points.map(Moment::Server).to_vec();
        moments.extend(OF_THE_CHILD.map(Moment::Child));
        at_some_moments(full_sync_with_log, version, &moments);
    }

    fn a_promotion_of_a_replica_that_logs(version: Version) {
        at_some_moments(promotion_with_log, version, &[Moment::After]);
    }

    fn a_promotion_after_a_full_sync(version: Version) {
        let moments = [Moment::Server("log-begun"), Moment::Child("base-child"), Moment::Server("rename"), Moment::After];
        at_some_moments(promotion, version, &moments);
    }
}

fn builder(version: Version) -> ServerBuilder {
    let mut builder = ServerBuilder::with_module(version).set_words("save", &["3600", "100000"]).in_memory();
    for text in [
        "takes the place of the data",
        "Error condition on socket for SYNC",
        "superseded",
        "the log is not brought back",
        "SYNC",
        "no new base",
        "Failed to read response",
    ] {
        builder = builder.allow_warning(text);
    }
    builder
}

/// Without the module, which is to be loaded at run time.
fn without_module(builder: ServerBuilder) -> ServerBuilder {
    let builder = builder.without_module();
    builder.set("enable-module-command", "yes")
}

/// Replaces the dataset by one of this label.
fn fill(client: &mut RawConnection, label: &str) {
    client.run("FLUSHALL");
    labels::fill(client, label);
}

fn first_start(version: Version) -> Stage {
    let mut server = without_module(builder(version)).start();
    fill(&mut server.raw(), "own");
    server.raw().run("SAVE");
    server.stop();
    server.reconfigure(|_| builder(version));
    stage(server, "", &["own"], "own", &OF_THE_SERVER)
}

fn first_start_on_aof(version: Version) -> Stage {
    let mut server = without_module(builder(version)).set("appendonly", "yes").start();
    fill(&mut server.raw(), "own");
    server.stop();
    server.reconfigure(|_| builder(version).set("appendonly", "yes"));
    stage(server, "", &["own"], "own", &OF_THE_SERVER)
}

fn module_load(version: Version, foreign: Option<&str>) -> Stage {
    let mut server = builder(version).start();
    if let Some(foreign) = foreign {
        fill(&mut server.raw(), foreign);
    }
    server.stop();
    if foreign.is_none() {
        std::fs::remove_dir_all(server.log_folder()).unwrap();
    }
    server.reconfigure(|_| without_module(builder(version)));
    server.start();
    fill(&mut server.raw(), "own");
    server.raw().run("SAVE");
    let module = paths::module().display();
    // The first manifest marks the other log as given up; where that is not done yet it stands.
    let points = if foreign.is_some() {
        &["renamed", "log-begun", "base-fork", "base-written", "base-installed"]
    } else {
        &OF_THE_SERVER[..]
    };
    let replace = if foreign.is_some() { " CONFIG wbl.on-existing-log replace" } else { "" };
    stage(server, &format!("MODULE LOADEX {module}{replace} CONFIG wbl.debug-commands yes"), &["own"], "own", points)
}

fn enable(version: Version) -> Stage {
    let server = builder(version).start();
    let mut client = server.raw();
    fill(&mut client, "old");
    client.run("CONFIG SET wbl.enabled no");
    fill(&mut client, "new");
    stage(server, "CONFIG SET wbl.enabled yes", &["old"], "new", &OF_THE_SERVER)
}

/// A server that was started without the log, and whose other data are to replace that.
fn replacement(version: Version, is_saved: bool) -> Stage {
    let mut server = builder(version).start();
    fill(&mut server.raw(), "foreign");
    server.stop();
    server.reconfigure(|_| builder(version).set("wbl.enabled", "no"));
    server.start();
    let mut client = server.raw();
    labels::fill(&mut client, "own");
    if is_saved {
        client.run("SAVE");
    }
    client.run("CONFIG SET wbl.on-existing-log replace");
    let before = if is_saved { "own" } else { "foreign" };
    stage(server, "CONFIG SET wbl.enabled yes", &[before], "own", &OF_THE_SERVER)
}

fn disable(version: Version) -> Stage {
    let server = builder(version).start();
    fill(&mut server.raw(), "old");
    stage(server, "CONFIG SET wbl.enabled no", &["old"], "old", &["log-closes", "rename", "renamed", "log-closed"])
}

fn demotion_and_back(version: Version) -> Stage {
    // A log on a replica just goes on.
    let server = builder(version).set("wbl.replica-log", "no").start();
    let mut client = server.raw();
    fill(&mut client, "old");
    client.run("REPLICAOF 127.0.0.1 1");
    stage(server, "REPLICAOF NO ONE", &["old"], "old", &OF_THE_SERVER)
}

fn reload(version: Version) -> Stage {
    let server = builder(version).start();
    fill(&mut server.raw(), "old");
    stage(server, "DEBUG RELOAD", &["old"], "old", &["log-closes", "log-begun", "rename", "renamed", "base-installed"])
}

fn checkpoint(version: Version) -> Stage {
    let server = builder(version).start();
    fill(&mut server.raw(), "old");
    stage(server, "WBL.CHECKPOINT", &["old"], "old", &OF_THE_SERVER[1..])
}

fn full_sync(version: Version) -> Stage {
    // What becomes of a log that rests.
    full_sync_to(builder(version).set("wbl.replica-log", "no"), version)
}

fn full_sync_with_log(version: Version) -> Stage {
    full_sync_to(builder(version), version)
}

fn full_sync_to(replica: ServerBuilder, version: Version) -> Stage {
    let [port] = free_ports::<1>();
    let primary =
        without_module(builder(version)).set("port", &port.to_string()).set("repl-diskless-sync-delay", "0").start();
    fill(&mut primary.raw(), "primary");
    let server = replica.start();
    fill(&mut server.raw(), "old");
    let mut stage = stage(server, &format!("REPLICAOF 127.0.0.1 {port}"), &["old", "primary"], "primary", &[]);
    stage._others.push(primary);
    stage
}

fn promotion_with_log(version: Version) -> Stage {
    promotion_of(full_sync_with_log(version), |server| server.wbl_info("wbl_state") == "replica")
}

fn promotion(version: Version) -> Stage {
    promotion_of(full_sync(version), |server| server.log().contains("the folder's log is superseded"))
}

/// Of the server of a full sync, once its log has settled.
fn promotion_of(stage: Stage, has_settled: impl Fn(&Server) -> bool) -> Stage {
    let mut client = stage.server.raw();
    client.run(&stage.command);
    wait_until("the sync is done", PATIENCE, || label(&mut client) == "primary");
    wait_until("its log has settled", PATIENCE, || has_settled(&stage.server));
    Stage { command: "REPLICAOF NO ONE".into(), before: vec!["primary"], ..stage }
}

fn stage(
    server: Server,
    command: &str,
    before: &[&'static str],
    after: &'static str,
    points: &[&'static str],
) -> Stage {
    let (command, before, points) = (command.to_string(), before.to_vec(), points.to_vec());
    Stage { server, command, before, after, points, _others: Vec::new() }
}

fn at_each_moment(prepare: impl Fn(Version) -> Stage, version: Version) {
    let points = prepare(version).points;
    let has_child = points.contains(&"base-fork");
    let mut moments: Vec<Moment> = points.iter().map(|point| Moment::Server(point)).collect();
    if has_child {
        moments.extend(OF_THE_CHILD.map(Moment::Child));
        moments.push(Moment::After);
    }
    at_some_moments(prepare, version, &moments);
}

fn at_some_moments(prepare: impl Fn(Version) -> Stage, version: Version, moments: &[Moment]) {
    for moment in moments {
        for stop in STOPS {
            let mut stage = prepare(version);
            let what = format!("{:?} at {moment:?} of {}", stop, stage.command);
            let is_waited_for = reach(&mut stage, *moment);
            end(&mut stage.server, stop, matches!(moment, Moment::Server(_)));
            let found = start_again(&mut stage.server, version);
            // What goes on after it was stopped may come to its end before the server does.
            let may_have_ended =
                is_waited_for || stop != Stop::Kill9 || matches!(moment, Moment::Server("renamed" | "base-installed"));
            let expected =
                |found: &str| found == stage.after && may_have_ended || !is_waited_for && stage.before.contains(&found);
            assert!(expected(&found), "{what}: found {found:?}, before {:?}, after {:?}", stage.before, stage.after);
            // And it goes on from there.
            let mut client = stage.server.raw();
            client.run("SET more v");
            client.run("WBL.WAIT");
            stage.server.kill9_and_restart();
            let mut client = stage.server.raw();
            assert_eq!(label(&mut client), found, "{what}: after another crash");
            assert_eq!(client.run("EXISTS more").integer(), 1, "{what}: after another crash");
        }
    }
}

/// Has the transition come to the moment; `true` when WBL.WAIT has confirmed what it leads to.
fn reach(stage: &mut Stage, moment: Moment) -> bool {
    let (point, in_child) = match moment {
        Moment::Server(point) => (Some(point), false),
        Moment::Child(point) => (Some(point), true),
        Moment::After => (None, false),
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
    if !is_first_start {
        if let (Some(point), false) = (point, is_load) {
            server.point(point, "STOP");
        }
        server.raw().send_text(&stage.command);
    }
    match (point, in_child) {
        (Some(_), true) => {
            server.wait_child_stopped();
        }
        (Some(_), false) => server.wait_stopped(),
        (None, _) => {
            let mut client = wait_for("the log is active", PATIENCE, || {
                let mut client = RawConnection::open(&server.socket()).ok()?;
                client.send_text("INFO wbl");
                client.try_reply().ok()?.text().contains("wbl_state:active").then_some(client)
            });
            client.run("WBL.WAIT");
            return true;
        }
    }
    false
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
fn start_again(server: &mut Server, version: Version) -> String {
    let with_aof = server.builder.has(&["appendonly", "yes"]);
    server.reconfigure(|_| if with_aof { builder(version).set("appendonly", "yes") } else { builder(version) });
    server.start();
    let mut client = server.raw();
    let state = info_field(&mut client, "wbl", "wbl_state");
    assert_eq!(state.as_deref(), Some("active"));
    label(&mut client)
}
