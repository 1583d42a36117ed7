//! `min`, `max`, `min_by` and `max_by`: a running extreme per key.

use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::pipe::Pipe;

use super::{DataStream, KeyedStream};

impl<P: Pipe, S: KeySelector<P::Out>> KeyedStream<P, S> {
    /// Each key's least value of one field; the other fields are those of the key's first record.
    ///
    /// In batch mode each key has one result, at the end of input; in streaming mode each record causes an update.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let prices = env.from_collection(vec![("tea".to_owned(), 3), ("tea".to_owned(), 2), ("rice".to_owned(), 5)]);
    /// let least = prices.key_by_ref(|price| &price.0).min(|price| &mut price.1).collect();
    /// # let mut least = env.execute("min")?.collected(&least)?;
    /// # least.sort();
    /// assert_eq!(least, [("rice".to_owned(), 5), ("tea".to_owned(), 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn min<N, F>(self, field: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, N, F>>
    where
        N: PartialOrd + Clone,
        F: Fn(&mut P::Out) -> &mut N + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Min", move |least, mut record| {
            let (least, value) = (field(least), field(&mut record));
            if *value < *least {
                least.clone_from(value);
            }
        })
    }

    /// Each key's greatest value of one field; the other fields are those of the key's first record.
    ///
    /// In batch mode each key has one result, at the end of input; in streaming mode each record causes an update.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let prices = env.from_collection(vec![("tea".to_owned(), 3), ("tea".to_owned(), 2), ("rice".to_owned(), 5)]);
    /// let greatest = prices.key_by_ref(|price| &price.0).max(|price| &mut price.1).collect();
    /// # let mut greatest = env.execute("max")?.collected(&greatest)?;
    /// # greatest.sort();
    /// assert_eq!(greatest, [("rice".to_owned(), 5), ("tea".to_owned(), 3)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max<N, F>(self, field: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, N, F>>
    where
        N: PartialOrd + Clone,
        F: Fn(&mut P::Out) -> &mut N + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Max", move |greatest, mut record| {
            let (greatest, value) = (field(greatest), field(&mut record));
            if *value > *greatest {
                greatest.clone_from(value);
            }
        })
    }

    /// Each key's record with the least value; of several the first.
    ///
    /// In batch mode each key has one result, at the end of input; in streaming mode each record causes an update.
    /// Which of several is first depends on the order in which they arrive.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let words = env.from_collection(vec!["abc".to_owned(), "a".to_owned(), "ab".to_owned()]);
    /// let shortest = words.key_by(|word| word.starts_with('a')).min_by(|word| word.len()).collect();
    /// assert_eq!(env.execute("shortest")?.collected(&shortest)?, ["a"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn min_by<N, F>(self, value: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, N, F>>
    where
        N: PartialOrd,
        F: Fn(&P::Out) -> N + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Min By", move |least, record| {
            if value(&record) < value(least) {
                *least = record;
            }
        })
    }

    /// Each key's record with the greatest value; of several the first.
    ///
    /// In batch mode each key has one result, at the end of input; in streaming mode each record causes an update.
    /// Which of several is first depends on the order in which they arrive.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let words = env.from_collection(vec!["abc".to_owned(), "a".to_owned(), "ab".to_owned()]);
    /// let longest = words.key_by(|word| word.starts_with('a')).max_by(|word| word.len()).collect();
    /// assert_eq!(env.execute("longest")?.collected(&longest)?, ["abc"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_by<N, F>(self, value: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, N, F>>
    where
        N: PartialOrd,
        F: Fn(&P::Out) -> N + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Max By", move |greatest, record| {
            if value(&record) > value(greatest) {
                *greatest = record;
            }
        })
    }
}
