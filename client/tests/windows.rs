//! Windows and joins in an embedded cluster: what they emit, record by record, and against plain oracles.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

#[path = "windows/failures.rs"]
mod failures;
#[cfg(feature = "rocksdb")]
#[path = "windows/on_disk.rs"]
mod on_disk;
#[path = "windows/oracles.rs"]
mod oracles;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::{
    Aggregate, Collector, CustomTrigger, DataStream, Environment, Evictor, OutputTag, Pipe, ProcessWindowFunction,
    TimeDomain, TimeWindow, Trigger, TriggerContext, TriggerResult, UserError, WatermarkGenerator, WatermarkStrategy,
    WindowContext, Windows,
};

fn environment(parallelism: u32) -> Environment {
    let parallelism = parallelism.to_string();
    Environment::with_arguments(["-p", &parallelism, "-D", "restart-strategy.type=none"]).unwrap()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A record of a test's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Event {
    key: u64,
    time: i64,
    value: u64,
    /// The watermark that is sent behind it.
    watermark: Option<i64>,
}

fn event(key: u64, time: i64, value: u64) -> Event {
    Event { key, time, value, watermark: None }
}

/// Brings the watermark to a time, and nothing else: its own key is one that no test asks for.
fn mark(watermark: i64) -> Event {
    Event { key: u64::MAX, time: watermark + 1_000_000, value: 0, watermark: Some(watermark) }
}

/// Watermarks as the records say.
#[derive(Clone)]
struct AsSaid;

impl WatermarkGenerator<Event> for AsSaid {
    fn on_record(&mut self, record: &Event, _time: i64) -> Option<i64> {
        record.watermark
    }

    fn on_interval(&mut self) -> Option<i64> {
        None
    }
}

/// The events in this order, with their times, and the watermarks that they say.
fn timed(env: &Environment, events: &[Event]) -> DataStream<impl Pipe<Out = Event> + use<>> {
    let strategy = WatermarkStrategy::new(|event: &Event| event.time, AsSaid);
    env.from_collection(events.to_vec()).set_parallelism(1).assign_timestamps_and_watermarks(strategy)
}

/// The events without times.
fn untimed(env: &Environment, events: &[Event]) -> DataStream<impl Pipe<Out = Event> + use<>> {
    env.from_collection(events.to_vec()).set_parallelism(1)
}

/// Emits the window's bounds and the sorted values in it, when there is no mark among them.
#[derive(Clone)]
struct Values;

type Fired = (u64, i64, i64, Vec<u64>);

impl ProcessWindowFunction<u64, Event> for Values {
    type Out = Fired;

