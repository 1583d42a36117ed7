//! The network between hosts, and how its directed links are cut.

pub mod command;
pub mod proxy;
pub mod sockets;
pub mod veth;

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::host::Host;

/// The way into a host: what a thread does before it opens sockets or starts processes there.
#[derive(Debug, Clone)]
pub enum Entrance {
    /// Every host is this one.
    Here,
    /// A network namespace.
    Namespace(PathBuf),
}

impl Entrance {
    /// Moves the calling thread, and what it starts from now on, into the host's network.
    ///
    /// # Errors
    ///
    /// When the namespace is gone or may not be entered.
    pub fn enter(&self) -> anyhow::Result<()> {
        match self {
            Self::Here => Ok(()),
            Self::Namespace(path) => {
                let file = File::open(path).with_context(|| format!("open namespace {}", path.display()))?;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| format!("enter namespace {}", path.display()))
            }
        }
    }
}

/// A network of hosts whose directed links can be cut.
pub trait Net: Send {
    /// Its name, as `--net` gives it.
    fn name(&self) -> &'static str;

    /// Where processes of the host listen.
    fn listens(&self, host: Host) -> Ipv4Addr;

    /// Where others reach the host.
    fn address(&self, host: Host) -> Ipv4Addr;

    /// The way in.
    fn entrance(&self, host: Host) -> Entrance;

    /// Loses what is sent from one host to another, until [`heal`](Self::heal).
    ///
    /// # Errors
    ///
    /// When the link cannot be cut.
    fn cut(&mut self, from: Host, to: Host) -> anyhow::Result<()>;

    /// How much has been lost on cut links to the host so far: the proof that they were cut.
    ///
    /// # Errors
    ///
    /// When it cannot be told.
    fn lost(&self, at: Host) -> anyhow::Result<u64>;

    /// Makes every link whole.
    ///
    /// # Errors
    ///
    /// When a link stays cut.
    fn heal(&mut self) -> anyhow::Result<()>;

    /// A process runs on the host: networks that are not of the kernel want to know whose connections are whose.
    fn started(&mut self, host: Host, process_id: u32);

    /// Takes the network away.
    ///
    /// # Errors
    ///
    /// When something stays.
    fn remove(&mut self) -> anyhow::Result<()>;
}
