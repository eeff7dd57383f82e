//! What waits for the log's writer threads, and whose turn it is.
//!
//! A thread that has the turn writes what waits as one frame, gives the turn away and flushes it. So frames are written
//! in order, while several flushes may be under way. A thread that is done with a flush looks for the next turn itself;
//! another is woken only if there is a turn to take and a thread sleeps.

use super::answer::Answer;
use crate::lock::{lock, wait};
use crate::log::error::LogError;
use crate::log::format::standing::Standing;
use crate::log::lsn::Lsn;
use crate::log::write::{Backup, PreparedBase};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Waiting batches are joined to frames of about this size; a single batch may be larger.
pub(super) const FRAME_BYTES_MAX: usize = 8 << 20;

pub(super) enum Message {
    Batch(Handed),
    /// Begin a segment here.
    Cut,
    NameBase(PreparedBase, Answer),
    /// Make a backup of this name.
    BackUp(u64, Answer<Backup>),
    /// Make a copy that belongs to this base; answers with its name.
    Share(String, Answer<String>),
    Publish,
    /// The other thread did.
    Panicked(LogError),
    /// What the log counts for at the next start.
    Close(Standing),
}

/// A batch on its way to a writer thread: whole units.
pub(super) struct Handed {
    pub start: Lsn,
    pub payload: Vec<u8>,
    pub unix_ms: u64,
}

impl Handed {
    /// The position after it.
    pub fn end(&self) -> Lsn {
        self.start.advance(self.payload.len() as u64)
    }
}

/// What the thread that has the turn is to do.
pub(super) enum Turn {
    /// Write the group as a frame and flush it.
    Write {
        /// Whether another flush may begin while this one is under way.
        is_more_wanted: bool,
        /// Whether one is likely to.
        overlaps: bool,
    },
    /// Handle a message, while no thread writes, and no flush is under way where that matters.
    Handle(Message),
    /// Try again what has failed, while no flush is under way.
    TryAgain,
}

/// What takes a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A thread of the log, or the caller that takes its steps.
    Log,
    /// Another thread, once.
    Another,
}

/// After this many groups without another flush beside them, none is expected beside the next.
const LONELY_MAX: u32 = 32;

/// What the log has room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Flushes that can be under way at a time.
    pub flushes: usize,
    /// The next batch begins a segment, before which all is durable.
    pub is_full: bool,
}

pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    appended: Lsn,
    messages: VecDeque<Message>,
    /// A thread has the turn.
    is_taken: bool,
    /// Groups that are being written and flushed.
    in_flight: usize,
    in_flight_max: usize,
    /// Groups since a flush was beside another, or would have been.
    lonely: u32,
    room: Room,
    sleeping: usize,
    /// A thread was woken and has not looked yet.
    is_waking: bool,
    /// What has failed is to be tried again, then.
    try_again_at: Option<Instant>,
    has_ended: bool,
}

/// How often a thread looks when the time that it waits for has come.
const POLL: Duration = Duration::from_millis(10);

impl State {
    fn flushes_max(&self) -> usize {
        self.in_flight_max.min(self.room.flushes)
    }

