//! `map`: one record out for each record in.

use tidemill_dataflow::operator::Map;
use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::record::Data;

use super::{DataStream, types};

impl<P: Pipe> DataStream<P> {
    /// Makes one record of each record.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let doubled = env.from_collection(vec![1, 2]).map(|number| number * 2).collect();
    /// # let mut doubled = env.execute("map")?.collected(&doubled)?;
    /// # doubled.sort();
    /// assert_eq!(doubled, [2, 4]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<U, F>(self, function: F) -> DataStream<Map<P, F>>
    where
        U: Data,
        F: FnMut(P::Out) -> U + Clone + Send + Sync + 'static,
    {
        self.then("Map", types::<P::Out, U>(), |pipe, operator| Map::new(pipe, function, operator))
    }
}
