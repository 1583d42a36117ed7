//! Which members of a group of sources may go on: those whose watermarks are not too far ahead of the group's lowest.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{END_OF_TIME, Timestamp};

/// One of those whose watermarks are kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(u64);

/// Whether a member may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It may.
    Go,
    /// It is too far ahead; a later change of the group answers that it may go on.
    Pause,
}

/// What one member has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    watermark: Timestamp,
    idle: bool,
}

/// Members whose watermarks are kept close to each other; each change answers who may go on because of it.
///
/// Invariants: `counted` has exactly the members that are not idle; every member in `paused` is known, and waits for
/// a lowest watermark that the group has not reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatermarkGroup {
    members: BTreeMap<MemberId, Member>,
    /// Those that hold back others, the lowest first.
    counted: BTreeSet<(Timestamp, MemberId)>,
    /// Those that wait, with the lowest watermark of the group at which they go on.
    paused: BTreeSet<(Timestamp, MemberId)>,
    joined: u64,
}

impl WatermarkGroup {
    /// A new member, of which no watermark is known: it holds back all others.
    pub fn join(&mut self) -> MemberId {
        let id = MemberId(self.joined);
        self.joined += 1;
        self.members.insert(id, Member { watermark: Timestamp::MIN, idle: false });
        self.counted.insert((Timestamp::MIN, id));
        id
    }

    /// A member has ended.
    #[must_use]
    pub fn leave(&mut self, id: MemberId) -> Vec<MemberId> {
        if let Some(member) = self.members.remove(&id) {
            self.counted.remove(&(member.watermark, id));
            self.paused.retain(|(_, paused)| *paused != id);
        }
        self.release()
    }

    /// A member's watermark; it does not go back.
    #[must_use]
    pub fn advance(&mut self, id: MemberId, watermark: Timestamp) -> Vec<MemberId> {
        match self.members.get_mut(&id) {
            Some(member) if watermark > member.watermark => {
                if self.counted.remove(&(member.watermark, id)) {
                    self.counted.insert((watermark, id));
                }
                member.watermark = watermark;
                self.release()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Nothing comes from a member for an unknown time, or something comes again.
    #[must_use]
    pub fn set_idle(&mut self, id: MemberId, idle: bool) -> Vec<MemberId> {
        let Some(member) = self.members.get_mut(&id) else { return Vec::new() };
        member.idle = idle;
        if idle {
            self.counted.remove(&(member.watermark, id));
        } else {
            self.counted.insert((member.watermark, id));
        }
        self.release()
    }

    /// Whether a member may go on that must not be ahead of the lowest by more than `drift_max` milliseconds.
    pub fn pace(&mut self, id: MemberId, drift_max: Timestamp) -> Pace {
        let watermark = self.members.get(&id).map_or(Timestamp::MIN, |member| member.watermark);
        let goes_on_at = watermark.saturating_sub(drift_max);
        if goes_on_at <= self.lowest() {
            return Pace::Go;
        }
        self.paused.insert((goes_on_at, id));
        Pace::Pause
    }

    fn lowest(&self) -> Timestamp {
        self.counted.first().map_or(END_OF_TIME, |(lowest, _)| *lowest)
    }

    /// Takes those out that need not wait any longer.
    fn release(&mut self) -> Vec<MemberId> {
        let lowest = self.lowest();
        let mut released = Vec::new();
        while let Some((_, id)) = self.paused.first().copied().filter(|(goes_on_at, _)| *goes_on_at <= lowest) {
            self.paused.pop_first();
            released.push(id);
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_of_two() -> (WatermarkGroup, MemberId, MemberId) {
        let mut group = WatermarkGroup::default();
        let (first, second) = (group.join(), group.join());
        (group, first, second)
    }

    #[test]
    fn who_is_too_far_ahead_waits_until_the_lowest_has_come_close_enough() {
        let (mut group, fast, slow) = group_of_two();
        assert_eq!(group.pace(fast, 10), Pace::Go, "nobody is ahead of anybody");
        assert_eq!(group.advance(slow, 0), []);
        assert_eq!(group.advance(fast, 10), []);
        assert_eq!(group.pace(fast, 10), Pace::Go);
        assert_eq!(group.advance(fast, 25), []);
        assert_eq!(group.pace(fast, 10), Pace::Pause);
        assert_eq!(group.advance(slow, 14), []);
        assert_eq!(group.advance(slow, 13), [], "it does not go back");
        assert_eq!(group.advance(slow, 15), [fast]);
        assert_eq!(group.pace(fast, 10), Pace::Go);
        assert_eq!(group.advance(slow, 20), [], "it was released once");
    }

    #[test]
    fn a_member_without_a_watermark_holds_back_all_that_have_one() {
        let (mut group, first, second) = group_of_two();
        assert_eq!(group.advance(first, i64::MIN + 1), []);
        assert_eq!(group.pace(first, 1), Pace::Go);
        assert_eq!(group.advance(first, 0), []);
        assert_eq!(group.pace(first, 1000), Pace::Pause);
        assert_eq!(group.pace(second, 0), Pace::Go, "the lowest always goes on");
        assert_eq!(group.advance(second, 0), [first]);
        let late = group.join();
        assert_eq!(group.pace(first, 1000), Pace::Pause);
        assert_eq!(group.pace(late, 0), Pace::Go);
    }

    #[test]
    fn idle_members_do_not_count_until_something_comes_again() {
        let (mut group, fast, slow) = group_of_two();
        assert_eq!(group.advance(slow, 0), []);
        assert_eq!(group.advance(fast, 100), []);
        assert_eq!(group.pace(fast, 10), Pace::Pause);
        assert_eq!(group.set_idle(slow, true), [fast]);
        assert_eq!(group.set_idle(slow, true), []);
        assert_eq!(group.pace(fast, 10), Pace::Go);
        assert_eq!(group.set_idle(slow, false), []);
        assert_eq!(group.pace(fast, 10), Pace::Pause);
        assert_eq!(group.set_idle(slow, true), [fast]);
        assert_eq!(group.advance(slow, 95), [], "watermarks of idle members are kept");
        assert_eq!(group.set_idle(slow, false), []);
        assert_eq!(group.pace(fast, 10), Pace::Go);
    }

    #[test]
    fn the_last_of_a_group_goes_on_and_who_has_left_is_forgotten() {
        let mut group = WatermarkGroup::default();
        let [lowest, middle, highest] = [(); 3].map(|()| group.join());
        for (member, watermark) in [(lowest, 0), (middle, 50), (highest, 100)] {
            assert_eq!(group.advance(member, watermark), []);
        }
        assert_eq!(group.pace(middle, 10), Pace::Pause);
        assert_eq!(group.pace(highest, 10), Pace::Pause);
        assert_eq!(group.leave(lowest), [middle], "the highest is ahead of the middle one");
        assert_eq!(group.leave(middle), [highest]);
        assert_eq!(group.pace(highest, 0), Pace::Go);
        assert_eq!(group.advance(middle, 1000), [], "nobody by that id");
        assert_eq!(group.set_idle(middle, false), []);
        assert_eq!(group.leave(highest), []);
        assert_eq!(group, WatermarkGroup { joined: 3, ..WatermarkGroup::default() });
    }

    #[test]
    fn one_that_leaves_while_it_waits_is_released_no_more() {
        let (mut group, fast, slow) = group_of_two();
        assert_eq!(group.advance(fast, 100), []);
        assert_eq!(group.pace(fast, 10), Pace::Pause);
        assert_eq!(group.leave(fast), []);
        assert_eq!(group.advance(slow, 1000), []);
    }
}
