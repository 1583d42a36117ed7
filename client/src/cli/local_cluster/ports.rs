//! Ports for a local cluster: chosen once, kept over its restarts, and reserved while the cluster's handle lives.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

/// Ports below this one are for other services.
const LOWEST: u16 = 10_000;
/// Where the kernel's own choices begin when it does not say.
const EPHEMERAL_DEFAULT: u16 = 32_768;
/// How many candidates are looked at before the kernel is asked to choose.
const CANDIDATES: usize = 1000;

/// A port of 127.0.0.1 that nobody else can reserve, and that the kernel gives to no outgoing connection.
///
/// It is a socket that is bound and never listens. A server may listen on the port nevertheless, end and listen again:
/// two sockets share a port when both ask for it (SO_REUSEADDR, as every Rust listener does) and at most one listens.
/// A reservation asks only after it was bound, and so never shares with another one.
///
/// A process that is being forked holds a copy until it execs, which keeps no server from listening either.
#[derive(Debug)]
pub(super) struct PortReservation {
    port: u16,
    /// Owned for its effect: the port is free again when it is closed.
    _socket: OwnedFd,
}

impl PortReservation {
    /// That many ports, all different.
    ///
    /// They lie below the range that the kernel gives to outgoing connections: a cluster that is opened again from its
    /// folder has no reservations, and while one of its coordinators is down, a client that dials the port could else
    /// be given that very port as its own, be connected to itself, and keep the coordinator out.
    pub(super) fn some(count: usize) -> io::Result<Vec<Self>> {
        let range = LOWEST..ephemeral_start();
        let mut reserved = Vec::with_capacity(count);
        for _ in 0..CANDIDATES {
            if reserved.len() == count || range.is_empty() {
                break;
            }
            reserved.extend(Self::of(rand::random_range(range.clone()))?);
        }
        while reserved.len() < count {
            reserved.extend(Self::of(0)?);
        }
        Ok(reserved)
    }

    /// The port, unless somebody has it; 0 has the kernel choose one.
    fn of(port: u16) -> io::Result<Option<Self>> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        match bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE | Errno::ACCESS) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Not before it is bound: two sockets that both ask to share would both get the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        let port = SocketAddr::try_from(getsockname(&socket)?)?.port();
        Ok(Some(Self { port, _socket: socket }))
    }

    /// Its number.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

fn ephemeral_start() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    text.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(EPHEMERAL_DEFAULT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn reservation() -> PortReservation {
        PortReservation::some(1).unwrap().remove(0)
    }

    fn is_free(port: u16) -> bool {
        PortReservation::of(port).unwrap().is_some()
    }

    /// A server on the port, once no process that another test is just starting has a copy of the former one.
    fn listen(port: u16) -> TcpListener {
        loop {
            match TcpListener::bind(("127.0.0.1", port)) {
                Ok(server) => return server,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_reserved_port_is_reserved_by_nobody_else_until_it_is_given_back() {
        let reserved = reservation();
        let port = reserved.port();
        assert!(!is_free(port));
        drop(reserved);
        // A process that another test is just starting may have a copy.
        while !is_free(port) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_server_listens_on_a_reserved_port_ends_and_listens_again() {
        let reserved = reservation();
        let port = reserved.port();
        for _ in 0..3 {
            let server = listen(port);
            let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (accepted, _) = server.accept().unwrap();
            assert!(!is_free(port), "it is listened on");
            assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "one server at a time");
            // Closed first here, so that the next server finds what is left of a connection.
            drop((accepted, client, server));
            assert!(!is_free(port), "it is still reserved");
        }
    }

    #[test]
    fn a_port_that_is_listened_on_is_not_reserved() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_free(server.local_addr().unwrap().port()));
    }

    #[test]
    fn nobody_is_connected_to_a_reserved_port_that_no_server_listens_on() {
        let reserved = reservation();
        let error = TcpStream::connect(("127.0.0.1", reserved.port())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn reservations_made_at_the_same_time_are_all_different() {
        const THREADS: usize = 8;
        const EACH: usize = 64;
        let reserved: Vec<PortReservation> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| PortReservation::some(EACH).unwrap())).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let ports: BTreeSet<u16> = reserved.iter().map(PortReservation::port).collect();
        assert_eq!(ports.len(), THREADS * EACH);
    }

    #[test]
    fn the_kernel_chooses_a_port_when_no_candidate_is_free() {
        let chosen = PortReservation::of(0).unwrap().expect("the kernel finds one");
        assert!(chosen.port() != 0 && !is_free(chosen.port()));
    }
}
