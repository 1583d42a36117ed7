//! Session windows of one key: how a record's window and those that it touches become one.

use super::key_windows::KeyEntries;
use super::trigger_state::TriggerState;
use super::windowing::Windowing;
use super::{Added, Host, Now, TimeWindow};

impl<A> KeyEntries<A> {
    /// Puts a value into its session, which may join others.
    pub(super) fn add_to_session<T>(
        &mut self,
        windowing: &Windowing<T>,
        value: T,
        (time, timestamp, gap): (i64, i64, i64),
        now: Now,
        host: &mut impl Host<T, A>,
    ) -> Added<T> {
        let window = session_of(time, gap);
        // Those that it touches lie side by side, since sessions do not touch each other.
        let first = self.entries.partition_point(|entry| entry.window.end < window.start);
        let touched = self.entries[first..].iter().take_while(|entry| entry.window.touches(window)).count();
        let ends = first..first + touched;
        let merged = self.entries[ends.clone()].iter().fold(window, |merged, entry| merged.cover(entry.window));
        if windowing.is_late(merged, now) {
            return Added::Late(value);
        }
        if touched == 0 {
            self.insert(first, merged);
        } else if touched > 1 || self.entries[first].window != merged {
            self.join(windowing, ends, merged, now, host);
        }
        self.add_at(windowing, first, value, timestamp, now, host);
        Added::Kept
    }

    /// Makes one of these windows: the earliest takes the contents of the others.
    fn join<T>(
        &mut self,
        windowing: &Windowing<T>,
        range: std::ops::Range<usize>,
        merged: TimeWindow,
        now: Now,
        host: &mut impl Host<T, A>,
    ) {
        let (first, rest) = self.entries[range.clone()].split_first_mut().expect("at least one window was touched");
        first.window = merged;
        for entry in rest.iter_mut() {
            match (&mut first.contents, entry.contents.take()) {
                (Some(contents), Some(from)) => host.merge(contents, from),
                (contents, from @ Some(_)) => *contents = from,
                (_, None) => {}
            }
        }
        let others = rest.iter_mut().map(|entry| std::mem::replace(&mut entry.trigger, TriggerState::Empty));
        windowing.trigger().on_merge(merged, &mut first.trigger, others, now);
        self.entries.drain(range.start + 1..range.end);
    }
}

/// The window that a record alone would have. It is never empty, not even at the end of time.
fn session_of(time: i64, gap: i64) -> TimeWindow {
    let start = time.min(i64::MAX - 1);
    TimeWindow::new(start, start.saturating_add(gap))
}
