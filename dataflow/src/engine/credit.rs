//! Credits and sequence numbers: how much of a channel may be in flight, and whether all of it arrived.
//!
//! The consumer grants credits, the producer spends one per element. A channel whose consumer is slow therefore stops
//! its own producer, and nothing of it stands in the way of other channels on the same connection.

use super::frame::ChannelId;

/// How many elements of one channel may be in flight.
///
/// Eight batches of about 32 KiB keep a path of 10 Gbit/s and 0.2 ms busy; for an exchange of 16 by 16 sub-tasks they
/// hold at most 64 MiB.
pub const CREDITS_PER_CHANNEL: u32 = 8;

/// How many credits the consumer collects before it sends them back: each costs the connection's writer a wake-up.
///
/// Less than [`CREDITS_PER_CHANNEL`], so a producer without credits always has some coming.
pub const CREDITS_PER_FRAME: u32 = CREDITS_PER_CHANNEL / 2;

/// What a side of a channel did that the protocol does not allow. Each ends the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A frame is missing or came twice.
    #[error("check channel {channel}: sequence number {found} follows, expected {expected}")]
    Sequence {
        /// The channel.
        channel: ChannelId,
        /// What had to follow.
        expected: u64,
        /// What did.
        found: u64,
    },
    /// An element without a credit.
    #[error("check channel {channel}: an element was sent without a credit")]
    WithoutCredit {
        /// The channel.
        channel: ChannelId,
    },
    /// Credits for elements that were never sent.
    #[error("check channel {channel}: {count} credits came back, of which some were never spent")]
    NeverSpent {
        /// The channel.
        channel: ChannelId,
        /// How many came.
        count: u32,
    },
    /// An element after the end of input.
    #[error("check channel {channel}: an element follows the end of input")]
    AfterEnd {
        /// The channel.
        channel: ChannelId,
    },
}

/// The producer's account of a channel.
#[derive(Debug)]
pub struct OutboundAccount {
    channel: ChannelId,
    /// Invariant: at most `granted`.
    sent: u64,
    /// Invariant: at most `CREDITS_PER_CHANNEL` above `sent`.
    granted: u64,
    credit_frames: u64,
    ended: bool,
}

impl OutboundAccount {
    /// An account with the first credits.
    #[must_use]
    pub fn new(channel: ChannelId) -> Self {
        Self { channel, sent: 0, granted: u64::from(CREDITS_PER_CHANNEL), credit_frames: 0, ended: false }
    }

    /// Spends a credit; the result is the element's sequence number.
    ///
    /// # Errors
    /// There is no credit, or the channel has ended.
    pub fn send(&mut self, ends: bool) -> Result<u64, Error> {
        let channel = self.channel;
        if self.ended {
            return Err(Error::AfterEnd { channel });
        }
        if self.sent == self.granted {
            return Err(Error::WithoutCredit { channel });
        }
        self.ended = ends;
        self.sent += 1;
        Ok(self.sent - 1)
    }

    /// Books credits that came back.
    ///
    /// # Errors
    /// A credit frame is missing, or the credits are more than were spent.
    pub fn grant(&mut self, sequence: u64, count: u32) -> Result<(), Error> {
        let channel = self.channel;
        check_sequence(channel, self.credit_frames, sequence)?;
        let granted = self.granted + u64::from(count);
        if granted > self.sent + u64::from(CREDITS_PER_CHANNEL) {
            return Err(Error::NeverSpent { channel, count });
        }
        self.credit_frames += 1;
        self.granted = granted;
        Ok(())
    }
}

/// The consumer's account of a channel.
#[derive(Debug)]
pub struct InboundAccount {
    channel: ChannelId,
    /// Invariant: at most `CREDITS_PER_CHANNEL` above `returned`.
    received: u64,
    /// Invariant: at most `received`.
    released: u64,
    /// Invariant: at most `received`; above `released` by what was lent.
    returned: u64,
    credit_frames: u64,
    ended: bool,
}

impl InboundAccount {
    /// An account of a channel on which nothing has come yet.
    #[must_use]
    pub fn new(channel: ChannelId) -> Self {
        Self { channel, received: 0, released: 0, returned: 0, credit_frames: 0, ended: false }
    }

    /// Whether the end of input has come.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Books an element.
    ///
    /// # Errors
    /// One before it is missing, the producer had no credit for it, or the channel had ended.
    pub fn receive(&mut self, sequence: u64, ends: bool) -> Result<(), Error> {
        let channel = self.channel;
        check_sequence(channel, self.received, sequence)?;
        if self.ended {
            return Err(Error::AfterEnd { channel });
        }
        if self.received - self.returned >= u64::from(CREDITS_PER_CHANNEL) {
            return Err(Error::WithoutCredit { channel });
        }
        self.received += 1;
        self.ended = ends;
        Ok(())
    }

    /// Books that an element was consumed; some if credits are to be sent back now: their frame's sequence number, and
    /// how many they are. A release without an element counts for nothing, and an ended channel needs no credits.
    pub fn release(&mut self) -> Option<(u64, u32)> {
        if self.released == self.received {
            return None;
        }
        self.released += 1;
        if self.ended || self.released < self.returned + u64::from(CREDITS_PER_FRAME) {
            return None;
        }
        self.returned = self.released;
        self.credit_frames += 1;
        Some((self.credit_frames - 1, CREDITS_PER_FRAME))
    }

