//! Without alignment, what comes behind a barrier before the other barriers are here is in the snapshot, and comes again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use tidemill_model::checkpoint::{CheckpointKind, CheckpointingMode};
use tidemill_model::id::CheckpointId;
use tidemill_model::job::RuntimeMode;

use super::checkpoints::{command, finish};
use super::*;

/// How many numbers there are. Two sub-tasks take turns: one has the even ones, the other the odd ones.
const COUNT: u64 = 200_000;

/// The even number at which its sub-task waits until a checkpoint is wanted.
const BEFORE: u64 = 2_000;

fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

/// Where the sources wait, and how far the count has come.
#[derive(Clone, Default)]
struct Gates {
    /// How many sub-tasks have come to a gate.
    waiting: Arc<AtomicUsize>,
    /// A checkpoint is wanted.
    wanted: Arc<AtomicBool>,
    /// All even numbers are counted: behind their barrier, and before that of the odd ones.
    counted: Arc<AtomicBool>,
    even: Arc<AtomicU64>,
}

impl Gates {
    fn wait(&self, number: u64) {
        let gate = match number {
            1 => &self.counted,
            BEFORE => &self.wanted,
            _ => return,
        };
        self.waiting.fetch_add(1, Ordering::AcqRel);
        until(|| gate.load(Ordering::Acquire));
    }
}

/// Numbers, counted by whether they are odd; each count goes into rolling parts.
fn counts(output: &Path, gates: &Gates) -> Flow {
    let mut builder = FlowBuilder::new(Counters::default());
    let source = builder.add_vertex(2);
    let operator = builder.add_operator(source, "Source", Vec::new());
    builder.set_uid(operator, "numbers");
    let numbers = FromSource::new(SequenceSource::new(0, Some(COUNT), None));
    let map = builder.add_operator(source, "Map", Vec::new());
    let waits = gates.clone();
    let one = move |number: u64| {
        waits.wait(number);
        (number % 2, 1u64)
    };
    let key = ComputedKey::new(|(odd, _): &(u64, u64)| *odd);
    let ones = Map::new(numbers, one, map);
    let keyed = builder.exchange_by_key(source, ones, key.clone(), |_: &mut (u64, u64), _| (), 1);
    let operator = builder.add_operator(keyed, "Count", Vec::new());
    builder.set_uid(operator, "count");
    let add = |kept: &mut (u64, u64), (_, count): (u64, u64)| kept.1 += count;
    let counted = Rolling::new(key, ReduceFunction(add), operator);
    let map = builder.add_operator(keyed, "Text", Vec::new());
    let even = Arc::clone(&gates.even);
    let text = move |(odd, count): (u64, u64)| {
        if odd == 0 {
            even.store(count, Ordering::Release);
        }
        format!("{odd} {count}")
    };
    let counted = Map::new(counted, text, map);
    let sink = builder.add_operator(keyed, "Sink", Vec::new());
    builder.set_uid(sink, "sink");
    let output = builder.add_output(StagedOutput { path: output.to_owned(), overwrite: false }, keyed);
    builder.set_rolling(output, 1 << 30, std::time::Duration::from_secs(1000));
    builder.end_in_sink(keyed, counted, FileSink::new(output, TextFormat, sink));
    builder.build(RuntimeMode::Streaming).unwrap()
}

/// Waits for the next snapshot of this checkpoint.
fn next_snapshot(events: &Receiver<ExecutorEvent>, id: CheckpointId) -> (ExecutionVertexId, SubtaskState) {
    loop {
        if let ExecutorEvent::Checkpoint(report) = events.recv().unwrap()
            && let CheckpointOutcome::Acknowledged(state) = report.outcome
            && report.checkpoint == id
        {
            return (report.attempt.vertex, state);
        }
    }
}

/// The last count of the numbers that are odd or not.
fn last_counts(output: &Path) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for part in fs::read_dir(output).unwrap() {
        for line in fs::read_to_string(part.unwrap().path()).unwrap().lines() {
            let (odd, count) = line.split_once(' ').unwrap();
            let last = counts.entry(odd.parse().unwrap()).or_insert(0);
            *last = count.parse::<u64>().unwrap().max(*last);
        }
    }
    counts
}

#[test]
fn without_alignment_what_came_behind_the_first_barrier_counts_twice_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let gates = Gates::default();
    let settings = CheckpointSettings {
        directory: folder.path().join("checkpoints").display().to_string(),
        mode: CheckpointingMode::AtLeastOnce,
        ..CheckpointSettings::default()
    };
    let start = |attempt, restore| {
        let flow = counts(&output, &gates);
        let deployment = JobDeployment { restore, ..deployment(&flow, AttemptNumber(attempt)) };
        let (executor, events) = executor(flow);
        let mut executor = executor.with_checkpoints(Some(&settings));
        executor.deploy(&deployment);
        (executor, events, deployment)
    };
    let checkpoint = CheckpointId(1);
    let states = {
        let (mut executor, events, deployment) = start(0, None);
        // Both sources are in the midst of their numbers: neither has its barrier before the first.
        until(|| gates.waiting.load(Ordering::Acquire) == 2);
        executor.checkpoint(&command(CheckpointAction::Trigger(CheckpointKind::Periodic), checkpoint.0, &deployment));
        gates.wanted.store(true, Ordering::Release);
        // A source looks for mail more often than there are numbers: the barrier comes long before the last one.
        until(|| gates.even.load(Ordering::Acquire) == COUNT / 2);
        gates.counted.store(true, Ordering::Release);
        deployment.start.iter().map(|_| next_snapshot(&events, checkpoint)).collect()
    };
    let (executor, events, deployment) = start(1, Some(RestoreFrom { checkpoint, states }));
    finish(&executor, &events, &deployment, BTreeMap::new());
    let counts = last_counts(&output);
    assert_eq!(counts[&1], COUNT / 2, "nothing came behind the last barrier");
    let twice = counts[&0] - COUNT / 2;
    assert!(twice > 0 && twice < COUNT / 2, "{twice} of the even numbers count twice");
}
