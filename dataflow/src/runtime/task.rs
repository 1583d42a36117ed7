//! What a running sub-task knows of itself, how it learns that it must stop, and how it says why it did.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError};
use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, ExecutionVertexId, SubtaskIndex};
use tidemill_model::job::RuntimeMode;
use tidemill_model::job_graph::{JobEdge, JobVertex};

use crate::flow::{Flow, OperatorIndex, OutputPort};
use crate::push::Stopped;
use crate::record::{Data, Timestamp};
use crate::runtime::async_pool::AsyncPool;
use crate::runtime::checkpoint::{Notices, Restored, TaskCheckpoints};
use crate::runtime::clock::ProcessingClock;
use crate::runtime::executor::CollectedRecords;
use crate::runtime::gate::{InputChannel, InputGate};
use crate::runtime::network::{ChannelId, ConnectionLost};
use crate::runtime::output::{OutputChannel, OutputEdge};
use crate::runtime::source::AlignedSubtask;
use crate::runtime::wiring::Wiring;
#[cfg(feature = "rocksdb")]
use crate::state::RocksStore;

mod in_flight;
mod keyed;
mod state;

pub(crate) use keyed::StatePlace;
pub(crate) use state::{OperatorUid, RestoreSource};

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
    /// Something that an operator waits for has come.
    Wake,
}

/// Wakes a task from another thread. It does not keep the task's mailbox open: an executor that is gone cancels.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskWaker {
    mailbox: Weak<Sender<Mail>>,
    /// Whether a wake-up is in the mailbox: never more than one, so that a cancellation has room.
    waiting: Arc<AtomicBool>,
}

impl TaskWaker {
    pub(crate) fn new(mailbox: &Arc<Sender<Mail>>) -> Self {
        Self { mailbox: Arc::downgrade(mailbox), waiting: Arc::default() }
    }

    /// What was done before the call is seen by the task when it has woken.
    pub(crate) fn wake(&self) {
        if self.waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(mailbox) = self.mailbox.upgrade() {
            // Full: of cancellations. Disconnected: the task has ended.
            let _ = mailbox.try_send(Mail::Wake);
        }
    }

    fn woken(&self) {
        self.waiting.swap(false, Ordering::AcqRel);
    }
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
    pub(crate) clock: ProcessingClock,
    pub(crate) waker: TaskWaker,
    pub(crate) async_pool: Arc<AsyncPool>,
    /// The group that its source is in, in streaming mode.
    pub(crate) aligned: Option<AlignedSubtask>,
    /// What it is told of checkpoints, and of its end.
    pub(crate) notices: Arc<Notices>,
    /// None: the job takes no checkpoints.
    pub(crate) checkpoints: Option<TaskCheckpoints>,
    /// Where its keyed state is.
    pub(crate) state: StatePlace,
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
    /// The earliest time by the clock at which an operator of the chain wants to be called.
    wake_at: Cell<Option<Timestamp>>,
    checkpoints: state::Progress,
    /// What the sub-task starts from, while it is being opened.
    restored: RefCell<Option<Restored>>,
    /// The store of keyed state, if it is on disk.
    #[cfg(feature = "rocksdb")]
    store: RefCell<Option<Rc<RocksStore>>>,
}

impl TaskContext {
    pub(crate) fn new(environment: TaskEnvironment) -> Self {
        let (stop, collected, wake_at) = (RefCell::default(), RefCell::default(), Cell::new(None));
        let (checkpoints, restored) = (state::Progress::default(), RefCell::default());
        let inner = Inner {
            environment,
            stop,
            collected,
            wake_at,
            checkpoints,
            restored,
            #[cfg(feature = "rocksdb")]
            store: RefCell::default(),
        };
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

    /// Whether mail waits to be looked at.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        !self.mailbox().is_empty()
    }

    /// Waits for mail, at most this long.
    pub(crate) fn wait(&self, duration: Duration) -> Result<(), Stopped> {
        match self.mailbox().recv_timeout(duration) {
            Ok(mail) => self.on_mail(Ok(mail)),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => self.on_mail(Err(RecvError)),
        }
    }

    /// Waits for mail.
    pub(crate) fn wait_for_mail(&self) -> Result<(), Stopped> {
        self.on_mail(self.mailbox().recv())
    }

    /// Wakes this task from another thread.
    pub(crate) fn waker(&self) -> TaskWaker {
        self.inner.environment.waker.clone()
    }

    /// The threads for asynchronous calls.
    pub(crate) fn async_pool(&self) -> &AsyncPool {
        &self.inner.environment.async_pool
    }

