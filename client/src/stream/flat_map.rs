//! `flat_map`: any number of records out for each record in.

use tidemill_dataflow::operator::{FlatMap, FlatMapInto};
use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::record::Data;

use super::{DataStream, types};

impl<P: Pipe> DataStream<P> {
    /// Makes any number of records of each record: what `function` returns is iterated over.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.from_collection(vec![2, 3]).flat_map(|number| 0..number).collect();
    /// # let mut numbers = env.execute("flat map")?.collected(&numbers)?;
    /// # numbers.sort();
    /// assert_eq!(numbers, [0, 0, 1, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn flat_map<I, F>(self, function: F) -> DataStream<FlatMap<P, F>>
    where
        I: IntoIterator,
        I::Item: Data,
        F: FnMut(P::Out) -> I + Clone + Send + Sync + 'static,
    {
        self.then("Flat Map", types::<P::Out, I::Item>(), |pipe, operator| FlatMap::new(pipe, function, operator))
    }

    /// Makes any number of records of each record: `function` appends them to a list, which is used again and again,
    /// so that nothing is allocated for it.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let lines = env.from_collection(vec!["a few words".to_owned()]);
    /// let words = lines.flat_map_into(|line, words| words.extend(line.split(' ').map(str::to_owned))).collect();
    /// assert_eq!(env.execute("words")?.collected(&words)?, ["a", "few", "words"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn flat_map_into<U, F>(self, function: F) -> DataStream<FlatMapInto<P, U, F>>
    where
        U: Data,
        F: FnMut(P::Out, &mut Vec<U>) + Clone + Send + Sync + 'static,
    {
        self.then("Flat Map", types::<P::Out, U>(), |pipe, operator| FlatMapInto::new(pipe, function, operator))
    }
}
