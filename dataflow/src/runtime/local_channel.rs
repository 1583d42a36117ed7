//! A channel between two sub-tasks of one process: a bounded queue of batches, and the way back for empty buffers.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::record::{Batch, StreamElement};

/// The most elements that may wait: enough that producer and consumer overlap, small enough (half a megabyte of
/// records) that back-pressure comes early.
const QUEUE_ELEMENTS: usize = 16;

/// Makes the two halves of a channel.
#[must_use]
pub fn local_channel<T>() -> (LocalSender<T>, LocalReceiver<T>) {
    let (elements_tx, elements_rx) = bounded(QUEUE_ELEMENTS);
    let (buffers_tx, buffers_rx) = bounded(QUEUE_ELEMENTS + 2);
    (
        LocalSender { elements: elements_tx, buffers: buffers_rx },
        LocalReceiver { elements: elements_rx, buffers: buffers_tx },
    )
}

/// The sending half.
#[derive(Debug)]
pub struct LocalSender<T> {
    pub(crate) elements: Sender<StreamElement<T>>,
    buffers: Receiver<Batch<T>>,
}

impl<T> LocalSender<T> {
    /// An empty buffer, a used one where there is one.
    pub(crate) fn buffer(&self) -> Batch<T> {
        self.buffers.try_recv().unwrap_or_else(|_| Batch::with_capacity())
    }

    /// Sends unless the queue is full or the receiver gone.
    pub(crate) fn try_send(&self, element: StreamElement<T>) -> Result<(), TrySendError<StreamElement<T>>> {
        self.elements.try_send(element)
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct LocalReceiver<T> {
    pub(crate) elements: Receiver<StreamElement<T>>,
    buffers: Sender<Batch<T>>,
}

impl<T> LocalReceiver<T> {
    /// Gives an emptied buffer back to the sender.
    pub(crate) fn recycle(&self, buffer: Batch<T>) {
        // The queue is full, or the sender has ended: then the buffer is freed.
        let _ = self.buffers.try_send(buffer);
    }
}
