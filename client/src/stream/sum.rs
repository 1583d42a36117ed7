//! `sum`: a running sum per key.

use std::ops::AddAssign;

use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::pipe::Pipe;

use super::{DataStream, KeyedStream};

impl<P: Pipe, S: KeySelector<P::Out>> KeyedStream<P, S> {
    /// Sums one field of each key's records; the other fields are those of the key's first record.
    ///
    /// In batch mode each key has one result, at the end of input; in streaming mode each record causes an update.
    /// A sum that overflows its type panics, and so fails the job, where the program checks for overflow.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let sales = env.from_collection(vec![("apple".to_owned(), 3), ("pear".to_owned(), 1), ("apple".to_owned(), 2)]);
    /// let totals = sales.key_by(|sale| sale.0.clone()).sum(|sale| &mut sale.1).collect();
    /// # let mut totals = env.execute("sum")?.collected(&totals)?;
    /// # totals.sort();
    /// assert_eq!(totals, [("apple".to_owned(), 5), ("pear".to_owned(), 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sum<N, F>(self, field: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, N, F>>
    where
        N: AddAssign + Copy,
        F: Fn(&mut P::Out) -> &mut N + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Sum", move |sum, mut record| *field(sum) += *field(&mut record))
    }
}
