//! The outputs of a flow under test: sinks that keep all they get, and say how far they have come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use tidemill_model::execution::Failure;

use crate::push::{Push, Stopped};
use crate::record::{Control, Data, NO_TIME, Timestamp};
use crate::runtime::sink::Sink;
use crate::runtime::task::TaskContext;

/// What came out of a flow under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestEvent<T> {
    /// A record, and its event time if it has one.
    Record(T, Option<Timestamp>),
    /// A watermark.
    Watermark(Timestamp),
    /// Nothing comes for an unknown time.
    Idle,
    /// Records come again.
    Active,
    /// Nothing follows.
    EndOfInput,
}

/// One sub-task of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) output: u32,
    pub(super) subtask: u32,
}

/// How far a sub-task of an output has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reached {
    Mark(u64),
    End,
}

/// What a sub-task of an output tells.
pub(super) type Report = (Place, Reached);

/// What came out of a stream so far; clones show the same.
#[derive(Debug)]
pub struct Observations<T> {
    events: Arc<Mutex<Vec<TestEvent<T>>>>,
}

impl<T> Clone for Observations<T> {
    fn clone(&self) -> Self {
        Self { events: Arc::clone(&self.events) }
    }
}

impl<T> Observations<T> {
    pub(super) fn new() -> Self {
        Self { events: Arc::default() }
    }

    /// Everything since the last `take`, in order.
    ///
    /// No user code runs under the lock, so it is never poisoned.
    pub fn events(&self) -> MutexGuard<'_, Vec<TestEvent<T>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what came since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<TestEvent<T>> {
        std::mem::take(&mut *self.events())
    }
}

/// Keeps all it gets.
pub struct ToTest<T> {
    output: u32,
    observations: Observations<T>,
    progress: Sender<Report>,
}

impl<T> ToTest<T> {
    pub(super) fn new(output: u32, observations: Observations<T>, progress: Sender<Report>) -> Self {
        Self { output, observations, progress }
    }
}

impl<T> Clone for ToTest<T> {
    fn clone(&self) -> Self {
        Self { output: self.output, observations: self.observations.clone(), progress: self.progress.clone() }
    }
}

/// What one sub-task keeps.
pub struct TestWriter<T> {
    place: Place,
    observations: Observations<T>,
    progress: Sender<Report>,
}

impl<T: Data> Sink<T> for ToTest<T> {
    type Writer = TestWriter<T>;

    fn open(&self, context: &TaskContext) -> Result<TestWriter<T>, Failure> {
        let place = Place { output: self.output, subtask: context.subtask().0 };
        Ok(TestWriter { place, observations: self.observations.clone(), progress: self.progress.clone() })
    }
}

impl<T> TestWriter<T> {
    fn reach(&self, reached: Reached) {
        // Nobody listens: the test is over.
        let _ = self.progress.send((self.place, reached));
    }
}

impl<T: Data> Push<T> for TestWriter<T> {
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        self.observations.events().push(TestEvent::Record(record, (time != NO_TIME).then_some(time)));
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        let event = match control {
            Control::Watermark(time) => TestEvent::Watermark(time),
            Control::Idle => TestEvent::Idle,
            Control::Active => TestEvent::Active,
            Control::EndOfInput => TestEvent::EndOfInput,
            Control::Barrier(mark) => {
                self.reach(Reached::Mark(mark));
                return Ok(());
            }
            Control::ProcessingTime(_) | Control::Completed(_) | Control::FinishedBefore => return Ok(()),
        };
        self.observations.events().push(event);
        if control == Control::EndOfInput {
            self.reach(Reached::End);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}
