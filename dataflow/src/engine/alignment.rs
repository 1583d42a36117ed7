//! What the control on several input channels means together: the lowest watermark, the aligned barrier, the last end.
//!
//! Barriers are aligned as in Carbone et al., "Lightweight Asynchronous Snapshots for Distributed Dataflows" (2015): the
//! snapshot of a checkpoint is taken when its barrier has come on every channel that is still open.

use tidemill_model::checkpoint::CheckpointingMode;

use crate::record::{Control, END_OF_TIME, Timestamp};

/// What one channel has said.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Channel {
    watermark: Option<Timestamp>,
    /// Whether the barrier of the checkpoint that is being aligned has come.
    reached: bool,
    idle: bool,
    ended: bool,
}

/// The control state of an input gate.
///
/// Invariants: a channel that has ended is not readable, nor, with exactly-once checkpoints, one that waits for others
/// to reach a barrier; no channel waits for a barrier of a checkpoint that was given up; the watermark only grows,
/// whatever idle channels say when they come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    channels: Vec<Channel>,
    mode: CheckpointingMode,
    /// The checkpoint whose barrier some channels have reached and others have not.
    aligning: Option<u64>,
    /// The newest checkpoint that is aligned or given up: barriers up to it mean nothing any more.
    settled: u64,
    watermark: Option<Timestamp>,
    idle: bool,
}

impl Alignment {
    /// Of a gate with this many channels.
    #[must_use]
    pub fn new(channel_count: usize, mode: CheckpointingMode) -> Self {
        let channel = Channel { watermark: None, reached: false, idle: false, ended: false };
        let channels = vec![channel; channel_count];
        Self { channels, mode, aligning: None, settled: 0, watermark: None, idle: false }
    }

    /// Whether the next element of this channel may be taken.
    #[must_use]
    pub fn readable(&self, channel: usize) -> bool {
        let channel = &self.channels[channel];
        let waits = channel.reached && self.mode == CheckpointingMode::ExactlyOnce;
        !channel.ended && !waits
    }

