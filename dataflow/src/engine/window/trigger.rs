//! Triggers: when a window fires.

use std::fmt;
use std::sync::Arc;

use super::trigger_state::TriggerState;
use super::{CustomState, Error, Now, TimeDomain, TimeWindow, Trigger, TriggerContext, positive};

/// What a trigger wants done with its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// Emit the contents and keep them.
    Fire,
    /// Drop the contents.
    Purge,
    /// Emit the contents and drop them.
    FireAndPurge,
}

impl TriggerResult {
    /// Whether the contents are emitted.
    #[must_use]
    pub fn fires(self) -> bool {
        matches!(self, Self::Fire | Self::FireAndPurge)
    }

    /// Whether the contents are dropped.
    #[must_use]
    pub fn purges(self) -> bool {
        matches!(self, Self::Purge | Self::FireAndPurge)
    }
}

/// A trigger: one of the built-in ones, or the user's own.
#[derive(Clone)]
pub enum AnyTrigger<T> {
    /// Fires when the watermark passes the window's end, and then with each late record that is still allowed.
    EventTime,
    /// Fires when processing time passes the window's end.
    ProcessingTime,
    /// Fires when this many records have come since it last fired; at least one.
    Count(u64),
    /// Drops the contents whenever the inner trigger fires.
    Purging(Box<AnyTrigger<T>>),
    /// Fires at each multiple of this many milliseconds of event time, and at the window's end.
    ContinuousEventTime(i64),
    /// Fires at each multiple of this many milliseconds of processing time.
    ContinuousProcessingTime(i64),
    /// Fires when a record's position is farther than this from that of the record that fired last, or came first.
    Delta(f64, Arc<dyn Fn(&T) -> f64 + Send + Sync>),
    /// Never fires.
    Never,
    /// The user's own.
    Custom(Arc<dyn Trigger<T>>),
}

impl<T> AnyTrigger<T> {
    /// The trigger that windows of this domain have when none is asked for.
    #[must_use]
    pub fn default_of(domain: TimeDomain) -> Self {
        match domain {
            TimeDomain::Event => Self::EventTime,
            TimeDomain::Processing => Self::ProcessingTime,
        }
    }

    /// Drops the contents whenever this trigger fires.
    #[must_use]
    pub fn purging(self) -> Self {
        Self::Purging(Box::new(self))
    }

