//! The options of a data connection's socket.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

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

/// Makes a connection blocking (whatever its former owner did), undelayed, and aware of a peer that is gone.
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
    Ok(())
}
