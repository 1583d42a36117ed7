//! Joins and groups of two keyed streams, window by window.

use std::marker::PhantomData;
use std::time::Duration;

use tidemill_dataflow::function::{EitherKey, OutputTag};
use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::operator::window::{CoGroupWindow, NoEvictor};
use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::record::Data;

use super::settings::Settings;
use super::windows::{WindowKind, Windows, millis};
use crate::stream::{DataStream, Either, KeyedStream};

/// That pairs are wanted, one record of each stream.
///
/// ```
/// # use std::marker::PhantomData;
/// let mode: PhantomData<tidemill::stream::Pairs> = PhantomData;
/// # let _ = mode;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairs;

/// That groups are wanted, all records of both streams.
///
/// ```
/// # use std::marker::PhantomData;
/// let mode: PhantomData<tidemill::stream::Groups> = PhantomData;
/// # let _ = mode;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups;

/// Two keyed streams that are to be joined (`M` is [`Pairs`]) or grouped (`M` is [`Groups`]) in windows.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// use std::time::Duration;
/// use tidemill::{WatermarkStrategy, Windows};
///
/// # let env = tidemill::Environment::from_args()?;
/// let orders = env.from_collection(vec![(1, 'a', "tea".to_owned()), (12, 'b', "rice".to_owned())]);
/// let orders = orders.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|order: &(i64, char, String)| order.0));
/// let payments = env.from_collection(vec![(3, 'a', 250), (31, 'b', 90)]);
/// let payments = payments.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|payment: &(i64, char, u64)| payment.0));
/// let paid = orders
///     .key_by(|order| order.1)
///     .join(payments.key_by(|payment| payment.1))
///     .window(Windows::tumbling(Duration::from_millis(10)))
///     .apply(|order, payment| (order.2.clone(), payment.2))
///     .collect();
/// assert_eq!(env.execute("paid")?.collected(&paid)?, [("tea".to_owned(), 250)]);
/// # Ok(())
/// # }
/// ```
#[must_use = "joined streams do nothing until they have windows and a function"]
pub struct JoinedStreams<P, S, Q, U, M> {
    left: KeyedStream<P, S>,
    right: KeyedStream<Q, U>,
    mode: PhantomData<M>,
}

/// Two keyed streams in windows, that lack but the function.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// use std::time::Duration;
/// use tidemill::Windows;
///
/// # let env = tidemill::Environment::from_args()?;
/// let left = env.generate_sequence(0..3, None).key_by(|number| *number);
/// let right = env.generate_sequence(2..5, None).key_by(|number| *number);
/// // By the clock and at its end: both may come in the same hour, or not.
/// let windowed = left.join(right).window(Windows::tumbling(Duration::from_secs(3600)).in_processing_time());
/// let common = windowed.apply(|left, right| (*left, *right)).collect();
/// assert!(env.execute("common")?.collected(&common)?.len() < 2);
/// # Ok(())
/// # }
/// ```
#[must_use = "joined streams do nothing until they have a function"]
pub struct WindowedJoin<P: Pipe, S, Q: Pipe, U, M, W> {
    streams: JoinedStreams<P, S, Q, U, M>,
    settings: Settings<Either<P::Out, Q::Out>, W, NoEvictor>,
}

impl<P: Pipe, S: KeySelector<P::Out>> KeyedStream<P, S> {
    /// Joins the records of this stream and another one that have the same key and are in the same window. See
    /// [`JoinedStreams`].
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.generate_sequence(0..3, None).key_by(|number| *number);
    /// let joined = numbers.join(env.from_collection(vec![7u64]).key_by(|number| *number));
    /// # let _ = joined;
    /// # Ok(())
    /// # }
    /// ```
    pub fn join<Q, U>(self, other: KeyedStream<Q, U>) -> JoinedStreams<P, S, Q, U, Pairs>
    where
        Q: Pipe,
        U: KeySelector<Q::Out, Key = S::Key>,
    {
        JoinedStreams { left: self, right: other, mode: PhantomData }
    }

