//! Timers of one key: the two domains of time, where they are registered, and the earliest one that is.

use serde::{Deserialize, Serialize};

pub use crate::engine::timers::TimeDomain;

/// Both clocks, as they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The operator's current watermark; `i64::MIN` when there was none yet.
    pub watermark: i64,
    /// The current processing time.
    pub processing_time: i64,
}

/// Where the timers of the key at hand are set.
///
/// # To ensure correctness
/// It is a set: what is registered twice comes once. A timer is consumed when it is delivered. A time that has passed
/// already is due at the next advance of its clock. A registration must survive as long as the key's state does.
pub trait TimerSink {
    /// Wants a call of `on_timer` when this time is reached.
    fn register(&mut self, domain: TimeDomain, time: i64);

    /// Does not want it any more; if it comes nevertheless, nothing happens.
    fn delete(&mut self, domain: TimeDomain, time: i64);
}

/// The one timer that a key has set in a domain: the earliest that any of its windows waits for.
///
/// One is enough, since the next is set when this one comes; so a record costs a registration only if it waits for
/// an earlier time than all before it, and a session that grows costs none.
/// `i64::MIN` stands for none: nothing can wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Armed(i64);

impl Armed {
    pub(super) const NONE: Self = Self(i64::MIN);

    pub(super) fn time(self) -> Option<i64> {
        (self != Self::NONE).then_some(self.0)
    }

    /// Sets the timer if it is earlier than the one that is set.
    pub(super) fn advance(&mut self, domain: TimeDomain, wanted: Option<i64>, sink: &mut impl TimerSink) {
        let Some(time) = wanted else { return };
        if self.time().is_none_or(|armed| time < armed) {
            self.0 = time.max(i64::MIN + 1);
            sink.register(domain, self.0);
        }
    }

    /// Sets the next timer, after the one that was set has come.
    pub(super) fn replace(&mut self, domain: TimeDomain, wanted: Option<i64>, sink: &mut impl TimerSink) {
        *self = Self::NONE;
        self.advance(domain, wanted, sink);
    }

    /// Takes the timer back.
    pub(super) fn disarm(&mut self, domain: TimeDomain, sink: &mut impl TimerSink) {
        if let Some(time) = self.time() {
            sink.delete(domain, time);
            *self = Self::NONE;
        }
    }
}
