//! The windows of one key, each with contents of its own: any trigger, any kind of window.

use serde::{Deserialize, Serialize};

use super::assigner::Kind;
use super::timer::Armed;
use super::trigger_state::TriggerState;
use super::windowing::Windowing;
use super::{Added, Contents, Host, Now, TimeDomain, TimeWindow, TriggerResult};

/// What one key keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeyEntries<A> {
    /// Invariant: in order of their windows, without repetition; session windows do not touch.
    pub(super) entries: Vec<Entry<A>>,
    event: Armed,
    processing: Armed,
    /// What event time has reached for this key: after a restart the watermark begins anew, these windows do not.
    passed: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry<A> {
    pub(super) window: TimeWindow,
    /// Absent after a purge.
    pub(super) contents: Option<A>,
    pub(super) trigger: TriggerState,
}

impl<A> Default for KeyEntries<A> {
    fn default() -> Self {
        Self { entries: Vec::new(), event: Armed::NONE, processing: Armed::NONE, passed: i64::MIN }
    }
}

impl<A> KeyEntries<A> {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The times that it waits for.
    pub(super) fn armed(&self) -> impl Iterator<Item = (TimeDomain, i64)> {
        let armed = [(TimeDomain::Event, self.event), (TimeDomain::Processing, self.processing)];
        armed.into_iter().filter_map(|(domain, armed)| Some((domain, armed.time()?)))
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self, sessions: bool) {
        let mut pairs = self.entries.windows(2).map(|pair| (pair[0].window, pair[1].window));
        assert!(pairs.all(|(one, next)| one < next && !(sessions && one.touches(next))), "windows are in order");
    }

    /// Puts a value into its windows, or with a gap into its session.
    pub(super) fn add<T: Clone>(
        &mut self,
        windowing: &Windowing<T>,
        value: T,
        (time, timestamp, gap): (i64, i64, i64),
        now: Now,
        host: &mut impl Host<T, A>,
    ) -> Added<T> {
        self.passed = self.passed.max(now.watermark);
        let now = Now { watermark: self.passed, ..now };
        match windowing.kind() {
            Kind::Global => self.add_to(windowing, TimeWindow::GLOBAL, value, timestamp, now, host),
            Kind::Session { .. } => return self.add_to_session(windowing, value, (time, timestamp, gap), now, host),
            Kind::Aligned(aligned) => {
                let mut windows = aligned.windows(time).peekable();
                if windows.peek().is_none() {
                    return Added::NoWindow(value);
                }
                // A window that starts later is forgotten later.
                let mut windows = windows.skip_while(|window| windowing.is_late(*window, now)).peekable();
                let Some(mut window) = windows.next() else { return Added::Late(value) };
                for next in windows {
                    self.add_to(windowing, window, value.clone(), timestamp, now, host);
                    window = next;
                }
                self.add_to(windowing, window, value, timestamp, now, host);
            }
        }
        self.disarm_if_empty(host);
        Added::Kept
    }

    /// Puts a value into one window.
    fn add_to<T>(
        &mut self,
        windowing: &Windowing<T>,
        window: TimeWindow,
        value: T,
        timestamp: i64,
        now: Now,
        host: &mut impl Host<T, A>,
    ) {
        let index = self.entries.partition_point(|entry| entry.window < window);
        if self.entries.get(index).is_none_or(|entry| entry.window != window) {
            self.insert(index, window);
        }
        self.add_at(windowing, index, value, timestamp, now, host);
    }

    pub(super) fn insert(&mut self, index: usize, window: TimeWindow) {
        if self.entries.is_empty() {
            // Most keys have one window at a time.
            self.entries.reserve_exact(1);
        }
        self.entries.insert(index, Entry { window, contents: None, trigger: TriggerState::Empty });
    }

