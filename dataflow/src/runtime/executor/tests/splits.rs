//! Splits stay where all readers can have them, however often checkpoints look for barriers behind those that wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use tidemill_model::checkpoint::CheckpointKind;
use tidemill_model::job::RuntimeMode;

use super::checkpoints::{acknowledged, command};
use super::*;
use crate::runtime::sink::UserError;
use crate::runtime::source::{
    Boundedness, Discovery, NoTimes, Reading, Source, SourceOutput, SplitEnumerator, SplitReader, add_source,
};

const SPLITS: u64 = 100;

const READERS: u32 = 2;

/// Many: the enumerator looks for room every few milliseconds only.
const CHECKPOINTS: u64 = 1000;

/// What one reader has: a split that it reads, one that is to tell whether there are more, and one on its way.
const IN_HAND: u64 = 3;

/// Splits that are found one by one, when the one before is gone; each is read when it may be.
#[derive(Clone, Default)]
struct Held {
    found: Arc<AtomicU64>,
    released: Arc<AtomicBool>,
}

impl Source for Held {
    type Out = u64;
    type Split = u64;
    type Enumerator = Self;
    type Reader = HeldReader;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn enumerator(&self, _readers: u32, _restored: Option<()>) -> Result<Self, UserError> {
        Ok(self.clone())
    }

    fn reader(&self, split: u64) -> Result<HeldReader, UserError> {
        Ok(HeldReader { split, released: Arc::clone(&self.released) })
    }
}

impl SplitEnumerator for Held {
    type Split = u64;
    type State = ();

    fn state(&self) {}

    fn discover(&mut self) -> Result<Discovery<u64>, UserError> {
        let next = self.found.fetch_add(1, Ordering::AcqRel);
        Ok(if next < SPLITS { Discovery::Splits(vec![next]) } else { Discovery::Done })
    }
}

struct HeldReader {
    split: u64,
    released: Arc<AtomicBool>,
}

impl SplitReader for HeldReader {
    type Out = u64;
    type Split = u64;

    fn read<O: SourceOutput<u64>>(&mut self, out: &mut O) -> Result<Reading, UserError> {
        if !self.released.load(Ordering::Acquire) {
            return Ok(Reading::Wait(Duration::from_millis(1)));
        }
        out.emit(self.split);
        Ok(Reading::Ended)
    }

    fn split(&self) -> u64 {
        self.split
    }
}

#[test]
fn checkpoints_bring_a_reader_no_more_splits_than_it_has_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let source = Held::default();
    let mut builder = FlowBuilder::new(Counters::default());
    let (vertex, _, numbers) = add_source(&mut builder, ("Source", Vec::new()), READERS, source.clone(), NoTimes);
    builder.add_operator(vertex, "Sink", Vec::new());
    builder.end_in_sink(vertex, numbers, DiscardSink);
    let flow = builder.build(RuntimeMode::Streaming).unwrap();
    let settings = CheckpointSettings {
        directory: folder.path().join("checkpoints").display().to_string(),
        ..CheckpointSettings::default()
    };
    let deployment = deployment(&flow, AttemptNumber(0));
    let (executor, events) = executor(flow);
    let mut executor = executor.with_checkpoints(Some(&settings));
    executor.deploy(&deployment);
    let mut finished = BTreeMap::new();
    for checkpoint in 1..=CHECKPOINTS {
        executor.checkpoint(&command(CheckpointAction::Trigger(CheckpointKind::Periodic), checkpoint, &deployment));
        acknowledged(&events, &deployment, checkpoint, &mut finished);
    }
    // And one that nobody has room for.
    let most = u64::from(READERS) * IN_HAND + 1;
    let found = source.found.load(Ordering::Acquire);
    assert!(found <= most, "{found} splits left the enumerator, readers have room for {most}");
    source.released.store(true, Ordering::Release);
    acknowledged(&events, &deployment, u64::MAX, &mut finished);
    assert_eq!(executor.watch().get().records_out, SPLITS);
}
