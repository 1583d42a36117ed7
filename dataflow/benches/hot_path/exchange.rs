//! What a record of 16 bytes costs from one task to another: in one process, and over a loopback connection.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use crossbeam_channel::Receiver;
use tidemill_dataflow::flow::{Flow, FlowBuilder, UnkeyedPartitioning};
use tidemill_dataflow::key_selector::ComputedKey;
use tidemill_dataflow::operator::Map;
use tidemill_dataflow::pipe::{FromSource, Input};
use tidemill_dataflow::runtime::counter::Counters;
use tidemill_dataflow::runtime::sink::FunctionSink;
use tidemill_dataflow::runtime::source::SequenceSource;
use tidemill_model::job::RuntimeMode;

use crate::job::Job;
use crate::meter::{BLOCK, meter};

/// A record.
type Pair = (u64, u64);

/// One iteration: a block of records from a source through an exchange, in full batches; its CPU time is that of the
/// whole process, both sides and the threads of the connection.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    group.throughput(Throughput::Elements(BLOCK));
    let mut measure = |name: &str, start: fn() -> Job| {
        group.bench_function(name, |bencher| {
            let job = start();
            bencher.iter_custom(|iterations| job.process_cpu(iterations));
        });
    };
    measure("in process, 1 to 1", || {
        let (flow, blocks) = flow(Exchange::Forward);
        Job::start(flow, blocks)
    });
    measure("in process, 1 to 2 by key", || {
        let (flow, blocks) = flow(Exchange::ByKey);
        Job::start(flow, blocks)
    });
    measure("loopback TCP, 1 to 1", || {
        let (flow, blocks) = flow(Exchange::Forward);
        Job::start_over_tcp(flow, blocks)
    });
    group.finish();
}

/// What lies between the source and the sink.
enum Exchange {
    Forward,
    ByKey,
}

fn flow(exchange: Exchange) -> (Flow, Receiver<Duration>) {
    let (meter, blocks) = meter();
    let mut builder = FlowBuilder::new(Counters::default());
    let vertex = builder.add_vertex(1);
    let source = builder.add_operator(vertex, "Source", Vec::new());
    builder.mark_unbounded(source);
    let numbers = FromSource::new(SequenceSource::new(0, None, None));
    let map = builder.add_operator(vertex, "Map", Vec::new());
    let pairs = Map::new(numbers, |number: u64| (number, number ^ 1), map);
    let behind = match exchange {
        Exchange::Forward => {
            let behind = builder.add_vertex(1);
            builder.exchange(vertex, pairs, behind, UnkeyedPartitioning::Forward);
            behind
        }
        Exchange::ByKey => {
            let behind = builder.add_vertex(2);
            builder.exchange_hashed(vertex, pairs, ComputedKey::new(|pair: &Pair| pair.0), behind);
            behind
        }
    };
    let sink = builder.add_operator(behind, "Sink", Vec::new());
    builder.end_in_sink(behind, Input::<Pair>::new(), FunctionSink::new(meter, sink));
    (builder.build(RuntimeMode::Streaming).expect("a source, an exchange and a sink"), blocks)
}
