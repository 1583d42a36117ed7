//! Random streams through every operator at parallelism 1 to 4, against plain programs over plain collections.
//!
//! A failure prints the seed; `SEED=n cargo test -p tidemill --test oracle NAME` runs it alone.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::collections::BTreeMap;

use tidemill::{
    Collector, DataStream, Environment, KeyedCoProcessFunction, KeyedContext, Pipe, ProcessContext, ProcessFunction,
    RuntimeMode, StateRegistry, Subtask, UserError, ValueState,
};

/// How many random streams each test takes.
const SEEDS: u64 = 24;

type Pair = (u16, i64);

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// None, few or many records of few or many keys.
    fn pairs(&mut self) -> Vec<Pair> {
        let (length, keys) =
            ([0, 1, 50, 3_000, 20_000][usize::try_from(self.below(5)).unwrap()], 1 + self.below(2_000));
        let pair = |_| (u16::try_from(self.below(keys)).unwrap(), i64::try_from(self.below(2_001)).unwrap() - 1_000);
        (0..length).map(pair).collect()
    }
}

/// Says how to run a seed again when its test fails.
struct Reproduction<'a>(&'a str, u64);

impl Drop for Reproduction<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("REPRODUCE WITH: SEED={} cargo test -p tidemill --test oracle {}", self.1, self.0);
        }
    }
}

/// Runs a test with every seed, in all parallelisms and both modes.
fn with_seeds(name: &str, test: impl Fn(&mut Random, &Environment, RuntimeMode)) {
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    for seed in given.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let _reproduction = Reproduction(name, seed);
        let parallelism = (1 + seed % 4).to_string();
        let env = Environment::with_arguments(["-p", &parallelism]).unwrap();
        let mode = if seed / 4 % 2 == 0 { RuntimeMode::Streaming } else { RuntimeMode::Batch };
        env.set_runtime_mode(mode);
        test(&mut Random(seed), &env, mode);
    }
}

fn sorted<T: Ord>(mut records: Vec<T>) -> Vec<T> {
    records.sort();
    records
}

fn by_key(pairs: &[Pair]) -> BTreeMap<u16, Vec<i64>> {
    let mut groups: BTreeMap<u16, Vec<i64>> = BTreeMap::new();
    for (key, value) in pairs {
        groups.entry(*key).or_default().push(*value);
    }
    groups
}

/// Each key's last update, of which there is one for each record, or its only result.
fn last_of_each_key<V: Clone>(pairs: &[Pair], updates: &[(u16, V)], mode: RuntimeMode) -> BTreeMap<u16, V> {
    let last: BTreeMap<_, _> = updates.iter().cloned().collect();
    assert_eq!(updates.len(), if mode == RuntimeMode::Streaming { pairs.len() } else { last.len() });
    last
}

#[test]
fn rolling_aggregates_agree_with_the_oracle() {
    with_seeds("rolling_aggregates", |random, env, mode| {
        let pairs = random.pairs();
        let keyed = || env.from_collection(pairs.clone()).key_by(|pair| pair.0);
        let sum = keyed().sum(|pair| &mut pair.1).collect();
        let reduce = keyed().reduce(|value, pair| value.1 ^= pair.1).collect();
        let (min, max) = (keyed().min(|pair| &mut pair.1).collect(), keyed().max(|pair| &mut pair.1).collect());
        let (min_by, max_by) = (keyed().min_by(|pair| pair.1).collect(), keyed().max_by(|pair| pair.1).collect());
        let count = keyed().count().collect();
        let folded = keyed()
            .fold((0, 0), |(count, squares), pair| (*count, *squares) = (*count + 1, *squares + pair.1 * pair.1));
        let folded = folded.collect();
        let result = env.execute("rolling").unwrap();

        let groups = by_key(&pairs);
        let check = |name: &str, updates: Vec<Pair>, oracle: &dyn Fn(&[i64]) -> i64| {
            let expected: BTreeMap<_, _> = groups.iter().map(|(key, values)| (*key, oracle(values))).collect();
            assert_eq!(last_of_each_key(&pairs, &updates, mode), expected, "{name}");
        };
        check("sum", result.collected(&sum).unwrap(), &|values| values.iter().sum());
        check("reduce", result.collected(&reduce).unwrap(), &|values| values.iter().fold(0, |one, other| one ^ other));
        check("min", result.collected(&min).unwrap(), &|values| *values.iter().min().unwrap());
        check("max", result.collected(&max).unwrap(), &|values| *values.iter().max().unwrap());
        check("min_by", result.collected(&min_by).unwrap(), &|values| *values.iter().min().unwrap());
        check("max_by", result.collected(&max_by).unwrap(), &|values| *values.iter().max().unwrap());
        let counts = last_of_each_key(&pairs, &result.collected(&count).unwrap(), mode);
        let expected = groups.iter().map(|(key, values)| (*key, u64::try_from(values.len()).unwrap()));
        assert_eq!(counts, expected.collect());
        let folded = last_of_each_key(&pairs, &result.collected(&folded).unwrap(), mode);
        let fold =
            |values: &[i64]| (i64::try_from(values.len()).unwrap(), values.iter().map(|value| value * value).sum());
        assert_eq!(folded, groups.iter().map(|(key, values)| (*key, fold(values))).collect());
    });
}

