//! Whether output of a client may wait for its socket.
//!
//! The server sends a client's replies at the end of each iteration, as far as the socket takes them; where it takes
//! only a part, the rest, and all replies after it, may leave at any time. Asking the server for that costs more than a
//! small command. So whenever a client's socket is seen empty, what it surely takes is noted, and the client's next
//! commands, if they have short replies, use that up.

use crate::core::leaf::ClientId;

/// No reply of [`crate::core::table::SHORT_REPLIES`] is longer, nor is any of their errors.
const REPLY_BYTES_MAX: usize = 512;

/// The reply to a GET of a value with no more bytes is as short.
pub const SHORT_VALUE_BYTES_MAX: usize = REPLY_BYTES_MAX - 16;

/// So many GETs of a client are looked at after it was of use that its socket surely takes its replies.
const GETS_LOOKED_AT: u8 = 64;

/// What the system counts for a packet besides its bytes, at most.
const PACKET_BYTES: usize = 2560;

/// The server sends no more to a client in one iteration, whatever its socket takes (64 KB).
const ITERATION_BYTES_MAX: usize = 60_000;

/// No more clients than these are remembered as asked about.
const ASKERS_MAX: usize = 128;

/// Whether a client came up is remembered for so many iterations.
const ITERATIONS_KEPT: u32 = 4;

/// A client that came up in so many of them is likely to come up in the next one. A question about one more client
/// costs about a third of one of its own.
const ITERATIONS_LIKELY: u32 = 2;

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

/// Clients whose output had to be known, to ask about all at once that are likely to come up in an iteration.
#[derive(Debug, Default)]
pub struct Askers {
    recent: Vec<Asker>,
    /// They were asked about in this iteration.
    has_asked: bool,
}

#[derive(Debug)]
struct Asker {
    client: ClientId,
    /// In which of the last iterations it came up, the current one in the lowest bit. Those without any asker are not
    /// counted.
    came: u8,
}

impl Askers {
    /// The client's output has to be known in this iteration.
    pub fn comes(&mut self, client: ClientId) {
        let has_room = self.recent.len() < ASKERS_MAX;
        match self.recent.iter_mut().find(|asker| asker.client == client) {
            Some(asker) => asker.came |= 1,
            // As if it had come up before.
            None if has_room => self.recent.push(Asker { client, came: 0b11 }),
            None => {}
        }
    }

    /// The clients to ask about when this one, which has come, must be.
    pub fn with(&mut self, client: ClientId) -> Vec<ClientId> {
        let has_asked = std::mem::replace(&mut self.has_asked, true);
        let recent = self.recent.iter().filter(|asker| !has_asked && asker.client != client);
        let likely = recent.filter(|asker| asker.came.count_ones() >= ITERATIONS_LIKELY);
        likely.map(|asker| asker.client).chain([client]).collect()
    }

    /// Another iteration begins.
    pub fn begin(&mut self) {
        self.has_asked = false;
        if self.recent.iter().any(|asker| asker.came & 1 != 0) {
            self.recent.iter_mut().for_each(|asker| asker.came = asker.came << 1 & ((1 << ITERATIONS_KEPT) - 1));
            self.recent.retain(|asker| asker.came != 0);
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
    /// Of how many GETs the value's length is still to be looked at.
    gets: u8,
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
        if before.can_be_noted(iteration) {
            Room { queued: before.queued, large: before.large, gets: before.gets, ..self }
        } else {
            before
        }
    }

    /// That of an unknown client.
    pub fn unknown() -> Room {
        Room { large: Large::Last, ..Room::default() }
    }

    /// Whether [`Room::after`] is not this one again.
    pub fn can_be_noted(self, iteration: u64) -> bool {
        !matches!(self.large, Large::Last) && self.large != Large::Within(iteration)
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

    /// That was of use, or would have been: other replies of the client are worth a look as to whether they are short.
    pub fn is_of_use(&mut self) {
        self.gets = GETS_LOOKED_AT;
    }

    /// The client sends a GET: whether it is worth a look at the value that it will show. It shows what is there now,
    /// unless it is queued.
    pub fn looks_at_get(&mut self) -> bool {
        let looks = self.gets > 0 && self.queued == Queued::Nothing;
        self.gets -= u8::from(looks);
        looks
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
    fn those_that_are_likely_to_come_are_asked_about_with_the_first_of_an_iteration() {
        let mut askers = Askers::default();
        // Which clients are asked about in an iteration in which these come.
        let mut iteration = |clients: &[ClientId]| {
            let mut asked: Vec<ClientId> = Vec::new();
            for client in clients {
                askers.comes(*client);
                if !asked.contains(client) {
                    asked.extend(askers.with(*client));
                }
            }
            askers.begin();
            asked
        };
        assert_eq!(iteration(&[1]), [1], "nothing is known of it");
        assert_eq!(iteration(&[2]), [1, 2]);
        assert_eq!(iteration(&[1]), [2, 1], "they come in turn");
        assert_eq!(iteration(&[2]), [1, 2]);
        assert_eq!(iteration(&[]), []);
        assert_eq!(iteration(&[1, 2, 3]), [2, 1, 3]);
        for _ in 0..ITERATIONS_KEPT {
            iteration(&[4]);
        }
        assert_eq!(iteration(&[5]), [4, 5], "the others have not come for a while");
        for client in [6, 7, 8] {
            iteration(&[client]);
        }
        assert_eq!(iteration(&[5]), [7, 8, 5], "one that seldom comes is asked about alone");
        let many: Vec<ClientId> = (100..1000).collect();
        iteration(&many);
        assert!(iteration(&[100]).len() <= ASKERS_MAX, "others are forgotten");
    }

    #[test]
    fn values_are_looked_at_while_that_is_of_use() {
        let mut room = Room::default();
        assert!(!room.looks_at_get());
        room.is_of_use();
        assert_eq!((0..200).filter(|_| room.looks_at_get()).count(), usize::from(GETS_LOOKED_AT));
        room.is_of_use();
        room = Room::of(20_000, 5, 1).after(room, 1);
        assert!(room.looks_at_get(), "a question changes nothing about that");
        room.reply(ReplySize::Multi, 1);
        assert!(!room.looks_at_get(), "the value may be another one when EXEC shows it");
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
