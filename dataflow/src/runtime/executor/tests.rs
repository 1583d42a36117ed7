//! Small flows driven through an executor, command by command.

use tidemill_model::execution::{Schedule, ScheduledAttempt, TaskManagerLocation};
use tidemill_model::id::{ExecutionVertexId, TaskManagerName};
use tidemill_model::job::RuntimeMode;
use tidemill_model::slot::SlotId;

use tidemill_model::checkpoint::{CheckpointAction, CheckpointCommand, CheckpointOutcome, RestoreFrom, SubtaskState};
use tidemill_model::execution::Finalization;

use super::*;
use crate::flow::FlowBuilder;
use crate::key_selector::ComputedKey;
use crate::operator::{Map, ReduceFunction, Rolling};
use crate::pipe::FromSource;
use crate::push::Stopped;
use crate::runtime::counter::Counters;
use crate::runtime::network::NoNetwork;
use crate::runtime::sink::{DiscardSink, FileSink, TextFormat, staged::StagedOutput};
use crate::runtime::source::SequenceSource;
use crate::runtime::task::TaskContext;

fn job() -> JobId {
    "0190f3a1b2c37d4e8f00112233445566".parse().unwrap()
}

fn task_manager() -> TaskManagerId {
    "00000000000000000000000000000001".parse().unwrap()
}

/// Numbers without end, keyed, into a sink.
fn endless(parallelism: u32, per_second: Option<u64>) -> Flow {
    let mut builder = FlowBuilder::new(Counters::default());
    let source = builder.add_vertex(parallelism);
    let operator = builder.add_operator(source, "Source", Vec::new());
    builder.mark_unbounded(operator);
    let numbers = FromSource::new(SequenceSource::new(0, None, per_second));
    let key = ComputedKey::new(|number: &u64| *number);
    let keyed = builder.exchange_by_key(source, numbers, key.clone(), |_: &mut u64, _| (), parallelism);
    let operator = builder.add_operator(keyed, "Reduce", Vec::new());
    builder.end_in_sink(keyed, Rolling::new(key, ReduceFunction(|_: &mut u64, _: u64| ()), operator), DiscardSink);
    builder.build(RuntimeMode::Automatic).unwrap()
}

/// `count` numbers into a file; the map fails when it is told to.
fn numbers_to_file(count: u64, path: &std::path::Path, fail: bool) -> Flow {
    let mut builder = FlowBuilder::new(Counters::default());
    let vertex = builder.add_vertex(2);
    builder.add_operator(vertex, "Source", Vec::new());
    let numbers = FromSource::new(SequenceSource::new(0, Some(count), None));
    let map = builder.add_operator(vertex, "Map", Vec::new());
    let checked = Map::new(
        numbers,
        move |number: u64| {
            assert!(!fail || number + 1 < count, "told to fail");
            number
        },
        map,
    );
    let sink = builder.add_operator(vertex, "Sink", Vec::new());
    let output = builder.add_output(StagedOutput { path: path.to_owned(), overwrite: false }, vertex);
    builder.end_in_sink(vertex, checked, FileSink::new(output, TextFormat, sink));
    builder.build(RuntimeMode::Automatic).unwrap()
}

fn deployment(flow: &Flow, attempt: AttemptNumber) -> JobDeployment {
    let task_manager = task_manager();
    let place = |vertex: ExecutionVertexId| {
        (vertex, ScheduledAttempt { attempt, slot: SlotId { task_manager, index: vertex.subtask.0 } })
    };
    let location =
        TaskManagerLocation { id: task_manager, name: TaskManagerName("tm".into()), data_address: String::new() };
    let schedule = Schedule {
        attempts: flow.graph().execution_vertices().map(place).collect(),
        task_managers: BTreeMap::from([(task_manager, location)]),
    };
    let start = schedule.attempt_ids(job()).map(|(attempt, _)| attempt).collect();
    JobDeployment { job: job(), schedule, start, restore: None }
}

fn executor(flow: Flow) -> (Executor, Receiver<ExecutorEvent>) {
    let (events_tx, events) = bounded(1000);
    (Executor::new(job(), Arc::new(flow), task_manager(), Arc::new(NoNetwork), events_tx), events)
}

/// Waits until `count` attempts have ended.
fn ends(events: &Receiver<ExecutorEvent>, count: usize) -> Vec<TerminalState> {
    let mut ends = Vec::new();
    while ends.len() < count {
        let ExecutorEvent::Attempt { report, .. } = events.recv().unwrap() else { continue };
        if let ExecutionState::Terminal(end) = report.state {
            ends.push(end);
        }
    }
    ends
}

