//! Tasks and the records between them: sources count up, sinks count what they get and write it down.
//!
//! What a sink writes with each record, the count of that source's records so far, is its state: a record that is lost,
//! repeated or counted from a wrong state shows in the output.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidemill_model::checkpoint::SubtaskState;
use tidemill_model::execution::{ExecutionState, Failure, FailureKind, JobDeployment, TerminalState};
use tidemill_model::id::{ExecutionAttemptId, ExecutionVertexId, SubtaskIndex};
use tidemill_model::job_graph::JobGraph;

use super::fact::Fact;
use super::plan::{Job, SINKS, SOURCES};
use super::storage::Written;
use super::world::World;

/// How many records may be under way on one channel.
const CHANNEL: usize = 32;

/// How far a task gets in one step.
const RECORDS_PER_STEP: u64 = 12;

/// What travels on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Record(u64),
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

#[derive(Debug)]
enum Work {
    Source { next: u64, records: Option<u64>, poison: Option<u64> },
    Sink { counts: BTreeMap<u32, u64>, ended: BTreeSet<ExecutionAttemptId> },
}

/// One running attempt.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) attempt: ExecutionAttemptId,
    /// Those that it sends to or reads from.
    peers: Vec<ExecutionAttemptId>,
    pub(crate) running: bool,
    pub(crate) ended: bool,
    work: Work,
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
        let work = match is_source {
            true => Work::Source { next: 0, records: job.records, poison: job.poison.filter(|_| subtask.0 == 0) },
            false => Work::Sink { counts: BTreeMap::new(), ended: BTreeSet::new() },
        };
        Self { attempt, peers: peers.map(peer).collect(), running: false, ended: false, work }
    }
}

/// The numbers of sources and sinks, and how records get from ones to the others.
fn shape(graph: &JobGraph) -> (u32, u32, tidemill_model::job_graph::Partitioning) {
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

impl World {
    /// Lets a task go on a little; its new state, when it has one.
    pub(crate) fn step_task(&mut self, task: &mut Task) -> Option<ExecutionState> {
        if !task.running {
            task.running = true;
            return Some(ExecutionState::Running);
        }
        let budget = 1 + self.random.below(RECORDS_PER_STEP);
        let noticed = task.peers.iter().any(|peer| self.plane.lost.contains(peer)) && self.random.chance(300);
        match &mut task.work {
            Work::Source { next, records, poison } => {
                if noticed {
                    return Some(failed(task.attempt, FailureKind::ConnectionLost, "a consumer is gone"));
                }
                for _ in 0..budget {
                    if *poison == Some(*next) {
                        self.watch.observe(&Fact::WorkersDisturbed { job: Some(task.attempt.job) });
                        return Some(failed(task.attempt, FailureKind::Panic, "poison"));
                    }
                    if *records == Some(*next) {
                        for &peer in &task.peers {
                            self.plane.channel(task.attempt, peer).push_back(Element::End);
                        }
                        let accumulators = [("emitted".to_owned(), i64::try_from(*next).unwrap_or(i64::MAX))].into();
                        return Some(finished(accumulators));
                    }
                    let peer = task.peers[route(task.attempt.vertex.subtask.0, *next, task.peers.len())];
                    let channel = self.plane.channel(task.attempt, peer);
                    if channel.len() >= CHANNEL {
                        return None;
                    }
                    channel.push_back(Element::Record(*next));
                    *next += 1;
                }
                None
            }
            Work::Sink { counts, ended } => {
                let open: Vec<ExecutionAttemptId> =
                    task.peers.iter().copied().filter(|peer| !ended.contains(peer)).collect();
                if noticed && open.iter().any(|peer| self.plane.lost.contains(peer)) {
                    return Some(failed(task.attempt, FailureKind::ConnectionLost, "a producer is gone"));
                }
                for peer in open {
                    for _ in 0..budget {
                        let element = self.plane.channel(peer, task.attempt).pop_front();
                        match element {
                            None => break,
                            Some(Element::End) => {
                                ended.insert(peer);
                            }
                            Some(Element::Record(offset)) => {
                                let source = peer.vertex.subtask.0;
                                let count = counts.entry(source).or_default();
                                *count += 1;
                                let written = Written { source, offset, count: *count };
                                self.storage.write(task.attempt, written);
                            }
                        }
                    }
                }
                let total = counts.values().sum::<u64>();
                let accumulators = [("written".to_owned(), i64::try_from(total).unwrap_or(i64::MAX))].into();
                (ended.len() == task.peers.len()).then(|| finished(accumulators))
            }
        }
    }
}

fn finished(accumulators: BTreeMap<String, i64>) -> ExecutionState {
    ExecutionState::Terminal(TerminalState::Finished {
        accumulators,
        collected: Vec::new(),
        state: SubtaskState::default(),
    })
}

fn failed(attempt: ExecutionAttemptId, kind: FailureKind, message: &str) -> ExecutionState {
    let vertex = Some(attempt.vertex);
    ExecutionState::Terminal(TerminalState::Failed(Failure {
        kind,
        vertex,
        operator: None,
        message: message.to_owned(),
    }))
}
