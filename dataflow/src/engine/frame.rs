//! The frames of a data connection: what travels between two executors, and its bytes.
//!
//! ```text
//!  0       4  5  6    8    12   16   20       28    32
//!  | length | v | k | 0 | edge | from | to | sequence | crc | payload ...
//! ```
//! All integers are little-endian. `length` counts everything after itself; `crc` is the CRC-32 of all other bytes of
//! the frame, so a flipped bit anywhere is noticed.

#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use tidemill_model::id::SubtaskIndex;

/// The version of this format; a peer of another one is refused.
pub const VERSION: u8 = 1;

/// The bytes before the payload.
pub const HEADER_BYTES: usize = 32;

/// The most that one payload may have: a bound on what a peer can make this process hold for one frame.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024 * 1024;

/// What is allotted before a payload's bytes have come: a header alone must not make us allot what it claims.
const FIRST_ALLOTMENT_BYTES: usize = 64 * 1024;

/// The bytes of the `length` field, which do not count themselves.
const LENGTH_BYTES: usize = 4;

/// Where the checksum stands in the header.
const CHECKSUM_OFFSET: usize = HEADER_BYTES - 4;

/// One channel between two sub-tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// Which edge of the job graph, as an index into `JobGraph::edges`.
    pub edge: u32,
    /// The producing sub-task.
    pub from: SubtaskIndex,
    /// The consuming sub-task.
    pub to: SubtaskIndex,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}[{}->{}]", self.edge, self.from, self.to)
    }
}

/// What travels on a channel, encoded. Control goes between batches, in band.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireElement {
    /// Encoded records.
    Batch(Bytes),
    /// No later record has this event time (in milliseconds) or an earlier one.
    Watermark(i64),
    /// The border between the records before and after the checkpoint of this id.
    Barrier(u64),
    /// Nothing comes for an unknown time; others need not wait for this channel's watermark.
    Idle,
    /// Records come again.
    Active,
    /// Nothing follows on this channel.
    EndOfInput,
}

/// What travels on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The dialling side has read that it was accepted: the first frame, and the only one without a channel.
    Open,
    /// An element of a channel, from its producer to its consumer.
    Element {
        /// The channel.
        channel: ChannelId,
        /// Counts the channel's elements from 0.
        sequence: u64,
        /// What was sent.
        element: WireElement,
    },
    /// Credits of a channel, from its consumer to its producer.
    Credit {
        /// The channel.
        channel: ChannelId,
        /// Counts the channel's credit frames from 0.
        sequence: u64,
        /// How many elements more may be in flight.
        count: u32,
    },
}

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A length that leaves no room for the header.
    #[error("decode frame: length {length} is shorter than a header; the peer does not speak this protocol")]
    TooShort {
        /// The length.
        length: usize,
    },
    /// A length beyond the limit.
    #[error("decode frame: a payload of {length} bytes, at most {MAX_PAYLOAD_BYTES} are allowed")]
    TooLarge {
        /// The payload's length.
        length: usize,
    },
    /// Another version of the format.
    #[error("decode frame: version {found}, this executor speaks {VERSION}; run the same release everywhere")]
    Version {
        /// The peer's version.
        found: u8,
    },
    /// Damaged in transit, or never a frame.
    #[error("decode frame: checksum {computed:08x} differs from the frame's {found:08x}")]
    Checksum {
        /// What the bytes give.
        computed: u32,
        /// What the frame says.
        found: u32,
    },
    /// A kind that this version does not have.
    #[error("decode frame: unknown kind {found}")]
    Kind {
        /// The kind.
        found: u8,
    },
    /// Reserved bytes that are in use.
    #[error("decode frame: reserved bytes are {found:#06x}, not 0")]
    Reserved {
        /// The bytes.
        found: u16,
    },
    /// A payload that does not fit the kind.
    #[error("decode frame: kind {kind} with a payload of {length} bytes")]
    Payload {
        /// The kind.
        kind: u8,
        /// The payload's length.
        length: usize,
    },
    /// The stream ended within a frame.
    #[error("decode frame: the stream ended within a frame, {missing} bytes before its end")]
    Truncated {
        /// How many bytes are missing at least.
        missing: usize,
    },
}

