//! Whether output of a client may wait for its socket.
//!
//! The server sends what a client's replies are at the end of each iteration, as far as the socket takes it; where it
//! takes only a part, the rest, and all replies after it, may leave at any time. That is asked of the server, which
//! costs more than a small command. So each time that a client's socket is seen empty it is noted what it surely takes,
//! and the client's next commands, if they have short replies, use that up.

/// No reply of [`crate::core::table::SHORT_REPLIES`] is longer, errors among them.
const REPLY_BYTES_MAX: usize = 512;

/// What the system counts for a packet besides its bytes, at most.
const PACKET_BYTES: usize = 2560;

/// The server sends no more to a client in one iteration, whatever its socket takes (64 KB).
const ITERATION_BYTES_MAX: usize = 60_000;

/// What a client's socket surely takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    bytes: usize,
    /// The iteration of the last reply, and what it had of them.
    iteration: u64,
    used: usize,
}

impl Room {
    /// That of a socket in whose buffer nothing waits and that takes so much, while replies of so many bytes wait for
    /// the end of this iteration.
    pub fn of(socket_bytes: usize, reply_bytes: usize, iteration: u64) -> Room {
        let mut room = Room { bytes: socket_bytes, iteration: 0, used: 0 };
        room.begin(iteration);
        room.take(reply_bytes);
        room
    }

    /// The client sends a command.
    pub fn reply(&mut self, is_short: bool, iteration: u64) {
        if !is_short {
            *self = Room::default();
        } else if self.bytes > 0 {
            self.begin(iteration);
            self.take(REPLY_BYTES_MAX);
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
            room.reply(true, replies + 1);
        }
        assert_eq!(replies, 6);
        room.reply(true, 99);
        assert!(!room.is_sure(), "nothing comes back by itself");
    }

    #[test]
    fn other_replies_and_much_in_one_iteration_end_it() {
        let mut room = Room::of(1 << 20, 0, 1);
        room.reply(true, 2);
        assert!(room.is_sure());
        room.reply(false, 2);
        assert!(!room.is_sure());
        let mut room = Room::of(1 << 20, 0, 1);
        (0..=ITERATION_BYTES_MAX / REPLY_BYTES_MAX).for_each(|_| room.reply(true, 1));
        assert!(!room.is_sure());
        assert!(!Room::of(1 << 20, 1 << 17, 1).is_sure());
        assert!(!Room::default().is_sure());
    }
}
