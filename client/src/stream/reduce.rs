//! `reduce`: one running record per key.

use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::operator::{ReduceFunction, Rolling};
use tidemill_dataflow::pipe::Pipe;

use super::{DataStream, KeyedStream, keyed_types};

impl<P: Pipe, S: KeySelector<P::Out>> KeyedStream<P, S> {
    /// Folds each record into the one that its key has so far; a key's first record is taken as it is.
    ///
    /// In batch mode each key has one result, at the end of input; in streaming mode each record causes an update.
    /// `function` must be associative, since in batch mode records are combined before they are exchanged; it must
    /// leave the key as it is.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let words = env.from_collection(vec!["a".to_owned(), "abc".to_owned(), "ab".to_owned()]);
    /// let longest = words.key_by(|word| word.chars().next()
    ///     .unwrap_or_default())
    ///     .reduce(|longest, word| if word.len() > longest.len() { *longest = word })
    ///     .collect();
    /// assert_eq!(env.execute("longest")?.collected(&longest)?, ["abc"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reduce<F>(self, function: F) -> DataStream<Rolling<P::Out, S, ReduceFunction<F>>>
    where
        F: FnMut(&mut P::Out, P::Out) + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Reduce", function)
    }

    pub(super) fn reduce_as<F>(self, name: &str, function: F) -> DataStream<Rolling<P::Out, S, ReduceFunction<F>>>
    where
        F: FnMut(&mut P::Out, P::Out) + Clone + Send + Sync + 'static,
    {
        let DataStream { environment, pipe, vertex, .. } = self.stream;
        let parallelism = environment.parallelism();
        let (selector, combiner) = (self.selector.clone(), function.clone());
        let (vertex, operator) = environment.build(|builder| {
            let vertex = builder.exchange_by_key(vertex, pipe, selector, combiner, parallelism);
            (vertex, builder.add_operator(vertex, name, keyed_types::<S::Key, P::Out, P::Out>()))
        });
        let pipe = Rolling::new(self.selector, ReduceFunction(function), operator);
        DataStream { environment, pipe, vertex, operator }
    }
}