/// A frame's kind on the wire. The numbers are the format: never give one a second meaning.
mod kind {
    pub(super) const OPEN: u8 = 1;
    pub(super) const BATCH: u8 = 2;
    pub(super) const WATERMARK: u8 = 3;
    pub(super) const BARRIER: u8 = 4;
    pub(super) const END_OF_INPUT: u8 = 5;
    pub(super) const CREDIT: u8 = 6;
    pub(super) const IDLE: u8 = 7;
    pub(super) const ACTIVE: u8 = 8;
}

impl Frame {
    /// The frame's bytes: its header and its payload (shared with the batch, not copied).
    ///
    /// # Errors
    /// [`Error::TooLarge`], when the payload is beyond the limit.
    pub fn encode(&self) -> Result<([u8; HEADER_BYTES], Bytes), Error> {
        const NO_CHANNEL: ChannelId = ChannelId { edge: 0, from: SubtaskIndex(0), to: SubtaskIndex(0) };
        let (kind, channel, sequence, payload) = match self {
            Self::Open => (kind::OPEN, &NO_CHANNEL, 0, Bytes::new()),
            Self::Element { channel, sequence, element } => {
                let (kind, payload) = match element {
                    WireElement::Batch(records) => (kind::BATCH, records.clone()),
                    WireElement::Watermark(time) => (kind::WATERMARK, Bytes::copy_from_slice(&time.to_le_bytes())),
                    WireElement::Barrier(id) => (kind::BARRIER, Bytes::copy_from_slice(&id.to_le_bytes())),
                    WireElement::Idle => (kind::IDLE, Bytes::new()),
                    WireElement::Active => (kind::ACTIVE, Bytes::new()),
                    WireElement::EndOfInput => (kind::END_OF_INPUT, Bytes::new()),
                };
                (kind, channel, *sequence, payload)
            }
            Self::Credit { channel, sequence, count } => {
                (kind::CREDIT, channel, *sequence, Bytes::copy_from_slice(&count.to_le_bytes()))
            }
        };
        Ok((Header { kind, channel: *channel, sequence }.encode(&payload)?, payload))
    }
}

/// Puts frames together from a stream's bytes, however they are cut.
#[derive(Debug)]
pub struct FrameDecoder {
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    payload: Vec<u8>,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self { header: [0; HEADER_BYTES], header_filled: 0, payload: Vec::new() }
    }
}

