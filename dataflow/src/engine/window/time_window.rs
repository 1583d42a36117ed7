//! A window as an interval of time, and the arithmetic of intervals at the edges of `i64`.

use serde::{Deserialize, Serialize};

/// A window from `start` up to, not including, `end`, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeWindow {
    /// Its first millisecond.
    pub start: i64,
    /// The first millisecond after it.
    pub end: i64,
}

impl TimeWindow {
    /// The one window that everything is in. No window of time equals it.
    pub const GLOBAL: Self = Self { start: i64::MIN, end: i64::MAX };

    /// The window with these bounds.
    #[must_use]
    pub const fn new(start: i64, end: i64) -> Self {
        Self { start, end }
    }

    /// Whether it is the one that everything is in.
    #[must_use]
    pub fn is_global(self) -> bool {
        self == Self::GLOBAL
    }

    /// The last millisecond that is in it: it is complete when the watermark reaches this time.
    #[must_use]
    pub fn max_timestamp(self) -> i64 {
        if self.is_global() { i64::MAX } else { self.end.saturating_sub(1) }
    }

    /// Whether the two overlap or meet, so that they are one session.
    #[must_use]
    pub fn touches(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The smallest window over both.
    #[must_use]
    pub fn cover(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The window with these bounds, as far as it lies in `i64`.
    pub(super) fn clamped(start: i128, end: i128) -> Self {
        Self { start: clamp(start), end: clamp(end) }
    }
}

/// The nearest `i64`.
pub(super) fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// The last multiple of `step`, moved by `offset`, that is not after `time`.
///
/// `offset` lies in `0..step`; the result may lie below `i64`.
pub(super) fn floor(time: i64, step: i64, offset: i64) -> i128 {
    let above = time.rem_euclid(step) - offset;
    i128::from(time) - i128::from(if above < 0 { above + step } else { above })
}

/// The same for times that may lie outside of `i64`.
pub(super) fn floor_wide(time: i128, step: i64, offset: i64) -> i128 {
    time - (time - i128::from(offset)).rem_euclid(i128::from(step))
}

/// The first multiple of `step`, moved by `offset`, that is not before `time`.
pub(super) fn ceil_wide(time: i128, step: i64, offset: i64) -> i128 {
    floor_wide(time + i128::from(step) - 1, step, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down_also_before_the_epoch_and_at_the_edges() {
        let table = [
            (0, 10, 0, 0),
            (9, 10, 0, 0),
            (-1, 10, 0, -10),
            (-10, 10, 0, -10),
            (-11, 10, 0, -20),
            (2, 10, 3, -7),
            (3, 10, 3, 3),
            (i64::MAX, 10, 0, i128::from(i64::MAX) - 7),
            (i64::MIN, 10, 0, i128::from(i64::MIN) - 2),
            (i64::MIN, i64::MAX, 0, i128::from(i64::MIN) * 2 + 2 - i128::from(i64::MAX) + i128::from(i64::MAX)),
            (i64::MAX, i64::MAX, i64::MAX - 1, i128::from(i64::MAX) - 1),
            (i64::MAX, 1, 0, i128::from(i64::MAX)),
        ];
        for (time, step, offset, expected) in table {
            assert_eq!(floor(time, step, offset), expected, "{time} {step} {offset}");
            assert_eq!(floor_wide(time.into(), step, offset), expected, "{time} {step} {offset}");
            assert!(ceil_wide(time.into(), step, offset) - expected <= step.into());
        }
        assert_eq!(ceil_wide(11, 10, 3), 13);
        assert_eq!(ceil_wide(13, 10, 3), 13);
    }

    #[test]
    fn windows_that_meet_touch_and_windows_apart_do_not() {
        let window = TimeWindow::new(10, 20);
        for (start, end, touches) in [(0, 9, false), (0, 10, true), (12, 13, true), (20, 30, true), (21, 30, false)] {
            assert_eq!(window.touches(TimeWindow::new(start, end)), touches, "{start}..{end}");
        }
        assert_eq!(window.cover(TimeWindow::new(15, 30)), TimeWindow::new(10, 30));
    }

    #[test]
    fn the_last_timestamp_is_the_one_before_the_end_and_the_global_window_has_no_end() {
        assert_eq!(TimeWindow::new(0, 10).max_timestamp(), 9);
        assert_eq!(TimeWindow::new(0, i64::MAX).max_timestamp(), i64::MAX - 1);
        assert_eq!(TimeWindow::GLOBAL.max_timestamp(), i64::MAX);
    }
}
