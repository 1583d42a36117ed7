//! Windows: pieces of a stream that are aggregated each for itself.

mod aggregate;
mod evictor;
mod join;
mod reduce;
mod settings;
mod trigger;
mod windows;

use std::time::Duration;

use tidemill_dataflow::engine::window::{AnyEvictor, AnyTrigger, Order};
use tidemill_dataflow::function::OutputTag;
use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::operator::window::{Eviction, NoEvictor, WindowFunction};
use tidemill_dataflow::pipe::Pipe;

use self::settings::{Settings, Windowed};
use self::windows::{WindowKind, millis};
use super::{DataStream, KeyedStream};

pub use evictor::Evictor;
pub use join::{Groups, JoinedStreams, Pairs, WindowedJoin};
pub use trigger::Trigger;
pub use windows::{DynamicSessionWindows, GlobalWindow, RegularWindows, SessionWindows, Windows};

/// A keyed stream whose records are put into windows.
///
/// Results have the event time of their window's last millisecond. A record that comes when all its windows have been
/// forgotten is late: it goes to the [side output for late records](Self::late_output), or is dropped and counted in
/// the job's counter `late-records-dropped`.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// use std::time::Duration;
/// use tidemill::{WatermarkStrategy, Windows};
///
/// # let env = tidemill::Environment::from_args()?;
/// let sales = [(1_000, "tea", 3), (2_000, "rice", 1), (59_999, "tea", 2), (60_000, "tea", 9)];
/// let sales = sales.map(|(time, what, price)| (time, what.to_owned(), price));
/// let totals = env
///     .from_collection(sales.to_vec())
///     .assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|sale: &(i64, String, u32)| sale.0))
///     .key_by(|sale| sale.1.clone())
///     .window(Windows::tumbling(Duration::from_secs(60)))
///     .sum(|sale| &mut sale.2)
///     .map(|(_, what, total)| (what, total))
///     .collect();
/// # let mut totals = env.execute("totals")?.collected(&totals)?;
/// # totals.sort();
/// assert_eq!(totals, [("rice".to_owned(), 1), ("tea".to_owned(), 5), ("tea".to_owned(), 9)]);
/// # Ok(())
/// # }
/// ```
#[must_use = "a windowed stream does nothing until it is reduced"]
pub struct WindowedStream<P: Pipe, S, W, E = NoEvictor> {
    stream: DataStream<P>,
    selector: S,
    settings: Settings<P::Out, W, E>,
}

impl<P: Pipe, S: KeySelector<P::Out>> KeyedStream<P, S> {
    /// Puts each key's records into windows.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use std::time::Duration;
    /// use tidemill::{WatermarkStrategy, Windows};
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let clicks = env.from_collection(vec![(1i64, 'a'), (2, 'b'), (3, 'a'), (14, 'a')]);
    /// let timed = clicks.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|click: &(i64, char)| click.0));
    /// let visits = timed.key_by(|click| click.1).window(Windows::session(Duration::from_millis(10))).count().collect();
    /// # let mut visits = env.execute("visits")?.collected(&visits)?;
    /// # visits.sort();
    /// assert_eq!(visits, [('a', 1), ('a', 2), ('b', 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn window<W: WindowKind<P::Out>>(self, windows: Windows<W>) -> WindowedStream<P, S, W> {
        let parallelism = self.stream.environment.parallelism();
        let settings = Settings::new(windows, NoEvictor, parallelism);
        WindowedStream { stream: self.stream, selector: self.selector, settings }
    }

    /// Windows of `records` records of a key each. What is left of them at the end of input is not emitted.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
    /// let numbers = env.from_collection(vec![1u64, 2, 3, 4, 5]).key_by(|_| ());
    /// let sums = numbers.count_window(2).reduce(|sum, number| *sum += number).collect();
    /// assert_eq!(env.execute("pairs")?.collected(&sums)?, [3, 7]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn count_window(self, records: u64) -> WindowedStream<P, S, GlobalWindow> {
        let mut windowed = self.window(Windows::global());
        windowed.settings.trigger = Some(AnyTrigger::Count(records).purging());
        windowed
    }

    /// A window that fires with every `slide` records of a key, over the last `records` of them.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
    /// let numbers = env.from_collection(vec![1u64, 2, 3, 4, 5]).key_by(|_| ());
    /// let sums = numbers.count_window_sliding(3, 2).reduce(|sum, number| *sum += number).collect();
    /// assert_eq!(env.execute("last three")?.collected(&sums)?, [1 + 2, 2 + 3 + 4]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn count_window_sliding(
        self,
        records: u64,
        slide: u64,
    ) -> WindowedStream<P, S, GlobalWindow, AnyEvictor<P::Out>> {
        let mut windowed = self.window(Windows::global());
        windowed.settings.trigger = Some(AnyTrigger::Count(slide));
        windowed.evictor(Evictor::count(usize::try_from(records).unwrap_or(usize::MAX)))
    }
}

