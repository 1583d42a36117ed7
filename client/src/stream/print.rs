//! `print`: records on the standard output.

use std::fmt::Debug;

use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::runtime::sink::PrintSink;

use super::{DataSink, DataStream};

impl<P: Pipe> DataStream<P> {
    /// Prints each record's `Debug` form on a line, behind `i> ` (the sub-task, from 1) when there are several.
    ///
    /// On a cluster it goes to the executors' logs.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// env.from_collection(vec![1, 2]).print();
    /// # env.execute("print")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn print(self) -> DataSink
    where
        P::Out: Debug,
    {
        self.end("Sink: print", Vec::new(), PrintSink::new)
    }
}
