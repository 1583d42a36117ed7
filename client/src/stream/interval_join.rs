//! `interval_join`: pairs of records whose event times lie close to each other.

use tidemill_dataflow::flow;
use tidemill_dataflow::function::{CoProcess, EitherKey, IntervalJoin, OutputTag};
use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::operator::KeyedProcess;
use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::record::Data;

use super::{DataStream, Either, KeyedStream, keyed_types};

/// Two keyed streams whose records are to be joined when they have the same key and lie close to each other.
///
/// A record whose event time is before the watermark is late: it goes to a side output, or is dropped and counted in
/// the job's counter `late-records-dropped`.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// use tidemill::WatermarkStrategy;
///
/// # let env = tidemill::Environment::from_args()?;
/// let shown = env.from_collection(vec![(1_000, 'a'), (2_000, 'b')]);
/// let shown = shown.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|shown: &(i64, char)| shown.0));
/// let clicked = env.from_collection(vec![(1_800, 'a'), (9_000, 'b')]);
/// let clicked = clicked.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|click: &(i64, char)| click.0));
/// let delays = shown
///     .key_by(|shown| shown.1)
///     .interval_join(clicked.key_by(|click| click.1), 0, 5_000)
///     .process(|shown, click| (shown.1, click.0 - shown.0))
///     .collect();
/// assert_eq!(env.execute("delays")?.collected(&delays)?, [('a', 800)]);
/// # Ok(())
/// # }
/// ```
#[must_use = "an interval join does nothing until it has a function"]
pub struct IntervalJoinedStreams<P: Pipe, S, Q: Pipe, U> {
    left: KeyedStream<P, S>,
    right: KeyedStream<Q, U>,
    /// Both included.
    lower: i64,
    upper: i64,
    late_left: Option<OutputTag<P::Out>>,
    late_right: Option<OutputTag<Q::Out>>,
}

impl<P: Pipe, S: KeySelector<P::Out>> KeyedStream<P, S> {
    /// Joins each record with those of another stream whose event times are from `lower` to `upper` milliseconds after
    /// its own; negative is before, and both bounds are included. See [`IntervalJoinedStreams`].
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let left = env.generate_sequence(0..3, None).key_by(|number| *number);
    /// # let right = env.generate_sequence(2..5, None).key_by(|number| *number);
    /// let at_most_a_second_apart = left.interval_join(right, -1_000, 1_000);
    /// # let _ = at_most_a_second_apart;
    /// # Ok(())
    /// # }
    /// ```
    pub fn interval_join<Q, U>(
        self,
        other: KeyedStream<Q, U>,
        lower: i64,
        upper: i64,
    ) -> IntervalJoinedStreams<P, S, Q, U>
    where
        Q: Pipe,
        U: KeySelector<Q::Out, Key = S::Key>,
    {
        IntervalJoinedStreams { left: self, right: other, lower, upper, late_left: None, late_right: None }
    }
}

impl<P, S, Q, U> IntervalJoinedStreams<P, S, Q, U>
where
    P: Pipe,
    S: KeySelector<P::Out>,
    Q: Pipe,
    U: KeySelector<Q::Out, Key = S::Key>,
{
    /// Records exactly at the lower bound do not join.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let left = env.generate_sequence(0..3, None).key_by(|number| *number);
    /// # let right = env.generate_sequence(2..5, None).key_by(|number| *number);
    /// let later = left.interval_join(right, 0, 1_000).lower_bound_exclusive();
    /// # let _ = later;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lower_bound_exclusive(self) -> Self {
        Self { lower: self.lower.saturating_add(1), ..self }
    }

    /// Records exactly at the upper bound do not join.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let left = env.generate_sequence(0..3, None).key_by(|number| *number);
    /// # let right = env.generate_sequence(2..5, None).key_by(|number| *number);
    /// let earlier = left.interval_join(right, -1_000, 0).upper_bound_exclusive();
    /// # let _ = earlier;
    /// # Ok(())
    /// # }
    /// ```
    pub fn upper_bound_exclusive(self) -> Self {
        Self { upper: self.upper.saturating_sub(1), ..self }
    }

    /// Has late records of the first stream emitted to a side output, instead of dropped.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let left = env.generate_sequence(0..3, None).key_by(|number| *number);
    /// # let right = env.generate_sequence(2..5, None).key_by(|number| *number);
    /// let late = tidemill::OutputTag::<u64>::new("late");
    /// let joined = left.interval_join(right, 0, 1_000).late_left_output(&late);
    /// # let _ = joined;
    /// # Ok(())
    /// # }
    /// ```
    pub fn late_left_output(self, tag: &OutputTag<P::Out>) -> Self {
        Self { late_left: Some(tag.clone()), ..self }
    }

    /// Has late records of the second stream emitted to a side output, instead of dropped.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let left = env.generate_sequence(0..3, None).key_by(|number| *number);
    /// # let right = env.generate_sequence(2..5, None).key_by(|number| *number);
    /// let late = tidemill::OutputTag::<u64>::new("late");
    /// let joined = left.interval_join(right, 0, 1_000).late_right_output(&late);
    /// # let _ = joined;
    /// # Ok(())
    /// # }
    /// ```
    pub fn late_right_output(self, tag: &OutputTag<Q::Out>) -> Self {
        Self { late_right: Some(tag.clone()), ..self }
    }

    /// Makes one record of each pair, with the later one's event time.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let strategy = || tidemill::WatermarkStrategy::monotonous(|time: &i64| *time);
    /// # let left = env.from_collection(vec![10i64, 20]).assign_timestamps_and_watermarks(strategy()).key_by(|_| ());
    /// # let right = env.from_collection(vec![12i64, 18]).assign_timestamps_and_watermarks(strategy()).key_by(|_| ());
    /// let close = left.interval_join(right, -2, 2).process(|left, right| (*left, *right)).collect();
    /// # let mut close = env.execute("close")?.collected(&close)?;
    /// # close.sort();
    /// assert_eq!(close, [(10, 12), (20, 18)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn process<O, F>(self, function: F) -> DataStream<impl Pipe<Out = O> + use<P, S, Q, U, O, F>>
    where
        O: Data,
        F: FnMut(&P::Out, &Q::Out) -> O + Clone + Send + Sync + 'static,
    {
        let Self { left, right, lower, upper, late_left, late_right } = self;
        let selector = EitherKey::new(left.selector, right.selector);
        let left = left.stream.map(Either::Left).name("Left");
        let right = right.stream.map(Either::Right).name("Right");
        let mut details = keyed_types::<S::Key, Either<P::Out, Q::Out>, O>();
        details.push(format!("from {lower} to {upper} ms"));
        let (name, environment) = ("Interval Join", left.environment);
        let parallelism = environment.parallelism();
        let (vertex, operator) = environment.build(|builder| {
            let target = builder.add_vertex(parallelism);
            builder.exchange_hashed(left.vertex, left.pipe, selector.clone(), target);
            builder.exchange_hashed(right.vertex, right.pipe, selector.clone(), target);
            let operator = builder.add_operator(target, name, details);
            builder.mark_needs_time(operator);
            builder.mark_has_side_outputs(operator);
            if lower > upper {
                builder.add_defect(flow::Error::EmptyInterval { operator: name.to_owned(), lower, upper });
            }
            (target, operator)
        });
        let join = IntervalJoin::new((lower, upper), function, (late_left, late_right));
        let pipe = KeyedProcess::new(selector, CoProcess(join), operator);
        DataStream { environment, pipe, vertex, operator }
    }
}
