//! What an update of keyed state costs: the rolling operator behind an exchange, by the number and the type of its keys.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use tidemill_dataflow::flow::FlowBuilder;
use tidemill_dataflow::key_selector::BorrowedKey;
use tidemill_dataflow::operator::{FoldFunction, Map, Rolling};
use tidemill_dataflow::pipe::FromSource;
use tidemill_dataflow::record::Data;
use tidemill_dataflow::runtime::counter::Counters;
use tidemill_dataflow::runtime::sink::FunctionSink;
use tidemill_dataflow::runtime::source::SequenceSource;
use tidemill_model::job::RuntimeMode;
use tidemill_model::key::Key;

use crate::job::Job;
use crate::meter::{BLOCK, meter};
use crate::mix;

/// One iteration: a block of updates of keys drawn at random, when all keys are there; its CPU time is that of the
/// operator's thread, which takes batches from the exchange, updates count and sum, and passes each update to a sink.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keyed state");
    group.throughput(Throughput::Elements(BLOCK));
    for keys in [1_000, 1_000_000, 10_000_000] {
        measure(&mut group, "integer", keys, |key| key);
        measure(&mut group, "string", keys, |key| format!("user-{key:010}"));
        measure(&mut group, "tuple", keys, |key| (key, key >> 8));
    }
    group.finish();
}

fn measure<K: Key + Data>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, keys: u64, key: fn(u64) -> K) {
    // Outside of the bencher, which calls its function twice: filling takes long. Not at all when it is not asked for.
    let mut job = None;
    group.bench_function(BenchmarkId::new(name, keys), |bencher| {
        let job = job.get_or_insert_with(|| start(keys, key));
        bencher.iter_custom(|iterations| job.chain_cpu(iterations));
    });
}

/// Starts a job, and has it see each key once.
fn start<K: Key + Data>(keys: u64, key: fn(u64) -> K) -> Job {
    let (meter, blocks) = meter();
    let mut builder = FlowBuilder::new(Counters::default());
    let vertex = builder.add_vertex(1);
    let source = builder.add_operator(vertex, "Source", Vec::new());
    builder.mark_unbounded(source);
    let numbers = FromSource::new(SequenceSource::new(0, None, None));
    let map = builder.add_operator(vertex, "Map", Vec::new());
    let draw = move |number: u64| (key(if number < keys { number } else { mix(number) % keys }), number);
    let records = Map::new(numbers, draw, map);
    let selector = BorrowedKey::new(key_of::<K>);
    let unused = |_: &mut (K, u64), _| ();
    let keyed = builder.exchange_by_key(vertex, records, selector.clone(), unused, 1);
    let fold = builder.add_operator(keyed, "Fold", Vec::new());
    let function = FoldFunction::new((0u64, 0u64), |(count, sum): &mut (u64, u64), (_, value): (K, u64)| {
        *count += 1;
        *sum = sum.wrapping_add(value);
    });
    let rolling = Rolling::new(selector, function, fold);
    let sink = builder.add_operator(keyed, "Sink", Vec::new());
    builder.end_in_sink(keyed, rolling, FunctionSink::new(meter, sink));
    let job = Job::start(builder.build(RuntimeMode::Streaming).expect("a source, a fold and a sink"), blocks);
    job.chain_cpu(keys / BLOCK + 1);
    job
}

fn key_of<K>(record: &(K, u64)) -> &K {
    &record.0
}
