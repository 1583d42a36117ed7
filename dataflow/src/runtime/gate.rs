//! A sub-task's input: its channels, taken in turn, and what their control means together.
//!
//! While a snapshot overtakes (`engine/alignment.rs`), what comes on channels whose barrier is missing is taken at once,
//! kept for the snapshot, and waits here for its turn: so the barrier comes soon, however slow the sub-task is, and
//! producers that wait for room come to their own snapshots.

mod channel;
mod element;
mod overtaking;

use crossbeam_channel::Select;
use tidemill_model::checkpoint::CheckpointingMode;
use tidemill_model::execution::FailureKind;

pub(crate) use self::channel::InputChannel;
pub(crate) use self::element::Turn;
use self::element::{Element, Lost, Taken};
use self::overtaking::Overtaking;
use crate::engine::alignment::{Alignment, Arrival};
use crate::engine::pieces::Pieces;
use crate::push::{Push, Stopped};
use crate::record::{Batch, Control, Data, StreamElement, decode_batch};
use crate::runtime::clock::Stopwatch;
use crate::runtime::network::{ChannelId, WireElement};
use crate::runtime::task::{Task, TaskContext};
use crate::runtime::wiring::ReceivingHalf;

/// The input channels of one sub-task.
pub struct InputGate<T> {
    channels: Vec<InputChannel<T>>,
    alignment: Alignment,
    /// The snapshot that was taken before all barriers had come.
    overtaking: Option<Overtaking>,
    /// So that a slow task need not end a batch before its snapshot overtakes; none: it never does.
    pieces: Option<Pieces>,
    /// Where the search for input goes on, so that no channel starves.
    next: usize,
    context: TaskContext,
}

impl<T: Data> InputGate<T> {
    pub(crate) fn new(channels: Vec<InputChannel<T>>, mode: CheckpointingMode, context: TaskContext) -> Self {
        let alignment = Alignment::new(channels.len(), mode);
        let pieces = context.takes_unaligned_checkpoints().then(Pieces::default);
        Self { channels, alignment, overtaking: None, pieces, next: 0, context }
    }

    /// An element that is there already.
    fn try_take(&mut self, turn: Turn) -> Option<(usize, Taken<T>)> {
        let count = self.channels.len();
        for offset in 0..count {
            let index = (self.next + offset) % count;
            if !self.alignment.readable(index) {
                continue;
            }
            let channel = &mut self.channels[index];
            let taken = match channel.pop_waiting() {
                Some(element) => Some(Ok(element)),
                // It comes by way of those that wait.
                None if self.alignment.is_in_flight(index) => None,
                None => channel.try_take(turn),
            };
            if let Some(taken) = taken {
                self.next = (index + 1) % count;
                return Some((index, taken));
            }
        }
        None
    }

    /// Waits for an element or mail, or until an operator wants to be called; nothing is there already.
    fn take(&mut self, turn: Turn) -> Result<Option<(usize, Taken<T>)>, Stopped> {
        loop {
            let mut select = Select::new();
            let mail = select.recv(self.context.mailbox());
            let mut watched = Vec::with_capacity(self.channels.len() + 1);
            watched.push(usize::MAX);
            for (index, channel) in self.channels.iter().enumerate() {
                if self.alignment.readable(index) {
                    channel.half.watch(&mut select);
                    watched.push(index);
                }
            }
            let ready = match self.context.until_due() {
                None => select.select(),
                Some(timeout) => match select.select_timeout(timeout) {
                    Ok(ready) => ready,
                    Err(_) => return Ok(None),
                },
            };
            if ready.index() == mail {
                self.context.on_mail(ready.recv(self.context.mailbox()))?;
                continue;
            }
            let index = watched[ready.index()];
            let taken = self.channels[index].half.take(ready);
            if self.alignment.is_in_flight(index) {
                self.arrived(index, taken)?;
                return Ok(None);
            }
            if let Ok(element) = &taken {
                self.channels[index].half.taken(element, turn);
            }
            return Ok(Some((index, taken)));
        }
    }

    /// An element that is there, or comes.
    fn next(&mut self, turn: Turn) -> Result<Option<(usize, Taken<T>)>, Stopped> {
        match self.try_take(turn) {
            Some(taken) => Ok(Some(taken)),
            None => self.take(turn),
        }
    }

    /// The sub-task's snapshot was taken: what waits already is in flight, as is all that comes before the barriers.
    fn begin_overtaking(&mut self, overtaking: Overtaking) {
        let Self { channels, alignment, context, .. } = self;
        let overtaking = self.overtaking.insert(overtaking);
        for (index, channel) in channels.iter_mut().enumerate() {
            let id = channel.id;
            channel.retain(|element| keeps_waiting(alignment, overtaking, context, (index, id), element));
        }
    }

