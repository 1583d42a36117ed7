//! `from_collection`: records that the program itself holds.

use tidemill_dataflow::pipe::FromSource;
use tidemill_dataflow::record::Data;
use tidemill_dataflow::runtime::source::CollectionSource;

use super::DataStream;
use crate::environment::Environment;

impl Environment {
    /// A stream of given records: sub-task p of P emits number p, p + P, p + 2P and so on.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.from_collection(vec![3, 1, 2]).collect();
    /// assert_eq!(env.execute("collection")?.collected(&numbers)?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_collection<T: Data>(&self, records: Vec<T>) -> DataStream<FromSource<CollectionSource<T>>> {
        let parameters = vec![format!("{} records", records.len())];
        self.source("Source: collection", parameters, |_| CollectionSource::new(records))
    }
}
