//! Length-prefixed protobuf messages on a byte stream: handshakes, and the executor's control socket.

use std::io::{self, Read, Write};

use prost::Message;

/// Why a message could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The stream failed or ended within a message.
    #[error("exchange message: {0}")]
    Io(#[from] io::Error),
    /// Longer than this stream allows.
    #[error("exchange message: {length} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Not the message that was expected.
    #[error("decode message: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// Reads one message; none when the stream ended before it.
pub(crate) fn read<M: Message + Default>(mut stream: impl Read, limit: usize) -> Result<Option<M>, Error> {
    let mut prefix = [0; 4];
    let filled = read_up_to(&mut stream, &mut prefix)?;
    if filled == 0 {
        return Ok(None);
    }
    if filled < prefix.len() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let length = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(Error::TooLarge { length, limit });
    }
    // Grows as the bytes come: the prefix alone must not make us allot what it claims.
    let mut bytes = Vec::new();
    let wanted = u64::try_from(length).expect("at most the limit");
    stream.take(wanted).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(M::decode(bytes::Bytes::from(bytes))?))
}

/// Writes one message.
pub(crate) fn write(mut stream: impl Write, message: &impl Message, limit: usize) -> Result<(), Error> {
    let length = message.encoded_len();
    let too_large = Error::TooLarge { length, limit };
    if length > limit {
        return Err(too_large);
    }
    let prefix = u32::try_from(length).map_err(|_| too_large)?;
    let mut bytes = Vec::with_capacity(4 + length);
    bytes.extend_from_slice(&prefix.to_le_bytes());
    message.encode(&mut bytes).expect("a vector has room");
    stream.write_all(&bytes)?;
    Ok(())
}

fn read_up_to(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_proto::pb::DataHandshakeAnswer;

    fn answer() -> DataHandshakeAnswer {
        DataHandshakeAnswer { answer: 3, reason: "superseded".into() }
    }

    #[test]
    fn a_message_comes_back_and_then_the_end() {
        let mut bytes = Vec::new();
        write(&mut bytes, &answer(), 100).expect("fits");
        let mut stream = &bytes[..];
        assert_eq!(read(&mut stream, 100).expect("whole"), Some(answer()));
        assert_eq!(read::<DataHandshakeAnswer>(&mut stream, 100).expect("between messages"), None);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let mut bytes = Vec::new();
        write(&mut bytes, &answer(), 100).expect("fits");
        for cut in 1..bytes.len() {
            assert!(matches!(read::<DataHandshakeAnswer>(&bytes[..cut], 100), Err(Error::Io(_))), "cut at {cut}");
        }
    }

    #[test]
    fn a_message_beyond_the_limit_is_refused_on_both_sides() {
        assert!(matches!(write(io::sink(), &answer(), 3), Err(Error::TooLarge { limit: 3, .. })));
        let claim = [0xff, 0xff, 0xff, 0xff];
        assert!(matches!(read::<DataHandshakeAnswer>(&claim[..], 100), Err(Error::TooLarge { limit: 100, .. })));
    }
}
