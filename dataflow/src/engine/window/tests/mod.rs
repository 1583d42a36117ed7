//! Tests of the window engine as a whole: a driver that plays the operator, and plain oracles.

mod aligned;
mod custom;
mod lateness;
mod oracle;
mod processing;
mod sessions;
mod triggers;

use std::collections::BTreeSet;

use super::assigner::Kind;
use super::*;

/// What a stream does to an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A value with its timestamp and, for sessions that want one, its gap.
    Record { value: i64, time: i64, gap: i64 },
    /// The watermark reaches a time.
    Watermark(i64),
}

/// A window that fired, with the values in it, sorted.
type Fired = (TimeWindow, Vec<i64>);

/// Everything that the engine did.
#[derive(Debug, Default)]
struct Effects {
    timers: BTreeSet<(TimeDomain, i64)>,
    fired: Vec<Fired>,
    given: usize,
    folds: usize,
    merges: usize,
    registrations: usize,
}

impl TimerSink for Effects {
    fn register(&mut self, domain: TimeDomain, time: i64) {
        self.registrations += 1;
        self.timers.insert((domain, time));
    }

    fn delete(&mut self, domain: TimeDomain, time: i64) {
        self.timers.remove(&(domain, time));
    }
}

impl Host<i64, Vec<i64>> for Effects {
    fn fold(&mut self, contents: &mut Option<Vec<i64>>, value: i64) {
        self.folds += 1;
        contents.get_or_insert_default().push(value);
    }

    fn merge(&mut self, into: &mut Vec<i64>, from: Vec<i64>) {
        self.merges += 1;
        into.extend(from);
    }

    fn emit(&mut self, window: TimeWindow, contents: Contents<'_, Vec<i64>>) {
        self.given += usize::from(matches!(contents, Contents::Given(_)));
        let mut values = contents.into_owned();
        values.sort_unstable();
        self.fired.push((window, values));
    }
}

/// An operator with one key.
#[derive(Debug)]
struct Driver {
    windowing: Windowing<i64>,
    keys: KeyWindows<Vec<i64>>,
    now: Now,
    effects: Effects,
}

impl Driver {
    fn new(windowing: Windowing<i64>) -> Self {
        let now = Now { watermark: i64::MIN, processing_time: 0 };
        Self { windowing, keys: KeyWindows::default(), now, effects: Effects::default() }
    }

    fn of(assigner: Assigner, trigger: Option<AnyTrigger<i64>>, lateness: i64) -> Self {
        Self::new(Windowing::new(assigner, trigger, lateness, Sharing::Panes).unwrap())
    }

    fn add(&mut self, value: i64, time: i64) -> Added<i64> {
        self.add_with_gap(value, time, 0)
    }

    fn add_with_gap(&mut self, value: i64, time: i64, gap: i64) -> Added<i64> {
        let Self { windowing, keys, now, effects } = self;
        let added = windowing.add_with_gap(keys, value, time, gap, *now, effects);
        self.tidy_up();
        added
    }

    fn watermark(&mut self, watermark: i64) {
        self.now.watermark = watermark;
        self.deliver(TimeDomain::Event, watermark);
    }

    fn processing_time(&mut self, time: i64) {
        self.now.processing_time = time;
        self.deliver(TimeDomain::Processing, time);
    }

    fn deliver(&mut self, domain: TimeDomain, until: i64) {
        let Self { windowing, keys, now, effects } = self;
        while let Some(timer) = effects.timers.range((domain, i64::MIN)..=(domain, until)).next().copied() {
            effects.timers.remove(&timer);
            windowing.on_timer(keys, domain, timer.1, *now, effects);
        }
        self.tidy_up();
    }

    /// Forgets the state of an empty key, and brings any other through a checkpoint.
    fn tidy_up(&mut self) {
        if self.keys.is_empty() {
            self.keys = KeyWindows::default();
        }
        self.keys = bitcode::deserialize(&bitcode::serialize(&self.keys).unwrap()).unwrap();
        assert!(self.windowing.fits(&self.keys));
        self.keys.check_invariants(matches!(self.windowing.kind(), Kind::Session { .. }));
    }

    /// What has fired since this was last asked.
    fn fired(&mut self) -> Vec<(i64, i64, Vec<i64>)> {
        let fired = std::mem::take(&mut self.effects.fired);
        fired.into_iter().map(|(window, values)| (window.start, window.end, values)).collect()
    }

    /// Plays a stream; answers what fired, and what was refused.
    fn play(&mut self, steps: &[Step]) -> (Vec<Fired>, Vec<Added<i64>>) {
        let mut refused = Vec::new();
        for step in steps {
            match *step {
                Step::Record { value, time, gap } => {
                    refused.extend(Some(self.add_with_gap(value, time, gap)).filter(|added| *added != Added::Kept));
                }
                Step::Watermark(time) => self.watermark(time),
            }
        }
        (std::mem::take(&mut self.effects.fired), refused)
    }
}

/// A small generator of numbers that look random: splitmix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` up to, not including, `high`.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        let width = u64::try_from(high - low).expect("low is below high");
        low + i64::try_from(self.next() % width).expect("it is below the width")
    }

    /// A stream around a time: out of order, with repetitions, with watermarks that only grow, and an end.
    fn stream(&mut self, base: i64, spread: i64) -> Vec<Step> {
        let mut watermark = i64::MIN;
        let mut now = base;
        let mut steps = Vec::new();
        for value in 0..self.between(1, 60) {
            if self.between(0, 4) == 0 {
                let next = now.saturating_add(self.between(-spread, spread / 4 + 2));
                watermark = watermark.max(next);
                steps.push(Step::Watermark(watermark));
            } else {
                now = now.saturating_add(self.between(0, spread / 4 + 2));
                let time = now.saturating_sub(self.between(0, spread)).max(i64::MIN + 1);
                steps.push(Step::Record { value, time, gap: self.between(1, 12) });
            }
        }
        steps.push(Step::Watermark(i64::MAX));
        steps
    }
}

/// Times around which streams are made: the epoch, far before it, and both edges.
const BASES: [i64; 5] = [0, -1_000_003, 1_700_000_000_000, i64::MIN + 1, i64::MAX - 20];
