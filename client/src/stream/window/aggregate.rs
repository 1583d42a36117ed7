//! Windows that make something else of their records.

use tidemill_dataflow::engine::window::TimeWindow;
use tidemill_dataflow::function::{Aggregate, ProcessWindowFunction};
use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::operator::window::{AggregateWindow, Eviction, Folding, NoMerge, ProcessWindow, Typed};
use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::record::Data;

use super::WindowedStream;
use super::windows::WindowKind;
use crate::stream::DataStream;

impl<P: Pipe, S: KeySelector<P::Out>, W: WindowKind<P::Out>, E: Eviction<P::Out>> WindowedStream<P, S, W, E> {
    /// Aggregates a window's records, and makes a result of key, window and aggregate.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use std::time::Duration;
    /// use tidemill::{Aggregate, WatermarkStrategy, Windows};
    ///
    /// #[derive(Clone)]
    /// struct Average;
    ///
    /// impl Aggregate<(i64, f64)> for Average {
    ///     type Accumulator = (u32, f64);
    ///     type Out = f64;
    ///
    ///     fn create(&mut self) -> (u32, f64) {
    ///         (0, 0.0)
    ///     }
    ///
    ///     fn add(&mut self, (count, sum): &mut (u32, f64), record: (i64, f64)) {
    ///         (*count, *sum) = (*count + 1, *sum + record.1);
    ///     }
    ///
    ///     fn merge(&mut self, (count, sum): &mut (u32, f64), from: (u32, f64)) {
    ///         (*count, *sum) = (*count + from.0, *sum + from.1);
    ///     }
    ///
    ///     fn result(&mut self, (count, sum): (u32, f64)) -> f64 {
    ///         sum / f64::from(count)
    ///     }
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let strategy = WatermarkStrategy::monotonous(|measured: &(i64, f64)| measured.0);
    /// let degrees = env.from_collection(vec![(1, 20.0), (2, 22.0), (11, 30.0)]).assign_timestamps_and_watermarks(strategy);
    /// let averages = degrees
    ///     .window_all(Windows::tumbling(Duration::from_millis(10)))
    ///     .aggregate_with(Average, |_, window, average| (window.start, average))
    ///     .collect();
    /// assert_eq!(env.execute("averages")?.collected(&averages)?, [(0, 21.0), (10, 30.0)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn aggregate_with<A, O, F>(
        self,
        aggregate: A,
        function: F,
    ) -> DataStream<impl Pipe<Out = O> + use<P, S, W, E, A, O, F>>
    where
        A: Aggregate<P::Out>,
        O: Data,
        F: FnMut(&S::Key, TimeWindow, A::Out) -> O + Clone + Send + Sync + 'static,
    {
        self.operate("Window Aggregate", AggregateWindow::new(Typed(aggregate), function))
    }

    /// Calls a function with all records of a window, which are kept until then.
    ///
    /// They come in the order in which they arrived, piece by piece where windows overlap or sessions became one.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use std::time::Duration;
    /// use tidemill::{Collector, UserError, WatermarkStrategy, WindowContext, Windows};
    ///
    /// /// The median of each window, with when the window ends.
    /// #[derive(Clone)]
    /// struct Median;
    ///
    /// impl tidemill::ProcessWindowFunction<(), i64> for Median {
    ///     type Out = (i64, i64);
    ///
    ///     fn process(
    ///         &mut self, records: &[i64], context: &mut WindowContext<'_, ()>, out: &mut Collector<(i64, i64)>,
    ///     ) -> Result<(), UserError> {
    ///         let mut sorted = records.to_vec();
    ///         sorted.sort();
    ///         out.emit((context.window().end, sorted[sorted.len() / 2]));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let times = env.from_collection(vec![1i64, 2, 9, 14]);
    /// let timed = times.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|time: &i64| *time));
    /// let medians = timed.window_all(Windows::tumbling(Duration::from_millis(10))).process(Median).collect();
    /// assert_eq!(env.execute("medians")?.collected(&medians)?, [(10, 2), (20, 14)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn process<F>(self, function: F) -> DataStream<impl Pipe<Out = F::Out> + use<P, S, W, E, F>>
    where
        F: ProcessWindowFunction<S::Key, P::Out>,
    {
        self.operate("Window Process", ProcessWindow(function))
    }
}

