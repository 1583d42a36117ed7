//! Functions with state, broadcast state and in an embedded cluster, against plain oracles.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tidemill::{
    Aggregate, AggregatingState, BroadcastProcessFunction, Collector, Environment, Error,
    KeyedBroadcastProcessFunction, KeyedContext, KeyedProcessFunction, ListState, MapState, OutputTag, ProcessContext,
    ReducingState, StateDescriptor, StateRegistry, TimeToLive, Timer, UserError, ValueState,
};
use tidemill_model::id::JobId;

fn environment(parallelism: u32, mode: &str) -> Environment {
    environment_with(parallelism, mode, &[])
}

fn environment_with(parallelism: u32, mode: &str, settings: &[&str]) -> Environment {
    let mode = format!("execution.runtime-mode={mode}");
    let parallelism = parallelism.to_string();
    let settings = ["restart-strategy.type=none", &mode].into_iter().chain(settings.iter().copied());
    Environment::with_arguments(["-p", &parallelism].into_iter().chain(settings.flat_map(|set| ["-D", set]))).unwrap()
}

#[derive(Clone)]
struct Sum;

impl Aggregate<u64> for Sum {
    type Accumulator = u64;
    type Out = String;

    fn create(&mut self) -> u64 {
        0
    }

    fn add(&mut self, sum: &mut u64, number: u64) {
        *sum += number;
    }

    fn merge(&mut self, sum: &mut u64, other: u64) {
        *sum += other;
    }

    fn result(&mut self, sum: u64) -> String {
        sum.to_string()
    }
}

type Known = (u64, u64, Vec<u64>, Vec<(u64, u64)>, u64, String);

/// Keeps all that can be known of a key's numbers, and says it at the end.
#[derive(Clone, Default)]
struct KnowAll {
    count: ValueState<u64>,
    last_three: ListState<u64>,
    digits: MapState<u64, u64>,
    largest: ReducingState<u64>,
    sum: AggregatingState<u64, Sum>,
    expiring: bool,
}

impl KeyedProcessFunction<u64, u64> for KnowAll {
    type Out = Known;

    fn open(&mut self, states: &mut StateRegistry<'_, u64>) -> Result<(), UserError> {
        let one_hour = TimeToLive::new(Duration::from_secs(3600)).refreshed_by_reads();
        let describe = |name: &str| match self.expiring {
            true => StateDescriptor::new(name).with_time_to_live(one_hour),
            false => StateDescriptor::new(name),
        };
        self.count = states.value(describe("count"))?;
        self.last_three = states.list(describe("last three"))?;
        self.digits = states.map(describe("digits"))?;
        self.largest = states.reducing(describe("largest"), |largest, number: u64| *largest = number.max(*largest))?;
        self.sum = states.aggregating(describe("sum"), Sum)?;
        Ok(())
    }

    fn process(
        &mut self,
        number: u64,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<Known>,
    ) -> Result<(), UserError> {
        *self.count.get_or_insert_with(context, || 0) += 1;
        self.last_three.add(context, number);
        if self.last_three.get(context).len() > 3 {
            let kept = self.last_three.get(context)[1..].to_vec();
            self.last_three.set(context, kept);
        }
        let digit = number % 10;
        match self.digits.get_mut(context, &digit) {
            Some(count) => *count += 1,
            None => self.digits.put(context, digit, 1),
        }
        self.largest.add(context, number);
        self.sum.add(context, number);
        // Comes and goes, so that places in the tables are taken and left.
        assert!(!self.digits.contains(context, &99));
        self.digits.put(context, 99, 0);
        assert_eq!(self.digits.remove(context, &99), Some(0));
        context.set_event_timer(0);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timer,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<Known>,
    ) -> Result<(), UserError> {
        let mut last_three = self.last_three.get(context).to_vec();
        last_three.sort_unstable();
        let digits = self.digits.iter(context).map(|(digit, count)| (*digit, *count)).collect();
        let (largest, sum) = (self.largest.get(context).copied().unwrap(), self.sum.get(context).unwrap());
        let count = self.count.clear(context).unwrap();
        out.emit((*context.key(), count, last_three, digits, largest, sum));
        assert_eq!(self.last_three.clear(context).len(), 3);
        self.digits.clear(context);
        assert_eq!(self.largest.clear(context), Some(largest));
        self.sum.clear(context);
        let emptied = self.count.get(context).is_none()
            && self.last_three.get(context).is_empty()
            && self.digits.iter(context).next().is_none()
            && self.largest.get(context).is_none()
            && self.sum.get(context).is_none();
        assert!(emptied);
        Ok(())
    }
}

