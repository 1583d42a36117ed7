//! What a sub-task produces: a channel to each consumer, and the partitioners that choose among them.

use std::rc::Rc;

use crossbeam_channel::{Select, TrySendError};
use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::key::{Key, KeyHash};
use tidemill_model::key_group::KeyGroup;

use crate::key_selector::KeySelector;
use crate::push::{Push, Stopped, blame};
use crate::record::{Control, Data, StreamElement, batch_capacity, encode};
use crate::runtime::network::{RemoteSender, WireElement};
use crate::runtime::task::TaskContext;
use crate::runtime::wiring::SendingHalf;

/// The way to one consumer: a batch that fills, and the channel behind it.
pub(crate) struct OutputChannel<T> {
    buffer: Vec<T>,
    half: SendingHalf<T>,
}

impl<T> OutputChannel<T> {
    pub(crate) fn new(half: SendingHalf<T>) -> Self {
        Self { buffer: Vec::with_capacity(batch_capacity::<T>()), half }
    }
}

impl<T: Data> OutputChannel<T> {
    #[inline(always)]
    fn push(&mut self, record: T, context: &TaskContext) -> Result<(), Stopped> {
        self.buffer.push(record);
        if self.buffer.len() >= batch_capacity::<T>() { self.flush(context) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn flush(&mut self, context: &TaskContext) -> Result<(), Stopped> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        match &mut self.half {
            SendingHalf::Local(sender) => {
                let full = std::mem::replace(&mut self.buffer, sender.buffer());
                self.send_local(StreamElement::Batch(full), context)
            }
            SendingHalf::Remote(sender) => {
                let bytes = encode(&self.buffer).map_err(|error| {
                    context.fail(context.failure(FailureKind::InvalidInput, None, error.to_string()))
                })?;
                self.buffer.clear();
                send_remote(sender, WireElement::Batch(bytes), context)
            }
        }
    }

    fn control(&mut self, control: Control, context: &TaskContext) -> Result<(), Stopped> {
        self.flush(context)?;
        let element = match control {
            Control::Watermark(time) => WireElement::Watermark(time),
            Control::Barrier(checkpoint) => WireElement::Barrier(checkpoint),
            Control::EndOfInput => WireElement::EndOfInput,
        };
        match &mut self.half {
            SendingHalf::Local(_) => self.send_local(StreamElement::Control(control), context),
            SendingHalf::Remote(sender) => send_remote(sender, element, context),
        }
    }

    fn send_local(&mut self, element: StreamElement<T>, context: &TaskContext) -> Result<(), Stopped> {
        let SendingHalf::Local(sender) = &self.half else { return Ok(()) };
        let element = match sender.try_send(element) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Disconnected(_)) => return Err(context.abandoned()),
            Err(TrySendError::Full(element)) => element,
        };
        loop {
            let mut select = Select::new();
            let room = select.send(&sender.elements);
            select.recv(context.mailbox());
            let ready = select.select();
            if ready.index() == room {
                return ready.send(&sender.elements, element).map_err(|_| context.abandoned());
            }
            context.on_mail(ready.recv(context.mailbox()))?;
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

/// The end of a chain whose records are distributed by their keys' groups.
pub(crate) struct HashPartitioner<T, S> {
    outputs: Vec<OutputChannel<T>>,
    /// The consumer of each key group.
    routes: Vec<u32>,
    selector: S,
    operator: Rc<str>,
    context: TaskContext,
}

impl<T: Data, S: KeySelector<T>> HashPartitioner<T, S> {
    /// `operator` is blamed when the selector panics.
    pub(crate) fn new(selector: S, operator: Rc<str>, context: &TaskContext) -> Result<Self, Failure> {
        let outputs = context.outputs()?;
        let consumers = u32::try_from(outputs.len()).expect("at most MAX_PARALLELISM_LIMIT sub-tasks");
        let max_parallelism = context.flow().output_max_parallelism(context.attempt().vertex.vertex);
        let route = |group| KeyGroup(group).subtask(consumers, max_parallelism).0;
        let routes = (0..max_parallelism).map(route).collect();
        Ok(Self { outputs, routes, selector, operator, context: context.clone() })
    }

    /// Sends a record whose key's hash is known.
    #[inline(always)]
    pub(crate) fn push_hashed(&mut self, hash: KeyHash, record: T) -> Result<(), Stopped> {
        let max_parallelism = u32::try_from(self.routes.len()).expect("made from a u32 range");
        let group = KeyGroup::of(hash, max_parallelism);
        let consumer = self.routes[group.0 as usize];
        self.outputs[consumer as usize].push(record, &self.context)
    }
}

impl<T: Data, S: KeySelector<T>> Push<T> for HashPartitioner<T, S> {
    #[inline(always)]
    fn push(&mut self, record: T) -> Result<(), Stopped> {
        if let [only] = self.outputs.as_mut_slice() {
            return only.push(record, &self.context);
        }
        let selector = &mut self.selector;
        let hash =
            blame(&self.operator, || std::borrow::Borrow::<S::Key>::borrow(&selector.select(&record)).key_hash());
        self.push_hashed(hash, record)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.outputs.iter_mut().try_for_each(|output| output.control(control, &self.context))
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.outputs.iter_mut().try_for_each(|output| output.flush(&self.context))
    }
}

/// The end of a chain whose records are distributed round robin.
pub(crate) struct RebalancePartitioner<T> {
    outputs: Vec<OutputChannel<T>>,
    next: usize,
    context: TaskContext,
}

impl<T: Data> RebalancePartitioner<T> {
    pub(crate) fn new(context: &TaskContext) -> Result<Self, Failure> {
        let outputs: Vec<_> = context.outputs()?;
        // Producers start at different consumers, so that few records do not all go to the first.
        let next = context.subtask().0 as usize % outputs.len();
        Ok(Self { outputs, next, context: context.clone() })
    }
}

impl<T: Data> Push<T> for RebalancePartitioner<T> {
    #[inline(always)]
    fn push(&mut self, record: T) -> Result<(), Stopped> {
        let chosen = self.next;
        self.next = if chosen + 1 == self.outputs.len() { 0 } else { chosen + 1 };
        self.outputs[chosen].push(record, &self.context)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.outputs.iter_mut().try_for_each(|output| output.control(control, &self.context))
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.outputs.iter_mut().try_for_each(|output| output.flush(&self.context))
    }
}
