//! `key_by`: groups records, so that each key's records meet in one sub-task.

use tidemill_dataflow::flow::OperatorIndex;
use tidemill_dataflow::key_selector::{BorrowedKey, ComputedKey, KeySelector};
use tidemill_dataflow::pipe::Pipe;
use tidemill_model::key::Key;

use super::DataStream;

impl<P: Pipe> DataStream<P> {
    /// Groups by a key that is computed from the record.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let counts = env.generate_sequence(0..10, None).map(|number| (number % 2, 1u64));
    /// let counts = counts.key_by(|pair| pair.0).sum(|pair| &mut pair.1).collect();
    /// # let mut counts = env.execute("key by")?.collected(&counts)?;
    /// # counts.sort();
    /// assert_eq!(counts, [(0, 5), (1, 5)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn key_by<K, F>(self, key: F) -> KeyedStream<P, ComputedKey<F, K>>
    where
        K: Key,
        F: FnMut(&P::Out) -> K + Clone + Send + Sync + 'static,
    {
        KeyedStream { stream: self, selector: ComputedKey::new(key) }
    }

    /// Groups by a part of the record, which is copied only when it is seen for the first time: cheaper than
    /// [`key_by`](Self::key_by) for strings.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let words = env.from_collection(vec![("a".to_owned(), 1), ("b".to_owned(), 2), ("a".to_owned(), 3)]);
    /// let sums = words.key_by_ref(|pair| &pair.0).sum(|pair| &mut pair.1).collect();
    /// # let mut sums = env.execute("key by ref")?.collected(&sums)?;
    /// # sums.sort();
    /// assert_eq!(sums, [("a".to_owned(), 4), ("b".to_owned(), 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn key_by_ref<K, F>(self, key: F) -> KeyedStream<P, BorrowedKey<F, K>>
    where
        K: Key,
        F: FnMut(&P::Out) -> &K + Clone + Send + Sync + 'static,
    {
        KeyedStream { stream: self, selector: BorrowedKey::new(key) }
    }
}

/// A stream whose records are grouped by key.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// # let env = tidemill::Environment::from_args()?;
/// let keyed = env.generate_sequence(0..10, None).key_by(|number| number % 3);
/// let largest = keyed.reduce(|largest, number| *largest = number.max(*largest)).collect();
/// # let mut largest = env.execute("largest")?.collected(&largest)?;
/// # largest.sort();
/// assert_eq!(largest, [7, 8, 9]);
/// # Ok(())
/// # }
/// ```
#[must_use = "a keyed stream does nothing until it is reduced"]
pub struct KeyedStream<P, S> {
    pub(super) stream: DataStream<P>,
    pub(super) selector: S,
}

impl<P: Pipe, S: KeySelector<P::Out>> KeyedStream<P, S> {
    /// An operator behind a keyed exchange.
    pub(super) fn exchanged<Q: Pipe>(
        self,
        name: &str,
        types: Vec<String>,
        pipe: impl FnOnce(S, OperatorIndex) -> Q,
    ) -> DataStream<Q> {
        let DataStream { environment, pipe: upstream, vertex: source, .. } = self.stream;
        let parallelism = environment.parallelism();
        let selector = self.selector.clone();
        let (vertex, operator) = environment.build(|builder| {
            let target = builder.add_vertex(parallelism);
            builder.exchange_hashed(source, upstream, selector, target);
            (target, builder.add_operator(target, name, types))
        });
        DataStream { environment, pipe: pipe(self.selector, operator), vertex, operator }
    }
}
