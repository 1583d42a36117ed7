//! What the control on several input channels means together: the lowest watermark, the aligned barrier, the last end.

use crate::record::Control;

/// What one channel has said.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Channel {
    watermark: Option<i64>,
    barrier: Option<u64>,
    ended: bool,
}

/// The control state of an input gate.
///
/// Invariant: a channel that awaits a barrier's alignment, or that has ended, is not readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    channels: Vec<Channel>,
    watermark: Option<i64>,
}

impl Alignment {
    /// Of a gate with this many channels.
    #[must_use]
    pub fn new(channel_count: usize) -> Self {
        Self {
            channels: vec![Channel { watermark: None, barrier: None, ended: false }; channel_count],
            watermark: None,
        }
    }

    /// Whether the next element of this channel may be taken.
    #[must_use]
    pub fn readable(&self, channel: usize) -> bool {
        let channel = &self.channels[channel];
        !channel.ended && channel.barrier.is_none()
    }

    /// Whether every channel has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.channels.iter().all(|channel| channel.ended)
    }

    /// Takes control from one channel; answers what the gate as a whole says on, in this order.
    pub fn step(&mut self, channel: usize, control: Control) -> Vec<Control> {
        let mut forward = Vec::new();
        match control {
            Control::Watermark(time) => self.channels[channel].watermark = Some(time),
            Control::Barrier(checkpoint) => self.channels[channel].barrier = Some(checkpoint),
            Control::EndOfInput => self.channels[channel].ended = true,
        }
        forward.extend(self.aligned_barrier().map(Control::Barrier));
        forward.extend(self.advanced_watermark().map(Control::Watermark));
        if control == Control::EndOfInput && self.ended() {
            forward.push(Control::EndOfInput);
        }
        forward
    }

    /// The barrier that every channel still open has reached; the channels are readable again.
    fn aligned_barrier(&mut self) -> Option<u64> {
        let mut barriers = self.channels.iter().filter(|channel| !channel.ended).map(|channel| channel.barrier);
        let checkpoint = barriers.next()??;
        if barriers.any(|barrier| barrier.is_none()) {
            return None;
        }
        for channel in &mut self.channels {
            channel.barrier = None;
        }
        Some(checkpoint)
    }

    /// The least watermark of the channels still open, when it grew.
    fn advanced_watermark(&mut self) -> Option<i64> {
        let open = self.channels.iter().filter(|channel| !channel.ended);
        let least = open.map(|channel| channel.watermark).min()??;
        if self.watermark.is_some_and(|watermark| watermark >= least) {
            return None;
        }
        self.watermark = Some(least);
        Some(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Control::{Barrier, EndOfInput, Watermark};

    #[test]
    fn the_gate_ends_with_its_last_channel() {
        let mut alignment = Alignment::new(2);
        assert_eq!(alignment.step(1, EndOfInput), vec![]);
        assert!(alignment.readable(0) && !alignment.readable(1));
        assert_eq!(alignment.step(0, EndOfInput), vec![EndOfInput]);
        assert!(alignment.ended());
    }

    #[test]
    fn the_least_watermark_counts_and_only_grows() {
        let mut alignment = Alignment::new(2);
        assert_eq!(alignment.step(0, Watermark(5)), vec![]);
        assert_eq!(alignment.step(1, Watermark(3)), vec![Watermark(3)]);
        assert_eq!(alignment.step(1, Watermark(3)), vec![]);
        assert_eq!(alignment.step(1, Watermark(9)), vec![Watermark(5)]);
        assert_eq!(alignment.step(0, EndOfInput), vec![Watermark(9)]);
    }

    #[test]
    fn a_channel_waits_behind_its_barrier_until_all_have_it() {
        let mut alignment = Alignment::new(3);
        assert_eq!(alignment.step(0, Barrier(1)), vec![]);
        assert!(!alignment.readable(0) && alignment.readable(1));
        assert_eq!(alignment.step(1, Barrier(1)), vec![]);
        assert_eq!(alignment.step(2, EndOfInput), vec![Barrier(1)]);
        assert!(alignment.readable(0) && alignment.readable(1));
    }
}