impl<P: Pipe, S: KeySelector<P::Out>, W: WindowKind<P::Out>, E: Eviction<P::Out>> WindowedStream<P, S, W, E>
where
    S::Key: Data,
{
    /// Aggregates a window's records; emits pairs of key and result.
    ///
    /// See [`aggregate_with`](Self::aggregate_with) for an aggregate, and for results that name their windows.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// #[derive(Clone)]
    /// struct Distinct;
    ///
    /// impl tidemill::Aggregate<(u32, char)> for Distinct {
    ///     type Accumulator = std::collections::BTreeSet<char>;
    ///     type Out = usize;
    ///
    ///     fn create(&mut self) -> Self::Accumulator {
    ///         Self::Accumulator::new()
    ///     }
    ///
    ///     fn add(&mut self, letters: &mut Self::Accumulator, record: (u32, char)) {
    ///         letters.insert(record.1);
    ///     }
    ///
    ///     fn merge(&mut self, letters: &mut Self::Accumulator, mut from: Self::Accumulator) {
    ///         letters.append(&mut from);
    ///     }
    ///
    ///     fn result(&mut self, letters: Self::Accumulator) -> usize {
    ///         letters.len()
    ///     }
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let letters = env.from_collection(vec![(7, 'a'), (7, 'b'), (7, 'a')]).key_by(|record| record.0);
    /// let distinct = letters.count_window(3).aggregate(Distinct).collect();
    /// assert_eq!(env.execute("distinct")?.collected(&distinct)?, [(7, 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn aggregate<A>(self, aggregate: A) -> DataStream<impl Pipe<Out = (S::Key, A::Out)> + use<P, S, W, E, A>>
    where
        A: Aggregate<P::Out>,
    {
        self.aggregate_with(aggregate, |key, _, result| (key.clone(), result))
    }

    /// Folds a window's records into a value that begins as `initial`; emits pairs of key and value.
    ///
    /// Windows that overlap fold each for itself, and sessions cannot: they, and whoever wants overlapping windows to
    /// share, use [`fold_merging`](Self::fold_merging).
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
    /// let sales = env.from_collection(vec![("tea".to_owned(), 3), ("tea".to_owned(), 2)]).key_by(|sale| sale.0.clone());
    /// let prices = sales.count_window(2).fold(vec![], |prices, sale| prices.push(sale.1)).collect();
    /// assert_eq!(env.execute("prices")?.collected(&prices)?, [("tea".to_owned(), vec![3, 2])]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fold<V, F>(self, initial: V, add: F) -> DataStream<impl Pipe<Out = (S::Key, V)> + use<P, S, W, E, V, F>>
    where
        V: Data + Sync,
        F: FnMut(&mut V, P::Out) + Clone + Send + Sync + 'static,
    {
        let pair = |key: &S::Key, _, value| (key.clone(), value);
        self.operate("Window Fold", AggregateWindow::new(Folding::new(initial, add, NoMerge), pair))
    }

    /// The same for values that can be merged, the later into the former.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use std::time::Duration;
    /// use tidemill::{WatermarkStrategy, Windows};
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let times = env.from_collection(vec![1i64, 7, 4, 30]);
    /// let timed = times.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|time: &i64| *time));
    /// let visits = timed.window_all(Windows::session(Duration::from_millis(5)));
    /// let sums = visits.fold_merging(0, |sum, time| *sum += time, |sum, other| *sum += other).collect();
    /// assert_eq!(env.execute("sums")?.collected(&sums)?, [((), 12), ((), 30)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fold_merging<V, F, M>(
        self,
        initial: V,
        add: F,
        merge: M,
    ) -> DataStream<impl Pipe<Out = (S::Key, V)> + use<P, S, W, E, V, F, M>>
    where
        V: Data + Sync,
        F: FnMut(&mut V, P::Out) + Clone + Send + Sync + 'static,
        M: FnMut(&mut V, V) + Clone + Send + Sync + 'static,
    {
        let pair = |key: &S::Key, _, value| (key.clone(), value);
        self.operate("Window Fold", AggregateWindow::new(Folding::new(initial, add, merge), pair))
    }

    /// Counts a window's records; emits pairs of key and count.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use std::time::Duration;
    /// use tidemill::{WatermarkStrategy, Windows};
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let times = env.from_collection(vec![1i64, 7, 14]);
    /// let timed = times.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|time: &i64| *time));
    /// let ten = Windows::sliding(Duration::from_millis(10), Duration::from_millis(5));
    /// let counts = timed.key_by(|time| *time < 10).window(ten).count().collect();
    /// # let mut counts = env.execute("counts")?.collected(&counts)?;
    /// # counts.sort();
    /// assert_eq!(counts, [(false, 1), (false, 1), (true, 1), (true, 1), (true, 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn count(self) -> DataStream<impl Pipe<Out = (S::Key, u64)> + use<P, S, W, E>> {
        let add = |count: &mut u64, _| *count += 1;
        let pair = |key: &S::Key, _, count| (key.clone(), count);
        let merge = |count: &mut u64, other| *count += other;
        self.operate("Window Count", AggregateWindow::new(Folding::new(0, add, merge), pair))
    }
}
