//! Sources of one group: cancelling one that waits, and freeing one whose group is gone.

use std::time::Duration;

use super::*;
use crate::flow::WatermarkAlignment;
use crate::operator::BoundedOutOfOrderness;
use crate::runtime::sink::UserError;
use crate::runtime::source::{
    Boundedness, Discovery, Reading, Source, SourceOutput, SplitEnumerator, SplitReader, WithTimes, add_source,
};

const DRIFT: i64 = 100;
const BATCH: i64 = 10;

/// Times from 1 on up to a last one, after which it is silent.
#[derive(Debug, Clone)]
struct Ticks {
    split: Option<i64>,
    last: i64,
}

impl Source for Ticks {
    type Out = i64;
    type Split = i64;
    type Enumerator = Self;
    type Reader = Self;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn enumerator(&self, _readers: u32, _restored: Option<()>) -> Result<Self, UserError> {
        Ok(self.clone())
    }

    fn reader(&self, time: i64) -> Result<Self, UserError> {
        Ok(Self { split: Some(time), last: self.last })
    }
}

impl SplitEnumerator for Ticks {
    type Split = i64;
    type State = ();

    fn state(&self) {}

    fn discover(&mut self) -> Result<Discovery<i64>, UserError> {
        Ok(self.split.take().map_or(Discovery::Done, |split| Discovery::Splits(vec![split])))
    }
}

impl SplitReader for Ticks {
    type Out = i64;
    type Split = i64;

    fn read<O: SourceOutput<i64>>(&mut self, out: &mut O) -> Result<Reading, UserError> {
        let from = self.split();
        if from == self.last {
            return Ok(Reading::Wait(Duration::from_secs(1)));
        }
        let to = self.last.min(from + BATCH);
        (from..to).for_each(|time| out.emit(time + 1));
        self.split = Some(to);
        Ok(Reading::More)
    }

    fn split(&self) -> i64 {
        self.split.expect("a reader has a split")
    }
}

/// One source that falls silent at time 1, and one without end.
fn slow_and_fast() -> Flow {
    let mut builder = FlowBuilder::new(Counters::default());
    for (name, last) in [("Slow", 1), ("Fast", i64::MAX)] {
        let times = WithTimes::new(|time: &i64| *time, BoundedOutOfOrderness::new(Duration::ZERO), None);
        let ticks = Ticks { split: Some(0), last };
        let (vertex, operator, pipe) = add_source(&mut builder, (name, Vec::new()), 1, ticks, times);
        builder.align_watermarks(operator, WatermarkAlignment { group: "ticks".to_owned(), drift_max_ms: DRIFT });
        builder.add_operator(vertex, "Sink", Vec::new());
        builder.end_in_sink(vertex, pipe, DiscardSink);
    }
    builder.build(RuntimeMode::Automatic).unwrap()
}

/// The attempt of a source's readers.
fn readers(flow: &Flow, deployment: &JobDeployment, name: &str) -> ExecutionAttemptId {
    let vertex = flow.graph().vertices.iter().find(|vertex| vertex.operators[0].name == name).unwrap().id;
    *deployment.start.iter().find(|attempt| attempt.vertex.vertex == vertex).unwrap()
}

fn wait_until_canceled(events: &Receiver<ExecutorEvent>, wanted: ExecutionAttemptId) {
    loop {
        let ExecutorEvent::Attempt { report, .. } = events.recv().unwrap() else { continue };
        if let (true, ExecutionState::Terminal(end)) = (report.attempt == wanted, report.state) {
            return assert_eq!(end, TerminalState::Canceled);
        }
    }
}

fn wait_for_records(executor: &Executor, enough: impl Fn(u64) -> bool) {
    while !enough(executor.watch().get().records_in) {
        std::thread::yield_now();
    }
}

/// What both have emitted when the fast one waits: its watermark is the first more than the drift ahead of the other's.
const RECORDS: u64 = 1 + 110;

#[test]
fn a_source_that_waits_for_another_one_is_cancelled() {
    let flow = slow_and_fast();
    let deployment = deployment(&flow, AttemptNumber(0));
    let fast = readers(&flow, &deployment, "Fast");
    let (mut executor, events) = executor(flow);
    executor.deploy(&deployment);
    wait_for_records(&executor, |records| records == RECORDS);
    executor.cancel(&[fast]);
    wait_until_canceled(&events, fast);
    assert_eq!(executor.watch().get().records_in, RECORDS);
}

#[test]
fn a_source_goes_on_when_the_one_that_it_waits_for_is_gone() {
    let flow = slow_and_fast();
    let deployment = deployment(&flow, AttemptNumber(0));
    let slow = readers(&flow, &deployment, "Slow");
    let (mut executor, events) = executor(flow);
    executor.deploy(&deployment);
    wait_for_records(&executor, |records| records == RECORDS);
    executor.cancel(&[slow]);
    wait_until_canceled(&events, slow);
    wait_for_records(&executor, |records| records > RECORDS);
}
