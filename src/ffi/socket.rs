//! What the system says of a client's socket, and does with it.

use libc::{SHUT_RDWR, SO_SNDBUF, SOL_SOCKET, TIOCOUTQ, c_int, c_void, getsockopt, ioctl, shutdown, socklen_t};

/// Lets nothing more out by a socket: the server's next write fails, and it closes the client.
pub fn shut_socket(descriptor: i32) {
    // SAFETY: the call touches no memory; a descriptor that is none, or no connected socket, is answered with an error,
    // and nothing leaves by that.
    let _ = unsafe { shutdown(descriptor, SHUT_RDWR) };
}

/// How many bytes a socket takes, by its descriptor, if nothing waits in its send buffer. It takes no look at what the
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