/// State in RocksDB, of which memory holds a part only.
#[cfg(feature = "rocksdb")]
const ON_DISK: &[&str] = &["state.backend.type=rocksdb", "state.backend.rocksdb.memory.fixed-per-slot=1 mb"];

#[test]
fn every_kind_of_state_agrees_with_an_oracle() {
    every_kind_of_state::<701>(&[]);
}

#[cfg(feature = "rocksdb")]
#[test]
fn every_kind_of_state_on_disk_agrees_with_an_oracle() {
    every_kind_of_state::<4999>(ON_DISK);
}

fn every_kind_of_state<const KEYS: u64>(settings: &[&str]) {
    const COUNT: u64 = 20_000;
    for (parallelism, expiring) in [(1, false), (2, true), (3, false), (3, true)] {
        let env = environment_with(parallelism, "streaming", settings);
        let numbers = env.generate_sequence(0..COUNT, None).key_by(|number| number % KEYS);
        let known = numbers.process(KnowAll { expiring, ..KnowAll::default() }).collect();
        let result = env.execute("all").unwrap();
        assert_eq!(folders_of(result.job_id()), Vec::<PathBuf>::new());
        let mut known = result.collected(&known).unwrap();
        known.sort();
        assert_eq!(known.len() as u64, KEYS);
        for (key, (found, count, last_three, digits, largest, sum)) in (0..KEYS).zip(known) {
            let numbers: Vec<u64> = (key..COUNT).step_by(usize::try_from(KEYS).unwrap()).collect();
            assert_eq!((found, count, largest), (key, numbers.len() as u64, *numbers.last().unwrap()));
            assert_eq!(sum, numbers.iter().sum::<u64>().to_string());
            let mut oracle = BTreeMap::new();
            numbers.iter().for_each(|number| *oracle.entry(number % 10).or_insert(0) += 1);
            assert_eq!(digits, oracle.into_iter().collect::<Vec<_>>());
            if parallelism == 1 {
                assert_eq!(last_three, numbers[numbers.len() - 3..]);
            }
        }
    }
}

/// Folders with state of an embedded job.
fn folders_of(job: JobId) -> Vec<PathBuf> {
    let of_job = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("state-{job}-")))
    };
    std::fs::read_dir(std::env::temp_dir()).unwrap().map(|entry| entry.unwrap().path()).filter(of_job).collect()
}

#[test]
fn a_state_that_is_asked_for_twice_fails_the_job() {
    #[derive(Clone)]
    struct Twice;

    impl KeyedProcessFunction<u64, u64> for Twice {
        type Out = u64;

        fn open(&mut self, states: &mut StateRegistry<'_, u64>) -> Result<(), UserError> {
            let _: ListState<u64> = states.list("same")?;
            let _: ValueState<u64> = states.value("same")?;
            Ok(())
        }

        fn process(&mut self, _: u64, _: &mut KeyedContext<'_, u64>, _: &mut Collector<u64>) -> Result<(), UserError> {
            Ok(())
        }
    }

    let env = environment(1, "batch");
    env.generate_sequence(0..1, None).key_by(|number| *number).process(Twice).name("Twice").discard();
    let failure = failure(env.execute("twice"));
    assert_eq!(failure.operator.as_deref(), Some("Twice"));
    assert!(failure.message.contains("register state \"same\""), "{}", failure.message);
}

fn failure<T: std::fmt::Debug>(result: Result<T, Error>) -> tidemill_model::execution::Failure {
    let error = result.unwrap_err();
    let Error::JobFailed { failure, .. } = error else { panic!("{error}") };
    failure
}

/// Says at the end what it was told, once in each sub-task; and tells apart what is late and what is not.
#[derive(Clone)]
struct Echo {
    seen: OutputTag<u64>,
}

impl BroadcastProcessFunction<u64, u64> for Echo {
    type State = BTreeSet<u64>;
    type Out = Vec<u64>;

    fn process(
        &mut self,
        number: u64,
        _: &BTreeSet<u64>,
        context: &mut ProcessContext<'_>,
        _: &mut Collector<Vec<u64>>,
    ) -> Result<(), UserError> {
        context.output(&self.seen, number);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        number: u64,
        state: &mut BTreeSet<u64>,
        context: &mut ProcessContext<'_>,
        _: &mut Collector<Vec<u64>>,
    ) -> Result<(), UserError> {
        assert!(state.insert(number));
        context.output(&self.seen, 1_000_000);
        Ok(())
    }