    /// Groups the records of this stream and another one that have the same key and are in the same window, whether
    /// both have any or only one. See [`WindowedJoin::apply`](WindowedJoin#method.apply-1).
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.generate_sequence(0..3, None).key_by(|number| *number);
    /// let grouped = numbers.co_group(env.from_collection(vec![7u64]).key_by(|number| *number));
    /// # let _ = grouped;
    /// # Ok(())
    /// # }
    /// ```
    pub fn co_group<Q, U>(self, other: KeyedStream<Q, U>) -> JoinedStreams<P, S, Q, U, Groups>
    where
        Q: Pipe,
        U: KeySelector<Q::Out, Key = S::Key>,
    {
        JoinedStreams { left: self, right: other, mode: PhantomData }
    }
}

impl<P, S, Q, U, M> JoinedStreams<P, S, Q, U, M>
where
    P: Pipe,
    S: KeySelector<P::Out>,
    Q: Pipe,
    U: KeySelector<Q::Out, Key = S::Key>,
{
    /// Puts the records of both streams into windows: sessions are of both together.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let left = env.generate_sequence(0..3, None).key_by(|number| *number);
    /// # let right = env.generate_sequence(2..5, None).key_by(|number| *number);
    /// use std::time::Duration;
    /// use tidemill::Windows;
    ///
    /// let windowed = left.join(right).window(Windows::session(Duration::from_secs(60)));
    /// # let _ = windowed;
    /// # Ok(())
    /// # }
    /// ```
    pub fn window<W>(self, windows: Windows<W>) -> WindowedJoin<P, S, Q, U, M, W>
    where
        W: WindowKind<Either<P::Out, Q::Out>>,
    {
        let parallelism = self.left.stream.environment.parallelism();
        WindowedJoin { streams: self, settings: Settings::new(windows, NoEvictor, parallelism) }
    }
}

impl<P, S, Q, U, M, W> WindowedJoin<P, S, Q, U, M, W>
where
    P: Pipe,
    S: KeySelector<P::Out>,
    Q: Pipe,
    U: KeySelector<Q::Out, Key = S::Key>,
    W: WindowKind<Either<P::Out, Q::Out>>,
{
    /// Has windows fire when this trigger says so.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let left = env.generate_sequence(0..3, None).key_by(|number| *number);
    /// # let right = env.generate_sequence(2..5, None).key_by(|number| *number);
    /// use tidemill::{Trigger, Windows};
    ///
    /// let windowed = left.join(right).window(Windows::global()).trigger(Trigger::count(2).purging());
    /// let pairs = windowed.apply(|left, right| (*left, *right)).collect();
    /// assert_eq!(env.execute("pairs")?.collected(&pairs)?, [(2, 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn trigger(mut self, trigger: super::Trigger<Either<P::Out, Q::Out>>) -> Self {
        self.settings.trigger = Some(trigger.0);
        self
    }

    /// Keeps windows of event time for so long after the watermark has passed their end: a record that comes meanwhile
    /// has its window fire again.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let left = env.generate_sequence(0..3, None).key_by(|number| *number);
    /// # let right = env.generate_sequence(2..5, None).key_by(|number| *number);
    /// use std::time::Duration;
    /// use tidemill::Windows;
    ///
    /// let windowed = left.join(right).window(Windows::tumbling(Duration::from_secs(60)));
    /// let windowed = windowed.allowed_lateness(Duration::from_secs(5));
    /// # let _ = windowed;
    /// # Ok(())
    /// # }
    /// ```
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.settings.lateness = millis(lateness);
        self
    }

    /// Has late records emitted to a side output of the join's operator, instead of dropped.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let left = env.generate_sequence(0..3, None).key_by(|number| *number);
    /// # let right = env.generate_sequence(2..5, None).key_by(|number| *number);
    /// use std::time::Duration;
    /// use tidemill::{Either, OutputTag, Windows};
    ///
    /// let late = OutputTag::<Either<u64, u64>>::new("late");
    /// let windowed = left.join(right).window(Windows::tumbling(Duration::from_secs(60))).late_output(&late);
    /// # let _ = windowed;
    /// # Ok(())
    /// # }
    /// ```
    pub fn late_output(mut self, tag: &OutputTag<Either<P::Out, Q::Out>>) -> Self {
        self.settings.late = Some(tag.clone());
        self
    }

    fn operate<O, F>(self, name: &str, function: F) -> DataStream<impl Pipe<Out = O> + use<P, S, Q, U, M, W, O, F>>
    where
        O: Data,
        F: FnMut(&S::Key, &[P::Out], &[Q::Out], &mut Vec<O>) + Clone + Send + Sync + 'static,
    {
        let KeyedStream { stream: left, selector: left_selector } = self.streams.left;
        let KeyedStream { stream: right, selector: right_selector } = self.streams.right;
        let selector = EitherKey::new(left_selector, right_selector);
        let (left, right) = (left.map(Either::Left).name("Left"), right.map(Either::Right).name("Right"));
        let (both, function) = (selector.clone(), CoGroupWindow::new(function));
        self.settings.operate(left.environment, name, (selector, function), |builder, target| {
            builder.exchange_hashed(left.vertex, left.pipe, both.clone(), target);
            builder.exchange_hashed(right.vertex, right.pipe, both, target);
        })
    }
}