    /// Puts a value into the window at this place, which may be gone afterwards.
    pub(super) fn add_at<T>(
        &mut self,
        windowing: &Windowing<T>,
        index: usize,
        value: T,
        timestamp: i64,
        now: Now,
        host: &mut impl Host<T, A>,
    ) {
        let entry = &mut self.entries[index];
        let result = windowing.trigger().on_element(&value, timestamp, entry.window, &mut entry.trigger, now);
        host.fold(&mut entry.contents, value);
        entry.settle(result, false, host);
        if entry.is_spent(windowing) {
            self.entries.remove(index);
            return;
        }
        let event = entry.next_timer(windowing, TimeDomain::Event, self.passed);
        let processing = entry.next_timer(windowing, TimeDomain::Processing, self.passed);
        self.event.advance(TimeDomain::Event, event, host);
        self.processing.advance(TimeDomain::Processing, processing, host);
    }

    /// Does what is due at this time.
    pub(super) fn on_timer<T>(
        &mut self,
        windowing: &Windowing<T>,
        (domain, time): (TimeDomain, i64),
        now: Now,
        host: &mut impl Host<T, A>,
    ) {
        let passed = self.passed;
        if domain == TimeDomain::Event {
            self.passed = passed.max(time);
        }
        self.entries.retain_mut(|entry| {
            let trigger = windowing.trigger();
            let result = trigger.on_timer((domain, time), passed, entry.window, &mut entry.trigger, now);
            let forgotten =
                domain == windowing.domain() && windowing.forgets(entry.window).is_some_and(|at| at <= time);
            entry.settle(result, forgotten, host);
            if forgotten {
                trigger.clear(entry.window, &mut entry.trigger, now);
            }
            !forgotten && !entry.is_spent(windowing)
        });
        // A trigger may have set timers in both domains.
        self.rearm(windowing, TimeDomain::Event, (domain, time), host);
        self.rearm(windowing, TimeDomain::Processing, (domain, time), host);
        self.disarm_if_empty(host);
    }

    /// Sets the next timer of a domain, after what was `due` has been done.
    fn rearm<T>(
        &mut self,
        windowing: &Windowing<T>,
        domain: TimeDomain,
        due: (TimeDomain, i64),
        host: &mut impl Host<T, A>,
    ) {
        let next = self.entries.iter().filter_map(|entry| entry.next_timer(windowing, domain, self.passed)).min();
        let armed = match domain {
            TimeDomain::Event => &mut self.event,
            TimeDomain::Processing => &mut self.processing,
        };
        if due.0 == domain && armed.time().is_some_and(|armed| armed <= due.1) {
            armed.replace(domain, next, host);
        } else {
            armed.advance(domain, next, host);
        }
    }

    pub(super) fn disarm_if_empty<T>(&mut self, host: &mut impl Host<T, A>) {
        if self.entries.is_empty() {
            self.event.disarm(TimeDomain::Event, host);
            self.processing.disarm(TimeDomain::Processing, host);
        }
    }
}

impl<A> Entry<A> {
    /// Carries out what a trigger wants.
    fn settle<T>(&mut self, result: TriggerResult, last_use: bool, host: &mut impl Host<T, A>) {
        if result.fires() {
            if result.purges() || last_use {
                if let Some(contents) = self.contents.take() {
                    host.emit(self.window, Contents::Given(contents));
                }
            } else if let Some(contents) = &mut self.contents {
                host.emit(self.window, Contents::Kept(contents));
            }
        }
        if result.purges() {
            self.contents = None;
        }
    }

    /// Whether nothing would be lost with it; a session's extent would, for records still to come.
    fn is_spent<T>(&self, windowing: &Windowing<T>) -> bool {
        let session = matches!(windowing.kind(), Kind::Session { .. });
        self.contents.is_none() && self.trigger.is_empty() && !session
    }

    /// When it wants to be looked at next.
    fn next_timer<T>(&self, windowing: &Windowing<T>, domain: TimeDomain, passed: i64) -> Option<i64> {
        let forget = windowing.forgets(self.window).filter(|_| domain == windowing.domain());
        let trigger = windowing.trigger().next_timer(domain, self.window, &self.trigger, passed);
        trigger.into_iter().chain(forget).min()
    }
}
