//! A channel between two sub-tasks of one process: a bounded queue of batches, and the way back for empty buffers.
//!
//! A receiver may take elements before their turn, to look for a barrier. They count as if they were in the queue still:
//! otherwise each checkpoint of a slow job would add a queue's worth to what waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
    let (resume, resumed) = bounded(1);
    let early = Arc::<Early>::default();
    (
        LocalSender { elements: elements_tx, buffers: buffers_rx, early: Arc::clone(&early), resumed },
        LocalReceiver { elements: elements_rx, buffers: buffers_tx, early, resume },
    )
}

/// What was taken from the queue before its turn.
#[derive(Debug, Default)]
struct Early {
    /// How many elements; 0 unless a checkpoint has overtaken some.
    held: AtomicUsize,
    /// How many more may wait than a queue has room for, so that a barrier comes through.
    allowed: AtomicUsize,
    /// Whether the sender waits for less to be held.
    awaited: AtomicBool,
}

/// The sending half.
#[derive(Debug)]
pub struct LocalSender<T> {
    pub(crate) elements: Sender<StreamElement<T>>,
    buffers: Receiver<Batch<T>>,
    early: Arc<Early>,
    /// Yields something when [`must_wait`](Self::must_wait) is to be asked again.
    pub(crate) resumed: Receiver<()>,
}

impl<T> LocalSender<T> {
    /// An empty buffer, a used one where there is one.
    pub(crate) fn buffer(&self) -> Batch<T> {
        self.buffers.try_recv().unwrap_or_else(|_| Batch::with_capacity())
    }

    /// How many elements the receiver has not come to yet.
    pub(crate) fn waiting(&self) -> usize {
        self.elements.len() + self.early.held.load(Ordering::SeqCst)
    }

    /// Sends unless the queue is full or the receiver gone.
    pub(crate) fn try_send(&self, element: StreamElement<T>) -> Result<(), TrySendError<StreamElement<T>>> {
        if self.is_held_up() { Err(TrySendError::Full(element)) } else { self.elements.try_send(element) }
    }

    /// Whether the receiver has taken so much early that the queue's room does not count. The answer is soft: elements
    /// on their way from the queue to those that are held are not seen.
    fn is_held_up(&self) -> bool {
        let held = self.early.held.load(Ordering::SeqCst);
        held > 0 && held + self.elements.len() >= QUEUE_ELEMENTS + self.early.allowed.load(Ordering::SeqCst)
    }

    /// Whether the sender is to wait for [`resumed`](Self::resumed) instead of room in the queue.
    pub(crate) fn must_wait(&self) -> bool {
        if !self.is_held_up() {
            return false;
        }
        // Said before it is looked at again: whoever changes it either sees this, or is seen.
        self.early.awaited.store(true, Ordering::SeqCst);
        self.is_held_up()
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct LocalReceiver<T> {
    pub(crate) elements: Receiver<StreamElement<T>>,
    buffers: Sender<Batch<T>>,
    early: Arc<Early>,
    resume: Sender<()>,
}

impl<T> LocalReceiver<T> {
    /// Gives an emptied buffer back to the sender.
    pub(crate) fn recycle(&self, buffer: Batch<T>) {
        // The queue is full, or the sender has ended: then the buffer is freed.
        let _ = self.buffers.try_send(buffer);
    }

    /// An element was taken before its turn.
    pub(crate) fn hold(&self) {
        self.early.held.fetch_add(1, Ordering::SeqCst);
    }

    /// The turn of an element has come that was held. What the sender was allowed in addition is worked off first.
    pub(crate) fn unhold(&self) {
        self.early.held.fetch_sub(1, Ordering::SeqCst);
        let allowed = self.early.allowed.load(Ordering::SeqCst);
        self.early.allowed.store(allowed.saturating_sub(1), Ordering::SeqCst);
        self.resume();
    }

    /// Lets the sender send one more, if it can send nothing.
    pub(crate) fn allow_more(&self) {
        let held = self.early.held.load(Ordering::SeqCst);
        if self.elements.is_empty() && held >= QUEUE_ELEMENTS + self.early.allowed.load(Ordering::SeqCst) {
            self.early.allowed.store(held + 1 - QUEUE_ELEMENTS, Ordering::SeqCst);
            self.resume();
        }
    }

    fn resume(&self) {
        if self.early.awaited.swap(false, Ordering::SeqCst) {
            // There is one already, or the sender has ended.
            let _ = self.resume.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Control;

    fn element() -> StreamElement<u64> {
        StreamElement::Control(Control::Watermark(1))
    }

    /// Sends until there is no room; answers how many were sent.
    fn fill(sender: &LocalSender<u64>) -> usize {
        std::iter::from_fn(|| sender.try_send(element()).ok()).count()
    }

    /// Takes everything before its turn; answers how many there were.
    fn take_early(receiver: &LocalReceiver<u64>) -> usize {
        receiver.elements.try_iter().inspect(|_| receiver.hold()).count()
    }

    #[test]
    fn what_is_taken_early_makes_no_room() {
        let (sender, receiver) = local_channel();
        assert_eq!((fill(&sender), take_early(&receiver)), (QUEUE_ELEMENTS, QUEUE_ELEMENTS));
        assert_eq!(fill(&sender), 0);
        receiver.unhold();
        assert_eq!((fill(&sender), fill(&sender)), (1, 0));
    }

    #[test]
    fn a_sender_before_its_barrier_is_let_through_one_by_one_and_what_it_was_allowed_is_worked_off() {
        let (sender, receiver) = local_channel();
        assert_eq!((fill(&sender), take_early(&receiver)), (QUEUE_ELEMENTS, QUEUE_ELEMENTS));
        for _ in 0..3 {
            receiver.allow_more();
            // Twice is once: it has not been used.
            receiver.allow_more();
            assert_eq!((fill(&sender), take_early(&receiver)), (1, 1));
        }
        for _ in 0..3 {
            receiver.unhold();
            assert_eq!(fill(&sender), 0);
        }
        receiver.unhold();
        assert_eq!(fill(&sender), 1);
    }

    #[test]
    fn a_sender_that_waits_is_told() {
        let (sender, receiver) = local_channel();
        assert!(!sender.must_wait());
        assert_eq!((fill(&sender), take_early(&receiver)), (QUEUE_ELEMENTS, QUEUE_ELEMENTS));
        assert!(sender.must_wait() && sender.resumed.is_empty());
        receiver.unhold();
        assert!(!sender.must_wait() && sender.resumed.try_recv().is_ok());
        // Nobody waits: nothing is said.
        receiver.unhold();
        assert!(sender.resumed.is_empty());
    }
}
