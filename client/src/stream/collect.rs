//! `collect`: hands records to the program that called `execute`.

use std::marker::PhantomData;

use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::runtime::sink::CollectSink;

use super::DataStream;

/// The handle of a `collect()`; [`JobExecutionResult::collected`](crate::JobExecutionResult::collected) has its records.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// # let env = tidemill::Environment::from_args()?;
/// let handle: tidemill::Collected<u64> = env.generate_sequence(0..3, None).collect();
/// assert_eq!(env.execute("collect")?.collected(&handle)?.len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Collected<T> {
    pub(crate) execute_index: u32,
    pub(crate) collect_index: u32,
    records: PhantomData<fn() -> T>,
}

impl<P: Pipe> DataStream<P> {
    /// Gathers the records for the program; at most 64 MiB of them, encoded, in each sub-task.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.generate_sequence(0..3, None).set_parallelism(1).collect();
    /// assert_eq!(env.execute("collect")?.collected(&numbers)?, [0, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn collect(self) -> Collected<P::Out> {
        let execute_index = self.environment.execute_index();
        let collect_index = self.environment.build(|builder| builder.next_collect_index());
        let parameters = vec![format!("collect {collect_index}")];
        self.end("Sink: collect", parameters, |operator| CollectSink::new(collect_index, operator));
        Collected { execute_index, collect_index, records: PhantomData }
    }
}
