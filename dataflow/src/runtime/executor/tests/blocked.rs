//! Tasks that read their mail while they wait for room in their output.

use std::time::Duration;

use crossbeam_channel::Sender;

use super::*;
use crate::function::{AsyncCall, AsyncOptions, Collector, OutputTag, ProcessContext, ProcessFunction};
use crate::operator::{AsyncFlatMap, Process};
use crate::pipe::Input;
use crate::push::Push;
use crate::record::{Control, Timestamp};
use crate::runtime::sink::{Sink, UserError};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A flow's end that, when it is flushed for the first time, allows a call to end, and reads the mail about it: as does
/// an exchange that waits for room.
#[derive(Clone)]
struct ReadsMail(Arc<tokio::sync::Semaphore>);

struct MailReader {
    permits: Option<Arc<tokio::sync::Semaphore>>,
    context: TaskContext,
}

impl Sink<u64> for ReadsMail {
    type Writer = MailReader;

    fn open(&self, context: &TaskContext) -> Result<MailReader, Failure> {
        Ok(MailReader { permits: Some(Arc::clone(&self.0)), context: context.clone() })
    }
}

impl Push<u64> for MailReader {
    fn push(&mut self, _record: u64, _time: Timestamp) -> Result<(), Stopped> {
        self.context.count_out(1);
        Ok(())
    }

    fn control(&mut self, _control: Control) -> Result<(), Stopped> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        let Some(permits) = self.permits.take() else { return Ok(()) };
        permits.add_permits(1);
        while self.context.mailbox().is_empty() {
            std::thread::yield_now();
        }
        self.context.poll()
    }
}

/// Waits for the first end.
fn first_end(events: &Receiver<ExecutorEvent>) -> Option<TerminalState> {
    loop {
        let ExecutorEvent::Attempt { report, .. } = events.recv_timeout(PATIENCE).ok()? else { continue };
        if let ExecutionState::Terminal(end) = report.state {
            return Some(end);
        }
    }
}

#[test]
fn a_call_that_ends_while_its_task_waits_for_room_is_not_waited_for_for_ever() {
    for options in [AsyncOptions::ordered(1), AsyncOptions::unordered(1)] {
        let permits = Arc::new(tokio::sync::Semaphore::new(0));
        let gate = Arc::clone(&permits);
        let function = move |number: u64| {
            let gate = Arc::clone(&gate);
            async move {
                if number == 0 {
                    let _permit = gate.acquire().await?;
                }
                Ok::<_, UserError>(vec![number])
            }
        };
        let mut builder = FlowBuilder::new(Counters::default());
        let vertex = builder.add_vertex(1);
        builder.add_operator(vertex, "Source", Vec::new());
        let numbers = FromSource::new(SequenceSource::new(0, Some(3), None));
        let operator = builder.add_operator(vertex, "Async", Vec::new());
        let calls = AsyncFlatMap::new(numbers, AsyncCall::new(function, options), operator);
        builder.end_in_sink(vertex, calls, ReadsMail(permits));
        let flow = builder.build(RuntimeMode::Automatic).unwrap();
        let deployment = deployment(&flow, AttemptNumber(0));
        let (mut executor, events) = executor(flow);
        executor.deploy(&deployment);
        let end = first_end(&events);
        assert!(matches!(end, Some(TerminalState::Finished { .. })), "{end:?}");
        assert_eq!(executor.watch().get().records_out, 3);
    }
}

/// Emits far more to a side output than its channel holds, and says when it is done with it.
#[derive(Clone)]
struct Floods(OutputTag<u64>);

impl ProcessFunction<u64> for Floods {
    type Out = u64;

    fn process(
        &mut self,
        _record: u64,
        context: &mut ProcessContext<'_>,
        _out: &mut Collector<u64>,
    ) -> Result<(), UserError> {
        (0..500_000).for_each(|number| context.output(&self.0, number));
        Ok(())
    }
}

/// A flow with a flood whose reader says that it has begun, and then is stuck until `release` is dropped.
fn flooded(begun: Sender<()>, release: Receiver<()>) -> Flow {
    let tag = OutputTag::new("flood");
    let mut builder = FlowBuilder::new(Counters::default());
    let (vertex, reader) = (builder.add_vertex(1), builder.add_vertex(1));
    builder.add_operator(vertex, "Source", Vec::new());
    let numbers = FromSource::new(SequenceSource::new(0, Some(1), None));
    let operator = builder.add_operator(vertex, "Flood", Vec::new());
    builder.mark_has_side_outputs(operator);
    builder.end_in_sink(vertex, Process::new(numbers, Floods(tag.clone()), operator), DiscardSink);
    builder.link_side_output(operator, &tag, reader, tidemill_model::job_graph::Partitioning::Forward);
    let operator = builder.add_operator(reader, "Stuck", Vec::new());
    let stuck = move |number: u64| {
        let _ = begun.try_send(());
        let _ = release.recv();
        number
    };
    builder.end_in_sink(reader, Map::new(Input::<u64>::new(), stuck, operator), DiscardSink);
    builder.build(RuntimeMode::Automatic).unwrap()
}

#[test]
fn a_function_that_floods_a_side_output_is_cancelled_though_it_goes_on_emitting() {
    let ((begun_tx, begun), (release_tx, release)) = (bounded(1), bounded::<()>(1));
    let flow = flooded(begun_tx, release);
    let deployment = deployment(&flow, AttemptNumber(0));
    let (mut executor, events) = executor(flow);
    executor.deploy(&deployment);
    begun.recv_timeout(PATIENCE).unwrap();
    executor.cancel(&deployment.start);
    let first = first_end(&events);
    drop(release_tx);
    assert_eq!(first, Some(TerminalState::Canceled));
    assert_eq!(first_end(&events), Some(TerminalState::Canceled));
}
