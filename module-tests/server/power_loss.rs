//! Losses of power on file systems of the kernel's own: all that the disk was told is recorded, and from the record
//! come images with every loss that a disk is allowed: each write that no flush has covered is there, lost, or there in
//! part, whatever becomes of those before it. Each is mounted, and a server started on it.
//!
//! `WBL_TIMES` multiplies the images, `WBL_SEED` sets the choices.

use crate::harness::recorded_disk::{Kind, Loss, RecordedDisk, in_namespace};
use crate::harness::server::info_field;
use crate::harness::{
    Injection, PATIENCE, Random, RawConnection, Server, ServerBuilder, Strace, Value, Version, each_version, wait_until,
};
use std::path::Path;
use valkey_wbl::log::sim::times;

/// Of each file system and version.
const IMAGES: usize = 30;
const CLIENTS: usize = 3;
/// Of each client, before and after a restart.
const UNITS: usize = 60;
const VALUE_BYTES: usize = 2000;

each_version! {
    fn what_was_acknowledged_is_there_after_a_power_loss_on_any_file_system(version: Version) {
        let test = name("what_was_acknowledged_is_there_after_a_power_loss_on_any_file_system", version);
        in_namespace(&test, |kinds| kinds.iter().for_each(|kind| try_file_system(version, *kind)));
    }

    // The canary: a check that cannot fail would prove nothing.
    fn flushes_that_do_nothing_are_found_out_by_a_power_loss(version: Version) {
        let test = name("flushes_that_do_nothing_are_found_out_by_a_power_loss", version);
        in_namespace(&test, |kinds| {
            let Some(kind) = kinds.first() else { return };
            let mut random = Random::of_test(&format!("canary of power losses, {}", version.text()));
            let disk = RecordedDisk::new(*kind);
            let all = {
                let mounted = disk.mount();
                let server = server_on(version, mounted.path()).set("wbl.io-mode", "buffered").start();
                let _lie = Strace::attach(server.process_id(), Injection::Lie);
                load(&server, &disk, 0);
                order(&mut server.raw())
            };
            let found = (0..IMAGES).find_map(|image| {
                // In the order of events.
                let place = disk.record().events() * (image + 1) / IMAGES;
                image_at(version, &disk, place, Loss::None, &all, &mut random).err()
            });
            println!("found: {}", found.expect("nobody missed what was never flushed"));
        });
    }
}

/// Of a test, as the test program knows it.
fn name(test: &str, version: Version) -> String {
    format!("power_loss::{test}::valkey_{}", version.text().replace('.', "_"))
}

fn try_file_system(version: Version, kind: Kind) {
    let mut random = Random::of_test(&format!("power loss on {kind:?}, {}", version.text()));
    let disk = RecordedDisk::new(kind);
    let all = write(version, &disk, &mut random);
    let images = IMAGES * times() as usize;
    let mut places: Vec<usize> = (0..images).map(|_| disk.record().place(&mut random)).collect();
    places.sort_unstable();
    let (mut reordered, mut lost_writes, mut not_mounted) = (0, 0, 0);
    for place in places {
        let loss = if random.one_in(4) { Loss::None } else { Loss::Reordered };
        reordered += usize::from(loss == Loss::Reordered);
        match image_at(version, &disk, place, loss, &all, &mut random).unwrap_or_else(|why| panic!("{why}")) {
            Some(pending) => lost_writes += pending,
            None => not_mounted += 1,
        }
    }
    assert!(not_mounted <= 1 + images / 20, "{not_mounted} of {images} file systems cannot be mounted");
    println!(
        "{kind:?}, {}: {images} images of {} events, {reordered} of them reordered and torn, {lost_writes} writes in \
         them that no flush had covered, {not_mounted} that the file system itself has not survived, {} units",
        version.text(),
        disk.record().events(),
        all.len()
    );
}

/// Verifies an image; returns how many writes it may lack, and nothing where the file system itself is torn.
fn image_at(
    version: Version,
    disk: &RecordedDisk,
    place: usize,
    loss: Loss,
    all: &[String],
    random: &mut Random,
) -> Result<Option<usize>, String> {
    let (mounted, pending) = match disk.mount_image(place, loss, random) {
        Ok(mounted) => mounted,
        Err(why) => {
            println!("{why}");
            return Ok(None);
        }
    };
    let told = disk.record().told(place).unwrap_or(0) as usize;
    let case = format!("{}, {loss:?} after {place} of {} events", version.text(), disk.record().events());
    verify(version, mounted.path(), all, told).map_err(|why| format!("{case}: {why}"))?;
    Ok(Some(pending))
}

