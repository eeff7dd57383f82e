//! Long work at the start, while the server answers like one that loads.
//!
//! The work needs nothing of the server, so it runs on a thread of its own. Meanwhile the main thread has the server
//! load an empty dataset with one key, and waits where the server reports that key: it is loading then, and looks at
//! its clients and signals whenever it is allowed to. Commands are answered with -LOADING, INFO shows progress, and
//! SIGTERM ends the process.

use crate::ffi::{Ctx, descriptor_path};
use crate::lock::lock;
use crate::machine::unix_ms;
use crate::module::own_aof::load_dataset;
use crate::rdb;
use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How often to check whether the work is done. The server looks at its clients once per tick of its timer (`hz`).
const POLL: Duration = Duration::from_millis(10);

/// Who waits in the loader.
struct Room {
    key: Vec<u8>,
    /// Closed when the work has ended, whichever way.
    done: Receiver<Infallible>,
    tell: fn(),
}

static ROOM: Mutex<Option<Room>> = Mutex::new(None);

/// Runs `work` while the server loads, which empties its dataset. `tell` is called now and then on the main thread.
///
/// # Errors
/// The work could not be begun, or panicked.
pub(super) fn while_loading<T: Send + 'static>(
    ctx: Ctx<'_>,
    name: &str,
    tell: fn(),
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let key = format!("wbl:waiting:{:x}:{:x}", unix_ms(), std::process::id()).into_bytes();
    let (reader, mut writer) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    rdb::write_empty(&mut writer, &key).map_err(|error| error.to_string())?;
    drop(writer);
    let (running, done) = channel();
    let worker = std::thread::Builder::new().name(name.into());
    let worker = worker.spawn(move || {
        let _running = running;
        work()
    });
    let worker = worker.map_err(|error| format!("no thread: {error}"))?;
    *lock(&ROOM) = Some(Room { key, done, tell });
    load_dataset(ctx, &descriptor_path(&reader));
    // If the server has not loaded the key, the work is waited for here.
    take_room(|_| true);
    worker.join().map_err(|_| format!("the thread {name} has failed"))
}

fn take_room(is_right: impl FnOnce(&Room) -> bool) -> Option<Room> {
    lock(&ROOM).take_if(|room| is_right(room))
}

/// A key was loaded: if it is the one to wait at, returns when the work is done. `false` for other keys.
pub(super) fn key_loaded(ctx: Ctx<'_>, key: &[u8]) -> bool {
    let Some(Room { key, done, tell }) = take_room(|room| room.key == key) else { return false };
    let own = ctx.own();
    own.select_db(0);
    own.delete_key(&key);
    // A context made while the server loads lets it look at its clients as often as it does when it loads its own
    // files.
    ctx.with_new_context(|ctx| {
        while done.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
            tell();
            ctx.yield_to_clients();
        }
    });
    true
}
