//! Windows, joins and rolling aggregates whose state does not fit into memory, against the same on the heap.

use tidemill::{Environment, RuntimeMode};

use crate::oracles::{Emitted, Shape, run};
use crate::{Event, environment, event, timed};

/// How many records and keys there are: windows of a tenth of the keys fill the memory that a state gets below.
const RECORDS: u64 = 30_000;
const KEYS: u64 = 3_000;

/// An environment whose state is in RocksDB, in as little memory as may be.
fn on_disk(parallelism: u32) -> Environment {
    let parallelism = parallelism.to_string();
    let settings = [
        "restart-strategy.type=none",
        "state.backend.type=rocksdb",
        "state.backend.rocksdb.memory.fixed-per-slot=1 mb",
    ];
    let settings = settings.into_iter().flat_map(|setting| ["-D", setting]);
    Environment::with_arguments(["-p", &parallelism].into_iter().chain(settings)).unwrap()
}

/// Records whose times go on slowly and back now and then, some of them too late.
fn events() -> Vec<Event> {
    let of = |number: u64| {
        let mixed = (number ^ number >> 7).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31);
        let time = i64::try_from(number / 10).unwrap();
        // Some are behind everything that windows wait for.
        let back = if mixed.is_multiple_of(61) { 400 } else { i64::try_from(mixed % 40).unwrap() };
        Event {
            watermark: mixed.is_multiple_of(5).then_some(time - 25),
            ..event(mixed / 64 % KEYS, time - back, number)
        }
    };
    (0..RECORDS).map(of).collect()
}

fn check(shape: Shape, lateness: i64) {
    let events = events();
    for parallelism in [1, 3] {
        let (heap, disk) = (environment(parallelism), on_disk(parallelism));
        for env in [&heap, &disk] {
            env.set_runtime_mode(RuntimeMode::Streaming);
        }
        let Emitted { values, means, late } = run(&events, shape, lateness, &heap);
        let found = run(&events, shape, lateness, &disk);
        assert!(values[0].len() > 5_000 && late.len() > 100, "{} windows, {} late", values[0].len(), late.len());
        assert!(found.values == values && found.means == means, "{shape:?} differ with parallelism {parallelism}");
        assert_eq!(found.late, late);
    }
}

#[test]
fn windows_that_overlap_are_on_disk_what_they_are_in_memory() {
    check(Shape::Regular { size: 100, slide: 50 }, 10);
}

#[test]
fn sessions_are_on_disk_what_they_are_in_memory() {
    check(Shape::Session { gap: 30 }, 0);
}

/// Joins of close records and sums of all, in one job; no record is late, since when that is depends on how inputs
/// interleave.
fn joins_and_sums(env: &Environment) -> [Vec<(u64, u64)>; 2] {
    env.set_runtime_mode(RuntimeMode::Streaming);
    let events: Vec<Event> = events().into_iter().map(|event| Event { watermark: None, ..event }).collect();
    let events = timed(env, &events).share();
    let keyed = || events.stream().key_by(|event| event.key);
    let joined = keyed().interval_join(keyed(), -200, 200).process(|left, right| (left.value, right.value)).collect();
    let sums = keyed().sum(|event| &mut event.value).map(|event| (event.key, event.value)).collect();
    let result = env.execute("joins and sums").unwrap();
    let (mut joined, mut sums) = (result.collected(&joined).unwrap(), result.collected(&sums).unwrap());
    joined.sort_unstable();
    sums.sort_unstable();
    [joined, sums]
}

#[test]
fn joins_and_sums_are_on_disk_what_they_are_in_memory() {
    let [joined, sums] = joins_and_sums(&environment(2));
    assert!(joined.len() > 30_000 && sums.len() == 30_000, "{} pairs, {} sums", joined.len(), sums.len());
    assert!(joins_and_sums(&on_disk(2)) == [joined, sums], "they differ");
}
