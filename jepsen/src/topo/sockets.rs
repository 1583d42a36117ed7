//! Which process a connection belongs to, by `/proc`: both ends are on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use crate::host::Host;
use crate::process::procfs;

/// The host of the process, or of the ancestor that is known, whose socket has this local address.
#[must_use]
pub fn owner(socket: SocketAddr, known: &BTreeMap<u32, Host>) -> Option<Host> {
    let inode = inode(&fs::read_to_string("/proc/net/tcp").ok()?, socket)?;
    let living = procfs::living();
    for id in living.keys() {
        let Some(host) = known_ancestor(*id, &living, known) else { continue };
        if has_socket(*id, inode) {
            return Some(host);
        }
    }
    None
}

fn known_ancestor(id: u32, living: &BTreeMap<u32, procfs::Stat>, known: &BTreeMap<u32, Host>) -> Option<Host> {
    let mut id = id;
    // An executor's parent is its task manager; nothing lies deeper than a few steps.
    for _ in 0..4 {
        if let Some(host) = known.get(&id) {
            return Some(*host);
        }
        id = living.get(&id)?.parent;
    }
    None
}

fn has_socket(id: u32, inode: u64) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{id}/fd")) else { return false };
    let wanted = format!("socket:[{inode}]");
    entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy() == wanted))
}

/// The inode of the IPv4 socket with this local address, in the kernel's table.
fn inode(table: &str, socket: SocketAddr) -> Option<u64> {
    let SocketAddr::V4(socket) = socket else { return None };
    let line = table.lines().find(|line| local_address(line) == Some((*socket.ip(), socket.port())))?;
    line.split_whitespace().nth(9)?.parse().ok()
}

fn local_address(line: &str) -> Option<(Ipv4Addr, u16)> {
    let (address, port) = line.split_whitespace().nth(1)?.split_once(':')?;
    // The address is a number in the machine's byte order.
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    Some((Ipv4Addr::from(address), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_of_this_process_is_known_as_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let own = BTreeMap::from([(std::process::id(), Host::task_manager(2))]);
        let socket = stream.local_addr().expect("connected");
        assert_eq!(owner(socket, &own), Some(Host::task_manager(2)));
        assert_eq!(owner(socket, &BTreeMap::new()), None);
    }
}