    fn has_turn(&self) -> bool {
        self.has_message() || self.may_try_again() && self.try_again_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Whether nothing but time is in the way of another try.
    fn may_try_again(&self) -> bool {
        self.try_again_at.is_some() && !self.is_taken && self.in_flight == 0
    }

    fn has_message(&self) -> bool {
        !self.is_taken
            && match self.messages.front() {
                None => false,
                Some(Message::Batch(_)) => {
                    self.in_flight == 0 || !self.room.is_full && self.in_flight < self.flushes_max()
                }
                // Boundaries are exact: everything before them is durable.
                Some(
                    Message::Cut | Message::NameBase(..) | Message::BackUp(..) | Message::Share(..) | Message::Close(_),
                ) => self.in_flight == 0,
                Some(Message::Publish | Message::Panicked(_)) => true,
            }
    }

    /// Takes the turn.
    fn take(mut state: MutexGuard<'_, State>, group: &mut Vec<Handed>) -> Option<Turn> {
        let has_message = state.has_message();
        state.is_taken = true;
        if !has_message {
            return Some(Turn::TryAgain);
        }
        match state.messages.pop_front()? {
            Message::Batch(first) => {
                let mut bytes = first.payload.len();
                group.push(first);
                while bytes < FRAME_BYTES_MAX {
                    match state.messages.pop_front() {
                        Some(Message::Batch(next)) => {
                            bytes += next.payload.len();
                            group.push(next);
                        }
                        Some(other) => {
                            state.messages.push_front(other);
                            break;
                        }
                        None => break,
                    }
                }
                state.lonely = if state.in_flight > 0 { 0 } else { state.lonely.saturating_add(1) };
                state.in_flight += 1;
                let is_more_wanted = state.in_flight < state.in_flight_max;
                // Even if no other one may begin now: it may as soon as one before this one has ended.
                let overlaps = state.in_flight_max > 1 && state.lonely <= LONELY_MAX;
                Some(Turn::Write { is_more_wanted, overlaps })
            }
            message => Some(Turn::Handle(message)),
        }
    }
}

impl Queue {
    pub fn new(appended: Lsn, in_flight_max: usize) -> Queue {
        let state = State {
            appended,
            messages: VecDeque::new(),
            is_taken: false,
            in_flight: 0,
            in_flight_max,
            lonely: 0,
            room: Room { flushes: 1, is_full: false },
            sleeping: 0,
            is_waking: false,
            try_again_at: None,
            has_ended: false,
        };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Calls `before` with its bytes and adds a batch; returns the position after it. Nobody takes it after the end. A
    /// caller that wakes no thread takes the turn itself.
    pub fn append(&self, payload: Vec<u8>, unix_ms: u64, wakes: bool, before: impl FnOnce(u64)) -> Lsn {
        let mut state = self.state();
        let (start, bytes) = (state.appended, payload.len() as u64);
        if bytes == 0 {
            return start;
        }
        let end = start.advance(bytes);
        state.appended = end;
        if (1..state.in_flight_max).contains(&state.in_flight) {
            state.lonely = 0;
        }
        before(bytes);
        self.add(state, Message::Batch(Handed { start, payload, unix_ms }), wakes);
        end
    }

    /// Adds a message; returns its position. Nobody takes it after the end.
    pub fn push(&self, message: Message) -> Lsn {
        let state = self.state();
        let appended = state.appended;
        self.add(state, message, true);
        appended
    }

    fn add(&self, mut state: MutexGuard<'_, State>, message: Message, wakes: bool) {
        if state.has_ended {
            // Dropping a message may call back.
            drop(state);
            drop(message);
            return;
        }
        state.messages.push_back(message);
        if wakes {
            self.wake(state);
        }
    }

    /// Wakes a thread where there is a turn to take.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if state.sleeping > 0 && !state.is_waking && state.has_turn() {
            state.is_waking = true;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// The position after all that was handed over.
    pub fn appended(&self) -> Lsn {
        self.state().appended
    }

    /// Waits for a turn; `group` gets what is to be written. `None` at the end.
    pub fn take_turn(&self, group: &mut Vec<Handed>) -> Option<Turn> {
        let mut state = self.state();
        while !state.has_turn() && !state.has_ended {
            state.sleeping += 1;
            state = match state.try_again_at.map(|at| at.saturating_duration_since(Instant::now())) {
                None => wait(&self.changed, state),
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left.max(POLL));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.sleeping -= 1;
            state.is_waking = false;
        }
        if state.has_ended { None } else { State::take(state, group) }
    }

    /// The same without waiting: `None` also if there is no turn to take. Its caller knows when to try again what has
    /// failed.
    pub fn try_turn(&self, group: &mut Vec<Handed>) -> Option<Turn> {
        let state = self.state();
        let has_turn = state.has_message() || state.may_try_again();
        if state.has_ended || !has_turn { None } else { State::take(state, group) }
    }

    /// What has failed is to be tried again, then; or nothing has.
    pub fn try_again_at(&self, at: Option<Instant>) {
        self.state().try_again_at = at;
        self.changed.notify_all();
    }

    /// The same if the turn is one to write.
    pub fn try_write_turn(&self, group: &mut Vec<Handed>) -> Option<Turn> {
        let state = self.state();
        let is_batch = matches!(state.messages.front(), Some(Message::Batch(_)));
        if !is_batch || state.has_ended || !state.has_message() { None } else { State::take(state, group) }
    }

    /// Gives the turn away; returns whether nobody would take the next one while this thread flushes.
    pub fn give_turn(&self, room: Room) -> bool {
        let mut state = self.state();
        state.is_taken = false;
        state.room = room;
        let wants_thread = state.sleeping == 0 && state.in_flight < state.flushes_max();
        self.wake(state);
        wants_thread
    }

    /// A group is flushed, and published, or has failed. `by` looks for the next turn before it sleeps, unless it is
    /// not a thread of the log.
    pub fn flushed(&self, in_flight_max: usize, by: By) {
        let mut state = self.state();
        state.in_flight -= 1;
        state.in_flight_max = in_flight_max;
        if by == By::Another {
            self.wake(state);
        }
    }

    /// Has the log's threads take what waits: the one who has added it takes no turn.
    pub fn leave_to_threads(&self) {
        self.wake(self.state());
    }

    /// Groups that are being written and flushed.
    pub fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    /// Ends all threads.
    pub fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        let dropped = std::mem::take(&mut state.messages);
        drop(state);
        self.changed.notify_all();
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::JoinHandle;
    use std::time::Duration;

    const ROOM: Room = Room { flushes: 4, is_full: false };

    /// A queue with a thread that sleeps, and reports each turn that it takes.
    fn asleep() -> (Arc<Queue>, Receiver<bool>, JoinHandle<()>) {
        let queue = Arc::new(Queue::new(Lsn::ZERO, 4));
        let (sender, turns) = channel();
        let of_thread = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            let mut group = Vec::new();
            while let Some(turn) = of_thread.take_turn(&mut group) {
                sender.send(matches!(turn, Turn::Write { .. })).unwrap();
                of_thread.give_turn(ROOM);
            }
        });
        while queue.state().sleeping == 0 {
            std::thread::yield_now();
        }
        (queue, turns, thread)
    }

    fn end(queue: &Queue, thread: JoinHandle<()>) {
        queue.end();
        thread.join().unwrap();
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn what_had_to_wait_for_another_threads_flush_is_taken_after_it() {
        let (queue, turns, thread) = asleep();
        queue.append(vec![1], 0, false, |_| {});
        let mut group = Vec::new();
        assert!(matches!(queue.try_write_turn(&mut group), Some(Turn::Write { .. })));
        queue.give_turn(ROOM);
        queue.push(Message::Cut);
        queue.flushed(4, By::Another);
        assert_eq!(turns.recv_timeout(PATIENCE), Ok(false), "nobody was woken");
        end(&queue, thread);
    }

    #[test]
    fn a_batch_that_its_producer_cannot_write_is_left_to_the_threads() {
        let (queue, turns, thread) = asleep();
        queue.append(vec![1], 0, false, |_| {});
        queue.leave_to_threads();
        assert_eq!(turns.recv_timeout(PATIENCE), Ok(true), "nobody was woken");
        end(&queue, thread);
    }
}
