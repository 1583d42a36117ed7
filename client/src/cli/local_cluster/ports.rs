//! Ports for a local cluster, chosen once and kept over its restarts.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::ops::Range;

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
    // The listeners are kept to the end, so that no port is chosen twice.
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..CANDIDATES {
        if listeners.len() == count || range.is_empty() {
            break;
        }
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", candidate(&range))) {
            ports.insert(listener.local_addr()?.port());
            listeners.push(listener);
        }
    }
    while listeners.len() < count {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        ports.insert(listener.local_addr()?.port());
        listeners.push(listener);
    }
    Ok(ports.into_iter().collect())
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

    #[test]
    fn chosen_ports_differ_and_can_be_listened_on() {
        let ports = free_ports(13).unwrap();
        let listeners: Vec<_> = ports.iter().map(|&port| TcpListener::bind(("127.0.0.1", port))).collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 13);
        assert_eq!(listeners.iter().filter(|listener| listener.is_ok()).count(), 13);
    }
}
