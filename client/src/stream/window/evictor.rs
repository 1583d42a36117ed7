//! Evictors as a program names them: what is taken out of a window around its function.

use std::fmt;
use std::time::Duration;

use tidemill_dataflow::engine::window::{AnyEvictor, Error, Evictor as CustomEvictor, Order};

use super::windows::millis;

/// What is taken out of a window before its function sees it, or after.
///
/// A window with an evictor keeps all its records, and aggregates them anew whenever it fires.
///
/// ```
/// use tidemill::{Evictor, Trigger, Windows};
///
/// # fn main() -> Result<(), tidemill::Error> {
/// # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
/// let numbers = env.from_collection(vec![1, 2, 3, 4]).window_all(Windows::global());
/// let last_three = numbers.trigger(Trigger::count(2)).evictor(Evictor::count(3)).reduce(|sum, number| *sum += number);
/// let last_three = last_three.collect();
/// assert_eq!(env.execute("last three")?.collected(&last_three)?, [1 + 2, 2 + 3 + 4]);
/// # Ok(())
/// # }
/// ```
#[must_use = "an evictor does nothing until a window has it"]
pub struct Evictor<T> {
    order: Order,
    make: Box<dyn FnOnce(Order) -> Result<AnyEvictor<T>, Error>>,
}

impl<T: 'static> Evictor<T> {
    /// Keeps the last records, this many.
    ///
    /// ```
    /// # let evictor: tidemill::Evictor<u64> =
    /// tidemill::Evictor::count(10);
    /// ```
    pub fn count(keep: usize) -> Self {
        Self::of(move |order| AnyEvictor::count(keep, order))
    }

    /// Keeps the records whose event time is less than `keep` before the latest.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let evictor: tidemill::Evictor<u64> =
    /// tidemill::Evictor::time(Duration::from_secs(10));
    /// ```
    pub fn time(keep: Duration) -> Self {
        Self::of(move |order| AnyEvictor::time(millis(keep), order))
    }

    /// Keeps the records whose distance to the last one is below the threshold; the function gets a record and the
    /// last one.
    ///
    /// ```
    /// let evictor = tidemill::Evictor::delta(0.5, |one: &f64, last: &f64| (one - last).abs());
    /// # let _ = evictor;
    /// ```
    pub fn delta(threshold: f64, distance: impl Fn(&T, &T) -> f64 + Send + Sync + 'static) -> Self {
        Self::of(move |order| AnyEvictor::delta(threshold, order, distance))
    }

    /// An evictor of one's own, which is asked before and after the window's function.
    ///
    /// ```
    /// use tidemill::{CustomEvictor, Evictor, Stamped, TimeWindow, Trigger, Windows};
    ///
    /// /// Zeros do not count.
    /// struct NoZeros;
    ///
    /// impl CustomEvictor<u64> for NoZeros {
    ///     fn evict_before(&self, records: &mut Vec<Stamped<u64>>, _: TimeWindow, _: i64) {
    ///         records.retain(|record| record.value != 0);
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.from_collection(vec![1, 0, 2, 0, 0]).window_all(Windows::global()).trigger(Trigger::count(5));
    /// let counts = numbers.evictor(Evictor::custom(NoZeros)).count().collect();
    /// assert_eq!(env.execute("no zeros")?.collected(&counts)?, [((), 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn custom(evictor: impl CustomEvictor<T> + 'static) -> Self {
        Self::of(move |_| Ok(AnyEvictor::custom(evictor)))
    }

    /// Evicts after the window's function has seen the records, not before.
    ///
    /// ```
    /// # let evictor: tidemill::Evictor<u64> =
    /// tidemill::Evictor::count(10).after();
    /// ```
    pub fn after(self) -> Self {
        Self { order: Order::After, ..self }
    }

    fn of(make: impl FnOnce(Order) -> Result<AnyEvictor<T>, Error> + 'static) -> Self {
        Self { order: Order::Before, make: Box::new(make) }
    }

    /// The engine's form.
    pub(super) fn build(self) -> Result<AnyEvictor<T>, Error> {
        (self.make)(self.order)
    }
}

impl<T> fmt::Debug for Evictor<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Evictor({:?})", self.order)
    }
}
