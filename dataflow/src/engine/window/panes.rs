//! Panes: the disjoint pieces that overlapping windows share, and which windows are made of which.

use super::assigner::Aligned;
use super::time_window::{ceil_wide, clamp, floor, floor_wide};
use super::{TimeDomain, TimeWindow};

/// How windows are cut into panes.
///
/// ```text
/// size 6, slide 4:   window  |-----------|
///                                    |-----------|
///                    panes   |---|---|---|---|---|   of 2, the greatest common divisor
/// ```
///
/// Panes and windows are named by their true starts, which may lie below `i64`. A pane is stored under its start clamped
/// to `i64`, and that is still one name for one pane: only the pane with `i64::MIN` in it can be clamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panes {
    windows: Aligned,
    pub(super) domain: TimeDomain,
    /// Invariant: zero in processing time.
    pub(super) lateness: i64,
    /// How long a pane is.
    length: i64,
    /// The distance between panes: larger than the length when there is room between windows.
    step: i64,
    /// The true start of the pane with `i64::MIN` in it.
    lowest: i128,
}

impl Panes {
    pub(super) fn new(windows: Aligned, domain: TimeDomain, lateness: i64) -> Self {
        let Aligned { size, slide, offset } = windows;
        let (length, step) = if slide >= size {
            (size, slide)
        } else {
            let divisor = greatest_common_divisor(size, slide);
            (divisor, divisor)
        };
        let lateness = match domain {
            TimeDomain::Event => lateness,
            TimeDomain::Processing => 0,
        };
        Self { windows, domain, lateness, length, step, lowest: floor(i64::MIN, step, offset.rem_euclid(step)) }
    }

    /// Whether each window is one pane.
    pub(super) fn single(&self) -> bool {
        self.length == self.windows.size
    }

    /// Whether a pane stored under this start surely has this time in it and ends after the other time.
    pub(super) fn surely_holds(&self, stored: i64, time: i64, after: i64) -> bool {
        stored != i64::MIN
            && stored <= time
            && stored.abs_diff(time) < self.length.unsigned_abs()
            && stored.saturating_add(self.length - 1).min(i64::MAX - 1) > after
    }

    /// The pane that this time is in, unless it lies between windows.
    pub(super) fn of(&self, time: i64) -> Option<i128> {
        let start = floor(time, self.step, self.windows.offset % self.step);
        (i128::from(time) - start < i128::from(self.length)).then_some(start)
    }

    /// The true start of the pane that is stored under this one.
    pub(super) fn start(&self, stored: i64) -> i128 {
        if stored == i64::MIN { self.lowest } else { stored.into() }
    }

    /// The first window that this pane is part of.
    pub(super) fn first_window(&self, pane: i128) -> i128 {
        let earliest = pane + i128::from(self.length) - i128::from(self.windows.size);
        if self.one_pane_a_slide() { earliest } else { ceil_wide(earliest, self.windows.slide, self.windows.offset) }
    }

    /// The last window that this pane is part of.
    pub(super) fn last_window(&self, pane: i128) -> i128 {
        if self.one_pane_a_slide() { pane } else { floor_wide(pane, self.windows.slide, self.windows.offset) }
    }

    /// The window after this one.
    pub(super) fn next_window(&self, window: i128) -> i128 {
        window + i128::from(self.windows.slide)
    }

    /// The first window whose last timestamp is not before this time.
    pub(super) fn window_until(&self, time: i64) -> i128 {
        let earliest = i128::from(time) + 1 - i128::from(self.windows.size);
        ceil_wide(earliest, self.windows.slide, self.windows.offset)
    }

    /// The time after the window's last.
    pub(super) fn window_end(&self, window: i128) -> i128 {
        window + i128::from(self.windows.size)
    }

    /// The window as others see it.
    pub(super) fn window(&self, window: i128) -> TimeWindow {
        TimeWindow::clamped(window, self.window_end(window))
    }

    /// When the window fires.
    pub(super) fn window_fires(&self, window: i128) -> i64 {
        clamp((self.window_end(window) - 1).min(i128::from(i64::MAX) - 1))
    }

    /// When the window is forgotten; `i64::MAX` for never.
    pub(super) fn window_forgotten(&self, window: i128) -> i64 {
        self.window_fires(window).saturating_add(self.lateness)
    }

    /// When the pane is forgotten: with the last window that it is part of.
    pub(super) fn forgotten(&self, pane: i128) -> i64 {
        self.window_forgotten(self.last_window(pane))
    }

    /// The first window of this pane that fires after this time.
    pub(super) fn first_window_after(&self, pane: i128, time: i64) -> Option<i128> {
        let first = self.first_window(pane);
        if self.window_fires(first) > time {
            return Some(first);
        }
        let later = self.window_until(time.checked_add(1)?).max(first);
        (later <= self.last_window(pane) && self.window_fires(later) > time).then_some(later)
    }

    /// Whether a pane is as long as the slide, or a window of its own, so that windows start where panes do.
    fn one_pane_a_slide(&self) -> bool {
        self.step == self.windows.slide
    }
}

fn greatest_common_divisor(mut left: i64, mut right: i64) -> i64 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panes(size: i64, slide: i64, offset: i64) -> Panes {
        Panes::new(Aligned { size, slide, offset }, TimeDomain::Event, 0)
    }

    #[test]
    fn panes_are_as_long_as_the_greatest_common_divisor_of_size_and_slide() {
        let lengths = [(10, 10, 10), (10, 5, 5), (6, 4, 2), (7, 3, 1), (3, 10, 3), (i64::MAX, 7, 7), (i64::MAX, 2, 1)];
        for (size, slide, length) in lengths {
            assert_eq!(panes(size, slide, 0).length, length, "{size} {slide}");
        }
    }

    #[test]
    fn a_panes_windows_are_those_that_its_times_are_in() {
        let edges = [i64::MIN + 1, i64::MIN + 9, -1000, i64::MAX - 40, i64::MAX - 12];
        for (size, slide, offset) in [(10, 10, 3), (10, 5, 2), (6, 4, 1), (7, 3, 2), (3, 10, 4), (12, 3, 0), (1, 1, 0)]
        {
            let panes = panes(size, slide, offset);
            for time in edges.into_iter().flat_map(|edge| edge..edge + 12) {
                let expected: Vec<_> = panes.windows.windows(time).collect();
                let found = panes.of(time).map_or(Vec::new(), |pane| {
                    assert_eq!(panes.start(clamp(pane)), pane);
                    let mut windows = vec![panes.first_window(pane)];
                    while windows[windows.len() - 1] < panes.last_window(pane) {
                        windows.push(panes.next_window(windows[windows.len() - 1]));
                    }
                    windows.into_iter().map(|window| panes.window(window)).collect()
                });
                assert_eq!(found, expected, "{size} {slide} {offset} {time}");
            }
        }
    }
}
