//! Checkpoints of a job whose sink is stuck, so that its channels are full.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crossbeam_channel::Sender;
use tidemill_model::checkpoint::{CheckpointKind, CheckpointingMode};
use tidemill_model::id::CheckpointId;
use tidemill_storage::CheckpointStorage;

use super::*;
use crate::engine::in_flight::InFlight;
use crate::engine::snapshot::StateId;
use crate::push::Push;
use crate::record::{Control, Timestamp, decode_batch};
use crate::runtime::checkpoint::Restored;
use crate::runtime::network::WireElement;
use crate::runtime::sink::Sink;

/// How many producers there are.
const PRODUCERS: u32 = 2;

/// How many records are on their way before a checkpoint is wanted: half of what channels hold.
const UNDER_WAY: u64 = PRODUCERS as u64 * 8 * 1024;

/// A sink that is stuck until it is released, and says how many records it had at each barrier.
#[derive(Clone)]
struct Stuck {
    released: Receiver<()>,
    at_barrier: Sender<u64>,
}

struct StuckWriter {
    sink: Stuck,
    count: u64,
}

impl Sink<u64> for Stuck {
    type Writer = StuckWriter;

    fn open(&self, _context: &TaskContext) -> Result<StuckWriter, Failure> {
        Ok(StuckWriter { sink: self.clone(), count: 0 })
    }
}

impl Push<u64> for StuckWriter {
    fn push(&mut self, _record: u64, _time: Timestamp) -> Result<(), Stopped> {
        // An error is the release.
        let _ = self.sink.released.recv();
        self.count += 1;
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        if let Control::Barrier(_) = control {
            self.sink.at_barrier.send(self.count).unwrap();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}

fn stuck(sink: Stuck, emitted: &Arc<AtomicU64>) -> Flow {
    let mut builder = FlowBuilder::new(Counters::default());
    let source = builder.add_vertex(PRODUCERS);
    let operator = builder.add_operator(source, "Source", Vec::new());
    builder.mark_unbounded(operator);
    let map = builder.add_operator(source, "Map", Vec::new());
    let emitted = Arc::clone(emitted);
    let count = move |number: u64| {
        emitted.fetch_add(1, Ordering::Relaxed);
        number
    };
    let numbers = Map::new(FromSource::new(SequenceSource::new(0, None, None)), count, map);
    let key = ComputedKey::new(|number: &u64| *number % 16);
    let keyed = builder.exchange_by_key(source, numbers, key.clone(), |_: &mut u64, _| (), 1);
    let operator = builder.add_operator(keyed, "Reduce", Vec::new());
    builder.end_in_sink(keyed, Rolling::new(key, ReduceFunction(|_: &mut u64, _: u64| ()), operator), sink);
    builder.build(RuntimeMode::Streaming).unwrap()
}

/// How many records were in flight on all channels.
fn records_in_flight(restored: &Restored) -> usize {
    let ids: Vec<StateId> = restored.states().filter(|id| id.name.starts_with("in flight from")).cloned().collect();
    let values = ids.iter().flat_map(|id| restored.values_of_any_type(id).unwrap());
    let elements = values.flat_map(|value| InFlight::decode(&value.bytes).unwrap());
    let count = |element| {
        let WireElement::Batch(batch) = element else { panic!("no {element:?} was sent") };
        decode_batch::<u64>(&batch).unwrap().records.len()
    };
    elements.map(|(_, element)| count(element)).sum()
}

/// What a checkpoint has that was triggered when records were on their way to a sink that was stuck.
struct Taken {
    /// How many records producers had emitted when it was triggered.
    emitted: u64,
    /// How many the sink had taken at its snapshot.
    at_barrier: u64,
    in_flight: usize,
}

fn checkpoint_of_full_channels(kind: CheckpointKind, unaligned_after: Option<Duration>) -> Taken {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().display().to_string();
    let ((release, released), (at_barrier_tx, at_barrier)) = (bounded::<()>(0), bounded(1));
    let emitted = Arc::default();
    let flow = stuck(Stuck { released, at_barrier: at_barrier_tx }, &emitted);
    let deployment = deployment(&flow, AttemptNumber(0));
    let mode = CheckpointingMode::ExactlyOnce;
    let settings =
        CheckpointSettings { directory: directory.clone(), mode, unaligned_after, ..CheckpointSettings::default() };
    let (executor, events) = executor(flow);
    let mut executor = executor.with_checkpoints(Some(&settings));
    executor.deploy(&deployment);
    while emitted.load(Ordering::Relaxed) < UNDER_WAY {
        std::thread::yield_now();
    }
    let before = emitted.load(Ordering::Relaxed);
    let (action, checkpoint) = (CheckpointAction::Trigger(kind), CheckpointId(1));
    executor.checkpoint(&CheckpointCommand { action, checkpoint, attempts: deployment.start.clone() });
    drop(release);
    let mut sink = None;
    let mut acknowledged = 0;
    while acknowledged < deployment.start.len() {
        if let ExecutorEvent::Checkpoint(CheckpointReport { attempt, outcome, .. }) = events.recv().unwrap() {
            let CheckpointOutcome::Acknowledged(state) = outcome else { panic!("{attempt}: {outcome:?}") };
            acknowledged += 1;
            sink = if attempt.vertex.vertex.0 > 0 { Some(state) } else { sink };
        }
    }
    executor.cancel(&deployment.start);
    let storage = CheckpointStorage::open(&directory).unwrap().job(job());
    let restored = Restored::of_one(sink.unwrap(), &storage).unwrap();
    Taken { emitted: before, at_barrier: at_barrier.recv().unwrap(), in_flight: records_in_flight(&restored) }
}

#[test]
fn an_aligned_checkpoint_waits_until_all_that_was_under_way_is_processed() {
    let (periodic, savepoint) = (CheckpointKind::Periodic, CheckpointKind::Savepoint);
    // An early snapshot would be allowed, but not so soon; and never of a savepoint.
    let late = Some(Duration::from_secs(100_000));
    for (kind, unaligned_after) in [(periodic, None), (periodic, late), (savepoint, Some(Duration::ZERO))] {
        let taken = checkpoint_of_full_channels(kind, unaligned_after);
        assert!(taken.at_barrier >= taken.emitted, "{} of {} are processed", taken.at_barrier, taken.emitted);
        assert_eq!(taken.in_flight, 0);
    }
}

#[test]
fn an_unaligned_checkpoint_waits_for_nothing_that_is_under_way() {
    let taken = checkpoint_of_full_channels(CheckpointKind::Periodic, Some(Duration::ZERO));
    // The sink ends the piece that it is stuck in, and one batch before it has read its mail.
    assert!(taken.at_barrier < UNDER_WAY / 8, "{} records had to be processed before", taken.at_barrier);
    let kept = taken.at_barrier + u64::try_from(taken.in_flight).unwrap();
    assert!(kept >= taken.emitted, "{} of {} are part of it", kept, taken.emitted);
}
