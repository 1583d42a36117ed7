//! What a running sub-task knows of itself, how it learns that it must stop, and how it says why it did.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, TryRecvError};
use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, ExecutionVertexId, SubtaskIndex};
use tidemill_model::job::RuntimeMode;

use crate::flow::{Flow, OperatorIndex};
use crate::push::Stopped;
use crate::runtime::executor::CollectedRecords;
use crate::runtime::gate::InputGate;
use crate::runtime::network::{ChannelId, ConnectionLost};
use crate::runtime::partition::OutputChannel;
use crate::runtime::wiring::Wiring;

/// One sub-task's chain, ready to run.
pub trait Task {
    /// Runs until the end of input.
    ///
    /// # Errors
    /// The task was stopped; its context has the reason.
    fn run(&mut self) -> Result<(), Stopped>;
}

/// What the executor tells a sub-task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mail {
    /// Stop.
    Cancel,
}

/// Why a task stopped before the end of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StopReason {
    Canceled,
    Failed(Failure),
}

/// Records that sources of a process emitted and sinks took so far.
#[derive(Debug, Default)]
pub(crate) struct ProgressCounters {
    pub(crate) records_in: AtomicU64,
    pub(crate) records_out: AtomicU64,
}

/// What a sub-task needs from the outside; shared with every thread that it may start.
pub(crate) struct TaskEnvironment {
    pub(crate) attempt: ExecutionAttemptId,
    pub(crate) flow: Arc<Flow>,
    pub(crate) mailbox: Receiver<Mail>,
    pub(crate) wiring: Arc<Wiring>,
    pub(crate) progress: Arc<ProgressCounters>,
}

/// A sub-task's view of its job; a handle, cheap to clone, that stays on the sub-task's thread.
#[derive(Clone)]
pub struct TaskContext {
    inner: Rc<Inner>,
}

struct Inner {
    environment: TaskEnvironment,
    stop: RefCell<Option<StopReason>>,
    collected: RefCell<Vec<CollectedRecords>>,
}

impl TaskContext {
    pub(crate) fn new(environment: TaskEnvironment) -> Self {
        let inner = Inner { environment, stop: RefCell::default(), collected: RefCell::default() };
        Self { inner: Rc::new(inner) }
    }

    /// The attempt that runs here.
    #[must_use]
    pub fn attempt(&self) -> ExecutionAttemptId {
        self.inner.environment.attempt
    }

    pub(crate) fn attempt_number(&self) -> AttemptNumber {
        self.attempt().attempt
    }

    pub(crate) fn subtask(&self) -> SubtaskIndex {
        self.attempt().vertex.subtask
    }

    /// How many sub-tasks this one's vertex has.
    pub(crate) fn parallelism(&self) -> u32 {
        let vertex = self.flow().graph().vertex(self.attempt().vertex.vertex);
        vertex.map_or(1, |vertex| vertex.parallelism)
    }

    pub(crate) fn flow(&self) -> &Flow {
        &self.inner.environment.flow
    }

    pub(crate) fn mode(&self) -> RuntimeMode {
        self.flow().mode()
    }

    pub(crate) fn operator_name(&self, operator: OperatorIndex) -> Rc<str> {
        self.flow().operator_name(operator).into()
    }

    pub(crate) fn mailbox(&self) -> &Receiver<Mail> {
        &self.inner.environment.mailbox
    }

    /// Looks into the mailbox.
    ///
    /// # Errors
    /// The task was told to stop.
    #[inline]
    pub fn poll(&self) -> Result<(), Stopped> {
        match self.mailbox().try_recv() {
            Ok(mail) => self.on_mail(Ok(mail)),
            Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => self.on_mail(Err(RecvError)),
        }
    }

    /// Waits for mail, at most this long.
    pub(crate) fn wait(&self, duration: Duration) -> Result<(), Stopped> {
        match self.mailbox().recv_timeout(duration) {
            Ok(mail) => self.on_mail(Ok(mail)),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => self.on_mail(Err(RecvError)),
        }
    }