    fn finish(
        &mut self,
        state: &BTreeSet<u64>,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<Vec<u64>>,
    ) -> Result<(), UserError> {
        out.emit(state.iter().copied().collect());
        Ok(())
    }
}

#[test]
fn every_subtask_sees_all_broadcast_records_and_its_share_of_the_others() {
    for (parallelism, other) in [(1, 1), (2, 3), (3, 1), (3, 2)] {
        let env = environment(parallelism, "streaming");
        let rules = env.generate_sequence(0..2_000, None).set_parallelism(other);
        let seen = OutputTag::new("seen");
        let numbers = env.generate_sequence(0..10_000, None);
        let echo = numbers.connect_broadcast(rules).process(Echo { seen: seen.clone() });
        let seen = echo.side_output(&seen).collect();
        let states = echo.collect();
        let result = env.execute("echo").unwrap();
        let (states, mut seen) = (result.collected(&states).unwrap(), result.collected(&seen).unwrap());
        assert_eq!(states, vec![(0..2_000).collect::<Vec<u64>>(); parallelism as usize]);
        seen.sort_unstable();
        let told = vec![1_000_000; 2_000 * parallelism as usize];
        assert_eq!(seen, (0..10_000).chain(told).collect::<Vec<u64>>());
    }
}

/// Emits, at the end, the keys whose count is one of the wanted ones, with their count.
#[derive(Clone, Default)]
struct Wanted {
    count: ValueState<u64>,
}

impl KeyedBroadcastProcessFunction<String, String, u64> for Wanted {
    type State = BTreeSet<u64>;
    type Out = (String, u64);

    fn open(&mut self, states: &mut StateRegistry<'_, String>) -> Result<(), UserError> {
        self.count = states.value("count")?;
        Ok(())
    }

    fn process(
        &mut self,
        word: String,
        _: &BTreeSet<u64>,
        context: &mut KeyedContext<'_, String>,
        _: &mut Collector<(String, u64)>,
    ) -> Result<(), UserError> {
        assert_eq!(word, *context.key());
        *self.count.get_or_insert_with(context, || 0) += 1;
        context.set_event_timer(0);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        count: u64,
        wanted: &mut BTreeSet<u64>,
        _: &mut ProcessContext<'_>,
        _: &mut Collector<(String, u64)>,
    ) -> Result<(), UserError> {
        if count == 666 {
            return Err("no such count".into());
        }
        wanted.insert(count);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timer,
        wanted: &BTreeSet<u64>,
        context: &mut KeyedContext<'_, String>,
        out: &mut Collector<(String, u64)>,
    ) -> Result<(), UserError> {
        let count = self.count.clear(context).unwrap();
        if wanted.contains(&count) {
            out.emit((context.key().clone(), count));
        }
        Ok(())
    }
}

#[test]
fn keyed_functions_see_their_keys_and_all_broadcast_records() {
    for parallelism in 1..=3 {
        let env = environment(parallelism, "streaming");
        // Word n comes n times.
        let words = env
            .generate_sequence(1..100, None)
            .flat_map(|number| (0..number).map(move |_| format!("word {number}")).collect::<Vec<_>>());
        let wanted = env.generate_sequence(0..1_000, None).map(|number| number * 7).filter(|number| *number != 666);
        let found = words.key_by(String::clone).connect_broadcast(wanted).process(Wanted::default()).collect();
        let mut found = env.execute("wanted").unwrap().collected(&found).unwrap();
        found.sort_by_key(|(_, count)| *count);
        let oracle = (7..100).step_by(7).map(|number| (format!("word {number}"), number)).collect::<Vec<_>>();
        assert_eq!(found, oracle);
    }
}

#[test]
fn an_error_in_a_broadcast_record_names_the_operator() {
    let env = environment(2, "streaming");
    let words = env.from_collection(vec!["a".to_owned()]).key_by(String::clone);
    words.connect_broadcast(env.from_collection(vec![666])).process(Wanted::default()).name("Wanted").discard();
    let failure = failure(env.execute("wanted"));
    assert_eq!((failure.operator.as_deref(), failure.message.as_str()), (Some("Wanted"), "no such count"));
}
