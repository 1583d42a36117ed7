//! Ports for a local cluster, chosen once and kept over its restarts.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, getsockname, socket_with, sockopt};

/// Ports below this one are for other services.
const LOWEST: u16 = 10_000;
/// Where the kernel's own choices begin when it does not say.
const EPHEMERAL_DEFAULT: u16 = 32_768;
/// How many candidates are looked at before the kernel is asked to choose.
const CANDIDATES: usize = 1000;

/// That many different ports of 127.0.0.1 that nobody listens on.
///
/// They lie below the range that the kernel gives to outgoing connections: while a coordinator is down, a client that
/// dials its port could else be given that very port as its own, be connected to itself, and keep the coordinator out.
pub(super) fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let range = LOWEST..ephemeral_start();
    let mut ports = BTreeSet::new();
    for _ in 0..CANDIDATES {
        if ports.len() == count || range.is_empty() {
            break;
        }
        ports.extend(bind(candidate(&range))?);
    }
    while ports.len() < count {
        ports.extend(bind(0)?);
    }
    Ok(ports.into_iter().collect())
}

/// The port, if nobody listens on it; 0 has the kernel choose one.
///
/// The socket is bound and never listens: a process that is being forked meanwhile holds a copy of it until it execs,
/// which keeps nobody from listening on the port, as a copy of a listener would.
fn bind(port: u16) -> io::Result<Option<u16>> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    match rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
        Ok(()) => Ok(Some(SocketAddr::try_from(getsockname(&socket)?)?.port())),
        Err(Errno::ADDRINUSE | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn candidate(range: &Range<u16>) -> u16 {
    rand::random_range(range.clone())
}

fn ephemeral_start() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    text.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(EPHEMERAL_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn chosen_ports_differ_and_can_be_listened_on() {
        let ports = free_ports(13).unwrap();
        let listeners: Vec<_> = ports.iter().map(|&port| TcpListener::bind(("127.0.0.1", port))).collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 13);
        assert_eq!(listeners.iter().filter(|listener| listener.is_ok()).count(), 13);
        assert!(ports.iter().all(|&port| bind(port).is_ok_and(|free| free.is_none())), "they are listened on now");
    }
}
