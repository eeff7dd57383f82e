//! What the system says of a client's socket, and does with it.

use libc::{
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN, MSG_DONTWAIT, MSG_PEEK, SHUT_RDWR, SO_SNDBUF, SOL_SOCKET,
    TIOCOUTQ, c_int, c_void, epoll_create1, epoll_ctl, epoll_event, epoll_wait, getsockopt, ioctl, recv, shutdown,
    socklen_t,
};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Lets nothing more out through a socket: the server's next write fails, and it closes the client.
pub fn shut_socket(descriptor: i32) {
    // SAFETY: the call touches no memory; a descriptor that is none, or no connected socket, is answered with an error,
    // and nothing leaves by that.
    let _ = unsafe { shutdown(descriptor, SHUT_RDWR) };
}

/// How many bytes a socket takes, by its descriptor, if nothing waits in its send buffer. It does not consider what the
/// server does with it.
pub fn empty_socket_bytes(descriptor: i32) -> Option<usize> {
    let mut waiting: c_int = 0;
    // SAFETY: the call writes an integer to where the pointer leads; a descriptor that is none is answered with an
    // error.
    if unsafe { ioctl(descriptor, TIOCOUTQ, &raw mut waiting) } != 0 || waiting != 0 {
        return None;
    }
    let mut bytes: c_int = 0;
    let mut len = size_of::<c_int>() as socklen_t;
    let place = (&raw mut bytes).cast::<c_void>();
    // SAFETY: the call writes at most `len` bytes to `place`, which has as many.
    let status = unsafe { getsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, place, &raw mut len) };
    if status == 0 { usize::try_from(bytes).ok() } else { None }
}

/// Looks at what a socket has received and has not been read: the bytes stay there. Returns how many there are, up to
/// the length of `bytes`.
pub fn peek(descriptor: i32, bytes: &mut [u8]) -> usize {
    let place = bytes.as_mut_ptr().cast::<c_void>();
    // SAFETY: the call writes at most as many bytes to `place` as it has; a descriptor that is none, or no socket, is
    // answered with an error.
    let len = unsafe { recv(descriptor, place, bytes.len(), MSG_PEEK | MSG_DONTWAIT) };
    usize::try_from(len).unwrap_or(0)
}

/// How many sockets are reported at a time.
const TOLD_MAX: usize = 64;

/// Sockets that can be asked whether they have received anything.
#[derive(Debug)]
pub struct Sockets(OwnedFd);

impl Sockets {
    /// A set without any yet; `None` where the system refuses.
    pub fn new() -> Option<Sockets> {
        // SAFETY: the call touches no memory; its result is a descriptor that nobody else has, or an error.
        let descriptor = unsafe { epoll_create1(EPOLL_CLOEXEC) };
        // SAFETY: as above.
        (descriptor >= 0).then(|| Sockets(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Adds a socket, which is reported by this number. `false` where the system refuses.
    pub fn add(&self, descriptor: i32, number: u64) -> bool {
        self.control(EPOLL_CTL_ADD, descriptor, number)
    }

    /// Removes a socket.
    pub fn remove(&self, descriptor: i32) {
        self.control(EPOLL_CTL_DEL, descriptor, 0);
    }

    fn control(&self, operation: c_int, descriptor: i32, number: u64) -> bool {
        let mut event = epoll_event { events: EPOLLIN.cast_unsigned(), u64: number };
        // SAFETY: the call reads the event, which is live; a descriptor that is none is answered with an error.
        unsafe { epoll_ctl(self.0.as_raw_fd(), operation, descriptor, &raw mut event) == 0 }
    }

    /// The numbers of some of those that have received something.
    pub fn with_input(&self) -> Vec<u64> {
        let mut events = [epoll_event { events: 0, u64: 0 }; TOLD_MAX];
        // SAFETY: the call writes at most `TOLD_MAX` events to where there is room for so many, and does not wait.
        let count = unsafe { epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), TOLD_MAX as c_int, 0) };
        events.iter().take(usize::try_from(count).unwrap_or(0)).map(|event| event.u64).collect()
    }
}
