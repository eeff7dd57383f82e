//! Whether output of a client may wait for its socket.
//!
//! The server sends a client's replies at the end of each iteration, as far as the socket takes them; where it takes
//! only a part, the rest, and all replies after it, may leave at any time. Asking the server for that costs more than a
//! small command. So whenever a client's socket is seen empty, what it surely takes is noted, and the client's next
//! commands, if they have short replies, use that up.

use crate::core::leaf::ClientId;

/// No reply of [`crate::core::table::SHORT_REPLIES`] is longer, nor is any of their errors.
const REPLY_BYTES_MAX: usize = 512;

/// What the system counts for a packet besides its bytes, at most.
const PACKET_BYTES: usize = 2560;

/// The server sends no more to a client in one iteration, whatever its socket takes (64 KB).
const ITERATION_BYTES_MAX: usize = 60_000;

/// No more clients than these are asked about together with another one.
const ASKERS_MAX: usize = 64;

/// How much a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplySize {
    /// A line, whatever it does.
    Short,
    /// Any number of bytes.
    Any,
    /// MULTI: a line, and what follows is queued if the server accepts it.
    Multi,
    /// EXEC: what all that was queued answers.
    Exec,
    /// DISCARD, RESET: nothing is queued any more.
    EndMulti,
}

/// What a client may have queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Queued {
    #[default]
    Nothing,
    /// So many commands with short replies.
    Short(usize),
    Any,
}

/// Clients whose output was asked about, to ask about all at once: those of the last iteration are likely to come up in
/// the next.
#[derive(Debug, Default)]
pub struct Askers {
    now: Vec<ClientId>,
    before: Vec<ClientId>,
}

impl Askers {
    /// The clients to ask about when this one must be.
    pub fn with(&mut self, client: ClientId) -> Vec<ClientId> {
        self.now.push(client);
        let mut all = std::mem::take(&mut self.before);
        all.retain(|other| *other != client);
        all.push(client);
        all
    }

    /// Another iteration begins.
    pub fn begin(&mut self) {
        if !self.now.is_empty() {
            self.now.truncate(ASKERS_MAX);
            self.before = std::mem::take(&mut self.now);
        }
    }
}

/// Whether a reply of any size may be among those that wait for the end of the iteration. CLIENT LIST does not count it
/// where the server keeps a reference to the value instead of its bytes (copy avoidance: `networking.c`, from 9.0 on).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Large {
    #[default]
    No,
    /// The last command has one. If its client has been blocked since, the reply comes in the iteration of the next
    /// command.
    Last,
    /// Until the end of this iteration.
    Within(u64),
}

/// What a client's socket surely takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    bytes: usize,
    queued: Queued,
    large: Large,
    /// The iteration of the last reply, and what it had of them.
    iteration: u64,
    used: usize,
}

impl Room {
    /// That of a socket with an empty buffer that takes `socket_bytes`, while `reply_bytes` of replies wait for the end
    /// of this iteration.
    pub fn of(socket_bytes: usize, reply_bytes: usize, iteration: u64) -> Room {
        let mut room = Room { bytes: socket_bytes, ..Room::default() };
        room.begin(iteration);
        room.take(reply_bytes);
        room
    }

    /// The same for a client that was known before: nothing where it is unknown what waits for this iteration's end.
    pub fn after(self, before: Room, iteration: u64) -> Room {
        match before.large {
            Large::Last => before,
            Large::Within(doubtful) if doubtful == iteration => before,
            large => Room { queued: before.queued, large, ..self },
        }
    }

    /// That of an unknown client.
    pub fn unknown() -> Room {
        Room { large: Large::Last, ..Room::default() }
    }

    /// The client sends a command.
    pub fn reply(&mut self, size: ReplySize, iteration: u64) {
        if self.large == Large::Last {
            self.large = Large::Within(iteration);
        }
        // It is unknown here whether it is queued or runs.
        let replies = match (size, &mut self.queued) {
            (ReplySize::Short, Queued::Short(count)) => {
                *count += 1;
                Some(1)
            }
            (ReplySize::Any, Queued::Short(_)) => {
                self.queued = Queued::Any;
                None
            }
            // A MULTI within another is refused, and changes nothing.
            (ReplySize::Multi, queued @ Queued::Nothing) => {
                *queued = Queued::Short(0);
                Some(1)
            }
            (ReplySize::Short | ReplySize::Multi, _) => Some(1),
            (ReplySize::Any, _) => None,
            (ReplySize::Exec, queued) => match std::mem::take(queued) {
                Queued::Nothing => Some(1),
                Queued::Short(count) => Some(1 + count),
                Queued::Any => None,
            },
            (ReplySize::EndMulti, queued) => {
                *queued = Queued::Nothing;
                Some(1)
            }
        };
        match replies {
            None => (self.bytes, self.large) = (0, Large::Last),
            Some(_) if self.bytes == 0 => {}
            Some(replies) => {
                self.begin(iteration);
                self.take(replies * REPLY_BYTES_MAX);
            }
        }
    }

