//! Tasks and the records between them: sources count up, sinks count what they get and write it down.
//!
//! What a sink writes with each record, the count of that source's records so far, is its state: a record that is lost,
//! repeated or counted from a wrong state shows in the output.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidemill_model::checkpoint::{StateHandle, SubtaskState};
use tidemill_model::execution::{ExecutionState, Failure, FailureKind, JobDeployment, TerminalState};
use tidemill_model::id::{CheckpointId, ExecutionAttemptId, ExecutionVertexId, SubtaskIndex};
use tidemill_model::job_graph::{JobGraph, Partitioning};
use tidemill_taskmanager::engine::ExecutorId;

use super::fact::Fact;
use super::plan::{Job, SINKS, SOURCES};
use super::storage::{Transaction, Written};
use super::world::World;

/// How many records may be under way on one channel.
const CHANNEL: usize = 32;

/// How far a task gets in one step.
const RECORDS_PER_STEP: u64 = 12;

/// What travels on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Record(u64),
    Barrier(CheckpointId),
    End,
}

/// All channels between attempts.
#[derive(Debug, Default)]
pub(crate) struct Plane {
    channels: BTreeMap<(ExecutionAttemptId, ExecutionAttemptId), VecDeque<Element>>,
    /// Attempts whose executors are gone, or that have failed: who exchanges records with them notices.
    lost: BTreeSet<ExecutionAttemptId>,
}

impl Plane {
    /// What these have sent and nobody has read is lost.
    pub(crate) fn lose(&mut self, attempts: &BTreeSet<ExecutionAttemptId>) {
        self.channels.retain(|(producer, consumer), _| !attempts.contains(producer) && !attempts.contains(consumer));
        self.lost.extend(attempts);
    }

    fn channel(&mut self, producer: ExecutionAttemptId, consumer: ExecutionAttemptId) -> &mut VecDeque<Element> {
        self.channels.entry((producer, consumer)).or_default()
    }
}

/// What a sink keeps.
#[derive(Debug, Default)]
pub(super) struct SinkState {
    pub(super) counts: BTreeMap<u32, u64>,
    pub(super) ended: BTreeSet<ExecutionAttemptId>,
    /// The number of the transaction that it writes.
    pub(super) current: u64,
    /// Those that wait for their checkpoint.
    pub(super) open: Vec<(Transaction, CheckpointId)>,
    /// The barrier that it aligns, and those channels that have brought it: they are held up.
    pub(super) aligning: Option<(CheckpointId, BTreeSet<ExecutionAttemptId>)>,
    /// Barriers of checkpoints up to this one are nothing to it any more.
    pub(super) aborted: CheckpointId,
}

#[derive(Debug)]
pub(super) enum Work {
    Source { next: u64, records: Option<u64>, poison: Option<u64> },
    Sink(SinkState),
}

/// One running attempt.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) attempt: ExecutionAttemptId,
    /// Those that it sends to or reads from.
    pub(super) peers: Vec<ExecutionAttemptId>,
    pub(crate) running: bool,
    pub(crate) ended: bool,
    /// Files that incremental snapshots build on: of the newest checkpoint of which it knows that it is committed.
    pub(super) base: Vec<StateHandle>,
    /// Its own snapshots that may become a base.
    pub(super) written: Vec<(CheckpointId, StateHandle)>,
    pub(super) work: Work,
}

impl Task {
    pub(crate) fn new(attempt: ExecutionAttemptId, job: &Job, deployment: &JobDeployment) -> Self {
        let subtask = attempt.vertex.subtask;
        let (sources, sinks, partitioning) = shape(&job.spec.graph);
        let is_source = attempt.vertex.vertex == SOURCES;
        let (vertex, peers) = match is_source {
            true => (SINKS, partitioning.consumers(subtask, sources, sinks)),
            false => (SOURCES, partitioning.producers(subtask, sources, sinks)),
        };
        let peer = |index| {
            let vertex = ExecutionVertexId { vertex, subtask: SubtaskIndex(index) };
            let attempt_number = deployment.schedule.attempts[&vertex].attempt;
            ExecutionAttemptId { job: attempt.job, vertex, attempt: attempt_number }
        };
        let poison = job.poison.filter(|_| subtask.0 == 0);
        let work = match is_source {
            true => Work::Source { next: 0, records: job.records, poison },
            false => Work::Sink(SinkState::default()),
        };
        let peers = peers.map(peer).collect();
        Self { attempt, peers, running: false, ended: false, base: Vec::new(), written: Vec::new(), work }
    }
}

/// The numbers of sources and sinks, and how records get from ones to the others.
fn shape(graph: &JobGraph) -> (u32, u32, Partitioning) {
    let parallelism = |id| graph.vertex(id).map_or(0, |vertex| vertex.parallelism);
    (parallelism(SOURCES), parallelism(SINKS), graph.edges[0].partitioning)
}

/// Which of so many consumers gets a record.
fn route(source: u32, offset: u64, consumers: usize) -> usize {
    let spread = u64::from(source) * 7 + offset * 3 + offset / 5;
    usize::try_from(spread % consumers as u64).expect("below a usize")
}

/// What a run without any failure writes.
pub(crate) fn expected_output(job: &Job) -> Vec<Written> {
    let (sources, sinks, partitioning) = shape(&job.spec.graph);
    let mut output = Vec::new();
    for source in 0..sources {
        let consumers: Vec<u32> = partitioning.consumers(SubtaskIndex(source), sources, sinks).collect();
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for offset in 0..job.records.unwrap_or(0) {
            let count = counts.entry(consumers[route(source, offset, consumers.len())]).or_default();
            *count += 1;
            output.push(Written { source, offset, count: *count });
        }
    }
    output.sort_unstable();
    output
}

