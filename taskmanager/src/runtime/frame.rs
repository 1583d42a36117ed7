//! Length-prefixed messages on local sockets and data connections: a `u32`, little-endian, then the bytes.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The largest frame between an agent and an executor: what one `collect()` sub-task may gather.
pub(crate) const CONTROL_LIMIT: usize = 128 << 20;

/// The largest handshake on the data port: some ids.
pub(crate) const HANDSHAKE_LIMIT: usize = 4 << 10;

/// The bytes of one frame.
pub(crate) fn encode(message: &impl Message) -> io::Result<Bytes> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length).ok().filter(|_| length <= CONTROL_LIMIT);
    let Some(prefix) = prefix else {
        let text = format!("encode frame: {length} bytes, at most {CONTROL_LIMIT} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    };
    let mut bytes = BytesMut::with_capacity(4 + length);
    bytes.put_u32_le(prefix);
    message.encode(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.freeze())
}

/// Reads one frame and not a byte more; none at a clean end.
///
/// # Cancel safety
///
/// None: a cancelled read loses its place.
pub(crate) async fn read<M: Message + Default>(
    reader: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> io::Result<Option<M>> {
    let mut prefix = [0; 4];
    if reader.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut prefix[1..]).await?;
    let length = usize::try_from(u32::from_le_bytes(prefix)).map_err(io::Error::other)?;
    if length > limit {
        let text = format!("read frame: {length} bytes, at most {limit} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    // Grows with what arrives, so that a false length alone costs nothing.
    let mut body = Vec::new();
    let limit = u64::try_from(length).map_err(io::Error::other)?;
    reader.take(limit).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    M::decode(Bytes::from(body)).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_proto::pb;

    #[tokio::test]
    async fn frames_follow_one_another_and_end_cleanly() {
        let message = pb::BlobId { id: Bytes::from_static(b"abc") };
        let bytes = [encode(&message).expect("small"), encode(&message).expect("small")].concat();
        let mut reader = &bytes[..];
        for _ in 0..2 {
            assert_eq!(read(&mut reader, HANDSHAKE_LIMIT).await.expect("a frame"), Some(message.clone()));
        }
        assert_eq!(read::<pb::BlobId>(&mut reader, HANDSHAKE_LIMIT).await.expect("the end"), None);
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_cut_or_garbled_is_an_error() {
        for bytes in [&[0xff, 0xff, 0xff, 0x7f, 1][..], &[4, 0, 0, 0, 1], &[2, 0], &[2, 0, 0, 0, 0xff, 0xff]] {
            let mut reader = bytes;
            read::<pb::BlobId>(&mut reader, HANDSHAKE_LIMIT).await.expect_err("no frame");
        }
    }
}
