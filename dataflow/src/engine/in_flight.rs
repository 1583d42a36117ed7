//! What was in flight on the channels of an edge when a snapshot was taken, in the frames that travel between executors.
//!
//! Restored, it comes before anything new, in order, on the channels that it was on. Only records and watermarks are
//! kept: idleness and the end of input are said again by a producer that starts anew.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::frame::{self, ChannelId, Frame, FrameDecoder, WireElement};

/// Why bytes are not what was in flight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They are no frames, or an element is too large for one.
    #[error(transparent)]
    Frame(#[from] frame::Error),
    /// An element is missing, or came twice.
    #[error("read what was in flight on channel {channel}: element {found} follows, expected {expected}")]
    Sequence {
        /// The channel.
        channel: ChannelId,
        /// What had to follow.
        expected: u64,
        /// What did.
        found: u64,
    },
    /// Something that is never kept.
    #[error("read what was in flight: there is a frame that holds neither records nor a watermark")]
    Unexpected,
}

/// What was in flight on the channels of one edge.
#[derive(Debug, Default)]
pub struct InFlight {
    bytes: Vec<u8>,
    next: BTreeMap<ChannelId, u64>,
}

impl InFlight {
    /// Adds what comes next on a channel.
    ///
    /// # Errors
    /// It is too large for a frame.
    pub fn push(&mut self, channel: ChannelId, element: WireElement) -> Result<(), Error> {
        let next = self.next.entry(channel).or_default();
        let (header, payload) = Frame::Element { channel, sequence: *next, element }.encode()?;
        *next += 1;
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(&payload);
        Ok(())
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Its durable form.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    /// The elements of [`into_bytes`](Self::into_bytes), with their channels, in the order of each channel.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Vec<(ChannelId, WireElement)>, Error> {
        let (mut decoder, mut input) = (FrameDecoder::default(), bytes);
        let (mut elements, mut next) = (Vec::new(), BTreeMap::<ChannelId, u64>::new());
        while let Some(frame) = decoder.decode(&mut input)? {
            let Frame::Element { channel, sequence, element } = frame else { return Err(Error::Unexpected) };
            match element {
                WireElement::Batch(_) | WireElement::Watermark(_) => {}
                WireElement::Barrier(_) | WireElement::Idle | WireElement::Active | WireElement::EndOfInput => {
                    return Err(Error::Unexpected);
                }
            }
            let expected = next.entry(channel).or_default();
            if sequence != *expected {
                return Err(Error::Sequence { channel, expected: *expected, found: sequence });
            }
            *expected += 1;
            elements.push((channel, element));
        }
        decoder.finish()?;
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_model::id::SubtaskIndex;

    fn channel(from: u32) -> ChannelId {
        ChannelId { edge: 3, from: SubtaskIndex(from), to: SubtaskIndex(1) }
    }

    fn batch(text: &'static str) -> WireElement {
        WireElement::Batch(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn what_was_in_flight_comes_back_in_order() {
        let elements = [
            (channel(0), batch("a")),
            (channel(1), batch("")),
            (channel(0), WireElement::Watermark(-7)),
            (channel(0), batch("b")),
        ];
        let mut in_flight = InFlight::default();
        for (channel, element) in elements.clone() {
            in_flight.push(channel, element).unwrap();
        }
        assert_eq!(InFlight::decode(&in_flight.into_bytes()).unwrap(), elements);
        assert_eq!(InFlight::decode(&[]).unwrap(), []);
    }

    #[test]
    fn what_is_damaged_or_incomplete_is_refused() {
        let mut in_flight = InFlight::default();
        in_flight.push(channel(0), batch("a")).unwrap();
        let first = in_flight.len();
        in_flight.push(channel(0), batch("bc")).unwrap();
        let bytes = in_flight.into_bytes();
        for length in (1..bytes.len()).filter(|length| *length != first) {
            let error = InFlight::decode(&bytes[..length]).unwrap_err();
            assert!(matches!(error, Error::Frame(frame::Error::Truncated { .. })), "{error}");
        }
        let missing = Error::Sequence { channel: channel(0), expected: 0, found: 1 };
        assert_eq!(InFlight::decode(&bytes[first..]), Err(missing));
        let mut flipped = bytes.to_vec();
        flipped[first - 1] ^= 1;
        assert!(matches!(InFlight::decode(&flipped), Err(Error::Frame(frame::Error::Checksum { .. }))));
    }

    #[test]
    fn only_records_and_watermarks_are_kept() {
        let mut in_flight = InFlight::default();
        in_flight.push(channel(0), WireElement::EndOfInput).unwrap();
        assert_eq!(InFlight::decode(&in_flight.into_bytes()), Err(Error::Unexpected));
    }
}