    /// Obeys mail; an executor that is gone has cancelled everything.
    #[cold]
    pub(crate) fn on_mail(&self, mail: Result<Mail, RecvError>) -> Result<(), Stopped> {
        match mail {
            Ok(Mail::Cancel) | Err(RecvError) => Err(self.stop(StopReason::Canceled)),
        }
    }

    /// A neighbour in this process ended without finishing its output: it reports the cause itself, so this
    /// task adds no failure of its own but waits for the cancellation that follows.
    #[cold]
    pub(crate) fn abandoned(&self) -> Stopped {
        loop {
            if let Err(stopped) = self.on_mail(self.mailbox().recv()) {
                return stopped;
            }
        }
    }

    /// Fails the task.
    #[cold]
    pub(crate) fn fail(&self, failure: Failure) -> Stopped {
        self.stop(StopReason::Failed(failure))
    }

    /// The failure of an operator of this sub-task.
    #[cold]
    pub(crate) fn failure(&self, kind: FailureKind, operator: Option<&str>, message: String) -> Failure {
        Failure { kind, vertex: Some(self.attempt().vertex), operator: operator.map(str::to_owned), message }
    }

    /// The failure of a data connection.
    #[cold]
    pub(crate) fn connection_failure(&self, lost: &ConnectionLost) -> Failure {
        self.failure(FailureKind::ConnectionLost, None, lost.to_string())
    }

    /// The first reason stays.
    fn stop(&self, reason: StopReason) -> Stopped {
        self.inner.stop.borrow_mut().get_or_insert(reason);
        Stopped
    }

    pub(crate) fn take_stop_reason(&self) -> Option<StopReason> {
        self.inner.stop.borrow_mut().take()
    }

    /// A source of this task emitted so many more records.
    #[inline]
    pub(crate) fn count_in(&self, records: u64) {
        self.inner.environment.progress.records_in.fetch_add(records, Ordering::Relaxed);
    }

    /// A sink of this task took so many more records.
    #[inline]
    pub(crate) fn count_out(&self, records: u64) {
        self.inner.environment.progress.records_out.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn hand_out(&self, collected: CollectedRecords) {
        self.inner.collected.borrow_mut().push(collected);
    }

    pub(crate) fn take_collected(&self) -> Vec<CollectedRecords> {
        std::mem::take(&mut self.inner.collected.borrow_mut())
    }

    /// The channels to every sub-task that consumes this one's output.
    pub(crate) fn outputs<T: Send + 'static>(&self) -> Result<Vec<OutputChannel<T>>, Failure> {
        let (index, edge) = self.flow().output_edge(self.attempt().vertex.vertex);
        let parallelism = self.flow().graph().vertex(edge.target).map_or(1, |vertex| vertex.parallelism);
        let half = |to| {
            let channel = ChannelId { edge: index, from: self.subtask(), to };
            let consumer = ExecutionVertexId { vertex: edge.target, subtask: to };
            self.inner.environment.wiring.sender(channel, consumer)
        };
        let channels = (0..parallelism).map(|to| half(SubtaskIndex(to)).map(OutputChannel::new));
        channels.collect::<Result<_, _>>().map_err(|lost| self.connection_failure(&lost))
    }

    /// The channels from every sub-task that this one consumes.
    pub(crate) fn input_gate<T: Send + 'static>(&self) -> Result<InputGate<T>, Failure> {
        let (index, edge) = self.flow().input_edge(self.attempt().vertex.vertex);
        let parallelism = self.flow().graph().vertex(edge.source).map_or(1, |vertex| vertex.parallelism);
        let half = |from| {
            let channel = ChannelId { edge: index, from, to: self.subtask() };
            let producer = ExecutionVertexId { vertex: edge.source, subtask: from };
            self.inner.environment.wiring.receiver(channel, producer)
        };
        let channels = (0..parallelism).map(|from| half(SubtaskIndex(from)));
        let channels = channels.collect::<Result<_, _>>().map_err(|lost| self.connection_failure(&lost))?;
        Ok(InputGate::new(channels, self.clone()))
    }
}