#[test]
fn a_chain_of_stateless_operators_agrees_with_iterators() {
    with_seeds("a_chain", |random, env, _| {
        let pairs = random.pairs();
        let places: Vec<u32> = (0..3).map(|_| u32::try_from(1 + random.below(4)).unwrap()).collect();
        let stream = env.from_collection(pairs.clone()).map(|pair| pair.1 * 3).set_parallelism(places[0]);
        let stream = stream.filter(|value| value % 2 == 0).set_parallelism(places[1]);
        let stream = stream.flat_map(|value| (0..value.rem_euclid(4)).map(move |add| value + add));
        let found = stream.set_parallelism(places[2]).collect();
        let found = env.execute("chain").unwrap().collected(&found).unwrap();
        let expected = pairs.iter().map(|pair| pair.1 * 3).filter(|value| value % 2 == 0);
        let expected = expected.flat_map(|value| (0..value.rem_euclid(4)).map(move |add| value + add));
        assert_eq!(sorted(found), sorted(expected.collect()));
    });
}

#[test]
fn unions_and_connected_streams_lose_and_repeat_nothing() {
    with_seeds("unions", |random, env, _| {
        let (one, two, three) = (random.pairs(), random.pairs(), random.pairs());
        let stream = |pairs: &[Pair]| env.from_collection(pairs.to_vec());
        let union = stream(&one).union(stream(&two)).union(stream(&three).rebalance()).collect();
        let map = stream(&one).connect(stream(&two)).map(|pair| pair.1, |pair| pair.1 + 5_000).collect();
        let shared = stream(&one).share();
        let twice = shared.stream().union(shared.stream().map(|pair| (pair.0, pair.1 + 5_000))).collect();
        let keyed = stream(&one).key_by(|pair| pair.0).connect(stream(&two).key_by(|pair| pair.0));
        let paired = keyed.process(Paired::default()).collect();
        let result = env.execute("unions").unwrap();

        let all = [&one[..], &two, &three].concat();
        assert_eq!(sorted(result.collected(&union).unwrap()), sorted(all));
        let mapped = one.iter().map(|pair| pair.1).chain(two.iter().map(|pair| pair.1 + 5_000));
        assert_eq!(sorted(result.collected(&map).unwrap()), sorted(mapped.collect()));
        let doubled = one.iter().copied().chain(one.iter().map(|pair| (pair.0, pair.1 + 5_000)));
        assert_eq!(sorted(result.collected(&twice).unwrap()), sorted(doubled.collect()));
        // A pair comes out for each left and right value of a key that meet, whichever comes first.
        let (left, right) = (by_key(&one), by_key(&two));
        let pairs = left.iter().filter_map(|(key, left)| Some((key, left.len() * right.get(key)?.len())));
        let expected: BTreeMap<u16, usize> = pairs.map(|(key, count)| (*key, count)).collect();
        let mut found = BTreeMap::new();
        for (key, count) in result.collected(&paired).unwrap() {
            *found.entry(key).or_insert(0) += usize::try_from(count).unwrap();
        }
        assert_eq!(found, expected);
    });
}

/// Says with each record how many of the other stream it meets.
#[derive(Clone, Default)]
struct Paired {
    left: ValueState<u64>,
    right: ValueState<u64>,
}

impl KeyedCoProcessFunction<u16, Pair, Pair> for Paired {
    type Out = (u16, u64);

