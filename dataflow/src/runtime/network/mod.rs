//! How sub-tasks in different processes exchange elements: the channels, and who connects them.
//!
//! ```text
//!  RemoteSender --element--> Link (outbox) --writer--> TCP --reader--> Link --> RemoteReceiver
//!               <--credit---              <--reader--      <--writer--     <--release--
//! ```
//! One link, which is one TCP connection, per pair of executors carries all their channels.

mod channel;
mod connection;
mod ends;
mod handshake;
mod link;
pub(crate) mod message;
mod socket;
mod tcp;
#[cfg(test)]
mod tests;

use tidemill_model::id::TaskManagerId;

pub use self::channel::{RemoteReceiver, RemoteSender};
pub use self::handshake::{Handshake, HandshakeError, PROTOCOL_VERSION};
pub use self::tcp::{Identity, TcpNetwork};
pub use crate::engine::frame::{ChannelId, WireElement};

/// Why a channel ended without [`WireElement::EndOfInput`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("exchange records with task manager {peer}: {reason}")]
pub struct ConnectionLost {
    /// The other task manager: its name and data address.
    pub peer: String,
    /// What happened.
    pub reason: String,
}

/// How an executor reaches the other executors of its job and attempt.
pub trait Network: Send + Sync {
    /// Opens the sending half of a channel to a sub-task on `peer`; returns at once, credits come when it is connected.
    ///
    /// # Errors
    /// The job has no such channel to this peer, it was opened before, or the connection is lost already.
    fn sender(&self, peer: TaskManagerId, channel: ChannelId) -> Result<RemoteSender, ConnectionLost>;

    /// Opens the receiving half of a channel from a sub-task on `peer`; returns at once.
    ///
    /// # Errors
    /// The job has no such channel from this peer, it was opened before, or the connection is lost already.
    fn receiver(&self, peer: TaskManagerId, channel: ChannelId) -> Result<RemoteReceiver, ConnectionLost>;
}

/// The network of an executor that is alone, such as the embedded cluster's: there are no peers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNetwork;

impl NoNetwork {
    fn refuse(peer: TaskManagerId) -> ConnectionLost {
        ConnectionLost { peer: peer.to_string(), reason: "this executor has no network".into() }
    }
}

impl Network for NoNetwork {
    fn sender(&self, peer: TaskManagerId, _channel: ChannelId) -> Result<RemoteSender, ConnectionLost> {
        Err(Self::refuse(peer))
    }

    fn receiver(&self, peer: TaskManagerId, _channel: ChannelId) -> Result<RemoteReceiver, ConnectionLost> {
        Err(Self::refuse(peer))
    }
}