    /// Lends the producer a credit if it has none left, though nothing was consumed: so that a barrier comes that others
    /// wait for. It is worked off by what is consumed next. The result is that of [`release`](Self::release).
    pub fn lend(&mut self) -> Option<(u64, u32)> {
        if self.ended || self.received < self.returned + u64::from(CREDITS_PER_CHANNEL) {
            return None;
        }
        self.returned += 1;
        self.credit_frames += 1;
        Some((self.credit_frames - 1, 1))
    }
}

fn check_sequence(channel: ChannelId, expected: u64, found: u64) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Sequence { channel, expected, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_model::id::SubtaskIndex;

    const CHANNEL: ChannelId = ChannelId { edge: 0, from: SubtaskIndex(0), to: SubtaskIndex(1) };

    #[test]
    fn a_producer_stops_after_its_credits_and_goes_on_with_the_next_ones() {
        let mut producer = OutboundAccount::new(CHANNEL);
        let mut consumer = InboundAccount::new(CHANNEL);
        for sequence in 0..8 {
            assert_eq!(producer.send(false), Ok(sequence));
            assert_eq!(consumer.receive(sequence, false), Ok(()));
        }
        assert_eq!(producer.send(false), Err(Error::WithoutCredit { channel: CHANNEL }));
        assert_eq!(consumer.receive(8, false), Err(Error::WithoutCredit { channel: CHANNEL }));
        assert_eq!([(); 4].map(|()| consumer.release()), [None, None, None, Some((0, 4))]);
        assert_eq!(producer.grant(0, 4), Ok(()));
        for sequence in 8..12 {
            assert_eq!(producer.send(false), Ok(sequence));
            assert_eq!(consumer.receive(sequence, false), Ok(()));
        }
        assert_eq!(producer.send(false), Err(Error::WithoutCredit { channel: CHANNEL }));
    }

    #[test]
    fn a_gap_and_a_repetition_are_noticed() {
        let mut consumer = InboundAccount::new(CHANNEL);
        assert_eq!(consumer.receive(1, false), Err(Error::Sequence { channel: CHANNEL, expected: 0, found: 1 }));
        assert_eq!(consumer.receive(0, false), Ok(()));
        assert_eq!(consumer.receive(0, false), Err(Error::Sequence { channel: CHANNEL, expected: 1, found: 0 }));
        let mut producer = OutboundAccount::new(CHANNEL);
        assert_eq!(producer.grant(1, 1), Err(Error::Sequence { channel: CHANNEL, expected: 0, found: 1 }));
    }

    #[test]
    fn credits_that_were_never_spent_are_refused() {
        let mut producer = OutboundAccount::new(CHANNEL);
        assert_eq!(producer.grant(0, 1), Err(Error::NeverSpent { channel: CHANNEL, count: 1 }));
        assert_eq!(producer.send(false), Ok(0));
        assert_eq!(producer.grant(0, u32::MAX), Err(Error::NeverSpent { channel: CHANNEL, count: u32::MAX }));
        assert_eq!(producer.grant(0, 1), Ok(()));
    }

    #[test]
    fn nothing_follows_the_end_of_input() {
        let mut producer = OutboundAccount::new(CHANNEL);
        let mut consumer = InboundAccount::new(CHANNEL);
        assert_eq!(producer.send(true), Ok(0));
        assert_eq!(producer.send(false), Err(Error::AfterEnd { channel: CHANNEL }));
        assert_eq!(consumer.receive(0, true), Ok(()));
        assert_eq!(consumer.receive(1, false), Err(Error::AfterEnd { channel: CHANNEL }));
        assert_eq!((consumer.ended(), consumer.release()), (true, None));
    }

    #[test]
    fn a_credit_is_lent_to_a_producer_that_has_none_and_worked_off() {
        let mut producer = OutboundAccount::new(CHANNEL);
        let mut consumer = InboundAccount::new(CHANNEL);
        for sequence in 0..8 {
            assert_eq!(consumer.lend(), None);
            assert_eq!(producer.send(false), Ok(sequence));
            assert_eq!(consumer.receive(sequence, false), Ok(()));
        }
        for lent in 0..6 {
            assert_eq!((consumer.lend(), consumer.lend()), (Some((lent, 1)), None));
            assert_eq!(producer.grant(lent, 1), Ok(()));
            assert_eq!(producer.send(false), Ok(8 + lent));
            assert_eq!(consumer.receive(8 + lent, false), Ok(()));
        }
        // Fourteen wait: six are consumed for those that were lent, the others give credits as ever.
        let returned: Vec<usize> = (1..=14).filter(|_| consumer.release().is_some()).collect();
        assert_eq!(returned, [10, 14]);
        assert_eq!((producer.grant(6, 4), producer.grant(7, 4)), (Ok(()), Ok(())));
        assert_eq!(producer.grant(8, 1), Err(Error::NeverSpent { channel: CHANNEL, count: 1 }));
        for sequence in 14..22 {
            assert_eq!(producer.send(false), Ok(sequence));
            assert_eq!(consumer.receive(sequence, false), Ok(()));
        }
        assert_eq!(consumer.receive(22, false), Err(Error::WithoutCredit { channel: CHANNEL }));
    }

    #[test]
    fn a_release_without_an_element_gives_no_credit() {
        let mut consumer = InboundAccount::new(CHANNEL);
        assert_eq!([(); 8].map(|()| consumer.release()), [None; 8]);
    }
}