    /// Takes what has come before the barriers that are missing; leaves the snapshot when there are none.
    #[cold]
    fn go_on_overtaking(&mut self) -> Result<(), Stopped> {
        for index in 0..self.channels.len() {
            while self.alignment.is_in_flight(index) && self.channels[index].has_room() {
                let Some(taken) = self.channels[index].half.try_take() else {
                    self.channels[index].half.allow_more();
                    break;
                };
                self.arrived(index, taken)?;
            }
        }
        if self.alignment.overtaking().is_none() {
            self.overtaking = None;
        } else if self.alignment.take_overtaken().is_some()
            && let Some(overtaking) = self.overtaking.take()
        {
            overtaking.leave::<T>(&self.context);
        }
        Ok(())
    }

    fn arrived(&mut self, index: usize, taken: Taken<T>) -> Result<(), Stopped> {
        let element = taken.map_err(|lost| self.lost(lost))?;
        let channel = &mut self.channels[index];
        let waits = self.overtaking.as_mut().is_none_or(|overtaking| {
            keeps_waiting(&mut self.alignment, overtaking, &self.context, (index, channel.id), &element)
        });
        if waits {
            channel.push_early(element);
        } else {
            channel.half.release();
        }
        Ok(())
    }

    #[cold]
    fn lost(&self, lost: Lost) -> Stopped {
        let context = &self.context;
        match lost {
            Lost::Abandoned => context.abandoned(),
            Lost::Connection(lost) => context.fail(context.connection_failure(&lost)),
            Lost::Closed => {
                let message = "the data connection was closed before the end of input".to_owned();
                context.fail(context.failure(FailureKind::ConnectionLost, None, message))
            }
        }
    }
}

/// Keeps a copy of an element that is in flight. Answers whether it waits for its turn: all but the awaited barrier do.
fn keeps_waiting<T: Data>(
    alignment: &mut Alignment,
    overtaking: &mut Overtaking,
    context: &TaskContext,
    (index, channel): (usize, ChannelId),
    element: &Element<T>,
) -> bool {
    let arrival = match element.control() {
        Some(control) => alignment.arrive(index, control),
        None if alignment.is_in_flight(index) => Arrival::InFlight,
        None => Arrival::Other,
    };
    match arrival {
        Arrival::Barrier => return false,
        Arrival::Other => {}
        Arrival::InFlight => {
            if let Err(reason) = overtaking.keep(channel, element) {
                context.decline(overtaking.checkpoint(), reason);
                alignment.give_up();
            }
        }
    }
    true
}

/// A chain that is fed by an exchange.
pub(crate) struct InputTask<T, N> {
    gate: InputGate<T>,
    next: N,
    /// The checkpoint whose barrier was pushed last, until somebody asks.
    reached: Option<u64>,
}

impl<T: Data, N: Push<T>> InputTask<T, N> {
    pub(crate) fn new(gate: InputGate<T>, next: N) -> Self {
        Self { gate, next, reached: None }
    }

    /// What the input is pushed into.
    pub(crate) fn next(&mut self) -> &mut N {
        &mut self.next
    }

    /// Whether every channel has ended.
    pub(crate) fn ended(&self) -> bool {
        self.gate.alignment.ended()
    }

    /// The checkpoint whose barrier was pushed since this was last asked.
    pub(crate) fn take_reached(&mut self) -> Option<u64> {
        self.reached.take()
    }

    /// No channel waits any more for the barrier of a checkpoint that was given up.
    pub(crate) fn abort(&mut self, checkpoint: u64) {
        self.gate.alignment.abort(checkpoint);
    }

    /// Takes elements and forgets them, until every channel has ended.
    pub(crate) fn drain(&mut self) -> Result<(), Stopped> {
        while !self.ended() {
            let Some((channel, taken)) = self.gate.next(Turn::Come)? else { continue };
            if let Some(control) = taken.map_err(|lost| self.gate.lost(lost))?.control() {
                self.gate.alignment.step(channel, control);
            }
        }
        Ok(())
    }

    /// Pushes an element that is there already; answers whether there was one.
    pub(crate) fn try_step(&mut self, turn: Turn) -> Result<bool, Stopped> {
        match self.gate.try_take(turn) {
            Some((channel, taken)) => self.element(channel, taken).map(|()| true),
            None => Ok(false),
        }
    }

    /// Waits for an element and pushes it; returns without one when it is time for an operator to be called.
    pub(crate) fn step(&mut self, turn: Turn) -> Result<(), Stopped> {
        match self.gate.next(turn)? {
            Some((channel, taken)) => self.element(channel, taken),
            None => Ok(()),
        }
    }

