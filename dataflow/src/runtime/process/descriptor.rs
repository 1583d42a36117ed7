//! The descriptors that an executor inherits from its agent: 3, the control socket, and 4, for data connections.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;
use rustix::net::RecvFlags;

use super::{Error, MAGIC};

const CONTROL: RawFd = 3;
const CONNECTIONS: RawFd = 4;

/// Whether this process has taken its descriptors, which happens once.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What was inherited.
pub(super) struct Descriptors {
    pub(super) control: UnixStream,
    pub(super) connections: OwnedFd,
}

/// Takes the descriptors, if an agent left them; else touches nothing.
pub(super) fn inherited() -> Result<Option<Descriptors>, Error> {
    if TAKEN.load(Ordering::SeqCst) {
        return Err(Error::Taken);
    }
    if !is_socket(CONTROL) || !magic_waits() {
        return Ok(None);
    }
    if !is_socket(CONNECTIONS) {
        return Err(Error::Protocol { reason: "descriptor 4 is not a socket".into() });
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(Error::Taken);
    }
    let (control, connections) = take();
    for descriptor in [&control, &connections] {
        rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)
            .map_err(|error| Error::set_up("set close-on-exec")(error.into()))?;
        rustix::io::ioctl_fionbio(descriptor, false)
            .map_err(|error| Error::set_up("make the descriptors blocking")(error.into()))?;
    }
    Ok(Some(Descriptors { control: control.into(), connections }))
}

fn is_socket(descriptor: RawFd) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{descriptor}"))
        .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
}

/// Whether the magic is the first thing to read on descriptor 3; consumes nothing.
fn magic_waits() -> bool {
    let mut first = [0; MAGIC.len()];
    #[expect(unsafe_code, reason = "an inherited descriptor has no owner in this program to borrow it from")]
    // SAFETY: the descriptor is open (`is_socket`), and is borrowed for the one call below, which only looks. Should a
    // thread of the program close it meanwhile, the call fails or looks at another descriptor; no memory is at stake.
    let control = unsafe { BorrowedFd::borrow_raw(CONTROL) };
    let peeked = rustix::net::recv(control, &mut first[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(peeked, Ok((length, _)) if length == MAGIC.len()) && first == MAGIC
}

fn take() -> (OwnedFd, OwnedFd) {
    #[expect(unsafe_code, reason = "an inherited descriptor has no owner in this program to take it from")]
    // SAFETY: both are open (`is_socket`). Only an agent writes the magic, and it does so on a socket that it passes
    // down as 3 beside 4; so nothing in this process opened them, and nobody else owns them. `TAKEN` lets this happen
    // once.
    unsafe {
        (OwnedFd::from_raw_fd(CONTROL), OwnedFd::from_raw_fd(CONNECTIONS))
    }
}
