//! A sub-task's input: its channels, taken in turn, and what their control means together.

use crossbeam_channel::{RecvError, Select, TryRecvError};
use tidemill_model::checkpoint::CheckpointingMode;
use tidemill_model::execution::FailureKind;

use crate::engine::alignment::Alignment;
use crate::push::{Push, Stopped};
use crate::record::{Batch, Control, Data, StreamElement, decode_batch};
use crate::runtime::network::{ConnectionLost, WireElement};
use crate::runtime::task::{Task, TaskContext};
use crate::runtime::wiring::ReceivingHalf;

/// The input channels of one sub-task.
pub struct InputGate<T> {
    channels: Vec<ReceivingHalf<T>>,
    alignment: Alignment,
    /// Where the search for input goes on, so that no channel starves.
    next: usize,
    context: TaskContext,
}

/// What a channel had.
enum Taken<T> {
    Local(Result<StreamElement<T>, RecvError>),
    Remote(Result<Result<WireElement, ConnectionLost>, RecvError>),
}

impl<T> InputGate<T> {
    pub(crate) fn new(channels: Vec<ReceivingHalf<T>>, mode: CheckpointingMode, context: TaskContext) -> Self {
        let alignment = Alignment::new(channels.len(), mode);
        Self { channels, alignment, next: 0, context }
    }

    /// An element that is there already.
    fn try_take(&mut self) -> Option<(usize, Taken<T>)> {
        let count = self.channels.len();
        for offset in 0..count {
            let channel = (self.next + offset) % count;
            if !self.alignment.readable(channel) {
                continue;
            }
            let taken = match &self.channels[channel] {
                ReceivingHalf::Local(receiver) => match receiver.elements.try_recv() {
                    Ok(element) => Taken::Local(Ok(element)),
                    Err(TryRecvError::Disconnected) => Taken::Local(Err(RecvError)),
                    Err(TryRecvError::Empty) => continue,
                },
                ReceivingHalf::Remote(receiver) => match receiver.elements().try_recv() {
                    Ok(element) => Taken::Remote(Ok(element)),
                    Err(TryRecvError::Disconnected) => Taken::Remote(Err(RecvError)),
                    Err(TryRecvError::Empty) => continue,
                },
            };
            self.next = (channel + 1) % count;
            return Some((channel, taken));
        }
        None
    }

    /// Waits for an element or mail, or until an operator wants to be called.
    fn take(&mut self) -> Result<Option<(usize, Taken<T>)>, Stopped> {
        loop {
            let mut select = Select::new();
            let mail = select.recv(self.context.mailbox());
            let mut watched = Vec::with_capacity(self.channels.len() + 1);
            watched.push(usize::MAX);
            for (channel, half) in self.channels.iter().enumerate() {
                if self.alignment.readable(channel) {
                    match half {
                        ReceivingHalf::Local(receiver) => select.recv(&receiver.elements),
                        ReceivingHalf::Remote(receiver) => select.recv(receiver.elements()),
                    };
                    watched.push(channel);
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
            let channel = watched[ready.index()];
            let taken = match &self.channels[channel] {
                ReceivingHalf::Local(receiver) => Taken::Local(ready.recv(&receiver.elements)),
                ReceivingHalf::Remote(receiver) => Taken::Remote(ready.recv(receiver.elements())),
            };
            return Ok(Some((channel, taken)));
        }
    }
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
            let Some((channel, taken)) = self.gate.take()? else { continue };
            let control = match taken {
                Taken::Local(Ok(StreamElement::Control(control))) => control,
                Taken::Remote(Ok(Ok(WireElement::EndOfInput))) => Control::EndOfInput,
                Taken::Local(Ok(StreamElement::Batch(_))) | Taken::Remote(Ok(Ok(_))) => continue,
                lost @ (Taken::Local(Err(_)) | Taken::Remote(Err(_) | Ok(Err(_)))) => {
                    return self.element(channel, lost);
                }
            };
            self.gate.alignment.step(channel, control);
        }
        Ok(())
    }

    /// Pushes an element that is there already; answers whether there was one.
    pub(crate) fn try_step(&mut self) -> Result<bool, Stopped> {
        match self.gate.try_take() {
            Some((channel, taken)) => self.element(channel, taken).map(|()| true),
            None => Ok(false),
        }
    }

    /// Waits for an element and pushes it; returns without one when it is time for an operator to be called.
    pub(crate) fn step(&mut self) -> Result<(), Stopped> {
        match self.gate.take()? {
            Some((channel, taken)) => self.element(channel, taken),
            None => Ok(()),
        }
    }

    fn element(&mut self, channel: usize, taken: Taken<T>) -> Result<(), Stopped> {
        match taken {
            Taken::Local(Ok(StreamElement::Batch(batch))) => self.batch(channel, batch),
            Taken::Local(Ok(StreamElement::Control(control))) => self.control(channel, control),
            Taken::Local(Err(RecvError)) => Err(self.gate.context.abandoned()),
            Taken::Remote(Ok(Ok(element))) => {
                if let ReceivingHalf::Remote(receiver) = &self.gate.channels[channel] {
                    // Given back before the work: the next element travels meanwhile.
                    receiver.release();
                }
                self.wire_element(channel, element)
            }
            Taken::Remote(Ok(Err(lost))) => {
                let context = &self.gate.context;
                Err(context.fail(context.connection_failure(&lost)))
            }
            Taken::Remote(Err(RecvError)) => {
                let context = &self.gate.context;
                let message = "the data connection was closed before the end of input".to_owned();
                Err(context.fail(context.failure(FailureKind::ConnectionLost, None, message)))
            }
        }
    }

    fn wire_element(&mut self, channel: usize, element: WireElement) -> Result<(), Stopped> {
        match element {
            WireElement::Batch(bytes) => {
                let context = &self.gate.context;
                let batch = decode_batch(&bytes).map_err(|error| {
                    let message = match &self.gate.channels[channel] {
                        ReceivingHalf::Remote(receiver) => {
                            format!("{error}; on channel {}", context.describe(receiver.channel()))
                        }
                        ReceivingHalf::Local(_) => error.to_string(),
                    };
                    context.fail(context.failure(FailureKind::ConnectionLost, None, message))
                })?;
                self.batch(channel, batch)
            }
            WireElement::Watermark(time) => self.control(channel, Control::Watermark(time)),
            WireElement::Barrier(checkpoint) => self.control(channel, Control::Barrier(checkpoint)),
            WireElement::Idle => self.control(channel, Control::Idle),
            WireElement::Active => self.control(channel, Control::Active),
            WireElement::EndOfInput => self.control(channel, Control::EndOfInput),
        }
    }

    fn batch(&mut self, channel: usize, mut batch: Batch<T>) -> Result<(), Stopped> {
        self.next.push_batch(&mut batch)?;
        if let ReceivingHalf::Local(receiver) = &self.gate.channels[channel] {
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
            let taken = match self.gate.try_take() {
                Some(taken) => Some(taken),
                None => {
                    self.next.flush()?;
                    self.gate.take()?
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
        Ok(())
    }
}
