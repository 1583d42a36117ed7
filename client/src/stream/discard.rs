//! `discard`: counts records and forgets them.

use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::runtime::sink::DiscardSink;

use super::{DataSink, DataStream};

impl<P: Pipe> DataStream<P> {
    /// Forgets each record; for measurements, and for jobs that only count.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// env.from_collection(vec![1, 2]).discard();
    /// # env.execute("discard")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn discard(self) -> DataSink {
        self.end("Sink: discard", Vec::new(), |_| DiscardSink)
    }
}