impl FrameDecoder {
    /// Takes bytes from the front of `input` until a frame is complete (then there may be more) or `input` is empty.
    ///
    /// # Errors
    /// The bytes are no frame; the stream cannot be used any further.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Error> {
        if self.header_filled < HEADER_BYTES {
            let taken = take(input, HEADER_BYTES - self.header_filled);
            self.header[self.header_filled..self.header_filled + taken.len()].copy_from_slice(taken);
            self.header_filled += taken.len();
            if self.header_filled < HEADER_BYTES {
                return Ok(None);
            }
            let length = self.payload_length()?;
            self.payload.reserve(length.min(FIRST_ALLOTMENT_BYTES));
        }
        let length = self.payload_length()?;
        self.payload.extend_from_slice(take(input, length - self.payload.len()));
        if self.payload.len() < length {
            return Ok(None);
        }
        self.header_filled = 0;
        let payload = std::mem::take(&mut self.payload);
        self.frame(payload).map(Some)
    }

    /// Checks that the stream, which has ended, did so between two frames.
    ///
    /// # Errors
    /// [`Error::Truncated`], when it did not.
    pub fn finish(&self) -> Result<(), Error> {
        let missing = match self.header_filled {
            0 => return Ok(()),
            HEADER_BYTES => self.payload_length()?.saturating_sub(self.payload.len()),
            filled => HEADER_BYTES - filled,
        };
        Err(Error::Truncated { missing })
    }

    /// The length of the payload that a complete header announces.
    fn payload_length(&self) -> Result<usize, Error> {
        let length = usize::try_from(u32::from_le_bytes(field(&self.header, 0))).unwrap_or(usize::MAX);
        let payload = length.checked_sub(HEADER_BYTES - LENGTH_BYTES).ok_or(Error::TooShort { length })?;
        if payload > MAX_PAYLOAD_BYTES {
            return Err(Error::TooLarge { length: payload });
        }
        match self.header[4] {
            VERSION => Ok(payload),
            found => Err(Error::Version { found }),
        }
    }

    fn frame(&self, payload: Vec<u8>) -> Result<Frame, Error> {
        let header = &self.header;
        let found = u32::from_le_bytes(field(header, CHECKSUM_OFFSET));
        let computed = checksum(header, &payload);
        if computed != found {
            return Err(Error::Checksum { computed, found });
        }
        let reserved = u16::from_le_bytes(field(header, 6));
        if reserved != 0 {
            return Err(Error::Reserved { found: reserved });
        }
        let channel = ChannelId {
            edge: u32::from_le_bytes(field(header, 8)),
            from: SubtaskIndex(u32::from_le_bytes(field(header, 12))),
            to: SubtaskIndex(u32::from_le_bytes(field(header, 16))),
        };
        let sequence = u64::from_le_bytes(field(header, 20));
        let kind = header[5];
        let element = match kind {
            kind::OPEN => {
                let [] = fixed(kind, &payload)?;
                return Ok(Frame::Open);
            }
            kind::CREDIT => {
                let count = u32::from_le_bytes(fixed(kind, &payload)?);
                return Ok(Frame::Credit { channel, sequence, count });
            }
            kind::BATCH => WireElement::Batch(payload.into()),
            kind::WATERMARK => WireElement::Watermark(i64::from_le_bytes(fixed(kind, &payload)?)),
            kind::BARRIER => WireElement::Barrier(u64::from_le_bytes(fixed(kind, &payload)?)),
            kind::IDLE | kind::ACTIVE | kind::END_OF_INPUT => {
                let [] = fixed(kind, &payload)?;
                match kind {
                    kind::IDLE => WireElement::Idle,
                    kind::ACTIVE => WireElement::Active,
                    _ => WireElement::EndOfInput,
                }
            }
            found => return Err(Error::Kind { found }),
        };
        Ok(Frame::Element { channel, sequence, element })
    }
}

struct Header {
    kind: u8,
    channel: ChannelId,
    sequence: u64,
}

impl Header {
    fn encode(&self, payload: &[u8]) -> Result<[u8; HEADER_BYTES], Error> {
        let too_large = Error::TooLarge { length: payload.len() };
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(too_large);
        }
        let length = u32::try_from(HEADER_BYTES - LENGTH_BYTES + payload.len()).map_err(|_| too_large)?;
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4] = VERSION;
        header[5] = self.kind;
        header[8..12].copy_from_slice(&self.channel.edge.to_le_bytes());
        header[12..16].copy_from_slice(&self.channel.from.0.to_le_bytes());
        header[16..20].copy_from_slice(&self.channel.to.0.to_le_bytes());
        header[20..28].copy_from_slice(&self.sequence.to_le_bytes());
        let checksum = checksum(&header, payload);
        header[CHECKSUM_OFFSET..].copy_from_slice(&checksum.to_le_bytes());
        Ok(header)
    }
}

fn checksum(header: &[u8; HEADER_BYTES], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..CHECKSUM_OFFSET]);
    hasher.update(payload);
    hasher.finalize()
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], offset: usize) -> [u8; N] {
    std::array::from_fn(|index| header[offset + index])
}

fn fixed<const N: usize>(kind: u8, payload: &[u8]) -> Result<[u8; N], Error> {
    payload.try_into().map_err(|_| Error::Payload { kind, length: payload.len() })
}

fn take<'a>(input: &mut &'a [u8], at_most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(at_most.min(input.len()));
    *input = rest;
    taken
}
