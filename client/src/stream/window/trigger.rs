//! Triggers as a program names them: when windows fire.

use std::sync::Arc;
use std::time::Duration;

use tidemill_dataflow::engine::window::{AnyTrigger, Trigger as CustomTrigger};

use super::windows::millis;

/// When windows fire, other than once at their end.
///
/// ```
/// use std::time::Duration;
/// use tidemill::{Trigger, Windows};
///
/// # fn main() -> Result<(), tidemill::Error> {
/// # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
/// let numbers = env.from_collection(vec![1u64, 2, 3, 4, 5]).key_by(|_| ());
/// let sums = numbers.window(Windows::global()).trigger(Trigger::count(2).purging()).reduce(|sum, number| *sum += number);
/// let sums = sums.collect();
/// assert_eq!(env.execute("pairs")?.collected(&sums)?, [3, 7]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Trigger<T>(pub(super) AnyTrigger<T>);

impl<T> Trigger<T> {
    /// Fires when the watermark passes the end of the window, and then with each late record that is still allowed.
    ///
    /// ```
    /// # let trigger: tidemill::Trigger<u64> =
    /// tidemill::Trigger::event_time();
    /// ```
    #[must_use]
    pub fn event_time() -> Self {
        Self(AnyTrigger::EventTime)
    }

    /// Fires when the clock passes the end of the window.
    ///
    /// ```
    /// # let trigger: tidemill::Trigger<u64> =
    /// tidemill::Trigger::processing_time();
    /// ```
    #[must_use]
    pub fn processing_time() -> Self {
        Self(AnyTrigger::ProcessingTime)
    }

    /// Fires whenever this many records have come.
    ///
    /// ```
    /// # let trigger: tidemill::Trigger<u64> =
    /// tidemill::Trigger::count(100);
    /// ```
    #[must_use]
    pub fn count(records: u64) -> Self {
        Self(AnyTrigger::Count(records))
    }

    /// Fires at each multiple of `interval` in event time, and at the end of the window.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let trigger: tidemill::Trigger<u64> =
    /// tidemill::Trigger::continuous_event_time(Duration::from_secs(10));
    /// ```
    #[must_use]
    pub fn continuous_event_time(interval: Duration) -> Self {
        Self(AnyTrigger::ContinuousEventTime(millis(interval)))
    }

    /// Fires at each multiple of `interval` by the clock.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let trigger: tidemill::Trigger<u64> =
    /// tidemill::Trigger::continuous_processing_time(Duration::from_secs(10));
    /// ```
    #[must_use]
    pub fn continuous_processing_time(interval: Duration) -> Self {
        Self(AnyTrigger::ContinuousProcessingTime(millis(interval)))
    }

    /// Fires when a record's `position` is farther than `threshold` from that of the record that fired last, or that
    /// came first. Sessions cannot have it.
    ///
    /// ```
    /// let trigger = tidemill::Trigger::delta(0.5, |temperature: &f64| *temperature);
    /// # let _ = trigger;
    /// ```
    #[must_use]
    pub fn delta(threshold: f64, position: impl Fn(&T) -> f64 + Send + Sync + 'static) -> Self {
        Self(AnyTrigger::Delta(threshold, Arc::new(position)))
    }

    /// Never fires.
    ///
    /// ```
    /// # let trigger: tidemill::Trigger<u64> =
    /// tidemill::Trigger::never();
    /// ```
    #[must_use]
    pub fn never() -> Self {
        Self(AnyTrigger::Never)
    }

    /// A trigger of one's own.
    ///
    /// ```
    /// use tidemill::{CustomTrigger, TimeWindow, Trigger, TriggerContext, TriggerResult, Windows};
    ///
    /// /// Fires with each zero.
    /// struct AtZero;
    ///
    /// impl CustomTrigger<u64> for AtZero {
    ///     fn on_element(&self, number: &u64, _: i64, _: TimeWindow, _: &mut TriggerContext<'_>) -> TriggerResult {
    ///         if *number == 0 { TriggerResult::FireAndPurge } else { TriggerResult::Continue }
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
    /// let numbers = env.from_collection(vec![1, 2, 0, 3, 0, 4]).window_all(Windows::global());
    /// let sums = numbers.trigger(Trigger::custom(AtZero)).reduce(|sum, number| *sum += number).collect();
    /// assert_eq!(env.execute("to zero")?.collected(&sums)?, [3, 3]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn custom(trigger: impl CustomTrigger<T> + 'static) -> Self {
        Self(AnyTrigger::Custom(Arc::new(trigger)))
    }

    /// Drops what is in the window whenever it fires.
    ///
    /// ```
    /// # let trigger: tidemill::Trigger<u64> =
    /// tidemill::Trigger::count(100).purging();
    /// ```
    #[must_use]
    pub fn purging(self) -> Self {
        Self(self.0.purging())
    }
}
