//! How far event time has come in a sub-task that reads several splits: the lowest of those that are open and not idle.

use std::collections::BTreeMap;

use crate::record::{Control, Timestamp};

/// What one split has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split {
    watermark: Timestamp,
    idle: bool,
}

/// The event time of all open splits together; each change answers what is said downstream, in this order.
///
/// While splits are on their way, event time stands still: nobody knows how far back they begin.
///
/// Invariants: the watermark only grows; after `Idle` comes `Active` before any watermark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitWatermarks {
    open: BTreeMap<u64, Split>,
    /// The last watermark that was said.
    said: Timestamp,
    idle: bool,
    /// Whether every split that there is at present is open.
    settled: bool,
}

impl Default for SplitWatermarks {
    fn default() -> Self {
        Self { open: BTreeMap::new(), said: Timestamp::MIN, idle: false, settled: false }
    }
}

impl SplitWatermarks {
    /// Whether the last thing said was `Idle`.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// How far event time has come in one split.
    #[must_use]
    pub fn of(&self, split: u64) -> Timestamp {
        self.open.get(&split).map_or(Timestamp::MIN, |split| split.watermark)
    }

    /// Whether no split is open, but some are on their way.
    #[must_use]
    pub fn awaits_splits(&self) -> bool {
        self.open.is_empty() && !self.settled
    }

    /// Reading of a split begins.
    pub fn open(&mut self, split: u64) -> Vec<Control> {
        self.open.insert(split, Split { watermark: Timestamp::MIN, idle: false });
        self.say()
    }

    /// A split has ended.
    pub fn close(&mut self, split: u64) -> Vec<Control> {
        self.open.remove(&split);
        self.say()
    }

    /// No later record of the split has a time up to `watermark`.
    pub fn advance(&mut self, split: u64, watermark: Timestamp) -> Vec<Control> {
        match self.open.get_mut(&split) {
            Some(split) if watermark > split.watermark => {
                split.watermark = watermark;
                self.say()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Nothing comes from the split for an unknown time, or something comes again.
    pub fn set_idle(&mut self, split: u64, idle: bool) -> Vec<Control> {
        match self.open.get_mut(&split) {
            Some(split) if split.idle != idle => {
                split.idle = idle;
                self.say()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// All splits that there are at present are open, or more are on their way.
    pub fn set_settled(&mut self, settled: bool) -> Vec<Control> {
        self.settled = settled;
        self.say()
    }

    fn say(&mut self) -> Vec<Control> {
        let lowest = self.open.values().filter(|split| !split.idle).map(|split| split.watermark).min();
        let idle = self.settled && lowest.is_none();
        let mut said = Vec::new();
        if idle != std::mem::replace(&mut self.idle, idle) {
            said.push(if idle { Control::Idle } else { Control::Active });
        }
        if let Some(lowest) = lowest.filter(|lowest| self.settled && *lowest > self.said) {
            self.said = lowest;
            said.push(Control::Watermark(lowest));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_open_split_decides() {
        let mut watermarks = SplitWatermarks::default();
        assert_eq!(watermarks.open(1), []);
        assert_eq!(watermarks.advance(1, 10), [], "another one is on its way");
        assert_eq!(watermarks.open(2), []);
        assert_eq!(watermarks.set_settled(true), []);
        assert_eq!(watermarks.advance(2, 7), [Control::Watermark(7)]);
        assert_eq!(watermarks.advance(2, 6), []);
        assert_eq!(watermarks.advance(2, 20), [Control::Watermark(10)]);
        assert_eq!(watermarks.close(1), [Control::Watermark(20)]);
    }

    #[test]
    fn an_idle_split_holds_nobody_back() {
        let mut watermarks = SplitWatermarks::default();
        watermarks.open(1);
        watermarks.open(2);
        watermarks.set_settled(true);
        assert_eq!(watermarks.advance(1, 10), []);
        assert_eq!(watermarks.set_idle(2, true), [Control::Watermark(10)]);
        assert_eq!(watermarks.set_idle(1, true), [Control::Idle]);
        assert!(watermarks.is_idle());
        assert_eq!(watermarks.set_idle(2, false), [Control::Active]);
        assert_eq!(watermarks.advance(2, 5), [], "it does not go back");
        assert_eq!(watermarks.advance(2, 11), [Control::Watermark(11)]);
    }

    #[test]
    fn having_no_split_is_idleness_only_when_none_is_on_its_way() {
        let mut watermarks = SplitWatermarks::default();
        watermarks.open(1);
        assert_eq!(watermarks.close(1), []);
        assert_eq!(watermarks.set_settled(true), [Control::Idle]);
        assert_eq!(watermarks.set_settled(true), []);
        assert_eq!(watermarks.set_settled(false), [Control::Active]);
        assert!(watermarks.awaits_splits());
        assert_eq!(watermarks.open(2), []);
        assert!(!watermarks.awaits_splits());
        assert_eq!((watermarks.advance(2, 3), watermarks.of(2), watermarks.of(1)), (vec![], 3, i64::MIN));
    }
}
