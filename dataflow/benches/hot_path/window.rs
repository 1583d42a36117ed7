//! What a record costs in the window engine: it finds its windows, is aggregated, and pays its share of their firing.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use tidemill_dataflow::engine::timers::TimerQueue;
use tidemill_dataflow::engine::window::{
    Added, Assigner, Contents, Host, KeyWindows, Now, Sharing, TimeDomain, TimeWindow, TimerSink, Windowing,
};
use tidemill_model::key::{Key, KeyHash};

use crate::{cpu, mix};

/// How many keys there are.
const KEYS: u64 = 1_000;
/// The records of one iteration.
const RECORDS: u64 = 1 << 16;
/// How many records have the same event time: a window of a second has as many records of each key.
const RECORDS_PER_MS: u64 = 100;
/// How many records come between two watermarks.
const RECORDS_PER_WATERMARK: u64 = 1 << 14;

/// One iteration: 65,536 records of 1,000 keys, in order of time, each added to a count and a sum; the watermark goes
/// along every 16,384 records, and what is due then fires. Its CPU time is that of this thread.
pub(crate) fn benches(criterion: &mut Criterion) {
    let assigners = [
        ("tumbling 1 s", Assigner::tumbling(1_000, 0)),
        ("sliding 10 s by 1 s", Assigner::sliding(10_000, 1_000, 0)),
        ("session 50 ms", Assigner::session(50)),
    ];
    let mut group = criterion.benchmark_group("window");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, assigner) in assigners {
        let assigner = assigner.expect("the lengths are positive");
        group.bench_function(name, |bencher| {
            let windowing = Windowing::new(assigner, None, 0, Sharing::Panes).expect("the settings are lawful");
            let mut stream = Stream::new(windowing);
            bencher.iter_custom(|iterations| cpu::of_calls(iterations, || (0..RECORDS).for_each(|_| stream.record())));
        });
    }
    group.finish();
}

/// What a window holds.
type CountAndSum = (u64, u64);

/// A stream and the operator that it flows into.
struct Stream {
    windowing: Windowing<u64>,
    keys: Vec<KeyWindows<CountAndSum>>,
    timers: TimerQueue<usize>,
    watermark: i64,
    number: u64,
}

/// The operator for one key: counts and sums, sets timers, and forgets results.
struct HostOfKey<'a> {
    timers: &'a mut TimerQueue<usize>,
    key: usize,
    hash: KeyHash,
}

impl TimerSink for HostOfKey<'_> {
    fn register(&mut self, _domain: TimeDomain, time: i64) {
        self.timers.set(time, self.hash, self.key);
    }

    fn delete(&mut self, _domain: TimeDomain, time: i64) {
        self.timers.delete(time, self.hash, &self.key);
    }
}

impl Host<u64, CountAndSum> for HostOfKey<'_> {
    fn fold(&mut self, contents: &mut Option<CountAndSum>, value: u64) {
        let (count, sum) = contents.get_or_insert_default();
        *count += 1;
        *sum = sum.wrapping_add(value);
    }

    fn merge(&mut self, into: &mut CountAndSum, from: CountAndSum) {
        into.0 += from.0;
        into.1 = into.1.wrapping_add(from.1);
    }

    fn emit(&mut self, window: TimeWindow, contents: Contents<'_, CountAndSum>) {
        black_box((window, contents.get()));
    }
}

impl Stream {
    fn new(windowing: Windowing<u64>) -> Self {
        let keys = (0..KEYS).map(|_| KeyWindows::default()).collect();
        Self { windowing, keys, timers: TimerQueue::default(), watermark: i64::MIN, number: 0 }
    }

    fn record(&mut self) {
        let time = i64::try_from(self.number / RECORDS_PER_MS).expect("small");
        let random = mix(self.number);
        self.number += 1;
        let key = random % KEYS;
        let (hash, now) = (key.key_hash(), self.now());
        let key = usize::try_from(key).expect("small");
        let mut host = HostOfKey { timers: &mut self.timers, key, hash };
        let added = self.windowing.add(&mut self.keys[key], random >> 32, time, now, &mut host);
        assert!(matches!(added, Added::Kept), "records come in order");
        if self.number.is_multiple_of(RECORDS_PER_WATERMARK) {
            self.advance(time - 1);
        }
    }

    fn advance(&mut self, watermark: i64) {
        self.watermark = watermark;
        while let Some((time, hash, key)) = self.timers.pop_due(watermark) {
            let now = self.now();
            let mut host = HostOfKey { timers: &mut self.timers, key, hash };
            let (windowing, keys) = (&self.windowing, &mut self.keys[key]);
            windowing.on_timer(keys, TimeDomain::Event, time, now, &mut host);
        }
    }

    fn now(&self) -> Now {
        Now { watermark: self.watermark, processing_time: 0 }
    }
}
