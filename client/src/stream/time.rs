//! Event time: which time a record has, and how far time has come.

use std::time::Duration;

use tidemill_dataflow::operator::{AssignTimestamps, BoundedOutOfOrderness, WatermarkGenerator};
use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::runtime::source::WithTimes;

use super::{DataStream, types};

/// How records get their event times, and watermarks come about.
///
/// Times are milliseconds since the epoch. A watermark says that no record with a time up to it will come; what comes
/// all the same is late. They are sent every 200 ms while records come (a generator of one's own may send one with any
/// record), and one for all times at the end of input.
///
/// ```
/// use std::time::Duration;
/// use tidemill::WatermarkStrategy;
///
/// let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(5), |order: &(i64, u64)| order.0)
///     .with_idleness(Duration::from_secs(60));
/// # let _ = strategy;
/// ```
#[derive(Clone)]
pub struct WatermarkStrategy<F, G> {
    assigner: F,
    generator: G,
    idle: Option<Duration>,
}

impl<F> WatermarkStrategy<F, BoundedOutOfOrderness> {
    /// Each record's time is that of the one before it, or later, in each sub-task.
    ///
    /// ```
    /// let strategy = tidemill::WatermarkStrategy::monotonous(|order: &(i64, u64)| order.0);
    /// # let _ = strategy;
    /// ```
    pub fn monotonous<T>(assigner: F) -> Self
    where
        F: FnMut(&T) -> i64,
    {
        Self::bounded_out_of_orderness(Duration::ZERO, assigner)
    }

    /// A record comes at most `bound` after one with a later time.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let assigner = |order: &(i64, u64)| order.0;
    /// let strategy = tidemill::WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(1), assigner);
    /// # let _ = strategy;
    /// ```
    pub fn bounded_out_of_orderness<T>(bound: Duration, assigner: F) -> Self
    where
        F: FnMut(&T) -> i64,
    {
        Self { assigner, generator: BoundedOutOfOrderness::new(bound), idle: None }
    }
}

impl<F, G> WatermarkStrategy<F, G> {
    /// Watermarks by a generator of one's own.
    ///
    /// ```
    /// /// A record of time 0 is a sign that all before it have come.
    /// #[derive(Clone)]
    /// struct BySign(i64);
    ///
    /// impl tidemill::WatermarkGenerator<(i64, bool)> for BySign {
    ///     fn on_record(&mut self, record: &(i64, bool), time: i64) -> Option<i64> {
    ///         self.0 = self.0.max(time);
    ///         record.1.then_some(self.0)
    ///     }
    ///
    ///     fn on_interval(&mut self) -> Option<i64> {
    ///         None
    ///     }
    /// }
    ///
    /// let strategy = tidemill::WatermarkStrategy::new(|record: &(i64, bool)| record.0, BySign(i64::MIN));
    /// # let _ = strategy;
    /// ```
    pub fn new<T>(assigner: F, generator: G) -> Self
    where
        F: FnMut(&T) -> i64,
        G: WatermarkGenerator<T>,
    {
        Self { assigner, generator, idle: None }
    }

    /// The same, split by split.
    pub(super) fn per_split(self) -> WithTimes<F, G> {
        WithTimes::new(self.assigner, self.generator, self.idle)
    }

    /// A sub-task, or a split of a source, without records for this long does not hold back the watermarks of others.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let strategy = tidemill::WatermarkStrategy::monotonous(|order: &(i64, u64)| order.0);
    /// let strategy = strategy.with_idleness(Duration::from_secs(10));
    /// # let _ = strategy;
    /// ```
    #[must_use]
    pub fn with_idleness(self, after: Duration) -> Self {
        Self { idle: Some(after), ..self }
    }
}

impl<P: Pipe> DataStream<P> {
    /// Gives records event times, and sends watermarks; what came from upstream is overruled.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// use tidemill::WatermarkStrategy;
    ///
    /// let orders = env.from_collection(vec![(1_000, "tea".to_owned()), (2_000, "rice".to_owned())]);
    /// let timed = orders.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|order: &(i64, String)| order.0));
    /// let timed = timed.collect();
    /// assert_eq!(env.execute("orders")?.collected(&timed)?.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn assign_timestamps_and_watermarks<F, G>(
        self,
        strategy: WatermarkStrategy<F, G>,
    ) -> DataStream<impl Pipe<Out = P::Out> + use<P, F, G>>
    where
        F: FnMut(&P::Out) -> i64 + Clone + Send + Sync + 'static,
        G: WatermarkGenerator<P::Out>,
    {
        let WatermarkStrategy { mut assigner, generator, idle } = strategy;
        let assigner = move |record: &P::Out, _time: i64| assigner(record);
        let stream = self.then("Timestamps/Watermarks", types::<P::Out, P::Out>(), |pipe, operator| {
            AssignTimestamps::new(pipe, (assigner, generator), idle, operator)
        });
        stream.environment.build(|builder| builder.mark_assigns_time(stream.operator));
        stream
    }
}
