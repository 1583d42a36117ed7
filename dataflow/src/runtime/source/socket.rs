//! A source of the lines that a socket sends.

use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use tidemill_model::execution::{Failure, FailureKind};

use super::{LINE_BYTES_MAX, PlainReader, PlainSource, Reading};
use crate::flow::OperatorIndex;
use crate::push::{Push, Stopped};
use crate::record::NO_TIME;
use crate::runtime::task::TaskContext;

/// How much is read at a time.
const READ_BYTES: usize = 64 * 1024;

/// How long one attempt to connect may take: the task hears nothing meanwhile.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a silent socket is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What happens when nobody listens, or the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// How often it is tried again, one after the other; none: for ever.
    pub attempts: Option<u32>,
    /// How long to wait before.
    pub delay: Duration,
}

/// Emits the lines that `host:port` sends, in one sub-task.
#[derive(Debug, Clone)]
pub struct SocketTextSource {
    host: String,
    port: u16,
    reconnect: Reconnect,
    operator: OperatorIndex,
}

impl SocketTextSource {
    /// The source of the lines of `host:port`.
    #[must_use]
    pub fn new(host: String, port: u16, reconnect: Reconnect, operator: OperatorIndex) -> Self {
        Self { host, port, reconnect, operator }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nonblocking(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The connection of the sub-task that reads.
pub struct SocketReader {
    source: SocketTextSource,
    operator: Rc<str>,
    /// Whether another sub-task reads.
    spare: bool,
    stream: Option<TcpStream>,
    /// How often in a row it was tried to connect again.
    attempts: u32,
    /// What has come of a line.
    line: Vec<u8>,
    buffer: Vec<u8>,
}

impl PlainSource for SocketTextSource {
    type Out = String;
    type Reader = SocketReader;

    fn open(&self, context: &TaskContext, _position: Option<()>) -> Result<SocketReader, Failure> {
        Ok(SocketReader {
            source: self.clone(),
            operator: context.operator_name(self.operator),
            spare: context.subtask().0 > 0,
            stream: None,
            attempts: 0,
            line: Vec::new(),
            buffer: vec![0; READ_BYTES],
        })
    }
}

impl SocketReader {
    #[cold]
    fn fail(&self, kind: FailureKind, action: &str, reason: &str, context: &TaskContext) -> Stopped {
        let message = format!("{action} {}:{}: {reason}", self.source.host, self.source.port);
        context.fail(context.failure(kind, Some(&self.operator), message))
    }

    /// Connects again after a while, if that may be tried once more.
    fn retry(&mut self) -> Option<Reading> {
        self.stream = None;
        if self.source.reconnect.attempts.is_some_and(|attempts| self.attempts >= attempts) {
            return None;
        }
        self.attempts = self.attempts.saturating_add(1);
        Some(Reading::Wait(self.source.reconnect.delay))
    }

    /// The connection has ended: so has the stream, unless it comes back.
    fn end<N: Push<String>>(&mut self, next: &mut N, context: &TaskContext) -> Result<Reading, Stopped> {
        if !self.line.is_empty() {
            context.count_in(1);
            next.push(to_text(&std::mem::take(&mut self.line)), NO_TIME)?;
        }
        Ok(self.retry().unwrap_or(Reading::Ended))
    }

    /// Emits the lines that end within the first `length` bytes of the buffer, and keeps the rest.
    fn emit<N: Push<String>>(&mut self, length: usize, next: &mut N, context: &TaskContext) -> Result<(), Stopped> {
        for part in self.buffer[..length].split_inclusive(|byte| *byte == b'\n') {
            if self.line.len().saturating_add(part.len()) > usize::try_from(LINE_BYTES_MAX).unwrap_or(usize::MAX) {
                let reason = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                return Err(self.fail(FailureKind::InvalidInput, "read", &reason, context));
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                context.count_in(1);
                let text = to_text(&self.line);
                self.line.clear();
                next.push(text, NO_TIME)?;
            }
        }
        Ok(())
    }
}

/// A line without its end.
fn to_text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

impl PlainReader<String> for SocketReader {
    type Position = ();

    /// A socket cannot be read again: what was in flight at a failure is lost.
    fn position(&self) {}

    fn read<N: Push<String>>(&mut self, next: &mut N, context: &TaskContext) -> Result<Reading, Stopped> {
        if self.spare {
            return Ok(Reading::Ended);
        }
        let Some(stream) = &mut self.stream else {
            return match self.source.connect() {
                Ok(stream) => {
                    self.stream = Some(stream);
                    Ok(Reading::More)
                }
                Err(error) => {
                    self.retry().ok_or_else(|| self.fail(FailureKind::Io, "connect to", &error.to_string(), context))
                }
            };
        };
        match stream.read(&mut self.buffer) {
            Ok(0) => self.end(next, context),
            Ok(length) => {
                self.attempts = 0;
                self.emit(length, next, context)?;
                Ok(Reading::More)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Reading::Wait(POLL_INTERVAL)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Reading::More),
            Err(error) => match self.retry() {
                Some(reading) => Ok(reading),
                None => Err(self.fail(FailureKind::Io, "read", &error.to_string(), context)),
            },
        }
    }
}