    /// The turn of a batch has come that was taken [early](Turn::Early); there is one channel.
    pub(crate) fn release(&self) {
        self.gate.channels.iter().for_each(|channel| channel.half.unhold());
    }

    fn element(&mut self, channel: usize, taken: Taken<T>) -> Result<(), Stopped> {
        match taken {
            Ok(Element::Local(StreamElement::Batch(batch))) => self.batch(channel, batch),
            Ok(Element::Encoded(WireElement::Batch(bytes))) => {
                let context = &self.gate.context;
                let batch = decode_batch(&bytes).map_err(|error| {
                    let message = format!("{error}; on channel {}", context.describe(self.gate.channels[channel].id));
                    context.fail(context.failure(FailureKind::ConnectionLost, None, message))
                })?;
                self.batch(channel, batch)
            }
            Ok(element) => element.control().map_or(Ok(()), |control| self.control(channel, control)),
            Err(lost) => Err(self.gate.lost(lost)),
        }
    }

    fn batch(&mut self, channel: usize, mut batch: Batch<T>) -> Result<(), Stopped> {
        match &mut self.gate.pieces {
            None => self.next.push_batch(&mut batch)?,
            Some(pieces) => {
                if batch.records.len() > pieces.records() {
                    let rest = batch.split_off(pieces.records());
                    self.gate.channels[channel].push_rest(rest);
                }
                let (count, watch) = (batch.records.len(), Stopwatch::start());
                self.next.push_batch(&mut batch)?;
                pieces.took(count, watch.elapsed());
            }
        }
        if let ReceivingHalf::Local(receiver) = &self.gate.channels[channel].half {
            receiver.recycle(batch);
        }
        Ok(())
    }

    fn control(&mut self, channel: usize, control: Control) -> Result<(), Stopped> {
        for control in self.gate.alignment.step(channel, control) {
            self.next.control(control)?;
            if let Control::Barrier(checkpoint) = control {
                self.reached = Some(checkpoint);
            }
        }
        Ok(())
    }
}

impl<T: Data, N: Push<T>> Task for InputTask<T, N> {
    fn run(&mut self) -> Result<(), Stopped> {
        if self.gate.context.had_finished() {
            return self.run_finished();
        }
        while !self.ended() {
            self.gate.context.poll()?;
            if self.gate.overtaking.is_some() {
                self.gate.go_on_overtaking()?;
            }
            let taken = match self.gate.try_take(Turn::Come) {
                Some(taken) => Some(taken),
                None => {
                    self.next.flush()?;
                    self.gate.take(Turn::Come)?
                }
            };
            // Before the element: it came after the time that was waited for.
            if let Some(now) = self.gate.context.take_due() {
                self.next.control(Control::ProcessingTime(now))?;
            }
            if let Some((channel, taken)) = taken {
                self.element(channel, taken)?;
                if let Some(checkpoint) = self.take_reached() {
                    self.gate.context.barrier_passed(checkpoint);
                }
            }
            if self.gate.context.has_checkpoint_news() {
                self.on_checkpoint_news()?;
            }
            if self.gate.alignment.overtakes_at().is_some() {
                self.overtake_if_late()?;
            }
        }
        Ok(())
    }
}

impl<T: Data, N: Push<T>> InputTask<T, N> {
    /// All inputs had ended before the checkpoint that this sub-task starts from; they say so again.
    fn run_finished(&mut self) -> Result<(), Stopped> {
        self.drain()?;
        self.next.control(Control::FinishedBefore)
    }

    #[cold]
    fn on_checkpoint_news(&mut self) -> Result<(), Stopped> {
        self.abort(self.gate.context.aborted());
        if let Some(checkpoint) = self.gate.context.take_completed() {
            self.next.control(Control::Completed(checkpoint))?;
            self.gate.context.confirm(checkpoint);
        }
        if let Some((checkpoint, overtake_at)) = self.gate.context.wanted_overtaking() {
            self.gate.alignment.expect(checkpoint, overtake_at);
        }
        Ok(())
    }

    /// Takes the snapshot of a checkpoint whose barriers have not all come in time.
    #[cold]
    fn overtake_if_late(&mut self) -> Result<(), Stopped> {
        let context = self.gate.context.clone();
        if let Some(checkpoint) = self.gate.alignment.overtake(context.processing_time()) {
            self.next.control(Control::Barrier(checkpoint))?;
            self.gate.begin_overtaking(Overtaking::new(checkpoint, context.begin_snapshot(checkpoint)));
        } else if let Some(overtake_at) = self.gate.alignment.overtakes_at() {
            context.wake_at(overtake_at);
        }
        Ok(())
    }
}
