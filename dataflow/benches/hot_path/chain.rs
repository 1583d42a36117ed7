//! What a record costs in one chain: a source, 1, 4 or 16 maps, and a sink, all in one thread.

use criterion::{Criterion, Throughput};
use tidemill_dataflow::flow::{FlowBuilder, VertexIndex};
use tidemill_dataflow::operator::Map;
use tidemill_dataflow::pipe::{FromSource, Pipe};
use tidemill_dataflow::runtime::counter::Counters;
use tidemill_dataflow::runtime::sink::FunctionSink;
use tidemill_dataflow::runtime::source::SequenceSource;
use tidemill_model::job::RuntimeMode;

use crate::job::Job;
use crate::meter::{BLOCK, meter};

/// One iteration: a block of records through the chain; its CPU time is that of the only thread.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chain");
    group.throughput(Throughput::Elements(BLOCK));
    let mut measure = |name: &str, start: fn() -> Job| {
        group.bench_function(name, |bencher| {
            let job = start();
            bencher.iter_custom(|iterations| job.chain_cpu(iterations));
        });
    };
    measure("1 operator", || run(one));
    measure("4 operators", || run(four));
    measure("16 operators", || {
        run(|pipe, builder, vertex| {
            let pipe = four(four(pipe, builder, vertex), builder, vertex);
            four(four(pipe, builder, vertex), builder, vertex)
        })
    });
    group.finish();
}

/// Starts a job that ends in what `maps` makes of its source.
fn run<P: Pipe<Out = u64>>(maps: impl FnOnce(FromSource<SequenceSource>, &mut FlowBuilder, VertexIndex) -> P) -> Job {
    let (meter, blocks) = meter();
    let mut builder = FlowBuilder::new(Counters::default());
    let vertex = builder.add_vertex(1);
    let source = builder.add_operator(vertex, "Source", Vec::new());
    builder.mark_unbounded(source);
    let pipe = maps(FromSource::new(SequenceSource::new(0, None, None)), &mut builder, vertex);
    let sink = builder.add_operator(vertex, "Sink", Vec::new());
    builder.end_in_sink(vertex, pipe, FunctionSink::new(meter, sink));
    Job::start(builder.build(RuntimeMode::Streaming).expect("a source, maps and a sink"), blocks)
}

fn one<P: Pipe<Out = u64>>(pipe: P, builder: &mut FlowBuilder, vertex: VertexIndex) -> impl Pipe<Out = u64> + use<P> {
    let operator = builder.add_operator(vertex, "Map", Vec::new());
    Map::new(pipe, scramble, operator)
}

fn four<P: Pipe<Out = u64>>(pipe: P, builder: &mut FlowBuilder, vertex: VertexIndex) -> impl Pipe<Out = u64> + use<P> {
    let two = one(one(pipe, builder, vertex), builder, vertex);
    one(one(two, builder, vertex), builder, vertex)
}

/// What the compiler cannot merge with the next; no closure, whose type would repeat that of the chain before it.
fn scramble(number: u64) -> u64 {
    (number ^ (number >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}
