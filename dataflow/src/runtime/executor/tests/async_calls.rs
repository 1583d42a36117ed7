//! Asynchronous calls in a task that has nothing else to wake it, and in one that is stopped.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::*;
use crate::function::{AsyncCall, AsyncOptions};
use crate::operator::AsyncFlatMap;
use crate::push::Push;
use crate::runtime::sink::UserError;
use crate::runtime::source::{PlainReader, PlainSource, Reading};

/// Longer than any test may take: a hang is a failure, not a pass.
const LONG: Duration = Duration::from_secs(100_000);

/// Emits one record, and then nothing for as long as the test may take.
#[derive(Clone)]
struct OneRecord {
    emitted: bool,
}

impl PlainSource for OneRecord {
    type Out = u64;
    type Reader = Self;

    fn open(&self, _context: &TaskContext, _position: Option<()>) -> Result<Self, Failure> {
        Ok(self.clone())
    }
}

impl PlainReader<u64> for OneRecord {
    type Position = ();

    fn position(&self) {}

    fn read<N: Push<u64>>(&mut self, next: &mut N, context: &TaskContext) -> Result<Reading, Stopped> {
        if !std::mem::replace(&mut self.emitted, true) {
            context.count_in(1);
            next.push(7, 0)?;
        }
        Ok(Reading::Wait(LONG))
    }
}

/// A call that ends when it is told to, one way or the other; behind the source, or behind an exchange.
fn flow_with<A>(
    exchanged: bool,
    options: AsyncOptions,
    function: impl Fn(u64) -> A + Send + Sync + 'static,
    results: Sender<u64>,
) -> Flow
where
    A: Future<Output = Result<Vec<u64>, UserError>> + Send + 'static,
{
    let mut builder = FlowBuilder::new(Counters::default());
    let source = builder.add_vertex(1);
    let operator = builder.add_operator(source, "Source", Vec::new());
    builder.mark_unbounded(operator);
    let call = AsyncCall::new(function, options);
    let tell = move |result: u64| {
        results.send(result).unwrap();
        result
    };
    let numbers = FromSource::new(OneRecord { emitted: false });
    if exchanged {
        let target = builder.add_vertex(1);
        builder.exchange(source, numbers, target, crate::flow::UnkeyedPartitioning::Rebalance);
        let (first, second) = (operator_of(&mut builder, target, "Async"), operator_of(&mut builder, target, "Tell"));
        let input = crate::pipe::Input::new();
        builder.end_in_sink(target, Map::new(AsyncFlatMap::new(input, call, first), tell, second), DiscardSink);
    } else {
        let (first, second) = (operator_of(&mut builder, source, "Async"), operator_of(&mut builder, source, "Tell"));
        builder.end_in_sink(source, Map::new(AsyncFlatMap::new(numbers, call, first), tell, second), DiscardSink);
    }
    builder.build(RuntimeMode::Automatic).unwrap()
}

fn operator_of(builder: &mut FlowBuilder, vertex: crate::flow::VertexIndex, name: &str) -> crate::flow::OperatorIndex {
    builder.add_operator(vertex, name, Vec::new())
}

#[test]
fn a_result_comes_out_when_nothing_else_happens() {
    for exchanged in [false, true] {
        for options in [AsyncOptions::ordered(10), AsyncOptions::unordered(10)] {
            let (results, told) = bounded(1);
            let permits = Arc::new(tokio::sync::Semaphore::new(0));
            let gate = Arc::clone(&permits);
            let function = move |number| {
                let gate = Arc::clone(&gate);
                async move {
                    let _permit = gate.acquire().await?;
                    Ok(vec![number])
                }
            };
            let flow = flow_with(exchanged, options, function, results);
            let deployment = deployment(&flow, AttemptNumber(0));
            let (mut executor, events) = executor(flow);
            executor.deploy(&deployment);
            while executor.watch().get().records_in < 1 {
                std::thread::yield_now();
            }
            permits.add_permits(1);
            assert_eq!(told.recv().unwrap(), 7);
            executor.cancel(&deployment.start);
            let count = deployment.start.len();
            assert!(ends(&events, count).iter().all(|end| *end == TerminalState::Canceled));
        }
    }
}

/// Numbers without end into calls that never end.
fn stuck(begun: Arc<AtomicU64>, dropped: Arc<AtomicU64>) -> Flow {
    struct CountDrop(Arc<AtomicU64>);

    impl Drop for CountDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let mut builder = FlowBuilder::new(Counters::default());
    let source = builder.add_vertex(1);
    let operator = builder.add_operator(source, "Source", Vec::new());
    builder.mark_unbounded(operator);
    let numbers = FromSource::new(SequenceSource::new(0, None, None));
    let function = move |_: u64| {
        begun.fetch_add(1, Ordering::SeqCst);
        let counted = CountDrop(Arc::clone(&dropped));
        async move {
            let _counted = counted;
            pending::<Result<Vec<u64>, UserError>>().await
        }
    };
    let operator = builder.add_operator(source, "Async", Vec::new());
    let call = AsyncCall::new(function, AsyncOptions::ordered(5));
    builder.end_in_sink(source, AsyncFlatMap::new(numbers, call, operator), DiscardSink);
    builder.build(RuntimeMode::Automatic).unwrap()
}

#[test]
fn a_task_whose_calls_are_all_taken_is_cancelled_and_they_are_dropped() {
    for drop_executor in [false, true] {
        let (begun, dropped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let flow = stuck(Arc::clone(&begun), Arc::clone(&dropped));
        let deployment = deployment(&flow, AttemptNumber(0));
        let (mut executor, events) = executor(flow);
        executor.deploy(&deployment);
        while begun.load(Ordering::SeqCst) < 5 {
            std::thread::yield_now();
        }
        if drop_executor {
            drop(executor);
        } else {
            executor.cancel(&deployment.start);
        }
        assert_eq!(ends(&events, 1), [TerminalState::Canceled]);
        while dropped.load(Ordering::SeqCst) < 5 {
            std::thread::yield_now();
        }
        assert_eq!(begun.load(Ordering::SeqCst), 5, "no more input was taken");
    }
}
