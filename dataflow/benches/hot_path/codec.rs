//! What the wire form of a batch costs.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use tidemill_dataflow::record::{Batch, Data, batch_capacity, decode_batch, encode_batch};

use crate::{cpu, mix};

/// One iteration: a full batch is encoded, or decoded into a new one. Its CPU time is that of this thread.
pub(crate) fn benches(criterion: &mut Criterion) {
    measure(criterion, "(u64, u64)", |number| (mix(number), number % 1_000));
    measure(criterion, "(String, u64)", |number| (format!("user-{:010}", mix(number) % 1_000_000), number % 1_000));
}

fn measure<T: Data>(criterion: &mut Criterion, name: &str, record: fn(u64) -> T) {
    let count = u64::try_from(batch_capacity::<T>()).expect("it is small");
    let batch = Batch::from((0..count).map(record).collect::<Vec<T>>());
    let bytes = encode_batch(&batch).expect("the type can be encoded");
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(count));
    group.bench_function(format!("encode {name}"), |bencher| {
        bencher
            .iter_custom(|iterations| cpu::of_calls(iterations, || drop(black_box(encode_batch(black_box(&batch))))));
    });
    group.bench_function(format!("decode {name}"), |bencher| {
        let decode = || drop(black_box(decode_batch::<T>(black_box(&bytes))));
        bencher.iter_custom(|iterations| cpu::of_calls(iterations, decode));
    });
    group.finish();
}
