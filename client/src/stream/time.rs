//! Event time: which time a record has, and how far time has come.

use std::time::Duration;

use tidemill_dataflow::flow::{self, WatermarkAlignment};
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
    alignment: Option<WatermarkAlignment>,
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
        Self { assigner, generator: BoundedOutOfOrderness::new(bound), idle: None, alignment: None }
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
        Self { assigner, generator, idle: None, alignment: None }
    }

    /// The same, split by split, and whom the splits wait for.
    pub(super) fn per_split(self) -> (WithTimes<F, G>, Option<WatermarkAlignment>) {
        (WithTimes::new(self.assigner, self.generator, self.idle), self.alignment)
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

    /// A split of a source is not read while its watermark is more than `max_drift` (whole milliseconds) ahead of the
    /// lowest in its group: operators that wait for the slowest source need not keep what the others are ahead.
    ///
    /// In the group are all splits that are being read, of all sources whose strategies name it; one that is idle or
    /// has ended does not count, so give one that may fall silent [`with_idleness`](Self::with_idleness). A sub-task
    /// that reads none, but for which some may be on their way, holds the others back; a split that is found later joins
    /// when it is opened. A split that waits holds back nothing but itself. It may be ahead by what one call of
    /// [`SplitReader::read`](crate::SplitReader::read) emits in addition: the generator is asked for its watermark
    /// after each.
    ///
    /// Each process aligns by itself: the sub-tasks of a job on one task manager do not wait for those on another.
    /// In batch mode alignment is ignored.
    ///
    /// Only [`from_source_with_watermarks`](crate::Environment::from_source_with_watermarks) takes such a strategy;
    /// with [`assign_timestamps_and_watermarks`](crate::DataStream::assign_timestamps_and_watermarks), where nothing
    /// could wait, `execute` fails.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
    /// use std::time::Duration;
    /// use tidemill::{Boundedness, Discovery, Reading, RuntimeMode, Source, SourceOutput, SplitEnumerator, SplitReader};
    /// use tidemill::{UserError, WatermarkStrategy};
    ///
    /// /// Times from 0 on, so many at each reading; a split is the time that is next.
    /// #[derive(Clone)]
    /// struct Ticks {
    ///     next: Option<i64>,
    ///     per_read: i64,
    /// }
    ///
    /// impl Source for Ticks {
    ///     type Out = i64;
    ///     type Split = i64;
    ///     type Enumerator = Self;
    ///     type Reader = Self;
    ///
    ///     fn boundedness(&self) -> Boundedness {
    ///         Boundedness::Bounded
    ///     }
    ///
    ///     fn enumerator(&self, _readers: u32, restored: Option<Option<i64>>) -> Result<Self, UserError> {
    ///         Ok(Self { next: restored.unwrap_or(self.next), ..self.clone() })
    ///     }
    ///
    ///     fn reader(&self, next: i64) -> Result<Self, UserError> {
    ///         Ok(Self { next: Some(next), ..self.clone() })
    ///     }
    /// }
    ///
    /// impl SplitEnumerator for Ticks {
    ///     type Split = i64;
    ///     type State = Option<i64>;
    ///
    ///     fn state(&self) -> Option<i64> {
    ///         self.next
    ///     }
    ///
    ///     fn discover(&mut self) -> Result<Discovery<i64>, UserError> {
    ///         Ok(self.next.take().map_or(Discovery::Done, |next| Discovery::Splits(vec![next])))
    ///     }
    /// }
    ///
    /// impl SplitReader for Ticks {
    ///     type Out = i64;
    ///     type Split = i64;
    ///
    ///     fn read<O: SourceOutput<i64>>(&mut self, out: &mut O) -> Result<Reading, UserError> {
    ///         let begin = self.split();
    ///         let end = 1_000.min(begin + self.per_read);
    ///         (begin..end).for_each(|tick| out.emit(tick));
    ///         self.next = Some(end);
    ///         Ok(if end < 1_000 { Reading::More } else { Reading::Ended })
    ///     }
    ///
    ///     fn split(&self) -> i64 {
    ///         self.next.unwrap_or(0)
    ///     }
    /// }
    ///
    /// let strategy = WatermarkStrategy::monotonous(|tick: &i64| *tick).with_alignment("ticks", Duration::from_millis(50));
    /// let slow = env.from_source_with_watermarks(Ticks { next: Some(0), per_read: 1 }, strategy.clone());
    /// // Without the alignment this one would have ended when the other one has hardly begun.
    /// let fast = env.from_source_with_watermarks(Ticks { next: Some(0), per_read: 20 }, strategy);
    /// let ticks = slow.union(fast).collect();
    /// env.set_runtime_mode(RuntimeMode::Streaming);
    /// assert_eq!(env.execute("ticks")?.collected(&ticks)?.len(), 2_000);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_alignment(self, group: &str, max_drift: Duration) -> Self {
        let drift_max_ms = i64::try_from(max_drift.as_millis()).unwrap_or(i64::MAX);
        Self { alignment: Some(WatermarkAlignment { group: group.to_owned(), drift_max_ms }), ..self }
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
        let WatermarkStrategy { mut assigner, generator, idle, alignment } = strategy;
        let assigner = move |record: &P::Out, _time: i64| assigner(record);
        let name = "Timestamps/Watermarks";
        let stream = self.then(name, types::<P::Out, P::Out>(), |pipe, operator| {
            AssignTimestamps::new(pipe, (assigner, generator), idle, operator)
        });
        stream.environment.build(|builder| {
            builder.mark_assigns_time(stream.operator);
            if let Some(WatermarkAlignment { group, .. }) = alignment {
                builder.add_defect(flow::Error::AlignedOperator { operator: name.to_owned(), group });
            }
        });
        stream
    }
}
