//! The inputs of a flow under test: pipes whose elements a test feeds one by one.

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, bounded};
use tidemill_model::execution::{Failure, FailureKind};

use super::Error;
use crate::pipe::{Pipe, Placement};
use crate::push::{Push, Stopped};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::task::{Task, TaskContext};

/// How many elements may wait: each call feeds at most an element or two and a mark, and waits until they were taken.
const INBOX_ELEMENTS: usize = 8;

/// What a test feeds.
pub(super) enum Fed<T> {
    Record(T, Timestamp),
    Control(Control),
}

/// The feeding end of an input, whatever its record type.
pub(super) trait Feed: Send {
    fn control(&self, control: Control) -> Result<(), Error>;
}

/// The feeding end of an input.
#[derive(Debug)]
pub struct Feeder<T> {
    pub(super) elements: Sender<Fed<T>>,
}

impl<T> Clone for Feeder<T> {
    fn clone(&self) -> Self {
        Self { elements: self.elements.clone() }
    }
}

impl<T> Feeder<T> {
    pub(super) fn feed(&self, element: Fed<T>) -> Result<(), Error> {
        self.elements.try_send(element).map_err(|_| Error::Stuck)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.elements.same_channel(&other.elements)
    }
}

impl<T: Send> Feed for Feeder<T> {
    fn control(&self, control: Control) -> Result<(), Error> {
        self.feed(Fed::Control(control))
    }
}

/// The records that a test feeds.
pub struct FromTest<T> {
    elements: Receiver<Fed<T>>,
}

impl<T> FromTest<T> {
    /// The pipe, and the end that feeds it.
    #[must_use]
    pub fn new() -> (Self, Feeder<T>) {
        let (feeder, elements) = bounded(INBOX_ELEMENTS);
        (Self { elements }, Feeder { elements: feeder })
    }
}

impl<T: Data> Pipe for FromTest<T> {
    type Out = T;
    type Placed = Self;

    fn fuse<N: Push<T> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        if context.parallelism() != 1 {
            let message = format!(
                "feed test input: it has {} sub-tasks, but only one can be fed; leave its parallelism at 1",
                context.parallelism()
            );
            return Err(context.failure(FailureKind::InvalidInput, None, message));
        }
        Ok(Box::new(FedTask { elements: self.elements.clone(), next, context: context.clone() }))
    }

    fn place(self, placement: &mut Placement<'_>) -> Self {
        placement.whole_vertex();
        self
    }
}

/// A chain that a test feeds.
struct FedTask<T, N> {
    elements: Receiver<Fed<T>>,
    next: N,
    context: TaskContext,
}

impl<T, N: Push<T>> FedTask<T, N> {
    /// The next element; none when an operator wants to be called before there is one.
    fn take(&mut self) -> Result<Option<Fed<T>>, Stopped> {
        match self.elements.try_recv() {
            Ok(element) => return Ok(Some(element)),
            Err(TryRecvError::Empty) => self.next.flush()?,
            Err(TryRecvError::Disconnected) => {}
        }
        let mut select = Select::new();
        let mail = select.recv(self.context.mailbox());
        select.recv(&self.elements);
        let ready = match self.context.until_due() {
            None => select.select(),
            Some(timeout) => match select.select_timeout(timeout) {
                Ok(ready) => ready,
                Err(_) => return Ok(None),
            },
        };
        if ready.index() == mail {
            self.context.on_mail(ready.recv(self.context.mailbox()))?;
            return Ok(None);
        }
        match ready.recv(&self.elements) {
            Ok(element) => Ok(Some(element)),
            // The test is over.
            Err(error) => self.context.on_mail(Err(error)).map(|()| None),
        }
    }
}

impl<T, N: Push<T>> Task for FedTask<T, N> {
    fn run(&mut self) -> Result<(), Stopped> {
        loop {
            self.context.poll()?;
            let element = self.take()?;
            if let Some(now) = self.context.take_due() {
                self.next.control(Control::ProcessingTime(now))?;
            }
            match element {
                Some(Fed::Record(record, time)) => self.next.push(record, time)?,
                Some(Fed::Control(control)) => {
                    self.next.control(control)?;
                    if control == Control::EndOfInput {
                        return Ok(());
                    }
                }
                None => {}
            }
        }
    }
}
