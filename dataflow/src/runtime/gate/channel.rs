//! One channel of a gate, and what of it waits for its turn.

use std::collections::VecDeque;

use super::element::{Element, Taken, Turn};
use crate::record::{Batch, StreamElement};
use crate::runtime::network::{ChannelId, WireElement};
use crate::runtime::wiring::ReceivingHalf;

/// The most that waits of one channel. A producer that has no room sends less than this before its barrier, unless one of
/// its batches becomes many.
const WAITING_MAX: usize = 64;

/// One channel of a gate.
pub(crate) struct InputChannel<T> {
    pub(super) id: ChannelId,
    pub(super) half: ReceivingHalf<T>,
    /// What comes before anything new: it was in flight at the checkpoint that was restored, is the rest of a batch, or
    /// was taken early.
    waiting: VecDeque<Element<T>>,
    /// How many of those that wait the producer has to wait for.
    ///
    /// Invariant: they are the last ones.
    held: usize,
}

impl<T> InputChannel<T> {
    /// A channel on which these elements come before all others.
    pub(crate) fn new(id: ChannelId, half: ReceivingHalf<T>, restored: Vec<WireElement>) -> Self {
        // A producer in another process does not know of them: the credits are for what it sends itself.
        let held = if let ReceivingHalf::Local(_) = half { restored.len() } else { 0 };
        (0..held).for_each(|_| half.hold());
        Self { id, half, waiting: restored.into_iter().map(Element::Encoded).collect(), held }
    }

    /// The element whose turn it is, if it waits.
    pub(super) fn pop_waiting(&mut self) -> Option<Element<T>> {
        let element = self.waiting.pop_front()?;
        if self.waiting.len() < self.held {
            self.held -= 1;
            self.half.unhold();
        }
        Some(element)
    }

    /// An element that has come, if nothing waits.
    pub(super) fn try_take(&self, turn: Turn) -> Option<Taken<T>> {
        let taken = self.half.try_take();
        if let Some(Ok(element)) = &taken {
            self.half.taken(element, turn);
        }
        taken
    }

    /// The rest of a batch comes next.
    pub(super) fn push_rest(&mut self, rest: Batch<T>) {
        self.waiting.push_front(Element::Local(StreamElement::Batch(rest)));
    }

    /// An element that was taken early waits for its turn.
    pub(super) fn push_early(&mut self, element: Element<T>) {
        self.half.hold();
        self.held += 1;
        self.waiting.push_back(element);
    }

    /// Whether more may be taken early.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Keeps those that wait for which `keep` says so.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Element<T>) -> bool) {
        let late = self.waiting.len() - self.held;
        let mut number = 0;
        let (held, half) = (&mut self.held, &self.half);
        self.waiting.retain(|element| {
            let kept = keep(element);
            number += 1;
            if !kept && number > late {
                *held -= 1;
                half.unhold();
            }
            kept
        });
    }
}
