//! `generate`: records that a function makes, at a given rate.

use tidemill_dataflow::pipe::FromSource;
use tidemill_dataflow::record::Data;
use tidemill_dataflow::runtime::source::{GeneratorSource, SequenceSource};

use super::{DataStream, SequenceRange};
use crate::environment::Environment;

impl Environment {
    /// A stream of what `function` makes of the numbers of `range`, as [`generate_sequence`](Self::generate_sequence)
    /// emits them: with a rate, so many records a second by all sub-tasks together.
    ///
    /// Each sub-task has a clone of the function.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let orders = env.generate(0..100, |number| (format!("order {number}"), number % 7), Some(10_000)).collect();
    /// assert_eq!(env.execute("orders")?.collected(&orders)?.len(), 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn generate<T: Data, F>(
        &self,
        range: impl Into<SequenceRange>,
        function: F,
        records_per_second: Option<u64>,
    ) -> DataStream<FromSource<GeneratorSource<F>>>
    where
        F: FnMut(u64) -> T + Clone + Send + Sync + 'static,
    {
        let SequenceRange { start, end } = range.into();
        let parameters = vec![format!("from {start} to {end:?} at {records_per_second:?}/s")];
        let numbers = SequenceSource::new(start, end, records_per_second);
        let stream =
            self.source("Source: generator", parameters, |operator| GeneratorSource::new(numbers, function, operator));
        if end.is_none() {
            self.build(|builder| builder.mark_unbounded(stream.operator));
        }
        stream
    }
}