impl<P: Pipe> DataStream<P> {
    /// Puts all records into windows, in one sub-task: as with [`key_by`](Self::key_by) and one key, `()`.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use std::time::Duration;
    /// use tidemill::{WatermarkStrategy, Windows};
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let times = env.from_collection(vec![1i64, 2, 3, 14]);
    /// let timed = times.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|time: &i64| *time));
    /// let counts = timed.window_all(Windows::tumbling(Duration::from_millis(10))).count().collect();
    /// assert_eq!(env.execute("counts")?.collected(&counts)?, [((), 3), ((), 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn window_all<W: WindowKind<P::Out>>(self, windows: Windows<W>) -> WindowedStream<P, OneKey, W> {
        WindowedStream { stream: self, selector: OneKey, settings: Settings::new(windows, NoEvictor, 1) }
    }
}

/// Finds `()` as the key of all records.
///
/// ```
/// # use tidemill::Windows;
/// use tidemill::stream::{GlobalWindow, OneKey};
/// use tidemill::{DataStream, Pipe, WindowedStream};
///
/// fn all<P: Pipe>(stream: DataStream<P>) -> WindowedStream<P, OneKey, GlobalWindow> {
///     stream.window_all(Windows::global())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneKey;

impl<T: 'static> KeySelector<T> for OneKey {
    type Key = ();
    type Found<'a> = ();

    #[inline(always)]
    fn select(&mut self, _record: &T) {}

    #[inline(always)]
    fn into_key((): ()) {}
}

impl<P: Pipe, S: KeySelector<P::Out>, W: WindowKind<P::Out>, E: Eviction<P::Out>> WindowedStream<P, S, W, E> {
    /// Has windows fire when this trigger says so. See [`Trigger`].
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::{Trigger, Windows};
    ///
    /// # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
    /// let numbers = env.from_collection(vec![1u64, 2, 3]).key_by(|_| ()).window(Windows::global());
    /// let sums = numbers.trigger(Trigger::count(1)).reduce(|sum, number| *sum += number).collect();
    /// assert_eq!(env.execute("running sum")?.collected(&sums)?, [1, 3, 6]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn trigger(mut self, trigger: Trigger<P::Out>) -> Self {
        self.settings.trigger = Some(trigger.0);
        self
    }

    /// Has records taken out of windows when they fire. See [`Evictor`].
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::{Evictor, Trigger, Windows};
    ///
    /// # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
    /// let numbers = env.from_collection(vec![1u64, 2, 3]).key_by(|_| ()).window(Windows::global());
    /// let last_two = numbers.trigger(Trigger::count(1)).evictor(Evictor::count(2)).reduce(|sum, number| *sum += number);
    /// let last_two = last_two.collect();
    /// assert_eq!(env.execute("last two")?.collected(&last_two)?, [1, 3, 5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn evictor(self, evictor: Evictor<P::Out>) -> WindowedStream<P, S, W, AnyEvictor<P::Out>> {
        let Settings { windows, trigger, lateness, late, parallelism, error, .. } = self.settings;
        let (evictor, error) = match evictor.build() {
            Ok(evictor) => (evictor, error),
            Err(refused) => (AnyEvictor::count(1, Order::Before).expect("one is not zero"), Some(refused)),
        };
        let settings = Settings { windows, trigger, evictor, lateness, late, parallelism, error };
        WindowedStream { stream: self.stream, selector: self.selector, settings }
    }

    /// Keeps windows of event time for so long after the watermark has passed their end: a record that comes meanwhile
    /// has its window fire again.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use std::time::Duration;
    /// use tidemill::Windows;
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// # let records = env.from_collection(vec![1u64]).key_by(|_| ());
    /// let minutes = records.window(Windows::tumbling(Duration::from_secs(60)));
    /// let minutes = minutes.allowed_lateness(Duration::from_secs(10));
    /// # let _ = minutes;
    /// # Ok(())
    /// # }
    /// ```
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.settings.lateness = millis(lateness);
        self
    }

    /// Has late records emitted to a side output of the windows' operator, instead of dropped.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use std::time::Duration;
    /// use tidemill::{OutputTag, Windows};
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// # let strategy = tidemill::WatermarkStrategy::monotonous(|record: &(i64, u64)| record.0);
    /// # let records = env.from_collection(vec![(1, 5)]).assign_timestamps_and_watermarks(strategy).key_by(|_| ());
    /// let late = OutputTag::new("late");
    /// let minutes = records.window(Windows::tumbling(Duration::from_secs(60))).late_output(&late);
    /// let sums = minutes.sum(|record| &mut record.1);
    /// let late = sums.side_output(&late).collect();
    /// let sums = sums.collect();
    /// let result = env.execute("late")?;
    /// assert_eq!((result.collected(&sums)?.len(), result.collected(&late)?.len()), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn late_output(mut self, tag: &OutputTag<P::Out>) -> Self {
        self.settings.late = Some(tag.clone());
        self
    }

    /// The operator.
    fn operate<F>(self, name: &str, function: F) -> DataStream<Windowed<P::Out, W, E, S, F>>
    where
        F: WindowFunction<S::Key, P::Out>,
    {
        let DataStream { environment, pipe, vertex, .. } = self.stream;
        let selector = self.selector.clone();
        self.settings.operate(environment, name, (self.selector, function), |builder, target| {
            builder.exchange_hashed(vertex, pipe, selector, target);
        })
    }
}
