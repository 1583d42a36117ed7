//! What a sub-task produces: for each edge a channel to each consumer, with the batch that fills.

use crossbeam_channel::{Select, TrySendError};
use tidemill_model::execution::FailureKind;

use crate::engine::credit::{CREDITS_PER_CHANNEL, CREDITS_PER_FRAME};
use crate::push::Stopped;
use crate::record::{Batch, Control, Data, END_OF_TIME, StreamElement, Timestamp, batch_capacity, encode_batch};
use crate::runtime::network::{RemoteSender, WireElement};
use crate::runtime::task::TaskContext;
use crate::runtime::wiring::SendingHalf;

/// The channels of one edge.
pub(crate) struct OutputEdge<T> {
    pub(crate) channels: Vec<OutputChannel<T>>,
    /// How many key groups the consuming vertex has.
    pub(crate) max_parallelism: u32,
}

/// The way to one consumer: a batch that fills, and the channel behind it.
pub(crate) struct OutputChannel<T> {
    batch: Batch<T>,
    /// Whether something behind the channel needs the records' event times.
    timed: bool,
    half: SendingHalf<T>,
}

impl<T> OutputChannel<T> {
    pub(crate) fn new(half: SendingHalf<T>, timed: bool) -> Self {
        Self { batch: Batch::with_capacity(), timed, half }
    }

    /// How many elements the consumer has not come to yet, as far as is known here.
    pub(crate) fn waiting(&self) -> usize {
        match &self.half {
            SendingHalf::Local(sender) => sender.waiting(),
            SendingHalf::Remote(sender) => {
                // The consumer may have taken some without having said so: credits come back in groups.
                let unknown = usize::try_from(CREDITS_PER_CHANNEL - (CREDITS_PER_FRAME - 1)).unwrap_or(0);
                unknown.saturating_sub(sender.credits().len())
            }
        }
    }
}

impl<T: Data> OutputChannel<T> {
    #[inline(always)]
    pub(crate) fn push(&mut self, record: T, time: Timestamp, context: &TaskContext) -> Result<(), Stopped> {
        self.batch.records.push(record);
        if self.timed {
            self.batch.times.push(time);
        }
        if self.batch.records.len() >= batch_capacity::<T>() { self.flush(context) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn flush(&mut self, context: &TaskContext) -> Result<(), Stopped> {
        if self.batch.records.is_empty() {
            return Ok(());
        }
        match &mut self.half {
            SendingHalf::Local(sender) => {
                let full = std::mem::replace(&mut self.batch, sender.buffer());
                self.send_local(StreamElement::Batch(full), context)
            }
            SendingHalf::Remote(sender) => {
                let bytes = encode_batch(&self.batch).map_err(|error| {
                    let message = format!("{error}; on channel {}", context.describe(sender.channel()));
                    context.fail(context.failure(FailureKind::InvalidInput, None, message))
                })?;
                self.batch.clear();
                send_remote(sender, WireElement::Batch(bytes), context)
            }
        }
    }

    pub(crate) fn control(&mut self, control: Control, context: &TaskContext) -> Result<(), Stopped> {
        if matches!(control, Control::ProcessingTime(_) | Control::Completed(_)) {
            return Ok(());
        }
        self.flush(context)?;
        let element = match control {
            Control::Watermark(time) => WireElement::Watermark(time),
            Control::Barrier(checkpoint) => WireElement::Barrier(checkpoint),
            Control::Idle => WireElement::Idle,
            Control::Active => WireElement::Active,
            Control::EndOfInput => WireElement::EndOfInput,
            Control::ProcessingTime(_) | Control::Completed(_) => return Ok(()),
            Control::FinishedBefore => return self.finished_before(context),
        };
        match &mut self.half {
            SendingHalf::Local(_) => self.send_local(StreamElement::Control(control), context),
            SendingHalf::Remote(sender) => send_remote(sender, element, context),
        }
    }

    /// Nothing comes from this channel: it had ended before the checkpoint that this sub-task starts from.
    fn finished_before(&mut self, context: &TaskContext) -> Result<(), Stopped> {
        self.control(Control::Watermark(END_OF_TIME), context)?;
        self.control(Control::EndOfInput, context)
    }

    fn send_local(&mut self, element: StreamElement<T>, context: &TaskContext) -> Result<(), Stopped> {
        let SendingHalf::Local(sender) = &self.half else { return Ok(()) };
        let element = match sender.try_send(element) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Disconnected(_)) => return Err(context.abandoned()),
            Err(TrySendError::Full(element)) => element,
        };
        loop {
            let held_up = sender.must_wait();
            let mut select = Select::new();
            let room = if held_up { select.recv(&sender.resumed) } else { select.send(&sender.elements) };
            select.recv(context.mailbox());
            let ready = select.select();
            if ready.index() != room {
                context.on_mail(ready.recv(context.mailbox()))?;
            } else if held_up {
                ready.recv(&sender.resumed).map_err(|_| context.abandoned())?;
            } else {
                return ready.send(&sender.elements, element).map_err(|_| context.abandoned());
            }
        }
    }
}

fn send_remote(sender: &mut RemoteSender, element: WireElement, context: &TaskContext) -> Result<(), Stopped> {
    loop {
        let mut select = Select::new();
        let credit = select.recv(sender.credits());
        select.recv(context.mailbox());
        let ready = select.select();
        if ready.index() != credit {
            context.on_mail(ready.recv(context.mailbox()))?;
            continue;
        }
        let sent = match ready.recv(sender.credits()) {
            Ok(()) => sender.send(element),
            Err(_) => Err(sender.lost()),
        };
        return sent.map_err(|lost| context.fail(context.connection_failure(&lost)));
    }
}