    /// Whether the socket has taken, or takes, everything so far.
    pub fn is_sure(&self) -> bool {
        self.bytes > 0
    }

    fn begin(&mut self, iteration: u64) {
        if self.iteration != iteration {
            (self.iteration, self.used) = (iteration, 0);
            self.take(PACKET_BYTES);
        }
    }

    fn take(&mut self, bytes: usize) {
        self.used += bytes;
        self.bytes = if self.used > ITERATION_BYTES_MAX { 0 } else { self.bytes.saturating_sub(bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_replies_use_the_room_up() {
        let mut room = Room::of(20_000, 5, 1);
        let mut replies = 0;
        while room.is_sure() {
            replies += 1;
            room.reply(ReplySize::Short, replies + 1);
        }
        assert_eq!(replies, 6);
        room.reply(ReplySize::Short, 99);
        assert!(!room.is_sure(), "nothing comes back by itself");
    }

    #[test]
    fn other_replies_and_much_in_one_iteration_end_it() {
        let mut room = Room::of(1 << 20, 0, 1);
        room.reply(ReplySize::Short, 2);
        assert!(room.is_sure());
        room.reply(ReplySize::Any, 2);
        assert!(!room.is_sure());
        let mut room = Room::of(1 << 20, 0, 1);
        (0..=ITERATION_BYTES_MAX / REPLY_BYTES_MAX).for_each(|_| room.reply(ReplySize::Short, 1));
        assert!(!room.is_sure());
        assert!(!Room::of(1 << 20, 1 << 17, 1).is_sure());
        assert!(!Room::default().is_sure());
    }

    #[test]
    fn no_room_is_noted_until_a_large_reply_is_sent() {
        let noted = |before: Room, iteration| Room::of(20_000, 5, iteration).after(before, iteration).is_sure();
        let mut room = Room::default();
        assert!(noted(room, 1));
        room.reply(ReplySize::Any, 1);
        assert!(!noted(room, 1) && !noted(room, 2), "its client may be blocked until then");
        room.reply(ReplySize::Short, 2);
        assert!(!noted(room, 2), "it may have come in this iteration");
        assert!(noted(room, 3));
        room.reply(ReplySize::Any, 3);
        room.reply(ReplySize::Any, 4);
        room.reply(ReplySize::Short, 5);
        assert!(!noted(room, 5) && noted(room, 6));
        assert!(!noted(Room::unknown(), 1));
    }

    #[test]
    fn those_of_the_last_iteration_are_asked_about_with_the_first_of_the_next() {
        let mut askers = Askers::default();
        assert_eq!(askers.with(1), [1]);
        assert_eq!(askers.with(2), [2]);
        askers.begin();
        assert_eq!(askers.with(2), [1, 2]);
        assert_eq!(askers.with(3), [3]);
        askers.begin();
        askers.begin();
        assert_eq!(askers.with(4), [2, 3, 4]);
        askers.begin();
        (0..1000).for_each(|client| drop(askers.with(client)));
        askers.begin();
        assert_eq!(askers.with(2000).len(), ASKERS_MAX + 1);
    }

    #[test]
    fn a_transaction_answers_with_all_that_was_queued() {
        let after = |sizes: &[ReplySize]| {
            let mut room = Room::of(1 << 20, 0, 1);
            sizes.iter().for_each(|size| room.reply(*size, 2));
            room.is_sure()
        };
        assert!(after(&[ReplySize::Multi, ReplySize::Short, ReplySize::Short, ReplySize::Exec]));
        assert!(!after(&[[ReplySize::Multi].as_slice(), &[ReplySize::Short; 100], &[ReplySize::Exec]].concat()));
        let mut room = Room::of(1 << 20, 0, 1);
        for size in [ReplySize::Multi, ReplySize::Any, ReplySize::Multi, ReplySize::Short] {
            room.reply(size, 2);
        }
        room = Room::of(1 << 20, 0, 3).after(room, 3);
        room.reply(ReplySize::Short, 3);
        assert!(room.is_sure());
        room.reply(ReplySize::Exec, 4);
        assert!(!room.is_sure(), "what was queued before a refused MULTI is answered, too");
        room.reply(ReplySize::Short, 5);
        room = Room::of(1 << 20, 0, 6).after(room, 6);
        room.reply(ReplySize::Exec, 7);
        assert!(room.is_sure());
    }
}
