//! Triggers of the user's own: their interface, and what the engine keeps for them.

use serde::{Deserialize, Serialize};

use super::{Now, TimeDomain, TimeWindow, TriggerResult};

/// When windows fire, decided by the user.
///
/// # To ensure correctness
/// Whatever it remembers belongs into the context's state: one trigger serves all keys and windows, and only the state
/// is part of checkpoints.
pub trait Trigger<T>: Send + Sync {
    /// A record came into the window.
    fn on_element(
        &self,
        value: &T,
        timestamp: i64,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult;

    /// An event-time timer has come that this trigger set for this window.
    fn on_event_time(&self, _time: i64, _window: TimeWindow, _context: &mut TriggerContext<'_>) -> TriggerResult {
        TriggerResult::Continue
    }

    /// A processing-time timer has come that this trigger set for this window.
    fn on_processing_time(&self, _time: i64, _window: TimeWindow, _context: &mut TriggerContext<'_>) -> TriggerResult {
        TriggerResult::Continue
    }

    /// Whether [`Trigger::on_merge`] does what session windows need.
    fn can_merge(&self) -> bool {
        false
    }

    /// Windows became this one. The context has the state of the earliest of them, `others` those of the rest in order;
    /// their timers are gone.
    fn on_merge(&self, _window: TimeWindow, _others: &[CustomState], _context: &mut TriggerContext<'_>) {}

    /// The window is forgotten, and its state with it.
    fn clear(&self, _window: TimeWindow, _context: &mut TriggerContext<'_>) {}
}

/// What a trigger of the user's own keeps for a window.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CustomState {
    /// A count of its own choice.
    pub count: u64,
    /// A number of its own choice.
    pub number: Option<f64>,
    /// Anything else, in an encoding of its own choice.
    pub bytes: Vec<u8>,
    /// Invariant: in order, without repetition.
    timers: Vec<(TimeDomain, i64)>,
}

impl CustomState {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The earliest timer in this domain.
    pub(super) fn next_timer(&self, domain: TimeDomain) -> Option<i64> {
        self.timers.iter().find(|timer| timer.0 == domain).map(|timer| timer.1)
    }

    /// Removes and returns the earliest timer up to this time.
    pub(super) fn take_due(&mut self, domain: TimeDomain, time: i64) -> Option<i64> {
        let index = self.timers.iter().position(|timer| timer.0 == domain && timer.1 <= time)?;
        Some(self.timers.remove(index).1)
    }

    /// Removes and returns all timers in this domain, in order.
    pub(super) fn take_all(&mut self, domain: TimeDomain) -> Vec<i64> {
        let taken = self.timers.iter().filter(|timer| timer.0 == domain).map(|timer| timer.1).collect();
        self.timers.retain(|timer| timer.0 != domain);
        taken
    }

    pub(super) fn clear_timers(&mut self) {
        self.timers.clear();
    }
}

/// What a trigger of the user's own can see and do.
#[derive(Debug)]
pub struct TriggerContext<'a> {
    /// Its state for this window.
    pub state: &'a mut CustomState,
    pub(super) now: Now,
}

impl TriggerContext<'_> {
    /// The current watermark.
    #[must_use]
    pub fn watermark(&self) -> i64 {
        self.now.watermark
    }

    /// The current processing time.
    #[must_use]
    pub fn processing_time(&self) -> i64 {
        self.now.processing_time
    }

    /// Wants to be called at this time, for this window.
    pub fn register(&mut self, domain: TimeDomain, time: i64) {
        if let Err(index) = self.state.timers.binary_search(&(domain, time)) {
            self.state.timers.insert(index, (domain, time));
        }
    }

    /// Does not want to be called any more.
    pub fn delete(&mut self, domain: TimeDomain, time: i64) {
        if let Ok(index) = self.state.timers.binary_search(&(domain, time)) {
            self.state.timers.remove(index);
        }
    }
}
