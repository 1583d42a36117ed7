//! The two halves of a channel as tasks hold them.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::link::Link;
use super::{ChannelId, ConnectionLost, WireElement};

/// The sending half of a channel: one credit for each element that may be in flight.
#[derive(Debug)]
pub struct RemoteSender {
    link: Arc<Link>,
    channel: ChannelId,
    credits: Receiver<()>,
}

impl RemoteSender {
    pub(super) fn new(link: Arc<Link>, channel: ChannelId, credits: Receiver<()>) -> Self {
        Self { link, channel, credits }
    }

    /// Which channel this is.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Yields one `()` per credit; disconnected when the connection is lost.
    #[must_use]
    pub fn credits(&self) -> &Receiver<()> {
        &self.credits
    }

    /// Sends an element for which the caller took a credit; never blocks.
    ///
    /// # Errors
    /// The connection is lost, or the element cannot be sent (it is too large, or there was no credit for it).
    pub fn send(&mut self, element: WireElement) -> Result<(), ConnectionLost> {
        self.link.send(self.channel, element)
    }

    /// Why the credits ended.
    #[must_use]
    pub fn lost(&self) -> ConnectionLost {
        self.link.lost()
    }
}

/// The receiving half of a channel.
#[derive(Debug)]
pub struct RemoteReceiver {
    link: Arc<Link>,
    channel: ChannelId,
    elements: Receiver<Result<WireElement, ConnectionLost>>,
}

impl RemoteReceiver {
    pub(super) fn new(
        link: Arc<Link>,
        channel: ChannelId,
        elements: Receiver<Result<WireElement, ConnectionLost>>,
    ) -> Self {
        Self { link, channel, elements }
    }

    /// Which channel this is.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The elements in the order in which they were sent; an error is the last one.
    #[must_use]
    pub fn elements(&self) -> &Receiver<Result<WireElement, ConnectionLost>> {
        &self.elements
    }

    /// Gives the sender one credit back, after the element was consumed.
    ///
    /// Credits travel in groups of [`CREDITS_PER_FRAME`](crate::engine::credit::CREDITS_PER_FRAME).
    pub fn release(&self) {
        self.link.release(self.channel);
    }

    /// Lets the sender send one element more, if it has no credits left. None of it may be in the queue of
    /// [`elements`](Self::elements).
    pub fn lend(&self) {
        self.link.lend(self.channel);
    }
}
