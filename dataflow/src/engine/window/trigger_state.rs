//! What a trigger remembers for one window.

use serde::{Deserialize, Serialize};

use super::time_window::{clamp, floor};
use super::{CustomState, TimeDomain};

/// What a trigger remembers for a window.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) enum TriggerState {
    /// Nothing.
    #[default]
    Empty,
    /// How many records came since it last fired.
    Count(u64),
    /// When it fires next.
    NextFire(i64),
    /// The position that the next ones are compared with.
    Last(f64),
    /// What the user's own trigger keeps.
    Custom(Box<CustomState>),
}

impl TriggerState {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Custom(state) => state.is_empty(),
            Self::Count(_) | Self::NextFire(_) | Self::Last(_) => false,
        }
    }

    /// How many records are counted.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Count(count) => *count,
            Self::Empty | Self::NextFire(_) | Self::Last(_) | Self::Custom(_) => 0,
        }
    }

    /// Counts one more; whether that makes the limit, after which it begins anew.
    pub(super) fn count_up_to(&mut self, limit: u64) -> bool {
        let count = self.count().saturating_add(1);
        let full = count >= limit;
        *self = if full { Self::Empty } else { Self::Count(count) };
        full
    }

    /// Plans the first fire: the next multiple of the interval, but not after the window's end if that is still to
    /// come.
    pub(super) fn plan(&mut self, interval: i64, time: i64, end: i64) {
        if self.next_fire().is_none() {
            let next = clamp(floor(time, interval, 0) + i128::from(interval));
            *self = Self::NextFire(if end < time { next } else { next.min(end) });
        }
    }

    /// Whether a planned fire is due; plans the one after it, if there is to be one.
    pub(super) fn take_planned(&mut self, time: i64, interval: Option<i64>, end: i64) -> bool {
        let Some(planned) = self.next_fire().filter(|planned| *planned <= time) else { return false };
        let next = interval.map(|interval| planned.saturating_add(interval).min(end)).filter(|next| *next > planned);
        *self = next.map_or(Self::Empty, Self::NextFire);
        true
    }

    /// Whether a position is farther than the threshold from the last; if so, or if it is the first, it is the last now.
    pub(super) fn move_to(&mut self, position: f64, threshold: f64) -> bool {
        let far = match self {
            Self::Last(last) => (position - *last).abs() > threshold,
            Self::Empty | Self::Count(_) | Self::NextFire(_) | Self::Custom(_) => {
                *self = Self::Last(position);
                return false;
            }
        };
        if far {
            *self = Self::Last(position);
        }
        far
    }

    /// The earliest timer of a user's own trigger in this domain.
    pub(super) fn next_custom_timer(&self, domain: TimeDomain) -> Option<i64> {
        match self {
            Self::Custom(state) => state.next_timer(domain),
            Self::Empty | Self::Count(_) | Self::NextFire(_) | Self::Last(_) => None,
        }
    }

    /// When it fires next, if that is planned.
    pub(super) fn next_fire(&self) -> Option<i64> {
        match self {
            Self::NextFire(time) => Some(*time),
            Self::Empty | Self::Count(_) | Self::Last(_) | Self::Custom(_) => None,
        }
    }

    /// The state of a user's own trigger, made now if there is none.
    pub(super) fn custom(&mut self) -> &mut CustomState {
        if !matches!(self, Self::Custom(_)) {
            *self = Self::Custom(Box::default());
        }
        match self {
            Self::Custom(state) => state,
            Self::Empty | Self::Count(_) | Self::NextFire(_) | Self::Last(_) => unreachable!("it was made above"),
        }
    }
}
