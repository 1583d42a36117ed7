//! What comes on an input channel, in the form in which it came.

use crossbeam_channel::{RecvError, Select, SelectedOperation, TryRecvError};

use crate::record::{Control, Data, Error, StreamElement, encode_batch};
use crate::runtime::network::{ConnectionLost, WireElement};
use crate::runtime::wiring::ReceivingHalf;

/// An element from this process, or encoded from another one or from a checkpoint.
pub(super) enum Element<T> {
    Local(StreamElement<T>),
    Encoded(WireElement),
}

/// Why nothing comes any more from a channel that has not ended.
pub(super) enum Lost {
    /// Its producer, in this process, is gone.
    Abandoned,
    /// The connection has ended.
    Closed,
    /// The connection was lost.
    Connection(ConnectionLost),
}

/// An element, or why there is none.
pub(super) type Taken<T> = Result<Element<T>, Lost>;

/// When an element is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Its turn has come: there is room for another one.
    Come,
    /// Before its turn, to look for control behind it. A batch keeps its place in the channel until it is
    /// [released](ReceivingHalf::unhold).
    Early,
}

impl<T> Element<T> {
    /// The control that it is; none: it is a batch.
    pub(super) fn control(&self) -> Option<Control> {
        match self {
            Self::Local(StreamElement::Batch(_)) | Self::Encoded(WireElement::Batch(_)) => None,
            Self::Local(StreamElement::Control(control)) => Some(*control),
            Self::Encoded(WireElement::Watermark(time)) => Some(Control::Watermark(*time)),
            Self::Encoded(WireElement::Barrier(checkpoint)) => Some(Control::Barrier(*checkpoint)),
            Self::Encoded(WireElement::Idle) => Some(Control::Idle),
            Self::Encoded(WireElement::Active) => Some(Control::Active),
            Self::Encoded(WireElement::EndOfInput) => Some(Control::EndOfInput),
        }
    }
}

impl<T: Data> Element<T> {
    /// A batch or a watermark, to be kept.
    pub(super) fn kept(&self) -> Result<Option<WireElement>, Error> {
        Ok(match self {
            Self::Local(StreamElement::Batch(batch)) => Some(WireElement::Batch(encode_batch(batch)?)),
            Self::Local(StreamElement::Control(Control::Watermark(time))) => Some(WireElement::Watermark(*time)),
            Self::Local(StreamElement::Control(_)) => None,
            Self::Encoded(element @ (WireElement::Batch(_) | WireElement::Watermark(_))) => Some(element.clone()),
            Self::Encoded(
                WireElement::Barrier(_) | WireElement::Idle | WireElement::Active | WireElement::EndOfInput,
            ) => None,
        })
    }
}

/// Taking does not make room: that the turn of an element has come is said apart, since some are taken early.
impl<T> ReceivingHalf<T> {
    /// Has what comes on the channel end a wait.
    pub(super) fn watch<'a>(&'a self, select: &mut Select<'a>) {
        match self {
            Self::Local(receiver) => select.recv(&receiver.elements),
            Self::Remote(receiver) => select.recv(receiver.elements()),
        };
    }

    /// Takes what ended the wait.
    pub(super) fn take(&self, ready: SelectedOperation<'_>) -> Taken<T> {
        match self {
            Self::Local(receiver) => local(ready.recv(&receiver.elements)),
            Self::Remote(receiver) => remote(ready.recv(receiver.elements())),
        }
    }

    /// Takes what is there already.
    pub(super) fn try_take(&self) -> Option<Taken<T>> {
        match self {
            Self::Local(receiver) => match receiver.elements.try_recv() {
                Ok(element) => Some(local(Ok(element))),
                Err(TryRecvError::Disconnected) => Some(local(Err(RecvError))),
                Err(TryRecvError::Empty) => None,
            },
            Self::Remote(receiver) => match receiver.elements().try_recv() {
                Ok(received) => Some(remote(Ok(received))),
                Err(TryRecvError::Disconnected) => Some(remote(Err(RecvError))),
                Err(TryRecvError::Empty) => None,
            },
        }
    }

    /// An element was taken.
    pub(super) fn taken(&self, element: &Element<T>, turn: Turn) {
        match turn {
            Turn::Early if element.control().is_none() => self.hold(),
            Turn::Early | Turn::Come => self.release(),
        }
    }

    /// The turn of an element has come that was not held.
    pub(super) fn release(&self) {
        if let Self::Remote(receiver) = self {
            receiver.release();
        }
    }

    /// An element that was taken waits for its turn.
    pub(super) fn hold(&self) {
        if let Self::Local(receiver) = self {
            receiver.hold();
        }
    }

    /// The turn of an element has come that was held.
    pub(super) fn unhold(&self) {
        match self {
            Self::Local(receiver) => receiver.unhold(),
            Self::Remote(receiver) => receiver.release(),
        }
    }

    /// Lets the sender send one element more, if it has no room; everything that had come was taken.
    pub(super) fn allow_more(&self) {
        match self {
            Self::Local(receiver) => receiver.allow_more(),
            Self::Remote(receiver) => receiver.lend(),
        }
    }
}

fn local<T>(received: Result<StreamElement<T>, RecvError>) -> Taken<T> {
    received.map(Element::Local).map_err(|RecvError| Lost::Abandoned)
}

fn remote<T>(received: Result<Result<WireElement, ConnectionLost>, RecvError>) -> Taken<T> {
    match received {
        Ok(Ok(element)) => Ok(Element::Encoded(element)),
        Ok(Err(lost)) => Err(Lost::Connection(lost)),
        Err(RecvError) => Err(Lost::Closed),
    }
}