    /// Whether its settings make sense.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self {
            Self::EventTime | Self::ProcessingTime | Self::Never | Self::Custom(_) => Ok(()),
            Self::Count(0) => Err(Error::NotPositive { what: "trigger count", value: 0 }),
            Self::Count(_) => Ok(()),
            Self::Purging(inner) => inner.check(),
            Self::ContinuousEventTime(interval) | Self::ContinuousProcessingTime(interval) => {
                positive("trigger interval", *interval).map(|_| ())
            }
            Self::Delta(threshold, _) if threshold.is_nan() => {
                Err(Error::ThresholdNotANumber { threshold: *threshold })
            }
            Self::Delta(..) => Ok(()),
        }
    }

    /// Whether session windows can have it.
    pub(super) fn can_merge(&self) -> bool {
        match self {
            Self::Delta(..) => false,
            Self::Purging(inner) => inner.can_merge(),
            Self::Custom(trigger) => trigger.can_merge(),
            Self::EventTime
            | Self::ProcessingTime
            | Self::Count(_)
            | Self::ContinuousEventTime(_)
            | Self::ContinuousProcessingTime(_)
            | Self::Never => true,
        }
    }

    /// Whether it is the user's own.
    pub(super) fn is_custom(&self) -> bool {
        match self {
            Self::Custom(_) => true,
            Self::Purging(inner) => inner.is_custom(),
            Self::EventTime
            | Self::ProcessingTime
            | Self::Count(_)
            | Self::ContinuousEventTime(_)
            | Self::ContinuousProcessingTime(_)
            | Self::Delta(..)
            | Self::Never => false,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::EventTime => "event time",
            Self::ProcessingTime => "processing time",
            Self::Count(_) => "count",
            Self::Purging(inner) => inner.name(),
            Self::ContinuousEventTime(_) => "continuous event time",
            Self::ContinuousProcessingTime(_) => "continuous processing time",
            Self::Delta(..) => "delta",
            Self::Never => "never firing",
            Self::Custom(_) => "user-defined",
        }
    }

    /// A record came into the window.
    pub(super) fn on_element(
        &self,
        value: &T,
        timestamp: i64,
        window: TimeWindow,
        state: &mut TriggerState,
        now: Now,
    ) -> TriggerResult {
        let ended = window.max_timestamp() <= now.watermark;
        match self {
            Self::EventTime => fire_if(ended),
            Self::ProcessingTime => {
                *state = TriggerState::NextFire(window.max_timestamp());
                TriggerResult::Continue
            }
            Self::Count(limit) => fire_if(state.count_up_to(*limit)),
            Self::Purging(inner) => purge(inner.on_element(value, timestamp, window, state, now)),
            Self::ContinuousEventTime(_) if ended => TriggerResult::Fire,
            Self::ContinuousEventTime(interval) => {
                state.plan(*interval, timestamp, window.max_timestamp());
                TriggerResult::Continue
            }
            Self::ContinuousProcessingTime(interval) => {
                state.plan(*interval, now.processing_time, window.max_timestamp());
                TriggerResult::Continue
            }
            Self::Delta(threshold, position) => fire_if(state.move_to(position(value), *threshold)),
            Self::Never => TriggerResult::Continue,
            Self::Custom(trigger) => {
                trigger.on_element(value, timestamp, window, &mut TriggerContext { state: state.custom(), now })
            }
        }
    }

    /// The clock of this domain reached a time; `passed` is what event time had reached before.
    pub(super) fn on_timer(
        &self,
        (domain, time): (TimeDomain, i64),
        passed: i64,
        window: TimeWindow,
        state: &mut TriggerState,
        now: Now,
    ) -> TriggerResult {
        let end = window.max_timestamp();
        let ends = domain == TimeDomain::Event && passed < end && end <= time;
        match self {
            Self::EventTime => fire_if(ends),
            Self::ProcessingTime if domain == TimeDomain::Processing => fire_if(state.take_planned(time, None, end)),
            Self::Purging(inner) => purge(inner.on_timer((domain, time), passed, window, state, now)),
            Self::ContinuousEventTime(interval) if domain == TimeDomain::Event => {
                fire_if(state.take_planned(time, Some(*interval), end) || ends)
            }
            Self::ContinuousProcessingTime(interval) if domain == TimeDomain::Processing => {
                // A window of event time may lie in the past; it goes on firing for as long as it is kept.
                let last = if state.next_fire().is_some_and(|planned| planned < end) { end } else { i64::MAX };
                fire_if(state.take_planned(time, Some(*interval), last))
            }
            Self::Custom(trigger) => custom_timers(trigger.as_ref(), (domain, time), window, state, now),
            Self::ProcessingTime
            | Self::ContinuousEventTime(_)
            | Self::ContinuousProcessingTime(_)
            | Self::Count(_)
            | Self::Delta(..)
            | Self::Never => TriggerResult::Continue,
        }
    }

    /// When it wants to be asked next; ends of windows that event time has passed are over.
    pub(super) fn next_timer(
        &self,
        domain: TimeDomain,
        window: TimeWindow,
        state: &TriggerState,
        passed: i64,
    ) -> Option<i64> {
        let end = Some(window.max_timestamp()).filter(|end| *end > passed);
        match (self, domain) {
            (Self::Purging(inner), _) => inner.next_timer(domain, window, state, passed),
            (Self::EventTime, TimeDomain::Event) => end,
            (Self::ContinuousEventTime(_), TimeDomain::Event) => state.next_fire().into_iter().chain(end).min(),
            (Self::ProcessingTime | Self::ContinuousProcessingTime(_), TimeDomain::Processing) => state.next_fire(),
            (Self::Custom(_), _) => state.next_custom_timer(domain),
            (Self::EventTime | Self::ContinuousEventTime(_), TimeDomain::Processing)
            | (Self::ProcessingTime | Self::ContinuousProcessingTime(_), TimeDomain::Event)
            | (Self::Count(_) | Self::Delta(..) | Self::Never, _) => None,
        }
    }

    /// Windows became this one: `state` is that of the earliest, `others` those of the rest in order.
    pub(super) fn on_merge(
        &self,
        window: TimeWindow,
        state: &mut TriggerState,
        others: impl Iterator<Item = TriggerState>,
        now: Now,
    ) {
        match self {
            Self::Purging(inner) => inner.on_merge(window, state, others, now),
            Self::Count(_) => {
                let count = others.map(|other| other.count()).fold(state.count(), u64::saturating_add);
                *state = if count == 0 { TriggerState::Empty } else { TriggerState::Count(count) };
            }
            Self::ContinuousEventTime(_) | Self::ContinuousProcessingTime(_) => {
                let earliest = others.filter_map(|state| state.next_fire()).chain(state.next_fire()).min();
                *state = earliest.map_or(TriggerState::Empty, TriggerState::NextFire);
            }
            Self::Custom(trigger) => {
                let others: Vec<_> = others.map(|mut state| std::mem::take(state.custom())).collect();
                let state = state.custom();
                state.clear_timers();
                trigger.on_merge(window, &others, &mut TriggerContext { state, now });
            }
            // A merge is always followed by the record that caused it, which sets the new end.
            Self::EventTime | Self::ProcessingTime | Self::Delta(..) | Self::Never => {}
        }
    }

    /// The window is forgotten.
    pub(super) fn clear(&self, window: TimeWindow, state: &mut TriggerState, now: Now) {
        match self {
            Self::Purging(inner) => inner.clear(window, state, now),
            Self::Custom(trigger) => trigger.clear(window, &mut TriggerContext { state: state.custom(), now }),
            Self::EventTime
            | Self::ProcessingTime
            | Self::Count(_)
            | Self::ContinuousEventTime(_)
            | Self::ContinuousProcessingTime(_)
            | Self::Delta(..)
            | Self::Never => {}
        }
    }
}

