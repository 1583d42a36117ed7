//! `sink_to` and `for_each`: records leave through the user's own code.

use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::runtime::sink::{FunctionSink, SinkFunction, UserError};

use super::{DataSink, DataStream};

impl<P: Pipe> DataStream<P> {
    /// Gives each record to a sink of the user's.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// #[derive(Clone)]
    /// struct Total {
    ///     sum: i64,
    ///     total: tidemill::Counter,
    /// }
    ///
    /// impl tidemill::SinkFunction<u64> for Total {
    ///     fn write(&mut self, number: u64, _time: i64) -> Result<(), tidemill::UserError> {
    ///         self.sum += i64::try_from(number)?;
    ///         Ok(())
    ///     }
    ///
    ///     fn finish(&mut self) -> Result<(), tidemill::UserError> {
    ///         self.total.add(self.sum);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// env.generate_sequence(0..10, None).sink_to(Total { sum: 0, total: env.counter("total") });
    /// assert_eq!(env.execute("total")?.counter("total"), Some(45));
    /// # Ok(())
    /// # }
    /// ```
    pub fn sink_to<F: SinkFunction<P::Out>>(self, function: F) -> DataSink {
        let parameters = vec![format!("sink {}", std::any::type_name::<F>())];
        self.end("Sink: function", parameters, |operator| FunctionSink::new(function, operator))
    }

    /// Calls a function for each record.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let seen = env.counter("seen");
    /// env.generate_sequence(0..10, None).for_each(move |_| seen.add(1));
    /// assert_eq!(env.execute("seen")?.counter("seen"), Some(10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn for_each<F: FnMut(P::Out) + Clone + Send + Sync + 'static>(self, function: F) -> DataSink {
        self.sink_to(ForEach(function))
    }
}

#[derive(Clone)]
struct ForEach<F>(F);

impl<T, F: FnMut(T) + Clone + Send + Sync + 'static> SinkFunction<T> for ForEach<F> {
    #[inline(always)]
    fn write(&mut self, record: T, _time: i64) -> Result<(), UserError> {
        (self.0)(record);
        Ok(())
    }
}