/// The executor that runs a task: on which task manager, and which of that one's.
pub(super) type At = (usize, ExecutorId);

/// How a step of a task ends, when its state changes.
pub(super) type Change = Option<ExecutionState>;

impl World {
    /// Lets a task go on a little; its new state, when it has one.
    pub(crate) fn step_task(&mut self, at: At, task: &mut Task) -> Change {
        if !task.running {
            task.running = true;
            return Some(ExecutionState::Running);
        }
        let budget = 1 + self.random.below(RECORDS_PER_STEP);
        match &task.work {
            Work::Source { .. } => self.step_source(task, budget),
            Work::Sink(_) => self.step_sink(at, task, budget),
        }
    }

    fn step_source(&mut self, task: &mut Task, budget: u64) -> Change {
        let attempt = task.attempt;
        if task.peers.iter().any(|peer| self.plane.lost.contains(peer)) && self.random.chance(300) {
            return Some(failed(attempt, FailureKind::ConnectionLost, "a consumer is gone"));
        }
        let Work::Source { next, records, poison } = &mut task.work else { return None };
        for _ in 0..budget {
            if *poison == Some(*next) {
                self.watch.observe(&Fact::WorkersDisturbed { job: Some(attempt.job) });
                return Some(failed(attempt, FailureKind::Panic, "poison"));
            }
            if *records == Some(*next) {
                for &peer in &task.peers {
                    self.plane.channel(attempt, peer).push_back(Element::End);
                }
                let accumulators = [("emitted".to_owned(), i64::try_from(*next).unwrap_or(i64::MAX))].into();
                let state = self.last_snapshot(task);
                return Some(finished(accumulators, state));
            }
            let peer = task.peers[route(attempt.vertex.subtask.0, *next, task.peers.len())];
            let channel = self.plane.channel(attempt, peer);
            if channel.len() >= CHANNEL {
                return None;
            }
            channel.push_back(Element::Record(*next));
            *next += 1;
        }
        None
    }

    fn step_sink(&mut self, at: At, task: &mut Task, budget: u64) -> Change {
        let attempt = task.attempt;
        for peer in task.peers.clone() {
            let Work::Sink(sink) = &task.work else { return None };
            if !sink.ended.contains(&peer) && self.plane.lost.contains(&peer) && self.random.chance(300) {
                return Some(failed(attempt, FailureKind::ConnectionLost, "a producer is gone"));
            }
            for _ in 0..budget {
                let Work::Sink(sink) = &mut task.work else { return None };
                let held = sink.aligning.as_ref().is_some_and(|(_, arrived)| arrived.contains(&peer));
                if held || sink.ended.contains(&peer) {
                    break;
                }
                match self.plane.channel(peer, attempt).pop_front() {
                    None => break,
                    Some(Element::End) => {
                        sink.ended.insert(peer);
                    }
                    Some(Element::Barrier(checkpoint)) => sink.arrived(checkpoint, peer),
                    Some(Element::Record(offset)) => {
                        let source = peer.vertex.subtask.0;
                        let count = sink.counts.entry(source).or_default();
                        *count += 1;
                        let written = Written { source, offset, count: *count };
                        self.storage.write(Transaction { sink: attempt, number: sink.current }, written);
                    }
                }
                self.snapshot_if_aligned(at, task);
            }
        }
        let Work::Sink(sink) = &task.work else { return None };
        if sink.ended.len() < task.peers.len() {
            return None;
        }
        let total = sink.counts.values().sum::<u64>();
        let accumulators = [("written".to_owned(), i64::try_from(total).unwrap_or(i64::MAX))].into();
        let state = self.last_snapshot(task);
        Some(finished(accumulators, state))
    }

    /// A source lets a barrier into all its channels, whether they are full or not.
    pub(super) fn inject(&mut self, task: &Task, checkpoint: CheckpointId) {
        for &peer in &task.peers {
            self.plane.channel(task.attempt, peer).push_back(Element::Barrier(checkpoint));
        }
    }
}

impl SinkState {
    /// A barrier has come: of a newer checkpoint than the one that is aligned, it takes that one's place.
    fn arrived(&mut self, checkpoint: CheckpointId, peer: ExecutionAttemptId) {
        if checkpoint <= self.aborted {
            return;
        }
        match &mut self.aligning {
            Some((aligned, arrived)) if *aligned == checkpoint => {
                arrived.insert(peer);
            }
            Some((aligned, _)) if *aligned > checkpoint => {}
            Some(_) | None => self.aligning = Some((checkpoint, BTreeSet::from([peer]))),
        }
    }

    /// The checkpoint whose barrier has come on every channel that is open.
    pub(super) fn aligned(&self, peers: &[ExecutionAttemptId]) -> Option<CheckpointId> {
        let (checkpoint, arrived) = self.aligning.as_ref()?;
        peers.iter().all(|peer| arrived.contains(peer) || self.ended.contains(peer)).then_some(*checkpoint)
    }
}

fn finished(accumulators: BTreeMap<String, i64>, state: SubtaskState) -> ExecutionState {
    ExecutionState::Terminal(TerminalState::Finished { accumulators, collected: Vec::new(), state })
}

fn failed(attempt: ExecutionAttemptId, kind: FailureKind, message: &str) -> ExecutionState {
    let (vertex, message) = (Some(attempt.vertex), message.to_owned());
    ExecutionState::Terminal(TerminalState::Failed(Failure { kind, vertex, operator: None, message }))
}