    fn process(
        &mut self,
        records: &[Event],
        context: &mut WindowContext<'_, u64>,
        out: &mut Collector<Fired>,
    ) -> Result<(), UserError> {
        let (window, key) = (context.window(), *context.key());
        if key != u64::MAX {
            out.emit((key, window.start, window.end, records.iter().map(|record| record.value).collect()));
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Mean;

impl Aggregate<Event> for Mean {
    type Accumulator = (u64, u64);
    type Out = u64;

    fn create(&mut self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&mut self, (count, sum): &mut (u64, u64), record: Event) {
        (*count, *sum) = (*count + 1, *sum + record.value);
    }

    fn merge(&mut self, (count, sum): &mut (u64, u64), from: (u64, u64)) {
        (*count, *sum) = (*count + from.0, *sum + from.1);
    }

    fn result(&mut self, (count, sum): (u64, u64)) -> u64 {
        sum / count
    }
}

#[test]
fn tumbling_windows_fire_when_the_watermark_passes_their_end_whatever_the_order_within() {
    let env = environment(2);
    let events = [event(1, 7, 1), event(1, 2, 2), event(1, 12, 3), mark(9), event(1, 11, 4), event(2, 15, 5)];
    let fired = timed(&env, &events).key_by(|event| event.key).window(Windows::tumbling(ms(10))).process(Values);
    let fired = fired.collect();
    let mut fired = env.execute("tumbling").unwrap().collected(&fired).unwrap();
    fired.sort();
    assert_eq!(fired, [(1, 0, 10, vec![1, 2]), (1, 10, 20, vec![3, 4]), (2, 10, 20, vec![5])]);
}

#[test]
fn an_offset_moves_windows() {
    let env = environment(1);
    let events = [event(1, 2, 1), event(1, 3, 2), event(1, 12, 3), event(1, 13, 4)];
    let windows = Windows::tumbling(ms(10)).offset(ms(3));
    let fired = timed(&env, &events).key_by(|event| event.key).window(windows).process(Values).collect();
    let fired = env.execute("offset").unwrap().collected(&fired).unwrap();
    assert_eq!(fired, [(1, -7, 3, vec![1]), (1, 3, 13, vec![2, 3]), (1, 13, 23, vec![4])]);
}

#[test]
fn late_records_go_to_the_side_output_and_allowed_ones_fire_their_window_again() {
    let env = environment(2);
    let late = OutputTag::new("late");
    let events =
        [event(1, 3, 1), mark(9), event(1, 4, 2), mark(14), event(1, 5, 3), event(1, 14, 4), mark(30), event(1, 6, 5)];
    let windows = timed(&env, &events).key_by(|event| event.key).window(Windows::tumbling(ms(10)));
    let sums = windows.allowed_lateness(ms(5)).late_output(&late).sum(|event| &mut event.value);
    let late = sums.side_output(&late).map(|event| event.value).collect();
    let sums = sums.filter(|event| event.key == 1).map(|event| event.value).collect();
    let result = env.execute("late").unwrap();
    assert_eq!(result.collected(&sums).unwrap(), [1, 3, 4]);
    assert_eq!(result.collected(&late).unwrap(), [3, 5]);
    assert_eq!(result.counter("late-records-dropped"), None);
}

#[test]
fn late_records_that_nobody_asks_for_are_counted() {
    let env = environment(2);
    let events = [event(1, 3, 1), mark(9), event(1, 4, 2), event(2, 5, 3)];
    timed(&env, &events).key_by(|event| event.key).window(Windows::tumbling(ms(10))).count().discard();
    assert_eq!(env.execute("late").unwrap().counter("late-records-dropped"), Some(2));
}

#[test]
fn sliding_windows_share_records_and_sessions_merge_when_a_record_closes_the_gap() {
    let env = environment(2);
    let events = [event(1, 1, 10), event(1, 9, 20), mark(0), event(1, 5, 30), event(1, 40, 50)];
    let stream = timed(&env, &events).share();
    let sliding = Windows::sliding(ms(10), ms(5));
    let means = stream.stream().key_by(|event| event.key).window(sliding);
    let means = means.aggregate_with(Mean, |key, window, mean| (*key, window.start, mean)).collect();
    let sessions = stream.stream().key_by(|event| event.key).window(Windows::session(ms(5))).aggregate(Mean).collect();
    let result = env.execute("sliding").unwrap();
    let mut means = result.collected(&means).unwrap();
    means.retain(|mean| mean.0 == 1);
    assert_eq!(means, [(1, -5, 10), (1, 0, 20), (1, 5, 25), (1, 35, 50), (1, 40, 50)]);
    let mut sessions = result.collected(&sessions).unwrap();
    sessions.retain(|session| session.0 == 1);
    assert_eq!(sessions, [(1, 20), (1, 50)]);
}

#[test]
fn each_record_may_bring_its_own_session_gap() {
    let env = environment(1);
    let events = [event(1, 0, 10), event(1, 8, 2), event(1, 11, 1)];
    let windows = Windows::dynamic_session(|event: &Event| ms(event.value));
    let fired = timed(&env, &events).key_by(|event| event.key).window(windows).process(Values).collect();
    let fired = env.execute("dynamic").unwrap().collected(&fired).unwrap();
    assert_eq!(fired, [(1, 0, 10, vec![10, 2]), (1, 11, 12, vec![1])]);
}

#[test]
fn count_windows_need_no_time_and_forget_what_is_left() {
    let env = environment(2);
    let events: Vec<_> = (0..7).map(|value| event(value % 2, 0, value)).collect();
    let stream = untimed(&env, &events).share();
    let pairs = stream.stream().key_by(|event| event.key).count_window(2).reduce(|sum, event| sum.value += event.value);
    let pairs = pairs.map(|event| event.value).collect();
    let sliding = stream.stream().key_by(|event| event.key).count_window_sliding(3, 2).process(Values);
    let sliding = sliding.map(|fired| fired.3).collect();
    let result = env.execute("counts").unwrap();
    let (mut pairs, mut sliding) = (result.collected(&pairs).unwrap(), result.collected(&sliding).unwrap());
    pairs.sort();
    sliding.sort();
    assert_eq!(pairs, [2, 4, 10]);
    assert_eq!(sliding, [vec![0, 2], vec![1, 3], vec![2, 4, 6]]);
}

#[test]
fn a_global_window_fires_by_its_trigger_only_and_an_evictor_bounds_what_it_sees() {
    let env = environment(1);
    let events: Vec<_> = (1..=5).map(|value| event(0, value, u64::try_from(value).unwrap())).collect();
    let stream = timed(&env, &events).share();
    let never = stream.stream().key_by(|event| event.key).window(Windows::global()).count().collect();
    let all = || stream.stream().key_by(|event| event.key).window(Windows::global()).trigger(Trigger::count(2));
    let recent = all().evictor(Evictor::time(ms(2))).process(Values).map(|fired| fired.3).collect();
    let after = all().evictor(Evictor::count(1).after()).process(Values).map(|fired| fired.3).collect();
    let result = env.execute("global").unwrap();
    assert_eq!(result.collected(&never).unwrap(), []);
    assert_eq!(result.collected(&recent).unwrap(), [vec![1, 2], vec![3, 4]]);
    assert_eq!(result.collected(&after).unwrap(), [vec![1, 2], vec![2, 3, 4]]);
}

/// Fires at each hundredth millisecond of event time, and forgets to stop.
struct Again;

impl CustomTrigger<Event> for Again {
    fn on_element(&self, _: &Event, time: i64, _: TimeWindow, context: &mut TriggerContext<'_>) -> TriggerResult {
        context.register(TimeDomain::Event, time / 100 * 100 + 100);
        TriggerResult::Continue
    }

    fn on_event_time(&self, time: i64, _: TimeWindow, context: &mut TriggerContext<'_>) -> TriggerResult {
        context.register(TimeDomain::Event, time + 100);
        TriggerResult::Fire
    }
}

#[test]
fn a_trigger_that_always_wants_another_look_does_not_keep_a_job_from_its_end() {
    let env = environment(2);
    // Keys differ in the times that they wait for.
    let time = |value: u64| i64::try_from(value % 3 * 1000).unwrap();
    let events: Vec<_> = (0..20).map(|value| event(value % 3, time(value), value)).collect();
    let stream = timed(&env, &events).share();
    let keyed = || stream.stream().key_by(|event| event.key);
    let global = |trigger| keyed().window(Windows::global()).trigger(trigger).count().collect();
    let by_clock = || Trigger::continuous_processing_time(Duration::from_secs(3600));
    let days = Windows::tumbling(Duration::from_secs(86_400_000)).in_processing_time();
    let counts = [
        global(Trigger::continuous_event_time(ms(1))),
        global(by_clock()),
        global(Trigger::processing_time()),
        global(Trigger::custom(Again)),
        keyed().window(days).trigger(by_clock()).count().collect(),
    ];
    let result = env.execute("for ever").unwrap();
    for counts in counts {
        let mut counts = result.collected(&counts).unwrap();
        counts.sort();
        assert_eq!(counts, [(0, 7), (1, 7), (2, 6)]);
    }
}

#[test]
fn a_trigger_of_the_users_own_sees_each_of_its_times_until_the_window_is_forgotten() {
    let env = environment(1);
    let events = [event(0, 10, 1), mark(99), event(0, 110, 2), event(0, 120, 3), mark(250), event(0, 320, 4)];
    let windows = timed(&env, &events).key_by(|event| event.key).window(Windows::tumbling(ms(400)));
    let counts = windows.trigger(Trigger::custom(Again)).process(Values).map(|fired| fired.3).collect();
    let counts = env.execute("again").unwrap().collected(&counts).unwrap();
    // At 100 and 200; and at 300, for which the end of input has come as well.
    assert_eq!(counts, [vec![1, 2, 3], vec![1, 2, 3], vec![1, 2, 3, 4]]);
}

#[test]
fn windows_of_processing_time_fire_while_records_come() {
    let env = environment(2);
    let numbers = env.generate_sequence(0..300, Some(1000)).key_by(|number| number % 2);
    let counts = numbers.window(Windows::tumbling(ms(5)).in_processing_time()).count().collect();
    let counts = env.execute("processing time").unwrap().collected(&counts).unwrap();
    assert!(counts.len() > 2, "it takes longer than a window");
    assert_eq!(counts.iter().map(|count| count.1).sum::<u64>(), 300);
}

#[test]
fn windows_of_processing_time_fire_at_the_end_of_input() {
    let env = environment(3);
    let events: Vec<_> = (0..3000).map(|value| event(value % 7, 0, 1)).collect();
    let stream = untimed(&env, &events).share();
    let keyed = || stream.stream().key_by(|event| event.key);
    let long = Duration::from_secs(1_000_000_000);
    let tumbling = keyed().window(Windows::tumbling(long).in_processing_time()).count().collect();
    let sliding = keyed().window(Windows::sliding(2 * long, long).in_processing_time()).count().collect();
    let sessions = keyed().window(Windows::session(long).in_processing_time()).count().collect();
    let result = env.execute("processing time").unwrap();
    for (counts, windows) in [(tumbling, 1), (sliding, 2), (sessions, 1)] {
        let counts = result.collected(&counts).unwrap();
        assert_eq!(counts.len(), 7 * windows);
        assert_eq!(counts.iter().map(|count| count.1).sum::<u64>(), 3000 * u64::try_from(windows).unwrap());
    }
}

#[test]
fn window_all_sees_all_records_in_one_place() {
    let env = environment(4);
    let events: Vec<_> = (0..100).map(|value| event(value, i64::try_from(value).unwrap(), value)).collect();
    let counts = timed(&env, &events).rebalance().window_all(Windows::tumbling(ms(50)));
    let counts = counts.aggregate_with(Mean, |(), window, mean| (window.start, mean)).collect();
    let counts = env.execute("all").unwrap().collected(&counts).unwrap();
    assert_eq!(counts, [(0, 24), (50, 74)]);
}

#[test]
fn windows_of_windows_go_by_the_end_of_the_first() {
    let env = environment(2);
    let events: Vec<_> = (0..40).map(|time| event(u64::try_from(time % 2).unwrap(), time, 1)).collect();
    let small = timed(&env, &events).key_by(|event| event.key).window(Windows::tumbling(ms(10)));
    let small = small.sum(|event| &mut event.value);
    let large = small.key_by(|event| event.key).window(Windows::tumbling(ms(20)));
    let large = large.process(Values).collect();
    let mut large = env.execute("windows of windows").unwrap().collected(&large).unwrap();
    large.sort();
    let expected = [(0, 0), (0, 20), (1, 0), (1, 20)].map(|(key, start)| (key, start, start + 20, vec![5, 5]));
    assert_eq!(large, expected);
}
