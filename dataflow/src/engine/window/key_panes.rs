//! The panes of one key: windows at regular distances with the default trigger, the fast path.

use serde::{Deserialize, Serialize};

use super::panes::Panes;
use super::time_window::clamp;
use super::timer::Armed;
use super::{Added, Contents, Host, TimeDomain};

/// What one key keeps. A window's contents are those of its panes, merged when it fires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeyPanes<A> {
    /// Invariant: in order of start, without repetition.
    panes: Vec<Pane<A>>,
    /// The next window's end.
    fire: Armed,
    /// When the first pane is forgotten; not set when that is with its last window's end.
    forget: Armed,
    /// What event time has reached for this key: after a restart the watermark begins anew, these windows do not.
    passed: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pane<A> {
    /// Its start, clamped to `i64`.
    start: i64,
    /// Invariant: absent only while the last window of the pane fires.
    contents: Option<A>,
}

impl<A> Default for KeyPanes<A> {
    fn default() -> Self {
        Self { panes: Vec::new(), fire: Armed::NONE, forget: Armed::NONE, passed: i64::MIN }
    }
}

impl<A> KeyPanes<A> {
    pub(super) fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// The times that it waits for.
    pub(super) fn armed(&self) -> impl Iterator<Item = i64> {
        [self.fire, self.forget].into_iter().filter_map(Armed::time)
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        assert!(self.panes.is_sorted_by(|one, next| one.start < next.start), "panes are in order");
        assert!(self.panes.iter().all(|pane| pane.contents.is_some()), "panes have contents");
    }
}

impl<A: Clone> KeyPanes<A> {
    /// Puts a value into its pane.
    #[inline]
    pub(super) fn add<T>(
        &mut self,
        layout: &Panes,
        value: T,
        time: i64,
        watermark: i64,
        host: &mut impl Host<T, A>,
    ) -> Added<T> {
        let passed = match layout.domain {
            TimeDomain::Event => watermark.max(self.passed),
            TimeDomain::Processing => i64::MIN,
        };
        if let Some(pane) = self.panes.last_mut()
            && layout.surely_holds(pane.start, time, passed)
        {
            host.fold(&mut pane.contents, value);
            return Added::Kept;
        }
        self.add_anywhere(layout, value, time, passed, host)
    }

    /// Does it for a pane that is new, not the last, or part of windows that have fired.
    fn add_anywhere<T>(
        &mut self,
        layout: &Panes,
        value: T,
        time: i64,
        passed: i64,
        host: &mut impl Host<T, A>,
    ) -> Added<T> {
        let Some(pane) = layout.of(time) else { return Added::NoWindow(value) };
        let forgotten = layout.forgotten(pane);
        if layout.domain == TimeDomain::Event && forgotten <= passed {
            return Added::Late(value);
        }
        let start = clamp(pane);
        let index = self.panes.partition_point(|known| known.start < start);
        if self.panes.get(index).is_none_or(|known| known.start != start) {
            if self.panes.is_empty() {
                // Most keys have one pane at a time.
                self.panes.reserve_exact(1);
            }
            self.panes.insert(index, Pane { start, contents: None });
            let next = layout.first_window_after(pane, passed);
            self.fire.advance(layout.domain, next.map(|window| layout.window_fires(window)), host);
            if layout.lateness > 0 {
                self.forget.advance(layout.domain, Some(forgotten).filter(|time| *time < i64::MAX), host);
            }
        }
        host.fold(&mut self.panes[index].contents, value);
        if layout.domain == TimeDomain::Event && layout.lateness > 0 {
            self.fire_again(layout, pane, passed, host);
        }
        Added::Kept
    }

    /// Fires the windows of this pane that have fired before and are not forgotten.
    fn fire_again<T>(&mut self, layout: &Panes, pane: i128, passed: i64, host: &mut impl Host<T, A>) {
        let last = layout.last_window(pane);
        let mut window = layout.first_window(pane);
        while window <= last && layout.window_fires(window) <= passed {
            self.passed = passed;
            if layout.window_forgotten(window) > passed {
                self.fire(layout, window, host);
            }
            window = layout.next_window(window);
        }
    }

    /// Fires what ends up to this time and forgets what is to be forgotten.
    pub(super) fn on_timer<T>(&mut self, layout: &Panes, time: i64, host: &mut impl Host<T, A>) {
        if let Some(armed) = self.fire.time().filter(|armed| *armed <= time) {
            let mut next = self.window_from(layout, layout.window_until(armed));
            while let Some(window) = next.filter(|window| layout.window_fires(*window) <= time) {
                self.fire(layout, window, host);
                next = self.window_from(layout, layout.next_window(window));
            }
            self.fire.replace(layout.domain, next.map(|window| layout.window_fires(window)), host);
        }
        self.passed = self.passed.max(time);
        let kept = self.panes.iter().position(|pane| layout.forgotten(layout.start(pane.start)) > time);
        self.panes.drain(..kept.unwrap_or(self.panes.len()));
        if let Some(armed) = self.forget.time()
            && armed <= time
        {
            let first = self.panes.first().map(|pane| layout.forgotten(layout.start(pane.start)));
            self.forget.replace(layout.domain, first.filter(|time| *time < i64::MAX), host);
        }
    }

    /// The first window, from this one on, that has a pane.
    fn window_from(&self, layout: &Panes, window: i128) -> Option<i128> {
        // A pane is part of windows that start at it or before.
        let index = self.panes.partition_point(|pane| layout.start(pane.start) < window);
        let pane = layout.start(self.panes.get(index)?.start);
        Some(layout.first_window(pane).max(window))
    }

    /// Emits a window that has a pane.
    fn fire<T>(&mut self, layout: &Panes, window: i128, host: &mut impl Host<T, A>) {
        let end = layout.window_end(window);
        // A pane before the start of the next window is not part of that.
        let last_uses_end = if layout.lateness == 0 { layout.next_window(window) } else { window };
        let first = self.panes.partition_point(|pane| layout.start(pane.start) < window);
        let mut result = None;
        for pane in self.panes[first..].iter_mut().take_while(|pane| layout.start(pane.start) < end) {
            let last_use = layout.start(pane.start) < last_uses_end;
            if layout.single() && !last_use {
                if let Some(contents) = &mut pane.contents {
                    host.emit(layout.window(window), Contents::Kept(contents));
                }
                return;
            }
            let contents = if last_use { pane.contents.take() } else { pane.contents.clone() };
            match (&mut result, contents) {
                (Some(result), Some(contents)) => host.merge(result, contents),
                (None, contents) => result = contents,
                (Some(_), None) => {}
            }
        }
        if let Some(result) = result {
            host.emit(layout.window(window), Contents::Given(result));
        }
    }
}
