//! `filter`: only the records that satisfy a predicate.

use tidemill_dataflow::operator::Filter;
use tidemill_dataflow::pipe::Pipe;

use super::{DataStream, types};

impl<P: Pipe> DataStream<P> {
    /// Keeps the records for which `predicate` holds.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let even = env.generate_sequence(0..5, None).filter(|number| number % 2 == 0).collect();
    /// # let mut even = env.execute("filter")?.collected(&even)?;
    /// # even.sort();
    /// assert_eq!(even, [0, 2, 4]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn filter<F>(self, predicate: F) -> DataStream<Filter<P, F>>
    where
        F: FnMut(&P::Out) -> bool + Clone + Send + Sync + 'static,
    {
        self.then("Filter", types::<P::Out, P::Out>(), |pipe, operator| Filter::new(pipe, predicate, operator))
    }
}
