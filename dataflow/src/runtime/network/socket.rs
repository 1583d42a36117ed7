//! The options of a data connection's socket.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};
use rustix::net::sockopt;

/// After how long without an acknowledgement a peer counts as gone.
///
/// Losing a connection restarts the job, and a peer whose host is suspended for some seconds acknowledges nothing once
/// its receive window is full. Dead task managers are found by their heartbeats, long before this.
const PEER_TIMEOUT_MS: u32 = 20_000;

/// How often an idle connection is probed.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How many probes may stay unanswered; with the user time-out above it is that which counts.
const PROBES: u32 = 20;

/// The longest pause between two retransmissions.
///
/// They double from 200 ms without an end that matters here: what was cut for 8 s would come back up to 5 s after it
/// was healed, and the records with it.
const RETRANSMISSION_PAUSE_MS: u32 = 1_000;

/// `TCP_RTO_MAX_MS` of `linux/tcp.h`.
const TCP_RTO_MAX_MS: i32 = 44;

sockopt_impl!(
    /// The longest pause between two retransmissions, in milliseconds.
    RetransmissionPauseMax,
    Both,
    libc::IPPROTO_TCP,
    TCP_RTO_MAX_MS,
    u32
);

/// Makes a connection blocking (whatever its former owner did), undelayed, aware of a peer that is gone, and quick to
/// come back when the way to it does.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_INTERVAL)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    sockopt::set_tcp_user_timeout(stream, PEER_TIMEOUT_MS)?;
    match setsockopt(stream, RetransmissionPauseMax, &RETRANSMISSION_PAUSE_MS) {
        // Linux has it since 6.15; before that a healed connection comes back later, which is no reason to have none.
        Ok(()) | Err(Errno::ENOPROTOOPT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use nix::sys::socket::getsockopt;

    use super::*;

    #[test]
    fn a_prepared_socket_probes_its_peer_and_retransmits_every_second() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("listens");
        let known = getsockopt(&stream, RetransmissionPauseMax);
        prepare(&stream).expect("every option is allowed");
        assert!(stream.nodelay().expect("a socket") && sockopt::socket_keepalive(&stream).expect("a socket"));
        assert_eq!(sockopt::tcp_keepintvl(&stream), Ok(PROBE_INTERVAL));
        assert_eq!(sockopt::tcp_user_timeout(&stream), Ok(PEER_TIMEOUT_MS));
        match known {
            Ok(before) => {
                assert!(before > RETRANSMISSION_PAUSE_MS, "{before} ms");
                assert_eq!(getsockopt(&stream, RetransmissionPauseMax), Ok(RETRANSMISSION_PAUSE_MS));
            }
            Err(Errno::ENOPROTOOPT) => eprintln!("SKIPPED: this kernel has no TCP_RTO_MAX_MS (Linux 6.15 and later)"),
            Err(error) => panic!("{error}"),
        }
    }
}
