//! The ends of a link's channels: their accounts, and the queues of the tasks that hold them.

use crossbeam_channel::{Sender, TrySendError};

use super::{ChannelId, ConnectionLost, WireElement};
use crate::engine::credit::{InboundAccount, OutboundAccount};

/// A channel to the peer.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) account: OutboundAccount,
    pub(super) credits: Sender<()>,
}

/// A channel from the peer.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) account: InboundAccount,
    pub(super) consumer: Consumer,
}

/// An element, or why there is none.
pub(super) type Received = Result<WireElement, ConnectionLost>;

/// The task at the end of a channel from the peer.
#[derive(Debug)]
pub(super) enum Consumer {
    /// The task has not opened the channel yet. Invariant: at most as many elements as there are credits, and an error.
    Awaited(Vec<Received>),
    /// The channel is open. Its queue has room for all credits and an error.
    Present(Sender<Received>),
}

impl Consumer {
    /// Hands over; a consumer that has gone away wants nothing any more.
    pub(super) fn take(&mut self, received: Received) -> Result<(), TrySendError<Received>> {
        match self {
            Self::Awaited(waiting) => waiting.push(received),
            Self::Present(queue) => match queue.try_send(received) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(full @ TrySendError::Full(_)) => return Err(full),
            },
        }
        Ok(())
    }
}

impl Outbound {
    /// Hands out credits that the account has granted; a producer that has gone away needs none.
    pub(super) fn add_credits(&self, count: u32) {
        for _ in 0..count {
            if self.credits.try_send(()).is_err() {
                return;
            }
        }
    }
}

impl Inbound {
    pub(super) fn new(channel: ChannelId) -> Self {
        Self { account: InboundAccount::new(channel), consumer: Consumer::Awaited(Vec::new()) }
    }
}
