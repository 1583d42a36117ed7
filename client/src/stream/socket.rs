//! `socket_text_stream`: the lines that a socket sends.

use std::time::Duration;

use tidemill_dataflow::pipe::FromSource;
use tidemill_dataflow::runtime::source::{Reconnect, SocketTextSource};

use super::DataStream;
use crate::environment::Environment;

/// What a socket source does when nobody listens, or the connection ends.
///
/// ```
/// use std::time::Duration;
///
/// let never = tidemill::SocketOptions::default();
/// let always = tidemill::SocketOptions::default().reconnect(None, Duration::from_millis(500));
/// assert_ne!(never, always);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    reconnect: Reconnect,
}

impl Default for SocketOptions {
    /// It does not connect again.
    fn default() -> Self {
        Self { reconnect: Reconnect { attempts: Some(0), delay: Duration::ZERO } }
    }
}

impl SocketOptions {
    /// Connects again, after `delay` each time, at most so many times in a row without having read anything (none:
    /// for ever). What was sent meanwhile is lost.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let options = tidemill::SocketOptions::default().reconnect(Some(10), Duration::from_millis(500));
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn reconnect(mut self, attempts: Option<u32>, delay: Duration) -> Self {
        self.reconnect = Reconnect { attempts, delay };
        self
    }
}

impl Environment {
    /// A stream of the lines that a TCP server at `host:port` sends, read by one sub-task, until it closes the
    /// connection. It counts as endless, so the job runs in streaming mode.
    ///
    /// A socket cannot be read twice: after a failure, what was sent before is lost. Connecting to an address may take
    /// up to a second, during which the job cannot be cancelled.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let env = tidemill::Environment::from_args()?;
    /// use std::io::Write;
    ///
    /// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let port = server.local_addr()?.port();
    /// let sender = std::thread::spawn(move || server.accept()?.0.write_all(b"one\ntwo\n"));
    /// let lines = env.socket_text_stream("127.0.0.1", port).collect();
    /// assert_eq!(env.execute("socket")?.collected(&lines)?, ["one", "two"]);
    /// # sender.join().expect("no panic")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn socket_text_stream(&self, host: &str, port: u16) -> DataStream<FromSource<SocketTextSource>> {
        self.socket_text_stream_with(host, port, SocketOptions::default())
    }

    /// Like [`socket_text_stream`](Self::socket_text_stream), connecting again when the connection ends.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let env = tidemill::Environment::with_arguments(["-D", "restart-strategy.type=none"])?;
    /// use std::io::Write;
    /// use std::time::Duration;
    ///
    /// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let port = server.local_addr()?.port();
    /// let sender = std::thread::spawn(move || {
    ///     (0..2).try_for_each(|number| writeln!(server.accept()?.0, "connection {number}"))
    /// });
    /// let options = tidemill::SocketOptions::default().reconnect(Some(1), Duration::from_millis(10));
    /// let lines = env.socket_text_stream_with("127.0.0.1", port, options).map(|line| line.len()).discard();
    /// # let result = env.execute("socket");
    /// # sender.join().expect("no panic")?;
    /// # assert!(result.is_err(), "in the end nobody listens");
    /// # Ok(())
    /// # }
    /// ```
    pub fn socket_text_stream_with(
        &self,
        host: &str,
        port: u16,
        options: SocketOptions,
    ) -> DataStream<FromSource<SocketTextSource>> {
        let parameters = vec![format!("{host}:{port}, {:?}", options.reconnect)];
        let host = host.to_owned();
        let stream = self.source("Source: socket", parameters, |operator| {
            SocketTextSource::new(host, port, options.reconnect, operator)
        });
        self.build(|builder| builder.mark_unbounded(stream.operator));
        stream.set_parallelism(1)
    }
}