impl<P, S, Q, U, W> WindowedJoin<P, S, Q, U, Pairs, W>
where
    P: Pipe,
    S: KeySelector<P::Out>,
    Q: Pipe,
    U: KeySelector<Q::Out, Key = S::Key>,
    W: WindowKind<Either<P::Out, Q::Out>>,
{
    /// Makes one record of each pair of records in a window.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let strategy = || tidemill::WatermarkStrategy::monotonous(|time: &i64| *time);
    /// # let left = env.from_collection(vec![1i64, 2]).assign_timestamps_and_watermarks(strategy()).key_by(|_| ());
    /// # let right = env.from_collection(vec![3i64, 4]).assign_timestamps_and_watermarks(strategy()).key_by(|_| ());
    /// use std::time::Duration;
    /// use tidemill::Windows;
    ///
    /// let windowed = left.join(right).window(Windows::tumbling(Duration::from_secs(60)));
    /// let products = windowed.apply(|left, right| left * right).collect();
    /// # let mut products = env.execute("products")?.collected(&products)?;
    /// # products.sort();
    /// assert_eq!(products, [3, 4, 6, 8]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply<O, F>(self, mut function: F) -> DataStream<impl Pipe<Out = O> + use<P, S, Q, U, W, O, F>>
    where
        O: Data,
        F: FnMut(&P::Out, &Q::Out) -> O + Clone + Send + Sync + 'static,
    {
        self.operate("Window Join", move |_, left, right, out| {
            for left in left {
                out.extend(right.iter().map(|right| function(left, right)));
            }
        })
    }
}

impl<P, S, Q, U, W> WindowedJoin<P, S, Q, U, Groups, W>
where
    P: Pipe,
    S: KeySelector<P::Out>,
    Q: Pipe,
    U: KeySelector<Q::Out, Key = S::Key>,
    W: WindowKind<Either<P::Out, Q::Out>>,
{
    /// Makes any number of records of a key's records in a window.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # let strategy = || tidemill::WatermarkStrategy::monotonous(|time: &i64| *time);
    /// # let left = env.from_collection(vec![1i64, 2]).assign_timestamps_and_watermarks(strategy()).key_by(|_| ());
    /// # let right = env.from_collection(vec![3i64]).assign_timestamps_and_watermarks(strategy()).key_by(|_| ());
    /// use std::time::Duration;
    /// use tidemill::Windows;
    ///
    /// let windowed = left.co_group(right).window(Windows::tumbling(Duration::from_secs(60)));
    /// let counts = windowed.apply(|_, left, right, out| out.push((left.len(), right.len()))).collect();
    /// assert_eq!(env.execute("counts")?.collected(&counts)?, [(2, 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply<O, F>(self, function: F) -> DataStream<impl Pipe<Out = O> + use<P, S, Q, U, W, O, F>>
    where
        O: Data,
        F: FnMut(&S::Key, &[P::Out], &[Q::Out], &mut Vec<O>) + Clone + Send + Sync + 'static,
    {
        self.operate("Window Co-Group", function)
    }
}