    fn open(&mut self, states: &mut StateRegistry<'_, u16>) -> Result<(), UserError> {
        self.left = states.value("left")?;
        self.right = states.value("right")?;
        Ok(())
    }

    fn process_left(
        &mut self,
        record: Pair,
        context: &mut KeyedContext<'_, u16>,
        out: &mut Collector<(u16, u64)>,
    ) -> Result<(), UserError> {
        *self.left.get_or_insert_with(context, || 0) += 1;
        self.right.get(context).into_iter().for_each(|met| out.emit((record.0, *met)));
        Ok(())
    }

    fn process_right(
        &mut self,
        record: Pair,
        context: &mut KeyedContext<'_, u16>,
        out: &mut Collector<(u16, u64)>,
    ) -> Result<(), UserError> {
        *self.right.get_or_insert_with(context, || 0) += 1;
        self.left.get(context).into_iter().for_each(|met| out.emit((record.0, *met)));
        Ok(())
    }
}

/// Says which sub-task each record came to.
#[derive(Clone, Default)]
struct Located(u32);

impl ProcessFunction<Pair> for Located {
    type Out = (u32, Pair);

    fn open(&mut self, subtask: Subtask) -> Result<(), UserError> {
        self.0 = subtask.index;
        Ok(())
    }

    fn process(
        &mut self,
        record: Pair,
        _context: &mut ProcessContext<'_>,
        out: &mut Collector<(u32, Pair)>,
    ) -> Result<(), UserError> {
        out.emit((self.0, record));
        Ok(())
    }
}

#[test]
fn partitioners_lead_each_record_where_they_say() {
    with_seeds("partitioners", |random, env, _| {
        let (pairs, consumers) = (random.pairs(), u32::try_from(1 + random.below(4)).unwrap());
        fn end<P: Pipe<Out = Pair>>(stream: DataStream<P>, consumers: u32) -> tidemill::Collected<(u32, Pair)> {
            stream.process(Located::default()).set_parallelism(consumers).collect()
        }
        let stream = || env.from_collection(pairs.clone());
        let forward = end(stream().forward(), env.parallelism());
        let plain = [stream().rebalance(), stream().rescale(), stream().shuffle()].map(|stream| end(stream, consumers));
        let (global, broadcast) = (end(stream().global(), consumers), end(stream().broadcast(), consumers));
        let by_value = |pair: &Pair, consumers: usize| usize::from(pair.0) % consumers;
        let custom = end(stream().partition_custom(by_value), consumers);
        let result = env.execute("partitioners").unwrap();

        let records = |found: &[(u32, Pair)]| sorted(found.iter().map(|(_, pair)| *pair).collect());
        let expected = sorted(pairs.clone());
        let load = |found: &[(u32, Pair)]| {
            let mut load = vec![0u64; usize::try_from(consumers).unwrap()];
            found.iter().for_each(|(subtask, _)| load[usize::try_from(*subtask).unwrap()] += 1);
            load
        };
        let producers = u64::from(env.parallelism());
        for (name, handle) in ["rebalance", "rescale", "shuffle"].iter().zip(&plain) {
            let found = result.collected(handle).unwrap();
            assert_eq!(records(&found), expected, "{name}");
            if *name == "rebalance" {
                let load = load(&found);
                let spread = load.iter().max().unwrap() - load.iter().min().unwrap();
                assert!(spread <= producers, "rebalance differs by at most one record a producer: {load:?}");
            }
        }
        let found = result.collected(&global).unwrap();
        assert!(records(&found) == expected && found.iter().all(|(subtask, _)| *subtask == 0), "global");
        let found = result.collected(&custom).unwrap();
        let chosen = |(subtask, pair): &(u32, Pair)| u32::from(pair.0) % consumers == *subtask;
        assert!(records(&found) == expected && found.iter().all(chosen), "custom");
        let found = result.collected(&broadcast).unwrap();
        for subtask in 0..consumers {
            let here: Vec<_> = found.iter().filter(|(place, _)| *place == subtask).copied().collect();
            assert_eq!(records(&here), expected, "broadcast to {subtask}");
        }
        let located = (0..).zip(&pairs).map(|(place, pair)| (u32::try_from(place % producers).unwrap(), *pair));
        assert_eq!(sorted(result.collected(&forward).unwrap()), sorted(located.collect()), "forward");
    });
}