    /// The group that the watermarks of its source are kept close to.
    pub(crate) fn aligned(&self) -> Option<&AlignedSubtask> {
        self.inner.environment.aligned.as_ref()
    }

    /// Obeys mail; an executor that is gone has cancelled everything.
    #[cold]
    pub(crate) fn on_mail(&self, mail: Result<Mail, RecvError>) -> Result<(), Stopped> {
        match mail {
            Ok(Mail::Cancel) | Err(RecvError) => Err(self.stop(StopReason::Canceled)),
            Ok(Mail::Wake) => {
                self.inner.environment.waker.woken();
                self.inner.checkpoints.look();
                self.wake_at(Timestamp::MIN);
                Ok(())
            }
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

    /// A channel for people: its edge by the vertices' names, and both sub-tasks.
    #[cold]
    pub(crate) fn describe(&self, channel: ChannelId) -> String {
        let name = |vertex| self.flow().graph().vertex(vertex).map(JobVertex::name).unwrap_or_default();
        let JobEdge { source, target, .. } = self.flow().edge(channel.edge);
        format!("{channel}, from {:?} #{} to {:?} #{}", name(source), channel.from, name(target), channel.to)
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

    /// The time by the clock that this task goes by.
    pub(crate) fn processing_time(&self) -> Timestamp {
        self.inner.environment.clock.now()
    }

    /// The clock that this task goes by.
    pub(crate) fn clock(&self) -> ProcessingClock {
        self.inner.environment.clock.clone()
    }

    /// Has [`Control::ProcessingTime`](crate::record::Control::ProcessingTime) sent through the chain at `time` or
    /// soon after; an operator asks again whenever it is called too early.
    pub(crate) fn wake_at(&self, time: Timestamp) {
        let earliest = self.inner.wake_at.get().map_or(time, |other| other.min(time));
        self.inner.wake_at.set(Some(earliest));
    }

    /// The time by the clock, when it is late enough for an operator that asked to be called.
    #[inline]
    pub(crate) fn take_due(&self) -> Option<Timestamp> {
        let wake_at = self.inner.wake_at.get()?;
        let now = self.processing_time();
        if now < wake_at {
            return None;
        }
        self.inner.wake_at.set(None);
        Some(now)
    }

    /// How long the task may sleep; none: until there is input.
    pub(crate) fn until_due(&self) -> Option<Duration> {
        self.inner.environment.clock.until(self.inner.wake_at.get()?)
    }

    /// The channels to the sub-tasks that consume what leaves by this port, edge by edge.
    pub(crate) fn outputs<T: Send + 'static>(&self, port: OutputPort) -> Result<Vec<OutputEdge<T>>, Failure> {
        let vertex = self.attempt().vertex.vertex;
        self.flow().output_edges(vertex, port).map(|index| self.output_edge(index)).collect()
    }

    fn output_edge<T: Send + 'static>(&self, index: u32) -> Result<OutputEdge<T>, Failure> {
        let edge = self.flow().edge(index);
        let half = |to| {
            let channel = ChannelId { edge: index, from: self.subtask(), to };
            let consumer = ExecutionVertexId { vertex: edge.target, subtask: to };
            self.inner.environment.wiring.sender(channel, consumer)
        };
        let timed = self.flow().is_timed(index);
        let consumers = self.flow().consumers(index, self.subtask());
        let channels = consumers.map(|to| half(SubtaskIndex(to)).map(|half| OutputChannel::new(half, timed)));
        let channels = channels.collect::<Result<_, _>>().map_err(|lost| self.connection_failure(&lost))?;
        Ok(OutputEdge { channels, max_parallelism: self.flow().max_parallelism(edge.target) })
    }

    /// The channels from every sub-task that this one consumes.
    pub(crate) fn input_gate<T: Data>(&self) -> Result<InputGate<T>, Failure> {
        let mut channels = Vec::new();
        for index in self.flow().input_edges(self.attempt().vertex.vertex) {
            let source = self.flow().edge(index).source;
            let mut restored = self.restored_in_flight::<T>(index)?;
            for from in self.flow().producers(index, self.subtask()).map(SubtaskIndex) {
                let channel = ChannelId { edge: index, from, to: self.subtask() };
                let producer = ExecutionVertexId { vertex: source, subtask: from };
                let half = self.inner.environment.wiring.receiver(channel, producer);
                let half = half.map_err(|lost| self.connection_failure(&lost))?;
                channels.push(InputChannel::new(channel, half, restored.remove(&from.0).unwrap_or_default()));
            }
            if let Some(from) = restored.keys().next() {
                return Err(self.gone_producer(index, *from));
            }
        }
        Ok(InputGate::new(channels, self.checkpointing_mode(), self.clone()))
    }
}
