//! `fold`, `aggregate` and `count`: a value of another type than the records, one per key.

use tidemill_dataflow::function::Aggregate;
use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::operator::{AggregateFunction, FoldFunction, Rolling};
use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::record::Data;

use super::{DataStream, KeyedStream, keyed_types};

impl<P: Pipe, S: KeySelector<P::Out>> KeyedStream<P, S>
where
    S::Key: Data,
{
    /// Folds each key's records into a value that begins as `initial`; emits pairs of key and value.
    ///
    /// In batch mode each key has one result, at the end of input; in streaming mode each record causes an update.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let sales = env.from_collection(vec![("apple".to_owned(), 3), ("pear".to_owned(), 1), ("apple".to_owned(), 2)]);
    /// let totals = sales.key_by(|sale| sale.0.clone()).fold((0u64, 0), |(count, total), sale| {
    ///     *count += 1;
    ///     *total += sale.1;
    /// });
    /// let totals = totals.collect();
    /// # let mut totals = env.execute("fold")?.collected(&totals)?;
    /// # totals.sort();
    /// assert_eq!(totals, [("apple".to_owned(), (2, 5)), ("pear".to_owned(), (1, 1))]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fold<V, F>(self, initial: V, function: F) -> DataStream<Rolling<P::Out, S, FoldFunction<V, F>>>
    where
        V: Data + Sync,
        F: FnMut(&mut V, P::Out) + Clone + Send + Sync + 'static,
    {
        let types = keyed_types::<S::Key, P::Out, V>();
        let function = FoldFunction::new(initial, function);
        self.exchanged("Fold", types, |selector, operator| Rolling::new(selector, function, operator))
    }

    /// Aggregates each key's records in an accumulator of its own type; emits pairs of key and result.
    ///
    /// In batch mode each key has one result, at the end of input; in streaming mode each record causes an update,
    /// for which the accumulator is copied.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// /// The mean of some numbers.
    /// #[derive(Clone)]
    /// struct Mean;
    ///
    /// impl tidemill::Aggregate<f64> for Mean {
    ///     type Accumulator = (f64, u32);
    ///     type Out = f64;
    ///
    ///     fn create(&mut self) -> (f64, u32) {
    ///         (0.0, 0)
    ///     }
    ///
    ///     fn add(&mut self, (sum, count): &mut (f64, u32), number: f64) {
    ///         *sum += number;
    ///         *count += 1;
    ///     }
    ///
    ///     fn merge(&mut self, into: &mut (f64, u32), from: (f64, u32)) {
    ///         into.0 += from.0;
    ///         into.1 += from.1;
    ///     }
    ///
    ///     fn result(&mut self, (sum, count): (f64, u32)) -> f64 {
    ///         sum / f64::from(count)
    ///     }
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let means = env.from_collection(vec![1.0, 2.0, 6.0]).key_by(|_| ()).aggregate(Mean).collect();
    /// assert_eq!(env.execute("mean")?.collected(&means)?, [((), 3.0)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn aggregate<A: Aggregate<P::Out>>(self, aggregate: A) -> DataStream<Rolling<P::Out, S, AggregateFunction<A>>> {
        let types = keyed_types::<S::Key, P::Out, A::Out>();
        let function = AggregateFunction(aggregate);
        self.exchanged("Aggregate", types, |selector, operator| Rolling::new(selector, function, operator))
    }

    /// Counts each key's records; emits pairs of key and count.
    ///
    /// In batch mode each key has one result, at the end of input; in streaming mode each record causes an update.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let counts = env.generate_sequence(0..10, None).key_by(|number| number % 3).count().collect();
    /// # let mut counts = env.execute("count")?.collected(&counts)?;
    /// # counts.sort();
    /// assert_eq!(counts, [(0, 4), (1, 3), (2, 3)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn count(self) -> DataStream<impl Pipe<Out = (S::Key, u64)> + use<P, S>> {
        let Self { stream, mut selector } = self;
        // Only keys are exchanged, and in batch mode they are counted before.
        let keys = stream.map(move |record| (S::into_key(selector.select(&record)), 1u64)).name("Key");
        keys.key_by_ref(|pair| &pair.0).reduce_as("Count", |count, one| count.1 += one.1)
    }
}
