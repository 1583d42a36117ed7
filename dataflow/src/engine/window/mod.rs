//! The window engine: which windows a record belongs to, when they fire, and what one key keeps of them.
//!
//! ```text
//!            +-- Windowing<T> ------------------------+
//!  record -> | Assigner   which windows               | -> Host: fold, merge, emit, timers
//!  timer  -> | AnyTrigger when they fire              |
//!            | lateness   when they are forgotten     |
//!            +-------- reads and changes KeyWindows<A>+   (the state of one key, plain data)
//! ```
//!
//! Times are milliseconds since the epoch. A timestamp of `i64::MIN` means "none", a watermark of `i64::MAX` the end of
//! time. Bounds that lie outside of `i64` are clamped, and whoever computes with them does so before the clamp.
//!
//! What a caller owes: it delivers due timers in order of time, those registered meanwhile too, before it adds the next
//! record; and it forgets the state of a key when [`KeyWindows::is_empty`] says so.

mod assigner;
mod custom;
mod evictor;
mod host;
mod key_panes;
mod key_sessions;
mod key_windows;
mod panes;
mod time_window;
mod timer;
mod trigger;
mod trigger_state;
mod windowing;

#[cfg(test)]
mod tests;

pub use assigner::Assigner;
pub use custom::{CustomState, Trigger, TriggerContext};
pub use evictor::{AnyEvictor, Evictor, Order, Stamped};
pub use host::{Added, Contents, Hooks, Host};
pub use time_window::TimeWindow;
pub use timer::{Now, TimeDomain, TimerSink};
pub use trigger::{AnyTrigger, TriggerResult};
pub use windowing::{KeyWindows, Sharing, Windowing};

/// Why windows cannot be built as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A length, a gap, an interval or a count that is zero or negative.
    #[error("set the {what} of a window: {value} is not allowed, it must be positive")]
    NotPositive {
        /// Which setting.
        what: &'static str,
        /// What it was set to.
        value: i64,
    },
    /// An offset that moves windows by a whole window or more.
    #[error(
        "set the offset of a window: {offset} is not allowed, it must lie between -{limit} and {limit}, both excluded"
    )]
    OffsetTooLarge {
        /// The offset in milliseconds.
        offset: i64,
        /// What its magnitude must stay below: the size of tumbling windows, the slide of sliding ones.
        limit: i64,
    },
    /// A negative time that late records are waited for.
    #[error("set the allowed lateness: {lateness} is not allowed, it must be zero or more")]
    NegativeLateness {
        /// The lateness in milliseconds.
        lateness: i64,
    },
    /// A threshold that nothing can be compared with.
    #[error("set the threshold of a delta: {threshold} is not allowed, it must be a number")]
    ThresholdNotANumber {
        /// The threshold.
        threshold: f64,
    },
    /// Session windows with a trigger that cannot follow their merging.
    #[error("use a {trigger} trigger on session windows: it cannot merge, use one that can")]
    TriggerCannotMerge {
        /// Which trigger.
        trigger: &'static str,
    },
    /// Session windows with contents that cannot be merged.
    #[error("fold records of session windows: sessions may become one; use fold_merging, or reduce or aggregate")]
    ContentsCannotMerge,
}

/// The value, if it is positive.
fn positive(what: &'static str, value: i64) -> Result<i64, Error> {
    if value > 0 { Ok(value) } else { Err(Error::NotPositive { what, value }) }
}
