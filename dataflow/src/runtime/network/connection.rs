//! The two loops of a connection: bytes to frames, and frames to bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;

use bytes::Bytes;

use super::link::{self, Link};
use crate::engine::frame::{self, Frame, FrameDecoder, HEADER_BYTES};

/// How much is read at once; a batch has about 32 KiB.
const READ_BYTES: usize = 128 * 1024;

/// How many frames go into one system call; each takes two slices, of which the kernel allows 1,024.
const FRAMES_PER_WRITE: usize = 64;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// It could not be read.
    #[error("read from the data connection: {0}")]
    Read(#[source] io::Error),
    /// It could not be written.
    #[error("write to the data connection: {0}")]
    Write(#[source] io::Error),
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] frame::Error),
    /// What came is a frame that the peer must not send.
    #[error(transparent)]
    Link(#[from] link::Error),
}

/// Reads frames until the connection ends, or `take` refuses one. The result says why.
pub(super) fn read_frames(mut stream: &TcpStream, mut take: impl FnMut(Frame) -> Result<(), Error>) -> Error {
    let mut decoder = FrameDecoder::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let mut input = match stream.read(&mut buffer) {
            Ok(0) => return decoder.finish().map_or_else(Error::from, |()| Error::Closed),
            Ok(length) => &buffer[..length],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Error::Read(error),
        };
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => match take(frame) {
                    Ok(()) => {}
                    Err(error) => return error,
                },
                Ok(None) => break,
                Err(error) => return error.into(),
            }
        }
    }
}

/// Writes what the link has to say until it is lost.
pub(super) fn write_frames(stream: &TcpStream, link: &Link) -> Result<(), Error> {
    while let Some(mut frames) = link.next_frames() {
        while !frames.is_empty() {
            write_some(stream, &mut frames)?;
        }
    }
    Ok(())
}

fn write_some(stream: &TcpStream, frames: &mut VecDeque<Frame>) -> Result<(), Error> {
    let count = frames.len().min(FRAMES_PER_WRITE);
    let encoded = frames.drain(..count).map(|frame| frame.encode()).collect::<Result<Vec<_>, _>>()?;
    write_all(stream, &encoded).map_err(Error::Write)
}

fn write_all(mut stream: &TcpStream, encoded: &[([u8; HEADER_BYTES], Bytes)]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> =
        encoded.iter().flat_map(|(header, payload)| [IoSlice::new(header), IoSlice::new(payload)]).collect();
    let mut rest = &mut slices[..];
    // Drops leading empty slices, so that a write of nothing never looks like a closed connection.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match stream.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