#[test]
fn tasks_are_cancelled_whatever_they_wait_for() {
    // At full speed producers wait for room; at one record a second everybody waits for input.
    for per_second in [None, Some(1)] {
        let flow = endless(3, per_second);
        let deployment = deployment(&flow, AttemptNumber(0));
        let (mut executor, events) = executor(flow);
        executor.deploy(&deployment);
        while executor.watch().get().records_in < 3 {
            std::thread::yield_now();
        }
        executor.cancel(&deployment.start);
        executor.cancel(&deployment.start);
        assert!(ends(&events, 6).iter().all(|end| *end == TerminalState::Canceled));
    }
}

#[test]
fn a_producer_whose_consumer_never_starts_is_cancelled_while_its_output_is_full() {
    let flow = endless(1, None);
    let mut deployment = deployment(&flow, AttemptNumber(0));
    deployment.start.truncate(1);
    let (mut executor, events) = executor(flow);
    executor.deploy(&deployment);
    // The count stands still once the queue is full.
    let mut before = u64::MAX;
    while before == 0 || executor.watch().get().records_in != before {
        before = executor.watch().get().records_in;
        (0..1000).for_each(|_| std::thread::yield_now());
    }
    executor.cancel(&deployment.start);
    assert_eq!(ends(&events, 1), [TerminalState::Canceled]);
}

#[test]
fn dropping_the_executor_cancels_its_tasks() {
    let flow = endless(2, Some(10));
    let deployment = deployment(&flow, AttemptNumber(0));
    let (mut executor, events) = executor(flow);
    executor.deploy(&deployment);
    drop(executor);
    assert!(ends(&events, 4).iter().all(|end| *end == TerminalState::Canceled));
}

#[test]
fn a_repeated_deployment_starts_nothing_but_reports_again() {
    let folder = tempfile::tempdir().unwrap();
    let flow = numbers_to_file(100, &folder.path().join("out"), false);
    let deployment = deployment(&flow, AttemptNumber(0));
    let (mut executor, events) = executor(flow);
    executor.deploy(&deployment);
    let first = ends(&events, 2);
    assert!(first.iter().all(|end| matches!(end, TerminalState::Finished { .. })));
    executor.deploy(&deployment);
    assert_eq!(ends(&events, 2), first);
    assert_eq!(executor.watch().get(), Progress { records_in: 100, records_out: 100 });
}

#[test]
fn an_attempt_that_the_graph_does_not_have_fails() {
    let flow = endless(1, Some(1));
    let mut deployment = deployment(&flow, AttemptNumber(0));
    deployment.start[0].vertex.subtask = SubtaskIndex(7);
    deployment.start.truncate(1);
    let (mut executor, events) = executor(flow);
    executor.deploy(&deployment);
    assert!(
        matches!(&ends(&events, 1)[0], TerminalState::Failed(failure) if failure.kind == FailureKind::GraphMismatch)
    );
}

#[test]
fn a_restart_publishes_its_own_output_and_leaves_no_part_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    {
        let flow = numbers_to_file(10_000, &path, true);
        let deployment = deployment(&flow, AttemptNumber(0));
        let (mut executor, events) = executor(flow);
        executor.deploy(&deployment);
        let failed = ends(&events, 2).into_iter().find_map(|end| match end {
            TerminalState::Failed(failure) => Some(failure),
            TerminalState::Finished { .. } | TerminalState::Canceled => None,
        });
        assert_eq!(failed.and_then(|failure| failure.operator).as_deref(), Some("Map"));
    }
    let flow = numbers_to_file(10_000, &path, false);
    let deployment = deployment(&flow, AttemptNumber(1));
    let (mut executor, events) = executor(flow);
    executor.deploy(&deployment);
    ends(&events, 2);
    let commit = Finalization::Commit { attempts: deployment.schedule.attempt_numbers(), checkpoint: None };
    executor.finalize(&commit).unwrap();
    executor.finalize(&commit).unwrap();
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["out"]);
    let lines = |part: &str| std::fs::read_to_string(path.join(part)).unwrap().lines().count();
    assert_eq!((lines("1"), lines("2")), (5000, 5000));
}

mod aligned;
mod async_calls;
mod at_least_once;
mod blocked;
mod checkpoints;
mod splits;
mod unaligned;
