//! What the control on several input channels means together: the lowest watermark, the aligned barrier, the last end.
//!
//! Barriers are aligned as in Carbone et al., "Lightweight Asynchronous Snapshots for Distributed Dataflows" (2015): the
//! snapshot of a checkpoint is taken when its barrier has come on every channel that is still open.
//!
//! An unaligned snapshot is taken before: as in Chandy and Lamport, "Distributed Snapshots" (1985), the state of a
//! channel is then what comes on it between the snapshot and the barrier, and is kept with the snapshot. Nothing has to
//! overtake anything in the channels: every task hears of a checkpoint from the leader as well.

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
    /// Whether what comes is part of the checkpoint whose snapshot was taken before this channel's barrier.
    in_flight: bool,
}

/// What an element that has come, and was not processed yet, is to the checkpoint whose snapshot was taken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// A part of it: its producer sent it before the barrier, and no state reflects it.
    InFlight,
    /// The barrier that was awaited on this channel, which means nothing else.
    Barrier,
    /// Nothing: it came after the barrier, or need not be kept.
    Other,
}

/// When the snapshot of a checkpoint is to be taken without the barriers that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    checkpoint: u64,
    overtake_at: Timestamp,
}

/// The control state of an input gate.
///
/// Invariants: a channel that has ended is not readable, nor, with exactly-once checkpoints, one that waits for others
/// to reach a barrier; no channel waits for a barrier of a checkpoint that was given up; the watermark only grows,
/// whatever idle channels say when they come back; only of a checkpoint whose snapshot was taken early is anything in
/// flight, on channels that are readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    channels: Vec<Channel>,
    mode: CheckpointingMode,
    /// The checkpoint whose barrier some channels have reached and others have not.
    aligning: Option<u64>,
    /// The newest checkpoint that is aligned or given up: barriers up to it mean nothing any more.
    settled: u64,
    /// The checkpoint that a task has heard of and that is not settled.
    expected: Option<Expected>,
    /// The checkpoint whose snapshot was taken while barriers were missing, until they have come.
    overtaking: Option<u64>,
    watermark: Option<Timestamp>,
    idle: bool,
}

impl Alignment {
    /// Of a gate with this many channels.
    #[must_use]
    pub fn new(channel_count: usize, mode: CheckpointingMode) -> Self {
        let channel = Channel { watermark: None, reached: false, idle: false, ended: false, in_flight: false };
        let channels = vec![channel; channel_count];
        let (expected, overtaking) = (None, None);
        Self { channels, mode, aligning: None, settled: 0, expected, overtaking, watermark: None, idle: false }
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
        if self.overtaking.is_some_and(|overtaking| overtaking <= checkpoint) {
            self.give_up();
        }
        self.settle(checkpoint);
    }

    fn settle(&mut self, checkpoint: u64) {
        self.settled = self.settled.max(checkpoint);
        self.expected.take_if(|expected| expected.checkpoint <= checkpoint);
    }

    /// The task has heard of a checkpoint: if its barriers have not all come by then, its snapshot is taken without them.
    pub fn expect(&mut self, checkpoint: u64, overtake_at: Timestamp) {
        if checkpoint > self.settled && self.expected.is_none_or(|expected| expected.checkpoint < checkpoint) {
            self.expected = Some(Expected { checkpoint, overtake_at });
        }
    }

    /// When [`overtake`](Self::overtake) is to be asked.
    #[must_use]
    pub fn overtakes_at(&self) -> Option<Timestamp> {
        self.expected.map(|expected| expected.overtake_at)
    }

    /// The checkpoint whose snapshot is to be taken now, although barriers are missing. All that comes on channels
    /// without a barrier is in flight from here on, beginning with what has come and was not processed.
    pub fn overtake(&mut self, now: Timestamp) -> Option<u64> {
        let Expected { checkpoint, .. } = self.expected.take_if(|expected| expected.overtake_at <= now)?;
        let older = self.aligning.is_some_and(|aligning| checkpoint < aligning);
        if checkpoint <= self.settled || older || self.ended() {
            return None;
        }
        self.give_up();
        let aligning = self.aligning == Some(checkpoint);
        for channel in &mut self.channels {
            let complete = channel.ended || (aligning && channel.reached);
            channel.in_flight = !complete;
        }
        self.release();
        self.settle(checkpoint);
        self.overtaking = Some(checkpoint);
        Some(checkpoint)
    }

    /// The checkpoint whose snapshot was taken and whose barriers have not all come.
    #[must_use]
    pub fn overtaking(&self) -> Option<u64> {
        self.overtaking
    }

    /// Whether what comes on this channel is to be shown to [`arrive`](Self::arrive) before it is processed.
    #[must_use]
    pub fn is_in_flight(&self, channel: usize) -> bool {
        self.channels[channel].in_flight
    }

    /// What control that has come on a channel is to the checkpoint that is overtaking; that a batch is in flight says
    /// [`is_in_flight`](Self::is_in_flight).
    pub fn arrive(&mut self, channel: usize, control: Control) -> Arrival {
        let Some(overtaking) = self.overtaking.filter(|_| self.channels[channel].in_flight) else {
            return Arrival::Other;
        };
        match control {
            Control::Watermark(_) => Arrival::InFlight,
            Control::Barrier(checkpoint) if checkpoint == overtaking => {
                self.channels[channel].in_flight = false;
                Arrival::Barrier
            }
            // The producer knows that the older checkpoint was given up: its barrier never comes.
            Control::Barrier(checkpoint) if checkpoint > overtaking => {
                self.give_up();
                Arrival::Other
            }
            // Said again by its producer, which starts from the checkpoint as one that had finished.
            Control::EndOfInput => {
                self.channels[channel].in_flight = false;
                Arrival::Other
            }
            // Of an older checkpoint; or an idleness that the producer, started anew, does not remember.
            Control::Barrier(_)
            | Control::Idle
            | Control::Active
            | Control::ProcessingTime(_)
            | Control::Completed(_)
            | Control::FinishedBefore => Arrival::Other,
        }
    }

    /// The checkpoint that was overtaking and has all its barriers now.
    pub fn take_overtaken(&mut self) -> Option<u64> {
        if self.channels.iter().any(|channel| channel.in_flight) { None } else { self.overtaking.take() }
    }

    /// Of the checkpoint that is overtaking, nothing more is kept.
    pub fn give_up(&mut self) {
        self.overtaking = None;
        for channel in &mut self.channels {
            channel.in_flight = false;
        }
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
        self.settle(checkpoint);
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
mod tests;