impl<T> fmt::Debug for AnyTrigger<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(records) => write!(formatter, "count({records})"),
            Self::Purging(inner) => write!(formatter, "purging {inner:?}"),
            Self::ContinuousEventTime(interval) | Self::ContinuousProcessingTime(interval) => {
                write!(formatter, "{}({interval})", self.name())
            }
            Self::Delta(threshold, _) => write!(formatter, "delta({threshold})"),
            Self::EventTime | Self::ProcessingTime | Self::Never | Self::Custom(_) => formatter.write_str(self.name()),
        }
    }
}

fn fire_if(fires: bool) -> TriggerResult {
    if fires { TriggerResult::Fire } else { TriggerResult::Continue }
}

fn purge(result: TriggerResult) -> TriggerResult {
    if result.fires() { TriggerResult::FireAndPurge } else { result }
}

/// Asks the user's trigger about each of its timers that is due.
///
/// At the end of time only those that were set before are: a trigger that always sets another would go on for ever.
fn custom_timers<T>(
    trigger: &dyn Trigger<T>,
    (domain, time): (TimeDomain, i64),
    window: TimeWindow,
    state: &mut TriggerState,
    now: Now,
) -> TriggerResult {
    let (mut fires, mut purges) = (false, false);
    let mut ask = |due: i64, state: &mut CustomState| {
        let mut context = TriggerContext { state, now };
        let result = match domain {
            TimeDomain::Event => trigger.on_event_time(due, window, &mut context),
            TimeDomain::Processing => trigger.on_processing_time(due, window, &mut context),
        };
        fires |= result.fires();
        purges |= result.purges();
    };
    let state = state.custom();
    if time == i64::MAX {
        state.take_all(domain).into_iter().for_each(|due| ask(due, state));
    } else {
        while let Some(due) = state.take_due(domain, time) {
            ask(due, state);
        }
    }
    match (fires, purges) {
        (false, false) => TriggerResult::Continue,
        (true, false) => TriggerResult::Fire,
        (false, true) => TriggerResult::Purge,
        (true, true) => TriggerResult::FireAndPurge,
    }
}