    /// Whether every channel has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.channels.iter().all(|channel| channel.ended)
    }

    fn open(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().filter(|channel| !channel.ended)
    }

    /// The channels from which records may still come: behind the end of time there is only the end of input.
    fn awaited(&self) -> impl Iterator<Item = &Channel> {
        self.open().filter(|channel| channel.watermark != Some(END_OF_TIME))
    }

    /// Takes control from one channel; answers what the gate as a whole says on, in this order.
    pub fn step(&mut self, channel: usize, control: Control) -> Vec<Control> {
        let mut forward = Vec::new();
        match control {
            Control::Watermark(time) => self.channels[channel].watermark = Some(time),
            Control::Barrier(checkpoint) => self.reach(channel, checkpoint),
            Control::Idle => self.channels[channel].idle = true,
            Control::Active => self.channels[channel].idle = false,
            Control::EndOfInput => self.channels[channel].ended = true,
            Control::ProcessingTime(_) | Control::Completed(_) | Control::FinishedBefore => return vec![control],
        }
        forward.extend(self.aligned_barrier().map(Control::Barrier));
        let idle = if self.awaited().next().is_some() { self.awaited().all(|channel| channel.idle) } else { self.idle };
        if self.idle && !idle {
            forward.push(Control::Active);
        }
        forward.extend(self.advanced_watermark(idle).map(Control::Watermark));
        if idle && !self.idle {
            forward.push(Control::Idle);
        }
        self.idle = idle;
        if control == Control::EndOfInput && self.ended() {
            forward.push(Control::EndOfInput);
        }
        forward
    }

    /// A barrier has come on a channel. That of a newer checkpoint ends the wait for an older one: a barrier that has
    /// not come by then never will, since its checkpoint was given up where it is missing.
    fn reach(&mut self, channel: usize, checkpoint: u64) {
        if checkpoint <= self.settled || self.aligning.is_some_and(|aligning| checkpoint < aligning) {
            return;
        }
        if self.aligning != Some(checkpoint) {
            self.release();
            self.aligning = Some(checkpoint);
        }
        self.channels[channel].reached = true;
    }

    fn release(&mut self) {
        self.aligning = None;
        for channel in &mut self.channels {
            channel.reached = false;
        }
    }

    /// The checkpoints up to this one came to nothing: nobody waits for their barriers any more.
    pub fn abort(&mut self, checkpoint: u64) {
        if self.aligning.is_some_and(|aligning| aligning <= checkpoint) {
            self.release();
        }
        self.settled = self.settled.max(checkpoint);
    }

    /// The barrier that every channel still open has reached; the channels are readable again.
    fn aligned_barrier(&mut self) -> Option<u64> {
        let checkpoint = self.aligning?;
        if self.open().any(|channel| !channel.reached) {
            return None;
        }
        self.release();
        // At the end of its input, a task leaves its last snapshot instead.
        if self.ended() {
            return None;
        }
        self.settled = checkpoint;
        Some(checkpoint)
    }

    /// The least watermark of the channels that are awaited and not idle, when it grew; the greatest when all are idle,
    /// since none of them holds the others back. The end of time comes when nothing more is awaited: an idle channel
    /// may yet have records, all of which would be late.
    fn advanced_watermark(&mut self, idle: bool) -> Option<Timestamp> {
        let reached = if self.awaited().next().is_none() {
            self.open().map(|channel| channel.watermark).max()??
        } else if idle {
            self.awaited().map(|channel| channel.watermark).max()??
        } else {
            self.awaited().filter(|channel| !channel.idle).map(|channel| channel.watermark).min()??
        };
        if self.watermark.is_some_and(|watermark| watermark >= reached) {
            return None;
        }
        self.watermark = Some(reached);
        Some(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Control::{Active, Barrier, EndOfInput, Idle, Watermark};

    #[test]
    fn the_gate_ends_with_its_last_channel() {
        let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
        assert_eq!(alignment.step(1, EndOfInput), vec![]);
        assert!(alignment.readable(0) && !alignment.readable(1));
        assert_eq!(alignment.step(0, EndOfInput), vec![EndOfInput]);
        assert!(alignment.ended());
    }

    #[test]
    fn the_least_watermark_counts_and_only_grows() {
        let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
        assert_eq!(alignment.step(0, Watermark(5)), vec![]);
        assert_eq!(alignment.step(1, Watermark(3)), vec![Watermark(3)]);
        assert_eq!(alignment.step(1, Watermark(3)), vec![]);
        assert_eq!(alignment.step(1, Watermark(9)), vec![Watermark(5)]);
        assert_eq!(alignment.step(0, EndOfInput), vec![Watermark(9)]);
    }

    #[test]
    fn a_channel_waits_behind_its_barrier_until_all_have_it() {
        let mut alignment = Alignment::new(3, CheckpointingMode::ExactlyOnce);
        assert_eq!(alignment.step(0, Barrier(1)), vec![]);
        assert!(!alignment.readable(0) && alignment.readable(1));
        assert_eq!(alignment.step(1, Barrier(1)), vec![]);
        assert_eq!(alignment.step(2, EndOfInput), vec![Barrier(1)]);
        assert!(alignment.readable(0) && alignment.readable(1));
    }

    #[test]
    fn with_at_least_once_no_channel_waits() {
        let mut alignment = Alignment::new(2, CheckpointingMode::AtLeastOnce);
        assert_eq!(alignment.step(0, Barrier(1)), vec![]);
        assert!(alignment.readable(0) && alignment.readable(1));
        assert_eq!(alignment.step(1, Barrier(1)), vec![Barrier(1)]);
    }

    #[test]
    fn a_newer_barrier_ends_the_wait_for_an_older_one() {
        let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
        assert_eq!(alignment.step(0, Barrier(1)), vec![]);
        assert_eq!(alignment.step(1, Barrier(2)), vec![]);
        assert!(alignment.readable(0) && !alignment.readable(1));
        assert_eq!(alignment.step(0, Barrier(2)), vec![Barrier(2)]);
    }

    #[test]
    fn a_checkpoint_that_is_given_up_holds_no_channel_and_its_late_barriers_mean_nothing() {
        let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
        assert_eq!(alignment.step(0, Barrier(1)), vec![]);
        alignment.abort(1);
        assert!(alignment.readable(0) && alignment.readable(1));
        assert_eq!(alignment.step(1, Barrier(1)), vec![]);
        assert!(alignment.readable(1));
        assert_eq!(alignment.step(1, Barrier(3)), vec![]);
        assert_eq!(alignment.step(1, EndOfInput), vec![]);
        assert_eq!(alignment.step(0, Barrier(3)), vec![Barrier(3)]);
    }

    #[test]
    fn an_idle_channel_holds_nobody_back_and_takes_nothing_back() {
        let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
        assert_eq!(alignment.step(0, Watermark(5)), vec![]);
        assert_eq!(alignment.step(1, Idle), vec![Watermark(5)]);
        assert_eq!(alignment.step(0, Watermark(7)), vec![Watermark(7)]);
        assert_eq!(alignment.step(1, Active), vec![]);
        assert_eq!(alignment.step(1, Watermark(3)), vec![]);
        assert_eq!(alignment.step(0, Watermark(9)), vec![]);
        assert_eq!(alignment.step(1, Watermark(8)), vec![Watermark(8)]);
    }

    #[test]
    fn a_gate_is_idle_when_all_its_channels_are() {
        let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
        assert_eq!(alignment.step(0, Watermark(5)), vec![]);
        assert_eq!(alignment.step(1, Watermark(3)), vec![Watermark(3)]);
        assert_eq!(alignment.step(1, Idle), vec![Watermark(5)]);
        assert_eq!(alignment.step(0, Idle), vec![Idle]);
        assert_eq!(alignment.step(1, Active), vec![Active]);
        assert_eq!(alignment.step(1, EndOfInput), vec![Idle]);
        assert_eq!(alignment.step(0, Active), vec![Active]);
        assert_eq!(alignment.step(0, EndOfInput), vec![EndOfInput]);
    }

    #[test]
    fn an_input_that_ends_does_not_end_time_for_an_idle_one() {
        let mut alignment = Alignment::new(3, CheckpointingMode::ExactlyOnce);
        assert_eq!(alignment.step(0, Watermark(5)), vec![]);
        assert_eq!(alignment.step(1, Idle), vec![]);
        assert_eq!(alignment.step(2, Idle), vec![Watermark(5)]);
        assert_eq!(alignment.step(2, Watermark(END_OF_TIME)), vec![]);
        assert_eq!(alignment.step(2, EndOfInput), vec![]);
        assert_eq!(alignment.step(0, Watermark(END_OF_TIME)), vec![Idle]);
        assert_eq!(alignment.step(0, EndOfInput), vec![]);
        assert_eq!(alignment.step(1, Active), vec![Active]);
        assert_eq!(alignment.step(1, Watermark(7)), vec![Watermark(7)]);
        assert_eq!(alignment.step(1, Idle), vec![Idle]);
        assert_eq!(alignment.step(1, Watermark(END_OF_TIME)), vec![Watermark(END_OF_TIME)]);
        assert_eq!(alignment.step(1, EndOfInput), vec![EndOfInput]);
    }
}