fn server_on(version: Version, path: &Path) -> ServerBuilder {
    let log = path.join("wbl");
    ServerBuilder::with_module(version).in_memory().set("wbl.dir", log.to_str().expect("a path in UTF-8"))
}

/// Has a server write to the disk, with rotations, checkpoints, a backup and a restart; returns what it has in the end,
/// in order.
fn write(version: Version, disk: &RecordedDisk, random: &mut Random) -> Vec<String> {
    let mounted = disk.mount();
    let io_mode = ["buffered", "direct"][random.below(2) as usize];
    let commit_mode = ["async", "inline", "auto"][random.below(3) as usize];
    println!("io-mode {io_mode}, commit-mode {commit_mode}");
    let builder = server_on(version, mounted.path()).set("wbl.segment-bytes", "65536").set("wbl.io-mode", io_mode);
    let mut server = builder.set("wbl.commit-mode", commit_mode).start();
    load(&server, disk, 0);
    server.kill9();
    server.launch();
    server.wait_ready();
    load(&server, disk, UNITS);
    let all = order(&mut server.raw());
    disk.end();
    server.kill9();
    all
}

/// Each client notes in one list what it sets, and what it was told.
fn load(server: &Server, disk: &RecordedDisk, first: usize) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut connection = server.raw();
            scope.spawn(move || {
                let value = "v".repeat(VALUE_BYTES);
                for number in first..first + UNITS {
                    let keys = [format!("a:{client}"), format!("b:{client}")];
                    let name = format!("{client}:{number}");
                    connection.run("MULTI");
                    connection.run(&format!("SET {} {number}", keys[0]));
                    connection.run(&format!("RPUSH order {name}"));
                    connection.run(&format!("SET filler:{client} {value}"));
                    connection.run(&format!("SET {} {number}", keys[1]));
                    let Value::Array(replies) = connection.run("EXEC") else { panic!("no transaction") };
                    disk.told(replies[1].integer() as u64);
                }
            });
        }
        let mut control = server.raw();
        let has = |control: &mut RawConnection, units: usize| {
            wait_until("the clients go on", PATIENCE, || control.run("LLEN order").integer() as usize >= units);
        };
        let units = CLIENTS * first;
        has(&mut control, units + CLIENTS * UNITS / 4);
        checkpoint(server, &mut control);
        has(&mut control, units + CLIENTS * UNITS / 2);
        control.run("WBL.BACKUP START");
        has(&mut control, units + 3 * CLIENTS * UNITS / 4);
        checkpoint(server, &mut control);
    });
}

fn checkpoint(server: &Server, control: &mut RawConnection) {
    control.run("WBL.CHECKPOINT");
    wait_until("the checkpoint is done", PATIENCE, || server.wbl_info("wbl_checkpoint_in_progress") == "0");
}

fn order(connection: &mut RawConnection) -> Vec<String> {
    let Value::Array(names) = connection.run("LRANGE order 0 -1") else { panic!("no list") };
    names.iter().map(|name| name.text().to_string()).collect()
}

/// The server has a prefix of all units, with all that was told, and each of them whole.
fn verify(version: Version, path: &Path, all: &[String], told: usize) -> Result<(), String> {
    let mut server = server_on(version, path).allow_warning("").prepare();
    server.launch();
    wait_until("the server starts, or does not", PATIENCE, || {
        let state = || {
            let mut connection = RawConnection::open(&server.socket()).ok()?;
            info_field(&mut connection, "wbl", "wbl_state")
        };
        state().as_deref() == Some("active") || server.has_ended()
    });
    if server.has_ended() {
        return Err(format!("the start was refused:\n{}", server.log()));
    }
    let mut connection = server.raw();
    let found = order(&mut connection);
    if !all.starts_with(&found) || found.len() < told {
        return Err(format!("{told} units were acknowledged, and there are {found:?}"));
    }
    for client in 0..CLIENTS {
        let last = found.iter().rev().find_map(|name| name.strip_prefix(&format!("{client}:")));
        for key in ["a", "b"] {
            let value = connection.run(&format!("GET {key}:{client}"));
            let value = if let Value::Bulk(bytes) = value { Some(bytes) } else { None };
            if value.as_deref() != last.map(str::as_bytes) {
                return Err(format!("a unit of {client} in part: {key} is {value:?}, not {last:?}"));
            }
        }
    }
    Ok(())
}
